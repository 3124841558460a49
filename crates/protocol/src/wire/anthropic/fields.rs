//! The table of request fields, and what no row can check alone. Sampling is Anthropic's by
//! default: temperature 1 and no cut. Thinking is off where it is not asked for.

use serde_json::{Map, Value};

use super::{Asked, Format, messages, tools};
use crate::wire::check::{self, Read};
use crate::wire::constraint;
use crate::wire::table::{self, Row, honoured, inert, neutral, refused};
use crate::wire::values::{model, read_object, set, stop};
use crate::{Chat, Effort, Fault, Grammar, Input, Message, Request, Sampling};

type Field = table::Field<Draft, Format>;

/// A request while its fields are being read.
#[derive(Default)]
struct Draft {
    model: String,
    system: String,
    chat: Chat,
    sampling: Sampling,
    stop: Vec<String>,
    max_tokens: Option<u32>,
    grammar: Option<Grammar>,
    stream: bool,
    omit_thinking: bool,
    /// Whether the model thinks is left to its chat template.
    adaptive: bool,
}

/// Every field that `format` knows.
pub fn fields(format: Format) -> impl Iterator<Item = Row> {
    table::rows(FIELDS, format)
}

/// Reads the body of a request for an answer. A fault names the field and what is allowed.
pub fn read_request(body: &[u8]) -> Result<Asked, Fault> {
    let draft = read(Format::Messages, body)?;
    let (stream, omit_thinking) = (draft.stream, draft.omit_thinking);
    let Some(most) = draft.max_tokens else { return check::bad("max_tokens", "is missing") };
    if draft.chat.reasoning.budget_tokens.is_some_and(|budget| budget >= most) {
        return check::bad("thinking.budget_tokens", "must be less than 'max_tokens'");
    }
    if draft.grammar.is_some() && !draft.chat.offered().is_empty() {
        let why = "cannot be had with an output format of the whole answer: set tool_choice to \
                   {\"type\": \"none\"}, or give the format as a tool's input_schema";
        return check::bad("tools", why);
    }
    let request = Request {
        model: draft.model,
        input: Input::Chat(draft.chat),
        sampling: draft.sampling,
        stop: draft.stop,
        max_tokens: Some(most),
        grammar: draft.grammar,
        ..Request::default()
    };
    Ok(Asked { request, stream, omit_thinking })
}

/// Reads the body of a request for the number of its tokens: a model's name, and a conversation.
pub fn read_count(body: &[u8]) -> Result<(String, Chat), Fault> {
    let draft = read(Format::Count, body)?;
    Ok((draft.model, draft.chat))
}

fn read(format: Format, body: &[u8]) -> Read<Draft> {
    let body: Map<String, Value> = read_object(body)?;
    let mut draft = Draft::default();
    table::read_fields(FIELDS, format, "", &body, &mut draft)?;
    if draft.chat.messages.is_empty() {
        return check::bad("messages", "is missing");
    }
    if !draft.system.is_empty() {
        let content = std::mem::take(&mut draft.system);
        let system = Message { role: "system".into(), content, ..Message::default() };
        draft.chat.messages.insert(0, system);
    }
    let last = draft.chat.messages.last();
    draft.chat.continue_final = last.is_some_and(|last| last.role == "assistant");
    if !draft.adaptive {
        draft.chat.reasoning.on.get_or_insert(false);
    }
    draft.chat.validate()?;
    Ok(draft)
}

const BOTH: &[Format] = &[Format::Messages, Format::Count];
const MESSAGES: &[Format] = &[Format::Messages];
const HOSTED: &str = "a feature of Anthropic's hosted service";
const RUNS: &str = "nothing is run here; give tools that the caller runs";

#[rustfmt::skip]
static FIELDS: &[Field] = &[
    honoured(BOTH, "model", |d, at, v| { d.model = model(at, v)?; Ok(()) }),
    honoured(BOTH, "messages", |d, at, v| { d.chat.messages = messages::read(at, v)?; Ok(()) }),
    honoured(BOTH, "system", |d, at, v| { d.system = messages::text(at, v)?; Ok(()) }),
    honoured(BOTH, "tools", |d, at, v| { d.chat.tools = tools::read(at, v)?; Ok(()) }),
    honoured(BOTH, "tool_choice", |d, at, v| {
        (d.chat.tool_choice, d.chat.one_call) = tools::read_choice(at, v)?;
        Ok(())
    }),
    honoured(BOTH, "thinking", thinking),
    honoured(BOTH, "output_config", output_config),
    honoured(BOTH, "output_format", |d, at, v| output_format(&mut d.grammar, at, v)),
    honoured(BOTH, "context_management", |_, at, v| context_management(at, v)),
    honoured(MESSAGES, "max_tokens", |d, at, v| {
        d.max_tokens = Some(check::count(at, v, 1, u32::MAX)?);
        Ok(())
    }),
    honoured(MESSAGES, "temperature", |d, at, v| set(&mut d.sampling.temperature, at, v, 0.0, 1.0)),
    honoured(MESSAGES, "top_p", |d, at, v| set(&mut d.sampling.top_p, at, v, 0.0, 1.0)),
    honoured(MESSAGES, "top_k", |d, at, v| {
        d.sampling.top_k = check::count(at, v, 0, u32::MAX)?;
        Ok(())
    }),
    honoured(MESSAGES, "stop_sequences", |d, at, v| {
        check::array(at, v, usize::MAX)?;
        d.stop = stop(at, v)?;
        Ok(())
    }),
    honoured(MESSAGES, "stream", |d, at, v| { d.stream = check::boolean(at, v)?; Ok(()) }),
    inert(MESSAGES, "metadata"),
    inert(BOTH, "user_profile_id"),
    inert(BOTH, "workspace_id"),
    neutral(MESSAGES, "diagnostics", &["{}", "{\"previous_message_id\":null}"], "requests are not compared"),
    // Prefixes are cached without being told to.
    inert(BOTH, "cache_control"),
    neutral(MESSAGES, "service_tier", &["\"auto\"", "\"standard_only\""], HOSTED),
    neutral(BOTH, "mcp_servers", &["[]"], RUNS),
    neutral(BOTH, "speed", &["\"standard\""], HOSTED),
    refused(MESSAGES, "container", RUNS),
    refused(MESSAGES, "inference_geo", "it is answered on this machine"),
];

/// `adaptive` leaves it to the model's chat template.
fn thinking(draft: &mut Draft, at: &str, value: &Value) -> Read<()> {
    let map = check::object(at, value)?;
    check::only(at, map, ["type", "budget_tokens", "display"].into_iter())?;
    let inner = |key: &str| format!("{at}.{key}");
    let given = |key: &str| map.get(key).filter(|value| !value.is_null());
    match given("display").map(|value| check::string(&inner("display"), value)).transpose()? {
        None | Some("summarized") => {}
        Some("omitted") => draft.omit_thinking = true,
        Some(_) => return check::bad(&inner("display"), "must be \"summarized\" or \"omitted\""),
    }
    let budget = given("budget_tokens");
    let budget = budget.map(|value| check::count(&inner("budget_tokens"), value, 1, u32::MAX));
    let reasoning = &mut draft.chat.reasoning;
    reasoning.on = match (map.get("type").and_then(Value::as_str), &budget) {
        (Some("enabled"), None) => return check::bad(&inner("budget_tokens"), "is missing"),
        (Some("enabled"), Some(_)) => Some(true),
        (Some("disabled" | "adaptive"), Some(_)) => {
            return check::bad(&inner("budget_tokens"), "belongs to type \"enabled\" alone");
        }
        (Some("disabled"), None) => Some(false),
        (Some("adaptive"), None) => None,
        _ => {
            let why = "must be \"enabled\", \"disabled\" or \"adaptive\"";
            return check::bad(&inner("type"), why);
        }
    };
    reasoning.budget_tokens = budget.transpose()?;
    draft.adaptive = reasoning.on.is_none();
    Ok(())
}

fn output_config(draft: &mut Draft, at: &str, value: &Value) -> Read<()> {
    let map = check::object(at, value)?;
    check::only(at, map, ["effort", "format"].into_iter())?;
    for (key, value) in map.iter().filter(|(_, value)| !value.is_null()) {
        let at = format!("{at}.{key}");
        if key == "format" {
            output_format(&mut draft.grammar, &at, value)?;
            continue;
        }
        let effort = Effort::named(check::string(&at, value)?);
        if effort.is_none() {
            let known = Effort::ALL.map(Effort::name).join(", ");
            return check::bad(&at, format!("must be one of {known}"));
        }
        draft.chat.reasoning.effort = effort;
    }
    Ok(())
}

fn output_format(place: &mut Option<Grammar>, at: &str, value: &Value) -> Read<()> {
    let map = check::object(at, value)?;
    check::only(at, map, ["type", "schema"].into_iter())?;
    if map.get("type").is_none_or(|kind| kind != "json_schema") {
        return check::bad(&format!("{at}.type"), "must be \"json_schema\"");
    }
    let at = format!("{at}.schema");
    match map.get("schema") {
        Some(schema) => constraint::one(&at, place, constraint::json_schema(&at, schema)?),
        None => check::bad(&at, "is missing"),
    }
}

/// Edits that drop what was thought in earlier turns change nothing here: chat templates decide
/// about that. No other part of a conversation is ever left out.
fn context_management(at: &str, value: &Value) -> Read<()> {
    const KNOWN: &str = "clear_thinking_20251015";
    let map = check::object(at, value)?;
    check::only(at, map, ["edits"].into_iter())?;
    let at = format!("{at}.edits");
    let edits = map.get("edits").map_or(Ok(&[][..]), |edits| check::array(&at, edits, 16))?;
    for (i, edit) in edits.iter().enumerate() {
        if edit["type"] != KNOWN {
            let why = format!("must be {KNOWN:?}: a conversation is never shortened here");
            return check::bad(&format!("{at}[{i}].type"), why);
        }
    }
    Ok(())
}
