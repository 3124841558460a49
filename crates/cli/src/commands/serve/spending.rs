//! Budgets and the ledger, in step. What is held for a call's try is given up once the ledger has
//! what that took: when the call is announced anew, or ended, and not before; and another try is
//! held for before it is announced. So whenever this program dies, what its budgets were charged
//! and still hold for a call is never less than what the ledger will say of it, and what the ledger
//! says is within their limits, too. Budgets that several programs share are told by the ledger, at
//! the next start, what became of the dead one's calls, to the micro-dollar. Absent: what budgets
//! and ledgers are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ingle_gateway::budget::{
    Account, Amount, Claim, Lost, Refusal, Settled, Standing, Store, call_of, hold_of,
};
use ingle_gateway::route::Kept;
use ingle_ledger::Ledger;
use ingle_protocol::{Charge, End, Entry};

/// How much earlier than its reservation a call may have come, in milliseconds: it waited in line.
pub(super) const EARLIER_MS: u64 = 3_600_000;
/// How long no call lives, in milliseconds.
const OLD_MS: u64 = 86_400_000;
/// How often what is older is looked for.
const LOOK: Duration = Duration::from_secs(300);

/// A store of budgets that is told of what the ledger keeps.
pub(super) struct Step {
    store: Arc<dyn Store>,
    handle: tokio::runtime::Handle,
    known: Mutex<Known>,
}

/// What is under way; bounded as the store bounds what is open in it.
#[derive(Debug, Default)]
struct Known {
    /// What is held, by the id that the gateway has for it.
    held: BTreeMap<String, Hold>,
    /// The calls that were announced.
    announced: BTreeMap<String, Announced>,
}

/// What is held for a try: the id that the store has for it, and how much.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hold {
    id: String,
    amount: Amount,
}

/// A call that was announced.
#[derive(Debug, Default)]
struct Announced {
    /// How many tries were held for since.
    tries: u32,
    /// What was charged, or will be, for tries that have ended, in micro-dollars.
    took: u64,
    /// At whose worst the ledger has it, by the store's ids: the one that is asked. It may be
    /// either of two where the second could not be announced.
    worst: Vec<String>,
    /// What is to be settled once the ledger has it.
    endings: Vec<Ending>,
}

impl Known {
    /// What is held for the try that an announcement is of.
    fn asked(&self, worst: &Entry) -> Option<String> {
        self.held.get(&try_of(worst)).map(|hold| hold.id.clone())
    }
}

/// The try that an entry is of.
fn try_of(entry: &Entry) -> String {
    hold_of(&entry.id, &format!("{}/{}", entry.provider, entry.model))
}

/// A try as the store knows it. Its id there says, too, which of its call's tries it is, and what
/// those before it took: so that whoever finds it held by a dead program, beside the call's entry,
/// knows what of that is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Try<'a> {
    /// The id that the gateway has for it.
    of: &'a str,
    /// Its place among the call's tries.
    number: u32,
    /// What those before it took, in micro-dollars.
    before: u64,
}

impl<'a> Try<'a> {
    fn id(&self) -> String {
        format!("{} {} {}", self.of, self.number, self.before)
    }

    fn read(id: &'a str) -> Self {
        let mut parts = id.rsplitn(3, ' ');
        let mut read = || {
            let (before, number) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            Some(Self { of: parts.next()?, number, before })
        };
        read().unwrap_or(Self { of: id, number: 0, before: 0 })
    }
}

/// What a try took, or its worst case, by the store's id.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ending {
    id: String,
    took: Option<Amount>,
}

impl Step {
    /// Before a store.
    pub(super) fn before(store: Arc<dyn Store>, handle: tokio::runtime::Handle) -> Self {
        Self { store, handle, known: Mutex::default() }
    }

    /// What runs things that wait.
    pub(super) fn handle(&self) -> &tokio::runtime::Handle {
        &self.handle
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call is about to be announced: who is told is told through this.
    pub(super) fn begins(self: &Arc<Self>, worst: &Entry, kept: Kept) -> Kept {
        let (step, call) = (Arc::clone(self), worst.id.clone());
        let mut known = self.known();
        let announced =
            Announced { worst: known.asked(worst).into_iter().collect(), ..Announced::default() };
        known.announced.insert(call.clone(), announced);
        Box::new(move |written| {
            if written.is_err() {
                // The ledger knows nothing of it: what it holds is given back as it comes.
                step.known().announced.remove(&call);
            }
            kept(written);
        })
    }

    /// A call is about to be announced anew, for another try that is held for: what the tries
    /// before it took is settled when that is written, and who is told is told after that.
    pub(super) fn amends(self: &Arc<Self>, worst: &Entry, kept: Kept) -> Kept {
        let (step, call) = (Arc::clone(self), worst.id.clone());
        let mut known = self.known();
        let asked = known.asked(worst);
        let Some(announced) = known.announced.get_mut(&call) else { return kept };
        announced.worst.extend(asked.clone());
        Box::new(move |written| {
            // Where it could not be written, or nobody knows, what the ledger may have is held.
            let endings = if written.is_ok() { step.amended(&call, asked) } else { Vec::new() };
            step.settle_all(endings, move || kept(written));
        })
    }

    /// A call was announced anew, at the worst of this try; what is to be settled now.
    fn amended(&self, call: &str, asked: Option<String>) -> Vec<Ending> {
        let mut known = self.known();
        let Some(announced) = known.announced.get_mut(call) else { return Vec::new() };
        announced.worst = asked.into_iter().collect();
        std::mem::take(&mut announced.endings)
    }

    /// A call's end is about to be written: what it took is settled then, and who is told is told
    /// after that.
    pub(super) fn ends(self: &Arc<Self>, call: &str, kept: Kept) -> Kept {
        let Some(Announced { worst, endings, .. }) = self.known().announced.remove(call) else {
            return kept;
        };
        let step = Arc::clone(self);
        Box::new(move |written| {
            // Where its end cannot be written, the ledger will have it at its worst.
            let lost = |id: &String| written.is_err() && worst.contains(id);
            let last = |it: Ending| if lost(&it.id) { Ending { took: None, ..it } } else { it };
            let endings = endings.into_iter().map(last).collect();
            step.settle_all(endings, move || kept(written));
        })
    }

    /// Settles these, not on the ledger's thread where the store may wait, and does this then.
    fn settle_all(&self, endings: Vec<Ending>, then: impl FnOnce() + Send + 'static) {
        if endings.is_empty() {
            return then();
        }
        let store = Arc::clone(&self.store);
        let settle = move || {
            for Ending { id, took } in endings {
                // What is not open any more has expired, at its worst.
                drop(store.settle(&id, took));
            }
            then();
        };
        match self.store.waits() {
            true => drop(self.handle.spawn_blocking(settle)),
            false => settle(),
        }
    }

    /// Has this settled when the ledger has it; `None` where its call was never announced, so that
    /// the ledger holds nothing of it.
    fn later(&self, id: &str, took: Option<Amount>) -> Option<Result<Settled, Refusal>> {
        let known = &mut *self.known();
        let announced = known.announced.get_mut(call_of(id))?;
        let Some(Hold { id, amount: held }) = known.held.remove(id) else {
            return Some(Err(Refusal::NotOpen(id.to_owned())));
        };
        announced.endings.push(Ending { id, took });
        let took = took.unwrap_or(held);
        let charged =
            Amount { micros: took.micros.min(held.micros), tokens: took.tokens.min(held.tokens) };
        let beyond =
            Amount { micros: took.micros - charged.micros, tokens: took.tokens - charged.tokens };
        announced.took = announced.took.saturating_add(charged.micros);
        Some(Ok(Settled { charged, beyond }))
    }

    /// Forgets what is held under an id; the id that the store has for it.
    fn forget(&self, id: &str) -> String {
        let held = self.known().held.remove(id);
        held.map_or_else(|| id.to_owned(), |hold| hold.id)
    }
}

impl Store for Step {
    fn waits(&self) -> bool {
        self.store.waits()
    }

    fn reserve(
        &self,
        id: &str,
        amount: Amount,
        claims: &[Claim],
        now_ms: u64,
    ) -> Result<(), Refusal> {
        let at = {
            let known = &mut *self.known();
            if known.held.contains_key(id) {
                return Err(Refusal::Twice(id.to_owned()));
            }
            let (number, before) = match known.announced.get_mut(call_of(id)) {
                Some(announced) => {
                    announced.tries += 1;
                    (announced.tries, announced.took)
                }
                None => (0, 0),
            };
            Try { of: id, number, before }.id()
        };
        self.store.reserve(&at, amount, claims, now_ms)?;
        self.known().held.insert(id.to_owned(), Hold { id: at, amount });
        Ok(())
    }

    fn sent(&self, id: &str) -> Result<(), Refusal> {
        let at = self.known().held.get(id).map(|hold| hold.id.clone());
        self.store.sent(at.as_deref().unwrap_or(id))
    }

    fn settle(&self, id: &str, took: Option<Amount>) -> Result<Settled, Refusal> {
        self.later(id, took).unwrap_or_else(|| self.store.settle(&self.forget(id), took))
    }

    fn release(&self, id: &str) -> Result<(), Refusal> {
        let later = self.later(id, Some(Amount::default()));
        let later = later.map(|settled| settled.map(drop));
        later.unwrap_or_else(|| self.store.release(&self.forget(id)))
    }

    fn expire(&self, before_ms: u64) -> Result<Vec<Lost>, Refusal> {
        self.store.expire(before_ms)
    }

    fn standings(&self, accounts: &[Account]) -> Result<Vec<Standing>, Refusal> {
        self.store.standings(accounts)
    }
}

/// Looks now and then for what was held longer than any call lives, for as long as the runtime
/// does.
pub(super) fn look(store: Arc<dyn Store>, handle: &tokio::runtime::Handle, now_ms: fn() -> u64) {
    let blocking = handle.clone();
    handle.spawn(async move {
        loop {
            tokio::time::sleep(LOOK).await;
            let store = Arc::clone(&store);
            let expired = move || store.expire(now_ms().saturating_sub(OLD_MS));
            // What cannot be looked at now is looked at later.
            drop(blocking.spawn_blocking(expired).await);
        }
    });
}

/// Ends what dead calls of this ledger hold in budgets that are shared, as the ledger has them:
/// those that ended for what they took, those that were lost at their worst. `open` is all that is
/// held there, with the times of it in milliseconds since 1970; what calls of other ledgers hold is
/// theirs.
pub(super) fn told(
    shared: &dyn Store,
    open: &[(String, u64)],
    ledger: &Ledger,
) -> anyhow::Result<()> {
    let Some(first) = open.iter().map(|(_, at_ms)| *at_ms).min() else { return Ok(()) };
    let mut calls: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (id, _) in open {
        calls.entry(call_of(id)).or_default().push(id);
    }
    let from_ms = first.saturating_sub(EARLIER_MS);
    for stored in ledger.reader()?.entries(from_ms, u64::MAX) {
        let entry = stored?.entry;
        if let Some(ids) = calls.remove(entry.id.as_str()) {
            charge(shared, &entry, &ids)?;
        }
    }
    Ok(())
}

/// Charges what a call took to what it still holds, to each try what is its own of that. In the
/// order of the tries, so that whoever dies in the middle of this leaves what can be charged later.
/// Of an entry that was written before charges were kept, what each took is worked out as far as
/// its cost tells.
fn charge(store: &dyn Store, entry: &Entry, ids: &[&str]) -> Result<(), Refusal> {
    let mut tries: Vec<(&str, Try<'_>)> = ids.iter().map(|id| (*id, Try::read(id))).collect();
    tries.sort_by_key(|(_, it)| it.number);
    if let Some(charges) = &entry.charges {
        return tries
            .iter()
            .zip(own(entry, charges, &tries))
            .try_for_each(|((id, _), took)| settle(store, id, Some(took)));
    }
    let asked = try_of(entry);
    // Those behind the one that the entry is of were held for, and never asked.
    let last = tries.iter().rposition(|(_, it)| it.of == asked);
    for (id, _) in tries.split_off(last.map_or(tries.len(), |at| at + 1)) {
        settle(store, id, Some(Amount::default()))?;
    }
    let tokens = match entry.end {
        // As many as are held.
        End::Lost => u64::MAX,
        _ => entry.usage.total(),
    };
    for (at, (id, it)) in tries.iter().enumerate() {
        let next = tries.get(at + 1).map(|(_, next)| next.before);
        let own = entry.cost.micros.map(|all| {
            let micros = next.unwrap_or(all).saturating_sub(it.before);
            let tokens = match next {
                // The entry is another's, who holds nothing.
                None if last.is_none() && micros == 0 => 0,
                None => tokens,
                // Nobody keeps how many those took that were not the last.
                Some(_) if micros == 0 => 0,
                Some(_) => u64::MAX,
            };
            Amount { micros, tokens }
        });
        settle(store, id, own)?;
    }
    Ok(())
}

/// What of an entry's charges is each of these tries' own. Tries were settled in their order, so
/// that those of one candidate which are held still are its last ones.
fn own(entry: &Entry, charges: &[Charge], tries: &[(&str, Try<'_>)]) -> Vec<Amount> {
    let of = |it: &Charge| hold_of(&entry.id, &format!("{}/{}", it.provider, it.model));
    let mut left: Vec<_> = charges.iter().map(|it| (of(it), it)).collect();
    let took = tries.iter().rev().map(|(_, it)| {
        // One that is not there took nothing, or was held for and never asked.
        let at = left.iter().rposition(|(of, _)| of == it.of);
        let own = at.map(|at| left.remove(at).1);
        own.map_or_else(Amount::default, |own| Amount { micros: own.micros, tokens: own.tokens })
    });
    let mut took: Vec<Amount> = took.collect();
    took.reverse();
    took
}

/// Settles a try, unless whoever else looked was first.
fn settle(store: &dyn Store, id: &str, took: Option<Amount>) -> Result<(), Refusal> {
    match store.settle(id, took) {
        Err(Refusal::NotOpen(_)) => Ok(()),
        settled => settled.map(drop),
    }
}

#[cfg(test)]
#[path = "spending_tests.rs"]
mod tests;
