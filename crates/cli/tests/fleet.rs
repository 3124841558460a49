//! `ingle serve` with several models: who is in memory, who waits, and what they are told.
#![cfg(unix)]

mod support;

use std::io::Read;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::of;
use support::server::{Reply, Server};

/// Two random base models that take 3 to 4 MB each with 2 MB of KV cache.
fn golden(name: &str) -> String {
    format!("{name}={}", of("engine", &format!("golden/archs/{name}.gguf")))
}

/// A server of both, in memory for one of them or for both.
fn start(memory_mb: &str, more: &[&str]) -> Server {
    let (first, second) = (golden("qwen2"), golden("qwen3"));
    let mut arguments = vec![first.as_str(), &second, "--kv-mb", "2", "--memory-mb", memory_mb];
    arguments.extend(more);
    Server::start(&arguments)
}

const COMPLETIONS: &str = "/v1/completions";

fn body(model: &str, more: Value) -> String {
    let mut body = json!({ "model": model, "prompt": "Once upon", "temperature": 0 });
    body.as_object_mut().expect("one").extend(more.as_object().expect("one").clone());
    body.to_string()
}

fn answer(server: &Server, model: &str, more: Value) -> Value {
    let reply = server.ask("POST", COMPLETIONS, &body(model, more));
    assert_eq!(reply.status, 200, "{}", reply.body);
    reply.json()
}

fn card(server: &Server, model: &str) -> Value {
    server.ask("GET", &format!("/v1/models/{model}"), "").json()
}

/// Waits until something is so; a test that waits in vain fails.
fn until(so: impl Fn() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < Duration::from_secs(120), "waited in vain");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The texts of a stream's choices, put together from its events.
fn texts(stream: &str, choices: usize) -> Vec<String> {
    let events = stream.lines().filter_map(|line| line.strip_prefix("data: "));
    let mut texts = vec![String::new(); choices];
    for event in events.filter(|event| event.starts_with('{')) {
        let event: Value = serde_json::from_str(event).expect("JSON");
        assert!(event.get("error").is_none(), "{event}");
        for choice in event["choices"].as_array().into_iter().flatten() {
            let index = choice["index"].as_u64().expect("a number") as usize;
            texts[index].push_str(choice["text"].as_str().expect("a text"));
        }
    }
    texts
}

#[test]
fn two_models_take_turns_in_memory_for_one() {
    let mut server = start("6", &[]);
    let names: Vec<Value> = server.ask("GET", "/v1/models", "").json()["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|model| json!([model["id"], model["status"], model["max_model_len"]]))
        .collect();
    assert_eq!(names, [json!(["qwen2", "ready", 512]), json!(["qwen3", "unloaded", 512])]);
    let first = answer(&server, "", json!({ "max_tokens": 8 }));
    assert_eq!(
        (&first["model"], &first["ingle"]["timings"]["load_ms"]),
        (&json!("qwen2"), &json!(0.0))
    );
    for turn in 0..3 {
        let other = answer(&server, "qwen3", json!({ "max_tokens": 8 }));
        assert_eq!(other["model"], "qwen3");
        assert!(other["ingle"]["timings"]["load_ms"].as_f64() > Some(0.0), "{turn}: {other}");
        assert_eq!(
            [server.event(), server.event()].map(|it| [it["event"].clone(), it["model"].clone()]),
            [["unloaded", "qwen2"], ["loaded", "qwen3"]]
        );
        let again = answer(&server, "qwen2", json!({ "max_tokens": 8 }));
        assert_eq!(again["choices"], first["choices"], "a swap changes no answer");
        assert_eq!(
            [server.event(), server.event()].map(|it| [it["event"].clone(), it["model"].clone()]),
            [["unloaded", "qwen3"], ["loaded", "qwen2"]]
        );
    }
    let metrics = server.ask("GET", "/metrics", "").body;
    for line in [
        "ingle_model_loads_total{model=\"qwen2\"} 4",
        "ingle_model_loads_total{model=\"qwen3\"} 3",
        "ingle_fleet_memory_bytes 6000000",
        "ingle_model_loaded{model=\"qwen2\"} 1",
    ] {
        assert!(metrics.lines().any(|other| other == line), "{line} in {metrics}");
    }
    let used = metrics.lines().find_map(|it| it.strip_prefix("ingle_fleet_memory_used_bytes "));
    assert_eq!(used, Some(card(&server, "qwen2")["memory_bytes"].to_string().as_str()));
}

/// The plain kernels of one thread take seconds for so many tokens: the other model is asked for
/// while they come.
#[test]
fn an_answer_under_way_outlives_the_wish_for_another_model() {
    let slow = ["--kernels", "reference", "--threads", "1", "--max-answers", "64"];
    let long =
        json!({ "n": 16, "max_tokens": 300, "ignore_eos": true, "temperature": 1, "seed": 5 });
    let alone = answer(&start("6", &slow), "qwen2", long.clone());
    let alone: Vec<&str> = alone["choices"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|choice| choice["text"].as_str().expect("a text"))
        .collect();
    let server = start("6", &slow);
    let mut streamed = long.clone();
    streamed["stream"] = json!(true);
    let request = body("qwen2", streamed);
    let mut socket = server.send("POST", COMPLETIONS, &request);
    until(|| card(&server, "qwen2")["requests"] == 16);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| answer(&server, "qwen3", json!({ "max_tokens": 4 })));
        until(|| card(&server, "qwen3")["requests"] == 1 || other.is_finished());
        let (first, second) = (card(&server, "qwen2"), card(&server, "qwen3"));
        assert_eq!((&first["status"], &second["status"]), (&json!("ready"), &json!("unloaded")));
        let mut stream = String::new();
        socket.read_to_string(&mut stream).expect("UTF-8");
        assert!(stream.contains("data: [DONE]"), "{stream}");
        assert_eq!(texts(&stream, 16), alone, "complete and right");
        let other = other.join().expect("is served");
        assert!(other["ingle"]["timings"]["load_ms"].as_f64() > Some(0.0), "{other}");
    });
}

#[test]
fn models_are_kept_as_long_as_is_said() {
    let server = start("20", &[]);
    let status = |model: &str| card(&server, model)["status"].clone();
    answer(&server, "qwen3", json!({ "max_tokens": 2 }));
    assert_eq!((status("qwen2"), status("qwen3")), (json!("ready"), json!("ready")), "both fit");
    answer(&server, "qwen3", json!({ "max_tokens": 2, "keep_alive": 0 }));
    until(|| status("qwen3") == "unloaded");
    answer(&server, "qwen2", json!({ "max_tokens": 2, "keep_alive": "50ms" }));
    until(|| status("qwen2") == "unloaded");
    drop(server);
    let short = start("20", &["--keep-alive", "0"]);
    until(|| card(&short, "qwen2")["status"] == "unloaded");
    answer(&short, "qwen2", json!({ "max_tokens": 2, "keep_alive": -1 }));
    answer(&short, "qwen3", json!({ "max_tokens": 2 }));
    until(|| card(&short, "qwen3")["status"] == "unloaded");
    assert_eq!(card(&short, "qwen2")["status"], "ready");
}

#[test]
fn models_are_managed_by_name() {
    let server = start("20", &[]);
    let post = |path: &str| server.ask("POST", &format!("/v1/models/{path}"), "");
    assert_eq!(post("qwen3/load").status, 202);
    until(|| card(&server, "qwen3")["status"] == "ready");
    assert_eq!(post("qwen2/unload").status, 202);
    until(|| card(&server, "qwen2")["status"] == "unloaded");
    let tokens = server.ask("POST", "/tokenize", r#"{"model":"qwen2","prompt":"abc"}"#);
    assert_eq!(tokens.json()["count"], 3, "loaded for that: {}", tokens.body);
    let unknown = |Reply { status, body, .. }: Reply| {
        assert_eq!(status, 404, "{body}");
        assert!(body.contains("qwen2, qwen3"), "{body}");
    };
    unknown(post("none/load"));
    unknown(server.ask("POST", COMPLETIONS, &body("none", json!({}))));
    unknown(server.ask("GET", "/v1/models/smollm2", ""));
}

/// What is in the store may be asked for where that was allowed, and how far its load is can be
/// seen.
#[test]
fn installed_models_are_served_and_their_load_is_seen() {
    support::run(&["pull", "smollm2"]).answer();
    let server = Server::start(&[&golden("qwen2"), "--any-installed", "--kv-mb", "64"]);
    let missing = server.ask("POST", COMPLETIONS, &body("./Cargo.toml", json!({})));
    assert_eq!(missing.status, 404, "a path is no name: {}", missing.body);
    assert_eq!(server.ask("POST", "/v1/models/SmolLM2/load", "").status, 202);
    let mut seen: Vec<(String, f64)> = Vec::new();
    until(|| {
        // Whoever holds no key sees it too.
        let health = server.ask("GET", "/health", "").json();
        let models = health["models"].as_array().expect("a list").clone();
        models.iter().any(|it| it["id"] == "smollm2" && it["status"] != "unloaded")
    });
    until_seen(&server, &mut seen);
    let shares: Vec<f64> = seen.iter().map(|(_, share)| *share).collect();
    assert!(shares.is_sorted(), "{seen:?}");
    assert_eq!(seen.last().map(|it| it.0.as_str()), Some("ready"), "{seen:?}");
    let answered = answer(&server, "smollm2", json!({ "max_tokens": 4 }));
    assert_eq!(answered["model"], "smollm2");
}

/// What a model's card says until it is ready.
fn until_seen(server: &Server, seen: &mut Vec<(String, f64)>) {
    for _ in 0..60_000 {
        let card = card(server, "smollm2");
        let status = card["status"].as_str().expect("a text").to_owned();
        let ready = status == "ready";
        assert!(ready || status == "loading", "{card}");
        let share = if ready { 1.0 } else { card["progress"].as_f64().expect("a number") };
        seen.push((status, share));
        if ready {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("it is never ready: {seen:?}");
}
