//! Rounds played over made-up models: how long steps take and how often guesses are right is known.

use super::*;
use crate::draft::DRAFT_MAX;

const US: f64 = 1e-6;

/// A pair of models.
#[derive(Clone, Copy, Debug)]
struct Pair {
    /// What a step takes, in seconds, and what each more row adds.
    target: (f64, f64),
    draft: (f64, f64),
    /// How often guesses are right where the model is sure, and where it is not.
    right: (f64, f64),
    /// How often it is sure.
    sure: f64,
}

fn time((step, row): (f64, f64), rows: usize) -> f64 {
    step + row * (rows - 1) as f64
}

fn uniform(state: &mut u64) -> f64 {
    *state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
    (*state >> 11) as f64 / (1u64 << 53) as f64
}

/// Time with guesses over time without, for answers of so many tokens by one sequence after
/// another, which `sequences` share each step.
fn play(pair: Pair, (answers, len): (usize, usize), sequences: usize, seed: u64) -> f64 {
    let mut worth = Worth::new(1000, (1000.0 * pair.draft.0 / pair.target.0) as usize);
    let mut draws = seed;
    let (mut spent, mut plain) = (0.0, 0.0);
    for _ in 0..answers {
        let (mut own, mut said, mut known, mut guessed_at) = (None, 0, 0, 0);
        while said < len {
            let drafts = round(
                &mut worth,
                pair,
                sequences,
                (said, guessed_at),
                |worth, more| {
                    let chances = own.get_or_insert_with(|| worth.chances().clone());
                    let reads = if more { 1 } else { (said + 30 - known).min(256) };
                    (chances.clone(), reads)
                },
                &mut draws,
            );
            let (tried, right, took) = drafts;
            if took > 0.0 {
                (known, guessed_at) = (said + 30, said);
                let chances = own.get_or_insert_with(|| worth.chances().clone());
                for &(sure, right) in tried.iter().take(right + 1) {
                    worth.note(chances, sure, right);
                }
            }
            let noise = 0.9 + 0.2 * uniform(&mut draws);
            let rows = sequences + tried.len() * sequences;
            let step = noise * time(pair.target, rows);
            worth.step(&Booked {
                rows,
                guessed: tried.len() * sequences,
                right: right * sequences,
                sequences,
                prompts: false,
                took: Duration::from_secs_f64(step),
            });
            said += 1 + right;
            spent += took + step;
            plain += (1 + right) as f64 * time(pair.target, sequences);
        }
    }
    spent / plain
}

/// One round: the guesses that are tried, each with its sureness and whether it is right, how many
/// of them stand, and what it took.
fn round(
    worth: &mut Worth,
    pair: Pair,
    sequences: usize,
    (said, guessed_at): (usize, usize),
    mut own: impl FnMut(&Worth, bool) -> (Chances, usize),
    draws: &mut u64,
) -> (Vec<(f32, bool)>, usize, f64) {
    let mut tried: Vec<(f32, bool)> = Vec::new();
    let mut took = 0.0;
    let none = (Vec::new(), 0, 0.0);
    let Some(prices) = worth.prices(sequences, sequences, sequences) else { return none };
    let mut stake = prices.stake();
    let (chances, reads) = own(worth, false);
    let pays = stake.goes_on(&chances, &prices) || said >= guessed_at + worth.retry_tokens();
    if worth.pauses() || !pays || worth.affords(reads * sequences) < reads * sequences {
        return none;
    }
    loop {
        let rows = sequences * if took > 0.0 { 1 } else { reads };
        let step = time(pair.draft, rows);
        took += step;
        worth.guessed(rows, Duration::from_secs_f64(step));
        let sure = uniform(draws) < pair.sure;
        let right = uniform(draws) < if sure { pair.right.0 } else { pair.right.1 };
        let (chances, _) = own(worth, true);
        let rows = sequences + tried.len() * sequences;
        let Some(prices) = worth.prices(sequences, rows, sequences) else { return none };
        let sureness = if sure { 0.95 } else { 0.35 };
        if !stake.takes(&chances, sureness, &prices) {
            break;
        }
        tried.push((sureness, right));
        let Some(prices) = worth.prices(sequences, rows + sequences, sequences) else {
            return none;
        };
        if tried.len() == DRAFT_MAX || !stake.goes_on(&chances, &prices) {
            break;
        }
    }
    let right = tried.iter().take_while(|(_, right)| *right).count();
    (tried, right, took)
}

const GOOD: Pair = Pair {
    target: (10_000.0 * US, 500.0 * US),
    draft: (1_000.0 * US, 100.0 * US),
    right: (0.9, 0.4),
    sure: 0.7,
};

#[test]
fn where_guesses_are_good_and_cheap_time_is_saved() {
    let check = |pair: Pair, sequences: usize, most: f64| {
        let ratio = play(pair, (10, 200), sequences, 1);
        assert!(ratio < most, "{ratio} for {sequences} of {pair:?}");
    };
    check(GOOD, 1, 0.6);
    check(GOOD, 2, 0.7);
    check(Pair { right: (1.0, 1.0), ..GOOD }, 1, 0.35);
    check(Pair { draft: (3_000.0 * US, 100.0 * US), right: (0.95, 0.6), ..GOOD }, 1, 0.8);
    check(Pair { right: (0.7, 0.1), sure: 0.5, ..GOOD }, 1, 0.9);
}

/// Guesses that are never right, seldom right, or right but too dear; rows that cost as much as
/// steps; many sequences; short answers and long ones.
#[test]
fn where_guesses_do_not_pay_little_is_lost() {
    for right in [(0.0, 0.0), (0.3, 0.0), (0.5, 0.1), (1.0, 1.0)] {
        for (draft, row) in [(0.02, 0.05), (0.1, 0.05), (0.5, 0.2), (1.0, 0.3), (0.1, 1.0)] {
            for (answers, len) in [(100, 20), (20, 100), (2, 1000)] {
                for sequences in [1, 4, 16] {
                    let target = (10_000.0 * US, 10_000.0 * US * row);
                    let draft = (10_000.0 * US * draft, 10_000.0 * US * draft * row);
                    let pair = Pair { target, draft, right, ..GOOD };
                    let ratio = play(pair, (answers, len), sequences, 7);
                    assert!(ratio < 1.03, "{ratio} for {answers} × {len}, {sequences}, {pair:?}");
                }
            }
        }
    }
}

/// What was good becomes useless, and good again.
#[test]
fn what_changes_is_noticed() {
    let mut worth = Worth::new(100, 10);
    let mut own = worth.chances().clone();
    let step = |worth: &mut Worth, rows| {
        let took = Duration::from_secs_f64(time(GOOD.target, rows));
        let guessed = rows - 1;
        let booked = Booked { rows, guessed, right: 0, sequences: 1, prompts: false, took };
        worth.step(&booked);
    };
    step(&mut worth, 1);
    let pays = |worth: &Worth, own: &Chances| {
        let prices = worth.prices(1, 1, 1).expect("a step was timed");
        prices.stake().goes_on(own, &prices)
    };
    assert!(pays(&worth, &own), "worth a try");
    for (right, expect) in [(false, false), (true, true), (false, false)] {
        (0..40).for_each(|_| worth.note(&mut own, 0.95, right));
        assert_eq!((pays(&worth, &own), pays(&worth, worth.chances())), (expect, expect));
    }
}
