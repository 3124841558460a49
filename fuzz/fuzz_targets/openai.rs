//! Any bytes as a request or as a remote's stream of OpenAI's: read, or refused in a sentence. A
//! request that is read can be written, unless its format cannot say it, and reads the same again.
//!
//! The first byte says what the others are.

#![no_main]

use ingle_protocol::wire::openai::{Format, Reader, read_request, write_request};
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

fuzz_target!(|bytes: &[u8]| {
    let Some((what, body)) = bytes.split_first() else { return };
    match what {
        b'1' => request(Format::Chat, body),
        b'2' => request(Format::Completions, body),
        b'3' => stream(Format::Chat, body),
        b'4' => stream(Format::Completions, body),
        _ => {}
    }
});
