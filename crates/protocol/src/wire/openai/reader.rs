//! Answers read back into events: what a client of a server that speaks this format needs. Of our
//! own servers' answers nothing is lost; of another's, the receipt is made from its usage, and any
//! that it tells is not believed.

use serde_json::Value;

use super::{DONE, Format};
use crate::wire::receipt;
use crate::wire::speak::{self, wrong};
use crate::{Blame, CallPart, Event, Fault, Finish, Piece, Receipt, Retry};
use crate::{Scored, Timings, Token, TokenScore, Usage};

/// Choices an answer may have; a hostile server could name any index.
const CHOICES_MAX: usize = 1024;

/// Reads an answer's chunks in turn, or a whole one.
#[derive(Debug)]
pub struct Reader {
    format: Format,
    /// Whether the server's receipts are read.
    trusted: bool,
    model: String,
    usage: Usage,
    choices: Vec<Choice>,
}

#[derive(Clone, Debug, Default)]
struct Choice {
    finish: Option<Finish>,
    stop: Option<String>,
    notes: Vec<String>,
    /// The call that goes on, as the server counts them.
    call: Option<u64>,
    /// Calls begun.
    calls: u32,
    done: bool,
}

impl Choice {
    /// The call that goes on, if one does, is over.
    fn end_call(&mut self) -> Option<Event> {
        self.call.take()?;
        Some(Event::ToolCall { index: self.calls - 1, part: CallPart::End })
    }
}

impl Reader {
    /// At an answer's start.
    pub fn new(format: Format) -> Self {
        let (model, usage) = (String::new(), Usage::default());
        Self { format, trusted: true, model, usage, choices: Vec::new() }
    }

    /// The same for a server of somebody else's.
    pub fn foreign(format: Format) -> Self {
        Self { trusted: false, ..Self::new(format) }
    }

    /// Reads the data of one event, or a whole answer's body followed by [`DONE`]. Gives events
    /// with their choice's index; an error that the server tells of is the error.
    pub fn read(&mut self, data: &str) -> Result<Vec<(u32, Event)>, Fault> {
        if data.trim() == DONE {
            return self.end();
        }
        let chunk: Value = serde_json::from_str(data)
            .map_err(|error| wrong(format!("an event of the answer is no JSON: {error}")))?;
        if let Some(error) = chunk.get("error").filter(|error| !error.is_null()) {
            return Err(read_error(error));
        }
        if let Some(model) = chunk["model"].as_str() {
            model.clone_into(&mut self.model);
        }
        if chunk["usage"].is_object() {
            self.usage = read_usage(&chunk["usage"]);
        }
        let mut events = Vec::new();
        for choice in chunk["choices"].as_array().into_iter().flatten() {
            self.read_choice(choice, &mut events)?;
        }
        if self.trusted && chunk["ingle"].is_object() {
            self.read_receipts(&chunk["ingle"], &mut events)?;
        }
        Ok(events)
    }

    fn read_choice(&mut self, choice: &Value, events: &mut Vec<(u32, Event)>) -> Result<(), Fault> {
        let index = choice["index"].as_u64().and_then(|index| usize::try_from(index).ok());
        let Some(index) = index.filter(|index| *index < CHOICES_MAX) else {
            return Err(wrong("a choice has no sensible index"));
        };
        if self.choices.len() <= index {
            self.choices.resize(index + 1, Choice::default());
        }
        let at = index as u32;
        let turn = &choice[if choice["delta"].is_object() { "delta" } else { "message" }];
        let text = match self.format {
            Format::Completions => &choice["text"],
            Format::Chat => &turn["content"],
        };
        let scores = match self.format {
            Format::Chat => read_scores(&choice["logprobs"]["content"])?,
            Format::Completions => Vec::new(),
        };
        let mut piece = Piece {
            text: text.as_str().unwrap_or_default().to_owned(),
            scores,
            tokens: read_ids(&choice["token_ids"]),
        };
        let thought = ["reasoning_content", "reasoning"].map(|key| turn[key].as_str());
        if let Some(text) = thought.into_iter().flatten().find(|text| !text.is_empty()) {
            // Which of the scores are whose is told only where all are the same one's.
            let mut thought = Piece { text: text.to_owned(), ..Piece::default() };
            if piece.text.is_empty() {
                thought.scores = std::mem::take(&mut piece.scores);
                thought.tokens = std::mem::take(&mut piece.tokens);
            }
            events.push((at, Event::Reasoning(thought)));
        }
        if !piece.is_empty() {
            events.push((at, Event::Text(piece)));
        }
        for call in turn["tool_calls"].as_array().into_iter().flatten() {
            self.read_call(index, call, events)?;
        }
        if let Some(text) = turn["refusal"].as_str().filter(|text| !text.is_empty()) {
            let piece = Piece { text: text.to_owned(), ..Piece::default() };
            events.push((at, Event::Text(piece)));
        }
        if let Some(name) = choice["finish_reason"].as_str() {
            // What this version does not know ends the answer all the same.
            let known = receipt::finish_named(name);
            let finish = known.unwrap_or(Finish::Stop);
            if known.is_none() {
                self.choices[index].notes = vec![speak::ended_by(name)];
            }
            self.choices[index].finish = Some(finish);
            self.choices[index].stop = choice["stop_reason"].as_str().map(str::to_owned);
            // At a limit nobody can tell whether the arguments were complete.
            let end = self.choices[index].end_call().filter(|_| finish != Finish::Length);
            events.extend(end.map(|end| (at, end)));
        }
        Ok(())
    }

    /// A whole call, or a part of one: a call that has a name begins.
    fn read_call(
        &mut self,
        index: usize,
        call: &Value,
        events: &mut Vec<(u32, Event)>,
    ) -> Result<(), Fault> {
        let (choice, at) = (&mut self.choices[index], index as u32);
        let function = &call["function"];
        if let Some(name) = function["name"].as_str().filter(|name| !name.is_empty()) {
            events.extend(choice.end_call().map(|end| (at, end)));
            choice.call = Some(call["index"].as_u64().unwrap_or(choice.calls.into()));
            choice.calls += 1;
            let id = call["id"].as_str().unwrap_or_default().to_owned();
            let part = CallPart::Begin { id, name: name.to_owned() };
            events.push((at, Event::ToolCall { index: choice.calls - 1, part }));
        } else if choice.call.is_none() || call["index"].as_u64() != choice.call {
            return Err(wrong("a tool call goes on that did not begin"));
        }
        if let Some(text) = function["arguments"].as_str().filter(|text| !text.is_empty()) {
            let part = CallPart::Arguments(text.to_owned());
            events.push((at, Event::ToolCall { index: choice.calls - 1, part }));
        }
        Ok(())
    }

    fn read_receipts(
        &mut self,
        ingle: &Value,
        events: &mut Vec<(u32, Event)>,
    ) -> Result<(), Fault> {
        let one = std::slice::from_ref(ingle);
        let receipts = ingle["choices"].as_array().map_or(one, Vec::as_slice);
        for (i, (choice, receipt)) in self.choices.iter_mut().zip(receipts).enumerate() {
            let receipt = receipt::from_value(receipt.clone())?;
            choice.done = true;
            events.push((i as u32, Event::Done(Box::new(receipt))));
        }
        Ok(())
    }

    /// The answer has ended: whoever's receipt has not come gets one made of what is known, which
    /// is that the data left this machine and, on the first choice, the usage.
    fn end(&mut self) -> Result<Vec<(u32, Event)>, Fault> {
        let mut events = Vec::new();
        let mut usage = self.usage;
        for (i, choice) in self.choices.iter_mut().enumerate().filter(|(_, choice)| !choice.done) {
            let Some(finish) = choice.finish else {
                return Err(wrong("the answer ended before it was complete"));
            };
            choice.done = true;
            let receipt = Receipt {
                stop: choice.stop.take(),
                notes: std::mem::take(&mut choice.notes),
                model: self.model.clone(),
                route: Vec::new(),
                left_machine: true,
                cost_micros: 0,
                finish,
                usage: std::mem::take(&mut usage),
                timings: Timings::default(),
            };
            events.push((i as u32, Event::Done(Box::new(receipt))));
        }
        if self.choices.is_empty() {
            return Err(wrong("the answer has no choices"));
        }
        Ok(events)
    }
}

fn read_usage(usage: &Value) -> Usage {
    let count = |value: &Value| value.as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    let completion = &usage["completion_tokens_details"];
    Usage {
        prompt_tokens: count(&usage["prompt_tokens"]),
        cached_tokens: count(&usage["prompt_tokens_details"]["cached_tokens"]),
        written_tokens: count(&usage["prompt_tokens_details"]["cache_write_tokens"]),
        completion_tokens: count(&usage["completion_tokens"]),
        reasoning_tokens: count(&completion["reasoning_tokens"]),
        accepted_tokens: count(&completion["accepted_prediction_tokens"]),
        rejected_tokens: count(&completion["rejected_prediction_tokens"]),
    }
}

fn read_ids(ids: &Value) -> Vec<Token> {
    let ids = ids.as_array().into_iter().flatten();
    ids.filter_map(|id| id.as_u64().and_then(|id| Token::try_from(id).ok())).collect()
}

pub(in crate::wire) fn read_scores(content: &Value) -> Result<Vec<TokenScore>, Fault> {
    let score = |value: &Value| {
        let top = value["top_logprobs"].as_array().into_iter().flatten();
        let top: Result<Vec<Scored>, Fault> = top.map(read_scored).collect();
        Ok(TokenScore { chosen: read_scored(value)?, top: top? })
    };
    content.as_array().into_iter().flatten().map(score).collect()
}

/// A token of a server that tells no ids gets `u32::MAX`, which is no token of any vocabulary.
fn read_scored(value: &Value) -> Result<Scored, Fault> {
    let Some(logprob) = value["logprob"].as_f64() else {
        return Err(wrong("a token has no log-probability"));
    };
    let bytes: Option<Vec<u8>> = value["bytes"].as_array().and_then(|bytes| {
        bytes.iter().map(|byte| byte.as_u64().and_then(|b| u8::try_from(b).ok())).collect()
    });
    let text = || value["token"].as_str().unwrap_or_default().as_bytes().to_vec();
    let token = value["id"].as_u64().and_then(|id| u32::try_from(id).ok()).unwrap_or(u32::MAX);
    Ok(Scored { token, bytes: bytes.unwrap_or_else(text), logprob: logprob as f32 })
}

/// The fault that an error's body tells of, as a provider's.
fn read_error(error: &Value) -> Fault {
    let message = match error.get("message").and_then(Value::as_str) {
        Some(message) => message.to_owned(),
        None => error.to_string(),
    };
    let class = error.get("type").and_then(Value::as_str);
    let blame =
        if class == Some("invalid_request_error") { Blame::Caller } else { Blame::Provider };
    let param = error.get("param").and_then(Value::as_str).map(str::to_owned);
    let retry = if blame == Blame::Caller { Retry::Never } else { Retry::Elsewhere };
    Fault { blame, retry, param, message }
}
