//! Who works on batches: one task, which takes lines of all open batches in turn and has a bounded
//! number of them under way, so that the engine computes them together.
//!
//! A line goes the way of every other request, behind all of them: by its priority in the engine,
//! on places of its own beside theirs, fewer where anything else is under way. Its result is on the
//! disk before it counts. Whenever the process ends, lines without a result are answered by the
//! next one. Where several processes share records, one works on batches (a lease); what any of
//! them begins or cancels is seen within a second.
//!
//! Absent: the state machine, which the records are.

mod input;
mod line;
mod offline;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ingle_gateway::Metric;
use ingle_protocol::Fault;
use ingle_protocol::wire::{Ask, openai, reading, responses};
use ingle_records::{BatchRecord, BatchStatus, LineSpan, Outcome, Records};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet, spawn_blocking};
use tokio::time::sleep;

use crate::front::fresh_id;
use crate::keys::Owner;
use crate::records::now_s;
use crate::{Scope, State, origin, routes};

pub use offline::{OFFLINE_ORIGIN, OFFLINE_OWNER, offline};

/// What one process began or cancelled, another one sees this soon.
const TICK: Duration = Duration::from_secs(1);
/// How often files whose time is over are looked for.
const SWEEP: Duration = Duration::from_secs(600);
/// Open batches that are worked on at once; more wait for their turn.
const OPEN_MOST: u32 = 256;
/// Lines that are taken from a batch at once.
const TAKEN: u32 = 64;

/// A line's request.
enum Asked {
    /// To a model that writes.
    Write(Box<dyn Ask>),
    /// To one that reads.
    Read(Box<reading::Asked>),
}

/// Reads a line's request.
type Read = fn(&[u8]) -> Result<Asked, Fault>;

/// The paths that lines may be for, and who reads them.
const ENDPOINTS: &[(&str, Read)] = &[
    ("/v1/chat/completions", |body| Ok(Asked::Write(Box::new(routes::chat_request(body)?)))),
    ("/v1/completions", |body| Ok(Asked::Write(Box::new(routes::completion_request(body)?)))),
    ("/v1/responses", |body| {
        let asked = responses::read_request(body)?;
        if asked.background {
            let message = "a batch is in the background: leave 'background' out";
            return Err(Fault::caller(message).at("background"));
        }
        Ok(Asked::Write(Box::new(asked)))
    }),
    ("/v1/embeddings", |body| Ok(Asked::Read(Box::new(routes::embeddings_request(body)?)))),
];

/// The paths that lines may be for.
pub fn batch_endpoints() -> impl Iterator<Item = &'static str> {
    ENDPOINTS.iter().map(|row| row.0)
}

/// What handlers and the working task share.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    bell: Notify,
    /// One place a choice under way.
    places: Arc<crate::places::Places>,
    running: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
}

impl Desk {
    /// Says that a batch was begun or cancelled.
    pub(crate) fn ring(&self) {
        self.bell.notify_one();
    }
}

/// Numbers for `/metrics`.
pub(crate) async fn metrics(state: &State) -> Vec<Metric> {
    let Some(records) = state.config().records.clone() else { return Vec::new() };
    let backlog = spawn_blocking(move || records.backlog()).await;
    let backlog = backlog.ok().and_then(Result::ok).unwrap_or_default();
    let desk = &state.batches;
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    #[rustfmt::skip]
    let rows = [
        ("ingle_server_batches_open", "Batches that have not ended.", false, backlog.batches),
        ("ingle_server_batch_lines_waiting", "Lines of batches without a result.", false, backlog.lines),
        ("ingle_server_batch_lines_running", "Lines of batches under way.", false, of(&desk.running)),
        ("ingle_server_batch_lines_answered_total", "Lines of batches answered by this process.", true, of(&desk.answered)),
        ("ingle_server_batch_lines_failed_total", "Lines of batches failed in this process.", true, of(&desk.failed)),
    ];
    let metric = |(name, help, counter, value): (_, _, _, u64)| {
        let value = value as f64;
        Metric { name, help, counter, model: None, value }
    };
    rows.into_iter().map(metric).collect()
}

/// Who answers for a batch, if anyone does now, and from where its lines come: from where it was
/// begun, under the same key, building on where its input came from.
fn owner(state: &State, batch: &BatchRecord) -> Option<Owner> {
    let scopes = [Scope::Infer, Scope::Batch];
    let begun = batch.asked.origin.as_deref().and_then(origin::read_all);
    state.live().accounts.going_on(&batch.asked.owner, &scopes, begun.as_ref())
}

/// A batch that is worked on.
struct Feed {
    batch: Arc<BatchRecord>,
    /// Lines that were taken and not begun.
    taken: VecDeque<(u64, LineSpan)>,
    /// The first line that was not taken.
    next: u64,
    /// Whether there are none behind it.
    drained: bool,
    running: BTreeMap<u64, AbortHandle>,
}

impl Drop for Feed {
    fn drop(&mut self) {
        for line in self.running.values() {
            line.abort();
        }
    }
}

/// What became of a line: `None` where its result could not be kept.
struct Done {
    batch: String,
    line: u64,
    span: LineSpan,
    kept: Option<()>,
}

struct Work {
    state: Arc<State>,
    records: Arc<Records>,
    feeds: VecDeque<Feed>,
    lines: JoinSet<Done>,
}

/// Works on batches until it is dropped. Lines that are under way then are begun anew by whoever
/// works next.
pub(crate) async fn work(state: Arc<State>) {
    let Some(records) = state.config().records.clone() else { return };
    let _lease = loop {
        let asked = Arc::clone(&records);
        match spawn_blocking(move || asked.lease()).await {
            Ok(Ok(Some(lease))) => break lease,
            Ok(Ok(None)) => {}
            other => tracing::warn!(?other, "no lease on the batches"),
        }
        sleep(TICK).await;
    };
    let mut work = Work { state, records, feeds: VecDeque::new(), lines: JoinSet::new() };
    let mut swept = None;
    let mut look = true;
    loop {
        if swept.is_none_or(|at: std::time::Instant| at.elapsed() >= SWEEP) {
            swept = Some(std::time::Instant::now());
            let _ = work.records(|records| records.sweep_files(now_s())).await;
        }
        if look {
            work.look().await;
        }
        look = work.fill().await;
        if look {
            continue;
        }
        let bell = Arc::clone(&work.state);
        tokio::select! {
            biased;
            Some(done) = work.lines.join_next() => {
                work.done(done).await;
            }
            () = bell.batches.bell.notified() => look = true,
            () = sleep(TICK) => look = true,
        }
    }
}

impl Work {
    /// Asks the records something, off the async threads; what fails is told in the log and tried
    /// again at the next look.
    async fn records<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Records) -> ingle_records::Result<T> + Send + 'static,
    ) -> Option<T> {
        let records = Arc::clone(&self.records);
        match spawn_blocking(move || work(&records)).await {
            Ok(Ok(value)) => Some(value),
            Ok(Err(error)) => {
                tracing::error!(%error, "the records of batches failed");
                None
            }
            Err(_) => None,
        }
    }

    /// Looks at all open batches: takes new ones up, and ends those that are to be ended.
    async fn look(&mut self) {
        let Some(open) = self.records(|records| records.open_batches(OPEN_MOST)).await else {
            return;
        };
        self.feeds.retain(|feed| open.iter().any(|batch| batch.asked.id == feed.batch.asked.id));
        for batch in open {
            self.look_at(batch).await;
        }
    }

    async fn look_at(&mut self, batch: BatchRecord) {
        let id = batch.asked.id.clone();
        match batch.status {
            BatchStatus::Validating => {
                let lines_most = self.state.config().limits.batch_lines;
                let bytes_most = self.state.config().limits.body_bytes;
                let asked = batch.asked.clone();
                let taken = self
                    .records(move |records| input::take(records, &asked, lines_most, bytes_most));
                if taken.await == Some(true) {
                    self.feed(batch);
                }
            }
            BatchStatus::InProgress if batch.asked.expires_s <= now_s() => self.close(&id).await,
            BatchStatus::InProgress => self.feed(batch),
            _ => self.close(&id).await,
        }
    }

    /// Takes a batch up, once: as long as there is nobody to answer for, it waits.
    fn feed(&mut self, batch: BatchRecord) {
        let known = self.feeds.iter().any(|feed| feed.batch.asked.id == batch.asked.id);
        if known || owner(&self.state, &batch).is_none() {
            return;
        }
        self.feeds.push_back(Feed {
            batch: Arc::new(batch),
            taken: VecDeque::new(),
            next: 0,
            drained: false,
            running: BTreeMap::new(),
        });
    }

    /// Ends a batch whose lines have their results, whose time is over or which is to be ended.
    async fn close(&mut self, id: &str) {
        // What is under way is dropped, and with it the calls behind it.
        self.feeds.retain(|feed| feed.batch.asked.id != id);
        let id = id.to_owned();
        let closed = self.records(move |records| {
            records.finalize_batch(&id, now_s())?;
            let unrun = |custom_id: &str, end: BatchStatus| {
                openai::write_batch_unrun(&fresh_id(), custom_id, end.name())
            };
            records.close_batch(&id, &unrun, now_s())
        });
        if let Some(Some(end)) = closed.await {
            tracing::info!(end = end.name(), "a batch has ended");
        }
    }

    /// Begins lines of all batches in turn, as many as may be under way. True where a batch was
    /// ended by that.
    async fn fill(&mut self) -> bool {
        let most = self.state.config().limits.batch_answers;
        let mut idle = 0;
        while self.lines.len() < most && idle < self.feeds.len() {
            let Some(mut feed) = self.feeds.pop_front() else { break };
            if feed.taken.is_empty() && !feed.drained {
                self.take(&mut feed).await;
            }
            match feed.taken.pop_front() {
                Some((line, span)) => {
                    idle = 0;
                    self.begin(&mut feed, line, span);
                    self.feeds.push_back(feed);
                }
                None if feed.drained && feed.running.is_empty() => {
                    let id = feed.batch.asked.id.clone();
                    drop(feed);
                    self.close(&id).await;
                    return true;
                }
                None => {
                    idle += 1;
                    self.feeds.push_back(feed);
                }
            }
        }
        false
    }

    /// Takes more lines of a batch.
    async fn take(&self, feed: &mut Feed) {
        let (id, from) = (feed.batch.asked.id.clone(), feed.next);
        let lines = self.records(move |records| records.waiting_lines(&id, from, TAKEN)).await;
        let Some(lines) = lines else { return };
        feed.drained = lines.len() < TAKEN as usize;
        feed.next = lines.last().map_or(from, |line| line.0 + 1);
        feed.taken = lines.into();
    }

    fn begin(&mut self, feed: &mut Feed, line: u64, span: LineSpan) {
        let (state, records) = (Arc::clone(&self.state), Arc::clone(&self.records));
        let batch = Arc::clone(&feed.batch);
        let begun = self.lines.spawn(async move {
            state.batches.running.fetch_add(1, Ordering::Relaxed);
            let _running = Running(Arc::clone(&state));
            let (outcome, result) = line::answer(&state, &records, &batch, &span).await;
            let id = batch.asked.id.clone();
            let kept = {
                let id = id.clone();
                spawn_blocking(move || records.finish_line(&id, line, outcome, &result)).await
            };
            let kept = match kept {
                Ok(Ok(counted)) => {
                    let counter = match outcome {
                        Outcome::Answered => &state.batches.answered,
                        Outcome::Failed => &state.batches.failed,
                    };
                    counter.fetch_add(u64::from(counted), Ordering::Relaxed);
                    Some(())
                }
                other => {
                    tracing::error!(?other, "a line's result could not be kept");
                    None
                }
            };
            Done { batch: id, line, span, kept }
        });
        feed.running.insert(line, begun);
    }

    /// Notes that a line has ended.
    async fn done(&mut self, done: Result<Done, tokio::task::JoinError>) {
        // One that was aborted belongs to no feed any more.
        let Ok(done) = done else { return };
        let feed = self.feeds.iter_mut().find(|feed| feed.batch.asked.id == done.batch);
        let Some(feed) = feed else { return };
        feed.running.remove(&done.line);
        if done.kept.is_none() {
            feed.taken.push_back((done.line, done.span));
            // A full disk is not freed by asking again at once.
            sleep(TICK).await;
        }
    }
}

/// Counts a line that is under way, however it ends.
struct Running(Arc<State>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.batches.running.fetch_sub(1, Ordering::Relaxed);
    }
}
