//! What is told of responses that were kept, and of their items: pages, states, deletions. A stream
//! that went on without its reader is kept as its events, from which a response can be told as far
//! as it is.

use serde_json::{Map, Value, json};

use super::items::{self, Given};
use super::{Past, answer};
use crate::Fault;
use crate::wire::ask::sse;
use crate::wire::check::{self, Read};
use crate::wire::{Kind, Stamp};

/// Where a response stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It waits for the model.
    Queued,
    /// It is being computed.
    InProgress,
    /// It is all there.
    Completed,
    /// A limit ended it.
    Incomplete,
    /// There is an error instead of the rest.
    Failed,
    /// Its caller ended it.
    Cancelled,
}

const STATUSES: [(Status, &str); 6] = [
    (Status::Queued, "queued"),
    (Status::InProgress, "in_progress"),
    (Status::Completed, "completed"),
    (Status::Incomplete, "incomplete"),
    (Status::Failed, "failed"),
    (Status::Cancelled, "cancelled"),
];

impl Status {
    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        STATUSES.iter().find(|row| row.0 == self).map_or("failed", |row| row.1)
    }

    /// The status of that name.
    pub fn named(name: &str) -> Option<Self> {
        STATUSES.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// Whether nothing more will come.
    pub fn ended(self) -> bool {
        !matches!(self, Self::Queued | Self::InProgress)
    }
}

/// A response as far as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Where it stands.
    pub status: Status,
    /// A JSON object's text.
    pub response: String,
}

/// The id of the response with that stamp.
pub(super) fn response_id(stamp: &str) -> String {
    format!("resp_{stamp}")
}

/// The id of the response with this stamp.
pub fn id_of(stamp: &Stamp) -> String {
    response_id(&stamp.id)
}

/// The id of the response that the item of that id is part of.
pub fn response_of(item: &str) -> String {
    response_id(item.split('_').nth(1).unwrap_or_default())
}

/// All items of a response that was kept: those that it was given, and its own.
pub(super) fn items_of(past: &Past) -> Read<Vec<Given>> {
    let broken = |error: &dyn std::fmt::Display| {
        Fault::ours(format!("the response {} cannot be read again: {error}", past.id))
    };
    let parse = |text: &str| serde_json::from_str(text).map_err(|error| broken(&error));
    let (input, mut response): (Value, Value) = (parse(&past.input)?, parse(&past.response)?);
    let read = |value: &Value| items::read(&past.id, value).map_err(|error| broken(&error));
    let mut all = read(&input)?;
    all.extend(read(&response["output"].take())?);
    Ok(all)
}

/// The events of a stream, one by one.
pub fn frames(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive("\n\n").filter(|frame| frame.starts_with("event: "))
}

fn data(frame: &str) -> Option<Value> {
    serde_json::from_str(frame.split_once("\ndata: ")?.1).ok()
}

/// The number of an event.
pub fn sequence(frame: &str) -> Option<u64> {
    data(frame)?["sequence_number"].as_u64()
}

/// The response as far as these events, all from the first, tell of it; `None` where they are none.
pub fn gather<'a>(frames: impl Iterator<Item = &'a str>) -> Option<Snapshot> {
    const ABOUT: [&str; 6] =
        ["created", "queued", "in_progress", "completed", "incomplete", "failed"];
    let mut last: Option<Value> = None;
    let mut output = Vec::new();
    for frame in frames {
        let Some(name) = frame.strip_prefix("event: response.") else { continue };
        let name = name.split('\n').next().unwrap_or_default();
        if ABOUT.contains(&name) {
            last = data(frame).map(|mut data| data["response"].take());
        } else if name == "output_item.done" {
            output.extend(data(frame).map(|mut data| data["item"].take()));
        }
    }
    let mut response = last?;
    let status = Status::named(response["status"].as_str()?)?;
    if !status.ended() {
        response["output"] = json!(output);
    }
    Some(Snapshot { status, response: response.to_string() })
}

/// The same response, ended: cancelled, or failed with a fault.
///
/// # Errors
/// Where it is no response.
pub fn end(response: &str, status: Status, why: Option<(Kind, &Fault)>) -> Result<String, Fault> {
    let mut out = parse_kept(response)?;
    out.insert("status".into(), json!(status.name()));
    if let Some((kind, fault)) = why {
        out.insert("error".into(), write_error(kind, fault));
    }
    Ok(Value::Object(out).to_string())
}

/// The event that ends a stream of events, `number` of them, by telling that the response failed.
///
/// # Errors
/// Where it is no response.
pub fn write_failed(response: &str, number: u64) -> Result<String, Fault> {
    let response = parse_kept(response)?;
    Ok(answer::numbered("response.failed", json!({ "response": response }), number))
}

/// The same events, the response of which says that it is not kept.
pub fn write_unkept(text: &str) -> String {
    let rewritten = |frame: &str| {
        let name = frame.lines().next().and_then(|line| line.strip_prefix("event: "));
        match (name, data(frame)) {
            (Some(name), Some(mut data)) if data["response"].is_object() => {
                data["response"]["store"] = json!(false);
                sse(Some(name), &data.to_string())
            }
            _ => frame.to_owned(),
        }
    };
    frames(text).map(rewritten).collect()
}

fn parse_kept(response: &str) -> Read<Map<String, Value>> {
    let wrong = |error| Fault::ours(format!("a response that was kept cannot be read: {error}"));
    serde_json::from_str(response).map_err(wrong)
}

/// What a response tells of a failure. Its clients know these codes.
pub(super) fn write_error(kind: Kind, fault: &Fault) -> Value {
    let code = match kind {
        Kind::Invalid => "invalid_prompt",
        Kind::Busy => "rate_limit_exceeded",
        _ => "server_error",
    };
    json!({ "code": code, "message": fault.message, "param": fault.param })
}

/// How many tokens an input has.
pub fn write_count(tokens: usize) -> String {
    json!({ "object": "response.input_tokens", "input_tokens": tokens }).to_string()
}

/// That a response is gone.
pub fn write_deleted(id: &str) -> String {
    json!({ "id": id, "object": "response", "deleted": true }).to_string()
}

/// What is wanted of a response that was kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retrieve {
    /// Its events, as they came and come.
    pub stream: bool,
    /// Only those with a greater number.
    pub starting_after: Option<u64>,
}

/// Reads a URL's query, names and values decoded.
pub fn read_retrieve(query: &[(String, String)]) -> Result<Retrieve, Fault> {
    let mut out = Retrieve::default();
    for (name, value) in query {
        match name.as_str() {
            "stream" => out.stream = flag(name, value)?,
            "starting_after" => match value.parse() {
                Ok(number) => out.starting_after = Some(number),
                Err(_) => return check::bad(name, "must be an event's sequence number"),
            },
            // All that was kept is told.
            "include" | "include[]" => {}
            "include_obfuscation" if !flag(name, value)? => {}
            "include_obfuscation" => return check::bad(name, "is supported only as false"),
            _ => {
                return check::unknown(
                    "",
                    name,
                    ["stream", "starting_after", "include"].into_iter(),
                );
            }
        }
    }
    if out.starting_after.is_some() && !out.stream {
        return check::bad("starting_after", "needs 'stream' to be true");
    }
    Ok(out)
}

fn flag(name: &str, value: &str) -> Read<bool> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => check::bad(name, "must be true or false"),
    }
}

/// Which input items of a response are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// At most so many.
    pub limit: usize,
    /// Those behind the item of this id.
    pub after: Option<String>,
    /// The last one first.
    pub descending: bool,
}

impl Default for Listing {
    /// OpenAI's.
    fn default() -> Self {
        Self { limit: 20, after: None, descending: true }
    }
}

/// Reads a URL's query, names and values decoded.
pub fn read_listing(query: &[(String, String)]) -> Result<Listing, Fault> {
    let mut out = Listing::default();
    for (name, value) in query {
        match (name.as_str(), value.as_str()) {
            ("limit", _) => match value.parse() {
                Ok(limit @ 1..=100) => out.limit = limit,
                _ => return check::bad(name, "must be a whole number from 1 to 100"),
            },
            ("after", _) => out.after = Some(value.clone()),
            ("order", "asc") => out.descending = false,
            ("order", "desc") => out.descending = true,
            ("order", _) => return check::bad(name, "must be asc or desc"),
            ("include" | "include[]", _) => {}
            _ => {
                let known = ["limit", "after", "order", "include"];
                return check::unknown("", name, known.into_iter());
            }
        }
    }
    Ok(out)
}

/// A page of input items, of a JSON array's text.
///
/// # Errors
/// Where there is no item of the id behind which it is to begin.
pub fn write_items(input: &str, listing: &Listing) -> Result<String, Fault> {
    let mut items: Vec<Value> = serde_json::from_str(input)
        .map_err(|error| Fault::ours(format!("items that were kept cannot be read: {error}")))?;
    if listing.descending {
        items.reverse();
    }
    let start = match &listing.after {
        None => 0,
        Some(after) => match items.iter().position(|item| item["id"] == **after) {
            Some(at) => at + 1,
            None => return check::bad("after", "is the id of no item here"),
        },
    };
    let rest = &items[start..];
    let page = &rest[..rest.len().min(listing.limit)];
    let id = |item: Option<&Value>| item.map_or(Value::Null, |item| item["id"].clone());
    let out = json!({
        "object": "list",
        "data": page,
        "first_id": id(page.first()),
        "last_id": id(page.last()),
        "has_more": page.len() < rest.len(),
    });
    Ok(out.to_string())
}
