//! Answers heard: blocks that open, grow and close become events. Blocks that this crate has no
//! word for (citations, signatures, what ran on the server) are passed over. What an answer's
//! beginning tells of its usage stands until its end tells more.

use serde_json::Value;

use crate::wire::speak::heard::{Heard as Common, Out, ended_by};
use crate::wire::speak::{Hear, count, parse, told, wrong};
use crate::{Fault, Finish, Usage};

/// What an answer ended by: the name, and what it is here. What is none of these ended it all the
/// same, and is told in a note.
static REASONS: &[(&str, Finish)] = &[
    ("end_turn", Finish::Stop),
    ("stop_sequence", Finish::Stop),
    ("tool_use", Finish::ToolCalls),
    ("max_tokens", Finish::Length),
    ("model_context_window_exceeded", Finish::Length),
];

/// Hears one answer.
#[derive(Debug, Default)]
pub(in crate::wire) struct Heard {
    heard: Common,
    usage: Counts,
    /// The block that is open, and what it is.
    open: Option<(u64, Block)>,
}

/// Tokens as the format counts them: the prompt's are in three parts.
#[derive(Debug, Default)]
struct Counts {
    input: u32,
    read: u32,
    written: u32,
    output: u32,
    thinking: u32,
}

#[derive(Clone, Debug, PartialEq)]
enum Block {
    Said,
    /// A call, and the input that its beginning tells.
    Call(Value),
    Other,
}

impl Counts {
    fn read(&mut self, usage: &Value) {
        let told = |place: &mut u32, value: &Value| {
            if value.is_u64() {
                *place = count(value);
            }
        };
        told(&mut self.input, &usage["input_tokens"]);
        told(&mut self.read, &usage["cache_read_input_tokens"]);
        told(&mut self.written, &usage["cache_creation_input_tokens"]);
        told(&mut self.output, &usage["output_tokens"]);
        told(&mut self.thinking, &usage["output_tokens_details"]["thinking_tokens"]);
    }

    fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.input.saturating_add(self.read).saturating_add(self.written),
            cached_tokens: self.read,
            written_tokens: self.written,
            completion_tokens: self.output,
            reasoning_tokens: self.thinking,
            ..Usage::default()
        }
    }
}

impl Heard {
    fn begin(&mut self, out: &mut Out, index: u64, block: &Value) -> Result<(), Fault> {
        self.heard.end_call(out);
        let text = |key: &str| block[key].as_str().unwrap_or_default();
        let what = match block["type"].as_str() {
            Some("text") => {
                self.heard.text(out, text("text"));
                Block::Said
            }
            Some("thinking") => {
                self.heard.thought(out, text("thinking"));
                Block::Said
            }
            Some("tool_use") => {
                self.heard.begin(out, text("id"), text("name"))?;
                Block::Call(block["input"].clone())
            }
            _ => Block::Other,
        };
        self.open = Some((index, what));
        Ok(())
    }

    fn more(&mut self, out: &mut Out, index: u64, delta: &Value) -> Result<(), Fault> {
        let Some((open, block)) = &self.open else {
            return Err(wrong("a block of the provider's answer goes on that did not begin"));
        };
        if *open != index {
            return Err(wrong("blocks of the provider's answer go on side by side"));
        }
        let text = |key: &str| delta[key].as_str().unwrap_or_default();
        match (delta["type"].as_str(), block) {
            (Some("text_delta"), Block::Said) => self.heard.text(out, text("text")),
            (Some("thinking_delta"), Block::Said) => self.heard.thought(out, text("thinking")),
            (Some("input_json_delta"), Block::Call(_)) => {
                self.heard.more(out, text("partial_json"))?;
            }
            _ => {}
        }
        Ok(())
    }

    /// A call stays open until it is known that no limit met it.
    fn close(&mut self, out: &mut Out) -> Result<(), Fault> {
        let Some((_, Block::Call(input))) = self.open.take() else { return Ok(()) };
        if self.heard.argued() == Some(false) {
            let input = if input.is_object() { input.to_string() } else { "{}".to_owned() };
            self.heard.more(out, &input)?;
        }
        Ok(())
    }

    fn ends(&mut self, turn: &Value) {
        let Some(reason) = turn["stop_reason"].as_str() else { return };
        let known = REASONS.iter().find(|row| row.0 == reason).map(|row| row.1);
        if known.is_none() {
            self.heard.note(ended_by(reason));
        }
        self.heard.finish = Some(known.unwrap_or(Finish::Stop));
        self.heard.stop = turn["stop_sequence"].as_str().map(str::to_owned);
    }

    fn done(&mut self, out: &mut Out) -> Result<(), Fault> {
        self.heard.usage = self.usage.usage();
        self.heard.end(out)
    }
}

impl Hear for Heard {
    fn read(&mut self, _: Option<&str>, data: &str) -> Result<Out, Fault> {
        let mut out = Vec::new();
        if self.heard.done {
            return Ok(out);
        }
        let event = parse(data)?;
        let index = event["index"].as_u64().unwrap_or(0);
        match event["type"].as_str() {
            Some("message_start") => {
                self.heard.model(event["message"]["model"].as_str());
                self.usage.read(&event["message"]["usage"]);
            }
            Some("content_block_start") => self.begin(&mut out, index, &event["content_block"])?,
            Some("content_block_delta") => self.more(&mut out, index, &event["delta"])?,
            Some("content_block_stop") => self.close(&mut out)?,
            Some("message_delta") => {
                self.usage.read(&event["usage"]);
                self.ends(&event["delta"]);
            }
            Some("message_stop") => self.done(&mut out)?,
            Some("error") => return Err(told(crate::Format::Messages, &event)),
            // Pings, and what later versions of the format add.
            Some(_) => {}
            None => return Err(wrong("an event of the provider's answer has no type")),
        }
        Ok(out)
    }

    fn whole(&mut self, body: &str) -> Result<Out, Fault> {
        let (mut out, message) = (Vec::new(), parse(body)?);
        if message["type"] == "error" {
            return Err(told(crate::Format::Messages, &message));
        }
        self.heard.model(message["model"].as_str());
        self.usage.read(&message["usage"]);
        let Some(blocks) = message["content"].as_array() else {
            return Err(wrong("the provider's answer has no content"));
        };
        for (block, index) in blocks.iter().zip(0..) {
            self.begin(&mut out, index, block)?;
            self.close(&mut out)?;
        }
        self.ends(&message);
        self.done(&mut out)?;
        Ok(out)
    }

    fn end(&mut self) -> Result<Out, Fault> {
        self.heard.closed()
    }
}
