//! Guesses what a sequence says next from what it said before: where its last tokens occurred
//! earlier, in the prompt or in the answer, what followed them then may follow again (prompt
//! lookup; Saxena, 2023). A guess that is right saves a step; a wrong one costs some time and
//! changes nothing, since the model's own choice decides.
//!
//! Whether a guess pays is learned for free: every token that comes, guessed or not, tells whether
//! the guess for it would have been right. A chance is kept for each length of agreement, and a
//! token is drafted where the chance that it comes true exceeds its price. On top of that, an
//! account makes sure that what is lost stays below [`LOSS_MAX`] of the steps, whatever the text.
//!
//! Pure: what is drafted depends on the tokens, on what came of earlier drafts and on how many
//! sequences share a step. Guesses of a second model are made in `model`, and `worth` says whether
//! they pay; `pair` says which models go together. Absent here: the model, and a clock.

pub(crate) mod model;
pub(crate) mod pair;
mod worth;

use ingle_protocol::Token;

/// The most tokens of a draft: with the token before them, 8 rows. Measured on a 2-core AVX-512
/// machine with a model of 135 M parameters, a step of one row takes 4.5 ms and each more row about
/// 0.85 ms, without logits, so that 8 rows that come true take about 2.4 times as long as one and
/// give 8 times as much.
pub(crate) const DRAFT_MAX: usize = 7;

/// The part of the steps that may be lost, for good, by drafts that do not come true.
pub(crate) const LOSS_MAX: f32 = 0.02;

/// What one more token in a step costs, in steps of one token; see [`DRAFT_MAX`]. With it, text
/// that repeats nothing took no longer than without drafts (`tools/bench-speculation`).
const TOKEN_COST: f32 = 0.2;

/// A draft has to promise this much more than it costs, since chances are estimates.
const MARGIN: f32 = 1.2;

/// The most that earlier gains may cover, in steps.
const CREDIT_MAX: f32 = 4.0;

/// Fewer tokens in agreement are no reason to guess; the index is over runs of so many.
const MATCH_MIN: usize = 2;

/// Longer agreements are not told apart.
const MATCH_MAX: usize = 8;

/// Earlier occurrences that are compared, the latest first.
const TRIES: usize = 16;

/// Tokens taken in at once, so that a long prompt holds up no step by more than about 1 ms.
const READ_MAX: usize = 4096;

/// The part of a chance that the latest guess decides.
const LEARN: f32 = 0.125;

/// Slots of the index at most.
const SLOTS_MAX: usize = 1 << 16;

/// The chance that a guess is right, by the length of agreement, before anything is known.
const CHANCES: [f32; MATCH_MAX + 1] = [0.0, 0.0, 0.25, 0.35, 0.45, 0.55, 0.6, 0.65, 0.7];

/// What one more token costs in a step of so many sequences, in units of what a token costs there
/// without drafts: the fuller the step, the less is to be gained.
fn price(sequences: usize) -> f32 {
    let sequences = sequences.max(1) as f32;
    TOKEN_COST * sequences / (1.0 + TOKEN_COST * (sequences - 1.0))
}

/// An earlier place whose tokens agree with the last ones.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Match {
    /// Where the guess for the next token stands.
    at: usize,
    /// How many tokens before it agree with the last ones; those beyond `MATCH_MAX` may be left
    /// uncounted.
    len: usize,
}

/// Prompt lookup over one sequence, which is handed in anew each time, longer than before.
#[derive(Debug)]
pub(crate) struct Lookup {
    /// By the hash of `MATCH_MIN` tokens, the position after their latest occurrence; 0 is none.
    latest: Vec<u32>,
    /// Of each position up to what was read, the one before it that has its hash.
    earlier: Vec<u32>,
    found: Option<Match>,
    chances: [f32; MATCH_MAX + 1],
    /// Steps that may be lost from here on.
    credit: f32,
    /// Of each token of the draft that was proposed last.
    price: f32,
}

impl Lookup {
    /// For a sequence of at most `len_max` tokens.
    pub(crate) fn new(len_max: usize) -> Self {
        Self {
            latest: vec![0; len_max.clamp(64, SLOTS_MAX).next_power_of_two()],
            earlier: vec![0],
            found: None,
            chances: CHANCES,
            credit: TOKEN_COST,
            price: TOKEN_COST,
        }
    }

    fn read_to(&self) -> usize {
        self.earlier.len() - 1
    }

    /// Takes in tokens that were not yet, some thousand at most.
    pub(crate) fn read(&mut self, tokens: &[Token]) {
        let end = tokens.len().min(self.read_to() + READ_MAX);
        for read in self.read_to() + 1..=end {
            self.learn(&tokens[..read]);
        }
    }

    /// Takes in the last of these tokens: was it what the one before would have guessed?
    fn learn(&mut self, tokens: &[Token]) {
        let came = tokens[tokens.len() - 1];
        let guess = self.found.take();
        if let Some(Match { at, len }) = guess {
            let right = tokens[at] == came;
            let chance = &mut self.chances[len.min(MATCH_MAX)];
            *chance += (f32::from(u8::from(right)) - *chance) * LEARN;
            self.found = right.then_some(Match { at: at + 1, len: len + 1 });
        }
        let Some(first) = tokens.len().checked_sub(MATCH_MIN) else {
            self.earlier.push(0);
            return;
        };
        let slot = self.slot(&tokens[first..]);
        let latest = self.latest[slot];
        if self.found.is_none() {
            self.found = self.longest(tokens, latest);
        }
        self.earlier.push(latest);
        self.latest[slot] = tokens.len() as u32;
    }

    /// The multiplication spreads runs of tokens over the slots (Knuth's multiplicative hash); two
    /// runs in one slot are told apart by comparing them.
    fn slot(&self, run: &[Token]) -> usize {
        let mix = |hash: u64, &token: &Token| {
            (hash ^ u64::from(token)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
        };
        let hash = run.iter().fold(0, mix);
        (hash >> 40) as usize & (self.latest.len() - 1)
    }

    /// The longest agreement, of equals the latest one, among a few that share the hash.
    fn longest(&self, tokens: &[Token], latest: u32) -> Option<Match> {
        let mut best: Option<Match> = None;
        let mut at = latest as usize;
        for _ in 0..TRIES {
            if at == 0 {
                break;
            }
            let pairs = tokens[..at].iter().rev().zip(tokens.iter().rev());
            let len = pairs.take(MATCH_MAX).take_while(|(a, b)| a == b).count();
            if len >= MATCH_MIN && best.is_none_or(|best| len > best.len) {
                best = Some(Match { at, len });
            }
            at = self.earlier[at] as usize;
        }
        best
    }

    /// What is worth trying after these tokens, all of them read, in a step that this many
    /// sequences share. Each token's chance is that of the agreement it would extend, times those
    /// before it; a token is added while tokens a cost unit grow by it.
    pub(crate) fn propose(&mut self, tokens: &[Token], sequences: usize) -> Vec<Token> {
        self.price = price(sequences);
        let Some(Match { at, len }) = self.found.filter(|_| self.read_to() == tokens.len()) else {
            return Vec::new();
        };
        let affordable = (self.credit / self.price) as usize;
        let mut draft = Vec::new();
        let (mut chance, mut gain, mut cost) = (1.0, 1.0, 1.0);
        while draft.len() < DRAFT_MAX.min(affordable) {
            chance *= self.chances[(len + draft.len()).min(MATCH_MAX)];
            if chance * cost < MARGIN * self.price * gain {
                break;
            }
            // What repeats with a short period is continued by its own draft.
            let from = at + draft.len();
            draft.push(tokens.get(from).copied().unwrap_or_else(|| draft[from - tokens.len()]));
            (gain, cost) = (gain + chance, cost + self.price);
        }
        draft
    }

    /// Settles a step that made `accepted + 1` tokens of this sequence.
    pub(crate) fn settle(&mut self, drafted: usize, accepted: usize) {
        let made = 1.0 + accepted as f32;
        let gained = accepted as f32 - drafted as f32 * self.price;
        self.credit = (self.credit + LOSS_MAX * made + gained).min(CREDIT_MAX);
    }
}

#[cfg(test)]
mod tests;
