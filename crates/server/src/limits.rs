//! A key's limits, requests and tokens a minute, as its requests meet them.
//!
//! The rule: each request takes 1 of the requests. An answer takes tokens when it is admitted: its
//! prompts, by a guess of a token for every four bytes, and for each choice `max_tokens`, or where
//! that is not given [`USUAL_TOKENS`] or what the context holds; never more than a minute's worth,
//! so that nothing is refused for ever. At its end, whichever it is, it is settled: prompts and
//! answers as they were, what is missing owed and what is left given back. Of an answer that is
//! broken off, the prompt counts by the guess and each piece that was sent as a token; one that
//! the engine refused counts nothing. Texts that are read count as prompts do, with no answer.
//!
//! Where a key's limits cannot be looked up, its requests are refused.

use std::num::NonZeroU32;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use ingle_gateway::budget;
use ingle_protocol::wire::{Ask, Dialect, Kind, rfc3339};
use ingle_protocol::{Chat, Encoding, Fault, Input, Tool, Written};

use crate::keys::Owner;
use crate::meter::Of;
use crate::refusal::Refusal;
use crate::tally::Tally;

/// What a choice is expected to take at most where its request does not say.
const USUAL_TOKENS: u64 = 1024;
/// Bytes of a text that make a token, about, and tokens of a turn beside its text.
const TOKEN_BYTES: usize = 4;
const TURN_TOKENS: u64 = 4;

/// Tokens that were taken at an answer's beginning; settled when dropped.
#[derive(Debug)]
pub(crate) struct Reserved {
    owner: Owner,
    taken: u64,
    /// What was used, as far as that is known.
    pub(crate) used: u64,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some(per_minute) = self.owner.key().and_then(|key| key.tokens_per_minute) {
            self.owner.meter().settle(Of::Tokens, self.taken, self.used, per_minute);
        }
    }
}

impl Owner {
    /// One more request, if there may be one now.
    pub(crate) fn take_request(&self) -> Result<(), Refusal> {
        let Some(per_minute) = self.key().and_then(|key| key.requests_per_minute) else {
            return Ok(());
        };
        self.take(Of::Requests, 1, per_minute, || format!("made {per_minute} requests a minute"))
    }

    /// Takes so many, or says what there was of them.
    fn take(
        &self,
        of: Of,
        count: u64,
        per_minute: NonZeroU32,
        what: impl FnOnce() -> String,
    ) -> Result<(), Refusal> {
        match self.meter().take(of, count, per_minute) {
            Ok(None) => Ok(()),
            Ok(Some(wait)) => Err(refusal(wait, &what())),
            Err(error) => Err(unknown(&error)),
        }
    }

    /// Takes the tokens that an answer may need.
    pub(crate) fn reserve(&self, asked: &dyn Ask, context: usize) -> Result<Reserved, Refusal> {
        self.take_tokens(|| needed(asked, context))
    }

    /// Takes the tokens that reading texts may need: as many as there are, by the guess.
    pub(crate) fn reserve_texts(&self, encodings: &[Encoding]) -> Result<Reserved, Refusal> {
        self.take_tokens(|| texts(encodings))
    }

    fn take_tokens(&self, needed: impl FnOnce() -> u64) -> Result<Reserved, Refusal> {
        let mut taken = 0;
        if let Some(per_minute) = self.key().and_then(|key| key.tokens_per_minute) {
            taken = needed();
            self.take(Of::Tokens, taken, per_minute, || {
                format!("used its {per_minute} tokens a minute, and this takes {taken}")
            })?;
        }
        Ok(Reserved { owner: self.clone(), taken, used: 0 })
    }

    /// Tells where its key stands, in the words of a protocol.
    pub(crate) fn tell(&self, dialect: Dialect, headers: &mut HeaderMap) {
        let Some(key) = self.key() else { return };
        let names = if dialect == Dialect::Anthropic { &ANTHROPIC } else { &OPENAI };
        let rows = [(key.requests_per_minute, Of::Requests), (key.tokens_per_minute, Of::Tokens)];
        for (names, (limit, of)) in names.iter().zip(rows) {
            let Some(limit) = limit else { continue };
            let full_in = self.meter().full_in(of);
            for (name, value) in names.iter().zip(values(dialect, full_in, limit)) {
                if let Ok(value) = HeaderValue::from_str(&value) {
                    headers.insert(HeaderName::from_static(name), value);
                }
            }
        }
    }
}

fn refusal(wait: Duration, what: &str) -> Refusal {
    let wait_s = wait.as_secs_f64().ceil().max(1.0);
    let message = format!("this key has {what}: try again in {wait_s} s");
    Refusal::of(Kind::Limit, Fault::busy(wait, message))
}

/// How soon what could not be looked up may be tried again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Why the place that keeps limits says nothing is for its operator alone.
fn unknown(error: &budget::Refusal) -> Refusal {
    tracing::warn!(%error, "a key's limits cannot be looked up, and its request is refused");
    let message = "what this key has used in this minute cannot be looked up now, so nothing is \
                   begun: try again soon; whoever runs this server finds why in its log";
    Fault::not_ready(LOOK_AGAIN, message).into()
}

/// Limit, what is left of it, and when all of it is there again: of requests, of tokens.
const OPENAI: [[&str; 3]; 2] = [
    ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"],
    ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"],
];
const ANTHROPIC: [[&str; 3]; 2] = [
    [
        "anthropic-ratelimit-requests-limit",
        "anthropic-ratelimit-requests-remaining",
        "anthropic-ratelimit-requests-reset",
    ],
    [
        "anthropic-ratelimit-tokens-limit",
        "anthropic-ratelimit-tokens-remaining",
        "anthropic-ratelimit-tokens-reset",
    ],
];

fn values(dialect: Dialect, full_in: Duration, limit: NonZeroU32) -> [String; 3] {
    let reset = match dialect {
        Dialect::Anthropic => {
            let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + full_in;
            rfc3339(at.as_secs_f64().ceil() as u64)
        }
        _ if full_in < Duration::from_secs(1) => format!("{}ms", full_in.as_millis()),
        _ => format!("{}s", full_in.as_secs_f64().ceil()),
    };
    [limit.to_string(), budget::left(full_in, limit).to_string(), reset]
}

/// Tokens that an answer may need: by the rule above.
fn needed(asked: &dyn Ask, context: usize) -> u64 {
    let choice = |most: Option<u32>| {
        let usual = USUAL_TOKENS.min(context as u64);
        most.map_or(usual, |most| u64::from(most).min(context as u64))
    };
    let requests = asked.requests().iter();
    let each = requests.map(|request| {
        guess(&request.input) + choice(request.max_tokens) * u64::from(asked.choices())
    });
    each.fold(0, u64::saturating_add)
}

/// What an answer takes is told by its tally, which guesses prompts as this does.
pub(crate) fn tally(asked: &dyn Ask) -> Tally {
    let guesses = asked.requests().iter().map(|request| guess(&request.input)).collect();
    Tally::new(guesses, asked.choices() as usize)
}

/// About how many tokens texts have that are to be read.
pub(crate) fn texts(encodings: &[Encoding]) -> u64 {
    let written = |written: &Written| match written {
        Written::Text(text) => tokens_of(text.len()),
        Written::Tokens(tokens) => tokens.len() as u64,
    };
    let inputs = encodings.iter().flat_map(|encoding| &encoding.inputs);
    inputs.map(|input| written(&input.text) + input.pair.as_ref().map_or(0, written)).sum()
}

/// About how many tokens a prompt has.
fn guess(input: &Input) -> u64 {
    match input {
        Input::Tokens(tokens) => tokens.len() as u64,
        Input::Text(text) => tokens_of(text.len()),
        Input::Gap(gap) => tokens_of(gap.prefix.len() + gap.suffix.len() + gap.begun.len()),
        Input::Chat(chat) => guess_chat(chat),
    }
}

fn guess_chat(chat: &Chat) -> u64 {
    let turns = chat.messages.iter().map(|turn| {
        let calls = turn.tool_calls.iter().map(|call| call.name.len() + call.arguments.len());
        let bytes = turn.content.len() + turn.reasoning.as_ref().map_or(0, String::len);
        tokens_of(bytes + calls.sum::<usize>()) + TURN_TOKENS
    });
    let tools = chat.offered().iter().map(bytes_of);
    turns.sum::<u64>() + tokens_of(tools.sum())
}

fn tokens_of(bytes: usize) -> u64 {
    bytes.div_ceil(TOKEN_BYTES) as u64
}

fn bytes_of(tool: &Tool) -> usize {
    let description = tool.description.as_ref().map_or(0, String::len);
    tool.name.len() + description + tool.parameters.len()
}
