//! Decides what the model computes next. Pure: no clock, no IO, no threads, no randomness, no log.
//!
//! There is no prefill phase and no decode phase. A sequence has `tokens` and a count of those
//! already `computed`; each step lets it catch up, as far as the budget and the blocks allow.
//! Chunked prefill, prefix reuse and preemption are all the same rule applied to other numbers.
//!
//! Whoever is one token behind comes first in every step, so that no prompt stops an answer; those
//! who are further behind, and those who wait, share what is left by their turn: priority, then
//! fairness between owners, then age (see `fairness`). The caller says how many tokens that may be
//! beside answers, for it knows how long they take. Nobody is stopped for another's sake but where
//! memory runs out: then the last one admitted of the lowest priority makes room and waits again,
//! and what it had published is found again if it was not needed.
//!
//! A prompt that begins as another one does is computed once: who comes to a block that somebody
//! else of the same salt computes in this step waits for that, and finds it in the next.
//!
//! A sequence that has caught up may be computed beyond its last token, over tokens that somebody
//! drafted for it. They take what everyone else has left of the step and of the blocks, so that
//! they hold up nobody; what sampling makes of them is compared here, and KV of a token that did
//! not come true is never counted as computed.
//!
//! Absent here: text, sampling, devices, time, and where drafts come from.
#![forbid(unsafe_code)]

mod blocks;
mod fairness;

pub use blocks::{BlockId, Fresh, Salt};
use blocks::{BlockPool, Chain, Prefix};
use fairness::Fairness;
pub use fairness::Rank;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

/// One token's id in its model's vocabulary.
pub type Token = u32;

/// Names a sequence; a later one compares greater. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeqId(u64);

/// Everything is bounded, and the bounds are here. None may be 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Tokens whose keys and values one block holds.
    pub block_tokens: usize,
    /// Blocks of the KV cache.
    pub blocks: usize,
    /// The most positions computed in one step, all sequences together.
    pub step_tokens: usize,
    /// The most sequences that run at once. More than `step_tokens` has no effect, so that
    /// everyone who is one token behind has a place in the step.
    pub running: usize,
    /// The most sequences that wait, those aside that had to make room.
    pub waiting: usize,
}

/// What a prompt token weighs in an owner's account.
pub const PROMPT_WEIGHT: u64 = 1;
/// What a generated token weighs: it takes a step, where a prompt's tokens share one.
pub const OUTPUT_WEIGHT: u64 = 2;

/// Why a sequence was refused. Refusing at the door is what lets `plan` never fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// No token to compute, or none to generate.
    Empty,
    /// More blocks than there are, even if it ran alone.
    NeverFits {
        /// Blocks that the sequence would hold at its longest.
        blocks_needed: usize,
        /// Blocks that exist.
        blocks: usize,
    },
    /// As many wait as may; try again later.
    QueueFull,
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(
                f,
                "there is nothing to compute: give at least one token and ask for at least one"
            ),
            Self::NeverFits { blocks_needed, blocks } => write!(
                f,
                "prompt and answer need {blocks_needed} blocks of KV cache and there are {blocks}: \
                 shorten the prompt, ask for fewer tokens, or enlarge the cache"
            ),
            Self::QueueFull => write!(f, "the queue is full: try again later"),
        }
    }
}

impl std::error::Error for Reject {}

/// One sequence's share of one step: compute `positions`, finding its KV in `blocks`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Whose tokens.
    pub seq: SeqId,
    /// Which of its tokens, counted from the start of its prompt, then those of `draft`; never
    /// empty. Starts at 0 again after the sequence had to make room.
    pub positions: Range<usize>,
    /// Position `p` lies in slot `p % block_tokens` of `blocks[p / block_tokens]`; the last
    /// position of the chunk lies in the last block. Valid for this step only.
    pub blocks: Vec<BlockId>,
    /// True when the chunk reaches the last token, so its logits are sampled.
    pub sample: bool,
    /// Tokens that may come next, at the last of the positions. Each one's logits are sampled too,
    /// if it came true. Empty without `sample`.
    pub draft: Vec<Token>,
}

/// What sampling made of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The sequence goes on with this token.
    Continue(Token),
    /// The sequence is over; nothing is added to it.
    Stop,
}

/// How a sequence ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By [`Outcome::Stop`].
    Stopped,
    /// It has as many new tokens as `add` allowed it.
    Full,
}

/// How things stand, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sequences that were admitted and hold blocks.
    pub running: usize,
    /// Sequences that wait.
    pub waiting: usize,
    /// Blocks that running sequences hold.
    pub blocks_used: usize,
    /// Blocks that nobody holds and that could still be found as a prefix.
    pub blocks_cached: usize,
    /// How often a running sequence had to make room, ever.
    pub preemptions: u64,
}

/// Whose turn it may be in the next plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Sequences that are one token behind, who come first in every step.
    pub answers: usize,
    /// Those who are further behind, and those who wait, as far as so many more may run.
    pub prompts: usize,
}

#[derive(Debug)]
struct Seq {
    tokens: Vec<Token>,
    prompt: usize,
    rank: Rank,
    /// Leading tokens whose KV is in `blocks`.
    computed: usize,
    /// Tokens after those that the current step computes.
    planned: usize,
    /// Drafted tokens after those that it computes.
    drafted: usize,
    /// It ends with this many tokens.
    len_max: usize,
    /// Among whom its full blocks are published, and published ones used for it; `None` does
    /// neither.
    salt: Option<Salt>,
    blocks: Vec<BlockId>,
    /// The prefix that its full computed blocks are; stays at the root without a salt.
    chain: Chain,
    /// Leading tokens that were ever computed or found, even if their KV was lost since.
    seen: usize,
    /// How many of those were found rather than computed when they were first seen.
    cached: usize,
    /// The most positions that one step computes of it, beside drafts.
    step_max: usize,
}

impl Seq {
    /// Tokens that are neither computed nor planned.
    fn behind(&self) -> usize {
        self.tokens.len() - self.computed - self.planned
    }

    /// Where its chain begins.
    fn root(&self) -> Chain {
        Chain::root(self.salt.unwrap_or_default())
    }

    /// Published blocks that continue what is computed, always leaving one token to compute.
    fn findable(&self, pool: &BlockPool, block_tokens: usize) -> Vec<BlockId> {
        if self.salt.is_none() || self.computed != self.blocks.len() * block_tokens {
            return Vec::new();
        }
        pool.find(self.chain, &self.tokens[self.computed..self.tokens.len() - 1])
    }
}

/// All sequences and all blocks. Alternate [`plan`](Self::plan) and [`apply`](Self::apply).
#[derive(Debug)]
pub struct Scheduler {
    limits: Limits,
    pool: BlockPool,
    seqs: BTreeMap<SeqId, Seq>,
    /// Who waits, and what everyone's owner has had.
    fairness: Fairness,
    /// By priority, then as they were admitted, so the last one is the first to make room.
    running: Vec<SeqId>,
    /// For the next plan.
    drafts: BTreeMap<SeqId, Vec<Token>>,
    next: u64,
    preemptions: u64,
}

impl Scheduler {
    /// An empty scheduler.
    ///
    /// # Panics
    /// Where a limit is 0, or `blocks` is 2³² or more.
    pub fn new(limits: Limits) -> Self {
        let Limits { block_tokens, blocks, step_tokens, running, waiting } = limits;
        assert!(
            [block_tokens, blocks, step_tokens, running, waiting].iter().all(|&n| n > 0),
            "a limit is 0"
        );
        Self {
            limits: Limits { running: running.min(step_tokens), ..limits },
            pool: BlockPool::new(blocks, block_tokens),
            seqs: BTreeMap::new(),
            fairness: Fairness::default(),
            running: Vec::new(),
            drafts: BTreeMap::new(),
            next: 0,
            preemptions: 0,
        }
    }

    /// Lets a sequence wait for its turn. It ends after `new_max` sampled tokens at the latest.
    /// With a salt, it uses prefixes that others of that salt computed, and they use its own;
    /// without, every one of its positions is computed for it alone.
    ///
    /// # Errors
    /// See [`Reject`]; nothing has changed then.
    pub fn add(
        &mut self,
        prompt: Vec<Token>,
        new_max: usize,
        salt: Option<Salt>,
        rank: Rank,
    ) -> Result<SeqId, Reject> {
        if prompt.is_empty() || new_max == 0 {
            return Err(Reject::Empty);
        }
        let len_max = prompt.len().saturating_add(new_max);
        // The last token ends the sequence, so its KV is never computed.
        let blocks_needed = self.blocks_for(len_max - 1);
        if blocks_needed > self.limits.blocks {
            return Err(Reject::NeverFits { blocks_needed, blocks: self.limits.blocks });
        }
        if self.fairness.waiting() >= self.limits.waiting {
            return Err(Reject::QueueFull);
        }
        let id = SeqId(self.next);
        self.next += 1;
        let seq = Seq {
            prompt: prompt.len(),
            tokens: prompt,
            rank,
            computed: 0,
            planned: 0,
            drafted: 0,
            len_max,
            salt,
            blocks: Vec::new(),
            chain: Chain::root(salt.unwrap_or_default()),
            seen: 0,
            cached: 0,
            step_max: usize::MAX,
        };
        self.seqs.insert(id, seq);
        self.fairness.enter(rank, id);
        Ok(id)
    }

    /// Forgets a sequence; one that is already gone is no mistake.
    ///
    /// # Panics
    /// Between `plan` and `apply`, for a sequence of that step: the device still uses its blocks.
    pub fn cancel(&mut self, id: SeqId) {
        if self.seqs.get(&id).is_some_and(|seq| seq.planned > 0) {
            panic!("cancelled inside a step; this is a bug");
        }
        self.forget(id);
    }

    /// Lets one step compute at most so many (at least one) of a sequence's positions, drafts
    /// aside, from now on; a sequence that is gone needs no bound.
    pub fn bound(&mut self, id: SeqId, positions: usize) {
        if let Some(seq) = self.seqs.get_mut(&id) {
            seq.step_max = positions.max(1);
        }
    }

    /// Whether there is nothing to do.
    pub fn idle(&self) -> bool {
        self.seqs.is_empty()
    }

    /// A live sequence's prompt and what was sampled since.
    pub fn tokens(&self, id: SeqId) -> Option<&[Token]> {
        self.seqs.get(&id).map(|seq| seq.tokens.as_slice())
    }

    /// Whether a sequence was admitted and holds its blocks; not while it waits, first or again.
    pub fn runs(&self, id: SeqId) -> bool {
        self.running.contains(&id)
    }

    /// How many of a live sequence's prompt tokens did not have to be computed for it, because
    /// another had. Final once it was first sampled, whatever happens to its blocks after; 0 for
    /// a sequence that is gone.
    pub fn cached(&self, id: SeqId) -> usize {
        self.seqs.get(&id).map_or(0, |seq| seq.cached)
    }

    /// How things stand.
    pub fn counts(&self) -> Counts {
        Counts {
            running: self.running.len(),
            waiting: self.fairness.waiting(),
            blocks_used: self.limits.blocks - self.pool.available(),
            blocks_cached: self.pool.idle(),
            preemptions: self.preemptions,
        }
    }

    /// Whose turn it may be in the next plan; to be asked between `apply` and `plan`.
    pub fn due(&self) -> Due {
        let answers = self.running.iter().filter(|id| self.seqs[id].behind() == 1).count();
        let open = self.limits.running - self.running.len();
        let prompts = self.running.len() - answers + self.fairness.waiting().min(open);
        Due { answers, prompts }
    }

    /// Proposes what may follow a sequence's tokens, for the next plan alone. A plan takes the
    /// leading part that fits; a sequence that is gone, or does not catch up, takes nothing.
    pub fn draft(&mut self, id: SeqId, tokens: &[Token]) {
        if self.seqs.contains_key(&id) {
            self.drafts.insert(id, tokens.to_vec());
        }
    }

    /// Prompt tokens that would have to be computed before a newcomer's first token: its own, and
    /// those of everyone of a higher priority or of the same owner and priority. What others'
    /// turns may take comes on top of it.
    pub fn ahead(&self, prompt: &[Token], salt: Option<Salt>, rank: Rank) -> usize {
        let found = salt.map_or(0, |salt| self.found(salt, prompt));
        let before = |other: Rank| other == rank || other.priority < rank.priority;
        let others = self.seqs.values().filter(|seq| before(seq.rank) && seq.behind() > 1);
        let own = prompt.len().saturating_sub(found * self.limits.block_tokens).max(1);
        own + others.map(Seq::behind).sum::<usize>()
    }

    /// How many blocks of these tokens are published.
    pub fn found(&self, salt: Salt, tokens: &[Token]) -> usize {
        self.pool.find(Chain::root(salt), tokens).len()
    }

    /// Takes in what was computed before this scheduler was: publishes blocks for those of `tokens`
    /// (whole blocks of them) that are not published yet, as far as there are blocks that nobody
    /// holds. Returns which block of the prefix goes where; its keys and values have to be there
    /// before the next step is computed. Those of the first `known` blocks are not at hand: where
    /// one of them is not published (any more), nothing is taken in.
    ///
    /// # Panics
    /// Where `tokens` are no whole blocks.
    pub fn adopt(&mut self, salt: Salt, tokens: &[Token], known: usize) -> Vec<(usize, BlockId)> {
        assert!(tokens.len().is_multiple_of(self.limits.block_tokens), "whole blocks alone");
        self.pool.adopt(Chain::root(salt), tokens, known)
    }

    /// The oldest published block that was computed, not adopted, and that this has not told of;
    /// `None` where there is no such block. Evicted ones are passed over.
    pub fn fresh(&mut self) -> Option<Fresh> {
        self.pool.fresh()
    }

    /// The next step's work; empty only when [`idle`](Self::idle). Beside sequences that are one
    /// token behind, at most `prefill_tokens` of others' are computed, but at least one if there
    /// is room; without such, as many as fit the step.
    pub fn plan(&mut self, prefill_tokens: usize) -> Vec<Chunk> {
        let applied = |id: &SeqId| self.seqs[id].planned == 0;
        assert!(self.running.iter().all(applied), "planned before the last step was applied");
        let mut budget = self.limits.step_tokens;
        let mut chunks = self.plan_answers(&mut budget);
        let beside = if chunks.is_empty() { usize::MAX } else { prefill_tokens.max(1) };
        let held_back = budget.saturating_sub(beside);
        budget -= held_back;
        self.plan_prompts(&mut budget, &mut chunks);
        budget += held_back;
        let mut drafts = std::mem::take(&mut self.drafts);
        for chunk in chunks.iter_mut().filter(|chunk| chunk.sample) {
            if let Some(draft) = drafts.remove(&chunk.seq) {
                self.speculate(chunk, draft, &mut budget);
            }
        }
        assert!(!chunks.is_empty() || self.idle(), "a step without progress; this is a bug");
        chunks
    }

    /// Everyone who is one token behind, or makes room.
    fn plan_answers(&mut self, budget: &mut usize) -> Vec<Chunk> {
        let (mut chunks, mut at) = (Vec::new(), 0);
        while let Some(&id) = self.running.get(at) {
            if self.seqs[&id].behind() == 1 {
                let Some(chunk) = self.grow(id, budget) else {
                    self.preempt_last();
                    continue;
                };
                chunks.push(chunk);
            }
            at += 1;
        }
        chunks
    }

    /// Those further behind and those who wait, by turns, until the budget is spent. Where there
    /// is no room, who runs already waits for others' ends, and no newcomer overtakes another. So
    /// it is with who comes to a block that is computed in this step.
    fn plan_prompts(&mut self, budget: &mut usize, chunks: &mut Vec<Chunk>) {
        let mut behind = self.running.clone();
        behind.retain(|id| self.seqs[id].planned == 0);
        let (mut open, mut begun) = (true, BTreeSet::new());
        while *budget > 0 {
            open &= self.running.len() < self.limits.running;
            let newcomer = self.fairness.next().filter(|_| open);
            let turn = |id: &SeqId| self.fairness.turn(self.seqs[id].rank, *id);
            let Some(id) = behind.iter().copied().chain(newcomer).min_by_key(turn) else { break };
            let next = self.next_block(id);
            let waits = next.as_ref().is_some_and(|(key, finds)| *finds && begun.contains(key));
            let chunk = if waits { None } else { self.grow(id, budget) };
            begun.extend(next.filter(|_| chunk.is_some()).map(|(key, _)| key));
            open &= chunk.is_some() || newcomer != Some(id);
            behind.retain(|&other| other != id);
            chunks.extend(chunk);
        }
    }

    /// Takes in the step's results. `outcome` is asked once per chunk that has `sample`, in order,
    /// and once more for each leading token of its draft that came true.
    /// Returns the sequences that ended; they are forgotten. Where a step failed, its KV is
    /// unknown: drop the whole scheduler rather than call this.
    pub fn apply(
        &mut self,
        step: &[Chunk],
        mut outcome: impl FnMut(SeqId) -> Outcome,
    ) -> Vec<(SeqId, Ended)> {
        let mut ended = Vec::new();
        for chunk in step {
            let (mut accepted, mut goes_on) = (0, chunk.sample);
            while goes_on {
                let came = outcome(chunk.seq);
                ended.extend(self.extend(chunk.seq, came).map(|how| (chunk.seq, how)));
                let drafted = chunk.draft.get(accepted);
                goes_on = drafted.is_some_and(|&drafted| came == Outcome::Continue(drafted));
                accepted += usize::from(goes_on);
            }
            self.advance(chunk, accepted);
        }
        ended.iter().for_each(|&(id, _)| self.forget(id));
        ended
    }

    /// What the block will be found by that a sequence goes on with, where its tokens fill it; and
    /// whether the sequence would take it from another.
    fn next_block(&self, id: SeqId) -> Option<(blocks::Key, bool)> {
        let (seq, block_tokens) = (&self.seqs[&id], self.limits.block_tokens);
        seq.salt?;
        let found = seq.findable(&self.pool, block_tokens);
        let chain = found.last().map_or(seq.chain, |&last| self.pool.chain_of(last));
        let at = seq.computed / block_tokens + found.len();
        let tokens = seq.tokens.get(at * block_tokens..(at + 1) * block_tokens)?;
        let whole = seq.computed == seq.blocks.len() * block_tokens;
        let finds = whole && (at + 1) * block_tokens < seq.tokens.len();
        Some((blocks::key(chain, tokens), finds))
    }

    /// Gives a sequence the blocks for its next tokens, found ones first, or leaves it as it was.
    /// Who waited runs then.
    /// A newcomer needs room for all its tokens, beside what those who run still need for theirs:
    /// with less it would soon have to make room again, and what was computed would be lost.
    fn grow(&mut self, id: SeqId, budget: &mut usize) -> Option<Chunk> {
        let block_tokens = self.limits.block_tokens;
        let newcomer = self.seqs[&id].blocks.is_empty();
        let reserved = if newcomer { self.reserved() } else { 0 };
        let seq = &self.seqs[&id];
        let found = seq.findable(&self.pool, block_tokens);
        let held = seq.blocks.len() + found.len();
        let start = if found.is_empty() { seq.computed } else { held * block_tokens };
        let end = seq.tokens.len().min(start.saturating_add(seq.step_max.min(*budget)));
        let reach = if newcomer { seq.tokens.len() } else { end };
        let missing = reach.div_ceil(block_tokens) - held + reserved;
        if missing + self.pool.idle_among(&found) > self.pool.available() {
            return None;
        }
        if newcomer {
            self.admit(id);
        }
        let seq = self.seqs.get_mut(&id).expect("live sequence");
        self.pool.hold(&found);
        if let Some(&last) = found.last() {
            seq.chain = self.pool.chain_of(last);
        }
        seq.blocks.extend(found);
        seq.blocks.extend(self.pool.take(end.div_ceil(block_tokens) - held));
        (seq.computed, seq.planned) = (start, end - start);
        seq.cached += start.saturating_sub(seq.seen);
        // What had to be computed twice, or not at all, costs its owner nothing.
        let fresh = end.min(seq.prompt).saturating_sub(start.max(seq.seen));
        self.fairness.charge(seq.rank, fresh as u64 * PROMPT_WEIGHT);
        seq.seen = seq.seen.max(end);
        *budget -= seq.planned;
        let sample = end == seq.tokens.len();
        let (positions, blocks, draft) = (start..end, seq.blocks.clone(), Vec::new());
        Some(Chunk { seq: id, positions, blocks, sample, draft })
    }

    fn admit(&mut self, id: SeqId) {
        let rank = self.seqs[&id].rank;
        self.fairness.admit(rank, id);
        let before = |other: &SeqId| self.seqs[other].rank.priority <= rank.priority;
        self.running.insert(self.running.partition_point(before), id);
    }

    /// Blocks that those who run still need for the tokens that they have.
    fn reserved(&self) -> usize {
        let needed = |seq: &Seq| self.blocks_for(seq.tokens.len()).saturating_sub(seq.blocks.len());
        self.running.iter().map(|id| needed(&self.seqs[id])).sum()
    }

    /// Adds as much of a draft as is left of the step, of the blocks and of the sequence.
    fn speculate(&mut self, chunk: &mut Chunk, mut draft: Vec<Token>, budget: &mut usize) {
        let block_tokens = self.limits.block_tokens;
        let spare = self.pool.available().saturating_sub(self.reserved());
        let seq = self.seqs.get_mut(&chunk.seq).expect("live sequence");
        let room = (seq.blocks.len() + spare) * block_tokens;
        // The last token that it may have ends it, so there is no use in computing that one.
        let end_max = room.min(seq.len_max - 1).min(chunk.positions.end.saturating_add(*budget));
        draft.truncate(end_max - chunk.positions.end);
        seq.drafted = draft.len();
        *budget -= draft.len();
        chunk.positions.end += draft.len();
        let missing = chunk.positions.end.div_ceil(block_tokens) - seq.blocks.len();
        seq.blocks.extend(self.pool.take(missing));
        chunk.blocks.clone_from(&seq.blocks);
        chunk.draft = draft;
    }

    fn preempt_last(&mut self) {
        let id = self.running.pop().expect("one sequence alone always fits, see `add`");
        let seq = self.seqs.get_mut(&id).expect("live sequence");
        self.pool.release(std::mem::take(&mut seq.blocks));
        (seq.computed, seq.chain) = (0, seq.root());
        self.fairness.wait(seq.rank, id);
        self.preemptions += 1;
    }

    /// Counts a chunk as computed, gives back the blocks of drafts that did not come true, and
    /// publishes the blocks that it filled.
    fn advance(&mut self, chunk: &Chunk, accepted: usize) {
        let block_tokens = self.limits.block_tokens;
        let end = chunk.positions.end - chunk.draft.len() + accepted;
        let seq = self.seqs.get_mut(&chunk.seq).expect("cancel waits for the step to end");
        let planned = seq.computed..seq.computed + seq.planned + seq.drafted;
        assert_eq!(chunk.positions, planned, "not as planned");
        let filled = seq.computed / block_tokens..end / block_tokens;
        (seq.computed, seq.planned, seq.drafted) = (end, 0, 0);
        seq.seen = seq.seen.max(end);
        self.pool.release(seq.blocks.split_off(end.div_ceil(block_tokens)));
        if seq.salt.is_none() {
            return;
        }
        for at in filled {
            let part = &seq.tokens[at * block_tokens..(at + 1) * block_tokens];
            let last = at.checked_sub(1).map(|before| seq.blocks[before]);
            let prefix = Prefix { chain: seq.chain, last };
            seq.blocks[at] = self.pool.publish(prefix, part, seq.blocks[at]);
            seq.chain = self.pool.chain_of(seq.blocks[at]);
        }
    }

    fn extend(&mut self, id: SeqId, outcome: Outcome) -> Option<Ended> {
        let seq = self.seqs.get_mut(&id).expect("live sequence");
        self.fairness.charge(seq.rank, OUTPUT_WEIGHT);
        let Outcome::Continue(token) = outcome else { return Some(Ended::Stopped) };
        seq.tokens.push(token);
        (seq.tokens.len() == seq.len_max).then_some(Ended::Full)
    }

    fn forget(&mut self, id: SeqId) {
        if let Some(seq) = self.seqs.remove(&id) {
            self.pool.release(seq.blocks);
            self.fairness.leave(seq.rank, id);
            self.running.retain(|&other| other != id);
            self.drafts.remove(&id);
        }
    }

    fn blocks_for(&self, tokens: usize) -> usize {
        tokens.div_ceil(self.limits.block_tokens)
    }

    /// The invariants, in code. Called after every step of every simulation.
    ///
    /// # Panics
    /// Where one does not hold, which is a bug.
    pub fn check(&self) {
        let mut all: Vec<SeqId> = self.running.iter().copied().chain(self.fairness.ids()).collect();
        all.sort_unstable();
        assert!(all.iter().eq(self.seqs.keys()), "a sequence runs or waits");
        let by_priority = |id: &SeqId| self.seqs[id].rank.priority;
        assert!(self.running.is_sorted_by_key(by_priority), "the least urgent makes room first");
        assert!(self.running.len() <= self.limits.running);
        self.fairness.check(self.seqs.values().map(|seq| seq.rank));
        let inside_step = self.seqs.values().any(|seq| seq.planned > 0);
        for (id, seq) in &self.seqs {
            let running = self.running.contains(id);
            let behind = seq.tokens.len() - seq.computed;
            assert!(seq.computed <= seq.seen && seq.cached <= seq.seen);
            assert!(seq.tokens.len() + seq.drafted < seq.len_max, "it ends when it is full");
            assert!(seq.drafted == 0 || seq.planned == behind, "drafts follow the last token");
            assert!(0 < behind && seq.planned <= behind, "one token is left to compute");
            assert!(running || seq.blocks.is_empty(), "who waits holds no memory");
            assert!(running || seq.planned == 0, "who waits is not computed");
            let left_out = running && inside_step && seq.planned == 0;
            assert!(!left_out || behind > 1, "answers advance in every step");
            let blocks = self.blocks_for(seq.computed + seq.planned + seq.drafted);
            assert_eq!(seq.blocks.len(), blocks, "blocks for what is computed, and no more");
        }
        self.pool.check(self.seqs.values().flat_map(|seq| &seq.blocks));
    }
}
