//! Keys in the system's keyring: the Secret Service of a desktop or a server's session bus, macOS's
//! Keychain, Windows' Credential Manager. A locked one may ask its user, who may be away, so it is
//! asked on a thread of its own, and not for ever. Absent: putting keys there, which the system's
//! own tools do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use keyring::{Entry, Error};
use zeroize::Zeroizing;

/// The service of a reference that names a user alone.
const SERVICE: &str = "ingle";
/// How long a keyring may take, in which a user may have to unlock it.
const PATIENCE: Duration = Duration::from_secs(30);
/// What else can be done.
const INSTEAD: &str = "or put the key into a file that only this user may read, and name it \
                       file:PATH";

/// Whose key a reference names: a service and a user, of `service/user` or `user`.
pub(super) fn place(name: &str) -> Result<(&str, &str), String> {
    let (service, user) = name.rsplit_once('/').unwrap_or((SERVICE, name));
    match service.is_empty() || user.is_empty() {
        true => Err("a key of the keyring is named keyring:SERVICE/USER or keyring:USER".into()),
        false => Ok((service, user)),
    }
}

/// The key of a service and a user. Waits for the keyring, for half a minute at most.
///
/// # Errors
/// What is wrong and what to do; never the key, or any part of it.
pub(super) fn read(service: &str, user: &str) -> Result<Zeroizing<String>, String> {
    /// Whether the keyring still owes an answer: then no more threads wait for it.
    static ASKED: AtomicBool = AtomicBool::new(false);
    let (of, whose) = (service.to_owned(), user.to_owned());
    let answer = asked(&ASKED, move || ask(&of, &whose))?;
    answer.map_err(|error| wrong(&error, service, user))
}

/// The one turn to ask; dropped, it is somebody else's.
struct Turn(&'static AtomicBool);

impl Turn {
    fn take(asked: &'static AtomicBool) -> Option<Self> {
        (!asked.swap(true, Ordering::AcqRel)).then(|| Self(asked))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Asks on a thread of its own, and waits for the answer.
fn asked<T: Send + 'static>(
    asked: &'static AtomicBool,
    ask: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let Some(turn) = Turn::take(asked) else {
        return Err(format!("the keyring still waits, maybe to be unlocked: unlock it, {INSTEAD}"));
    };
    let (tell, told) = sync_channel(1);
    let ask = move || {
        // Who panics has told nobody before the turn is free again.
        let (tell, turn) = (tell, turn);
        let read = ask();
        drop(turn);
        // Nobody may wait any more.
        let _ = tell.send(read);
    };
    if let Err(error) = std::thread::Builder::new().name("ingle-keyring".into()).spawn(ask) {
        return Err(format!("no thread could ask the keyring: {error}"));
    }
    told.recv_timeout(PATIENCE).map_err(|error| match error {
        RecvTimeoutError::Timeout => {
            let seconds = PATIENCE.as_secs();
            format!("the keyring did not answer in {seconds} s: unlock it, {INSTEAD}")
        }
        RecvTimeoutError::Disconnected => format!("the keyring's client failed: {INSTEAD}"),
    })
}

fn ask(service: &str, user: &str) -> Result<Zeroizing<String>, Error> {
    Entry::new(service, user)?.get_password().map(Zeroizing::new)
}

/// What is wrong, without any byte that the keyring holds: some errors carry them.
fn wrong(error: &Error, service: &str, user: &str) -> String {
    match error {
        Error::NoEntry => format!(
            "the keyring has no key of service {service:?} and user {user:?}: put it there, with \
             Linux's secret service by `secret-tool store --label={service} service {service} \
             username {user}`"
        ),
        Error::NoStorageAccess(_) => {
            format!("the keyring is locked, or does not let this program in: unlock it, {INSTEAD}")
        }
        Error::NoDefaultStore => {
            let why = Entry::store_status().as_ref().err().map_or(String::new(), platform);
            format!(
                "no keyring answers{why}: start its service (GNOME Keyring, KWallet) and the \
                 session bus that it is on, then this program again, {INSTEAD}"
            )
        }
        Error::PlatformFailure(_) => format!("the keyring failed{}: {INSTEAD}", platform(error)),
        Error::BadEncoding(_) => "what the keyring has is no text".into(),
        Error::Ambiguous(_) => format!(
            "the keyring has several keys of service {service:?} and user {user:?}: leave one"
        ),
        _ => format!("the keyring cannot tell it: {INSTEAD}"),
    }
}

/// The system's own words, in brackets.
fn platform(error: &Error) -> String {
    match error {
        Error::PlatformFailure(why) => format!(" ({why})"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_service_and_a_user() {
        let check = |name: &str, expect: Option<(&str, &str)>| {
            assert_eq!(place(name).ok(), expect, "{name}");
        };
        check("openai", Some(("ingle", "openai")));
        check("work/openai", Some(("work", "openai")));
        check("https://api.example/anna", Some(("https://api.example", "anna")));
        check("", None);
        check("/openai", None);
        check("work/", None);
    }

    #[test]
    fn one_asks_at_a_time_and_a_client_that_panics_is_not_the_last() {
        static ASKED: AtomicBool = AtomicBool::new(false);
        assert_eq!(asked(&ASKED, || 1), Ok(1));
        let failed: Result<(), String> = asked(&ASKED, || panic!("a bug of the client's"));
        assert!(failed.is_err_and(|why| why.contains("client failed")));
        assert_eq!(asked(&ASKED, || 2), Ok(2));
        let turn = Turn::take(&ASKED).expect("nobody asks");
        assert!(asked(&ASKED, || 3).is_err_and(|why| why.contains("still waits")));
        drop(turn);
        assert_eq!(asked(&ASKED, || 4), Ok(4));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_key() {
        let secret = || b"sk-secret".to_vec();
        let failed = || std::io::Error::other("the bus is away").into();
        let check = |error: Error, expect: &str| {
            let said = wrong(&error, "ingle", "far");
            assert!(said.contains(expect), "{said}");
            assert!(!said.contains("sk-secret") && !said.contains("115, 107"), "{said}");
        };
        check(Error::NoEntry, "secret-tool store --label=ingle service ingle username far");
        check(Error::NoStorageAccess(failed()), "unlock it");
        check(Error::PlatformFailure(failed()), "(the bus is away): or put the key into a file");
        check(Error::BadEncoding(secret()), "no text");
        check(Error::BadDataFormat(secret(), failed()), "cannot tell it");
        check(Error::Ambiguous(Vec::new()), "several keys of service \"ingle\"");
    }
}
