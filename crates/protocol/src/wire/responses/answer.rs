//! An answer's events as output items. A stream opens an item, fills it and closes it, each step an
//! event with a number; its last event carries the response, which is all of a whole answer.

use serde_json::{Map, Value, json};

use super::{Asked, Status, items, kept};
use crate::wire::ask::{COMMENT, JSON, SSE, sse};
use crate::wire::relay::{self, Relay, Taken};
use crate::wire::{Kind, Stamp, Writer, openai, receipt};
use crate::{CallPart, Event, Fault, Finish, Piece, Receipt, Usage};

#[derive(Clone)]
pub(super) struct Answer {
    stamp: Stamp,
    streamed: bool,
    background: bool,
    summary: bool,
    hide_reasoning: bool,
    /// What the response says of what was asked for.
    frame: Map<String, Value>,
    /// The next event's number.
    sequence: u64,
    begun: bool,
    complete: bool,
    /// Items that are closed.
    output: Vec<Value>,
    open: Option<Item>,
    relay: Relay,
}

/// The item that is being filled.
#[derive(Clone)]
struct Item {
    id: String,
    what: What,
    text: String,
    scores: Vec<Value>,
}

#[derive(Clone, PartialEq, Eq)]
enum What {
    Message,
    Thought,
    Call { call_id: String, name: String },
}

impl What {
    fn kind(&self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Thought => "reasoning",
            Self::Call { .. } => "function_call",
        }
    }
}

/// How a part of text is called in its item, in its events, and where it stands.
struct Part {
    kind: &'static str,
    events: &'static str,
    added: &'static str,
    done: &'static str,
    place: &'static str,
}

const TEXT: Part = Part {
    kind: "output_text",
    events: "response.output_text",
    added: "response.content_part.added",
    done: "response.content_part.done",
    place: "content_index",
};
const THOUGHT: Part = Part { kind: "reasoning_text", events: "response.reasoning_text", ..TEXT };
const SUMMARY: Part = Part {
    kind: "summary_text",
    events: "response.reasoning_summary_text",
    added: "response.reasoning_summary_part.added",
    done: "response.reasoning_summary_part.done",
    place: "summary_index",
};

impl Answer {
    pub(super) fn new(asked: &Asked, stamp: Stamp) -> Self {
        Self {
            relay: Relay::new(&relay::RESPONSES, &stamp.model, asked.stream),
            stamp,
            streamed: asked.stream,
            background: asked.background,
            summary: asked.summary,
            hide_reasoning: asked.hide_reasoning,
            frame: asked.frame.clone(),
            sequence: if asked.background { 2 } else { 0 },
            begun: false,
            complete: false,
            output: Vec::new(),
            open: None,
        }
    }

    /// The events before the first one that is computed, where that is waited for.
    pub(super) fn opening(mut self) -> String {
        (self.streamed, self.sequence) = (true, 0);
        let mut out = String::new();
        self.tell(&mut out, "response.created", Status::Queued);
        self.tell(&mut out, "response.queued", Status::Queued);
        out
    }

    /// The response as it stands.
    fn response(&self, status: Status) -> Value {
        let mut out = json!({
            "id": kept::response_id(&self.stamp.id),
            "object": "response",
            "created_at": self.stamp.created_ms / 1000,
            "completed_at": null,
            "status": status.name(),
            "error": null,
            "incomplete_details": null,
            "model": self.stamp.model,
            "output": self.output,
            "usage": null,
        });
        for (name, value) in &self.frame {
            out[name] = value.clone();
        }
        out
    }

    /// An event of the stream; nothing of a whole answer.
    fn event(&mut self, out: &mut String, name: &str, data: Value) {
        if self.streamed {
            out.push_str(&numbered(name, data, self.sequence));
        }
        self.sequence += 1;
    }

    /// An event about the response.
    fn tell(&mut self, out: &mut String, name: &str, status: Status) {
        let response = self.response(status);
        self.event(out, name, json!({ "response": response }));
    }

    fn begin(&mut self, out: &mut String) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        if !self.background {
            self.tell(out, "response.created", Status::InProgress);
        }
        self.tell(out, "response.in_progress", Status::InProgress);
    }

    fn part(&self, what: &What) -> Option<&'static Part> {
        match what {
            What::Message => Some(&TEXT),
            What::Thought if self.summary => Some(&SUMMARY),
            What::Thought => Some(&THOUGHT),
            What::Call { .. } => None,
        }
    }

    /// An item, empty where it was just opened.
    fn item(&self, item: &Item, status: &str, parts: Vec<Value>) -> Value {
        let mut out = json!({ "id": item.id, "type": item.what.kind(), "status": status });
        match &item.what {
            What::Message => {
                out["role"] = json!("assistant");
                out["content"] = json!(parts);
            }
            What::Thought => {
                let told = if self.summary { "summary" } else { "content" };
                (out["summary"], out["content"]) = (json!([]), json!([]));
                out[told] = json!(parts);
            }
            What::Call { call_id, name } => {
                (out["call_id"], out["name"]) = (json!(call_id), json!(name));
                out["arguments"] = json!(item.text);
            }
        }
        out
    }

    /// An event about a part of the item, or of its arguments.
    fn item_event(&mut self, out: &mut String, item: &Item, name: &str, more: Value) {
        let mut data = json!({ "item_id": item.id, "output_index": self.output.len() });
        if let Some(part) = self.part(&item.what) {
            data[part.place] = json!(0);
        }
        if let Value::Object(more) = more {
            more.into_iter().for_each(|(key, value)| data[key] = value);
        }
        self.event(out, name, data);
    }

    fn open(&mut self, out: &mut String, what: What) {
        self.close(out, "completed");
        let prefix = items::prefix(what.kind());
        let id = format!("{prefix}_{}_{}", self.stamp.id, self.output.len());
        let item = Item { id, what, text: String::new(), scores: Vec::new() };
        let (index, empty) = (self.output.len(), self.item(&item, "in_progress", Vec::new()));
        let data = json!({ "output_index": index, "item": empty });
        self.event(out, "response.output_item.added", data);
        if let Some(part) = self.part(&item.what) {
            let empty = write_part(part, "", &[]);
            self.item_event(out, &item, part.added, json!({ "part": empty }));
        }
        self.open = Some(item);
    }

    /// Adds to the open item.
    fn more(&mut self, out: &mut String, piece: &Piece) {
        let Some(mut item) = self.open.take() else { return };
        let scores: Vec<Value> = piece.scores.iter().map(openai::chat_score).collect();
        let mut data = json!({ "delta": piece.text });
        let name = match self.part(&item.what) {
            Some(part) => {
                if part.kind == TEXT.kind {
                    data["logprobs"] = json!(scores);
                }
                format!("{}.delta", part.events)
            }
            None => "response.function_call_arguments.delta".to_owned(),
        };
        self.item_event(out, &item, &name, data);
        item.text.push_str(&piece.text);
        item.scores.extend(scores);
        self.open = Some(item);
    }

    fn close(&mut self, out: &mut String, status: &str) {
        let Some(item) = self.open.take() else { return };
        let mut parts = Vec::new();
        if let Some(part) = self.part(&item.what) {
            let mut data = json!({ "text": item.text });
            if part.kind == TEXT.kind {
                data["logprobs"] = json!(item.scores);
            }
            self.item_event(out, &item, &format!("{}.done", part.events), data);
            parts.push(write_part(part, &item.text, &item.scores));
            self.item_event(out, &item, part.done, json!({ "part": parts[0] }));
        } else if let What::Call { name, .. } = &item.what {
            let data = json!({ "name": name, "arguments": item.text });
            self.item_event(out, &item, "response.function_call_arguments.done", data);
        }
        let done = self.item(&item, status, parts);
        let data = json!({ "output_index": self.output.len(), "item": done });
        self.event(out, "response.output_item.done", data);
        self.output.push(done);
    }

    /// A piece of a text, in the open item where that is one of its kind.
    fn say(&mut self, out: &mut String, what: What, piece: &Piece) {
        if piece.text.is_empty() && (piece.scores.is_empty() || what == What::Thought) {
            return;
        }
        if self.open.as_ref().is_none_or(|open| open.what != what) {
            self.open(out, what);
        }
        self.more(out, piece);
    }

    fn call(&mut self, out: &mut String, part: CallPart) {
        match part {
            CallPart::Begin { id, name } => self.open(out, What::Call { call_id: id, name }),
            CallPart::Arguments(text) => self.more(out, &Piece { text, ..Piece::default() }),
            CallPart::End => self.close(out, "completed"),
        }
    }

    fn end(&mut self, out: &mut String, receipt: &Receipt) {
        let (status, event) = match receipt.finish {
            Finish::Stop | Finish::ToolCalls => (Status::Completed, "response.completed"),
            Finish::Length => (Status::Incomplete, "response.incomplete"),
            Finish::Cancelled => (Status::Cancelled, "response.incomplete"),
        };
        let whole = status == Status::Completed;
        self.close(out, if whole { "completed" } else { "incomplete" });
        self.complete = true;
        let mut response = self.response(status);
        let total = u64::try_from(receipt.timings.total.as_millis()).unwrap_or(u64::MAX);
        let ended_ms = self.stamp.created_ms.saturating_add(total);
        if whole {
            response["completed_at"] = json!(ended_ms / 1000);
        }
        if status == Status::Incomplete {
            response["incomplete_details"] = json!({ "reason": "max_output_tokens" });
        }
        response["usage"] = write_usage(&receipt.usage);
        response["ingle"] = receipt::to_value(receipt);
        if self.streamed {
            self.event(out, event, json!({ "response": response }));
        } else {
            out.push_str(&response.to_string());
        }
    }
}

/// An event with its number. Names are told twice, as OpenAI does.
pub(super) fn numbered(name: &str, data: Value, sequence: u64) -> String {
    let mut whole = json!({ "type": name, "sequence_number": sequence });
    if let Value::Object(data) = data {
        data.into_iter().for_each(|(key, value)| whole[key] = value);
    }
    sse(Some(name), &whole.to_string())
}

fn write_part(part: &Part, text: &str, scores: &[Value]) -> Value {
    let mut out = json!({ "type": part.kind, "text": text });
    if part.kind == TEXT.kind {
        (out["annotations"], out["logprobs"]) = (json!([]), json!(scores));
    }
    out
}

/// Only elsewhere do callers pay for putting a prompt into the cache, so here nothing counts as
/// that.
fn write_usage(usage: &Usage) -> Value {
    json!({
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.written_tokens,
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": { "reasoning_tokens": usage.reasoning_tokens },
        "total_tokens": usage.total(),
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
            Event::Text(piece) => self.say(&mut out, What::Message, &piece),
            Event::Reasoning(_) if self.hide_reasoning => {}
            Event::Reasoning(piece) => self.say(&mut out, What::Thought, &piece),
            Event::ToolCall { part, .. } => self.call(&mut out, part),
            Event::Done(receipt) => self.end(&mut out, &receipt),
            // The format has no words for these, and no field that asks for them.
            Event::Prompt(_) | Event::Beams(_) | Event::Passed(_) => {}
            Event::Failed(fault) => return Err(fault),
        }
        Ok(out)
    }

    fn complete(&self) -> bool {
        self.complete
    }

    fn failure(&self, kind: Kind, fault: &Fault) -> String {
        let mut response = self.response(Status::Failed);
        response["error"] = kept::write_error(kind, fault);
        numbered("response.failed", json!({ "response": response }), self.sequence)
    }

    fn beat(&self) -> &'static str {
        COMMENT
    }

    fn content_type(&self) -> &'static str {
        if self.streamed { SSE } else { JSON }
    }
}
