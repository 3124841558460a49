//! What an answer has to match, under all the names that it is asked for by: OpenAI's
//! `response_format`, vLLM's `structured_outputs` and `guided_…`, llama.cpp's `grammar` and
//! `json_schema`. One of them at a time. Whether a grammar can be followed is for the engine to
//! tell; here it is only that it is one.

use serde_json::{Map, Value, json};

use super::check::{self, Read};
use super::tools::parse;
use crate::Grammar;

/// Any JSON object.
const OBJECT: &str = r#"{"type":"object"}"#;
/// At most this many texts to choose from.
const CHOICES_MAX: usize = 4096;

/// Any JSON object.
pub(super) fn object() -> Grammar {
    Grammar::JsonSchema(OBJECT.to_owned())
}

/// `{"type": "text" | "json_object" | "json_schema", …}`; llama.cpp's clients give a `schema`
/// beside the type.
pub(super) fn response_format(at: &str, value: &Value) -> Read<Option<Grammar>> {
    let map = check::object(at, value)?;
    let keys = |known: &[&str]| check::only(at, map, known.iter().copied());
    let at = |key: &str| format!("{at}.{key}");
    match map.get("type").and_then(Value::as_str) {
        Some("text") => keys(&["type"]).map(|()| None),
        Some("json_object") => {
            keys(&["type", "schema"])?;
            let schema = map.get("schema").filter(|schema| !schema.is_null());
            match schema {
                Some(schema) => json_schema(&at("schema"), schema).map(Some),
                None => Ok(Some(object())),
            }
        }
        Some("json_schema") => {
            keys(&["type", "json_schema"])?;
            named_schema(&at("json_schema"), map.get("json_schema")).map(Some)
        }
        _ => check::bad(&at("type"), "must be \"text\", \"json_object\" or \"json_schema\""),
    }
}

/// The same as responses have it: what stands in `json_schema` elsewhere stands beside the type.
pub(super) fn text_format(at: &str, value: &Value) -> Read<Option<Grammar>> {
    let map = check::object(at, value)?;
    if map.get("type").is_none_or(|kind| kind != "json_schema") {
        return response_format(at, value);
    }
    let mut map = map.clone();
    map.shift_remove("type");
    named_schema(at, Some(&Value::Object(map))).map(Some)
}

/// OpenAI's wrapping of a schema. It is enforced whether `strict` is said or not.
fn named_schema(at: &str, value: Option<&Value>) -> Read<Grammar> {
    let Some(value) = value else { return check::bad(at, "is missing") };
    let map = check::object(at, value)?;
    check::only(at, map, ["name", "description", "schema", "strict"].into_iter())?;
    for (key, value) in map.iter().filter(|(_, value)| !value.is_null()) {
        let at = format!("{at}.{key}");
        match key.as_str() {
            "name" | "description" => drop(check::string(&at, value)?),
            "strict" => drop(check::boolean(&at, value)?),
            _ => {}
        }
    }
    let at = format!("{at}.schema");
    match map.get("schema") {
        Some(schema) => json_schema(&at, schema),
        None => check::bad(&at, "is missing"),
    }
}

/// A schema: an object, a boolean, or either as a JSON text.
pub(super) fn json_schema(at: &str, value: &Value) -> Read<Grammar> {
    let value = match value {
        Value::String(text) => &parse(at, text)?,
        other => other,
    };
    match value {
        Value::Object(_) | Value::Bool(_) => Ok(Grammar::JsonSchema(value.to_string())),
        other => check::bad(at, format!("must be a JSON schema, not {}", check::kind(other))),
    }
}

pub(super) fn regex(at: &str, value: &Value) -> Read<Grammar> {
    check::string(at, value).map(|text| Grammar::Regex(text.to_owned()))
}

pub(super) fn choice(at: &str, value: &Value) -> Read<Grammar> {
    let texts = check::array(at, value, CHOICES_MAX)?;
    if texts.is_empty() {
        return check::bad(at, "is empty; give some texts to choose from");
    }
    let read =
        |(i, text): (usize, &Value)| check::string(&format!("{at}[{i}]"), text).map(str::to_owned);
    texts.iter().enumerate().map(read).collect::<Read<_>>().map(Grammar::Choice)
}

/// GBNF or Lark: only the former has `::=`.
pub(super) fn grammar(at: &str, value: &Value) -> Read<Grammar> {
    let text = check::string(at, value)?.to_owned();
    match text.trim() {
        "" => check::bad(at, "is empty; leave it out to let the answer say anything"),
        _ if text.contains("::=") => Ok(Grammar::Gbnf(text)),
        _ => Ok(Grammar::Lark(text)),
    }
}

/// vLLM's: exactly one of `json`, `json_object`, `regex`, `choice` and `grammar`.
pub(super) fn structured_outputs(at: &str, value: &Value) -> Read<Option<Grammar>> {
    let map = check::object(at, value)?;
    check::only(at, map, ["json", "json_object", "regex", "choice", "grammar"].into_iter())?;
    let mut found = None;
    for (key, value) in map.iter().filter(|(_, value)| !value.is_null()) {
        let inner = format!("{at}.{key}");
        let grammar = match key.as_str() {
            "json" => Some(json_schema(&inner, value)?),
            "regex" => Some(regex(&inner, value)?),
            "choice" => Some(choice(&inner, value)?),
            "grammar" => Some(grammar(&inner, value)?),
            _ => check::boolean(&inner, value)?.then(object),
        };
        if let Some(grammar) = grammar {
            one(&inner, &mut found, grammar)?;
        }
    }
    Ok(found)
}

/// Sets what was not set yet.
pub(super) fn one(at: &str, place: &mut Option<Grammar>, grammar: Grammar) -> Read<()> {
    if place.replace(grammar).is_some() {
        return check::bad(at, "is one constraint too many; give a single one");
    }
    Ok(())
}

/// Writes a grammar under the name that all its kinds have.
pub(super) fn write(body: &mut Map<String, Value>, grammar: &Grammar) -> Read<()> {
    let (key, value) = match grammar {
        Grammar::JsonSchema(text) => ("json", parse("structured_outputs.json", text)?),
        Grammar::Regex(text) => ("regex", json!(text)),
        Grammar::Choice(texts) => ("choice", json!(texts)),
        Grammar::Lark(text) if text.contains("::=") => {
            let message = "this Lark grammar would be read as GBNF: it has \"::=\" in it";
            return check::bad("structured_outputs.grammar", message);
        }
        Grammar::Lark(text) | Grammar::Gbnf(text) => ("grammar", json!(text)),
    };
    body.insert("structured_outputs".into(), json!({ key: value }));
    Ok(())
}
