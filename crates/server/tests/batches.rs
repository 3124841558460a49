//! Files and batches over a real socket, in front of a scripted provider.

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ingle_protocol::Fault;
use ingle_records::{FileLimits, FileRecord, Kept, Records};
use ingle_server::{Config, Key, KeyHash, Limits, Slot, Stop, bind};
use serde_json::{Value, json};
use support::{CHAT, Reply, Script, Server, World, chat, config, start, until};
use tokio::sync::{oneshot, watch};

/// A folder for records, gone after its test.
struct Home(PathBuf);

impl Home {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("batches-{}-{count}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }

    fn config(&self) -> Config {
        let records = Records::open(&self.0).expect("opens");
        Config { records: Some(Arc::new(records)), ..config() }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const FORM: &str = "content-type: multipart/form-data; boundary=XX\r\n";
const JSON: &str = "content-type: application/json\r\n";

fn form(fields: &[(&str, &str)], file: Option<&str>) -> String {
    let field = |(name, value): &(&str, &str)| {
        format!("--XX\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let mut body: String = fields.iter().map(field).collect();
    if let Some(text) = file {
        let name = "form-data; name=\"file\"; filename=\"jobs.jsonl\"";
        body.push_str(&format!("--XX\r\ncontent-disposition: {name}\r\n\r\n{text}\r\n"));
    }
    body + "--XX--\r\n"
}

async fn upload(server: &Server, headers: &str, text: &str) -> Reply {
    let headers = format!("{FORM}{headers}");
    server.ask("POST", "/v1/files", &headers, &form(&[("purpose", "batch")], Some(text))).await
}

/// Lines that ask for these texts to be said back.
fn jobs(texts: &[&str]) -> String {
    let line = |(at, text): (usize, &&str)| {
        let body: Value = serde_json::from_str(&chat(text, "")).expect("JSON");
        let line =
            json!({ "custom_id": format!("id-{at}"), "method": "POST", "url": CHAT, "body": body });
        format!("{line}\n")
    };
    texts.iter().enumerate().map(line).collect()
}

async fn begin(server: &Server, headers: &str, text: &str) -> Value {
    let file = upload(server, headers, text).await;
    assert_eq!(file.status, 200, "{}", file.body);
    begin_on(server, headers, &file.json()["id"]).await
}

/// Begins a batch on a file that is there.
async fn begin_on(server: &Server, headers: &str, file: &Value) -> Value {
    let asked = json!({ "input_file_id": file, "endpoint": CHAT, "completion_window": "24h" });
    let headers = format!("{JSON}{headers}");
    let reply = server.ask("POST", "/v1/batches", &headers, &asked.to_string()).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    reply.json()
}

fn path(batch: &Value) -> String {
    format!("/v1/batches/{}", batch["id"].as_str().expect("an id"))
}

async fn ended(server: &Server, batch: &Value) -> Value {
    until(async || {
        let status = server.get(&path(batch)).await.json()["status"].clone();
        ["completed", "failed", "expired", "cancelled"].iter().any(|end| status == *end)
    })
    .await;
    server.get(&path(batch)).await.json()
}

/// A file of lines that a batch wrote.
async fn lines(server: &Server, id: &Value) -> Vec<Value> {
    let Some(id) = id.as_str() else { return Vec::new() };
    let reply = server.get(&format!("/v1/files/{id}/content")).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    reply.body.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// What a batch for this path, of one line with this body, gave at a place of its answer.
async fn answered(server: &Server, path: &str, body: Value, place: &str) -> Value {
    let line = json!({ "custom_id": "a", "method": "POST", "url": path, "body": body });
    let file = upload(server, "", &line.to_string()).await.json();
    let asked = json!({
        "input_file_id": file["id"], "endpoint": path, "completion_window": "24h",
    });
    let batch = server.post("/v1/batches", &asked.to_string()).await;
    assert_eq!(batch.status, 200, "{}", batch.body);
    let batch = ended(server, &batch.json()).await;
    let mut all = lines(server, &batch["output_file_id"]).await;
    all.extend(lines(server, &batch["error_file_id"]).await);
    all[0].pointer(&format!("/response/body{place}")).cloned().unwrap_or(all[0].clone())
}

#[tokio::test]
async fn every_endpoint_has_batches() {
    let home = Home::new();
    let server = start(home.config()).await;
    let rows = [
        (
            "/v1/embeddings",
            json!({ "input": "a", "normalize": false }),
            "/data/0/embedding",
            json!([1.0, 0.0, 0.0, 1.0]),
        ),
        (
            "/v1/embeddings",
            json!({ "model": "script", "input": "a" }),
            "/error/param",
            json!("model"),
        ),
        ("/v1/completions", json!({ "prompt": "one two" }), "/choices/0/text", json!("one two")),
        (
            "/v1/responses",
            json!({ "input": "one two" }),
            "/output/0/content/0/text",
            json!("one two"),
        ),
        ("/v1/responses", json!({ "input": "x" }), "/store", json!(false)),
        ("/v1/responses", json!({ "input": "x", "store": true }), "/error/param", json!("store")),
        (
            "/v1/responses",
            json!({ "input": "x", "background": true }),
            "/error/param",
            json!("background"),
        ),
        ("/v1/responses", json!({ "input": "x", "stream": true }), "/error/param", json!("stream")),
    ];
    for (path, body, place, expect) in rows {
        assert_eq!(answered(&server, path, body.clone(), place).await, expect, "{path} {body}");
    }
    let read = server.world.encodings.lock().expect("no panic while locked").clone();
    assert!(read[0].priority >= 1000, "it lets others pass: {:?}", read[0]);
}

#[tokio::test]
async fn a_batch_is_answered_in_order_and_failures_stand_apart() {
    let home = Home::new();
    let server = start(home.config()).await;
    let texts = ["one", "fail", "two words", "long", "bug", "vanish", "three"];
    let batch = begin(&server, "", &jobs(&texts)).await;
    assert_eq!(batch["status"], "validating");
    let batch = ended(&server, &batch).await;
    assert_eq!(batch["status"], "completed", "{batch}");
    assert_eq!(batch["request_counts"], json!({ "total": 7, "completed": 3, "failed": 4 }));
    let output = lines(&server, &batch["output_file_id"]).await;
    let said: Vec<(&str, &str)> = output
        .iter()
        .map(|line| {
            let text = &line["response"]["body"]["choices"][0]["message"]["content"];
            (line["custom_id"].as_str().expect("a text"), text.as_str().expect("a text"))
        })
        .collect();
    assert_eq!(said, [("id-0", "one"), ("id-2", "two words"), ("id-6", "three")]);
    assert!(output.iter().all(|line| line["response"]["status_code"] == 200));
    let errors = lines(&server, &batch["error_file_id"]).await;
    let told: Vec<(&str, u64)> = errors
        .iter()
        .map(|line| {
            let status = &line["response"]["status_code"];
            (line["custom_id"].as_str().expect("a text"), status.as_u64().expect("a number"))
        })
        .collect();
    assert_eq!(told, [("id-1", 500), ("id-3", 400), ("id-4", 500), ("id-5", 500)]);
    assert!(errors[1]["response"]["body"]["error"]["message"].is_string());
    let terms = server.world.terms.lock().expect("no panic").clone();
    assert!(terms.iter().all(|(_, priority, _)| *priority == 1000), "behind all others: {terms:?}");
    let metrics = server.get("/metrics").await.body;
    for line in
        ["batches_open 0", "lines_answered_total 3", "lines_failed_total 4", "lines_running 0"]
    {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

/// A line that is answered is never answered again, though the server ends in the middle.
#[tokio::test]
async fn the_next_server_goes_on() {
    let home = Home::new();
    let server = start(home.config()).await;
    let batch = begin(&server, "", &jobs(&["one", "hold", "two", "three"])).await;
    let counts = async |server: &Server, done: u64| {
        until(async || {
            server.get(&path(&batch)).await.json()["request_counts"]["completed"] == done
        })
        .await;
    };
    counts(&server, 3).await;
    until(async || server.world.running.load(Ordering::SeqCst) == 1).await;
    server.stop.send_replace(ingle_server::Stop::Now);
    until(async || server.ended.is_finished()).await;
    until(async || server.world.cancelled.load(Ordering::SeqCst) == 1).await;

    let server = start(home.config()).await;
    server.world.released.store(true, Ordering::SeqCst);
    let batch = ended(&server, &batch).await;
    assert_eq!(batch["request_counts"]["completed"], 4, "{batch}");
    let asked = server.world.terms.lock().expect("no panic").len();
    assert_eq!(asked, 1, "only what had no result was asked again");
    assert_eq!(lines(&server, &batch["output_file_id"]).await.len(), 4);
}

#[tokio::test]
async fn a_batch_is_cancelled_and_what_was_done_is_kept() {
    let home = Home::new();
    let server = start(home.config()).await;
    let batch = begin(&server, "", &jobs(&["one", "hold", "silent"])).await;
    until(async || {
        server.get(&path(&batch)).await.json()["request_counts"]["completed"] == 1
            && server.world.running.load(Ordering::SeqCst) == 2
    })
    .await;
    let cancel = format!("{}/cancel", path(&batch));
    let foreign = server.ask("POST", &cancel, "origin: https://evil.example\r\n", "").await;
    assert_eq!(foreign.status, 403);
    let reply = server.ask("POST", &cancel, "", "").await;
    assert_eq!((reply.status, &reply.json()["status"]), (200, &json!("cancelling")));
    let batch = ended(&server, &batch).await;
    assert_eq!(batch["status"], "cancelled");
    assert_eq!(lines(&server, &batch["output_file_id"]).await.len(), 1);
    let errors = lines(&server, &batch["error_file_id"]).await;
    assert!(errors.iter().all(|line| line["error"]["code"] == "batch_cancelled"), "{errors:?}");
    assert_eq!(errors.len(), 2);
    until(async || server.world.cancelled.load(Ordering::SeqCst) == 2).await;
    let done = begin(&server, "", &jobs(&["one"])).await;
    ended(&server, &done).await;
    let late = server.ask("POST", &format!("{}/cancel", path(&done)), "", "").await;
    assert_eq!(late.status, 409, "{}", late.body);
}

#[tokio::test]
async fn a_bad_input_is_refused_line_by_line() {
    let home = Home::new();
    let server = start(home.config()).await;
    let text = jobs(&["one"]).repeat(2) + "{}\n";
    let batch = begin(&server, "", &text).await;
    let batch = ended(&server, &batch).await;
    assert_eq!(batch["status"], "failed");
    let data = &batch["errors"]["data"];
    assert_eq!((&data[0]["code"], &data[0]["line"]), (&json!("duplicate_custom_id"), &json!(2)));
    assert_eq!((&data[1]["param"], &data[1]["line"]), (&json!("custom_id"), &json!(3)));
}

#[tokio::test]
async fn a_key_sees_its_own_alone() {
    let home = Home::new();
    let keys =
        ["the-first-key", "the-second-key"].map(|key| Key::chosen(key).expect("long enough"));
    let server = start(Config { keys: keys.to_vec(), ..home.config() }).await;
    let [mine, theirs] =
        ["the-first-key", "the-second-key"].map(|key| format!("authorization: Bearer {key}\r\n"));
    let batch = begin(&server, &mine, &jobs(&["one"])).await;
    let file = batch["input_file_id"].as_str().expect("an id").to_owned();
    until(async || {
        server.ask("GET", &path(&batch), &mine, "").await.json()["status"] == "completed"
    })
    .await;
    let rows = [
        ("GET", path(&batch)),
        ("POST", format!("{}/cancel", path(&batch))),
        ("GET", format!("/v1/files/{file}")),
        ("GET", format!("/v1/files/{file}/content")),
        ("DELETE", format!("/v1/files/{file}")),
    ];
    for (method, path) in rows {
        assert_eq!(server.ask(method, &path, &theirs, "").await.status, 404, "{method} {path}");
    }
    for (list, count) in [("/v1/files", 2), ("/v1/batches", 1)] {
        let of = async |key: &str| {
            let reply = server.ask("GET", list, key, "").await.json();
            reply["data"].as_array().expect("a list").len()
        };
        assert_eq!((of(&mine).await, of(&theirs).await), (count, 0), "{list}");
    }
    let asked = json!({ "input_file_id": file, "endpoint": CHAT, "completion_window": "24h" });
    let headers = format!("{JSON}{theirs}");
    let reply = server.ask("POST", "/v1/batches", &headers, &asked.to_string()).await;
    assert_eq!((reply.status, &reply.json()["error"]["param"]), (400, &json!("input_file_id")));
}

/// A policy is asked of lines as of the request that began their batch: by key, path, workspace and
/// headers, also where the key is gone and another of its owner's goes on.
#[tokio::test]
async fn lines_come_from_where_their_batch_was_begun() {
    let home = Home::new();
    let key = |name: &str| Key {
        owner: Some("team".to_owned()),
        ..Key::new(name, KeyHash::of(b"a salt", name.as_bytes()))
    };
    let narrow = Key {
        classes: ["secret".to_owned()].into(),
        models: Some(["script".to_owned()].into()),
        ..key("narrow")
    };
    let server = start(Config { keys: vec![key("wide"), narrow], ..home.config() }).await;
    let narrow = "authorization: Bearer narrow\r\nx-ingle-workspace: vault\r\nx-data: a\r\n";
    let body = r#"{"model":"owner/other","messages":[{"role":"user","content":"x"}]}"#;
    let other = format!(
        "{{\"custom_id\":\"other\",\"method\":\"POST\",\"url\":\"{CHAT}\",\"body\":{body}}}\n"
    );
    let batch = begin(&server, narrow, &(jobs(&["one", "hold"]) + &other)).await;
    let counts = async |server: &Server, done: Value| {
        let wide = "authorization: Bearer wide\r\n";
        until(async || {
            server.ask("GET", &path(&batch), wide, "").await.json()["request_counts"] == done
        })
        .await;
    };
    // The key may not ask the other model, though the first of its owner's keys may.
    counts(&server, json!({ "total": 3, "completed": 1, "failed": 1 })).await;
    until(async || server.world.running.load(Ordering::SeqCst) == 1).await;
    server.stop.send_replace(ingle_server::Stop::Now);
    until(async || server.ended.is_finished()).await;
    let mut all = server.world.origins.lock().expect("no panic").clone();
    assert_eq!(all.len(), 2, "the other model was never asked");

    let server = start(Config { keys: vec![key("wide")], ..home.config() }).await;
    server.world.released.store(true, Ordering::SeqCst);
    counts(&server, json!({ "total": 3, "completed": 2, "failed": 1 })).await;
    all.extend(server.world.origins.lock().expect("no panic").clone());
    assert_eq!(all.len(), 3);
    for origin in &all {
        assert_eq!((origin.key.as_str(), origin.team.as_str()), ("narrow", "team"));
        assert_eq!(origin.path, "/v1/batches");
        assert_eq!(origin.workspaces, ["vault"]);
        assert_eq!(origin.headers, [("x-data".to_owned(), "a".to_owned())]);
        assert_eq!(origin.classes, ["secret"]);
        assert_eq!(origin.models.as_deref(), Some(&["script".to_owned()][..]));
        assert!(!origin.unknown && !origin.id.is_empty() && origin.at_ms > 0);
    }
    assert!(all[0].id != all[1].id && all[1].id != all[2].id, "each is a call of its own");
}

/// What holds for a file holds for lines of a batch that is begun on it, by whichever of its
/// owner's keys and from wherever.
#[tokio::test]
async fn lines_build_on_where_their_file_came_from() {
    let home = Home::new();
    let key = |name: &str| Key {
        owner: Some("team".to_owned()),
        ..Key::new(name, KeyHash::of(b"a salt", name.as_bytes()))
    };
    let narrow = Key { classes: ["secret".to_owned()].into(), ..key("narrow") };
    let server = start(Config { keys: vec![key("wide"), narrow], ..home.config() }).await;
    let narrow = "authorization: Bearer narrow\r\nx-ingle-workspace: vault\r\nx-data: a\r\n";
    let file = upload(&server, narrow, &jobs(&["one"])).await;
    assert_eq!(file.status, 200, "{}", file.body);
    let wide = "authorization: Bearer wide\r\n";
    let batch = begin_on(&server, wide, &file.json()["id"]).await;
    until(async || {
        server.ask("GET", &path(&batch), wide, "").await.json()["status"] == "completed"
    })
    .await;
    let all = server.world.origins.lock().expect("no panic").clone();
    assert_eq!(all.len(), 1);
    let line = &all[0];
    assert_eq!((line.key.as_str(), line.path.as_str()), ("wide", "/v1/batches"));
    assert!(line.workspaces.is_empty() && line.classes.is_empty() && !line.unknown, "{line:?}");
    let [file] = &line.before[..] else { panic!("it builds on one file: {line:?}") };
    assert_eq!((file.key.as_str(), file.path.as_str()), ("narrow", "/v1/files"));
    assert_eq!(file.workspaces, ["vault"]);
    assert_eq!(file.classes, ["secret"]);
    assert_eq!(file.headers, [("x-data".to_owned(), "a".to_owned())]);
    assert!(!file.unknown);
}

/// Keeps a file of one line that came from somewhere, as these records' own server would.
fn put(store: &Records, id: &str, origin: Option<String>) -> Value {
    let mut upload = store.upload(id).expect("begins");
    upload.write(jobs(&["one"]).as_bytes()).expect("writes");
    let file = FileRecord {
        id: id.to_owned(),
        owner: "open".to_owned(),
        purpose: "batch".to_owned(),
        name: String::new(),
        bytes: upload.bytes(),
        created_s: 0,
        expires_s: None,
        origin,
    };
    let kept = store.keep(upload, &file, Limits::default().files).expect("writes");
    assert_eq!(kept, Kept::Yes);
    json!(id)
}

/// What a batch writes keeps where its input came from, and of files that an older version kept
/// nobody knows: neither of their lines, nor of what is written of these.
#[tokio::test]
async fn what_a_batch_writes_keeps_where_its_input_came_from() {
    let home = Home::new();
    let server = start(home.config()).await;
    let store = Records::open(&home.0).expect("opens");
    // A batch on this file; where its line came from, and the origin of its output.
    let run = async |file: &Value| {
        let batch = begin_on(&server, "", file).await;
        let batch = ended(&server, &batch).await;
        let output = batch["output_file_id"].as_str().expect("it was answered");
        let written = store.file("open", output).expect("reads").expect("is there");
        let all = server.world.origins.lock().expect("no panic").clone();
        (Arc::clone(all.last().expect("one was asked")), written.origin)
    };
    let vault = upload(&server, "x-ingle-workspace: vault\r\n", &jobs(&["one"])).await.json();
    let (_, written) = run(&vault["id"]).await;
    let (line, _) = run(&put(&store, "file-again", written)).await;
    let places: Vec<(&str, String)> =
        line.before.iter().map(|it| (it.path.as_str(), it.workspaces.concat())).collect();
    assert_eq!(places, [("/v1/batches", String::new()), ("/v1/files", "vault".to_owned())]);
    assert!(!line.unknown && line.workspaces.is_empty(), "{line:?}");

    let (line, written) = run(&put(&store, "file-before", None)).await;
    assert!(line.unknown, "{line:?}");
    let (line, _) = run(&put(&store, "file-of-before", written)).await;
    assert!(!line.unknown && line.before.iter().any(|it| it.unknown), "{line:?}");
    let broken = Some("[1]".to_owned());
    let (line, _) = run(&put(&store, "file-broken", broken)).await;
    assert!(line.unknown, "{line:?}");
}

/// As long as the policy is not there nobody knows which headers it asks of.
#[tokio::test]
async fn what_comes_while_a_server_loads_is_not_known() {
    let home = Home::new();
    let bound = bind(home.config()).await.expect("a free port");
    let (go, gone) = oneshot::channel::<()>();
    let (stop, stopped) = watch::channel(Stop::Run);
    let world = Arc::new(World::default());
    let (address, script) = (bound.address(), Arc::new(Script(Arc::clone(&world))));
    let load = move |slot: &Slot| {
        gone.blocking_recv().map_err(|error| Fault::ours(error.to_string()))?;
        slot.fill(script);
        Ok::<_, Fault>(())
    };
    let server = Server { address, world, stop, ended: tokio::spawn(bound.serve(load, stopped)) };
    let file = upload(&server, "x-data: a\r\n", &jobs(&["one"])).await;
    assert_eq!(file.status, 200, "{}", file.body);
    go.send(()).expect("the loader waits");
    until(async || server.get("/health").await.status == 200).await;
    let batch = begin_on(&server, "", &file.json()["id"]).await;
    ended(&server, &batch).await;
    let all = server.world.origins.lock().expect("no panic").clone();
    assert!(!all[0].unknown && all[0].before[0].unknown, "{:?}", all[0]);
}

#[tokio::test]
async fn files_over_their_life() {
    let home = Home::new();
    let server = start(home.config()).await;
    let file = upload(&server, "", "some\r\ntext").await.json();
    assert_eq!((&file["filename"], &file["bytes"]), (&json!("jobs.jsonl"), &json!(10)));
    let path = format!("/v1/files/{}", file["id"].as_str().expect("an id"));
    assert_eq!(server.get(&path).await.json(), file);
    let content = server.get(&format!("{path}/content")).await;
    assert_eq!(content.body, "some\r\ntext");
    assert_eq!(server.get("/v1/files?purpose=batch&limit=1").await.json()["data"][0], file);
    assert_eq!(server.get("/v1/files?purpose=user_data").await.json()["data"], json!([]));
    assert_eq!(server.ask("DELETE", &path, "", "").await.json()["deleted"], true);
    assert_eq!(server.get(&path).await.status, 404);
}

#[tokio::test]
#[rustfmt::skip]
async fn what_is_refused() {
    let home = Home::new();
    let files = FileLimits { count: 2, bytes: 100 };
    let limits = Limits { file_bytes: 60, files, ..Limits::default() };
    let server = start(Config { limits, ..home.config() }).await;
    let purpose = [("purpose", "batch")];
    let full = form(&purpose, Some(&"x".repeat(60)));
    let evil = format!("{FORM}origin: https://evil.example\r\n");
    // method, path, headers, body, status, words
    let rows: &[(&str, &str, &str, &str, u16, &str)] = &[
        ("POST", "/v1/files", JSON, "{}", 415, "multipart/form-data"),
        ("POST", "/v1/files", &evil, &full, 403, "origin"),
        ("POST", "/v1/files", FORM, &form(&purpose, None), 400, "file"),
        ("POST", "/v1/files", FORM, &form(&[], Some("x")), 400, "purpose"),
        ("POST", "/v1/files", FORM, &form(&[("purpose", "fine-tune")], Some("x")), 400, "batch"),
        ("POST", "/v1/files", FORM, &form(&[("purpos", "batch")], Some("x")), 400, "purpos"),
        ("POST", "/v1/files", FORM, &form(&purpose, Some(&"x".repeat(61))), 413, "60 bytes"),
        ("POST", "/v1/files", FORM, "--XX\r\n\r\nx", 400, "no form"),
        ("POST", "/v1/files", FORM, &full[..full.len() - 6], 400, "ends in the middle"),
        ("POST", "/v1/files", FORM, &full, 200, ""),
        ("POST", "/v1/files", FORM, &full, 413, "100 bytes"),
        ("POST", "/v1/files", FORM, &form(&purpose, Some("x")), 200, ""),
        ("POST", "/v1/files", FORM, &form(&purpose, Some("x")), 413, "2 files"),
        ("GET", "/v1/files/none", "", "", 404, "no file"),
        ("GET", "/v1/files/..%2Frecords.sqlite/content", "", "", 404, "no file"),
        ("DELETE", "/v1/files/none", "", "", 404, "no file"),
        ("GET", "/v1/files?limit=0", "", "", 400, "limit"),
        ("GET", "/v1/files?order=up", "", "", 400, "order"),
        ("GET", "/v1/files?after=none", "", "", 404, "after"),
        ("GET", "/v1/files?lmit=1", "", "", 400, "lmit"),
        ("GET", "/v1/batches/none", "", "", 404, "no batch"),
        ("POST", "/v1/batches/none/cancel", "", "", 404, "no batch"),
        ("GET", "/v1/batches?limit=101", "", "", 400, "limit"),
        ("POST", "/v1/batches", JSON, r#"{"endpoint":"/v1/embeddings"}"#, 400, "input_file_id"),
    ];
    for (method, path, headers, body, status, words) in rows {
        let reply = server.ask(method, path, headers, body).await;
        assert_eq!(reply.status, *status, "{method} {path} {body} {}", reply.body);
        assert!(reply.body.contains(words), "{method} {path} {body} {}", reply.body);
    }
    let left = std::fs::read_dir(home.0.join("files")).expect("lists").count();
    assert_eq!(left, 2, "what was refused is gone");
}

#[tokio::test]
async fn a_server_without_records_says_so() {
    let server = start(config()).await;
    assert_eq!(server.get("/v1/files").await.status, 501);
    assert_eq!(server.get("/v1/batches/x").await.status, 501);
}

/// Lines that the engine is too busy for wait; live requests are answered meanwhile.
#[tokio::test]
async fn live_requests_pass() {
    let home = Home::new();
    let limits = Limits { answers: 1, batch_answers: 3, ..Limits::default() };
    let server = start(Config { limits, ..home.config() }).await;
    let batch = begin(&server, "", &jobs(&["hold"; 6])).await;
    until(async || server.world.running.load(Ordering::SeqCst) == 3).await;
    assert_eq!(server.post(CHAT, &chat("hi", "")).await.status, 200, "its place was free");
    server.world.released.store(true, Ordering::SeqCst);
    assert_eq!(ended(&server, &batch).await["request_counts"]["completed"], 6);
}
