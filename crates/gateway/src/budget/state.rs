//! Accounts and reservations as a state machine. Each step either happens as a whole or not at all;
//! after each, in every account, `spent + reserved` is within every limit that it was reserved
//! under. Absent: locks, stores and clocks.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::Window;
use crate::prices::money::dollars;

/// Reservations open at once, at most.
pub const OPEN_MAX: usize = 65_536;
/// Accounts at once, at most.
pub const ACCOUNTS_MAX: usize = 262_144;

/// Money and tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Micro-dollars.
    pub micros: u64,
    /// Tokens.
    pub tokens: u64,
}

impl Amount {
    fn plus(self, other: Self) -> Self {
        Self {
            micros: self.micros.saturating_add(other.micros),
            tokens: self.tokens.saturating_add(other.tokens),
        }
    }

    pub(crate) fn less(self, other: Self) -> Self {
        Self {
            micros: self.micros.saturating_sub(other.micros),
            tokens: self.tokens.saturating_sub(other.tokens),
        }
    }

    pub(crate) fn least(self, other: Self) -> Self {
        Self { micros: self.micros.min(other.micros), tokens: self.tokens.min(other.tokens) }
    }
}

/// The most of each; `None` where it is not bounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// Micro-dollars.
    pub micros: Option<u64>,
    /// Tokens.
    pub tokens: Option<u64>,
}

/// Whose spending is counted together, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Account {
    /// The budget's name, and behind a colon the key, team or candidate that it is of.
    pub name: String,
    /// Its day, month or all time.
    pub window: Window,
}

/// An account that a call is charged to, and what it may hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// The account.
    pub account: Account,
    /// What it may hold at most.
    pub limit: Limit,
}

/// Where an account stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Settled.
    pub spent: Amount,
    /// Held for calls under way.
    pub reserved: Amount,
    /// Those calls.
    pub calls: u32,
}

impl Standing {
    /// What more would be too much: `None` where it fits, or else what there is and the limit.
    pub fn over(&self, more: Amount, limit: Limit) -> Option<String> {
        let all = self.spent.plus(self.reserved).plus(more);
        let used = self.spent.plus(self.reserved);
        match (limit.micros, limit.tokens) {
            (Some(most), _) if all.micros > most => Some(format!(
                "{} of {} are spent or held, and it takes up to {}",
                dollars(used.micros),
                dollars(most),
                dollars(more.micros)
            )),
            (_, Some(most)) if all.tokens > most => Some(format!(
                "{} of {most} tokens are spent or held, and it takes up to {}",
                used.tokens, more.tokens
            )),
            _ => None,
        }
    }
}

/// What a call holds. A call that is tried again, or elsewhere, holds one for each try, under an id
/// of its own, since each may be charged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Open {
    /// Milliseconds since 1970 when it was taken.
    pub at_ms: u64,
    /// Whether any byte of it may have left.
    pub sent: bool,
    /// The worst case.
    pub amount: Amount,
    /// What it is held in.
    pub accounts: Vec<Account>,
}

/// Why nothing was reserved, or a reservation is not found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// An account has no room.
    #[error("over budget {account}: {why}")]
    Over {
        /// The account's name.
        account: String,
        /// What it has and what was wanted.
        why: String,
    },
    /// The time of an account is over, or has not come: decide anew.
    #[error("the time of budget {0} is over: decide again")]
    Stale(String),
    /// Something is held under that id.
    #[error("a reservation {0:?} is open already: each try needs an id of its own")]
    Twice(String),
    /// Nothing is held under that id: it was settled, released or expired.
    #[error("no reservation {0:?} is open: it was settled, released or has expired")]
    NotOpen(String),
    /// There are too many reservations or accounts.
    #[error("too many reservations or accounts are open at once: try again later")]
    Full,
    /// The store that keeps them does not answer.
    #[error("the store of budgets fails: {0}")]
    Broken(String),
}

/// What became of a reservation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// What was charged to each of its accounts.
    pub charged: Amount,
    /// What was told beyond its worst case, and not charged.
    pub beyond: Amount,
}

/// A reservation of a call that nobody will settle any more, and what was charged for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Its id.
    pub id: String,
    /// Its worst case where it may have left, and else nothing.
    pub charged: Amount,
    /// Where it was charged.
    pub accounts: Vec<Account>,
}

/// All accounts and all reservations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    accounts: BTreeMap<Account, Standing>,
    open: BTreeMap<String, Open>,
    /// The latest time that it was told, which it never goes behind.
    now_ms: u64,
}

impl State {
    /// What a process finds that comes after another. `spent` are a ledger's sums by account;
    /// `open` what was held, by id, and `ended` tells which of those ids the ledger has an entry of
    /// and so has counted. What is left are calls of the dead: those of which a byte may have left
    /// are charged at their worst, the others released. The ledger gets an entry for each.
    pub fn recover(
        spent: impl IntoIterator<Item = (Account, Amount)>,
        open: impl IntoIterator<Item = (String, Open)>,
        ended: impl Fn(&str) -> bool,
    ) -> (Self, Vec<Lost>) {
        let mut state = Self::default();
        for (account, amount) in spent {
            let standing = state.accounts.entry(account).or_default();
            standing.spent = standing.spent.plus(amount);
        }
        let dead = open.into_iter().filter(|(id, _)| !ended(id));
        let lost = dead.map(|(id, open)| state.lose(id, open)).collect();
        (state, lost)
    }

    /// Where an account stands.
    pub fn standing(&self, account: &Account) -> Standing {
        self.accounts.get(account).copied().unwrap_or_default()
    }

    /// All accounts.
    pub fn accounts(&self) -> impl Iterator<Item = (&Account, &Standing)> {
        self.accounts.iter()
    }

    /// All that is held, by id.
    pub fn open(&self) -> impl Iterator<Item = (&String, &Open)> {
        self.open.iter()
    }

    /// Holds an amount in all of these accounts, or in none.
    ///
    /// # Errors
    /// What has no room, or is not of this time, or is held already.
    pub fn reserve(
        &mut self,
        id: &str,
        amount: Amount,
        claims: &[Claim],
        now_ms: u64,
    ) -> Result<(), Refusal> {
        self.advance(now_ms);
        if self.open.contains_key(id) {
            return Err(Refusal::Twice(id.to_owned()));
        }
        let claims: BTreeMap<&Account, Limit> = merged(claims);
        if self.open.len() >= OPEN_MAX || self.accounts.len() + claims.len() > ACCOUNTS_MAX {
            return Err(Refusal::Full);
        }
        for (account, limit) in &claims {
            if !account.window.holds(self.now_ms) {
                return Err(Refusal::Stale(account.name.clone()));
            }
            if let Some(why) = self.standing(account).over(amount, *limit) {
                return Err(Refusal::Over { account: account.name.clone(), why });
            }
        }
        for account in claims.keys() {
            let standing = self.accounts.entry((*account).clone()).or_default();
            standing.reserved = standing.reserved.plus(amount);
            standing.calls += 1;
        }
        let accounts = claims.into_keys().cloned().collect();
        let open = Open { at_ms: self.now_ms, sent: false, amount, accounts };
        self.open.insert(id.to_owned(), open);
        Ok(())
    }

    /// Notes that a byte of it may leave from now on. To be said before one does.
    ///
    /// # Errors
    /// Nothing is held under that id, and nothing may be sent.
    pub fn sent(&mut self, id: &str) -> Result<(), Refusal> {
        let open = self.open.get_mut(id).ok_or_else(|| Refusal::NotOpen(id.to_owned()))?;
        open.sent = true;
        Ok(())
    }

    /// Charges what a call took, at most what it held; `None` charges that, where it is not known.
    ///
    /// # Errors
    /// Nothing is held under that id.
    pub fn settle(&mut self, id: &str, took: Option<Amount>) -> Result<Settled, Refusal> {
        let open = self.open.remove(id).ok_or_else(|| Refusal::NotOpen(id.to_owned()))?;
        let took = took.unwrap_or(open.amount);
        let charged = took.least(open.amount);
        self.close(&open, charged);
        Ok(Settled { charged, beyond: took.less(open.amount) })
    }

    /// Gives back what a call held that was charged nothing.
    ///
    /// # Errors
    /// Nothing is held under that id.
    pub fn release(&mut self, id: &str) -> Result<(), Refusal> {
        self.settle(id, Some(Amount::default())).map(drop)
    }

    /// Ends what is held since before a moment, as [`State::recover`] does. Who keeps calls no
    /// longer than a time knows what is older to be of the dead.
    pub fn expire(&mut self, before_ms: u64) -> Vec<Lost> {
        let old = self.open.iter().filter(|(_, open)| open.at_ms < before_ms);
        let ids: Vec<String> = old.map(|(id, _)| id.clone()).collect();
        let taken = ids.into_iter().filter_map(|id| self.open.remove_entry(&id));
        let taken: Vec<(String, Open)> = taken.collect();
        let lose = |(id, open): (String, Open)| {
            let charged = if open.sent { open.amount } else { Amount::default() };
            self.close(&open, charged);
            Lost { id, charged, accounts: open.accounts }
        };
        taken.into_iter().map(lose).collect()
    }

    /// Charges what nothing is reserved for any more.
    fn lose(&mut self, id: String, open: Open) -> Lost {
        let charged = if open.sent { open.amount } else { Amount::default() };
        for account in &open.accounts {
            let standing = self.accounts.entry(account.clone()).or_default();
            standing.spent = standing.spent.plus(charged);
        }
        Lost { id, charged, accounts: open.accounts }
    }

    fn close(&mut self, open: &Open, charged: Amount) {
        for account in &open.accounts {
            let Entry::Occupied(mut entry) = self.accounts.entry(account.clone()) else {
                unreachable!("an account with calls is kept: this is a bug");
            };
            let standing = entry.get_mut();
            standing.reserved = standing.reserved.less(open.amount);
            standing.spent = standing.spent.plus(charged);
            standing.calls = standing.calls.saturating_sub(1);
        }
    }

    /// Time goes on, and accounts whose time is over go as soon as no call is in them.
    fn advance(&mut self, now_ms: u64) {
        if now_ms <= self.now_ms {
            return;
        }
        self.now_ms = now_ms;
        if self.accounts.keys().any(|account| account.window.end_ms <= now_ms) {
            self.accounts.retain(|it, standing| standing.calls > 0 || it.window.end_ms > now_ms);
        }
    }
}

/// Each account once, with the least of its limits.
pub(super) fn merged(claims: &[Claim]) -> BTreeMap<&Account, Limit> {
    let mut all: BTreeMap<&Account, Limit> = BTreeMap::new();
    for claim in claims {
        let least = |a: Option<u64>, b: Option<u64>| a.into_iter().chain(b).min();
        let limit = all.entry(&claim.account).or_insert(claim.limit);
        limit.micros = least(limit.micros, claim.limit.micros);
        limit.tokens = least(limit.tokens, claim.limit.tokens);
    }
    all
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
