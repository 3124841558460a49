//! A model in memory: one that writes or one that reads, as its file says. What can be asked of
//! both is here; what only one of them can do is asked of that one, and refused by name elsewhere.

use crate::Options;
use crate::encoder::Encoder;
use crate::fleet::Model;
use crate::local::{Arrival, Local, broken};
use ingle_model::reading::Reading;
use ingle_model::tokenizer::Tokenizer;
use ingle_protocol::{Fault, Request, Sink};
use std::path::Path;

/// A model in memory.
#[expect(missing_debug_implementations, reason = "holds threads")]
pub enum Resident {
    /// It goes on from what it is given.
    Writer(Local),
    /// It tells of what it is given.
    Reader(Encoder),
}

impl Resident {
    /// Loads a model. `progress` hears the share done, 0 to 1.
    pub fn open(
        name: &str,
        path: &Path,
        options: &Options,
        progress: &mut dyn FnMut(f32),
    ) -> Result<Self, Fault> {
        let gguf = options.open(path).map_err(|error| broken(&error))?;
        let reads = Reading::of(&gguf).map_err(|error| broken(&error))?.is_some();
        drop(gguf);
        if reads {
            return Encoder::open(name, path, options, progress).map(Self::Reader);
        }
        Local::open(name, path, options, progress).map(Self::Writer)
    }

    /// The model, if it writes.
    pub fn writer(&self) -> Result<&Local, Fault> {
        match self {
            Self::Writer(local) => Ok(local),
            Self::Reader(encoder) => Err(reads_only(encoder.name())),
        }
    }

    /// The model, if it reads.
    pub fn reader(&self) -> Result<&Encoder, Fault> {
        match self {
            Self::Reader(encoder) => Ok(encoder),
            Self::Writer(local) => Err(writes_only(&local.info().name)),
        }
    }

    /// Its tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        match self {
            Self::Writer(local) => local.tokenizer(),
            Self::Reader(encoder) => encoder.tokenizer(),
        }
    }
}

/// Refuses a model that does not write.
pub(crate) fn reads_only(name: &str) -> Fault {
    let message =
        format!("`{name}` reads texts and writes none: ask it for embeddings, scores or labels");
    Fault::caller(message).at("model")
}

/// Refuses a model that does not read.
pub(crate) fn writes_only(name: &str) -> Fault {
    let message = format!(
        "`{name}` writes texts and does not read them into vectors or labels: take a model made \
         for that, such as `minilm`"
    );
    Fault::caller(message).at("model")
}

impl Model for Resident {
    fn start(&self, request: &Request, sink: Sink, arrival: Arrival) -> Result<(), Fault> {
        self.writer()?.start(request, sink, arrival)
    }
}
