//! Files as OpenAI's API has them. Their contents pass by no function here. Absent: how a form's
//! parts are told apart, which is HTTP's.

use serde_json::{Value, json};

use super::check::{self, Read};

/// What a file may be for, and whether an owner may upload one for that.
pub const PURPOSES: &[(&str, bool)] =
    &[("batch", true), ("user_data", true), ("batch_output", false)];

/// A file as it is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileLine<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its size.
    pub bytes: u64,
    /// Seconds since 1970 when it was made.
    pub created_s: u64,
    /// Seconds since 1970 when it will be deleted, if ever.
    pub expires_s: Option<u64>,
    /// What its owner calls it.
    pub name: &'a str,
    /// One of [`PURPOSES`].
    pub purpose: &'a str,
}

fn file(line: &FileLine<'_>) -> Value {
    json!({
        "id": line.id,
        "object": "file",
        "bytes": line.bytes,
        "created_at": line.created_s,
        "expires_at": line.expires_s,
        "filename": line.name,
        "purpose": line.purpose,
        // It is there as soon as it is known: nothing is done with it first.
        "status": "processed",
        "status_details": null,
    })
}

/// One file.
pub fn write_file(line: &FileLine<'_>) -> String {
    file(line).to_string()
}

/// A page of files.
pub fn write_files(lines: &[FileLine<'_>], more: bool) -> String {
    page(lines.iter().map(file).collect(), more)
}

/// That a file is gone.
pub fn write_deleted(id: &str) -> String {
    json!({ "id": id, "object": "file", "deleted": true }).to_string()
}

/// A page of anything with ids.
pub(super) fn page(data: Vec<Value>, more: bool) -> String {
    let id = |value: Option<&Value>| value.map_or(Value::Null, |value| value["id"].clone());
    let (first, last) = (id(data.first()), id(data.last()));
    json!({ "object": "list", "data": data, "first_id": first, "last_id": last, "has_more": more })
        .to_string()
}

/// Reads a purpose that files may be uploaded for.
pub fn read_purpose(text: &str) -> Read<&'static str> {
    let row = PURPOSES.iter().find(|row| row.0 == text && row.1);
    row.map_or_else(
        || check::bad("purpose", "must be 'batch' or 'user_data': nothing else is done here"),
        |row| Ok(row.0),
    )
}

/// How long an upload, or a batch's output, may be kept: from an hour to 30 days, in seconds.
pub fn read_expiry(at: &str, anchor: &str, seconds: u64) -> Read<u64> {
    if anchor != "created_at" {
        return check::bad(&format!("{at}.anchor"), "must be 'created_at'");
    }
    if !(3600..=30 * 86_400).contains(&seconds) {
        let why = format!("must be from 3600 to {}, not {seconds}", 30 * 86_400);
        return check::bad(&format!("{at}.seconds"), why);
    }
    Ok(seconds)
}
