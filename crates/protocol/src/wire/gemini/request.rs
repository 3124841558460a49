//! Requests written: turns become contents of parts, the system's an instruction. What the format
//! has no words for is refused before (`speak::losses`). The model's name and whether the answer is
//! streamed stand in the path, which is the client's.

use serde_json::{Map, Value, json};

use crate::wire::ask;
use crate::wire::check::{self, Read};
use crate::wire::openai::short;
use crate::wire::pictures::{self, Part};
use crate::wire::speak::losses::{self, Target};
use crate::wire::tools::parse;
use crate::{Chat, Grammar, Message, Reasoning, Request, Sampling, Source, Tool, ToolChoice};

/// What stands for a signature of a call that another model made, or that came through a format
/// which has no room for one: the format's own servers take it in such a one's place.
const UNSIGNED: &str = "skip_thought_signature_validator";

/// A request's body.
pub(in crate::wire) fn write_request(request: &Request) -> Read<String> {
    let chat = losses::said(Target::Gemini, request)?;
    let mut body = Map::new();
    write_turns(&mut body, chat)?;
    write_tools(&mut body, chat)?;
    let config = config(request, &chat.reasoning)?;
    if !config.is_empty() {
        body.insert("generationConfig".into(), config.into());
    }
    Ok(Value::Object(body).to_string())
}

fn write_turns(body: &mut Map<String, Value>, chat: &Chat) -> Read<()> {
    let system = chat.messages.iter().take_while(|turn| turn.role == "system").count();
    let (system, turns) = chat.messages.split_at(system);
    if !system.is_empty() {
        let parts: Value = system.iter().map(|turn| json!({ "text": turn.content })).collect();
        body.insert("systemInstruction".into(), json!({ "parts": parts }));
    }
    let mut contents: Vec<Value> = Vec::new();
    // Results of tools that follow each other are one turn.
    let mut results = false;
    for (i, turn) in turns.iter().enumerate() {
        let at = format!("messages[{}]", i + system.len());
        let (role, parts) = match turn.role.as_str() {
            "user" => ("user", write_parts(turn)),
            "assistant" => ("model", write_answer(turn)),
            "tool" => ("user", vec![write_result(&at, turn, &turns[..i])?]),
            "system" => {
                let why = "is the system's behind others: this model's server has the system's \
                           turns first";
                return check::bad(&at, why);
            }
            _ => return check::bad(&at, "has a role that this model's server does not know"),
        };
        let result = turn.role == "tool";
        match contents.last_mut().and_then(|before| before["parts"].as_array_mut()) {
            Some(before) if results && result => before.extend(parts),
            _ => contents.push(json!({ "role": role, "parts": parts })),
        }
        results = result;
    }
    body.insert("contents".into(), contents.into());
    Ok(())
}

/// A turn has one part at least.
fn write_parts(turn: &Message) -> Vec<Value> {
    let write = |part: Part<'_>| match part {
        Part::Text(text) => json!({ "text": text }),
        Part::Picture(picture) => match &picture.source {
            Source::Base64(data) => {
                json!({ "inlineData": { "mimeType": pictures::media(picture), "data": data } })
            }
            Source::Url(url) if picture.media.is_empty() => {
                json!({ "fileData": { "fileUri": url } })
            }
            Source::Url(url) => {
                json!({ "fileData": { "mimeType": picture.media, "fileUri": url } })
            }
        },
    };
    let mut parts: Vec<Value> = pictures::parts(turn).into_iter().map(write).collect();
    if parts.is_empty() && turn.tool_calls.is_empty() {
        parts.push(json!({ "text": "" }));
    }
    parts
}

fn write_answer(turn: &Message) -> Vec<Value> {
    let mut parts = write_parts(turn);
    for (i, call) in turn.tool_calls.iter().enumerate() {
        let args = ask::arguments(&call.arguments);
        let mut part = json!({ "functionCall": { "name": call.name, "args": args } });
        // The first call of a turn is the one that is signed.
        if i == 0 {
            part["thoughtSignature"] = json!(UNSIGNED);
        }
        parts.push(part);
    }
    parts
}

/// A result has the name of its tool: its own, or that of the call that it answers.
fn write_result(at: &str, turn: &Message, before: &[Message]) -> Read<Value> {
    let mut calls = before.iter().rev().flat_map(|turn| &turn.tool_calls);
    let called = calls.find(|call| turn.tool_call_id.as_deref() == Some(&*call.id));
    let Some(name) = called.map(|call| &call.name).or(turn.name.as_ref()) else {
        let why = "names no call of an earlier message, and this model's server has to be told \
                   which tool it was";
        return check::bad(&format!("{at}.tool_call_id"), why);
    };
    let response = json!({ "output": turn.content });
    Ok(json!({ "functionResponse": { "name": name, "response": response } }))
}

fn write_tools(body: &mut Map<String, Value>, chat: &Chat) -> Read<()> {
    if chat.tools.is_empty() {
        return Ok(());
    }
    let tools: Read<Vec<Value>> = chat.tools.iter().map(write_tool).collect();
    body.insert("tools".into(), json!([{ "functionDeclarations": tools? }]));
    let strict = chat.offered().iter().any(|tool| tool.strict);
    let config = match &chat.tool_choice {
        // A mode in which calls match their schemas, made or not.
        ToolChoice::Auto if strict => json!({ "mode": "VALIDATED" }),
        ToolChoice::Auto => return Ok(()),
        ToolChoice::None => json!({ "mode": "NONE" }),
        ToolChoice::Required => json!({ "mode": "ANY" }),
        ToolChoice::Named(name) => json!({ "mode": "ANY", "allowedFunctionNames": [name] }),
    };
    body.insert("toolConfig".into(), json!({ "functionCallingConfig": config }));
    Ok(())
}

fn write_tool(tool: &Tool) -> Read<Value> {
    let mut out = json!({ "name": tool.name });
    if let Some(description) = &tool.description {
        out["description"] = json!(description);
    }
    if !tool.parameters.is_empty() {
        out["parametersJsonSchema"] = parse("tools", &tool.parameters)?;
    }
    Ok(out)
}

fn config(request: &Request, reasoning: &Reasoning) -> Read<Map<String, Value>> {
    let (sampling, usual) = (&request.sampling, Sampling::default());
    let mut out = Map::new();
    let numbers = [
        ("temperature", sampling.temperature, usual.temperature),
        ("topP", sampling.top_p, usual.top_p),
        ("presencePenalty", sampling.presence_penalty, usual.presence_penalty),
        ("frequencyPenalty", sampling.frequency_penalty, usual.frequency_penalty),
    ];
    let given = numbers.into_iter().filter(|row| row.1 != row.2);
    out.extend(given.map(|(name, value, _)| (name.to_owned(), short(value))));
    if sampling.top_k != 0 {
        out.insert("topK".into(), json!(sampling.top_k));
    }
    if let Some(seed) = sampling.seed {
        // The format's seeds have 32 bits.
        let Ok(seed) = i32::try_from(seed.cast_signed()) else {
            let why = "has to fit 32 bits for this model's server (Gemini)";
            return check::bad("seed", why);
        };
        out.insert("seed".into(), json!(seed));
    }
    if let Some(most) = request.max_tokens {
        out.insert("maxOutputTokens".into(), json!(most));
    }
    if !request.stop.is_empty() {
        out.insert("stopSequences".into(), json!(request.stop));
    }
    if let Some(Grammar::JsonSchema(text)) = &request.grammar {
        out.insert("responseMimeType".into(), json!("application/json"));
        out.insert("responseJsonSchema".into(), parse("response_format", text)?);
    }
    if let Some(thinking) = write_thinking(reasoning) {
        out.insert("thinkingConfig".into(), thinking);
    }
    Ok(out)
}

/// Nothing where nothing is asked for: models that do not think take no such words, and some that
/// do cannot be told not to.
fn write_thinking(reasoning: &Reasoning) -> Option<Value> {
    let Reasoning { on, effort, budget_tokens } = reasoning;
    if *on == Some(false) || (*on, *effort, *budget_tokens) == (None, None, None) {
        return None;
    }
    let mut out = json!({ "includeThoughts": true });
    if let Some(effort) = effort {
        out["thinkingLevel"] = json!(effort.name());
    }
    if let Some(budget) = budget_tokens {
        out["thinkingBudget"] = json!(budget);
    }
    Some(out)
}
