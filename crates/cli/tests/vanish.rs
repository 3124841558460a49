//! Clients that go away in the middle of their answers, and one that reads nothing: through the
//! built program and its default model, nothing of them stays, and nobody waits for them.
#![cfg(unix)]

mod support;

use std::io::{BufRead, BufReader, Read};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use serde_json::json;
use support::server::Server;

/// How many go away, one after another.
const CLIENTS: usize = 1000;
/// By then all that is taken once and kept has been taken.
const WARM: usize = 200;
/// The most bytes of memory that the others may leave behind, all together: 20 kB each, while the
/// keys and values of an answer of one block alone are 370 kB. (Seen: 5 MB, and less with each
/// further thousand; docs/DEPLOY.md has the figures.)
const GROWTH: f64 = 16e6;

/// How the protocols ask for an endless stream, and what a piece of an answer has in it.
fn streams() -> [(&'static str, String, &'static str); 3] {
    let messages = json!([{ "role": "user", "content": "Tell me a long story." }]);
    let openai = json!({ "messages": messages, "stream": true, "ignore_eos": true });
    let anthropic = json!({ "model": "smollm2", "messages": messages, "stream": true,
                            "max_tokens": 1000 });
    let ollama = json!({ "model": "smollm2", "messages": messages,
                         "options": { "num_predict": 1000 } });
    [
        ("/v1/chat/completions", openai.to_string(), "\"content\":\""),
        ("/v1/messages", anthropic.to_string(), "text_delta"),
        ("/api/chat", ollama.to_string(), "\"content\":\""),
    ]
}

/// Asks, reads up to some words of the answer, and hangs up: in order, or as a crash would.
fn vanish(server: &Server, at: usize) {
    let streams = streams();
    let (path, body, piece) = &streams[at % streams.len()];
    let mut reader = BufReader::new(server.send("POST", path, body));
    let mut pieces = 0;
    // Some leave before the first word.
    while pieces < at % 5 {
        let mut line = String::new();
        assert!(reader.read_line(&mut line).expect("UTF-8") > 0, "{path} ended: {line}");
        pieces += usize::from(line.contains(piece));
    }
    if at.is_multiple_of(2) {
        let _ = reader.get_ref().shutdown(Shutdown::Both);
    }
}

/// Waits until nothing runs or waits, nor holds a block.
fn idle(server: &Server) {
    let names = [
        "ingle_server_answers_in_flight",
        "ingle_engine_sequences_running",
        "ingle_engine_sequences_waiting",
        "ingle_engine_kv_blocks_used",
        "ingle_model_requests",
    ];
    until(|| names.iter().all(|name| server.metric(name) == 0.0));
}

/// Waits until something is so; a test that waits in vain fails.
fn until(so: impl Fn() -> bool) {
    for _ in 0..6000 {
        if so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("waited in vain");
}

#[test]
fn clients_that_vanish_leave_nothing() {
    // Memory for keys and values is taken when it is first written, so all of it is, here.
    let server = Server::start(&["--kv-mb", "48"]);
    let filling = json!({
        "messages": [{ "role": "user", "content": "Tell me a long story." }],
        "n": 8, "max_tokens": 240, "ignore_eos": true,
    });
    assert_eq!(server.ask("POST", "/v1/chat/completions", &filling.to_string()).status, 200);
    let memory = || server.metric("process_resident_memory_bytes");
    (0..WARM).for_each(|at| vanish(&server, at));
    idle(&server);
    let before = memory();
    (WARM..CLIENTS).for_each(|at| vanish(&server, at));
    idle(&server);
    let after = memory();
    eprintln!("after {WARM} clients {before} bytes, after {CLIENTS} {after}");
    assert!(after - before < GROWTH, "{before} bytes became {after}");
    let counted = server.metric("ingle_server_abandoned_total");
    assert!(counted <= CLIENTS as f64 && counted > CLIENTS as f64 * 0.7, "{counted}");
    let answer = server.ask("POST", "/v1/chat/completions", &brief(8)).json();
    assert_eq!(answer["usage"]["completion_tokens"], 8, "and the next one is served");
}

/// A short answer that is the same every time.
fn brief(max_tokens: u32) -> String {
    json!({
        "messages": [{ "role": "user", "content": "Name three colours." }],
        "max_tokens": max_tokens, "temperature": 0, "ignore_eos": true,
    })
    .to_string()
}

/// Its answer is computed to the end and kept for it, while it reads none of it and others are
/// served; then it is all there.
#[test]
fn a_slow_reader_slows_nobody() {
    let server = Server::start(&["--context", "4096"]);
    let first = server.ask("POST", "/v1/chat/completions", &brief(16)).json();
    let (tokens, choices) = (800, 4);
    // With so many likely tokens each piece is long: far more than sockets hold.
    let body = json!({
        "messages": [{ "role": "user", "content": "Tell me a long story." }],
        "max_tokens": tokens, "n": choices, "ignore_eos": true, "stream": true,
        "logprobs": true, "top_logprobs": 20, "stream_options": { "include_usage": true },
    });
    let slow: TcpStream = server.send("POST", "/v1/chat/completions", &body.to_string());
    for _ in 0..8 {
        let other = server.ask("POST", "/v1/chat/completions", &brief(16)).json();
        let content = |answer: &serde_json::Value| answer["choices"][0]["message"].clone();
        assert_eq!(content(&other), content(&first));
    }
    // The model is done with it, though nobody has read a word.
    until(|| server.metric("ingle_engine_sequences_running") == 0.0);
    let computed = server.metric("ingle_engine_generated_tokens_total");
    assert!(computed >= f64::from(tokens * choices), "{computed}");
    assert_eq!(
        server.metric("ingle_server_answers_in_flight"),
        f64::from(choices),
        "it is not read yet"
    );
    let mut text = String::new();
    BufReader::new(slow).read_to_string(&mut text).expect("UTF-8");
    assert!(
        text.contains(&format!("\"completion_tokens\":{}", tokens * choices))
            && text.contains("[DONE]")
    );
}
