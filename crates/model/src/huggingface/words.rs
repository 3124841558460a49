//! A tokenizer's files to the metadata of a GGUF file: `tokenizer.json` (or `vocab.txt` alone, of
//! older WordPiece models), and what `tokenizer_config.json` and `special_tokens_map.json` say of
//! special tokens. What a tokenizer does that this version does not is refused by name.

mod around;
mod file;
mod merges;
mod pieces;
mod unigram;

use std::path::Path;

use serde_json::Value as Json;

use super::families::{Family, Quirk};
use super::json::{self, Object};
use super::table;
use crate::gguf::{Array, Outline, Strs, Value};
use crate::tokenizer::TokenKind;
use crate::{Error, Token};
use file::{Added, File};

/// The most tokens.
const MAX_TOKENS: usize = 1 << 24;

/// A vocabulary in the making.
#[derive(Debug, Default)]
struct Words {
    tokens: Vec<String>,
    kinds: Vec<TokenKind>,
    scores: Vec<f64>,
}

/// Sets the `tokenizer.ggml.*` keys.
pub(super) fn write(
    base: &Path,
    family: &Family,
    config: &Object,
    outline: &mut Outline,
) -> Result<(), Error> {
    let path = base.join("tokenizer.json");
    let settings = Object::read(&base.join("tokenizer_config.json"))?;
    let mut file = match json::read::<File>(&path)? {
        Some(file) => file,
        None => pieces::of_a_list(base, &settings)?,
    };
    let table = family.quirks.contains(&Quirk::Table);
    if table {
        table::write_words(config, file.unknown(), &file.texts(), outline);
        // None of the usual marks either.
        file.post_processor = serde_json::json!({"type": "Sequence", "processors": []});
    }
    let specials = Specials { settings, map: Object::read(&base.join("special_tokens_map.json"))? };
    let mut words = words(&file, &path)?;
    match file.model.kind() {
        "WordPiece" | "WordLevel" => pieces::write(&file, &mut words, outline)?,
        "BPE" => merges::write(&file, &mut words, outline)?,
        "Unigram" => unigram::write(&file, &mut words, outline)?,
        other => {
            return Err(Error::Unsupported(format!(
                "tokenizer.json: a model of type `{other}` is not supported"
            )));
        }
    }
    specials.write(config, &words, outline)?;
    ends(base, &words, outline)?;
    around::write(&file, &specials, &words, outline)?;
    let swallows = file.added_tokens.iter().any(|added| added.special && added.rstrip);
    outline.set("tokenizer.ingle.swallow_after_special", Value::Bool(swallows));
    outline.set("tokenizer.ingle.kinds_told", Value::Bool(true));
    template(base, &specials.settings, outline)?;
    let Words { tokens, kinds, scores } = words;
    let strs: Strs = tokens.iter().map(String::as_str).collect();
    let kinds = kinds.into_iter().map(|kind| kind as i32).collect();
    outline.set("tokenizer.ggml.tokens", Value::Array(Array::Strs(strs)));
    outline.set("tokenizer.ggml.token_type", Value::Array(Array::I32s(kinds)));
    write_scores(scores, outline);
    Ok(())
}

/// Sets scores, unrounded too where they are rounded in a GGUF file: of ways to cut a text that are
/// as likely as each other it is the last bit that chooses.
fn write_scores(scores: Vec<f64>, outline: &mut Outline) {
    if scores.is_empty() {
        return;
    }
    let rounded: Vec<f32> = scores.iter().map(|score| *score as f32).collect();
    let differ = scores.iter().zip(&rounded).any(|(score, rounded)| *score != f64::from(*rounded));
    outline.set("tokenizer.ggml.scores", Value::Array(Array::F32s(rounded)));
    if differ {
        outline.set("tokenizer.ingle.scores", Value::Array(Array::F64s(scores)));
    }
}

/// All tokens by their ids: the model's, and those that were added. Ids that nothing has are filled
/// up, as files do whose embeddings have more rows.
fn words(file: &File, path: &Path) -> Result<Words, Error> {
    let added = file.added_tokens.iter().map(|added| added.id);
    let ids = file.model.vocab.ids().chain(added);
    let count = ids.max().map_or(0, |last| last as usize + 1);
    if count == 0 || count > MAX_TOKENS {
        return Err(json::wrong(path, &format!("ids up to {count}")));
    }
    let mut tokens: Vec<Option<String>> = vec![None; count];
    for (text, id) in file.model.vocab.texts() {
        tokens[id as usize] = Some(text.to_owned());
    }
    let mut kinds = vec![TokenKind::Normal; count];
    for Added { id, content, special, .. } in &file.added_tokens {
        tokens[*id as usize] = Some(content.clone());
        let kind = if *special { TokenKind::Control } else { TokenKind::UserDefined };
        kinds[*id as usize] = kind;
    }
    let filled = |(id, text): (usize, Option<String>)| {
        text.unwrap_or_else(|| {
            kinds[id] = TokenKind::Unused;
            format!("[PAD{id}]")
        })
    };
    let tokens = tokens.into_iter().enumerate().map(filled).collect();
    Ok(Words { tokens, kinds, scores: file.model.vocab.scores(count) })
}

/// What special tokens are called.
struct Specials {
    settings: Object,
    map: Object,
}

/// What special tokens are for, and which key of a GGUF file has their ids.
const SPECIALS: &[(&str, &str)] = &[
    ("bos_token", "bos_token_id"),
    ("eos_token", "eos_token_id"),
    ("unk_token", "unknown_token_id"),
    ("sep_token", "seperator_token_id"), // GGUF's own spelling
    ("pad_token", "padding_token_id"),
    ("cls_token", "cls_token_id"),
    ("mask_token", "mask_token_id"),
];

impl Specials {
    /// A special token's text.
    fn text(&self, name: &str) -> Option<&str> {
        let said = self.settings.get(name).or_else(|| self.map.get(name))?;
        said.as_str().or_else(|| said.get("content")?.as_str())
    }

    /// A special token's id.
    fn id(&self, name: &str, words: &Words) -> Option<usize> {
        let text = self.text(name)?;
        words.tokens.iter().position(|token| token == text)
    }

    /// Sets their ids. Where a text is not told, the model's configuration may have the id.
    fn write(&self, config: &Object, words: &Words, outline: &mut Outline) -> Result<(), Error> {
        for (name, key) in SPECIALS {
            let id = match self.text(name) {
                Some(_) => self.id(name, words),
                None => first_id(config, &format!("{name}_id")),
            };
            let id = id.filter(|id| *id < words.tokens.len());
            if let Some(id) = id.and_then(|id| Token::try_from(id).ok()) {
                outline.set(&format!("tokenizer.ggml.{key}"), Value::U32(id));
            }
        }
        Ok(())
    }
}

/// The parts of a normalizer, a pre-tokenizer or a post-processor, which may be a sequence of them,
/// or of sequences.
fn parts<'a>(whole: &'a Json, of: &str) -> Vec<&'a Json> {
    match whole {
        Json::Null => Vec::new(),
        one if one["type"] == "Sequence" => {
            one[of].as_array().into_iter().flatten().flat_map(|one| parts(one, of)).collect()
        }
        one => vec![one],
    }
}

/// That a part of a tokenizer cannot be honoured.
fn refused(what: &str, part: &Json) -> Error {
    let shown: String = part.to_string().chars().take(300).collect();
    Error::Unsupported(format!("tokenizer.json: the {what} {shown} is not supported"))
}

/// Sets what ends an answer beside the end of a text, as `generation_config.json` lists it.
fn ends(base: &Path, words: &Words, outline: &mut Outline) -> Result<(), Error> {
    let config = Object::read(&base.join("generation_config.json"))?;
    let Some(Json::Array(listed)) = config.get("eos_token_id") else { return Ok(()) };
    let known = |id: &u64| (*id as usize) < words.tokens.len();
    let eos = outline.uint("tokenizer.ggml.eos_token_id");
    let others = listed.iter().filter_map(Json::as_u64).filter(known);
    let others = others.filter(|id| Some(*id) != eos);
    for (key, id) in ["eot_token_id", "eom_token_id"].iter().zip(others) {
        outline.set(&format!("tokenizer.ggml.{key}"), Value::U32(id as u32));
    }
    Ok(())
}

/// An id, or the first of several.
fn first_id(config: &Object, key: &str) -> Option<usize> {
    let value = config.get(key)?;
    let value = value.as_array().map_or(Some(value), |all| all.first())?;
    value.as_u64()?.try_into().ok()
}

/// Sets the chat template: from a file of its own, or from the tokenizer's settings, where it may
/// be one of several.
fn template(base: &Path, settings: &Object, outline: &mut Outline) -> Result<(), Error> {
    let mut set = |key: &str, text: &str| outline.set(key, Value::Str(text.to_owned()));
    if let Some(text) = json::text(&base.join("chat_template.jinja"))? {
        set("tokenizer.chat_template", &text);
        return Ok(());
    }
    let beside = Object::read(&base.join("chat_template.json"))?;
    let Some(said) = beside.get("chat_template").or_else(|| settings.get("chat_template")) else {
        return Ok(());
    };
    match said {
        Json::String(text) => set("tokenizer.chat_template", text),
        Json::Array(named) => {
            for named in named {
                let text = |key: &str| named.get(key).and_then(Json::as_str);
                match (text("name"), text("template")) {
                    (Some("default"), Some(text)) => set("tokenizer.chat_template", text),
                    (Some("tool_use"), Some(text)) => set("tokenizer.chat_template.tool_use", text),
                    _ => {}
                }
            }
        }
        _ => return Err(settings.refuse("chat_template", "neither a text nor a list")),
    }
    Ok(())
}
