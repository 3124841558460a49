//! Content blocks, read into a conversation's turns. A user's turn that holds results of tools
//! becomes a turn for each, since chat templates know them as turns of their own; turns of one role
//! that follow each other are one, as the format has it. Text blocks are joined by a line feed, and
//! pictures stand between them.

use serde_json::{Map, Value};

use crate::wire::check::{self, Read};
use crate::wire::pictures;
use crate::{Message, Picture, Source, ToolCall};

/// At most this many messages a conversation.
const MESSAGES_MAX: usize = 4096;
/// At most this many blocks a message.
const BLOCKS_MAX: usize = 4096;

pub(super) fn read(at: &str, value: &Value) -> Read<Vec<Message>> {
    let items = check::array(at, value, MESSAGES_MAX)?;
    let mut turns = Vec::new();
    for (i, item) in items.iter().enumerate() {
        let at = format!("{at}[{i}]");
        let map = check::object(&at, item)?;
        check::only(&at, map, ["role", "content"].into_iter())?;
        let Some(content) = map.get("content") else {
            return check::bad(&format!("{at}.content"), "is missing");
        };
        let at_content = format!("{at}.content");
        if content.as_array().is_some_and(Vec::is_empty) {
            return check::bad(&at_content, "is empty; give at least one block");
        }
        match map.get("role").and_then(Value::as_str) {
            Some("user") => read_user(&at_content, content, &mut turns)?,
            Some("assistant") => read_assistant(&at_content, content, &mut turns)?,
            _ => {
                let why = "must be \"user\" or \"assistant\"; the system's text is the field \
                           'system'";
                return check::bad(&format!("{at}.role"), why);
            }
        }
    }
    Ok(turns)
}

/// A text, or text blocks.
pub(super) fn text(at: &str, value: &Value) -> Read<String> {
    let mut out = String::new();
    for (at, block) in blocks(at, value)? {
        let text = block.text(&at, "only text is supported here")?;
        join(&mut out, &text);
    }
    Ok(out)
}

/// A block of some kind, and what else is in it.
enum Block<'a> {
    Text(&'a str),
    Other(&'a str, &'a Map<String, Value>),
}

impl Block<'_> {
    fn text(&self, at: &str, why: &str) -> Read<String> {
        match self {
            Self::Text(text) => Ok((*text).to_owned()),
            Self::Other(kind, _) => unknown(at, kind, why),
        }
    }
}

fn unknown<T>(at: &str, kind: &str, why: &str) -> Read<T> {
    let kind: String = kind.chars().take(32).collect();
    check::bad(&format!("{at}.type"), format!("is {kind:?}: {why}"))
}

fn blocks<'a>(at: &str, value: &'a Value) -> Read<Vec<(String, Block<'a>)>> {
    if let Value::String(text) = value {
        return Ok(vec![(at.to_owned(), Block::Text(text))]);
    }
    let items = check::array(at, value, BLOCKS_MAX)?.iter().enumerate();
    let read = |(i, item)| {
        let at = format!("{at}[{i}]");
        block(&at, item).map(|block| (at, block))
    };
    items.map(read).collect()
}

fn block<'a>(at: &str, value: &'a Value) -> Read<Block<'a>> {
    let map = check::object(at, value)?;
    let kind = match map.get("type") {
        Some(kind) => check::string(&format!("{at}.type"), kind)?,
        None => return check::bad(&format!("{at}.type"), "is missing"),
    };
    if kind != "text" {
        return Ok(Block::Other(kind, map));
    }
    only(at, map, &["text", "citations"])?;
    if map.get("citations").is_some_and(|it| it.as_array().is_some_and(|it| !it.is_empty())) {
        return check::bad(&format!("{at}.citations"), "is not supported: nothing is cited here");
    }
    string(at, map, "text").map(Block::Text)
}

/// Refuses keys that a block of its kind does not have. Any may be marked for the prefix cache,
/// which needs no marks.
fn only(at: &str, map: &Map<String, Value>, known: &[&str]) -> Read<()> {
    check::only(at, map, known.iter().copied().chain(["type", "cache_control"]))
}

fn string<'a>(at: &str, map: &'a Map<String, Value>, key: &str) -> Read<&'a str> {
    let at = format!("{at}.{key}");
    match map.get(key) {
        Some(value) => check::string(&at, value),
        None => check::bad(&at, "is missing"),
    }
}

fn join(out: &mut String, text: &str) {
    if !out.is_empty() && !text.is_empty() {
        out.push('\n');
    }
    out.push_str(text);
}

/// The turn of that role which goes on, or a new one. A turn that called tools is over.
fn turn<'a>(turns: &'a mut Vec<Message>, role: &str) -> &'a mut Message {
    let goes_on = turns.last().is_some_and(|turn| turn.role == role && turn.tool_calls.is_empty());
    if !goes_on {
        turns.push(Message { role: role.to_owned(), ..Message::default() });
    }
    turns.last_mut().expect("one was pushed where there was none")
}

fn read_user(at: &str, value: &Value, turns: &mut Vec<Message>) -> Read<()> {
    for (at, block) in blocks(at, value)? {
        match block {
            Block::Text(text) => join(&mut turn(turns, "user").content, text),
            Block::Other("image", map) => {
                let picture = read_picture(&at, map)?;
                let turn = turn(turns, "user");
                pictures::push(&at, &turn.content, &mut turn.pictures, picture)?;
            }
            Block::Other("tool_result", map) => {
                let result = read_result(&at, map, turns)?;
                turns.push(result);
            }
            Block::Other(kind, _) => {
                let why = "of a user's blocks only \"text\", \"image\" and \"tool_result\" are \
                           supported";
                return unknown(&at, kind, why);
            }
        }
    }
    Ok(())
}

/// A tool's turn. That a tool failed is said in its text: templates have no other place for it.
fn read_result(at: &str, map: &Map<String, Value>, turns: &[Message]) -> Read<Message> {
    only(at, map, &["tool_use_id", "content", "is_error"])?;
    let id = string(at, map, "tool_use_id")?;
    let given = |key: &str| map.get(key).filter(|value| !value.is_null());
    let mut told = Message { role: "tool".into(), ..Message::default() };
    if let Some(content) = given("content") {
        for (at, block) in blocks(&format!("{at}.content"), content)? {
            match block {
                Block::Other("image", map) => {
                    let picture = read_picture(&at, map)?;
                    pictures::push(&at, &told.content, &mut told.pictures, picture)?;
                }
                other => {
                    let text = other.text(&at, "only text and images are supported here")?;
                    join(&mut told.content, &text);
                }
            }
        }
    }
    let failed = given("is_error").map(|value| check::boolean(&format!("{at}.is_error"), value));
    let failed = failed.transpose()?.unwrap_or(false);
    let calls = turns.iter().rev().flat_map(|turn| &turn.tool_calls);
    let Some(call) = calls.into_iter().find(|call| call.id == id) else {
        return check::bad(&format!("{at}.tool_use_id"), "names no call of an earlier message");
    };
    if failed {
        told.content.insert_str(0, FAILED);
        told.pictures.iter_mut().for_each(|picture| picture.at += FAILED.len());
    }
    (told.name, told.tool_call_id) = (Some(call.name.clone()), Some(id.to_owned()));
    Ok(told)
}

/// What the text of a tool that failed begins with.
const FAILED: &str = "Error: ";

/// A picture in base64, or behind an address.
fn read_picture(at: &str, map: &Map<String, Value>) -> Read<Picture> {
    only(at, map, &["source"])?;
    let at = format!("{at}.source");
    let Some(source) = map.get("source") else { return check::bad(&at, "is missing") };
    let source = check::object(&at, source)?;
    match source.get("type").and_then(Value::as_str) {
        Some("base64") => {
            check::only(&at, source, ["type", "media_type", "data"].into_iter())?;
            let (media, data) = (string(&at, source, "media_type")?, string(&at, source, "data")?);
            pictures::from_base64(&format!("{at}.data"), media, data)
        }
        Some("url") => {
            check::only(&at, source, ["type", "url"].into_iter())?;
            let url = string(&at, source, "url")?;
            pictures::address(&format!("{at}.url"), url)?;
            Ok(Picture { source: Source::Url(url.to_owned()), ..Picture::default() })
        }
        _ => {
            let why = "must be \"base64\" or \"url\": no files are kept for messages";
            check::bad(&format!("{at}.type"), why)
        }
    }
}

fn read_assistant(at: &str, value: &Value, turns: &mut Vec<Message>) -> Read<()> {
    for (i, (at, block)) in blocks(at, value)?.into_iter().enumerate() {
        // Blocks of one message are one turn, calls and all.
        let turn = match turns.last() {
            Some(last) if i > 0 && last.role == "assistant" => turns.last_mut().expect("is there"),
            _ => turn(turns, "assistant"),
        };
        match block {
            Block::Text(text) => join(&mut turn.content, text),
            Block::Other("tool_use", map) => turn.tool_calls.push(read_call(&at, map)?),
            Block::Other("thinking", map) => {
                only(&at, map, &["thinking", "signature"])?;
                let thought = string(&at, map, "thinking")?;
                join(turn.reasoning.get_or_insert_default(), thought);
            }
            Block::Other(kind, _) => {
                let why = "of an assistant's blocks only \"text\", \"tool_use\" and \"thinking\" \
                           are supported";
                return unknown(&at, kind, why);
            }
        }
    }
    Ok(())
}

fn read_call(at: &str, map: &Map<String, Value>) -> Read<ToolCall> {
    only(at, map, &["id", "name", "input", "caller"])?;
    if map.get("caller").is_some_and(|caller| !caller.is_null() && caller["type"] != "direct") {
        let why = "must be of type \"direct\": only the model itself calls tools here";
        return check::bad(&format!("{at}.caller"), why);
    }
    let inner = format!("{at}.input");
    let Some(input) = map.get("input") else { return check::bad(&inner, "is missing") };
    check::object(&inner, input)?;
    let (id, name) = (string(at, map, "id")?.to_owned(), string(at, map, "name")?.to_owned());
    Ok(ToolCall { id, name, arguments: input.to_string() })
}
