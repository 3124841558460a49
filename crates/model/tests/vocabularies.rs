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

/// Unigram, with SentencePiece's table of replaced characters; llama.cpp gives these ids.
#[test]
fn unigram_takes_the_likeliest_cut() {
    let Some(folder) = sdist::folder() else { return };
    let file = Gguf::open(&folder.join("ggml-vocab-nomic-bert-moe.gguf")).expect("a sound file");
    // The whole tokenizer is too much to be shown.
    let Ok(tokenizer) = Tokenizer::from_gguf(&file) else { panic!("not supported") };
    let check = |text: &str, expect: &[Token]| {
        assert_eq!(tokenizer.encode_prompt(text, Special::Plain), expect, "{text:?}");
    };
    check("", &[0, 2]);
    check("Hello world!", &[0, 35378, 8999, 38, 2]);
    check(
        "  Über-große CAFÉ  prices: 3,141.59 € \t(or $2)!\n",
        &[
            0, 16089, 9, 8407, 20036, 13, 6, 166566, 6642, 112034, 12, 138, 4, 146893, 5, 12975,
            2505, 15, 748, 78790, 16, 38, 2,
        ],
    );
    check(
        "naïve façade; ﬁne ①②③ ｆｕｌｌ",
        &[0, 24, 9392, 272, 65335, 112, 74, 5885, 37638, 4393, 2],
    );
    check("日本語のテキスト", &[0, 6, 98449, 154, 193508, 2]);
    check(
        "emoji 👩\u{200d}👩\u{200d}👧 ok",
        &[0, 28, 121_505, 6, 244_785, 6, 244_785, 6, 245_719, 3664, 2],
    );
    check("ꙮꙮ unknown", &[0, 6, 3, 51, 69723, 19, 2]);
}
