//! Answers heard: each line is a piece, the last one tells what the answer took; a whole answer is
//! one line. Calls come whole, with arguments as an object.

use serde_json::Value;

use crate::wire::openai::read_scores;
use crate::wire::speak::heard::{Heard as Common, Out, ended_by};
use crate::wire::speak::{Hear, count, parse, told, wrong};
use crate::{Fault, Finish, Piece};

/// What an answer ended by: the name, and what it is here.
static REASONS: &[(&str, Finish)] =
    &[("stop", Finish::Stop), ("load", Finish::Stop), ("length", Finish::Length)];

/// Hears one answer.
#[derive(Debug, Default)]
pub(in crate::wire) struct Heard {
    heard: Common,
}

impl Heard {
    fn call(&mut self, out: &mut Out, call: &Value) -> Result<(), Fault> {
        let function = &call["function"];
        let made = format!("call_{}", self.heard.calls());
        let id = call["id"].as_str().filter(|id| !id.is_empty()).unwrap_or(&made);
        self.heard.begin(out, id, function["name"].as_str().unwrap_or_default())?;
        let arguments = match &function["arguments"] {
            Value::Object(map) => Value::Object(map.clone()).to_string(),
            Value::Null => "{}".to_owned(),
            _ => {
                return Err(wrong(
                    "the arguments of a call in the provider's answer are no object",
                ));
            }
        };
        self.heard.more(out, &arguments)?;
        self.heard.end_call(out);
        Ok(())
    }
}

impl Hear for Heard {
    fn read(&mut self, _: Option<&str>, data: &str) -> Result<Out, Fault> {
        let mut out = Vec::new();
        if self.heard.done {
            return Ok(out);
        }
        let line = parse(data)?;
        if !line["error"].is_null() {
            return Err(told(crate::Format::Ollama, &line));
        }
        let Value::Object(_) = line else {
            return Err(wrong("a line of the provider's answer is no object"));
        };
        self.heard.model(line["model"].as_str());
        let message = &line["message"];
        let text = |key: &str| message[key].as_str().unwrap_or_default();
        self.heard.thought(&mut out, text("thinking"));
        let scores = read_scores(&line["logprobs"])?;
        let piece = Piece { text: text("content").to_owned(), scores, tokens: Vec::new() };
        self.heard.piece(&mut out, piece);
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            self.call(&mut out, call)?;
        }
        if line["done"] != true {
            return Ok(out);
        }
        let reason = line["done_reason"].as_str().unwrap_or("stop");
        let known = REASONS.iter().find(|row| row.0 == reason).map(|row| row.1);
        if known.is_none() {
            self.heard.note(ended_by(reason));
        }
        self.heard.finish = Some(known.unwrap_or(Finish::Stop));
        self.heard.usage.prompt_tokens = count(&line["prompt_eval_count"]);
        self.heard.usage.completion_tokens = count(&line["eval_count"]);
        self.heard.end(&mut out)?;
        Ok(out)
    }

    fn whole(&mut self, body: &str) -> Result<Out, Fault> {
        let mut out = self.read(None, body)?;
        out.extend(self.end()?);
        Ok(out)
    }

    fn end(&mut self) -> Result<Out, Fault> {
        self.heard.closed()
    }
}
