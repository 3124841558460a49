//! The KV cache as numbered blocks: shared by count, and kept after use until their room is needed.
//!
//! A full block is known by the chain of blocks before it and by its own tokens. A chain's number
//! is never used twice, so a lookup is exact: no digest to collide, nothing to compare afterwards.
//! Chains begin at a root, of which each salt has its own, so that nothing is found across salts.
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

/// Parts those who may not find each other's prefixes: a number below 2⁶³, which its giver never
/// gives to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Salt(pub u64);

/// A published block that nobody was told of yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fresh {
    /// Valid until the next plan.
    pub block: BlockId,
    /// By whom it is found.
    pub salt: Salt,
    /// The prefix that it ends.
    pub tokens: Vec<Token>,
}

/// Names one particular prefix of full blocks, for as long as its last block is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Chain(u64);

impl Chain {
    /// Lower ones are roots.
    const FIRST: Self = Self(1 << 63);

    /// The empty prefix of a salt.
    pub(crate) fn root(salt: Salt) -> Self {
        assert!(salt.0 < Self::FIRST.0, "a salt is below 2^63");
        Self(salt.0)
    }
}

/// What a block is found by: its prefix's chain in two words, then its tokens.
pub(crate) type Key = Arc<[u32]>;

pub(crate) fn key(Chain(prefix): Chain, tokens: &[Token]) -> Key {
    [prefix as u32, (prefix >> 32) as u32].into_iter().chain(tokens.iter().copied()).collect()
}

/// A prefix of published blocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prefix {
    pub(crate) chain: Chain,
    /// Its last block; none of the empty one.
    pub(crate) last: Option<BlockId>,
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
    /// The last block of that prefix, which stays published as long as this one.
    parent: Option<BlockId>,
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
    /// Published blocks that were computed here and not handed out by `fresh`, oldest first.
    fresh: BTreeMap<Chain, BlockId>,
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
            fresh: BTreeMap::new(),
            next_chain: Chain::FIRST.0,
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
            self.fresh.remove(&old.chain);
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
    pub(crate) fn publish(&mut self, prefix: Prefix, tokens: &[Token], own: BlockId) -> BlockId {
        if let Some(&twin) = self.by_key.get(&key(prefix.chain, tokens)) {
            self.hold(&[twin]);
            self.release(vec![own]);
            return twin;
        }
        self.enter(prefix, tokens, own);
        self.fresh.insert(self.chain_of(own), own);
        own
    }

    fn enter(&mut self, prefix: Prefix, tokens: &[Token], own: BlockId) {
        let Prefix { chain: prefix, last: parent } = prefix;
        let (key, chain) = (key(prefix, tokens), Chain(self.next_chain));
        self.next_chain += 1;
        self.by_key.insert(Arc::clone(&key), own);
        self.blocks[own.at()].published =
            Some(Published { key, prefix, parent, chain, released: 0 });
    }

    /// Publishes blocks for the part of `tokens`, all of whole blocks, that is not published, as
    /// far as there are blocks that nobody holds, none of the part before taken for it. Returns
    /// which of the prefix's blocks is to be filled where: none where less than `known` blocks are
    /// there.
    pub(crate) fn adopt(
        &mut self,
        root: Chain,
        tokens: &[Token],
        known: usize,
    ) -> Vec<(usize, BlockId)> {
        let mut held = self.find(root, tokens);
        if held.len() < known {
            return Vec::new();
        }
        self.hold(&held);
        let first = held.len();
        for part in tokens.chunks_exact(self.block_tokens).skip(first).take(self.available()) {
            let prefix = self.prefix(root, &held);
            let own = self.take_one();
            self.enter(prefix, part, own);
            held.push(own);
        }
        let adopted = (first..).zip(held[first..].iter().copied()).collect();
        self.release(held);
        adopted
    }

    /// The prefix that ends with the last of these published blocks, or the empty one.
    pub(crate) fn prefix(&self, root: Chain, blocks: &[BlockId]) -> Prefix {
        let last = blocks.last().copied();
        Prefix { chain: last.map_or(root, |last| self.chain_of(last)), last }
    }

    /// The oldest published block that was computed here and is not yet handed out by this.
    pub(crate) fn fresh(&mut self) -> Option<Fresh> {
        let (_, block) = self.fresh.pop_first()?;
        let (mut parts, mut at, mut salt) = (Vec::new(), Some(block), Salt::default());
        while let Some(id) = at {
            let published = self.blocks[id.at()].published.as_ref().expect("prefixes outlive");
            parts.push(&published.key[2..]);
            (at, salt) = (published.parent, Salt(published.prefix.0));
        }
        parts.reverse();
        Some(Fresh { block, salt, tokens: parts.concat() })
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
        let unheard = self.fresh.iter().all(|(chain, id)| {
            by_chain.get(chain).is_some_and(|both| std::ptr::eq(both.1, &self.blocks[id.at()]))
        });
        assert!(unheard, "what is fresh is published");
        for (chain, (published, block)) in &by_chain {
            let found = self.by_key.get(&published.key).map(|id| &self.blocks[id.at()]);
            assert!(found.is_some_and(|found| std::ptr::eq(found, *block)), "found by its key");
            assert!(published.prefix < *chain && chain.0 < self.next_chain, "chains ascend");
            let parent = published.parent.and_then(|id| self.blocks[id.at()].published.as_ref());
            let named = parent.map(|parent| parent.chain);
            assert_eq!(named, Some(published.prefix).filter(|&c| c >= Chain::FIRST), "its parent");
            if published.prefix < Chain::FIRST {
                continue;
            }
            let (name, before) =
                by_chain.get(&published.prefix).expect("a prefix outlives its ends");
            assert!(before.users >= block.users, "who holds a block holds its prefix");
            assert!(before.users > 0 || name.released > published.released, "prefixes go last");
        }
    }
}
