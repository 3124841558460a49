//! Answers heard: typed events of a stream, or the items of a whole response. What was thought is
//! told in its own words, or, where a server tells only that, in a summary. Items that this crate
//! has no word for, since no tools run on a server for it, are passed over.

use serde_json::Value;

use crate::wire::openai::read_scores;
use crate::wire::speak::heard::{Heard as Common, Out, ended_by};
use crate::wire::speak::{Hear, count, parse, told, wrong};
use crate::{Fault, Finish, Piece, Usage};

/// Hears one answer.
#[derive(Debug, Default)]
pub(in crate::wire) struct Heard {
    heard: Common,
    /// The item whose call is open.
    call: Option<u64>,
    /// Whether a summary has begun, of several parts.
    summed: bool,
}

impl Heard {
    /// A part of a summary begins: a line of its own.
    fn sum(&mut self, out: &mut Out) {
        if std::mem::replace(&mut self.summed, true) {
            self.heard.thought(out, "\n");
        }
    }

    fn opened(&mut self, out: &mut Out, at: u64, item: &Value) -> Result<(), Fault> {
        self.summed = false;
        if item["type"] == "function_call" {
            let text = |key: &str| item[key].as_str().unwrap_or_default();
            self.heard.begin(out, text("call_id"), text("name"))?;
            self.call = Some(at);
        }
        Ok(())
    }

    fn more(&mut self, out: &mut Out, at: u64, text: &str) -> Result<(), Fault> {
        if self.call != Some(at) {
            return Err(wrong("calls of the provider's answer go on side by side"));
        }
        self.heard.more(out, text)
    }

    /// An item is complete: what of a call was not told in pieces is told now.
    fn closed(&mut self, out: &mut Out, at: u64, item: &Value) -> Result<(), Fault> {
        if item["type"] != "function_call" {
            return Ok(());
        }
        if self.call.is_none() {
            self.opened(out, at, item)?;
        }
        if self.heard.argued() == Some(false) {
            self.more(out, at, item["arguments"].as_str().unwrap_or_default())?;
        }
        self.call = None;
        if item["status"] != "incomplete" {
            self.heard.end_call(out);
        }
        Ok(())
    }

    fn item(&mut self, out: &mut Out, at: u64, item: &Value) -> Result<(), Fault> {
        match item["type"].as_str() {
            Some("message") => {
                for part in item["content"].as_array().into_iter().flatten() {
                    let key = if part["type"] == "refusal" { "refusal" } else { "text" };
                    self.said(out, &part[key], &part["logprobs"])?;
                }
            }
            Some("reasoning") => {
                let content = item["content"].as_array().filter(|parts| !parts.is_empty());
                let parts = content.or(item["summary"].as_array());
                let texts = parts.into_iter().flatten().filter_map(|part| part["text"].as_str());
                let texts: Vec<&str> = texts.collect();
                self.heard.thought(out, &texts.join("\n"));
            }
            _ => self.closed(out, at, item)?,
        }
        Ok(())
    }

    fn said(&mut self, out: &mut Out, text: &Value, scores: &Value) -> Result<(), Fault> {
        let scores = read_scores(scores)?;
        let text = text.as_str().unwrap_or_default().to_owned();
        self.heard.piece(out, Piece { text, scores, tokens: Vec::new() });
        Ok(())
    }

    fn ended(&mut self, out: &mut Out, response: &Value) -> Result<(), Fault> {
        self.heard.model(response["model"].as_str());
        self.heard.usage = read_usage(&response["usage"]);
        let reason = response["incomplete_details"]["reason"].as_str();
        self.heard.finish = Some(match (response["status"].as_str(), reason) {
            (Some("failed"), _) => return Err(failed(&response["error"])),
            (Some("cancelled"), _) => Finish::Cancelled,
            (Some("incomplete"), Some(reason)) if reason != "max_output_tokens" => {
                self.heard.note(ended_by(reason));
                Finish::Stop
            }
            (Some("incomplete"), _) => Finish::Length,
            (Some("completed"), _) => Finish::Stop,
            _ => return Err(wrong("the provider's response is not complete")),
        });
        self.heard.end(out)
    }
}

fn failed(error: &Value) -> Fault {
    told(crate::Format::Responses, error)
}

fn read_usage(usage: &Value) -> Usage {
    let (input, output) = (&usage["input_tokens_details"], &usage["output_tokens_details"]);
    Usage {
        prompt_tokens: count(&usage["input_tokens"]),
        cached_tokens: count(&input["cached_tokens"]),
        written_tokens: count(&input["cache_write_tokens"]),
        completion_tokens: count(&usage["output_tokens"]),
        reasoning_tokens: count(&output["reasoning_tokens"]),
        ..Usage::default()
    }
}

impl Hear for Heard {
    fn read(&mut self, _: Option<&str>, data: &str) -> Result<Out, Fault> {
        let mut out = Vec::new();
        // Some servers end with the chat's mark.
        if self.heard.done || data.trim() == crate::wire::openai::DONE {
            return Ok(out);
        }
        let event = parse(data)?;
        let Some(kind) = event["type"].as_str() else {
            return Err(wrong("an event of the provider's answer has no type"));
        };
        let at = event["output_index"].as_u64().unwrap_or(0);
        let delta = event["delta"].as_str().unwrap_or_default();
        match kind {
            "response.output_item.added" => self.opened(&mut out, at, &event["item"])?,
            "response.output_text.delta" | "response.refusal.delta" => {
                self.said(&mut out, &event["delta"], &event["logprobs"])?;
            }
            "response.reasoning_text.delta" => self.heard.thought(&mut out, delta),
            "response.reasoning_summary_part.added" => self.sum(&mut out),
            "response.reasoning_summary_text.delta" => self.heard.thought(&mut out, delta),
            "response.function_call_arguments.delta" => self.more(&mut out, at, delta)?,
            "response.output_item.done" => self.closed(&mut out, at, &event["item"])?,
            "response.completed" | "response.incomplete" | "response.failed" => {
                self.ended(&mut out, &event["response"])?;
            }
            "error" => return Err(failed(&event)),
            _ => {}
        }
        Ok(out)
    }

    fn whole(&mut self, body: &str) -> Result<Out, Fault> {
        let (mut out, response) = (Vec::new(), parse(body)?);
        if !response["error"].is_null() {
            return Err(failed(&response["error"]));
        }
        let Some(items) = response["output"].as_array() else {
            return Err(wrong("the provider's response has no output"));
        };
        for (item, at) in items.iter().zip(0..) {
            self.item(&mut out, at, item)?;
        }
        self.ended(&mut out, &response)?;
        Ok(out)
    }

    fn end(&mut self) -> Result<Out, Fault> {
        self.heard.closed()
    }
}
