//! Providers that are somewhere else: a request goes out in their own format, and their answer
//! comes back as events. Which of them may be asked, and in what order, was decided before; here it
//! is carried out: retries where they are safe, failover, hedges, breakers, bounds on all that a
//! remote may send. What is told of a call's end is what a ledger needs.
//!
//! Absent: any choice between providers, prices, HTTP/2, redirects (which are never followed).

mod amazon;
mod attempt;
mod backoff;
mod breaker;
mod call;
mod ear;
mod failure;
mod keyring;
mod keys;
pub mod kinds;
mod measure;
pub mod net;
mod outcome;
mod prepare;
mod sigv4;
mod state;
mod sum;
mod token;
mod wires;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ingle_protocol::{Call, Event, Fault, Request};
use ring::rand::{SecureRandom, SystemRandom};

pub use breaker::{Admit, Breaker, BreakerSettings, Standing as BreakerStanding};
pub use keys::Secret;
pub use kinds::{Kind, kind};
pub use measure::Facts;
pub use net::Dial;
pub use outcome::{Attempt, Ended, Outcome, Times};

use crate::{Metric, Names};

/// One provider as its user set it up: a name, a kind, where it is and how it is asked. What its
/// headers say is shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Upstream {
    /// What a plan calls it by; no two have the same.
    pub name: String,
    /// Its row in the table of kinds.
    pub kind: &'static Kind,
    /// Its base address, `https://host[:port][/path]`; empty for the kind's own.
    pub url: String,
    /// What it is asked with; `None` where it wants none.
    pub key: Option<Secret>,
    /// Where it computes, for kinds whose address says so; empty for others.
    pub region: String,
    /// Whose account, for kinds whose address says so; empty for others, or to take the key's own.
    pub project: String,
    /// Sent with each request, beside the kind's own.
    pub headers: Vec<(String, String)>,
    /// Requests that it answers at a time.
    pub max_concurrent: usize,
    /// Requests that wait for one of these to end, where no other candidate is left.
    pub max_waiting: usize,
    /// How long it may take.
    pub timeouts: Timeouts,
    /// How often a request is sent to it again after it failed, where that is safe.
    pub retries: u32,
    /// How long it is waited before a retry.
    pub backoff: Backoff,
    /// When the next candidate, or where there is none it itself once more, is asked beside it
    /// because its answer has not begun; `None` for never.
    pub hedge_after: Option<Duration>,
    /// When it is left alone for a while.
    pub breaker: BreakerSettings,
    /// The most that is read of its answers.
    pub bounds: Bounds,
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("url", &self.url)
            .field("key", &self.key)
            .field("region", &self.region)
            .field("project", &self.project)
            .field("headers", &Names(&self.headers))
            .finish_non_exhaustive()
    }
}

impl Upstream {
    /// A provider of a kind with everything as usual, and without a key.
    pub fn new(name: impl Into<String>, kind: &'static Kind) -> Self {
        Self {
            name: name.into(),
            kind,
            url: String::new(),
            key: None,
            region: String::new(),
            project: String::new(),
            headers: Vec::new(),
            max_concurrent: 64,
            max_waiting: 64,
            timeouts: Timeouts::default(),
            retries: 2,
            backoff: Backoff::default(),
            hedge_after: None,
            breaker: BreakerSettings::default(),
            bounds: Bounds::default(),
        }
    }
}

/// How long a provider may take, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the name of a host to a connection, TLS included.
    pub connection: Duration,
    /// From a try's start until its answer begins; where an answer comes whole, until it is here.
    pub per_try: Duration,
    /// Between two reads of an answer.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connection: Duration::from_secs(10),
            per_try: Duration::from_secs(120),
            idle: Duration::from_secs(60),
        }
    }
}

/// How long it is waited before a retry: twice as long each time, between half and all of that at
/// random.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Before the first.
    pub first: Duration,
    /// The most, and the most that a provider's own `Retry-After` is heeded for: who wants to be
    /// left alone for longer is, and the next candidate is asked.
    pub most: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(250), most: Duration::from_secs(10) }
    }
}

/// The most that is read of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of an answer, all events together; each that says anything counts 128 at least, since
    /// it takes so much memory.
    pub answer_bytes: usize,
    /// Bytes of one event, and of one line.
    pub event_bytes: usize,
    /// Bytes of an error's body.
    pub error_bytes: usize,
    /// Bytes of all answers that are being taken in, of all providers together, but for the first
    /// MiB of each; who would be beyond is not heard to its end.
    pub all_bytes: usize,
}

/// The bytes that an event counts at least: what it takes in memory. An honest one that has a word
/// to say is about as long as that.
const EVENT_LEAST: usize = 128;

impl Bounds {
    /// What holds where nobody says otherwise.
    pub const USUAL: Self = Self {
        answer_bytes: 64 << 20,
        event_bytes: 8 << 20,
        error_bytes: 64 << 10,
        all_bytes: 1 << 30,
    };

    /// The most events of an answer. Who takes them in without reading needs room for so many.
    pub const fn events(&self) -> usize {
        self.answer_bytes / EVENT_LEAST
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self::USUAL
    }
}

/// One candidate, in a plan's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Try {
    /// The name of an [`Upstream`].
    pub provider: String,
    /// The model, as that provider calls it.
    pub model: String,
    /// The most tokens it may generate, whatever the request says: it is sent this or less, so
    /// that a reservation made of it holds. `None` leaves the request's own.
    pub max_tokens: Option<u32>,
}

/// What was decided: who is asked, in order, and within what.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Candidates, first first.
    pub tries: Vec<Try>,
    /// From the call's start to its end, retries and waiting included; `None` bounds each try
    /// alone.
    pub total: Option<Duration>,
    /// Tries at most, all candidates', retries and hedges together: what is paid for. `None` leaves
    /// it to each provider's own settings.
    pub most_tries: Option<u32>,
    /// The prompt's tokens, as they were estimated: what an answer that was cut before its provider
    /// told any is settled by.
    pub prompt_tokens: u32,
}

/// What is told of a call.
#[derive(Clone, Debug)]
pub enum Told {
    /// More of the answer; never `Done` or `Failed`.
    Event(Event),
    /// Its end: last, exactly once, whatever happens. [`Outcome::event`] makes the caller's last
    /// event of it.
    End(Box<Outcome>),
}

/// Receives what is told of a call, on a thread of the runtime: it must not block. `Break` says
/// that the caller went away.
pub type Listener = Box<dyn FnMut(Told) -> ControlFlow<()> + Send>;

/// What is not the same each time: time, chance and connections. All of a call's own times are
/// tokio's, so that a test can pause them.
#[derive(Clone)]
pub struct World {
    /// Milliseconds since 1970, for signatures that hold for a while.
    pub now_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Any 64 bits.
    pub random: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Opens connections.
    pub dial: Arc<dyn Dial>,
}

impl World {
    /// The system's time and chance, and connections of the caller's choice.
    pub fn new(dial: Arc<dyn Dial>) -> Self {
        let now_ms = || {
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
        };
        let random = || {
            let mut bytes = [0; 8];
            // Chance spreads retries; where there is none they come together.
            let _ = SystemRandom::new().fill(&mut bytes);
            u64::from_le_bytes(bytes)
        };
        Self { now_ms: Arc::new(now_ms), random: Arc::new(random), dial }
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("dial", &self.dial).finish_non_exhaustive()
    }
}

/// All remote providers of a gateway. Copies share connections, breakers and measurements.
#[derive(Clone, Debug)]
pub struct Remote {
    shared: Arc<state::Shared>,
}

impl Remote {
    /// Providers that are asked on a runtime's threads.
    ///
    /// # Errors
    /// A fault of ours that names the provider whose settings cannot be: two of one name, an
    /// address that is none, a key that its kind cannot use.
    pub fn new(
        handle: tokio::runtime::Handle,
        upstreams: Vec<Upstream>,
        world: World,
    ) -> Result<Self, Fault> {
        Ok(Self { shared: Arc::new(state::Shared::new(handle, upstreams, world)?) })
    }

    /// The same with other providers. What was learnt of those whose settings are what they were
    /// goes with them: how they are, what they answer now, connections.
    ///
    /// # Errors
    /// As [`Remote::new`] has them.
    pub fn after(&self, upstreams: Vec<Upstream>) -> Result<Self, Fault> {
        Ok(Self { shared: Arc::new(self.shared.after(upstreams)?) })
    }

    /// Starts a call: tries a plan's candidates in their order. Returns at once; everything else
    /// comes through `listener`, refusals too. Dropping the call closes its connections at once.
    pub fn send(&self, request: Request, plan: Plan, listener: Listener) -> Call {
        call::start(&self.shared, request, plan, listener)
    }

    /// What is known of a model of a provider; `None` where it was never asked, or so long ago that
    /// others took its place.
    pub fn fact(&self, provider: &str, model: &str) -> Option<Facts> {
        self.shared.fact(provider, model)
    }

    /// What is known of each provider and model that was asked, in the order of the names: 1,024
    /// models of each provider at most.
    pub fn facts(&self) -> Vec<Facts> {
        self.shared.facts()
    }

    /// Counters and gauges for `/metrics`, of the models of providers that are `named`, and of
    /// those that ever answered.
    pub fn metrics(&self, named: impl Fn(&str, &str) -> bool) -> Vec<Metric> {
        self.shared.metrics(named)
    }
}
