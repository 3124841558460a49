//! Mirostat (Basu et al., 2021): instead of a fixed cut one that follows how surprising the answer
//! has been, so that its tokens' surprise stays near a target. What it remembers is one number,
//! changed by each token it draws; so the answer depends on its own tokens and logits alone.

use super::{Candidate, by_rank, draw_from, mass_of};
use ingle_protocol::{Mirostat, Token};

/// The first version fits its law to the likeliest tokens, so many.
const FITTED: usize = 100;

/// The state of one answer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct State {
    /// The most surprise that is let through, in bits; begins at twice the target.
    most: Option<f64>,
}

impl State {
    /// Draws one of all tokens, weighed.
    pub(super) fn draw(
        &mut self,
        kept: &mut Vec<Candidate>,
        rules: Mirostat,
        vocab: usize,
        draw: f64,
    ) -> Option<Token> {
        let target = f64::from(rules.tau);
        let most = self.most.unwrap_or(2.0 * target);
        kept.iter_mut().for_each(|one| one.rank = one.logit);
        kept.sort_unstable_by(by_rank);
        let mass = mass_of(kept);
        let count = match rules.version {
            1 => count_by_law(kept, most, vocab),
            _ => kept.iter().take_while(|one| surprise(one, mass) <= most).count(),
        };
        kept.truncate(count.max(1));
        let token = draw_from(kept, draw)?;
        let drawn = kept.iter().find(|one| one.token == token)?;
        let error = surprise(drawn, mass_of(kept)) - target;
        self.most = Some(most - f64::from(rules.eta) * error);
        Some(token)
    }
}

/// In bits.
fn surprise(one: &Candidate, mass: f64) -> f64 {
    -(f64::from(one.weight) / mass).log2()
}

/// How many tokens keep the surprise below `most`, if probabilities fall by Zipf's law with the
/// exponent that fits the likeliest ones (the paper's equations 24 and 28).
fn count_by_law(sorted: &[Candidate], most: f64, vocab: usize) -> usize {
    let pairs = sorted.windows(2).take(FITTED - 1).enumerate();
    let (cross, square) = pairs.fold((0.0, 0.0), |(cross, square), (i, pair)| {
        let step = ((i + 2) as f64 / (i + 1) as f64).ln();
        let fall = f64::from(pair[0].logit) - f64::from(pair[1].logit);
        (cross + step * fall, square + step * step)
    });
    let exponent = cross / square;
    let over = exponent - 1.0;
    let count = (over * most.exp2() / (1.0 - (vocab as f64).powf(-over))).powf(1.0 / exponent);
    if count.is_finite() { count as usize } else { sorted.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zipf(exponent: f64) -> Vec<Candidate> {
        let one = |i: u32| Candidate {
            token: i,
            logit: (-exponent * f64::from(i + 1).ln()) as f32,
            weight: f64::from(i + 1).powf(-exponent) as f32,
            rank: 0.0,
        };
        (0..200).map(one).collect()
    }

    #[test]
    fn the_law_is_found_again() {
        // Of exponent 2, at most 3 bits: (1 * 2^3 / (1 - 1/200))^(1/2) = 2.8.
        assert_eq!(count_by_law(&zipf(2.0), 3.0, 200), 2);
        // Of exponent 1.5, at most 6 bits: (0.5 * 64 / (1 - 200^-0.5))^(2/3) = 10.6.
        assert_eq!(count_by_law(&zipf(1.5), 6.0, 200), 10);
    }

    #[test]
    fn the_second_version_cuts_by_surprise() {
        // 1, 2, 3 and 3 bits.
        let four = [0.5, 0.25, 0.125, 0.125];
        let all = || -> Vec<Candidate> {
            let one = |(at, weight): (usize, &f32)| Candidate {
                token: at as Token,
                logit: weight.ln(),
                weight: *weight,
                rank: 0.0,
            };
            four.iter().enumerate().map(one).collect()
        };
        let rules = Mirostat { version: 2, tau: 1.0, eta: 0.5 };
        let (mut state, mut kept) = (State::default(), all());
        assert_eq!(state.draw(&mut kept, rules, 4, 0.99), Some(1), "up to 2 bits");
        // Of what was kept it had a third: log2 3 bits, half of what is over 1 off from 2.
        let most = state.most.expect("drawn");
        assert!((most - (2.0 - 0.5 * (3f64.log2() - 1.0))).abs() < 1e-6, "{most}");
        let (mut tight, mut kept) = (State { most: Some(0.2) }, all());
        assert_eq!(tight.draw(&mut kept, rules, 4, 0.9), Some(0), "one always stays");
        assert!((tight.most.expect("drawn") - 0.7).abs() < 1e-6, "and lets more through next");
    }

    /// Over many draws the surprise comes near the target.
    #[test]
    fn surprise_follows_the_target() {
        for version in [1, 2] {
            for tau in [2.0, 3.0] {
                let rules = Mirostat { version, tau, eta: 0.1 };
                let mut state = State::default();
                let mut sum = 0.0;
                for i in 0..2000 {
                    let mut kept = zipf(1.1);
                    let draw = super::super::uniform(9, i);
                    let token = state.draw(&mut kept, rules, 200, draw).expect("some");
                    let mass = mass_of(&kept);
                    let drawn = kept.iter().find(|one| one.token == token).expect("is kept");
                    sum += surprise(drawn, mass);
                }
                let mean = sum / 2000.0;
                assert!((mean - f64::from(tau)).abs() < 0.2, "{version} {tau}: {mean}");
            }
        }
    }
}
