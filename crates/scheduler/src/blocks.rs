//! The KV cache as numbered blocks: shared by count, and kept after use until their room is needed.
//!
//! A full block is known by the chain of blocks before it and by its own tokens. A chain's number
//! is never used twice, so a lookup is exact: no digest to collide, nothing to compare afterwards.
//! Whoever holds a published block holds all of its prefix, and lets go of the prefix last; so the
//! least recently used block is never one that another published block continues.
//!
//! Absent here: sequences, budgets, and the keys and values themselves.

use crate::Token;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One block of the KV cache: `Limits::block_tokens` slots, numbered `0..Limits::blocks`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(pub u32);

impl BlockId {
    fn at(self) -> usize {
        self.0 as usize
    }
}

/// Names one particular prefix of full blocks, for as long as its last block is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Chain(u64);

impl Chain {
    /// The empty prefix.
    pub(crate) const ROOT: Self = Self(0);
}

/// What a block is found by: its prefix's chain in two words, then its tokens.
type Key = Arc<[u32]>;

fn key(Chain(prefix): Chain, tokens: &[Token]) -> Key {
    [prefix as u32, (prefix >> 32) as u32].into_iter().chain(tokens.iter().copied()).collect()
}

#[derive(Debug, Default)]
struct Block {
    users: usize,
    published: Option<Published>,
}

#[derive(Debug)]
struct Published {
    key: Key,
    prefix: Chain,
    /// The prefix that ends with this block.
    chain: Chain,
    /// When its last user let go of it; its place in `idle` while it has none.
    released: u64,
}

#[derive(Debug)]
pub(crate) struct BlockPool {
    block_tokens: usize,
    blocks: Vec<Block>,
    /// Blocks without users or content.
    empty: Vec<BlockId>,
    /// Published blocks without users, least recently used first.
    idle: BTreeMap<u64, BlockId>,
    by_key: BTreeMap<Key, BlockId>,
    next_chain: u64,
    next_release: u64,
}

impl BlockPool {
    pub(crate) fn new(blocks: usize, block_tokens: usize) -> Self {
        let count = u32::try_from(blocks).expect("a block's number has 32 bits");
        Self {
            block_tokens,
            blocks: (0..blocks).map(|_| Block::default()).collect(),
            empty: (0..count).rev().map(BlockId).collect(),
            idle: BTreeMap::new(),
            by_key: BTreeMap::new(),
            next_chain: Chain::ROOT.0 + 1,
            next_release: 0,
        }
    }

    /// Blocks that nobody holds.
    pub(crate) fn available(&self) -> usize {
        self.empty.len() + self.idle.len()
    }

    /// Those of them that could still be found.
    pub(crate) fn idle(&self) -> usize {
        self.idle.len()
    }

    /// Takes `count` blocks for writing, of those `available`: empty ones first, then those that
    /// were published and have lain unused for longest.
    pub(crate) fn take(&mut self, count: usize) -> impl Iterator<Item = BlockId> {
        (0..count).map(|_| self.take_one())
    }

    fn take_one(&mut self) -> BlockId {
        let id = self.empty.pop().unwrap_or_else(|| {
            let (_, id) = self.idle.pop_first().expect("counted by `available`");
            let old = self.blocks[id.at()].published.take().expect("an idle block is published");
            self.by_key.remove(&old.key);
            id
        });
        self.blocks[id.at()].users = 1;
        id
    }

    /// The published blocks that hold the longest part of `tokens`, whose prefix is `chain`.
    pub(crate) fn find(&self, mut chain: Chain, tokens: &[Token]) -> Vec<BlockId> {
        let mut found = Vec::new();
        for part in tokens.chunks_exact(self.block_tokens) {
            let Some(&id) = self.by_key.get(&key(chain, part)) else { break };
            chain = self.chain_of(id);
            found.push(id);
        }
        found
    }

    /// How many of these published blocks nobody holds.
    pub(crate) fn idle_among(&self, found: &[BlockId]) -> usize {
        found.iter().filter(|id| self.blocks[id.at()].users == 0).count()
    }

    /// The prefix that ends with a published block.
    pub(crate) fn chain_of(&self, id: BlockId) -> Chain {
        self.blocks[id.at()].published.as_ref().expect("published blocks only").chain
    }

    /// Adds a user to published blocks.
    pub(crate) fn hold(&mut self, found: &[BlockId]) {
        for id in found {
            let block = &mut self.blocks[id.at()];
            let published = block.published.as_ref().expect("published blocks only");
            if block.users == 0 {
                self.idle.remove(&published.released);
            }
            block.users += 1;
        }
    }

    /// Makes a computed full block findable. The first to publish wins: where a twin is already
    /// published, the caller's own block is released and it becomes a user of the twin. Returns
    /// the block to go on with.
    pub(crate) fn publish(&mut self, prefix: Chain, tokens: &[Token], own: BlockId) -> BlockId {
        let key = key(prefix, tokens);
        if let Some(&twin) = self.by_key.get(&key) {
            self.hold(&[twin]);
            self.release(vec![own]);
            return twin;
        }
        let chain = Chain(self.next_chain);
        self.next_chain += 1;
        self.by_key.insert(Arc::clone(&key), own);
        self.blocks[own.at()].published = Some(Published { key, prefix, chain, released: 0 });
        own
    }

    /// Gives blocks back, last first, so that a prefix outlives its continuations.
    pub(crate) fn release(&mut self, blocks: Vec<BlockId>) {
        for id in blocks.into_iter().rev() {
            let block = &mut self.blocks[id.at()];
            block.users = block.users.checked_sub(1).expect("released twice; this is a bug");
            if block.users > 0 {
                continue;
            }
            match &mut block.published {
                None => self.empty.push(id),
                Some(published) => {
                    published.released = self.next_release;
                    self.idle.insert(self.next_release, id);
                    self.next_release += 1;
                }
            }
        }
    }

    /// The pool's invariants, given every block that a sequence holds, once per holder.
    pub(crate) fn check<'a>(&self, held: impl Iterator<Item = &'a BlockId>) {
        let mut users = vec![0; self.blocks.len()];
        held.for_each(|id| users[id.at()] += 1);
        assert!(self.blocks.iter().map(|block| block.users).eq(users), "users are the holders");
        let unused = self.blocks.iter().filter(|block| block.users == 0).count();
        assert_eq!(self.available(), unused, "an unused block is available");
        for id in &self.empty {
            let block = &self.blocks[id.at()];
            assert!(block.users == 0 && block.published.is_none(), "an empty block is empty");
        }
        for (release, id) in &self.idle {
            let Block { users, published } = &self.blocks[id.at()];
            let released = published.as_ref().map(|published| published.released);
            assert!(*users == 0 && released == Some(*release), "an idle block is idle");
        }
        self.check_published();
    }

    /// A published block is found by its key alone, and its prefix is published too, held as
    /// often, and would be evicted later.
    fn check_published(&self) {
        let published =
            self.blocks.iter().filter_map(|block| Some((block.published.as_ref()?, block)));
        let by_chain: BTreeMap<_, _> = published.map(|both| (both.0.chain, both)).collect();
        assert_eq!(by_chain.len(), self.by_key.len(), "a chain and a key belong to one block");
        for (chain, (published, block)) in &by_chain {
            let found = self.by_key.get(&published.key).map(|id| &self.blocks[id.at()]);
            assert!(found.is_some_and(|found| std::ptr::eq(found, *block)), "found by its key");
            assert!(published.prefix < *chain && chain.0 < self.next_chain, "chains ascend");
            if published.prefix == Chain::ROOT {
                continue;
            }
            let (name, before) =
                by_chain.get(&published.prefix).expect("a prefix outlives its ends");
            assert!(before.users >= block.users, "who holds a block holds its prefix");
            assert!(before.users > 0 || name.released > published.released, "prefixes go last");
        }
    }
}
