//! Another server, as a script, whose answers have prices that tell them apart: what it does with a
//! request stands in the request.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// Another server, as a script. What it does with a request stands in its last message: a word and
/// a number. The number says what it reports as used, so that no two calls cost the same.
pub(crate) struct Upstream {
    pub(crate) url: String,
}

/// What a call of this number takes: prompt and completion, in tokens.
fn used(number: u64) -> (u64, u64) {
    (1 + number % 10, 1 + number / 10)
}

/// Its price: one for each token of its prompt, ten for each of its answer.
pub(crate) fn price(number: u64) -> u64 {
    let (prompt, completion) = used(number);
    prompt + 10 * completion
}

impl Upstream {
    /// One that runs for as long as the test does.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/v1", listener.local_addr().expect("bound"));
        let seen = Arc::<Mutex<BTreeMap<u64, u32>>>::default();
        thread::spawn(move || {
            for socket in listener.incoming() {
                let (socket, seen) = (socket.expect("a client"), Arc::clone(&seen));
                thread::spawn(move || answer(socket, &seen));
            }
        });
        Self { url }
    }
}

fn request(reader: &mut BufReader<TcpStream>) -> Option<Value> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    serde_json::from_slice(&body).ok()
}

/// How often a request of that word is begun to be answered and dropped, so that it may be charged.
const DROPS: [(&str, u32); 4] = [("drop", 1), ("drops", 2), ("away", 2), ("never", u32::MAX)];

fn answer(mut socket: TcpStream, seen: &Mutex<BTreeMap<u64, u32>>) {
    let mut reader = BufReader::new(socket.try_clone().expect("a socket"));
    let Some(asked) = request(&mut reader) else { return };
    let said = asked["messages"][0]["content"].as_str().expect("a text");
    let (what, number) = said.split_once(' ').expect("a word and a number");
    let number: u64 = number.parse().expect("a number");
    let before = {
        let mut seen = seen.lock().expect("no panic");
        let times = seen.entry(number).or_default();
        *times += 1;
        *times - 1
    };
    if what == "fail" || (what == "flaky" && before == 0) {
        let head = "HTTP/1.1 500 No\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
        return drop(socket.write_all(head.as_bytes()));
    }
    let (prompt, completion) = used(number);
    let total = prompt + completion;
    let usage = json!({
        "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total,
    });
    if asked["stream"] != true {
        let message = json!({ "role": "assistant", "content": "well" });
        let choice = json!({ "index": 0, "message": message, "finish_reason": "stop" });
        let whole = json!({
            "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage,
        });
        let (text, kind) = (whole.to_string(), "application/json");
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n",
            text.len()
        );
        return drop(socket.write_all(format!("{head}{text}").as_bytes()));
    }
    if DROPS.iter().any(|(word, times)| *word == what && before < *times) {
        return drop(socket.write_all(STREAM.as_bytes()));
    }
    drop(stream(&mut socket, what, &usage));
}

/// The head of a stream.
const STREAM: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";

/// For how many milliseconds a stream pauses.
const PAUSES: [(&str, u64); 2] = [("endless", 60_000), ("long", 5_000)];

/// A stream of some pieces, with a pause behind the first; one that is cut ends there.
fn stream(socket: &mut TcpStream, what: &str, usage: &Value) -> std::io::Result<()> {
    socket.write_all(STREAM.as_bytes())?;
    let piece = json!({ "model": "m", "choices": [{ "index": 0, "delta": { "content": "we" } }] });
    let end = json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] });
    let last = json!({ "choices": [], "usage": usage });
    socket.write_all(format!("data: {piece}\n\n").as_bytes())?;
    if what == "cut" {
        return Ok(());
    }
    let pause = PAUSES.iter().find(|row| row.0 == what).map_or(20, |row| row.1);
    thread::sleep(Duration::from_millis(pause));
    let rest = [piece.to_string(), end.to_string(), last.to_string(), "[DONE]".to_owned()];
    rest.iter().try_for_each(|event| socket.write_all(format!("data: {event}\n\n").as_bytes()))
}
