//! What can go wrong with a try, in words of our own, and what follows of it: whether the same may
//! be asked again, whether its provider is to blame. What a provider says itself goes to the caller
//! alone, since it may repeat the request; a ledger gets our words.

use std::io;
use std::time::Duration;

use ingle_protocol::wire::speak;
use ingle_protocol::{Blame, Fault, Format, Retry};

use super::ear::wrong;
use super::keys::Secret;
use super::outcome::Ended;

/// Why a try failed.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// Without a word of anybody's.
    pub(super) why: Box<str>,
    /// What the caller is told.
    pub(super) fault: Fault,
    /// Whether asking the same again is safe and may help.
    pub(super) again: bool,
    /// How long the provider wants to be left alone.
    pub(super) after: Option<Duration>,
    /// What its breaker is told; `None` where it says nothing of the provider.
    pub(super) good: Option<bool>,
    /// The answer's status, where that was it.
    pub(super) status: Option<u16>,
}

impl Failure {
    fn new(why: impl Into<String>, again: bool) -> Self {
        let why: String = why.into();
        let fault = wrong(why.clone());
        Self { why: why.into(), fault, again, after: None, good: Some(false), status: None }
    }

    /// No connection.
    pub(super) fn unreachable(error: &io::Error) -> Self {
        let why = match error.kind() {
            io::ErrorKind::ConnectionRefused => "it refuses connections".to_owned(),
            _ => format!("there is no connection to it: {error}"),
        };
        Self::new(why, true)
    }

    /// It took too long.
    pub(super) fn late(what: &str, within: Duration) -> Self {
        Self::new(format!("{what} within {} ms", within.as_millis()), true)
    }

    /// The connection failed under the request, or its answer. One that was `used` before may have
    /// been closed before anything was sent, which says nothing of the provider.
    pub(super) fn cut(error: &hyper::Error, used: bool) -> Self {
        if error.is_parse() || error.is_parse_too_large() {
            return Self::new("its answer is no HTTP, or has too long a head", false);
        }
        let good = if used { None } else { Some(false) };
        Self { good, ..Self::new("it closed the connection before its answer was complete", true) }
    }

    /// An answer of another status than success.
    pub(super) fn status(
        format: Format,
        status: u16,
        after: Option<Duration>,
        body: &str,
        key: Option<&Secret>,
    ) -> Self {
        if (300..400).contains(&status) {
            let why = format!(
                "it answered {status}, a redirect, which is not followed: set its `url` \
                               to where it is"
            );
            return Self { status: Some(status), ..Self::new(why, false) };
        }
        let mut fault = speak::fault(format, status, after, body);
        fault.message = key.map_or(fault.message.clone(), |key| key.scrub(&fault.message));
        Self {
            why: format!("it answered {status}").into(),
            // A request that is wrong, or too large, says nothing of whom it was sent to.
            good: if [400, 413, 422].contains(&status) { None } else { Some(false) },
            again: match status {
                // Some say so of a quota, too, which waiting does not help.
                429 => matches!(fault.retry, Retry::After(_)),
                _ => [408, 425, 500, 502, 503, 504, 529].contains(&status),
            },
            after,
            fault,
            status: Some(status),
        }
    }

    /// An answer in another form than was asked for.
    pub(super) fn media(media: &str) -> Self {
        let shown: String = media.chars().take(64).filter(char::is_ascii_graphic).collect();
        Self::new(format!("its answer is of the type {shown:?}, which is not its format's"), false)
    }

    /// An answer that cannot be read, or tells of an error.
    pub(super) fn heard(fault: Fault) -> Self {
        let after = match fault.retry {
            Retry::After(after) => Some(after),
            _ => None,
        };
        let good = if fault.blame == Blame::Provider { Some(false) } else { None };
        let why = match fault.blame {
            Blame::Us => "there was no room for its answer",
            _ => "its answer told of an error, or could not be read",
        };
        let why = why.into();
        Self { why, again: after.is_some(), after, good, status: None, fault }
    }

    /// Something of ours.
    pub(super) fn ours(why: impl Into<String>) -> Self {
        let why: String = why.into();
        Self { fault: Fault::ours(why.clone()), good: None, ..Self::new(why, false) }
    }

    /// Whether nobody else need be asked either.
    pub(super) fn final_for_all(&self) -> bool {
        self.fault.blame == Blame::Caller && self.fault.retry == Retry::Never
    }

    /// What became of its try.
    pub(super) fn ended(&self) -> Ended {
        self.status.map_or_else(|| Ended::Failed(self.why.to_string()), Ended::Status)
    }
}
