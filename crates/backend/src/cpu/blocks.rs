//! Whole KV blocks as bytes: layer after layer, as they lie in memory. They mean something only to
//! the kernels, the type of the cache and the graph that made them.

use super::Cpu;

impl Cpu {
    /// Bytes of one block over all layers.
    pub(super) fn bytes_of_block(&self) -> usize {
        self.caches.iter().map(super::LayerCache::block_bytes).sum()
    }

    /// Appends a block's bytes.
    pub(super) fn save_block(&self, block: u32, out: &mut Vec<u8>) {
        self.caches.iter().for_each(|cache| out.extend_from_slice(cache.block(block)));
    }

    /// Overwrites a block.
    pub(super) fn restore_block(&mut self, block: u32, mut from: &[u8]) {
        assert_eq!(from.len(), self.bytes_of_block(), "another model's block; this is a bug");
        for cache in &mut self.caches {
            let to = cache.block_mut(block);
            let (own, rest) = from.split_at(to.len());
            to.copy_from_slice(own);
            from = rest;
        }
    }
}
