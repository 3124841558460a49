//! Beam search: several continuations are followed side by side, those that are likeliest as a
//! whole, and nothing is drawn. Absent: the search.

use crate::{Fault, Finish, Input, Request, Sampling, Token};

/// The most continuations of one search.
const WIDTH_MAX: u8 = 16;

/// How continuations are searched for. The rules are vLLM's: a continuation's score is the sum of
/// its tokens' log-probabilities over `length ^ length_penalty`, the prompt's tokens counted in the
/// length and the ending one not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Beams {
    /// How many are followed, 1 to 16; as many are told of.
    pub width: u8,
    /// Above 0 longer ones are preferred; 1 is usual.
    pub length_penalty: f32,
    /// End as soon as so many continuations have ended, rather than when no other can be better.
    pub early_stopping: bool,
}

/// A continuation that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Beam {
    /// What it writes.
    pub text: String,
    /// Its tokens, the ending one not counted.
    pub tokens: Vec<Token>,
    /// Whether the model ended it.
    pub finish: Finish,
    /// The sum of its tokens' natural log-probabilities, the ending one counted.
    pub logprob: f64,
}

impl Beams {
    /// Checks that a request asks for nothing that a search has no place for.
    ///
    /// # Errors
    /// A fault of the caller's that names the field, as OpenAI's format spells it.
    pub fn check(&self, request: &Request) -> Result<(), Fault> {
        let Sampling { temperature, seed, ignore_eos, .. } = request.sampling;
        let plain = Sampling { temperature, seed, ignore_eos, ..Sampling::default() };
        let tools = matches!(&request.input, Input::Chat(chat) if !chat.offered().is_empty());
        let misfits = [
            (!(1..=WIDTH_MAX).contains(&self.width), "n", "is more than 16, or none"),
            (!(-10.0..=10.0).contains(&self.length_penalty), "length_penalty", "is not in -10..10"),
            (![0.0, 1.0].contains(&temperature), "temperature", "has no effect: leave it out"),
            (request.sampling != plain, "use_beam_search", "goes without rules of sampling"),
            (!request.stop.is_empty(), "stop", "cannot be had with beam search"),
            (request.grammar.is_some(), "response_format", "cannot be had with beam search"),
            (tools, "tools", "cannot be had with beam search"),
            (request.logprobs.is_some(), "logprobs", "cannot be had with beam search"),
            (
                request.prompt_logprobs.is_some(),
                "prompt_logprobs",
                "cannot be had with beam search",
            ),
            (request.max_tokens == Some(0), "max_tokens", "must be at least 1"),
        ];
        match misfits.into_iter().find(|misfit| misfit.0) {
            Some((_, name, why)) => Err(Fault::caller(format!("'{name}' {why}")).at(name)),
            None => Ok(()),
        }
    }
}
