//! How long steps take, learned from steps: so much of a prompt fits beside running answers without
//! holding them up, and so soon can a first token come. Time is an argument; the scheduler gets a
//! number of tokens and knows no more of it.
//!
//! A token of a prompt costs more the more stands before it, since it attends to all of that. No
//! formula for it is here: chunk follows chunk, so what the last one cost says enough.
//!
//! Absent here: clocks, and what else a machine is busy with.

use std::time::Duration;

/// A step with a piece of a prompt is meant to take so many times what it takes without. The
/// longest gap between an answer's tokens may be three times the usual one, and steps vary by half.
const TIMES: u64 = 2;
/// Prompts get on at least this fast: with an answer's token these are the rows that a kernel takes
/// while it reads a weight once, so that fewer would hardly make the step shorter.
const LEAST: usize = 3;
/// Where nothing is known yet.
const UNKNOWN: usize = 32;

/// What was learned, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pace {
    /// A step of answers alone.
    answers: Option<u64>,
    /// A prompt's token beside answers, and in a step of prompts alone.
    beside: Option<u64>,
    alone: Option<u64>,
}

/// Moves an average by a quarter of the way. Both ways alike: where steps vary, because something
/// else runs too, what is usual is wanted and not the worst.
fn learn(average: &mut Option<u64>, now: u64) {
    *average = Some(average.map_or(now, |old| old - old / 4 + now / 4));
}

impl Pace {
    /// A step over so many answers' and prompts' tokens took this long.
    pub(crate) fn step(&mut self, answers: usize, prompts: usize, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let each = |took: u64| (took / prompts as u64).max(1);
        match (answers, prompts, self.answers) {
            (0, 0, _) => {}
            (_, 0, _) => learn(&mut self.answers, took),
            (0, _, _) => learn(&mut self.alone, each(took)),
            (_, _, Some(usual)) => learn(&mut self.beside, each(took.saturating_sub(usual))),
            (_, _, None) => {}
        }
    }

    /// How many of prompts' tokens may be computed in a step beside answers.
    pub(crate) fn prefill_tokens(&self) -> usize {
        match (self.answers, self.beside.or(self.alone)) {
            (Some(usual), Some(each)) => {
                let tokens = usual.saturating_mul(TIMES - 1) / each;
                usize::try_from(tokens).unwrap_or(usize::MAX).max(LEAST)
            }
            _ => UNKNOWN,
        }
    }

    /// How long so many tokens of prompts take at least; `None` where that is not known yet.
    pub(crate) fn prefill(&self, tokens: usize) -> Option<Duration> {
        let least = self.alone.into_iter().chain(self.beside).min()?;
        Some(Duration::from_nanos(least.saturating_mul(tokens as u64)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Steps of (answers, prompts, milliseconds), and how much of a prompt may stand beside then.
    #[test]
    fn a_piece_of_a_prompt_takes_as_long_as_answers_do() {
        let check = |steps: &[(usize, usize, u32)], expect: usize| {
            let mut pace = Pace::default();
            steps.iter().for_each(|&(answers, prompts, ms)| pace.step(answers, prompts, ms * MS));
            assert_eq!(pace.prefill_tokens(), expect, "{steps:?}");
        };
        check(&[], UNKNOWN);
        check(&[(1, 0, 10)], UNKNOWN);
        check(&[(0, 100, 50)], UNKNOWN);
        check(&[(1, 30, 20)], UNKNOWN);
        check(&[(0, 100, 50), (1, 0, 10)], 20);
        check(&[(1, 0, 10), (1, 10, 15)], 20);
        check(&[(0, 1, 50), (1, 0, 10), (1, 4, 12)], 20);
        check(&[(1, 0, 10), (1, 10, 15), (1, 10, 25)], 13);
        check(&[(1, 0, 10), (1, 10, 400)], LEAST);
        check(&[(1, 0, 10), (1, 10, 9)], 10_000_000);
    }

    /// A machine whose prompt tokens get dearer the further they are: no step takes longer than
    /// two and a half times the usual one, and most take nearly twice as long, so that prompts get
    /// on.
    #[test]
    fn steps_stay_short_while_a_long_prompt_gets_dearer() {
        let usual = 10 * MS;
        let each = |at: usize| Duration::from_nanos(600_000 + 150 * at as u64);
        let mut pace = Pace::default();
        pace.step(0, 20, 20 * each(10));
        pace.step(1, 0, usual);
        let (mut at, mut steps, mut full) = (0, 0, 0);
        while at < 4_000 {
            let chunk = pace.prefill_tokens();
            let took = usual + chunk as u32 * each(at);
            assert!(2 * took <= 5 * usual, "{took:?} for {chunk} tokens at {at}");
            pace.step(1, chunk, took);
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
        pace.step(0, 10, 20 * MS);
        assert_eq!(pace.prefill(100), Some(200 * MS));
        pace.step(1, 0, 10 * MS);
        pace.step(1, 10, 20 * MS);
        assert_eq!(pace.prefill(100), Some(100 * MS));
    }
}
