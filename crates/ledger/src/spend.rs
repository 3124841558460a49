//! What calls cost, added up by what they have in common. Money is whole micro-dollars, so that the
//! sums are those of the entries exactly. Absent: how it is shown.

/// What calls are added up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum By {
    /// The model that answered.
    Model,
    /// The provider.
    Provider,
    /// The key.
    Key,
    /// The key's team.
    Team,
    /// The path that the call came by.
    Path,
    /// The day it came on, in UTC: `2026-11-22`.
    Day,
    /// Nothing: one sum of all.
    All,
}

/// Each way with its name and its SQL.
const WAYS: &[(By, &str, &str)] = &[
    (By::Model, "model", "model"),
    (By::Provider, "provider", "provider"),
    (By::Key, "key", "key_name"),
    (By::Team, "team", "team"),
    (By::Path, "path", "path"),
    (By::Day, "day", "at_ms / 86400000"),
    (By::All, "all", "0"),
];

impl By {
    /// The way of that name.
    pub fn named(name: &str) -> Option<Self> {
        WAYS.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        WAYS.iter().find(|row| row.0 == self).map_or("", |row| row.1)
    }

    /// All names.
    pub fn names() -> impl Iterator<Item = &'static str> {
        WAYS.iter().map(|row| row.1)
    }

    /// The expression that rows are grouped by: of this table alone, never of a caller's text.
    pub(crate) fn sql(self) -> &'static str {
        WAYS.iter().find(|row| row.0 == self).map_or("0", |row| row.2)
    }
}

/// What calls that have something in common cost together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spend {
    /// What they have in common: a name, empty where they have none, or a day.
    pub name: String,
    /// How many.
    pub calls: u64,
    /// Tokens of prompts.
    pub prompt_tokens: u64,
    /// Those of them that were cached.
    pub cached_tokens: u64,
    /// Tokens generated.
    pub completion_tokens: u64,
    /// Those of them that were thoughts.
    pub reasoning_tokens: u64,
    /// What those cost whose cost is known, in micro-dollars.
    pub cost_micros: u64,
    /// Calls that were tried and whose cost is not known: they are in no sum of money.
    pub unknown: u64,
    /// Calls whose cost was estimated, since their answer was cut or lost.
    pub estimated: u64,
    /// Calls of which any byte left the machine.
    pub left: u64,
    /// What these cost, where that is known, in micro-dollars.
    pub left_micros: u64,
    /// Those of them whose cost is not known.
    pub left_unknown: u64,
    /// Bytes of these calls' request bodies.
    pub bytes_out: u64,
    /// Calls that were refused before anybody was asked: they count in `calls`, too.
    pub refused: u64,
    /// Calls that can be compared: their cost and what the policy's model of comparison would
    /// have cost are known.
    pub compared: u64,
    /// What these cost, in micro-dollars.
    pub compared_micros: u64,
    /// What that model would have cost for them, in micro-dollars.
    pub instead_micros: u64,
}

impl Spend {
    /// What was saved against the policy's model of comparison, in micro-dollars; less than 0
    /// where it would have been cheaper. `None` where nothing can be compared.
    pub fn saved_micros(&self) -> Option<i64> {
        let all = i128::from(self.instead_micros) - i128::from(self.compared_micros);
        (self.compared > 0).then(|| i64::try_from(all).unwrap_or(i64::MAX))
    }

    /// The share of calls that left the machine, of those that were answered or tried at all;
    /// `None` where none was.
    pub fn left_share(&self) -> Option<f64> {
        let tried = self.calls - self.refused.min(self.calls);
        (tried > 0).then(|| self.left as f64 / tried as f64)
    }
}
