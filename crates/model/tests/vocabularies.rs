//! The golden tokens that llama.cpp ships with its vocabularies, all of them.

#![allow(clippy::print_stderr, reason = "failures are listed before the test panics")]

mod sdist;

use ingle_model::Token;
use ingle_model::gguf::Gguf;
use ingle_model::tokenizer::{Special, Tokenizer};
use std::fs;
use std::path::Path;

/// Between two texts of an `.inp` file.
const BETWEEN: &str = "\n__ggml_vocab_test__\n";

/// Vocabularies with golden pairs.
static VOCABULARIES: &[&str] = &[
    "bert-bge",
    "command-r",
    "deepseek-coder",
    "deepseek-llm",
    "falcon",
    "gemma-4",
    "gpt-2",
    "llama-bpe",
    "llama-spm",
    "mpt",
    "phi-3",
    "qwen2",
    "qwen35",
    "refact",
    "starcoder",
];

fn open(folder: &Path, name: &str) -> Tokenizer {
    let file = Gguf::open(&folder.join(format!("ggml-vocab-{name}.gguf"))).expect("a sound file");
    Tokenizer::from_gguf(&file).expect("a known vocabulary")
}

/// How many pairs there are, and the texts that come out otherwise.
fn check(folder: &Path, name: &str) -> (usize, Vec<String>) {
    let tokenizer = open(folder, name);
    let read = |end: &str| {
        let path = folder.join(format!("ggml-vocab-{name}.gguf.{end}"));
        fs::read_to_string(path).expect("the package has it")
    };
    let (texts, ids) = (read("inp"), read("out"));
    let pairs = texts.split(BETWEEN).zip(ids.lines());
    let different = pairs.clone().filter(|(text, ids)| {
        let ids: Vec<Token> =
            ids.split_whitespace().map(|id| id.parse().expect("a number")).collect();
        tokenizer.encode(text, Special::Plain) != ids
    });
    (pairs.clone().count(), different.map(|(text, _)| text.to_owned()).collect())
}

#[test]
fn golden_tokens_of_every_vocabulary_match() {
    let Some(folder) = sdist::folder() else { return };
    let mut failures = 0;
    for name in VOCABULARIES {
        let (pairs, different) = check(&folder, name);
        assert!(pairs >= 46, "{name} has only {pairs} pairs");
        failures += different.len();
        different.iter().for_each(|text| eprintln!("{name}: {text:?}"));
    }
    assert_eq!(failures, 0);
}

#[test]
fn byte_level_vocabularies_give_back_any_text() {
    let Some(folder) = sdist::folder() else { return };
    let texts = fs::read_to_string(folder.join("ggml-vocab-gpt-2.gguf.inp")).expect("there");
    for name in ["gpt-2", "qwen2", "llama-bpe", "deepseek-llm", "starcoder", "falcon"] {
        let tokenizer = open(&folder, name);
        for text in texts.split(BETWEEN).chain(["\0\u{7F}\u{A0}\u{AD}\u{10FFFF}\u{2581}"]) {
            assert_eq!(tokenizer.decode(&tokenizer.encode(text, Special::Plain)), text, "{name}");
        }
    }
}

/// A space is put before the text and taken off again, but not within an answer.
#[test]
fn llama_2_puts_a_space_before_a_text() {
    let Some(folder) = sdist::folder() else { return };
    let tokenizer = open(&folder, "llama-spm");
    for text in ["Hello world", " Hello", "", "  ", "\n", "🦙", "<unk>"] {
        let tokens = tokenizer.encode(text, Special::Plain);
        assert_eq!(tokenizer.decode(&tokens), text);
        assert_eq!(tokenizer.decode(&tokenizer.encode_prompt(text, Special::Plain)), text);
        let mut decoder = tokenizer.decoder();
        let continued: String = tokens.iter().map(|&token| decoder.push(token)).collect();
        let space = if text.is_empty() { "" } else { " " };
        assert_eq!(continued, format!("{space}{text}"));
    }
}

/// Phi-3's markup swallows the whitespace after it; llama.cpp gives these ids.
#[test]
fn phi_3_markup_swallows_whitespace() {
    let Some(folder) = sdist::folder() else { return };
    let tokenizer = open(&folder, "phi-3");
    let ids = tokenizer.encode("<|user|>\n \tHi<|end|>\n<s> Hi", Special::Parse);
    assert_eq!(ids, [32010, 6324, 32007, 1, 29871, 6324]);
}

/// The package's other vocabularies name no pre-tokenizer or another family.
#[test]
fn unigram_is_refused_by_name() {
    let Some(folder) = sdist::folder() else { return };
    let path = folder.join("ggml-vocab-nomic-bert-moe.gguf");
    let file = Gguf::open(&path).expect("a sound file");
    let error = Tokenizer::from_gguf(&file).expect_err("not supported").to_string();
    assert!(error.contains("'t5'"), "{error}");
}
