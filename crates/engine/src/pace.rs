//! How much of prompts a step takes beside running answers, so that neither waits long for the
//! other; learned from how long steps take. Time is an argument; the scheduler gets a number of
//! tokens and knows no more of it.
//!
//! The rule: a step's time goes in equal parts to its answers, all together, and to each prompt
//! that is due, of which [`PARTS_MAX`] count. So while one prompt arrives, the gaps between an
//! answer's tokens are twice as long as usual, however long the prompt is. Where many prompts wait
//! for few answers, steps are longer and the prompts come into the batch sooner, which all gain by:
//! a step costs something for itself, and the more rows it has the less that matters.
//!
//! A token of a prompt costs more the more stands before it, since it attends to all of that. No
//! formula for it is here: chunk follows chunk, so what the last one cost says enough.
//!
//! Absent here: clocks, and what else a machine is busy with.

use crate::times::Times;
use ingle_scheduler::Due;
use std::time::Duration;

/// So many prompts have a part of their own in a step. At most five times as long as usual, it is
/// still read smoothly; and what a step costs for itself (3.6 of 4.5 ms for one row of SmolLM2-135M
/// on 2 cores, and each more row 0.9 ms) is a small share of it already.
const PARTS_MAX: usize = 4;
/// Prompts get on at least this fast: with an answer's token these are the rows that a kernel takes
/// while it reads a weight once, so that fewer would hardly make the step shorter.
const LEAST: usize = 3;
/// Where nothing is known yet.
const UNKNOWN: usize = 32;

/// Positions that a step computes: of answers, their drafts with them, and of prompts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rows {
    pub(crate) answers: usize,
    pub(crate) prompts: usize,
}

/// What was learned, in nanoseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pace {
    /// Steps of answers alone.
    answers: Times,
    /// A prompt's token beside answers, and in a step of prompts alone.
    beside: Option<f64>,
    alone: Option<f64>,
}

/// Moves an average by a quarter of the way. A step that took very long, or no time, was out of the
/// usual, so that it counts as twice the average at most, and as half of it at least.
fn learn(average: &mut Option<f64>, now: f64) {
    let moved = |old: f64| old + (now.clamp(old / 2.0, 2.0 * old) - old) / 4.0;
    *average = Some(average.map_or(now, moved));
}

impl Pace {
    /// A step over these rows took this long.
    pub(crate) fn step(&mut self, rows: Rows, took: Duration) {
        let time = took.as_nanos() as f64;
        let Rows { answers, prompts } = rows;
        match (answers, prompts, self.answers.of(answers)) {
            (_, 0, _) => self.answers.learn(answers, took),
            (0, _, _) => learn(&mut self.alone, time / prompts as f64),
            (_, _, None) => {}
            (_, _, Some(usual)) => {
                // What is known of the answers' part may err, even be more than the whole. A row
                // costs little where reading the weights takes the time, but never nothing.
                let least = time / (8 * (answers + prompts)) as f64;
                learn(&mut self.beside, ((time - usual) / prompts as f64).max(least));
            }
        }
    }

    /// How many of prompts' tokens may be computed in the next step, if there are answers in it.
    pub(crate) fn prefill_tokens(&self, due: Due) -> usize {
        match (self.answers.of(due.answers), self.beside.or(self.alone)) {
            (Some(usual), Some(each)) => {
                let parts = due.prompts.clamp(1, PARTS_MAX) as f64;
                ((parts * usual / each) as usize).max(LEAST)
            }
            _ => UNKNOWN,
        }
    }

    /// How long so many tokens of prompts take at least; `None` where that is not known yet.
    pub(crate) fn prefill(&self, tokens: usize) -> Option<Duration> {
        let least = self.alone.into_iter().chain(self.beside).min_by(f64::total_cmp)?;
        Some(Duration::from_nanos((least * tokens as f64) as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn step(pace: &mut Pace, answers: usize, prompts: usize, took: Duration) {
        pace.step(Rows { answers, prompts }, took);
    }

    fn beside(pace: &Pace, answers: usize, prompts: usize) -> usize {
        pace.prefill_tokens(Due { answers, prompts })
    }

    /// Steps of (answers, prompts, milliseconds), and how much of a prompt may stand beside an
    /// answer then.
    #[test]
    fn a_piece_of_a_prompt_takes_as_long_as_answers_do() {
        let check = |steps: &[(usize, usize, u32)], expect: usize| {
            let mut pace = Pace::default();
            steps.iter().for_each(|&(answers, rows, ms)| step(&mut pace, answers, rows, ms * MS));
            assert_eq!(beside(&pace, 1, 1), expect, "{steps:?}");
        };
        check(&[], UNKNOWN);
        check(&[(1, 0, 10)], UNKNOWN);
        check(&[(0, 100, 50)], UNKNOWN);
        check(&[(1, 30, 20)], UNKNOWN);
        check(&[(0, 100, 50), (1, 0, 10)], 20);
        check(&[(1, 0, 10), (1, 10, 15)], 20);
        check(&[(0, 1, 50), (1, 0, 10), (1, 4, 12)], 20);
        check(&[(1, 0, 10), (1, 10, 15), (1, 10, 19)], 16);
        check(&[(1, 0, 10), (1, 10, 15), (1, 10, 900)], 16);
        check(&[(1, 0, 10), (1, 10, 400)], LEAST);
        check(&[(1, 0, 10), (1, 10, 20), (1, 10, 10)], 11);
        check(&[(1, 0, 10), (1, 9, 9)], 88);
        check(&[(4, 0, 10), (1, 0, 8), (1, 10, 12)], 20);
    }

    /// Of answers that take 10 ms, and prompts' tokens of half of one.
    #[test]
    fn each_prompt_has_its_part_of_a_step() {
        let mut pace = Pace::default();
        for answers in [1, 16] {
            step(&mut pace, answers, 0, 10 * MS);
        }
        step(&mut pace, 1, 10, 15 * MS);
        let check = |answers: usize, prompts: usize, expect: usize| {
            assert_eq!(beside(&pace, answers, prompts), expect, "{answers} and {prompts}");
        };
        check(1, 0, 20);
        check(1, 1, 20);
        check(1, 2, 40);
        check(16, 3, 60);
        check(1, PARTS_MAX, 80);
        check(1, 100, 80);
    }

    /// A machine whose prompt tokens get dearer the further they are: no step takes longer than
    /// two and a half times the usual one, and most take nearly twice as long, so that prompts get
    /// on.
    #[test]
    fn steps_stay_short_while_a_long_prompt_gets_dearer() {
        let usual = 10 * MS;
        let each = |at: usize| Duration::from_nanos(600_000 + 150 * at as u64);
        let mut pace = Pace::default();
        step(&mut pace, 0, 20, 20 * each(10));
        step(&mut pace, 1, 0, usual);
        let (mut at, mut steps, mut full) = (0, 0, 0);
        while at < 4_000 {
            let chunk = beside(&pace, 1, 1);
            let took = usual + chunk as u32 * each(at);
            assert!(2 * took <= 5 * usual, "{took:?} for {chunk} tokens at {at}");
            step(&mut pace, 1, chunk, took);
            steps += 1;
            full += usize::from(took > usual * 9 / 5);
            at += chunk;
        }
        assert!(full * 10 > steps * 9, "{full} of {steps} steps are used well");
    }

    #[test]
    fn what_prompts_take_is_told_by_the_fastest_way_known() {
        let mut pace = Pace::default();
        assert_eq!(pace.prefill(100), None);
        step(&mut pace, 0, 10, 20 * MS);
        assert_eq!(pace.prefill(100), Some(200 * MS));
        step(&mut pace, 1, 0, 10 * MS);
        step(&mut pace, 1, 10, 20 * MS);
        assert_eq!(pace.prefill(100), Some(100 * MS));
    }
}
