//! Whether tokens of a second model pay. A guess costs a step of that model and a row in the step
//! that checks it; if it is right it saves a token's share of a step. All of these are measured as
//! they happen, and so is how often a guess of some sureness is right, for the pair of models and
//! for each sequence. A token is asked for, and then tried, where what it promises exceeds what it
//! costs.
//!
//! Estimates err, so an account stands behind them: it earns [`LOSS_MAX`] of the time that steps
//! take and what right guesses saved, it pays for everything that the second model costs, and
//! nothing is begun that it does not hold. Where guesses do not pay they are tried again seldom,
//! from what the account has earned since.
//!
//! Pure: time is an argument. Absent here: models, tokens, clocks.

use super::LOSS_MAX;
use crate::times::Times;
use std::time::Duration;

/// Tokens said before that are guessed too, by who comes after a pause, to learn how often guesses
/// are right.
pub(crate) const REHEARSED: usize = 8;

/// A guess has to promise this much more than it costs, since chances are estimates.
const MARGIN: f64 = 1.1;

/// What the account holds at first and at most, in steps without drafts.
const GRANT: f64 = 6.0;
const ACCOUNT_MAX: f64 = 64.0;

/// Where guesses do not seem to pay for a sequence, they are tried after so many of its tokens:
/// soon where little is known of the pair of models, and seldom later.
const FIRST_TOKENS: usize = 8;
const RETRY_TOKENS: usize = 64;

/// After so many steps with drafts one goes without, to learn again what that takes.
const REFRESH_STEPS: u32 = 32;

/// How often guesses are right by how sure the model was of them, and how often it is so sure.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chances {
    right: [f64; Self::KINDS],
    often: [f64; Self::KINDS],
    /// Guesses of each kind that were seen.
    seen: [u32; Self::KINDS],
}

impl Chances {
    const KINDS: usize = 10;

    /// Before anything is known, a guess is as good as the model says, and it says anything.
    fn unknown() -> Self {
        let middle = |kind| (kind as f64 + 0.5) / Self::KINDS as f64;
        Self {
            right: std::array::from_fn(middle),
            often: [1.0 / Self::KINDS as f64; Self::KINDS],
            seen: [0; Self::KINDS],
        }
    }

    fn kind(sureness: f32) -> usize {
        ((sureness * Self::KINDS as f32) as usize).min(Self::KINDS - 1)
    }

    fn note(&mut self, sureness: f32, right: bool, learn: f64) {
        // The first ones weigh more: what is expected before counts as one or two.
        let learn = |seen: u32| learn.max(1.0 / f64::from(seen + 2));
        let (kind, all) = (Self::kind(sureness), learn(self.guesses()));
        let own = learn(self.seen[kind]);
        self.seen[kind] = self.seen[kind].saturating_add(1);
        self.right[kind] += (f64::from(u8::from(right)) - self.right[kind]) * own;
        for (at, often) in self.often.iter_mut().enumerate() {
            *often += (f64::from(u8::from(at == kind)) - *often) * all;
        }
    }

    fn guesses(&self) -> u32 {
        self.seen.iter().fold(0, |all, seen| all.saturating_add(*seen))
    }

    /// What a guess not yet made gains, if it is tried only where it is worth its row.
    fn hope(&self, reached: f64, worth: f64, row: f64) -> f64 {
        let gain = |right: &f64| (reached * right * worth - row).max(0.0);
        self.right.iter().map(gain).zip(&self.often).map(|(gain, often)| gain * often).sum()
    }
}

/// What one sequence's draft in the making holds. Costs are nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct Stake {
    /// The chance that all of the draft comes true.
    reached: f64,
    /// Tokens that the step will make of this sequence, and what they take.
    gain: f64,
    cost: f64,
}

/// What things cost in a step that some sequences share, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prices {
    /// A token without drafts.
    plain: f64,
    /// One more guess, and one more row to check it.
    guess: f64,
    row: f64,
}

impl Prices {
    /// The draft of a sequence that has none yet.
    pub(crate) fn stake(&self) -> Stake {
        Stake { reached: 1.0, gain: 1.0, cost: self.plain }
    }
}

impl Stake {
    fn worth(&self) -> f64 {
        self.cost / self.gain
    }

    /// Whether one more guess should be made.
    pub(crate) fn goes_on(&self, chances: &Chances, prices: &Prices) -> bool {
        chances.hope(self.reached, self.worth(), prices.row) > MARGIN * prices.guess
    }

    /// Whether a guess that was made should be tried; it is counted then.
    pub(crate) fn takes(&mut self, chances: &Chances, sureness: f32, prices: &Prices) -> bool {
        self.cost += prices.guess;
        let reached = self.reached * chances.right[Chances::kind(sureness)];
        let takes = reached * self.worth() > MARGIN * prices.row;
        if takes {
            self.reached = reached;
            self.gain += reached;
            self.cost += prices.row;
        }
        takes
    }
}

/// A step that was computed, for the books.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Booked {
    /// Its rows, those among them that the second model guessed, and those of these that were
    /// right.
    pub(crate) rows: usize,
    pub(crate) guessed: usize,
    pub(crate) right: usize,
    /// Sequences in it.
    pub(crate) sequences: usize,
    /// Whether it had a piece of a prompt.
    pub(crate) prompts: bool,
    pub(crate) took: Duration,
}

/// All that is known of a pair of models.
#[derive(Clone, Debug)]
pub(crate) struct Worth {
    target: Times,
    draft: Times,
    chances: Chances,
    /// In steps without drafts.
    account: f64,
    /// What the second model is expected to take of the first one's time.
    ratio: f64,
    /// Steps with guesses in a row.
    busy: u32,
}

impl Worth {
    /// Of two models whose steps read so many bytes of weights.
    pub(crate) fn new(target_bytes: usize, draft_bytes: usize) -> Self {
        Self {
            target: Times::default(),
            draft: Times::default(),
            chances: Chances::unknown(),
            account: GRANT,
            ratio: draft_bytes as f64 / target_bytes.max(1) as f64,
            busy: 0,
        }
    }

    /// What a new sequence's guesses are expected to be.
    pub(crate) fn chances(&self) -> &Chances {
        &self.chances
    }

    /// A guess was right or wrong.
    pub(crate) fn note(&mut self, own: &mut Chances, sureness: f32, right: bool) {
        const LEARN: f64 = 1.0 / 16.0;
        own.note(sureness, right, 2.0 * LEARN);
        self.chances.note(sureness, right, LEARN);
    }

    /// What a step of the second model takes.
    fn guessing(&self, rows: usize) -> Option<f64> {
        self.draft.of(rows).or_else(|| Some(self.ratio * self.target.of(rows)?))
    }

    /// What things cost where `sequences` share a step that has `rows` so far, and guesses are made
    /// for `lanes` of them at once. `None` where no step was timed.
    pub(crate) fn prices(&self, sequences: usize, rows: usize, lanes: usize) -> Option<Prices> {
        let lanes = lanes.max(1);
        let now = self.target.of(rows)?;
        // Kernels take several rows at once, so that the first of them may be dear and the next
        // ones nearly free: what counts is what they cost together.
        let slope = |more: usize| Some((self.target.of(rows + more)? - now) / more as f64);
        let row = (1..=3).filter_map(slope).fold(f64::INFINITY, f64::min).max(0.0);
        Some(Prices {
            plain: self.target.of(sequences)? / sequences.max(1) as f64,
            guess: self.guessing(lanes)? / lanes as f64,
            row,
        })
    }

    /// Of how many tokens since the last guess a sequence may be guessed for, though it does not
    /// seem to pay.
    pub(crate) fn retry_tokens(&self) -> usize {
        if self.chances.guesses() < REHEARSED as u32 { FIRST_TOKENS } else { RETRY_TOKENS }
    }

    /// Whether it is time for a step without drafts.
    pub(crate) fn pauses(&self) -> bool {
        self.busy >= REFRESH_STEPS
    }

    /// How many tokens, at most `wanted`, may be read to catch up with a sequence: half of the
    /// account may go into it. 0 where not even a few can be afforded.
    pub(crate) fn affords(&self, wanted: usize) -> usize {
        const LEAST: usize = 8;
        let Some(step) = self.target.of(1) else { return 0 };
        let affordable = |rows: &usize| {
            self.guessing(*rows).is_some_and(|cost| cost <= self.account / 2.0 * step)
        };
        let halves = std::iter::successors(Some(wanted), |rows| Some(rows / 2));
        let mut enough = halves.take_while(|&rows| rows > 0 && rows >= LEAST.min(wanted));
        enough.find(affordable).unwrap_or(0)
    }

    /// A step of the second model was computed.
    pub(crate) fn guessed(&mut self, rows: usize, took: Duration) {
        self.draft.learn(rows, took);
        if let Some(step) = self.target.of(1) {
            self.account -= took.as_nanos() as f64 / step;
        }
    }

    /// A step of the first model was computed.
    pub(crate) fn step(&mut self, booked: &Booked) {
        let Booked { rows, guessed, right, sequences, prompts, took } = *booked;
        self.busy = if guessed > 0 { self.busy + 1 } else { 0 };
        if !prompts {
            self.target.learn(rows, took);
        }
        let Some(step) = self.target.of(1) else { return };
        let time = |rows: usize| self.target.of(rows).unwrap_or_default();
        let saved = right as f64 * time(sequences) / sequences.max(1) as f64;
        let paid = if guessed > 0 { (time(rows) - time(rows - guessed)).max(0.0) } else { 0.0 };
        let earned = f64::from(LOSS_MAX) * took.as_nanos() as f64;
        self.account = (self.account + (earned + saved - paid) / step).min(ACCOUNT_MAX);
    }
}

#[cfg(test)]
mod tests;
