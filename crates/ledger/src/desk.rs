//! Where calls are taken down: in a journal, at once, on the thread of who tells of them. A thread
//! brings what was taken down into the tables, some milliseconds' worth at a time, and calls that
//! began and ended meanwhile leave nothing there but their rows. Absent: the journal's files
//! (`journal.rs`), and ledgers that are told of nothing before their tables have it (`writer.rs`).

use std::collections::{HashSet, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::journal::Journal;
use crate::store::{Op, Store};
use crate::writer::{AGAIN, GROUP, Health, Work, own_up, work};
use crate::{Error, Result};

/// What waits to be brought in, at most: some seconds' worth, for while the tables' log goes into
/// their file.
const LINE: usize = 8192;
/// How long what was taken down gathers before it is brought in.
const GATHER: Duration = Duration::from_millis(20);

/// A desk: who has calls to tell of comes here.
#[derive(Debug)]
pub(crate) struct Desk {
    place: String,
    state: Mutex<State>,
    come: Condvar,
}

#[derive(Debug)]
struct State {
    journal: Journal,
    /// What was taken down and is to be brought in, with its number in the journal.
    line: VecDeque<(u64, Op)>,
    /// The calls of this process that were announced and have not ended.
    open: HashSet<String>,
    works: VecDeque<Work>,
    shut: bool,
}

impl Desk {
    pub(crate) fn new(place: String, journal: Journal) -> Self {
        let state = State {
            journal,
            line: VecDeque::new(),
            open: HashSet::new(),
            works: VecDeque::new(),
            shut: false,
        };
        Self { place, state: Mutex::new(state), come: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes this down: kept from here on, whatever becomes of this process. Gives it back where
    /// too much waits to be brought in.
    ///
    /// # Errors
    /// Where the call is not one that this may be told of, or the disk refuses.
    pub(crate) fn take(&self, op: Op) -> Result<Option<Op>> {
        let state = &mut *self.lock();
        if state.line.len() >= LINE {
            return Ok(Some(op));
        }
        self.allows(&state.open, &op)?;
        let seq = state.journal.put(&op).map_err(|error| Error::disk(&self.place, &error))?;
        match &op {
            Op::Begin(call) => drop(state.open.insert(call.row.id().to_owned())),
            Op::End(row) => drop(state.open.remove(row.id())),
            Op::Amend(_) | Op::Note(_) | Op::Gap(_) | Op::Content(_) => {}
        }
        state.line.push_back((seq, op));
        if matches!(state.line.len(), 1 | GROUP) {
            self.come.notify_one();
        }
        Ok(None)
    }

    fn allows(&self, open: &HashSet<String>, op: &Op) -> Result<()> {
        let (place, id) = (|| self.place.clone(), |id: &str| id.to_owned());
        match op {
            Op::Begin(call) if open.contains(call.row.id()) => {
                Err(Error::Twice { place: place(), id: id(call.row.id()) })
            }
            Op::Amend(call) if !open.contains(call.row.id()) => {
                Err(Error::Closed { place: place(), id: id(call.row.id()) })
            }
            Op::End(row) if !open.contains(row.id()) => {
                Err(Error::Closed { place: place(), id: id(row.id()) })
            }
            _ => Ok(()),
        }
    }

    /// Has this done once all that was taken down before is brought in, as far as it can be.
    pub(crate) fn ask(&self, work: Work) {
        self.lock().works.push_back(work);
        self.come.notify_one();
    }

    /// Has the thread bring in what there is, and end.
    pub(crate) fn shut(&self) {
        self.lock().shut = true;
        self.come.notify_one();
    }

    /// Waits until there is something to do, and gathers it behind what is in the group still;
    /// returns what is to be done once that is brought in, and whether it is the last.
    fn gather(&self, group: &mut Vec<(u64, Op)>, broken: bool) -> (VecDeque<Work>, bool) {
        let mut state = self.lock();
        let urgent = |state: &State| state.shut || !state.works.is_empty();
        if !broken {
            let idle = |state: &mut State| state.line.is_empty() && !urgent(state);
            state = self.come.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
        }
        let (pause, enough) = if broken { (AGAIN, usize::MAX) } else { (GATHER, GROUP) };
        let early = |state: &mut State| !urgent(state) && state.line.len() < enough;
        let waited = self.come.wait_timeout_while(state, pause, early);
        let state = &mut *waited.unwrap_or_else(PoisonError::into_inner).0;
        let count = GROUP.saturating_sub(group.len()).min(state.line.len());
        group.extend(state.line.drain(..count));
        match state.line.is_empty() {
            true => (std::mem::take(&mut state.works), state.shut),
            false => (VecDeque::new(), false),
        }
    }

    /// Lets the journal's files change places where that is due: what goes then is safe in the
    /// tables, as far as the rest of them is.
    fn turn(&self, store: &mut Store, through: u64) {
        if self.lock().journal.may_turn(through) && store.0.sync().is_ok() {
            self.lock().journal.turn();
        }
    }
}

/// Brings in what is taken down, until nobody is left who could come.
pub(crate) fn run(mut store: Store, desk: &Desk, health: &Health) {
    let mut group = Vec::new();
    loop {
        let (works, last) = desk.gather(&mut group, health.is_broken());
        bring(&mut store, desk, &mut group, health);
        own_up(&mut store, health);
        works.into_iter().for_each(|asked| work(&mut store, asked, health));
        if last {
            // Its mark goes behind it: without that, what it has would come in again.
            if group.is_empty() && desk.lock().journal.remove().is_ok() {
                let _ = store.unmark();
            }
            return;
        }
    }
}

/// Brings a group in; one that cannot be now stays.
fn bring(store: &mut Store, desk: &Desk, group: &mut Vec<(u64, Op)>, health: &Health) {
    let Some(through) = group.last().map(|told| told.0) else {
        if health.is_broken() {
            health.tell(store.probe());
        }
        return;
    };
    let brought = store.bring(group);
    if brought.is_ok() {
        group.clear();
    }
    health.tell(brought);
    if group.is_empty() {
        desk.turn(store, through);
    }
}

#[cfg(test)]
mod tests;
