//! What calls share: each provider with its room, its breakers and what was measured of it. Who is
//! admitted holds a place until it is dropped, and tells how it went. Absent: what a call does.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ingle_protocol::Fault;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::breaker::{Admit, Breaker, Standing};
use super::kinds::Auth;
use super::measure::{Facts, Measured};
use super::net::Target;
use super::net::pool::{Pool, Wish};
use super::sum::Sum;
use super::token::{Account, Token};
use super::{Upstream, World, prepare};
use crate::Metric;

/// Models of one provider that are known. Callers choose their names, so who comes when there are
/// so many takes the place of one that matters less.
const LANES_MAX: usize = 1024;

/// All providers.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) handle: Handle,
    pub(super) world: World,
    pub(super) pool: Arc<Pool>,
    /// Of the bytes of answers under way.
    pub(super) sum: Arc<Sum>,
    places: Places,
    start: Instant,
}

/// A provider and what is known of it.
#[derive(Debug)]
pub(super) struct Place {
    /// As its user set it up.
    given: Upstream,
    /// The same, with what its key says.
    pub(super) upstream: Upstream,
    pub(super) target: Target,
    /// The path of its address.
    pub(super) base: String,
    /// Of a kind that wants Google's tokens.
    pub(super) account: Option<Account>,
    pub(super) token: tokio::sync::Mutex<Option<Token>>,
    /// Its connections are kept as long as it is there.
    _wishes: Vec<Wish>,
    room: Arc<Semaphore>,
    waiting: AtomicUsize,
    lanes: Mutex<BTreeMap<String, Arc<Lane>>>,
}

/// One model of a provider.
#[derive(Debug)]
pub(super) struct Lane {
    breaker: Mutex<Breaker>,
    measured: Mutex<Measured>,
    in_flight: AtomicUsize,
    /// Until when its provider wants to be left alone.
    limited_until_ms: AtomicU64,
    /// When it was asked last.
    used_ms: AtomicU64,
}

impl Lane {
    pub(super) fn measured(&self) -> MutexGuard<'_, Measured> {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn limited_ms(&self, now_ms: u64) -> u64 {
        self.limited_until_ms.load(Ordering::Relaxed).saturating_sub(now_ms)
    }

    /// How much is lost with it, least first: of a model that never answered little is known, and
    /// it may be none; one that is left alone would be asked again.
    fn worth(&self, now_ms: u64) -> (bool, bool, u64) {
        let shut =
            self.limited_ms(now_ms) > 0 || self.breaker().standing(now_ms) != Standing::Closed;
        (self.measured().answers > 0, shut, self.used_ms.load(Ordering::Relaxed))
    }
}

/// A place among those that a provider answers.
#[derive(Debug)]
pub(super) struct Admission {
    pub(super) lane: Arc<Lane>,
    probe: bool,
    told: bool,
    _room: OwnedSemaphorePermit,
}

impl Admission {
    /// Tells how it went: well, badly, or `None` where that says nothing of the provider.
    pub(super) fn tell(&mut self, now_ms: u64, good: Option<bool>) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        let mut breaker = self.lane.breaker();
        match good {
            Some(good) => breaker.record(now_ms, self.probe, good),
            None => breaker.forget(self.probe),
        }
        drop(breaker);
        if good == Some(false) {
            self.lane.measured().failures += 1;
        }
    }

    /// Its provider wants to be left alone for a while.
    pub(super) fn limit(&self, now_ms: u64, after: Duration) {
        let until = now_ms.saturating_add(u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
        self.lane.limited_until_ms.fetch_max(until, Ordering::Relaxed);
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.tell(0, None); // the time of what says nothing is no matter
        self.lane.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts who waits for room, as long as it does.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a candidate cannot be asked now, and for how long, where that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shut {
    pub(super) why: String,
    pub(super) after: Option<Duration>,
}

impl Shut {
    fn new(why: impl Into<String>, after_ms: Option<u64>) -> Self {
        Self { why: why.into(), after: after_ms.map(Duration::from_millis) }
    }
}

impl Shared {
    pub(super) fn new(
        handle: Handle,
        upstreams: Vec<Upstream>,
        world: World,
    ) -> Result<Self, Fault> {
        let start = {
            let _entered = handle.enter();
            Instant::now()
        };
        let (pool, sum) = (Arc::default(), Arc::default());
        let places = places(upstreams, &BTreeMap::new(), &pool)?;
        Ok(Self { handle, world, pool, sum, places, start })
    }

    /// The same with other providers; those that did not change stay who they are.
    pub(super) fn after(&self, upstreams: Vec<Upstream>) -> Result<Self, Fault> {
        Ok(Self {
            handle: self.handle.clone(),
            world: self.world.clone(),
            pool: Arc::clone(&self.pool),
            sum: Arc::clone(&self.sum),
            places: places(upstreams, &self.places, &self.pool)?,
            // Breakers and limits count from it.
            start: self.start,
        })
    }

    /// Milliseconds since it was made, for breakers.
    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn place(&self, name: &str) -> Option<&Arc<Place>> {
        self.places.get(name)
    }

    /// A place for one try. Who has no other candidate `waits` for it.
    pub(super) async fn admit(
        &self,
        place: &Place,
        model: &str,
        waits: bool,
    ) -> Result<Admission, Shut> {
        let lane = place.lane(model, self.now_ms());
        let limited_ms = lane.limited_ms(self.now_ms());
        if limited_ms > 0 {
            let wait = Duration::from_millis(limited_ms);
            if !waits || wait > place.upstream.backoff.most {
                let why = format!("it wants to be left alone for another {limited_ms} ms");
                return Err(Shut::new(why, Some(limited_ms)));
            }
            tokio::time::sleep(wait).await;
        }
        if let Some(shut) = self.shut(&lane) {
            return Err(shut);
        }
        let room = place.room(waits).await?;
        let admit = lane.breaker().admit(self.now_ms());
        let probe = match admit {
            Admit::Yes => false,
            Admit::Probe => true,
            // Somebody else came first while it waited for room.
            Admit::No { until_ms } => return Err(self.left_alone(until_ms)),
        };
        lane.in_flight.fetch_add(1, Ordering::Relaxed);
        lane.measured().tries += 1;
        Ok(Admission { lane, probe, told: false, _room: room })
    }

    /// Why a lane's breaker lets none pass, without asking to pass.
    fn shut(&self, lane: &Lane) -> Option<Shut> {
        let standing = lane.breaker().standing(self.now_ms());
        match standing {
            Standing::Open { until_ms } => Some(self.left_alone(Some(until_ms))),
            Standing::HalfOpen { probing: true } => Some(self.left_alone(None)),
            Standing::Closed | Standing::HalfOpen { probing: false } => None,
        }
    }

    fn left_alone(&self, until_ms: Option<u64>) -> Shut {
        match until_ms.map(|until| until.saturating_sub(self.now_ms())) {
            Some(ms) => {
                Shut::new(format!("it failed too often, and is left alone for {ms} ms"), Some(ms))
            }
            None => Shut::new("it failed too often, and another request tries it now", Some(1_000)),
        }
    }

    /// What is known of one model.
    pub(super) fn fact(&self, provider: &str, model: &str) -> Option<Facts> {
        let place = self.places.get(provider)?;
        let lane = place.lanes().get(model).cloned()?;
        Some(place.facts(model.to_owned(), &lane, self.now_ms()))
    }

    pub(super) fn facts(&self) -> Vec<Facts> {
        let now_ms = self.now_ms();
        let of = |place: &Arc<Place>| {
            let lanes = place.lanes().clone();
            let place = Arc::clone(place);
            lanes.into_iter().map(move |(model, lane)| place.facts(model, &lane, now_ms))
        };
        self.places.values().flat_map(of).collect()
    }

    /// Numbers of the models that are `named`, and of those that answered: what else callers wrote
    /// is no label.
    pub(super) fn metrics(&self, named: impl Fn(&str, &str) -> bool) -> Vec<Metric> {
        let mut metrics = Vec::new();
        let mut facts = self.facts();
        facts.retain(|facts| facts.answers > 0 || named(&facts.provider, &facts.model));
        for (name, help, counter, value) in METRICS {
            metrics.extend(facts.iter().filter_map(|facts| {
                let model = Some(format!("{}/{}", facts.provider, facts.model));
                let value = value(facts)?;
                Some(Metric { name, help, counter: *counter, model, value })
            }));
        }
        metrics
    }
}

type Places = BTreeMap<String, Arc<Place>>;

/// A place for each provider, its own where it had one before and is what it was.
fn places(upstreams: Vec<Upstream>, before: &Places, pool: &Arc<Pool>) -> Result<Places, Fault> {
    let mut places = Places::new();
    for upstream in upstreams {
        let name = upstream.name.clone();
        let place = match before.get(&name).filter(|place| place.given == upstream) {
            Some(place) => Arc::clone(place),
            None => Place::new(upstream, pool)
                .map(Arc::new)
                .map_err(|why| Fault::ours(format!("the provider `{name}`: {why}")))?,
        };
        if places.insert(name.clone(), place).is_some() {
            return Err(Fault::ours(format!("two providers are called `{name}`")));
        }
    }
    Ok(places)
}

/// A metric's name, what it counts, whether it only grows, and its value.
type Row = (&'static str, &'static str, bool, fn(&Facts) -> Option<f64>);

const METRICS: &[Row] = &[
    ("ingle_remote_tries_total", "Requests sent to a provider.", true, |facts| {
        Some(facts.tries as f64)
    }),
    ("ingle_remote_answers_total", "Answers that came to their end.", true, |facts| {
        Some(facts.answers as f64)
    }),
    ("ingle_remote_failures_total", "Tries that failed by the provider's fault.", true, |facts| {
        Some(facts.failures as f64)
    }),
    ("ingle_remote_in_flight", "Requests that a provider answers now.", false, |facts| {
        Some(facts.in_flight as f64)
    }),
    ("ingle_remote_open", "Whether a provider is left alone for now.", false, |facts| {
        let shut = facts.limited_ms > 0 || facts.breaker != Standing::Closed;
        Some(f64::from(u8::from(shut)))
    }),
    ("ingle_remote_ttft_seconds", "Time to an answer's first piece, lately.", false, |facts| {
        facts.ttft_ms.map(|ms| ms / 1e3)
    }),
    ("ingle_remote_token_seconds", "Time for each further token, lately.", false, |facts| {
        facts.ms_per_token.map(|ms| ms / 1e3)
    }),
];

impl Place {
    fn new(upstream: Upstream, pool: &Arc<Pool>) -> Result<Self, String> {
        let (target, base) = prepare::address(&upstream)?;
        prepare::check(&upstream)?;
        let account = match (upstream.kind.auth, &upstream.key) {
            (Auth::Google, Some(key)) => Some(Account::read(key)?),
            _ => None,
        };
        let given = upstream.clone();
        let own = account.as_ref().map_or("", |account| account.project.as_str());
        let upstream = Upstream {
            project: if upstream.project.is_empty() { own.to_owned() } else { upstream.project },
            ..upstream
        };
        if upstream.kind.path.contains("{project}") {
            prepare::name("project", &upstream.project)?;
        }
        let targets = [Some(&target), account.as_ref().map(|account| &account.target)];
        let wishes = targets.into_iter().flatten().map(|target| pool.want(target)).collect();
        let most = upstream.max_concurrent.clamp(1, Semaphore::MAX_PERMITS);
        Ok(Self {
            given,
            upstream,
            target,
            base,
            account,
            token: tokio::sync::Mutex::default(),
            _wishes: wishes,
            room: Arc::new(Semaphore::new(most)),
            waiting: AtomicUsize::new(0),
            lanes: Mutex::default(),
        })
    }

    fn lanes(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Lane>>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lane(&self, model: &str, now_ms: u64) -> Arc<Lane> {
        let mut lanes = self.lanes();
        if let Some(lane) = lanes.get(model) {
            lane.used_ms.fetch_max(now_ms, Ordering::Relaxed);
            return Arc::clone(lane);
        }
        let lane = Arc::new(Lane {
            breaker: Mutex::new(Breaker::new(self.upstream.breaker)),
            measured: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            limited_until_ms: AtomicU64::new(0),
            used_ms: AtomicU64::new(now_ms),
        });
        if lanes.len() >= LANES_MAX {
            // Who is asked now, or waits to be, holds its lane.
            let idle = lanes.iter().filter(|(_, lane)| Arc::strong_count(lane) == 1);
            let least = idle.min_by_key(|(_, lane)| lane.worth(now_ms));
            if let Some(name) = least.map(|(name, _)| name.clone()) {
                lanes.remove(&name);
            }
        }
        if lanes.len() < LANES_MAX {
            lanes.insert(model.to_owned(), Arc::clone(&lane));
        }
        lane
    }

    /// Room for one request.
    async fn room(&self, waits: bool) -> Result<OwnedSemaphorePermit, Shut> {
        if let Ok(room) = Arc::clone(&self.room).try_acquire_owned() {
            return Ok(room);
        }
        let most = self.upstream.max_concurrent;
        let full = || Shut::new(format!("it has {most} requests already"), Some(1_000));
        if !waits {
            return Err(full());
        }
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if waiting >= self.upstream.max_waiting {
            return Err(full());
        }
        Arc::clone(&self.room).acquire_owned().await.map_err(|_| full())
    }

    fn facts(&self, model: String, lane: &Lane, now_ms: u64) -> Facts {
        let measured = lane.measured().clone();
        let breaker = match lane.breaker().standing(now_ms) {
            Standing::Open { until_ms } => Standing::Open { until_ms: until_ms - now_ms },
            standing => standing,
        };
        let most = self.upstream.max_concurrent;
        Facts {
            provider: self.upstream.name.clone(),
            model,
            breaker,
            limited_ms: lane.limited_ms(now_ms),
            in_flight: lane.in_flight.load(Ordering::Relaxed),
            busy: (most.saturating_sub(self.room.available_permits()), most),
            waiting: self.waiting.load(Ordering::Relaxed),
            ttft_ms: measured.ttft_ms,
            ms_per_token: measured.ms_per_token,
            tries: measured.tries,
            answers: measured.answers,
            failures: measured.failures,
        }
    }
}
