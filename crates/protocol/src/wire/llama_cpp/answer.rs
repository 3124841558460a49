//! An answer's events as llama.cpp has them: one piece an event, and what it took in the last, or
//! all of it in one body.

use serde_json::{Value, json};

use super::Asked;
use crate::wire::ask::{COMMENT, JSON, SSE, sse};
use crate::wire::openai::chat_score;
use crate::wire::{Dialect, Kind, Stamp, Writer, receipt};
use crate::{Event, Fault, Finish, Piece, Receipt, Token};

pub(super) struct Answer {
    model: String,
    streamed: bool,
    complete: bool,
    new_line: bool,
    /// Of a whole answer, all of it.
    text: String,
    scores: Vec<Value>,
    tokens: Vec<Token>,
}

impl Answer {
    pub(super) fn new(asked: &Asked, stamp: Stamp) -> Self {
        Self {
            model: stamp.model,
            streamed: asked.stream,
            complete: false,
            new_line: false,
            text: String::new(),
            scores: Vec::new(),
            tokens: Vec::new(),
        }
    }

    fn take_piece(&mut self, piece: &Piece) -> String {
        self.text.push_str(&piece.text);
        self.new_line |= piece.text.contains('\n');
        self.scores.extend(piece.scores.iter().map(chat_score));
        self.tokens.extend(&piece.tokens);
        if !self.streamed || piece.is_empty() {
            return String::new();
        }
        let piece = self.piece();
        sse(None, &piece.to_string())
    }

    /// What was not told yet.
    fn piece(&mut self) -> Value {
        let mut out = json!({
            "index": 0,
            "content": std::mem::take(&mut self.text),
            "tokens": std::mem::take(&mut self.tokens),
            "id_slot": -1,
            "stop": false,
        });
        if !self.scores.is_empty() {
            out["completion_probabilities"] = json!(std::mem::take(&mut self.scores));
        }
        out
    }

    fn end(&mut self, receipt: &Receipt) -> String {
        self.complete = true;
        let mut out = self.piece();
        let usage = &receipt.usage;
        let stop_type = match receipt.finish {
            Finish::Length => "limit",
            _ if receipt.stop.is_some() => "word",
            _ => "eos",
        };
        let rest = [
            ("stop", json!(true)),
            ("model", json!(self.model)),
            ("tokens_predicted", json!(usage.completion_tokens)),
            ("tokens_evaluated", json!(usage.prompt_tokens)),
            ("tokens_cached", json!(usage.cached_tokens)),
            ("has_new_line", json!(self.new_line)),
            ("truncated", json!(false)),
            ("stop_type", json!(stop_type)),
            ("stopping_word", json!(receipt.stop.as_deref().unwrap_or_default())),
            ("timings", timings(receipt)),
            ("ingle", receipt::to_value(receipt)),
        ];
        for (name, value) in rest {
            out[name] = value;
        }
        if self.streamed { sse(None, &out.to_string()) } else { out.to_string() }
    }
}

/// Of the prompt only what no cache had is counted, as llama.cpp does.
fn timings(receipt: &Receipt) -> Value {
    let (times, usage) = (&receipt.timings, &receipt.usage);
    let prompt_ms = times.first_token.saturating_sub(times.queued).as_secs_f64() * 1e3;
    let predicted_ms = times.total.saturating_sub(times.first_token).as_secs_f64() * 1e3;
    let mut out = json!({ "cache_n": usage.cached_tokens });
    let parts = [
        ("prompt", usage.prompt_tokens.saturating_sub(usage.cached_tokens), prompt_ms),
        ("predicted", usage.completion_tokens, predicted_ms),
    ];
    for (name, count, ms) in parts {
        // JSON has no infinity.
        let ratio = |over: f64, under: f64| if under > 0.0 { over / under } else { 0.0 };
        let count_f = f64::from(count);
        out[format!("{name}_n")] = json!(count);
        out[format!("{name}_ms")] = json!(ms);
        out[format!("{name}_per_token_ms")] = json!(ratio(ms, count_f));
        out[format!("{name}_per_second")] = json!(ratio(count_f * 1e3, ms));
    }
    out
}

impl Writer for Answer {
    fn take(&mut self, _: u32, event: Event) -> Result<String, Fault> {
        match event {
            // A prompt that is no conversation has no thoughts or calls told apart.
            Event::Text(piece) | Event::Reasoning(piece) => Ok(self.take_piece(&piece)),
            Event::ToolCall { .. } | Event::Prompt(_) => Ok(String::new()),
            // Nobody else speaks this format.
            Event::Beams(_) | Event::Passed(_) => Ok(String::new()),
            Event::Done(receipt) => Ok(self.end(&receipt)),
            Event::Failed(fault) => Err(fault),
        }
    }

    fn complete(&self) -> bool {
        self.complete
    }

    fn failure(&self, kind: Kind, fault: &Fault) -> String {
        sse(None, &Dialect::LlamaCpp.write_error(kind, fault, ""))
    }

    fn beat(&self) -> &'static str {
        COMMENT
    }

    fn content_type(&self) -> &'static str {
        if self.streamed { SSE } else { JSON }
    }
}
