//! BPE tokenizers: over bytes, by the name that GGUF files have for their pattern, and over
//! characters with `▁` for a space, as SentencePiece makes them.

use serde_json::Value as Json;

use super::file::{File, Merge};
use super::{Words, parts, refused};
use crate::Error;
use crate::gguf::{Array, Outline, Strs, Value};
use crate::tokenizer::TokenKind;

/// The patterns that published tokenizers split texts by, one behind another, and what GGUF files
/// call them; the second name is of those that take a word that is a token as it stands. Line ends
/// are written `\r` and `\n`, as some files have them; others have the characters.
#[rustfmt::skip]
const PATTERNS: &[(&[&str], &str, &str)] = &[
    (
        &[r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
        "dbrx", "llama-bpe",
    ),
    (
        &[r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
        "qwen2", "",
    ),
    (
        &[r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
        "qwen35", "",
    ),
    (
        &[r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
        "gpt-4o", "granite-embed-multi-97m",
    ),
    (
        &[r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
        "", "tekken",
    ),
    (
        &[
            r"\p{N}{1,3}",
            "[一-龥\u{3040}-ゟ\u{30A0}-ヿ]+",
            r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##,
        ],
        "deepseek-v3", "",
    ),
];

/// Sets what is BPE's own.
pub(super) fn write(file: &File, words: &mut Words, outline: &mut Outline) -> Result<(), Error> {
    let model = &file.model;
    let marked = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    if marked(&model.continuing_subword_prefix) || marked(&model.end_of_word_suffix) {
        let what = "BPE with marks of a word's parts is not supported";
        return Err(Error::Unsupported(format!("tokenizer.json: {what}")));
    }
    let steps = parts(&file.pre_tokenizer, "pretokenizers");
    if steps.iter().any(|step| step["type"] == "ByteLevel") {
        over_bytes(file, &steps, outline)
    } else {
        over_characters(file, &steps, words, outline)
    }
}

fn merges(file: &File) -> impl Iterator<Item = (&str, &str)> {
    let all = file.model.merges.iter().flatten();
    all.filter_map(|merge| match merge {
        Merge::Pair(left, right) => Some((left.as_str(), right.as_str())),
        // The first character may itself be the space that separates.
        Merge::Line(line) => {
            let (gap, _) = line.char_indices().skip(1).find(|(_, c)| *c == ' ')?;
            Some((&line[..gap], &line[gap + 1..]))
        }
    })
}

fn over_bytes(file: &File, steps: &[&Json], outline: &mut Outline) -> Result<(), Error> {
    for part in parts(&file.normalizer, "normalizers") {
        if part["type"] != "NFC" {
            return Err(refused("normalizer of BPE over bytes", part));
        }
        outline.set("tokenizer.ingle.nfc", Value::Bool(true));
    }
    let pre = pattern(steps, file.model.ignore_merges)
        .ok_or_else(|| refused("pre-tokenizer", &file.pre_tokenizer))?;
    outline.set("tokenizer.ggml.model", Value::Str("gpt2".to_owned()));
    outline.set("tokenizer.ggml.pre", Value::Str(pre.to_owned()));
    let lines: Vec<String> = merges(file).map(|(a, b)| format!("{a} {b}")).collect();
    let lines: Strs = lines.iter().map(String::as_str).collect();
    outline.set("tokenizer.ggml.merges", Value::Array(Array::Strs(lines)));
    Ok(())
}

/// What GGUF files call these steps.
fn pattern(steps: &[&Json], whole_words: bool) -> Option<&'static str> {
    let plain = |step: &Json, splits: bool| {
        step["type"] == "ByteLevel"
            && step["add_prefix_space"] != true
            && step["use_regex"].as_bool().unwrap_or(true) == splits
    };
    let digits = |step: &Json| step["type"] == "Digits" && step["individual_digits"] == true;
    match steps {
        [bytes] if plain(bytes, true) && !whole_words => Some("gpt-2"),
        [first, bytes] if digits(first) && plain(bytes, true) && !whole_words => Some("smollm"),
        [splits @ .., bytes] if plain(bytes, false) => {
            let said = splits.iter().map(|split| split_by(split)).collect::<Option<Vec<_>>>()?;
            let (_, pieces, words) = PATTERNS.iter().find(|row| said == row.0)?;
            Some(if whole_words { words } else { pieces }).copied().filter(|name| !name.is_empty())
        }
        _ => None,
    }
}

/// The pattern of a step whose matches, and what is between them, are pieces.
fn split_by(step: &Json) -> Option<String> {
    let whole = step["behavior"] == "Isolated" && step["invert"] != true
        || step["behavior"] == "Removed" && step["invert"] == true;
    let said = step["pattern"]["Regex"].as_str().filter(|_| step["type"] == "Split" && whole)?;
    Some(said.replace('\r', r"\r").replace('\n', r"\n"))
}

fn over_characters(
    file: &File,
    steps: &[&Json],
    words: &mut Words,
    outline: &mut Outline,
) -> Result<(), Error> {
    let mut space = Space::default();
    for part in parts(&file.normalizer, "normalizers") {
        match part["type"].as_str() {
            Some("Prepend") if part["prepend"] == "▁" => space.prefix = true,
            Some("Replace") if part["pattern"]["String"] == " " && part["content"] == "▁" => {}
            _ => return Err(refused("normalizer of BPE over characters", part)),
        }
    }
    for part in steps {
        match part["type"].as_str() {
            // Spaces are gone by then.
            Some("Split") if part["pattern"]["String"] == " " => {}
            Some("Metaspace") => space = Space::of(part)?,
            _ => return Err(refused("pre-tokenizer of BPE over characters", part)),
        }
    }
    space.write(outline);
    outline.set("tokenizer.ggml.model", Value::Str("llama".to_owned()));
    outline.set("tokenizer.ggml.pre", Value::Str("default".to_owned()));
    words.scores = scores(file, words);
    for (text, kind) in words.tokens.iter().zip(&mut words.kinds) {
        let byte = text.len() == 6 && text.starts_with("<0x") && text.ends_with('>');
        if byte && file.model.byte_fallback {
            *kind = TokenKind::Byte;
        }
    }
    if let Some(unk) = &file.model.unk_token
        && let Some(at) = words.tokens.iter().position(|token| token == unk)
    {
        words.kinds[at] = TokenKind::Unknown;
        outline.set("tokenizer.ggml.unknown_token_id", Value::U32(at as u32));
    }
    Ok(())
}

/// Scores that join in the order of the merges. What no merge makes comes last.
fn scores(file: &File, words: &Words) -> Vec<f64> {
    let ids: rustc_hash::FxHashMap<&str, usize> =
        words.tokens.iter().map(String::as_str).zip(0..).collect();
    let mut scores = vec![-1e9; words.tokens.len()];
    for (rank, (left, right)) in merges(file).enumerate() {
        let Some(&id) = ids.get([left, right].concat().as_str()) else { continue };
        scores[id] = f64::max(scores[id], -(rank as f64));
    }
    scores
}

/// Whether texts are read as if a space stood before them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Space {
    prefix: bool,
    first_only: bool,
    unless_there: bool,
}

impl Space {
    /// What a pre-tokenizer that marks spaces says.
    pub(super) fn of(metaspace: &Json) -> Result<Self, Error> {
        if metaspace["replacement"] != "▁" {
            return Err(refused("pre-tokenizer", metaspace));
        }
        let unless_there = true;
        match metaspace["prepend_scheme"].as_str() {
            Some("always") => Ok(Self { prefix: true, first_only: false, unless_there }),
            Some("first") => Ok(Self { prefix: true, first_only: true, unless_there }),
            Some("never") => Ok(Self::default()),
            None => {
                let prefix = metaspace["add_prefix_space"].as_bool().unwrap_or(true);
                Ok(Self { prefix, first_only: false, unless_there })
            }
            Some(_) => Err(refused("pre-tokenizer", metaspace)),
        }
    }

    /// Where spaces that texts begin with are dropped first, so that none is there.
    pub(super) fn behind_none(self) -> Self {
        Self { unless_there: false, ..self }
    }

    pub(super) fn write(self, outline: &mut Outline) {
        outline.set("tokenizer.ggml.add_space_prefix", Value::Bool(self.prefix));
        for (key, on) in
            [("space_first_only", self.first_only), ("space_unless_there", self.unless_there)]
        {
            if on {
                outline.set(&format!("tokenizer.ingle.{key}"), Value::Bool(true));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pre-tokenizers as published files have them, of Llama 3.2, Qwen 3, gpt-oss, Mistral NeMo and
    /// DeepSeek V3 (its line ends are the characters), SmolLM and GPT-2.
    #[test]
    fn published_patterns_are_known() {
        let file = |name: &str| {
            let text = include_str!("../../../tests/golden/patterns.json");
            let all: Json = serde_json::from_str(text).expect("is JSON");
            all[name].clone()
        };
        let check = |name: &str, whole_words: bool, expect: Option<&str>| {
            let steps = file(name);
            let found = pattern(&parts(&steps, "pretokenizers"), whole_words);
            assert_eq!(found, expect, "{name}");
            if let Some(found) = found {
                assert!(crate::tokenizer::knows_pattern(found), "{found}");
            }
        };
        check("llama-3.2", true, Some("llama-bpe"));
        check("llama-3.2", false, Some("dbrx"));
        check("qwen-3", false, Some("qwen2"));
        check("qwen-3", true, None);
        check("gpt-oss", true, Some("granite-embed-multi-97m"));
        check("gpt-oss", false, Some("gpt-4o"));
        check("mistral-nemo", true, Some("tekken"));
        check("deepseek-v3", false, Some("deepseek-v3"));
        check("smollm", false, Some("smollm"));
        check("gpt-2", false, Some("gpt-2"));
        check("unknown", false, None);
    }
}
