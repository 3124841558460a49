//! What a key may use in a minute, what the log tells of it, and a configuration that is exchanged
//! meanwhile, over a real socket in front of a scripted provider.

mod support;

use std::num::NonZeroU32;
use std::path::PathBuf;

use ingle_server::{AccessLog, Config, Key, KeyHash, Limits};
use serde_json::{Value, json};
use support::{CHAT, Reply, Server, chat, config, read_until, start_with as start, until};

const JSON: &str = "content-type: application/json\r\n";

fn key(name: &str, requests: u32, tokens: u32) -> Key {
    let hash = KeyHash::of(b"a salt", name.as_bytes());
    Key {
        requests_per_minute: NonZeroU32::new(requests),
        tokens_per_minute: NonZeroU32::new(tokens),
        ..Key::new(name, hash)
    }
}

fn bearer(key: &str) -> String {
    format!("{JSON}authorization: Bearer {key}\r\n")
}

async fn post(server: &Server, key: &str, path: &str, body: &str) -> Reply {
    server.ask("POST", path, &bearer(key), body).await
}

/// A bucket of one a minute is empty after one, whatever the machine's speed.
#[tokio::test]
async fn requests_have_a_limit() {
    let (server, _) =
        start(Config { keys: vec![key("slow", 1, 0), key("free", 0, 0)], ..config() }).await;
    let first = post(&server, "slow", CHAT, &chat("one two", "")).await;
    assert_eq!(first.status, 200, "{}", first.body);
    assert_eq!(first.header("x-ratelimit-limit-requests"), Some("1"));
    assert_eq!(first.header("x-ratelimit-remaining-requests"), Some("0"));
    assert_eq!(first.header("x-ratelimit-limit-tokens"), None, "it has none");
    let second = post(&server, "slow", CHAT, &chat("one two", "")).await;
    assert_eq!(second.status, 429, "{}", second.body);
    assert_eq!(second.json()["error"]["code"], "rate_limit_exceeded");
    let wait = |reply: &Reply| reply.header("retry-after").and_then(|wait| wait.parse().ok());
    assert!((1..=60).contains(&wait(&second).unwrap_or(0)), "{:?}", second.header("retry-after"));
    assert!(second.header("x-ratelimit-reset-requests").is_some_and(|time| time.ends_with('s')));
    let message = r#"{"model":"script","max_tokens":9,"messages":[{"role":"user","content":"x"}]}"#;
    let third = post(&server, "slow", "/v1/messages", message).await;
    assert_eq!(third.json()["error"]["type"], "rate_limit_error", "{}", third.body);
    assert_eq!(third.header("anthropic-ratelimit-requests-limit"), Some("1"));
    assert!(
        third
            .header("anthropic-ratelimit-requests-reset")
            .is_some_and(|time| { time.starts_with("20") && time.ends_with('Z') })
    );
    assert_eq!(post(&server, "free", CHAT, &chat("one two", "")).await.status, 200);
    let metrics = server.ask("GET", "/metrics", &bearer("free"), "").await.body;
    for line in [
        "ingle_server_owner_requests_total{owner=\"slow\"} 3\n",
        "ingle_server_owner_limited_total{owner=\"slow\"} 2\n",
        "ingle_server_owner_limited_total{owner=\"free\"} 0\n",
    ] {
        assert!(metrics.contains(line), "{line} {metrics}");
    }
}

/// What is reserved is what is asked for; what is charged is what was used: 5 and 2 by the
/// script's receipts.
#[tokio::test]
async fn tokens_are_reserved_and_settled() {
    let (server, _) = start(Config { keys: vec![key("k", 0, 1000)], ..config() }).await;
    let more = chat("one two", r#","max_tokens":5000"#);
    assert_eq!(post(&server, "k", CHAT, &more).await.status, 200, "more than there is takes all");
    let (server, _) = start(Config { keys: vec![key("k", 0, 1000)], ..config() }).await;
    let left = async |server: &Server| -> u64 {
        let reply = server.ask("GET", "/v1/models", &bearer("k"), "").await;
        reply.header("x-ratelimit-remaining-tokens").and_then(|left| left.parse().ok()).expect("is")
    };
    let most = r#","max_tokens":900"#;
    let stream = r#","max_tokens":900,"stream":true"#;
    for _ in 0..10 {
        assert_eq!(post(&server, "k", CHAT, &chat("one two", most)).await.status, 200);
    }
    // In a minute's fraction some flow in again.
    assert!((900..=1000).contains(&left(&server).await), "each took 7, not 900");
    let held = bearer("k");
    let mut held = server.send("POST", CHAT, &held, &chat("hold", stream)).await;
    read_until(&mut held, "held").await;
    let refused = post(&server, "k", CHAT, &chat("one two", most)).await;
    assert_eq!(refused.status, 429, "{}", refused.body);
    let error = refused.json()["error"].clone();
    assert_eq!(error["code"], "rate_limit_exceeded");
    assert!(error["message"].as_str().is_some_and(|text| text.contains("1000 tokens")), "{error}");
    drop(held);
    // Broken off, it counts its one piece and its prompt.
    until(async || left(&server).await > 800).await;
    // The engine refused it: nothing counts.
    let before = left(&server).await;
    assert_eq!(post(&server, "k", CHAT, &chat("busy", most)).await.status, 429);
    assert!(left(&server).await >= before);
}

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("ingle-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("may be");
    folder
}

fn lines(path: &PathBuf) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[tokio::test]
async fn each_request_is_a_line_without_what_was_said() {
    let folder = folder("log");
    let log = folder.join("access.log");
    let access_log = Some(AccessLog::File(log.clone()));
    let (server, _) = start(Config { keys: vec![key("k", 0, 0)], access_log, ..config() }).await;
    let id = |id: &str| format!("{}x-request-id: {id}\r\n", bearer("k"));
    let body = chat("mysecretword two", "");
    server.ask("POST", &format!("{CHAT}?key=hidden"), &id("whole"), &body).await;
    server.ask("POST", CHAT, &id("stream"), &chat("one two", r#","stream":true"#)).await;
    server.ask("GET", "/nothing", "x-request-id: stranger\r\n", "").await;
    let broken = id("broken");
    let mut held = server.send("POST", CHAT, &broken, &chat("hold", r#","stream":true"#)).await;
    read_until(&mut held, "held").await;
    drop(held);
    let find = |id: &str| lines(&log).into_iter().find(|line| line["id"] == id);
    until(async || ["whole", "stream", "stranger", "broken"].iter().all(|id| find(id).is_some()))
        .await;
    let line = |id: &str| find(id).expect("was found");
    let whole = line("whole");
    let told = json!([whole["key"], whole["path"], whole["status"], whole["whole"]]);
    assert_eq!(told, json!(["k", CHAT, 200, true]));
    let told = json!([whole["model"], whole["prompt_tokens"], whole["completion_tokens"]]);
    assert_eq!(told, json!(["script", 5, 2]));
    assert_eq!(whole["bytes_in"], body.len());
    assert!(whole["bytes_out"].as_u64() > Some(100) && whole["ms"].is_number(), "{whole}");
    assert_eq!(
        json!([line("stream")["completion_tokens"], line("stream")["whole"]]),
        json!([2, true])
    );
    assert_eq!(json!([line("stranger")["status"], line("stranger")["key"]]), json!([401, null]));
    assert_eq!(
        json!([line("broken")["completion_tokens"], line("broken")["whole"]]),
        json!([1, false])
    );
    let text = std::fs::read_to_string(&log).expect("is there");
    assert!(!text.contains("mysecretword") && !text.contains("hidden"), "{text}");
    std::fs::remove_dir_all(folder).expect("is there");
}

/// What is asked after an exchange meets the new configuration; what runs goes on.
#[tokio::test]
async fn a_configuration_is_exchanged_while_it_runs() {
    let before = Config { keys: vec![key("one", 0, 0), key("two", 0, 0)], ..config() };
    let (server, control) = start(before).await;
    let body = chat("hold", r#","stream":true"#);
    let mut held = server.send("POST", CHAT, &bearer("one"), &body).await;
    read_until(&mut held, "held").await;
    let limits = Limits { answers: 2, ..Limits::default() };
    let cors_origins = vec!["https://a.example".to_owned()];
    let keys = vec![key("three", 0, 0), key("two", 1, 0)];
    control
        .apply(Config { keys, limits, cors_origins, isolate_keys: true, ..config() })
        .expect("is right");
    assert_eq!(post(&server, "one", CHAT, &chat("x", "")).await.status, 401, "it was revoked");
    let headers = format!("{}origin: https://a.example\r\n", bearer("three"));
    let reply = server.ask("POST", CHAT, &headers, &chat("one two", "")).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(reply.header("access-control-allow-origin"), Some("https://a.example"));
    assert_eq!(post(&server, "three", CHAT, &chat("x", r#","n":2"#)).await.status, 429);
    assert_eq!(post(&server, "two", CHAT, &chat("one two", "")).await.status, 200);
    assert_eq!(post(&server, "two", CHAT, &chat("one two", "")).await.status, 429, "one a minute");
    // Numbers: `one` had 0, `two` keeps 1, `three` gets none that was used.
    let terms = server.world.terms.lock().expect("no panic").clone();
    assert_eq!(terms.iter().map(|term| term.0).collect::<Vec<_>>(), [0, 2, 1]);
    let salts = server.world.salts.lock().expect("no panic").clone();
    assert!(salts[0].is_empty() && salts[1].len() == 65 && salts[1] != salts[2], "{salts:?}");
    server.world.released.store(true, std::sync::atomic::Ordering::SeqCst);
    read_until(&mut held, "released").await;
}

#[tokio::test]
async fn a_broken_configuration_changes_nothing_and_is_told_of() {
    let (server, control) = start(Config { keys: vec![key("one", 0, 0)], ..config() }).await;
    let twice = vec![key("two", 0, 0), key("two", 0, 0)];
    let wrong =
        control.apply(Config { keys: twice, ..config() }).expect_err("no names of their own");
    assert!(wrong.to_string().contains("two API keys are called \"two\""), "{wrong}");
    let nowhere = Some(AccessLog::File("/no/such/folder/log".into()));
    assert!(control.apply(Config { access_log: nowhere, ..config() }).is_err());
    assert_eq!(post(&server, "one", CHAT, &chat("one two", "")).await.status, 200);
    let health = server.get("/health").await;
    assert_eq!((health.status, &health.json()["status"]), (200, &json!("ok")));
    assert!(health.json()["configuration"].is_string(), "{}", health.body);
    let metrics = server.ask("GET", "/metrics", &bearer("one"), "").await.body;
    for line in ["config_reload_failures_total 2\n", "config_stale 1\n"] {
        assert!(metrics.contains(&format!("ingle_server_{line}")), "{metrics}");
    }
    control.apply(Config { keys: vec![key("one", 0, 0)], ..config() }).expect("is right");
    assert!(server.get("/health").await.json().get("configuration").is_none());
}
