//! The loop that turns many requests into steps of one model. [`Core`] is the loop itself:
//! synchronous, one thread, no locks; [`Local`] gives it a thread of its own, a tokenizer and a
//! chat template, so that requests come in as text and go out as text.
//!
//! Decide (scheduler), compute (backend), record (sampling): there is no other state. Nothing
//! here knows a socket, an async runtime or a JSON text.
#![forbid(unsafe_code)]

mod beams;
mod core;
mod draft;
mod encoder;
mod fleet;
mod footprint;
pub mod grammar;
mod hear;
mod local;
mod memory;
mod pace;
mod prefix;
mod prompts;
mod residency;
mod resident;
pub mod sampling;
mod score;
pub mod stop;
mod times;
mod told;

pub use crate::core::{Adapted, Core, Ending, Held, Job, Reply, Stats, Watch};
pub use encoder::{Encoder, Totals};
pub use fleet::{Bounds, Fleet, Load, Model, Stage, Status, Unloaded};
pub use footprint::Footprint;
pub use ingle_scheduler::Rank;
pub use local::{AdapterFile, Arrival, Info, Local};
pub use resident::Resident;
pub use score::{Case, Gold, Report, Scored};

use ingle_backend::KvType;
use ingle_backend::cpu::kernels::Kernels;
use ingle_backend::cpu::pool;
use ingle_model::gguf::Gguf;
use ingle_model::quantize::{self, Recipe};
use std::path::{Path, PathBuf};

/// Where tokens come from that a step tries beyond the last one. Answers are the same, bit for bit,
/// whatever is tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speculation {
    /// Nothing is tried.
    None,
    /// What followed the last tokens where they occurred earlier in prompt or answer.
    #[default]
    Lookup,
    /// Where that tells nothing, what the second model of [`Options::draft`] guesses, as long as it
    /// saves time.
    Draft,
}

/// Where cached prefixes are kept beyond the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefixDisk {
    /// A directory, made if it is not there. It holds prompts, and may be deleted at any time.
    pub folder: PathBuf,
    /// The most bytes of all files in it.
    pub bytes_most: u64,
}

/// How a model is run. Everything that is bounded is bounded here.
#[derive(Clone, Debug)]
pub struct Options {
    /// Threads that compute; `None` takes as many as the machine allows this process.
    pub threads: Option<usize>,
    /// The row of the kernel table; `None` takes the best one that runs here.
    pub kernels: Option<&'static Kernels>,
    /// How keys and values are kept; `None` takes the kernel row's own type: halves, or floats as
    /// they are for the reference.
    pub kv_type: Option<KvType>,
    /// The longest prompt and answer together, in tokens; `None` takes the model's own limit, or
    /// what the KV cache holds if that is less.
    pub context: Option<usize>,
    /// Bytes of the KV cache; `None` takes a quarter of the free memory, at most 2 GiB.
    pub kv_bytes: Option<usize>,
    /// The most tokens computed in one step.
    pub step_tokens: usize,
    /// The most tokens of prompts computed in a step with running answers; `None` takes what was
    /// learned to take as long as the answers' own part of a step for each prompt that is due, and
    /// four times as long at most.
    pub prefill_tokens: Option<usize>,
    /// The most requests in one step.
    pub running: usize,
    /// The most requests that wait for others.
    pub waiting: usize,
    /// Whether requests of one salt share the KV blocks of equal prefixes.
    pub prefix_cache: bool,
    /// Where cached prefixes are kept on disk, too.
    pub prefix_disk: Option<PrefixDisk>,
    /// Hears what is wrong and yet no reason to stop. Called on any thread.
    pub warn: fn(&str),
    /// What a step tries beyond the last token.
    pub speculation: Speculation,
    /// The file of a smaller model of the same vocabulary, which guesses for this one. It shares
    /// the threads, and its keys and values take an eighth of `kv_bytes` at most. With
    /// [`Speculation::Draft`], and only then.
    pub draft: Option<PathBuf>,
    /// What is loaded beside the model for requests to name.
    pub adapters: Vec<AdapterFile>,
    /// How weights that are not yet quantised are, while they load; `None` leaves them as they are.
    /// Not for the file that guesses.
    pub quantize: Option<&'static Recipe>,
    /// Whether a step takes all the tokens at once that a grammar leaves no choice about. Answers
    /// are the same, bit for bit.
    pub fast_forward: bool,
}

impl Options {
    /// The row of the kernel table that is taken.
    pub fn kernels(&self) -> &'static Kernels {
        self.kernels.unwrap_or_else(Kernels::best)
    }

    /// Opens a model file or directory, to be quantised while it loads if that is asked for.
    ///
    /// # Errors
    /// Whatever is wrong with it.
    pub fn open(&self, path: &Path) -> Result<Gguf, ingle_model::Error> {
        let gguf = Gguf::open(path)?;
        match self.quantize {
            Some(recipe) => {
                let threads = self.threads.unwrap_or_else(pool::cores);
                quantize::while_loading(gguf, recipe, threads)
            }
            None => Ok(gguf),
        }
    }

    /// How keys and values are kept.
    pub fn kv_type(&self) -> KvType {
        self.kv_type.unwrap_or(self.kernels().kv)
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            threads: None,
            kernels: None,
            kv_type: None,
            context: None,
            kv_bytes: None,
            step_tokens: 512,
            prefill_tokens: None,
            running: 16,
            waiting: 256,
            prefix_cache: true,
            prefix_disk: None,
            warn: |_| {},
            speculation: Speculation::default(),
            draft: None,
            adapters: Vec::new(),
            quantize: None,
            fast_forward: true,
        }
    }
}
