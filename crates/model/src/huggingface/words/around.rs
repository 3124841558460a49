//! What a tokenizer puts around texts: its post-processor, as lists of tokens in which -1 and -2
//! are the texts. Keys of llama.cpp's say the same of one text, where marks are single.

use serde_json::Value as Json;

use super::file::File;
use super::{Specials, Words, parts, refused};
use crate::Error;
use crate::gguf::{Array, Outline, Value};

/// A sequence: ids, and a type for each.
type Sequence = (Vec<i64>, Vec<i64>);

/// The most marks around a text.
const MAX_MARKS: usize = 64;

/// Sets the keys.
pub(super) fn write(
    file: &File,
    specials: &Specials,
    words: &Words,
    outline: &mut Outline,
) -> Result<(), Error> {
    let mut found = None;
    for part in parts(&file.post_processor, "processors") {
        found = match part["type"].as_str() {
            Some("ByteLevel") => continue, // tells of offsets alone
            Some("TemplateProcessing") => Some(template(part)?),
            Some("BertProcessing") => Some(marked(part, 1)?),
            Some("RobertaProcessing") => Some(marked(part, 2)?),
            _ => return Err(refused("post-processor", part)),
        };
    }
    // Without one, a tokenizer of words has been BERT's.
    let cls_and_sep = || Some((specials.id("cls_token", words)?, specials.id("sep_token", words)?));
    if found.is_none()
        && file.post_processor.is_null()
        && file.model.kind() == "WordPiece"
        && let Some((cls, sep)) = cls_and_sep()
    {
        found = Some(of_marks(cls as i64, sep as i64, 1));
    }
    let (single, pair) = found.unwrap_or_else(|| ((vec![-1], vec![0]), (vec![-1, -2], vec![0, 0])));
    let tokens = words.tokens.len() as i64;
    if single.0.iter().chain(&pair.0).any(|id| *id >= tokens) {
        return Err(refused("post-processor", &file.post_processor));
    }
    marks(&single.0, specials, words, outline);
    let mut set = |key: &str, all: Vec<i64>| {
        let all = all.into_iter().map(|id| id as i32).collect();
        outline.set(&format!("tokenizer.ingle.{key}"), Value::Array(Array::I32s(all)));
    };
    set("single", single.0);
    set("single_types", single.1);
    set("pair", pair.0);
    set("pair_types", pair.1);
    Ok(())
}

/// Sets what llama.cpp has keys for: a mark before a text, and one behind it.
fn marks(single: &[i64], specials: &Specials, words: &Words, outline: &mut Outline) {
    let text = single.iter().position(|id| *id < 0).unwrap_or(0);
    let (before, behind) = (&single[..text], &single[text + 1..]);
    let mut flag = |key: &str, on: bool| {
        outline.set(&format!("tokenizer.ggml.{key}"), Value::Bool(on));
    };
    let sep = specials.id("sep_token", words).map(|id| id as i64);
    let ends_with_sep = !behind.is_empty() && behind.last().copied() == sep;
    flag("add_bos_token", !before.is_empty());
    flag("add_eos_token", !behind.is_empty() && !ends_with_sep);
    flag("add_sep_token", ends_with_sep);
    let mut id = |key: &str, id: Option<&i64>| {
        if let Some(id) = id.and_then(|id| u32::try_from(*id).ok()) {
            outline.set(&format!("tokenizer.ggml.{key}"), Value::U32(id));
        }
    };
    id("bos_token_id", before.first());
    if !ends_with_sep && behind.last().is_some() {
        // What ends a turn is told apart from what ends a text.
        let eos = specials.id("eos_token", words).map(|id| id as i64);
        id("eot_token_id", eos.filter(|eos| behind.last() != Some(eos)).as_ref());
        id("eos_token_id", behind.last());
    }
}

/// One mark before and one behind each text, the one before the second being `between` of the
/// latter.
fn of_marks(cls: i64, sep: i64, between: usize) -> (Sequence, Sequence) {
    let second = i64::from(between == 1); // RoBERTa knows no types
    let mut pair = (vec![cls, -1], vec![0, 0]);
    for _ in 0..between {
        pair.0.push(sep);
        pair.1.push(0);
    }
    pair.0.extend([-2, sep]);
    pair.1.extend([second, second]);
    ((vec![cls, -1, sep], vec![0; 3]), pair)
}

/// BERT's and RoBERTa's own processors.
fn marked(part: &Json, between: usize) -> Result<(Sequence, Sequence), Error> {
    let id = |key: &str| part[key][1].as_i64().filter(|id| *id >= 0);
    let (Some(cls), Some(sep)) = (id("cls"), id("sep")) else {
        return Err(refused("post-processor", part));
    };
    Ok(of_marks(cls, sep, between))
}

fn template(part: &Json) -> Result<(Sequence, Sequence), Error> {
    let refuse = || refused("post-processor", part);
    let sequence = |key: &str| {
        let pieces = part[key].as_array().filter(|all| all.len() <= MAX_MARKS);
        let (mut ids, mut types) = (Vec::new(), Vec::new());
        for piece in pieces.ok_or_else(refuse)? {
            let (kind, within) =
                piece.as_object().and_then(|it| it.iter().next()).ok_or_else(refuse)?;
            let name = within["id"].as_str().ok_or_else(refuse)?;
            let found: Vec<i64> = match (kind.as_str(), name) {
                ("Sequence", "A") => vec![-1],
                ("Sequence", "B") => vec![-2],
                _ => {
                    let ids = part["special_tokens"][name]["ids"].as_array().ok_or_else(refuse)?;
                    ids.iter().filter_map(Json::as_i64).filter(|id| *id >= 0).collect()
                }
            };
            let kind = within["type_id"].as_i64().unwrap_or(0);
            types.extend(std::iter::repeat_n(kind, found.len()));
            ids.extend(found);
        }
        Ok::<_, Error>((ids, types))
    };
    let (single, pair) = (sequence("single")?, sequence("pair")?);
    let texts = |ids: &[i64]| ids.iter().copied().filter(|id| *id < 0).collect::<Vec<_>>();
    match (&texts(&single.0)[..], &texts(&pair.0)[..]) {
        ([-1], [-1, -2]) => Ok((single, pair)),
        _ => Err(refuse()),
    }
}
