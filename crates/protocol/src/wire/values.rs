//! Values that several formats read alike: bodies, numbers of samplers, stop texts, tokens.

use serde_json::{Map, Value};

use super::check::{self, Read};
use super::strict::Strict;
use crate::{Fault, KeepAlive, NoKeepAlive, Sampling};

pub(super) fn model(at: &str, value: &Value) -> Read<String> {
    short(at, check::string(at, value)?)
}

pub(super) fn set(place: &mut f32, at: &str, value: &Value, low: f64, high: f64) -> Read<()> {
    *place = check::number(at, value, low, high)?;
    Ok(())
}

pub(super) fn top(at: &str, value: &Value) -> Read<u8> {
    Ok(u8::try_from(check::count(at, value, 0, 20)?).expect("at most 20"))
}

pub(super) fn short(at: &str, text: &str) -> Read<String> {
    if text.len() > 1024 {
        return check::bad(at, "is longer than 1024 bytes");
    }
    Ok(text.to_owned())
}

pub(super) fn seed(at: &str, value: &Value) -> Read<u64> {
    match value.as_u64() {
        Some(seed) => Ok(seed),
        // A negative seed is as good as any: its two's complement.
        None => Ok(check::whole(at, value, i64::MIN, i64::MAX)?.cast_unsigned()),
    }
}

/// Ollama's: seconds, or a text such as "5m".
pub(super) fn keep_alive(at: &str, value: &Value) -> Read<KeepAlive> {
    let read = match value {
        Value::String(text) => text.parse().ok(),
        other => other.as_f64().and_then(KeepAlive::from_seconds),
    };
    read.map_or_else(|| check::bad(at, NoKeepAlive), Ok)
}

pub(super) fn stop(at: &str, value: &Value) -> Read<Vec<String>> {
    let one = std::slice::from_ref(value);
    let texts = if value.is_string() { one } else { check::array(at, value, 16)? };
    let read = |(i, text): (usize, &Value)| {
        let at = if value.is_string() { at.to_owned() } else { format!("{at}[{i}]") };
        match check::string(&at, text)? {
            "" => check::bad(&at, "is empty; a stop text needs at least one character"),
            text if text.len() > 1024 => check::bad(&at, "is longer than 1024 bytes"),
            text => Ok(text.to_owned()),
        }
    };
    texts.iter().enumerate().map(read).collect()
}

pub(super) fn bias(at: &str, value: &Value) -> Read<Vec<(u32, f32)>> {
    let map = check::object(at, value)?;
    if map.len() > 1024 {
        return check::bad(at, "names more than 1024 tokens");
    }
    let read = |(key, value): (&String, &Value)| {
        let at: String = format!("{at}.{key}").chars().take(64).collect();
        match key.parse::<u32>() {
            Ok(token) => Ok((token, check::number(&at, value, -100.0, 100.0)?)),
            Err(_) => check::bad(&at, "must be a token's id"),
        }
    };
    map.iter().map(read).collect()
}

/// An array of token ids, at most 2^22 of them.
pub(super) fn tokens(at: &str, value: &Value) -> Read<Vec<u32>> {
    let read = |(i, item): (usize, &Value)| match item.as_u64().map(u32::try_from) {
        Some(Ok(token)) => Ok(token),
        _ => check::bad(&format!("{at}[{i}]"), "must be a token's id"),
    };
    check::array(at, value, 1 << 22)?.iter().enumerate().map(read).collect()
}

pub(super) fn read_object(body: &[u8]) -> Read<Map<String, Value>> {
    match serde_json::from_slice(body) {
        Ok(Strict(Value::Object(map))) => Ok(map),
        Ok(Strict(other)) => Err(Fault::caller(format!(
            "the body must be a JSON object, not {}",
            check::kind(&other)
        ))),
        Err(error) => Err(Fault::caller(format!("the body is no JSON: {error}"))),
    }
}

/// How many of the last tokens a repetition penalty is about: all are -1, and 0 is no penalty.
/// Other windows are refused where there is a penalty.
pub(super) fn penalty_window(at: &str, last: Option<i64>, sampling: &mut Sampling) -> Read<()> {
    match last {
        Some(0) => sampling.repetition_penalty = 1.0,
        Some(1..) if sampling.repetition_penalty != 1.0 => {
            return check::bad(at, "is supported only as -1 (all) or 0 (none)");
        }
        _ => {}
    }
    Ok(())
}
