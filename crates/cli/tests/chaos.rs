//! Upstreams that cut, lie, stall and refuse, under a budget: every request ends in an answer or in
//! an error of its protocol's shape, each has exactly one receipt, and nothing stays held.
//! `tools/prove-chaos` kills them, too, and goes on for as long as one likes.
#![cfg(unix)]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::thread;

use serde_json::{Value, json};
use support::answers::Good;
use support::place::Place;
use support::server::Server;
use support::upstream::{Asked, Upstream, Way};
use support::{run, until};

/// Clients at a time, and what each asks.
const CLIENTS: usize = 8;
const EACH: usize = 50;
/// How a request is asked: its path, and whether it is streamed. Every seventh leaves.
const WAYS: [(&str, bool); 8] = [
    ("/v1/chat/completions", true),
    ("/v1/messages", true),
    ("/v1/responses", true),
    ("/api/chat", true),
    ("/v1/chat/completions", false),
    ("/v1/messages", false),
    ("/v1/responses", false),
    ("/api/chat", false),
];
const MODELS: [&str; 5] = ["auto", "a/m", "b/m", "c/m", "back"];

/// What becomes of the requests that come to an upstream, in turns.
fn misbehave(_: &Asked, number: usize) -> Way {
    let good = Good::default();
    match number % 40 {
        1 => Way::Cut(good),
        4 => Way::Malformed(good),
        7 => Way::Page,
        10 => Way::Status("429 Too Many Requests", "retry-after: 0\r\n"),
        13 => Way::Status("500 Internal Server Error", ""),
        16 => Way::Garbage,
        19 => Way::Nothing,
        21 => Way::Endless,
        22 => Way::Silent(good, 0),
        _ => Way::Well(good),
    }
}

fn policy(urls: &[String]) -> String {
    let mut text = r#"default_class = "open"
        [classes.open]
        providers = ["a", "b", "c"]
        [models.auto]
        candidates = ["a/m", "b/m", "c/m"]
        order = "listed"
        [models.back]
        candidates = ["c/m", "b/m", "a/m"]
        order = "listed"
        [budgets.all]
        scope = "all"
        per = "forever"
        usd = "100"
        "#
    .to_owned();
    let kinds = [("a", "compatible", "/v1"), ("b", "anthropic", ""), ("c", "ollama", "")];
    for ((name, kind, base), url) in kinds.iter().zip(urls) {
        text += &format!(
            "[providers.{name}]\nkind = \"{kind}\"\nurl = \"{url}{base}\"\n\
             key = \"env:PROOF_KEY\"\n\
             try_timeout_ms = 2000\nidle_timeout_ms = 500\ntotal_timeout_ms = 8000\nretries = 1\n\
             [prices.\"{name}/m\"]\ninput_per_million = 1\noutput_per_million = 10\n"
        );
    }
    text
}

/// What a client saw: how many requests by path and model, what is wrong, and how they ended.
#[derive(Default)]
struct Seen {
    asked: BTreeMap<(String, String), usize>,
    answered: usize,
    failed: usize,
    wrong: Vec<String>,
}

fn client(address: &str, number: usize) -> Seen {
    let mut seen = Seen::default();
    for at in 0..EACH {
        let (path, stream) = WAYS[(at + number) % WAYS.len()];
        let model = MODELS[at % MODELS.len()];
        let turns = json!([{ "role": "user", "content": format!("Say {number} {at}.") }]);
        let mut body = json!({ "model": model, "stream": stream });
        match path {
            "/v1/responses" => body["input"] = turns,
            _ => body["messages"] = turns,
        }
        if path == "/v1/messages" {
            body["max_tokens"] = 9.into();
        }
        let body = body.to_string();
        let mut socket = TcpStream::connect(address).expect("listens");
        let length = body.len();
        write!(
            socket,
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .expect("is read");
        *seen.asked.entry((path.into(), model.into())).or_default() += 1;
        let mut reader = BufReader::new(socket);
        let mut status = String::new();
        reader.read_line(&mut status).expect("is answered");
        if at % 7 == 6 {
            // It leaves, within the answer: what it is counted as, the ledger knows.
            continue;
        }
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("UTF-8");
        let status = status.split(' ').nth(1).and_then(|status| status.parse().ok());
        match end(path, stream, status.expect("a status"), &text) {
            Ok(true) => seen.answered += 1,
            Ok(false) => seen.failed += 1,
            Err(why) => seen.wrong.push(format!("{path} {model} {stream}: {why}")),
        }
    }
    seen
}

/// The JSON values of an answer: the lines of a stream, or the one of its body.
fn values(text: &str) -> Vec<Value> {
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let lines = body.lines().map(|line| line.strip_prefix("data: ").unwrap_or(line));
    lines.filter_map(|line| serde_json::from_str(line).ok()).filter(Value::is_object).collect()
}

/// Whether a request was answered, or ended in an error; or what is wrong with its end.
fn end(path: &str, stream: bool, status: u16, text: &str) -> Result<bool, String> {
    let all = values(text);
    let last = all.last().ok_or_else(|| format!("there is nothing in it: {status} {text}"))?;
    let error = match path {
        "/api/chat" => last["error"].is_string(),
        "/v1/messages" => last["type"] == "error" && last["error"]["message"].is_string(),
        _ => last["error"]["message"].is_string(),
    };
    if status != 200 {
        return if error { Ok(false) } else { Err(format!("{status} without an error: {text}")) };
    }
    let done = match (path, stream) {
        ("/v1/chat/completions", true) => text.contains("data: [DONE]") && !error,
        ("/v1/chat/completions", false) => last["choices"][0]["message"].is_object(),
        ("/v1/messages", true) => last["type"] == "message_stop",
        ("/v1/messages", false) => last["type"] == "message",
        ("/v1/responses", true) => last["type"] == "response.completed",
        ("/v1/responses", false) => last["status"] == "completed",
        _ => last["done"] == true,
    };
    let failed = error
        || path == "/v1/responses" && last["type"] == "error"
        || last["type"] == "response.failed" && last["response"]["error"].is_object()
        || last["status"] == "failed" && last["error"].is_object();
    match (done, failed) {
        (true, _) => Ok(true),
        (false, true) => Ok(false),
        _ => Err(format!("it has no end: {text}")),
    }
}

#[test]
fn whatever_upstreams_do_each_call_ends_once() {
    let place = Place::new("chaos");
    let upstreams: Vec<Upstream> = (0..3).map(|_| Upstream::start(misbehave)).collect();
    let urls: Vec<String> = upstreams.iter().map(|it| it.url.clone()).collect();
    place.policy(&policy(&urls));
    let ledger = place.ledger();
    let flags = ["--no-local", "--ledger", &ledger];
    let server = place.start(&flags, &[("PROOF_KEY", "sk-of-nobody")]);
    let address = server.address().to_owned();
    let clients = (0..CLIENTS).map(|number| {
        let address = address.clone();
        thread::spawn(move || client(&address, number))
    });
    let clients: Vec<_> = clients.collect();
    let mut all = Seen::default();
    for client in clients {
        let seen = client.join().expect("no client panics");
        seen.asked.into_iter().for_each(|(at, count)| *all.asked.entry(at).or_default() += count);
        all.answered += seen.answered;
        all.failed += seen.failed;
        all.wrong.extend(seen.wrong);
    }
    assert_eq!(all.wrong, Vec::<String>::new());
    // Both happened, or nothing was shown.
    assert!(all.answered > 20 && all.failed > 20, "{} and {}", all.answered, all.failed);
    until(|| server.metric("ingle_server_answers_in_flight") == 0.0);
    // What is under way at the upstreams when its caller leaves ends a moment later.
    until(|| place.calls().len() == CLIENTS * EACH);
    settled(&server, &place, &all);
}

/// One receipt for each request, and a budget that has just what they cost.
fn settled(server: &Server, place: &Place, all: &Seen) {
    let dear = json!({ "model": "a/m", "max_tokens": 4_000_000_000_u32,
                       "messages": [{ "role": "user", "content": "x" }] });
    let said = server.ask("POST", "/v1/chat/completions", &dear.to_string());
    assert_eq!(said.status, 402, "{}", said.body);
    until(|| place.calls().len() > CLIENTS * EACH);
    let verified = run(&["audit", "verify", "--ledger", &place.ledger()]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
    let mut rows = place.calls();
    assert_eq!(rows.pop().expect("the dear one")["end"], "refused");
    let mut ids: Vec<&str> = rows.iter().filter_map(|row| row["id"].as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), rows.len(), "each has an id of its own");
    let mut receipts: BTreeMap<(String, String), usize> = BTreeMap::new();
    for row in &rows {
        let at = |name: &str| row[name].as_str().expect("a text").to_owned();
        *receipts.entry((at("path"), at("asked"))).or_default() += 1;
        assert_ne!(row["end"], "lost", "{row}");
    }
    assert_eq!(receipts, all.asked);
    let costs = rows.iter().map(|row| row["cost"]["micros"].as_u64().expect("a known cost"));
    let spent: u64 = costs.sum();
    assert!(spent > 0);
    // The budget says what is spent or held: as much as the entries cost, so that nothing is held.
    let told = said.body.split("over budget `all`: $").nth(1).expect("it says why");
    let told = told.split(' ').next().expect("an amount");
    let (whole, part) = told.split_once('.').unwrap_or((told, ""));
    let micros = format!("{whole}{part:0<6}").parse::<u64>().expect("micro-dollars");
    assert_eq!(micros, spent, "{}", said.body);
}
