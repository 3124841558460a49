//! The speaking side of every format: what a provider's client writes and hears. A [`Request`]
//! becomes a body, an answer becomes [`Event`]s, an error's body a [`Fault`].
//!
//! What a format has no words for is refused by name, before anything is sent; the few things that
//! are left out without a word, since they are about computing here, stand in a table
//! ([`losses()`]), which `docs/TRANSLATION.md` shows. What comes back is hostile: it is read into
//! bounded memory, and what it says of money and of where data went is not believed.
//!
//! ```text
//! Request  ─ write ─▶ body            bytes ─ Frames ─▶ (event, data) ─ Hear ─▶ Events
//! Verbatim ─ pass  ─▶ body            an error's body ─ fault ─▶ Fault
//! ```
//!
//! Absent: paths, headers, keys, and sockets, which are the client's.

mod chat;
mod embeddings;
mod faults;
mod frames;
pub(super) mod heard;
pub(super) mod losses;
mod pass;

pub use embeddings::{read_embeddings, write_embeddings};
pub use faults::fault;
pub use frames::{FRAME_MAX, Frame, Frames};
pub use losses::{Loss, Otherwise, Target, Told, losses, told_by};
pub use pass::{Cap, Passed, pass};

pub(super) use chat::body;
pub(super) use faults::{told, wrong};
pub(super) use heard::ended_by;

use super::{anthropic, gemini, ollama, responses};
use crate::{Event, Fault, Format, Request};

/// How a body is written, beyond its format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// Ask for an answer in pieces. Gemini's path says it instead.
    pub stream: bool,
    /// The body is for OpenAI's own servers (or Azure's), which know fewer fields than those that
    /// speak its chat format: the limit on tokens is `max_completion_tokens` there, and fields that
    /// only others have are refused by name. Means nothing in other formats.
    pub hosted: bool,
}

/// Writes a request's body for `model`, in `format`, for any server that speaks it.
///
/// # Errors
/// A fault of the caller's that names what the format has no words for.
pub fn write(
    format: Format,
    request: &Request,
    model: &str,
    stream: bool,
) -> Result<String, Fault> {
    write_as(format, request, model, Manner { stream, ..Manner::default() })
}

/// [`write()`], in a manner.
///
/// # Errors
/// As [`write()`] has them.
pub fn write_as(
    format: Format,
    request: &Request,
    model: &str,
    manner: Manner,
) -> Result<String, Fault> {
    let Manner { stream, hosted } = manner;
    let asked = (format != Format::Ollama).then(|| losses::as_asked(request)).flatten();
    let request = asked.as_ref().unwrap_or(request);
    match format {
        Format::Chat => chat::write(request, model, stream, hosted),
        Format::Responses => responses::write_request(request, model, stream, hosted),
        Format::Messages => anthropic::write_request(request, model, stream),
        Format::Ollama => ollama::write_request(request, model, stream),
        Format::Gemini => gemini::write_request(request),
    }
}

/// Hears one answer. Of its events exactly one is `Done`, the last; an answer that fails, or ends
/// before it said so, is an `Err`, after which nothing is to be read. The receipt tells what the
/// answer said of itself: its model, finish, stop text and usage. That data left this machine is
/// always so; what it cost, where it went and when is for the caller to fill in.
pub trait Hear: Send {
    /// The next event of a stream: its name, if it has one, and its data (of lines of JSON, one
    /// line).
    ///
    /// # Errors
    /// What the server tells of as an error, and what is none of the format's.
    fn read(&mut self, event: Option<&str>, data: &str) -> Result<Vec<Event>, Fault>;

    /// All of a whole answer's body, to its end.
    ///
    /// # Errors
    /// As [`Hear::read`] has them.
    fn whole(&mut self, body: &str) -> Result<Vec<Event>, Fault>;

    /// The connection has ended: the end, where it has not been told. To be called once, after the
    /// last event of a stream.
    ///
    /// # Errors
    /// Where the answer was not complete.
    fn end(&mut self) -> Result<Vec<Event>, Fault>;
}

/// Who hears an answer in `format`, in pieces or whole: a stream's with [`Hear::read`], and a whole
/// one with either.
pub fn hear(format: Format, stream: bool) -> Box<dyn Hear + Send> {
    let heard: Box<dyn Hear + Send> = match format {
        Format::Chat => Box::new(chat::Heard::new()),
        Format::Responses => Box::new(responses::Heard::default()),
        Format::Messages => Box::new(anthropic::Heard::default()),
        Format::Ollama => Box::new(ollama::Heard::default()),
        Format::Gemini => Box::new(gemini::Heard::default()),
    };
    if stream { heard } else { Box::new(Whole(heard)) }
}

/// An answer that is not streamed, whoever calls what.
struct Whole(Box<dyn Hear + Send>);

impl Hear for Whole {
    fn read(&mut self, _: Option<&str>, data: &str) -> Result<Vec<Event>, Fault> {
        self.0.whole(data)
    }

    fn whole(&mut self, body: &str) -> Result<Vec<Event>, Fault> {
        self.0.whole(body)
    }

    fn end(&mut self) -> Result<Vec<Event>, Fault> {
        self.0.end()
    }
}

/// An event's data, or an answer's body.
pub(super) fn parse(data: &str) -> Result<serde_json::Value, Fault> {
    serde_json::from_str(data)
        .map_err(|error| wrong(format!("the provider's answer is no JSON: {error}")))
}

/// A count of tokens; 0 where none is told.
pub(super) fn count(value: &serde_json::Value) -> u32 {
    value.as_u64().and_then(|count| u32::try_from(count).ok()).unwrap_or(0)
}
