//! Requests written: what a client of another server that speaks this format sends. Sampling and
//! what else is the chat's is written as a chat has it; turns become items, and what stands
//! elsewhere here is moved. Nothing is to be kept there. Absent: responses that build on earlier
//! ones, since all turns are sent.

use serde_json::{Map, Value, json};

use crate::wire::check::{self, Read};
use crate::wire::pictures::{self, Part};
use crate::wire::speak::{body as chat_body, losses::Target};
use crate::wire::tools::parse;
use crate::{Chat, Format, Input, Message, Request, Tool, ToolChoice};

/// A request's body; `hosted` says that OpenAI's own servers are asked.
pub(in crate::wire) fn write_request(
    request: &Request,
    model: &str,
    stream: bool,
    hosted: bool,
) -> Read<String> {
    let target = Target::of(Format::Responses, hosted);
    let mut body = chat_body(target, request, model, stream)?;
    let Input::Chat(chat) = &request.input else {
        return check::bad("messages", "must be a conversation");
    };
    for name in ["messages", "tools", "tool_choice", "stream_options"] {
        body.shift_remove(name);
    }
    body.insert("input".into(), write_items(chat, hosted)?.into());
    write_tools(&mut body, chat)?;
    for (old, new) in
        [("max_tokens", "max_output_tokens"), ("max_completion_tokens", "max_output_tokens")]
    {
        if let Some(value) = body.shift_remove(old) {
            body.insert(new.into(), value);
        }
    }
    if let Some(effort) = body.shift_remove("reasoning_effort") {
        body.insert("reasoning".into(), json!({ "effort": effort }));
    }
    if let Some(format) = body.shift_remove("response_format") {
        body.insert("text".into(), json!({ "format": flat(format) }));
    }
    if body.shift_remove("logprobs").is_some() {
        body.insert("include".into(), json!(["message.output_text.logprobs"]));
        // None is what is told where none is asked for.
        if body.get("top_logprobs") == Some(&json!(0)) {
            body.shift_remove("top_logprobs");
        }
    }
    body.insert("store".into(), json!(false));
    Ok(Value::Object(body).to_string())
}

/// What stands in `json_schema` elsewhere stands beside the type.
fn flat(mut format: Value) -> Value {
    let Some(Value::Object(inner)) = format.as_object_mut().and_then(|it| it.remove("json_schema"))
    else {
        return format;
    };
    let mut out = Map::from_iter([("type".to_owned(), json!("json_schema"))]);
    out.extend(inner);
    out.into()
}

fn write_tools(body: &mut Map<String, Value>, chat: &Chat) -> Read<()> {
    if !chat.tools.is_empty() {
        let tools: Read<Vec<Value>> = chat.tools.iter().map(write_tool).collect();
        body.insert("tools".into(), tools?.into());
    }
    let choice = match &chat.tool_choice {
        ToolChoice::Auto => return Ok(()),
        ToolChoice::None => json!("none"),
        ToolChoice::Required => json!("required"),
        ToolChoice::Named(name) => json!({ "type": "function", "name": name }),
    };
    body.insert("tool_choice".into(), choice);
    Ok(())
}

/// Whether it is strict is always said, since OpenAI's servers take a tool for strict otherwise.
fn write_tool(tool: &Tool) -> Read<Value> {
    let mut out = json!({ "type": "function", "name": tool.name });
    if let Some(description) = &tool.description {
        out["description"] = json!(description);
    }
    out["parameters"] = match tool.parameters.as_str() {
        "" => Value::Null,
        text => parse("tools", text)?,
    };
    out["strict"] = json!(tool.strict);
    Ok(out)
}

/// A turn's items: what was thought, said and called. OpenAI's own servers take no thoughts but
/// their own.
fn write_items(chat: &Chat, hosted: bool) -> Read<Vec<Value>> {
    let mut out = Vec::new();
    for (i, turn) in chat.messages.iter().enumerate() {
        let at = format!("messages[{i}]");
        match turn.role.as_str() {
            "assistant" => write_answer(&mut out, turn, hosted),
            "tool" => {
                let Some(id) = &turn.tool_call_id else {
                    let why = "is missing: this model's server tells results of tools by their \
                               calls' ids";
                    return check::bad(&format!("{at}.tool_call_id"), why);
                };
                let output = write_content(turn);
                let kind = "function_call_output";
                out.push(json!({ "type": kind, "call_id": id, "output": output }));
            }
            role @ ("user" | "system") => {
                let content = write_content(turn);
                out.push(json!({ "type": "message", "role": role, "content": content }));
            }
            _ => return check::bad(&at, "has a role that this model's server does not know"),
        }
    }
    Ok(out)
}

fn write_answer(out: &mut Vec<Value>, turn: &Message, hosted: bool) {
    let thought = turn.reasoning.as_ref().filter(|_| !hosted);
    if let Some(text) = thought {
        let content = json!([{ "type": "reasoning_text", "text": text }]);
        out.push(json!({ "type": "reasoning", "summary": [], "content": content }));
    }
    if !turn.content.is_empty() || turn.tool_calls.is_empty() {
        let content = json!([{ "type": "output_text", "text": turn.content }]);
        out.push(json!({ "type": "message", "role": "assistant", "content": content }));
    }
    out.extend(turn.tool_calls.iter().map(|call| {
        json!({
            "type": "function_call",
            "call_id": call.id,
            "name": call.name,
            "arguments": call.arguments,
        })
    }));
}

/// A text, or parts where there are pictures.
fn write_content(turn: &Message) -> Value {
    if turn.pictures.is_empty() {
        return json!(turn.content);
    }
    let write = |part: Part<'_>| match part {
        Part::Text(text) => json!({ "type": "input_text", "text": text }),
        Part::Picture(picture) => {
            let url = pictures::to_url(picture);
            let detail = picture.detail.as_deref();
            match detail {
                Some(detail) => {
                    json!({ "type": "input_image", "image_url": url, "detail": detail })
                }
                None => json!({ "type": "input_image", "image_url": url }),
            }
        }
    };
    pictures::parts(turn).into_iter().map(write).collect()
}
