//! OpenAI's chat completions and legacy completions.
//!
//! | | request | answer |
//! |---|---|---|
//! | read | [`read_request`] | [`Reader`] |
//! | write | [`write_request`] | [`Tally`], then [`write_chunk`] or [`Whole`] |
//!
//! Every field of a request is a row of one table (`fields`): honoured, accepted at the values
//! where it means nothing, or refused by name. Nothing is dropped silently, and a field that is no
//! row is refused too. A streamed and a whole answer are the same deltas, written one by one or
//! summed. Absent: images and audio, which are refused by name, and tools that run here.

mod answer;
mod fields;
mod lists;
mod messages;
mod reader;
mod request;
mod writer;

pub use answer::{Delta, Head, Tally, Whole, write_chunk};
pub use fields::fields;
pub use lists::{
    Detokenize, ModelLine, Tokenize, read_detokenize, read_tokenize, write_model, write_models,
    write_text, write_tokens,
};
pub use reader::Reader;
pub use request::{read_request, write_request};

pub(super) use answer::chat_score;

use super::{check, constraint, table, tools, values};
use crate::Request;

/// The end of a streamed answer.
pub const DONE: &str = "[DONE]";

/// Which of the two request formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/completions`
    Completions,
}

/// What a caller wants of the answer's form. What it wants of the model is in [`Request`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Answer in server-sent events.
    pub stream: bool,
    /// End a stream with the usage.
    pub include_usage: bool,
    /// Answers to each prompt, 1 to 16. The `i`th draws with `seed + i`.
    pub n: u32,
    /// Return the prompt before its completion (completions only).
    pub echo: bool,
    /// Leave out what the model thought before its answer.
    pub hide_reasoning: bool,
}

impl Default for Options {
    /// One whole answer.
    fn default() -> Self {
        Self { stream: false, include_usage: false, n: 1, echo: false, hide_reasoning: false }
    }
}

/// A request as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// One a prompt: exactly one for chat, up to 64 for completions, alike but for their input.
    pub requests: Vec<Request>,
    /// The answer's form.
    pub options: Options,
}
