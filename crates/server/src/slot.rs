//! The place where the provider will be. The server answers before its model is loaded, and says
//! how far it is.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ingle_gateway::Provider;

/// How far loading is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// What is being done: fetching, loading.
    pub phase: String,
    /// How much of it is done: bytes fetched, or percents loaded.
    pub done: u64,
    /// Of how much, if that is known.
    pub total: Option<u64>,
}

/// Empty until filled, once.
#[derive(Default)]
pub struct Slot {
    provider: OnceLock<Arc<dyn Provider>>,
    progress: Mutex<Progress>,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Slot({})", if self.provider().is_some() { "filled" } else { "empty" })
    }
}

impl Slot {
    /// Says how far loading is; for `/health`.
    pub fn report(&self, progress: Progress) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }

    /// Puts the provider in. A second one is ignored.
    pub fn fill(&self, provider: Arc<dyn Provider>) {
        if self.provider.set(provider).is_err() {
            tracing::warn!("a second provider was offered and ignored");
        }
    }

    pub(crate) fn provider(&self) -> Option<&Arc<dyn Provider>> {
        self.provider.get()
    }

    pub(crate) fn progress(&self) -> Progress {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
