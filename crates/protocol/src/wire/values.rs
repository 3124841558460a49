//! Values that several formats read alike: bodies, numbers of samplers, stop texts, tokens.

use serde_json::{Map, Value};

use super::check::{self, Read};
use super::strict::Strict;
use crate::{Fault, KeepAlive, NoKeepAlive, Sampling, Stage, Truncation};

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
    if value.is_string() { Ok(vec![text(at, value)?]) } else { texts(at, value, 16) }
}

/// At most so many texts, none of them empty.
fn texts(at: &str, value: &Value, most: usize) -> Read<Vec<String>> {
    let read = |(i, value): (usize, &Value)| text(&format!("{at}[{i}]"), value);
    check::array(at, value, most)?.iter().enumerate().map(read).collect()
}

/// The rules of sampling that other engines have beyond OpenAI's, by the last part of their name:
/// vLLM's and llama.cpp's are the same.
pub(super) fn more(rules: &mut Sampling, at: &str, value: &Value) -> Read<()> {
    let Sampling { dry, xtc, mirostat, dynamic_temperature: dynamic, .. } = rules;
    let (place, low, high) = match at.rsplit('.').next().unwrap_or(at) {
        // Negative is how llama.cpp's clients say "all".
        "top_n_sigma" => {
            rules.top_n_sigma = check::number(at, value, -1.0, 100.0)?.max(0.0);
            return Ok(());
        }
        "dynatemp_range" => (&mut dynamic.range, 0.0, 5.0),
        "dynatemp_exponent" => (&mut dynamic.exponent, 0.0, 100.0),
        "xtc_probability" => (&mut xtc.probability, 0.0, 1.0),
        "xtc_threshold" => (&mut xtc.threshold, 0.0, 1.0),
        "mirostat_tau" => (&mut mirostat.tau, 0.0, 100.0),
        "mirostat_eta" => (&mut mirostat.eta, 0.0, 1.0),
        "dry_multiplier" => (&mut dry.multiplier, 0.0, 100.0),
        "dry_base" => (&mut dry.base, 1.0, 100.0),
        _ => return more_counts(rules, at, value),
    };
    set(place, at, value, low, high)
}

fn more_counts(rules: &mut Sampling, at: &str, value: &Value) -> Read<()> {
    match at.rsplit('.').next().unwrap_or(at) {
        "mirostat" => {
            let version = check::count(at, value, 0, 2)?;
            rules.mirostat.version = u8::try_from(version).expect("at most 2");
        }
        "dry_allowed_length" => rules.dry.allowed_length = check::count(at, value, 1, 1 << 20)?,
        "dry_penalty_last_n" => {
            // -1 is how llama.cpp's clients say "all"; 0 tokens are none to repeat, and so is 1.
            let last = check::whole(at, value, -1, i64::from(u32::MAX))?;
            rules.dry.last_n = if last == 0 { 1 } else { u32::try_from(last).unwrap_or(0) };
        }
        "dry_sequence_breakers" => rules.dry.breakers = texts(at, value, 64)?,
        "allowed_token_ids" => rules.allowed_tokens = tokens(at, value)?,
        "bad_words" => rules.bad_words = texts(at, value, 128)?,
        "stop_token_ids" => rules.stop_tokens = tokens(at, value)?,
        "min_tokens" => rules.min_tokens = check::count(at, value, 0, u32::MAX)?,
        _ => return check::bad(at, "is no rule of sampling; this is a bug"),
    }
    Ok(())
}

fn text(at: &str, value: &Value) -> Read<String> {
    match check::string(at, value)? {
        "" => check::bad(at, "is empty; it needs at least one character"),
        text => short(at, text),
    }
}

/// The order of the samplers: their names, or a text of their letters, as llama.cpp has them.
pub(super) fn order(at: &str, value: &Value) -> Read<Vec<Stage>> {
    const MOST: usize = 32;
    let known = |wanted: &dyn Fn(Stage) -> bool| Stage::USUAL.into_iter().find(|one| wanted(*one));
    let unknown = |at: &str, what: String| {
        let known = Stage::USUAL.map(|one| format!("{} ({})", one.name(), one.letter())).join(", ");
        check::bad(at, format!("has no sampler {what:?}; there is: {known}"))
    };
    if let Value::String(letters) = value {
        if letters.len() > MOST {
            return check::bad(at, format!("has more than {MOST} samplers"));
        }
        let read = |letter: char| match known(&|one| one.letter() == letter) {
            Some(one) => Ok(one),
            None => unknown(at, letter.to_string()),
        };
        return letters.chars().map(read).collect();
    }
    let read = |(i, value): (usize, &Value)| {
        let at = format!("{at}[{i}]");
        let name = match check::string(&at, value)? {
            "typical_p" => Stage::Typical.name(),
            "temp" => Stage::Temperature.name(),
            name => name,
        };
        match known(&|one| one.name() == name) {
            Some(one) => Ok(one),
            None => unknown(&at, name.chars().take(32).collect()),
        }
    };
    check::array(at, value, MOST)?.iter().enumerate().map(read).collect()
}

/// Mirostat is in the place of the samplers, so that they have no order.
pub(super) fn ordered(at: &str, sampling: &Sampling) -> Read<()> {
    if sampling.mirostat.version > 0 && sampling.order != Stage::USUAL {
        return check::bad(at, "cannot be had with 'mirostat', which stands in their place");
    }
    Ok(())
}

/// vLLM's: so many of a prompt's last tokens, or -1 for as many as there is room for.
pub(super) fn truncation(at: &str, value: &Value) -> Read<Truncation> {
    match check::whole(at, value, -1, u32::MAX.into())? {
        0 => check::bad(at, "must be at least 1, or -1 for as many as there is room for"),
        most => Ok(u32::try_from(most).map_or(Truncation::Fitting, Truncation::Last)),
    }
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
