//! The speaking side of every format: what a provider's client writes and hears. A [`Request`]
//! becomes a body, an answer becomes [`Event`]s, an error's body a [`Fault`].
//!
//! What a format has no words for is refused by name, before anything is sent; the few things that
//! are left out without a word, since they are about computing here, stand in a table
//! ([`losses`]), which `docs/TRANSLATION.md` shows. What comes back is hostile: it is read into
//! bounded memory, and what it says of money and of where data went is not believed.
//!
//! ```text
//! Request  ─ write ─▶ body            bytes ─ Frames ─▶ (event, data) ─ Hear ─▶ Events
//! Verbatim ─ pass  ─▶ body            an error's body ─ fault ─▶ Fault
//! ```
//!
//! Absent: paths, headers, keys, and sockets, which are the client's.

use std::time::Duration;

use crate::{Event, Fault, Format, Request, Verbatim};

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

/// [`write`], in a manner.
///
/// # Errors
/// As [`write`] has them.
pub fn write_as(
    format: Format,
    request: &Request,
    model: &str,
    manner: Manner,
) -> Result<String, Fault>;

/// A caller's own body with nothing changed but its `model`, which becomes `model`, and, in a
/// chat's stream, `stream_options.include_usage`, which becomes true, since without it nobody learns
/// what the answer cost. All else stays as it was written, byte for byte. (Gemini's path names the
/// model: its body stays as it is.)
///
/// # Errors
/// Where the body is no JSON object.
pub fn pass(verbatim: &Verbatim, model: &str) -> Result<String, Fault>;

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

/// Who hears an answer in `format`, in pieces or whole.
pub fn hear(format: Format, stream: bool) -> Box<dyn Hear + Send>;

/// The fault that an answer of another status than success tells of. `after` is what its
/// `Retry-After` header says. A key that is not taken is the provider's fault as far as a caller can
/// see, never the caller's; a message is cut to a bounded length.
pub fn fault(format: Format, status: u16, after: Option<Duration>, body: &str) -> Fault;

/// Cuts a stream's bytes, as they come, into events.
#[derive(Debug)]
pub struct Frames {}

impl Frames {
    /// For a stream in `format`: an event stream, or, of Ollama's, lines of JSON.
    pub fn new(format: Format) -> Self;

    /// Takes the next bytes, split anywhere, and gives the events that are complete: each one's
    /// name, if it has one, and its data.
    ///
    /// # Errors
    /// Where a line or an event is longer than [`FRAME_MAX`], or is no UTF-8.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Vec<(Option<String>, String)>, Fault>;

    /// The stream has ended: what is left. (Of an event stream an event that no blank line ended is
    /// none.)
    ///
    /// # Errors
    /// As [`Frames::take`] has them.
    pub fn end(&mut self) -> Result<Vec<(Option<String>, String)>, Fault>;
}

/// The most bytes of a line, and of an event.
pub const FRAME_MAX: usize = 16 << 20;
