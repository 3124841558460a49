//! What is asked and told of prompts beside their text. Absent: how they are encoded.

use crate::{Scored, Token};

/// What is to be filled in: the text before it, the text after it, and how it begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gap {
    /// What stands before the gap.
    pub prefix: String,
    /// What stands after it.
    pub suffix: String,
    /// What the gap begins with.
    pub begun: String,
}

/// What is kept of a prompt that is longer: always its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truncation {
    /// So many tokens, at least one.
    Last(u32),
    /// As many as the context holds beside the answer's limit, or beside one token where it has
    /// none.
    Fitting,
}

/// One of a prompt's tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptToken {
    /// The token's id.
    pub token: Token,
    /// What the token writes, control tokens their names; not always whole UTF-8 characters.
    pub bytes: Vec<u8>,
    /// How likely it was; `None` for the first, which nothing stands before, and where it was not
    /// asked for.
    pub score: Option<PromptScore>,
}

/// How likely a prompt's token was, given those before it.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptScore {
    /// Natural logarithm of its probability.
    pub logprob: f32,
    /// Its place among all tokens, likeliest first, from 1; those as likely share the best of
    /// their places.
    pub rank: u32,
    /// The likeliest tokens in its place, likeliest first.
    pub top: Vec<Scored>,
}
