//! Any text as a grammar: it is compiled or refused, and what is compiled keeps its word. Every
//! token that it allows is taken, and one that it does not allow is refused.
//!
//! The first byte says what kind of grammar it is; what follows a NUL chooses the tokens. Absent:
//! the grammar library's own panics, which the engine catches and answers with a refusal.

#![no_main]

use ingle_backend::Bytes;
use ingle_engine::grammar::{Allowed, Grammars, Guide};
use ingle_model::gguf::Gguf;
use ingle_model::tokenizer::Tokenizer;
use ingle_protocol::{Grammar, Token};
use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;

/// The byte by which the library marks special tokens. No text has it: masks never allow it, though
/// taken in it would be.
const MARKER: Token = 0xFF;

/// A vocabulary whose tokens are bytes.
const MODEL: &[u8] = include_bytes!("../../crates/engine/tests/golden/archs/qwen2.gguf");

fn grammars() -> (Grammars, Token) {
    // Fuzzing ends at any panic as soon as it is reported, also at those that are caught; who looks
    // into a finding wants to see them.
    if std::env::var_os("RUST_BACKTRACE").is_none() {
        std::panic::set_hook(Box::new(|_| {}));
    }
    let file = Gguf::from_bytes(Bytes::from(MODEL.to_vec())).expect("a sound file");
    let tokenizer = Tokenizer::from_gguf(&file).expect("a vocabulary");
    let vocab = tokenizer.vocab_len() as Token;
    (Grammars::new(tokenizer), vocab)
}

/// Goes on as the choices say.
fn follow(guide: &mut Guide, vocab: Token, choices: &[u8]) {
    for &choice in choices {
        let wanted = Token::from(choice) % vocab;
        let Ok(allowed) = guide.allowed(&[]) else { return };
        let taken = match &allowed[0] {
            Allowed::Nothing => return assert!(guide.complete(), "nothing follows"),
            Allowed::One(token) => *token,
            Allowed::Some(set) => {
                let turn = (0..vocab).map(|step| (wanted + step) % vocab);
                turn.into_iter().find(|&token| set.contains(token)).expect("at least one")
            }
        };
        if taken != wanted && wanted != MARKER && !allowed[0].contains(wanted) {
            let refused = guide.clone().accept(wanted);
            assert!(refused.is_err(), "{wanted} was taken, though only {:?} may come", allowed[0]);
        }
        if guide.accept(taken).is_err() {
            return; // its limits, or an end
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    static GRAMMARS: OnceLock<(Grammars, Token)> = OnceLock::new();
    let (grammars, vocab) = GRAMMARS.get_or_init(grammars);
    let Some((kind, rest)) = bytes.split_first() else { return };
    let mut parts = rest.splitn(2, |byte| *byte == 0);
    let Ok(text) = std::str::from_utf8(parts.next().unwrap_or_default()) else { return };
    let grammar = match kind {
        b'j' => Grammar::JsonSchema(text.to_owned()),
        b'r' => Grammar::Regex(text.to_owned()),
        b'l' => Grammar::Lark(text.to_owned()),
        b'g' => Grammar::Gbnf(text.to_owned()),
        b'c' => Grammar::Choice(text.split('|').map(str::to_owned).collect()),
        _ => return,
    };
    if let Ok(mut guide) = grammars.guide(&grammar) {
        follow(&mut guide, *vocab, parts.next().unwrap_or_default());
    }
});
