//! What is told of a prompt: its tokens and, where asked for, how likely each was where it stands.
//! Rows of logits are made into that as they come. Absent: what is told of an answer.

use crate::sampling::{log_softmax_at, rank_of, top_logprobs};
use ingle_model::tokenizer::Tokenizer;
use ingle_protocol::{Event, Fault, PromptScore, PromptToken, Request, Scored, Token};

/// The most log-probabilities of one prompt: some 50 MB of an answer.
const SCORES_MOST: usize = 1 << 19;

/// A prompt that is to be told of.
pub(crate) struct Telling {
    tokenizer: Tokenizer,
    prompt: Vec<Token>,
    /// So many of the likeliest tokens at each place; nothing where no scores are wanted.
    top: Option<usize>,
    told: Vec<PromptToken>,
}

impl Telling {
    /// Of this prompt, as the request wants it; `None` where it does not.
    pub(crate) fn of(
        request: &Request,
        prompt: &[Token],
        tokenizer: &Tokenizer,
    ) -> Result<Option<Self>, Fault> {
        let top = request.prompt_logprobs.map(usize::from);
        if top.is_none() && !request.token_ids {
            return Ok(None);
        }
        let scores = prompt.len().saturating_mul(top.map_or(0, |top| top + 1));
        if scores > SCORES_MOST {
            let message = format!(
                "log-probabilities of {} prompt tokens, {} each, are more than the {SCORES_MOST} \
                 that one answer holds: ask for fewer of the likeliest, or in parts",
                prompt.len(),
                top.unwrap_or(0) + 1
            );
            return Err(Fault::caller(message).at("prompt_logprobs"));
        }
        let (tokenizer, prompt) = (tokenizer.clone(), prompt.to_vec());
        Ok(Some(Self { tokenizer, prompt, top, told: Vec::new() }))
    }

    /// Whether every position's logits are wanted.
    pub(crate) fn scores(&self) -> bool {
        self.top.is_some()
    }

    /// The first of the tokens are being computed. What is told, if nothing more is wanted.
    pub(crate) fn started(&mut self) -> Option<Event> {
        let known = if self.scores() { 1 } else { self.prompt.len() };
        for &token in &self.prompt[self.told.len().min(known)..known] {
            let bytes = self.bytes(token);
            self.told.push(PromptToken { token, bytes, score: None });
        }
        self.complete()
    }

    /// The logits before a token of the sequence; those that are computed again tell nothing new.
    pub(crate) fn logits(&mut self, position: usize, logits: &[f32]) -> Option<Event> {
        let (Some(top), Some(&token)) = (self.top, self.prompt.get(position)) else { return None };
        if position != self.told.len() {
            return None;
        }
        let scored = |(token, logprob)| Scored { token, bytes: self.bytes(token), logprob };
        let (logprob, top) = match top {
            0 => (log_softmax_at(logits, token), Vec::new()),
            _ => top_logprobs(logits, token, top),
        };
        let top = top.into_iter().map(scored).collect();
        let score = Some(PromptScore { logprob, rank: rank_of(logits, token), top });
        let bytes = self.bytes(token);
        self.told.push(PromptToken { token, bytes, score });
        self.complete()
    }

    fn complete(&mut self) -> Option<Event> {
        (self.told.len() == self.prompt.len()).then(|| {
            // Nothing comes after it: no position is this one's.
            self.prompt.clear();
            Event::Prompt(std::mem::take(&mut self.told))
        })
    }

    fn bytes(&self, token: Token) -> Vec<u8> {
        self.tokenizer.bytes_with_markup(token).unwrap_or_default().to_vec()
    }
}
