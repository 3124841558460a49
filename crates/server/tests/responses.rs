//! OpenAI's responses over a real socket, in front of a scripted provider: kept, built upon,
//! computed in the background, and each key's own.

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ingle_protocol::Origin;
use ingle_records::{Records, ResponseLimits};
use ingle_server::{Config, Key, Limits, Stop};
use serde_json::{Value, json};
use support::{Reply, Server, config, read_until, start, until};

const JSON: &str = "content-type: application/json\r\n";
const RESPONSES: &str = "/v1/responses";

/// A folder for records, gone after its test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ingle-responses-{}-{count}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn config(&self) -> Config {
        Config { records: Some(records(&self.0)), ..config() }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn records(folder: &Path) -> Arc<Records> {
    Arc::new(Records::open(folder).expect("opens"))
}

fn body(input: &str, extra: &str) -> String {
    format!(r#"{{"input":"{input}"{extra}}}"#)
}

async fn create(server: &Server, input: &str, extra: &str) -> Value {
    let reply = server.post(RESPONSES, &body(input, extra)).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    reply.json()
}

fn id(response: &Value) -> &str {
    response["id"].as_str().expect("an id")
}

async fn get(server: &Server, id: &str, rest: &str) -> Reply {
    server.get(&format!("{RESPONSES}/{id}{rest}")).await
}

async fn status(server: &Server, id: &str) -> String {
    get(server, id, "").await.json()["status"].as_str().expect("a status").to_owned()
}

fn text(response: &Value) -> &str {
    response["output"][0]["content"][0]["text"].as_str().unwrap_or_default()
}

fn refused(reply: &Reply, status: u16, param: &str, words: &str) {
    let error = &reply.json()["error"];
    assert_eq!((reply.status, &error["param"]), (status, &json!(param)), "{error}");
    assert!(error["message"].as_str().expect("a text").contains(words), "{error}");
}

/// What is told of events: their names, and their data.
fn events(reply: &Reply) -> Vec<Value> {
    let data = reply.events();
    data.iter().map(|data| serde_json::from_str(data).expect("JSON")).collect()
}

#[tokio::test]
async fn whole_streamed_and_kept_are_the_same() {
    let folder = Folder::new();
    let server = start(folder.config()).await;
    let whole = create(&server, "one two", "").await;
    assert_eq!((text(&whole), &whole["status"]), ("one two", &json!("completed")));
    assert_eq!((&whole["store"], &whole["usage"]["input_tokens"]), (&json!(true), &json!(5)));
    assert_eq!(get(&server, id(&whole), "").await.json(), whole, "as it was told");
    let streamed = server.post(RESPONSES, &body("one two", r#","stream":true"#)).await;
    assert_eq!(streamed.header("content-type"), Some("text/event-stream"));
    let told = events(&streamed);
    let last = &told.last().expect("events")["response"];
    assert_eq!((text(last), told.len()), ("one two", 10));
    assert_eq!(&get(&server, id(last), "").await.json(), last);
    let again = get(&server, id(last), "?stream=true").await;
    refused(&again, 400, "stream", "in the background");
}

#[tokio::test]
async fn a_request_builds_on_earlier_ones() {
    let folder = Folder::new();
    let server = start(folder.config()).await;
    let first = create(&server, "a", r#","instructions":"old""#).await;
    let after = format!(r#","previous_response_id":"{}""#, id(&first));
    let second = create(&server, "b", &after).await;
    assert_eq!(second["previous_response_id"], first["id"]);
    let body = format!(r#"{{"input":"c","previous_response_id":"{}"}}"#, id(&second));
    let count = server.post("/v1/responses/input_tokens", &body).await.json();
    let whole = "user:a\nassistant:a\nuser:b\nassistant:b\nuser:c\n";
    let expect = json!({ "object": "response.input_tokens", "input_tokens": whole.len() });
    assert_eq!(count, expect, "all that was said but the old instructions");
    let reference = first["output"][0]["id"].as_str().expect("an id");
    let body = format!(r#"{{"input":[{{"type":"item_reference","id":"{reference}"}}]}}"#);
    let count = server.post("/v1/responses/input_tokens", &body).await.json();
    assert_eq!(count["input_tokens"], "assistant:a\n".len());
    let deleted = server.ask("DELETE", &format!("{RESPONSES}/{}", id(&first)), "", "").await;
    assert_eq!((deleted.status, &deleted.json()["deleted"]), (200, &json!(true)));
    refused(&get(&server, id(&first), "").await, 404, "id", "was deleted");
    let broken = server.post(RESPONSES, &body_after(id(&second))).await;
    refused(&broken, 400, "previous_response_id", id(&first));
    assert_eq!(broken.json()["error"]["code"], "previous_response_not_found");
    let unknown = server.post(RESPONSES, &body_after("resp_none")).await;
    refused(&unknown, 400, "previous_response_id", "resp_none");
}

fn body_after(id: &str) -> String {
    body("x", &format!(r#","previous_response_id":"{id}""#))
}

/// What is kept keeps where it came from, and so does all that builds on it: whoever asks for more
/// asks as from there, too.
#[tokio::test]
async fn what_builds_on_something_comes_from_there_too() {
    let folder = Folder::new();
    let server = start(folder.config()).await;
    let ask = async |headers: &str, body: &str| {
        let headers = format!("{JSON}{headers}");
        let reply = server.ask("POST", RESPONSES, &headers, body).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        reply.json()
    };
    // An answer's item, without the responses before it.
    let naming = |response: &Value| {
        let item = response["output"][0]["id"].as_str().expect("an id");
        let items = json!([
            { "type": "item_reference", "id": item },
            { "role": "user", "content": "more" },
        ]);
        json!({ "input": items }).to_string()
    };
    let first = ask("x-ingle-workspace: vault\r\nx-data: a\r\n", &body("a", "")).await;
    let second = ask("", &body_after(id(&first))).await;
    let third = ask("x-ingle-workspace: other\r\n", &naming(&second)).await;
    let asked = || server.world.origins.lock().expect("no panic").clone();
    let places = |origin: &Origin| -> Vec<String> {
        origin.before.iter().map(|it| it.workspaces.concat()).collect()
    };
    let all = asked();
    assert!(places(&all[0]).is_empty());
    assert_eq!(places(&all[1]), ["vault"]);
    assert_eq!(places(&all[2]), ["", "vault"]);
    assert_eq!(all[1].before[0].headers, [("x-data".to_owned(), "a".to_owned())]);
    assert!(all.iter().all(|origin| !origin.unknown && origin.path == RESPONSES));

    // One of before: nobody knows where it came from, nor that what builds on it does.
    let store = records(&folder.0);
    let mut old = store.response("open", id(&first)).expect("is read").expect("is there");
    old.origin = None;
    assert!(store.end_response(&old, Limits::default().responses).expect("is written"));
    let fourth = ask("", &body_after(id(&second))).await;
    ask("", &naming(&fourth)).await;
    ask("", &naming(&third)).await;
    let all = asked();
    assert!(all[3].unknown, "the first has no origin");
    assert!(!all[4].unknown && all[4].before.iter().any(|it| it.unknown), "{:?}", all[4]);
    assert_eq!(places(&all[5]), ["other", "", "vault"], "that was known when it was kept");
}

#[tokio::test]
async fn input_items_are_listed() {
    let folder = Folder::new();
    let server = start(folder.config()).await;
    let items = r#"{"input":[{"role":"user","content":"a"},{"role":"user","content":"b"}]}"#;
    let response = server.post(RESPONSES, items).await.json();
    let list = get(&server, id(&response), "/input_items").await.json();
    let texts: Vec<&Value> = list["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|item| &item["content"][0]["text"])
        .collect();
    assert_eq!((texts, &list["has_more"]), (vec![&json!("b"), &json!("a")], &json!(false)));
    let first = get(&server, id(&response), "/input_items?limit=1&order=asc").await.json();
    let after = first["last_id"].as_str().expect("an id");
    let path = format!("/input_items?limit=1&order=asc&after={after}");
    let second = get(&server, id(&response), &path).await.json();
    assert_eq!(second["data"][0]["content"][0]["text"], "b");
    refused(&get(&server, id(&response), "/input_items?limit=0").await, 400, "limit", "1 to 100");
    refused(&get(&server, "resp_none", "/input_items").await, 404, "id", "resp_none");
}

#[tokio::test]
async fn in_the_background_it_runs_without_its_caller() {
    let folder = Folder::new();
    let server = start(folder.config()).await;
    let queued = create(&server, "hold", r#","background":true"#).await;
    assert_eq!((&queued["status"], &queued["background"]), (&json!("queued"), &json!(true)));
    let id = id(&queued);
    until(async || status(&server, id).await == "in_progress").await;
    refused(
        &server.post(RESPONSES, &body_after(id)).await,
        400,
        "previous_response_id",
        "complete",
    );
    assert_eq!(
        get(&server, id, "/input_items").await.json()["data"].as_array().map(Vec::len),
        Some(1)
    );
    let path = format!("{RESPONSES}/{id}?stream=true&starting_after=1");
    let mut reader = server.send("GET", &path, "", "").await;
    let begun = read_until(&mut reader, "held").await;
    assert!(
        begun.contains("response.in_progress") && !begun.contains("response.queued"),
        "{begun}"
    );
    server.world.released.store(true, Ordering::SeqCst);
    read_until(&mut reader, "event: response.completed").await;
    until(async || status(&server, id).await == "completed").await;
    let whole = get(&server, id, "").await.json();
    assert_eq!(text(&whole), "held released");
    let all = events(&get(&server, id, "?stream=true").await);
    let numbers: Vec<u64> =
        all.iter().filter_map(|event| event["sequence_number"].as_u64()).collect();
    assert_eq!(numbers, (0..all.len() as u64).collect::<Vec<_>>());
    assert_eq!(all.last().expect("events")["response"], whole);
    let rest = events(&get(&server, id, "?stream=true&starting_after=4").await);
    assert_eq!(rest, all[5..]);
    let cancelled = server.post(&format!("{RESPONSES}/{id}/cancel"), "").await;
    assert_eq!(cancelled.json(), whole, "what has ended stays as it is");
}

#[tokio::test]
async fn a_background_stream_may_be_left_and_taken_up_again() {
    let folder = Folder::new();
    let server = start(folder.config()).await;
    let extra = r#","background":true,"stream":true"#;
    let mut socket = server.send("POST", RESPONSES, JSON, &body("hold", extra)).await;
    let begun = read_until(&mut socket, "held").await;
    drop(socket);
    let at = begun.find("resp_").expect("an id");
    let id = begun[at..].split('"').next().expect("an id").to_owned();
    assert_eq!(status(&server, &id).await, "in_progress");
    server.world.released.store(true, Ordering::SeqCst);
    until(async || status(&server, &id).await == "completed").await;
    assert_eq!(server.world.cancelled.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn what_runs_is_cancelled_or_deleted() {
    let folder = Folder::new();
    let server = start(folder.config()).await;
    for (count, method) in ["POST", "DELETE"].into_iter().enumerate() {
        let queued = create(&server, "hold", r#","background":true"#).await;
        let id = id(&queued);
        until(async || get(&server, id, "?stream=false").await.json()["status"] == "in_progress")
            .await;
        let path = if method == "POST" { format!("{id}/cancel") } else { id.to_owned() };
        let path = format!("{RESPONSES}/{path}");
        let mut reader = server.send("GET", &format!("{RESPONSES}/{id}?stream=true"), "", "").await;
        read_until(&mut reader, "held").await;
        let reply = server.ask(method, &path, "", "").await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        until(async || server.world.cancelled.load(Ordering::SeqCst) == count + 1).await;
        let left = get(&server, id, "").await;
        if method == "POST" {
            assert_eq!(reply.json()["status"], "cancelled");
            assert_eq!(left.json(), reply.json());
            let again = server.post(&path, "").await;
            assert_eq!(again.json(), reply.json(), "twice is as good as once");
        } else {
            assert_eq!(left.status, 404);
        }
    }
    let plain = create(&server, "x", "").await;
    let cancel = server.post(&format!("{RESPONSES}/{}/cancel", id(&plain)), "").await;
    refused(&cancel, 400, "id", "in the background");
    refused(&server.post(&format!("{RESPONSES}/resp_x/cancel"), "").await, 404, "id", "resp_x");
}

#[tokio::test]
async fn in_the_foreground_it_ends_with_its_caller() {
    let folder = Folder::new();
    let server = start(folder.config()).await;
    for (count, extra) in [r#","stream":true"#, ""].into_iter().enumerate() {
        let mut socket = server.send("POST", RESPONSES, JSON, &body("hold", extra)).await;
        if extra.is_empty() {
            until(async || server.world.running.load(Ordering::SeqCst) == 1).await;
        } else {
            read_until(&mut socket, "held").await;
        }
        drop(socket);
        until(async || server.world.cancelled.load(Ordering::SeqCst) == count + 1).await;
        until(async || server.world.running.load(Ordering::SeqCst) == 0).await;
    }
}

#[tokio::test]
async fn failures_have_a_status_or_are_the_last_event() {
    let folder = Folder::new();
    let server = start(folder.config()).await;
    let stream = r#","stream":true"#;
    for (input, status) in
        [("busy", 429), ("long", 400), ("late", 408), ("bug", 500), ("fail", 500), ("vanish", 500)]
    {
        let whole = server.post(RESPONSES, &body(input, "")).await;
        assert_eq!(whole.status, status, "{input}: {}", whole.body);
        if input != "vanish" {
            let streamed = server.post(RESPONSES, &body(input, stream)).await;
            assert_eq!(streamed.status, status, "{input}: {}", streamed.body);
        }
    }
    let broken = server.post(RESPONSES, &body("break", stream)).await;
    let told = events(&broken);
    let last = told.last().expect("events");
    assert_eq!((broken.status, &last["type"]), (200, &json!("response.failed")));
    assert_eq!(last["response"]["error"]["message"], "it broke later");
    refused(&get(&server, id(&last["response"]), "").await, 404, "id", "never kept");
    let failed = create(&server, "break", r#","background":true"#).await;
    until(async || status(&server, id(&failed)).await == "failed").await;
    let failed = get(&server, id(&failed), "").await.json();
    assert_eq!(failed["error"]["code"], "server_error");
    assert_eq!(failed["output"], json!([]), "its item was not complete");
    assert_eq!(server.post("/v1/responses/compact", "{}").await.status, 501);
}

#[tokio::test]
async fn where_nothing_is_kept_that_is_said() {
    let folder = Folder::new();
    let server = start(Config { store: false, ..folder.config() }).await;
    let plain = create(&server, "x", "").await;
    assert_eq!(plain["store"], false, "what was not asked for is not claimed");
    refused(&get(&server, id(&plain), "").await, 404, "id", "never kept");
    let ask = async |extra: &str| server.post(RESPONSES, &body("x", extra)).await;
    refused(&ask(r#","store":true"#).await, 400, "store", "keeps no responses");
    refused(&ask(r#","background":true"#).await, 400, "background", "keeps no responses");
    refused(
        &server.post(RESPONSES, &body_after("resp_1")).await,
        400,
        "previous_response_id",
        "resp_1",
    );
    let server = start(folder.config()).await;
    let plain = create(&server, "x", r#","store":false"#).await;
    assert_eq!(plain["store"], false);
    assert_eq!(get(&server, id(&plain), "").await.status, 404);
    let responses = ResponseLimits { count: 9, bytes: 100, age_s: 9 };
    let limits = Limits { responses, ..Limits::default() };
    let server = start(Config { limits, ..folder.config() }).await;
    let large = create(&server, "x", "").await;
    assert_eq!((text(&large), &large["store"]), ("x", &json!(false)), "too large to be kept");
    refused(&ask_large(&server).await, 400, "background", "larger");
}

async fn ask_large(server: &Server) -> Reply {
    server.post(RESPONSES, &body("hold", r#","background":true"#)).await
}

#[tokio::test]
async fn a_chain_has_a_bound() {
    let folder = Folder::new();
    let mut limits = Limits::default();
    limits.chain.count = 2;
    let server = start(Config { limits, ..folder.config() }).await;
    let first = create(&server, "a", "").await;
    let mut last = id(&first).to_owned();
    for _ in 0..2 {
        let reply = server.post(RESPONSES, &body_after(&last)).await.json();
        id(&reply).clone_into(&mut last);
    }
    refused(
        &server.post(RESPONSES, &body_after(&last)).await,
        400,
        "previous_response_id",
        "more than 2",
    );
}

#[tokio::test]
async fn each_keys_responses_are_its_own() {
    let folder = Folder::new();
    let keys = ["the-first-key", "the-second-key"].map(|key| Key::chosen(key).expect("right"));
    let keys = keys.to_vec();
    let server = start(Config { keys, ..folder.config() }).await;
    let ask = async |key: &str, method: &str, path: &str, body: &str| {
        let headers = format!("{JSON}authorization: Bearer {key}\r\n");
        server.ask(method, path, &headers, body).await
    };
    let kept = ask("the-first-key", "POST", RESPONSES, &body("x", "")).await.json();
    let held = body("hold", r#","background":true"#);
    let running = ask("the-first-key", "POST", RESPONSES, &held).await.json();
    for response in [&kept, &running] {
        let path = format!("{RESPONSES}/{}", id(response));
        for (method, path) in [
            ("GET", path.clone()),
            ("DELETE", path.clone()),
            ("POST", format!("{path}/cancel")),
            ("GET", format!("{path}/input_items")),
        ] {
            let reply = ask("the-second-key", method, &path, "").await;
            assert_eq!(reply.status, 404, "{method} {path}: {}", reply.body);
        }
        let after = ask("the-second-key", "POST", RESPONSES, &body_after(id(response))).await;
        assert_eq!(after.status, 400, "{}", after.body);
        assert_eq!(ask("the-first-key", "GET", &path, "").await.status, 200);
    }
    assert_eq!(server.world.cancelled.load(Ordering::SeqCst), 0);
}

/// A server that ends in order tells that its responses failed; of one that did not, the next one
/// does.
#[tokio::test]
async fn what_a_server_left_undone_has_failed() {
    let folder = Folder::new();
    let ended = folder.config();
    let limits = Limits { drain: std::time::Duration::from_millis(1), ..Limits::default() };
    let server = start(Config { limits, ..ended }).await;
    let queued = create(&server, "hold", r#","background":true"#).await;
    until(async || status(&server, id(&queued)).await == "in_progress").await;
    server.stop.send_replace(Stop::Drain);
    server.ended.await.expect("no panic").expect("in order");
    let server = start(folder.config()).await;
    let failed = get(&server, id(&queued), "").await.json();
    assert_eq!(failed["status"], "failed");
    assert!(failed["error"]["message"].as_str().expect("a text").contains("stopping"), "{failed}");

    let records = records(&folder.0);
    let left = records.response("open", id(&failed)).expect("is read").expect("is there");
    let mut killed = left.clone();
    (killed.server, killed.status) = (Some("killed".into()), "queued".into());
    killed.events = "event: response.created\ndata: {}\n\n".into();
    let limits = Limits::default().responses;
    assert!(records.end_response(&killed, limits).expect("is written"));
    let settled = get(&server, id(&failed), "").await.json();
    assert!(
        settled["error"]["message"].as_str().expect("a text").contains("ask again"),
        "{settled}"
    );
    let told = events(&get(&server, id(&failed), "?stream=true&starting_after=0").await);
    assert_eq!((told.len(), &told[0]["response"]), (1, &settled));
    let alive = records.serving("other").expect("a sign of life");
    killed.server = Some("other".into());
    assert!(records.end_response(&killed, limits).expect("is written"));
    assert_eq!(get(&server, id(&failed), "").await.status, 200);
    let cancel = server.post(&format!("{RESPONSES}/{}/cancel", id(&failed)), "").await;
    refused(&cancel, 400, "id", "another server");
    drop(alive);
    assert_eq!(status(&server, id(&failed)).await, "failed");
}
