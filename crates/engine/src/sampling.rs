//! Chooses the next token from logits. A draw depends on the logits, the rules, the seed and how
//! many tokens came before, on nothing else: batching, preemption and recomputation change no
//! answer.
//!
//! Random numbers are SplitMix64's (Steele, Lea and Flood, 2014), read by position: its `n`-th
//! output is a function of seed and `n` alone. Exponentials are this module's own polynomial, so
//! that every machine weighs alike; sums over the vocabulary are made in `f64`.
//!
//! No rule sorts the vocabulary: top-k keeps the best seen so far, top-p and typical find their
//! cut by weighted selection, and what is too unlikely to matter to them is left out beforehand.
//! Where no rule cuts, one pass weighs blocks of logits and the draw looks into one block.
//!
//! Where only some tokens are allowed, the others are impossible before every rule.
//!
//! This is the usual order of the rules; `order` has any other.
//!
//! Absent here: grammars, speculation, and the model.

mod mirostat;
mod more;
mod order;

pub use more::Terms;

use ingle_protocol::{Fault, Sampling, Token};
use std::cmp::Ordering;
use std::collections::HashMap;
use std::ops::RangeInclusive;

/// Logits that are weighed together; a draw rescans one such block.
const BLOCK: usize = 1024;

/// Logits that are passed over together where none of them is great enough.
const SKIP: usize = 256;

/// The most entries of a logit bias; what the field's APIs take is below this.
const BIASES_MAX: usize = 4096;

/// Below this temperature all but exact ties go to the likeliest token anyway.
const COLD: f32 = 1e-5;

/// Checks that sampling can follow these rules in a vocabulary of this size.
///
/// Ranges are OpenAI's where it has them, but the temperature: it may reach 5 rather than 2, since
/// min-p keeps hotter distributions sound (Nguyen et al., 2024) and the bound is there to catch
/// mistakes. `top_p` and `typical_p` of 0 keep the one token that the rule likes best.
///
/// # Errors
/// A fault of the caller's that names the field.
pub fn validate(sampling: &Sampling, vocab: usize) -> Result<(), Fault> {
    let ranges: [(&str, f32, RangeInclusive<f32>); 7] = [
        ("temperature", sampling.temperature, 0.0..=5.0),
        ("top_p", sampling.top_p, 0.0..=1.0),
        ("min_p", sampling.min_p, 0.0..=1.0),
        ("typical_p", sampling.typical_p, 0.0..=1.0),
        ("repetition_penalty", sampling.repetition_penalty, 0.01..=100.0),
        ("frequency_penalty", sampling.frequency_penalty, -2.0..=2.0),
        ("presence_penalty", sampling.presence_penalty, -2.0..=2.0),
    ];
    for (name, value, range) in ranges {
        if !range.contains(&value) {
            let (low, high) = range.into_inner();
            let message = format!("{name} is {value}; it must be from {low} to {high}");
            return Err(Fault::caller(message).at(name));
        }
    }
    let fault = |message| Err(Fault::caller(message).at("logit_bias"));
    let count = sampling.logit_bias.len() + sampling.text_bias.len();
    if count > BIASES_MAX {
        return fault(format!("logit_bias has {count} entries; give at most {BIASES_MAX}"));
    }
    more::validate(sampling, vocab)?;
    for &(token, bias) in &sampling.logit_bias {
        if token as usize >= vocab {
            return fault(format!(
                "logit_bias names token {token}; this model's tokens are 0 to {}",
                vocab.saturating_sub(1)
            ));
        }
        if !sound_bias(bias) {
            return fault(format!(
                "logit_bias of token {token} is {bias}; it must be from -100 to 100"
            ));
        }
    }
    match sampling.text_bias.iter().find(|(_, bias)| !sound_bias(*bias)) {
        Some((text, bias)) => {
            fault(format!("logit_bias of {text:?} is {bias}; it must be from -100 to 100"))
        }
        None => Ok(()),
    }
}

/// Minus infinity forbids a token.
fn sound_bias(bias: f32) -> bool {
    (-100.0..=100.0).contains(&bias) || bias == f32::NEG_INFINITY
}

/// Some of a vocabulary's tokens, a bit each: token `t` is bit `t % 32` of word `t / 32`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenSet {
    words: Vec<u32>,
}

impl From<Vec<u32>> for TokenSet {
    fn from(words: Vec<u32>) -> Self {
        Self { words }
    }
}

impl TokenSet {
    /// Whether a token is one of them.
    pub fn contains(&self, token: Token) -> bool {
        self.words.get(token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1)
    }

    /// The lowest of them.
    pub fn first(&self) -> Option<Token> {
        let at = self.words.iter().position(|word| *word != 0)?;
        Some(at as Token * 32 + self.words[at].trailing_zeros())
    }

    /// Takes a token out.
    pub fn remove(&mut self, token: Token) {
        if let Some(word) = self.words.get_mut(token as usize / 32) {
            *word &= !(1 << (token % 32));
        }
    }

    /// Copies the logits of these tokens, minus infinity for all others.
    fn mask(&self, logits: &[f32], masked: &mut Vec<f32>) {
        masked.clear();
        masked.resize(logits.len(), f32::NEG_INFINITY);
        let places = masked.chunks_mut(32).zip(logits.chunks(32));
        for (&word, (masked, logits)) in self.words.iter().zip(places) {
            match word {
                0 => {}
                u32::MAX => masked.copy_from_slice(logits),
                _ => {
                    for (bit, (masked, &logit)) in masked.iter_mut().zip(logits).enumerate() {
                        if word >> bit & 1 == 1 {
                            *masked = logit;
                        }
                    }
                }
            }
        }
    }
}

/// A token that may still be drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Candidate {
    token: Token,
    /// Its logit; from `weigh` on, what it is above the greatest one's, divided by the
    /// temperature: never positive.
    logit: f32,
    /// `exp(logit)`, once weighed.
    weight: f32,
    /// What a rule orders it by, greater first.
    rank: f32,
}

/// By rank, greatest first, then by token: a total order, so that every cut is determined.
fn by_rank(a: &Candidate, b: &Candidate) -> Ordering {
    b.rank.total_cmp(&a.rank).then(a.token.cmp(&b.token))
}

/// Draws the tokens of one answer.
#[derive(Debug)]
pub struct Sampler {
    rules: Sampling,
    terms: Terms,
    seed: u64,
    mirostat: mirostat::State,
    /// What the logits are divided by now.
    temperature: f32,
    /// How often each token of the prompt (0 times) or the answer occurred in the answer.
    seen: HashMap<Token, u32>,
    /// Leading tokens of prompt and answer that `seen` knows of.
    seen_to: (usize, usize),
    /// Logits after penalties and bias.
    adjusted: Vec<f32>,
    /// What DRY takes off each logit, where it has a place of its own.
    repeated: Vec<f32>,
    candidates: Vec<Candidate>,
    scratch: Vec<Candidate>,
}

impl Sampler {
    /// A sampler that follows `rules` and draws with `seed`; `rules.seed` is not looked at.
    /// Rules that [`validate`] refuses give some token, but no meaning.
    pub fn new(rules: &Sampling, seed: u64) -> Self {
        Self {
            rules: rules.clone(),
            terms: Terms::default(),
            mirostat: mirostat::State::default(),
            seed,
            temperature: rules.temperature,
            seen: HashMap::new(),
            seen_to: (0, 0),
            adjusted: Vec::new(),
            repeated: Vec::new(),
            candidates: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// With what the rules' texts are in the model's tokens.
    #[must_use]
    pub fn with(self, terms: Terms) -> Self {
        Self { terms, ..self }
    }

    /// One with the same rules and draws, that has seen nothing yet.
    pub(crate) fn again(&self) -> Self {
        Self::new(&self.rules, self.seed).with(self.terms.clone())
    }

    /// Chooses what follows `prompt` and `generated`, given the model's logits `[vocab]`. From one
    /// call to the next the prompt stays and `generated` only grows. A logit that is not a number
    /// counts as minus infinity; of equals at temperature 0, the lowest token wins.
    pub fn sample(&mut self, logits: &[f32], prompt: &[Token], generated: &[Token]) -> Token {
        let draw = uniform(self.seed, generated.len() as u64);
        if !self.adjusts() {
            return self.choose(logits, draw);
        }
        let mut adjusted = std::mem::take(&mut self.adjusted);
        adjusted.clear();
        adjusted.extend_from_slice(logits);
        self.adjust(&mut adjusted, prompt, generated);
        let token = self.choose(&adjusted, draw);
        self.adjusted = adjusted;
        token
    }

    /// As [`Self::sample`], among `allowed` alone: every other token's logit is minus infinity
    /// before any rule. Where the rules leave none of them, the lowest is taken.
    pub fn sample_among(
        &mut self,
        allowed: &TokenSet,
        logits: &[f32],
        prompt: &[Token],
        generated: &[Token],
    ) -> Token {
        let draw = uniform(self.seed, generated.len() as u64);
        let mut adjusted = std::mem::take(&mut self.adjusted);
        allowed.mask(logits, &mut adjusted);
        if self.adjusts() {
            self.adjust(&mut adjusted, prompt, generated);
        }
        let token = self.choose(&adjusted, draw);
        self.adjusted = adjusted;
        // Of logits that are all minus infinity the rules choose any, an impossible one too.
        if allowed.contains(token) { token } else { allowed.first().unwrap_or(token) }
    }

    fn adjusts(&self) -> bool {
        let repeats = self.rules.dry.multiplier > 0.0;
        let cuts = self.rules.top_n_sigma > 0.0 || self.terms.bans(&self.rules);
        let biased = !self.rules.logit_bias.is_empty() || !self.terms.bias.is_empty();
        self.penalizes() || repeats || cuts || biased || self.reordered()
    }

    fn penalizes(&self) -> bool {
        let Sampling { repetition_penalty, frequency_penalty, presence_penalty, .. } = self.rules;
        (repetition_penalty, frequency_penalty, presence_penalty) != (1.0, 0.0, 0.0)
    }

    /// Counts the tokens that came since the last call.
    fn note(&mut self, prompt: &[Token], generated: &[Token]) {
        if self.seen_to.0 > prompt.len() || self.seen_to.1 > generated.len() {
            self.seen.clear();
            self.seen_to = (0, 0);
        }
        for &token in &prompt[self.seen_to.0..] {
            self.seen.entry(token).or_default();
        }
        for &token in &generated[self.seen_to.1..] {
            *self.seen.entry(token).or_default() += 1;
        }
        self.seen_to = (prompt.len(), generated.len());
    }

    /// All rules on logits alone, in their order.
    fn adjust(&mut self, logits: &mut [f32], prompt: &[Token], generated: &[Token]) {
        if self.reordered() {
            return self.prepare(logits, prompt, generated);
        }
        self.note(prompt, generated);
        for &token in self.seen.keys() {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit = self.penalized(token, *logit);
            }
        }
        self.add_bias(logits);
        let rules = &self.rules;
        if rules.dry.multiplier > 0.0 {
            self.terms.dry(logits, &rules.dry, prompt, generated);
        }
        if self.terms.bans(rules) {
            self.terms.ban(logits, rules, generated);
        }
        if rules.top_n_sigma > 0.0 {
            more::top_n_sigma(logits, rules.top_n_sigma);
        }
    }

    /// A token's logit after the penalties. That of repetition looks at prompt and answer (Keskar
    /// et al., 2019), the other two at the answer alone, as OpenAI's do.
    fn penalized(&self, token: Token, logit: f32) -> f32 {
        let rules = &self.rules;
        let Some(&count) = self.seen.get(&token) else { return logit };
        let factor = rules.repetition_penalty;
        let logit = if logit > 0.0 { logit / factor } else { logit * factor };
        match count {
            0 => logit,
            _ => logit - (rules.frequency_penalty * count as f32 + rules.presence_penalty),
        }
    }

    fn add_bias(&self, logits: &mut [f32]) {
        for &(token, bias) in self.rules.logit_bias.iter().chain(&self.terms.bias) {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit += bias;
            }
        }
    }

    /// Chooses by the rules after the penalties; `draw` is in `0..1`.
    fn choose(&mut self, logits: &[f32], draw: f64) -> Token {
        if self.reordered() {
            return self.choose_in_order(logits, draw);
        }
        let rules = &self.rules;
        self.temperature = more::temperature(logits, rules.temperature, rules.dynamic_temperature);
        if self.temperature < COLD {
            return likeliest(logits);
        }
        if rules.mirostat.version > 0 {
            let (rules, vocab) = (rules.mirostat, logits.len());
            at_least(logits, f32::NEG_INFINITY, &mut self.candidates);
            weigh(&mut self.candidates, self.temperature);
            let drawn = self.mirostat.draw(&mut self.candidates, rules, vocab, draw);
            return drawn.unwrap_or_else(|| likeliest(logits));
        }
        let top_k = (1..logits.len()).contains(&(rules.top_k as usize));
        let cuts = rules.typical_p < 1.0 || rules.top_p < 1.0 || rules.min_p > 0.0;
        let exclude = rules.xtc;
        let excludes = exclude.probability > 0.0;
        if !top_k && !cuts && !excludes {
            return Masses::of(logits, self.temperature).draw(logits, draw);
        }
        self.keep(logits);
        if excludes {
            let other = uniform(mix(draw.to_bits()), 0);
            more::xtc(&mut self.candidates, exclude, other);
        }
        draw_from(&self.candidates, draw).unwrap_or_else(|| likeliest(logits))
    }

    /// Fills `candidates` with the tokens that every cutting rule keeps, lowest token first, each
    /// rule looking at what the one before it kept.
    fn keep(&mut self, logits: &[f32]) {
        let mut mass = self.gather(logits);
        let (rules, kept) = (&self.rules, &mut self.candidates);
        if rules.typical_p < 1.0 {
            rank_by_typicality(kept, mass);
            cut(kept, &mut self.scratch, f64::from(rules.typical_p) * mass);
            mass = mass_of(kept);
        }
        if rules.top_p < 1.0 {
            kept.iter_mut().for_each(|candidate| candidate.rank = candidate.logit);
            cut(kept, &mut self.scratch, f64::from(rules.top_p) * mass);
        }
        if rules.min_p > 0.0 {
            let most = kept.iter().fold(0.0, |most: f32, candidate| most.max(candidate.weight));
            kept.retain(|candidate| candidate.weight >= rules.min_p * most);
        }
    }

    /// Fills `candidates` with what top-k keeps, or with what the other rules may keep, lowest
    /// token first. Returns the mass that those rules go by: of the former, or of all tokens.
    fn gather(&mut self, logits: &[f32]) -> f64 {
        let (rules, kept) = (&self.rules, &mut self.candidates);
        let temperature = self.temperature;
        if (1..logits.len()).contains(&(rules.top_k as usize)) {
            largest(logits, rules.top_k as usize, kept);
            kept.sort_unstable_by_key(|candidate| candidate.token);
            weigh(kept, temperature);
            return mass_of(kept);
        }
        let of_min_p = f64::from(rules.min_p).ln();
        if rules.typical_p >= 1.0 && rules.top_p >= 1.0 && rules.min_p > 0.0 {
            at_least(logits, floor(greatest(logits), temperature, of_min_p), kept);
            weigh(kept, temperature);
            return mass_of(kept);
        }
        let masses = Masses::of(logits, temperature);
        if rules.typical_p < 1.0 || rules.top_p >= 1.0 {
            at_least(logits, f32::NEG_INFINITY, kept);
            weigh(kept, temperature);
            return masses.total;
        }
        // The nucleus is mostly near the top: look further down only where it is not full yet.
        // The tokens below the last of these have less than `1 - top_p` together.
        let outside = (1.0 - f64::from(rules.top_p)) * masses.total / logits.len() as f64;
        let lowest = outside.ln().max(of_min_p);
        for log_weight in [-6.0, -9.0, -12.0, f64::NEG_INFINITY].map(|one| lowest.max(one)) {
            at_least(logits, floor(masses.max, temperature, log_weight), kept);
            weigh(kept, temperature);
            if log_weight == lowest
                || mass_of(kept) > (f64::from(rules.top_p) + 1e-6) * masses.total
            {
                break;
            }
        }
        masses.total
    }
}

/// The weights `exp((logit - max) / temperature)` of all logits, summed by blocks.
struct Masses {
    temperature: f32,
    /// The greatest logit.
    max: f32,
    /// Of each block, its greatest logit and the sum of its weights relative to that.
    blocks: Vec<(f32, f32)>,
    /// All weights, relative to `max`.
    total: f64,
}

impl Masses {
    fn of(logits: &[f32], temperature: f32) -> Self {
        let weigh = |block| {
            let max = greatest(block);
            (max, sum_exp(block, max, temperature))
        };
        let blocks: Vec<(f32, f32)> = logits.chunks(BLOCK).map(weigh).collect();
        let max = blocks.iter().fold(f32::NEG_INFINITY, |max, block| max.max(block.0));
        let mut masses = Self { temperature, max, blocks, total: 0.0 };
        masses.total = masses.blocks.iter().map(|block| masses.mass(block)).sum();
        masses
    }

    fn mass(&self, &(max, sum): &(f32, f32)) -> f64 {
        f64::from(exp((max - self.max) / self.temperature)) * f64::from(sum)
    }

    /// Finds the token at this part, in `0..1`, of all mass.
    fn draw(&self, logits: &[f32], draw: f64) -> Token {
        let mut left = draw * self.total;
        let mut last = None;
        for (at, block) in self.blocks.iter().enumerate() {
            let mass = self.mass(block);
            if mass > 0.0 {
                last = Some((at, left, block));
                if left < mass {
                    break;
                }
            }
            left -= mass;
        }
        let Some((at, mut left, block)) = last else { return likeliest(logits) };
        let scale = self.mass(block) / f64::from(block.1);
        let mut token = None;
        for (at, &logit) in logits.iter().enumerate().skip(at * BLOCK).take(BLOCK) {
            let weight = scale * f64::from(exp((logit - block.0) / self.temperature));
            if weight > 0.0 {
                token = Some(at as Token);
                if left < weight {
                    break;
                }
            }
            left -= weight;
        }
        token.unwrap_or_else(|| likeliest(logits))
    }
}

/// A token's natural log-probability before any rule; minus infinity for what is no token of these
/// logits.
pub fn log_softmax_at(logits: &[f32], token: Token) -> f32 {
    log_probability(logits, token, log_sum_exp(logits))
}

/// The chosen token's natural log-probability and those of the `k` likeliest tokens, likeliest
/// first, before any rule.
pub fn top_logprobs(logits: &[f32], chosen: Token, k: usize) -> (f32, Vec<(Token, f32)>) {
    let log_sum = log_sum_exp(logits);
    let mut top = Vec::new();
    largest(logits, k, &mut top);
    let top = top.iter().map(|one| (one.token, log_probability(logits, one.token, log_sum)));
    (log_probability(logits, chosen, log_sum), top.collect())
}

fn log_sum_exp(logits: &[f32]) -> f64 {
    let masses = Masses::of(logits, 1.0);
    f64::from(masses.max) + masses.total.ln()
}

fn log_probability(logits: &[f32], token: Token, log_sum: f64) -> f32 {
    let logit = logits.get(token as usize).map_or(f64::NEG_INFINITY, |&logit| f64::from(logit));
    let value = (logit - log_sum) as f32;
    if value.is_nan() { f32::NEG_INFINITY } else { value.min(0.0) }
}

/// How many tokens are likelier than this one, and one more.
pub(crate) fn rank_of(logits: &[f32], token: Token) -> u32 {
    let own = logits.get(token as usize).copied().unwrap_or(f32::NEG_INFINITY);
    1 + logits.iter().filter(|logit| **logit > own).count() as u32
}

/// The token with the greatest logit; of equals the lowest.
fn likeliest(logits: &[f32]) -> Token {
    let max = greatest(logits);
    logits.iter().position(|&logit| logit == max).unwrap_or(0) as Token
}

/// The greatest number; minus infinity where there is none.
fn greatest(logits: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let (whole, rest) = logits.as_chunks::<16>();
    for chunk in whole {
        for (lane, &logit) in lanes.iter_mut().zip(chunk) {
            *lane = if logit > *lane { logit } else { *lane };
        }
    }
    let all = lanes.iter().chain(rest);
    all.fold(f32::NEG_INFINITY, |max, &logit| if logit > max { logit } else { max })
}

fn sum_exp(logits: &[f32], max: f32, temperature: f32) -> f32 {
    let mut lanes = [0.0; 16];
    let (whole, rest) = logits.as_chunks::<16>();
    for chunk in whole {
        for (lane, &logit) in lanes.iter_mut().zip(chunk) {
            *lane += exp((logit - max) / temperature);
        }
    }
    let rest: f32 = rest.iter().map(|&logit| exp((logit - max) / temperature)).sum();
    lanes.iter().sum::<f32>() + rest
}

/// `e^x` for `x <= 0` to 2e-7 of its value: `2^n e^r` with `r` within half of `ln 2`, by Taylor's
/// series. 0 below -87, where `f32` runs out, and where `x` is not a number.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// Adding this rounds to a whole number and leaves it in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    /// `ln 2` in two parts, the first short enough that `n` times it is exact.
    const LN_2: (f32, f32) = (355.0 / 512.0, -2.121_944_4e-4);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN_2.0 - n * LN_2.1;
    let series = [1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    let mut value = 0.0;
    for factor in series {
        value = value * r + factor;
    }
    let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    if x > -87.0 { value * power } else { 0.0 }
}

/// The logit of this relative log-weight, and a little less: what rounding lets through is left to
/// the rules themselves.
fn floor(max: f32, temperature: f32, log_weight: f64) -> f32 {
    max + temperature * (log_weight - 0.01) as f32
}

fn candidate(token: usize, logit: f32) -> Candidate {
    Candidate { token: token as Token, logit, weight: 0.0, rank: logit }
}

fn at_least(logits: &[f32], floor: f32, kept: &mut Vec<Candidate>) {
    kept.clear();
    for (at, block) in logits.chunks(SKIP).enumerate() {
        if greatest(block) >= floor {
            let likely = block.iter().enumerate().filter(|(_, logit)| **logit >= floor);
            kept.extend(likely.map(|(token, &logit)| candidate(at * SKIP + token, logit)));
        }
    }
}

/// The `k` greatest logits above minus infinity, greatest first.
fn largest(logits: &[f32], k: usize, kept: &mut Vec<Candidate>) {
    kept.clear();
    if k == 0 {
        return;
    }
    // Of twice as many, the better half stays, and shows what the next one has to beat.
    let room = k.saturating_add(k.max(64));
    let mut beat = f32::NEG_INFINITY;
    for (at, block) in logits.chunks(SKIP).enumerate() {
        if greatest(block) <= beat {
            continue;
        }
        for (token, &logit) in block.iter().enumerate() {
            if logit > beat {
                kept.push(candidate(at * SKIP + token, logit));
            }
            if kept.len() == room {
                beat = kept.select_nth_unstable_by(k - 1, by_rank).1.logit;
                kept.truncate(k);
            }
        }
    }
    kept.sort_unstable_by(by_rank);
    kept.truncate(k);
}

/// Sets logits relative to the greatest, and weights.
fn weigh(kept: &mut [Candidate], temperature: f32) {
    let max = kept.iter().fold(f32::NEG_INFINITY, |max, candidate| max.max(candidate.logit));
    for candidate in kept {
        candidate.logit = (candidate.logit - max) / temperature;
        candidate.weight = exp(candidate.logit);
    }
}

fn mass_of(kept: &[Candidate]) -> f64 {
    kept.iter().map(|candidate| f64::from(candidate.weight)).sum()
}

/// How near a token's surprise is to the expected one. Both are `ln mass - logit`, so the
/// logarithm cancels out.
fn rank_by_typicality(kept: &mut [Candidate], mass: f64) {
    let possible = kept.iter().filter(|candidate| candidate.weight > 0.0);
    let weighted = possible.map(|one| f64::from(one.weight) * f64::from(one.logit));
    let mean = (weighted.sum::<f64>() / mass) as f32;
    kept.iter_mut().for_each(|candidate| candidate.rank = -(candidate.logit - mean).abs());
}

/// Keeps the fewest candidates, greatest rank first, whose mass reaches `goal`; at least one.
fn cut(kept: &mut Vec<Candidate>, scratch: &mut Vec<Candidate>, mut goal: f64) {
    scratch.clone_from(kept);
    // The last one to be kept is among these.
    let mut among = &mut scratch[..];
    while among.len() > 1 {
        let half = among.len() / 2;
        among.select_nth_unstable_by(half, by_rank);
        let (better, worse) = among.split_at_mut(half);
        let mass = mass_of(better);
        if mass >= goal {
            among = better;
        } else {
            goal -= mass;
            among = worse;
        }
    }
    if let Some(&last) = among.first() {
        kept.retain(|candidate| by_rank(candidate, &last).is_le());
    }
}

/// Finds the candidate at this part, in `0..1`, of their mass.
fn draw_from(kept: &[Candidate], draw: f64) -> Option<Token> {
    let mut left = draw * mass_of(kept);
    let mut token = None;
    for candidate in kept.iter().filter(|candidate| candidate.weight > 0.0) {
        token = Some(candidate.token);
        left -= f64::from(candidate.weight);
        if left < 0.0 {
            break;
        }
    }
    token
}

/// A number in `0..1` that depends on seed and position alone: SplitMix64's output at `position`,
/// started where `seed` is mixed to, so that near seeds are far apart.
fn uniform(seed: u64, position: u64) -> f64 {
    const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
    let state = mix(seed).wrapping_add(STEP.wrapping_mul(position.wrapping_add(1)));
    (mix(state) >> 11) as f64 / (1u64 << 53) as f64
}

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests;
