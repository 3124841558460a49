//! Answers of other servers handed on in the caller's own format: as they came, but for the model's
//! name, and with a receipt where there is room.

mod support;

use ingle_protocol::wire::{Ask, Stamp, Writer, anthropic, ollama, openai, responses};
use ingle_protocol::{Event, Fault, Finish};
use serde_json::Value;
use support::{done, text};

fn stamp() -> Stamp {
    Stamp { id: "1".into(), created_ms: 0, model: "asked".into() }
}

fn writer(asked: &impl Ask) -> Box<dyn Writer> {
    asked.writer(stamp(), &mut |_| Ok(String::new())).expect("a writer")
}

fn chat(extra: &str) -> Box<dyn Writer> {
    let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}]{extra}}}"#);
    writer(&openai::read_request(openai::Format::Chat, body.as_bytes()).expect("right"))
}

fn messages(stream: bool) -> Box<dyn Writer> {
    let body = format!(
        r#"{{"model":"m","max_tokens":9,"stream":{stream},"messages":[{{"role":"user","content":"x"}}]}}"#
    );
    writer(&anthropic::read_request(body.as_bytes()).expect("right"))
}

fn lines(stream: bool) -> Box<dyn Writer> {
    let body = format!(
        r#"{{"model":"m","stream":{stream},"messages":[{{"role":"user","content":"x"}}]}}"#
    );
    writer(&ollama::read_request(ollama::Format::Chat, body.as_bytes()).expect("right"))
}

fn items(stream: bool) -> Box<dyn Writer> {
    let body = format!(r#"{{"model":"m","stream":{stream},"input":"x"}}"#);
    writer(&responses::read_request(body.as_bytes()).expect("right"))
}

/// What is written of these events, receipts as `R`.
fn written(mut writer: Box<dyn Writer>, events: &[&str]) -> String {
    let mut out = String::new();
    for event in events {
        out += &writer.take(0, Event::Passed((*event).to_owned())).expect("taken");
        // Who hears it on the way says it, too, and is not heard twice.
        out += &writer.take(0, text("again")).expect("taken");
        assert!(!writer.complete());
    }
    out += &writer.take(0, done(Finish::Stop, 3, None)).expect("taken");
    assert!(writer.complete());
    let mut plain = String::new();
    let mut rest = out.as_str();
    while let Some((before, behind)) = rest.split_once(r#""ingle":"#) {
        let mut values = serde_json::Deserializer::from_str(behind).into_iter::<Value>();
        let receipt = values.next().expect("a receipt").expect("JSON");
        assert_eq!(receipt["finish"], "stop");
        plain += before;
        plain += r#""ingle":R"#;
        rest = &behind[values.byte_offset()..];
    }
    plain + rest
}

#[test]
fn chats_are_handed_on() {
    let chunk = r#"{"model":"real", "odd":1.0,"choices":[{"delta":{"content":"Hi"}}]}"#;
    let usage = r#"{"model":"real","choices":[],"usage":{"total_tokens":3}}"#;
    let events = [chunk, usage, "[DONE]"];
    let shown = r#"data: {"model":"asked", "odd":1.0,"choices":[{"delta":{"content":"Hi"}}]}"#;
    let asked = chat(r#","stream":true,"stream_options":{"include_usage":true}"#);
    let told = r#"data: {"model":"asked","choices":[],"usage":{"total_tokens":3},"ingle":R}"#;
    assert_eq!(written(asked, &events), format!("{shown}\n\n{told}\n\ndata: [DONE]\n\n"));
    // Who did not ask for the usage is not told, and there is no event for the receipt.
    let asked = chat(r#","stream":true"#);
    assert_eq!(written(asked, &events), format!("{shown}\n\ndata: [DONE]\n\n"));
    let body = "{\n \"model\": \"real\",\n \"choices\": []\n}";
    let whole = "{\n \"model\": \"asked\",\n \"choices\": [],\"ingle\":R\n}";
    assert_eq!(written(chat(""), &[body]), whole);
}

#[test]
fn a_chat_that_tells_no_usage_has_its_receipt_where_its_last_choice_ends() {
    let (word, end) = (r#"{"choices":[{"index":0,"delta":{"content":"Hi"}}]}"#, |at: u32| {
        format!(r#"{{"choices":[{{"index":{at},"delta":{{}},"finish_reason":"stop"}}]}}"#)
    });
    let told = |data: &str| format!("data: {data}\n\n");
    let last = |at: u32| told(&end(at).replace("}]}", "}],\"ingle\":R}"));
    let usage = r#"{"choices":[],"usage":{"total_tokens":3}}"#;
    let check = |extra: &str, events: &[&str], expect: &[String]| {
        assert_eq!(written(chat(extra), events), expect.concat(), "{extra} {events:?}");
    };
    let (first, second) = (end(0), end(1));
    let stream = r#","stream":true"#;
    let done = told("[DONE]");
    check(stream, &[word, &first, usage, "[DONE]"], &[told(word), last(0), done.clone()]);
    check(stream, &[word, &first], &[told(word), last(0)]);
    // Of several choices, those that go on are not kept waiting.
    let all = [&first, word, &second, "[DONE]"];
    let expect = [told(&first), told(word), last(1), done.clone()];
    check(stream, &all, &expect);
    // Where the usage is told, it is there.
    let asked = r#","stream":true,"stream_options":{"include_usage":true}"#;
    let whole = told(r#"{"choices":[],"usage":{"total_tokens":3},"ingle":R}"#);
    check(asked, &[&first, usage, "[DONE]"], &[told(&first), whole, done]);
}

#[test]
fn messages_are_handed_on() {
    let events = [
        r#"{"type":"message_start","message":{"model":"real","id":"msg_9"}}"#,
        r#"{"type":"content_block_delta","delta":{"type":"signature_delta","signature":"EqQ"}}"#,
        r#"{"type":"message_delta","usage":{"output_tokens":3}}"#,
        r#"{"type":"message_stop"}"#,
    ];
    let expect = [
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"asked\",\"id\":\"msg_9\"}}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"signature_delta\",\"signature\":\"EqQ\"}}\n\n",
        "event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":3},\"ingle\":R}\n\n",
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    ];
    assert_eq!(written(messages(true), &events), expect.concat());
    let body = r#"{"type":"message","model":"real"}"#;
    let whole = r#"{"type":"message","model":"asked","ingle":R}"#;
    assert_eq!(written(messages(false), &[body]), whole);
}

#[test]
fn responses_and_lines_are_handed_on() {
    let events = [
        r#"{"type":"response.created","response":{"model":"real"}}"#,
        r#"{"type":"response.completed","response":{"model":"real"}}"#,
    ];
    let expect = [
        "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"model\":\"asked\"}}\n\n",
        "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"model\":\"asked\",\"ingle\":R}}\n\n",
    ];
    assert_eq!(written(items(true), &events), expect.concat());
    let whole = written(items(false), &[r#"{"model":"real"}"#]);
    assert_eq!(whole, r#"{"model":"asked","ingle":R}"#);
    let events = [r#"{"model":"real","done":false}"#, r#"{"model":"real","done":true}"#];
    let expect =
        "{\"model\":\"asked\",\"done\":false}\n{\"model\":\"asked\",\"done\":true,\"ingle\":R}\n";
    assert_eq!(written(lines(true), &events), expect);
}

#[test]
fn odd_events_are_handed_on_too_and_failures_end_it() {
    let events = ["no json", "{\"type\":\"a\\nb\"}", "{\"type\":1,\n\"x\":2}"];
    let expect = "data: no json\n\ndata: {\"type\":\"a\\nb\"}\n\ndata: {\"type\":1, \"x\":2}\n\n";
    assert_eq!(written(messages(true), &events), expect);
    let mut writer = messages(true);
    writer.take(0, Event::Passed("{}".into())).expect("taken");
    assert!(writer.take(0, Event::Failed(Fault::ours("gone"))).is_err());
    // What comes behind the last event is bounded.
    let last = r#"{"type":"message_delta"}"#;
    let events: Vec<&str> = std::iter::repeat_n(last, 40).collect();
    assert_eq!(written(messages(true), &events).matches("message_delta\n").count(), 40);
}
