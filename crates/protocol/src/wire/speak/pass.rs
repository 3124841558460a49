//! A caller's own body for another server that speaks the same format: the model's name, what has
//! to be told of the answer, that it is not to be kept, and a lower limit on it are the only bytes
//! that change. Absent: what the body asks for, which was read, and decided on, before.

use serde_json::{Map, Value};

use crate::wire::check::Read;
use crate::wire::values::read_object;
use crate::wire::{check, splice};
use crate::{Fault, Format, Verbatim};

/// The most that another server may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cap {
    /// Tokens.
    pub most: u32,
    /// Whether it is one of OpenAI's own servers, where a chat's limit has its newer name.
    pub hosted: bool,
}

/// A body to be passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// The text.
    pub body: String,
    /// Whether it asks for an answer in pieces: Ollama's does unless it says no.
    pub stream: bool,
}

/// A caller's own body with nothing changed but its `model`, which becomes `model`; in a chat's
/// stream `stream_options.include_usage`, which becomes true, since without it nobody learns what
/// the answer cost; a response's `store`, where it is not given, which becomes false: nobody asked
/// that it be kept elsewhere; and its limit on the answer, which becomes `cap` where it is higher
/// or not given. All else stays as it was written, byte for byte. (Gemini's path names the model:
/// but for its limit its body stays as it is.)
///
/// # Errors
/// Where the body is no JSON object, or one with a key given twice.
pub fn pass(verbatim: &Verbatim, model: &str, cap: Option<Cap>) -> Result<Passed, Fault> {
    let (format, map) = (verbatim.format, read_object(verbatim.body.as_bytes())?);
    let streams = |usual| map.get("stream").and_then(Value::as_bool).unwrap_or(usual);
    let stream = streams(format == Format::Ollama);
    let mut body = verbatim.body.clone();
    if format != Format::Gemini {
        body = set(&body, &["model"], &splice::quoted(model))?;
    }
    if format == Format::Chat && stream {
        body = set(&body, &["stream_options", "include_usage"], "true")?;
    }
    if format == Format::Responses && map.get("store").is_none_or(Value::is_null) {
        body = set(&body, &["store"], "false")?;
    }
    if let Some(cap) = cap {
        body = lower(format, &map, body, cap)?;
    }
    Ok(Passed { body, stream })
}

/// Where a format's limit on an answer's tokens stands: of several names the first that is given.
fn limits(format: Format) -> &'static [&'static [&'static str]] {
    match format {
        Format::Chat => &[&["max_completion_tokens"], &["max_tokens"]],
        Format::Responses => &[&["max_output_tokens"]],
        Format::Messages => &[&["max_tokens"]],
        Format::Ollama => &[&["options", "num_predict"]],
        Format::Gemini => &[&["generationConfig", "maxOutputTokens"]],
    }
}

/// The body, which said this, with a limit on its answer: one that is lower stays, one that is
/// higher, or none, becomes `cap`.
fn lower(format: Format, map: &Map<String, Value>, body: String, cap: Cap) -> Read<String> {
    let at = |path: &[&str]| {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(map.get(*first)?, |value, key| value.get(*key))
    };
    let (mut body, most) = (body, cap.most.to_string());
    let names = limits(format);
    let mut given = false;
    for path in names {
        let Some(limit) = at(path).filter(|limit| !limit.is_null()) else { continue };
        given = true;
        // Less than 0 is how Ollama's clients say "as many as there is room for".
        let lower = limit.as_i64().is_some_and(|own| (0..=i64::from(cap.most)).contains(&own));
        if !lower {
            body = set(&body, path, &most)?;
        }
    }
    let usual = if cap.hosted { names.first() } else { names.last() };
    match usual.filter(|_| !given) {
        Some(path) => set(&body, path, &most),
        None => Ok(body),
    }
}

fn set(body: &str, path: &[&str], value: &str) -> Read<String> {
    match splice::set(body, path, value) {
        Some(body) => Ok(body),
        None => check::bad(path.first().unwrap_or(&"model"), "must be an object"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verbatim(format: Format, body: &str) -> Verbatim {
        Verbatim { format, body: body.to_owned() }
    }

    #[test]
    #[rustfmt::skip]
    fn nothing_but_what_has_to_changes() {
        use Format::{Chat, Gemini, Messages, Ollama, Responses};
        let rows = [
            (Chat, r#"{ "model":"auto" , "x": 1.0, "messages":[{"role":"user","content":"\u00e9"}]}"#, r#"{ "model":"b\"" , "x": 1.0, "messages":[{"role":"user","content":"\u00e9"}]}"#),
            (Chat, r#"{"stream":true,"model":""}"#, r#"{"stream":true,"model":"b\"","stream_options":{"include_usage":true}}"#),
            (Chat, r#"{"stream":true,"stream_options":{"include_usage":false,"y":1}}"#, r#"{"stream":true,"stream_options":{"include_usage":true,"y":1},"model":"b\""}"#),
            (Chat, r#"{"stream":true,"stream_options":null}"#, r#"{"stream":true,"stream_options":{"include_usage":true},"model":"b\""}"#),
            (Chat, r#"{"stream":false,"model":"a"}"#, r#"{"stream":false,"model":"b\""}"#),
            (Messages, r#"{"stream":true,"model":"a","system":[{"cache_control":{"type":"ephemeral"}}]}"#, r#"{"stream":true,"model":"b\"","system":[{"cache_control":{"type":"ephemeral"}}]}"#),
            (Responses, r#"{"input":[{"model":"a"}],"model":"a"}"#, r#"{"input":[{"model":"a"}],"model":"b\"","store":false}"#),
            (Responses, r#"{"stream":true,"store":null,"model":"a"}"#, r#"{"stream":true,"store":false,"model":"b\""}"#),
            (Responses, r#"{"store":false,"model":"a","new":[1.0]}"#, r#"{"store":false,"model":"b\"","new":[1.0]}"#),
            (Ollama, r#"{"model":"a:latest"}"#, r#"{"model":"b\""}"#),
            (Gemini, r#"{"contents":[]}"#, r#"{"contents":[]}"#),
        ];
        for (format, body, expect) in rows {
            let passed = pass(&verbatim(format, body), "b\"", None).expect("is an object");
            assert_eq!(passed.body, expect, "{body}");
            let streams = body.contains(r#""stream":true"#) || format == Ollama;
            assert_eq!(passed.stream, streams, "{body}");
        }
        for body in ["", "[]", "{", r#"{"model":1,"model":2}"#, r#"{"stream":true,"stream_options":1}"#] {
            assert!(pass(&verbatim(Chat, body), "b", None).is_err(), "{body}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn a_limit_is_lowered_and_never_raised() {
        use Format::{Chat, Gemini, Messages, Ollama, Responses};
        let rows = [
            (Chat, false, "{}", r#"{"max_tokens":9}"#),
            (Chat, true, "{}", r#"{"max_completion_tokens":9}"#),
            (Chat, true, r#"{"max_tokens":10}"#, r#"{"max_tokens":9}"#),
            (Chat, false, r#"{"max_completion_tokens":10}"#, r#"{"max_completion_tokens":9}"#),
            (Chat, false, r#"{"max_tokens":10,"max_completion_tokens":8}"#, r#"{"max_tokens":9,"max_completion_tokens":8}"#),
            (Messages, false, r#"{"max_tokens":8}"#, r#"{"max_tokens":8}"#),
            (Messages, false, r#"{"max_tokens":1e3}"#, r#"{"max_tokens":9}"#),
            (Responses, false, r#"{"max_output_tokens":null}"#, r#"{"max_output_tokens":9}"#),
            (Ollama, false, r#"{"options":{"num_predict":-1}}"#, r#"{"options":{"num_predict":9}}"#),
            (Ollama, false, r#"{"options":{}}"#, r#"{"options":{"num_predict":9}}"#),
            (Gemini, false, "{}", r#"{"generationConfig":{"maxOutputTokens":9}}"#),
        ];
        for (format, hosted, body, expect) in rows {
            let map = read_object(body.as_bytes()).expect("is an object");
            let cap = Cap { most: 9, hosted };
            assert_eq!(lower(format, &map, body.to_owned(), cap).as_deref(), Ok(expect), "{body}");
        }
    }
}
