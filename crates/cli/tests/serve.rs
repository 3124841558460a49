//! `ingle serve` as its users meet it: what outlives it, signals, what the command line refuses.
//! Other people's clients are in `clients.rs`.
#![cfg(unix)]

mod support;

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::process::Output;

use serde_json::json;
use support::server::{Server, serve};
use support::tiny;

/// A streamed answer that does not end by itself, begun.
fn endless(server: &Server) -> BufReader<TcpStream> {
    let body = r#"{"messages":[{"role":"user","content":"Hello"}],
        "stream":true,"ignore_eos":true}"#;
    server.stream("/v1/chat/completions", body)
}

/// Serves, asks, and ends the server by a signal: the prompt tokens that were found, and what was
/// said, each token with its log-probability.
fn one_life(arguments: &[&str], prompt: &str) -> (u64, String) {
    let mut server = Server::start(arguments);
    let request = json!({
        "prompt": prompt, "max_tokens": 12, "temperature": 0, "logprobs": 3, "ignore_eos": true,
    });
    let answer = server.ask("POST", "/v1/completions", &request.to_string()).json();
    server.signal("TERM");
    assert!(server.wait().success());
    let found = &answer["usage"]["prompt_tokens_details"]["cached_tokens"];
    (found.as_u64().expect("a number"), answer["choices"][0].to_string())
}

/// The default model, one server after another. What was asked of the first is found by the second,
/// with the same answer to the last bit, and no damage done meanwhile changes that.
#[test]
fn a_prefix_outlives_the_server() {
    let folder = std::env::temp_dir().join(format!("ingle-serve-{}", std::process::id()));
    let flags = ["--prefix-cache-dir", folder.to_str().expect("UTF-8"), "--threads", "2"];
    let prompt = "Once upon a time there was a lighthouse keeper who counted ships. ".repeat(30);
    let files =
        || std::fs::read_dir(&folder).expect("is there").map(|file| file.expect("is").path());
    let (found, cold) = one_life(&flags, &prompt);
    assert_eq!(found, 0);
    let (found, warm) = one_life(&flags, &prompt);
    assert!(found >= 256, "{found} tokens were found");
    assert_eq!(warm, cold);
    assert_eq!(one_life(&["--threads", "2"], &prompt), (0, cold.clone()), "without it");
    for (at, file) in files().enumerate() {
        let mut bytes = std::fs::read(&file).expect("is there");
        let middle = bytes.len() / 2;
        match at % 3 {
            0 => bytes.truncate(middle),
            1 => bytes[middle] ^= 1,
            _ => bytes.clear(),
        }
        std::fs::write(&file, bytes).expect("may be");
    }
    assert_eq!(one_life(&flags, &prompt), (0, cold.clone()), "from damaged files");
    assert_eq!(one_life(&flags, &prompt), (found, cold), "which were replaced");
    std::fs::remove_dir_all(&folder).expect("is there");
}

#[test]
fn a_signal_ends_the_server_in_order() {
    let mut server = Server::start(&["--drain", "0"]);
    let mut stream = endless(&server);
    server.signal("TERM");
    let mut rest = String::new();
    stream.read_to_string(&mut rest).expect("UTF-8");
    assert!(rest.contains("the server is stopping"), "{rest}");
    assert!(server.wait().success());
}

#[test]
fn a_second_signal_does_not_wait() {
    let mut server = Server::start(&["--drain", "3600"]);
    let mut stream = endless(&server);
    server.signal("INT");
    let mut line = String::new();
    let address = server.address().to_owned();
    while TcpStream::connect(&address).is_ok() {
        assert!(stream.read_line(&mut line).expect("UTF-8") > 0, "what runs goes on: {line}");
    }
    server.signal("INT");
    // Whether it says a last word depends on who is quicker; that it ends does not.
    server.wait();
}

fn refused(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = serve(arguments).output().expect("runs");
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

#[test]
fn what_the_command_line_refuses() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let rows: &[(&[&str], i32, &str)] = &[
        (&["--host", "0.0.0.0", "--port", "0"], 2, "no API key is set"),
        (&["--api-key", "short", "--port", "0"], 2, "at least 8 characters"),
        (&["--isolate-keys", "--port", "0"], 2, "no API keys to isolate"),
        (&["--prefix-cache-mb", "9", "--port", "0"], 2, "--prefix-cache-dir"),
        (
            &["--prefix-cache-dir", "x", "--no-prefix-cache", "--port", "0"],
            2,
            "cannot be used with",
        ),
        (&["--cors-origin", "*", "--port", "0"], 2, "is no origin"),
        (&["--api-key-file", "/nowhere", "--port", "0"], 2, "/nowhere"),
        (&["--port", &port], 1, "cannot listen"),
        (&["./no-such-model.gguf", "--port", "0"], 1, "no-such-model.gguf"),
        (&["smollm2", "gemma3", "--as", "x"], 2, "x=REF"),
        (&["x=smollm2", "x=gemma3"], 2, "two models are called x"),
        (&["--keep-alive", "soon"], 2, "such as"),
        (&["--as", " x"], 2, "outer space"),
        (&[&tiny(), "--memory-mb", "1", "--kv-mb", "2", "--port", "0"], 1, "MB of memory"),
        (&[&tiny(), "./no-such-model.gguf", "--port", "0"], 1, "no-such-model.gguf"),
    ];
    for (arguments, code, words) in rows {
        let (status, said) = refused(arguments);
        assert_eq!(status, Some(*code), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
}
