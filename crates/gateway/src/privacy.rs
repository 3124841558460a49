//! What of a text is nobody else's business: personal data and secrets are found by their form and
//! their checksums, replaced before a request leaves, and put back in the answer. What is to become
//! of which kind is a policy's business. Absent: names of persons, places and firms, which no form
//! tells; pictures and sound.
//!
//! Everything here is a function of its arguments: no clock, chance, file or state that outlives a
//! call. Work is linear in the text, and bounded; what goes beyond a bound, or cannot be read, is
//! [`Unsure`], which whoever decides has to treat as if everything had been found.
//!
//! The rows are our own. `redact-core` 0.12.7 was weighed: it takes random numbers and ciphers
//! (`rand`, `uuid`, `aes-gcm`, a release candidate of `pbkdf2`) into a function that should be
//! pure, knows no spacing but the usual, validates identities of two countries, and has no way back
//! in streams. `aho-corasick` does what of it is worth sharing.

mod addresses;
mod detect;
mod fold;
mod forms;
mod iban;
mod json;
mod kinds;
mod labels;
mod lettered;
mod numbers;
mod phones;
mod redact;
mod restore;
mod runs;
mod secrets;
mod sums;
mod texts;
mod watch;

use std::ops::Range;
use std::sync::Arc;

use ingle_protocol::Request;

pub use kinds::{Group, Kind};
pub use restore::{Redaction, Restorer};
pub use watch::Watch;

/// The most bytes of one text, and of all texts of one request, that are looked at.
pub const MOST_BYTES: usize = 8 << 20;
/// The most findings of one text, and of all texts of one request.
pub const MOST_FINDINGS: usize = 65_536;

/// Something that was found in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where, in bytes of the text as it was given; both ends are characters' edges.
    pub bytes: Range<usize>,
    /// What it is.
    pub kind: Kind,
    /// Whether a checksum vouches for it.
    pub checked: bool,
}

/// Why nothing can be said of a text: whoever decides treats it as confidential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsure {
    /// More text than is looked at.
    #[error("{bytes} bytes of text are more than the {MOST_BYTES} that are searched: send less")]
    TooLong {
        /// How much there was.
        bytes: usize,
    },
    /// More findings than are kept.
    #[error("more than {MOST_FINDINGS} pieces of personal data: send less, or keep it local")]
    TooMany,
    /// Token ids, which are not read.
    #[error("token ids cannot be searched for personal data: send text")]
    Tokens,
    /// A picture, sound or file, which is not read.
    #[error("{place} holds a file, which cannot be searched for personal data")]
    Opaque {
        /// Where it stands.
        place: String,
    },
    /// What is said to be JSON and is none.
    #[error("{place} is no JSON that could be searched for personal data")]
    NotJson {
        /// Where it stands.
        place: String,
    },
    /// Found where nothing can be put in its place.
    #[error("{place} holds personal data ({}) and cannot be changed: rename it", kind.name())]
    Fixed {
        /// Where it stands.
        place: String,
        /// What was found there.
        kind: Kind,
    },
    /// The texts look like placeholders themselves.
    #[error("the request is full of texts that look like placeholders: send it without them")]
    Crowded,
}

/// What was found in a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Kinds and how often each was found, in the table's order; what a request says twice (in
    /// its own bytes and in what was read of them) counts once.
    pub found: Vec<(Kind, u32)>,
    /// Why more may be in it, if it may.
    pub unsure: Option<Unsure>,
}

impl Survey {
    /// Whether nothing was found, for certain.
    pub fn is_clean(&self) -> bool {
        self.found.is_empty() && self.unsure.is_none()
    }

    /// The counts by name, as a receipt keeps them.
    pub fn counts(&self) -> Vec<(String, u32)> {
        self.found.iter().map(|(kind, count)| (kind.name().to_owned(), *count)).collect()
    }
}

/// Finds personal data and secrets. Made once, used by all: it does not change.
#[derive(Debug)]
pub struct Detector {
    search: detect::Search,
}

impl Default for Detector {
    fn default() -> Self {
        Self::new()
    }
}

impl Detector {
    /// A detector of all kinds. Takes a few milliseconds.
    pub fn new() -> Self {
        Self { search: detect::Search::new() }
    }

    /// What is in a text, in its order; no two overlap. Where candidates do, they become one
    /// finding that covers all of them: a secret's kind if there is one, else the longest one's; of
    /// equally long ones the one that a word before it names, then one with a checksum, then the
    /// one whose row is first.
    ///
    /// # Errors
    /// [`Unsure`] where the text is too long or holds too much.
    pub fn detect(&self, text: &str) -> Result<Vec<Finding>, Unsure> {
        self.search.findings(text)
    }

    /// What is in all texts of a request. Never fails: a survey that is unsure says so.
    pub fn survey(&self, request: &Request) -> Survey {
        redact::survey(&self.search, request)
    }

    /// The request with placeholders for all that is found of the kinds for which `which` holds,
    /// and what stands behind them. A value is replaced wherever it stands, and by the same
    /// placeholder; the request's own bytes ([`ingle_protocol::Verbatim`]) are changed likewise.
    ///
    /// # Errors
    /// [`Unsure`] where something of these kinds may remain: then nothing may leave.
    pub fn redact(
        &self,
        request: &Request,
        which: impl Fn(Kind) -> bool,
    ) -> Result<(Request, Redaction), Unsure> {
        redact::redact(&self.search, request, which)
    }

    /// Watches an answer for the kinds for which `which` holds, as it streams.
    pub fn watch(self: &Arc<Self>, which: impl Fn(Kind) -> bool + Send + 'static) -> Watch {
        Watch::new(Arc::clone(self), Box::new(which))
    }
}
