//! Two programs for measuring what a gateway costs: a server of chat completions that thinks of
//! nothing, so that a gateway in front of it is all that takes time, and a driver that asks any
//! server and tells how fast it answered. `tools/bench-gateway` puts a gateway between the two.
//!
//!     load upstream --port N
//!     load drive --url http://HOST:PORT/v1/chat/completions --connections N --seconds S
//!     load drive --url U --rate R --seconds S [--connections N] [--calls N] [--stream]
//!
//! With `--rate` calls are sent when they are due, whatever became of those before (open loop), and
//! a call's latency counts from when it was due: who waits for a free connection waits for its
//! answer, too. Without, each connection asks again as soon as it is answered (closed loop). It
//! ends after `--calls` or `--seconds`, whichever is first. The result is one JSON object on
//! standard output; at each tenth of `--calls` a line of JSON on standard error says how many were
//! answered.
//!
//! Either works on one thread, beside which the driver has one that keeps time; both fit on a core.
//! Absent: TLS, keys, and starting or stopping what is measured.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::task::JoinSet;

const USAGE: &str = "load upstream --port N\n\
    load drive --url URL [--rate R] [--connections N] [--seconds S] [--calls N] [--stream]\n\
    \x20          [--model NAME]";

/// What the upstream says, whoever asks. The driver looks for it in whole answers.
const WORDS: [&str; 8] = ["All", " is", " well", " and", " all", " will", " be", " well."];
/// Connections that the upstream has open at most; others wait to be accepted.
const GUESTS: usize = 4096;
/// Bytes of a request, or of an answer, at most.
const BODY_MAX: usize = 1 << 20;
/// Calls that are due and wait for a connection, at most. Then the clock waits, too; their latency
/// counts from when they were due all the same.
const WAITING: usize = 1 << 16;
/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(60);

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let told = match run() {
        Ok(()) => return ExitCode::SUCCESS,
        Err(error) => error.to_string(),
    };
    let _ = writeln!(io::stderr(), "load: {told}\n\n{USAGE}");
    ExitCode::FAILURE
}

fn run() -> Result<(), Failure> {
    let mut given = std::env::args().skip(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match given.next().as_deref() {
        Some("upstream") => {
            let args = Args::read(given, &["port"], &[])?;
            runtime.block_on(upstream(args.get("port")?.unwrap_or(0)))
        }
        Some("drive") => {
            let values = ["url", "rate", "connections", "seconds", "calls", "model"];
            let plan = Plan::of(&Args::read(given, &values, &["stream"])?)?;
            let report = runtime.block_on(drive(&plan))?;
            Ok(writeln!(io::stdout(), "{report}")?)
        }
        _ => Err("upstream or drive?".into()),
    }
}

/// Options of a command line, by name without dashes.
#[derive(Debug, Default)]
struct Args(BTreeMap<String, String>);

impl Args {
    /// Reads `--name value`, and flags that stand alone.
    fn read(
        given: impl IntoIterator<Item = String>,
        values: &[&str],
        flags: &[&str],
    ) -> Result<Self, String> {
        let mut given = given.into_iter();
        let mut args = Self::default();
        while let Some(word) = given.next() {
            let name = word.strip_prefix("--").ok_or_else(|| format!("what is {word:?}?"))?;
            let value = if flags.contains(&name) {
                String::new()
            } else if values.contains(&name) {
                given.next().ok_or_else(|| format!("--{name} needs a value"))?
            } else {
                return Err(format!("there is no --{name}"));
            };
            args.0.insert(name.to_owned(), value);
        }
        Ok(args)
    }

    fn get<T: FromStr>(&self, name: &str) -> Result<Option<T>, String> {
        let Some(text) = self.0.get(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| format!("--{name} cannot be {text:?}"))
    }
}

// The upstream.

/// A body of pieces that are all there already, each sent by itself.
#[derive(Clone, Debug)]
struct Pieces(VecDeque<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    /// Whole answers have a length; streams, as elsewhere, have none.
    fn size_hint(&self) -> SizeHint {
        match (self.0.len(), self.0.front()) {
            (1, Some(only)) => SizeHint::with_exact(only.len() as u64),
            _ => SizeHint::default(),
        }
    }
}

/// Every answer that the upstream gives, made once.
#[derive(Debug)]
struct Answers {
    whole: Bytes,
    /// The events of a stream, and the one about usage that comes before the last where asked for.
    events: Vec<Bytes>,
    usage: Bytes,
}

impl Answers {
    fn new() -> Self {
        let usage = json!({ "prompt_tokens": 24, "completion_tokens": 8, "total_tokens": 32 });
        let object = |kind: &str, choices: Value| {
            json!({
                "id": "chatcmpl-load", "object": kind, "created": 1, "model": "mock",
                "choices": choices,
            })
        };
        let message = json!({ "role": "assistant", "content": WORDS.concat() });
        let choice = json!([{ "index": 0, "message": message, "finish_reason": "stop" }]);
        let mut whole = object("chat.completion", choice);
        whole["usage"] = usage.clone();
        let event = |choices: Value| object("chat.completion.chunk", choices);
        let line = |event: &Value| Bytes::from(format!("data: {event}\n\n"));
        let delta = |delta: Value, finish: Value| {
            line(&event(json!([{ "index": 0, "delta": delta, "finish_reason": finish }])))
        };
        let mut events = vec![delta(json!({ "role": "assistant", "content": "" }), Value::Null)];
        events.extend(WORDS.map(|word| delta(json!({ "content": word }), Value::Null)));
        events.push(delta(json!({}), json!("stop")));
        let mut last = event(json!([]));
        last["usage"] = usage;
        Self { whole: Bytes::from(whole.to_string()), events, usage: line(&last) }
    }

    /// The answer to a request: its status, content type and body.
    fn to(&self, body: &[u8]) -> (StatusCode, &'static str, Pieces) {
        let one = |bytes: Bytes| Pieces(VecDeque::from([bytes]));
        let Ok(asked) = serde_json::from_slice::<Value>(body) else {
            let wrong = json!({ "error": { "message": "this is no JSON" } }).to_string();
            return (StatusCode::BAD_REQUEST, "application/json", one(wrong.into()));
        };
        if asked["stream"] != true {
            return (StatusCode::OK, "application/json", one(self.whole.clone()));
        }
        let mut pieces = VecDeque::from(self.events.clone());
        if asked["stream_options"]["include_usage"] == true {
            pieces.push_back(self.usage.clone());
        }
        pieces.push_back(Bytes::from_static(b"data: [DONE]\n\n"));
        (StatusCode::OK, "text/event-stream", Pieces(pieces))
    }
}

async fn answer(
    answers: Arc<Answers>,
    request: Request<Incoming>,
) -> Result<Response<Pieces>, Failure> {
    let body = Limited::new(request.into_body(), BODY_MAX).collect().await?.to_bytes();
    let (status, kind, pieces) = answers.to(&body);
    let mut response = Response::new(pieces);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}

/// Answers on this port of the loopback address until the process ends; 0 is any free port. Says
/// where in a line on standard output.
async fn upstream(port: u16) -> Result<(), Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    writeln!(io::stdout(), "{}", json!({ "port": listener.local_addr()?.port() }))?;
    io::stdout().flush()?;
    serve(listener).await
}

async fn serve(listener: TcpListener) -> Result<(), Failure> {
    let answers = Arc::new(Answers::new());
    let room = Arc::new(Semaphore::new(GUESTS));
    loop {
        let seat = Arc::clone(&room).acquire_owned().await?;
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let answers = Arc::clone(&answers);
        tokio::spawn(async move {
            let service = service_fn(|request| answer(Arc::clone(&answers), request));
            // A client that goes away is none of our business.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            drop(seat);
        });
    }
}

// The driver.

/// What is asked of whom, how often.
#[derive(Clone, Debug)]
struct Plan {
    host: String,
    port: u16,
    path: String,
    /// Calls a second, where they are sent when they are due.
    rate: Option<f64>,
    connections: usize,
    seconds: f64,
    calls: u64,
    stream: bool,
    body: Bytes,
}

impl Plan {
    fn of(args: &Args) -> Result<Self, String> {
        let url: Uri = args.get("url")?.ok_or("--url is whom to ask")?;
        if url.scheme_str() != Some("http") {
            return Err("--url has to begin with http://".to_owned());
        }
        let rate: Option<f64> = args.get("rate")?;
        if rate.is_some_and(|rate| !(0.001..=1e6).contains(&rate)) {
            return Err("--rate is between 0.001 and 1000000".to_owned());
        }
        let connections = args.get("connections")?.unwrap_or(if rate.is_some() { 64 } else { 16 });
        let (seconds, calls) = (args.get("seconds")?, args.get("calls")?);
        let seconds: f64 = seconds.unwrap_or(if calls.is_some() { 86_400.0 } else { 10.0 });
        if !(1..=GUESTS).contains(&connections) || !(0.0..=86_400.0).contains(&seconds) {
            return Err(format!("--connections is 1 to {GUESTS}, --seconds a day at most"));
        }
        let stream = args.get::<String>("stream")?.is_some();
        let model = args.get("model")?.unwrap_or_else(|| "auto".to_owned());
        Ok(Self {
            host: url.host().ok_or("--url names no host")?.to_owned(),
            port: url.port_u16().unwrap_or(80),
            path: url.path().to_owned(),
            rate,
            connections,
            seconds,
            calls: calls.unwrap_or(u64::MAX),
            stream,
            body: question(&model, stream),
        })
    }
}

/// A request as a chat has them: a line of who it is, and a question of a few words.
fn question(model: &str, stream: bool) -> Bytes {
    let mut body = json!({
        "model": model,
        "max_tokens": 64,
        "temperature": 0,
        "messages": [
            { "role": "system", "content": "You are brief, and you say what you do not know." },
            { "role": "user", "content": "How do things stand, now that the boats are back?" },
        ],
    });
    if stream {
        body["stream"] = json!(true);
        body["stream_options"] = json!({ "include_usage": true });
    }
    body.to_string().into()
}

/// What became of calls.
#[derive(Debug, Default)]
struct Tally {
    /// Of those that were answered.
    nanos: Vec<u64>,
    /// Of the others, by status, or by what went wrong.
    errors: BTreeMap<String, u64>,
}

/// One connection, opened when it is needed and again when it was closed.
struct Caller {
    plan: Arc<Plan>,
    link: Option<SendRequest<Full<Bytes>>>,
}

impl Caller {
    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Failure> {
        let stream = TcpStream::connect((self.plan.host.as_str(), self.plan.port)).await?;
        stream.set_nodelay(true)?;
        let (link, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(link)
    }

    /// Status and body of an answer.
    async fn ask(&mut self) -> Result<(StatusCode, Bytes), Failure> {
        let mut link = match self.link.take() {
            Some(link) if !link.is_closed() => link,
            _ => self.connect().await?,
        };
        link.ready().await?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(&self.plan.path)
            .header(HOST, &self.plan.host)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(self.plan.body.clone()))?;
        let answer = link.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), BODY_MAX).collect().await?.to_bytes();
        self.link = Some(link);
        Ok((status, body))
    }

    /// Asks once; what went wrong, in a word.
    async fn call(&mut self) -> Result<(), String> {
        match tokio::time::timeout(PATIENCE, self.ask()).await {
            Err(_) => Err("timeout".to_owned()),
            Ok(Err(_)) => Err("connection".to_owned()),
            Ok(Ok((status, _))) if status != StatusCode::OK => Err(status.as_str().to_owned()),
            Ok(Ok((_, body))) if !complete(&body, self.plan.stream) => Err("cut".to_owned()),
            Ok(Ok(_)) => Ok(()),
        }
    }
}

/// Whether an answer is all that the upstream says.
fn complete(body: &[u8], stream: bool) -> bool {
    let holds = |text: &str| body.windows(text.len()).any(|window| window == text.as_bytes());
    match stream {
        false => holds(&WORDS.concat()),
        true => WORDS.iter().all(|word| holds(word)) && holds("data: [DONE]"),
    }
}

/// When the next call is due.
#[derive(Clone)]
enum Clock {
    /// Now, until then.
    Closed { until: Instant },
    /// As a thread of its own says, whose sleep is finer than the runtime's.
    Open(Arc<Mutex<mpsc::Receiver<Instant>>>),
}

impl Clock {
    fn start(plan: &Plan) -> Self {
        let began = Instant::now();
        let until = began + Duration::from_secs_f64(plan.seconds);
        let Some(rate) = plan.rate else { return Self::Closed { until } };
        let (send, due) = mpsc::channel(WAITING);
        let calls = plan.calls;
        thread::spawn(move || {
            for at in 0..calls {
                let next = began + Duration::from_secs_f64(at as f64 / rate);
                if next >= until {
                    return;
                }
                thread::sleep(next.saturating_duration_since(Instant::now()));
                if send.blocking_send(next).is_err() {
                    return;
                }
            }
        });
        Self::Open(Arc::new(Mutex::new(due)))
    }

    async fn next(&self) -> Option<Instant> {
        match self {
            Self::Closed { until } => Some(Instant::now()).filter(|now| now < until),
            Self::Open(due) => due.lock().await.recv().await,
        }
    }
}

/// Calls that were begun and answered, of all connections together.
#[derive(Debug, Default)]
struct Counts {
    begun: AtomicU64,
    ended: AtomicU64,
}

async fn ask_on(plan: Arc<Plan>, clock: Clock, counts: Arc<Counts>) -> Tally {
    let mut caller = Caller { plan: Arc::clone(&plan), link: None };
    let mut tally = Tally::default();
    let tenth = if plan.calls == u64::MAX { u64::MAX } else { plan.calls.div_ceil(10).max(1) };
    while let Some(due) = clock.next().await {
        if counts.begun.fetch_add(1, Ordering::Relaxed) >= plan.calls {
            break;
        }
        match caller.call().await {
            Ok(()) => tally.nanos.push(due.elapsed().as_nanos() as u64),
            Err(error) => {
                *tally.errors.entry(error).or_default() += 1;
                // Who refuses at once is not to be asked as fast as can be.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        let ended = counts.ended.fetch_add(1, Ordering::Relaxed) + 1;
        if ended.is_multiple_of(tenth) {
            let _ = writeln!(io::stderr(), "{}", json!({ "done": ended }));
        }
    }
    tally
}

/// Asks as planned, and tells what became of it.
async fn drive(plan: &Plan) -> Result<Value, Failure> {
    let plan = Arc::new(plan.clone());
    let counts = Arc::new(Counts::default());
    let began = Instant::now();
    let clock = Clock::start(&plan);
    let mut callers = JoinSet::new();
    for _ in 0..plan.connections {
        callers.spawn(ask_on(Arc::clone(&plan), clock.clone(), Arc::clone(&counts)));
    }
    let mut all = Tally::default();
    while let Some(tally) = callers.join_next().await {
        let tally = tally?;
        all.nanos.extend(tally.nanos);
        for (error, count) in tally.errors {
            *all.errors.entry(error).or_default() += count;
        }
    }
    Ok(report(&plan, all, began.elapsed().as_secs_f64()))
}

/// The least latency that this share of the calls did not exceed, in milliseconds, of sorted ones.
fn percentile(sorted: &[u64], share: f64) -> Option<f64> {
    let rank = (sorted.len() as f64 * share).ceil().max(1.0) as usize;
    let nanos = sorted.get(rank.min(sorted.len()).checked_sub(1)?)?;
    Some(*nanos as f64 / 1e6)
}

fn report(plan: &Plan, mut tally: Tally, seconds: f64) -> Value {
    tally.nanos.sort_unstable();
    let at = |share| percentile(&tally.nanos, share);
    json!({
        "loop": if plan.rate.is_some() { "open" } else { "closed" },
        "rate": plan.rate,
        "connections": plan.connections,
        "stream": plan.stream,
        "seconds": seconds,
        "answered": tally.nanos.len(),
        "per_second": tally.nanos.len() as f64 / seconds,
        "latency_ms": {
            "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p99.9": at(0.999), "max": at(1.0),
        },
        "errors": tally.errors,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(words: &str) -> Result<Plan, String> {
        let values = ["url", "rate", "connections", "seconds", "calls", "model"];
        Plan::of(&Args::read(words.split_whitespace().map(str::to_owned), &values, &["stream"])?)
    }

    #[test]
    fn percentiles_are_latencies_that_occurred() {
        let check = |nanos: &[u64], share, expect| assert_eq!(percentile(nanos, share), expect);
        let hundred: Vec<u64> = (1..=100).map(|ms| ms * 1_000_000).collect();
        check(&hundred, 0.5, Some(50.0));
        check(&hundred, 0.99, Some(99.0));
        check(&hundred, 0.999, Some(100.0));
        check(&hundred, 1.0, Some(100.0));
        check(&[7_000_000], 0.5, Some(7.0));
        check(&[], 0.5, None);
    }

    #[test]
    fn a_plan_that_cannot_be_is_refused() {
        let check = |words: &str, expect: &str| {
            let error = plan(words).expect_err(words);
            assert!(error.contains(expect), "{words}: {error}");
        };
        check("", "--url");
        check("--url https://localhost/", "http://");
        check("--url /v1", "http://");
        check("--url http://localhost/ --rate 0", "--rate");
        check("--url http://localhost/ --rate NaN", "--rate");
        check("--url http://localhost/ --rate fast", "--rate");
        check("--url http://localhost/ --connections 0", "--connections");
        check("--url http://localhost/ --seconds -1", "--seconds");
        check("--url http://localhost/ --calls", "needs a value");
        check("--url http://localhost/ --speed 3", "no --speed");
        check("http://localhost/", "what is");
    }

    #[test]
    fn the_driver_counts_what_the_upstream_answers() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let port = listener.local_addr().expect("bound").port();
            tokio::spawn(serve(listener));
            for how in ["--connections 3", "--connections 3 --stream", "--rate 5000"] {
                let words = format!("--url http://127.0.0.1:{port}/ --calls 50 {how}");
                let report = drive(&plan(&words).expect("a plan")).await.expect("a report");
                assert_eq!(report["answered"], 50, "{how}: {report}");
                assert_eq!(report["errors"], json!({}), "{how}: {report}");
                assert!(report["latency_ms"]["p50"].as_f64() > Some(0.0), "{report}");
            }
        });
    }

    #[test]
    fn what_is_not_an_answer_is_an_error() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let port = listener.local_addr().expect("bound").port();
            tokio::spawn(serve(listener));
            let words = format!("--url http://127.0.0.1:{port}/ --calls 5 --connections 2");
            let mut plan = plan(&words).expect("a plan");
            plan.body = Bytes::from_static(b"{");
            let report = drive(&plan).await.expect("a report");
            assert_eq!(report["errors"], json!({ "400": 5 }), "{report}");
            // A stream to who wanted a whole answer.
            plan.body = question("m", true);
            let report = drive(&plan).await.expect("a report");
            assert_eq!(report["errors"], json!({ "cut": 5 }), "{report}");
            assert_eq!(report["answered"], 0);
        });
    }
}
