//! HTTP in front of a [`Provider`]: the routes of four protocols, keys, bounds, metrics and an
//! orderly end.
//!
//! The socket is bound before the model is loaded, so that `/health` can tell how far it is. An
//! answer is one channel from the engine's thread to the connection's task; whoever drops the
//! response, by a closed connection or by the server's end, drops the [`Call`]s behind it, and
//! that cancels them. Streamed and whole answers run through the same code until the last step.
//!
//! Absent: HTTP/2, files of settings, and all mathematics.
//!
//! [`Provider`]: ingle_gateway::Provider
//! [`Call`]: ingle_protocol::Call
#![forbid(unsafe_code)]

mod access;
mod answer;
mod ask;
mod batches;
mod config;
mod control;
mod form;
mod front;
mod keys;
mod limits;
mod listen;
mod meter;
mod metrics;
mod notify;
mod origin;
mod owners;
mod places;
mod records;
mod refusal;
mod responses;
mod routes;
mod scopes;
mod slot;
mod stalling;
mod tally;
mod tls;
mod traces;
mod unread;
mod vitals;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;

use keys::Accounts;
use places::Places;

pub use access::AccessLog;
pub use ask::{Health, Remote};
pub use batches::{OFFLINE_ORIGIN, OFFLINE_OWNER, batch_endpoints, offline};
pub use config::{Config, DEFAULT_PORT, Error, Limits};
pub use control::Control;
pub use keys::{Key, KeyHash, check_name};
pub use listen::{Bound, Stop, bind, can_listen, signals};
pub use notify::Manager;
pub use routes::router;
pub use scopes::Scope;
pub use slot::{Progress, Slot};
pub use tls::TlsFiles;
pub use traces::Collector;

/// What every request's handler reads.
#[derive(Debug)]
pub struct State {
    live: RwLock<Arc<Live>>,
    pub(crate) slot: Slot,
    pub(crate) metrics: metrics::Metrics,
    /// One place a choice under way.
    pub(crate) answers: Arc<Places>,
    /// One place a byte of the bodies that are being received and read.
    pub(crate) bodies: Arc<Places>,
    /// One place a byte of the answers from elsewhere that nobody has read yet.
    pub(crate) unread: Arc<Places>,
    /// Those under way in the background, and those that are kept.
    pub(crate) responses: responses::Responses,
    pub(crate) batches: batches::Desk,
    pub(crate) stop: watch::Sender<Stop>,
    /// Where connections are encrypted.
    pub(crate) tls: Option<Arc<tls::Tls>>,
    /// Who takes what is traced.
    pub(crate) tracer: Option<Arc<traces::Tracer>>,
    pub(crate) reloads: control::Reloads,
    /// Lines of the access log that found no room.
    pub(crate) lost_lines: Arc<AtomicU64>,
}

/// What holds now, and may be another thing for the next request.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) config: Arc<Config>,
    pub(crate) accounts: Accounts,
    pub(crate) log: Option<Arc<access::Log>>,
}

impl State {
    /// A server's state before its model is loaded.
    ///
    /// # Errors
    /// [`Error::Tls`] where the certificate cannot be used, [`Error::Config`] where the access log
    /// cannot be opened.
    pub fn new(config: Config) -> Result<Self, Error> {
        let tls = config.tls.as_ref().map(tls::Tls::open).transpose()?;
        let tracer = config.traces.clone().map(traces::Tracer::start).transpose()?;
        let slot = Slot::new(&config.manager);
        let lost_lines = Arc::default();
        let responses = responses::Responses::new(&config);
        let live = Live::new(config, None, &lost_lines)?;
        Ok(Self {
            responses,
            live: RwLock::new(Arc::new(live)),
            answers: Arc::default(),
            bodies: Arc::default(),
            unread: Arc::default(),
            slot,
            tls: tls.map(Arc::new),
            tracer: tracer.map(Arc::new),
            metrics: metrics::Metrics::default(),
            batches: batches::Desk::default(),
            stop: watch::Sender::new(Stop::Run),
            reloads: control::Reloads::default(),
            lost_lines,
        })
    }

    /// What holds now. Whoever reads more than one thing of it asks once.
    pub(crate) fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The configuration that holds now.
    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.live().config)
    }

    /// Where the provider is put once it is there.
    pub fn slot(&self) -> &Slot {
        &self.slot
    }
}
