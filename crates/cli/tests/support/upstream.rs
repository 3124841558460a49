//! Another server, as a script: it keeps every byte that it gets, and answers as a test wants. Its
//! good answers are those of OpenAI's, Anthropic's and Ollama's protocol, by the path.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

/// What is answered, to the request of this number, in the order in which they came.
pub(crate) type Answer = dyn Fn(&Asked, usize, &mut TcpStream) + Send + Sync;

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) head: String,
    pub(crate) path: String,
    pub(crate) body: Value,
}

pub(crate) struct Upstream {
    /// Without a path.
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    connections: Arc<Mutex<usize>>,
}

impl Upstream {
    pub(crate) fn start(
        answer: impl Fn(&Asked, usize, &mut TcpStream) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let (asked, connections) = (Arc::<Mutex<Vec<Asked>>>::default(), Arc::default());
        let (kept, met) = (Arc::clone(&asked), Arc::<Mutex<usize>>::clone(&connections));
        let answer: Arc<Answer> = Arc::new(answer);
        thread::spawn(move || {
            for socket in listener.incoming() {
                let (kept, answer) = (Arc::clone(&kept), Arc::clone(&answer));
                *met.lock().expect("not poisoned") += 1;
                thread::spawn(move || meet(socket.expect("a client"), &kept, &*answer));
            }
        });
        Self { url, asked, connections }
    }

    /// All requests that came.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("not poisoned").clone()
    }

    /// How many connections there were, with requests or without.
    pub(crate) fn connections(&self) -> usize {
        *self.connections.lock().expect("not poisoned")
    }
}

fn meet(socket: TcpStream, kept: &Mutex<Vec<Asked>>, answer: &Answer) {
    let mut reader = BufReader::new(socket.try_clone().expect("a socket"));
    let (mut head, mut length) = (String::new(), 0);
    while !head.ends_with("\r\n\r\n") {
        let begin = head.len();
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return;
        }
        if let Some(value) = head[begin..].to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
    }
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let body = serde_json::from_slice(&body).expect("JSON");
    let asked = Asked { head, path, body };
    let number = {
        let mut all = kept.lock().expect("not poisoned");
        all.push(asked.clone());
        all.len() - 1
    };
    let mut socket = socket;
    answer(&asked, number, &mut socket);
}

/// The head of an answer of this status and kind of content; it ends with its connection.
pub(crate) fn head(status: &str, kind: &str, more: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\n{more}connection: close\r\n\r\n")
}

/// A good answer: its kind of content, and its text.
pub(crate) fn good(asked: &Asked) -> (&'static str, String) {
    let stream = asked.body["stream"] != false && !asked.body["stream"].is_null();
    match (asked.path.as_str(), stream) {
        ("/v1/messages", _) => messages(stream),
        ("/api/chat", _) => {
            let piece = |text: &str, done: bool| {
                json!({ "model": "m", "created_at": "2026-01-01T00:00:00Z", "done": done,
                        "message": { "role": "assistant", "content": text },
                        "done_reason": "stop", "prompt_eval_count": 9, "eval_count": 1 })
            };
            match asked.body["stream"] == false {
                true => ("application/json", piece("far", true).to_string()),
                false => {
                    let lines = format!("{}\n{}\n", piece("far", false), piece("", true));
                    ("application/x-ndjson", lines)
                }
            }
        }
        _ => chat(stream),
    }
}

fn events(events: &[Value]) -> String {
    let one = |event: &Value| {
        let name = event["type"].as_str().map(|name| format!("event: {name}\n"));
        format!("{}data: {event}\n\n", name.unwrap_or_default())
    };
    events.iter().map(one).collect()
}

fn chat(stream: bool) -> (&'static str, String) {
    let usage = json!({ "prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10 });
    if !stream {
        let message = json!({ "role": "assistant", "content": "far" });
        let choice = json!({ "index": 0, "message": message, "finish_reason": "stop" });
        let whole = json!({ "id": "c", "object": "chat.completion", "created": 1, "model": "m",
                            "choices": [choice], "usage": usage });
        return ("application/json", whole.to_string());
    }
    let chunk = |choices: Value| {
        json!({ "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
                "choices": choices })
    };
    let mut last = chunk(json!([]));
    last["usage"] = usage;
    let all = [
        chunk(json!([{ "index": 0, "delta": { "role": "assistant", "content": "far" } }])),
        chunk(json!([{ "index": 0, "delta": {}, "finish_reason": "stop" }])),
        last,
    ];
    ("text/event-stream", format!("{}data: [DONE]\n\n", events(&all)))
}

fn messages(stream: bool) -> (&'static str, String) {
    let usage = json!({ "input_tokens": 9, "output_tokens": 1 });
    let whole = |content: Value, reason: Value| {
        json!({ "id": "m", "type": "message", "role": "assistant", "model": "m", "usage": usage,
                "content": content, "stop_reason": reason, "stop_sequence": null })
    };
    if !stream {
        let text = json!([{ "type": "text", "text": "far" }]);
        return ("application/json", whole(text, "end_turn".into()).to_string());
    }
    let delta = json!({ "type": "text_delta", "text": "far" });
    let all = [
        json!({ "type": "message_start", "message": whole(json!([]), Value::Null) }),
        json!({ "type": "content_block_start", "index": 0,
                "content_block": { "type": "text", "text": "" } }),
        json!({ "type": "content_block_delta", "index": 0, "delta": delta }),
        json!({ "type": "content_block_stop", "index": 0 }),
        json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" }, "usage": usage }),
        json!({ "type": "message_stop" }),
    ];
    ("text/event-stream", events(&all))
}

/// Answers well.
pub(crate) fn well(asked: &Asked, _: usize, socket: &mut TcpStream) {
    let (kind, text) = good(asked);
    let length = format!("content-length: {}\r\n", text.len());
    // Who asked may be gone.
    let _ = socket.write_all(format!("{}{text}", head("200 OK", kind, &length)).as_bytes());
}

/// A folder of a test's own, gone with it.
pub(crate) struct Place(pub(crate) PathBuf);

impl Place {
    pub(crate) fn new(name: &str) -> Self {
        let name = format!("{name}-{}", std::process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("UTF-8").to_owned()
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        std::fs::write(self.0.join(name), text).expect("a file");
        self.path(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}
