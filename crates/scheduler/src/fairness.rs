//! Who is next: by priority, then by what each owner has had, then by age.
//!
//! Owners share a priority by virtual-token counters (Sheng et al., "Fairness in Serving Large
//! Language Models", 2024). A counter says what its owner has had in tokens, an output token
//! weighing as two; whoever had least is next. Who begins to wait is lifted to the least of those
//! who wait already, or, where nobody does, to what the last one admitted had then: time spent
//! away is not saved up. So two owners who both wait never differ by more than what those who run
//! can still take, and within an owner and a priority it is first come, first served.
//!
//! Absent here: blocks, budgets, and what a token costs.

use crate::SeqId;
use std::collections::{BTreeMap, BTreeSet};

/// Where a sequence stands among others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank {
    /// Lower goes first, whatever has been had.
    pub priority: i32,
    /// Whose it is. Owners of one priority get equal shares of it.
    pub owner: u32,
}

/// The order of those who want a share of a step, least first: priority, counter, age.
pub(crate) type Turn = (i32, u64, SeqId);

#[derive(Debug, Default)]
struct Account {
    /// Weighed tokens that its owner has had.
    had: u64,
    /// Sequences that wait or run.
    live: usize,
    waiting: BTreeSet<SeqId>,
}

/// Everyone of one priority.
#[derive(Debug, Default)]
struct Class {
    accounts: BTreeMap<u32, Account>,
    /// What the last one admitted had then.
    clock: u64,
}

impl Class {
    fn waiting(&self) -> impl Iterator<Item = &Account> {
        self.accounts.values().filter(|account| !account.waiting.is_empty())
    }

    /// Drops who has nothing here and would be lifted anyhow.
    fn forget(&mut self) {
        self.accounts.retain(|_, account| account.live > 0 || account.had > self.clock);
    }
}

/// All counters, and who waits. A priority is forgotten when nobody of it is left.
#[derive(Debug, Default)]
pub(crate) struct Fairness {
    classes: BTreeMap<i32, Class>,
}

impl Fairness {
    /// A new sequence begins to wait.
    pub(crate) fn enter(&mut self, rank: Rank, id: SeqId) {
        let class = self.classes.entry(rank.priority).or_default();
        class.accounts.entry(rank.owner).or_default().live += 1;
        self.wait(rank, id);
    }

    /// A sequence begins to wait, for the first time or again.
    pub(crate) fn wait(&mut self, rank: Rank, id: SeqId) {
        let class = self.classes.get_mut(&rank.priority).expect("entered");
        let floor = class.waiting().map(|account| account.had).min().unwrap_or(class.clock);
        let account = class.accounts.get_mut(&rank.owner).expect("entered");
        // Who waits already is among those whose least this is.
        account.had = account.had.max(floor);
        account.waiting.insert(id);
    }

    /// The one of those who wait whose turn is first.
    pub(crate) fn next(&self) -> Option<SeqId> {
        let class = self.classes.values().find(|class| class.waiting().next().is_some())?;
        let turn = |account: &Account| Some((account.had, *account.waiting.first()?));
        class.accounts.values().filter_map(turn).min().map(|(_, id)| id)
    }

    /// A sequence waits no more, and runs.
    pub(crate) fn admit(&mut self, rank: Rank, id: SeqId) {
        let class = self.classes.get_mut(&rank.priority).expect("entered");
        let account = class.accounts.get_mut(&rank.owner).expect("entered");
        class.clock = class.clock.max(account.had);
        account.waiting.remove(&id);
        class.forget();
    }

    /// A sequence is no more.
    pub(crate) fn leave(&mut self, rank: Rank, id: SeqId) {
        let class = self.classes.get_mut(&rank.priority).expect("entered");
        let account = class.accounts.get_mut(&rank.owner).expect("entered");
        account.waiting.remove(&id);
        account.live -= 1;
        class.forget();
        if class.accounts.values().all(|account| account.live == 0) {
            self.classes.remove(&rank.priority);
        }
    }

    /// A live sequence's owner gets so many weighed tokens.
    pub(crate) fn charge(&mut self, rank: Rank, tokens: u64) {
        let class = self.classes.get_mut(&rank.priority).expect("entered");
        class.accounts.get_mut(&rank.owner).expect("entered").had += tokens;
    }

    /// When it is a live sequence's turn.
    pub(crate) fn turn(&self, rank: Rank, id: SeqId) -> Turn {
        (rank.priority, self.had(rank), id)
    }

    /// What an owner has had of a priority, as it counts against others of it.
    pub(crate) fn had(&self, rank: Rank) -> u64 {
        let class = self.classes.get(&rank.priority);
        let account = class.and_then(|class| class.accounts.get(&rank.owner));
        account.map_or(0, |account| account.had)
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.ids().count()
    }

    /// All who wait.
    pub(crate) fn ids(&self) -> impl Iterator<Item = SeqId> {
        let accounts = self.classes.values().flat_map(Class::waiting);
        accounts.flat_map(|account| account.waiting.iter().copied())
    }

    /// The invariants, given the rank of every live sequence.
    pub(crate) fn check(&self, live: impl Iterator<Item = Rank>) {
        let mut counts = BTreeMap::<Rank, usize>::new();
        live.for_each(|rank| *counts.entry(rank).or_default() += 1);
        for (&priority, class) in &self.classes {
            for (&owner, account) in &class.accounts {
                let count = counts.remove(&Rank { priority, owner }).unwrap_or(0);
                assert_eq!(account.live, count, "an account counts its sequences");
                assert!(account.waiting.len() <= account.live, "who waits is live");
                assert!(account.live > 0 || account.had > class.clock, "an account of use");
            }
            let least = class.waiting().map(|account| account.had).min();
            assert!(least.is_none_or(|had| had >= class.clock), "nobody saves up");
            assert!(class.accounts.values().any(|account| account.live > 0), "a class of use");
        }
        assert!(counts.is_empty(), "everyone has an account");
    }
}
