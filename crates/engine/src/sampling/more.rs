//! Rules on logits that other engines have beyond OpenAI's: tokens that may not come, DRY,
//! top-n-sigma, dynamic temperature, XTC. Each is a function of logits, tokens and numbers.
//! Absent: drawing.

use super::{Candidate, Masses};
use ingle_model::tokenizer::Tokenizer;
use ingle_protocol::{Dry, DynamicTemperature, Fault, Sampling, Token, Xtc};
use std::collections::{HashMap, HashSet};

/// The longest repetition that DRY measures: beyond it the penalty is past any logit.
const REPEAT_MAX: usize = 64;
/// The most tokens and words that a request may name.
const NAMED_MAX: usize = 1 << 17;
const WORDS_MAX: usize = 128;

/// What a request's texts are in a model's tokens.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// Tokens that end the answer.
    ends: Vec<Token>,
    /// Sequences whose last token may not follow the others.
    bad: Vec<Vec<Token>>,
    /// Tokens over which no repetition goes.
    breakers: HashSet<Token>,
    /// The only tokens that may come; empty for all.
    allowed: HashSet<Token>,
    /// The bias of the tokens of texts.
    pub(super) bias: Vec<(Token, f32)>,
}

impl Terms {
    /// The terms of these rules. A bad word is banned at an answer's start and after a space.
    pub fn of(rules: &Sampling, tokenizer: &Tokenizer) -> Self {
        let ends = tokenizer.ends().iter().chain(&rules.stop_tokens).copied().collect();
        let spelt = |text: String| {
            Some(tokenizer.encode_continuation(&text)).filter(|tokens| !tokens.is_empty())
        };
        let bad = rules.bad_words.iter().flat_map(|word| {
            let bare = word.trim_start();
            [spelt(bare.to_owned()), spelt(format!(" {bare}"))].into_iter().flatten()
        });
        let writes = |token: &Token, text: &String| {
            let bytes = tokenizer.bytes(*token).unwrap_or_default();
            bytes.windows(text.len().max(1)).any(|part| part == text.as_bytes())
        };
        let looked_at = if rules.dry.multiplier > 0.0 { tokenizer.vocab_len() } else { 0 };
        let breakers = (0..looked_at as Token)
            .filter(|token| rules.dry.breakers.iter().any(|text| writes(token, text)));
        let bias = rules.text_bias.iter().flat_map(|(text, bias)| {
            tokenizer.encode_continuation(text).into_iter().map(move |token| (token, *bias))
        });
        Self {
            ends,
            bias: bias.collect(),
            bad: bad.collect(),
            breakers: breakers.collect(),
            allowed: rules.allowed_tokens.iter().copied().collect(),
        }
    }

    /// Whether some token may not come.
    pub(super) fn bans(&self, rules: &Sampling) -> bool {
        rules.min_tokens > 0 || !self.bad.is_empty() || !self.allowed.is_empty()
    }

    /// Makes impossible what may not come.
    pub(super) fn ban(&self, logits: &mut [f32], rules: &Sampling, generated: &[Token]) {
        let mut never = |token: Token| {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit = f32::NEG_INFINITY;
            }
        };
        if generated.len() < rules.min_tokens as usize {
            self.ends.iter().copied().for_each(&mut never);
        }
        for word in &self.bad {
            if let Some((&last, before)) = word.split_last()
                && generated.ends_with(before)
            {
                never(last);
            }
        }
        if !self.allowed.is_empty() {
            let all = 0..logits.len() as Token;
            for token in all.filter(|token| !self.allowed.contains(token)) {
                logits[token as usize] = f32::NEG_INFINITY;
            }
        }
    }

    /// Penalizes tokens that would go on repeating what ends the sequence: by the longest suffix
    /// that stood before the same token earlier.
    pub(super) fn dry(&self, logits: &mut [f32], dry: &Dry, prompt: &[Token], generated: &[Token]) {
        let all = prompt.len() + generated.len();
        let at = |i: usize| {
            if i < prompt.len() { prompt[i] } else { generated[i - prompt.len()] }
        };
        let first = if dry.last_n == 0 { 0 } else { all.saturating_sub(dry.last_n as usize) };
        let mut longest: HashMap<Token, usize> = HashMap::new();
        for next in first + 1..all {
            // How much of what stands before `next` ends the sequence, too.
            let same = |n: &usize| {
                let (a, b) = (at(next - 1 - n), at(all - 1 - n));
                a == b && !self.breakers.contains(&a)
            };
            let length = (0..(next - first).min(REPEAT_MAX)).take_while(same).count();
            if length >= dry.allowed_length as usize {
                let most = longest.entry(at(next)).or_default();
                *most = length.max(*most);
            }
        }
        for (token, length) in longest {
            let over = (length - dry.allowed_length as usize) as f32;
            if let Some(logit) = logits.get_mut(token as usize)
                && !self.breakers.contains(&token)
            {
                *logit -= dry.multiplier * dry.base.powf(over);
            }
        }
    }
}

/// Checks what [`super::validate`] leaves to this page.
pub(super) fn validate(rules: &Sampling, vocab: usize) -> Result<(), Fault> {
    let ranges = [
        ("top_n_sigma", rules.top_n_sigma, 0.0..=100.0),
        ("dynatemp_range", rules.dynamic_temperature.range, 0.0..=5.0),
        ("dynatemp_exponent", rules.dynamic_temperature.exponent, 0.0..=100.0),
        ("xtc_probability", rules.xtc.probability, 0.0..=1.0),
        ("xtc_threshold", rules.xtc.threshold, 0.0..=1.0),
        ("mirostat", f32::from(rules.mirostat.version), 0.0..=2.0),
        ("mirostat_tau", rules.mirostat.tau, 0.0..=100.0),
        ("mirostat_eta", rules.mirostat.eta, 0.0..=1.0),
        ("dry_multiplier", rules.dry.multiplier, 0.0..=100.0),
        ("dry_base", rules.dry.base, 1.0..=100.0),
    ];
    for (name, value, range) in ranges {
        if !range.contains(&value) {
            let message = format!("{name} is {value}; it must be within {range:?}");
            return Err(Fault::caller(message).at(name));
        }
    }
    if rules.dry.allowed_length == 0 {
        return Err(
            Fault::caller("dry_allowed_length is 0; give 1 or more").at("dry_allowed_length")
        );
    }
    let lists =
        [("allowed_token_ids", &rules.allowed_tokens), ("stop_token_ids", &rules.stop_tokens)];
    for (name, tokens) in lists {
        if tokens.len() > NAMED_MAX {
            return Err(Fault::caller(format!("{name} has more than {NAMED_MAX} tokens")).at(name));
        }
        if let Some(token) = tokens.iter().find(|token| **token as usize >= vocab) {
            let message = format!("{name} names token {token}; this model has {vocab}");
            return Err(Fault::caller(message).at(name));
        }
    }
    if rules.bad_words.len() > WORDS_MAX {
        return Err(Fault::caller(format!("more than {WORDS_MAX} bad_words")).at("bad_words"));
    }
    Ok(())
}

/// Makes impossible what is more than so many standard deviations below the greatest logit. Those
/// that are impossible already are not counted.
pub(super) fn top_n_sigma(logits: &mut [f32], n: f32) {
    let finite = logits.iter().copied().filter(|logit| logit.is_finite());
    let (count, sum) =
        finite.clone().fold((0usize, 0.0), |(n, sum), x| (n + 1, sum + f64::from(x)));
    if count == 0 {
        return;
    }
    let mean = sum / count as f64;
    let spread = finite.clone().map(|x| (f64::from(x) - mean).powi(2)).sum::<f64>();
    let deviation = (spread / count as f64).sqrt() as f32;
    let floor = finite.fold(f32::NEG_INFINITY, f32::max) - n * deviation;
    for logit in logits.iter_mut().filter(|logit| **logit < floor) {
        *logit = f32::NEG_INFINITY;
    }
}

/// The temperature for these logits.
pub(super) fn temperature(logits: &[f32], base: f32, dynamic: DynamicTemperature) -> f32 {
    let possible = logits.iter().filter(|logit| logit.is_finite()).count();
    if dynamic.range <= 0.0 || possible < 2 {
        return base;
    }
    let masses = Masses::of(logits, 1.0);
    let entropy: f64 = logits
        .iter()
        .filter(|logit| logit.is_finite())
        .map(|&logit| {
            let p = f64::from(super::exp(logit - masses.max)) / masses.total;
            if p > 0.0 { -p * p.ln() } else { 0.0 }
        })
        .sum();
    let part = (entropy / (possible as f64).ln()).clamp(0.0, 1.0) as f32;
    let (low, high) = ((base - dynamic.range).max(0.0), base + dynamic.range);
    low + (high - low) * part.powf(dynamic.exponent)
}

/// Leaves out all tokens that reach the threshold but the least likely of them. `draw` is in
/// `0..1`, and another one than the token's.
pub(super) fn xtc(kept: &mut Vec<Candidate>, xtc: Xtc, draw: f64) {
    if draw >= f64::from(xtc.probability) {
        return;
    }
    let mass = super::mass_of(kept);
    let reaches = |one: &Candidate| f64::from(one.weight) >= f64::from(xtc.threshold) * mass;
    let least = kept.iter().filter(|one| reaches(one)).map(|one| one.weight).reduce(f32::min);
    let Some(least) = least else { return };
    // Of equals the last stays.
    let stays = kept.iter().rposition(|one| reaches(one) && one.weight == least);
    let stays = stays.map(|at| kept[at].token);
    kept.retain(|one| !reaches(one) || Some(one.token) == stays);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(weights: &[f32]) -> Vec<Candidate> {
        let one = |(at, weight): (usize, &f32)| Candidate {
            token: at as Token,
            logit: weight.ln(),
            weight: *weight,
            rank: 0.0,
        };
        weights.iter().enumerate().map(one).collect()
    }

    #[test]
    fn xtc_leaves_the_least_likely_of_the_likely() {
        let check = |weights: &[f32], threshold: f32, draw: f64, expect: &[Token]| {
            let mut all = kept(weights);
            xtc(&mut all, Xtc { probability: 0.5, threshold }, draw);
            let tokens: Vec<Token> = all.iter().map(|one| one.token).collect();
            assert_eq!(tokens, expect, "{weights:?} at {threshold}");
        };
        check(&[0.5, 0.3, 0.15, 0.05], 0.1, 0.0, &[2, 3]);
        check(&[0.5, 0.3, 0.15, 0.05], 0.1, 0.5, &[0, 1, 2, 3]);
        check(&[0.5, 0.3, 0.15, 0.05], 0.4, 0.0, &[0, 1, 2, 3]);
        check(&[1.0, 1.0, 1.0], 0.3, 0.0, &[2]);
        check(&[5.0, 3.0, 1.5, 0.5], 0.1, 0.0, &[2, 3]);
    }

    #[test]
    fn top_n_sigma_keeps_what_is_near_the_greatest() {
        // Mean 2.5, standard deviation sqrt(1.25) = 1.118.
        let check = |n: f32, expect: &[bool]| {
            let mut logits = [1.0, 2.0, 3.0, 4.0, f32::NEG_INFINITY];
            top_n_sigma(&mut logits, n);
            let left: Vec<bool> = logits.iter().map(|logit| logit.is_finite()).collect();
            assert_eq!(left, expect, "{n}");
        };
        check(0.5, &[false, false, false, true, false]);
        check(1.0, &[false, false, true, true, false]);
        check(2.0, &[false, true, true, true, false]);
        check(3.0, &[true, true, true, true, false]);
    }

    #[test]
    fn the_temperature_follows_the_entropy() {
        let check = |logits: &[f32], exponent: f32, expect: f32| {
            let dynamic = DynamicTemperature { range: 0.5, exponent };
            let found = temperature(logits, 1.0, dynamic);
            assert!((found - expect).abs() < 1e-4, "{logits:?}: {found}");
        };
        check(&[1.0, 1.0, 1.0, 1.0], 1.0, 1.5);
        check(&[100.0, 0.0, 0.0], 1.0, 0.5);
        // p = 0.75, 0.25: entropy 0.5623 of ln 2 = 0.6931.
        check(&[3f32.ln(), 0.0], 1.0, 0.5 + 0.811_278);
        check(&[3f32.ln(), 0.0], 2.0, 0.5 + 0.658_172);
        check(&[1.0, f32::NEG_INFINITY], 1.0, 1.0);
        assert_eq!(temperature(&[1.0, 2.0], 0.7, DynamicTemperature::default()), 0.7);
    }

    fn penalties(terms: &Terms, dry: &Dry, prompt: &[Token], generated: &[Token]) -> Vec<f32> {
        let mut logits = vec![0.0; 8];
        terms.dry(&mut logits, dry, prompt, generated);
        logits
    }

    #[test]
    fn dry_penalizes_by_the_length_of_what_would_repeat() {
        let dry = Dry { multiplier: 0.5, base: 2.0, ..Dry::default() };
        let none = Terms::default();
        // 1 2 3 … 1 2: a 3 would make it three that repeat; two stand before it.
        let check = |prompt: &[Token], generated: &[Token], expect: [f32; 8]| {
            assert_eq!(
                penalties(&none, &dry, prompt, generated),
                expect,
                "{prompt:?} {generated:?}"
            );
        };
        let three = |penalty: f32| [0.0, 0.0, 0.0, -penalty, 0.0, 0.0, 0.0, 0.0];
        check(&[1, 2, 3, 4], &[1, 2], three(0.5));
        check(&[5, 1, 2, 3, 4, 5], &[1, 2], three(1.0));
        check(&[2, 3, 4], &[1, 2], three(0.0));
        check(&[], &[1, 2, 3, 1, 2, 4, 0, 1, 2], [0.0, 0.0, 0.0, -0.5, -0.5, 0.0, 0.0, 0.0]);
        check(&[], &[], [0.0; 8]);
        let late = Dry { last_n: 4, ..dry.clone() };
        assert_eq!(penalties(&none, &late, &[1, 2, 3, 4], &[1, 2]), [0.0; 8], "too far back");
        let broken = Terms { breakers: [2].into(), ..Terms::default() };
        assert_eq!(penalties(&broken, &dry, &[1, 2, 3, 4], &[1, 2]), [0.0; 8], "2 breaks it");
    }

    #[test]
    fn some_tokens_may_not_come() {
        let terms = Terms {
            ends: vec![0],
            bad: vec![vec![3], vec![1, 2]],
            allowed: HashSet::new(),
            ..Terms::default()
        };
        let rules = Sampling { min_tokens: 2, ..Sampling::default() };
        let check = |generated: &[Token], expect: &[Token]| {
            let mut logits = vec![0.0; 5];
            terms.ban(&mut logits, &rules, generated);
            let all = 0..5;
            let banned: Vec<Token> = all.filter(|t| logits[*t as usize] < 0.0).collect();
            assert_eq!(banned, expect, "after {generated:?}");
        };
        check(&[], &[0, 3]);
        check(&[1], &[0, 2, 3]);
        check(&[4, 1], &[2, 3]);
        check(&[1, 4], &[3]);
        let only = Terms { allowed: [1, 4].into(), ..Terms::default() };
        let mut logits = vec![0.0; 5];
        only.ban(&mut logits, &Sampling::default(), &[]);
        assert_eq!(logits.map_finite(), [1, 4]);
    }

    trait Finite {
        fn map_finite(&self) -> Vec<usize>;
    }

    impl Finite for Vec<f32> {
        fn map_finite(&self) -> Vec<usize> {
            (0..self.len()).filter(|at| self[*at].is_finite()).collect()
        }
    }
}
