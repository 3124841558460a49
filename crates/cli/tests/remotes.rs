//! Two real servers behind one that has no model: another of its kind, and litellm's proxy before
//! that. Chats, streams, tools and usage come through both, what nobody here knows of an answer's
//! fields too, and each call has its receipt. Without `litellm` on the path its part is skipped,
//! and says so.
#![cfg(unix)]
#![allow(clippy::print_stderr, reason = "a skipped test says so")]

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use support::place::Place;
use support::server::Server;
use support::{run, until};

/// litellm's proxy; ended when dropped.
struct Litellm {
    child: Child,
    port: u16,
}

impl Drop for Litellm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Litellm {
    /// Before a server, whose model it calls `small`; `None` where it is not installed.
    fn start(place: &Place, url: &str) -> Option<Self> {
        Command::new("litellm").arg("--version").output().ok()?;
        let config = format!(
            "model_list:\n  - model_name: small\n    litellm_params:\n      \
             model: openai/smollm2\n      \
             api_base: {url}/v1\n      api_key: none\nlitellm_settings:\n  telemetry: false\n\
             general_settings:\n  dangerously_permit_weak_or_unset_master_key: true\n"
        );
        let config = place.write("litellm.yaml", config);
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("bound").port();
        drop(free);
        let log = std::fs::File::create(place.path("litellm.log")).expect("a file");
        let child = Command::new("litellm")
            .args(["--config", &config, "--host", "127.0.0.1", "--num_workers", "1", "--port"])
            .arg(port.to_string())
            // The prices that it carries, rather than fetched ones.
            .envs([("LITELLM_LOCAL_MODEL_COST_MAP", "True"), ("LITELLM_LOG", "ERROR")])
            .current_dir(&place.0)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .expect("starts");
        let mut it = Self { child, port };
        until(|| {
            let over = it.child.try_wait().expect("is ours");
            let log = || std::fs::read_to_string(place.path("litellm.log")).unwrap_or_default();
            assert!(over.is_none(), "litellm ended: {}", log());
            it.lives()
        });
        Some(it)
    }

    fn lives(&self) -> bool {
        let Ok(mut socket) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        let ask = "GET /health/liveliness HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        let mut text = String::new();
        let done = socket.write_all(ask.as_bytes()).and_then(|()| socket.read_to_string(&mut text));
        done.is_ok() && text.starts_with("HTTP/1.1 200")
    }
}

fn policy(near: &str, lite: Option<u16>) -> String {
    // Without litellm nobody is at its address, and nobody asks there.
    let lite = lite.unwrap_or(9);
    format!(
        "default_class = \"open\"\n[classes.open]\nproviders = [\"near\", \"lite\"]\n\
         [providers.near]\nkind = \"compatible\"\nurl = \"{near}/v1\"\n\
         [providers.lite]\nkind = \"compatible\"\nurl = \"http://127.0.0.1:{lite}/v1\"\n\
         [prices.\"near/smollm2\"]\ninput_per_million = 1\noutput_per_million = 10\n\
         [prices.\"lite/small\"]\ninput_per_million = 1\noutput_per_million = 10\n"
    )
}

/// The data of a stream's events that are JSON.
fn events(text: &str) -> Vec<Value> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("data: "));
    lines.filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Tokens of the prompt and of the answer, as a chat's `usage` has them.
fn tokens(usage: &Value) -> (u64, u64) {
    let of = |name: &str| usage[name].as_u64().unwrap_or_else(|| panic!("{name} in {usage}"));
    (of("prompt_tokens"), of("completion_tokens"))
}

/// Asks one remote in all ways; `alone` is what its model says when it is asked itself.
fn check(server: &Server, model: &str, alone: &Value) {
    let turns = json!([{ "role": "user", "content": "Name three colours." }]);
    let asked = json!({ "model": model, "messages": turns, "max_tokens": 12, "temperature": 0 });
    let chat = |more: Value| {
        let mut asked = asked.clone();
        for (name, value) in more.as_object().expect("fields") {
            asked[name] = value.clone();
        }
        let said = server.ask("POST", "/v1/chat/completions", &asked.to_string());
        assert_eq!(said.status, 200, "{model}: {}", said.body);
        said
    };
    let text = alone["choices"][0]["message"]["content"].as_str().expect("a text");
    let whole = chat(json!({})).json();
    assert_eq!(whole["choices"][0]["message"]["content"], text, "{whole}");
    assert_eq!(tokens(&whole["usage"]), tokens(&alone["usage"]), "{whole}");
    let (prompt, answer) = tokens(&whole["usage"]);
    assert_eq!(whole["ingle"]["cost_micros"], prompt + 10 * answer, "{whole}");
    // A field of this name is no part of the protocol: it comes as the other server sent it.
    assert_eq!(whole["system_fingerprint"], alone["system_fingerprint"], "{whole}");

    let stream = chat(json!({ "stream": true, "stream_options": { "include_usage": true } }));
    let all = events(&stream.body);
    let pieces = all.iter().filter_map(|it| it["choices"][0]["delta"]["content"].as_str());
    assert_eq!(pieces.collect::<String>(), text, "{}", stream.body);
    let usage = all.iter().rev().find(|it| it["usage"].is_object()).expect("usage");
    assert_eq!(tokens(&usage["usage"]), (prompt, answer), "{usage}");

    let tool = json!({ "name": "look", "description": "Looks a word up.", "parameters": {
        "type": "object", "required": ["word"], "properties": {
            "word": { "type": "string", "enum": ["sea", "sky"] } } } });
    let called = chat(json!({ "max_tokens": 80, "tool_choice": "required", "tools": [
        { "type": "function", "function": tool }] }));
    let called = called.json();
    let call = &called["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!(call["name"], "look", "{called}");
    let arguments = call["arguments"].as_str().expect("JSON in a text");
    let arguments: Value = serde_json::from_str(arguments).expect("JSON");
    assert!(arguments["word"] == "sea" || arguments["word"] == "sky", "{called}");

    // Translated: Anthropic's protocol here, OpenAI's there.
    let said = server.ask("POST", "/v1/messages", &asked.to_string());
    assert_eq!(said.status, 200, "{}", said.body);
    let said = said.json();
    assert_eq!(said["content"][0]["text"], text, "{said}");
    assert_eq!(said["usage"]["output_tokens"], answer, "{said}");
}

#[test]
fn two_real_servers_answer_for_one() {
    let place = Place::new("remotes");
    let near = Server::start(&["smollm2"]);
    let litellm = Litellm::start(&place, &near.url);
    place.policy(&policy(&near.url, litellm.as_ref().map(|it| it.port)));
    let far = place.serve(&[]);
    let turns = json!([{ "role": "user", "content": "Name three colours." }]);
    let asked = json!({ "messages": turns, "max_tokens": 12, "temperature": 0 });
    let alone = near.ask("POST", "/v1/chat/completions", &asked.to_string()).json();
    check(&far, "near/smollm2", &alone);
    match &litellm {
        Some(_) => check(&far, "lite/small", &alone),
        None => eprintln!("NOT CHECKED: litellm's proxy as a provider: it is not on the path"),
    }
    drop(far);
    let rows = place.calls();
    let providers = ["near", "lite"];
    for provider in &providers[..1 + usize::from(litellm.is_some())] {
        let its: Vec<&Value> = rows.iter().filter(|row| row["provider"] == *provider).collect();
        assert_eq!(its.len(), 4, "{provider}: {rows:?}");
        for row in its {
            assert!(row["bytes_out"].as_u64() > Some(100), "{row}");
            assert_eq!(row["route"][0]["taken"], true, "{row}");
            // What stays on loopback has not left this machine.
            assert!(row["hosts"].is_null(), "{row}");
            let (prompt, answer) = tokens(&row["usage"]);
            assert_eq!(row["cost"]["micros"], prompt + 10 * answer, "{row}");
        }
    }
    assert_eq!(run(&["audit", "verify", "--ledger", &place.ledger()]).code, Some(0));
}
