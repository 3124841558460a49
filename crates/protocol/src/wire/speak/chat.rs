//! Chats spoken to other servers: their requests are the ones that this crate writes for its own
//! server, but for a few names that are spelled in more places, and fewer fields where OpenAI's own
//! servers are asked. Absent: the fields themselves, and the reading of chunks.

use serde_json::{Map, Value, json};

use super::heard::Out;
use super::losses::{self, Target};
use super::{Hear, wrong};
use crate::wire::check::Read;
use crate::wire::openai::{self, Asked, DONE, Options, Reader};
use crate::wire::tools;
use crate::{Event, Fault, Format, Grammar, Input, Request};

/// A request's body.
pub(super) fn write(request: &Request, model: &str, stream: bool, hosted: bool) -> Read<String> {
    Ok(Value::Object(body(Target::of(Format::Chat, hosted), request, model, stream)?).to_string())
}

/// The same as an object: what the responses are made of, too.
pub(in crate::wire) fn body(
    target: Target,
    request: &Request,
    model: &str,
    stream: bool,
) -> Read<Map<String, Value>> {
    losses::said(target, request)?;
    let hosted = matches!(target, Target::OpenAiChat | Target::OpenAiResponses);
    let mut request = Request { model: model.to_owned(), ..request.clone() };
    if hosted {
        leave_out(&mut request);
    }
    let schema = match request.grammar.take() {
        Some(Grammar::JsonSchema(text)) => Some(response_format(&text)?),
        other => {
            request.grammar = other;
            None
        }
    };
    let options = Options { stream, include_usage: stream, ..Options::default() };
    let asked = Asked { requests: vec![request], options };
    let mut body = openai::write_body(openai::Format::Chat, &asked)?;
    if let Some(schema) = schema {
        body.insert("response_format".into(), schema);
    }
    if let Some(most) = body.get("max_tokens").cloned().filter(|_| hosted) {
        body.shift_remove("max_tokens");
        body.insert("max_completion_tokens".into(), most);
    }
    Ok(body)
}

/// What OpenAI's own servers do not know and nobody misses.
fn leave_out(request: &mut Request) {
    let usual = Request::default();
    (request.priority, request.timeout_ms) = (usual.priority, usual.timeout_ms);
    (request.keep_alive, request.cache_salt) = (usual.keep_alive, usual.cache_salt);
    if let Input::Chat(chat) = &mut request.input {
        chat.reasoning.on = None;
        chat.messages.iter_mut().for_each(|turn| turn.reasoning = None);
        // The tool's name, which its call tells.
        let tools = chat.messages.iter_mut().filter(|turn| turn.role == "tool");
        tools.for_each(|turn| turn.name = None);
    }
}

/// A schema under the name that all servers know.
fn response_format(schema: &str) -> Read<Value> {
    let schema = tools::parse("response_format", schema)?;
    if schema == json!({ "type": "object" }) {
        return Ok(json!({ "type": "json_object" }));
    }
    let named = json!({ "name": "answer", "schema": schema, "strict": true });
    Ok(json!({ "type": "json_schema", "json_schema": named }))
}

/// Hears a chat's answer.
pub(super) struct Heard {
    reader: Reader,
    done: bool,
}

impl Heard {
    pub(super) fn new() -> Self {
        Self { reader: Reader::foreign(openai::Format::Chat), done: false }
    }
}

impl Hear for Heard {
    fn read(&mut self, _: Option<&str>, data: &str) -> Result<Out, Fault> {
        if self.done {
            return Ok(Vec::new());
        }
        let only = |(index, event): (u32, Event)| match index {
            0 => Ok(event),
            _ => Err(wrong("the provider answers with more choices than the one asked for")),
        };
        let out = self.reader.read(data)?.into_iter().map(only).collect::<Result<Out, Fault>>()?;
        self.done = out.iter().any(|event| matches!(event, Event::Done(_)));
        Ok(out)
    }

    fn whole(&mut self, body: &str) -> Result<Out, Fault> {
        let mut out = self.read(None, body)?;
        out.extend(self.read(None, DONE)?);
        Ok(out)
    }

    fn end(&mut self) -> Result<Out, Fault> {
        if self.done { Ok(Vec::new()) } else { Err(super::heard::unfinished()) }
    }
}
