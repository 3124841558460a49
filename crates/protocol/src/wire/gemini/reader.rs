//! Answers heard: parts of the first candidate become events. The reason why it ended ends it, and
//! where that is a filter's before anything was said, there is no answer.

use serde_json::Value;

use crate::wire::speak::heard::{Heard as Common, Out, ended_by, unfinished};
use crate::wire::speak::{Hear, count, parse, told, wrong};
use crate::{Fault, Finish, Usage};

/// What an answer ended by: the name, and what it is here. What is none of these is a filter, or
/// another reason of the server's.
static REASONS: &[(&str, Finish)] =
    &[("STOP", Finish::Stop), ("MAX_TOKENS", Finish::Length), ("STOP_SEQUENCE", Finish::Stop)];
/// Reasons for which what came is no answer.
static BROKEN: &[&str] = &[
    "MALFORMED_FUNCTION_CALL",
    "UNEXPECTED_TOOL_CALL",
    "TOO_MANY_TOOL_CALLS",
    "MISSING_THOUGHT_SIGNATURE",
    "MALFORMED_RESPONSE",
];
/// Characters of an answer's id that go into those of its calls.
const ID_MAX: usize = 40;

/// Hears one answer.
#[derive(Debug, Default)]
pub(in crate::wire) struct Heard {
    heard: Common,
    id: String,
}

impl Heard {
    fn part(&mut self, out: &mut Out, part: &Value) -> Result<(), Fault> {
        let call = &part["functionCall"];
        if let Some(name) = call["name"].as_str() {
            let made = format!("call_{}{}", self.id, self.heard.calls());
            let id = call["id"].as_str().filter(|id| !id.is_empty()).unwrap_or(&made);
            self.heard.begin(out, id, name)?;
            let arguments = match &call["args"] {
                Value::Null => "{}".to_owned(),
                args @ Value::Object(_) => args.to_string(),
                _ => {
                    let why = "the arguments of a call in the provider's answer are no object";
                    return Err(wrong(why));
                }
            };
            self.heard.more(out, &arguments)?;
            self.heard.end_call(out);
            return Ok(());
        }
        let text = part["text"].as_str().unwrap_or_default();
        if part["thought"] == true {
            self.heard.thought(out, text);
        } else {
            self.heard.text(out, text);
        }
        Ok(())
    }

    fn ends(&mut self, reason: &str) -> Result<(), Fault> {
        if reason == "FINISH_REASON_UNSPECIFIED" {
            return Ok(());
        }
        if BROKEN.contains(&reason) {
            return Err(wrong(ended_by(reason)));
        }
        let known = REASONS.iter().find(|row| row.0 == reason).map(|row| row.1);
        if known.is_none() {
            if !self.heard.spoke {
                let why = format!("{}, before it said anything", ended_by(reason));
                return Err(wrong(why));
            }
            self.heard.note(ended_by(reason));
        }
        self.heard.finish = Some(known.unwrap_or(Finish::Stop));
        Ok(())
    }
}

fn read_usage(usage: &Value) -> Usage {
    let counted = |key: &str| count(&usage[key]);
    let thoughts = counted("thoughtsTokenCount");
    let prompt = counted("promptTokenCount").saturating_add(counted("toolUsePromptTokenCount"));
    Usage {
        prompt_tokens: prompt,
        cached_tokens: counted("cachedContentTokenCount"),
        // Thoughts are not counted among the answer's, and cost the same.
        completion_tokens: counted("candidatesTokenCount").saturating_add(thoughts),
        reasoning_tokens: thoughts,
        ..Usage::default()
    }
}

impl Hear for Heard {
    fn read(&mut self, _: Option<&str>, data: &str) -> Result<Out, Fault> {
        let (mut out, answer) = (Vec::new(), parse(data)?);
        // Google wraps an error of a stream's in a list.
        let answer = answer.get(0).unwrap_or(&answer);
        if !answer["error"].is_null() {
            return Err(told(crate::Format::Gemini, answer));
        }
        if !answer.is_object() {
            return Err(wrong("an event of the provider's answer is no object"));
        }
        self.heard.model(answer["modelVersion"].as_str());
        if let (true, Some(id)) = (self.id.is_empty(), answer["responseId"].as_str()) {
            let letters = id.chars().filter(char::is_ascii_alphanumeric).take(ID_MAX);
            self.id = letters.chain(['_']).collect();
        }
        if answer["usageMetadata"].is_object() {
            self.heard.usage = read_usage(&answer["usageMetadata"]);
        }
        if let Some(reason) = answer["promptFeedback"]["blockReason"].as_str() {
            let reason: String = reason.chars().take(64).collect();
            return Err(wrong(format!("the provider does not take the prompt: {reason}")));
        }
        let candidate = &answer["candidates"][0];
        for part in candidate["content"]["parts"].as_array().into_iter().flatten() {
            self.part(&mut out, part)?;
        }
        if let Some(reason) = candidate["finishReason"].as_str() {
            self.ends(reason)?;
        }
        Ok(out)
    }

    fn whole(&mut self, body: &str) -> Result<Out, Fault> {
        let mut out = self.read(None, body)?;
        out.extend(self.end()?);
        Ok(out)
    }

    /// The last event has the usage of all, and may come behind the reason of the end.
    fn end(&mut self) -> Result<Out, Fault> {
        let mut out = Vec::new();
        if self.heard.done {
            return Ok(out);
        }
        if self.heard.finish.is_none() {
            return Err(unfinished());
        }
        self.heard.end(&mut out)?;
        Ok(out)
    }
}
