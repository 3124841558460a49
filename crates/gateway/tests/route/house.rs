//! A gateway and all that is around it, as scripts and notes: this machine, providers elsewhere,
//! budgets, a book, and a clock that is the runtime's.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, ThreadId};

use ingle_gateway::budget::{
    Account, Amount, Claim, Lost, Memory, Refusal, Settled, Standing, Store,
};
use ingle_gateway::policy::Table;
use ingle_gateway::route::{Book, Gateway, Held, Kept, Parts, Said as Words};
use ingle_gateway::{Metric, ModelCard, Provider, Sheet, Standing as Stands, Tell};
use ingle_protocol::{
    Call, Chat, Encoded, Encoding, Entry, Event, Fault, Finish, KeepAlive, Piece, Receipt, Request,
    Sink, Timings, Token, Usage, Weighed, Weighing,
};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::upstream::{Stage, world};

/// When the clock begins.
const NOW_MS: u64 = 1_000_000;

fn lock<T>(it: &Mutex<T>) -> MutexGuard<'_, T> {
    it.lock().expect("no panic")
}

/// What this machine does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Say {
    /// Answers `here`, of 2 tokens after 5.
    Answer,
    /// Refuses it at once.
    Refuse(Fault),
    /// Takes it, and fails.
    Fail(Fault),
}

/// This machine: one model called `small`.
#[derive(Default)]
pub(crate) struct Here {
    pub(crate) script: Mutex<VecDeque<Say>>,
    /// Requests that it was sent.
    pub(crate) seen: Mutex<Vec<Request>>,
    /// Names of models that texts were to be read with.
    pub(crate) read: Mutex<Vec<String>>,
    /// Whether it could not be loaded.
    pub(crate) failed: AtomicBool,
}

fn receipt() -> Receipt {
    Receipt {
        model: "small".into(),
        route: Vec::new(),
        left_machine: false,
        cost_micros: 0,
        finish: Finish::Stop,
        stop: None,
        notes: Vec::new(),
        usage: Usage { prompt_tokens: 5, completion_tokens: 2, ..Usage::default() },
        timings: Timings::default(),
    }
}

fn absent<T>() -> Result<T, Fault> {
    Err(Fault::caller("this machine does not do that"))
}

impl Provider for Here {
    fn models(&self) -> Vec<ModelCard> {
        let failed = self.failed.load(Ordering::SeqCst);
        let standing = if failed { Stands::Failed } else { Stands::Ready };
        vec![ModelCard { name: "small".into(), chat: true, standing, ..ModelCard::default() }]
    }
    fn load(&self, _: &str, _: Option<KeepAlive>) -> Result<(), Fault> {
        absent()
    }
    fn unload(&self, _: &str) -> Result<(), Fault> {
        absent()
    }
    fn sheet(&self, _: &str) -> Result<Sheet, Fault> {
        absent()
    }
    fn fetch(&self, _: &str, _: Tell<'_>) -> Result<(), Fault> {
        absent()
    }
    fn remove(&self, _: &str) -> Result<(), Fault> {
        absent()
    }
    fn send(&self, request: Request, mut sink: Sink) -> Result<Call, Fault> {
        lock(&self.seen).push(request);
        match lock(&self.script).pop_front().unwrap_or(Say::Answer) {
            Say::Refuse(fault) => return Err(fault),
            Say::Fail(fault) => _ = sink(Event::Failed(fault)),
            Say::Answer => {
                let piece = Piece { text: "here".into(), ..Piece::default() };
                let _ = sink(Event::Text(piece));
                let _ = sink(Event::Done(Box::new(receipt())));
            }
        }
        Ok(Call::new().0)
    }
    fn weigh(&self, _: &Weighing, _: Arc<AtomicBool>) -> Result<Weighed, Fault> {
        absent()
    }
    fn encode(&self, encoding: &Encoding, _: Arc<AtomicBool>) -> Result<Encoded, Fault> {
        lock(&self.read).push(encoding.model.clone());
        Ok(Encoded { read: Vec::new(), labels: Vec::new(), receipt: receipt() })
    }
    fn render(&self, model: &str, _: &Chat) -> Result<String, Fault> {
        lock(&self.read).push(model.to_owned());
        Ok(String::new())
    }
    fn tokenize(&self, model: &str, _: &str, _: bool) -> Result<Vec<Token>, Fault> {
        lock(&self.read).push(model.to_owned());
        Ok(Vec::new())
    }
    fn detokenize(&self, model: &str, _: &[Token]) -> Result<String, Fault> {
        lock(&self.read).push(model.to_owned());
        Ok(String::new())
    }
    fn metrics(&self) -> Vec<Metric> {
        Vec::new()
    }
}

/// What was announced: the worst of it, and what is held for it.
type Announced = (Entry, Vec<(String, Amount)>);

/// A book that is read.
#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) begun: Mutex<Vec<Announced>>,
    pub(crate) amended: Mutex<Vec<Announced>>,
    /// How many more calls it does not announce, and announce anew.
    pub(crate) refuses: Mutex<(usize, usize)>,
    /// Who waits to be told that a call was announced anew, where they have to.
    pub(crate) waiting: Mutex<Option<Vec<Kept>>>,
    pub(crate) ended: Mutex<Vec<Entry>>,
    pub(crate) noted: Mutex<Vec<Entry>>,
    /// The calls whose words it got.
    pub(crate) contents: Mutex<Vec<String>>,
}

/// Whether one more is refused.
fn refused(left: &mut usize) -> Result<(), Fault> {
    if *left == 0 {
        return Ok(());
    }
    *left -= 1;
    Err(Fault::ours("the disk is full"))
}

impl Book for Notes {
    fn begin(&self, worst: &Entry, held: &[(String, Amount)], kept: Kept) {
        let refused = refused(&mut lock(&self.refuses).0);
        if refused.is_ok() {
            lock(&self.begun).push((worst.clone(), held.to_vec()));
        }
        kept(refused);
    }
    fn amend(&self, worst: &Entry, held: &[(String, Amount)], kept: Kept) {
        if lock(&self.begun).iter().all(|(begun, _)| begun.id != worst.id) {
            return kept(Err(Fault::ours("it was never announced")));
        }
        let refused = refused(&mut lock(&self.refuses).1);
        if refused.is_err() {
            return kept(refused);
        }
        lock(&self.amended).push((worst.clone(), held.to_vec()));
        if let Some(waiting) = &mut *lock(&self.waiting) {
            return waiting.push(kept);
        }
        kept(Ok(()));
    }
    fn end(&self, entry: &Entry, kept: Kept) {
        lock(&self.ended).push(entry.clone());
        kept(Ok(()));
    }
    fn note(&self, entry: &Entry, kept: Kept) {
        lock(&self.noted).push(entry.clone());
        kept(Ok(()));
    }
    /// As if it were on another machine.
    fn wants_content(&self, stays: bool) -> bool {
        !stays
    }
    fn content(&self, entry: &Entry, _: &Request, _: &Words) {
        lock(&self.contents).push(entry.id.clone());
    }
}

type Before = Box<dyn FnOnce(&Memory, &[Claim], u64) + Send>;

/// Budgets in memory, and what somebody else does just before they are asked for room.
#[derive(Default)]
pub(crate) struct Raced {
    pub(crate) memory: Memory,
    /// Whether they are somewhere that has to be waited for.
    pub(crate) waits: AtomicBool,
    /// On which threads calls were sent and settled.
    pub(crate) threads: Mutex<Vec<ThreadId>>,
    /// What does not answer, and how it says so.
    pub(crate) fails: Mutex<Option<(&'static str, Refusal)>>,
    before: Mutex<VecDeque<Before>>,
}

impl Raced {
    fn answers(&self, what: &str) -> Result<(), Refusal> {
        match &*lock(&self.fails) {
            Some((fails, how)) if *fails == what => Err(how.clone()),
            _ => Ok(()),
        }
    }
}

impl Store for Raced {
    fn waits(&self) -> bool {
        self.waits.load(Ordering::SeqCst)
    }

    fn reserve(
        &self,
        id: &str,
        amount: Amount,
        claims: &[Claim],
        now_ms: u64,
    ) -> Result<(), Refusal> {
        self.answers("reserve")?;
        if let Some(before) = lock(&self.before).pop_front() {
            before(&self.memory, claims, now_ms);
        }
        self.memory.reserve(id, amount, claims, now_ms)
    }
    fn sent(&self, id: &str) -> Result<(), Refusal> {
        lock(&self.threads).push(thread::current().id());
        self.answers("sent")?;
        self.memory.sent(id)
    }
    fn settle(&self, id: &str, took: Option<Amount>) -> Result<Settled, Refusal> {
        lock(&self.threads).push(thread::current().id());
        self.memory.settle(id, took)
    }
    fn release(&self, id: &str) -> Result<(), Refusal> {
        self.memory.release(id)
    }
    fn expire(&self, before_ms: u64) -> Result<Vec<Lost>, Refusal> {
        self.memory.expire(before_ms)
    }
    fn standings(&self, accounts: &[Account]) -> Result<Vec<Standing>, Refusal> {
        self.answers("standings")?;
        self.memory.standings(accounts)
    }
}

/// How a call ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) text: String,
    pub(crate) end: Result<Receipt, Fault>,
    /// What is kept of it.
    pub(crate) entry: Entry,
    /// How long it took.
    pub(crate) ms: u128,
}

impl Said {
    /// Who answered, or why nobody did.
    pub(crate) fn by(&self) -> String {
        match &self.end {
            Ok(_) => format!("{}/{}", self.entry.provider, self.entry.model),
            Err(fault) => format!("{:?} {:?}", fault.blame, fault.retry),
        }
    }

    /// What is kept of one candidate.
    pub(crate) fn reason(&self, of: &str) -> &str {
        let step = self.entry.route.iter().find(|step| step.candidate == of);
        step.map_or("", |step| &step.reason)
    }
}

/// A gateway, and all that is around it.
pub(crate) struct House {
    pub(crate) stage: Arc<Stage>,
    pub(crate) here: Arc<Here>,
    pub(crate) notes: Arc<Notes>,
    pub(crate) store: Arc<Raced>,
    /// How far its clock was put forward, in milliseconds.
    pub(crate) later: Arc<AtomicU64>,
    pub(crate) gateway: Gateway,
}

impl House {
    /// Within a runtime, whose clock is its own.
    pub(crate) fn new(policy: &str) -> Self {
        let table = Table::read("policy.toml", policy).unwrap_or_else(|wrong| panic!("{wrong}"));
        let (stage, here) = (Arc::new(Stage::default()), Arc::new(Here::default()));
        let (notes, store) = (Arc::new(Notes::default()), Arc::new(Raced::default()));
        let handle = Handle::current();
        let held = Held::new(table, "v", handle.clone(), world(&stage)).expect("it can be held");
        let (since, later) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let forward = Arc::clone(&later);
        let passed = move || u64::try_from(since.elapsed().as_millis()).expect("it is short");
        let gateway = Gateway::new(Parts {
            local: Arc::clone(&here) as _,
            held,
            store: Arc::clone(&store) as _,
            book: Arc::clone(&notes) as _,
            handle,
            now_ms: Arc::new(move || NOW_MS + forward.load(Ordering::SeqCst) + passed()),
        });
        Self { stage, here, notes, store, later, gateway }
    }

    /// What somebody else does before the next reservation that has none.
    pub(crate) fn before(&self, does: impl FnOnce(&Memory, &[Claim], u64) + Send + 'static) {
        lock(&self.store.before).push_back(Box::new(does));
    }

    /// Makes a call and waits for its end.
    pub(crate) async fn ask(&self, request: Request) -> Said {
        let (sender, mut events) = mpsc::channel(1024);
        let sink: Sink = Box::new(move |event| {
            sender.try_send(event).expect("there is room, and somebody listens");
            ControlFlow::Continue(())
        });
        let (since, mut text) = (Instant::now(), String::new());
        let call = self.gateway.send(request, sink);
        let end = match &call {
            Err(fault) => Err(fault.clone()),
            Ok(_) => loop {
                match events.recv().await.expect("the end is told") {
                    Event::Text(piece) => text += &piece.text,
                    Event::Done(receipt) => break Ok(*receipt),
                    Event::Failed(fault) => break Err(fault),
                    other => panic!("{other:?} was not asked for"),
                }
            },
        };
        let ms = since.elapsed().as_millis();
        let mut all = lock(&self.notes.ended).clone();
        all.extend(lock(&self.notes.noted).iter().cloned());
        assert_eq!(all.len(), 1, "a call has one entry: {all:?}");
        let entry = all.remove(0);
        Said { text, end, entry, ms }
    }

    /// The providers that were asked since that was last asked, in their order.
    pub(crate) fn asked(&self) -> String {
        let log = self.stage.log();
        let asks = log.split(", ").filter_map(|line| line.strip_suffix(" ask"));
        asks.collect::<Vec<_>>().join(" ")
    }

    /// What was spent of a budget, and what is held of it.
    pub(crate) fn spent(&self, name: &str) -> (Amount, Amount) {
        let state = self.store.memory.snapshot();
        let all = state.accounts().find(|(account, _)| account.name == name);
        all.map(|(_, it)| (it.spent, it.reserved)).unwrap_or_default()
    }
}
