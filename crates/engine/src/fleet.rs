//! More than one model at a time: the threads around [`Residency`], which decides. A request for
//! a model that is in memory goes straight to it; any other waits in line, and whoever brought it
//! does not. Loading and unloading have threads of their own, so that nobody else waits for them.
//!
//! Generic over what a model is, so that tests need none. Absent: names' meaning, files, fetching:
//! a model is a name, a size and what the loader makes of the name.

use crate::local::Arrival;
use crate::residency::{Action, Ask, Asked, Limits, ModelId, Place, Refused, Residency, Ticket};
use crate::residency::{Time, Why};
use ingle_protocol::{Call, Event, Fault, KeepAlive, Request, Sink};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// What a fleet keeps in memory.
pub trait Model: Send + Sync + 'static {
    /// Starts answering; the sink is dropped when nothing more comes.
    fn start(&self, request: &Request, sink: Sink, arrival: Arrival) -> Result<(), Fault>;
}

/// The bounds of a fleet.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of all models in memory.
    pub memory_bytes: u64,
    /// Requests that wait for models.
    pub waiting: usize,
    /// The longest that one waits for others to make room.
    pub patience: Duration,
    /// How long an idle model is kept where a request does not say.
    pub keep_alive: KeepAlive,
}

impl Default for Bounds {
    /// Nine tenths of the free memory; models are kept until it is needed.
    fn default() -> Self {
        Self {
            memory_bytes: crate::memory::usual_budget(),
            waiting: 256,
            patience: Duration::from_secs(300),
            keep_alive: KeepAlive::Forever,
        }
    }
}

/// Where a model stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Stage {
    /// Not in memory.
    Unloaded,
    /// On its way to memory: the share done, 0 to 1.
    Loading(f32),
    /// In memory.
    Ready,
    /// It could not be loaded the last time; the next request tries again.
    Failed(Fault),
}

/// What is known of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// Where it stands.
    pub stage: Stage,
    /// Memory that it takes when loaded.
    pub bytes: u64,
    /// Requests that it answers or that wait for it.
    pub requests: usize,
    /// How often it was loaded.
    pub loads: u64,
    /// How often it was unloaded.
    pub unloads: u64,
    /// How often it could not be loaded.
    pub failures: u64,
}

/// Makes a model of its name; told the share done, 0 to 1.
pub type Load<M> = Box<dyn Fn(&str, &mut dyn FnMut(f32)) -> Result<M, Fault> + Send + Sync>;
/// Hears that a model was unloaded.
pub type Unloaded = Box<dyn Fn(&str) + Send + Sync>;

/// How often those in line are asked whether they still wait.
const LOOK: Duration = Duration::from_millis(50);
/// What a refused caller is told to wait.
const RETRY: Duration = Duration::from_secs(1);

/// Models that share a memory budget. Dropping it ends them all; what still runs is cancelled.
#[expect(missing_debug_implementations, reason = "holds callbacks and threads")]
pub struct Fleet<M: Model> {
    shared: Arc<Shared<M>>,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

struct Shared<M: Model> {
    state: Mutex<State<M>>,
    /// Rung when there may be something to do.
    bell: Condvar,
    began: Instant,
    load: Load<M>,
    unloaded: Unloaded,
}

struct State<M: Model> {
    residency: Residency,
    berths: Vec<Berth<M>>,
    line: BTreeMap<Ticket, Waiter<M>>,
    quit: bool,
}

struct Berth<M> {
    name: String,
    bytes: u64,
    model: Option<Arc<M>>,
    progress: f32,
    error: Option<Fault>,
    loads: u64,
    unloads: u64,
    failures: u64,
}

impl<M> Berth<M> {
    fn new(name: &str, bytes: u64) -> Self {
        let name = name.to_owned();
        let (loads, unloads, failures) = (0, 0, 0);
        Self { name, bytes, model: None, progress: 0.0, error: None, loads, unloads, failures }
    }
}

/// A model in use: it stays in memory as long as this is held.
struct Held<M: Model> {
    // Dropped first: the lease holds the model in its berth, so this is never the last.
    model: Arc<M>,
    lease: Arc<Lease<M>>,
}

struct Lease<M: Model> {
    shared: Arc<Shared<M>>,
    id: ModelId,
}

impl<M: Model> Drop for Lease<M> {
    fn drop(&mut self) {
        let now = self.shared.now();
        self.shared.lock().residency.released(self.id, now);
        self.shared.bell.notify_one();
    }
}

type Then<M> = Box<dyn FnOnce(Result<Held<M>, Fault>) + Send>;

/// A request in line.
struct Waiter<M: Model> {
    cancelled: Arc<AtomicBool>,
    then: Then<M>,
}

/// What a request wants of its place.
struct Terms {
    keep: Option<KeepAlive>,
    deadline: Option<Instant>,
    cancelled: Arc<AtomicBool>,
}

impl Terms {
    fn plain() -> Self {
        Self { keep: None, deadline: None, cancelled: Arc::default() }
    }
}

impl<M: Model> Shared<M> {
    fn now(&self) -> Time {
        self.began.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M: Model> State<M> {
    fn id(&self, name: &str) -> Result<ModelId, Fault> {
        let found = self.berths.iter().position(|berth| berth.name == name);
        found.ok_or_else(|| Fault::caller(format!("there is no model {name:?}")).at("model"))
    }

    fn hold(&self, shared: &Arc<Shared<M>>, id: ModelId) -> Held<M> {
        let model = self.berths[id].model.as_ref().expect("a model that is in has its berth");
        Held { model: Arc::clone(model), lease: Arc::new(Lease { shared: Arc::clone(shared), id }) }
    }

    fn status(&self, id: ModelId) -> Status {
        let berth = &self.berths[id];
        let stage = match (self.residency.place(id), &berth.error) {
            (Place::In, _) => Stage::Ready,
            (Place::Loading, _) => Stage::Loading(berth.progress),
            (_, Some(fault)) => Stage::Failed(fault.clone()),
            (Place::Out | Place::Leaving, None) => Stage::Unloaded,
        };
        Status {
            stage,
            bytes: berth.bytes,
            requests: self.residency.requests(id),
            loads: berth.loads,
            unloads: berth.unloads,
            failures: berth.failures,
        }
    }
}

/// Bytes for people, as `--memory-mb` counts them.
fn mb(bytes: u64) -> u64 {
    bytes.div_ceil(1_000_000)
}

fn too_large(name: &str, bytes: u64, budget: u64) -> Fault {
    Fault::ours(format!(
        "`{name}` takes {} MB of memory and all models together may take {} MB: allow more with \
         --memory-mb, take less for its KV cache with --kv-mb, or choose a smaller model",
        mb(bytes),
        mb(budget)
    ))
}

impl<M: Model> Fleet<M> {
    /// A fleet without models.
    pub fn new(bounds: &Bounds, load: Load<M>, unloaded: Unloaded) -> Result<Self, Fault> {
        let residency = Residency::new(Limits {
            budget: bounds.memory_bytes,
            waiting: bounds.waiting,
            patience: bounds.patience,
            keep: bounds.keep_alive,
        });
        let state = State { residency, berths: Vec::new(), line: BTreeMap::new(), quit: false };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            bell: Condvar::new(),
            began: Instant::now(),
            load,
            unloaded,
        });
        let kept = Arc::clone(&shared);
        let keeper = Builder::new().name("ingle-fleet".into()).spawn(move || keep(&kept));
        let keeper = keeper.map_err(|error| Fault::ours(format!("no thread: {error}")))?;
        Ok(Self { shared, keeper: Mutex::new(Some(keeper)) })
    }

    /// How long an idle model is kept from its next request on, where that does not say.
    pub fn keep(&self, keep: KeepAlive) {
        self.shared.lock().residency.keep(keep);
    }

    /// Takes a model in, which takes so many bytes once it is loaded; of one that is known, the
    /// bytes alone, for its next load. Fails where it can never be loaded.
    pub fn add(&self, name: &str, bytes: u64) -> Result<(), Fault> {
        let mut state = self.shared.lock();
        let budget = state.residency.limits().budget;
        if bytes > budget {
            return Err(too_large(name, bytes, budget));
        }
        match state.id(name) {
            Ok(id) => state.berths[id].bytes = bytes,
            Err(_) => {
                state.berths.push(Berth::new(name, bytes));
                state.residency.add();
            }
        }
        Ok(())
    }

    /// Says that a model takes so many bytes from now on, in memory or not.
    ///
    /// # Errors
    /// A fault where there is no room for more, and then nothing is changed.
    pub fn resize(&self, name: &str, bytes: u64) -> Result<(), Fault> {
        let mut state = self.shared.lock();
        let id = state.id(name)?;
        let budget = state.residency.limits().budget;
        if bytes > budget {
            return Err(too_large(name, bytes, budget));
        }
        if !state.residency.resize(id, bytes) {
            let message = format!(
                "`{name}` would take {} MB of memory with it, and the models in memory leave no \
                 room for that: unload one first, or allow more with --memory-mb",
                mb(bytes)
            );
            return Err(Fault::busy(RETRY, message));
        }
        state.berths[id].bytes = bytes;
        self.shared.bell.notify_one();
        Ok(())
    }

    /// Starts answering as soon as the model is in memory. Returns at once; a refusal by the model
    /// itself is returned where it is in memory, and comes through the sink elsewhere.
    pub fn send(&self, name: &str, request: Request, sink: Sink) -> Result<Call, Fault> {
        let at = Instant::now();
        let (call, cancelled) = Call::new();
        let deadline = request.timeout_ms.map(|ms| at + Duration::from_millis(ms.into()));
        let terms = Terms { keep: request.keep_alive, deadline, cancelled: Arc::clone(&cancelled) };
        let arrival = Arrival { at, load: Duration::ZERO, cancelled };
        let parcel = (request, sink, arrival);
        let later = |(request, sink, arrival): (Request, Sink, Arrival), outcome| {
            let load = arrival.at.elapsed();
            deliver(outcome, &request, sink, Arrival { load, ..arrival });
        };
        let now = self.enter(name, terms, parcel, later)?;
        if let Some((held, (request, sink, arrival))) = now {
            begin(held, &request, sink, arrival)?;
        }
        Ok(call)
    }

    /// Does something with a model, loading it before if it has to be; waits for that.
    pub fn with<T>(&self, name: &str, work: impl FnOnce(&M) -> T) -> Result<T, Fault> {
        let (sender, receiver) = sync_channel(1);
        let later = |sender: std::sync::mpsc::SyncSender<_>, outcome| drop(sender.send(outcome));
        let held = match self.enter(name, Terms::plain(), sender, later)? {
            Some((held, _)) => held,
            None => receiver.recv().map_err(|_| ending())??,
        };
        Ok(work(&held.model))
    }

    /// Begins to load a model, if it is not in memory. It is kept for so long once nobody asks it
    /// anything, where that is said.
    pub fn load(&self, name: &str, keep: Option<KeepAlive>) -> Result<(), Fault> {
        let ready = matches!(self.status(name), Some(Status { stage: Stage::Ready, .. }));
        if keep.is_some() || !ready {
            self.enter(name, Terms { keep, ..Terms::plain() }, (), |(), _| {})?;
        }
        Ok(())
    }

    /// Unloads a model as soon as nobody uses it; who asks meanwhile waits until it is loaded
    /// afresh.
    pub fn unload(&self, name: &str) -> Result<(), Fault> {
        let mut state = self.shared.lock();
        let id = state.id(name)?;
        state.residency.leave(id);
        self.shared.bell.notify_one();
        Ok(())
    }

    /// Where a model stands.
    pub fn status(&self, name: &str) -> Option<Status> {
        let state = self.shared.lock();
        Some(state.status(state.id(name).ok()?))
    }

    /// Bytes of all models that are in memory or on their way in or out, and the most there may be.
    pub fn memory(&self) -> (u64, u64) {
        let state = self.shared.lock();
        (state.residency.used(), state.residency.limits().budget)
    }

    /// Requests in line.
    pub fn waiting(&self) -> usize {
        self.shared.lock().residency.waiting()
    }

    /// What is quickly asked of each model in memory.
    pub fn each<T>(&self, mut ask: impl FnMut(&str, &M) -> T) -> Vec<T> {
        let state = self.shared.lock();
        let ready = state.berths.iter().filter_map(|berth| Some((berth, berth.model.as_ref()?)));
        ready.map(|(berth, model)| ask(&berth.name, model)).collect()
    }

    /// A place for a request: the model and the parcel where it is served now; else `later` gets
    /// them, once, on another thread.
    fn enter<T: Send + 'static>(
        &self,
        name: &str,
        terms: Terms,
        parcel: T,
        later: fn(T, Result<Held<M>, Fault>),
    ) -> Result<Option<(Held<M>, T)>, Fault> {
        let Terms { keep, deadline, cancelled } = terms;
        let deadline = deadline.map(|at| at.saturating_duration_since(self.shared.began));
        let now = self.shared.now();
        let mut state = self.shared.lock();
        if state.quit {
            return Err(ending());
        }
        let model = state.id(name)?;
        let bytes = state.berths[model].bytes;
        let limits = *state.residency.limits();
        match state.residency.ask(Ask { model, bytes, keep, deadline }, now) {
            Ok(Asked::Admitted) => {
                let held = state.hold(&self.shared, model);
                Ok(Some((held, parcel)))
            }
            Ok(Asked::Waits(ticket)) => {
                let then: Then<M> = Box::new(move |outcome| later(parcel, outcome));
                state.line.insert(ticket, Waiter { cancelled, then });
                self.shared.bell.notify_one();
                Ok(None)
            }
            Err(Refused::TooLarge) => Err(too_large(name, bytes, limits.budget)),
            Err(Refused::Full) => Err(Fault::not_ready(
                RETRY,
                format!("{} requests wait for models already: try again later", limits.waiting),
            )),
        }
    }
}

impl<M: Model> Fleet<M> {
    /// Ends all models: what still runs is cancelled, and who waits is told.
    pub fn finish(&self) {
        self.shared.lock().quit = true;
        self.shared.bell.notify_one();
        let keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(keeper) = keeper {
            let _ = keeper.join();
        }
    }
}

impl<M: Model> Drop for Fleet<M> {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Serves a request that waited, or tells it that it is not.
fn deliver<M: Model>(
    outcome: Result<Held<M>, Fault>,
    request: &Request,
    sink: Sink,
    arrival: Arrival,
) {
    // The model takes the sink; what it refuses has to be told through another.
    let sink = Arc::new(Mutex::new(sink));
    let tell = |event| (sink.lock().unwrap_or_else(PoisonError::into_inner))(event);
    let passed = Arc::clone(&sink);
    let passed = move |event| (passed.lock().unwrap_or_else(PoisonError::into_inner))(event);
    let outcome = outcome.and_then(|held| begin(held, request, Box::new(passed), arrival));
    if let Err(fault) = outcome {
        let _ = tell(Event::Failed(fault));
    }
}

/// Serves a request; its model is held until the sink is dropped.
fn begin<M: Model>(
    held: Held<M>,
    request: &Request,
    mut sink: Sink,
    arrival: Arrival,
) -> Result<(), Fault> {
    let lease = Arc::clone(&held.lease);
    let sink = move |event| {
        let _held = &lease;
        sink(event)
    };
    held.model.start(request, Box::new(sink), arrival)
}

fn ending() -> Fault {
    Fault::not_ready(RETRY, "the models are being unloaded for good")
}

/// The keeper's thread: has done what the residency says, until the end.
fn keep<M: Model>(shared: &Arc<Shared<M>>) {
    let mut state = shared.lock();
    while !state.quit {
        let mut work = withdrawn(&mut state);
        while let Some(action) = state.residency.next(shared.now()) {
            work.push(prepare(shared, &mut state, action));
        }
        if work.is_empty() {
            let wakes = state.residency.wakes_at();
            let wakes = wakes.map(|at| at.saturating_sub(shared.now()));
            let looks = (!state.line.is_empty()).then_some(LOOK);
            let Some(time) = wakes.into_iter().chain(looks).min() else {
                state = shared.bell.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let waited = shared.bell.wait_timeout(state, time);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            continue;
        }
        drop(state);
        perform(work);
        state = shared.lock();
    }
    let line = std::mem::take(&mut state.line);
    let models: Vec<_> = state.berths.iter_mut().filter_map(|berth| berth.model.take()).collect();
    drop(state);
    line.into_values().for_each(|waiter| (waiter.then)(Err(ending())));
    drop(models);
}

/// What is done without the lock.
enum Work<M: Model> {
    Load(Coming<M>),
    Unload(Going<M>),
    Admit(Waiter<M>, Held<M>),
    Refuse(Waiter<M>, Fault),
}

/// Takes those out of line whose callers went away.
fn withdrawn<M: Model>(state: &mut State<M>) -> Vec<Work<M>> {
    let gone = |waiter: &Waiter<M>| waiter.cancelled.load(Ordering::Acquire);
    let tickets: Vec<Ticket> =
        state.line.iter().filter(|(_, waiter)| gone(waiter)).map(|(ticket, _)| *ticket).collect();
    let take = |ticket| {
        state.residency.withdraw(ticket);
        let fault = Fault::caller("the request was withdrawn while it waited for its model");
        Some(Work::Refuse(state.line.remove(&ticket)?, fault))
    };
    tickets.into_iter().filter_map(take).collect()
}

fn prepare<M: Model>(shared: &Arc<Shared<M>>, state: &mut State<M>, action: Action) -> Work<M> {
    let waiter = |state: &mut State<M>, ticket| {
        state.line.remove(&ticket).expect("who is in one line is in the other")
    };
    match action {
        Action::Load(id) => {
            let berth = &mut state.berths[id];
            (berth.progress, berth.error) = (0.0, None);
            let name = berth.name.clone();
            Work::Load(Coming { shared: Arc::clone(shared), id, name, settled: false })
        }
        Action::Unload(id) => {
            let berth = &mut state.berths[id];
            berth.unloads += 1;
            let (name, model) = (berth.name.clone(), berth.model.take());
            Work::Unload(Going { shared: Arc::clone(shared), id, name, model })
        }
        Action::Admit(ticket, id) => {
            let held = state.hold(shared, id);
            Work::Admit(waiter(state, ticket), held)
        }
        Action::Refuse(ticket, id, why) => {
            let fault = refusal(&state.berths[id], state.residency.limits(), why);
            Work::Refuse(waiter(state, ticket), fault)
        }
    }
}

fn refusal<M>(berth: &Berth<M>, limits: &Limits, why: Why) -> Fault {
    let name = &berth.name;
    match (why, &berth.error) {
        (Why::Failed, Some(fault)) => fault.clone(),
        (Why::Failed, None) => Fault::ours(format!("`{name}` could not be loaded")),
        (Why::Late, _) => Fault::late(
            RETRY,
            format!("the time given passed before `{name}` was in memory: allow more of it"),
        )
        .at("timeout_ms"),
        (Why::NoRoom, _) => Fault::not_ready(
            RETRY,
            format!(
                "`{name}` takes {} MB of memory, and in {} seconds the models that hold it were \
                 never idle: try again later, or allow more with --memory-mb",
                mb(berth.bytes),
                limits.patience.as_secs()
            ),
        ),
    }
}

/// Those who are let in go one after another on a thread of their own: their prompts take time.
fn perform<M: Model>(work: Vec<Work<M>>) {
    let mut boarding = Boarding(Vec::new());
    for work in work {
        match work {
            Work::Load(coming) => spawn("ingle-load", move || coming.load()),
            Work::Unload(going) => spawn("ingle-unload", move || drop(going)),
            Work::Admit(waiter, held) => boarding.0.push((waiter, held)),
            Work::Refuse(waiter, fault) => (waiter.then)(Err(fault)),
        }
    }
    if !boarding.0.is_empty() {
        spawn("ingle-admit", move || drop(boarding));
    }
}

/// Runs something on a thread. Where there is none it is dropped here, which does what must be.
fn spawn(name: &str, work: impl FnOnce() + Send + 'static) {
    drop(Builder::new().name(name.into()).spawn(work));
}

/// Requests that are let in; served when dropped.
struct Boarding<M: Model>(Vec<(Waiter<M>, Held<M>)>);

impl<M: Model> Drop for Boarding<M> {
    fn drop(&mut self) {
        self.0.drain(..).for_each(|(waiter, held)| (waiter.then)(Ok(held)));
    }
}

/// A model that is being loaded; dropped before it is there, it could not be.
struct Coming<M: Model> {
    shared: Arc<Shared<M>>,
    id: ModelId,
    name: String,
    settled: bool,
}

impl<M: Model> Coming<M> {
    fn load(mut self) {
        let told = Arc::clone(&self.shared);
        let id = self.id;
        let mut progress = |share: f32| told.lock().berths[id].progress = share;
        let outcome = (self.shared.load)(&self.name, &mut progress);
        self.settle(outcome);
    }

    fn settle(&mut self, outcome: Result<M, Fault>) {
        self.settled = true;
        let now = self.shared.now();
        let mut state = self.shared.lock();
        let berth = &mut state.berths[self.id];
        match outcome {
            Ok(model) => {
                berth.loads += 1;
                berth.model = Some(Arc::new(model));
                state.residency.loaded(self.id, now);
            }
            Err(fault) => {
                berth.failures += 1;
                berth.error = Some(fault);
                state.residency.failed(self.id, now);
            }
        }
        // Where all has ended meanwhile, nobody else will drop it; not under the lock.
        let late = if state.quit { state.berths[self.id].model.take() } else { None };
        drop(state);
        drop(late);
        self.shared.bell.notify_one();
    }
}

impl<M: Model> Drop for Coming<M> {
    fn drop(&mut self) {
        if !self.settled {
            let fault = Fault::ours(format!("a bug or a lack of threads stopped `{}`", self.name));
            self.settle(Err(fault));
        }
    }
}

/// A model that is being unloaded; gone when dropped.
struct Going<M: Model> {
    shared: Arc<Shared<M>>,
    id: ModelId,
    name: String,
    model: Option<Arc<M>>,
}

impl<M: Model> Drop for Going<M> {
    fn drop(&mut self) {
        drop(self.model.take());
        // Told before its memory is given away: nobody hears of a load that took it first.
        (self.shared.unloaded)(&self.name);
        let now = self.shared.now();
        self.shared.lock().residency.unloaded(self.id, now);
        self.shared.bell.notify_one();
    }
}

#[cfg(test)]
mod tests;
