//! Where a request can go. A [`Provider`] answers requests: the local engine is one, a remote
//! server is another, and the server in front of them knows no third thing.
#![forbid(unsafe_code)]

use ingle_protocol::{Call, Fault, Request, Sink, Token};

/// A model that a provider serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelCard {
    /// The name it is asked for by.
    pub name: String,
    /// Its architecture, as its file names it.
    pub architecture: String,
    /// The longest prompt and answer together, in tokens.
    pub context_tokens: usize,
    /// Seconds since 1970 when it was loaded.
    pub created_s: u64,
    /// Whether it has a chat template.
    pub chat: bool,
}

/// Something that answers requests.
pub trait Provider: Send + Sync {
    /// What can be asked for; empty while loading.
    fn models(&self) -> Vec<ModelCard>;

    /// Starts answering. Returns at once; everything else comes through `sink`, unless the
    /// request is refused here and now. Dropping the call cancels it.
    fn send(&self, request: Request, sink: Sink) -> Result<Call, Fault>;

    /// A text's tokens; `special` reads control tokens written out in the text as such.
    fn tokenize(&self, model: &str, text: &str, special: bool) -> Result<Vec<Token>, Fault>;

    /// What tokens write; bytes that are no UTF-8 become U+FFFD.
    fn detokenize(&self, model: &str, tokens: &[Token]) -> Result<String, Fault>;

    /// Counters and gauges, as (name, help, kind, value) rows for `/metrics`.
    fn metrics(&self) -> Vec<Metric>;
}

/// One number for `/metrics`.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Prometheus name, unit included.
    pub name: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// Whether it only grows.
    pub counter: bool,
    /// Its value now.
    pub value: f64,
}
