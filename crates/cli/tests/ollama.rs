//! Models that a client fetches and deletes, by the whole program: where that was allowed, from a
//! hub made of a socket, into a store of the test's own.
#![cfg(unix)]

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;

use serde_json::{Value, json};
use support::server::Server;
use support::{of, tiny};

/// Answers one request with a file; gives its address and what was asked.
fn hub(file: Vec<u8>) -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = format!("http://{}/", listener.local_addr().expect("bound"));
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accepted");
        let mut head = vec![0; 4096];
        let count = stream.read(&mut head).expect("read");
        let length = file.len();
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").expect("written");
        stream.write_all(&file).expect("written");
        String::from_utf8_lossy(&head[..count]).into_owned()
    });
    (address, asked)
}

fn names(server: &Server) -> Vec<String> {
    let tags = server.ask("GET", "/api/tags", "").json();
    let models = tags["models"].as_array().expect("a list").iter();
    models.filter_map(|model| model["name"].as_str().map(str::to_owned)).collect()
}

#[test]
fn a_model_is_fetched_asked_and_deleted() {
    let home = std::env::temp_dir().join(format!("ingle-ollama-{}", std::process::id()));
    let file = std::fs::read(of("engine", "golden/archs/qwen3.gguf")).expect("is there");
    let (address, asked) = hub(file);
    let env = [("INGLE_HOME", home.to_str().expect("UTF-8")), ("HF_ENDPOINT", &address)];
    let first = format!("first={}", tiny());
    let server = Server::start_with(&[&first, "--kv-mb", "2", "--allow-pull"], &env);
    assert_eq!(names(&server), ["first"]);
    let pulled = server.stream_all("/api/pull", r#"{"model":"hf:o/r/m.gguf"}"#);
    let last: Value = serde_json::from_str(pulled.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last, json!({ "status": "success" }), "{pulled}");
    assert!(asked.join().expect("no panic").starts_with("GET /o/r/resolve/"));
    let known = names(&server);
    let [_, name] = known.as_slice() else { panic!("{known:?}") };
    // A base model: the prompt is continued as it stands.
    let body = json!({
        "model": name, "prompt": "ab", "stream": false, "options": { "num_predict": 4 },
    });
    let answer = server.ask("POST", "/api/generate", &body.to_string());
    assert_eq!((answer.status, answer.json()["eval_count"].as_u64()), (200, Some(4)));
    let shown = server.ask("POST", "/api/show", &json!({ "model": name }).to_string()).json();
    assert_eq!(shown["model_info"]["general.architecture"], "qwen3");
    let path = json!({ "model": "/etc/passwd" }).to_string();
    let refused = server.stream_all("/api/pull", &path);
    assert!(refused.contains("not by path"), "{refused}");
    let body = json!({ "model": name }).to_string();
    assert_eq!(server.ask("DELETE", "/api/delete", &body).status, 200);
    assert_eq!(names(&server), ["first"]);
    assert_eq!(server.ask("DELETE", "/api/delete", &body).status, 404);
    drop(server);
    std::fs::remove_dir_all(&home).expect("is there");
}
