//! Where budgets are kept. What one process keeps in its memory, several share through a database:
//! each method is one transaction there, and `reserve` compares and takes in it, so that two
//! processes never spend the same money. Absent: the databases (`redis`).

use std::sync::{Mutex, PoisonError};

use super::state::{Account, Amount, Claim, Lost, Refusal, Settled, Standing, State};

/// The id that is held under while a candidate is asked: the call's own, and behind a space who it
/// is.
pub fn hold_of(call: &str, candidate: &str) -> String {
    format!("{call} {candidate}")
}

/// The call that a reservation is of, by its id.
pub fn call_of(id: &str) -> &str {
    id.split_once(' ').map_or(id, |(call, _)| call)
}

/// Budgets, kept somewhere. May wait for that place: not to be called where nothing may wait. One
/// that does not answer returns [`Refusal::Broken`], and nothing is sent then.
pub trait Store: Send + Sync {
    /// Whether its methods wait for another process or a disk.
    fn waits(&self) -> bool;

    /// Holds an amount in all of these accounts, or in none, as [`State::reserve`] does.
    ///
    /// # Errors
    /// What has no room, is not of this time, or is held already.
    fn reserve(
        &self,
        id: &str,
        amount: Amount,
        claims: &[Claim],
        now_ms: u64,
    ) -> Result<(), Refusal>;

    /// Notes that a byte of it may leave from now on; not before this returned.
    ///
    /// # Errors
    /// Nothing is held under that id.
    fn sent(&self, id: &str) -> Result<(), Refusal>;

    /// Charges what a call took, or its worst case; then nothing is held under that id.
    ///
    /// # Errors
    /// Nothing was held under that id.
    fn settle(&self, id: &str, took: Option<Amount>) -> Result<Settled, Refusal>;

    /// Gives back what was charged nothing.
    ///
    /// # Errors
    /// Nothing was held under that id.
    fn release(&self, id: &str) -> Result<(), Refusal>;

    /// Ends what is held since before a moment: no call lives so long.
    ///
    /// # Errors
    /// The store does not answer.
    fn expire(&self, before_ms: u64) -> Result<Vec<Lost>, Refusal>;

    /// Where accounts stand, in their order; all of one moment.
    ///
    /// # Errors
    /// The store does not answer.
    fn standings(&self, accounts: &[Account]) -> Result<Vec<Standing>, Refusal>;
}

/// Budgets in this process's memory.
#[derive(Debug, Default)]
pub struct Memory {
    state: Mutex<State>,
}

impl Memory {
    /// From what was recovered.
    pub fn new(state: State) -> Self {
        Self { state: Mutex::new(state) }
    }

    /// All of it, as it is.
    pub fn snapshot(&self) -> State {
        self.with(|state| state.clone())
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        // A step checks before it changes, so that one which panicked left nothing half done.
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Store for Memory {
    fn waits(&self) -> bool {
        false
    }

    fn reserve(
        &self,
        id: &str,
        amount: Amount,
        claims: &[Claim],
        now_ms: u64,
    ) -> Result<(), Refusal> {
        self.with(|state| state.reserve(id, amount, claims, now_ms))
    }

    fn sent(&self, id: &str) -> Result<(), Refusal> {
        self.with(|state| state.sent(id))
    }

    fn settle(&self, id: &str, took: Option<Amount>) -> Result<Settled, Refusal> {
        self.with(|state| state.settle(id, took))
    }

    fn release(&self, id: &str) -> Result<(), Refusal> {
        self.with(|state| state.release(id))
    }

    fn expire(&self, before_ms: u64) -> Result<Vec<Lost>, Refusal> {
        Ok(self.with(|state| state.expire(before_ms)))
    }

    fn standings(&self, accounts: &[Account]) -> Result<Vec<Standing>, Refusal> {
        Ok(self.with(|state| accounts.iter().map(|it| state.standing(it)).collect()))
    }
}
