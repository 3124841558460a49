//! llama.cpp's own protocol: completions of a prompt, and of what is between two texts, and what
//! its clients ask beside them. Its chat is OpenAI's.
//!
//! Every field of a request is a row of one table (`fields`). Sampling has llama.cpp's defaults, in
//! this crate's order unless another is asked for: temperature comes before the cuts. Absent: slots
//! to choose, save or erase, settings that are changed while the server runs, and writing requests
//! and reading answers.

mod answer;
mod fields;
mod lists;

pub use fields::{fields, read_request};
pub use lists::{
    Props, Tokenize, read_tokenize, write_pieces, write_prompt, write_props, write_slots,
    write_text, write_tokens,
};

use super::ask::ask_one;
use crate::Request;

/// Which of the two request formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `/completion`
    Completion,
    /// `/infill`
    Infill,
}

/// A request as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// What is asked of the model.
    pub request: Request,
    /// Answer in server-sent events.
    pub stream: bool,
}

ask_one!(Asked, answer::Answer);
