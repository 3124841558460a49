//! One layer's keys and values in memory: `[block][kv head][keys, values]`. Such a piece holds 16
//! positions in groups of 32 dimensions (the last may have fewer): a group is the positions'
//! scales, if the type has any, and then keys as `[dimension][16 positions]`, so that a vector
//! scores 16 of them, or values as `[16 positions][dimension]`, so that a vector adds up. No kernel
//! is here, and nothing of which sequence owns a block.

use crate::{BLOCK_TOKENS, KV_GROUP, KvType, Refusal};
use memmap2::MmapMut;
use std::ops::Range;

/// A cache line: where pieces begin.
const LINE: usize = 64;
/// Bytes that kernels may read, and drop, beyond the last value.
const BEYOND: usize = 64;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Keys,
    Values,
}

/// Where things stand in a piece.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    pub(crate) kv: KvType,
    pub(crate) dim: usize,
}

impl Piece {
    /// Bytes of a value.
    pub(crate) const fn size(self) -> usize {
        match self.kv {
            KvType::F16 => 2,
            KvType::Q8_0 => 1,
            KvType::F32 => 4,
        }
    }

    /// Bytes of a group's scales: 16 halves.
    pub(crate) const fn scales(self) -> usize {
        match self.kv {
            KvType::Q8_0 => 2 * BLOCK_TOKENS,
            KvType::F16 | KvType::F32 => 0,
        }
    }

    /// The byte at which a group begins.
    pub(crate) const fn group(self, group: usize) -> usize {
        group * (self.scales() + KV_GROUP * BLOCK_TOKENS * self.size())
    }

    /// Dimensions of a group.
    pub(crate) fn width(self, group: usize) -> usize {
        KV_GROUP.min(self.dim - group * KV_GROUP)
    }

    /// The byte at which a value stands.
    pub(crate) fn at(self, side: Side, slot: usize, d: usize) -> usize {
        let (group, d) = (d / KV_GROUP, d % KV_GROUP);
        let place = match side {
            Side::Keys => d * BLOCK_TOKENS + slot,
            Side::Values => slot * self.width(group) + d,
        };
        self.group(group) + self.scales() + place * self.size()
    }

    /// Bytes of 16 positions' keys, or values, of one head.
    pub(crate) const fn bytes(self) -> usize {
        (BLOCK_TOKENS * self.kv.head_bytes(self.dim)).next_multiple_of(LINE)
    }
}

/// One layer's paged keys and values.
#[derive(Debug)]
pub(super) struct LayerCache {
    pub(super) heads: usize,
    pub(super) piece: Piece,
    /// The system's own pages, not the allocator's: those may have to be zeroed, so touched.
    memory: Option<MmapMut>,
}

impl LayerCache {
    pub(super) const fn new(kv: KvType, heads: usize, dim: usize) -> Self {
        Self { heads, piece: Piece { kv, dim }, memory: None }
    }

    /// Bytes of one block.
    pub(super) const fn block_bytes(&self) -> usize {
        2 * self.heads * self.piece.bytes()
    }

    /// Takes memory for so many blocks. It is the system's zeroes until it is written, block by
    /// block.
    pub(super) fn allot(&mut self, blocks: usize) -> Result<(), Refusal> {
        let bytes = blocks.saturating_mul(self.block_bytes());
        let bytes = bytes.saturating_add(LINE + BEYOND);
        let memory = MmapMut::map_anon(bytes).map_err(|_| Refusal::OutOfMemory { bytes })?;
        self.memory = Some(memory);
        Ok(())
    }

    /// Where the blocks begin, and how many bytes they have together.
    pub(super) fn blocks(&mut self) -> (*mut u8, usize) {
        let skip = self.skip();
        let memory = self.memory.as_deref_mut().unwrap_or_default();
        let bytes = memory.len().saturating_sub(LINE + BEYOND);
        (memory.as_mut_ptr().wrapping_add(skip), bytes)
    }

    /// One block's bytes.
    pub(super) fn block(&self, block: u32) -> &[u8] {
        &self.memory.as_deref().unwrap_or_default()[self.range(block)]
    }

    /// The same, to be overwritten.
    pub(super) fn block_mut(&mut self, block: u32) -> &mut [u8] {
        let range = self.range(block);
        &mut self.memory.as_deref_mut().unwrap_or_default()[range]
    }

    fn range(&self, block: u32) -> Range<usize> {
        let start = self.skip() + block as usize * self.block_bytes();
        start..start + self.block_bytes()
    }

    /// Bytes before the first block.
    fn skip(&self) -> usize {
        let start = self.memory.as_deref().map_or(0, |memory| memory.as_ptr().addr());
        start.next_multiple_of(LINE) - start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_bytes_of_its_own() {
        for (&kv, dim) in KvType::ALL.iter().flat_map(|kv| [4, 32, 64, 80].map(|dim| (kv, dim))) {
            let piece = Piece { kv, dim };
            for side in [Side::Keys, Side::Values] {
                let mut taken = vec![0; piece.bytes()];
                for group in 0..dim.div_ceil(KV_GROUP) {
                    taken[piece.group(group)..][..piece.scales()].iter_mut().for_each(|n| *n += 1);
                }
                for (slot, d) in (0..BLOCK_TOKENS).flat_map(|slot| (0..dim).map(move |d| (slot, d)))
                {
                    let at = piece.at(side, slot, d);
                    taken[at..at + piece.size()].iter_mut().for_each(|n| *n += 1);
                }
                let used: usize = taken.iter().sum();
                assert_eq!(used, BLOCK_TOKENS * kv.head_bytes(dim), "{kv:?} {dim}");
                assert!(taken.iter().all(|n| *n <= 1), "{kv:?} {dim}: two values in one place");
            }
        }
    }

    #[test]
    fn blocks_begin_at_a_line() {
        let mut cache = LayerCache::new(KvType::Q8_0, 3, 32);
        cache.allot(5).expect("memory");
        let (first, bytes) = cache.blocks();
        assert_eq!((first.addr() % LINE, bytes % LINE, bytes), (0, 0, 5 * 2 * 3 * 576));
    }
}
