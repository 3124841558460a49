//! Any bytes as a body of Anthropic's, Ollama's, llama.cpp's or one of the small ones: read, or
//! refused in a sentence. The first byte says which.

#![no_main]

use ingle_protocol::Fault;
use ingle_protocol::wire::{anthropic, llama_cpp, ollama, openai, receipt};
use libfuzzer_sys::fuzz_target;

/// What a byte means, and who reads the rest; what was read is of no interest.
type Reader = (u8, fn(&[u8]) -> Result<(), Fault>);

#[rustfmt::skip]
const READERS: &[Reader] = &[
    (b'a', |body| anthropic::read_request(body).map(drop)),
    (b'A', |body| anthropic::read_count(body).map(drop)),
    (b'o', |body| ollama::read_request(ollama::Format::Chat, body).map(drop)),
    (b'O', |body| ollama::read_request(ollama::Format::Generate, body).map(drop)),
    (b'n', |body| ollama::read_named(body).map(drop)),
    (b'l', |body| llama_cpp::read_request(llama_cpp::Format::Completion, body).map(drop)),
    (b'L', |body| llama_cpp::read_request(llama_cpp::Format::Infill, body).map(drop)),
    (b't', |body| llama_cpp::read_tokenize(body).map(drop)),
    (b'T', |body| openai::read_tokenize(body).map(drop)),
    (b'd', |body| openai::read_detokenize(body).map(drop)),
    (b'r', |body| receipt::read(&String::from_utf8_lossy(body)).map(drop)),
];

fuzz_target!(|bytes: &[u8]| {
    let Some((what, body)) = bytes.split_first() else { return };
    let Some((_, read)) = READERS.iter().find(|row| row.0 == *what) else { return };
    if let Err(fault) = read(body) {
        assert!(!fault.message.is_empty(), "a refusal says why");
    }
});
