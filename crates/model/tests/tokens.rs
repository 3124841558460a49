//! The tokenizers of real models against llama.cpp's ids, and what holds for any text.

use ingle_model::Token;
use ingle_model::gguf::Gguf;
use ingle_model::pull;
use ingle_model::tokenizer::{Special, Tokenizer, check_cases};
use proptest::prelude::*;
use std::sync::LazyLock;

fn model(name: &str) -> Tokenizer {
    let path = pull::resolve(name).expect("the model can be fetched");
    let file = Gguf::open(&path).expect("a sound file");
    Tokenizer::from_gguf(&file).expect("a known vocabulary")
}

static SMOLLM2: LazyLock<Tokenizer> = LazyLock::new(|| model("smollm2"));
static GEMMA3: LazyLock<Tokenizer> = LazyLock::new(|| model("gemma3"));

fn check(tokenizer: &Tokenizer, cases: &str, rows: usize) {
    let report = check_cases(tokenizer, cases).expect("the fixture is a list of cases");
    assert_eq!(report.rows, rows);
    assert_eq!(report.mismatches, []);
}

#[test]
fn every_text_has_the_ids_that_llama_cpp_gives() {
    check(&SMOLLM2, include_str!("fixtures/smollm2-135m.tokens.json"), 133);
    check(&SMOLLM2, include_str!("fixtures/smollm2-135m.cases.json"), 6);
    check(&GEMMA3, include_str!("fixtures/gemma3-270m.tokens.json"), 133);
    check(&GEMMA3, include_str!("fixtures/gemma3-270m.cases.json"), 6);
}

#[test]
fn a_wrong_id_is_found() {
    let report = check_cases(&SMOLLM2, r#"[{"text": "a", "parse_special": true, "ids": [0]}]"#)
        .expect("a list of cases");
    assert_eq!(report.mismatches.len(), 1);
    assert_eq!(report.mismatches[0].expected, [0]);
}

#[test]
fn markup_is_markup_only_where_asked_for() {
    for (tokenizer, text) in [(&*SMOLLM2, "<|im_start|>"), (&*GEMMA3, "<start_of_turn>")] {
        let [token] = tokenizer.encode(text, Special::Parse)[..] else { panic!("not one token") };
        assert_eq!(tokenizer.token_text(token), Some(text));
        assert_eq!(tokenizer.bytes(token), Some(&b""[..]));
        assert_eq!(tokenizer.bytes_with_markup(token), Some(text.as_bytes()));
        let plain = tokenizer.encode(text, Special::Plain);
        assert!(plain.len() > 1 && !plain.contains(&token), "{plain:?}");
        assert_eq!(tokenizer.decode(&plain), text);
    }
}

/// The ids are those that llama.cpp ends generation with.
#[test]
fn the_tokens_that_end_an_answer_are_known() {
    assert_eq!(SMOLLM2.ends(), [0, 2, 4]); // <|endoftext|>, <|im_end|>, <reponame>
    assert_eq!(GEMMA3.ends(), [1, 106, 212]); // <eos>, <end_of_turn>, </s>
    assert!(SMOLLM2.is_end(2) && !SMOLLM2.is_end(1));
}

#[test]
fn a_prompt_has_one_bos_where_the_model_asks_for_it() {
    let bos = GEMMA3.bos().expect("Gemma has one");
    for text in ["Hello", "<bos>Hello", ""] {
        let tokens = GEMMA3.encode_prompt(text, Special::Parse);
        assert_eq!(tokens.iter().filter(|&&token| token == bos).count(), 1, "{text}");
        assert_eq!(tokens[0], bos);
    }
    assert_eq!(SMOLLM2.encode_prompt("Hello", Special::Parse).len(), 1);
}

/// Would take hours if it were quadratic.
#[test]
fn one_endless_word_is_no_trouble() {
    for unit in ["a", "😀", " ", "\n", "é", "1", "'"] {
        let text = unit.repeat(200_000);
        for tokenizer in [&*SMOLLM2, &*GEMMA3] {
            let tokens = tokenizer.encode(&text, Special::Parse);
            assert!(tokenizer.decode(&tokens) == text, "{unit:?}");
        }
    }
}

#[test]
fn ids_beyond_the_vocabulary_write_nothing() {
    assert_eq!(SMOLLM2.bytes(Token::MAX), None);
    assert_eq!(SMOLLM2.decode(&[Token::MAX]), "");
    assert_eq!(SMOLLM2.vocab_len(), 49152);
}

/// Pushes tokens one by one; every piece must be whole characters, which `String` ensures.
fn step_by_step(tokenizer: &Tokenizer, tokens: &[Token]) -> String {
    let mut decoder = tokenizer.decoder_from_start();
    let mut text: String = tokens.iter().map(|&token| decoder.push(token)).collect();
    text.push_str(&decoder.flush());
    assert_eq!(decoder.flush(), "");
    text
}

/// All bytes at once.
fn at_once(tokenizer: &Tokenizer, tokens: &[Token]) -> String {
    let bytes: Vec<u8> =
        tokens.iter().filter_map(|&token| tokenizer.bytes(token)).flatten().copied().collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

proptest! {
    #[test]
    fn byte_level_bpe_gives_back_any_text(text in any::<String>()) {
        let tokens = SMOLLM2.encode(&text, Special::Plain);
        prop_assert_eq!(SMOLLM2.decode(&tokens), text);
    }

    /// SentencePiece writes spaces as `▁`, so that a text's own `▁` comes back as a space.
    #[test]
    fn sentencepiece_gives_back_any_text_without_its_own_space_sign(text in "[^▁]*") {
        let tokens = GEMMA3.encode(&text, Special::Plain);
        prop_assert_eq!(GEMMA3.decode(&tokens), text);
    }

    #[test]
    fn words_of_many_scripts_come_back(text in r"([\p{L}\p{M}\p{N}\p{P}\p{S}\s]{1,8} ?){0,12}") {
        for tokenizer in [&*SMOLLM2, &*GEMMA3] {
            let text = text.replace('▁', "_");
            prop_assert_eq!(tokenizer.decode(&tokenizer.encode(&text, Special::Plain)), text);
        }
    }

    /// Any tokens, most of which are no text that anybody would write.
    #[test]
    fn decoding_step_by_step_is_decoding_at_once(
        tokens in prop::collection::vec(0..49152u32, 0..40),
    ) {
        for tokenizer in [&*SMOLLM2, &*GEMMA3] {
            prop_assert_eq!(step_by_step(tokenizer, &tokens), at_once(tokenizer, &tokens));
            prop_assert_eq!(tokenizer.decode(&tokens), at_once(tokenizer, &tokens));
        }
    }

    /// The bytes of whole characters, and then some, in any order.
    #[test]
    fn broken_characters_are_replaced_as_they_are_at_once(
        bytes in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let byte = |byte: &u8| {
            let token = (0..256).find(|&token| GEMMA3_BYTES[token as usize] == Some(*byte));
            token.expect("every byte has a token")
        };
        let tokens: Vec<Token> = bytes.iter().map(|b| byte(b) + GEMMA3_FIRST_BYTE).collect();
        prop_assert_eq!(step_by_step(&GEMMA3, &tokens), String::from_utf8_lossy(&bytes));
    }
}

/// Gemma's byte tokens stand together, from `<0x00>` on.
const GEMMA3_FIRST_BYTE: Token = 238;
static GEMMA3_BYTES: LazyLock<Vec<Option<u8>>> = LazyLock::new(|| {
    let byte = |token| match GEMMA3.bytes(token) {
        Some([byte]) => Some(*byte),
        _ => None,
    };
    (GEMMA3_FIRST_BYTE..GEMMA3_FIRST_BYTE + 256).map(byte).collect()
});
