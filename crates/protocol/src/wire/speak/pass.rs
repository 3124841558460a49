//! A caller's own body for another server that speaks the same format: the model's name, what has
//! to be told of the answer, that it is not to be kept, and a lower limit on it are the only bytes
//! that change. Absent: what
//! the body asks for, which was read, and decided on, before.

use serde_json::{Map, Value};

use crate::wire::check::Read;
use crate::wire::values::read_object;
use crate::wire::{check, splice};
use crate::{Fault, Format, Verbatim};

/// A caller's own body with nothing changed but its `model`, which becomes `model`, and, in a
/// chat's stream, `stream_options.include_usage`, which becomes true, since without it nobody
/// learns what the answer cost; and a response's `store`, where it is not given, which becomes
/// false: nobody asked that it be kept elsewhere. All else stays as it was written, byte for byte.
/// (Gemini's path names the model: its body stays as it is.)
///
/// # Errors
/// Where the body is no JSON object, or one with a key given twice.
pub fn pass(verbatim: &Verbatim, model: &str) -> Result<String, Fault> {
    let map = read_object(verbatim.body.as_bytes())?;
    if verbatim.format == Format::Gemini {
        return Ok(verbatim.body.clone());
    }
    let body = set(&verbatim.body, &["model"], &splice::quoted(model))?;
    let streamed = map.get("stream") == Some(&Value::Bool(true));
    if verbatim.format == Format::Chat && streamed {
        return set(&body, &["stream_options", "include_usage"], "true");
    }
    let unsaid = map.get("store").is_none_or(Value::is_null);
    if verbatim.format == Format::Responses && unsaid {
        return set(&body, &["store"], "false");
    }
    Ok(body)
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

/// The same body, which asks for an answer of at most `most` tokens: a limit that is lower stays,
/// one that is higher, or none, becomes it. `hosted`: the body is for OpenAI's own servers, where a
/// chat's limit has its newer name.
///
/// # Errors
/// Where the body is no JSON object.
pub fn cap(format: Format, body: &str, most: u32, hosted: bool) -> Result<String, Fault> {
    let map: Map<String, Value> = read_object(body.as_bytes())?;
    let whole = Value::Object(map);
    let at = |path: &[&str]| path.iter().fold(&whole, |value, key| &value[*key]);
    let mut body = body.to_owned();
    let (mut given, names) = (false, limits(format));
    for path in names.iter().filter(|path| !at(path).is_null()) {
        given = true;
        // Less than 0 is how Ollama's clients say "as many as there is room for".
        let lower = at(path).as_i64().is_some_and(|limit| (0..=i64::from(most)).contains(&limit));
        if !lower {
            body = set(&body, path, &most.to_string())?;
        }
    }
    if given {
        return Ok(body);
    }
    let usual = if hosted { names.first() } else { names.last() };
    usual.map_or(Ok(body.clone()), |path| set(&body, path, &most.to_string()))
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
            assert_eq!(pass(&verbatim(format, body), "b\""), Ok(expect.to_owned()), "{body}");
        }
        for body in ["", "[]", "{", r#"{"model":1,"model":2}"#, r#"{"stream":true,"stream_options":1}"#] {
            assert!(pass(&verbatim(Chat, body), "b").is_err(), "{body}");
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
            assert_eq!(cap(format, body, 9, hosted), Ok(expect.to_owned()), "{body}");
        }
    }
}
