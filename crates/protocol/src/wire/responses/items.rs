//! Items of a conversation: read one by one, kept as they will be listed, and made into the turns
//! that chat templates know. Items of an assistant that follow each other are one turn: what it
//! thought, said and called. Texts of several parts are joined by a line feed, and pictures stand
//! between them. `developer` is `system` to templates.

use serde_json::{Map, Value, json};

use super::{Past, kept};
use crate::wire::check::{self, Read};
use crate::wire::openai;
use crate::wire::pictures::{self, Mixed};
use crate::{Message, Picture, ToolCall};

/// At most this many items a request, and parts an item.
const ITEMS_MAX: usize = 4096;
/// The longest id, in bytes.
const ID_MAX: usize = 64;

/// Roles as they are asked for and as chat templates know them.
const ROLES: [(&str, &str); 4] =
    [("system", "system"), ("developer", "system"), ("user", "user"), ("assistant", "assistant")];

/// An item as it was given: what it says, and how it is kept.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Given {
    /// Where it stood.
    at: String,
    item: Item,
    /// Without an id where none was given.
    value: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq)]
enum Item {
    /// A template's role, a text, and pictures in it.
    Turn(&'static str, String, Vec<Picture>),
    Thought(String),
    Call(ToolCall),
    Output {
        call_id: String,
        content: String,
        pictures: Vec<Picture>,
    },
    /// An earlier item's id.
    Reference(String),
}

impl Given {
    /// The earlier item's id that it is, instead of one of its own.
    pub(super) fn reference(&self) -> Option<&str> {
        match &self.item {
            Item::Reference(id) => Some(id),
            _ => None,
        }
    }

    pub(super) fn value(&self) -> Value {
        Value::Object(self.value.clone())
    }

    /// Itself, or the item that it refers to.
    pub(super) fn resolved(self, named: &[Past]) -> Read<Self> {
        let Item::Reference(id) = &self.item else { return Ok(self) };
        let response = kept::response_of(id);
        let past = named.iter().find(|past| past.id == response);
        let items = past.map(kept::items_of).transpose()?.unwrap_or_default();
        let is_it = |given: &Self| given.value.get("id").is_some_and(|own| own == id);
        match items.into_iter().find(is_it) {
            Some(found) => Ok(Self { at: self.at, ..found }),
            None => {
                let id: String = id.chars().take(ID_MAX).collect();
                let why = format!("refers to an item {id:?} that is not kept here; send the item");
                check::bad(&format!("{}.id", self.at), why)
            }
        }
    }
}

/// A text, or an array of items.
pub(super) fn read(at: &str, value: &Value) -> Read<Vec<Given>> {
    if let Value::String(text) = value {
        let item = json!({ "role": "user", "content": text });
        return read_one(at, &item).map(|given| vec![given]);
    }
    let items = check::array(at, value, ITEMS_MAX)?;
    items.iter().enumerate().map(|(i, item)| read_one(&format!("{at}[{i}]"), item)).collect()
}

fn read_one(at: &str, value: &Value) -> Read<Given> {
    let map = check::object(at, value)?;
    let kind = match given(map, "type") {
        Some(kind) => check::string(&format!("{at}.type"), kind)?,
        None if map.contains_key("role") => "message",
        None if map.contains_key("id") => "item_reference",
        None => return check::bad(&format!("{at}.type"), "is missing"),
    };
    let (item, mut value) = match kind {
        "message" => read_message(at, map)?,
        "reasoning" => read_thought(at, map)?,
        "function_call" => read_call(at, map)?,
        "function_call_output" => read_output(at, map)?,
        "item_reference" => {
            check::only(at, map, ["type", "id"].into_iter())?;
            (Item::Reference(string(at, map, "id")?.to_owned()), Map::new())
        }
        other => {
            let other: String = other.chars().take(32).collect();
            let why = "only \"message\", \"reasoning\", \"function_call\", \
                       \"function_call_output\" and \"item_reference\" are supported; no tools \
                       run here";
            return check::bad(&format!("{at}.type"), format!("is {other:?}: {why}"));
        }
    };
    if let Some(id) = given(map, "id") {
        let at = format!("{at}.id");
        let id = check::string(&at, id)?;
        if id.is_empty() || id.len() > ID_MAX {
            return check::bad(&at, format!("has to have 1 to {ID_MAX} bytes"));
        }
        value.insert("id".into(), json!(id));
    }
    value.insert("type".into(), json!(kind));
    Ok(Given { at: at.to_owned(), item, value })
}

fn given<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    map.get(key).filter(|value| !value.is_null())
}

fn string<'a>(at: &str, map: &'a Map<String, Value>, key: &str) -> Read<&'a str> {
    let at = format!("{at}.{key}");
    match map.get(key) {
        Some(value) => check::string(&at, value),
        None => check::bad(&at, "is missing"),
    }
}

/// Keys that say something of another item than this format's own are refused; `status` and what
/// clients add when they send an answer back are not.
fn only(at: &str, map: &Map<String, Value>, known: &[&str]) -> Read<()> {
    const ALWAYS: [&str; 3] = ["type", "id", "status"];
    check::only(at, map, known.iter().copied().chain(ALWAYS))
}

/// An item is complete unless it says otherwise, as one that was cut short does.
fn status(map: &Map<String, Value>) -> Value {
    let told = given(map, "status").filter(|status| *status == "incomplete");
    told.cloned().unwrap_or_else(|| json!("completed"))
}

type Both = (Item, Map<String, Value>);

fn kept_as(item: Item, map: &Map<String, Value>, value: Value) -> Both {
    let Value::Object(mut value) = value else { unreachable!("made by json!") };
    value.insert("status".into(), status(map));
    (item, value)
}

fn read_message(at: &str, map: &Map<String, Value>) -> Read<Both> {
    only(at, map, &["role", "content", "phase"])?;
    let role = string(at, map, "role")?;
    let Some((_, turn)) = ROLES.iter().find(|row| row.0 == role) else {
        let known = ROLES.map(|row| row.0).join(", ");
        return check::bad(&format!("{at}.role"), format!("must be one of {known}"));
    };
    let kind = if role == "assistant" { "output_text" } else { "input_text" };
    let at = format!("{at}.content");
    let (told, parts) = read_parts(&at, map.get("content"), kind, role == "user")?;
    let value = json!({ "role": role, "content": parts });
    Ok(kept_as(Item::Turn(turn, told.text, told.pictures), map, value))
}

/// A text, or parts that have one or, where `sees` says so, a picture: all that they tell, and the
/// parts as they are kept.
fn read_parts(at: &str, value: Option<&Value>, kind: &str, sees: bool) -> Read<(Mixed, Value)> {
    let part = |text: &str| match kind {
        "output_text" => json!({ "type": kind, "text": text, "annotations": [] }),
        _ => json!({ "type": kind, "text": text }),
    };
    let (mut told, mut kept) = (Mixed::default(), Vec::new());
    match value {
        None | Some(Value::Null) => return check::bad(at, "is missing"),
        Some(Value::String(text)) => {
            told.line(text);
            kept.push(part(text));
        }
        Some(value) => {
            for (i, value) in check::array(at, value, ITEMS_MAX)?.iter().enumerate() {
                let at = format!("{at}[{i}]");
                if sees && value["type"] == "input_image" {
                    told.picture(&at, read_picture(&at, value)?)?;
                    kept.push(value.clone());
                    continue;
                }
                let text = read_part(&at, value)?;
                told.line(text);
                kept.push(part(text));
            }
        }
    }
    Ok((told, kept.into()))
}

fn read_picture(at: &str, value: &Value) -> Read<Picture> {
    let map = check::object(at, value)?;
    let known = ["type", "image_url", "file_id", "detail", "prompt_cache_breakpoint"];
    check::only(at, map, known.into_iter())?;
    if given(map, "file_id").is_some() {
        let why = "is not supported: files are no part of a conversation here; send the image";
        return check::bad(&format!("{at}.file_id"), why);
    }
    let url = string(at, map, "image_url")?;
    let picture = pictures::from_url(&format!("{at}.image_url"), url)?;
    let detail = openai::read_detail(&format!("{at}.detail"), given(map, "detail"))?;
    Ok(Picture { detail, ..picture })
}

/// `parsed` is what clients add to an answer of their own.
fn read_part<'a>(at: &str, value: &'a Value) -> Read<&'a str> {
    let map = check::object(at, value)?;
    let kind = string(at, map, "type")?;
    let key = match kind {
        "input_text" | "output_text" | "text" | "reasoning_text" | "summary_text" => "text",
        "refusal" => "refusal",
        other => {
            let other: String = other.chars().take(32).collect();
            let why = "only parts of text are supported, and of a user's turns images";
            return check::bad(&format!("{at}.type"), format!("is {other:?}: {why}"));
        }
    };
    let known = ["type", key, "annotations", "logprobs", "parsed", "prompt_cache_breakpoint"];
    check::only(at, map, known.into_iter())?;
    string(at, map, key)
}

/// What was thought, or, where that is all there is, its summary.
fn read_thought(at: &str, map: &Map<String, Value>) -> Read<Both> {
    only(at, map, &["summary", "content", "encrypted_content"])?;
    if given(map, "encrypted_content").is_some_and(|text| text != "") {
        let why = "was written by another server and cannot be read here; leave the item out";
        return check::bad(&format!("{at}.encrypted_content"), why);
    }
    let list = |key: &str, kind: &str| {
        let at = format!("{at}.{key}");
        let Some(parts) = given(map, key) else { return Ok((String::new(), json!([]))) };
        check::array(&at, parts, ITEMS_MAX)?;
        let (told, parts) = read_parts(&at, Some(parts), kind, false)?;
        Ok((told.text, parts))
    };
    let (content, contents) = list("content", "reasoning_text")?;
    let (summary, summaries) = list("summary", "summary_text")?;
    let text = if content.is_empty() { summary } else { content };
    let value = json!({ "summary": summaries, "content": contents });
    Ok(kept_as(Item::Thought(text), map, value))
}

fn read_call(at: &str, map: &Map<String, Value>) -> Read<Both> {
    only(at, map, &["call_id", "name", "arguments", "caller", "namespace", "parsed_arguments"])?;
    direct(at, map)?;
    let text = |key: &str| string(at, map, key).map(str::to_owned);
    let (id, name, arguments) = (text("call_id")?, text("name")?, text("arguments")?);
    let value = json!({ "call_id": id, "name": name, "arguments": arguments });
    Ok(kept_as(Item::Call(ToolCall { id, name, arguments }), map, value))
}

/// Only the model itself calls, and there are no spaces of names.
fn direct(at: &str, map: &Map<String, Value>) -> Read<()> {
    if given(map, "caller").is_some_and(|caller| caller["type"] != "direct") {
        let why = "must be of type \"direct\": only the model itself calls tools here";
        return check::bad(&format!("{at}.caller"), why);
    }
    if given(map, "namespace").is_some() {
        return check::bad(&format!("{at}.namespace"), "is not supported: tools have names alone");
    }
    Ok(())
}

fn read_output(at: &str, map: &Map<String, Value>) -> Read<Both> {
    only(at, map, &["call_id", "output", "name", "caller", "namespace", "created_by"])?;
    direct(at, map)?;
    let call_id = string(at, map, "call_id")?.to_owned();
    let output = given(map, "output");
    let (told, parts) = read_parts(&format!("{at}.output"), output, "input_text", true)?;
    let kept = output.filter(|output| output.is_string()).cloned().unwrap_or(parts);
    let value = json!({ "call_id": call_id, "output": kept });
    let Mixed { text: content, pictures, .. } = told;
    Ok(kept_as(Item::Output { call_id, content, pictures }, map, value))
}

/// The turns that these items are.
pub(super) fn turns(items: impl Iterator<Item = Given>) -> Read<Vec<Message>> {
    let mut turns: Vec<Message> = Vec::new();
    for Given { at, item, .. } in items {
        match item {
            Item::Turn("assistant", text, _) => join(&mut assistant(&mut turns).content, &text),
            Item::Turn(role, content, pictures) => {
                turns.push(Message { role: role.into(), content, pictures, ..Message::default() });
            }
            Item::Thought(text) => {
                join(assistant(&mut turns).reasoning.get_or_insert_default(), &text);
            }
            Item::Call(call) => assistant(&mut turns).tool_calls.push(call),
            Item::Output { call_id, content, pictures } => {
                let result = result(&at, call_id, content, &turns)?;
                turns.push(Message { pictures, ..result });
            }
            Item::Reference(_) => return check::bad(&at, "refers to an item that is not here"),
        }
    }
    Ok(turns)
}

/// The assistant's turn that goes on, or a new one.
fn assistant(turns: &mut Vec<Message>) -> &mut Message {
    if turns.last().is_none_or(|turn| turn.role != "assistant") {
        turns.push(Message { role: "assistant".into(), ..Message::default() });
    }
    turns.last_mut().expect("one was pushed where there was none")
}

fn join(out: &mut String, text: &str) {
    if !out.is_empty() && !text.is_empty() {
        out.push('\n');
    }
    out.push_str(text);
}

fn result(at: &str, call_id: String, content: String, turns: &[Message]) -> Read<Message> {
    let mut calls = turns.iter().rev().flat_map(|turn| &turn.tool_calls);
    let Some(call) = calls.find(|call| call.id == call_id) else {
        let why = "names no call of an earlier item; send the call too, or the id of its response \
                   as 'previous_response_id'";
        return check::bad(&format!("{at}.call_id"), why);
    };
    Ok(Message {
        role: "tool".into(),
        content,
        name: Some(call.name.clone()),
        tool_call_id: Some(call_id),
        ..Message::default()
    })
}

/// Items with an id each; one that has none, or that of another before it, gets one of the
/// response with that stamp.
pub(super) fn with_ids(items: &[Value], stamp: &str) -> Value {
    let mut seen = std::collections::BTreeSet::new();
    let named = |(i, item): (usize, &Value)| {
        let mut item = item.clone();
        let known = item["id"].as_str().map(str::to_owned).filter(|id| seen.insert(id.clone()));
        let kind = item["type"].as_str().unwrap_or_default();
        let fresh = || format!("{}_{stamp}_i{i}", prefix(kind));
        item["id"] = json!(known.unwrap_or_else(fresh));
        item
    };
    items.iter().enumerate().map(named).collect()
}

/// What the id of an item of that type begins with.
pub(super) fn prefix(kind: &str) -> &'static str {
    match kind {
        "reasoning" => "rs",
        "function_call" => "fc",
        "function_call_output" => "fco",
        _ => "msg",
    }
}
