//! Anthropic's, Ollama's and llama.cpp's routes over a real socket, in front of a scripted
//! provider.

mod support;

use std::sync::atomic::Ordering;

use ingle_server::Config;
use serde_json::{Value, json};
use support::{Reply, Server, config, read_until, start, until};

const JSON: &str = "content-type: application/json\r\n";

/// A message's body.
fn message(text: &str, extra: &str) -> String {
    format!(
        r#"{{"model":"script","max_tokens":9,"messages":[{{"role":"user","content":"{text}"}}]{extra}}}"#
    )
}

fn lines(reply: &Reply) -> Vec<Value> {
    reply.body.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[tokio::test]
async fn a_message_whole_and_streamed() {
    let server = start(config()).await;
    let whole = server.post("/v1/messages", &message("one two", "")).await;
    assert_eq!(whole.status, 200, "{}", whole.body);
    assert_eq!(whole.json()["content"], json!([{ "type": "text", "text": "one two" }]));
    assert_eq!(whole.json()["usage"]["cache_read_input_tokens"], 1);
    assert_eq!(whole.header("request-id"), whole.header("x-request-id"));
    let streamed = server.post("/v1/messages", &message("one two", r#","stream":true"#)).await;
    assert_eq!(streamed.header("content-type"), Some("text/event-stream"));
    let names: Vec<&str> =
        streamed.body.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    let expect = [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ];
    assert_eq!(names, expect);
}

#[tokio::test]
async fn tokens_are_counted_as_the_template_writes_them() {
    let server = start(config()).await;
    let body = r#"{"model":"script","messages":[{"role":"user","content":"hi"}]}"#;
    let reply = server.post("/v1/messages/count_tokens", body).await;
    assert_eq!(reply.json(), json!({ "input_tokens": "user:hi\n".len() }));
}

#[tokio::test]
async fn models_in_anthropics_shape() {
    let server = start(config()).await;
    let ask =
        async |path: &str| server.ask("GET", path, "anthropic-version: 2023-06-01\r\n", "").await;
    let list = ask("/v1/models").await.json();
    assert_eq!((&list["first_id"], &list["has_more"]), (&json!("script"), &json!(false)));
    assert_eq!(ask("/v1/models/owner/other").await.json()["created_at"], "1970-01-01T00:00:07Z");
    assert_eq!(ask("/v1/models/none").await.json()["error"]["type"], "not_found_error");
    assert_eq!(server.get("/v1/models").await.json()["object"], "list", "OpenAI's elsewhere");
}

/// Each protocol's errors have its own shape, those that no route made too.
#[tokio::test]
#[rustfmt::skip]
async fn errors_have_the_shape_of_who_asks() {
    let server = start(config()).await;
    let chat = |text: &str| format!(r#"{{"model":"script","messages":[{{"role":"user","content":"{text}"}}]}}"#);
    // method, path, headers, body, status, where its type is, the type
    let rows: &[(&str, &str, &str, &str, u16, &str, &str)] = &[
        ("POST", "/v1/messages", JSON, "{", 400, "/error/type", "invalid_request_error"),
        ("POST", "/v1/messages", JSON, &message("long", ""), 400, "/error/type", "invalid_request_error"),
        ("POST", "/v1/messages", JSON, &message("busy", ""), 429, "/error/type", "rate_limit_error"),
        ("POST", "/v1/messages", JSON, &message("busy", r#","stream":true"#), 429, "/error/type", "rate_limit_error"),
        ("POST", "/v1/messages", JSON, &message("fail", ""), 500, "/error/type", "api_error"),
        ("POST", "/v1/messages", "", &message("x", ""), 415, "/error/type", "invalid_request_error"),
        ("GET", "/v1/messages", "", "", 405, "/type", "error"),
        ("POST", "/v1/messages/none", JSON, "{}", 404, "/error/type", "not_found_error"),
        ("GET", "/v1/messages", "host: evil.example\r\n", "", 403, "/error/type", "permission_error"),
        ("POST", "/api/chat", JSON, "{", 400, "/error", "the body is no JSON"),
        ("POST", "/api/chat", JSON, &chat("busy"), 429, "/error", "the queue is full"),
        ("POST", "/api/chat", JSON, r#"{"model":"none"}"#, 404, "/error", "there is no model \"none\""),
        ("POST", "/api/chat", JSON, r#"{"model":"script","messages":[{"role":"user"}],"options":{"num_ctx":200001}}"#, 400, "/error", "200001 tokens of context"),
        ("POST", "/api/embed", JSON, "{}", 400, "/error", "'model' is missing"),
        ("POST", "/api/embeddings", JSON, "{}", 400, "/error", "'model' is missing"),
        ("POST", "/api/pull", JSON, r#"{"model":"other"}"#, 403, "/error", "this server's models"),
        ("DELETE", "/api/delete", JSON, r#"{"model":"script"}"#, 403, "/error", "this server's models"),
        ("DELETE", "/api/delete", "", "{}", 415, "/error", "the body must be JSON"),
        ("POST", "/completion", JSON, "{}", 400, "/error/type", "invalid_request_error"),
        ("POST", "/completion", JSON, r#"{"prompt":"busy"}"#, 429, "/error/type", "unavailable_error"),
        ("POST", "/infill", JSON, r#"{"input_prefix":"a"}"#, 400, "/error/message", "this model has no tokens for filling"),
        ("POST", "/slots", JSON, "{}", 405, "/error/type", "invalid_request_error"),
    ];
    for (method, path, headers, body, status, place, kind) in rows {
        let reply = server.ask(method, path, headers, body).await;
        let json = reply.json();
        let told = json.pointer(place).and_then(Value::as_str).unwrap_or_default();
        assert_eq!(reply.status, *status, "{path} {body} {json}");
        assert!(told.starts_with(kind), "{path} {body} {json}");
    }
    let reply = server.post("/v1/messages", "{").await;
    assert_eq!(reply.json()["request_id"].as_str(), reply.header("request-id"));
}

#[tokio::test]
async fn a_failure_within_a_stream_is_its_last_event() {
    let server = start(config()).await;
    let chat = r#"{"model":"script","messages":[{"role":"user","content":"break"}]}"#;
    let stream = r#","stream":true"#;
    let rows = [
        ("/v1/messages", message("break", stream), "event: error\n"),
        ("/api/chat", chat.to_owned(), "{\"error\":\"it broke later\"}\n"),
        ("/completion", format!(r#"{{"prompt":"break"{stream}}}"#), "data: {\"error\":"),
    ];
    for (path, body, last) in rows {
        let reply = server.post(path, &body).await;
        assert_eq!(reply.status, 200);
        let at = reply.body.rfind(last).unwrap_or_else(|| panic!("{path}: {}", reply.body));
        assert!(reply.body[at..].contains("it broke later"), "{path}: {}", reply.body);
    }
}

#[tokio::test]
async fn a_closed_connection_cancels_whatever_was_asked_in() {
    let server = start(config()).await;
    let chat = r#"{"model":"script","messages":[{"role":"user","content":"hold"}]}"#;
    let rows = [
        ("/v1/messages", message("hold", r#","stream":true"#)),
        ("/api/chat", chat.to_owned()),
        ("/completion", r#"{"prompt":"hold","stream":true}"#.to_owned()),
    ];
    for (count, (path, body)) in rows.iter().enumerate() {
        let mut socket = server.send("POST", path, JSON, body).await;
        read_until(&mut socket, "held").await;
        drop(socket);
        until(async || server.world.cancelled.load(Ordering::SeqCst) == count + 1).await;
    }
}

#[tokio::test]
async fn keys_in_anthropics_header() {
    let keys = support::keys(&["the-first-key", "the-second-key"]);
    let server = start(Config { keys, ..config() }).await;
    for (headers, status) in
        [("", 401), ("x-api-key: wrong\r\n", 401), ("x-api-key: the-second-key\r\n", 200)]
    {
        let headers = format!("{JSON}{headers}");
        let reply = server.ask("POST", "/v1/messages", &headers, &message("x", "")).await;
        assert_eq!(reply.status, status, "{}", reply.body);
    }
    let terms = server.world.terms.lock().expect("no panic").clone();
    assert_eq!(terms, [(1, 0, None)], "on its key's account");
    assert_eq!(server.get("/").await.status, 200, "that it runs is no secret");
}

#[tokio::test]
async fn ollamas_lines() {
    let server = start(config()).await;
    let chat = r#"{"model":"script:latest","messages":[{"role":"user","content":"one two"}]}"#;
    let reply = server.post("/api/chat", chat).await;
    assert_eq!(reply.header("content-type"), Some("application/x-ndjson"));
    let told = lines(&reply);
    let said: Vec<&str> =
        told.iter().filter_map(|line| line["message"]["content"].as_str()).collect();
    assert_eq!(said, ["one ", "two", ""]);
    assert_eq!(told[2]["prompt_eval_count"], 5);
    let body = r#"{"model":"script","prompt":"one two","stream":false,"raw":true}"#;
    let whole = server.post("/api/generate", body).await;
    assert_eq!(whole.header("content-type"), Some("application/json"));
    assert_eq!(whole.json()["response"], "one two");
}

#[tokio::test]
async fn ollamas_models() {
    let server = start(config()).await;
    let tags = server.get("/api/tags").await.json();
    assert_eq!(tags["models"][1]["name"], "owner/other");
    assert_eq!(server.get("/api/ps").await.json(), json!({ "models": [] }), "none is loaded");
    let shown = server.post("/api/show", r#"{"model":"script"}"#).await.json();
    assert_eq!(shown["model_info"]["general.name"], "Script");
    assert_eq!(shown["capabilities"], json!(["completion", "tools"]));
    let version = server.get("/api/version").await.json();
    assert!(version["version"].is_string() && version["ingle"].is_string(), "{version}");
    let alive = server.get("/").await.body;
    assert!(alive.contains("Ollama is running"), "{alive}");
    assert_eq!(server.ask("HEAD", "/", "", "").await.status, 200);
    for (body, reason) in [
        (r#"{"model":"script","keep_alive":0}"#, "unload"),
        (r#"{"model":"script","keep_alive":"5m"}"#, "load"),
    ] {
        let told = server.post("/api/generate", body).await.json();
        assert_eq!((&told["done"], &told["done_reason"]), (&json!(true), &json!(reason)));
    }
    assert_eq!(managed(&server), ["unload script", "load script"]);
}

fn managed(server: &Server) -> Vec<String> {
    server.world.managed.lock().expect("no panic").clone()
}

#[tokio::test]
async fn models_are_fetched_and_deleted_where_that_is_allowed() {
    let server = start(Config { manage_models: true, ..config() }).await;
    let told = lines(&server.post("/api/pull", r#"{"model":"other"}"#).await);
    assert_eq!(told.last(), Some(&json!({ "status": "success" })));
    let progress = json!({ "status": "fetching", "total": 10, "completed": 5 });
    assert_eq!(told[1], progress);
    let whole = server.post("/api/pull", r#"{"model":"other","stream":false}"#).await;
    assert_eq!(whole.json(), json!({ "status": "success" }));
    let absent = server.post("/api/pull", r#"{"model":"nothing"}"#).await;
    let error = json!({ "error": "there is no such model anywhere" });
    assert_eq!(lines(&absent), std::slice::from_ref(&error), "a stream tells it in its last line");
    let absent = server.post("/api/pull", r#"{"model":"nothing","stream":false}"#).await;
    assert_eq!((absent.status, absent.json()), (400, error));
    let gone = server.ask("DELETE", "/api/delete", JSON, r#"{"model":"script"}"#).await;
    assert_eq!(gone.status, 200);
    assert_eq!(managed(&server), ["fetch other", "fetch other", "remove script"]);
}

#[tokio::test]
async fn a_fetch_ends_with_its_connection() {
    let server = start(Config { manage_models: true, ..config() }).await;
    let fetch = async |body| server.send("POST", "/api/pull", JSON, body).await;
    let streamed = fetch(r#"{"model":"endless"}"#).await;
    let whole = fetch(r#"{"model":"endless","stream":false}"#).await;
    until(async || server.world.running.load(Ordering::SeqCst) == 2).await;
    drop((streamed, whole));
    until(async || server.world.cancelled.load(Ordering::SeqCst) == 2).await;
}

#[tokio::test]
async fn llama_cpps_routes() {
    let server = start(config()).await;
    let whole = server.post("/completion", r#"{"prompt":"one two","n_predict":9}"#).await.json();
    assert_eq!((&whole["content"], &whole["stop"]), (&json!("one two"), &json!(true)));
    let body = r#"{"model":"owner/other","input_prefix":"a","input_suffix":"b","prompt":"c"}"#;
    let filled = server.post("/infill", body).await.json();
    assert_eq!(filled["content"], "<a>b|c");
    // path, body, what is told
    let rows = [
        ("/tokenize", r#"{"content":"hi","parse_special":false}"#, json!({ "tokens": [104, 105] })),
        (
            "/tokenize",
            r#"{"content":"h","parse_special":false,"with_pieces":true}"#,
            json!({ "tokens": [{ "id": 104, "piece": "h" }] }),
        ),
        ("/detokenize", r#"{"tokens":[104]}"#, json!({ "content": "h", "prompt": "h" })),
        (
            "/apply-template",
            r#"{"messages":[{"role":"user","content":"hi"}]}"#,
            json!({ "prompt": "user:hi\n" }),
        ),
    ];
    for (path, body, expect) in rows {
        assert_eq!(server.post(path, body).await.json(), expect, "{path}");
    }
    assert_eq!(server.post("/tokenize", r#"{"prompt":"hi"}"#).await.json()["count"], 2, "vLLM's");
    let props = server.get("/props").await.json();
    assert_eq!(props["default_generation_settings"]["n_ctx"], 200_000);
    assert_eq!(props["chat_template"], "{{ messages }}{{ tools }}");
    assert_eq!(server.get("/slots").await.json()[0]["is_processing"], false);
}
