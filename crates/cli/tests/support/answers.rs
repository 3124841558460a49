//! What another server says when all goes well: answers of OpenAI's, Anthropic's and Ollama's
//! protocols, by the path that was asked.

use serde_json::{Value, json};

use super::upstream::Asked;

/// A kind of content, and the parts of an answer: one, or the events of a stream.
type Told = (&'static str, Vec<String>);

const JSON: &str = "application/json";
const STREAM: &str = "text/event-stream";

/// A good answer.
#[derive(Clone, Debug)]
pub(crate) struct Good {
    /// What is said, in the pieces of a stream.
    pieces: Vec<String>,
    /// What is reported as used: tokens of the prompt, and of the answer.
    used: (u64, u64),
}

impl Default for Good {
    fn default() -> Self {
        Self::new("far", (9, 1))
    }
}

impl Good {
    /// One that is streamed in pieces of three characters, and reports this as used: tokens of the
    /// prompt, and of the answer.
    pub(crate) fn new(text: &str, used: (u64, u64)) -> Self {
        let all: Vec<char> = text.chars().collect();
        Self { pieces: all.chunks(3).map(|piece| piece.iter().collect()).collect(), used }
    }

    /// The answer to a request, in its protocol.
    pub(crate) fn told(&self, asked: &Asked) -> Told {
        let stream = &asked.body["stream"];
        match asked.path.as_str() {
            "/v1/messages" => self.messages(*stream == true),
            "/v1/responses" => self.response(),
            "/api/chat" => self.ollama(*stream != false),
            _ => self.chat(*stream == true),
        }
    }

    fn chat(&self, stream: bool) -> Told {
        let (prompt, answer) = self.used;
        let usage = json!({ "prompt_tokens": prompt, "completion_tokens": answer,
                            "total_tokens": prompt + answer });
        if !stream {
            let message = json!({ "role": "assistant", "content": self.pieces.concat() });
            let choice = json!({ "index": 0, "message": message, "finish_reason": "stop" });
            let whole = json!({ "id": "c", "object": "chat.completion", "created": 1, "model": "m",
                                "choices": [choice], "usage": usage });
            return (JSON, vec![whole.to_string()]);
        }
        let chunk = |choices: Value| {
            json!({ "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
                    "choices": choices })
        };
        let piece = |text: &String| {
            let delta = json!({ "role": "assistant", "content": text });
            chunk(json!([{ "index": 0, "delta": delta }]))
        };
        let mut all: Vec<Value> = self.pieces.iter().map(piece).collect();
        all.push(chunk(json!([{ "index": 0, "delta": {}, "finish_reason": "stop" }])));
        let mut last = chunk(json!([]));
        last["usage"] = usage;
        all.push(last);
        let mut parts = events(&all);
        parts.push("data: [DONE]\n\n".to_owned());
        (STREAM, parts)
    }

    /// Whole, with something in it that nobody here knows.
    fn response(&self) -> Told {
        let (prompt, answer) = self.used;
        let part = json!({ "type": "output_text", "text": self.pieces.concat(),
                           "annotations": [] });
        let item = json!({ "type": "message", "id": "msg_1", "role": "assistant",
                           "content": [part] });
        let usage = json!({ "input_tokens": prompt, "output_tokens": answer,
                            "total_tokens": prompt + answer });
        let whole = json!({ "id": "resp_far", "object": "response", "status": "completed",
                            "model": "m", "output": [item], "usage": usage, "odd": [1] });
        (JSON, vec![whole.to_string()])
    }

    fn messages(&self, stream: bool) -> Told {
        let usage = json!({ "input_tokens": self.used.0, "output_tokens": self.used.1 });
        let whole = |content: Value, reason: Value| {
            json!({ "id": "m", "type": "message", "role": "assistant", "model": "m",
                    "usage": usage, "content": content, "stop_reason": reason,
                    "stop_sequence": null })
        };
        if !stream {
            let text = json!([{ "type": "text", "text": self.pieces.concat() }]);
            return (JSON, vec![whole(text, "end_turn".into()).to_string()]);
        }
        let piece = |text: &String| {
            let delta = json!({ "type": "text_delta", "text": text });
            json!({ "type": "content_block_delta", "index": 0, "delta": delta })
        };
        let block = json!({ "type": "text", "text": "" });
        let mut all = vec![
            json!({ "type": "message_start", "message": whole(json!([]), Value::Null) }),
            json!({ "type": "content_block_start", "index": 0, "content_block": block }),
        ];
        all.extend(self.pieces.iter().map(piece));
        let end = json!({ "stop_reason": "end_turn" });
        all.extend([
            json!({ "type": "content_block_stop", "index": 0 }),
            json!({ "type": "message_delta", "delta": end, "usage": usage }),
            json!({ "type": "message_stop" }),
        ]);
        (STREAM, events(&all))
    }

    fn ollama(&self, stream: bool) -> Told {
        let piece = |text: &str, done: bool| {
            json!({ "model": "m", "created_at": "2026-01-01T00:00:00Z", "done": done,
                    "message": { "role": "assistant", "content": text }, "done_reason": "stop",
                    "prompt_eval_count": self.used.0, "eval_count": self.used.1 })
        };
        if !stream {
            return (JSON, vec![piece(&self.pieces.concat(), true).to_string()]);
        }
        let line = |text: &str, done: bool| format!("{}\n", piece(text, done));
        let mut lines: Vec<String> = self.pieces.iter().map(|text| line(text, false)).collect();
        lines.push(line("", true));
        ("application/x-ndjson", lines)
    }
}

/// Each with its name, where it has one.
fn events(events: &[Value]) -> Vec<String> {
    let one = |event: &Value| {
        let name = event["type"].as_str().map(|name| format!("event: {name}\n"));
        format!("{}data: {event}\n\n", name.unwrap_or_default())
    };
    events.iter().map(one).collect()
}
