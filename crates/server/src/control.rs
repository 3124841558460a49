//! A running server's configuration is exchanged as a whole, by whoever holds this: what is asked
//! from then on meets the new one, and what runs goes on under the old. One that contradicts itself
//! changes nothing, and the server says that it has seen it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use serde_json::{Value, json};

use crate::access::Log;
use crate::keys::Accounts;
use crate::{Config, Error, Live, State};

/// A hold on a server's configuration.
#[derive(Clone, Debug)]
pub struct Control {
    state: Arc<State>,
}

/// How exchanges went.
#[derive(Debug, Default)]
pub(crate) struct Reloads {
    pub(crate) applied: AtomicU64,
    pub(crate) failed: AtomicU64,
    /// Whether the last one failed.
    pub(crate) stale: AtomicBool,
}

impl Control {
    pub(crate) fn new(state: &Arc<State>) -> Self {
        Self { state: Arc::clone(state) }
    }

    /// Puts a configuration in force, but for its address, certificate, collector, records, service
    /// manager, bound on connections and shared limits, which stay as they are.
    ///
    /// # Errors
    /// It contradicts itself, or its access log cannot be opened; the old one holds.
    pub fn apply(&self, config: Config) -> Result<(), Error> {
        let done = self.exchange(config);
        match done {
            Ok(()) => {
                self.state.reloads.applied.fetch_add(1, Ordering::Relaxed);
                self.state.reloads.stale.store(false, Ordering::Relaxed);
            }
            Err(_) => self.broken(),
        }
        done
    }

    /// Says that a configuration could not be read, so that the old one still holds.
    pub fn broken(&self) {
        self.state.reloads.failed.fetch_add(1, Ordering::Relaxed);
        self.state.reloads.stale.store(true, Ordering::Relaxed);
    }

    /// Says that a configuration is about to be read, since a time of the system's monotonic clock
    /// in microseconds, where it has one. A service manager waits for [`Control::reloaded`] then.
    pub fn reloading(&self, monotonic_micros: Option<u64>) {
        if let Some(micros) = monotonic_micros.filter(|_| self.is_ready()) {
            self.state.slot.notify().reloading(micros);
        }
    }

    /// Says that the configuration was read, whether or not it holds now.
    pub fn reloaded(&self) {
        if self.is_ready() {
            self.state.slot.notify().reloaded();
        }
    }

    /// Before the first model is there, nobody is told that all is ready.
    fn is_ready(&self) -> bool {
        self.state.slot.provider().is_some()
    }

    /// Opens the access log anew, which may have been moved away.
    pub fn reopen(&self) {
        if let Some(log) = &self.state.live().log {
            log.reopen();
        }
    }

    fn exchange(&self, config: Config) -> Result<(), Error> {
        let mut live = self.state.live.write().unwrap_or_else(PoisonError::into_inner);
        let before = Arc::clone(&live);
        let mut config = Config {
            listen: before.config.listen,
            records: before.config.records.clone(),
            tls: before.config.tls.clone(),
            traces: before.config.traces.clone(),
            manager: before.config.manager.clone(),
            ..config
        };
        config.limits.connections = before.config.limits.connections;
        config.check()?;
        *live = Arc::new(Live::new(config, Some(&before), &self.state.lost_lines)?);
        Ok(())
    }
}

impl State {
    /// Adds to `/health` that an older configuration holds than the one that was found last. What
    /// is wrong with that is for its operator alone, and in the log.
    pub(crate) fn with_reloads(&self, mut health: Value) -> Value {
        if self.reloads.stale.load(Ordering::Relaxed) {
            health["configuration"] = json!("the last one was refused; the one before it holds");
        }
        health
    }
}

impl Live {
    /// What holds with this configuration, after what held before.
    pub(crate) fn new(
        config: Config,
        before: Option<&Self>,
        lost: &Arc<AtomicU64>,
    ) -> Result<Self, Error> {
        let known = before.map(|before| &before.accounts);
        let accounts = Accounts::sharing(&config.keys, known, config.rates.as_ref());
        let open = before.and_then(|before| before.log.clone());
        let log = match &config.access_log {
            None => None,
            Some(to) => match open.filter(|log| log.to() == to) {
                Some(log) => Some(log),
                None => {
                    let wrong = |error| {
                        Error::Config(format!("the access log cannot be written: {error}: {to:?}"))
                    };
                    Some(Arc::new(Log::open(to, lost).map_err(wrong)?))
                }
            },
        };
        Ok(Self { config: Arc::new(config), accounts, log })
    }
}
