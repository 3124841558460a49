//! Values that have texts in them, read and bounded.

use serde_json::Value;

use crate::wire::check::{self, Read};
use crate::wire::values::tokens;
use crate::{Passage, Written};

/// Texts of one request.
pub(super) const TEXTS_MAX: usize = 2048;

fn text(value: String) -> Passage {
    Passage::text(value)
}

fn of_tokens(at: &str, value: &Value) -> Read<Passage> {
    match tokens(at, value)? {
        ids if ids.is_empty() => check::bad(at, "is empty; it needs at least one token"),
        ids => Ok(Passage { text: Written::Tokens(ids), pair: None }),
    }
}

/// What a list's entries are read to, at least one of them.
pub(super) fn each<T>(
    at: &str,
    value: &Value,
    read: impl Fn(&str, &Value) -> Read<T>,
) -> Read<Vec<T>> {
    let items = check::array(at, value, TEXTS_MAX)?;
    if items.is_empty() {
        return check::bad(at, "is empty; it needs at least one text");
    }
    items.iter().enumerate().map(|(i, item)| read(&format!("{at}[{i}]"), item)).collect()
}

pub(super) fn string(at: &str, value: &Value) -> Read<String> {
    Ok(check::string(at, value)?.to_owned())
}

/// Texts, at least one.
pub(super) fn texts(at: &str, value: &Value) -> Read<Vec<String>> {
    each(at, value, string)
}

/// A text or texts.
pub(super) fn one_or_more(at: &str, value: &Value) -> Read<Vec<String>> {
    if value.is_string() { Ok(vec![string(at, value)?]) } else { texts(at, value) }
}

/// A text, its tokens, or a list of either; whether it is a list.
pub(super) fn inputs(at: &str, value: &Value) -> Read<(Vec<Passage>, bool)> {
    let one = |at: &str, value: &Value| match value {
        Value::Array(_) => of_tokens(at, value),
        other => Ok(text(string(at, other)?)),
    };
    match value {
        Value::Array(items) if items.first().is_some_and(Value::is_number) => {
            Ok((vec![of_tokens(at, value)?], false))
        }
        Value::Array(_) => Ok((each(at, value, one)?, true)),
        other => Ok((vec![text(string(at, other)?)], false)),
    }
}

/// A text, a pair, or a list of lists of one text or two each; whether it is such a list.
pub(super) fn pairs(at: &str, value: &Value) -> Read<(Vec<Passage>, bool)> {
    let pair = |at: &str, value: &Value| {
        let mut texts = texts(at, value)?.into_iter();
        match (texts.next(), texts.next(), texts.next()) {
            (Some(one), None, _) => Ok(text(one)),
            (Some(one), Some(other), None) => Ok(Passage::pair(one, other)),
            _ => check::bad(at, "must have one text, or two that are read together"),
        }
    };
    match value {
        Value::Array(items) if items.iter().any(Value::is_array) => {
            Ok((each(at, value, pair)?, true))
        }
        Value::Array(_) => Ok((vec![pair(at, value)?], false)),
        other => Ok((vec![text(string(at, other)?)], false)),
    }
}

/// A text, or an object that has one under `text`.
pub(super) fn document(at: &str, value: &Value) -> Read<String> {
    let Value::Object(map) = value else {
        return match value {
            Value::String(text) => Ok(text.clone()),
            other => {
                let is = check::kind(other);
                check::bad(at, format!("must be a string, or an object with 'text', not {is}"))
            }
        };
    };
    check::only(at, map, ["text"].into_iter())?;
    match map.get("text") {
        Some(text) => string(&format!("{at}.text"), text),
        None => check::bad(&format!("{at}.text"), "is missing"),
    }
}

/// Cohere's: an object whose `content` is parts, all of them texts, which are one.
pub(super) fn parts(at: &str, value: &Value) -> Read<String> {
    let map = check::object(at, value)?;
    check::only(at, map, ["content"].into_iter())?;
    let at = format!("{at}.content");
    let Some(content) = map.get("content") else { return check::bad(&at, "is missing") };
    let part = |at: &str, part: &Value| {
        let map = check::object(at, part)?;
        match map.get("type").and_then(Value::as_str) {
            Some("text") => {}
            _ => {
                return check::bad(
                    &format!("{at}.type"),
                    "must be \"text\": models here read text",
                );
            }
        }
        check::only(at, map, ["type", "text"].into_iter())?;
        match map.get("text") {
            Some(text) => string(&format!("{at}.text"), text),
            None => check::bad(&format!("{at}.text"), "is missing"),
        }
    };
    Ok(each(&at, content, part)?.join("\n"))
}
