//! What a server needs of any format: a request that tells what is asked of models, and a writer
//! that turns an answer's events into bytes. A stream and a whole answer are one writer's; a whole
//! one comes in one piece, with the last event. Absent: how either is read or sent.

use serde_json::{Value, json};

use super::Kind;
use crate::{Event, Fault, Request, Token};

/// A request as its format read it.
pub trait Ask: Send + 'static {
    /// What is asked of models; at least one, alike but for their input.
    fn requests(&self) -> &[Request];

    /// The same, for a server to add what no format has.
    fn requests_mut(&mut self) -> &mut [Request];

    /// Answers to each request. The `i`th draws with `seed + i`.
    fn choices(&self) -> u32 {
        1
    }

    /// Whether the answer is wanted in pieces.
    fn streamed(&self) -> bool;

    /// Who writes the answer: choices in the order of their requests, a request's side by side.
    /// `decode` gives the text of tokens, where a prompt of tokens is to be returned.
    fn writer(
        &self,
        stamp: Stamp,
        decode: &mut dyn FnMut(&[Token]) -> Result<String, Fault>,
    ) -> Result<Box<dyn Writer>, Fault>;
}

/// Makes a format's request an [`Ask`] that has one answer: its fields are `request` and `stream`,
/// and `$answer::new` makes the writer of it and a stamp.
macro_rules! ask_one {
    ($asked:ty, $answer:ty) => {
        impl $crate::wire::Ask for $asked {
            fn requests(&self) -> &[$crate::Request] {
                std::slice::from_ref(&self.request)
            }

            fn requests_mut(&mut self) -> &mut [$crate::Request] {
                std::slice::from_mut(&mut self.request)
            }

            fn streamed(&self) -> bool {
                self.stream
            }

            fn writer(
                &self,
                stamp: $crate::wire::Stamp,
                _: &mut dyn FnMut(&[$crate::Token]) -> Result<String, $crate::Fault>,
            ) -> Result<Box<dyn $crate::wire::Writer>, $crate::Fault> {
                Ok(Box::new(<$answer>::new(self, stamp)))
            }
        }
    };
}
pub(super) use ask_one;

/// What only a server knows of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// An id that does not come twice, without the prefix that a format may give it.
    pub id: String,
    /// Milliseconds since 1970 when it was asked for.
    pub created_ms: u64,
    /// The model that answers.
    pub model: String,
}

/// Writes one answer.
pub trait Writer: Send {
    /// What choice `index`'s next event adds; often nothing. A failure of one choice is the whole
    /// answer's.
    fn take(&mut self, index: u32, event: Event) -> Result<String, Fault>;

    /// Whether every choice has ended.
    fn complete(&self) -> bool;

    /// The end of a stream that failed after it began.
    fn failure(&self, kind: Kind, fault: &Fault) -> String;

    /// What shows that a silent stream lives; empty where the format has no words for it.
    fn beat(&self) -> &'static str;

    /// The answer's content type.
    fn content_type(&self) -> &'static str;
}

/// A call's arguments as the object that they should be. Those of a call that was cut off by a
/// limit cannot be read; their text is kept under a key that tells so.
pub(super) fn arguments(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(object @ Value::Object(_)) => object,
        _ if text.is_empty() => json!({}),
        _ => json!({ "INVALID_JSON": text }),
    }
}

/// An event of an event stream, named or not.
pub(super) fn sse(name: Option<&str>, data: &str) -> String {
    match name {
        Some(name) => format!("event: {name}\ndata: {data}\n\n"),
        None => format!("data: {data}\n\n"),
    }
}

/// The content type of an event stream.
pub(super) const SSE: &str = "text/event-stream";
/// The content type of a whole answer.
pub(super) const JSON: &str = "application/json";
/// A comment of an event stream.
pub(super) const COMMENT: &str = ": waiting\n\n";
