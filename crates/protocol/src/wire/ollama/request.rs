//! Requests written: what a client of another server that speaks this format sends. A server's own
//! defaults of sampling are not this crate's, so that all numbers that have one are said. What the
//! format has no words for is refused before (`speak::losses`). Absent: a single prompt without a
//! conversation.

use serde_json::{Map, Value, json};

use crate::wire::ask;
use crate::wire::check::{self, Read};
use crate::wire::openai::short;
use crate::wire::speak::losses::{self, Target};
use crate::wire::tools::{self, parse};
use crate::{Grammar, KeepAlive, Message, Reasoning, Request, Sampling, Source};

/// A request's body.
pub(in crate::wire) fn write_request(request: &Request, model: &str, stream: bool) -> Read<String> {
    let chat = losses::said(Target::Ollama, request)?;
    let mut body = Map::new();
    body.insert("model".into(), json!(model));
    let turns: Read<Vec<Value>> = chat.messages.iter().map(write_turn).collect();
    body.insert("messages".into(), turns?.into());
    // Tools that may not be called are not told of: the format has no choice among them.
    if !chat.offered().is_empty() {
        body.insert("tools".into(), tools::write(&chat.tools)?);
    }
    if let Some(think) = write_thinking(&chat.reasoning) {
        body.insert("think".into(), think);
    }
    if let Some(Grammar::JsonSchema(text)) = &request.grammar {
        body.insert("format".into(), write_format(text)?);
    }
    body.insert("options".into(), Value::Object(options(request)));
    body.insert("stream".into(), json!(stream));
    match request.keep_alive {
        Some(KeepAlive::Forever) => drop(body.insert("keep_alive".into(), json!(-1))),
        Some(time) => drop(body.insert("keep_alive".into(), json!(time.to_string()))),
        None => {}
    }
    if let Some(top) = request.logprobs {
        body.insert("logprobs".into(), json!(true));
        body.insert("top_logprobs".into(), json!(top));
    }
    Ok(Value::Object(body).to_string())
}

fn write_turn(turn: &Message) -> Read<Value> {
    let mut out = json!({ "role": turn.role, "content": turn.content });
    if let Some(thought) = turn.reasoning.as_ref().filter(|text| !text.is_empty()) {
        out["thinking"] = json!(thought);
    }
    if let Some(name) = &turn.name {
        out["tool_name"] = json!(name);
    }
    if let Some(id) = &turn.tool_call_id {
        out["tool_call_id"] = json!(id);
    }
    if !turn.tool_calls.is_empty() {
        let write = |call: &crate::ToolCall| {
            let arguments = ask::arguments(&call.arguments);
            let function = json!({ "name": call.name, "arguments": arguments });
            json!({ "id": call.id, "function": function })
        };
        out["tool_calls"] = turn.tool_calls.iter().map(write).collect();
    }
    if !turn.pictures.is_empty() {
        let data = turn.pictures.iter().map(|picture| match &picture.source {
            Source::Base64(data) => Ok(json!(data)),
            Source::Url(_) => {
                check::bad("messages", "has a picture behind an address, where it has to be data")
            }
        });
        out["images"] = data.collect::<Read<Vec<Value>>>()?.into();
    }
    Ok(out)
}

/// An effort says that it thinks, too.
fn write_thinking(reasoning: &Reasoning) -> Option<Value> {
    match (reasoning.on, reasoning.effort) {
        (Some(false), _) => Some(json!(false)),
        (_, Some(effort)) => Some(json!(effort.name())),
        (on, None) => on.map(|on| json!(on)),
    }
}

fn write_format(schema: &str) -> Read<Value> {
    let schema = parse("response_format", schema)?;
    match schema {
        Value::Object(ref map) if map.len() == 1 && map.get("type") == Some(&json!("object")) => {
            Ok(json!("json"))
        }
        Value::Object(_) => Ok(schema),
        _ => check::bad("response_format", "must be an object for this model's server (Ollama)"),
    }
}

fn options(request: &Request) -> Map<String, Value> {
    let Request { sampling, .. } = request;
    let usual = Sampling::default();
    let mut out = Map::new();
    let always = [
        ("temperature", sampling.temperature),
        ("top_p", sampling.top_p),
        ("min_p", sampling.min_p),
        ("repeat_penalty", sampling.repetition_penalty),
    ];
    let rest = [
        ("typical_p", sampling.typical_p, usual.typical_p),
        ("presence_penalty", sampling.presence_penalty, usual.presence_penalty),
        ("frequency_penalty", sampling.frequency_penalty, usual.frequency_penalty),
        ("mirostat_tau", sampling.mirostat.tau, usual.mirostat.tau),
        ("mirostat_eta", sampling.mirostat.eta, usual.mirostat.eta),
    ];
    let given = rest.into_iter().filter(|row| row.1 != row.2).map(|row| (row.0, row.1));
    out.extend(always.into_iter().chain(given).map(|(name, value)| (name.into(), short(value))));
    out.insert("top_k".into(), json!(sampling.top_k));
    if sampling.repetition_penalty != 1.0 {
        out.insert("repeat_last_n".into(), json!(-1));
    }
    if sampling.mirostat.version != 0 {
        out.insert("mirostat".into(), json!(sampling.mirostat.version));
    }
    if let Some(seed) = sampling.seed {
        out.insert("seed".into(), json!(seed));
    }
    if !request.stop.is_empty() {
        out.insert("stop".into(), json!(request.stop));
    }
    if let Some(most) = request.max_tokens {
        out.insert("num_predict".into(), json!(most));
    }
    out
}
