//! Directories that are a table of tokens' vectors: Model2Vec's, and those of the module
//! `StaticEmbedding` of sentence-transformers. What weighs tokens is multiplied into the table, and
//! of vectors that tokens share each gets its own copy, so that it has a row for each token.
//!
//! Both leave marks out. Model2Vec leaves out what stands for unknown words too, and cuts what is
//! longer than its configuration says. Absent: its classifiers.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use ingle_backend::{Bytes, Format};

use super::json::Object;
use super::weights;
use crate::gguf::{Held, Outline, Planned, Value};
use crate::safetensors::{self, Stored, Tensors};
use crate::{Error, Token};

/// What `model_type` says, and the row of such directories.
pub(super) const KIND: &str = "model2vec";

/// What Model2Vec takes for the longest text where a configuration says nothing, in tokens.
const USUAL_LENGTH: u64 = 512;
/// Nothing depends on how long a text is; what is said is the most that a file may say.
const CONTEXT: u32 = 1 << 24;
/// The most bytes of a table that is made.
const MAX_BYTES: usize = 4 << 30;

/// Whether Model2Vec has written it; sentence-transformers writes no configuration.
fn is_its_own(config: &Object) -> bool {
    !config.map.is_empty()
}

/// Sets how long texts may be, and whether vectors have length 1.
pub(super) fn write(config: &Object, outline: &mut Outline) -> Result<(), Error> {
    outline.set(&format!("{KIND}.context_length"), Value::U32(CONTEXT));
    let normalise = config.flag("normalize")?.unwrap_or(false);
    outline.set("ingle.normalise", Value::Bool(normalise));
    let unbounded = config.map.get("max_length").is_some_and(serde_json::Value::is_null);
    if is_its_own(config) && !unbounded {
        let most = config.uint("max_length")?.unwrap_or(USUAL_LENGTH);
        let most = most.clamp(1, CONTEXT.into()) as u32;
        outline.set("ingle.max_tokens", Value::U32(most));
    }
    Ok(())
}

/// Sets which token is left out of texts, and how long the vocabulary's are.
pub(super) fn write_words(
    config: &Object,
    unknown: Option<Token>,
    texts: &BTreeSet<&str>,
    outline: &mut Outline,
) {
    if !is_its_own(config) {
        return;
    }
    if let Some(id) = unknown {
        outline.set("ingle.dropped_token", Value::U32(id));
    }
    let lengths = texts.iter().map(|text| text.chars().count()).collect();
    outline.set("ingle.token_chars", Value::U32(median(lengths) as u32));
}

/// The middle one, or half of the sum of the middle two, rounded down; 0 of none.
fn median(mut lengths: Vec<usize>) -> usize {
    lengths.sort_unstable();
    match lengths.len() {
        0 => 0,
        n if n % 2 == 1 => lengths[n / 2],
        n => (lengths[n / 2 - 1] + lengths[n / 2]) / 2,
    }
}

/// The table.
pub(super) fn read(base: &Path) -> Result<Vec<(Planned, Held)>, Error> {
    const KNOWN: &[&str] = &["embeddings", "embedding.weight", "weights", "mapping"];
    let Some(tensors) = safetensors::open_set(base, weights::STEM)? else {
        return Err(weights::lacking(base));
    };
    if let Some(other) = tensors.keys().find(|name| !KNOWN.contains(&name.as_str())) {
        return Err(Error::Unsupported(format!("tensor {other} is not known of `{KIND}`")));
    }
    let table = KNOWN[..2].iter().find_map(|name| tensors.get(*name));
    let table = table.ok_or_else(|| Error::Missing("the tensor `embeddings`".to_owned()))?;
    Ok(vec![made("token_embd.weight".to_owned(), table, &tensors)?])
}

fn made(name: String, table: &Stored, tensors: &Tensors) -> Result<(Planned, Held), Error> {
    let &[rows, cols] = &table.shape[..] else {
        return Err(wrong("embeddings", table, "a matrix is needed"));
    };
    let mapping = tensors.get("mapping").map(|stored| mapping(stored, rows)).transpose()?;
    let count = mapping.as_ref().map_or(rows, |mapping| mapping.len());
    let weights = tensors.get("weights").map(|stored| weighing(stored, count)).transpose()?;
    if table.format.is_some() && mapping.is_none() && weights.is_none() {
        return super::weights::as_it_is(name, table);
    }
    let read = numbers(table)?;
    // Whole numbers of 8 bits have a place in each of these.
    let small = table.kind == "I8" && weights.is_none();
    let format = if small { Format::BF16 } else { Format::F32 };
    let length = count.checked_mul(cols).and_then(|n| n.checked_mul(format.block_bytes()));
    let length = length.filter(|length| *length <= MAX_BYTES).ok_or_else(|| {
        wrong("embeddings", table, &format!("a table of {count} rows has too many bytes"))
    })?;
    let row_bytes = table.bytes.len() / rows.max(1);
    let make = move |parts: &[Bytes]| {
        let (mut made, mut row) = (Vec::with_capacity(length), vec![0.0; cols]);
        for token in 0..count {
            let from = mapping.as_ref().map_or(token, |mapping| mapping[token] as usize);
            read(&parts[0][from * row_bytes..(from + 1) * row_bytes], &mut row);
            let by = weights.as_ref().map_or(1.0, |weights| weights[token]);
            let bytes = row.iter().map(|x| (x * by).to_le_bytes());
            bytes
                .for_each(|bytes| made.extend_from_slice(if small { &bytes[2..] } else { &bytes }));
        }
        made
    };
    let planned = Planned { name, shape: vec![cols as u64, count as u64], format };
    Ok((planned, Held::made_of(vec![table.bytes.clone()], length, make)))
}

/// Which row each token has.
fn mapping(stored: &Stored, rows: usize) -> Result<Arc<[u32]>, Error> {
    let size = match stored.kind.as_str() {
        "I64" | "U64" => 8,
        "I32" | "U32" => 4,
        _ => return Err(wrong("mapping", stored, "whole numbers are needed")),
    };
    let row = |bytes: &[u8]| {
        let mut whole = [0; 8];
        whole[..size].copy_from_slice(bytes);
        u32::try_from(u64::from_le_bytes(whole)).ok().filter(|row| (*row as usize) < rows)
    };
    let found: Option<Arc<[u32]>> = stored.bytes.chunks_exact(size).map(row).collect();
    found.ok_or_else(|| wrong("mapping", stored, &format!("of rows there are {rows}")))
}

/// What each token's vector is multiplied by.
fn weighing(stored: &Stored, count: usize) -> Result<Arc<[f32]>, Error> {
    if stored.shape[..] != [count] {
        return Err(wrong("weights", stored, &format!("one for each of {count} tokens is needed")));
    }
    let mut numbers_of = vec![0.0; count];
    numbers(stored)?(&stored.bytes, &mut numbers_of);
    Ok(numbers_of.into())
}

/// Reads numbers, as they are stored.
type Read = Box<dyn Fn(&[u8], &mut [f32]) + Send + Sync>;

fn numbers(stored: &Stored) -> Result<Read, Error> {
    match (stored.format, stored.kind.as_str()) {
        (Some(format), _) => Ok(Box::new(move |bytes, to| format.unpack(bytes, to))),
        (None, "I8") => Ok(Box::new(|bytes, to| {
            to.iter_mut().zip(bytes).for_each(|(to, byte)| *to = f32::from(*byte as i8));
        })),
        (None, "F64") => Ok(Box::new(|bytes, to| {
            let numbers = bytes.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes) as f32);
            to.iter_mut().zip(numbers).for_each(|(to, number)| *to = number);
        })),
        (None, kind) => Err(wrong("embeddings", stored, &format!("{kind} is not supported"))),
    }
}

fn wrong(name: &str, stored: &Stored, why: &str) -> Error {
    Error::Unsupported(format!("tensor {name} has the shape {:?}: {why}", stored.shape))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(kind: &str, format: Option<Format>, shape: &[usize], bytes: Vec<u8>) -> Stored {
        Stored { shape: shape.to_vec(), kind: kind.to_owned(), format, bytes: Bytes::from(bytes) }
    }

    fn floats(shape: &[usize], all: &[f32]) -> Stored {
        let bytes = all.iter().flat_map(|x| x.to_le_bytes()).collect();
        stored("F32", Some(Format::F32), shape, bytes)
    }

    #[test]
    fn the_middle_length_is_found() {
        for (lengths, expect) in
            [(vec![], 0), (vec![7], 7), (vec![9, 1], 5), (vec![3, 1, 2], 2), (vec![4, 1, 9, 5], 4)]
        {
            assert_eq!(median(lengths.clone()), expect, "{lengths:?}");
        }
    }

    #[test]
    fn a_table_has_a_row_for_each_token() {
        let check = |table: Stored, others: Vec<(&str, Stored)>, expect: Result<&[f32], &str>| {
            let others = others.into_iter().map(|(name, stored)| (name.to_owned(), stored));
            let made = made("t".to_owned(), &table, &others.collect());
            let made = made.map(|(planned, held)| {
                let mut outline = Outline::default();
                let format = planned.format;
                outline.set("general.architecture", Value::Str(KIND.to_owned()));
                outline.push(planned);
                let file = crate::gguf::Gguf::assemble(&outline, vec![held]).expect("sound");
                let tensor = file.tensor("t").expect("is there");
                let mut found = vec![0.0; tensor.rows * tensor.cols];
                format.unpack(&tensor.bytes, &mut found);
                found
            });
            match (made, expect) {
                (Ok(made), Ok(expect)) => assert_eq!(made, expect),
                (Err(error), Err(words)) => {
                    assert!(error.to_string().contains(words), "{error}");
                }
                (made, expect) => panic!("{made:?}, not {expect:?}"),
            }
        };
        let two = || floats(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
        let to = |rows: &[i64]| {
            let bytes = rows.iter().flat_map(|row| row.to_le_bytes()).collect();
            stored("I64", None, &[rows.len()], bytes)
        };
        let by = |all: &[f64]| {
            stored("F64", None, &[all.len()], all.iter().flat_map(|x| x.to_le_bytes()).collect())
        };
        check(two(), vec![], Ok(&[1.0, 2.0, 3.0, 4.0]));
        check(two(), vec![("weights", by(&[2.0, -1.0]))], Ok(&[2.0, 4.0, -3.0, -4.0]));
        let both = vec![("mapping", to(&[1, 1, 0])), ("weights", by(&[1.0, 0.5, 2.0]))];
        check(two(), both, Ok(&[3.0, 4.0, 1.5, 2.0, 2.0, 4.0]));
        let small = stored("I8", None, &[2, 2], vec![127, 0x81, 0, 5]);
        check(small, vec![("mapping", to(&[0, 1]))], Ok(&[127.0, -127.0, 0.0, 5.0]));
        check(two(), vec![("mapping", to(&[2]))], Err("of rows there are 2"));
        check(two(), vec![("mapping", to(&[-1]))], Err("of rows there are 2"));
        check(two(), vec![("weights", by(&[1.0]))], Err("one for each of 2 tokens"));
        check(stored("I16", None, &[1, 1], vec![0, 0]), vec![], Err("I16 is not supported"));
        let wide = floats(&[1, 1 << 16], &vec![0.0; 1 << 16]);
        check(wide, vec![("mapping", to(&vec![0; 1 << 15]))], Err("too many bytes"));
    }
}
