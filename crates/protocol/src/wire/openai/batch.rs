//! Batches as OpenAI's API has them: what is asked for, the lines of the input, those of the
//! output, and the batch itself. Absent: who answers a line, and when.

use serde_json::{Map, Value, json};

use super::check::{self, Read};
use super::files::page;
use super::table::{self, Row, honoured, refused};
use super::values::{read_object, short};
use crate::Fault;

/// What a new batch is asked to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchAsked {
    /// The file of its lines.
    pub input_file: String,
    /// The path that its lines are for.
    pub endpoint: String,
    /// How long it may take, as it was written.
    pub completion_window: String,
    /// The same, in seconds.
    pub window_s: u64,
    /// Its owner's notes, a JSON object.
    pub metadata: Option<String>,
}

/// The one format of this table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Batch {
    New,
}

const NEW: &[Batch] = &[Batch::New];

#[rustfmt::skip]
static FIELDS: &[table::Field<BatchAsked, Batch>] = &[
    honoured(NEW, "input_file_id", |d, at, v| { d.input_file = text(at, v)?; Ok(()) }),
    honoured(NEW, "endpoint", |d, at, v| { d.endpoint = text(at, v)?; Ok(()) }),
    honoured(NEW, "completion_window", |d, at, v| {
        d.completion_window = text(at, v)?;
        d.window_s = window(at, &d.completion_window)?;
        Ok(())
    }),
    honoured(NEW, "metadata", |d, at, v| { d.metadata = Some(metadata(at, v)?); Ok(()) }),
    refused(NEW, "output_expires_after", "output is kept until it is deleted"),
];

/// Every field of a new batch.
pub fn batch_fields() -> impl Iterator<Item = Row> {
    table::rows(FIELDS, Batch::New)
}

/// Reads what a new batch is asked to do. `endpoints` are the paths that lines may be for.
pub fn read_batch(body: &[u8], endpoints: &[&str]) -> Read<BatchAsked> {
    let body = read_object(body)?;
    let mut asked = BatchAsked::default();
    table::read_fields(FIELDS, Batch::New, "", &body, &mut asked)?;
    let needed = [
        ("input_file_id", &asked.input_file),
        ("endpoint", &asked.endpoint),
        ("completion_window", &asked.completion_window),
    ];
    if let Some((name, _)) = needed.iter().find(|(_, text)| text.is_empty()) {
        return check::bad(name, "is missing");
    }
    if !endpoints.contains(&asked.endpoint.as_str()) {
        return check::bad("endpoint", format!("must be one of {}", endpoints.join(", ")));
    }
    Ok(asked)
}

fn text(at: &str, value: &Value) -> Read<String> {
    short(at, check::string(at, value)?)
}

/// `24h`, as OpenAI has it; or another count of minutes, hours or days, up to 30 days.
fn window(at: &str, text: &str) -> Read<u64> {
    let units = [('m', 60), ('h', 3600), ('d', 86_400)];
    let read = || {
        let unit = units.iter().find(|unit| text.ends_with(unit.0))?;
        let count = &text[..text.len() - 1];
        let count =
            count.bytes().all(|b| b.is_ascii_digit()).then(|| count.parse::<u64>())?.ok()?;
        count.checked_mul(unit.1).filter(|seconds| (60..=30 * 86_400).contains(seconds))
    };
    let why = "must be '24h', or another time from '1m' to '30d', in minutes, hours or days";
    read().map_or_else(|| check::bad(at, why), Ok)
}

/// At most 16 texts of at most 512 characters, by names of at most 64.
fn metadata(at: &str, value: &Value) -> Read<String> {
    let map = check::object(at, value)?;
    if map.len() > 16 {
        return check::bad(at, "has more than 16 entries");
    }
    for (key, value) in map {
        if key.chars().count() > 64 {
            return check::bad(at, "has a key of more than 64 characters");
        }
        let at = format!("{at}.{key}");
        if check::string(&at, value)?.chars().count() > 512 {
            return check::bad(&at, "has more than 512 characters");
        }
    }
    Ok(value.to_string())
}

/// A line of a batch's input.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchLine {
    /// Its owner's name for it.
    pub custom_id: String,
    /// The request, a JSON object.
    pub body: String,
}

/// What is wrong with a batch's input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchError {
    /// What kind of thing, in a word.
    pub code: &'static str,
    /// In which line, from 1.
    pub line: Option<u64>,
    /// In words.
    pub message: String,
    /// In which field.
    pub param: Option<&'static str>,
}

/// Reads a line of a batch's input, which is to be for `endpoint`. The request in it is not looked
/// into: what is wrong with it is that line's error, not the batch's.
pub fn read_batch_line(text: &[u8], endpoint: &str) -> Result<BatchLine, BatchError> {
    let wrong = |code, param, message: String| BatchError { code, line: None, message, param };
    let mut line = match read_object(text) {
        Ok(line) => line,
        Err(fault) => {
            let message = fault.message.replacen("the body", "the line", 1);
            return Err(wrong("invalid_json_line", None, message));
        }
    };
    let custom_id = match line.get("custom_id").and_then(Value::as_str) {
        Some(id) if (1..=512).contains(&id.len()) => id.to_owned(),
        Some(_) => {
            let message = "'custom_id' must have 1 to 512 bytes".to_owned();
            return Err(wrong("invalid_custom_id", Some("custom_id"), message));
        }
        None => return Err(missing("custom_id", "a text that no other line has")),
    };
    match line.get("method").and_then(Value::as_str) {
        Some("POST") => {}
        Some(_) => {
            let message = "'method' must be 'POST'".to_owned();
            return Err(wrong("invalid_method", Some("method"), message));
        }
        None => return Err(missing("method", "'POST'")),
    }
    match line.get("url").and_then(Value::as_str) {
        Some(url) if url == endpoint => {}
        Some(_) => {
            let message = format!("'url' must be the batch's endpoint, {endpoint}");
            return Err(wrong("mismatched_url", Some("url"), message));
        }
        None => return Err(missing("url", "the batch's endpoint")),
    }
    let Some(body @ Value::Object(_)) = line.get_mut("body").map(Value::take) else {
        return Err(missing("body", "the request, an object"));
    };
    unknown(&line)?;
    Ok(BatchLine { custom_id, body: body.to_string() })
}

fn missing(name: &'static str, what: &str) -> BatchError {
    let message = format!("'{name}' is missing or not {what}");
    let code = "missing_required_parameter";
    BatchError { code, line: None, message, param: Some(name) }
}

fn unknown(line: &Map<String, Value>) -> Result<(), BatchError> {
    let known = ["custom_id", "method", "url", "body"];
    check::only("", line, known.into_iter()).map_err(|fault: Fault| BatchError {
        code: "unknown_parameter",
        line: None,
        message: fault.message,
        param: None,
    })
}

/// What is wrong with a batch's input, as it is kept: a JSON array.
pub fn write_batch_errors(errors: &[BatchError]) -> String {
    let error = |error: &BatchError| {
        json!({
            "code": error.code,
            "line": error.line,
            "message": error.message,
            "param": error.param,
        })
    };
    Value::from(errors.iter().map(error).collect::<Vec<_>>()).to_string()
}

/// A line of the output: a response that came, whatever its status. `body` is its JSON.
pub fn write_batch_response(
    id: &str,
    custom_id: &str,
    request_id: &str,
    status: u16,
    body: &str,
) -> String {
    // In JSON a line's end stands between tokens alone, and here it would end the line.
    let body = body.replace(['\n', '\r'], " ");
    let head = json!({ "id": format!("batch_req_{id}"), "custom_id": custom_id }).to_string();
    let head = head.trim_end_matches('}');
    let request = Value::from(request_id);
    format!(
        "{head},\"response\":{{\"status_code\":{status},\"request_id\":{request},\
         \"body\":{body}}},\"error\":null}}"
    )
}

/// A line of the output: a request that was never answered, since its batch came to this status.
pub fn write_batch_unrun(id: &str, custom_id: &str, status: &str) -> String {
    let message = match status {
        "expired" => "the batch's time was over before this line was answered",
        _ => "the batch was ended before this line was answered",
    };
    json!({
        "id": format!("batch_req_{id}"),
        "custom_id": custom_id,
        "response": null,
        "error": { "code": format!("batch_{status}"), "message": message },
    })
    .to_string()
}

/// A batch as it is told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchTold<'a> {
    /// Its id.
    pub id: &'a str,
    /// The path that its lines are for.
    pub endpoint: &'a str,
    /// The file of its lines.
    pub input_file: &'a str,
    /// How long it may take.
    pub completion_window: &'a str,
    /// Its owner's notes, a JSON object.
    pub metadata: Option<&'a str>,
    /// Where it stands.
    pub status: &'a str,
    /// What is wrong with its input, as [`write_batch_errors`] wrote it.
    pub errors: Option<&'a str>,
    /// The file of answers.
    pub output_file: Option<&'a str>,
    /// The file of lines that failed.
    pub error_file: Option<&'a str>,
    /// Lines: all, those answered, those that failed.
    pub counts: [u64; 3],
    /// Seconds since 1970 when it was made, and when its time is over.
    pub created_s: u64,
    /// See `created_s`.
    pub expires_s: u64,
    /// Names of statuses that it came to, and when.
    pub times: Vec<(&'a str, u64)>,
}

fn batch(told: &BatchTold<'_>) -> Value {
    let parsed = |text: Option<&str>| text.and_then(|text| serde_json::from_str(text).ok());
    let errors: Option<Value> = parsed(told.errors);
    let time = |name: &str| told.times.iter().find(|time| time.0 == name).map(|time| time.1);
    let [total, completed, failed] = told.counts;
    json!({
        "id": told.id,
        "object": "batch",
        "endpoint": told.endpoint,
        "errors": errors.map(|data| json!({ "object": "list", "data": data })),
        "input_file_id": told.input_file,
        "completion_window": told.completion_window,
        "status": told.status,
        "output_file_id": told.output_file,
        "error_file_id": told.error_file,
        "created_at": told.created_s,
        "in_progress_at": time("in_progress"),
        "expires_at": told.expires_s,
        "finalizing_at": time("finalizing"),
        "completed_at": time("completed"),
        "failed_at": time("failed"),
        "expired_at": time("expired"),
        "cancelling_at": time("cancelling"),
        "cancelled_at": time("cancelled"),
        "request_counts": { "total": total, "completed": completed, "failed": failed },
        "metadata": parsed(told.metadata),
    })
}

/// One batch.
pub fn write_batch(told: &BatchTold<'_>) -> String {
    batch(told).to_string()
}

/// A page of batches.
pub fn write_batches(told: &[BatchTold<'_>], more: bool) -> String {
    page(told.iter().map(batch).collect(), more)
}
