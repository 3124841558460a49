//! Errors of providers as faults: whose they are, and whether it is worth asking again. What a
//! provider says of a key is told to nobody, since some say the key. Absent: what is done then.

use std::time::Duration;

use serde_json::Value;

use crate::{Blame, Fault, Format, Retry};

/// Characters of a provider's message that are told on.
const MESSAGE_MAX: usize = 500;
/// What is waited for where a provider is full and does not say how long.
const PATIENCE: Duration = Duration::from_secs(1);

/// The provider failed, and another may do.
pub(in crate::wire) fn wrong(message: impl Into<String>) -> Fault {
    Fault { blame: Blame::Provider, retry: Retry::Elsewhere, param: None, message: message.into() }
}

/// What a refusal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Means {
    /// The request is wrong, here and elsewhere.
    Request,
    /// The request is wrong for this provider.
    Here,
    /// The key is not taken, or may not do this.
    Key,
    /// It has had enough for now.
    Full,
    /// It failed.
    Failed,
}

/// (kind or code in the body, what it means): where a body tells more than its status.
static WORDS: &[(&str, Means)] = &[
    ("insufficient_quota", Means::Here),
    ("billing_error", Means::Here),
    ("billing_hard_limit_reached", Means::Here),
    ("context_length_exceeded", Means::Here),
    ("model_not_found", Means::Here),
    ("not_found_error", Means::Here),
    ("authentication_error", Means::Key),
    ("invalid_api_key", Means::Key),
    ("API_KEY_INVALID", Means::Key),
    ("permission_error", Means::Key),
    ("UNAUTHENTICATED", Means::Key),
    ("PERMISSION_DENIED", Means::Key),
    ("overloaded_error", Means::Full),
    ("rate_limit_error", Means::Full),
    ("rate_limit_exceeded", Means::Full),
    ("RESOURCE_EXHAUSTED", Means::Full),
    ("UNAVAILABLE", Means::Full),
    ("invalid_request_error", Means::Request),
    ("request_too_large", Means::Here),
    ("INVALID_ARGUMENT", Means::Request),
    ("server_error", Means::Failed),
    ("api_error", Means::Failed),
];

/// (status, what it means), unless the body tells more.
static STATUSES: &[(u16, Means)] = &[
    (400, Means::Request),
    (401, Means::Key),
    (402, Means::Here),
    (403, Means::Key),
    (404, Means::Here),
    (405, Means::Here),
    (413, Means::Here),
    (415, Means::Here),
    (422, Means::Request),
    (429, Means::Full),
    (503, Means::Full),
    (529, Means::Full),
];

/// The fault that an answer of another status than success tells of. `after` is what its
/// `Retry-After` header says. A key that is not taken is the provider's fault as far as a caller
/// can see, never the caller's; a message is cut to a bounded length.
pub fn fault(format: Format, status: u16, after: Option<Duration>, body: &str) -> Fault {
    let body: Value = serde_json::from_str(body).unwrap_or(Value::Null);
    // Google wraps an error of a stream's in a list.
    let body = body.get(0).unwrap_or(&body);
    let row = STATUSES.iter().find(|row| row.0 == status);
    let by_status = row.map_or(Means::Failed, |row| row.1);
    let told = Told::of(body);
    // A status that says whose fault it is, is not changed by words.
    let means = match by_status {
        Means::Request | Means::Full => told.means().unwrap_or(by_status),
        other => other,
    };
    told.fault(format, means, &format!(" (status {status})"), after)
}

/// The fault that an error within a stream, or an answer, tells of: `error` is what stands under
/// `error`, or the event itself.
pub(in crate::wire) fn told(format: Format, error: &Value) -> Fault {
    let told = Told::of(error);
    told.fault(format, told.means().unwrap_or(Means::Failed), "", None)
}

/// What an error's body says.
struct Told<'a> {
    message: Option<&'a str>,
    param: Option<&'a str>,
    words: [Option<&'a str>; 4],
}

impl<'a> Told<'a> {
    fn of(body: &'a Value) -> Self {
        let error = body.get("error").filter(|error| !error.is_null()).unwrap_or(body);
        let text = |value: &'a Value, key: &str| value.get(key).and_then(Value::as_str);
        let detail = body.get("detail").map(|it| it.get(0).unwrap_or(it));
        let message = error.as_str().or(text(error, "message"));
        let message = message.or(text(body, "message"));
        let message = message.or(detail.and_then(|it| it.as_str().or(text(it, "msg"))));
        let mut details = error.get("details").and_then(Value::as_array).into_iter().flatten();
        let reason = details.find_map(|detail| text(detail, "reason"));
        let [code, class, status] = ["code", "type", "status"].map(|key| text(error, key));
        Self { message, param: text(error, "param"), words: [reason, code, class, status] }
    }

    fn means(&self) -> Option<Means> {
        let known = |word: &str| WORDS.iter().find(|row| row.0 == word).map(|row| row.1);
        self.words.into_iter().flatten().find_map(known)
    }

    fn fault(&self, format: Format, means: Means, status: &str, after: Option<Duration>) -> Fault {
        let said: String = self.message.unwrap_or_default().chars().take(MESSAGE_MAX).collect();
        let said = said.replace(|c: char| c.is_control(), " ");
        let said = if said.is_empty() { "it does not say why".to_owned() } else { said };
        let (blame, retry, message) = match means {
            Means::Request => {
                let message = format!("the provider refuses the request{status}: {said}");
                (Blame::Caller, Retry::Never, message)
            }
            Means::Here => {
                let message = format!("the provider does not serve this{status}: {said}");
                (Blame::Provider, Retry::Elsewhere, message)
            }
            Means::Key => {
                let message = format!(
                    "the provider does not take this server's key for it{status}: whoever runs the \
                     server has to look at the key and at what it is allowed"
                );
                (Blame::Provider, Retry::Elsewhere, message)
            }
            Means::Full => {
                let message = format!("the provider is full{status}: {said}");
                (Blame::Provider, Retry::After(after.unwrap_or(PATIENCE)), message)
            }
            Means::Failed => {
                let retry = after.map_or(Retry::Elsewhere, Retry::After);
                (Blame::Provider, retry, format!("the provider failed{status}: {said}"))
            }
        };
        // A name means something to the caller only in the format that it asked in.
        let param = self.param.filter(|_| blame == Blame::Caller && format == Format::Chat);
        let param = param.map(|param| param.chars().take(64).collect());
        Fault { blame, retry, param, message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[rustfmt::skip]
    fn errors_are_told_by_whose_they_are() {
        use Blame::{Caller, Provider};
        use Format::{Chat, Gemini, Messages, Ollama};
        let after = |seconds| Retry::After(Duration::from_secs(seconds));
        let rows = [
            (Chat, 400, None, r#"{"error":{"message":"no n","type":"invalid_request_error","param":"n"}}"#, Caller, Retry::Never, "no n"),
            (Chat, 400, None, r#"{"error":{"message":"long","code":"context_length_exceeded"}}"#, Provider, Retry::Elsewhere, "long"),
            (Chat, 401, None, r#"{"error":{"message":"Incorrect key sk-abc"}}"#, Provider, Retry::Elsewhere, "this server's key"),
            (Chat, 403, None, "", Provider, Retry::Elsewhere, "this server's key"),
            (Chat, 402, None, r#"{"error":{"message":"pay"}}"#, Provider, Retry::Elsewhere, "pay"),
            (Chat, 404, None, r#"{"error":{"message":"no model"}}"#, Provider, Retry::Elsewhere, "no model"),
            (Chat, 429, None, r#"{"error":{"code":"insufficient_quota","message":"quota"}}"#, Provider, Retry::Elsewhere, "quota"),
            (Chat, 429, Some(7), r#"{"error":{"message":"slow down","type":"requests"}}"#, Provider, after(7), "slow down"),
            (Chat, 429, None, "<html>", Provider, after(1), "does not say why"),
            (Chat, 500, None, r#"{"error":{"message":"oops"}}"#, Provider, Retry::Elsewhere, "oops"),
            (Chat, 500, Some(3), "", Provider, after(3), "failed"),
            (Chat, 503, None, r#"{"detail":"warming"}"#, Provider, after(1), "warming"),
            (Chat, 422, None, r#"{"detail":[{"msg":"field required"}]}"#, Caller, Retry::Never, "field required"),
            (Messages, 400, None, r#"{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens"}}"#, Caller, Retry::Never, "max_tokens"),
            (Messages, 400, None, r#"{"type":"error","error":{"type":"authentication_error","message":"x-api-key sk-1"}}"#, Provider, Retry::Elsewhere, "this server's key"),
            (Messages, 529, None, r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#, Provider, after(1), "Overloaded"),
            (Gemini, 400, None, r#"[{"error":{"code":400,"message":"bad","status":"INVALID_ARGUMENT"}}]"#, Caller, Retry::Never, "bad"),
            (Gemini, 400, None, r#"{"error":{"message":"sk-1","status":"INVALID_ARGUMENT","details":[{},{"reason":"API_KEY_INVALID"}]}}"#, Provider, Retry::Elsewhere, "this server's key"),
            (Gemini, 429, Some(2), r#"{"error":{"code":429,"message":"q","status":"RESOURCE_EXHAUSTED"}}"#, Provider, after(2), "q"),
            (Ollama, 404, None, r#"{"error":"model 'x' not found"}"#, Provider, Retry::Elsewhere, "model 'x'"),
            (Ollama, 302, None, "", Provider, Retry::Elsewhere, "status 302"),
            (Chat, 400, None, "\u{1b}[31m", Caller, Retry::Never, "does not say why"),
        ];
        for (format, status, wait, body, blame, retry, words) in rows {
            let fault = fault(format, status, wait.map(Duration::from_secs), body);
            assert_eq!((fault.blame, fault.retry), (blame, retry), "{status} {body}: {fault}");
            assert!(fault.message.contains(words), "{status} {body}: {fault}");
            assert!(!fault.message.contains("sk-"), "a key is told to nobody: {fault}");
        }
    }

    #[test]
    fn a_message_is_cut_and_plain() {
        let body = format!(r#"{{"error":{{"message":"a\nb\u001b{}"}}}}"#, "x".repeat(9000));
        let fault = fault(Format::Chat, 500, None, &body);
        assert!(fault.message.len() < 600 && !fault.message.contains('\n'), "{fault}");
        assert!(fault.message.contains("a b x"), "{fault}");
        let named = r#"{"error":{"message":"m","param":"n","type":"invalid_request_error"}}"#;
        assert_eq!(super::fault(Format::Chat, 400, None, named).param.as_deref(), Some("n"));
        assert_eq!(super::fault(Format::Messages, 400, None, named).param, None);
    }
}
