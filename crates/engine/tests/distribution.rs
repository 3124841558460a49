//! What is drawn has the model's own distribution, with guesses and without: thousands of answers,
//! each with a seed of its own, are held against probabilities computed from the model's logits
//! (Pearson's chi-squared test). A sampler that lets a guess stand now and then must not pass.

mod support;

use ingle_engine::{Options, Speculation, Stats};
use ingle_protocol::{Sampling, Token};
use std::collections::BTreeMap;
use support::clocked::{Asked, Machine, SECOND, Second};
use support::tiny;

/// The tokens that are drawn, and how many of them in a row are looked at.
const DRAWN: [Token; 3] = [65, 66, 67];
const DEPTH: usize = 3;
const SEEDS: u64 = 3000;

/// Likely outcomes of so many answers.
type Counts = BTreeMap<Vec<Token>, f64>;

fn rules() -> Sampling {
    // Nothing else can be drawn, and which of the three it is remains the model's choice.
    let logit_bias = DRAWN.map(|token| (token, 100.0)).to_vec();
    Sampling {
        temperature: 1.0,
        top_k: 3,
        top_p: 1.0,
        min_p: 0.0,
        logit_bias,
        ..Sampling::default()
    }
}

fn asked(prompt: &[Token], seed: u64, new_max: usize) -> Asked {
    Asked { prompt: prompt.to_vec(), new_max, rules: rules(), seed, stop: None }
}

fn options(speculation: Speculation) -> Options {
    Options { speculation, kv_bytes: Some(1 << 20), ..Options::default() }
}

/// Every three of the drawn tokens in a row occur in it, so that lookup has something to guess.
fn repeating() -> Vec<Token> {
    let order =
        [0, 0, 0, 1, 0, 0, 2, 0, 1, 1, 0, 1, 2, 0, 2, 1, 0, 2, 2, 1, 1, 1, 2, 1, 2, 2, 2, 0, 0];
    order.repeat(2).into_iter().map(|at: usize| DRAWN[at]).collect()
}

/// Nothing in it occurs twice.
fn fresh() -> Vec<Token> {
    (100..130).collect()
}

/// The probability of each outcome, from the logits that the model gives without guesses.
fn exact(prompt: &[Token]) -> Counts {
    let mut machine = Machine::new(&tiny("qwen3"), None, &options(Speculation::None));
    let mut paths: Counts = [(Vec::new(), 1.0)].into();
    for _ in 0..DEPTH {
        let mut longer = Counts::new();
        for (path, chance) in paths {
            let told = machine.answer(&[asked(&[prompt, &path].concat(), 0, 1)]);
            let logits = DRAWN.map(|token| f64::from(told[0].logits[token as usize]));
            let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights = logits.map(|logit| (logit - most).exp());
            let all: f64 = weights.iter().sum();
            for (token, weight) in DRAWN.iter().zip(weights) {
                longer.insert([&path[..], &[*token]].concat(), chance * weight / all);
            }
        }
        paths = longer;
    }
    paths
}

/// What so many seeds draw.
fn drawn(machine: &mut Machine, prompt: &[Token]) -> (Vec<Vec<Token>>, Stats) {
    // The first ones tell whether guessing pays.
    machine.answer(&[asked(prompt, SEEDS, 60), asked(prompt, SEEDS + 1, 60)]);
    let one = |seed| machine.answer(&[asked(prompt, seed, DEPTH + 1)])[0].said()[..DEPTH].to_vec();
    ((0..SEEDS).map(one).collect(), machine.core.stats())
}

/// Pearson's statistic, and what it exceeds once in a hundred thousand times (Wilson and Hilferty's
/// approximation). Outcomes that are too rare for it are taken together.
fn chi_squared(outcomes: &[Vec<Token>], exact: &Counts) -> (f64, f64) {
    const RARE: f64 = 5.0;
    let mut cells: BTreeMap<Option<&[Token]>, (f64, f64)> = BTreeMap::new();
    let all = outcomes.len() as f64;
    let cell = |path: &[Token]| exact.get(path).is_some_and(|chance| chance * all >= RARE);
    for (path, chance) in exact {
        cells.entry(Some(&path[..]).filter(|path| cell(path))).or_default().0 += chance * all;
    }
    for path in outcomes {
        cells.entry(Some(&path[..]).filter(|path| cell(path))).or_default().1 += 1.0;
    }
    let part = |&(expect, seen): &(f64, f64)| (seen - expect).powi(2) / expect;
    let free = cells.len() as f64 - 1.0;
    assert!(free >= 8.0, "too few outcomes to tell distributions apart");
    let spread = 2.0 / (9.0 * free);
    let most = free * (1.0 - spread + 4.265 * spread.sqrt()).powi(3);
    (cells.values().map(part).sum(), most)
}

/// The same draws, but that one in eight is the likeliest outcome whatever was drawn.
fn biased(outcomes: &[Vec<Token>], exact: &Counts) -> Vec<Vec<Token>> {
    let likeliest = exact.iter().max_by(|a, b| a.1.total_cmp(b.1)).expect("some").0;
    let one = |(at, path): (usize, &Vec<Token>)| if at % 8 == 0 { likeliest } else { path }.clone();
    outcomes.iter().enumerate().map(one).collect()
}

#[test]
fn what_is_drawn_has_the_models_own_distribution() {
    let path = tiny("qwen3");
    let second = Second { path: &path, cost: SECOND, kv_bytes: 1 << 20 };
    let check = |prompt: &[Token], second, speculation, guesses: fn(&Stats) -> u64| {
        let mut machine = Machine::new(&path, second, &options(speculation));
        let (outcomes, stats) = drawn(&mut machine, prompt);
        assert!(guesses(&stats) >= SEEDS / 4, "{speculation:?}: {stats:?}");
        let exact = exact(prompt);
        let (found, most) = chi_squared(&outcomes, &exact);
        assert!(found < most, "{speculation:?}: {found} of {most} at most");
        let (found, most) = chi_squared(&biased(&outcomes, &exact), &exact);
        assert!(found > most, "a bias was not noticed: {found} of {most} at most");
        outcomes
    };
    let plain = |prompt: &[Token]| check(prompt, None, Speculation::None, |_| SEEDS);
    let lookups = |stats: &Stats| stats.drafted_tokens - stats.drafted_by_model;
    let by_lookup = check(&repeating(), None, Speculation::Lookup, lookups);
    assert!(by_lookup == plain(&repeating()), "the same draws");
    let by_model =
        check(&fresh(), Some(second), Speculation::Draft, |stats| stats.drafted_by_model);
    assert!(by_model == plain(&fresh()), "the same draws");
}
