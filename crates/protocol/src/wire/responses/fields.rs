//! The table of this format's own request fields, the names of those that it shares with the chat,
//! and what no row can check alone. Absent: how the shared ones are read, which is the chat's.

use serde_json::{Map, Value, json};

use super::items::{self, Given};
use super::tools::{self, Choice};
use super::{Asked, Format, Open};
use crate::wire::check::{self, Read};
use crate::wire::constraint;
use crate::wire::openai;
use crate::wire::table::{self, Row, honoured, neutral, refused};
use crate::wire::values::{model, read_object, short, top};
use crate::{Chat, Fault, Input, Request};

type Field = table::Field<Draft, Format>;

/// A request while its fields are being read.
#[derive(Default)]
struct Draft {
    shared: openai::Draft,
    given: Option<Vec<Given>>,
    instructions: Option<String>,
    choice: Choice,
    logprobs: bool,
    summary: bool,
    store: Option<bool>,
    stream: bool,
    stream_options: bool,
    background: bool,
    previous: Option<String>,
}

/// Every field that `format` knows.
pub fn fields(format: Format) -> impl Iterator<Item = Row> {
    let shared: &[&str] = match format {
        Format::Create => SHARED,
        Format::Count => &["parallel_tool_calls"],
    };
    table::rows(FIELDS, format).chain(openai::shared(shared))
}

/// Reads a request's body, as far as it can be told without what it builds on. A fault names the
/// field and what is allowed.
pub fn read_open(body: &[u8]) -> Result<Open, Fault> {
    let body = read_object(body)?;
    let draft = read(Format::Create, &body)?;
    if draft.stream_options && !draft.stream {
        return check::bad("stream_options", "needs 'stream' to be true");
    }
    if draft.background && draft.store == Some(false) {
        let why = "needs 'store': what is computed in the background is kept to be fetched";
        return check::bad("background", why);
    }
    Ok(draft.open(&body))
}

/// Reads a request that builds on nothing that was kept, and is not kept itself.
pub fn read_request(body: &[u8]) -> Result<Asked, Fault> {
    let open = read_open(body)?;
    if open.previous().is_some() {
        return check::bad("previous_response_id", "names a response, and none is kept here");
    }
    if open.asked.store == Some(true) {
        return check::bad("store", "is for responses that are kept, and none is kept here");
    }
    let mut asked = open.close(&[], &[])?;
    asked.set_store(false);
    Ok(asked)
}

/// Reads the body of a request for the number of its input tokens. What is counted is the
/// [`Asked`]'s request.
pub fn read_count(body: &[u8]) -> Result<Open, Fault> {
    let body = read_object(body)?;
    Ok(read(Format::Count, &body)?.open(&body))
}

fn read(format: Format, body: &Map<String, Value>) -> Read<Draft> {
    let known = || fields(format).map(|row| row.name);
    if let Some(name) = body.keys().find(|name| !known().any(|known| known == name.as_str())) {
        return check::unknown("", name, known());
    }
    let shared = |name: &str| !table::rows(FIELDS, format).any(|row| row.name == name);
    let mut draft = Draft::default();
    let (mut own, mut rest) = (Map::new(), Map::new());
    for (name, value) in body {
        let part = if shared(name) { &mut rest } else { &mut own };
        part.insert(name.clone(), value.clone());
    }
    table::read_fields(FIELDS, format, "", &own, &mut draft)?;
    openai::read_shared(&rest, &mut draft.shared)?;
    let chat = &mut draft.shared.chat;
    openai::lift_thinking(chat)?;
    std::mem::take(&mut draft.choice).make(chat)?;
    chat.validate()?;
    if draft.given.is_none() && draft.previous.is_none() {
        return check::bad("input", "is missing");
    }
    if draft.given.as_ref().is_some_and(Vec::is_empty) && draft.previous.is_none() {
        return check::bad("input", "is empty; give at least one item");
    }
    Ok(draft)
}

impl Draft {
    fn open(mut self, body: &Map<String, Value>) -> Open {
        let frame = self.frame(body);
        let chat: Chat = std::mem::take(&mut self.shared.chat);
        if self.logprobs {
            self.shared.top_logprobs.get_or_insert(0);
        }
        let request: Request = self.shared.request(Input::Chat(chat));
        let asked = Asked {
            request,
            stream: self.stream,
            background: self.background,
            store: self.store,
            previous: self.previous,
            summary: self.summary,
            hide_reasoning: self.shared.options.hide_reasoning,
            frame,
            items: Vec::new(),
        };
        Open { asked, instructions: self.instructions, given: self.given.unwrap_or_default() }
    }

    /// What a response says of what was asked: the fields as they were given, and what holds where
    /// one was not.
    fn frame(&self, body: &Map<String, Value>) -> Map<String, Value> {
        let sampling = &self.shared.sampling;
        let usual = [
            ("background", json!(false)),
            ("instructions", Value::Null),
            ("max_output_tokens", Value::Null),
            ("max_tool_calls", Value::Null),
            ("metadata", json!({})),
            ("parallel_tool_calls", json!(true)),
            ("previous_response_id", Value::Null),
            ("prompt_cache_key", Value::Null),
            ("safety_identifier", Value::Null),
            ("store", json!(true)),
            ("temperature", openai::short(sampling.temperature)),
            ("tool_choice", json!("auto")),
            ("top_logprobs", json!(self.shared.top_logprobs.unwrap_or(0))),
            ("top_p", openai::short(sampling.top_p)),
            ("truncation", json!("disabled")),
            ("user", Value::Null),
        ];
        let given = |name: &str| body.get(name).filter(|value| !value.is_null()).cloned();
        let mut frame: Map<String, Value> = usual
            .into_iter()
            .map(|(name, usual)| (name.to_owned(), given(name).unwrap_or(usual)))
            .collect();
        let inner = |name: &str, key: &str| given(name).map_or(Value::Null, |v| v[key].clone());
        let summary = [inner("reasoning", "summary"), inner("reasoning", "generate_summary")];
        let summary = summary.into_iter().find(|value| !value.is_null());
        let effort = inner("reasoning", "effort");
        frame.insert("reasoning".into(), json!({ "effort": effort, "summary": summary }));
        frame.insert("service_tier".into(), json!("default"));
        let format = Some(inner("text", "format")).filter(|format| !format.is_null());
        let format = format.unwrap_or_else(|| json!({ "type": "text" }));
        frame.insert("text".into(), json!({ "format": format, "verbosity": "medium" }));
        frame.insert("tools".into(), given("tools").map_or(json!([]), with_all_keys));
        frame
    }
}

/// Clients read of each tool whether it is strict, and its parameters.
fn with_all_keys(tools: Value) -> Value {
    let Value::Array(mut tools) = tools else { return json!([]) };
    for tool in tools.iter_mut().filter_map(Value::as_object_mut) {
        tool.entry("parameters").or_insert(Value::Null);
        tool.entry("description").or_insert(Value::Null);
        let strict = tool.entry("strict").or_insert(Value::Null);
        if strict.is_null() {
            *strict = json!(false);
        }
    }
    tools.into()
}

const BOTH: &[Format] = &[Format::Create, Format::Count];
const CREATE: &[Format] = &[Format::Create];
const COUNT: &[Format] = &[Format::Count];
const HOSTED: &str = "a feature of OpenAI's hosted service";
const CACHE: &str = "prompts always share their prefixes' cache";
const WHOLE: &str = "input is never cut; shorten it before sending";
const CHAIN: &str = "there are no conversations of their own here; 'previous_response_id' goes on";

/// Fields of the chat's that mean the same here.
#[rustfmt::skip]
static SHARED: &[&str] = &[
    "temperature", "top_p", "top_k", "min_p", "typical_p", "repetition_penalty",
    "frequency_penalty", "presence_penalty", "logit_bias", "top_n_sigma", "dynatemp_range",
    "dynatemp_exponent", "xtc_probability", "xtc_threshold", "mirostat", "mirostat_tau",
    "mirostat_eta", "dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n",
    "dry_sequence_breakers", "allowed_token_ids", "bad_words", "stop_token_ids", "min_tokens",
    "seed", "ignore_eos", "stop", "structured_outputs", "guided_json", "guided_regex",
    "guided_choice", "guided_grammar", "grammar", "json_schema", "chat_template_kwargs",
    "thinking_token_budget", "include_reasoning", "parallel_tool_calls", "priority", "timeout_ms",
    "cache_salt", "keep_alive", "service_tier", "prompt_cache_retention", "request_id",
    "include_stop_str_in_output", "skip_special_tokens",
];

#[rustfmt::skip]
static FIELDS: &[Field] = &[
    honoured(BOTH, "model", |d, at, v| { d.shared.model = model(at, v)?; Ok(()) }),
    honoured(BOTH, "input", |d, at, v| { d.given = Some(items::read(at, v)?); Ok(()) }),
    honoured(BOTH, "instructions", |d, at, v| {
        d.instructions = Some(check::string(at, v)?.to_owned());
        Ok(())
    }),
    honoured(BOTH, "previous_response_id", |d, at, v| {
        d.previous = Some(short(at, check::string(at, v)?)?);
        Ok(())
    }),
    honoured(BOTH, "tools", |d, at, v| { d.shared.chat.tools = tools::read(at, v)?; Ok(()) }),
    honoured(BOTH, "tool_choice", |d, at, v| { d.choice = tools::read_choice(at, v)?; Ok(()) }),
    honoured(BOTH, "reasoning", reasoning),
    honoured(BOTH, "text", text),
    honoured(CREATE, "max_output_tokens", |d, at, v| {
        d.shared.max_tokens = Some(check::count(at, v, 1, u32::MAX)?);
        Ok(())
    }),
    honoured(CREATE, "top_logprobs", |d, at, v| {
        let most = top(at, v)?;
        d.shared.top_logprobs = (most > 0).then_some(most);
        Ok(())
    }),
    honoured(CREATE, "include", include),
    honoured(CREATE, "store", |d, at, v| { d.store = Some(check::boolean(at, v)?); Ok(()) }),
    honoured(CREATE, "background", |d, at, v| { d.background = check::boolean(at, v)?; Ok(()) }),
    honoured(CREATE, "stream", |d, at, v| { d.stream = check::boolean(at, v)?; Ok(()) }),
    honoured(CREATE, "stream_options", |d, at, v| {
        let map = check::object(at, v)?;
        check::only(at, map, ["include_obfuscation"].into_iter())?;
        if map.values().any(|value| !value.is_null() && *value != false) {
            let why = "is supported only as false: nothing is hidden from who reads the network";
            return check::bad(&format!("{at}.include_obfuscation"), why);
        }
        d.stream_options = true;
        Ok(())
    }),
    honoured(CREATE, "metadata", |_, at, v| metadata(at, v)),
    // Told again in the response, and nothing else is done with them: no tools run here, of whose
    // calls there could be too many.
    honoured(CREATE, "max_tool_calls", |_, at, v| check::count(at, v, 0, u32::MAX).map(drop)),
    honoured(CREATE, "user", label),
    honoured(CREATE, "safety_identifier", label),
    honoured(CREATE, "prompt_cache_key", label),
    neutral(BOTH, "truncation", &["\"disabled\""], WHOLE),
    neutral(CREATE, "prompt_cache_options", &["{}", "{\"mode\":\"implicit\"}"], CACHE),
    neutral(CREATE, "context_management", &["[]"], WHOLE),
    refused(BOTH, "conversation", CHAIN),
    refused(CREATE, "prompt", "prompts are not kept here; send the text"),
    refused(CREATE, "moderation", HOSTED),
    refused(CREATE, "access_programs", HOSTED),
    refused(CREATE, "image", "this server reads and writes text alone"),
    refused(CREATE, "max_tokens", "its name here is 'max_output_tokens'"),
    refused(CREATE, "messages", "their name here is 'input'"),
    refused(CREATE, "response_format", "its place here is 'text.format'"),
    refused(CREATE, "reasoning_effort", "its place here is 'reasoning.effort'"),
    refused(CREATE, "n", "a response is one answer"),
    refused(COUNT, "personality", HOSTED),
];

fn label(_: &mut Draft, at: &str, value: &Value) -> Read<()> {
    short(at, check::string(at, value)?).map(drop)
}

fn metadata(at: &str, value: &Value) -> Read<()> {
    const PAIRS: usize = 16;
    let map = check::object(at, value)?;
    if map.len() > PAIRS {
        return check::bad(at, format!("holds more than {PAIRS} pairs"));
    }
    for (key, value) in map {
        if key.len() > 64 {
            return check::bad(at, "has a key of more than 64 bytes");
        }
        if check::string(&format!("{at}.{key}"), value)?.len() > 512 {
            return check::bad(&format!("{at}.{key}"), "is longer than 512 bytes");
        }
    }
    Ok(())
}

/// What more a response is to tell. Thoughts are told as they are, so that nothing encrypted is
/// needed to send them back; of tools that do not run here there is nothing to tell.
fn include(draft: &mut Draft, at: &str, value: &Value) -> Read<()> {
    for (i, item) in check::array(at, value, 16)?.iter().enumerate() {
        let at = format!("{at}[{i}]");
        match check::string(&at, item)? {
            "message.output_text.logprobs" => draft.logprobs = true,
            "reasoning.encrypted_content" => {}
            _ => {
                let why = "is supported only as \"message.output_text.logprobs\" or \
                           \"reasoning.encrypted_content\": there is no more to tell here";
                return check::bad(&at, why);
            }
        }
    }
    Ok(())
}

/// Nothing is summarised: a summary is what was thought, all of it.
fn reasoning(draft: &mut Draft, at: &str, value: &Value) -> Read<()> {
    let map = check::object(at, value)?;
    let known = ["effort", "summary", "generate_summary", "context", "mode"];
    check::only(at, map, known.into_iter())?;
    for (key, value) in map.iter().filter(|pair| !pair.1.is_null()) {
        let at = format!("{at}.{key}");
        let text = check::string(&at, value)?;
        match (key.as_str(), text) {
            ("effort", _) => openai::reasoning_effort(&mut draft.shared, &at, value)?,
            ("summary" | "generate_summary", "auto" | "detailed") => draft.summary = true,
            ("summary" | "generate_summary", _) => {
                let why = "is supported only as \"auto\" or \"detailed\": nothing summarises \
                           here, so that the summary is what was thought";
                return check::bad(&at, why);
            }
            ("context", "auto") | ("mode", "standard") => {}
            ("context", _) => {
                let why = "is supported only as \"auto\": the model's chat template decides";
                return check::bad(&at, why);
            }
            _ => return check::bad(&at, "is supported only as \"standard\""),
        }
    }
    Ok(())
}

fn text(draft: &mut Draft, at: &str, value: &Value) -> Read<()> {
    let map = check::object(at, value)?;
    check::only(at, map, ["format", "verbosity"].into_iter())?;
    if map.get("verbosity").is_some_and(|value| !value.is_null() && value != "medium") {
        let why = "is supported only as \"medium\": no model here knows it; say it in a message";
        return check::bad(&format!("{at}.verbosity"), why);
    }
    match map.get("format").filter(|format| !format.is_null()) {
        Some(format) => {
            let at = format!("{at}.format");
            let grammar = constraint::text_format(&at, format)?;
            openai::constrain(&mut draft.shared, &at, grammar)
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_is_the_chats() {
        let rows: Vec<&str> = openai::shared(SHARED).map(|row| row.name).collect();
        assert_eq!(rows.len(), SHARED.len(), "each is a row of the chat's: {rows:?}");
        assert!(!FIELDS.iter().any(|field| SHARED.contains(&field.row.name)), "and none here");
    }
}
