//! Budgets in a Redis server, which several processes on several machines share. Each step is one
//! script there, which runs as a whole or not at all and beside no other, so that two processes
//! never spend the same money. Absent: policies, and any answer where the server has none: what
//! cannot be asked is refused.
//!
//! An account's time is judged by who asks, so that clocks that differ by a little refuse nobody at
//! midnight. It is kept for a day after its end: as long as the clocks of all who share it agree to
//! within a day, none finds it forgotten and empty.
//!
//! A server that has forgotten, wholly or in part, is noticed: its memory has a mark, and each step
//! a number. A process that was told of a later step than the server knows refuses all calls, until
//! it is restarted or [`Redis::restore`] told the server what was spent.

mod pool;
mod rates;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redis::{Connection, RedisResult, Script, Value};
use ring::rand::{SecureRandom, SystemRandom};

use self::pool::{Pool, broken};
use super::state::{
    ACCOUNTS_MAX, Account, Amount, Claim, Limit, Lost, OPEN_MAX, Refusal, Settled, Standing,
};
use super::store::Store;
use super::{Place, Window};

/// What all keys begin with. The number is of how they are laid out; the braces keep them together
/// where a proxy spreads keys over servers.
const KEYS: &str = "{ingle:budgets:1}:";
/// The most micro-dollars or tokens that an account counts, or a call holds: up to here the
/// server's scripts, whose numbers are doubles, are exact.
pub const SHARED_MAX: u64 = (1 << 53) - 1;
/// Accounts that one call is charged to, at most.
pub const SHARED_CLAIMS_MAX: usize = 64;
/// Bytes of an id, or of an account's name, at most.
const NAME_BYTES_MAX: usize = 4_096;
/// For how long an account is kept after its end, in milliseconds.
const AFTER_MS: u64 = 86_400_000;
/// For how long the end of a reservation is remembered, for who asks again after its connection
/// broke, in milliseconds.
const ENDED_MS: u64 = 30_000;
/// Reservations that one step ends, and accounts that one tells of, at most: no call waits for
/// longer.
const STEP_MAX: usize = 512;

/// A script of which all steps but the first are: it looks whether the memory is the one known.
macro_rules! step {
    ($file:literal) => {
        Script::new(concat!(include_str!("redis/common.lua"), include_str!($file)))
    };
}

/// Opens the budgets at a URL, such as `redis://user:password@host:6379/0`.
///
/// # Errors
/// The URL is none, or the server does not answer, or is one that forgets by itself.
pub fn open(url: &str) -> Result<Arc<dyn Store>, Refusal> {
    let place: Place = url.parse().map_err(|error| Refusal::Broken(format!("{error}")))?;
    Ok(Arc::new(Redis::open(&place)?))
}

/// Budgets in a Redis server.
pub struct Redis {
    pool: Pool,
    known: Mutex<Known>,
    scripts: Scripts,
    /// Names this process and, with a number, each thing that it asks.
    name: String,
    asked: AtomicU64,
}

/// What this process knows of the server's memory.
#[derive(Clone, Debug)]
struct Known {
    mark: String,
    /// The latest step that it was told of.
    steps: u64,
}

struct Scripts {
    reserve: Script,
    sent: Script,
    settle: Script,
    expire: Script,
    standings: Script,
    restore: Script,
    open: Script,
    take: Script,
    give: Script,
}

impl Redis {
    /// Opens the budgets at a place; they are empty where nobody shared any there.
    ///
    /// # Errors
    /// The server does not answer, or may drop keys to make room.
    pub fn open(place: &Place) -> Result<Self, Refusal> {
        let pool = Pool::new(place)?;
        let name = unheard(place)?;
        let known = learn(&pool, &name)?;
        let scripts = Scripts {
            reserve: step!("redis/reserve.lua"),
            sent: step!("redis/sent.lua"),
            settle: step!("redis/settle.lua"),
            expire: step!("redis/expire.lua"),
            standings: step!("redis/standings.lua"),
            restore: step!("redis/restore.lua"),
            open: step!("redis/held.lua"),
            take: step!("redis/take.lua"),
            give: step!("redis/give.lua"),
        };
        let (known, asked) = (Mutex::new(known), AtomicU64::new(0));
        Ok(Self { pool, known, scripts, name, asked })
    }

    /// Where it is.
    pub fn place(&self) -> &Place {
        self.pool.place()
    }

    /// Takes the server's memory as it is now, and has no account spent less than a ledger's sums
    /// say. Accounts whose time is over by more than a day are left out. What is under way while
    /// this runs may be counted twice, never not at all. Several processes may do so at once.
    ///
    /// # Errors
    /// The server does not answer, or a sum is more than it counts.
    pub fn restore(&self, spent: &[(Account, Amount)], now_ms: u64) -> Result<(), Refusal> {
        // Twice the same account is the sum of both.
        let mut sums: BTreeMap<&Account, Amount> = BTreeMap::new();
        for (account, amount) in spent {
            let sum = sums.entry(account).or_default();
            sum.micros = sum.micros.saturating_add(amount.micros);
            sum.tokens = sum.tokens.saturating_add(amount.tokens);
        }
        for (account, sum) in &sums {
            self.name_fits(&account.name)?;
            if sum.micros.max(sum.tokens) > SHARED_MAX {
                let what =
                    format!("{} is more than is counted there: {}", account.name, uncounted());
                return Err(self.broken(&what));
            }
        }
        *self.known() = learn(&self.pool, &self.name)?;
        let live = |account: &Account| account.window.end_ms.saturating_add(AFTER_MS) > now_ms;
        for (account, sum) in sums.into_iter().filter(|(account, _)| live(account)) {
            let window = account.window;
            let said = [
                key(account),
                window.end_ms.to_string(),
                keep(window, now_ms),
                sum.micros.to_string(),
                sum.tokens.to_string(),
            ];
            self.ask(&self.scripts.restore, &said)?.done()?;
        }
        Ok(())
    }

    /// What is held there, by whomever: ids, and the time in milliseconds since 1970 when each was
    /// reserved. What begins or ends while this runs may be left out.
    ///
    /// # Errors
    /// The server does not answer.
    pub fn open_calls(&self) -> Result<Vec<(String, u64)>, Refusal> {
        let mut all = Vec::new();
        while all.len() < OPEN_MAX {
            let said = [all.len().to_string(), STEP_MAX.to_string()];
            let reply = self.ask(&self.scripts.open, &said)?;
            reply.done()?;
            let some = reply.list(reply.at(2)?)?;
            for pair in some.chunks_exact(2) {
                all.push((reply.text(&pair[0])?.to_owned(), reply.count(&pair[1])?));
            }
            if some.len() < 2 * STEP_MAX {
                break;
            }
        }
        Ok(all)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names a thing that is asked, for the server to know it again when it is asked twice.
    fn try_name(&self) -> String {
        format!("{}.{}", self.name, self.asked.fetch_add(1, Ordering::Relaxed))
    }

    fn broken(&self, what: &str) -> Refusal {
        broken(self.pool.place(), what)
    }

    fn name_fits(&self, name: &str) -> Result<(), Refusal> {
        if name.len() <= NAME_BYTES_MAX {
            return Ok(());
        }
        let start: String = name.chars().take(32).collect();
        Err(self.broken(&format!("the name {start:?}… has more than {NAME_BYTES_MAX} bytes")))
    }

    /// Takes a step that is the same when it is taken twice.
    fn ask(&self, script: &Script, said: &[String]) -> Result<Reply<'_>, Refusal> {
        self.step(true, script, said)
    }

    /// Takes a step that is not: at most once.
    fn once(&self, script: &Script, said: &[String]) -> Result<Reply<'_>, Refusal> {
        self.step(false, script, said)
    }

    fn step(&self, again: bool, script: &Script, said: &[String]) -> Result<Reply<'_>, Refusal> {
        let known = self.known().clone();
        let work = |connection: &mut Connection| -> RedisResult<Vec<Value>> {
            let mut call = script.key(KEYS);
            call.arg(&known.mark).arg(known.steps).arg(said);
            call.invoke(connection)
        };
        let values = if again { self.pool.ask(work)? } else { self.pool.once(work)? };
        let reply = Reply { place: self.pool.place(), values };
        if reply.word()? == "lost" {
            return Err(self.broken(
                "it has forgotten what was spent, or a part of it, since this program asked last; \
                 no call begins\nhint: see that it keeps its memory on disk, then start this \
                 program again",
            ));
        }
        if reply.word()? == "ok" {
            let steps = reply.count(reply.at(1)?)?;
            let mut now = self.known();
            if now.mark == known.mark {
                now.steps = now.steps.max(steps);
            }
        }
        Ok(reply)
    }

    fn end(&self, id: &str, took: Option<Amount>) -> Result<Settled, Refusal> {
        let text = |part: fn(Amount) -> u64| took.map_or(String::new(), |it| part(it).to_string());
        let said = [
            id.to_owned(),
            self.try_name(),
            text(|it| it.micros),
            text(|it| it.tokens),
            ENDED_MS.to_string(),
        ];
        let reply = self.ask(&self.scripts.settle, &said)?;
        match reply.word()? {
            "gone" => Err(Refusal::NotOpen(id.to_owned())),
            _ => {
                reply.done()?;
                let held = reply.amount(reply.at(2)?, reply.at(3)?)?;
                let took = took.unwrap_or(held);
                Ok(Settled { charged: took.least(held), beyond: took.less(held) })
            }
        }
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redis({})", self.pool.place())
    }
}

impl Store for Redis {
    fn waits(&self) -> bool {
        true
    }

    /// As [`super::State::reserve`], but an account's time is judged by `now_ms` alone, and no more
    /// than [`SHARED_MAX`] of anything is counted, nor [`SHARED_CLAIMS_MAX`] accounts a call.
    fn reserve(
        &self,
        id: &str,
        amount: Amount,
        claims: &[Claim],
        now_ms: u64,
    ) -> Result<(), Refusal> {
        let claims = super::state::merged(claims);
        self.name_fits(id)?;
        for account in claims.keys() {
            self.name_fits(&account.name)?;
            if !account.window.holds(now_ms) {
                return Err(Refusal::Stale(account.name.clone()));
            }
        }
        if claims.len() > SHARED_CLAIMS_MAX {
            return Err(Refusal::Full);
        }
        if amount.micros.max(amount.tokens) > SHARED_MAX {
            let first = claims.keys().next().map_or("", |account| account.name.as_str());
            return Err(Refusal::Over { account: first.to_owned(), why: uncounted() });
        }
        let mut said = vec![
            id.to_owned(),
            self.try_name(),
            amount.micros.to_string(),
            amount.tokens.to_string(),
            now_ms.to_string(),
            OPEN_MAX.to_string(),
            ACCOUNTS_MAX.to_string(),
            now_ms.saturating_sub(AFTER_MS).to_string(),
        ];
        let most = |limit: Option<u64>| limit.unwrap_or(SHARED_MAX).min(SHARED_MAX).to_string();
        for (account, limit) in &claims {
            said.push(key(account));
            said.push(account.window.end_ms.to_string());
            said.push(keep(account.window, now_ms));
            said.push(most(limit.micros));
            said.push(most(limit.tokens));
        }
        let reply = self.ask(&self.scripts.reserve, &said)?;
        match reply.word()? {
            "twice" => Err(Refusal::Twice(id.to_owned())),
            "full" => Err(Refusal::Full),
            "over" => {
                let which = usize::try_from(reply.count(reply.at(1)?)?).unwrap_or(usize::MAX);
                let claim = claims.iter().nth(which);
                let (account, limit) = claim.ok_or_else(|| reply.nonsense())?;
                let standing = reply.standing(reply.at(2)?)?;
                Err(over(account, &standing, amount, *limit))
            }
            _ => reply.done(),
        }
    }

    fn sent(&self, id: &str) -> Result<(), Refusal> {
        let reply = self.ask(&self.scripts.sent, &[id.to_owned()])?;
        match reply.word()? {
            "gone" => Err(Refusal::NotOpen(id.to_owned())),
            _ => reply.done(),
        }
    }

    fn settle(&self, id: &str, took: Option<Amount>) -> Result<Settled, Refusal> {
        self.end(id, took)
    }

    fn release(&self, id: &str) -> Result<(), Refusal> {
        self.end(id, Some(Amount::default())).map(drop)
    }

    /// As [`super::State::expire`], a few hundred in each step. The process that is first to ask
    /// gets a reservation told as lost; no other does. Those of a step whose answer was lost on its
    /// way are charged, and told to nobody.
    fn expire(&self, before_ms: u64) -> Result<Vec<Lost>, Refusal> {
        let said = [before_ms.to_string(), STEP_MAX.to_string()];
        let mut all = Vec::new();
        loop {
            let reply = self.ask(&self.scripts.expire, &said)?;
            reply.done()?;
            let some = reply.list(reply.at(2)?)?;
            for one in some {
                all.push(reply.lost(one)?);
            }
            if some.len() < STEP_MAX {
                all.sort_unstable_by(|a: &Lost, b| a.id.cmp(&b.id));
                return Ok(all);
            }
        }
    }

    /// Of one moment as long as they are no more than a few hundred.
    fn standings(&self, accounts: &[Account]) -> Result<Vec<Standing>, Refusal> {
        let mut all = Vec::with_capacity(accounts.len());
        for some in accounts.chunks(STEP_MAX) {
            let said: Vec<String> = some.iter().map(key).collect();
            let reply = self.ask(&self.scripts.standings, &said)?;
            reply.done()?;
            let told = reply.list(reply.at(2)?)?;
            if told.len() != some.len() {
                return Err(reply.nonsense());
            }
            for one in told {
                all.push(reply.standing(one)?);
            }
        }
        Ok(all)
    }
}

/// What a step answered.
struct Reply<'a> {
    place: &'a Place,
    values: Vec<Value>,
}

impl Reply<'_> {
    fn nonsense(&self) -> Refusal {
        let what = "its answer, or what it keeps, is not what this program wrote there\nhint: give \
                    budgets a numbered database of their own";
        broken(self.place, what)
    }

    fn at(&self, which: usize) -> Result<&Value, Refusal> {
        self.values.get(which).ok_or_else(|| self.nonsense())
    }

    fn word(&self) -> Result<&str, Refusal> {
        self.text(self.at(0)?)
    }

    fn done(&self) -> Result<(), Refusal> {
        if self.word()? == "ok" { Ok(()) } else { Err(self.nonsense()) }
    }

    fn text<'v>(&self, value: &'v Value) -> Result<&'v str, Refusal> {
        match value {
            Value::BulkString(bytes) => std::str::from_utf8(bytes).map_err(|_| self.nonsense()),
            _ => Err(self.nonsense()),
        }
    }

    fn list<'v>(&self, value: &'v Value) -> Result<&'v [Value], Refusal> {
        match value {
            Value::Array(all) => Ok(all),
            _ => Err(self.nonsense()),
        }
    }

    /// A number; what is not there is none.
    fn count(&self, value: &Value) -> Result<u64, Refusal> {
        let number = match value {
            Value::Nil => Ok(0),
            Value::Int(number) => u64::try_from(*number).map_err(drop),
            _ => self.text(value)?.parse().map_err(drop),
        };
        number.map_err(|()| self.nonsense())
    }

    fn amount(&self, micros: &Value, tokens: &Value) -> Result<Amount, Refusal> {
        Ok(Amount { micros: self.count(micros)?, tokens: self.count(tokens)? })
    }

    fn standing(&self, value: &Value) -> Result<Standing, Refusal> {
        let [spent_micros, spent_tokens, held_micros, held_tokens, calls] = self.list(value)?
        else {
            return Err(self.nonsense());
        };
        Ok(Standing {
            spent: self.amount(spent_micros, spent_tokens)?,
            reserved: self.amount(held_micros, held_tokens)?,
            calls: u32::try_from(self.count(calls)?).map_err(|_| self.nonsense())?,
        })
    }

    fn lost(&self, value: &Value) -> Result<Lost, Refusal> {
        let [id, micros, tokens, names] = self.list(value)? else {
            return Err(self.nonsense());
        };
        let account = |name| account(self.text(name)?).ok_or_else(|| self.nonsense());
        Ok(Lost {
            id: self.text(id)?.to_owned(),
            charged: self.amount(micros, tokens)?,
            accounts: self.list(names)?.iter().map(account).collect::<Result<_, _>>()?,
        })
    }
}

/// An account as its key has it.
fn key(account: &Account) -> String {
    let Window { start_ms, end_ms } = account.window;
    format!("{start_ms}-{end_ms}:{}", account.name)
}

/// And back.
fn account(key: &str) -> Option<Account> {
    let (window, name) = key.split_once(':')?;
    let (start, end) = window.split_once('-')?;
    let window = Window { start_ms: start.parse().ok()?, end_ms: end.parse().ok()? };
    Some(Account { name: name.to_owned(), window })
}

/// For how many milliseconds from now an account is kept; empty for always.
fn keep(window: Window, now_ms: u64) -> String {
    let left = window.end_ms.saturating_add(AFTER_MS).saturating_sub(now_ms);
    if left > SHARED_MAX { String::new() } else { left.max(1).to_string() }
}

fn over(account: &Account, standing: &Standing, more: Amount, limit: Limit) -> Refusal {
    let why = standing.over(more, limit).unwrap_or_else(uncounted);
    Refusal::Over { account: account.name.clone(), why }
}

fn uncounted() -> String {
    format!("a shared budget counts {SHARED_MAX} micro-dollars and as many tokens at most")
}

/// A name that no other process has.
fn unheard(place: &Place) -> Result<String, Refusal> {
    let mut bytes = [0_u8; 16];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| broken(place, "this machine gives no random numbers"))?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// Looks whether a server keeps what it is given, and learns of its memory.
fn learn(pool: &Pool, mark: &str) -> Result<Known, Refusal> {
    let opening = Script::new(include_str!("redis/open.lua"));
    let ask = redis::cmd("INFO").arg("memory").to_owned();
    let says: String = pool.ask(|connection| ask.query(connection))?;
    if let Some(policy) = forgets(&says) {
        return Err(broken(
            pool.place(),
            &format!(
                "it drops what it keeps when its memory is full (maxmemory-policy {policy}), and \
                 budgets would be spent twice\nhint: set its maxmemory-policy to noeviction"
            ),
        ));
    }
    let said: (String, u64) =
        pool.ask(|connection| opening.key(KEYS).arg(mark).invoke(connection))?;
    Ok(Known { mark: said.0, steps: said.1 })
}

/// The policy by which a server drops keys, from what it says of its memory.
fn forgets(says: &str) -> Option<&str> {
    let value = |name: &str| {
        let mut lines = says.lines().filter_map(|line| line.trim_end().split_once(':'));
        lines.find(|line| line.0 == name).map(|line| line.1)
    };
    value("maxmemory_policy")
        .filter(|policy| *policy != "noeviction" && value("maxmemory") != Some("0"))
}

#[cfg(test)]
mod tests {
    use super::{AFTER_MS, Account, SHARED_MAX, account, forgets, keep, key};
    use crate::budget::{Period, Window};

    #[test]
    fn keys_are_accounts() {
        let check = |name: &str, window: Window| {
            let one = Account { name: name.into(), window };
            assert_eq!(account(&key(&one)), Some(one));
        };
        for name in ["", "team", "key: a-b:c", "Ünïcode\n"] {
            check(name, Period::Day.window(5));
            check(name, Period::Forever.window(5));
        }
        for text in ["", "a", "1:a", "1-b:a", "1-18446744073709551616:a"] {
            assert_eq!(account(text), None, "{text}");
        }
    }

    #[test]
    fn accounts_are_kept_for_a_day_after_their_end() {
        let check = |window: Window, now_ms: u64, expect: &str| {
            assert_eq!(keep(window, now_ms), expect);
        };
        check(Window { start_ms: 0, end_ms: 10 }, 4, &(6 + AFTER_MS).to_string());
        check(Window { start_ms: 0, end_ms: 10 }, 11 + AFTER_MS, "1");
        check(Window { start_ms: 0, end_ms: SHARED_MAX }, 0, "");
        check(Period::Forever.window(0), 4, "");
    }

    #[test]
    fn servers_that_drop_keys_are_noticed() {
        let check = |says: &str, expect: Option<&str>| assert_eq!(forgets(says), expect, "{says}");
        check("maxmemory:0\r\nmaxmemory_policy:noeviction\r\n", None);
        check("maxmemory:9\r\nmaxmemory_policy:noeviction\r\n", None);
        check("maxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\n", None);
        check("# Memory\r\nmaxmemory:9\r\nmaxmemory_policy:volatile-ttl\r\n", Some("volatile-ttl"));
        check("maxmemory_policy:allkeys-lru\r\n", Some("allkeys-lru"));
        check("", None);
    }
}
