//! Adapters as llama.cpp's `convert_lora_to_gguf.py` writes them: a GGUF file whose tensors are
//! named after those they are added to, `NAME.weight.lora_a` and `.lora_b`. Rows of heads are in
//! the order of GGUF files already. The scale is llama.cpp's: alpha over the rank, or 1 where there
//! is none.

use super::{Part, Stored, refused};
use crate::Error;
use crate::gguf::{Gguf, Tensor, optional};
use std::collections::BTreeMap;
use std::path::Path;

/// What a file adds, and the architecture of the model that it is for.
pub(super) fn open(path: &Path) -> Result<(Vec<Part>, String), Error> {
    let file = Gguf::open(path)?;
    for (key, expect) in [("general.type", "adapter"), ("adapter.type", "lora")] {
        let found = optional(file.str(key))?.unwrap_or_default();
        if found != expect {
            return Err(refused(format!("its {key} is {found:?}, not {expect:?}")));
        }
    }
    if let Some((key, _)) = file.metadata().find(|(key, _)| key.starts_with("adapter.alora.")) {
        return Err(refused(format!("it wakes only after some tokens ({key})")));
    }
    let alpha = optional(file.float("adapter.lora.alpha"))?.unwrap_or(0.0);
    let mut pairs = BTreeMap::<&str, [Option<Tensor>; 2]>::new();
    for info in file.tensors() {
        let which = [".weight.lora_a", ".weight.lora_b"];
        let found =
            which.iter().zip(0..).find_map(|(end, at)| Some((info.name.strip_suffix(end)?, at)));
        let Some((name, at)) = found else {
            return Err(refused(format!("its tensor {} is no part of such a pair", info.name)));
        };
        if info.shape.len() > 2 {
            return Err(refused(format!("its tensor {} has more than two dimensions", info.name)));
        }
        pairs.entry(name).or_default()[at] = Some(file.tensor(&info.name)?);
    }
    let part = |(name, pair): (&str, [Option<Tensor>; 2])| {
        let [Some(a), Some(b)] = pair else {
            return Err(refused(format!("for {name} it has one of two matrices")));
        };
        let scale = if alpha == 0.0 { 1.0 } else { alpha / a.rows as f64 };
        Part { name: name.to_owned(), a: stored(a), b: stored(b), scale }.checked()
    };
    let parts: Result<_, _> = pairs.into_iter().map(part).collect();
    Ok((parts?, file.arch().to_owned()))
}

fn stored(tensor: Tensor) -> Stored {
    let Tensor { format, cols, rows, bytes } = tensor;
    Stored { format, rows, cols, bytes }
}
