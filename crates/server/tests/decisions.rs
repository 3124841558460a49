//! Decisions and moderations over HTTP.

mod support;

use serde_json::{Value, json};
use support::{config, start};

#[tokio::test]
async fn questions_are_answered() {
    let server = start(config()).await;
    let questions = json!([
        { "kind": "predicate", "question": "Is it?" },
        { "id": "c", "kind": "choice", "question": "Which?", "labels": ["longest", "long", "s"] },
    ]);
    let body = json!({ "input": "x", "questions": questions, "calibration": "prior" }).to_string();
    let reply = server.post("/v1/decisions", &body).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let answer = reply.json();
    assert_eq!(answer["model"], "script");
    // The prior weighs the same, so nothing is left of the difference.
    assert_eq!(answer["answers"][0]["probability"], json!(0.5));
    let body = json!({ "input": "x", "questions": questions, "model": "owner/other" }).to_string();
    let answer = server.post("/v1/decisions", &body).await.json();
    assert_eq!(
        (&answer["answers"][1]["label"], &answer["model"]),
        (&json!("s"), &json!("owner/other"))
    );
    assert_eq!(answer["usage"]["prompt_tokens"], json!(10));
}

#[tokio::test]
async fn texts_are_moderated() {
    let server = start(config()).await;
    let reply = server.post("/v1/moderations", r#"{"input":["a","b"]}"#).await;
    let answer = reply.json();
    assert_eq!((reply.status, answer["results"].as_array().map(Vec::len)), (200, Some(2)));
    assert_eq!(answer["results"][0]["category_scores"]["violence"], json!(0.5));
}

#[tokio::test]
async fn wrong_requests_are_refused() {
    let server = start(config()).await;
    for (path, body, status, param) in [
        ("/v1/decisions", "{}", 400, json!("input")),
        ("/v1/decisions", "[]", 400, Value::Null),
        ("/v1/moderations", r#"{"input":5}"#, 400, json!("input")),
        ("/v1/moderations", r#"{"input":"x","model":"none"}"#, 404, json!("model")),
    ] {
        let reply = server.post(path, body).await;
        assert_eq!((reply.status, &reply.json()["error"]["param"]), (status, &param), "{body}");
    }
    assert_eq!(server.get("/v1/decisions").await.status, 405);
}
