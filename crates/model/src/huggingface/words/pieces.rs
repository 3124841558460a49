//! WordPiece tokenizers, and those of whole words, which are the same without parts that go on
//! with a word. In a GGUF file the parts that begin a word carry `▁`, and those that go on with one
//! carry nothing, where a directory has nothing and `##`.

use std::path::Path;

use serde_json::Value as Json;

use super::super::json::{self, Object};
use super::file::{Added, File, Model};
use super::{Words, refused};
use crate::Error;
use crate::gguf::{Outline, Value};
use crate::tokenizer::{TokenKind, WORD_MAX};

/// What a directory without `tokenizer.json` has: one token a line.
pub(super) fn of_a_list(base: &Path, settings: &Object) -> Result<File, Error> {
    let path = base.join("vocab.txt");
    let Some(text) = json::text(&path)? else {
        let (place, hint) = (base.join("tokenizer.json"), "save the model's fast tokenizer");
        return Err(Error::Missing(format!("{}; {hint}", place.display())));
    };
    let lines = text.lines().map(str::trim_end);
    let words: Vec<(String, u32)> = lines.map(str::to_owned).zip(0..).collect();
    let marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
    let added = words.iter().filter(|(word, _)| marks.contains(&word.as_str()));
    let added_tokens = added
        .map(|(word, id)| Added { id: *id, content: word.clone(), special: true, rstrip: false })
        .collect();
    let lowercase = settings.flag("do_lower_case")?.unwrap_or(true);
    let strip_accents = settings.flag("strip_accents")?;
    let chinese = settings.flag("tokenize_chinese_chars")?.unwrap_or(true);
    Ok(File {
        added_tokens,
        normalizer: serde_json::json!({
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": chinese,
            "strip_accents": strip_accents, "lowercase": lowercase,
        }),
        pre_tokenizer: serde_json::json!({"type": "BertPreTokenizer"}),
        post_processor: serde_json::Value::Null,
        model: Model::of_words(words, "[UNK]"),
    })
}

/// Sets how BERT's normalizer cleans characters.
pub(super) fn write_cleaning(normalizer: &Json, outline: &mut Outline) -> Result<(), Error> {
    for key in ["clean_text", "handle_chinese_chars"] {
        if normalizer[key] == false {
            let what = format!("a BertNormalizer without `{key}` is not supported");
            return Err(Error::Unsupported(format!("tokenizer.json: {what}")));
        }
    }
    let lowercase = normalizer["lowercase"].as_bool().unwrap_or(true);
    let strip_accents = normalizer["strip_accents"].as_bool().unwrap_or(lowercase);
    outline.set("tokenizer.ggml.normalizer.lowercase", Value::Bool(lowercase));
    outline.set("tokenizer.ggml.normalizer.strip_accents", Value::Bool(strip_accents));
    Ok(())
}

/// Sets what is these tokenizers' own, and spells the words as GGUF files do.
pub(super) fn write(file: &File, words: &mut Words, outline: &mut Outline) -> Result<(), Error> {
    let refuse = |what: &str| Err(Error::Unsupported(format!("tokenizer.json: {what}")));
    let prefix = file.model.continuing_subword_prefix.as_deref().unwrap_or("##");
    let whole = file.model.kind() == "WordLevel";
    if prefix.is_empty() {
        return refuse("WordPiece without a mark of a word's later parts is not supported");
    }
    if file.model.max_input_chars_per_word.is_some_and(|most| most != WORD_MAX) {
        return refuse(&format!(
            "WordPiece with words of other than {WORD_MAX} characters at most"
        ));
    }
    if file.pre_tokenizer["type"] != "BertPreTokenizer" {
        return Err(refused("pre-tokenizer of WordPiece", &file.pre_tokenizer));
    }
    let normalizer = &file.normalizer;
    if normalizer["type"] != "BertNormalizer" {
        return Err(refused("normalizer of WordPiece", normalizer));
    }
    write_cleaning(normalizer, outline)?;
    outline.set("tokenizer.ggml.model", Value::Str("bert".to_owned()));
    outline.set("tokenizer.ggml.pre", Value::Str("default".to_owned()));
    let unk = file.model.unk_token.as_deref().unwrap_or("[UNK]");
    let Some(unknown) = words.tokens.iter().position(|token| token == unk) else {
        return refuse(&format!("the vocabulary has no {unk} for words that it does not know"));
    };
    outline.set("tokenizer.ggml.unknown_token_id", Value::U32(unknown as u32));
    for (token, kind) in words.tokens.iter_mut().zip(&words.kinds) {
        if *kind != TokenKind::Normal || token == unk {
            continue;
        }
        *token = match token.strip_prefix(prefix) {
            Some(part) if !part.is_empty() && !whole => part.to_owned(),
            _ => format!("▁{token}"),
        };
    }
    Ok(())
}
