//! One request as the access log tells of it: gathered by whoever learns a part, written when the
//! last of them lets go. The response's body is one, so that a line tells what was really sent.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderValue, Request, header};
use hyper::body::{Frame, SizeHint};
use ingle_protocol::wire::rfc3339;
use serde_json::json;

use super::Log;

/// The most bytes of a path that are told.
const PATH_MAX: usize = 256;

/// A request under way.
#[derive(Debug)]
pub(crate) struct Visit {
    log: Arc<Log>,
    began: Instant,
    told: Mutex<Told>,
}

/// What is known of it.
#[derive(Debug, Default)]
pub(crate) struct Told {
    id: String,
    method: String,
    path: String,
    bytes_in: Option<u64>,
    pub(crate) key: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) status: Option<u16>,
    pub(crate) prompt_tokens: u64,
    pub(crate) completion_tokens: u64,
    pub(crate) first_token: Option<Duration>,
    bytes_out: u64,
    /// Whether all of the answer was sent.
    whole: bool,
}

impl Visit {
    pub(crate) fn new(log: Arc<Log>, id: &HeaderValue, request: &Request<Body>) -> Arc<Self> {
        let length = request.headers().get(header::CONTENT_LENGTH);
        let told = Told {
            id: id.to_str().unwrap_or_default().to_owned(),
            method: request.method().as_str().chars().take(16).collect(),
            path: request.uri().path().chars().take(PATH_MAX).collect(),
            bytes_in: length.and_then(|length| length.to_str().ok()?.parse().ok()),
            ..Told::default()
        };
        Arc::new(Self { log, began: Instant::now(), told: Mutex::new(told) })
    }

    /// Adds to what is known.
    pub(crate) fn tell(&self, tell: impl FnOnce(&mut Told)) {
        tell(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let told = self.told.get_mut().unwrap_or_else(PoisonError::into_inner);
        let line = line(told, SystemTime::now(), self.began.elapsed());
        self.log.write(line);
    }
}

fn line(told: &Told, now: SystemTime, took: Duration) -> String {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = rfc3339(now.as_secs()).replace('Z', &format!(".{:03}Z", now.subsec_millis()));
    let ms = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
    let line = json!({
        "time": time,
        "id": told.id,
        "key": told.key,
        "method": told.method,
        "path": told.path,
        "model": told.model,
        "status": told.status,
        "whole": told.whole,
        "prompt_tokens": told.prompt_tokens,
        "completion_tokens": told.completion_tokens,
        "ms": ms(took),
        "first_token_ms": told.first_token.map(ms),
        "bytes_in": told.bytes_in,
        "bytes_out": told.bytes_out,
    });
    format!("{line}\n")
}

/// A body whose bytes are counted for the log.
pub(crate) struct Logged {
    body: Body,
    visit: Arc<Visit>,
}

impl Logged {
    pub(crate) fn body(body: Body, visit: Arc<Visit>) -> Body {
        // A body that has no bytes is never asked for any.
        let whole = body.is_end_stream();
        visit.tell(|told| told.whole = whole);
        Body::new(Self { body, visit })
    }
}

impl HttpBody for Logged {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let next = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(next) = &next {
            let bytes = next.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
            let more = bytes.map_or(0, |bytes| bytes.len() as u64);
            let whole = next.is_none() || self.body.is_end_stream();
            self.visit.tell(|told| {
                told.bytes_out += more;
                told.whole |= whole;
            });
        }
        next
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_of_json() {
        let told = Told {
            path: "/a\"\n\u{1b}b".to_owned(),
            status: Some(200),
            prompt_tokens: 3,
            ..Told::default()
        };
        let now = UNIX_EPOCH + Duration::from_millis(1_709_251_199_042);
        let line = line(&told, now, Duration::from_micros(1500));
        assert_eq!((line.matches('\n').count(), line.ends_with('\n')), (1, true), "{line}");
        let told: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(told["time"], "2024-02-29T23:59:59.042Z");
        assert_eq!((&told["path"], &told["ms"]), (&json!("/a\"\n\u{1b}b"), &json!(1.5)));
        assert_eq!((&told["status"], &told["key"]), (&json!(200), &json!(null)));
    }
}
