//! An answer's events as content blocks. A stream opens a block, adds to it and closes it; a whole
//! answer is the sum of its blocks. How many tokens the prompt has is known at the end alone, so a
//! stream tells it there: its beginning counts none.

use serde_json::{Value, json};

use super::Asked;
use crate::wire::ask::{self, JSON, SSE, sse};
use crate::wire::relay::{self, Relay, Taken};
use crate::wire::{Dialect, Kind, Stamp, Writer, receipt};
use crate::{CallPart, Event, Fault, Finish, Receipt, Usage};

pub(super) struct Answer {
    id: String,
    model: String,
    streamed: bool,
    omit_thinking: bool,
    max_tokens: Option<u32>,
    begun: bool,
    complete: bool,
    /// Of a stream, only how many there are.
    closed: Vec<Block>,
    open: Option<Block>,
    relay: Relay,
}

/// A content block, as far as it is known.
enum Block {
    Text(String),
    Thinking(String),
    /// Its arguments are a JSON text.
    Call {
        id: String,
        name: String,
        arguments: String,
    },
}

impl Block {
    fn same(&self, other: &Self) -> bool {
        matches!(
            (self, other),
            (Self::Text(_), Self::Text(_)) | (Self::Thinking(_), Self::Thinking(_))
        )
    }

    fn content(&mut self) -> &mut String {
        match self {
            Self::Text(text) | Self::Thinking(text) => text,
            Self::Call { arguments, .. } => arguments,
        }
    }

    fn delta(&self, more: &str) -> Value {
        match self {
            Self::Text(_) => json!({ "type": "text_delta", "text": more }),
            Self::Thinking(_) => json!({ "type": "thinking_delta", "thinking": more }),
            Self::Call { .. } => json!({ "type": "input_json_delta", "partial_json": more }),
        }
    }

    /// The block as a whole answer has it, and empty where a stream opens it.
    fn write(&self) -> Value {
        match self {
            Self::Text(text) => json!({ "type": "text", "text": text }),
            Self::Thinking(text) => {
                json!({ "type": "thinking", "thinking": text, "signature": "" })
            }
            Self::Call { id, name, arguments } => {
                let input = ask::arguments(arguments);
                json!({ "type": "tool_use", "id": id, "name": name, "input": input })
            }
        }
    }
}

impl Answer {
    pub(super) fn new(asked: &Asked, stamp: Stamp) -> Self {
        Self {
            id: format!("msg_{}", stamp.id),
            relay: Relay::new(&relay::MESSAGES, &stamp.model, asked.stream),
            model: stamp.model,
            streamed: asked.stream,
            omit_thinking: asked.omit_thinking,
            max_tokens: asked.request.max_tokens,
            begun: false,
            complete: false,
            closed: Vec::new(),
            open: None,
        }
    }

    fn message(&self, content: Vec<Value>) -> Value {
        json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": null,
            "stop_sequence": null,
            "usage": write_usage(&Usage::default()),
        })
    }

    /// An event of the stream; nothing of a whole answer.
    fn event(&self, out: &mut String, data: &Value) {
        if self.streamed {
            out.push_str(&sse(data["type"].as_str(), &data.to_string()));
        }
    }

    fn begin(&mut self, out: &mut String) {
        if !std::mem::replace(&mut self.begun, true) {
            let message = self.message(Vec::new());
            self.event(out, &json!({ "type": "message_start", "message": message }));
        }
    }

    /// Adds to the open block where it is of the kind of `block`, an empty one; opens that
    /// otherwise.
    fn add(&mut self, out: &mut String, block: Block, more: &str) {
        if !self.open.as_ref().is_some_and(|open| open.same(&block)) {
            self.begin_block(out, block);
        }
        self.more(out, more);
    }

    fn begin_block(&mut self, out: &mut String, block: Block) {
        self.end_block(out);
        let index = self.closed.len();
        let empty = block.write();
        self.event(
            out,
            &json!({ "type": "content_block_start", "index": index, "content_block": empty }),
        );
        self.open = Some(block);
    }

    fn more(&mut self, out: &mut String, more: &str) {
        let Some(open) = &mut self.open else { return };
        if more.is_empty() {
            return;
        }
        if !self.streamed {
            open.content().push_str(more);
            return;
        }
        let delta = open.delta(more);
        self.delta(out, &delta);
    }

    fn delta(&self, out: &mut String, delta: &Value) {
        let index = self.closed.len();
        let data = json!({ "type": "content_block_delta", "index": index, "delta": delta });
        self.event(out, &data);
    }

    fn end_block(&mut self, out: &mut String) {
        let Some(open) = self.open.take() else { return };
        if matches!(open, Block::Thinking(_)) {
            self.delta(out, &json!({ "type": "signature_delta", "signature": "" }));
        }
        self.event(out, &json!({ "type": "content_block_stop", "index": self.closed.len() }));
        self.closed.push(open);
    }

    fn call(&mut self, out: &mut String, part: CallPart) {
        match part {
            CallPart::Begin { id, name } => {
                self.begin_block(out, Block::Call { id, name, arguments: String::new() });
            }
            CallPart::Arguments(more) => self.more(out, &more),
            CallPart::End => self.end_block(out),
        }
    }

    fn end(&mut self, out: &mut String, receipt: &Receipt) {
        self.end_block(out);
        self.complete = true;
        let (reason, stop) = (self.reason(receipt), &receipt.stop);
        let (usage, ingle) = (write_usage(&receipt.usage), receipt::to_value(receipt));
        if !self.streamed {
            let mut message = self.message(self.closed.iter().map(Block::write).collect());
            message["stop_reason"] = json!(reason);
            message["stop_sequence"] = json!(stop);
            message["usage"] = usage;
            message["ingle"] = ingle;
            out.push_str(&message.to_string());
            return;
        }
        let delta = json!({ "stop_reason": reason, "stop_sequence": stop });
        self.event(
            out,
            &json!({ "type": "message_delta", "delta": delta, "usage": usage, "ingle": ingle }),
        );
        self.event(out, &json!({ "type": "message_stop" }));
    }

    fn reason(&self, receipt: &Receipt) -> &'static str {
        match receipt.finish {
            Finish::ToolCalls => "tool_use",
            Finish::Stop if receipt.stop.is_some() => "stop_sequence",
            Finish::Stop | Finish::Cancelled => "end_turn",
            Finish::Length
                if self.max_tokens.is_some_and(|most| receipt.usage.completion_tokens < most) =>
            {
                "model_context_window_exceeded"
            }
            Finish::Length => "max_tokens",
        }
    }
}

/// Input tokens are those that no cache had and that were put into none. Only elsewhere do callers
/// pay for the latter, so here nothing counts as that.
fn write_usage(usage: &Usage) -> Value {
    let cached = usage.cached_tokens.saturating_add(usage.written_tokens);
    json!({
        "input_tokens": usage.prompt_tokens.saturating_sub(cached),
        "cache_creation_input_tokens": usage.written_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": { "thinking_tokens": usage.reasoning_tokens },
    })
}

impl Writer for Answer {
    fn take(&mut self, _: u32, event: Event) -> Result<String, Fault> {
        let event = match self.relay.take(event)? {
            Taken::Written(text) => return Ok(text),
            Taken::Ended(text) => {
                self.complete = true;
                return Ok(text);
            }
            Taken::Own(event) => event,
        };
        let mut out = String::new();
        self.begin(&mut out);
        match event {
            // Never asked for, and handed on before.
            Event::Prompt(_) | Event::Beams(_) | Event::Passed(_) => {}
            Event::Text(piece) if piece.text.is_empty() => {}
            Event::Text(piece) => self.add(&mut out, Block::Text(String::new()), &piece.text),
            Event::Reasoning(piece) => {
                let more = if self.omit_thinking { "" } else { &piece.text };
                self.add(&mut out, Block::Thinking(String::new()), more);
            }
            Event::ToolCall { part, .. } => self.call(&mut out, part),
            Event::Done(receipt) => self.end(&mut out, &receipt),
            Event::Failed(fault) => return Err(fault),
        }
        Ok(out)
    }

    fn complete(&self) -> bool {
        self.complete
    }

    fn failure(&self, kind: Kind, fault: &Fault) -> String {
        sse(Some("error"), &Dialect::Anthropic.write_error(kind, fault, ""))
    }

    fn beat(&self) -> &'static str {
        "event: ping\ndata: {\"type\": \"ping\"}\n\n"
    }

    fn content_type(&self) -> &'static str {
        if self.streamed { SSE } else { JSON }
    }
}
