//! Tools that the caller runs, as this format writes them, and the choice among them. Tools that
//! OpenAI runs, or whose schema its models know by heart, are refused by name.

use serde_json::{Map, Value, json};

use crate::wire::check::{self, Read};
use crate::{Chat, Tool, ToolChoice};

/// At most this many tools.
const TOOLS_MAX: usize = 128;
/// Keys of a tool: those that are read, then those that are known at one value.
const KEYS: [&str; 8] = [
    "type",
    "name",
    "description",
    "parameters",
    "strict",
    "allowed_callers",
    "defer_loading",
    "output_schema",
];

pub(super) fn read(at: &str, value: &Value) -> Read<Vec<Tool>> {
    let items = check::array(at, value, TOOLS_MAX)?;
    items.iter().enumerate().map(|(i, item)| read_one(&format!("{at}[{i}]"), item)).collect()
}

fn read_one(at: &str, value: &Value) -> Read<Tool> {
    let map = check::object(at, value)?;
    function(at, map, "only tools of type \"function\", which the caller runs, are supported")?;
    check::only(at, map, KEYS.into_iter())?;
    let inner = |key: &str| format!("{at}.{key}");
    let given = |key: &str| map.get(key).filter(|value| !value.is_null());
    if given("allowed_callers").is_some_and(|value| *value != json!(["direct"])) {
        let why = "is supported only as [\"direct\"]: only the model itself calls tools here";
        return check::bad(&inner("allowed_callers"), why);
    }
    if given("defer_loading").is_some_and(|value| *value != false) {
        return check::bad(&inner("defer_loading"), "is supported only as false: tools are told");
    }
    let text = |key: &str| given(key).map(|value| check::string(&inner(key), value)).transpose();
    let parameters = match given("parameters") {
        Some(schema) => {
            check::object(&inner("parameters"), schema)?;
            schema.to_string()
        }
        None => String::new(),
    };
    let strict = given("strict").map(|value| check::boolean(&inner("strict"), value));
    Ok(Tool {
        name: name(at, map)?,
        description: text("description")?.map(str::to_owned),
        parameters,
        strict: strict.transpose()?.unwrap_or(false),
    })
}

fn function(at: &str, map: &Map<String, Value>, why: &str) -> Read<()> {
    match map.get("type").and_then(Value::as_str) {
        Some("function") => Ok(()),
        Some(other) => {
            let other: String = other.chars().take(64).collect();
            check::bad(&format!("{at}.type"), format!("is {other:?}: {why}"))
        }
        None => check::bad(&format!("{at}.type"), "is missing"),
    }
}

fn name(at: &str, map: &Map<String, Value>) -> Read<String> {
    let at = format!("{at}.name");
    match map.get("name") {
        Some(name) => check::string(&at, name).map(str::to_owned),
        None => check::bad(&at, "is missing"),
    }
}

/// A choice, and the names of the tools among which it is made where not all are meant.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Choice {
    choice: ToolChoice,
    among: Option<Vec<String>>,
}

pub(super) fn read_choice(at: &str, value: &Value) -> Read<Choice> {
    let all = |choice| Ok(Choice { choice, among: None });
    let map = match value {
        Value::String(text) => match text.as_str() {
            "auto" => return all(ToolChoice::Auto),
            "none" => return all(ToolChoice::None),
            "required" => return all(ToolChoice::Required),
            _ => {
                let why = "must be \"auto\", \"none\", \"required\" or an object";
                return check::bad(at, why);
            }
        },
        other => check::object(at, other)?,
    };
    if map.get("type").is_some_and(|kind| kind == "allowed_tools") {
        return read_allowed(at, map);
    }
    let why = "only \"function\" and \"allowed_tools\" can be chosen; no tools run here";
    function(at, map, why)?;
    check::only(at, map, ["type", "name"].into_iter())?;
    all(ToolChoice::Named(name(at, map)?))
}

fn read_allowed(at: &str, map: &Map<String, Value>) -> Read<Choice> {
    check::only(at, map, ["type", "mode", "tools"].into_iter())?;
    let choice = match map.get("mode").and_then(Value::as_str) {
        Some("auto") => ToolChoice::Auto,
        Some("required") => ToolChoice::Required,
        _ => return check::bad(&format!("{at}.mode"), "must be \"auto\" or \"required\""),
    };
    let at = format!("{at}.tools");
    let Some(tools) = map.get("tools") else { return check::bad(&at, "is missing") };
    let read = |(i, tool): (usize, &Value)| {
        let at = format!("{at}[{i}]");
        let map = check::object(&at, tool)?;
        function(&at, map, "only functions are allowed by name")?;
        check::only(&at, map, ["type", "name"].into_iter())?;
        name(&at, map)
    };
    let among = check::array(&at, tools, TOOLS_MAX)?.iter().enumerate().map(read);
    Ok(Choice { choice, among: Some(among.collect::<Read<_>>()?) })
}

impl Choice {
    /// Makes the choice: a model is told only of tools that it may call.
    pub(super) fn make(self, chat: &mut Chat) -> Read<()> {
        chat.tool_choice = self.choice;
        let Some(among) = self.among else { return Ok(()) };
        let absent = among.iter().find(|name| chat.tools.iter().all(|tool| tool.name != **name));
        if let Some(name) = absent {
            let name: String = name.chars().take(64).collect();
            return check::bad("tool_choice", format!("allows a tool {name:?} that is not there"));
        }
        chat.tools.retain(|tool| among.contains(&tool.name));
        Ok(())
    }
}
