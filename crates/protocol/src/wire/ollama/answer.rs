//! An answer's events as lines of JSON. A stream has a line for each piece, the last of which tells
//! what the answer took; a whole answer is one line, the sum of them. The protocol has no parts of
//! a call: one is told as soon as it is complete.

use serde_json::{Value, json};

use super::{Asked, Format};
use crate::wire::ask::{self, JSON};
use crate::wire::openai::chat_score;
use crate::wire::relay::{self, Relay, Taken};
use crate::wire::{Dialect, Kind, Stamp, Writer, receipt, rfc3339};
use crate::{CallPart, Event, Fault, Finish, Piece, Receipt, ToolCall};

/// The content type of lines of JSON.
const LINES: &str = "application/x-ndjson";

pub(super) struct Answer {
    format: Format,
    model: String,
    created_at: String,
    streamed: bool,
    complete: bool,
    /// The call that goes on.
    call: Option<ToolCall>,
    calls: usize,
    /// What is to be told with the next line: of a whole answer all of it.
    next: Line,
    relay: Relay,
}

/// What a line tells.
#[derive(Default)]
struct Line {
    text: String,
    thinking: String,
    calls: Vec<Value>,
    scores: Vec<Value>,
}

impl Line {
    fn is_empty(&self) -> bool {
        self.text.is_empty()
            && self.thinking.is_empty()
            && self.calls.is_empty()
            && self.scores.is_empty()
    }
}

impl Answer {
    pub(super) fn new(asked: &Asked, stamp: Stamp) -> Self {
        Self {
            format: asked.format,
            relay: Relay::new(&relay::OLLAMA, &stamp.model, asked.stream),
            model: stamp.model,
            created_at: rfc3339(stamp.created_ms / 1000),
            streamed: asked.stream,
            complete: false,
            call: None,
            calls: 0,
            next: Line::default(),
        }
    }

    /// The whole answer where nothing was asked.
    pub(super) fn idle(&mut self, reason: &str) -> String {
        let mut line = self.line();
        line["done"] = json!(true);
        line["done_reason"] = json!(reason);
        format!("{line}\n")
    }

    /// All that is to be told.
    fn line(&mut self) -> Value {
        let Line { text, thinking, calls, scores } = std::mem::take(&mut self.next);
        let mut out = json!({ "model": self.model, "created_at": self.created_at });
        let place = match self.format {
            Format::Chat => {
                out["message"] = json!({ "role": "assistant", "content": text });
                &mut out["message"]
            }
            Format::Generate => {
                out["response"] = json!(text);
                &mut out
            }
        };
        if !thinking.is_empty() {
            place["thinking"] = json!(thinking);
        }
        if !calls.is_empty() {
            place["tool_calls"] = json!(calls);
        }
        if !scores.is_empty() {
            out["logprobs"] = json!(scores);
        }
        out["done"] = json!(false);
        out
    }

    fn score(&mut self, piece: &Piece) {
        self.next.scores.extend(piece.scores.iter().map(chat_score));
    }

    fn call(&mut self, part: CallPart) {
        match part {
            CallPart::Begin { id, name } => {
                self.end_call();
                self.call = Some(ToolCall { id, name, arguments: String::new() });
            }
            CallPart::Arguments(more) => {
                self.call.iter_mut().for_each(|call| call.arguments.push_str(&more));
            }
            CallPart::End => self.end_call(),
        }
    }

    fn end_call(&mut self) {
        let Some(ToolCall { id, name, arguments }) = self.call.take() else { return };
        let arguments = ask::arguments(&arguments);
        let function = json!({ "index": self.calls, "name": name, "arguments": arguments });
        self.next.calls.push(json!({ "id": id, "function": function }));
        self.calls += 1;
    }

    /// The last line. Times are nanoseconds.
    fn end(&mut self, receipt: &Receipt) -> String {
        self.end_call();
        self.complete = true;
        let mut out = self.line();
        let (timings, usage) = (&receipt.timings, &receipt.usage);
        let first = timings.first_token;
        let reason = if receipt.finish == Finish::Length { "length" } else { "stop" };
        out["done"] = json!(true);
        out["done_reason"] = json!(reason);
        let durations = [
            ("total_duration", timings.total),
            ("load_duration", timings.load),
            ("prompt_eval_duration", first.saturating_sub(timings.queued)),
            ("eval_duration", timings.total.saturating_sub(first)),
        ];
        for (name, time) in durations {
            out[name] = json!(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        }
        out["prompt_eval_count"] = json!(usage.prompt_tokens);
        out["eval_count"] = json!(usage.completion_tokens);
        out["ingle"] = receipt::to_value(receipt);
        format!("{out}\n")
    }
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
        match event {
            Event::Text(piece) => {
                self.next.text.push_str(&piece.text);
                self.score(&piece);
            }
            Event::Reasoning(piece) => {
                self.next.thinking.push_str(&piece.text);
                self.score(&piece);
            }
            Event::ToolCall { part, .. } => self.call(part),
            // Never asked for, and handed on before.
            Event::Prompt(_) | Event::Beams(_) | Event::Passed(_) => {}
            Event::Done(receipt) => return Ok(self.end(&receipt)),
            Event::Failed(fault) => return Err(fault),
        }
        if !self.streamed || self.next.is_empty() {
            return Ok(String::new());
        }
        Ok(format!("{}\n", self.line()))
    }

    fn complete(&self) -> bool {
        self.complete
    }

    fn failure(&self, kind: Kind, fault: &Fault) -> String {
        format!("{}\n", Dialect::Ollama.write_error(kind, fault, ""))
    }

    /// A reader of lines takes each for a part of the answer.
    fn beat(&self) -> &'static str {
        ""
    }

    fn content_type(&self) -> &'static str {
        if self.streamed { LINES } else { JSON }
    }
}
