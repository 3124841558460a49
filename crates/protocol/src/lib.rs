//! What passes between rooms: a [`Request`] goes in, [`Event`]s come out, and every answer closes
//! with a [`Receipt`]. No type here knows a socket, a JSON text or a device; the wire formats in
//! [`wire`] translate to and from them.
#![forbid(unsafe_code)]

mod adapter;
mod beams;
mod chat;
mod encode;
mod entry;
mod keep_alive;
mod origin;
mod prompt;
mod sampling;
mod weigh;
pub mod wire;

pub use adapter::{Adapter, Which};
pub use beams::{Beam, Beams};
pub use chat::{Chat, Effort, Message, Picture, Reasoning, Source, Tool, ToolCall, ToolChoice};
pub use encode::{
    Encoded, Encoding, Long, Output, Passage, Read, Reads, Tag, Vectors, Want, Written,
};
pub use entry::{Charge, Cost, End, Entry};
pub use keep_alive::{KeepAlive, NoKeepAlive};
pub use origin::{Format, Origin, Verbatim};
pub use prompt::{Gap, PromptScore, PromptToken, Truncation};
pub use sampling::{Dry, DynamicTemperature, Mirostat, Sampling, Stage, Xtc};
pub use weigh::{Weighed, Weighing};

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// One token's id in its model's vocabulary.
pub type Token = u32;

/// What a caller wants of a model, whatever protocol it was asked in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// The model's name; empty means the server's default.
    pub model: String,
    /// What the model continues.
    pub input: Input,
    /// How the next token is chosen.
    pub sampling: Sampling,
    /// Generation ends before the first of these texts; none of it is returned.
    pub stop: Vec<String>,
    /// The most tokens to generate; `None` means as many as the context still holds. None are
    /// generated where it is 0, which only a prompt to be reported may have.
    pub max_tokens: Option<u32>,
    /// `Some(k)`: report each generated token's log-probability and the `k` likeliest ones.
    pub logprobs: Option<u8>,
    /// `Some(k)`: report each prompt token's log-probability, too, and the `k` likeliest ones in
    /// its place. Its positions are all computed for it then, and nothing of it is cached.
    pub prompt_logprobs: Option<u8>,
    /// Report the ids of the prompt's tokens and of those generated.
    pub token_ids: bool,
    /// What is kept of a prompt that is too long; `None` refuses it.
    pub truncation: Option<Truncation>,
    /// Search for continuations, drawing none: [`Event::Beams`] tells of them.
    pub beams: Option<Beams>,
    /// What the answer has to match, as far as it gets: stop texts and `max_tokens` cut it short.
    /// What a model reasons before its answer is none of it.
    pub grammar: Option<Grammar>,
    /// Prefixes are shared only between requests with the same salt; empty is one more salt.
    pub cache_salt: String,
    /// The adapters that it is computed with; `None` leaves that to the server.
    pub adapters: Option<Vec<Adapter>>,
    /// Lower is computed sooner; 0 is usual.
    pub priority: i32,
    /// From its arrival, in milliseconds: then it is ended, complete or not, and it is refused at
    /// once where its first token would come later.
    pub timeout_ms: Option<u32>,
    /// How long its model is kept in memory after the answer; `None` leaves it to the server.
    pub keep_alive: Option<KeepAlive>,
    /// On whose account it is computed: a number that the server gives each of its keys. Part of
    /// no wire format.
    pub owner: u32,
    /// Whose it is, where prefixes are shared only between requests with the same one; empty where
    /// everyone shares them. It is made of a key's digest: part of no wire format, and of nothing
    /// that leaves the machine.
    pub home: String,
    /// Where it comes from, where a policy may want to know. Part of no wire format.
    pub origin: Option<Arc<Origin>>,
}

impl Request {
    /// What its prefixes are shared by: its salt, and whose it is where that counts.
    pub fn prefix_salt(&self) -> String {
        match self.home.as_str() {
            "" => self.cache_salt.clone(),
            home => format!("{home}/{}", self.cache_salt),
        }
    }
}

/// The text, tokens or conversation to be continued.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A conversation, rendered by the model's own chat template.
    Chat(Chat),
    /// Plain text, encoded as it stands (the vocabulary's BOS is added if its model asks for it).
    Text(String),
    /// Token ids, used as they stand.
    Tokens(Vec<Token>),
    /// A gap between two texts, told by the model's own tokens for it.
    Gap(Gap),
}

impl Default for Input {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

/// A language that an answer has to be in. The texts are hostile: whoever reads them bounds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grammar {
    /// A JSON schema, as a JSON text.
    JsonSchema(String),
    /// A regular expression that the whole answer matches.
    Regex(String),
    /// A Lark grammar, in llguidance's dialect.
    Lark(String),
    /// A grammar in llama.cpp's notation (GBNF).
    Gbnf(String),
    /// One of these texts.
    Choice(Vec<String>),
}

/// What happens while a request is answered. `Done` or `Failed` comes last, exactly once.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The prompt's tokens, where they or their log-probabilities were asked for: once, before
    /// anything of the answer.
    Prompt(Vec<PromptToken>),
    /// More of the answer. Never splits a UTF-8 character.
    Text(Piece),
    /// More of what the model thinks before it answers, without the marks around it.
    Reasoning(Piece),
    /// A tool is called. Calls come one after another: `Begin`, any number of `Arguments`, `End`,
    /// which a limit on the tokens may cut short; then the next `index`, from 0.
    ToolCall {
        /// Which call of this answer.
        index: u32,
        /// What of it.
        part: CallPart,
    },
    /// The continuations that a search found, best first, in the place of everything else but the
    /// end.
    Beams(Vec<Beam>),
    /// Another server's answer in the caller's own format, for its writer to hand on: the data of
    /// one event of a stream, or all of a whole answer's body. Where these come, nothing else does
    /// but the end.
    Passed(String),
    /// The answer is complete.
    Done(Box<Receipt>),
    /// There is no (further) answer.
    Failed(Fault),
}

/// A part of a tool call, in the order in which they come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallPart {
    /// Which tool.
    Begin {
        /// The call's id, to be sent back with its result.
        id: String,
        /// The tool's name.
        name: String,
    },
    /// More of the arguments' JSON text.
    Arguments(String),
    /// The arguments are complete: one JSON object.
    End,
}

/// A piece of the answer's text and the tokens that end within it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Piece {
    /// May be empty, when a token only begins a character.
    pub text: String,
    /// One entry a generated token, when log-probabilities were asked for.
    pub scores: Vec<TokenScore>,
    /// One entry a generated token, when their ids were asked for.
    pub tokens: Vec<Token>,
}

impl Piece {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty() && self.scores.is_empty() && self.tokens.is_empty()
    }
}

/// A generated token and how likely it was.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenScore {
    /// The token that was chosen.
    pub chosen: Scored,
    /// The likeliest tokens at its position, likeliest first.
    pub top: Vec<Scored>,
}

/// A token, its bytes and its natural log-probability under the model, before any sampling rule and
/// whatever a grammar allows: a token that was forced may be an unlikely one.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// The token's id.
    pub token: Token,
    /// What the token writes; not always whole UTF-8 characters.
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability.
    pub logprob: f32,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it, or a stop text was met.
    Stop,
    /// `max_tokens` or the context was used up.
    Length,
    /// The caller went away.
    Cancelled,
    /// It called tools, and waits for what they say.
    ToolCalls,
}

/// Token counts of one answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the rendered prompt.
    pub prompt_tokens: u32,
    /// Those of them whose KV was found in the prefix cache.
    pub cached_tokens: u32,
    /// Those of them that a provider put into its cache, where it counts them by themselves, since
    /// they have a price of their own.
    pub written_tokens: u32,
    /// Tokens generated, the ending one not counted.
    pub completion_tokens: u32,
    /// Those of them that the model reasoned with before its answer, the marks around it counted.
    pub reasoning_tokens: u32,
    /// Those of them that were guessed beforehand, so that they took no step of their own.
    pub accepted_tokens: u32,
    /// Tokens that were guessed and did not come.
    pub rejected_tokens: u32,
}

impl Usage {
    /// Prompt and answer together: what limits and budgets of tokens count.
    pub fn total(&self) -> u64 {
        u64::from(self.prompt_tokens) + u64::from(self.completion_tokens)
    }
}

/// Where the time of one answer went.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timings {
    /// What it waited for its model to be in memory: for others to make room, and for loading. Part
    /// of all times below; zero where the model was there.
    pub load: Duration,
    /// From arrival to the first computed token's start.
    pub queued: Duration,
    /// From arrival to the first generated token (TTFT).
    pub first_token: Duration,
    /// From arrival to the end.
    pub total: Duration,
}

impl Timings {
    /// Tokens generated after the first, per second; `None` where fewer than two were generated.
    pub fn decode_tokens_per_second(&self, usage: &Usage) -> Option<f64> {
        let seconds = self.total.saturating_sub(self.first_token).as_secs_f64();
        (usage.completion_tokens > 1 && seconds > 0.0)
            .then(|| f64::from(usage.completion_tokens - 1) / seconds)
    }
}

/// What an answer took and where its data went.
#[derive(Clone, Debug, PartialEq)]
pub struct Receipt {
    /// The model that answered.
    pub model: String,
    /// Candidates considered, in order, the chosen one last.
    pub route: Vec<Step>,
    /// Whether any of the request's data left this machine.
    pub left_machine: bool,
    /// Money spent, in millionths of a US dollar.
    pub cost_micros: u64,
    /// Why the answer ended.
    pub finish: Finish,
    /// The stop text that ended it, if one did.
    pub stop: Option<String>,
    /// What the caller should know of the answer: that it was cut short inside of a value, that a
    /// call was repaired.
    pub notes: Vec<String>,
    /// Token counts.
    pub usage: Usage,
    /// Where the time went.
    pub timings: Timings,
}

impl Receipt {
    /// One receipt for what was computed one after another and generated nothing; `None` where
    /// nothing was.
    pub fn total<'a>(mut all: impl Iterator<Item = &'a Self>) -> Option<Self> {
        let mut total = all.next()?.clone();
        for Self { usage, timings, .. } in all {
            total.usage.prompt_tokens += usage.prompt_tokens;
            total.usage.cached_tokens += usage.cached_tokens;
            total.usage.written_tokens += usage.written_tokens;
            total.timings.load += timings.load;
            total.timings.total += timings.total;
        }
        Some(total)
    }
}

/// One candidate of a route and what was decided about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The provider or model.
    pub candidate: String,
    /// Whether it was taken.
    pub taken: bool,
    /// Why, or why not.
    pub reason: String,
}

/// Who must change something so that it works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The request is wrong.
    Caller,
    /// A remote provider failed.
    Provider,
    /// Ingle or its machine failed.
    Us,
    /// Nobody failed: the policy lets nobody answer this.
    Policy,
    /// Nobody failed: what may be spent is spent.
    Budget,
}

/// Whether it is worth trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The same request will fail again.
    Never,
    /// Another provider may serve it.
    Elsewhere,
    /// The same request may be served after this long.
    After(Duration),
    /// What it needs is not there yet; it may be after this long.
    WhenReady(Duration),
}

/// A request that was not served, decided where it is known and rendered once at the edge.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// Who must change something.
    pub blame: Blame,
    /// Whether it is worth trying again.
    pub retry: Retry,
    /// The request's field that is at fault, in the caller's own protocol's spelling if known.
    pub param: Option<String>,
    /// What went wrong and what to do next.
    pub message: String,
}

impl Fault {
    /// The request is wrong and will stay so.
    pub fn caller(message: impl Into<String>) -> Self {
        Self { blame: Blame::Caller, retry: Retry::Never, param: None, message: message.into() }
    }

    /// We failed, and would again.
    pub fn ours(message: impl Into<String>) -> Self {
        Self { blame: Blame::Us, retry: Retry::Elsewhere, param: None, message: message.into() }
    }

    /// We are full; the same request may be served later.
    pub fn busy(after: Duration, message: impl Into<String>) -> Self {
        Self { blame: Blame::Us, retry: Retry::After(after), param: None, message: message.into() }
    }

    /// We are not ready; the same request may be served later.
    pub fn not_ready(after: Duration, message: impl Into<String>) -> Self {
        Self { retry: Retry::WhenReady(after), ..Self::ours(message) }
    }

    /// The caller's time is too short, or was; with less to do here it may suffice.
    pub fn late(after: Duration, message: impl Into<String>) -> Self {
        Self { blame: Blame::Caller, ..Self::busy(after, message) }
    }

    /// The same fault, naming the field that caused it.
    #[must_use]
    pub fn at(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }
}

/// Receives a request's events, on the thread that makes them: it must not block. `Break` says
/// that the caller went away.
pub type Sink = Box<dyn FnMut(Event) -> ControlFlow<()> + Send>;

/// A request under way. Dropping it cancels the request; its sink still gets what was on its way,
/// and the end.
pub struct Call {
    cancelled: Arc<AtomicBool>,
    tell: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl Call {
    /// A call and the flag by which its maker learns that it was dropped.
    pub fn new() -> (Self, Arc<AtomicBool>) {
        let cancelled = Arc::new(AtomicBool::new(false));
        (Self { cancelled: Arc::clone(&cancelled), tell: None }, cancelled)
    }

    /// [`Call::new`], for a maker that waits rather than looks: it is told when the call is
    /// dropped, on the thread that drops it.
    pub fn telling(tell: impl FnOnce() + Send + Sync + 'static) -> (Self, Arc<AtomicBool>) {
        let (mut call, cancelled) = Self::new();
        call.tell = Some(Box::new(tell));
        (call, cancelled)
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("cancelled", &self.cancelled).finish_non_exhaustive()
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Release);
        if let Some(tell) = self.tell.take() {
            tell();
        }
    }
}
