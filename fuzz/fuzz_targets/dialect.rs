//! Any text as what a model says, in each family's way to think and to call tools: it is heard, or
//! refused in a sentence, and the same whether it comes in one piece or byte by byte.
//!
//! The first byte chooses the family, the second whether a thought was under way.

#![no_main]

use ingle_model::dialect::{Dialect, Listener, Said};
use ingle_protocol::{CallPart, Chat, Tool};
use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;

const CASES: &str = include_str!("../../crates/model/tests/fixtures/dialects.json");

fn dialects() -> Vec<Dialect> {
    let cases: serde_json::Value = serde_json::from_str(CASES).expect("a fixture");
    let rows = cases.as_array().expect("rows").iter();
    rows.map(|row| Dialect::of(row["template"].as_str().expect("a template"))).collect()
}

fn chat() -> Chat {
    let tool = |name: &str| Tool { name: name.to_owned(), ..Tool::default() };
    Chat { tools: vec![tool("weather"), tool("add")], ..Chat::default() }
}

/// All that was heard, what belongs together joined; or what is wrong, where only that is certain.
fn heard<'a>(
    dialect: Dialect,
    thinking: bool,
    pieces: impl Iterator<Item = &'a str>,
) -> Result<Vec<Said>, String> {
    let mut listener = Listener::new(dialect, &chat(), thinking, 7);
    let mut all: Vec<Said> = Vec::new();
    let mut add = |said: Vec<Said>| {
        for said in said {
            match (all.last_mut(), said) {
                (Some(Said::Text(text)), Said::Text(more)) => text.push_str(&more),
                (Some(Said::Thought(text)), Said::Thought(more)) => text.push_str(&more),
                (
                    Some(Said::Call { part: CallPart::Arguments(text), .. }),
                    Said::Call { part: CallPart::Arguments(more), .. },
                ) => text.push_str(&more),
                (_, said) => all.push(said),
            }
        }
    };
    for piece in pieces {
        add(listener.push(piece)?);
    }
    add(listener.finish(true)?);
    Ok(all)
}

fuzz_target!(|bytes: &[u8]| {
    static DIALECTS: OnceLock<Vec<Dialect>> = OnceLock::new();
    let dialects = DIALECTS.get_or_init(dialects);
    let [family, thinking, text @ ..] = bytes else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let dialect = dialects[usize::from(*family) % dialects.len()];
    let thinking = thinking % 2 == 1;
    let whole = heard(dialect, thinking, std::iter::once(text));
    let ends = text.char_indices().map(|(at, char)| &text[at..at + char.len_utf8()]);
    let pieces = heard(dialect, thinking, ends);
    match (whole, pieces) {
        (Ok(whole), Ok(pieces)) => assert_eq!(whole, pieces, "{}", dialect.name()),
        (Err(one), Err(other)) => assert!(!one.is_empty() && !other.is_empty()),
        (one, other) => panic!("{}: {one:?} in one piece, {other:?} in many", dialect.name()),
    }
});
