//! The decision.

use super::{Ask, Candidate, Decision, Facts, Table};
use crate::budget::Account;

/// Who might answer a request for this model, in the table's order: those of whom facts are wanted.
pub fn candidates(table: &Table, model: &str) -> Vec<Candidate>;

/// The accounts that a request may be charged to, whoever answers: those whose standing is wanted.
pub fn accounts(table: &Table, ask: &Ask<'_>, now_ms: u64) -> Vec<Account>;

/// Who is tried, in which order and how, or why nobody is.
pub fn decide(table: &Table, ask: &Ask<'_>, facts: &Facts) -> Decision;
