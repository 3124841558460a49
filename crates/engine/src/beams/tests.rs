//! The search on made-up models, against the plain loop that never ends before its time.

use super::*;

const VOCAB: Token = 12;
/// Ends a continuation.
const END: Token = 0;

/// A made-up model: log-probabilities that depend on all tokens before.
fn logprobs(seed: u64, tokens: &[Token]) -> Vec<f32> {
    let mix = |sum: u64, token: u64| {
        (sum ^ token).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23) ^ (sum >> 7)
    };
    let before = tokens.iter().fold(mix(seed, 99), |sum, &token| mix(sum, 1 + u64::from(token)));
    let logits = (0..u64::from(VOCAB)).map(|token| (mix(before, 7 + token) % 6000) as f64 / 1000.0);
    let logits: Vec<f64> = logits.collect();
    let sum = logits.iter().map(|logit| logit.exp()).sum::<f64>().ln();
    logits.into_iter().map(|logit| (logit - sum) as f32).collect()
}

fn likeliest(seed: u64, tokens: &[Token], count: usize) -> Vec<(Token, f32)> {
    let mut all: Vec<(Token, f32)> = (0..VOCAB).zip(logprobs(seed, tokens)).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    all.truncate(count);
    all
}

/// All that ends is kept, and what goes on goes on to the last token.
fn plain(rules: Beams, prompt: usize, new_max: usize, seed: u64) -> Vec<(Vec<Token>, f64)> {
    let width = usize::from(rules.width);
    let score = |one: &(Vec<Token>, f64)| {
        one.1 / ((prompt + one.0.len()) as f64).powf(f64::from(rules.length_penalty))
    };
    let best = |mut all: Vec<(Vec<Token>, f64)>| {
        all.sort_by(|a, b| score(b).total_cmp(&score(a)));
        all.truncate(width);
        all
    };
    let (mut live, mut ended) = (vec![(Vec::new(), 0.0)], Vec::new());
    for _ in 0..new_max {
        let mut grown = Vec::new();
        for (tokens, sum) in &live {
            for (token, logprob) in likeliest(seed, tokens, 2 * width) {
                let sum = sum + f64::from(logprob);
                if token == END {
                    ended.push((tokens.clone(), sum));
                } else {
                    grown.push(([&tokens[..], &[token]].concat(), sum));
                }
            }
        }
        live = best(grown);
    }
    best(ended.into_iter().chain(live).collect())
}

/// What a search finds, and how many steps it takes.
fn searched(rules: Beams, prompt: usize, new_max: usize, seed: u64) -> (Vec<Path>, usize) {
    let mut search = Search::new(rules, prompt, new_max);
    for step in 1.. {
        let next: Vec<_> = search
            .live
            .iter()
            .map(|path| likeliest(seed, &path.tokens, search.looked_at()))
            .collect();
        if !search.advance(&next, |token| token == END) {
            return (search.found(), step);
        }
    }
    unreachable!("a search ends")
}

fn rules(width: u8, length_penalty: f32) -> Beams {
    Beams { width, length_penalty, early_stopping: false }
}

#[test]
fn it_finds_what_the_plain_loop_finds_and_sooner() {
    let (mut steps, mut most) = (0, 0);
    for seed in 0..150 {
        for (width, penalty) in [(1, 1.0), (3, 1.0), (4, 0.0), (3, 2.5), (5, -1.0)] {
            let (prompt, new_max) = (1 + seed as usize % 5, 1 + seed as usize % 11);
            let (found, took) = searched(rules(width, penalty), prompt, new_max, seed);
            let expect = plain(rules(width, penalty), prompt, new_max, seed);
            let pairs = found.iter().map(|path| (path.tokens.clone(), path.logprob));
            assert_eq!(pairs.collect::<Vec<_>>(), expect, "seed {seed}, {width}, {penalty}");
            assert!(
                found
                    .iter()
                    .all(|path| { path.finish == Finish::Stop || path.tokens.len() == took })
            );
            (steps, most) = (steps + took, most + new_max);
        }
    }
    assert!(steps < most, "it never ended before its time");
}

#[test]
fn early_stopping_ends_with_the_first_so_many() {
    let mut sooner = 0;
    for seed in 0..50 {
        let early = Beams { early_stopping: true, ..rules(2, 1.0) };
        let (found, took) = searched(early, 3, 12, seed);
        let (_, patient) = searched(rules(2, 1.0), 3, 12, seed);
        assert!(took <= patient && found.len() == 2, "seed {seed}");
        sooner += usize::from(took < patient);
    }
    assert!(sooner > 0, "it is never sooner");
}

#[test]
fn longer_ones_win_where_length_is_divided_by() {
    let mean = |penalty: f32| {
        let length = |seed| searched(rules(3, penalty), 1, 12, seed).0[0].tokens.len();
        (0..100).map(length).sum::<usize>()
    };
    assert!(mean(-2.0) < mean(0.0) && mean(0.0) < mean(2.0), "{} {}", mean(0.0), mean(2.0));
}
