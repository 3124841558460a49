//! One try: a connection, a request, and the beginning of an answer; then what else comes of it.
//! Until an answer has begun nothing of it is told, so that another may be asked. Dropping a try
//! closes its connection at once. Absent: whether to try at all, or again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use hyper::{Method, Request, Response};
use ingle_protocol::{Event, Usage};
use tokio::time::{Instant, timeout};

use super::backoff::wanted;
use super::ear::{Ear, Heard, Tally};
use super::failure::Failure;
use super::keys::Secret;
use super::kinds::Cut;
use super::net::Target;
use super::net::pool::{Conn, Counted};
use super::outcome::{Attempt, Ended, Times};
use super::state::{Admission, Place, Shared};
use super::wires::Spoken;
use super::{prepare, token};

/// The most of a token's answer, in bytes.
const TOKEN_MAX: usize = 64 << 10;
/// How long the end of an answer's body is waited for behind its last event, so that the connection
/// can be kept.
const LINGER: Duration = Duration::from_secs(1);

/// What is known of a try, also after it was dropped.
#[derive(Debug)]
pub(super) struct Record {
    provider: String,
    model: String,
    host: String,
    hedge: bool,
    since: Instant,
    queued: Duration,
    taken: Arc<AtomicU64>,
    tally: Arc<Tally>,
    marks: Mutex<Marks>,
}

#[derive(Debug, Default)]
struct Marks {
    times: Times,
    left: bool,
    ended: Ended,
    usage: Option<Usage>,
}

impl Record {
    /// Of a try that begins now, so long after its call.
    pub(super) fn new(place: &Place, model: &str, hedge: bool, queued: Duration) -> Self {
        Self {
            provider: place.upstream.name.clone(),
            model: model.to_owned(),
            host: place.target.host.clone(),
            hedge,
            since: Instant::now(),
            queued,
            taken: Arc::default(),
            tally: Arc::default(),
            marks: Mutex::default(),
        }
    }

    fn marks(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connected(&self, local: bool) {
        let mut marks = self.marks();
        marks.times.connected = self.since.elapsed();
        marks.left |= !local;
    }

    pub(super) fn ended(&self, ended: Ended, usage: Option<Usage>) {
        let mut marks = self.marks();
        marks.times.total = self.since.elapsed();
        marks.ended = ended;
        marks.usage = usage;
    }

    /// What became of it. `prompt_tokens` is what an answer that told no usage is reckoned with.
    pub(super) fn attempt(&self, prompt_tokens: u32) -> Attempt {
        let marks = self.marks();
        let bytes_out = self.taken.load(Ordering::Relaxed);
        let free = bytes_out == 0 || matches!(marks.ended, Ended::Status(_));
        let guess =
            Usage { prompt_tokens, completion_tokens: self.tally.tokens(), ..Usage::default() };
        let (usage, estimated) = match marks.usage {
            Some(usage) => (usage, false),
            None if free => (Usage::default(), false),
            None => (guess, true),
        };
        let mut times = Times { queued: self.queued, ..marks.times };
        if times.total == Duration::ZERO {
            times.total = self.since.elapsed();
        }
        Attempt {
            provider: self.provider.clone(),
            model: self.model.clone(),
            host: self.host.clone(),
            hedge: self.hedge,
            left_machine: marks.left,
            bytes_out,
            ended: marks.ended.clone(),
            usage,
            estimated,
            times,
        }
    }
}

/// A try that is to be made.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) shared: Arc<Shared>,
    pub(super) place: Arc<Place>,
    pub(super) model: String,
    pub(super) spoken: Arc<Spoken>,
    pub(super) record: Arc<Record>,
    pub(super) admission: Admission,
}

/// An answer that has begun.
pub(super) struct Answer {
    asking: Asking,
    ear: Ear,
    body: Incoming,
    conn: Conn,
    /// Whether all of the body was read.
    read: bool,
}

/// Makes a try, until its answer has begun.
pub(super) async fn begin(mut asking: Asking) -> Result<Answer, Failure> {
    let within = asking.place.upstream.timeouts.per_try;
    let asked = timeout(within, ask(&asking)).await;
    let asked = asked.unwrap_or_else(|_| Err(Failure::late("its answer did not begin", within)));
    match asked {
        Ok((ear, body, conn, read)) => {
            let after = asking.record.since.elapsed();
            asking.record.marks().times.first_token = after;
            asking.admission.lane.measured().began(after);
            Ok(Answer { asking, ear, body, conn, read })
        }
        Err(failure) => {
            asking.fail(&failure);
            Err(failure)
        }
    }
}

impl Asking {
    fn fail(&mut self, failure: &Failure) {
        self.record.ended(failure.ended(), None);
        let now_ms = self.shared.now_ms();
        if let Some(after) = failure.after {
            self.admission.limit(now_ms, after);
        }
        self.admission.tell(now_ms, failure.good);
    }
}

async fn ask(asking: &Asking) -> Result<(Ear, Incoming, Conn, bool), Failure> {
    let Asking { shared, place, model, spoken, record, .. } = asking;
    let upstream = &place.upstream;
    let token = google(shared, place).await?;
    let now_ms = (shared.world.now_ms)();
    let request = prepare::request(place, model, spoken, token.as_ref(), now_ms);
    let request = request.map_err(Failure::ours)?;
    let within = upstream.timeouts.connection;
    let (response, conn) = exchange(shared, &place.target, within, request, Some(record)).await?;
    record.marks().times.first_byte = record.since.elapsed();
    let (head, mut body) = response.into_parts();
    let status = head.status.as_u16();
    if !head.status.is_success() {
        let (text, whole) = read_text(&mut body, upstream.bounds.error_bytes).await;
        if whole {
            shared.pool.keep(&place.target, conn);
        }
        let after = wait_wanted(&head.headers, now_ms);
        let key = upstream.key.as_ref();
        return Err(Failure::status(spoken.format, status, after, &text, key));
    }
    let stream = form(&head.headers, spoken.stream, upstream.kind.cut)?;
    let passed = spoken.passed && stream == spoken.stream;
    let tally = Arc::clone(&record.tally);
    let heard = Heard { format: spoken.format, cut: upstream.kind.cut, stream, passed };
    let mut ear = Ear::new(heard, upstream.bounds, tally, shared.sum.part());
    let mut read = false;
    while !ear.begun() {
        read = read_more(&mut body, &mut ear).await?;
    }
    Ok((ear, body, conn, read))
}

/// Sends a request over a kept connection or a new one, and waits for its answer's head.
async fn exchange(
    shared: &Shared,
    target: &Target,
    within: Duration,
    request: Request<Bytes>,
    record: Option<&Arc<Record>>,
) -> Result<(Response<Incoming>, Conn), Failure> {
    let taken = record.map_or_else(Arc::default, |record| Arc::clone(&record.taken));
    let mut request = request.map(|body| Counted::new(body, taken));
    loop {
        let kept = timeout(within, shared.pool.kept(target)).await.ok().flatten();
        let mut conn = match kept {
            Some(conn) => conn,
            None => {
                let opened = timeout(within, shared.pool.open(&*shared.world.dial, target)).await;
                let opened = opened.map_err(|_| Failure::late("there is no connection", within))?;
                opened.map_err(|error| Failure::unreachable(&error))?
            }
        };
        if let Some(record) = record {
            record.connected(conn.local);
        }
        match conn.sender.try_send_request(request).await {
            Ok(response) => return Ok((response, conn)),
            Err(mut error) => match error.take_message() {
                // It was closed meanwhile, and nothing was sent: there are as many such as kept.
                Some(unsent) if conn.used => request = unsent,
                _ => return Err(Failure::cut(error.error(), conn.used)),
            },
        }
    }
}

/// Whether an answer comes in pieces, by its head.
fn form(headers: &HeaderMap, stream: bool, cut: Cut) -> Result<bool, Failure> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let encoding = text(&CONTENT_ENCODING);
    if !encoding.is_empty() && !encoding.eq_ignore_ascii_case("identity") {
        return Err(Failure::media(encoding));
    }
    let media = text(&CONTENT_TYPE).split(';').next().unwrap_or_default().trim().to_lowercase();
    let json = media == "application/json";
    match (stream, json) {
        (true, false) if cut.media().contains(&media.as_str()) => Ok(true),
        (true, true) => Ok(cut == Cut::Lines),
        (false, true) => Ok(false),
        _ => Err(Failure::media(&media)),
    }
}

/// How long the provider wants to be left alone.
fn wait_wanted(headers: &HeaderMap, now_ms: u64) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    wanted(text("retry-after-ms"), text(RETRY_AFTER.as_str()), now_ms)
}

/// Some of a body, and whether that is all of it.
async fn read_text(body: &mut Incoming, most: usize) -> (String, bool) {
    let mut held = Vec::new();
    let whole = loop {
        match body.frame().await {
            None => break true,
            Some(Err(_)) => break false,
            Some(Ok(frame)) => held.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
        }
        if held.len() > most {
            break false;
        }
    };
    held.truncate(most);
    (String::from_utf8_lossy(&held).into_owned(), whole)
}

/// Reads once. Tells whether the body is at its end.
async fn read_more(body: &mut Incoming, ear: &mut Ear) -> Result<bool, Failure> {
    match body.frame().await {
        None => ear.end().map(|()| true).map_err(Failure::heard),
        Some(Err(error)) => Err(Failure::cut(&error, false)),
        Some(Ok(frame)) => {
            let data = frame.into_data().unwrap_or_default();
            ear.take(&data).map(|()| false).map_err(Failure::heard)
        }
    }
}

/// The token of a provider that wants Google's; asked for once for all that wait for it.
async fn google(shared: &Shared, place: &Place) -> Result<Option<Secret>, Failure> {
    let Some(account) = &place.account else { return Ok(None) };
    let mut token = place.token.lock().await;
    let now_ms = (shared.world.now_ms)();
    if let Some(token) = token.as_ref().filter(|token| now_ms < token.until_ms) {
        return Ok(Some(token.secret.clone()));
    }
    let form = account.form(now_ms).map_err(Failure::ours)?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(account.path.as_str())
        .header("host", account.target.authority())
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Bytes::from(form))
        .map_err(|_| Failure::ours("the address that gives tokens is none"))?;
    let within = place.upstream.timeouts.connection;
    let (response, conn) = exchange(shared, &account.target, within, request, None).await?;
    let (head, mut body) = response.into_parts();
    let (text, whole) = read_text(&mut body, TOKEN_MAX).await;
    if whole {
        shared.pool.keep(&account.target, conn);
    }
    if !head.status.is_success() {
        let status = head.status.as_u16();
        let why = format!("Google gives its service account no token: {status}");
        return Err(Failure { good: Some(false), again: status >= 500, ..Failure::ours(why) });
    }
    let new = token::read(&text, now_ms).map_err(Failure::ours)?;
    let secret = new.secret.clone();
    *token = Some(new);
    Ok(Some(secret))
}

impl Answer {
    /// What is to be told, and whether that is the end of it. Where it fails, what came before is
    /// told still, by [`Answer::rest`].
    pub(super) async fn next(&mut self) -> Result<(Vec<Event>, bool), Failure> {
        let idle = self.asking.place.upstream.timeouts.idle;
        loop {
            let told = self.ear.told();
            let done = self.ear.receipt().is_some();
            if done || !told.is_empty() {
                return Ok((told, done));
            }
            let more = timeout(idle, read_more(&mut self.body, &mut self.ear)).await;
            let more = more.unwrap_or_else(|_| Err(Failure::late("nothing more came", idle)));
            self.read = more.inspect_err(|failure| self.asking.fail(failure))?;
        }
    }

    /// What came before a failure and was not told yet.
    pub(super) fn rest(&mut self) -> Vec<Event> {
        self.ear.told()
    }

    pub(super) fn record(&self) -> &Arc<Record> {
        &self.asking.record
    }

    /// It has ended well: what it said of itself. Its connection is kept.
    pub(super) fn finish(mut self) -> Option<ingle_protocol::Receipt> {
        let receipt = self.ear.receipt()?.clone();
        let Asking { shared, place, record, admission, .. } = &mut self.asking;
        let told = receipt.usage != Usage::default();
        record.ended(Ended::Answered, told.then_some(receipt.usage));
        let times = record.marks().times;
        let within = times.total.saturating_sub(times.first_token);
        admission.lane.measured().answered(receipt.usage.completion_tokens, within);
        admission.tell(shared.now_ms(), Some(true));
        let (shared, target) = (Arc::clone(shared), place.target.clone());
        let (mut body, conn) = (self.body, self.conn);
        if self.read {
            shared.pool.keep(&target, conn);
        } else {
            // What is behind the last event is the body's own end. The task is bounded in time, and
            // in what it reads.
            tokio::spawn(async move {
                if let Ok((_, true)) = timeout(LINGER, read_text(&mut body, 4096)).await {
                    shared.pool.keep(&target, conn);
                }
            });
        }
        Some(receipt)
    }
}
