//! The place where the provider will be. The server answers before its model is loaded, and says
//! how far it is.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ingle_gateway::Provider;

use crate::Manager;
use crate::notify::Notify;

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

impl std::fmt::Display for Progress {
    /// In whole percents, where that can be told.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.total {
            Some(total) if total > 0 => {
                let percent = u128::from(self.done) * 100 / u128::from(total);
                write!(f, "{} {percent} %", self.phase)
            }
            _ => f.write_str(&self.phase),
        }
    }
}

/// Empty until filled, once. Tells the service manager of it, too.
#[derive(Default)]
pub struct Slot {
    provider: OnceLock<Arc<dyn Provider>>,
    progress: Mutex<Progress>,
    notify: Notify,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Slot({})", if self.provider().is_some() { "filled" } else { "empty" })
    }
}

impl Slot {
    pub(crate) fn new(manager: &Manager) -> Self {
        Self { notify: Notify::new(manager), ..Self::default() }
    }

    /// Says how far loading is; for `/health`.
    pub fn report(&self, progress: Progress) {
        self.notify.status(&progress.to_string());
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }

    /// Puts the provider in. A second one is ignored.
    pub fn fill(&self, provider: Arc<dyn Provider>) {
        if self.provider.set(provider).is_err() {
            tracing::warn!("a second provider was offered and ignored");
            return;
        }
        self.notify.ready();
    }

    pub(crate) fn notify(&self) -> &Notify {
        &self.notify
    }

    pub(crate) fn provider(&self) -> Option<&Arc<dyn Provider>> {
        self.provider.get()
    }

    pub(crate) fn progress(&self) -> Progress {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
