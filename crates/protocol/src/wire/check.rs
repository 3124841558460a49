//! Checks of single JSON values, each failing with a fault that names the field and the bound.

use serde_json::{Map, Value};

use crate::Fault;

/// What a read of one value gives.
pub(super) type Read<T> = Result<T, Fault>;

/// A fault of the caller at `param`.
pub(super) fn bad<T>(param: &str, message: impl std::fmt::Display) -> Read<T> {
    Err(Fault::caller(format!("'{param}' {message}")).at(param))
}

/// How a value is named in a message.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

pub(super) fn boolean(param: &str, value: &Value) -> Read<bool> {
    match value {
        Value::Bool(value) => Ok(*value),
        other => bad(param, format!("must be a boolean, not {}", kind(other))),
    }
}

pub(super) fn string<'a>(param: &str, value: &'a Value) -> Read<&'a str> {
    match value {
        Value::String(value) => Ok(value),
        other => bad(param, format!("must be a string, not {}", kind(other))),
    }
}

pub(super) fn array<'a>(param: &str, value: &'a Value, most: usize) -> Read<&'a [Value]> {
    match value {
        Value::Array(items) if items.len() <= most => Ok(items),
        Value::Array(items) => {
            bad(param, format!("holds {} entries; at most {most} are allowed", items.len()))
        }
        other => bad(param, format!("must be an array, not {}", kind(other))),
    }
}

pub(super) fn object<'a>(param: &str, value: &'a Value) -> Read<&'a Map<String, Value>> {
    match value {
        Value::Object(map) => Ok(map),
        other => bad(param, format!("must be an object, not {}", kind(other))),
    }
}

/// A number within `low..=high`.
pub(super) fn number(param: &str, value: &Value, low: f64, high: f64) -> Read<f32> {
    match value.as_f64() {
        Some(number) if (low..=high).contains(&number) => Ok(number as f32),
        Some(number) => bad(param, format!("must be between {low} and {high}, not {number}")),
        None => bad(param, format!("must be a number, not {}", kind(value))),
    }
}

/// A whole number within `low..=high`; `3.0` is one too.
pub(super) fn whole(param: &str, value: &Value, low: i64, high: i64) -> Read<i64> {
    let number = value.as_i64().or_else(|| {
        let float = value.as_f64()?;
        (float.fract() == 0.0 && float.abs() < 9e15).then_some(float as i64)
    });
    match number {
        Some(number) if (low..=high).contains(&number) => Ok(number),
        _ if value.is_number() => {
            bad(param, format!("must be a whole number from {low} to {high}, not {value}"))
        }
        _ => bad(param, format!("must be a whole number, not {}", kind(value))),
    }
}

/// [`whole`] for a count that fits 32 bits.
pub(super) fn count(param: &str, value: &Value, low: u32, high: u32) -> Read<u32> {
    let number = whole(param, value, i64::from(low), i64::from(high))?;
    Ok(u32::try_from(number).expect("the range was checked"))
}

/// Refuses what is no key of `known`, with the nearest known ones.
pub(super) fn only<'a>(
    at: &str,
    map: &Map<String, Value>,
    known: impl Iterator<Item = &'a str> + Clone,
) -> Read<()> {
    for (key, value) in map {
        if !value.is_null() && !known.clone().any(|name| name == key) {
            return unknown(at, key, known);
        }
    }
    Ok(())
}

/// The fault of an unknown key.
pub(super) fn unknown<'a, T>(at: &str, key: &str, known: impl Iterator<Item = &'a str>) -> Read<T> {
    let key: String = key.chars().take(64).collect();
    let near: Vec<&str> = known.filter(|name| near(name, &key)).collect();
    let hint = match near.as_slice() {
        [] => String::new(),
        names => format!("; did you mean {}?", names.join(" or ")),
    };
    let param = if at.is_empty() { key } else { format!("{at}.{key}") };
    bad(&param, format!("is an unknown field{hint}"))
}

/// At most two edits apart, and not altogether different.
fn near(left: &str, right: &str) -> bool {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    if left.len().abs_diff(right.len()) > 2 {
        return false;
    }
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let change = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()] <= 2.min(left.len() / 2)
}
