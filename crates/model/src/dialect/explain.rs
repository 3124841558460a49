//! Tools told in words, for models whose template does not know them: what there is, how to call,
//! and what came back. The form of a call is the plain row's.

use ingle_protocol::{Chat, Message, Tool, ToolCall};
use serde_json::{Value, json};

pub(super) fn explain(chat: &Chat, apart: bool) -> Chat {
    let mut messages: Vec<Message> = Vec::new();
    for message in &chat.messages {
        let told = retold(message);
        // Templates want turns to alternate: what several tools said is one turn.
        match messages.last_mut() {
            Some(last) if message.role == "tool" && last.content.ends_with(RESULT_END) => {
                last.content = format!("{}\n{}", last.content, told.content);
            }
            _ => messages.push(told),
        }
    }
    if !chat.offered().is_empty() {
        instruct(&mut messages, words(chat.offered(), chat.one_call), apart);
    }
    Chat { messages, tools: Vec::new(), tool_choice: Default::default(), ..chat.clone() }
}

const RESULT_END: &str = "</tool_response>";

/// A turn without calls and tools.
fn retold(message: &Message) -> Message {
    let calls: Vec<String> = message.tool_calls.iter().map(call).collect();
    let plain = Message { tool_calls: Vec::new(), tool_call_id: None, ..message.clone() };
    if message.role == "tool" {
        let content = format!("<tool_response>\n{}\n{RESULT_END}", message.content);
        return Message { role: "user".into(), content, name: None, ..plain };
    }
    if calls.is_empty() {
        return plain;
    }
    let text = Some(message.content.as_str()).filter(|text| !text.is_empty());
    let parts: Vec<&str> = text.into_iter().chain(calls.iter().map(String::as_str)).collect();
    Message { content: parts.join("\n"), ..plain }
}

fn call(call: &ToolCall) -> String {
    let arguments: Value = serde_json::from_str(&call.arguments)
        .unwrap_or_else(|_| Value::String(call.arguments.clone()));
    let call = json!({ "name": call.name, "arguments": arguments });
    format!("<tool_call>\n{call}\n</tool_call>")
}

/// Into the system's turn, or a new one; `apart`, into the first user's.
fn instruct(messages: &mut Vec<Message>, words: String, apart: bool) {
    let role = if apart { "user" } else { "system" };
    match messages.iter_mut().find(|message| message.role == role) {
        Some(message) if apart => message.content = format!("{words}\n\n{}", message.content),
        Some(message) => message.content = format!("{}\n\n{words}", message.content),
        None => {
            let message = Message { role: role.into(), content: words, ..Message::default() };
            messages.insert(0, message);
        }
    }
}

fn words(tools: &[Tool], one_call: bool) -> String {
    let list: String = tools.iter().map(|tool| format!("{}\n", line(tool))).collect();
    let often = if one_call { "Make one call at most" } else { "Repeat this for more calls" };
    format!(
        "These tools can be called. Each line describes one as JSON.\n{list}\
         To call a tool, write this, with its name and its arguments:\n\
         <tool_call>\n{{\"name\": \"NAME\", \"arguments\": {{\"KEY\": VALUE}}}}\n</tool_call>\n\
         {often}; results come back within <tool_response> and {RESULT_END}. \
         Call a tool only if it helps, and answer in plain words otherwise."
    )
}

fn line(tool: &Tool) -> Value {
    let mut out = json!({ "name": tool.name });
    if let Some(description) = &tool.description {
        out["description"] = json!(description);
    }
    if let Ok(parameters) = serde_json::from_str::<Value>(&tool.parameters) {
        out["parameters"] = parameters;
    }
    out
}
