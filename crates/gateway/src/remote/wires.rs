//! What the wire formats are to a client of theirs: a request becomes the body that its kind of
//! provider wants, within the limit that was decided. A caller's own body goes out as it came where
//! the provider speaks its format. Absent: the formats themselves (`ingle_protocol::wire::speak`).

use ingle_protocol::wire::speak::{self, Manner};
use ingle_protocol::{Fault, Format, Input, Request, Verbatim};
use serde_json::{Map, Value, json};

use super::kinds::{Body, Kind};

/// A body, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spoken {
    pub(super) body: String,
    /// Whether it asks for an answer in pieces.
    pub(super) stream: bool,
    /// Whether it is the caller's own, so that the answer is handed on as it comes.
    pub(super) passed: bool,
}

/// Writes a request for one candidate.
pub(super) fn speak(
    kind: &Kind,
    request: &Request,
    model: &str,
    most: Option<u32>,
) -> Result<Spoken, Fault> {
    let own = request.origin.as_ref().and_then(|origin| origin.verbatim.as_deref());
    let mut spoken = match own.filter(|own| passes(kind, own)) {
        Some(own) => pass(own, model, most)?,
        None => write(kind, request, model, most)?,
    };
    if let Body::Anthropic(version) = kind.body {
        let mut body = object(&spoken.body)?;
        body.shift_remove("model");
        body.shift_remove("stream");
        body.insert("anthropic_version".into(), json!(version));
        spoken.body = Value::Object(body).to_string();
    }
    Ok(spoken)
}

/// Whether a caller's own body can go to a kind of provider. Gemini's does not tell whether its
/// answer is to come in pieces.
fn passes(kind: &Kind, own: &Verbatim) -> bool {
    own.format == kind.format && kind.format != Format::Gemini
}

fn write(kind: &Kind, request: &Request, model: &str, most: Option<u32>) -> Result<Spoken, Fault> {
    let capped = Request {
        max_tokens: match (request.max_tokens, most) {
            (Some(own), Some(most)) => Some(own.min(most)),
            (own, most) => own.or(most),
        },
        ..request.clone()
    };
    if matches!(capped.input, Input::Tokens(_) | Input::Gap(_)) {
        let why = "tokens and gaps are a local model's own: a remote one takes text";
        return Err(Fault::caller(why).at("prompt"));
    }
    let manner = Manner { stream: true, hosted: kind.body == Body::Hosted };
    let body = speak::write_as(kind.format, &capped, model, manner)?;
    Ok(Spoken { body, stream: true, passed: false })
}

fn pass(own: &Verbatim, model: &str, most: Option<u32>) -> Result<Spoken, Fault> {
    let mut spoken = Spoken { body: speak::pass(own, model)?, stream: streams(own)?, passed: true };
    if let Some(most) = most {
        let mut body = object(&spoken.body)?;
        if cap(own.format, &mut body, most) {
            spoken.body = Value::Object(body).to_string();
        }
    }
    Ok(spoken)
}

/// Whether a caller's own body asks for an answer in pieces: Ollama's does unless it says no.
fn streams(own: &Verbatim) -> Result<bool, Fault> {
    let usual = own.format == Format::Ollama;
    Ok(object(&own.body)?.get("stream").and_then(Value::as_bool).unwrap_or(usual))
}

/// Lowers the limit on tokens in a format's body to `most`, wherever it stands, and puts it there
/// where it does not. Tells whether anything was changed.
fn cap(format: Format, body: &mut Map<String, Value>, most: u32) -> bool {
    let names: &[&str] = match format {
        Format::Chat => &["max_completion_tokens", "max_tokens"],
        Format::Messages => &["max_tokens"],
        Format::Responses => &["max_output_tokens"],
        Format::Ollama | Format::Gemini => {
            let (at, name) = match format {
                Format::Ollama => ("options", "num_predict"),
                _ => ("generationConfig", "maxOutputTokens"),
            };
            let inner = body.entry(at).or_insert_with(|| json!({}));
            if !inner.is_object() {
                *inner = json!({});
            }
            return inner.as_object_mut().is_some_and(|inner| lower(inner, &[name], most));
        }
    };
    lower(body, names, most)
}

fn lower(body: &mut Map<String, Value>, names: &[&str], most: u32) -> bool {
    let (mut found, mut changed) = (false, false);
    for name in names {
        let Some(value) = body.get_mut(*name).filter(|value| !value.is_null()) else { continue };
        found = true;
        if !value.as_f64().is_some_and(|own| (0.0..=f64::from(most)).contains(&own)) {
            *value = json!(most);
            changed = true;
        }
    }
    if !found {
        body.insert(names[0].to_owned(), json!(most));
    }
    changed || !found
}

fn object(body: &str) -> Result<Map<String, Value>, Fault> {
    match serde_json::from_str(body) {
        Ok(Value::Object(body)) => Ok(body),
        _ => Err(Fault::ours("a request's own body is no JSON object")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_lowered_where_they_stand() {
        let check = |format, body: &str, expect: &str| {
            let mut read = object(body).expect("an object");
            let changed = cap(format, &mut read, 100);
            assert_eq!(Value::Object(read).to_string(), expect, "{body}");
            assert_eq!(changed, body != expect, "{body}");
        };
        use Format::{Chat, Gemini, Messages, Ollama, Responses};
        check(Chat, r#"{"max_tokens":50}"#, r#"{"max_tokens":50}"#);
        check(Chat, r#"{"max_tokens":101}"#, r#"{"max_tokens":100}"#);
        check(Chat, r#"{"max_tokens":-1}"#, r#"{"max_tokens":100}"#);
        check(Chat, r#"{"max_tokens":1e9}"#, r#"{"max_tokens":100}"#);
        check(Chat, r#"{"a":1}"#, r#"{"a":1,"max_completion_tokens":100}"#);
        check(
            Chat,
            r#"{"max_tokens":500,"max_completion_tokens":600}"#,
            r#"{"max_tokens":100,"max_completion_tokens":100}"#,
        );
        check(Messages, r#"{"max_tokens":null}"#, r#"{"max_tokens":100}"#);
        check(Responses, "{}", r#"{"max_output_tokens":100}"#);
        check(Ollama, r#"{"options":{"num_predict":-1}}"#, r#"{"options":{"num_predict":100}}"#);
        check(Ollama, r#"{"options":null}"#, r#"{"options":{"num_predict":100}}"#);
        check(
            Gemini,
            r#"{"generationConfig":{"topK":1}}"#,
            r#"{"generationConfig":{"topK":1,"maxOutputTokens":100}}"#,
        );
    }
}
