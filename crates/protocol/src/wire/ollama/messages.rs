//! A conversation's messages. Calls have no ids of their own here, or need none: a result is its
//! tool's, so ids are made by counting, and a result answers the first call of its tool that has
//! none yet.

use serde_json::{Map, Value, json};

use crate::wire::check::{self, Read};
use crate::wire::pictures;
use crate::{Message, Picture, ToolCall};

const ROLES: [&str; 4] = ["system", "user", "assistant", "tool"];
const KEYS: [&str; 7] =
    ["role", "content", "thinking", "images", "tool_calls", "tool_name", "tool_call_id"];
/// At most this many messages a conversation.
const MESSAGES_MAX: usize = 4096;
/// At most this many calls a message.
const CALLS_MAX: usize = 128;

pub(super) fn read(at: &str, value: &Value) -> Read<Vec<Message>> {
    let items = check::array(at, value, MESSAGES_MAX)?;
    let mut calls = Calls::default();
    let read = |(i, item)| read_one(&format!("{at}[{i}]"), item, &mut calls);
    items.iter().enumerate().map(read).collect()
}

/// The calls so far.
#[derive(Default)]
struct Calls {
    /// Those that have no result yet, oldest first.
    open: Vec<ToolCall>,
    /// How many there were.
    count: usize,
}

fn read_one(at: &str, value: &Value, so_far: &mut Calls) -> Read<Message> {
    let map = check::object(at, value)?;
    check::only(at, map, KEYS.into_iter())?;
    let given = |key: &str| map.get(key).filter(|value| !value.is_null());
    let inner = |key: &str| format!("{at}.{key}");
    let text = |key: &str| given(key).map(|value| check::string(&inner(key), value)).transpose();
    let role = text("role")?.unwrap_or_default();
    if !ROLES.contains(&role) {
        return check::bad(&inner("role"), format!("must be one of {}", ROLES.join(", ")));
    }
    let own = |key: &str, of: &str| match given(key) {
        Some(_) if role != of => check::bad(&inner(key), format!("belongs to role {of:?} alone")),
        _ => Ok(()),
    };
    if given("images").is_some_and(|images| *images != json!([])) {
        own("images", "user")?;
    }
    own("thinking", "assistant")?;
    own("tool_calls", "assistant")?;
    own("tool_name", "tool")?;
    own("tool_call_id", "tool")?;
    let mut message = Message {
        role: role.to_owned(),
        content: text("content")?.unwrap_or_default().to_owned(),
        reasoning: text("thinking")?.filter(|text| !text.is_empty()).map(str::to_owned),
        name: text("tool_name")?.map(str::to_owned),
        tool_call_id: text("tool_call_id")?.map(str::to_owned),
        ..Message::default()
    };
    if let Some(images) = given("images") {
        message.pictures = read_images(&inner("images"), images)?;
    }
    if let Some(calls) = given("tool_calls") {
        let at = inner("tool_calls");
        for (i, call) in check::array(&at, calls, CALLS_MAX)?.iter().enumerate() {
            let call = read_call(&format!("{at}[{i}]"), call, so_far.count)?;
            so_far.count += 1;
            so_far.open.push(call.clone());
            message.tool_calls.push(call);
        }
    }
    if role == "tool" {
        answer(&mut message, &mut so_far.open);
    }
    Ok(message)
}

/// Pictures in base64, which stand before their turn's text.
pub(super) fn read_images(at: &str, value: &Value) -> Read<Vec<Picture>> {
    let mut out = Vec::new();
    for (i, image) in check::array(at, value, usize::MAX)?.iter().enumerate() {
        let at = format!("{at}[{i}]");
        let picture = pictures::from_bare(&at, check::string(&at, image)?)?;
        pictures::push(&at, "", &mut out, picture)?;
    }
    Ok(out)
}

/// Finds the call that a result answers: by its id, by its tool's name, or as the next in line.
fn answer(message: &mut Message, open: &mut Vec<ToolCall>) {
    let wanted = |call: &ToolCall| match (&message.tool_call_id, &message.name) {
        (Some(id), _) => call.id == *id,
        (None, Some(name)) => call.name == *name,
        (None, None) => true,
    };
    if let Some(at) = open.iter().position(wanted) {
        let call = open.remove(at);
        message.name.get_or_insert(call.name);
        message.tool_call_id.get_or_insert(call.id);
    }
}

fn read_call(at: &str, value: &Value, count: usize) -> Read<ToolCall> {
    let map = check::object(at, value)?;
    check::only(at, map, ["id", "type", "function"].into_iter())?;
    let inner = format!("{at}.function");
    let Some(function) = map.get("function") else { return check::bad(&inner, "is missing") };
    let function = check::object(&inner, function)?;
    check::only(&inner, function, ["index", "name", "description", "arguments"].into_iter())?;
    let text = |at: &str, map: &Map<String, Value>, key: &str| {
        let value = map.get(key).filter(|value| !value.is_null());
        value.map(|value| check::string(&format!("{at}.{key}"), value).map(str::to_owned))
    };
    let Some(name) = text(&inner, function, "name") else {
        return check::bad(&format!("{inner}.name"), "is missing");
    };
    let arguments = function.get("arguments").filter(|value| !value.is_null());
    let arguments = match arguments {
        Some(arguments) => {
            check::object(&format!("{inner}.arguments"), arguments)?;
            arguments.to_string()
        }
        None => "{}".to_owned(),
    };
    let id = text(at, map, "id").transpose()?.filter(|id| !id.is_empty());
    Ok(ToolCall { id: id.unwrap_or_else(|| format!("call_{count}")), name: name?, arguments })
}
