//! A request that gets an error instead of an answer, rendered once, here.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ingle_protocol::wire::openai::{Kind, write_error};
use ingle_protocol::{Fault, Retry};

/// A fault and what it is about.
#[derive(Debug)]
pub(crate) struct Refusal {
    kind: Kind,
    fault: Fault,
}

impl Refusal {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, fault: Fault::caller(message) }
    }

    /// What it names as the field at fault.
    pub(crate) fn at(mut self, param: &str) -> Self {
        self.fault = self.fault.at(param);
        self
    }

    /// The data of the event that ends a stream.
    pub(crate) fn data(&self) -> String {
        write_error(self.kind, &self.fault)
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
        let mut response = json(status, self.data());
        let headers = response.headers_mut();
        if let Retry::After(after) | Retry::WhenReady(after) = self.fault.retry {
            // Whole seconds, and 0 would be no wait at all.
            let seconds = after.as_secs_f64().ceil().max(1.0) as u64;
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.kind == Kind::Key {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// A response of JSON text.
pub(crate) fn json(status: StatusCode, text: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}
