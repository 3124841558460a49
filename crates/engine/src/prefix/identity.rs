//! What a cached block depends on, in 32 bytes. Blocks of another identity are not found.
//!
//! Keys and values are the same bits wherever the weights, the hyperparameters and the arithmetic
//! are. So the identity is made of the model file's head (metadata and table of tensors), its size,
//! its time of change, and the first and last 4 kB of each tensor; of the program's version, size
//! and time of change; and of the keys and values of one block of fixed tokens, computed when the
//! cache is opened, in which every layer, every kernel and the layout of a block have a part.
//! Kernels that compute the same bits share a cache, and others do not; threads do not matter.
//!
//! What is not noticed: a weight that was changed in the middle of a tensor, too little or in the
//! wrong row to be seen in that block, in a file of the same size whose time was set back; whoever
//! can do that can write into the cache, too.

use super::file::Identity;
use ingle_model::gguf::Gguf;
use sha2::{Digest, Sha256};
use std::path::Path;
use std::time::UNIX_EPOCH;

/// Bytes of each tensor's ends that are read.
const SAMPLE: usize = 4096;

/// The identity of a model file and of this program; the arithmetic is yet to be told of.
pub(crate) fn model_identity(gguf: &Gguf, path: &Path) -> Sha256 {
    let mut hash = Sha256::new();
    hash.update(env!("CARGO_PKG_VERSION"));
    let program = std::env::current_exe().ok();
    for path in [program.as_deref(), Some(path)] {
        hash.update(stamp(path));
    }
    hash.update((gguf.head().len() as u64).to_le_bytes());
    hash.update(gguf.head());
    for weights in gguf.stored() {
        let sample = weights.len().min(SAMPLE);
        hash.update(&weights[..sample]);
        hash.update(&weights[weights.len() - sample..]);
    }
    hash
}

/// A file's size and time of change; zeros where they cannot be had.
fn stamp(path: Option<&Path>) -> [u8; 24] {
    let about = path.and_then(|path| std::fs::metadata(path).ok());
    let len = about.as_ref().map_or(0, std::fs::Metadata::len);
    let time = about.and_then(|about| about.modified().ok());
    let nanos = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let mut stamp = [0; 24];
    stamp[..8].copy_from_slice(&len.to_le_bytes());
    stamp[8..].copy_from_slice(&nanos.map_or(0, |nanos| nanos.as_nanos()).to_le_bytes());
    stamp
}

/// The identity, once a block of the fixed tokens was computed.
pub(crate) fn with_arithmetic(model: Sha256, block: &[u8]) -> Identity {
    model.chain_update(block).finalize().into()
}
