//! Errors in each protocol's shape, and the one table from what went wrong to a status and to what
//! the protocols call it. Their clients choose an exception's class by the status.

use serde_json::{Value, json};

use crate::{Blame, Fault, Retry};

/// What a refusal is about. A [`Fault`] says most of it; the rest only a server knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request is wrong.
    Invalid,
    /// No key, or an unknown one.
    Key,
    /// Not for who asks: a foreign host name, a key that opens other things, data that may not
    /// leave.
    Forbidden,
    /// What may be spent is spent.
    Budget,
    /// No such path.
    NoRoute,
    /// No such model.
    NoModel,
    /// No such record: file, batch, response.
    NoRecord,
    /// No such response to go on from.
    NoPrevious,
    /// The path knows other methods.
    Method,
    /// What it is about is in no state for it.
    Conflict,
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
    /// The key has used what it may in this time.
    Limit,
    /// We failed.
    Ours,
    /// The protocol has it and we do not.
    NotBuilt,
    /// A remote provider failed.
    Provider,
    /// The model is still loading, or the server is going down.
    NotReady,
}

/// (kind, status, (type, code) of OpenAI's, type of Anthropic's, type of llama.cpp's)
type Row = (Kind, u16, (&'static str, Option<&'static str>), &'static str, &'static str);

const INVALID: &str = "invalid_request_error";

#[rustfmt::skip]
static KINDS: &[Row] = &[
    (Kind::Invalid, 400, (INVALID, None), INVALID, INVALID),
    (Kind::Key, 401, (INVALID, Some("invalid_api_key")), "authentication_error", "authentication_error"),
    (Kind::Forbidden, 403, (INVALID, Some("forbidden")), "permission_error", "permission_error"),
    (Kind::Budget, 402, ("insufficient_quota", Some("insufficient_quota")), "billing_error", INVALID),
    (Kind::NoRoute, 404, (INVALID, Some("unknown_url")), "not_found_error", "not_found_error"),
    (Kind::NoModel, 404, (INVALID, Some("model_not_found")), "not_found_error", "not_found_error"),
    (Kind::NoRecord, 404, (INVALID, None), "not_found_error", "not_found_error"),
    (Kind::NoPrevious, 400, (INVALID, Some("previous_response_not_found")), INVALID, INVALID),
    (Kind::Method, 405, (INVALID, Some("method_not_allowed")), INVALID, INVALID),
    (Kind::Slow, 408, (INVALID, Some("request_timeout")), "timeout_error", INVALID),
    (Kind::Late, 408, ("server_error", Some("deadline_exceeded")), "timeout_error", "unavailable_error"),
    (Kind::Conflict, 409, (INVALID, Some("conflict")), INVALID, INVALID),
    (Kind::TooLarge, 413, (INVALID, Some("request_too_large")), "request_too_large", INVALID),
    (Kind::MediaType, 415, (INVALID, Some("unsupported_media_type")), INVALID, INVALID),
    (Kind::Busy, 429, ("rate_limit_error", Some("busy")), "rate_limit_error", "unavailable_error"),
    (Kind::Limit, 429, ("rate_limit_error", Some("rate_limit_exceeded")), "rate_limit_error", "unavailable_error"),
    (Kind::Ours, 500, ("server_error", None), "api_error", "server_error"),
    (Kind::NotBuilt, 501, ("server_error", Some("not_built")), "api_error", "not_supported_error"),
    (Kind::Provider, 502, ("server_error", Some("provider_error")), "api_error", "server_error"),
    (Kind::NotReady, 503, ("server_error", Some("not_ready")), "overloaded_error", "unavailable_error"),
];

/// Every status that an error can have.
#[cfg(test)]
pub(super) fn statuses() -> impl Iterator<Item = u16> {
    KINDS.iter().map(|row| row.1)
}

/// In whose words an error is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// OpenAI's, and of whatever belongs to no protocol.
    OpenAi,
    /// Anthropic's.
    Anthropic,
    /// Ollama's.
    Ollama,
    /// llama.cpp's own.
    LlamaCpp,
    /// Cohere's.
    Cohere,
    /// Those of Text Embeddings Inference.
    Tei,
}

impl Dialect {
    /// An error's body. `request_id` is the request's own, where the shape has a place for it.
    pub fn write_error(self, kind: Kind, fault: &Fault, request_id: &str) -> String {
        self.error(kind, fault, request_id).to_string()
    }

    pub(super) fn error(self, kind: Kind, fault: &Fault, request_id: &str) -> Value {
        let (_, status, (class, code), anthropic, llama_cpp) = kind.row();
        let message = &fault.message;
        let param = &fault.param;
        match self {
            Self::OpenAi => {
                let error =
                    json!({ "message": message, "type": class, "param": param, "code": code });
                json!({ "error": error })
            }
            Self::Anthropic => {
                let error = json!({ "type": anthropic, "message": message });
                let mut out = json!({ "type": "error", "error": error });
                if !request_id.is_empty() {
                    out["request_id"] = json!(request_id);
                }
                out
            }
            Self::Ollama => json!({ "error": message }),
            Self::LlamaCpp => {
                let error = json!({ "code": status, "message": message, "type": llama_cpp });
                json!({ "error": error })
            }
            Self::Cohere => json!({ "id": request_id, "message": message }),
            Self::Tei => json!({ "error": message, "error_type": kind.tei() }),
        }
    }
}

impl Kind {
    /// What Text Embeddings Inference calls it.
    fn tei(self) -> &'static str {
        match self {
            Self::Busy | Self::Limit => "Overloaded",
            Self::NotReady => "Unhealthy",
            Self::Ours | Self::NotBuilt | Self::Provider => "Backend",
            _ => "Validation",
        }
    }

    /// The kind that a fault tells by itself.
    pub fn of(fault: &Fault) -> Self {
        match (fault.blame, fault.retry) {
            (Blame::Policy, _) => Self::Forbidden,
            (Blame::Budget, _) => Self::Budget,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_one_row() {
        use Kind::*;
        let all = [
            Invalid, Key, Forbidden, Budget, NoRoute, NoModel, NoRecord, NoPrevious, Method,
            Conflict, Slow, Late, TooLarge, MediaType, Busy, Limit, Ours, NotBuilt, Provider,
            NotReady,
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
