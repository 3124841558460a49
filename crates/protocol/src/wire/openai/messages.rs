//! A conversation's messages, read and written. `developer` is read as `system`, its name in chat
//! templates; text parts are joined by a line feed, and pictures stand between them. Absent: audio
//! and files in parts.

use serde_json::{Map, Value, json};

use super::check::{self, Read};
use crate::wire::pictures::{self, Mixed, Part};
use crate::{Message, Picture, ToolCall};

/// Roles as they are asked for and as chat templates know them.
const ROLES: &[(&str, &str)] = &[
    ("system", "system"),
    ("developer", "system"),
    ("user", "user"),
    ("assistant", "assistant"),
    ("tool", "tool"),
];

/// Keys that answers carry and clients send back, empty.
const EMPTY_KEYS: &[&str] = &["refusal", "annotations", "audio", "function_call"];
/// The names by which servers tell what was thought before an answer.
const REASONING: [&str; 2] = ["reasoning_content", "reasoning"];
const KEYS: [&str; 11] = [
    "role",
    "content",
    "name",
    "tool_calls",
    "tool_call_id",
    "refusal",
    "annotations",
    "audio",
    "function_call",
    REASONING[0],
    REASONING[1],
];

/// At most this many messages a conversation.
const MESSAGES_MAX: usize = 4096;

pub(in crate::wire) fn read(at: &str, value: &Value) -> Read<Vec<Message>> {
    let items = check::array(at, value, MESSAGES_MAX)?;
    if items.is_empty() {
        return check::bad(at, "is empty; give at least one message");
    }
    items.iter().enumerate().map(|(i, item)| read_one(&format!("{at}[{i}]"), item)).collect()
}

fn read_one(at: &str, value: &Value) -> Read<Message> {
    let map = check::object(at, value)?;
    check::only(at, map, KEYS.into_iter())?;
    for key in EMPTY_KEYS {
        let given = map.get(*key).filter(|value| !value.is_null() && **value != json!([]));
        if given.is_some() {
            return check::bad(&format!("{at}.{key}"), "is not supported");
        }
    }
    let tool_calls = match given(map, "tool_calls") {
        Some(value) => read_calls(&format!("{at}.tool_calls"), value)?,
        None => Vec::new(),
    };
    let text = |key: &str| match given(map, key) {
        Some(value) => check::string(&format!("{at}.{key}"), value).map(|v| Some(v.to_owned())),
        None => Ok(None),
    };
    let role = read_role(&format!("{at}.role"), map.get("role"))?;
    let at_content = format!("{at}.content");
    let Mixed { text: content, pictures, .. } =
        read_content(&at_content, map, !tool_calls.is_empty(), role == "user")?;
    let message = Message {
        role,
        content,
        pictures,
        reasoning: text(REASONING[0])?.or(text(REASONING[1])?),
        name: text("name")?,
        tool_call_id: text("tool_call_id")?,
        tool_calls,
    };
    fits_role(at, &message)?;
    Ok(message)
}

fn given<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    map.get(key).filter(|value| !value.is_null())
}

fn fits_role(at: &str, message: &Message) -> Read<()> {
    if !message.tool_calls.is_empty() && message.role != "assistant" {
        return check::bad(&format!("{at}.tool_calls"), "belongs to role \"assistant\" alone");
    }
    if message.reasoning.is_some() && message.role != "assistant" {
        let at = format!("{at}.{}", REASONING[0]);
        return check::bad(&at, "belongs to role \"assistant\" alone");
    }
    if message.tool_call_id.is_some() && message.role != "tool" {
        return check::bad(&format!("{at}.tool_call_id"), "belongs to role \"tool\" alone");
    }
    Ok(())
}

fn read_role(at: &str, value: Option<&Value>) -> Read<String> {
    let Some(value) = value else { return check::bad(at, "is missing") };
    let role = check::string(at, value)?;
    match ROLES.iter().find(|row| row.0 == role) {
        Some(row) => Ok(row.1.to_owned()),
        None => {
            let known: Vec<&str> = ROLES.iter().map(|row| row.0).collect();
            check::bad(at, format!("must be one of {}", known.join(", ")))
        }
    }
}

/// `sees`: whether there may be pictures.
fn read_content(at: &str, map: &Map<String, Value>, calls: bool, sees: bool) -> Read<Mixed> {
    let mut out = Mixed::default();
    match map.get("content") {
        Some(Value::String(text)) => out.line(text),
        Some(Value::Array(parts)) => {
            for (i, part) in parts.iter().enumerate() {
                let at = format!("{at}[{i}]");
                if sees && part["type"] == "image_url" {
                    out.picture(&at, read_picture(&at, part)?)?;
                } else {
                    out.line(read_part(&at, part)?);
                }
            }
        }
        None | Some(Value::Null) if calls => {}
        None | Some(Value::Null) => return check::bad(at, "is missing"),
        Some(other) => {
            let kind = check::kind(other);
            return check::bad(at, format!("must be a string or an array of parts, not {kind}"));
        }
    }
    Ok(out)
}

fn read_picture(at: &str, value: &Value) -> Read<Picture> {
    let map = check::object(at, value)?;
    check::only(at, map, ["type", "image_url"].into_iter())?;
    let at = format!("{at}.image_url");
    let Some(image) = map.get("image_url") else { return check::bad(&at, "is missing") };
    let image = check::object(&at, image)?;
    check::only(&at, image, ["url", "detail"].into_iter())?;
    let at_url = format!("{at}.url");
    let Some(url) = given(image, "url") else { return check::bad(&at_url, "is missing") };
    let picture = pictures::from_url(&at_url, check::string(&at_url, url)?)?;
    let detail = read_detail(&format!("{at}.detail"), given(image, "detail"))?;
    Ok(Picture { detail, ..picture })
}

/// How closely a picture is looked at.
pub(in crate::wire) fn read_detail(at: &str, value: Option<&Value>) -> Read<Option<String>> {
    let Some(value) = value else { return Ok(None) };
    match check::string(at, value)? {
        known @ ("auto" | "low" | "high" | "original") => Ok(Some(known.to_owned())),
        _ => check::bad(at, "must be \"auto\", \"low\", \"high\" or \"original\""),
    }
}

pub(super) fn read_part<'a>(at: &str, value: &'a Value) -> Read<&'a str> {
    let map = check::object(at, value)?;
    match map.get("type").and_then(Value::as_str) {
        Some("text") => {}
        Some(other) => {
            let other: String = other.chars().take(32).collect();
            let why = format!("is {other:?}: only text parts are supported");
            return check::bad(&format!("{at}.type"), why);
        }
        None => return check::bad(&format!("{at}.type"), "is missing"),
    }
    check::only(at, map, ["type", "text"].into_iter())?;
    match map.get("text") {
        Some(text) => check::string(&format!("{at}.text"), text),
        None => check::bad(&format!("{at}.text"), "is missing"),
    }
}

fn read_calls(at: &str, value: &Value) -> Read<Vec<ToolCall>> {
    let items = check::array(at, value, 128)?;
    items.iter().enumerate().map(|(i, item)| read_call(&format!("{at}[{i}]"), item)).collect()
}

fn read_call(at: &str, value: &Value) -> Read<ToolCall> {
    let map = check::object(at, value)?;
    check::only(at, map, ["id", "type", "function", "index"].into_iter())?;
    if map.get("type").is_some_and(|kind| kind != "function") {
        return check::bad(&format!("{at}.type"), "must be \"function\"");
    }
    let inner = format!("{at}.function");
    let Some(function) = map.get("function") else { return check::bad(&inner, "is missing") };
    let function = check::object(&inner, function)?;
    check::only(&inner, function, ["name", "arguments"].into_iter())?;
    let text = |at: &str, map: &Map<String, Value>, key: &str| match map.get(key) {
        Some(value) => check::string(&format!("{at}.{key}"), value).map(str::to_owned),
        None => check::bad(&format!("{at}.{key}"), "is missing"),
    };
    Ok(ToolCall {
        id: text(at, map, "id")?,
        name: text(&inner, function, "name")?,
        arguments: text(&inner, function, "arguments")?,
    })
}

pub(super) fn write(messages: &[Message]) -> Value {
    messages.iter().map(write_one).collect()
}

fn write_one(message: &Message) -> Value {
    let mut out = json!({ "role": message.role, "content": write_content(message) });
    if let Some(reasoning) = &message.reasoning {
        out[REASONING[0]] = json!(reasoning);
    }
    if let Some(name) = &message.name {
        out["name"] = json!(name);
    }
    if let Some(id) = &message.tool_call_id {
        out["tool_call_id"] = json!(id);
    }
    if !message.tool_calls.is_empty() {
        out["tool_calls"] = message.tool_calls.iter().map(write_call).collect();
    }
    out
}

/// A text, or parts where there are pictures.
fn write_content(message: &Message) -> Value {
    if message.pictures.is_empty() {
        return json!(message.content);
    }
    let write = |part: Part<'_>| match part {
        Part::Text(text) => json!({ "type": "text", "text": text }),
        Part::Picture(picture) => {
            let mut image = json!({ "url": pictures::to_url(picture) });
            if let Some(detail) = &picture.detail {
                image["detail"] = json!(detail);
            }
            json!({ "type": "image_url", "image_url": image })
        }
    };
    pictures::parts(message).into_iter().map(write).collect()
}

pub(super) fn write_call(call: &ToolCall) -> Value {
    let function = json!({ "name": call.name, "arguments": call.arguments });
    json!({ "id": call.id, "type": "function", "function": function })
}
