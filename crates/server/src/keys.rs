//! Keys: what each opens, and on whose account. A server holds no key, only salted digests; and
//! whose something is, is told by a digest too, which stays the same for as long as the key does,
//! over reloads, restarts and places in a list.
//!
//! One round of SHA-256 is enough for a random key of 256 bits: nobody can try so many, however
//! fast each try is. A key that a person thought of has only its length to protect it, and its
//! digest is to be kept like the key itself; the server never writes one down unless told to
//! isolate keys in a prefix cache on disk.
//!
//! Absent: where keys come from, and how what each may use is told (`limits`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::Arc;

use ingle_gateway::budget::Rates;
use ingle_protocol::{Origin, Verbatim};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::Error;
use crate::access::Visit;
use crate::meter::{Meter, Place};
use crate::scopes::Scope;

/// The longest key, in bytes; what is longer is hashed for nobody.
const KEY_MAX: usize = 512;
/// The longest name of a key or an owner, in bytes.
const NAME_MAX: usize = 64;
/// The most keys: each request with an unknown one costs a digest for each.
const KEYS_MAX: usize = 1024;
/// The longest salt, in bytes.
const SALT_MAX: usize = 64;
/// The salt of keys that are given as they are, so that a key has one digest wherever it is given.
const CHOSEN_SALT: &[u8] = b"a key of Ingle's server: ";
const OWNER_SALT: &[u8] = b"an owner on Ingle's server: ";

/// A salt, and the SHA-256 of it and the key after it. Its text is `sha256:SALT:DIGEST`, in
/// hexadecimal digits.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyHash {
    salt: Vec<u8>,
    digest: [u8; 32],
}

impl KeyHash {
    /// The digest of a key.
    pub fn of(salt: &[u8], key: &[u8]) -> Self {
        let digest = Sha256::new_with_prefix(salt).chain_update(key).finalize();
        Self { salt: salt.to_vec(), digest: digest.into() }
    }

    /// Takes as long for every key of one length.
    fn opens(&self, key: &[u8]) -> Choice {
        self.digest.ct_eq(&Self::of(&self.salt, key).digest)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let pairs = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(pairs.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect())
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}:{}", hex(&self.salt), hex(&self.digest))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash")
    }
}

impl FromStr for KeyHash {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (salt, digest) = text.strip_prefix("sha256:")?.split_once(':')?;
            let salt = unhex(salt).filter(|salt| (8..=SALT_MAX).contains(&salt.len()))?;
            Some(Self { salt, digest: unhex(digest)?.try_into().ok()? })
        };
        read().ok_or_else(|| {
            let form = "sha256:SALT:DIGEST, both in hexadecimal digits, the salt of 8 to 64 bytes";
            format!("a key's hash is {form}: `ingle key create` writes one")
        })
    }
}

/// A key: who may do what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// What it is called in logs and metrics.
    pub name: String,
    /// Tells it.
    pub hash: KeyHash,
    /// Keys of one owner share what is kept for it, and its turn; without one a key is alone.
    pub owner: Option<String>,
    /// What it opens.
    pub scopes: BTreeSet<Scope>,
    /// The only models it may ask; all where there is no list.
    pub models: Option<BTreeSet<String>>,
    /// The lowest `priority` of its requests, lower being sooner; where none is given, 0 if the
    /// server has several keys, and else any.
    pub min_priority: Option<i32>,
    /// The most requests in a minute.
    pub requests_per_minute: Option<NonZeroU32>,
    /// The most tokens in a minute, of prompts and answers.
    pub tokens_per_minute: Option<NonZeroU32>,
    /// The data classes of all that it asks, by the policy's names.
    pub classes: BTreeSet<String>,
}

impl Key {
    /// A key that a person chose, which opens everything. Its name is made of its digest.
    ///
    /// # Errors
    /// It is too short, too long, or cannot stand in a header.
    pub fn chosen(key: &str) -> Result<Self, Error> {
        let right = (8..=KEY_MAX).contains(&key.len());
        if !right || !key.bytes().all(|b| b.is_ascii_graphic()) {
            let message = "an API key needs at least 8 characters, at most 512, all visible ASCII";
            return Err(Error::Config(message.to_owned()));
        }
        let hash = KeyHash::of(CHOSEN_SALT, key.as_bytes());
        Ok(Self::new(format!("key-{}", hex(&hash.digest[..4])), hash))
    }

    /// A key that opens everything.
    pub fn new(name: impl Into<String>, hash: KeyHash) -> Self {
        Self {
            name: name.into(),
            hash,
            owner: None,
            scopes: Scope::ALL.iter().map(|row| row.0).collect(),
            models: None,
            min_priority: None,
            requests_per_minute: None,
            tokens_per_minute: None,
            classes: BTreeSet::new(),
        }
    }

    /// Whose what is kept for it is: 64 hexadecimal digits that no other owner has, and that do
    /// not tell the key.
    fn home(&self) -> String {
        let owner = |owner: &String| KeyHash::of(OWNER_SALT, owner.as_bytes()).digest;
        hex(&self.owner.as_ref().map_or(self.hash.digest, owner))
    }
}

/// Whether something can be called so in a log, a label and a file of settings.
///
/// # Errors
/// Says what a name is.
pub fn check_name(name: &str) -> Result<(), String> {
    let right = |b: u8| b.is_ascii_alphanumeric() || b"-_.@".contains(&b);
    if (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(right) {
        return Ok(());
    }
    Err(format!("{name:?} is no name: it has 1 to {NAME_MAX} letters, digits, or any of -_.@"))
}

/// Fails where keys cannot be told apart, or are too many.
pub(crate) fn check(keys: &[Key]) -> Result<(), String> {
    if keys.len() > KEYS_MAX {
        return Err(format!("there are {} API keys; at most {KEYS_MAX} are held", keys.len()));
    }
    let mut names = BTreeSet::new();
    for key in keys {
        check_name(&key.name)?;
        key.owner.as_deref().map_or(Ok(()), check_name)?;
        key.classes.iter().try_for_each(|class| check_name(class))?;
        if !names.insert(&key.name) {
            return Err(format!("two API keys are called {:?}: give each its own", key.name));
        }
        if key.scopes.is_empty() {
            let known = Scope::names();
            return Err(format!("the key {:?} has no scope; there are: {known}", key.name));
        }
    }
    Ok(())
}

/// A key in force, or whoever asks a server without keys.
#[derive(Debug)]
struct Account {
    number: u32,
    home: String,
    /// None: anyone, who may do anything.
    key: Option<Key>,
    meter: Arc<Meter>,
}

/// Who asks, and in which request, where requests are logged.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    account: Arc<Account>,
    visit: Option<Arc<Visit>>,
    origin: Option<Arc<Origin>>,
}

impl Owner {
    /// What the engine knows it by. No other owner of this process had it or gets it.
    pub(crate) fn number(&self) -> u32 {
        self.account.number
    }

    /// What outlives the process knows it by: see [`Key::home`].
    pub(crate) fn home(&self) -> &str {
        &self.account.home
    }

    /// What people know it by.
    pub(crate) fn name(&self) -> &str {
        self.key().map_or("anyone", |key| &key.name)
    }

    pub(crate) fn key(&self) -> Option<&Key> {
        self.account.key.as_ref()
    }

    /// What its key has used; each key has its own.
    pub(crate) fn meter(&self) -> &Arc<Meter> {
        &self.account.meter
    }

    /// The same, in this request.
    pub(crate) fn on(&self, visit: Option<Arc<Visit>>, origin: Origin) -> Self {
        let origin = Some(Arc::new(origin));
        Self { account: Arc::clone(&self.account), visit, origin }
    }

    /// Where this request comes from; of nobody's request, whose it is alone.
    pub(crate) fn origin(&self) -> Arc<Origin> {
        self.origin.clone().unwrap_or_else(|| Arc::new(self.whose()))
    }

    /// The same, with the request's own bytes.
    pub(crate) fn passing(&self, verbatim: Verbatim) -> Self {
        let mut origin = Origin::clone(&self.origin());
        origin.verbatim = Some(Arc::new(verbatim));
        Self { origin: Some(Arc::new(origin)), ..self.clone() }
    }

    /// The same, with where all that it builds on came from.
    pub(crate) fn building_on(&self, before: Vec<Origin>, unknown: bool) -> Self {
        let mut origin = Origin::clone(&self.origin());
        origin.before = before;
        origin.unknown |= unknown;
        Self { origin: Some(Arc::new(origin)), ..self.clone() }
    }

    /// A key of the same owner's that is gone, as it was when it began something.
    fn standing_in(&self, begun: &Origin) -> Self {
        let Some(key) = self.key() else { return self.clone() };
        let key = Key {
            name: begun.key.clone(),
            models: begun.models.as_ref().map(|models| models.iter().cloned().collect()),
            classes: begun.classes.iter().cloned().collect(),
            ..key.clone()
        };
        let Account { number, home, meter, .. } = &*self.account;
        let (home, meter) = (home.clone(), Arc::clone(meter));
        let account = Arc::new(Account { number: *number, home, key: Some(key), meter });
        Self { account, visit: None, origin: None }
    }

    /// What a key tells of where its requests come from.
    pub(crate) fn whose(&self) -> Origin {
        let Some(key) = self.key() else { return Origin::default() };
        Origin {
            key: key.name.clone(),
            team: key.owner.clone().unwrap_or_default(),
            classes: key.classes.iter().cloned().collect(),
            models: key.models.as_ref().map(|models| models.iter().cloned().collect()),
            ..Origin::default()
        }
    }

    pub(crate) fn visit(&self) -> Option<&Visit> {
        self.visit.as_deref()
    }

    /// Whether its key has a scope.
    pub(crate) fn may(&self, scope: Scope) -> bool {
        self.key().is_none_or(|key| key.scopes.contains(&scope))
    }

    /// Whether it may ask a model, and see that it is there.
    pub(crate) fn sees(&self, model: &str) -> bool {
        let models = self.key().and_then(|key| key.models.as_ref());
        models.is_none_or(|models| models.contains(model))
    }
}

/// Who holds no key has this home; a key's has 64 digits.
pub(crate) const OPEN_HOME: &str = "open";

/// Everyone who may ask, and how the engine knows them.
#[derive(Debug)]
pub(crate) struct Accounts {
    /// In the order of the keys; without keys the one of everyone.
    owners: Vec<Owner>,
    numbers: BTreeMap<String, u32>,
    next: u32,
    /// Where what they use in a minute is kept, for as long as the server lives.
    place: Arc<Place>,
}

impl Accounts {
    /// The same, where what keys use in a minute is this process's own.
    #[cfg(test)]
    pub(crate) fn new(keys: &[Key], before: Option<&Self>) -> Self {
        Self::sharing(keys, before, None)
    }

    /// Those of these keys. Whoever was there keeps the number; numbers of those who are gone are
    /// not given again, since the engine may still hold an account of theirs. What was used in a
    /// minute stays with a key's name, so that a key whose secret was replaced begins nothing anew.
    pub(crate) fn sharing(
        keys: &[Key],
        before: Option<&Self>,
        rates: Option<&Arc<dyn Rates>>,
    ) -> Self {
        let place = before.map(|before| Arc::clone(&before.place));
        let place = place.unwrap_or_else(|| Arc::new(Place::new(rates.cloned())));
        let mut next = before.map_or(0, |before| before.next);
        let mut numbers = BTreeMap::new();
        let everyone = keys.is_empty().then_some(None);
        let keys = keys.iter().cloned().map(Some).chain(everyone);
        let owners = keys.map(|key| {
            let home = key.as_ref().map_or_else(|| OPEN_HOME.to_owned(), Key::home);
            let known = before.and_then(|before| before.numbers.get(&home)).copied();
            let number = *numbers.entry(home.clone()).or_insert_with(|| {
                known.unwrap_or_else(|| {
                    next += 1;
                    next - 1
                })
            });
            let name = key.as_ref().map_or("", |key| &key.name);
            let meter = before.and_then(|before| before.meter(name));
            let meter = meter.unwrap_or_else(|| Arc::new(Meter::new(&place, name)));
            let account = Arc::new(Account { number, home, key, meter });
            Owner { account, visit: None, origin: None }
        });
        let owners = owners.collect();
        Self { owners, numbers, next, place }
    }

    /// What the key of this name has used.
    fn meter(&self, name: &str) -> Option<Arc<Meter>> {
        let held = |owner: &&Owner| owner.key().is_some_and(|held| held.name == name);
        self.owners.iter().find(held).map(|owner| Arc::clone(&owner.account.meter))
    }

    /// Who goes on with what was begun from somewhere by whoever has this home, if they may do all
    /// of this: the key that began it or, where that one is gone, another of the same owner's, in
    /// its name and with its classes and models. Of what nobody knows where it comes from, the
    /// first of the owner's keys goes on, on this machine alone.
    pub(crate) fn going_on(
        &self,
        home: &str,
        scopes: &[Scope],
        begun: Option<&Origin>,
    ) -> Option<Owner> {
        let may = |owner: &&Owner| scopes.iter().all(|scope| owner.may(*scope));
        let all = || self.owners.iter().filter(move |owner| owner.home() == home);
        let Some(begun) = begun else {
            let owner = all().find(may)?;
            return Some(owner.on(None, Origin { unknown: true, ..owner.whose() }));
        };
        let its = |owner: &&Owner| owner.key().is_none_or(|key| key.name == begun.key);
        let owner = match all().find(its) {
            Some(owner) => Some(owner).filter(may)?.clone(),
            None => all().find(may)?.standing_in(begun),
        };
        // What the key carries now holds beside what it carried then.
        let Origin { key, team, mut classes, models, .. } = owner.whose();
        classes.extend(
            begun.classes.iter().filter(|it| !classes.contains(it)).cloned().collect::<Vec<_>>(),
        );
        Some(owner.on(None, Origin { key, team, classes, models, ..begun.clone() }))
    }

    /// Everyone, where the server has no keys.
    pub(crate) fn everyone(&self) -> Option<&Owner> {
        self.owners.iter().find(|owner| owner.key().is_none())
    }

    /// Whose key this is. Compares with every key, so that the time tells nothing of which.
    pub(crate) fn find(&self, key: &[u8]) -> Option<&Owner> {
        if key.len() > KEY_MAX {
            return None;
        }
        let none = u32::MAX;
        let place = (0..none).zip(&self.owners).fold(none, |found, (at, owner)| {
            let opens = owner.key().map_or(Choice::from(0), |held| held.hash.opens(key));
            u32::conditional_select(&found, &at, opens)
        });
        self.owners.get(place as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(keys: &[&str]) -> Vec<Key> {
        keys.iter().map(|key| Key::chosen(key).expect("long enough")).collect()
    }

    #[test]
    fn a_key_is_found_by_its_digest_alone() {
        let mut keys = chosen(&["first-key", "second-key"]);
        keys.push(Key::new("third", KeyHash::of(b"some salt", b"third-key")));
        let accounts = Accounts::new(&keys, None);
        let long = "x".repeat(KEY_MAX + 1);
        let rows = [
            ("first-key", Some(0)),
            ("second-key", Some(1)),
            ("third-key", Some(2)),
            ("first-ke", None),
            ("first-keys", None),
            ("", None),
            (&long, None),
        ];
        for (key, number) in rows {
            assert_eq!(accounts.find(key.as_bytes()).map(Owner::number), number, "{key}");
        }
        let told = format!("{accounts:?}");
        assert!(!told.contains("first-key") && !told.contains("sha256:"), "{told}");
    }

    #[test]
    fn hashes_are_read_as_they_are_written() {
        let hash = KeyHash::of(&[7; 16], b"a key");
        assert_eq!(hash.to_string().parse(), Ok(hash.clone()));
        let digest = "0".repeat(64);
        let rows = [
            (format!("sha256:0011223344556677:{digest}"), true),
            (format!("sha256:00112233445566:{digest}"), false),
            (format!("sha256:001122334455667:{digest}"), false),
            (format!("sha256:0011223344556677:{digest}0"), false),
            (format!("sha256:0011223344556677:{digest}00"), false),
            (format!("sha256:00112233445566ää:{digest}"), false),
            (format!("sha512:0011223344556677:{digest}"), false),
            (format!("sha256:{}:{digest}", "00".repeat(65)), false),
            (String::new(), false),
        ];
        for (text, right) in rows {
            assert_eq!(text.parse::<KeyHash>().is_ok(), right, "{text}");
        }
    }

    /// (keys before, keys after, the number of each after): who stays keeps the number, and nobody
    /// gets that of another.
    #[test]
    fn numbers_are_kept_and_never_given_twice() {
        let rows: [(&[&str], &[&str], &[u32]); 5] = [
            (&["aaaaaaaa", "bbbbbbbb"], &["bbbbbbbb", "aaaaaaaa"], &[1, 0]),
            (&["aaaaaaaa", "bbbbbbbb"], &["bbbbbbbb"], &[1]),
            (&["aaaaaaaa"], &["cccccccc", "aaaaaaaa"], &[1, 0]),
            (&["aaaaaaaa"], &["cccccccc"], &[1]),
            (&[], &["aaaaaaaa"], &[1]),
        ];
        for (before, after, expect) in rows {
            let first = Accounts::new(&chosen(before), None);
            let second = Accounts::new(&chosen(after), Some(&first));
            let numbers: Vec<u32> = second.owners.iter().map(Owner::number).collect();
            assert_eq!(numbers, expect, "{before:?} {after:?}");
            let third = Accounts::new(&chosen(&["dddddddd"]), Some(&second));
            let fresh = third.owners[0].number();
            assert!(!first.numbers.values().chain(&numbers).any(|used| *used == fresh), "{fresh}");
        }
    }

    /// A key whose secret was replaced goes on with what it used; another one begins anew, whatever
    /// its secret is.
    #[test]
    fn what_was_used_stays_with_the_name_of_a_key() {
        let key = |name: &str, secret: &[u8]| Key {
            requests_per_minute: NonZeroU32::new(2),
            ..Key::new(name, KeyHash::of(b"some salt", secret))
        };
        let before = Accounts::new(&[key("a", b"first-key")], None);
        let old = before.find(b"first-key").expect("is there").clone();
        assert!(old.take_request().is_ok());
        let keys = [key("a", b"second-key"), key("b", b"first-key")];
        let after = Accounts::new(&keys, Some(&before));
        let (rotated, other) = (after.find(b"second-key"), after.find(b"first-key"));
        let (rotated, other) = (rotated.expect("is there"), other.expect("is there"));
        assert_eq!((rotated.name(), other.name()), ("a", "b"));
        // What runs under the old secret counts with the new one.
        assert!(old.take_request().is_ok());
        assert!(rotated.take_request().is_err());
        assert!(other.take_request().is_ok());
    }

    #[test]
    fn requests_carry_what_their_key_may_use() {
        let mut keys = chosen(&["aaaaaaaa", "bbbbbbbb"]);
        keys[1].models = Some(["m".to_owned(), "far/n".to_owned()].into());
        let accounts = Accounts::new(&keys, None);
        let told = |at: usize| accounts.owners[at].origin().models.clone();
        assert_eq!(told(0), None);
        assert_eq!(told(1).as_deref(), Some(&["far/n".to_owned(), "m".to_owned()][..]));
    }

    /// A batch goes on by the key that began it; where that one is gone, by another of the same
    /// owner's, with no more than the first could.
    #[test]
    fn what_a_key_began_goes_on_as_that_key() {
        let names = |all: &[&str]| all.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        let key = |name: &str, classes: &[&str], models: Option<&[&str]>| Key {
            owner: Some("team".to_owned()),
            classes: names(classes).into_iter().collect(),
            models: models.map(|models| names(models).into_iter().collect()),
            ..Key::new(name, KeyHash::of(b"some salt", name.as_bytes()))
        };
        let wide = key("wide", &[], None);
        let narrow = key("narrow", &["secret"], Some(&["m"]));
        let scopes = [Scope::Infer, Scope::Batch];
        let begun = Origin {
            key: "narrow".into(),
            path: "/v1/batches".into(),
            workspaces: names(&["vault"]),
            classes: names(&["old"]),
            models: Some(Arc::from(names(&["m"]))),
            ..Origin::default()
        };
        let check = |keys: &[Key],
                     begun: Option<&Origin>,
                     expect: Option<(&str, &[&str], bool)>| {
            let accounts = Accounts::new(keys, None);
            let home = wide.home();
            let owner = accounts.going_on(&home, &scopes, begun);
            let told = owner.as_ref().map(|owner| (owner.name(), owner.origin(), owner.sees("n")));
            let told = told.as_ref().map(|(name, origin, sees)| {
                assert_eq!(origin.key, *name);
                assert_eq!(origin.unknown, begun.is_none());
                assert_eq!(
                    origin.models.is_none(),
                    *sees,
                    "what it sees is what its calls may use"
                );
                (*name, origin.classes.iter().map(String::as_str).collect::<Vec<_>>(), *sees)
            });
            let expect = expect.map(|(name, classes, sees)| (name, classes.to_vec(), sees));
            assert_eq!(told, expect);
            owner.map(|owner| owner.origin().workspaces.clone())
        };
        let both = [wide.clone(), narrow.clone()];
        let place = check(&both, Some(&begun), Some(("narrow", &["secret", "old"], false)));
        assert_eq!(place, Some(names(&["vault"])));
        check(&both[..1], Some(&begun), Some(("narrow", &["old"], false)));
        check(&both, None, Some(("wide", &[], true)));
        let mut idle = narrow;
        idle.scopes = [Scope::Read].into();
        check(&[wide.clone(), idle], Some(&begun), None);
        check(&chosen(&["aaaaaaaa"]), Some(&begun), None);
    }

    #[test]
    fn keys_of_one_owner_share_its_home_and_number() {
        let mut keys = chosen(&["aaaaaaaa", "bbbbbbbb", "cccccccc"]);
        keys[0].owner = Some("team".to_owned());
        keys[2].owner = Some("team".to_owned());
        let accounts = Accounts::new(&keys, None);
        let told = |at: usize| (accounts.owners[at].number(), accounts.owners[at].home());
        assert_eq!(told(0), told(2));
        assert_ne!(told(0), told(1));
        assert_eq!(accounts.owners[1].home().len(), 64);
    }

    #[test]
    fn what_keys_may_not_be() {
        let with = |change: fn(&mut Key)| {
            let mut keys = chosen(&["aaaaaaaa", "bbbbbbbb"]);
            change(&mut keys[1]);
            check(&keys).is_ok()
        };
        assert!(with(|_| {}));
        assert!(with(|key| "a-b_c.d@e".clone_into(&mut key.name)));
        assert!(!with(|key| "a b".clone_into(&mut key.name)));
        assert!(!with(|key| key.name.clear()));
        assert!(!with(|key| key.name = "a".repeat(65)));
        assert!(!with(|key| key.scopes.clear()));
        assert!(!with(|key| key.owner = Some("\"".to_owned())));
        assert!(!with(|key| *key = Key::chosen("aaaaaaaa").expect("right")), "the same twice");
        assert!(Key::chosen("short").is_err() && Key::chosen("with a space").is_err());
        assert!(Key::chosen(&"x".repeat(513)).is_err());
    }
}
