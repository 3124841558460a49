//! Finished spans on their way to the collector: a bounded queue and a thread that posts what is in
//! it. Where the collector is slow or gone, spans are dropped and counted; an answer never waits.
//! This is the one place of the server that opens a connection to somebody else.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::otlp::{self, Span};
use crate::Error;

/// Where spans go, by whose word, and how many may wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    /// Where they are posted, as OTLP's JSON over HTTP.
    url: String,
    /// Sent with each post; may be secrets.
    headers: Vec<(String, String)>,
    /// `service.name` of every span.
    pub service: String,
    /// Requests whose spans wait to be sent; those of one more are dropped.
    pub queue: usize,
    /// Spans of one post.
    pub batch: usize,
    /// How long spans wait for others to go with them.
    pub gather: Duration,
    /// For one post.
    pub post: Duration,
    /// How often a post is tried that may succeed the next time.
    pub attempts: u32,
    /// For what is still in the queue when the server ends.
    pub flush: Duration,
}

impl Collector {
    /// A collector at its base address, to which OTLP's own path for traces is added.
    ///
    /// # Errors
    /// [`Error::Config`] where it is no such address.
    pub fn new(endpoint: &str) -> Result<Self, Error> {
        let wrong = |why: &str| {
            let example = "such as http://localhost:4318";
            Error::Config(format!("{endpoint:?} is no address of a collector: {why}; {example}"))
        };
        let uri: ureq::http::Uri = endpoint.parse().map_err(|_| wrong("it is no URL"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(wrong("OTLP is spoken over http:// or https:// here, not over gRPC"));
        }
        let host = uri.authority().map_or("", |authority| authority.as_str());
        if host.is_empty() || host.contains('@') || uri.query().is_some() {
            return Err(wrong("it is a host, perhaps a port and a path; keys go into headers"));
        }
        Ok(Self {
            url: format!("{}/v1/traces", endpoint.trim_end_matches('/')),
            headers: Vec::new(),
            service: super::names::INGLE.to_owned(),
            queue: 1024,
            batch: 512,
            gather: Duration::from_secs(1),
            post: Duration::from_secs(5),
            attempts: 3,
            flush: Duration::from_secs(3),
        })
    }

    /// Adds headers, as OpenTelemetry's variables have them: `name=value,…`, values
    /// percent-encoded.
    ///
    /// # Errors
    /// [`Error::Config`] where they are none.
    pub fn with_headers(mut self, text: &str) -> Result<Self, Error> {
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let header = pair.split_once('=').and_then(|(name, value)| {
                let name = name.trim().parse::<ureq::http::HeaderName>().ok()?;
                let value =
                    percent_encoding::percent_decode_str(value.trim()).decode_utf8().ok()?;
                ureq::http::HeaderValue::from_str(&value).ok()?;
                Some((name.to_string(), value.into_owned()))
            });
            let wrong = "the collector's headers are written name=value,name=value, values \
                         percent-encoded";
            self.headers.push(header.ok_or_else(|| Error::Config(wrong.to_owned()))?);
        }
        Ok(self)
    }

    /// Where they are posted.
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// What became of spans.
#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    dropped: AtomicU64,
    failed_posts: AtomicU64,
    /// The server ends: nothing is tried again.
    ending: AtomicBool,
}

/// The queue's near end.
#[derive(Debug)]
pub(crate) struct Tracer {
    /// Gone once the server ends.
    sender: Mutex<Option<SyncSender<Vec<Span>>>>,
    done: Mutex<Receiver<()>>,
    counts: Arc<Counts>,
    flush: Duration,
}

impl Tracer {
    pub(crate) fn start(collector: Collector) -> Result<Self, Error> {
        let (sender, receiver) = sync_channel(collector.queue);
        let (end, done) = sync_channel(1);
        let counts = Arc::new(Counts::default());
        let (flush, seen) = (collector.flush, Arc::clone(&counts));
        let work = move || {
            Posting::new(collector, &seen).run(&receiver);
            drop(end);
        };
        let thread = std::thread::Builder::new().name("traces".to_owned()).spawn(work);
        thread.map_err(|error| Error::Config(format!("no thread for traces: {error}")))?;
        Ok(Self { sender: Mutex::new(Some(sender)), done: Mutex::new(done), counts, flush })
    }

    /// Sent, dropped, and posts that failed.
    pub(crate) fn counts(&self) -> [u64; 3] {
        let Counts { sent, dropped, failed_posts, .. } = &*self.counts;
        [sent, dropped, failed_posts].map(|count| count.load(Ordering::Relaxed))
    }

    /// Takes spans that belong together, or drops them.
    pub(super) fn take(&self, spans: Vec<Span>) {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let count = spans.len() as u64;
        if sender.as_ref().is_none_or(|sender| sender.try_send(spans).is_err()) {
            self.counts.dropped.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Sends what is there, within the bound. Blocks.
    pub(crate) fn finish(&self) {
        self.counts.ending.store(true, Ordering::Relaxed);
        drop(self.sender.lock().unwrap_or_else(PoisonError::into_inner).take());
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        if done.recv_timeout(self.flush) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the last traces were not taken in time");
        }
    }
}

/// The thread that sends.
struct Posting<'a> {
    collector: Collector,
    agent: ureq::Agent,
    counts: &'a Counts,
}

/// Why a post did not succeed, and whether it may the next time.
struct Failure {
    why: String,
    again: bool,
}

impl<'a> Posting<'a> {
    fn new(collector: Collector, counts: &'a Counts) -> Self {
        let tls = ureq::tls::TlsConfig::builder()
            .root_certs(ureq::tls::RootCerts::PlatformVerifier)
            .build();
        let config = ureq::Agent::config_builder()
            .tls_config(tls)
            .user_agent(concat!("ingle/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            // Spans go where they were told to go.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_global(Some(collector.post));
        Self { collector, agent: config.build().new_agent(), counts }
    }

    fn run(&self, receiver: &Receiver<Vec<Span>>) {
        while let Ok(first) = receiver.recv() {
            let (mut spans, began) = (first, Instant::now());
            while spans.len() < self.collector.batch {
                let rest = self.collector.gather.saturating_sub(began.elapsed());
                match receiver.recv_timeout(rest) {
                    Ok(more) => spans.extend(more),
                    Err(_) => break,
                }
            }
            self.deliver(&spans);
        }
    }

    fn deliver(&self, spans: &[Span]) {
        let body = otlp::write(&self.collector.service, spans);
        let mut pause = Duration::from_millis(250);
        for attempt in 1..=self.collector.attempts {
            let Failure { why, again } = match self.post(&body) {
                Ok(refused) => {
                    let refused = refused.min(spans.len() as u64);
                    self.counts.sent.fetch_add(spans.len() as u64 - refused, Ordering::Relaxed);
                    self.counts.dropped.fetch_add(refused, Ordering::Relaxed);
                    return;
                }
                Err(failure) => failure,
            };
            self.counts.failed_posts.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(why, attempt, "traces could not be sent");
            if !again || self.counts.ending.load(Ordering::Relaxed) {
                break;
            }
            if attempt < self.collector.attempts {
                std::thread::sleep(pause);
                pause *= 2;
            }
        }
        self.counts.dropped.fetch_add(spans.len() as u64, Ordering::Relaxed);
    }

    /// Posts once; spans that the collector tells it refused.
    fn post(&self, body: &str) -> Result<u64, Failure> {
        let mut request = self.agent.post(self.collector.url());
        for (name, value) in &self.collector.headers {
            request = request.header(name, value);
        }
        let sent = request.header("content-type", "application/json").send(body);
        let mut response = sent.map_err(|error| Failure { why: error.to_string(), again: true })?;
        let status = response.status().as_u16();
        if !(200..300).contains(&status) {
            // What the protocol lets be tried again.
            let again = matches!(status, 429 | 502..=504);
            return Err(Failure { why: format!("the collector's status is {status}"), again });
        }
        let reply = response.body_mut().with_config().limit(REPLY_MAX).read_to_string();
        let reply: serde_json::Value =
            reply.ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        let refused = &reply["partialSuccess"]["rejectedSpans"];
        let count = refused.as_u64().or_else(|| refused.as_str().and_then(|it| it.parse().ok()));
        Ok(count.unwrap_or(0))
    }
}

/// The most bytes of a collector's reply.
const REPLY_MAX: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_collectors() {
        let rows = [
            ("http://localhost:4318", Some("http://localhost:4318/v1/traces")),
            ("https://a.example/otlp/", Some("https://a.example/otlp/v1/traces")),
            ("http://[::1]:4318", Some("http://[::1]:4318/v1/traces")),
            ("localhost:4318", None),
            ("grpc://localhost:4317", None),
            ("http://user:word@a.example", None),
            ("http://a.example/?key=word", None),
            ("http://", None),
            ("", None),
        ];
        for (endpoint, expect) in rows {
            let collector = Collector::new(endpoint);
            assert_eq!(collector.as_ref().ok().map(Collector::url), expect, "{endpoint}");
        }
    }

    #[test]
    fn headers_of_collectors() {
        type Pairs = &'static [(&'static str, &'static str)];
        let rows: &[(&str, Option<Pairs>)] = &[
            ("", Some(&[])),
            ("x-key=a%20b, y=c=d", Some(&[("x-key", "a b"), ("y", "c=d")])),
            ("x-key", None),
            ("x key=a", None),
            ("x=a%0d%0ab", None),
        ];
        for (text, expect) in rows {
            let collector = Collector::new("http://a.example").and_then(|it| it.with_headers(text));
            let headers = collector.ok().map(|it| it.headers);
            let own = |pair: &(&str, &str)| (pair.0.to_owned(), pair.1.to_owned());
            assert_eq!(headers, expect.map(|pairs| pairs.iter().map(own).collect()), "{text}");
        }
    }
}
