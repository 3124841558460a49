//! A loaded model's adapters by name: read on the caller's thread, taken in by the engine's between
//! two steps, dropped when nobody has named them any more and the last answer with them has ended.

use super::{Command, Local};
use crate::core::{Adapted, Held};
use ingle_backend::Delta;
use ingle_model::lora::Lora;
use ingle_protocol::{Adapter, Fault, Which};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, MutexGuard, PoisonError};

/// The most adapters of a model.
const MOST: usize = 256;
/// The most that one answer is computed with.
const TOGETHER: usize = 8;
/// The largest scale.
const SCALE_MAX: f32 = 1000.0;

/// An adapter to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterFile {
    /// What requests call it.
    pub name: String,
    /// A directory as PEFT saves it, or a GGUF file as llama.cpp converts it.
    pub path: PathBuf,
}

/// That an adapter's file is of no use, which its name belongs to.
pub(crate) fn unusable(name: &str, error: &ingle_model::Error) -> Fault {
    Fault::ours(format!("the adapter `{name}`: {error}"))
}

/// One that is loaded.
pub(super) type Named = (String, Arc<Held>);

/// One on its way to the engine's thread.
pub(super) struct Coming {
    deltas: Vec<Delta>,
    digest: String,
    done: SyncSender<Result<Arc<Held>, Fault>>,
}

impl Coming {
    /// Takes it in; whoever waits for it may be gone.
    pub(super) fn take_in(self, core: &mut crate::Core) {
        let _ = self.done.send(core.adapt(&self.deltas, &self.digest));
    }
}

impl Local {
    fn named(&self) -> MutexGuard<'_, Vec<Named>> {
        self.adapters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The names of its adapters, in the order in which they were loaded.
    pub fn adapters(&self) -> Vec<String> {
        self.named().iter().map(|(name, _)| name.clone()).collect()
    }

    /// Loads an adapter; requests may name it from then on. Waits for the step under way.
    ///
    /// # Errors
    /// A fault that says why the file cannot be used, or that the name is taken.
    pub fn adapt(&self, name: &str, path: &Path) -> Result<(), Fault> {
        let wrong = |error| unusable(name, &error);
        let lora = Lora::open(path).map_err(wrong)?;
        let deltas = lora.deltas(&self.targets).map_err(wrong)?;
        let (done, outcome) = sync_channel(1);
        let coming = Coming { deltas, digest: lora.digest().to_owned(), done };
        self.free(name, &self.named())?;
        self.command(Command::Adapt(Box::new(coming)))?;
        let held = outcome.recv().map_err(|_| super::ended())??;
        let mut named = self.named();
        self.free(name, &named)?;
        named.push((name.to_owned(), held));
        Ok(())
    }

    /// Whether there is room for one more adapter of this name.
    fn free(&self, name: &str, named: &[Named]) -> Result<(), Fault> {
        if named.iter().any(|(known, _)| known == name) {
            return Err(Fault::caller(format!(
                "`{}` has an adapter `{name}` already: unload it first",
                self.info.name
            )));
        }
        if named.len() < MOST {
            return Ok(());
        }
        let message = format!("`{}` has {MOST} adapters: unload one first", self.info.name);
        Err(Fault::caller(message))
    }

    /// Forgets an adapter. Answers under way go on with it; its memory is free once they have
    /// ended.
    ///
    /// # Errors
    /// A fault of the caller's where there is none of that name.
    pub fn unadapt(&self, name: &str) -> Result<(), Fault> {
        {
            let mut named = self.named();
            let Some(at) = named.iter().position(|(known, _)| known == name) else {
                return Err(self.unknown(&format!("`{name}`"), &named));
            };
            named.remove(at);
        }
        self.command(Command::Sweep)
    }

    fn unknown(&self, wanted: &str, named: &[Named]) -> Fault {
        let names: Vec<&str> = named.iter().map(|(name, _)| name.as_str()).collect();
        let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let message = format!("`{}` has no adapter {wanted}; there are: {there}", self.info.name);
        Fault::caller(message).at("lora")
    }

    /// What a request is computed with, those that add nothing left out, and what that is called.
    pub(crate) fn adapted(&self, wanted: &[Adapter]) -> Result<(Vec<Adapted>, String), Fault> {
        let wrong = |message: String| Err(Fault::caller(message).at("lora"));
        let (named, mut adapted) = (self.named(), Vec::<Adapted>::new());
        let mut called = self.info.name.clone();
        for Adapter { which, scale } in wanted {
            let found = match which {
                Which::Name(name) => named.iter().find(|(known, _)| known == name),
                Which::Number(at) => named.get(*at),
            };
            let Some((name, held)) = found else {
                let wanted = match which {
                    Which::Name(name) => format!("`{name}`"),
                    Which::Number(at) => at.to_string(),
                };
                return Err(self.unknown(&wanted, &named));
            };
            if !(-SCALE_MAX..=SCALE_MAX).contains(scale) {
                return wrong(format!("a scale is {scale}, and not in -1000 to 1000"));
            }
            if adapted.iter().any(|one| Arc::ptr_eq(&one.held, held)) {
                return wrong(format!("`{name}` is asked for twice: ask once, with one scale"));
            }
            if *scale == 0.0 {
                continue;
            }
            called = format!("{called}{}{name}", if adapted.is_empty() { ":" } else { "+" });
            adapted.push(Adapted { held: Arc::clone(held), scale: *scale });
        }
        if adapted.len() > TOGETHER {
            return wrong(format!("{} adapters at once, and at most {TOGETHER}", adapted.len()));
        }
        Ok((adapted, called))
    }
}
