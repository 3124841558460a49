//! What a chat template sees: the conversation, its tools and how to reason, under the names that
//! published templates look for. Absent fields are absent, since templates test for them.

use crate::Error;
use ingle_protocol::{Chat, Message, Reasoning, Tool, ToolCall};
use serde_json::{Map, Value as Json, json};

/// All variables. The caller's own ones go before.
pub(super) fn of(chat: &Chat, prompt: bool, bos: &str, eos: &str) -> Result<Json, Error> {
    let fixed = json!({
        "messages": chat.messages.iter().map(message).collect::<Vec<_>>(),
        "tools": tools(chat.offered())?,
        "documents": null,
        "add_generation_prompt": prompt,
        "bos_token": bos,
        "eos_token": eos,
    });
    let Json::Object(mut variables) = fixed else { return Ok(fixed) };
    variables.extend(reasoning(&chat.reasoning));
    variables.extend(kwargs(chat)?.unwrap_or_default());
    Ok(Json::Object(variables))
}

/// `enable_thinking` is Qwen's and GLM's name, `thinking` DeepSeek's and Granite's,
/// `reasoning_effort` gpt-oss's.
fn reasoning(reasoning: &Reasoning) -> impl Iterator<Item = (String, Json)> {
    let on = ["enable_thinking", "thinking"]
        .into_iter()
        .filter_map(|name| reasoning.on.map(|on| (name.to_owned(), on.into())));
    let effort = reasoning.effort.map(|it| ("reasoning_effort".to_owned(), it.name().into()));
    on.chain(effort)
}

fn message(message: &Message) -> Json {
    let mut fields = Map::new();
    fields.insert("role".into(), message.role.as_str().into());
    fields.insert("content".into(), message.content.as_str().into());
    if let Some(reasoning) = &message.reasoning {
        fields.insert("reasoning_content".into(), reasoning.as_str().into());
    }
    if let Some(name) = &message.name {
        fields.insert("name".into(), name.as_str().into());
    }
    if !message.tool_calls.is_empty() {
        fields.insert("tool_calls".into(), message.tool_calls.iter().map(tool_call).collect());
    }
    if let Some(id) = &message.tool_call_id {
        fields.insert("tool_call_id".into(), id.as_str().into());
    }
    fields.into()
}

/// A call. Templates want its arguments as an object; text that is none stays text.
fn tool_call(call: &ToolCall) -> Json {
    let arguments = match serde_json::from_str(&call.arguments) {
        Ok(object @ Json::Object(_)) => object,
        _ => call.arguments.as_str().into(),
    };
    json!({
        "id": call.id,
        "type": "function",
        "function": { "name": call.name, "arguments": arguments },
    })
}

/// The tools as OpenAI writes them, or `null` without any.
fn tools(tools: &[Tool]) -> Result<Json, Error> {
    let tools: Vec<Json> = tools.iter().enumerate().map(tool).collect::<Result<_, _>>()?;
    Ok(if tools.is_empty() { Json::Null } else { tools.into() })
}

/// Templates print parameters without asking whether there are any.
fn tool((i, tool): (usize, &Tool)) -> Result<Json, Error> {
    let mut function = json!({ "name": tool.name });
    if let Some(description) = &tool.description {
        function["description"] = description.as_str().into();
    }
    function["parameters"] = match tool.parameters.as_str() {
        "" => json!({ "type": "object", "properties": {} }),
        text => serde_json::from_str(text).map_err(|error| {
            Error::Refused(format!("the parameters of tools[{i}] are no JSON: {error}"))
        })?,
    };
    Ok(json!({ "type": "function", "function": function }))
}

fn kwargs(chat: &Chat) -> Result<Option<Map<String, Json>>, Error> {
    if chat.template_kwargs.is_empty() {
        return Ok(None);
    }
    serde_json::from_str(&chat.template_kwargs).map(Some).map_err(|error| {
        Error::Refused(format!("the chat template's extra variables are no JSON object: {error}"))
    })
}
