//! The server over a real socket, in front of a scripted provider.

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ingle_protocol::Fault;
use ingle_server::{Config, Error, Key, Limits, Progress, Slot, Stop, bind};
use serde_json::json;
use support::{CHAT, Script, TINY, World, chat, config, keys, parse, read_until, start, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};

const JSON: &str = "content-type: application/json\r\n";

#[tokio::test]
async fn a_whole_answer() {
    let server = start(config()).await;
    let reply = server.post(CHAT, &chat("one two", "")).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let body = reply.json();
    assert_eq!(body["choices"][0]["message"]["content"], "one two");
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    assert_eq!(body["usage"]["total_tokens"], 7);
    assert_eq!(body["ingle"]["left_machine"], false);
    assert_eq!(body["model"], "script", "the default model's name");
    assert!(body["id"].as_str().is_some_and(|id| id.starts_with("chatcmpl-")));
    assert_eq!(reply.header("content-type"), Some("application/json"));
}

#[tokio::test]
async fn a_streamed_answer() {
    let server = start(config()).await;
    let extra = r#","stream":true,"stream_options":{"include_usage":true}"#;
    let reply = server.post(CHAT, &chat("one two", extra)).await;
    assert_eq!(reply.header("content-type"), Some("text/event-stream"));
    let events = reply.events();
    assert_eq!(events.len(), 6, "role, two words, finish, usage, end: {}", reply.body);
    assert_eq!(events[5], "[DONE]");
    let json = |i: usize| serde_json::from_str::<serde_json::Value>(events[i]).expect("JSON");
    assert_eq!(json(0)["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(json(2)["choices"][0]["delta"]["content"], "two");
    assert_eq!(json(4)["usage"]["completion_tokens"], 2);
}

#[tokio::test]
async fn several_choices_draw_with_seeds_of_their_own() {
    let server = start(config()).await;
    let reply = server.post(CHAT, &chat("x", r#","n":3,"seed":7"#)).await.json();
    let indices: Vec<_> = (0..3).map(|i| reply["choices"][i]["index"].clone()).collect();
    assert_eq!(indices, [0, 1, 2]);
    let mut seeds = server.world.seeds.lock().expect("no panic").clone();
    seeds.sort_unstable();
    assert_eq!(seeds, [Some(7), Some(8), Some(9)]);
}

#[tokio::test]
async fn legacy_completions() {
    let server = start(config()).await;
    let body = r#"{"prompt":[[104,105],[104,111]],"echo":true}"#;
    let reply = server.post("/v1/completions", body).await.json();
    assert_eq!(reply["choices"][0]["text"], "hihi");
    assert_eq!(reply["choices"][1]["text"], "hoho");
    assert_eq!(reply["object"], "text_completion");
}

#[tokio::test]
#[rustfmt::skip]
async fn refusals_have_openais_shape() {
    let limits = Limits { body_bytes: 500, ..Limits::default() };
    let server = start(Config { limits, ..config() }).await;
    let long = chat(&"x".repeat(600), "");
    let model = |name: &str| chat("x", &format!(r#","model":"{name}""#));
    // method, path, headers, body, status, param, words
    let rows: &[(&str, &str, &str, &str, u16, &str, &str)] = &[
        ("POST", CHAT, JSON, "{", 400, "", "no JSON"),
        ("POST", CHAT, JSON, &chat("x", r#","tempratur":1"#), 400, "tempratur", "temperature"),
        ("POST", CHAT, JSON, &chat("long", ""), 400, "messages", "too long"),
        ("POST", CHAT, JSON, &chat("long", r#","stream":true"#), 400, "messages", "too long"),
        ("POST", CHAT, JSON, &model("none"), 404, "model", "owner/other"),
        ("POST", CHAT, "", &chat("x", ""), 415, "", "Content-Type"),
        ("POST", CHAT, "content-type: text/plain\r\n", &chat("x", ""), 415, "", "Content-Type"),
        ("POST", CHAT, JSON, &long, 413, "", "500 bytes"),
        ("POST", CHAT, JSON, &chat("busy", ""), 429, "", "queue is full"),
        ("POST", CHAT, JSON, &chat("busy", r#","stream":true"#), 429, "", "queue is full"),
        ("POST", CHAT, JSON, &chat("late", r#","timeout_ms":1"#), 408, "timeout_ms", "too late"),
        ("POST", CHAT, JSON, &chat("fail", ""), 500, "", "it broke"),
        ("POST", CHAT, JSON, &chat("fail", r#","stream":true"#), 500, "", "it broke"),
        ("POST", CHAT, JSON, &chat("break", ""), 500, "", "it broke later"),
        ("POST", CHAT, JSON, &chat("vanish", ""), 500, "", "stopped before"),
        ("POST", CHAT, JSON, &chat("bug", ""), 500, "", "a bug"),
        ("POST", CHAT, JSON, &chat("bug", r#","model":"far""#), 500, "", "a bug"),
        ("POST", CHAT, JSON, &chat("long", r#","model":"far""#), 400, "messages", "too long"),
        ("GET", CHAT, "", "", 405, "", "method"),
        ("GET", "/v2", "", "", 404, "", "no such path"),
        ("GET", "/v1/models/none", "", "", 404, "model", "no model"),
        ("GET", "/v1/models", "host: evil.example\r\n", "", 403, "", "host name"),
        ("POST", "/v1/tokenize", JSON, r#"{"prompt":"x","add_special_tokens":true}"#, 400, "add_special_tokens", "false"),
        ("POST", "/v1/detokenize", JSON, r#"{"tokens":[1114112]}"#, 400, "tokens", "no such token"),
    ];
    for (method, path, headers, body, status, param, words) in rows {
        let reply = server.ask(method, path, headers, body).await;
        let error = &reply.json()["error"];
        assert_eq!(reply.status, *status, "{body} {error}");
        assert_eq!(error["param"].as_str().unwrap_or(""), *param, "{body} {error}");
        assert!(error["message"].as_str().is_some_and(|text| text.contains(words)), "{body} {error}");
        assert!(error["type"].is_string() && error.get("code").is_some(), "{error}");
        let retry = [408, 429].contains(status).then_some("3");
        assert_eq!(reply.header("retry-after"), retry, "{body}");
        assert!(reply.header("x-request-id").is_some(), "{body}");
    }
}

/// A model elsewhere is not bounded by its tokens: a hundred thousand pieces come through whole, of
/// which nobody has read one when the last is told. One of this machine promised fewer.
#[tokio::test]
async fn what_comes_from_elsewhere_comes_whole_however_small_its_pieces() {
    let server = start(config()).await;
    let check = async |model: &str, extra: &str, status: u16, pieces: usize| {
        let extra = format!(r#","model":"{model}","max_tokens":10{extra}"#);
        let reply = server.post(CHAT, &chat("tiny", &extra)).await;
        let head: String = reply.body.chars().take(300).collect();
        assert_eq!(reply.status, status, "{model}: {head}");
        let count = match reply.header("content-type") {
            Some("text/event-stream") => reply.body.matches(r#""content":".""#).count(),
            _ => reply.json()["choices"][0]["message"]["content"].as_str().map_or(0, str::len),
        };
        assert_eq!(count, pieces, "{model}: {head}");
    };
    check("far", "", 200, TINY).await;
    check("far", r#","stream":true"#, 200, TINY).await;
    check("script", "", 500, 0).await;
}

/// What has come and nobody has read is bounded for all answers together, beside the first MiB of
/// each; of this machine's nothing counts.
#[tokio::test]
async fn what_comes_faster_than_it_is_read_is_bounded() {
    let limits = Limits { all_unread_bytes: 1 << 20, ..Limits::default() };
    let server = start(Config { limits, ..config() }).await;
    let of = |model: &str, extra: &str| format!(r#","model":"{model}"{extra}"#);
    let words = "no room for the rest";
    // Twice, since what was refused waits no more.
    for _ in 0..2 {
        let reply = server.post(CHAT, &chat("tiny", &of("far", ""))).await;
        assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")), "{}", reply.body);
        assert!(reply.body.contains(words), "{}", reply.body);
        let reply = server.post(CHAT, &chat("tiny", &of("far", r#","stream":true"#))).await;
        let pieces = reply.body.matches(r#""content":".""#).count();
        let last = reply.events().last().map(|last| last.to_string()).unwrap_or_default();
        assert!(pieces < TINY && last.contains(words), "{pieces} pieces, then {last}");
    }
    assert_eq!(server.post(CHAT, &chat("a few words", &of("far", ""))).await.status, 200);
    assert_eq!(server.post(CHAT, &chat("tiny", &of("script", ""))).await.status, 200);
}

/// Each key has an account, told by its place; only who is alone may pass others.
#[tokio::test]
async fn requests_are_on_their_keys_account() {
    let pair = ["the-first-key", "the-second-key"];
    let check = async |held: &[&str], key: &str, priority: i32, expect: Option<u32>| {
        let server = start(Config { keys: keys(held), ..config() }).await;
        let headers = format!("{JSON}authorization: Bearer {key}\r\n");
        let body = chat("one two", &format!(r#","timeout_ms":9000,"priority":{priority}"#));
        let reply = server.ask("POST", CHAT, &headers, &body).await;
        let terms = server.world.terms.lock().expect("no panic").clone();
        let Some(owner) = expect else {
            assert_eq!((reply.status, terms.len()), (400, 0), "{}", reply.body);
            assert_eq!(reply.json()["error"]["param"], "priority");
            return;
        };
        assert_eq!((reply.status, terms), (200, vec![(owner, priority, Some(9000))]));
        let metrics = server.ask("GET", "/metrics", &headers, "").await.body;
        for (kind, count) in [("prompt", 4), ("completion", 2)] {
            let name = "ingle_server_owner_tokens_total";
            let named = Key::chosen(key).map_or("anyone".to_owned(), |key| key.name);
            let line = format!("{name}{{owner=\"{named}\",kind=\"{kind}\"}} {count}\n");
            assert!(metrics.contains(&line), "{metrics}");
        }
        assert!(!metrics.contains("first-key"), "{metrics}");
        assert!(metrics.contains("ingle_server_queue_seconds_count 1\n"), "{metrics}");
    };
    check(&pair, "the-first-key", 0, Some(0)).await;
    check(&pair, "the-second-key", 3, Some(1)).await;
    check(&pair, "the-second-key", -1, None).await;
    check(&pair[..1], "the-first-key", -1, Some(0)).await;
    check(&[], "any", -1, Some(0)).await;
}

/// Two requests are of one salt where they give the same, and where keys are isolated also have
/// the same key; a key's salt does not go by its place.
#[tokio::test]
async fn salts_part_callers_and_keys_if_told_to() {
    let salt = async |isolate_keys: bool, keys: &[&str], key: &str, salt: &str| {
        let keys = support::keys(keys);
        let server = start(Config { keys, isolate_keys, ..config() }).await;
        let headers = format!("{JSON}authorization: Bearer {key}\r\n");
        let body = chat("one two", salt);
        assert_eq!(server.ask("POST", CHAT, &headers, &body).await.status, 200);
        server.world.salts.lock().expect("no panic").concat()
    };
    let (one, two) = ("the-first-key", "the-second-key");
    let salted = r#","cache_salt":"mine""#;
    assert_eq!(salt(false, &[one, two], two, "").await, "");
    assert_eq!(salt(false, &[one, two], two, salted).await, "mine");
    let told = [
        salt(true, &[one, two], one, "").await,
        salt(true, &[one, two], two, "").await,
        salt(true, &[one, two], one, salted).await,
        salt(true, &[one, two], two, salted).await,
    ];
    let distinct: std::collections::BTreeSet<&String> = told.iter().collect();
    assert_eq!(distinct.len(), told.len(), "{told:?}");
    assert!(told.iter().all(|told| !told.is_empty() && !told.contains("-key")), "{told:?}");
    assert_eq!(salt(true, &[two, one], one, salted).await, told[2]);
}

#[tokio::test]
async fn a_failure_within_a_stream_is_its_last_event() {
    let server = start(config()).await;
    for (text, words) in [("break", "it broke later"), ("vanish", "stopped before")] {
        let reply = server.post(CHAT, &chat(text, r#","stream":true"#)).await;
        assert_eq!(reply.status, 200);
        let last = reply.events().last().map(|last| last.to_string()).unwrap_or_default();
        assert!(last.starts_with(r#"{"error":"#) && last.contains(words), "{}", reply.body);
    }
    let metrics = server.get("/metrics").await.body;
    assert!(metrics.contains("ingle_server_stream_errors_total 2\n"), "{metrics}");
    assert!(metrics.contains("ingle_server_abandoned_total 0\n"), "{metrics}");
}

#[tokio::test]
async fn a_closed_connection_cancels() {
    let server = start(config()).await;
    let body = chat("hold", r#","stream":true,"n":2"#);
    let mut streamed = server.send("POST", CHAT, JSON, &body).await;
    read_until(&mut streamed, "held").await;
    let whole = server.send("POST", CHAT, JSON, &chat("hold", "")).await;
    let silent = server.send("POST", CHAT, JSON, &chat("silent", r#","stream":true"#)).await;
    until(async || server.world.running.load(Ordering::SeqCst) == 4).await;
    let metrics = server.get("/metrics").await.body;
    assert!(metrics.contains("ingle_server_answers_in_flight 4\n"), "{metrics}");
    drop((streamed, whole, silent));
    until(async || server.world.cancelled.load(Ordering::SeqCst) == 4).await;
    until(async || {
        let metrics = server.get("/metrics").await.body;
        metrics.contains("ingle_server_answers_in_flight 0\n")
            && metrics.contains("ingle_server_abandoned_total 3\n")
    })
    .await;
    assert_eq!(server.post(CHAT, &chat("still there", "")).await.status, 200);
}

#[tokio::test]
async fn answers_under_way_are_bounded() {
    let limits = Limits { answers: 2, ..Limits::default() };
    let server = start(Config { limits, ..config() }).await;
    let mut held = server.send("POST", CHAT, JSON, &chat("hold", r#","stream":true,"n":2"#)).await;
    read_until(&mut held, "held").await;
    let reply = server.post(CHAT, &chat("x", "")).await;
    assert_eq!((reply.status, reply.header("retry-after")), (429, Some("1")), "{}", reply.body);
    let reply = server.post(CHAT, &chat("x", r#","n":3"#)).await;
    assert_eq!(reply.status, 400, "can never fit: {}", reply.body);
    drop(held);
    until(async || server.post(CHAT, &chat("x", "")).await.status == 200).await;
}

#[tokio::test]
async fn bodies_on_their_way_are_bounded() {
    let limits = Limits { all_bodies_bytes: 4096, ..Limits::default() };
    let server = start(Config { limits, ..config() }).await;
    let slow = |length: usize| {
        format!("POST {CHAT} HTTP/1.1\r\nhost: localhost\r\n{JSON}content-length: {length}\r\n\r\n")
    };
    let mut socket = TcpStream::connect(server.address).await.expect("it listens");
    socket.write_all(slow(3000).as_bytes()).await.expect("open");
    let long = chat(&"x".repeat(1500), "");
    until(async || server.post(CHAT, &long).await.status == 429).await;
    assert_eq!(server.post(CHAT, &chat("short", "")).await.status, 200);
    drop(socket);
    until(async || server.post(CHAT, &long).await.status == 200).await;
}

#[tokio::test]
async fn keys_open_everything_but_health() {
    let keys = keys(&["the-first-key", "the-second-key"]);
    let server = start(Config { keys, ..config() }).await;
    let rows = [
        ("", 401),
        ("authorization: Bearer wrong\r\n", 401),
        ("authorization: Bearer the-first-key\r\n", 200),
        ("authorization: Bearer the-second-key\r\n", 200),
        ("authorization: Bearer the-second-key\r\nhost: any.example\r\n", 200),
    ];
    for (headers, status) in rows {
        for path in ["/v1/models", "/metrics"] {
            let reply = server.ask("GET", path, headers, "").await;
            assert_eq!(reply.status, status, "{headers} {path}");
        }
    }
    let reply = server.get("/v1/models").await;
    assert_eq!(reply.json()["error"]["code"], "invalid_api_key");
    assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
    assert_eq!(server.get("/health").await.status, 200);
    assert_eq!(server.get("/nothing").await.status, 401, "what exists is not told either");
}

#[tokio::test]
async fn a_server_opened_by_name_takes_any_host() {
    let server = start(Config { insecure_no_auth: true, ..config() }).await;
    assert_eq!(server.ask("GET", "/v1/models", "host: box.lan\r\n", "").await.status, 200);
}

#[tokio::test]
async fn pages_may_call_only_from_allowed_origins() {
    let origin = "origin: https://a.example\r\n";
    let closed = start(config()).await;
    let reply = closed.ask("GET", "/v1/models", origin, "").await;
    assert_eq!(reply.header("access-control-allow-origin"), None);
    let cors_origins = vec!["https://a.example".to_owned()];
    let keys = keys(&["the-first-key"]);
    let open = start(Config { cors_origins, keys, ..config() }).await;
    let preflight = "access-control-request-method: POST\r\n\
                     access-control-request-headers: authorization,x-stainless-os\r\n";
    let reply = open.ask("OPTIONS", CHAT, &format!("{origin}{preflight}"), "").await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("access-control-allow-origin"), Some("https://a.example"));
    let allowed = reply.header("access-control-allow-headers");
    assert_eq!(allowed, Some("authorization,x-stainless-os"));
    let other = "origin: https://b.example\r\n";
    let reply = open.ask("OPTIONS", CHAT, &format!("{other}{preflight}"), "").await;
    assert_eq!(reply.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn models_tokens_ids_and_metrics() {
    let server = start(config()).await;
    let models = server.get("/v1/models").await.json();
    assert_eq!(models["object"], "list");
    assert_eq!(models["data"][1]["id"], "owner/other");
    let model = server.get("/v1/models/owner/other").await.json();
    assert_eq!((&model["object"], &model["max_model_len"]), (&json!("model"), &json!(200_000)));
    for prefix in ["", "/v1"] {
        let path = format!("{prefix}/tokenize");
        let tokens = server.post(&path, r#"{"prompt":"ab"}"#).await.json();
        let expect = json!({ "count": 2, "max_model_len": 200_000, "tokens": [97, 98] });
        assert_eq!(tokens, expect);
        let path = format!("{prefix}/detokenize");
        let text = server.post(&path, r#"{"tokens":[97,98]}"#).await.json();
        assert_eq!(text["prompt"], "ab");
    }
    let tokens = server.post("/tokenize", r#"{"prompt":"a","parse_special":true}"#).await.json();
    assert_eq!(tokens["tokens"], json!([1097]));
    let reply = server.ask("GET", "/health", "x-request-id: my-id.1\r\n", "").await;
    assert_eq!(reply.header("x-request-id"), Some("my-id.1"));
    server.post(CHAT, &chat("one two", "")).await;
    let text = server.get("/metrics").await.body;
    let lines = [
        "ingle_server_requests_total{route=\"/v1/chat/completions\",status=\"200\"} 1",
        "ingle_server_requests_total{route=\"/v1/models/{*id}\",status=\"200\"} 1",
        "ingle_server_answers_total{finish=\"stop\"} 1",
        "ingle_server_completion_tokens_total 2",
        "ingle_server_time_to_first_token_seconds_count 1",
        "ingle_server_inter_token_seconds_count 1",
        "ingle_server_request_prompt_tokens_bucket{le=\"4\"} 0",
        "ingle_server_request_prompt_tokens_bucket{le=\"8\"} 1",
        "ingle_server_request_prompt_tokens_sum 5",
        "ingle_server_request_completion_tokens_sum 2",
        "ingle_server_prefill_seconds_count 1",
        "ingle_server_decode_seconds_sum 0.004",
        "ingle_server_time_per_output_token_seconds_sum 0.004",
        "script_lines 2",
    ];
    for line in lines {
        assert!(text.lines().any(|other| other == line), "{line} in {text}");
    }
}

#[tokio::test]
async fn models_are_loaded_and_unloaded_by_name() {
    let keys = keys(&["the-first-key"]);
    let server = start(Config { keys, ..config() }).await;
    let key = &format!("{JSON}authorization: Bearer the-first-key\r\n");
    let plain = "authorization: Bearer the-first-key\r\n";
    let rows = [
        ("/v1/models/script/load", plain, 415),
        ("/v1/models/owner/other/load", key, 202),
        ("/v1/models/script/unload", key, 202),
        ("/v1/models/script/load", "", 401),
        ("/v1/models/none/load", key, 404),
        ("/v1/models/script", key, 405),
        ("/v1/models/script/reload", key, 405),
    ];
    for (path, headers, status) in rows {
        let reply = server.ask("POST", path, headers, "").await;
        assert_eq!(reply.status, status, "{path}: {}", reply.body);
        if status == 202 {
            assert_eq!(reply.json()["status"], "unloaded", "{}", reply.body);
        }
    }
    let managed = server.world.managed.lock().expect("no panic").clone();
    assert_eq!(managed, ["load owner/other", "unload script"]);
    let health = server.get("/health").await.json();
    assert_eq!(health["models"][1], json!({ "id": "owner/other", "status": "unloaded" }));
}

#[tokio::test]
async fn a_silent_stream_gets_comments() {
    let limits = Limits { keep_alive: Duration::from_millis(20), ..Limits::default() };
    let server = start(Config { limits, ..config() }).await;
    let mut socket = server.send("POST", CHAT, JSON, &chat("silent", r#","stream":true"#)).await;
    let text = read_until(&mut socket, ": waiting\n\n").await;
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    server.world.released.store(true, Ordering::SeqCst);
    read_until(&mut socket, "[DONE]").await;
}

#[tokio::test]
async fn connections_are_kept() {
    let server = start(config()).await;
    let mut socket = TcpStream::connect(server.address).await.expect("it listens");
    for _ in 0..3 {
        let request = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n";
        socket.write_all(request).await.expect("open");
        read_until(&mut socket, r#""status":"ok""#).await;
    }
}

#[tokio::test]
async fn heads_and_bodies_that_do_not_come() {
    let short = Duration::from_millis(50);
    let limits = Limits { head_read: short, body_read: short, ..Limits::default() };
    let server = start(Config { limits, ..config() }).await;
    let mut socket = TcpStream::connect(server.address).await.expect("it listens");
    socket.write_all(b"POST / HT").await.expect("open");
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).await.expect("the server closes");
    let mut socket = TcpStream::connect(server.address).await.expect("it listens");
    let head =
        format!("POST {CHAT} HTTP/1.1\r\nhost: localhost\r\n{JSON}content-length: 9\r\n\r\n");
    socket.write_all(head.as_bytes()).await.expect("open");
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).await.expect("the server closes");
    assert_eq!(parse(&rest).status, 408);
}

#[tokio::test]
async fn loading_is_told_and_waited_for() {
    let bound = bind(config()).await.expect("a free port");
    let (go, gone) = oneshot::channel::<()>();
    let (stop, stopped) = watch::channel(Stop::Run);
    let world = Arc::new(World::default());
    let (address, script) = (bound.address(), Arc::new(Script(Arc::clone(&world))));
    let load = move |slot: &Slot| {
        slot.report(Progress { phase: "fetching".to_owned(), done: 3, total: Some(9) });
        gone.blocking_recv().map_err(|error| Fault::ours(error.to_string()))?;
        slot.fill(script);
        Ok::<_, Fault>(())
    };
    let ended = tokio::spawn(bound.serve(load, stopped));
    let server = support::Server { address, world, stop, ended };
    until(async || server.get("/health").await.json()["phase"] == "fetching").await;
    let health = server.get("/health").await;
    assert_eq!(health.status, 503);
    let expect = json!({ "status": "loading", "phase": "fetching", "done": 3, "total": 9 });
    assert_eq!(health.json(), expect);
    let reply = server.post(CHAT, &chat("x", "")).await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")), "{}", reply.body);
    go.send(()).expect("the loader waits");
    until(async || server.get("/health").await.status == 200).await;
    assert_eq!(server.post(CHAT, &chat("x", "")).await.status, 200);
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_ends_the_server() {
    let bound = bind(config()).await.expect("a free port");
    let (_stop, stopped) = watch::channel(Stop::Run);
    let load = |_: &Slot| Err(Fault::caller("there is no such file"));
    let error = bound.serve(load, stopped.clone()).await.expect_err("cannot go on");
    assert!(matches!(error, Error::Load(ref text) if text.contains("no such file")), "{error}");
    let bound = bind(config()).await.expect("a free port");
    let load = |_: &Slot| -> Result<(), Fault> { panic!("a bug in loading") };
    let error = bound.serve(load, stopped).await.expect_err("cannot go on");
    assert!(matches!(error, Error::Load(ref text) if text.contains("a bug")), "{error}");
}

#[tokio::test]
async fn two_servers_cannot_have_one_address() {
    let first = bind(config()).await.expect("a free port");
    let error = bind(Config { listen: first.address(), ..config() }).await.expect_err("is taken");
    assert!(error.to_string().contains("choose another port"), "{error}");
}

#[tokio::test]
async fn draining_lets_answers_finish() {
    let server = start(config()).await;
    let mut held = server.send("POST", CHAT, JSON, &chat("hold", r#","stream":true"#)).await;
    read_until(&mut held, "held").await;
    server.stop.send_replace(Stop::Drain);
    until(async || TcpStream::connect(server.address).await.is_err()).await;
    server.world.released.store(true, Ordering::SeqCst);
    read_until(&mut held, "[DONE]").await;
    server.ended.await.expect("no panic").expect("an orderly end");
}

#[tokio::test]
async fn answers_that_do_not_finish_are_cut_off_with_a_word() {
    let limits = Limits { drain: Duration::from_millis(50), ..Limits::default() };
    let slow = start(Config { limits, ..config() }).await;
    let at_once = start(config()).await;
    for (server, steps) in [(slow, &[Stop::Drain][..]), (at_once, &[Stop::Drain, Stop::Now])] {
        let mut held = server.send("POST", CHAT, JSON, &chat("hold", r#","stream":true"#)).await;
        read_until(&mut held, "held").await;
        for step in steps {
            server.stop.send_replace(*step);
        }
        read_until(&mut held, "the server is stopping").await;
        server.ended.await.expect("no panic").expect("an orderly end");
        until(async || server.world.cancelled.load(Ordering::SeqCst) == 1).await;
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_off() {
    let limits = Limits { stall: Duration::from_millis(50), ..Limits::default() };
    let server = start(Config { limits, ..config() }).await;
    // More than the socket's buffers on both sides hold: the answer says the prompt back.
    let words = "word ".repeat(100_000);
    let _idle = server.send("POST", CHAT, JSON, &chat(&words, r#","stream":true"#)).await;
    until(async || server.get("/metrics").await.body.contains("ingle_server_abandoned_total 1\n"))
        .await;
}
