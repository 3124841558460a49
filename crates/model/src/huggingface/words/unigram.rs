//! Unigram tokenizers, as SentencePiece makes them and `tokenizers` writes them down.

use serde_json::Value as Json;

use super::file::File;
use super::merges::Space;
use super::{Words, parts, pieces, refused};
use crate::Error;
use crate::gguf::{Array, Outline, Value};
use crate::tokenizer::TokenKind;

/// Sets what is Unigram's own.
pub(super) fn write(file: &File, words: &mut Words, outline: &mut Outline) -> Result<(), Error> {
    if file.model.byte_fallback {
        let what = "Unigram with bytes for what it does not know is not supported";
        return Err(Error::Unsupported(format!("tokenizer.json: {what}")));
    }
    let mut single_spaces = false;
    let mut spaced = [String::new(), String::new()];
    for part in parts(&file.normalizer, "normalizers") {
        if let Some((side, character)) = set_apart(part) {
            spaced[side].push(character);
            continue;
        }
        match part["type"].as_str() {
            Some("Precompiled") if spaced.iter().all(String::is_empty) => {
                let packed = part["precompiled_charsmap"].as_str().unwrap_or_default();
                let bytes = unpacked(packed).ok_or_else(|| refused("normalizer", part))?;
                if !bytes.is_empty() {
                    let bytes = Value::Array(Array::U8s(bytes));
                    outline.set("tokenizer.ggml.precompiled_charsmap", bytes);
                }
            }
            Some("Replace")
                if part["pattern"]["Regex"] == " {2,}" && is_space(&part["content"]) =>
            {
                single_spaces = true;
            }
            Some("Replace") if part["pattern"]["Regex"] == r"\s+" && part["content"] == " " => {
                single_spaces = true;
            }
            Some("BertNormalizer") if spaced.iter().all(String::is_empty) => {
                pieces::write_cleaning(part, outline)?;
                outline.set("tokenizer.ingle.clean", Value::Bool(true));
            }
            Some("Strip") if part["strip_right"] == true => {}
            _ => return Err(refused("normalizer of Unigram", part)),
        }
    }
    for (key, characters) in ["spaced", "spaced_behind"].into_iter().zip(spaced) {
        if !characters.is_empty() {
            outline.set(&format!("tokenizer.ingle.{key}"), Value::Str(characters));
        }
    }
    let mut space = None;
    for part in parts(&file.pre_tokenizer, "pretokenizers") {
        match part["type"].as_str() {
            Some("WhitespaceSplit") => single_spaces = true,
            Some("Metaspace") => space = Some(Space::of(part)?),
            _ => return Err(refused("pre-tokenizer of Unigram", part)),
        }
    }
    let space = space.ok_or_else(|| refused("pre-tokenizer of Unigram", &file.pre_tokenizer))?;
    let space = if single_spaces { space.behind_none() } else { space };
    space.write(outline);
    outline.set("tokenizer.ggml.remove_extra_whitespaces", Value::Bool(single_spaces));
    outline.set("tokenizer.ggml.model", Value::Str("t5".to_owned()));
    outline.set("tokenizer.ggml.pre", Value::Str("default".to_owned()));
    if let Some(unk) = file.model.unk_id.filter(|unk| (*unk as usize) < words.tokens.len()) {
        words.kinds[unk as usize] = TokenKind::Unknown;
        outline.set("tokenizer.ggml.unknown_token_id", Value::U32(unk));
    }
    Ok(())
}

/// A character that is set apart by spaces: by one on either side (0), or by one behind (1).
fn set_apart(part: &Json) -> Option<(usize, char)> {
    let said = part["pattern"]["String"].as_str().filter(|_| part["type"] == "Replace")?;
    let character = said.chars().next().filter(|first| first.len_utf8() == said.len())?;
    let content = part["content"].as_str().filter(|_| !character.is_whitespace())?;
    let ways = [format!(" {character} "), format!("{character} ")];
    Some((ways.iter().position(|way| way == content)?, character))
}

/// What runs of spaces become: one, marked or not.
fn is_space(content: &serde_json::Value) -> bool {
    content == " " || content == "▁"
}

/// Base64's bytes (RFC 4648, with padding).
fn unpacked(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let digits = text.trim_end_matches('=').bytes().map(digit).collect::<Option<Vec<u8>>>()?;
    let bytes = digits.chunks(4).flat_map(|four| {
        let bits = four.iter().fold(0u32, |bits, digit| bits << 6 | u32::from(*digit));
        let bits = bits << (6 * (4 - four.len()));
        bits.to_be_bytes().into_iter().skip(1).take(four.len() - 1).collect::<Vec<u8>>()
    });
    Some(bytes.collect())
}

#[cfg(test)]
mod tests {
    use super::{set_apart, unpacked};

    #[test]
    fn characters_are_set_apart() {
        let check = |said: &str, content: &str, expect: Option<(usize, char)>| {
            let part = serde_json::json!({
                "type": "Replace", "pattern": {"String": said}, "content": content,
            });
            assert_eq!(set_apart(&part), expect, "{said:?} {content:?}");
        };
        check(",", " , ", Some((0, ',')));
        check(",", ", ", Some((1, ',')));
        check("é", " é ", Some((0, 'é')));
        check(",", " ,", None);
        check(",", " . ", None);
        check("ab", " ab ", None);
        check("", "  ", None);
        check(" ", "▁", None);
        check(" ", "   ", None);
    }

    #[test]
    fn base64_is_read() {
        let check = |text: &str, expect: Option<&[u8]>| {
            assert_eq!(unpacked(text).as_deref(), expect, "{text}");
        };
        check("", Some(b""));
        check("YQ==", Some(b"a"));
        check("YWI=", Some(b"ab"));
        check("YWJj", Some(b"abc"));
        check("YWJjZA==", Some(b"abcd"));
        check("+/8=", Some(&[0xFB, 0xFF]));
        check("Y!==", None);
    }
}
