//! What the wire formats are to a client of theirs: a request becomes the body that its kind of
//! provider wants, within the limit that was decided. A caller's own body goes out as it came where
//! the provider speaks its format. Absent: the formats themselves (`ingle_protocol::wire::speak`).

use ingle_protocol::wire::speak::{self, Cap, Manner, Passed};
use ingle_protocol::{Fault, Format, Input, Request, Verbatim};
use serde_json::{Map, Value, json};

use super::kinds::{Body, Kind};

/// A body, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spoken {
    pub(super) body: String,
    /// What it is written in, and what its answer is.
    pub(super) format: Format,
    /// Where it goes, unless that is where its kind of provider answers usually.
    pub(super) path: Option<&'static str>,
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
    let passed = own.and_then(|own| Some((own, passes(kind, own.format)?)));
    let mut spoken = match passed {
        Some((own, path)) => Spoken { path, ..pass(kind, own, model, most)? },
        None => write(kind, request, model, most)?,
    };
    if let Body::Anthropic { version, streams } = kind.body {
        let mut body = object(&spoken.body)?;
        body.shift_remove("model");
        if !streams {
            body.shift_remove("stream");
        }
        body.insert("anthropic_version".into(), json!(version));
        spoken.body = Value::Object(body).to_string();
    }
    Ok(spoken)
}

/// Whether a caller's own body in a format can go to a kind of provider, and by which path where
/// that is not the usual one. Gemini's does not tell whether its answer is to come in pieces.
fn passes(kind: &Kind, own: Format) -> Option<Option<&'static str>> {
    if own == kind.format {
        return (own != Format::Gemini).then_some(None);
    }
    kind.also.iter().find(|(format, _)| *format == own).map(|(_, path)| Some(*path))
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
    Ok(Spoken { body, format: kind.format, path: None, stream: true, passed: false })
}

fn pass(kind: &Kind, own: &Verbatim, model: &str, most: Option<u32>) -> Result<Spoken, Fault> {
    let cap = most.map(|most| Cap { most, hosted: kind.body == Body::Hosted });
    let Passed { body, stream } = speak::pass(own, model, cap)?;
    Ok(Spoken { body, format: own.format, path: None, stream, passed: true })
}

fn object(body: &str) -> Result<Map<String, Value>, Fault> {
    match serde_json::from_str(body) {
        Ok(Value::Object(body)) => Ok(body),
        _ => Err(Fault::ours("a request's own body is no JSON object")),
    }
}
