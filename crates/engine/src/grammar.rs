//! What an answer may say, token by token: a [`Guide`] knows which tokens the grammar allows next,
//! and which texts it leaves no choice about. The grammar library (`llguidance`) decides; here is
//! what makes it safe to ask: bounds on everything, panics caught, and no way on after a failure,
//! so that nothing constrained is ever answered unconstrained.
//!
//! What a guide says depends on the grammar and on the tokens of the answer alone. Where a text is
//! forced, its tokens are those that the model's tokenizer gives it, and they are settled at once;
//! whether a step takes one of them or many changes no answer.
//!
//! `compile` makes guides on the caller's thread, `gbnf` writes one notation in another,
//! `masks` asks them beside the engine's thread,
//! `words` is the vocabulary as the library sees it. Absent here: sampling, and the text that a
//! schema is written in.

mod compile;
mod gbnf;
mod masks;
mod words;

pub use compile::Grammars;
pub(crate) use masks::{Guided, Masks};

use crate::sampling::TokenSet;
use compile::Compiled;
use ingle_protocol::{Fault, Token};
use llguidance::Matcher;
use llguidance::api::StopReason;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// What may come next in an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// This token, whatever the model thinks.
    One(Token),
    /// One of these, at least one.
    Some(TokenSet),
    /// Nothing: the answer is complete.
    Nothing,
}

impl Allowed {
    /// Whether this token may come.
    pub fn contains(&self, token: Token) -> bool {
        match self {
            Self::One(one) => *one == token,
            Self::Some(set) => set.contains(token),
            Self::Nothing => false,
        }
    }
}

/// The state of one answer in its grammar. A clone goes on by itself.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "holds the library's parser")]
pub struct Guide {
    compiled: Arc<Compiled>,
    /// Stands behind `forced`.
    matcher: Matcher,
    /// Tokens that come next, whatever is sampled.
    forced: VecDeque<Token>,
    /// What may follow `forced`, once that was asked for.
    after: Option<Allowed>,
    /// Whether the model may end an answer that could go on.
    ends: bool,
}

impl Guide {
    fn new(compiled: Arc<Compiled>) -> Result<Self, Fault> {
        let matcher = compiled.matcher();
        let forced = VecDeque::new();
        let mut guide = Self { compiled, matcher, forced, after: None, ends: true };
        guide.force()?;
        Ok(guide)
    }

    /// With `ignore`, the model's end tokens are no choice: the answer goes on while the grammar
    /// has anything more to say.
    pub fn ignore_ends(&mut self, ignore: bool) {
        self.ends = !ignore;
        self.after = None;
    }

    /// Tokens that come next, whatever is sampled.
    pub fn forced(&self) -> impl ExactSizeIterator<Item = Token> {
        self.forced.iter().copied()
    }

    /// Whether the answer is complete and nothing can follow.
    pub fn complete(&self) -> bool {
        self.forced.is_empty() && (self.finished() || self.after == Some(Allowed::Nothing))
    }

    /// Whether the grammar has nothing to say after the forced tokens. A matcher that failed has
    /// stopped, too, and is not this.
    fn finished(&self) -> bool {
        matches!(self.matcher.stop_reason(), StopReason::NoExtension | StopReason::EndOfSentence)
    }

    /// Takes a token in. One that ends the answer is none of the grammar's.
    ///
    /// # Errors
    /// Where the token was not allowed, or the library failed; the guide is of no use then.
    pub fn accept(&mut self, token: Token) -> Result<(), Fault> {
        if let Some(&next) = self.forced.front() {
            if next != token {
                return Err(self.broken(&format!("token {token} came where {next} was forced")));
            }
            self.forced.pop_front();
            return Ok(());
        }
        self.after = None;
        self.guarded(|guide| {
            guide.matcher.consume_token(token).map_err(|error| error.to_string())
        })?;
        self.force()
    }

    /// How many leading tokens of a guess the grammar allows, as far as can be told cheaply.
    pub(crate) fn agreed(&mut self, guess: &[Token]) -> usize {
        let agrees = |(a, b): &(Token, &Token)| a == *b;
        let forced = self.forced().zip(guess).take_while(agrees).count();
        if forced < self.forced.len().min(guess.len()) || forced == guess.len() {
            return forced;
        }
        let rest = &guess[forced..];
        let agreed = self.guarded(|guide| {
            guide.matcher.validate_tokens(rest).map_err(|error| error.to_string())
        });
        forced + agreed.unwrap_or(0)
    }

    /// What may come at the next position, and at each one after a token of the draft, as long as
    /// the draft is allowed.
    ///
    /// # Errors
    /// Where the library failed, or no token of the model's could come.
    pub fn allowed(&mut self, draft: &[Token]) -> Result<Vec<Allowed>, Fault> {
        let wanted = draft.len() + 1;
        let mut found: Vec<Allowed> = self.forced().take(wanted).map(Allowed::One).collect();
        if found.len() == wanted {
            return Ok(found);
        }
        found.push(self.after()?);
        let allows = |(allowed, token): (&Allowed, &Token)| allowed.contains(*token);
        if found.len() == wanted || !found.iter().zip(draft).all(allows) {
            return Ok(found);
        }
        // The library can go back, but not over every grammar, and it keeps masks by numbers that
        // going back makes ambiguous; a copy has no such doubts.
        let mut ahead = self.clone();
        ahead.forced.clear();
        for &token in &draft[self.forced.len()..] {
            let allowed = found.last().is_some_and(|allowed| allowed.contains(token));
            if !allowed || self.compiled.ends.contains(&token) {
                break; // nothing follows an end
            }
            ahead.accept(token)?;
            found.push(ahead.next()?);
        }
        Ok(found)
    }

    fn next(&mut self) -> Result<Allowed, Fault> {
        match self.forced.front() {
            Some(&token) => Ok(Allowed::One(token)),
            None => self.after(),
        }
    }

    /// What may follow the forced tokens.
    fn after(&mut self) -> Result<Allowed, Fault> {
        if let Some(known) = &self.after {
            return Ok(known.clone());
        }
        let ends = self.ends;
        let found = self.guarded(|guide| {
            if guide.finished() {
                return Ok(Allowed::Nothing);
            }
            let mask = guide.matcher.compute_mask().map_err(|error| error.to_string())?;
            let accepts = guide.matcher.is_accepting().map_err(|error| error.to_string())?;
            let mut set = TokenSet::from(Vec::from(mask));
            if !(accepts && ends) {
                guide.compiled.ends.iter().for_each(|&end| set.remove(end));
            }
            match set.first() {
                Some(_) => Ok(Allowed::Some(set)),
                None if accepts => Ok(Allowed::Nothing),
                None => Err("no token of this model's vocabulary can come next".to_owned()),
            }
        })?;
        self.after = Some(found.clone());
        Ok(found)
    }

    /// Settles what the grammar leaves no choice about.
    fn force(&mut self) -> Result<(), Fault> {
        let most = compile::BOUNDS.forced_tokens;
        let forced = self.guarded(|guide| {
            let mut all = Vec::new();
            while !guide.finished() && all.len() <= most {
                let forced = guide.matcher.consume_ff_tokens();
                if forced.is_empty() {
                    break;
                }
                all.extend(forced);
            }
            Ok(all)
        })?;
        if let Some(end) = forced.iter().find(|token| self.compiled.ends.contains(token)) {
            return Err(self.broken(&format!("it demands token {end}, which ends answers")));
        }
        self.forced.extend(forced);
        Ok(())
    }

    /// Asks the library, which may panic. After a failure nobody gets a guide of this grammar's
    /// state any more.
    fn guarded<T>(&mut self, ask: impl FnOnce(&mut Self) -> Result<T, String>) -> Result<T, Fault> {
        let told = catch_unwind(AssertUnwindSafe(|| ask(self)));
        let told = told.unwrap_or_else(|_| Err("the library panicked".to_owned()));
        // Some of its answers hide that it failed, now or before.
        let told = self.matcher.get_error().map_or(told, Err);
        told.map_err(|error| self.broken(&error))
    }

    /// Mostly the grammar asks too much (of the limits, or of the vocabulary), and would again.
    fn broken(&self, error: &str) -> Fault {
        self.compiled.give_up();
        let why = compile::said(error);
        Fault::caller(format!("the answer cannot go on in its grammar: {why}")).at("grammar")
    }
}

#[cfg(test)]
mod framed;
#[cfg(test)]
mod tests;
