//! Responses under way, and those that are kept.
//!
//! A response is computed by a task of its own, which writes its events into a log; whoever wants
//! them reads there: the caller who asked, and, of a response in the background, whoever asks for
//! it later with its owner's key, from any event on. One in the foreground ends with its reader,
//! one in the background does not. What is kept is on the disk before its last event is told, so
//! that the next request can build on it.
//!
//! A response whose server is gone is settled by whoever comes upon it: it has failed, and says so.
//! It is not computed again: nobody may wait for it any more.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use ingle_protocol::Fault;
use ingle_protocol::wire::Kind;
use ingle_protocol::wire::responses::{self, Past, Snapshot, Status, frames, gather};
use ingle_records::{Chain, ChainLimits, Records, ResponseLimits, ResponseRecord, Serving};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::answer::Answer;
use crate::refusal::{Refusal, json};
use crate::{Config, State};

/// What shows that a silent stream lives.
const BEAT: &str = ": waiting\n\n";

/// The responses of a server.
#[derive(Debug, Default)]
pub(crate) struct Responses {
    store: Option<Store>,
    /// Those in the background, by their ids.
    live: Mutex<BTreeMap<String, Arc<Live>>>,
    /// How many these are.
    count: watch::Sender<usize>,
}

/// Where responses are kept.
#[derive(Debug)]
pub(crate) struct Store {
    records: Arc<Records>,
    /// That this server lives.
    serving: Serving,
    limits: ResponseLimits,
    chain: ChainLimits,
}

/// A response under way.
#[derive(Debug)]
pub(crate) struct Live {
    /// Its owner's home.
    pub(crate) owner: String,
    /// Its id.
    pub(crate) id: String,
    /// What it was given.
    pub(crate) input: String,
    log: Mutex<Log>,
    /// Changes with the log.
    grown: watch::Sender<()>,
    cancelled: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Log {
    /// Each event at the place that its number says.
    frames: Vec<String>,
    ended: Option<Result<Snapshot, Refusal>>,
}

impl Live {
    pub(crate) fn new(owner: String, id: String, input: String) -> Arc<Self> {
        let (grown, cancelled) = (watch::Sender::new(()), watch::Sender::new(false));
        Arc::new(Self { owner, id, input, log: Mutex::default(), grown, cancelled })
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds events.
    pub(crate) fn tell(&self, text: &str) {
        self.log().frames.extend(frames(text).map(str::to_owned));
        self.grown.send_replace(());
    }

    fn end(&self, outcome: Result<Snapshot, Refusal>) {
        self.log().ended.get_or_insert(outcome);
        self.grown.send_replace(());
    }

    /// Ends it; what was told until then stays.
    pub(crate) fn cancel(&self) {
        self.cancelled.send_replace(true);
    }

    /// The response as far as it is.
    pub(crate) fn snapshot(&self) -> Result<Snapshot, Refusal> {
        let log = self.log();
        match &log.ended {
            Some(outcome) => outcome.clone(),
            None => gathered(log.frames.iter().map(String::as_str)),
        }
    }

    /// What is kept of it while it is computed.
    pub(crate) fn begun(&self, record: ResponseRecord) -> Result<ResponseRecord, Refusal> {
        let Snapshot { status, response } = self.snapshot()?;
        let (status, events) = (status.name().to_owned(), self.log().frames.concat());
        Ok(ResponseRecord { status, response, events, ..record })
    }

    /// The response once nothing more will come.
    pub(crate) async fn ended(&self) -> Result<Snapshot, Refusal> {
        let mut grown = self.grown.subscribe();
        loop {
            grown.borrow_and_update();
            if let Some(outcome) = &self.log().ended {
                return outcome.clone();
            }
            // Its sender is here, so this cannot fail.
            let _ = grown.changed().await;
        }
    }
}

fn gathered<'a>(frames: impl Iterator<Item = &'a str>) -> Result<Snapshot, Refusal> {
    gather(frames).ok_or_else(|| Fault::ours("a response has no events; this is a bug").into())
}

impl Responses {
    /// Nothing is kept where there are no records, or where they are for other things.
    pub(crate) fn new(config: &Config) -> Self {
        let records = config.records.clone().filter(|_| config.store);
        let store = records.and_then(|records| match records.serving(&crate::front::fresh_id()) {
            Ok(serving) => {
                let (limits, chain) = (config.limits.responses, config.limits.chain);
                Some(Store { records, serving, limits, chain })
            }
            Err(error) => {
                tracing::warn!(%error, "responses are not kept");
                None
            }
        });
        if let Some(store) = &store
            && let Err(error) = store.settle_all()
        {
            tracing::warn!(%error, "what became of earlier responses cannot be written");
        }
        Self { store, ..Self::default() }
    }

    pub(crate) fn store(&self) -> Option<&Store> {
        self.store.as_ref()
    }

    fn map(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Live>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The response of this id, if it is in the background and under way.
    pub(crate) fn live(&self, owner: &str, id: &str) -> Option<Arc<Live>> {
        self.map().get(id).filter(|live| live.owner == owner).cloned()
    }

    fn add(&self, live: &Arc<Live>) {
        let mut map = self.map();
        map.insert(live.id.clone(), Arc::clone(live));
        self.count.send_replace(map.len());
    }

    fn remove(&self, live: &Live) {
        let mut map = self.map();
        map.remove(&live.id);
        self.count.send_replace(map.len());
    }

    /// A response that was kept.
    pub(crate) fn find(&self, owner: &str, id: &str) -> Result<Option<ResponseRecord>, Fault> {
        let Some(store) = &self.store else { return Ok(None) };
        // Asked first: what ends meanwhile is on the disk before it leaves the map.
        let here = self.map().contains_key(id);
        let found = store.records.response(owner, id).map_err(|error| wrong(&error))?;
        let settled = |record| if here { Ok(record) } else { store.settled(record) };
        found.map(settled).transpose()
    }

    /// Keeps a response that will be computed in the background, here.
    pub(crate) fn begin(&self, record: ResponseRecord) -> Result<(), Fault> {
        let Some(store) = &self.store else { return Ok(()) };
        let server = Some(store.serving.name().to_owned());
        if store.keep(&ResponseRecord { server, ..record })? {
            return Ok(());
        }
        let message = "the input is larger than all that is kept of responses";
        Err(Fault::caller(message).at("background"))
    }

    /// Those of these responses that were kept, to build on their items.
    pub(crate) fn named(
        &self,
        owner: &str,
        ids: &[String],
    ) -> Result<Vec<ResponseRecord>, Refusal> {
        let Some(store) = &self.store else { return Ok(Vec::new()) };
        let (mut named, mut bytes) = (Vec::new(), 0);
        for id in ids {
            named.extend(self.find(owner, id)?);
            bytes += named.last().map_or(0, |it| (it.input.len() + it.response.len()) as u64);
            if named.len() > store.chain.count || bytes > store.chain.bytes {
                return Err(store.too_long("input"));
            }
        }
        Ok(named)
    }

    /// Waits until nothing is computed in the background.
    pub(crate) async fn idle(&self) {
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl Store {
    /// Keeps a response; `false` where it is larger than all that may be kept.
    fn keep(&self, record: &ResponseRecord) -> Result<bool, Fault> {
        self.records.keep_response(record, self.limits).map_err(|error| wrong(&error))
    }

    fn end(&self, record: &ResponseRecord) -> Result<bool, Fault> {
        self.records.end_response(record, self.limits).map_err(|error| wrong(&error))
    }

    pub(crate) fn delete(&self, owner: &str, id: &str) -> Result<bool, Fault> {
        self.records.delete_response(owner, id).map_err(|error| wrong(&error))
    }

    /// A response and all before it, oldest first.
    pub(crate) fn chain(&self, owner: &str, id: &str) -> Result<Vec<ResponseRecord>, Refusal> {
        const AT: &str = "previous_response_id";
        let chain = self.records.response_chain(owner, id, self.chain);
        let chain = match chain.map_err(|error| wrong(&error))? {
            Chain::Whole(chain) => chain,
            Chain::Unknown(unknown) => return Err(no_previous(&unknown)),
            Chain::TooLong => return Err(self.too_long(AT)),
        };
        for record in &chain {
            let status = Status::named(&record.status);
            if status.is_none_or(|status| !status.ended()) {
                let message = format!("the response {} is not complete yet", record.id);
                return Err(Fault::caller(message).at(AT).into());
            }
        }
        Ok(chain)
    }

    fn too_long(&self, at: &str) -> Refusal {
        let ChainLimits { count, bytes } = self.chain;
        let message = format!(
            "the responses that this one builds on are more than {count}, or larger than {bytes} \
             bytes, together: begin a new conversation with what matters of it"
        );
        Fault::caller(message).at(at).into()
    }

    /// A response that is not computed here, and of whose server there is no sign of life, has
    /// failed.
    fn settled(&self, mut record: ResponseRecord) -> Result<ResponseRecord, Fault> {
        let Some(server) = &record.server else { return Ok(record) };
        let other = server != self.serving.name();
        if other && self.records.serves(server).map_err(|error| wrong(&error))? {
            return Ok(record);
        }
        let message = "the server ended before the response was complete; ask again";
        let fault = Fault::ours(message);
        let failed = responses::end(&record.response, Status::Failed, Some((Kind::Ours, &fault)))?;
        let number = frames(&record.events).count() as u64;
        record.events.push_str(&responses::write_failed(&failed, number)?);
        (record.response, record.server) = (failed, None);
        record.status = Status::Failed.name().to_owned();
        self.end(&record)?;
        Ok(record)
    }

    fn settle_all(&self) -> Result<(), Fault> {
        let under_way = self.records.responses_under_way().map_err(|error| wrong(&error))?;
        under_way.into_iter().try_for_each(|record| self.settled(record).map(drop))
    }
}

/// What was kept, as a request builds on it.
pub(crate) fn past(record: ResponseRecord) -> Past {
    Past { id: record.id, input: record.input, response: record.response }
}

fn wrong(error: &ingle_records::Error) -> Fault {
    tracing::error!(%error, "records");
    Fault::ours("responses cannot be kept or read on this machine now; its log says why")
}

/// There is no response to go on from.
pub(crate) fn no_previous(id: &str) -> Refusal {
    let id: String = id.chars().take(80).collect();
    let message = format!(
        "there is no response {id:?} to go on from: it was deleted, never kept, or is another \
         key's; send what was said as 'input'"
    );
    Refusal::new(Kind::NoPrevious, message).at("previous_response_id")
}

/// Computes a response to its end. `record` is what is to be kept of it; one that is in the
/// background was kept before.
pub(crate) fn spawn(
    state: Arc<State>,
    answer: Answer,
    live: Arc<Live>,
    record: Option<ResponseRecord>,
    background: bool,
) -> JoinHandle<()> {
    if background {
        state.responses.add(&live);
    }
    let ending = Ending { state, live };
    tokio::spawn(async move { ending.drive(answer, record, background).await })
}

/// Ends the log, however its task ends.
struct Ending {
    state: Arc<State>,
    live: Arc<Live>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.live.end(Err(Fault::ours("the response was cut off").into()));
        self.state.responses.remove(&self.live);
    }
}

impl Ending {
    async fn drive(self, answer: Answer, record: Option<ResponseRecord>, background: bool) {
        let (mut last, refused) = self.events(answer).await;
        let told: String = self.live.log().frames.concat() + &last;
        let mut snapshot = match gathered(frames(&told)) {
            Ok(snapshot) if !snapshot.status.ended() => cancelled(&snapshot),
            other => other,
        };
        if let (Some(record), Ok(end)) = (record, &snapshot)
            && (background || refused.is_none())
        {
            let events = if background { told } else { String::new() };
            let status = end.status.name().to_owned();
            let response = end.response.clone();
            let record = ResponseRecord { status, response, events, server: None, ..record };
            if !self.keep(record, background).await && !background {
                last = responses::write_unkept(&last);
                snapshot = gathered(frames(&last));
            }
        }
        // In the foreground who asked is told of an error in the way of errors.
        let told_before = background || !self.live.log().frames.is_empty();
        if refused.is_none() || told_before {
            self.live.tell(&last);
        }
        if refused.is_some() && told_before {
            self.state.metrics.stream_errors.fetch_add(1, Ordering::Relaxed);
        }
        let kept = if background { None } else { refused };
        self.live.end(kept.map_or(snapshot, Err));
    }

    /// Tells of all events but the last ones, which it gives, and why there are no more where that
    /// is an error.
    async fn events(&self, mut answer: Answer) -> (String, Option<Refusal>) {
        let mut cancelled = self.live.cancelled.subscribe();
        loop {
            let next = tokio::select! {
                biased;
                _ = cancelled.wait_for(|cancelled| *cancelled) => return (String::new(), None),
                next = answer.text() => next,
            };
            match next {
                Ok(Some(text)) => {
                    let text = String::from_utf8_lossy(&text).into_owned();
                    if answer.complete() {
                        return (text, None);
                    }
                    self.live.tell(&text);
                }
                Ok(None) => return (String::new(), None),
                Err(refusal) => return (answer.failure(&refusal), Some(refusal)),
            }
        }
    }

    /// Whether it is kept now.
    async fn keep(&self, record: ResponseRecord, background: bool) -> bool {
        let state = Arc::clone(&self.state);
        let write = move || {
            let Some(store) = state.responses.store() else { return Ok(false) };
            if background { store.end(&record) } else { store.keep(&record) }
        };
        matches!(tokio::task::spawn_blocking(write).await, Ok(Ok(true)))
    }
}

fn cancelled(snapshot: &Snapshot) -> Result<Snapshot, Refusal> {
    let status = Status::Cancelled;
    Ok(Snapshot { status, response: responses::end(&snapshot.response, status, None)? })
}

/// Reads a log from some event on.
pub(crate) struct Reader {
    live: Arc<Live>,
    at: usize,
    grown: watch::Receiver<()>,
    /// The task that ends with its reader.
    task: Option<JoinHandle<()>>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Reader {
    pub(crate) fn new(live: Arc<Live>, at: usize, task: Option<JoinHandle<()>>) -> Self {
        let grown = live.grown.subscribe();
        Self { live, at, grown, task }
    }

    /// What comes next; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        loop {
            self.grown.borrow_and_update();
            {
                let log = self.live.log();
                if let Some(new) = log.frames.get(self.at..).filter(|new| !new.is_empty()) {
                    self.at = log.frames.len();
                    return Ok(Some(new.concat().into()));
                }
                match &log.ended {
                    // It was told in the last event, if there were any.
                    Some(Err(refusal)) if self.at == 0 => return Err(refusal.clone()),
                    Some(_) => return Ok(None),
                    None => {}
                }
            }
            let _ = self.grown.changed().await;
        }
    }

    /// The whole response.
    pub(crate) async fn whole(self) -> Result<Response, Refusal> {
        let snapshot = self.live.ended().await?;
        Ok(json(StatusCode::OK, snapshot.response))
    }

    /// Its events. The status waits for the first one, but not for ever.
    pub(crate) async fn stream(mut self, beat: Duration) -> Result<Response, Refusal> {
        let first = match timeout(beat, self.next()).await {
            Ok(next) => next?,
            Err(_) => Some(Bytes::from_static(BEAT.as_bytes())),
        };
        let frames = stream::unfold((self, first), move |(mut reader, first)| async move {
            let next = match first {
                Some(first) => first,
                None => match timeout(beat, reader.next()).await {
                    Ok(next) => next.ok().flatten()?,
                    Err(_) => Bytes::from_static(BEAT.as_bytes()),
                },
            };
            Some((Ok::<Bytes, Infallible>(next), (reader, None)))
        });
        Ok(events(Body::from_stream(frames)))
    }
}

/// A response of events.
pub(crate) fn events(body: Body) -> Response {
    let headers =
        [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    (headers, body).into_response()
}
