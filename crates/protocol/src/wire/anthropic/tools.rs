//! Tools that the caller runs, and the choice among them. Tools that Anthropic runs, or whose
//! schema its models know by heart, are refused by name.

use serde_json::Value;

use crate::wire::check::{self, Read};
use crate::{Tool, ToolChoice};

/// At most this many tools.
const TOOLS_MAX: usize = 128;

/// Keys of a tool: those that are read, then those that are about the caller or a cache.
const KEYS: [&str; 9] = [
    "type",
    "name",
    "description",
    "input_schema",
    "strict",
    "cache_control",
    "eager_input_streaming",
    "defer_loading",
    "allowed_callers",
];

pub(super) fn read(at: &str, value: &Value) -> Read<Vec<Tool>> {
    let items = check::array(at, value, TOOLS_MAX)?;
    items.iter().enumerate().map(|(i, item)| read_one(&format!("{at}[{i}]"), item)).collect()
}

fn read_one(at: &str, value: &Value) -> Read<Tool> {
    let map = check::object(at, value)?;
    let given = |key: &str| map.get(key).filter(|value| !value.is_null());
    let inner = |key: &str| format!("{at}.{key}");
    if let Some(kind) = given("type").filter(|kind| *kind != "custom") {
        let kind: String = kind.as_str().unwrap_or_default().chars().take(64).collect();
        let why = "only tools of type \"custom\", with a schema of their own, are supported";
        return check::bad(&inner("type"), format!("is {kind:?}: {why}"));
    }
    check::only(at, map, KEYS.into_iter())?;
    if given("defer_loading").is_some_and(|value| *value != false) {
        return check::bad(&inner("defer_loading"), "is supported only as false: tools are told");
    }
    if given("allowed_callers").is_some_and(|value| *value != serde_json::json!(["direct"])) {
        let why = "is supported only as [\"direct\"]: only the model itself calls tools here";
        return check::bad(&inner("allowed_callers"), why);
    }
    let text = |key: &str| given(key).map(|value| check::string(&inner(key), value)).transpose();
    let Some(name) = text("name")? else { return check::bad(&inner("name"), "is missing") };
    let schema = inner("input_schema");
    let Some(parameters) = given("input_schema") else { return check::bad(&schema, "is missing") };
    check::object(&schema, parameters)?;
    let strict = given("strict").map(|value| check::boolean(&inner("strict"), value));
    Ok(Tool {
        name: name.to_owned(),
        description: text("description")?.map(str::to_owned),
        parameters: parameters.to_string(),
        strict: strict.transpose()?.unwrap_or(false),
    })
}

/// The choice, and whether at most one call is wanted.
pub(super) fn read_choice(at: &str, value: &Value) -> Read<(ToolChoice, bool)> {
    let map = check::object(at, value)?;
    let inner = |key: &str| format!("{at}.{key}");
    let kind = map.get("type").and_then(Value::as_str);
    let keys: &[&str] = match kind {
        Some("tool") => &["type", "name", "disable_parallel_tool_use"],
        Some("auto" | "any") => &["type", "disable_parallel_tool_use"],
        _ => &["type"],
    };
    let choice = match kind {
        Some("auto") => ToolChoice::Auto,
        Some("any") => ToolChoice::Required,
        Some("none") => ToolChoice::None,
        Some("tool") => match map.get("name") {
            Some(name) => ToolChoice::Named(check::string(&inner("name"), name)?.to_owned()),
            None => return check::bad(&inner("name"), "is missing"),
        },
        _ => {
            return check::bad(&inner("type"), "must be \"auto\", \"any\", \"tool\" or \"none\"");
        }
    };
    check::only(at, map, keys.iter().copied())?;
    let one = map.get("disable_parallel_tool_use").filter(|value| !value.is_null());
    let one = one.map(|value| check::boolean(&inner("disable_parallel_tool_use"), value));
    Ok((choice, one.transpose()?.unwrap_or(false)))
}
