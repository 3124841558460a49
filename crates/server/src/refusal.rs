//! A request that gets an error instead of an answer: what it is about is said where it is known,
//! in whose words is known at the edge alone, and there it is written, once.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ingle_protocol::wire::{Dialect, Kind, Writer};
use ingle_protocol::{Blame, Fault, Retry};

/// A fault and what it is about.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    kind: Kind,
    fault: Fault,
}

impl Refusal {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, fault: Fault::caller(message) }
    }

    /// A fault of a kind that it does not tell by itself.
    pub(crate) fn of(kind: Kind, fault: Fault) -> Self {
        Self { kind, fault }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// What it names as the field at fault.
    pub(crate) fn at(mut self, param: &str) -> Self {
        self.fault = self.fault.at(param);
        self
    }

    /// The status that it has, or would have.
    pub(crate) fn status(&self) -> u16 {
        self.kind.status()
    }

    /// Its body in OpenAI's words.
    pub(crate) fn text(&self, request_id: &str) -> String {
        Dialect::OpenAi.write_error(self.kind, &self.fault, request_id)
    }

    /// How long to wait before the same is tried again; `None` where it would fail again.
    pub(crate) fn wait(&self) -> Option<Duration> {
        match (self.fault.blame, self.fault.retry) {
            (Blame::Us, Retry::After(after) | Retry::WhenReady(after)) => Some(after),
            _ => None,
        }
    }

    /// The end of a stream that fails by it.
    pub(crate) fn end(&self, writer: &dyn Writer) -> String {
        writer.failure(self.kind, &self.fault)
    }

    /// Writes the body of the response that carries it, if one does.
    pub(crate) fn render(response: Response, dialect: Dialect, request_id: &str) -> Response {
        let (mut parts, body) = response.into_parts();
        let Some(refusal) = parts.extensions.remove::<Self>() else {
            return Response::from_parts(parts, body);
        };
        let text = dialect.write_error(refusal.kind, &refusal.fault, request_id);
        parts.headers.remove(header::CONTENT_LENGTH);
        Response::from_parts(parts, text.into())
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self { kind: Kind::of(&fault), fault }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = json(status, String::new());
        let headers = response.headers_mut();
        if let Retry::After(after) | Retry::WhenReady(after) = self.fault.retry {
            // Whole seconds, and 0 would be no wait at all.
            let seconds = after.as_secs_f64().ceil().max(1.0) as u64;
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.kind == Kind::Key {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// A response of JSON text.
pub(crate) fn json(status: StatusCode, text: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}
