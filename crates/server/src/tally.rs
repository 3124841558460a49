//! What an answer has taken, choice by choice, whether or not it came to its end. Of a prompt with
//! several choices the tokens count once.

use ingle_protocol::Usage;

/// The choices of one answer, a prompt's side by side.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Of each prompt.
    guesses: Vec<u64>,
    /// Choices of each.
    each: usize,
    choices: Vec<Choice>,
}

/// Tokens of a choice: as its receipt says, or as many as its pieces.
#[derive(Clone, Copy, Debug)]
enum Choice {
    Running(u64),
    Ended(u64, u64),
}

impl Tally {
    pub(crate) fn new(guesses: Vec<u64>, each: usize) -> Self {
        let choices = vec![Choice::Running(0); guesses.len() * each];
        Self { guesses, each, choices }
    }

    /// A piece of a choice was made.
    pub(crate) fn piece(&mut self, index: usize) {
        if let Some(Choice::Running(pieces)) = self.choices.get_mut(index) {
            *pieces += 1;
        }
    }

    /// A choice is complete.
    pub(crate) fn done(&mut self, index: usize, usage: &Usage) {
        if let Some(choice) = self.choices.get_mut(index) {
            *choice = Choice::Ended(usage.prompt_tokens.into(), usage.completion_tokens.into());
        }
    }

    /// A choice failed; if it had not begun, nothing of it counts.
    pub(crate) fn failed(&mut self, index: usize) {
        if let Some(choice @ Choice::Running(0)) = self.choices.get_mut(index) {
            *choice = Choice::Ended(0, 0);
        }
    }

    /// Tokens of prompts and of answers.
    pub(crate) fn total(&self) -> (u64, u64) {
        let told = self.choices.iter().enumerate().map(|(at, choice)| match *choice {
            Choice::Ended(prompt, completion) => (prompt, completion),
            Choice::Running(pieces) => (self.guesses[at / self.each], pieces),
        });
        let first = |at: usize| at.is_multiple_of(self.each);
        told.enumerate().fold((0, 0), |(prompts, answers), (at, (prompt, completion))| {
            (prompts + if first(at) { prompt } else { 0 }, answers + completion)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ended_counts_as_it_says_and_the_rest_as_it_looks() {
        let usage = |prompt_tokens, completion_tokens| Usage {
            prompt_tokens,
            completion_tokens,
            ..Usage::default()
        };
        // Two prompts with two choices each.
        let mut tally = Tally::new(vec![10, 20], 2);
        assert_eq!(tally.total(), (30, 0), "broken off before anything came");
        tally.piece(0);
        tally.piece(0);
        tally.piece(3);
        assert_eq!(tally.total(), (30, 3));
        tally.done(0, &usage(12, 5));
        tally.done(1, &usage(12, 6));
        assert_eq!(tally.total(), (32, 12));
        tally.failed(2);
        tally.failed(3);
        assert_eq!(tally.total(), (12, 12), "a piece was sent, so it counts");
        tally.piece(9);
        tally.done(9, &usage(1, 1));
        assert_eq!(tally.total(), (12, 12), "there is no such choice");
    }
}
