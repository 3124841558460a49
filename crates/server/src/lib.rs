//! HTTP in front of a [`Provider`]: the routes of four protocols, keys, bounds, metrics and an
//! orderly end.
//!
//! The socket is bound before the model is loaded, so that `/health` can tell how far it is. An
//! answer is one channel from the engine's thread to the connection's task; whoever drops the
//! response, by a closed connection or by the server's end, drops the [`Call`]s behind it, and
//! that cancels them. Streamed and whole answers run through the same code until the last step.
//!
//! Absent: TLS (put a proxy in front), HTTP/2, a configuration file, and all mathematics.
//!
//! [`Provider`]: ingle_gateway::Provider
//! [`Call`]: ingle_protocol::Call
#![forbid(unsafe_code)]

mod answer;
mod config;
mod front;
mod listen;
mod metrics;
mod refusal;
mod routes;
mod slot;
mod stalling;

use std::sync::Arc;

use tokio::sync::{Semaphore, watch};

pub use config::{Config, DEFAULT_PORT, Error, Limits};
pub use listen::{Bound, Stop, bind, can_listen, signals};
pub use routes::router;
pub use slot::{Progress, Slot};

/// What every request's handler reads.
#[derive(Debug)]
pub struct State {
    pub(crate) config: Config,
    pub(crate) slot: Slot,
    pub(crate) metrics: metrics::Metrics,
    /// One permit a choice under way.
    pub(crate) answers: Arc<Semaphore>,
    /// One permit a KiB of the bodies that are being received and read.
    pub(crate) bodies: Arc<Semaphore>,
    pub(crate) stop: watch::Sender<Stop>,
}

impl State {
    /// A server's state before its model is loaded.
    pub fn new(config: Config) -> Self {
        Self {
            answers: Arc::new(Semaphore::new(config.limits.answers)),
            bodies: Arc::new(Semaphore::new(config.limits.all_bodies_bytes / 1024)),
            config,
            slot: Slot::default(),
            metrics: metrics::Metrics::default(),
            stop: watch::Sender::new(Stop::Run),
        }
    }

    /// Where the provider is put once it is there.
    pub fn slot(&self) -> &Slot {
        &self.slot
    }
}
