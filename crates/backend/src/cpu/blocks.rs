//! Whole KV blocks as bytes: layer after layer, keys and then values, as they lie in memory. They
//! mean something only to the kernels and the graph that made them.

use super::{Cpu, LayerCache};
use crate::BLOCK_TOKENS;
use std::ops::Range;

/// What any bytes of the right number are.
trait Plain: Copy {}
impl Plain for f32 {}

fn bytes<T: Plain>(items: &[T]) -> &[u8] {
    // SAFETY: plain numbers, without padding, as many bytes as they have.
    unsafe { std::slice::from_raw_parts(items.as_ptr().cast(), size_of_val(items)) }
}

fn bytes_mut<T: Plain>(items: &mut [T]) -> &mut [u8] {
    // SAFETY: as above; every value of the bytes is a number.
    unsafe { std::slice::from_raw_parts_mut(items.as_mut_ptr().cast(), size_of_val(items)) }
}

impl LayerCache {
    /// Where a block lies among the keys, and among the values.
    fn block(&self, block: u32) -> Range<usize> {
        let floats = BLOCK_TOKENS * self.heads * self.dim;
        block as usize * floats..(block as usize + 1) * floats
    }
}

impl Cpu {
    /// Bytes of one block over all layers.
    pub(super) fn bytes_of_block(&self) -> usize {
        let layer = |cache: &LayerCache| 2 * cache.block(0).len() * size_of::<f32>();
        self.caches.iter().map(layer).sum()
    }

    /// Appends a block's bytes.
    pub(super) fn save_block(&self, block: u32, out: &mut Vec<u8>) {
        for cache in &self.caches {
            for part in [&cache.keys, &cache.values] {
                out.extend_from_slice(bytes(&part[cache.block(block)]));
            }
        }
    }

    /// Overwrites a block.
    pub(super) fn restore_block(&mut self, block: u32, mut from: &[u8]) {
        assert_eq!(from.len(), self.bytes_of_block(), "another model's block; this is a bug");
        for cache in &mut self.caches {
            let range = cache.block(block);
            for part in [&mut cache.keys, &mut cache.values] {
                let to = bytes_mut(&mut part[range.clone()]);
                let (own, rest) = from.split_at(to.len());
                to.copy_from_slice(own);
                from = rest;
            }
        }
    }
}
