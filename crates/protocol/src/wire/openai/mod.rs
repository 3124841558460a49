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
//! summed. Absent: audio and files, which are refused by name, and tools that run here.

mod answer;
mod batch;
mod fields;
mod files;
mod lists;
mod messages;
pub mod moderations;
mod reader;
mod request;
mod scores;
mod writer;

pub use answer::{Delta, Head, Tally, Whole, write_chunk};
pub use batch::{
    BatchAsked, BatchError, BatchLine, BatchTold, batch_fields, read_batch, read_batch_line,
    write_batch, write_batch_errors, write_batch_response, write_batch_unrun, write_batches,
};
pub use fields::fields;
pub use files::{
    FileLine, PURPOSES, read_expiry, read_purpose, write_deleted, write_file, write_files,
};
pub use lists::{
    Detokenize, ModelLine, Tokenize, read_detokenize, read_tokenize, write_model, write_models,
    write_text, write_tokens,
};
pub use reader::Reader;
pub use request::{read_request, write_request};

pub(super) use answer::write_usage;
pub(super) use fields::{Draft, constrain, read_shared, reasoning_effort, shared};
pub(super) use messages::{read as read_messages, read_detail};
pub(super) use reader::read_scores;
pub(super) use request::{lift_thinking, short, write_body};
pub(super) use scores::chat_score;

use super::{adapters, check, constraint, table, tools, values};
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
    /// Answers that are drawn to each prompt, at most 16, of which the `n` likeliest by their mean
    /// log-probability are returned; `None` where all are (completions only).
    pub best_of: Option<u32>,
    /// Return the prompt before its completion (completions only). With log-probabilities, its
    /// tokens have them, too.
    pub echo: bool,
    /// Leave out what the model thought before its answer.
    pub hide_reasoning: bool,
    /// Leave out log-probabilities, which only `best_of` goes by.
    pub hide_scores: bool,
    /// Return those of the prompt's tokens in vLLM's shape.
    pub prompt_scores: bool,
    /// Name tokens by their ids where there are log-probabilities.
    pub tokens_as_ids: bool,
}

impl Options {
    /// Answers that are drawn to each prompt.
    pub fn drawn(&self) -> u32 {
        self.best_of.unwrap_or(self.n).max(self.n)
    }
}

impl Default for Options {
    /// One whole answer.
    fn default() -> Self {
        Self {
            stream: false,
            include_usage: false,
            n: 1,
            best_of: None,
            echo: false,
            hide_reasoning: false,
            hide_scores: false,
            prompt_scores: false,
            tokens_as_ids: false,
        }
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
