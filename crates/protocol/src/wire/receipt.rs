//! A [`Receipt`] as JSON: the same object for `--json`, for the `ingle` key of an HTTP answer and
//! for whoever reads it back. Durations are milliseconds, fractions of them kept.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Fault, Finish, Receipt, Step, Timings, Usage};

#[derive(Serialize, Deserialize)]
struct Wire {
    model: String,
    left_machine: bool,
    /// Millionths of a US dollar.
    cost_micros: u64,
    finish: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stop: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    usage: WireUsage,
    timings: WireTimings,
    #[serde(skip_serializing_if = "Option::is_none")]
    decode_tokens_per_second: Option<f64>,
    route: Vec<WireStep>,
}

#[derive(Serialize, Deserialize)]
struct WireUsage {
    prompt_tokens: u32,
    cached_tokens: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    written_tokens: u32,
    completion_tokens: u32,
    #[serde(default)]
    reasoning_tokens: u32,
    accepted_tokens: u32,
    rejected_tokens: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

#[derive(Serialize, Deserialize)]
struct WireTimings {
    #[serde(default)]
    load_ms: f64,
    queued_ms: f64,
    first_token_ms: f64,
    total_ms: f64,
}

#[derive(Serialize, Deserialize)]
struct WireStep {
    candidate: String,
    taken: bool,
    reason: String,
}

const FINISHES: &[(Finish, &str)] = &[
    (Finish::Stop, "stop"),
    (Finish::Length, "length"),
    (Finish::Cancelled, "cancelled"),
    (Finish::ToolCalls, "tool_calls"),
];

/// A finish's name on the wire: `stop`, `length`, `cancelled` or `tool_calls`.
pub fn finish_name(finish: Finish) -> &'static str {
    FINISHES.iter().find(|row| row.0 == finish).map_or("stop", |row| row.1)
}

/// The finish of that name, if there is one.
pub fn finish_named(name: &str) -> Option<Finish> {
    FINISHES.iter().find(|row| row.1 == name).map(|row| row.0)
}

/// A receipt's JSON text, on one line.
pub fn write(receipt: &Receipt) -> String {
    to_value(receipt).to_string()
}

/// Reads what [`write()`] wrote. Fails on anything else, saying where.
pub fn read(text: &str) -> Result<Receipt, Fault> {
    let value = serde_json::from_str(text).map_err(|error| broken(&error))?;
    from_value(value)
}

pub(crate) fn to_value(receipt: &Receipt) -> Value {
    let wire = Wire {
        model: receipt.model.clone(),
        left_machine: receipt.left_machine,
        cost_micros: receipt.cost_micros,
        finish: finish_name(receipt.finish).to_owned(),
        stop: receipt.stop.clone(),
        notes: receipt.notes.clone(),
        usage: WireUsage {
            prompt_tokens: receipt.usage.prompt_tokens,
            cached_tokens: receipt.usage.cached_tokens,
            written_tokens: receipt.usage.written_tokens,
            completion_tokens: receipt.usage.completion_tokens,
            reasoning_tokens: receipt.usage.reasoning_tokens,
            accepted_tokens: receipt.usage.accepted_tokens,
            rejected_tokens: receipt.usage.rejected_tokens,
        },
        timings: WireTimings {
            load_ms: to_ms(receipt.timings.load),
            queued_ms: to_ms(receipt.timings.queued),
            first_token_ms: to_ms(receipt.timings.first_token),
            total_ms: to_ms(receipt.timings.total),
        },
        decode_tokens_per_second: receipt.timings.decode_tokens_per_second(&receipt.usage),
        route: receipt.route.iter().map(write_step).collect(),
    };
    serde_json::to_value(wire).expect("strings, numbers and lists always serialize")
}

pub(crate) fn from_value(value: Value) -> Result<Receipt, Fault> {
    let wire: Wire = serde_json::from_value(value).map_err(|error| broken(&error))?;
    let finish = finish_named(&wire.finish)
        .ok_or_else(|| Fault::caller(format!("a receipt's finish is unknown: {}", wire.finish)))?;
    Ok(Receipt {
        model: wire.model,
        route: wire.route.into_iter().map(read_step).collect(),
        left_machine: wire.left_machine,
        cost_micros: wire.cost_micros,
        finish,
        stop: wire.stop,
        notes: wire.notes,
        usage: Usage {
            prompt_tokens: wire.usage.prompt_tokens,
            cached_tokens: wire.usage.cached_tokens,
            written_tokens: wire.usage.written_tokens,
            completion_tokens: wire.usage.completion_tokens,
            reasoning_tokens: wire.usage.reasoning_tokens,
            accepted_tokens: wire.usage.accepted_tokens,
            rejected_tokens: wire.usage.rejected_tokens,
        },
        timings: Timings {
            load: from_ms(wire.timings.load_ms)?,
            queued: from_ms(wire.timings.queued_ms)?,
            first_token: from_ms(wire.timings.first_token_ms)?,
            total: from_ms(wire.timings.total_ms)?,
        },
    })
}

fn write_step(step: &Step) -> WireStep {
    WireStep { candidate: step.candidate.clone(), taken: step.taken, reason: step.reason.clone() }
}

fn read_step(step: WireStep) -> Step {
    Step { candidate: step.candidate, taken: step.taken, reason: step.reason }
}

fn broken(error: &serde_json::Error) -> Fault {
    Fault::caller(format!("not a receipt: {error}"))
}

/// Exact to the nanosecond below 2^53 ns (104 days).
fn to_ms(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e6
}

fn from_ms(ms: f64) -> Result<Duration, Fault> {
    let nanos = (ms * 1e6).round();
    if (0.0..9e18).contains(&nanos) {
        Ok(Duration::from_nanos(nanos as u64))
    } else {
        Err(Fault::caller(format!("a receipt's time is out of range: {ms} ms")))
    }
}
