//! A ledger's [`Entry`] as JSON, on one line. The text is canonical: an entry has one, since names
//! stand in one order, numbers are whole, and what is empty or zero is left out. A ledger hashes
//! it, so what a release has written is read for ever: names are added, never changed.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Charge, Cost, End, Entry, Fault, Step, Timings, Usage};

/// No entry's text is longer.
pub const ENTRY_BYTES: usize = 1 << 20;

#[derive(Serialize, Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    at_ms: u64,
    #[serde(borrow, default, skip_serializing_if = "is_default")]
    key: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "is_default")]
    team: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "is_default")]
    path: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "is_default")]
    asked: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "is_default")]
    classes: Vec<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "is_default")]
    found: Vec<(Cow<'a, str>, u32)>,
    #[serde(default, skip_serializing_if = "is_default")]
    redacted: u32,
    #[serde(borrow, default, skip_serializing_if = "is_default")]
    policy: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "is_default")]
    route: Vec<WireStep<'a>>,
    #[serde(borrow, default, skip_serializing_if = "is_default")]
    provider: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "is_default")]
    model: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "is_default")]
    hosts: Vec<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "is_default")]
    bytes_out: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    tries: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    usage: WireUsage,
    #[serde(borrow, default, skip_serializing_if = "is_default")]
    cost: WireCost<'a>,
    #[serde(borrow, default, skip_serializing_if = "is_default")]
    charges: Option<Vec<WireCharge<'a>>>,
    #[serde(default, skip_serializing_if = "is_default")]
    instead_micros: Option<u64>,
    #[serde(default, skip_serializing_if = "is_default")]
    timings: WireTimings,
    #[serde(borrow)]
    end: Cow<'a, str>,
}

#[derive(Serialize, Deserialize, Default, PartialEq)]
struct WireStep<'a> {
    #[serde(borrow)]
    candidate: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "is_default")]
    taken: bool,
    #[serde(borrow, default, skip_serializing_if = "is_default")]
    reason: Cow<'a, str>,
}

#[derive(Serialize, Deserialize, Default, PartialEq)]
#[serde(default)]
struct WireUsage {
    #[serde(skip_serializing_if = "is_default")]
    prompt_tokens: u32,
    #[serde(skip_serializing_if = "is_default")]
    cached_tokens: u32,
    #[serde(skip_serializing_if = "is_default")]
    completion_tokens: u32,
    #[serde(skip_serializing_if = "is_default")]
    reasoning_tokens: u32,
    #[serde(skip_serializing_if = "is_default")]
    written_tokens: u32,
    #[serde(skip_serializing_if = "is_default")]
    accepted_tokens: u32,
    #[serde(skip_serializing_if = "is_default")]
    rejected_tokens: u32,
}

#[derive(Serialize, Deserialize, Default, PartialEq)]
struct WireCost<'a> {
    #[serde(default, skip_serializing_if = "is_default")]
    micros: Option<u64>,
    #[serde(borrow, default, skip_serializing_if = "is_default")]
    price: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "is_default")]
    estimated: bool,
}

#[derive(Serialize, Deserialize, Default, PartialEq)]
struct WireCharge<'a> {
    #[serde(borrow, default, skip_serializing_if = "is_default")]
    provider: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "is_default")]
    model: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "is_default")]
    at_ms: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    micros: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    tokens: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    beyond_micros: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    beyond_tokens: u64,
}

#[derive(Serialize, Deserialize, Default, PartialEq)]
#[serde(default)]
struct WireTimings {
    #[serde(skip_serializing_if = "is_default")]
    load_ns: u64,
    #[serde(skip_serializing_if = "is_default")]
    queued_ns: u64,
    #[serde(skip_serializing_if = "is_default")]
    first_token_ns: u64,
    #[serde(skip_serializing_if = "is_default")]
    total_ns: u64,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

const ENDS: &[(End, &str)] = &[
    (End::Stop, "stop"),
    (End::Length, "length"),
    (End::ToolCalls, "tool_calls"),
    (End::Cancelled, "cancelled"),
    (End::Refused, "refused"),
    (End::Failed, "failed"),
    (End::Lost, "lost"),
];

/// An end's name on the wire, such as `stop` or `lost`.
pub fn end_name(end: End) -> &'static str {
    ENDS.iter().find(|row| row.0 == end).map_or("stop", |row| row.1)
}

/// The end of that name, if there is one.
pub fn end_named(name: &str) -> Option<End> {
    ENDS.iter().find(|row| row.1 == name).map(|row| row.0)
}

/// An entry's JSON text, on one line. Times are kept to the nanosecond, up to 584 years.
pub fn write(entry: &Entry) -> String {
    let mut out = Vec::with_capacity(1024);
    serde_json::to_writer(&mut out, &to_wire(entry))
        .expect("a Vec takes all bytes, and strings, numbers and lists always serialize");
    String::from_utf8(out).expect("JSON of strings is UTF-8")
}

/// Reads what [`write()`] wrote, in this release or one before.
///
/// # Errors
/// A fault of the caller's that says what is wrong, and where in the text.
pub fn read(text: &str) -> Result<Entry, Fault> {
    if text.len() > ENTRY_BYTES {
        return Err(Fault::caller(format!("not an entry: longer than {ENTRY_BYTES} bytes")));
    }
    let wire: Wire<'_> = serde_json::from_str(text)
        .map_err(|error| Fault::caller(format!("not an entry: {error}")))?;
    let end = end_named(&wire.end).ok_or_else(|| {
        let name: String = wire.end.chars().take(64).collect();
        Fault::caller(format!("an entry's end is unknown: {name:?}"))
    })?;
    Ok(from_wire(wire, end))
}

fn to_wire(entry: &Entry) -> Wire<'_> {
    Wire {
        id: Cow::Borrowed(&entry.id),
        at_ms: entry.at_ms,
        key: Cow::Borrowed(&entry.key),
        team: Cow::Borrowed(&entry.team),
        path: Cow::Borrowed(&entry.path),
        asked: Cow::Borrowed(&entry.asked),
        classes: entry.classes.iter().map(borrow).collect(),
        found: entry.found.iter().map(|(kind, count)| (borrow(kind), *count)).collect(),
        redacted: entry.redacted,
        policy: Cow::Borrowed(&entry.policy),
        route: entry.route.iter().map(step_to_wire).collect(),
        provider: Cow::Borrowed(&entry.provider),
        model: Cow::Borrowed(&entry.model),
        hosts: entry.hosts.iter().map(borrow).collect(),
        bytes_out: entry.bytes_out,
        tries: entry.tries,
        usage: WireUsage {
            prompt_tokens: entry.usage.prompt_tokens,
            cached_tokens: entry.usage.cached_tokens,
            completion_tokens: entry.usage.completion_tokens,
            written_tokens: entry.usage.written_tokens,
            reasoning_tokens: entry.usage.reasoning_tokens,
            accepted_tokens: entry.usage.accepted_tokens,
            rejected_tokens: entry.usage.rejected_tokens,
        },
        cost: WireCost {
            micros: entry.cost.micros,
            price: Cow::Borrowed(&entry.cost.price),
            estimated: entry.cost.estimated,
        },
        charges: entry.charges.as_ref().map(|all| all.iter().map(charge_to_wire).collect()),
        instead_micros: entry.instead_micros,
        timings: WireTimings {
            load_ns: to_ns(entry.timings.load),
            queued_ns: to_ns(entry.timings.queued),
            first_token_ns: to_ns(entry.timings.first_token),
            total_ns: to_ns(entry.timings.total),
        },
        end: Cow::Borrowed(end_name(entry.end)),
    }
}

fn borrow<T: AsRef<str>>(text: &T) -> Cow<'_, str> {
    Cow::Borrowed(text.as_ref())
}

fn from_wire(wire: Wire<'_>, end: End) -> Entry {
    let texts = |all: Vec<Cow<'_, str>>| all.into_iter().map(Cow::into_owned).collect();
    Entry {
        id: wire.id.into_owned(),
        at_ms: wire.at_ms,
        key: wire.key.into_owned(),
        team: wire.team.into_owned(),
        path: wire.path.into_owned(),
        asked: wire.asked.into_owned(),
        classes: texts(wire.classes),
        found: wire.found.into_iter().map(|(kind, count)| (kind.into_owned(), count)).collect(),
        redacted: wire.redacted,
        policy: wire.policy.into_owned(),
        route: wire.route.into_iter().map(step_from_wire).collect(),
        provider: wire.provider.into_owned(),
        model: wire.model.into_owned(),
        hosts: texts(wire.hosts),
        bytes_out: wire.bytes_out,
        tries: wire.tries,
        usage: Usage {
            prompt_tokens: wire.usage.prompt_tokens,
            cached_tokens: wire.usage.cached_tokens,
            completion_tokens: wire.usage.completion_tokens,
            written_tokens: wire.usage.written_tokens,
            reasoning_tokens: wire.usage.reasoning_tokens,
            accepted_tokens: wire.usage.accepted_tokens,
            rejected_tokens: wire.usage.rejected_tokens,
        },
        cost: Cost {
            micros: wire.cost.micros,
            price: wire.cost.price.into_owned(),
            estimated: wire.cost.estimated,
        },
        charges: wire.charges.map(|all| all.into_iter().map(charge_from_wire).collect()),
        instead_micros: wire.instead_micros,
        timings: Timings {
            load: Duration::from_nanos(wire.timings.load_ns),
            queued: Duration::from_nanos(wire.timings.queued_ns),
            first_token: Duration::from_nanos(wire.timings.first_token_ns),
            total: Duration::from_nanos(wire.timings.total_ns),
        },
        end,
    }
}

fn step_to_wire(step: &Step) -> WireStep<'_> {
    WireStep {
        candidate: Cow::Borrowed(&step.candidate),
        taken: step.taken,
        reason: Cow::Borrowed(&step.reason),
    }
}

fn step_from_wire(step: WireStep<'_>) -> Step {
    Step {
        candidate: step.candidate.into_owned(),
        taken: step.taken,
        reason: step.reason.into_owned(),
    }
}

fn charge_to_wire(charge: &Charge) -> WireCharge<'_> {
    WireCharge {
        provider: Cow::Borrowed(&charge.provider),
        model: Cow::Borrowed(&charge.model),
        at_ms: charge.at_ms,
        micros: charge.micros,
        tokens: charge.tokens,
        beyond_micros: charge.beyond_micros,
        beyond_tokens: charge.beyond_tokens,
    }
}

fn charge_from_wire(charge: WireCharge<'_>) -> Charge {
    Charge {
        provider: charge.provider.into_owned(),
        model: charge.model.into_owned(),
        at_ms: charge.at_ms,
        micros: charge.micros,
        tokens: charge.tokens,
        beyond_micros: charge.beyond_micros,
        beyond_tokens: charge.beyond_tokens,
    }
}

fn to_ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
