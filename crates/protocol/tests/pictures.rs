//! Pictures in turns: read from every format that has them, refused by a model that cannot see.

mod support;

use ingle_protocol::wire::{anthropic, ollama, openai, responses};
use ingle_protocol::{Chat, Fault, Message, Picture, Request, Source};
use serde_json::{Value, json};
use support::{chat, faults};

/// A turn's text and its pictures: where each stands, its type, what it is and its detail.
type Turn<'a> = (&'a str, &'a [(usize, &'a str, &'a str, &'a str)]);

const PNG: &str = "iVBORw0KGgo=";

/// A turn on a line.
fn line(text: &str, pictures: impl Iterator<Item = String>) -> String {
    format!("{text}|{}", pictures.collect::<Vec<_>>().join("|"))
}

fn told(turn: &Message) -> String {
    let picture = |picture: &Picture| {
        let source = match &picture.source {
            Source::Base64(data) => data,
            Source::Url(url) => url,
        };
        let detail = picture.detail.as_deref().unwrap_or_default();
        format!("{} {} {source} {detail}", picture.at, picture.media)
    };
    line(&turn.content, turn.pictures.iter().map(picture))
}

fn check(request: Result<Request, Fault>, body: &Value, expect: &[Turn<'_>]) {
    let request = request.unwrap_or_else(|fault| panic!("{body}: {fault}"));
    let expected = |(text, pictures): &Turn<'_>| {
        let picture =
            |it: &(usize, &str, &str, &str)| format!("{} {} {} {}", it.0, it.1, it.2, it.3);
        line(text, pictures.iter().map(picture))
    };
    let expect: Vec<String> = expect.iter().map(expected).collect();
    let turns: Vec<String> = chat(&request).messages.iter().map(told).collect();
    assert_eq!(turns, expect, "{body}");
    let fault = chat(&request).texts_only().expect_err("it cannot see");
    assert_eq!(fault.param.as_deref(), Some("messages"));
    assert!(fault.message.contains("reads text alone"), "{fault}");
}

#[test]
fn pictures_stand_where_they_were_put() {
    let url = format!("data:image/png;base64,{PNG}");
    let parts = json!([
        { "type": "text", "text": "é" },
        { "type": "image_url", "image_url": { "url": url, "detail": "low" } },
        { "type": "image_url", "image_url": { "url": "https://a.example/b?c" } },
        { "type": "text", "text": "b" },
    ]);
    let body = json!({ "model": "m", "messages": [{ "role": "user", "content": parts }] });
    let asked = openai::read_request(openai::Format::Chat, body.to_string().as_bytes());
    let both: &[Turn<'_>] =
        &[("é\nb", &[(2, "image/png", PNG, "low"), (2, "", "https://a.example/b?c", "")])];
    check(asked.map(|mut asked| asked.requests.remove(0)), &body, both);

    let parts = json!([
        { "type": "input_text", "text": "é" },
        { "type": "input_image", "image_url": url, "detail": "low" },
        { "type": "input_image", "image_url": "https://a.example/b?c" },
        { "type": "input_text", "text": "b" },
    ]);
    let body = json!({ "model": "m", "input": [{ "role": "user", "content": parts }] });
    let asked = responses::read_request(body.to_string().as_bytes());
    check(asked.map(|asked| asked.request), &body, both);

    let own = json!({ "type": "base64", "media_type": "image/png", "data": PNG });
    let far = json!({ "type": "url", "url": "https://a.example/b?c" });
    let image = |source: &Value| json!({ "type": "image", "source": source });
    let text = |text: &str| json!({ "type": "text", "text": text });
    let parts = json!([text("é"), image(&own), image(&far), text("b")]);
    let call = json!({ "type": "tool_use", "id": "1", "name": "f", "input": {} });
    let result = json!([text("c"), image(&own)]);
    let result =
        json!({ "type": "tool_result", "tool_use_id": "1", "content": result, "is_error": true });
    let body = json!({ "model": "m", "max_tokens": 9, "messages": [
        { "role": "user", "content": parts },
        { "role": "assistant", "content": [call] },
        { "role": "user", "content": [result] },
    ]});
    let asked = anthropic::read_request(body.to_string().as_bytes());
    let plain: &[Turn<'_>] = &[
        ("é\nb", &[(2, "image/png", PNG, ""), (2, "", "https://a.example/b?c", "")]),
        ("", &[]),
        ("Error: c", &[(8, "image/png", PNG, "")]),
    ];
    check(asked.map(|asked| asked.request), &body, plain);

    let turn = json!({ "role": "user", "content": "b", "images": [PNG, "aGk="] });
    let body = json!({ "model": "m", "messages": [turn] });
    let asked = ollama::read_request(ollama::Format::Chat, body.to_string().as_bytes());
    let first: &[Turn<'_>] = &[("b", &[(0, "image/png", PNG, ""), (0, "", "aGk=", "")])];
    check(asked.map(|asked| asked.request), &body, first);
    let body = json!({ "model": "m", "prompt": "b", "images": [PNG, "aGk="] });
    let asked = ollama::read_request(ollama::Format::Generate, body.to_string().as_bytes());
    check(asked.map(|asked| asked.request), &body, first);
}

#[test]
fn a_turn_of_text_is_for_everybody() {
    assert_eq!(Chat::default().texts_only(), Ok(()));
}

#[test]
fn what_is_no_picture_is_refused_by_name() {
    let check = |image: Value, param: &str, words: &str| {
        let content = json!([{ "type": "image_url", "image_url": image }]);
        let body = json!({ "model": "m", "messages": [{ "role": "user", "content": content }] });
        let body = body.to_string();
        let read = openai::read_request(openai::Format::Chat, body.as_bytes());
        faults(read, &body, &format!("messages[0].content[0].image_url{param}"), words);
    };
    check(json!("https://a.example"), "", "an object");
    check(json!({ "url": 1 }), ".url", "a string");
    check(json!({ "url": "ftp://a.example" }), ".url", "https://");
    check(json!({ "url": "data:text/html;base64,aGk=" }), ".url", "an image's type");
    check(json!({ "url": "data:image/png;base64,a" }), ".url", "base64");
    check(json!({ "url": "https://a.example", "detail": "most" }), ".detail", "must be");
    check(json!({ "url": "https://a.example", "size": 1 }), ".size", "unknown");
    let many = json!({ "type": "image_url", "image_url": { "url": "https://a.example" } });
    let content: Vec<Value> = (0..257).map(|_| many.clone()).collect();
    let body = json!({ "model": "m", "messages": [{ "role": "user", "content": content }] });
    let body = body.to_string();
    let read = openai::read_request(openai::Format::Chat, body.as_bytes());
    faults(read, "many", "messages[0].content[256]", "too many");
}
