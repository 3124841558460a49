//! Files and batches on the wire: what is read, what is refused and how, what is written.

use ingle_protocol::wire::openai::{self, BatchTold, FileLine};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn what_a_new_batch_may_ask() {
    let check = |extra: Value, expect: Result<u64, &str>| {
        let mut body = json!({
            "input_file_id": "file-1", "endpoint": CHAT, "completion_window": "24h",
        });
        let (body, extra) = (body.as_object_mut().expect("is one"), extra);
        body.extend(extra.as_object().expect("is one").clone());
        let text = Value::from(body.clone()).to_string();
        match (openai::read_batch(text.as_bytes(), &[CHAT, "/v1/completions"]), expect) {
            (Ok(asked), Ok(seconds)) => assert_eq!(asked.window_s, seconds, "{text}"),
            (Err(fault), Err(param)) => assert_eq!(fault.param.as_deref(), Some(param), "{text}"),
            (outcome, expect) => panic!("{text}: {outcome:?}, not {expect:?}"),
        }
    };
    check(json!({}), Ok(86_400));
    check(json!({ "completion_window": "90m" }), Ok(5400));
    check(json!({ "completion_window": "30d" }), Ok(30 * 86_400));
    check(json!({ "metadata": { "a": "b" } }), Ok(86_400));
    check(json!({ "metadata": null }), Ok(86_400));
    for window in ["31d", "0h", "-1h", "+1h", "h", "24", "1.5h", "99999999999999999999d", "24é"] {
        check(json!({ "completion_window": window }), Err("completion_window"));
    }
    check(json!({ "completion_window": null }), Err("completion_window"));
    check(json!({ "input_file_id": "" }), Err("input_file_id"));
    check(json!({ "endpoint": "/v1/embeddings" }), Err("endpoint"));
    check(json!({ "metadata": { "a": 1 } }), Err("metadata.a"));
    check(json!({ "metadata": { "a": "x".repeat(513) } }), Err("metadata.a"));
    let many: serde_json::Map<String, Value> =
        (0..17).map(|i| (i.to_string(), json!(""))).collect();
    check(json!({ "metadata": many }), Err("metadata"));
    check(json!({ "output_expires_after": {} }), Err("output_expires_after"));
    check(json!({ "enpoint": "x" }), Err("enpoint"));
}

#[test]
fn lines_of_an_input() {
    let check = |text: &str, expect: Result<(&str, Value), (&str, Option<&str>)>| match (
        openai::read_batch_line(text.as_bytes(), CHAT),
        expect,
    ) {
        (Ok(line), Ok((id, body))) => {
            assert_eq!((line.custom_id.as_str(), parse(&line.body)), (id, body), "{text}");
        }
        (Err(error), Err(expect)) => assert_eq!((error.code, error.param), expect, "{text}"),
        (outcome, expect) => panic!("{text}: {outcome:?}, not {expect:?}"),
    };
    let line = |extra: Value| {
        let mut line = json!({ "custom_id": "a", "method": "POST", "url": CHAT, "body": {} });
        line.as_object_mut().expect("is one").extend(extra.as_object().expect("is one").clone());
        line.to_string()
    };
    check(&line(json!({})), Ok(("a", json!({}))));
    check(&line(json!({ "body": { "seed": u64::MAX } })), Ok(("a", json!({ "seed": u64::MAX }))));
    let missing = "missing_required_parameter";
    for name in ["custom_id", "method", "url", "body"] {
        check(&line(json!({ name: null })), Err((missing, Some(name))));
    }
    check(&line(json!({ "body": "text" })), Err((missing, Some("body"))));
    check(&line(json!({ "custom_id": 7 })), Err((missing, Some("custom_id"))));
    check(&line(json!({ "custom_id": "" })), Err(("invalid_custom_id", Some("custom_id"))));
    check(
        &line(json!({ "custom_id": "x".repeat(513) })),
        Err(("invalid_custom_id", Some("custom_id"))),
    );
    check(&line(json!({ "method": "GET" })), Err(("invalid_method", Some("method"))));
    check(&line(json!({ "url": "/v1/completions" })), Err(("mismatched_url", Some("url"))));
    check(&line(json!({ "bod": {} })), Err(("unknown_parameter", None)));
    for text in ["", "{", "[]", "7", "{\"body\":{},\"body\":{}}", "\u{feff}{}"] {
        check(text, Err(("invalid_json_line", None)));
    }
}

#[test]
fn lines_of_an_output_are_one_line_each() {
    let text = openai::write_batch_response("1", "a\n\"b\"", "req-1", 200, "{\n\"x\": \"y\"}\r\n");
    assert_eq!(text.lines().count(), 1, "{text}");
    let expect = json!({
        "id": "batch_req_1",
        "custom_id": "a\n\"b\"",
        "response": { "status_code": 200, "request_id": "req-1", "body": { "x": "y" } },
        "error": null,
    });
    assert_eq!(parse(&text), expect);
    for status in ["expired", "cancelled"] {
        let told = parse(&openai::write_batch_unrun("2", "b}", status));
        assert_eq!(told["error"]["code"], format!("batch_{status}"));
        assert_eq!((&told["custom_id"], &told["response"]), (&json!("b}"), &Value::Null));
    }
}

/// A `custom_id` may end in what ends an object.
#[test]
fn a_name_that_looks_like_an_end_is_a_name() {
    let text = openai::write_batch_response("1", "}}", "r", 200, "{}");
    assert_eq!(parse(&text)["custom_id"], "}}");
}

#[test]
fn batches_and_files_as_they_are_told_of() {
    let errors = openai::write_batch_errors(&[openai::BatchError {
        code: "duplicate_custom_id",
        line: Some(2),
        message: "no".to_owned(),
        param: Some("custom_id"),
    }]);
    let told = BatchTold {
        id: "batch_1",
        endpoint: CHAT,
        input_file: "file-1",
        completion_window: "24h",
        metadata: Some("{\"a\":\"b\"}"),
        status: "failed",
        errors: Some(&errors),
        output_file: None,
        error_file: None,
        counts: [3, 2, 1],
        created_s: 1,
        expires_s: 2,
        times: vec![("failed", 5)],
    };
    let batch = parse(&openai::write_batch(&told));
    assert_eq!(batch["errors"]["data"][0]["line"], 2);
    assert_eq!(batch["metadata"]["a"], "b");
    assert_eq!(batch["request_counts"], json!({ "total": 3, "completed": 2, "failed": 1 }));
    assert_eq!((&batch["failed_at"], &batch["completed_at"]), (&json!(5), &Value::Null));
    let list = parse(&openai::write_batches(&[told], true));
    assert_eq!((&list["first_id"], &list["has_more"]), (&json!("batch_1"), &json!(true)));
    let line = FileLine {
        id: "file-1",
        bytes: 3,
        created_s: 1,
        expires_s: None,
        name: "a.jsonl",
        purpose: "batch",
    };
    let file = parse(&openai::write_file(&line));
    assert_eq!((&file["object"], &file["filename"]), (&json!("file"), &json!("a.jsonl")));
    assert_eq!(parse(&openai::write_files(&[], false))["last_id"], Value::Null);
}

#[test]
fn purposes_and_times() {
    for (purpose, right) in
        [("batch", true), ("user_data", true), ("batch_output", false), ("", false)]
    {
        assert_eq!(openai::read_purpose(purpose).is_ok(), right, "{purpose}");
    }
    let rows = [("created_at", 3600, true), ("created_at", 3599, false), ("now", 3600, false)];
    for (anchor, seconds, right) in rows {
        assert_eq!(openai::read_expiry("expires_after", anchor, seconds).is_ok(), right);
    }
}
