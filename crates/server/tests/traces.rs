//! Traces as a collector gets them: one that keeps what comes, one that is not there, one that
//! never answers, one that refuses. Whatever it does, answers are the same.

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ingle_server::{Collector, Config, Stop};
use serde_json::{Value, json};
use support::{CHAT, Reply, Server, chat, config, read_until, start, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const JSON: &str = "content-type: application/json\r\n";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A collector: what was posted to it, heads and bodies.
#[derive(Clone, Default)]
struct Posts(Arc<Mutex<Vec<(String, Value)>>>);

impl Posts {
    fn spans(&self) -> Vec<Value> {
        let posts = self.0.lock().expect("no panic while locked");
        let spans = |(_, body): &(String, Value)| {
            let scope = &body["resourceSpans"][0]["scopeSpans"][0];
            scope["spans"].as_array().cloned().unwrap_or_default()
        };
        posts.iter().flat_map(spans).collect()
    }

    /// The spans once so many have come, those that serve first.
    async fn wait(&self, count: usize) -> Vec<Value> {
        until(async || self.spans().len() >= count).await;
        let mut spans = self.spans();
        spans.sort_by_key(|span| span["kind"] != 2);
        spans
    }
}

/// Takes posts, and answers each with this status line and body.
async fn collector(reply: &'static str) -> (Collector, Posts) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let posts = Posts::default();
    let kept = posts.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(take_posts(socket, kept.clone(), reply));
        }
    });
    let mut collector = Collector::new(&format!("http://{address}/otlp/")).expect("an address");
    collector.gather = Duration::from_millis(10);
    (collector, posts)
}

async fn take_posts(mut socket: TcpStream, posts: Posts, reply: &str) {
    loop {
        let head = read_until_end_of_head(&mut socket).await;
        let Some(head) = head else { return };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.and_then(|it| it.parse().ok()).expect("a length")];
        socket.read_exact(&mut body).await.expect("the whole body");
        let body = serde_json::from_slice(&body).expect("JSON");
        posts.0.lock().expect("no panic while locked").push((head, body));
        socket.write_all(reply.as_bytes()).await.expect("open");
    }
}

async fn read_until_end_of_head(socket: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).expect("ASCII").to_lowercase())
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

/// An attribute's value, whatever its type.
fn attribute(span: &Value, name: &str) -> Value {
    let attributes = span["attributes"].as_array().expect("a list");
    let of = |it: &&Value| it["key"] == name;
    let found = attributes.iter().find(of).map(|it| it["value"].clone()).unwrap_or_default();
    match found.as_object().and_then(|value| value.iter().next()) {
        Some((kind, list)) if kind == "arrayValue" => {
            let values = list["values"].as_array().expect("a list");
            values.iter().map(|value| value["stringValue"].clone()).collect()
        }
        Some((_, value)) => value.clone(),
        None => Value::Null,
    }
}

async fn traced(collector: Collector) -> Server {
    start(Config { traces: Some(collector), ..config() }).await
}

async fn ask(server: &Server, headers: &str, body: &str) -> Reply {
    server.ask("POST", CHAT, &format!("{JSON}{headers}"), body).await
}

#[tokio::test]
async fn what_is_read_is_traced_without_its_words() {
    let (collector, posts) = collector(OK).await;
    let server = traced(collector).await;
    let body = r#"{"input":["wordsnottobetold","b"],"dimensions":2}"#;
    assert_eq!(server.post("/v1/embeddings", body).await.status, 200);
    let spans = posts.wait(2).await;
    assert_eq!(spans[0]["name"], "embeddings reader");
    let rows = [
        ("gen_ai.operation.name", json!("embeddings")),
        ("gen_ai.response.model", json!("reader")),
        ("gen_ai.embeddings.dimension.count", json!("2")),
        ("gen_ai.usage.input_tokens", json!("2")),
        ("http.route", json!("/v1/embeddings")),
        ("http.response.status_code", json!("200")),
    ];
    for (name, value) in rows {
        assert_eq!(attribute(&spans[0], name), value, "{name}");
    }
    assert!(!format!("{spans:?}").contains("wordsnottobetold"));
}

#[tokio::test]
async fn a_span_for_each_answer() {
    let (collector, posts) = collector(OK).await;
    let mut collector = collector.with_headers("x-key=a%20secret").expect("headers");
    collector.service = "a-test".to_owned();
    let server = traced(collector).await;
    let place = format!("traceparent: 00-{TRACE}-{PARENT}-01\r\nx-request-id: my-id\r\n");
    let extra = r#","temperature":0.7,"max_tokens":9,"seed":5,"top_p":0.9"#;
    let reply = ask(&server, &place, &chat("words not to be told", extra)).await;
    let spans = posts.wait(4).await;
    let answer = &spans[0];
    assert_eq!(answer["name"], "chat script");
    assert_eq!((&answer["traceId"], &answer["parentSpanId"]), (&json!(TRACE), &json!(PARENT)));
    let own = answer["spanId"].as_str().expect("a text");
    assert_eq!(reply.header("traceparent"), Some(format!("00-{TRACE}-{own}-01").as_str()));
    let rows = [
        ("gen_ai.operation.name", json!("chat")),
        ("gen_ai.provider.name", json!("ingle")),
        ("gen_ai.system", json!("ingle")),
        ("gen_ai.request.model", json!("script")),
        ("gen_ai.response.model", json!("script")),
        ("gen_ai.request.temperature", json!(0.7)),
        ("gen_ai.request.top_p", json!(0.9)),
        ("gen_ai.request.max_tokens", json!("9")),
        ("gen_ai.request.seed", json!("5")),
        ("gen_ai.response.finish_reasons", json!(["stop"])),
        ("gen_ai.usage.input_tokens", json!("5")),
        ("gen_ai.usage.output_tokens", json!("5")),
        ("gen_ai.usage.cache_read.input_tokens", json!("1")),
        ("http.request.method", json!("POST")),
        ("http.route", json!(CHAT)),
        ("http.response.status_code", json!("200")),
        ("server.address", json!("localhost")),
        ("ingle.request.id", json!("my-id")),
        ("ingle.left_machine", json!(false)),
        ("error.type", Value::Null),
    ];
    for (name, expect) in rows {
        assert_eq!(attribute(answer, name), expect, "{name}");
    }
    let id = attribute(answer, "gen_ai.response.id");
    assert!(reply.body.contains(id.as_str().expect("a text")), "{id} {}", reply.body);
    let parts: Vec<_> = spans[1..].iter().map(|span| span["name"].clone()).collect();
    assert_eq!(parts, ["queue", "prefill", "decode"]);
    for part in &spans[1..] {
        assert_eq!((&part["traceId"], &part["parentSpanId"]), (&json!(TRACE), &json!(own)));
    }
    assert_eq!(spans[1]["endTimeUnixNano"], spans[2]["startTimeUnixNano"]);
    let posted = posts.0.lock().expect("no panic while locked");
    let (head, body) = &posted[0];
    assert!(head.starts_with("post /otlp/v1/traces http/1.1\r\n"), "{head}");
    assert!(head.contains("x-key: a secret\r\n"), "{head}");
    let service = &body["resourceSpans"][0]["resource"]["attributes"][0];
    assert_eq!(service["value"]["stringValue"], "a-test");
    assert!(!body.to_string().contains("not to be told"), "{body}");
}

#[tokio::test]
async fn what_is_traced_and_how() {
    let (collector, posts) = collector(OK).await;
    let server = traced(collector).await;
    // What is asked, and the last span's name, status and error; nothing where it is not traced.
    let unsampled = format!("traceparent: 00-{TRACE}-{PARENT}-00\r\n");
    let streamed = r#","stream":true"#;
    type Span = (&'static str, &'static str, Value);
    let rows: [(&str, &str, String, Option<Span>); 8] = [
        (CHAT, "", chat("a", streamed), Some(("chat script", "200", Value::Null))),
        (
            "/v1/completions",
            "",
            json!({ "prompt": "a" }).to_string(),
            Some(("text_completion script", "200", Value::Null)),
        ),
        (
            "/api/chat",
            "",
            chat("a", r#","model":"script""#),
            Some(("chat script", "200", Value::Null)),
        ),
        (CHAT, "", chat("busy", ""), Some(("chat script", "429", json!("429")))),
        (CHAT, "", "{".to_owned(), Some(("chat", "400", json!("400")))),
        (CHAT, "", chat("break", streamed), Some(("chat script", "200", json!("500")))),
        (CHAT, &unsampled, chat("a", ""), None),
        ("/v1/tokenize", "", json!({ "prompt": "a" }).to_string(), None),
    ];
    let mut serving = 0;
    for (path, headers, body, expect) in rows {
        let headers = format!("{JSON}{headers}");
        let reply = server.ask("POST", path, &headers, &body).await;
        let Some((name, status, error)) = expect else {
            assert_eq!(reply.header("traceparent"), None, "{path}");
            continue;
        };
        serving += 1;
        let place = reply.header("traceparent").expect("a place in a trace");
        let own = place.split('-').nth(2).expect("an id").to_owned();
        let mine = |span: &Value| span["spanId"] == own.as_str();
        until(async || posts.spans().iter().any(mine)).await;
        let span = posts.spans().into_iter().find(mine).expect("is there");
        assert_eq!(span["name"], name, "{body}");
        assert_eq!(attribute(&span, "http.response.status_code"), status, "{body}");
        assert_eq!(attribute(&span, "error.type"), error, "{body}");
        assert_eq!(span["status"]["code"] == 2, !error.is_null(), "{body}");
    }
    let all = posts.spans();
    assert_eq!(all.iter().filter(|span| span["kind"] == 2).count(), serving);
}

/// A caller that goes away ends its span, which says so.
#[tokio::test]
async fn a_caller_that_goes_away() {
    let (collector, posts) = collector(OK).await;
    let server = traced(collector).await;
    let mut held = server.send("POST", CHAT, JSON, &chat("hold", r#","stream":true"#)).await;
    read_until(&mut held, "held").await;
    drop(held);
    let spans = posts.wait(1).await;
    assert_eq!(attribute(&spans[0], "gen_ai.response.finish_reasons"), json!(["cancelled"]));
}

/// A number of `/metrics`.
async fn metric(server: &Server, name: &str) -> u64 {
    let text = server.get("/metrics").await.body;
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
}

const DROPPED: &str = "ingle_server_spans_dropped_total";

/// Nobody listens there.
async fn dead() -> Collector {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    Collector::new(&format!("http://{address}")).expect("an address")
}

#[tokio::test]
async fn collectors_that_do_not_take_spans() {
    let down = "HTTP/1.1 503 Unavailable\r\ncontent-length: 0\r\n\r\n";
    let never = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
    let partly = "HTTP/1.1 200 OK\r\ncontent-length: 41\r\n\r\n\
                  {\"partialSuccess\":{\"rejectedSpans\":\"99\"}}";
    let rows = [
        ("dead", dead().await, 2),
        ("down", collector(down).await.0, 2),
        ("refusing", collector(never).await.0, 1),
        ("picky", collector(partly).await.0, 0),
    ];
    for (which, mut collector, failures) in rows {
        collector.attempts = 2;
        collector.gather = Duration::ZERO;
        let server = traced(collector).await;
        assert_eq!(server.post(CHAT, &chat("a", "")).await.status, 200, "{which}");
        until(async || metric(&server, DROPPED).await == 4).await;
        assert_eq!(metric(&server, "ingle_server_spans_sent_total").await, 0, "{which}");
        let failed = metric(&server, "ingle_server_span_post_failures_total").await;
        assert_eq!(failed, failures, "{which}");
    }
}

/// It takes the connection and never answers: the queue fills up, answers go on, and so does the
/// end, which gives what is left its time and no more.
#[tokio::test]
async fn a_collector_that_hangs() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let mut collector = Collector::new(&format!("http://{address}")).expect("an address");
    collector.queue = 1;
    collector.batch = 1;
    collector.post = Duration::from_secs(3600);
    collector.flush = Duration::from_millis(20);
    let server = traced(collector).await;
    for _ in 0..4 {
        assert_eq!(server.post(CHAT, &chat("a", "")).await.status, 200);
    }
    until(async || metric(&server, DROPPED).await >= 4).await;
    server.stop.send_replace(Stop::Drain);
    server.ended.await.expect("no panic").expect("an orderly end");
    drop(listener);
}

/// What is in the queue at the end is sent.
#[tokio::test]
async fn the_end_sends_what_is_left() {
    let (mut collector, posts) = collector(OK).await;
    collector.gather = Duration::from_secs(3600);
    let server = traced(collector).await;
    assert_eq!(server.post(CHAT, &chat("a", "")).await.status, 200);
    server.stop.send_replace(Stop::Drain);
    server.ended.await.expect("no panic").expect("an orderly end");
    assert_eq!(posts.spans().len(), 4);
}
