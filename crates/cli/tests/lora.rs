//! Adapters as their users meet them: on the command line, and on a server by the model's name, by
//! llama.cpp's lists and by vLLM's routes.
#![cfg(unix)]

mod support;

use serde_json::{Value, json};
use support::server::{Reply, Server};
use support::{of, run};

fn model() -> String {
    of("engine", "golden/archs/qwen3.gguf")
}

fn adapter(name: &str) -> String {
    of("engine", &format!("golden/adapters/{name}"))
}

const PROMPT: &str = "The rain in Spain";

/// What the command line answers with these adapters.
fn ran(adapters: &[&str]) -> Value {
    let model = model();
    let plain = ["run", "--json", "--raw", "--temperature", "0", "-n", "12", "-m", &model];
    let lora = adapters.iter().flat_map(|adapter| ["--lora", adapter]);
    run(&plain.into_iter().chain(lora).chain([PROMPT]).collect::<Vec<_>>()).json()
}

#[test]
fn a_run_has_its_adapters() {
    let path = adapter("qwen3");
    let (plain, whole) = (ran(&[]), ran(&[&path]));
    assert_ne!(plain["text"], whole["text"]);
    assert_eq!(whole["receipt"]["model"], format!("{}:qwen3", model()));
    assert_eq!(ran(&[&format!("{path}=0")])["text"], plain["text"]);
    let twice = ran(&[&format!("{path}=0.5"), &format!("{path}=0.5")]);
    assert_eq!(twice["receipt"]["model"], format!("{}:qwen3+qwen3 2", model()));
    let refused = |path: &str, words: &[&str]| {
        run(&["run", "-m", &model(), "--lora", path, "Hi"]).refused(1, words);
    };
    refused(&adapter("llama"), &["the adapter `llama`", "was it made for another model?"]);
    refused(&model(), &["general.type"]);
    refused("./nothing", &["./nothing"]);
}

fn start(more: &[&str]) -> Server {
    let (base, tuned) = (format!("base={}", model()), format!("tuned={}", adapter("qwen3")));
    let mut arguments = vec![base.as_str(), "--lora", &tuned, "--kv-mb", "8"];
    arguments.extend(more);
    Server::start(&arguments)
}

fn completion(server: &Server, model: &str, more: Value) -> Reply {
    let mut body = json!({
        "model": model, "prompt": PROMPT, "temperature": 0, "max_tokens": 12,
    });
    body.as_object_mut().expect("one").extend(more.as_object().expect("one").clone());
    server.ask("POST", "/v1/completions", &body.to_string())
}

fn text(server: &Server, model: &str, more: Value) -> Value {
    let reply = completion(server, model, more);
    assert_eq!(reply.status, 200, "{}", reply.body);
    let mut body = reply.json();
    assert!(model.is_empty() || model.ends_with(body["model"].as_str().expect("a name")), "{body}");
    body["choices"][0]["text"].take()
}

#[test]
fn a_request_chooses_its_adapter() {
    let server = start(&[]);
    let (plain, tuned) = (ran(&[])["text"].clone(), ran(&[&adapter("qwen3")])["text"].clone());
    let none = json!({});
    for (model, expect) in
        [("", &plain), ("base", &plain), ("tuned", &tuned), ("base:tuned", &tuned)]
    {
        assert_eq!(text(&server, model, none.clone()), *expect, "{model}");
    }
    for (lora, expect) in [
        (json!([{ "id": 0, "scale": 1.0 }]), &tuned),
        (json!([{ "name": "tuned" }]), &tuned),
        (json!([{ "id": 0, "scale": 0.0 }]), &plain),
        (json!([]), &plain),
    ] {
        assert_eq!(text(&server, "base", json!({ "lora": lora })), *expect, "{lora}");
        let body = json!({
            "prompt": PROMPT, "n_predict": 12, "temperature": 0, "min_p": 0, "top_k": 0, "lora": lora,
        });
        let reply = server.ask("POST", "/completion", &body.to_string()).json();
        assert_eq!(reply["content"], *expect, "{lora}: {reply}");
    }
    let refused = |model: &str, more: Value, status: u16, words: &str| {
        let reply = completion(&server, model, more);
        assert!(reply.status == status && reply.body.contains(words), "{}", reply.body);
    };
    refused("other", json!({}), 404, "there is: base, tuned");
    refused("base:other", json!({}), 404, "there is: base, tuned");
    refused("base", json!({ "lora": [{ "id": 1 }] }), 400, "no adapter 1");
    refused("tuned", json!({ "lora": [] }), 400, "an adapter already");
    let lines = server.ask("GET", "/v1/models", "").json();
    let told: Vec<Value> = lines["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|line| json!([line["id"], line["parent"], line["status"]]))
        .collect();
    assert_eq!(told, [json!(["base", null, "ready"]), json!(["tuned", "base", "ready"])]);
    assert_eq!(server.ask("GET", "/v1/models/base:tuned", "").json()["id"], "tuned");
}

#[test]
fn scales_are_set_for_those_who_say_nothing() {
    let server = start(&[]);
    let (plain, tuned) = (text(&server, "base", json!({})), text(&server, "tuned", json!({})));
    let list = || server.ask("GET", "/lora-adapters", "").json();
    assert_eq!(list(), json!([{ "id": 0, "name": "tuned", "path": "qwen3", "scale": 0.0 }]));
    let set = |scales: Value| server.ask("POST", "/lora-adapters", &scales.to_string());
    assert_eq!(set(json!([{ "id": 0, "scale": 1.0 }])).json(), json!({ "success": true }));
    assert_eq!(list()[0]["scale"], 1.0);
    assert_eq!(text(&server, "base", json!({})), tuned);
    assert_eq!(text(&server, "base", json!({ "lora": [] })), plain);
    assert_eq!(set(json!([{ "id": 1, "scale": 1.0 }])).status, 400);
    assert_eq!(set(json!([])).status, 200);
    assert_eq!(text(&server, "base", json!({})), plain);
}

/// A path is a file of the server's machine.
#[test]
fn clients_load_no_files_unless_they_may() {
    let server = start(&[]);
    for (path, body) in [
        ("/v1/load_lora_adapter", json!({ "lora_name": "x", "lora_path": adapter("qwen3") })),
        ("/v1/unload_lora_adapter", json!({ "lora_name": "tuned" })),
    ] {
        let reply = server.ask("POST", path, &body.to_string());
        assert_eq!((reply.status, reply.body.contains("--allow-pull")), (403, true), "{path}");
    }
}

#[test]
fn adapters_are_loaded_and_unloaded_while_it_runs() {
    let second = format!("second={}", of("engine", "golden/archs/phi3.gguf"));
    let server = start(&[&second, "--allow-pull"]);
    let tuned = text(&server, "tuned", json!({}));
    let before = server.ask("GET", "/v1/models/base", "").json()["memory_bytes"].as_u64();
    let load = |body: Value| server.ask("POST", "/v1/load_lora_adapter", &body.to_string());
    let again = json!({ "lora_name": "again", "lora_path": adapter("qwen3") });
    let reply = load(again.clone());
    assert_eq!((reply.status, reply.body.contains("'again' added")), (200, true), "{}", reply.body);
    assert_eq!(text(&server, "again", json!({})), tuned);
    let after = server.ask("GET", "/v1/models/base", "").json()["memory_bytes"].as_u64();
    assert!(after > before, "{after:?}, {before:?}");
    let refused = |body: Value, words: &str| {
        let reply = load(body);
        assert!(
            reply.status == 400 && reply.body.contains(words),
            "{} {}",
            reply.status,
            reply.body
        );
    };
    refused(again, "already: unload it first");
    refused(
        json!({ "lora_name": "base", "lora_path": adapter("qwen3") }),
        "there is a model `base`",
    );
    refused(json!({ "lora_name": "x", "lora_path": adapter("llama") }), "made for another model?");
    refused(json!({ "lora_name": "x", "lora_path": "/nothing" }), "/nothing");
    refused(json!({ "lora_name": "x" }), "lora_path");
    // Beside a model that is loaded for it.
    let other = json!({
        "lora_name": "p", "lora_path": adapter("phi3"), "base_model_name": "second",
    });
    assert_eq!(load(other).status, 200);
    assert_ne!(text(&server, "p", json!({})), text(&server, "second", json!({})));
    // What leaves memory comes back with its adapters.
    let unload = |path: &str, body: Value| server.ask("POST", path, &body.to_string());
    assert_eq!(unload("/v1/models/base/unload", json!({})).status, 202);
    assert_eq!(text(&server, "again", json!({})), tuned);
    let gone = |name: &str| unload("/v1/unload_lora_adapter", json!({ "lora_name": name }));
    assert_eq!(gone("again").status, 200);
    assert_eq!(completion(&server, "again", json!({})).status, 404);
    assert_eq!(gone("again").status, 404);
    assert_eq!(gone("base").status, 400);
    assert_eq!(server.ask("GET", "/v1/models/base", "").json()["memory_bytes"].as_u64(), before);
    assert_eq!(text(&server, "tuned", json!({})), tuned);
}

#[test]
fn names_are_given_once() {
    let (base, tuned) = (format!("a={}", model()), format!("a={}", adapter("qwen3")));
    run(&["serve", &base, "--lora", &tuned]).refused(2, &["an adapter's name is there twice: a"]);
    let wrong = format!("b={}", adapter("llama"));
    run(&["serve", &base, "--port", "0", "--quiet", "--lora", &wrong]).refused(1, &["`b`"]);
}
