//! Budgets and the ledger, in step: what is held for a call that was announced is given up once the
//! ledger has its end, and not before. So whenever this program dies, what its budgets were charged
//! and still hold for a call is never less than what the ledger will say of it; and budgets that
//! several programs share are told by the ledger, at the next start, what became of the dead one's
//! calls. Absent: what budgets and ledgers are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ingle_gateway::budget::{
    Account, Amount, Claim, Lost, Refusal, Settled, Standing, Store, call_of,
};
use ingle_gateway::route::Kept;
use ingle_ledger::Ledger;
use ingle_protocol::{End, Entry};

/// How much earlier than its reservation a call may have come, in milliseconds: it waited in line.
const EARLIER_MS: u64 = 3_600_000;
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
    /// What is held, by id.
    held: BTreeMap<String, Amount>,
    /// The calls that were announced, and what is to be settled at the end of each.
    announced: BTreeMap<String, Vec<Ending>>,
}

/// What a try took, or its worst case.
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

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call is about to be announced: who is told is told through this.
    pub(super) fn begins(self: &Arc<Self>, call: &str, kept: Kept) -> Kept {
        let (step, call) = (Arc::clone(self), call.to_owned());
        self.known().announced.insert(call.clone(), Vec::new());
        Box::new(move |written| {
            if written.is_err() {
                // The ledger knows nothing of it: what it holds is given back as it comes.
                step.known().announced.remove(&call);
            }
            kept(written);
        })
    }

    /// A call's end is about to be written: what it took is settled then, and who is told is told
    /// after that.
    pub(super) fn ends(self: &Arc<Self>, call: &str, kept: Kept) -> Kept {
        let endings = self.known().announced.remove(call).unwrap_or_default();
        if endings.is_empty() {
            return kept;
        }
        let step = Arc::clone(self);
        Box::new(move |written| {
            let (store, handle) = (Arc::clone(&step.store), &step.handle);
            let settle = move || {
                for Ending { id, took } in endings {
                    // Where its end cannot be written, the ledger will have it at its worst. What
                    // is not open any more has expired, at its worst, too.
                    drop(store.settle(&id, took.filter(|_| written.is_ok())));
                }
                kept(written);
            };
            // Not on the ledger's thread, where the store may wait.
            match step.store.waits() {
                true => drop(handle.spawn_blocking(settle)),
                false => settle(),
            }
        })
    }

    /// Has this settled when its call has ended; `None` where its call was never announced, so that
    /// the ledger holds nothing of it.
    fn later(&self, id: &str, took: Option<Amount>) -> Option<Result<Settled, Refusal>> {
        let known = &mut *self.known();
        let endings = known.announced.get_mut(call_of(id))?;
        let Some(held) = known.held.remove(id) else {
            return Some(Err(Refusal::NotOpen(id.to_owned())));
        };
        endings.push(Ending { id: id.to_owned(), took });
        let took = took.unwrap_or(held);
        let charged =
            Amount { micros: took.micros.min(held.micros), tokens: took.tokens.min(held.tokens) };
        let beyond =
            Amount { micros: took.micros - charged.micros, tokens: took.tokens - charged.tokens };
        Some(Ok(Settled { charged, beyond }))
    }

    /// What waits to be settled under an id.
    fn waiting(&self, id: &str) -> Option<Ending> {
        let known = &mut *self.known();
        let endings = known.announced.get_mut(call_of(id))?;
        let at = endings.iter().position(|ending| ending.id == id)?;
        Some(endings.remove(at))
    }

    fn forget(&self, id: &str) {
        self.known().held.remove(id);
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
        // A call that asks for an id again gives up first what it had under that.
        if let Some(Ending { id, took }) = self.waiting(id) {
            // One that is not open any more has expired.
            drop(self.store.settle(&id, took));
        }
        self.store.reserve(id, amount, claims, now_ms)?;
        self.known().held.insert(id.to_owned(), amount);
        Ok(())
    }

    fn sent(&self, id: &str) -> Result<(), Refusal> {
        self.store.sent(id)
    }

    fn settle(&self, id: &str, took: Option<Amount>) -> Result<Settled, Refusal> {
        self.later(id, took).unwrap_or_else(|| {
            self.forget(id);
            self.store.settle(id, took)
        })
    }

    fn release(&self, id: &str) -> Result<(), Refusal> {
        let later = self.later(id, Some(Amount::default()));
        later.map(|settled| settled.map(drop)).unwrap_or_else(|| {
            self.forget(id);
            self.store.release(id)
        })
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

/// Charges what a call took to what it still holds.
fn charge(store: &dyn Store, entry: &Entry, ids: &[&str]) -> Result<(), Refusal> {
    let usage = &entry.usage;
    let tokens = u64::from(usage.prompt_tokens) + u64::from(usage.completion_tokens);
    let known = entry.cost.micros.filter(|_| entry.end != End::Lost);
    let mut left = known.map(|micros| Amount { micros, tokens });
    for id in ids {
        let settled = match store.settle(id, left) {
            // Whoever else looked was first.
            Err(Refusal::NotOpen(_)) => continue,
            settled => settled?,
        };
        left = left.map(|_| settled.beyond);
    }
    Ok(())
}

#[cfg(test)]
#[path = "spending_tests.rs"]
mod tests;
