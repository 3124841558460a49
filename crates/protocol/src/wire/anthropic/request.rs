//! Requests written: what a client of another server that speaks this format sends. Turns become
//! blocks again, results of tools a user's turn. What the format has no words for is refused before
//! (`speak::losses`). Thoughts of earlier turns are left out, since servers take back only those
//! that they signed. Absent: citations, documents, and marks for caches.

use serde_json::{Map, Value, json};

use crate::wire::ask;
use crate::wire::check::{self, Read};
use crate::wire::openai::short;
use crate::wire::pictures::{self, Part};
use crate::wire::speak::losses::{self, Target};
use crate::wire::tools::parse;
use crate::{Chat, Grammar, Message, Picture, Reasoning, Request, Source, Tool, ToolChoice};

/// A request's body.
pub(in crate::wire) fn write_request(request: &Request, model: &str, stream: bool) -> Read<String> {
    let chat = losses::said(Target::Messages, request)?;
    let Some(most) = request.max_tokens else {
        let why = "is needed to ask this model's server, whose format (messages) has no answer \
                   without a limit";
        return check::bad("max_tokens", why);
    };
    let mut body = Map::new();
    body.insert("model".into(), json!(model));
    body.insert("max_tokens".into(), json!(most));
    write_turns(&mut body, chat)?;
    write_tools(&mut body, chat)?;
    write_thinking(&mut body, &chat.reasoning);
    write_format(&mut body, request)?;
    let sampling = &request.sampling;
    if sampling.temperature != 1.0 {
        if sampling.temperature > 1.0 {
            let why = "is at most 1 in the format of this model's server (messages)";
            return check::bad("temperature", why);
        }
        body.insert("temperature".into(), short(sampling.temperature));
    }
    if sampling.top_p != 1.0 {
        body.insert("top_p".into(), short(sampling.top_p));
    }
    if sampling.top_k != 0 {
        body.insert("top_k".into(), json!(sampling.top_k));
    }
    if !request.stop.is_empty() {
        body.insert("stop_sequences".into(), json!(request.stop));
    }
    if stream {
        body.insert("stream".into(), json!(true));
    }
    Ok(Value::Object(body).to_string())
}

fn write_turns(body: &mut Map<String, Value>, chat: &Chat) -> Read<()> {
    let system = chat.messages.iter().take_while(|turn| turn.role == "system").count();
    let (system, turns) = chat.messages.split_at(system);
    match system {
        [] => {}
        [one] => drop(body.insert("system".into(), json!(one.content))),
        more => {
            let blocks = more.iter().map(|turn| json!({ "type": "text", "text": turn.content }));
            body.insert("system".into(), blocks.collect());
        }
    }
    let last = turns.last();
    if last.is_some_and(|turn| turn.role == "assistant") && !chat.continue_final {
        let why = "end with an assistant's turn, which this model's server would go on with: ask \
                   for that with 'continue_final_message', or end with a user's turn";
        return check::bad("messages", why);
    }
    let mut messages: Vec<Value> = Vec::new();
    // Results of tools that follow each other are one turn.
    let mut results = false;
    for (i, turn) in turns.iter().enumerate() {
        let at = format!("messages[{}]", i + system.len());
        let (role, content) = match turn.role.as_str() {
            "user" => ("user", write_content(turn)),
            "assistant" => ("assistant", write_answer(turn)),
            "tool" => ("user", json!([write_result(&at, turn)?])),
            "system" => {
                let why = "is the system's behind others: this model's server has the system's \
                           turns first";
                return check::bad(&at, why);
            }
            _ => return check::bad(&at, "has a role that this model's server does not know"),
        };
        let result = turn.role == "tool";
        match (messages.last_mut(), content) {
            (Some(before), Value::Array(blocks)) if results && result => {
                if let Some(told) = before["content"].as_array_mut() {
                    told.extend(blocks);
                }
            }
            (_, content) => messages.push(json!({ "role": role, "content": content })),
        }
        results = result;
    }
    body.insert("messages".into(), messages.into());
    Ok(())
}

/// A text, or blocks where there are pictures.
fn write_content(turn: &Message) -> Value {
    if turn.pictures.is_empty() { json!(turn.content) } else { write_blocks(turn).into() }
}

fn write_blocks(turn: &Message) -> Vec<Value> {
    let parts = pictures::parts(turn).into_iter();
    // An empty block is refused by the format's own servers.
    let parts = parts.filter(|part| *part != Part::Text(""));
    let write = |part: Part<'_>| match part {
        Part::Text(text) => json!({ "type": "text", "text": text }),
        Part::Picture(picture) => json!({ "type": "image", "source": write_source(picture) }),
    };
    parts.map(write).collect()
}

fn write_source(picture: &Picture) -> Value {
    match &picture.source {
        Source::Url(url) => json!({ "type": "url", "url": url }),
        Source::Base64(data) => {
            json!({ "type": "base64", "media_type": pictures::media(picture), "data": data })
        }
    }
}

fn write_answer(turn: &Message) -> Value {
    if turn.tool_calls.is_empty() {
        return json!(turn.content);
    }
    let calls = turn.tool_calls.iter().map(|call| {
        let input = ask::arguments(&call.arguments);
        json!({ "type": "tool_use", "id": call.id, "name": call.name, "input": input })
    });
    write_blocks(turn).into_iter().chain(calls).collect()
}

fn write_result(at: &str, turn: &Message) -> Read<Value> {
    let Some(id) = &turn.tool_call_id else {
        let why = "is missing: this model's server tells results of tools by their calls' ids";
        return check::bad(&format!("{at}.tool_call_id"), why);
    };
    Ok(json!({ "type": "tool_result", "tool_use_id": id, "content": write_content(turn) }))
}

fn write_tools(body: &mut Map<String, Value>, chat: &Chat) -> Read<()> {
    if chat.tools.is_empty() {
        return Ok(());
    }
    let tools: Read<Vec<Value>> = chat.tools.iter().map(write_tool).collect();
    body.insert("tools".into(), tools?.into());
    let mut choice = match &chat.tool_choice {
        ToolChoice::Auto if !chat.one_call => return Ok(()),
        ToolChoice::Auto => json!({ "type": "auto" }),
        ToolChoice::None => json!({ "type": "none" }),
        ToolChoice::Required => json!({ "type": "any" }),
        ToolChoice::Named(name) => json!({ "type": "tool", "name": name }),
    };
    if chat.one_call && chat.tool_choice != ToolChoice::None {
        choice["disable_parallel_tool_use"] = json!(true);
    }
    body.insert("tool_choice".into(), choice);
    Ok(())
}

fn write_tool(tool: &Tool) -> Read<Value> {
    let mut out = json!({ "name": tool.name });
    if let Some(description) = &tool.description {
        out["description"] = json!(description);
    }
    // A tool without arguments has a schema all the same.
    out["input_schema"] = match tool.parameters.as_str() {
        "" => json!({ "type": "object" }),
        text => parse("tools", text)?,
    };
    if tool.strict {
        out["strict"] = json!(true);
    }
    Ok(out)
}

/// Not to think is what the format does where nothing is said.
fn write_thinking(body: &mut Map<String, Value>, reasoning: &Reasoning) {
    let thinking = match (reasoning.on, reasoning.budget_tokens) {
        (Some(false), _) | (None, None) => None,
        (_, Some(budget)) => Some(json!({ "type": "enabled", "budget_tokens": budget })),
        (Some(true), None) => Some(json!({ "type": "adaptive" })),
    };
    if let Some(thinking) = thinking {
        body.insert("thinking".into(), thinking);
    }
    if let Some(effort) = reasoning.effort {
        body.insert("output_config".into(), json!({ "effort": effort.name() }));
    }
}

fn write_format(body: &mut Map<String, Value>, request: &Request) -> Read<()> {
    let Some(Grammar::JsonSchema(text)) = &request.grammar else { return Ok(()) };
    let schema = parse("response_format", text)?;
    let config = body.entry("output_config").or_insert_with(|| json!({}));
    config["format"] = json!({ "type": "json_schema", "schema": schema });
    Ok(())
}
