//! Tools and the choice among them, read and written. What a call looks like in a conversation is
//! `messages`'. Absent: tools that run here, custom tools without a schema, and subsets of tools.

use serde_json::{Map, Value, json};

use super::check::{self, Read};
use super::strict::Strict;
use crate::{Fault, Tool, ToolChoice};

/// At most this many tools.
const TOOLS_MAX: usize = 128;

pub(super) fn read(at: &str, value: &Value) -> Read<Vec<Tool>> {
    let items = check::array(at, value, TOOLS_MAX)?;
    items.iter().enumerate().map(|(i, item)| read_one(&format!("{at}[{i}]"), item)).collect()
}

/// The object under the key that its type has to name.
fn function<'a>(at: &str, value: &'a Value) -> Read<(String, &'a Map<String, Value>)> {
    let map = check::object(at, value)?;
    match map.get("type").and_then(Value::as_str) {
        Some("function") => {}
        _ => return check::bad(&format!("{at}.type"), "must be \"function\""),
    }
    check::only(at, map, ["type", "function"].into_iter())?;
    let inner = format!("{at}.function");
    match map.get("function") {
        Some(function) => check::object(&inner, function).map(|function| (inner.clone(), function)),
        None => check::bad(&inner, "is missing"),
    }
}

fn read_one(at: &str, value: &Value) -> Read<Tool> {
    let (at, map) = function(at, value)?;
    check::only(&at, map, ["name", "description", "parameters", "strict"].into_iter())?;
    let given = |key: &str| map.get(key).filter(|value| !value.is_null());
    let description = given("description").map(|v| check::string(&format!("{at}.description"), v));
    let parameters = match given("parameters") {
        Some(schema) => {
            check::object(&format!("{at}.parameters"), schema)?;
            schema.to_string()
        }
        None => String::new(),
    };
    let strict = given("strict").map(|value| check::boolean(&format!("{at}.strict"), value));
    Ok(Tool {
        name: read_name(&at, map)?,
        description: description.transpose()?.map(str::to_owned),
        parameters,
        strict: strict.transpose()?.unwrap_or(false),
    })
}

fn read_name(at: &str, map: &Map<String, Value>) -> Read<String> {
    let at = format!("{at}.name");
    match map.get("name") {
        Some(name) => check::string(&at, name).map(str::to_owned),
        None => check::bad(&at, "is missing"),
    }
}

pub(super) fn read_choice(at: &str, value: &Value) -> Read<ToolChoice> {
    match value {
        Value::String(text) => match text.as_str() {
            "auto" => Ok(ToolChoice::Auto),
            "none" => Ok(ToolChoice::None),
            "required" => Ok(ToolChoice::Required),
            _ => check::bad(at, "must be \"auto\", \"none\", \"required\" or name a function"),
        },
        other => {
            let (at, map) = function(at, other)?;
            check::only(&at, map, ["name"].into_iter())?;
            Ok(ToolChoice::Named(read_name(&at, map)?))
        }
    }
}

pub(super) fn write(tools: &[Tool]) -> Read<Value> {
    tools.iter().map(write_one).collect()
}

fn write_one(tool: &Tool) -> Read<Value> {
    let mut function = json!({ "name": tool.name });
    if let Some(description) = &tool.description {
        function["description"] = json!(description);
    }
    if !tool.parameters.is_empty() {
        function["parameters"] = parse("tools", &tool.parameters)?;
    }
    if tool.strict {
        function["strict"] = json!(true);
    }
    Ok(json!({ "type": "function", "function": function }))
}

pub(super) fn write_choice(choice: &ToolChoice) -> Option<Value> {
    match choice {
        ToolChoice::Auto => None,
        ToolChoice::None => Some(json!("none")),
        ToolChoice::Required => Some(json!("required")),
        ToolChoice::Named(name) => {
            Some(json!({ "type": "function", "function": { "name": name } }))
        }
    }
}

/// A JSON text within a request, no key twice.
pub(super) fn parse(at: &str, text: &str) -> Read<Value> {
    let wrong = |error| Fault::caller(format!("'{at}' is no JSON: {error}")).at(at);
    serde_json::from_str(text).map(|Strict(value)| value).map_err(wrong)
}
