//! Any bytes as a whole model: its tokenizer, its chat template and its graph are made or refused,
//! never a panic. What is made is used: a text is encoded and decoded.
//!
//! Absent: rendering the template, since a template may take what memory it likes.

#![no_main]

use ingle_backend::Bytes;
use ingle_backend::cpu::Cpu;
use ingle_backend::cpu::kernels::Kernels;
use ingle_model::archs::record;
use ingle_model::gguf::Gguf;
use ingle_model::template::Template;
use ingle_model::tokenizer::{Special, Tokenizer};
use libfuzzer_sys::fuzz_target;

const TEXT: &str =
    "Say \u{e9}\u{301} 12345 \u{65e5}\u{672c}\r\n\t</s><s> \u{0}\u{1f469}\u{200d}\u{1f680}";

fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = Gguf::from_bytes(Bytes::from(bytes.to_vec())) else { return };
    let _ = record(&file, &mut Cpu::new(Kernels::best(), 1), None);
    let Ok(tokenizer) = Tokenizer::from_gguf(&file) else { return };
    let _ = Template::from_gguf(&file, &tokenizer);
    for special in [Special::Parse, Special::Plain] {
        let tokens = tokenizer.encode_prompt(TEXT, special);
        let _ = tokenizer.decode(&tokens);
        let mut decoder = tokenizer.decoder();
        tokens.iter().for_each(|token| drop(decoder.push(*token)));
        drop(decoder.flush());
    }
});
