//! Any bytes as a request or as a remote's stream of OpenAI's: read, or refused in a sentence. A
//! request that is read can be written, unless its format cannot say it, and reads the same again.
//! Of a request for a response, its input is kept, and another that builds on it reads it again.
//!
//! The first byte says what the others are.

#![no_main]

use ingle_protocol::Input;
use ingle_protocol::wire::openai::{Format, Reader, read_request, write_request};
use ingle_protocol::wire::responses::{Asked, Past, read_open};
use libfuzzer_sys::fuzz_target;

fn request(format: Format, body: &[u8]) {
    let asked = match read_request(format, body) {
        Ok(asked) => asked,
        Err(fault) => return assert!(!fault.message.is_empty(), "a refusal says why"),
    };
    let Ok(written) = write_request(format, &asked) else { return };
    let again = read_request(format, written.as_bytes());
    assert_eq!(again.as_ref(), Ok(&asked), "{written}");
}

fn stream(format: Format, body: &[u8]) {
    let mut reader = Reader::new(format);
    for line in String::from_utf8_lossy(body).lines() {
        if reader.read(line).is_err() {
            return;
        }
    }
}

/// The id that both the response and its items carry.
const STAMP: &str = "0123456789abcdef";

fn response(body: &[u8]) {
    let closed = read_open(body).and_then(|open| open.close(&[], &[]));
    let asked = match closed {
        Ok(asked) => asked,
        Err(fault) => return assert!(!fault.message.is_empty(), "a refusal says why"),
    };
    let input = asked.input_items(STAMP);
    let response = r#"{"output":[]}"#.to_owned();
    let past = Past { id: format!("resp_{STAMP}"), input, response };
    let next = read_open(br#"{"previous_response_id":"x","input":"go on"}"#).expect("is right");
    let next = next.close(&[past], &[]).expect("what was read once is read again");
    let turns = |asked: &Asked| match &asked.request.input {
        Input::Chat(chat) => chat.messages.clone(),
        other => panic!("a conversation, not {other:?}"),
    };
    let (mut before, mut after) = (turns(&asked), turns(&next));
    after.pop();
    // Instructions are the request's own.
    before.drain(..before.len() - after.len());
    assert_eq!(before, after);
}

fuzz_target!(|bytes: &[u8]| {
    let Some((what, body)) = bytes.split_first() else { return };
    match what {
        b'1' => request(Format::Chat, body),
        b'2' => request(Format::Completions, body),
        b'3' => stream(Format::Chat, body),
        b'4' => stream(Format::Completions, body),
        b'5' => response(body),
        _ => {}
    }
});
