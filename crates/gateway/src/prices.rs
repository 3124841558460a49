//! What calls cost. Money is whole numbers: pico-dollars a token (10⁻¹² US dollars), summed exactly
//! and rounded up to micro-dollars once for each call. A price that is not known is `None`, and
//! never nothing. Absent: what may be spent (`budget`), and what a call used.

mod book;
mod local;
pub mod money;

pub use book::{Book, Capabilities, Row, book};
pub use local::LocalCost;

use ingle_protocol::Usage;

/// Tokens of a call, by what they are charged as. No token is in two of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Of the prompt, computed.
    pub input: u64,
    /// Of the prompt, read from the provider's cache.
    pub cached: u64,
    /// Of the prompt, written to the provider's cache.
    pub written: u64,
    /// Generated, thoughts not counted.
    pub output: u64,
    /// Generated as thoughts.
    pub reasoning: u64,
}

impl Tokens {
    /// All of the prompt.
    pub fn prompt(&self) -> u64 {
        self.input.saturating_add(self.cached).saturating_add(self.written)
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.prompt().saturating_add(self.output).saturating_add(self.reasoning)
    }
}

impl From<&Usage> for Tokens {
    fn from(usage: &Usage) -> Self {
        let (prompt, generated) = (usage.prompt_tokens, usage.completion_tokens);
        let cached = usage.cached_tokens.min(prompt);
        let written = usage.written_tokens.min(prompt - cached);
        let reasoning = usage.reasoning_tokens.min(generated);
        Self {
            input: (prompt - cached - written).into(),
            cached: cached.into(),
            written: written.into(),
            output: (generated - reasoning).into(),
            reasoning: reasoning.into(),
        }
    }
}

/// Pico-dollars a token, by kind. Where a kind of prompt token has no price of its own it costs
/// what `input` does, and a thought what `output` does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Of the prompt.
    pub input: Option<u64>,
    /// Of the prompt, read from the provider's cache.
    pub cached: Option<u64>,
    /// Of the prompt, written to the provider's cache: the dearest way of those that it has.
    pub written: Option<u64>,
    /// Generated.
    pub output: Option<u64>,
    /// Generated as thoughts.
    pub reasoning: Option<u64>,
}

impl Rates {
    /// Pico-dollars, exactly; `None` where tokens came that have no price.
    pub fn pico(&self, tokens: &Tokens) -> Option<u128> {
        let each = [
            (tokens.input, self.input),
            (tokens.cached, self.cached.or(self.input)),
            (tokens.written, self.written.or(self.input)),
            (tokens.output, self.output),
            (tokens.reasoning, self.reasoning.or(self.output)),
        ];
        // Five products of two 64-bit numbers are less than 2¹²⁸ once one of them is saturated.
        each.iter().try_fold(0_u128, |sum, (count, rate)| match (count, rate) {
            (0, _) => Some(sum),
            (count, rate) => Some(sum.saturating_add(u128::from(*count) * u128::from((*rate)?))),
        })
    }

    /// The most pico-dollars of so many tokens, whatever they are charged as; `None` where a price
    /// is not known that may be wanted.
    fn most_pico(&self, prompt: u64, output: u64) -> Option<u128> {
        let input = self.input?;
        let read = input.max(self.cached.unwrap_or(0)).max(self.written.unwrap_or(0));
        let write = match (self.output, output) {
            (Some(rate), _) => rate.max(self.reasoning.unwrap_or(0)),
            (None, 0) => 0,
            (None, _) => return None,
        };
        let (read, write) = (u128::from(read), u128::from(write));
        Some((u128::from(prompt) * read).saturating_add(u128::from(output) * write))
    }
}

/// Rates that hold for prompts of more than so many tokens; for the whole call then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tier {
    /// A prompt has more tokens than this.
    pub above: u64,
    /// Usually.
    pub rates: Rates,
    /// Of calls in a batch that is answered within a day.
    pub batch: Rates,
}

/// What one model of one provider costs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Price {
    /// By length of the prompt, the shortest first; the first is for `above` 0.
    pub tiers: Vec<Tier>,
    /// The day of the price, `2026-11-22`; `own` for the user's own.
    pub date: String,
}

impl Price {
    /// The rates for a prompt of so many tokens.
    pub fn rates(&self, prompt_tokens: u64, batch: bool) -> Rates {
        let holds = |tier: &&Tier| tier.above == 0 || prompt_tokens > tier.above;
        let tier = self.tiers.iter().rev().find(holds).copied().unwrap_or_default();
        if batch && tier.batch.input.is_some() { tier.batch } else { tier.rates }
    }

    /// Micro-dollars of a call, rounded up; `None` where something of it has no price.
    pub fn micros(&self, tokens: &Tokens, batch: bool) -> Option<u64> {
        self.rates(tokens.prompt(), batch).pico(tokens).map(money::micros_up)
    }

    /// The most micro-dollars that a call costs whose prompt has at most `prompt` tokens and whose
    /// answers have at most `output` together: the dearest of all tiers that it may fall in, and of
    /// all kinds of tokens. `None` where a price is not known.
    pub fn most_micros(&self, prompt: u64, output: u64) -> Option<u64> {
        let reach = self.tiers.iter().filter(|tier| tier.above == 0 || prompt > tier.above);
        // Batches are cheaper as a rule, and a user may say otherwise.
        let batch = |tier: &Tier| tier.batch.most_pico(prompt, output).unwrap_or(0);
        let each = reach.map(|tier| Some(tier.rates.most_pico(prompt, output)?.max(batch(tier))));
        let all: Option<Vec<u128>> = each.collect();
        all?.into_iter().max().map(money::micros_up)
    }
}

#[cfg(test)]
#[path = "prices/tests.rs"]
mod tests;
