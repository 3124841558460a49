//! A second, small model that guesses what the first one says next. It has a backend, weights and
//! keys and values of its own, and follows each sequence over a window of its last tokens: what
//! the first model made of the guesses shows in the sequence's tokens, and whatever this one
//! computed beyond their common beginning is forgotten. Guesses change no answer, so a window is
//! no loss of truth: it bounds the memory, and what it takes to catch up.
//!
//! A round guesses for some sequences at once, a token of each in a step; each turn starts a step
//! or takes in what came of it, so that the loop that drives it is told the time in between.
//! Whether the next guess pays is asked of [`Worth`] each time.
//!
//! Absent here: what becomes of a guess, and whose turn it is.

use super::DRAFT_MAX;
use super::worth::{Booked, Chances, Prices, REHEARSED, Stake, Worth};
use crate::sampling::{self, Sampler};
use ingle_backend::{BLOCK_TOKENS, Backend, Batch, Pages, Refusal, Sample, Span, Ticket};
use ingle_model::archs::Network;
use ingle_protocol::Token;
use ingle_scheduler::SeqId;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The most tokens of a sequence that are followed, and of those that are read to catch up.
const WINDOW_MAX: usize = 1024;
const JOIN_MAX: usize = 256;

/// The most sequences that are guessed for in a round: with more, guesses hardly pay.
const LANES_MAX: usize = 8;

/// Blocks of keys and values for all windows of a model, where as much can be had.
pub(crate) fn blocks_max(network: &Network) -> usize {
    LANES_MAX * WINDOW_MAX.min(network.context).div_ceil(BLOCK_TOKENS)
}

/// How far a sequence is followed.
#[derive(Debug)]
struct Follower {
    /// The sequence's token that the window begins with.
    start: usize,
    /// Tokens from there on whose keys and values are in `blocks`.
    known: Vec<Token>,
    blocks: Vec<u32>,
    chances: Chances,
    /// Its tokens when something was last guessed for it, and in which round.
    guessed_at: usize,
    round: u64,
    /// How sure each token of the draft was that the first model is to check.
    tried: Vec<f32>,
}

/// A sequence that wants guesses.
pub(crate) struct Asking {
    pub(crate) id: SeqId,
    /// Prompt and answer.
    pub(crate) tokens: Vec<Token>,
    /// How many of them are the prompt.
    pub(crate) prompt: usize,
    /// Guesses as the answer's tokens are chosen, with each position's own draw.
    pub(crate) sampler: Sampler,
}

struct Lane {
    /// Its tokens, and the draft behind them.
    asking: Asking,
    draft: Vec<Token>,
    sure: Vec<f32>,
    stake: Stake,
    open: bool,
    /// Tokens of it that the step under way reads, and those of them whose logits are wanted.
    reads: usize,
    samples: usize,
}

/// The step under way.
struct Flight {
    ticket: Ticket,
    departed: Instant,
    rows: usize,
}

struct Round {
    lanes: Vec<Lane>,
    flight: Option<Flight>,
    /// Sequences in the first model's step, and rows that it has without these guesses.
    sequences: usize,
    rows: usize,
}

/// A model that guesses for another.
pub(crate) struct Guesser {
    backend: Box<dyn Backend>,
    network: Network,
    /// Tokens that both models have.
    common: usize,
    window: usize,
    blocks: usize,
    free: Vec<u32>,
    followers: BTreeMap<SeqId, Follower>,
    round: Option<Round>,
    worth: Worth,
    rounds: u64,
    steps: u64,
    /// Guesses in the first model's step under way, and those that were right.
    checked: (usize, usize),
}

impl Guesser {
    /// Makes the backend ready, with keys and values of at most so many bytes: at least two
    /// blocks. `vocabulary` and `weight_bytes` are the first model's.
    pub(crate) fn new(
        mut backend: Box<dyn Backend>,
        network: Network,
        kv_bytes: usize,
        (vocabulary, weight_bytes): (usize, usize),
        progress: &mut dyn FnMut(f32),
    ) -> Result<Self, Refusal> {
        let block_bytes = backend.block_bytes().max(1);
        let blocks = (kv_bytes / block_bytes).min(blocks_max(&network)).max(2);
        backend.prepare(&network.graph, Pages { block_tokens: BLOCK_TOKENS, blocks }, progress)?;
        Ok(Self {
            common: vocabulary.min(network.vocabulary),
            window: WINDOW_MAX.min(network.context).min(blocks * BLOCK_TOKENS),
            blocks,
            free: (0..blocks as u32).rev().collect(),
            followers: BTreeMap::new(),
            round: None,
            worth: Worth::new(weight_bytes, network.weight_bytes),
            rounds: 0,
            steps: 0,
            checked: (0, 0),
            backend,
            network,
        })
    }

    /// Whether a round is under way.
    pub(crate) fn working(&self) -> bool {
        self.round.is_some()
    }

    /// Steps computed.
    pub(crate) fn steps(&self) -> u64 {
        self.steps
    }

    /// Blocks held, of how many.
    pub(crate) fn blocks(&self) -> (usize, usize) {
        (self.blocks - self.free.len(), self.blocks)
    }

    /// A sequence is gone, or waits.
    pub(crate) fn forget(&mut self, id: SeqId) {
        if let Some(follower) = self.followers.remove(&id) {
            self.free.extend(follower.blocks);
        }
        if let Some(round) = &mut self.round {
            let own = round.lanes.iter_mut().filter(|lane| lane.asking.id == id);
            own.for_each(|lane| lane.open = false);
        }
    }

    /// Begins a round for those for whom it pays; a step of the first model that `sequences` share
    /// has so many rows without it.
    pub(crate) fn begin(&mut self, asking: Vec<Asking>, sequences: usize, rows: usize) {
        self.rounds += 1;
        self.followers.values_mut().for_each(|follower| follower.tried.clear());
        let together = asking.len().min(LANES_MAX);
        let Some(prices) = self.worth.prices(sequences, rows, together) else { return };
        if self.worth.pauses() {
            return;
        }
        let mut lanes = Vec::new();
        let mut reads = 0;
        for asking in asking {
            let stake = prices.stake();
            if lanes.len() == LANES_MAX || !self.promises(&asking, &stake, &prices) {
                continue;
            }
            if let Some(more) = self.follow(&asking, reads) {
                reads += more;
                let (draft, sure) = (Vec::new(), Vec::new());
                lanes.push(Lane { asking, draft, sure, stake, open: true, reads: 0, samples: 0 });
            }
        }
        if !lanes.is_empty() {
            self.round = Some(Round { lanes, flight: None, sequences, rows });
        }
    }

    /// Whether guesses for a sequence seem to pay, or are to be tried again.
    fn promises(&self, asking: &Asking, stake: &Stake, prices: &Prices) -> bool {
        let follower = self.followers.get(&asking.id);
        let since = follower.map_or(asking.prompt, |follower| follower.guessed_at);
        let own = follower.map_or(self.worth.chances(), |follower| &follower.chances);
        asking.tokens.len() >= since + self.worth.retry_tokens() || stake.goes_on(own, prices)
    }

    /// Follows a sequence to its last token, as far as memory goes, and says how many tokens have
    /// to be read for that. `None` where that is too dear now, with so many to be read for others.
    fn follow(&mut self, asking: &Asking, others: usize) -> Option<usize> {
        let (start, same) = self.reach(asking, others)?;
        let follower = self.followers.entry(asking.id).or_insert_with(|| Follower {
            start,
            known: Vec::new(),
            blocks: Vec::new(),
            chances: self.worth.chances().clone(),
            guessed_at: asking.tokens.len(),
            round: 0,
            tried: Vec::new(),
        });
        follower.known.truncate(same);
        (follower.start, follower.round) = (start, self.rounds);
        let len = asking.tokens.len() - start;
        self.room(asking.id, (len + DRAFT_MAX).div_ceil(BLOCK_TOKENS)).then_some(len - same)
    }

    /// Where a sequence's window should begin, and how many tokens from there on are known.
    fn reach(&self, asking: &Asking, others: usize) -> Option<(usize, usize)> {
        let tokens = &asking.tokens;
        let alien = |token: &Token| *token as usize >= self.common;
        let wanted = tokens.len().min(JOIN_MAX).min(self.window / 2);
        let joins = self.worth.affords(wanted + others).saturating_sub(others);
        if let Some(follower) = self.followers.get(&asking.id) {
            let window = &tokens[follower.start..];
            let pairs = follower.known.iter().zip(window).take_while(|(a, b)| a == b);
            // The last token is read, if again: what follows it is the guess.
            let same = pairs.count().min(window.len() - 1);
            let behind = &window[same..];
            let fits = window.len() + DRAFT_MAX <= self.window && behind.len() <= JOIN_MAX;
            // Guesses from a few tokens are bad ones: what began when there was little to spend
            // begins again.
            let few = window.len() < joins / 4;
            if fits && !few && !behind.iter().any(alien) {
                let reads = others + behind.len();
                return (self.worth.affords(reads) == reads).then_some((follower.start, same));
            }
        }
        let start = tokens.len() - joins;
        let start = tokens[start..].iter().rposition(alien).map_or(start, |at| start + at + 1);
        (start < tokens.len()).then_some((start, 0))
    }

    /// Gives a sequence its blocks; those that were not guessed for in this round make room.
    fn room(&mut self, id: SeqId, blocks: usize) -> bool {
        let Some(mut follower) = self.followers.remove(&id) else { return false };
        let kept = follower.blocks.len().min(blocks);
        self.free.extend(follower.blocks.drain(kept..));
        let missing = blocks - kept;
        while self.free.len() < missing {
            let idle = self.followers.iter().filter(|(_, other)| other.round < self.rounds);
            let Some((&last, _)) = idle.min_by_key(|(_, other)| other.round) else { break };
            self.forget(last);
        }
        let enough = self.free.len() >= missing;
        if enough {
            follower.blocks.extend(self.free.drain(self.free.len() - missing..));
        } else {
            follower.known.truncate(kept * BLOCK_TOKENS);
        }
        self.followers.insert(id, follower);
        enough
    }

    /// Takes in what the step under way brought, and starts the next one. True when the round is
    /// over, or there is none.
    pub(crate) fn turn(&mut self, now: Instant) -> bool {
        let Some(mut round) = self.round.take() else { return true };
        if let Some(flight) = round.flight.take() {
            if !self.land(&mut round, &flight, now) {
                round.flight = Some(flight);
                self.round = Some(round);
                return false;
            }
            self.weigh(&mut round);
        }
        let over = !round.lanes.iter().any(|lane| lane.open);
        if !over {
            self.depart(&mut round, now);
        }
        self.round = Some(round);
        over
    }

    /// Starts a step that reads what is not known yet of every open lane.
    fn depart(&mut self, round: &mut Round, now: Instant) {
        let open = round.lanes.iter().filter(|lane| lane.open).count();
        let mut spans = Vec::new();
        for lane in round.lanes.iter_mut().filter(|lane| lane.open) {
            let follower = &self.followers[&lane.asking.id];
            let Asking { tokens, prompt, .. } = &lane.asking;
            let from = follower.start + follower.known.len();
            lane.reads = tokens.len() - from;
            let said = tokens.len() - prompt - lane.draft.len();
            // Who comes after a pause learns how good its guesses would have been.
            let rehearsed = said.min(lane.reads - 1).min(REHEARSED / open);
            lane.samples = if lane.reads > DRAFT_MAX + 1 { 1 + rehearsed } else { 1 };
            spans.push(Span {
                start: follower.known.len(),
                tokens: tokens[from..].to_vec(),
                blocks: follower.blocks.clone(),
                sample: Sample::Tail(lane.samples),
                ..Span::default()
            });
        }
        let batch = Batch { spans };
        let rows = batch.tokens();
        let ticket = self.backend.submit(&self.network.graph, &batch);
        self.steps += 1;
        round.flight = Some(Flight { ticket, departed: now, rows });
    }

    /// Takes in a step: what it would have guessed, and what it guesses now. False while it runs.
    fn land(&mut self, round: &mut Round, flight: &Flight, now: Instant) -> bool {
        let Some(logits) = self.backend.poll(flight.ticket) else { return false };
        let mut rows = logits.chunks_exact(self.network.vocabulary);
        self.worth.guessed(flight.rows, now.saturating_duration_since(flight.departed));
        let drafted: usize = round.lanes.iter().map(|lane| lane.draft.len()).sum();
        let open = round.lanes.iter().filter(|lane| lane.open).count();
        let prices = self.worth.prices(round.sequences, round.rows + drafted, open);
        for lane in round.lanes.iter_mut().filter(|lane| lane.reads > 0) {
            let own = rows.by_ref().take(std::mem::take(&mut lane.samples));
            let own: Vec<&[f32]> = own.map(|row| &row[..self.common]).collect();
            let reads = std::mem::take(&mut lane.reads);
            let Some(follower) = self.followers.get_mut(&lane.asking.id) else { continue };
            let (tokens, prompt) = (&mut lane.asking.tokens, lane.asking.prompt);
            follower.known.extend(&tokens[tokens.len() - reads..]);
            for (at, row) in own.iter().enumerate() {
                let end = tokens.len() + 1 + at - own.len();
                let (asked, said) = tokens[..end].split_at(prompt);
                let guess = lane.asking.sampler.sample(row, asked, said);
                let sure = sampling::log_softmax_at(row, guess).exp();
                if let Some(&came) = tokens.get(end) {
                    self.worth.note(&mut follower.chances, sure, guess == came);
                    continue;
                }
                let prices = prices.as_ref().filter(|_| lane.open);
                let takes = |prices| lane.stake.takes(&follower.chances, sure, prices);
                lane.open = prices.is_some_and(takes);
                if lane.open {
                    lane.draft.push(guess);
                    lane.sure.push(sure);
                    tokens.push(guess);
                    break;
                }
            }
        }
        true
    }

    /// Ends the drafts that one more guess would not pay for.
    fn weigh(&self, round: &mut Round) {
        let drafted: usize = round.lanes.iter().map(|lane| lane.draft.len()).sum();
        let open = round.lanes.iter().filter(|lane| lane.open).count();
        let prices = self.worth.prices(round.sequences, round.rows + drafted, open);
        for lane in round.lanes.iter_mut().filter(|lane| lane.open) {
            let chances = self.followers.get(&lane.asking.id).map(|follower| &follower.chances);
            let pays = |(chances, prices)| lane.stake.goes_on(chances, prices);
            lane.open =
                lane.draft.len() < DRAFT_MAX && chances.zip(prices.as_ref()).is_some_and(pays);
        }
    }

    /// Ends the round: what it guessed.
    pub(crate) fn drafts(&mut self) -> Vec<(SeqId, Vec<Token>)> {
        let lanes = self.round.take().map(|round| round.lanes).unwrap_or_default();
        let mut drafts = Vec::new();
        for lane in lanes {
            if let Some(follower) = self.followers.get_mut(&lane.asking.id) {
                follower.guessed_at = lane.asking.tokens.len() - lane.draft.len();
                follower.tried = lane.sure;
                drafts.push((lane.asking.id, lane.draft));
            }
        }
        drafts
    }

    /// Learns what came of a sequence's draft; says whether it was guessed here.
    pub(crate) fn settle(&mut self, id: SeqId, drafted: usize, accepted: usize) -> bool {
        let Some(follower) = self.followers.get_mut(&id) else { return false };
        let tried = std::mem::take(&mut follower.tried);
        for (at, &sure) in tried.iter().take(drafted.min(accepted + 1)).enumerate() {
            self.worth.note(&mut follower.chances, sure, at < accepted);
        }
        let here = drafted > 0 && !tried.is_empty();
        if here {
            self.checked = (self.checked.0 + drafted, self.checked.1 + accepted);
        }
        here
    }

    /// A step of the first model was computed, over so many rows of so many sequences.
    pub(crate) fn step(&mut self, rows: usize, sequences: usize, prompts: bool, took: Duration) {
        let (guessed, right) = std::mem::take(&mut self.checked);
        self.worth.step(&Booked { rows, guessed, right, sequences, prompts, took });
    }
}
