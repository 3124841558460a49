//! Errors in OpenAI's shape, and the one table from what went wrong to a status, a type and a
//! code. Its clients choose an exception's class by the status.

use serde_json::json;

use crate::{Blame, Fault, Retry};

/// What a refusal is about. A [`Fault`] says most of it; the rest only a server knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request is wrong.
    Invalid,
    /// No key, or an unknown one.
    Key,
    /// Refused whoever asks: a foreign host name.
    Forbidden,
    /// No such path.
    NoRoute,
    /// No such model.
    NoModel,
    /// The path knows other methods.
    Method,
    /// The request was not sent in time.
    Slow,
    /// The caller's own time was too short.
    Late,
    /// The body is too long.
    TooLarge,
    /// The body is no JSON by its content type.
    MediaType,
    /// Full; to be tried again.
    Busy,
    /// We failed.
    Ours,
    /// A remote provider failed.
    Provider,
    /// The model is still loading, or the server is going down.
    NotReady,
}

/// (kind, status, type, code)
type Row = (Kind, u16, &'static str, Option<&'static str>);

#[rustfmt::skip]
static KINDS: &[Row] = &[
    (Kind::Invalid, 400, "invalid_request_error", None),
    (Kind::Key, 401, "invalid_request_error", Some("invalid_api_key")),
    (Kind::Forbidden, 403, "invalid_request_error", Some("forbidden")),
    (Kind::NoRoute, 404, "invalid_request_error", Some("unknown_url")),
    (Kind::NoModel, 404, "invalid_request_error", Some("model_not_found")),
    (Kind::Method, 405, "invalid_request_error", Some("method_not_allowed")),
    (Kind::Slow, 408, "invalid_request_error", Some("request_timeout")),
    (Kind::Late, 408, "server_error", Some("deadline_exceeded")),
    (Kind::TooLarge, 413, "invalid_request_error", Some("request_too_large")),
    (Kind::MediaType, 415, "invalid_request_error", Some("unsupported_media_type")),
    (Kind::Busy, 429, "rate_limit_error", Some("busy")),
    (Kind::Ours, 500, "server_error", None),
    (Kind::Provider, 502, "server_error", Some("provider_error")),
    (Kind::NotReady, 503, "server_error", Some("not_ready")),
];

impl Kind {
    /// The kind that a fault tells by itself.
    pub fn of(fault: &Fault) -> Self {
        match (fault.blame, fault.retry) {
            (_, Retry::WhenReady(_)) => Self::NotReady,
            (Blame::Caller, Retry::After(_)) => Self::Late,
            (Blame::Caller, _) => Self::Invalid,
            (_, Retry::After(_)) => Self::Busy,
            (Blame::Provider, _) => Self::Provider,
            (Blame::Us, _) => Self::Ours,
        }
    }

    /// Its HTTP status.
    pub fn status(self) -> u16 {
        self.row().1
    }

    fn row(self) -> &'static Row {
        KINDS.iter().find(|row| row.0 == self).expect("a test walks every kind")
    }
}

/// An error's body, and the data of the event that ends a failed stream.
pub fn write_error(kind: Kind, fault: &Fault) -> String {
    let (_, _, class, code) = kind.row();
    let error = json!({
        "message": fault.message,
        "type": class,
        "param": fault.param,
        "code": code,
    });
    json!({ "error": error }).to_string()
}

/// The fault that an error's body tells of, as a provider's.
pub(super) fn read_error(error: &serde_json::Value) -> Fault {
    let message = match error.get("message").and_then(serde_json::Value::as_str) {
        Some(message) => message.to_owned(),
        None => error.to_string(),
    };
    let class = error.get("type").and_then(serde_json::Value::as_str);
    let blame =
        if class == Some("invalid_request_error") { Blame::Caller } else { Blame::Provider };
    let param = error.get("param").and_then(serde_json::Value::as_str).map(str::to_owned);
    let retry = if blame == Blame::Caller { Retry::Never } else { Retry::Elsewhere };
    Fault { blame, retry, param, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_one_row() {
        use Kind::*;
        let all = [
            Invalid, Key, Forbidden, NoRoute, NoModel, Method, Slow, Late, TooLarge, MediaType,
            Busy, Ours, Provider, NotReady,
        ];
        for kind in all {
            assert_eq!(KINDS.iter().filter(|row| row.0 == kind).count(), 1, "{kind:?}");
        }
        assert_eq!(KINDS.len(), all.len());
    }

    #[test]
    fn a_fault_tells_its_status() {
        let busy = Fault::busy(std::time::Duration::from_secs(1), "full");
        let provider = Fault { blame: Blame::Provider, ..Fault::ours("gone") };
        let late = Fault::late(std::time::Duration::from_secs(1), "too late");
        let absent = Fault::not_ready(std::time::Duration::from_secs(1), "loading");
        let rows = [
            (Fault::caller("x"), 400),
            (absent, 503),
            (late, 408),
            (busy, 429),
            (Fault::ours("x"), 500),
            (provider, 502),
        ];
        for (fault, status) in rows {
            assert_eq!(Kind::of(&fault).status(), status, "{fault:?}");
        }
    }
}
