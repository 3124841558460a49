//! Anthropic's messages: requests read and written, answers written and heard, and what stands
//! around them.
//!
//! Every field of a request is a row of one table (`fields`), as in the other formats. An answer is
//! a list of content blocks, streamed or not: one state machine opens and closes them. What the
//! format asks for and models here cannot do is refused by name: documents, tools that run on
//! Anthropic's servers, edits of the context.
//!
//! Thinking blocks carry an empty signature: nothing is signed here, and any is taken back.

mod answer;
mod fields;
mod lists;
mod messages;
mod reader;
mod request;
mod tools;

pub use fields::{fields, read_count, read_request};
pub use lists::{write_count, write_model, write_models};

pub(super) use reader::Heard;
pub(super) use request::write_request;

use super::ask::ask_one;
use crate::Request;

/// Which of the two request formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `/v1/messages`
    Messages,
    /// `/v1/messages/count_tokens`
    Count,
}

/// A request as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// What is asked of the model.
    pub request: Request,
    /// Answer in server-sent events.
    pub stream: bool,
    /// Tell that the model thought, but not what.
    pub omit_thinking: bool,
}

ask_one!(Asked, answer::Answer);
