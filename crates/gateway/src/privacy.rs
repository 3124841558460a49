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
//! (`rand`, `uuid`, `aes-gcm`, a release candidate of `pbkdf2`) into a function that should be pure,
//! knows no spacing but the usual, checks cards and IBANs and few national ids, and its
//! placeholders are not put back in streams. `aho-corasick` does what of it is worth sharing.

mod kinds;

use std::fmt;
use std::ops::Range;

pub use kinds::{Group, Kind};

use ingle_protocol::{Event, Request};

/// The most bytes of one text, and of all texts of one request, that are looked at.
pub const MOST_BYTES: usize = 16 << 20;
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
pub struct Detector {}

impl Default for Detector {
    fn default() -> Self {
        Self::new()
    }
}

impl Detector {
    /// A detector of all kinds. Takes a few milliseconds.
    pub fn new() -> Self {
        Self {}
    }

    /// What is in a text, in its order; no two overlap. Where candidates do, they become one
    /// finding that covers all of them, of the longest one's kind; of equally long ones, the one
    /// with a checksum, then the one whose row is first.
    ///
    /// # Errors
    /// [`Unsure`] where the text is too long or holds too much.
    pub fn detect(&self, _text: &str) -> Result<Vec<Finding>, Unsure> {
        unimplemented!("detect")
    }

    /// What is in all texts of a request. Never fails: a survey that is unsure says so.
    pub fn survey(&self, _request: &Request) -> Survey {
        unimplemented!("survey")
    }

    /// The request with placeholders for all that is found of the kinds for which `which` holds,
    /// and what stands behind them.
    ///
    /// # Errors
    /// [`Unsure`] where something of these kinds may remain: then nothing may leave.
    pub fn redact(
        &self,
        _request: &Request,
        _which: impl Fn(Kind) -> bool,
    ) -> Result<(Request, Redaction), Unsure> {
        unimplemented!("redact")
    }
}

/// What was replaced in one request, and by what.
#[derive(Clone, Default)]
pub struct Redaction {}

impl fmt::Debug for Redaction {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Redaction")
    }
}

impl Redaction {
    /// How many places were replaced: what a receipt keeps.
    pub fn replaced(&self) -> u32 {
        unimplemented!("replaced")
    }

    /// Whether nothing was.
    pub fn is_empty(&self) -> bool {
        self.replaced() == 0
    }

    /// A whole text with its values back.
    pub fn restore(&self, _text: &str) -> String {
        unimplemented!("restore")
    }

    /// Puts values back into one answer's events.
    pub fn restorer(&self) -> Restorer {
        unimplemented!("restorer")
    }
}

/// Puts values back into an answer as it streams. Holds text back only as long as it may be a
/// placeholder's beginning; what it holds goes out before an event of another sort.
#[derive(Debug)]
pub struct Restorer {}

impl Restorer {
    /// The next event, with what was held back before it: none, one or two.
    pub fn event(&mut self, _event: Event) -> Vec<Event> {
        unimplemented!("event")
    }
}
