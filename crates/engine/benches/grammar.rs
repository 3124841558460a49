//! How long a mask takes: what the grammar allows at each position of documents that match their
//! schemas, in the default model's vocabulary, one thread. No model is run.
//!
//! `cargo bench -p ingle-engine --bench grammar`, with another model's name or path as an argument.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use ingle_engine::grammar::{Allowed, Grammars, Guide};
use ingle_model::gguf::Gguf;
use ingle_model::pull;
use ingle_model::tokenizer::Tokenizer;
use ingle_protocol::Grammar;
use std::time::{Duration, Instant};

/// How often each document is walked.
const ROUNDS: usize = 20;

static CASES: &[(&str, &str)] = &[
    ("person", include_str!("../tests/grammars/person.json")),
    ("invoice", include_str!("../tests/grammars/invoice.json")),
    ("call", include_str!("../tests/grammars/call.json")),
    ("tree", include_str!("../tests/grammars/tree.json")),
    ("free", include_str!("../tests/grammars/free.json")),
];

fn main() {
    let model = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let path = pull::resolve(model.as_deref().unwrap_or("smollm2")).expect("a model");
    let file = Gguf::open(&path).expect("a sound file");
    let tokenizer = Tokenizer::from_gguf(&file).expect("a vocabulary");
    let grammars = Grammars::new(tokenizer.clone());
    let from = Instant::now();
    grammars.guide(&Grammar::Regex("a".into())).expect("a grammar");
    println!("{} tokens, trie in {:?}", tokenizer.vocab_len(), from.elapsed());
    println!(
        "{:10} {:>9} {:>7} {:>9} {:>9} {:>9} {:>9}",
        "", "compile", "masks", "first", "median", "p99", "accept"
    );
    let mut all = Vec::new();
    for (name, case) in CASES {
        let case: serde_json::Value = serde_json::from_str(case).expect("JSON");
        let grammar = Grammar::JsonSchema(case["schema"].to_string());
        let from = Instant::now();
        let start = grammars.guide(&grammar).expect("a grammar");
        let compiled = from.elapsed();
        let text = case["instance"].to_string();
        let mut first = Times::default();
        walk(&tokenizer, start.clone(), &text, &mut first);
        let mut times = Times::default();
        (0..ROUNDS).for_each(|_| walk(&tokenizer, start.clone(), &text, &mut times));
        let row = [
            quantile(&mut first.masks, 0.5),
            quantile(&mut times.masks, 0.5),
            quantile(&mut times.masks, 0.99),
            quantile(&mut times.accepts, 0.5),
        ];
        let [first, median, p99, accept] = row.map(|time| format!("{time:.1?}"));
        let count = times.masks.len() / ROUNDS;
        println!(
            "{name:10} {:>9} {count:>7} {first:>9} {median:>9} {p99:>9} {accept:>9}",
            format!("{compiled:.1?}")
        );
        all.extend(times.masks);
    }
    let [median, p99] = [0.5, 0.99].map(|part| quantile(&mut all, part));
    println!("all: median {median:.1?}, p99 {p99:.1?} of {} masks", all.len());
}

#[derive(Default)]
struct Times {
    masks: Vec<Duration>,
    accepts: Vec<Duration>,
}

/// Says the text token by token, as the tokenizer cuts what is left of it.
fn walk(tokenizer: &Tokenizer, mut guide: Guide, text: &str, times: &mut Times) {
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        let from = Instant::now();
        let allowed = guide.allowed(&[]).expect("a mask").remove(0);
        let took = from.elapsed();
        let token = match allowed {
            Allowed::One(token) => token,
            Allowed::Some(set) => {
                times.masks.push(took);
                let left = std::str::from_utf8(rest).expect("whole characters");
                let token = tokenizer.encode_continuation(left)[0];
                assert!(set.contains(token), "{token} at {left:?}");
                token
            }
            Allowed::Nothing => panic!("complete before {rest:?}"),
        };
        let from = Instant::now();
        guide.accept(token).expect("is allowed");
        times.accepts.push(from.elapsed());
        let written = tokenizer.bytes(token).expect("a token");
        rest = rest.strip_prefix(written).expect("the token is the text's");
    }
    assert!(guide.allowed(&[]).is_ok());
}

fn quantile(times: &mut [Duration], part: f64) -> Duration {
    times.sort_unstable();
    times.get((times.len() as f64 * part) as usize).copied().unwrap_or_default()
}
