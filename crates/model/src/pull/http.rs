//! Downloads one file over HTTP and resumes where it was cut. What the server says is not taken
//! on trust: a size is required, the range it sends must be the one asked for, and the version
//! must be the one that the bytes at hand belong to. The token goes to the hub's own host alone.
//!
//! A thread of its own does the waiting, so that the caller can stop at any moment; the thread
//! then ends by its timeouts. There is no parallel download and no decompression.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use ureq::http::{HeaderMap, StatusCode, Uri, header};

use super::manifest::Version;
use super::sink::{BLOCK, Bound, Sink};
use super::{Progress, Settings};
use crate::Error;

/// How often the caller is asked whether to stop.
const POLL: Duration = Duration::from_millis(100);
/// Blocks that may wait between the reading thread and the disk.
const QUEUE: usize = 4;
/// Redirects that are followed.
const MAX_HOPS: usize = 5;
/// The longest that a server's `Retry-After` is obeyed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);
/// Attempts in all, however much each brings.
const MAX_ATTEMPTS: usize = 200;

/// What to download.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) url: String,
    pub(crate) token: Option<String>,
    /// Where in the sink the file's first byte goes.
    pub(crate) base: u64,
    pub(crate) bound: Bound,
    /// The SHA-256 that the whole file must have, where known.
    pub(crate) sha256: Option<String>,
}

/// Downloads files.
#[derive(Debug)]
pub(crate) struct Client {
    agent: ureq::Agent,
    pauses: Vec<Duration>,
    idle: Duration,
}

/// Called with the version that the bytes belong to, before the first of them is kept.
pub(crate) type Save<'a> = dyn FnMut(&Version) -> Result<(), Error> + 'a;

/// Why an attempt did not bring the whole file.
#[derive(Debug)]
enum Trouble {
    /// The server was not reached; it may be back in a moment, or not be there at all.
    Away(String),
    /// It may go better next time, after so long if the server says.
    Passing(String, Option<Duration>),
    /// The bytes at hand are of another version: begin again.
    Stale,
    /// It is of no use to try again.
    Final(Error),
}

/// What the reading thread sends.
#[derive(Debug)]
enum Message {
    Head(Box<Head>),
    Block(Vec<u8>),
    End,
    /// The server was not reached.
    Away(String),
    /// The connection broke.
    Failed(String),
    /// Nothing will make it better.
    Refused(String),
}

/// What an answer says about itself.
#[derive(Debug)]
struct Head {
    status: StatusCode,
    etag: Option<String>,
    /// The SHA-256 that the hub names for the file.
    sha256: Option<String>,
    /// The whole file's size that the hub names.
    linked_size: Option<u64>,
    content_length: Option<u64>,
    content_range: Option<String>,
    retry_after: Option<Duration>,
}

impl Client {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Error> {
        let tls = ureq::tls::TlsConfig::builder()
            .root_certs(ureq::tls::RootCerts::PlatformVerifier) // a company's own roots count
            .build();
        let mut config = ureq::Agent::config_builder()
            .tls_config(tls)
            .user_agent(concat!("ingle/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(settings.idle))
            .timeout_recv_response(Some(settings.idle * 2))
            .timeout_per_read(Some(settings.idle));
        if !settings.use_proxy {
            config = config.proxy(None);
        }
        let agent = config.build().new_agent();
        Ok(Self { agent, pauses: settings.pauses.clone(), idle: settings.idle })
    }

    /// Appends the file to the sink, whose bytes behind `target.base`, if any, are the beginning
    /// of the given version of it.
    ///
    /// # Errors
    /// [`Error::Fetch`] where the file cannot be had, [`Error::Interrupted`] on cancel; what has
    /// come so far stays in the sink.
    pub(crate) fn fetch(
        &self,
        target: &Target,
        version: &mut Option<Version>,
        save: &mut Save<'_>,
        sink: &mut Sink,
        progress: &mut dyn Progress,
    ) -> Result<(), Error> {
        let (mut fruitless, start) = (0, sink.len());
        for _ in 0..MAX_ATTEMPTS {
            let before = sink.len();
            let (why, after) = match self.attempt(target, version, save, sink, progress) {
                Ok(()) => {
                    progress.done();
                    return Ok(());
                }
                Err(Trouble::Final(error)) => return Err(error),
                // Who was never there is not waited for as long as who went away.
                Err(Trouble::Away(why)) if sink.len() == start && fruitless > 0 => {
                    return Err(Error::Fetch(why));
                }
                Err(Trouble::Away(why)) => (why, None),
                Err(Trouble::Passing(why, after)) => (why, after),
                Err(Trouble::Stale) => {
                    sink.cut(target.base)?;
                    *version = None;
                    ("the file changed on the server; beginning again".into(), None)
                }
            };
            fruitless = if sink.len() > before { 0 } else { fruitless + 1 };
            let Some(pause) = self.pauses.get(fruitless) else {
                return Err(Error::Fetch(why));
            };
            progress.note(&format!("{why}; trying again"));
            wait(after.map_or(*pause, |after| after.min(MAX_RETRY_AFTER)), progress)?;
        }
        Err(Error::Fetch(format!("gave up after {MAX_ATTEMPTS} attempts")))
    }

    fn attempt(
        &self,
        target: &Target,
        version: &mut Option<Version>,
        save: &mut Save<'_>,
        sink: &mut Sink,
        progress: &mut dyn Progress,
    ) -> Result<(), Trouble> {
        let known = version.clone().unwrap_or_default();
        let resumable = known.etag.is_some() || known.sha256.is_some();
        if sink.len() > target.base && !resumable {
            sink.cut(target.base)?;
        }
        let have = sink.len() - target.base;
        let range = (have > 0).then(|| Range { from: have, etag: known.etag.clone() });
        let (sender, receiver) = sync_channel(QUEUE);
        let (agent, ask) = (self.agent.clone(), target.clone());
        thread::spawn(move || read(&agent, &ask, range.as_ref(), &sender));

        let Message::Head(head) = self.next(&receiver, progress)? else {
            return Err(Trouble::Passing("the server sent a body before its head".into(), None));
        };
        let now = accept(&head, target, have, &known)?;
        if head.status == StatusCode::OK {
            sink.cut(target.base)?; // the whole file comes, not the rest of it
        }
        save(&now)?;
        let size = now.size;
        *version = Some(now);
        progress.begin("downloading", Some(size));
        self.receive(&receiver, target.base + size, target.base, sink, progress)
    }

    /// Moves blocks into the sink until it holds `end` bytes.
    fn receive(
        &self,
        receiver: &Receiver<Message>,
        end: u64,
        base: u64,
        sink: &mut Sink,
        progress: &mut dyn Progress,
    ) -> Result<(), Trouble> {
        progress.advance(sink.len() - base);
        loop {
            let (got, size) = (sink.len() - base, end - base);
            let message =
                self.next(receiver, progress).map_err(|trouble| trouble.after(got, size))?;
            match message {
                Message::Block(block) if sink.len() + block.len() as u64 > end => {
                    return fail("the server sends more bytes than it announced".into());
                }
                Message::Block(block) => {
                    sink.write(&block)?;
                    progress.advance(sink.len() - base);
                }
                Message::End if sink.len() == end => return Ok(()),
                Message::End => {
                    return Err(
                        Trouble::Passing("the connection ended".into(), None).after(got, size)
                    );
                }
                _ => {
                    return fail("two heads in one answer; this is a bug".into());
                }
            }
        }
    }

    /// The next message; failures become troubles here.
    fn next(
        &self,
        receiver: &Receiver<Message>,
        progress: &dyn Progress,
    ) -> Result<Message, Trouble> {
        // The thread's own timeouts come first; this one is for what they do not cover.
        let deadline = Instant::now() + self.idle * 4;
        loop {
            if progress.cancelled() {
                return Err(Trouble::Final(Error::Interrupted));
            }
            match receiver.recv_timeout(POLL) {
                Ok(Message::Away(why)) => return Err(Trouble::Away(why)),
                Ok(Message::Failed(why)) => return Err(Trouble::Passing(why, None)),
                Ok(Message::Refused(why)) => return fail(why),
                Ok(message) => return Ok(message),
                Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
                Err(RecvTimeoutError::Timeout) => {
                    return Err(Trouble::Passing("the server sends nothing".into(), None));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Trouble::Passing("the connection was lost".into(), None));
                }
            }
        }
    }
}

impl Trouble {
    /// The same, said with how much had come.
    fn after(self, got: u64, size: u64) -> Self {
        match self {
            Self::Passing(why, pause) => {
                Self::Passing(format!("{why} after {got} of {size} bytes"), pause)
            }
            other => other,
        }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

fn fail<T>(why: String) -> Result<T, Trouble> {
    Err(Trouble::Final(Error::Fetch(why)))
}

/// Decides from its head whether an answer may be used, and which version it is of.
fn accept(head: &Head, target: &Target, have: u64, known: &Version) -> Result<Version, Trouble> {
    let url = &target.url;
    let size = match head.status {
        StatusCode::OK => head.content_length.or(head.linked_size),
        StatusCode::PARTIAL_CONTENT => Some(ranged(head, have, known)?),
        StatusCode::RANGE_NOT_SATISFIABLE => return Err(Trouble::Stale),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
            let why = format!("{url}: the server asks to wait ({})", head.status);
            return Err(Trouble::Passing(why, head.retry_after));
        }
        status if status.is_server_error() => {
            let why = format!("{url}: the server failed ({status})");
            return Err(Trouble::Passing(why, head.retry_after));
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            return fail(format!(
                "{url}: access refused ({})\nhint: private and gated models need HF_TOKEN, and \
                 for gated ones their terms accepted on the hub",
                head.status
            ));
        }
        StatusCode::NOT_FOUND => {
            return fail(format!(
                "{url}: not found (404)\nhint: check owner, repo, file, revision"
            ));
        }
        status => return fail(format!("{url}: unexpected answer ({status})")),
    };
    let Some(size) = size else {
        return fail(format!("{url}: the server does not say how large the file is"));
    };
    if head.linked_size.is_some_and(|linked| linked != size) {
        return fail(format!("{url}: the server names two sizes for one file"));
    }
    if !target.bound.allows(size) {
        return fail(format!("{url}: has {size} bytes; {:?} was expected", target.bound));
    }
    if let (Some(wanted), Some(named)) = (&target.sha256, &head.sha256)
        && wanted != named
    {
        return fail(format!("{url}: is another file, with SHA-256 {named} instead of {wanted}"));
    }
    Ok(Version { etag: head.etag.clone(), sha256: head.sha256.clone(), size })
}

/// The whole file's size, if the range is the rest of the version at hand.
fn ranged(head: &Head, have: u64, known: &Version) -> Result<u64, Trouble> {
    let range = head.content_range.as_deref().and_then(parse_range);
    let Some((from, to, size)) = range else {
        return Err(Trouble::Stale);
    };
    let same = |a: &Option<String>, b: &Option<String>| a.is_none() || b.is_none() || a == b;
    let fits = have > 0 && from == have && to.checked_add(1) == Some(size) && size == known.size;
    if fits && same(&head.etag, &known.etag) && same(&head.sha256, &known.sha256) {
        Ok(size)
    } else {
        Err(Trouble::Stale)
    }
}

/// `bytes FROM-TO/SIZE`.
fn parse_range(text: &str) -> Option<(u64, u64, u64)> {
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (from, to) = range.split_once('-')?;
    let (from, to, size) = (from.parse().ok()?, to.parse().ok()?, size.parse().ok()?);
    (from <= to && to < size).then_some((from, to, size))
}

struct Range {
    from: u64,
    etag: Option<String>,
}

/// The reading thread: asks, follows redirects, sends head and blocks. A send fails only where
/// nobody listens any more; then there is nothing left to do.
fn read(agent: &ureq::Agent, target: &Target, range: Option<&Range>, out: &SyncSender<Message>) {
    let answer = follow(agent, target, range);
    let (head, mut body) = match answer {
        Ok((head, response)) => (head, response.into_body().into_reader()),
        Err(message) => {
            let _ = out.send(message);
            return;
        }
    };
    if out.send(Message::Head(Box::new(head))).is_err() {
        return;
    }
    loop {
        let mut block = vec![0; BLOCK];
        let message = match std::io::Read::read(&mut body, &mut block) {
            Ok(0) => Message::End,
            Ok(got) => {
                block.truncate(got);
                Message::Block(block)
            }
            Err(error) => Message::Failed(format!("the connection broke: {error}")),
        };
        let last = !matches!(message, Message::Block(_));
        if out.send(message).is_err() || last {
            return;
        }
    }
}

fn follow(
    agent: &ureq::Agent,
    target: &Target,
    range: Option<&Range>,
) -> Result<(Head, ureq::http::Response<ureq::Body>), Message> {
    let refused = |why: String| Message::Refused(format!("{}: {why}", target.url));
    let mut url: Uri =
        target.url.parse().map_err(|error| refused(format!("not an address: {error}")))?;
    let home = origin(&url).ok_or_else(|| refused("not an http or https address".into()))?;
    // The hub names size and hash of a large file in its redirect; only the hub is believed.
    let mut linked = (None, None);
    for _ in 0..=MAX_HOPS {
        let at_home = origin(&url).as_ref() == Some(&home);
        let mut request = agent.get(&url).header(header::ACCEPT_ENCODING, "identity");
        if let (true, Some(token)) = (at_home, &target.token) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(range) = range {
            request = request.header(header::RANGE, format!("bytes={}-", range.from));
            if let Some(etag) = range.etag.as_ref().filter(|etag| !etag.starts_with("W/")) {
                request = request.header(header::IF_RANGE, etag);
            }
        }
        let response = request.call().map_err(|error| failed(&url, &error))?;
        let headers = response.headers();
        if at_home {
            linked =
                (linked.0.or_else(|| linked_hash(headers)), linked.1.or_else(|| size(headers)));
        }
        if response.status().is_redirection() {
            url = next_url(&url, headers).map_err(refused)?;
            continue;
        }
        return Ok((head_of(&response, linked), response));
    }
    Err(refused("too many redirects".into()))
}

/// A failure below HTTP. Certificates do not get better by waiting, most else may.
fn failed(url: &Uri, error: &ureq::Error) -> Message {
    let host = url.host().unwrap_or("the server");
    let why = format!("cannot reach {host}: {error}");
    match error {
        ureq::Error::Rustls(_) | ureq::Error::Tls(_) | ureq::Error::InvalidProxyUrl => {
            Message::Refused(why)
        }
        _ => Message::Away(why),
    }
}

fn head_of(
    response: &ureq::http::Response<ureq::Body>,
    (sha256, linked_size): (Option<String>, Option<u64>),
) -> Head {
    let headers = response.headers();
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let whole = |name| text(name).and_then(|text| text.parse().ok());
    Head {
        status: response.status(),
        etag: text(header::ETAG).filter(|etag| etag.len() <= 256).map(Into::into),
        sha256,
        linked_size,
        content_length: whole(header::CONTENT_LENGTH),
        content_range: text(header::CONTENT_RANGE).map(Into::into),
        retry_after: whole(header::RETRY_AFTER).map(Duration::from_secs),
    }
}

fn linked_hash(headers: &HeaderMap) -> Option<String> {
    let text = headers.get("x-linked-etag")?.to_str().ok()?.trim_matches('"').to_ascii_lowercase();
    (text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())).then_some(text)
}

fn size(headers: &HeaderMap) -> Option<u64> {
    headers.get("x-linked-size")?.to_str().ok()?.parse().ok()
}

/// Scheme, host and port: what a token may be sent to.
fn origin(url: &Uri) -> Option<(String, String, u16)> {
    let scheme = url.scheme_str()?.to_ascii_lowercase();
    let port = match scheme.as_str() {
        "https" => 443,
        "http" => 80,
        _ => return None,
    };
    Some((scheme, url.host()?.to_ascii_lowercase(), url.port_u16().unwrap_or(port)))
}

/// Where a redirect leads; never from https to http.
fn next_url(url: &Uri, headers: &HeaderMap) -> Result<Uri, String> {
    let bad = || "a redirect leads nowhere".to_string();
    let to = headers.get(header::LOCATION).and_then(|to| to.to_str().ok()).ok_or_else(bad)?;
    let absolute = if to.starts_with('/') && !to.starts_with("//") {
        let authority = url.authority().ok_or_else(bad)?;
        format!("{}://{authority}{to}", url.scheme_str().unwrap_or("https"))
    } else {
        to.to_string()
    };
    let next: Uri = absolute.parse().map_err(|_| bad())?;
    let scheme = origin(&next).ok_or_else(bad)?.0;
    if url.scheme_str() == Some("https") && scheme != "https" {
        return Err("a redirect leads from https to http".into());
    }
    Ok(next)
}

fn wait(pause: Duration, progress: &dyn Progress) -> Result<(), Error> {
    let until = Instant::now() + pause;
    while Instant::now() < until {
        if progress.cancelled() {
            return Err(Error::Interrupted);
        }
        thread::sleep(POLL.min(until.saturating_duration_since(Instant::now())));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
