//! Where a request can go. A [`Provider`] answers requests: the local engine is one, a remote
//! server is another, and the server in front of them knows no third thing.
#![forbid(unsafe_code)]

pub mod budget;
pub mod policy;
pub mod prices;
pub mod privacy;
pub mod remote;
pub mod route;

use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ingle_protocol::{
    Adapter, Call, Chat, Encoded, Encoding, Fault, KeepAlive, Reads, Request, Sink, Token, Weighed,
    Weighing,
};

/// A model that a provider serves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelCard {
    /// The name it is asked for by.
    pub name: String,
    /// Its architecture, as its file names it; empty where that was not read yet.
    pub architecture: String,
    /// The longest prompt and answer together, in tokens; 0 where that is not known yet.
    pub context_tokens: usize,
    /// Seconds since 1970 when the provider took it in.
    pub created_s: u64,
    /// Whether it has a chat template.
    pub chat: bool,
    /// What it tells of texts, where it reads and does not write.
    pub reads: Option<Reads>,
    /// Where it stands.
    pub standing: Standing,
    /// The share done of what is under way, 0 to 1.
    pub progress: Option<f32>,
    /// Memory that it takes when loaded; 0 where that is not known yet.
    pub memory_bytes: u64,
    /// Requests that it answers or that wait for it.
    pub requests: usize,
    /// Why it failed, and what to do.
    pub error: Option<String>,
    /// Its file's size in bytes; 0 where that is not known.
    pub size_bytes: u64,
    /// Its file's SHA-256, in hexadecimal; empty where that is not known.
    pub sha256: String,
    /// The model that it is an adapter of, if it is one.
    pub parent: Option<String>,
    /// The most events of an answer, where they are not bounded by its tokens, as of models
    /// elsewhere; 0 for one of this machine alone.
    pub events: usize,
}

/// An adapter of a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AdapterCard {
    /// The name it is asked for by.
    pub name: String,
    /// Its file's or folder's name, without what is before it.
    pub file: String,
    /// How much of it requests get that say nothing of it.
    pub scale: f32,
}

/// What a model's file says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sheet {
    /// Its chat template; empty where it has none.
    pub template: String,
    /// Names and values, these as JSON texts.
    pub metadata: Vec<(String, String)>,
    /// Whether its template knows tools.
    pub tools: bool,
    /// Whether its template knows of thinking.
    pub thinking: bool,
}

/// Told how far a fetch is: what is being done, bytes done and bytes in all where they are known.
/// `Break` ends it.
pub type Tell<'a> = &'a mut dyn FnMut(&str, Option<u64>, Option<u64>) -> ControlFlow<()>;

/// Where a model stands. All but one that is being fetched can be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// On disk; a request loads it.
    #[default]
    Unloaded,
    /// On its way to the disk.
    Fetching,
    /// On its way to memory; requests wait for it.
    Loading,
    /// In memory.
    Ready,
    /// It could not be had the last time.
    Failed,
}

impl Standing {
    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unloaded => "unloaded",
            Self::Fetching => "fetching",
            Self::Loading => "loading",
            Self::Ready => "ready",
            Self::Failed => "failed",
        }
    }
}

/// What a provider wants to know of requests beside what they ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Names of headers, in lower case.
    pub headers: Vec<String>,
    /// Their own bytes.
    pub verbatim: bool,
}

/// Something that answers requests.
pub trait Provider: Send + Sync {
    /// What it wants to know of requests beside what they ask. Returns at once.
    fn wanted(&self) -> Wanted {
        Wanted::default()
    }

    /// What can be asked for, the default first. Returns at once.
    fn models(&self) -> Vec<ModelCard>;

    /// The model of that name, the default where it is empty; its context is known then. May read
    /// a file.
    fn find(&self, name: &str) -> Result<Option<ModelCard>, Fault> {
        Ok(self.models().into_iter().find(|card| name.is_empty() || card.name == name))
    }

    /// What [`Provider::find`] would say, where that takes no file: the model, or that there is
    /// none of that name. `None` where it has to be asked. Returns at once.
    fn known(&self, _name: &str) -> Option<Option<ModelCard>> {
        None
    }

    /// Whether [`Provider::send`] may keep its thread for a while with this request to a model that
    /// was found: to encode a prompt, to look through a long text, to wait for a database. Returns
    /// at once.
    fn lingers(&self, _model: &str, _request: &Request) -> bool {
        true
    }

    /// Begins to load a model that was found, if it is not in memory, to be kept for so long once
    /// nobody asks it anything; `None` leaves that to the provider. Returns at once;
    /// [`Provider::models`] tells how far it is.
    fn load(&self, model: &str, keep: Option<KeepAlive>) -> Result<(), Fault>;

    /// Unloads a model that was found as soon as nobody uses it; who asks meanwhile waits until it
    /// is loaded afresh. Returns at once.
    fn unload(&self, model: &str) -> Result<(), Fault>;

    /// What the file of a model that was found says of it. May read a file.
    fn sheet(&self, model: &str) -> Result<Sheet, Fault>;

    /// Takes a model in, by a reference that names where it comes from, and serves it. Waits until
    /// it is here.
    fn fetch(&self, reference: &str, tell: Tell<'_>) -> Result<(), Fault>;

    /// Unloads a model that was found, and deletes its file.
    fn remove(&self, model: &str) -> Result<(), Fault>;

    /// The adapters of a model that was found, in the order of their numbers.
    fn adapters(&self, _model: &str) -> Vec<AdapterCard> {
        Vec::new()
    }

    /// Loads an adapter of a model that was found, from a path on this machine. Waits until
    /// requests can name it.
    fn load_adapter(&self, model: &str, _name: &str, _path: &Path) -> Result<(), Fault> {
        Err(Fault::caller(format!("`{model}` takes no adapters")).at("lora_name"))
    }

    /// Unloads an adapter that was found; answers under way go on with it.
    fn unload_adapter(&self, name: &str) -> Result<(), Fault> {
        Err(Fault::caller(format!("`{name}` is no adapter")).at("lora_name"))
    }

    /// Says how much of which adapters a model's requests get that say nothing of it.
    fn scale_adapters(&self, model: &str, scales: &[Adapter]) -> Result<(), Fault> {
        match scales {
            [] => Ok(()),
            _ => Err(Fault::caller(format!("`{model}` has no adapters")).at("lora")),
        }
    }

    /// Starts answering. Returns as soon as it has begun; everything else comes through `sink`,
    /// unless the request is refused here and now. Dropping the call cancels it.
    fn send(&self, request: Request, sink: Sink) -> Result<Call, Fault>;

    /// Weighs texts as what follows a request's input. Waits where the model has to be loaded, and
    /// until all are weighed; the flag ends it early.
    fn weigh(&self, weighing: &Weighing, cancelled: Arc<AtomicBool>) -> Result<Weighed, Fault>;

    /// Reads texts with a model that understands rather than writes. Waits where the model has to
    /// be loaded, and until all are read; the flag ends it early.
    fn encode(&self, encoding: &Encoding, cancelled: Arc<AtomicBool>) -> Result<Encoded, Fault>;

    /// A conversation as the model's chat template writes it: what is computed of it are the tokens
    /// of this text, control tokens read as such. Waits where the model has to be loaded.
    fn render(&self, model: &str, chat: &Chat) -> Result<String, Fault>;

    /// A text's tokens; `special` reads control tokens written out in the text as such. Waits
    /// where the model has to be loaded.
    fn tokenize(&self, model: &str, text: &str, special: bool) -> Result<Vec<Token>, Fault>;

    /// What tokens write; bytes that are no UTF-8 become U+FFFD. Waits where the model has to be
    /// loaded.
    fn detokenize(&self, model: &str, tokens: &[Token]) -> Result<String, Fault>;

    /// Counters and gauges for `/metrics`; those of one name stand side by side.
    fn metrics(&self) -> Vec<Metric>;
}

/// Headers that go to a provider, as they are shown: their names alone, since a value may be a key.
struct Names<'a>(&'a [(String, String)]);

impl fmt::Debug for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
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
    /// Of which model, where it is one's.
    pub model: Option<String>,
    /// Its value now.
    pub value: f64,
}
