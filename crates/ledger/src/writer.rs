//! The thread that writes: it takes what waits in the queue as one group, commits it, and settles
//! its tickets. While one group is brought to the disk, the next one gathers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::store::{Op, Store};
use crate::ticket::Settle;
use crate::{Error, Pruned, Recovered, Result};

/// Rows that wait to be written at most; who comes then waits, too.
pub(crate) const QUEUE: usize = 2048;
/// Rows of a group at most.
const GROUP: usize = 1024;
/// How long until a ledger that could not be written is tried again, where nothing else does.
const AGAIN: Duration = Duration::from_millis(500);

/// Something for the writer to do.
pub(crate) enum Job {
    Op(Op, Settle),
    Work(Work),
}

/// What is done between groups.
pub(crate) enum Work {
    Recover(SyncSender<Result<Recovered>>),
    Prune { before_ms: u64, now_ms: u64, reply: SyncSender<Result<Pruned>> },
}

/// Whether the last that was to be written could be.
#[derive(Debug, Default)]
pub(crate) struct Health {
    broken: AtomicBool,
    error: Mutex<Option<Error>>,
}

impl Health {
    /// Why the last could not be written, if it could not.
    pub(crate) fn ask(&self) -> Result<()> {
        if !self.broken.load(Ordering::Acquire) {
            return Ok(());
        }
        let error = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        error.clone().map_or(Ok(()), Err)
    }

    fn tell(&self, outcome: Result<()>) {
        let broken = outcome.is_err();
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = outcome.err();
        self.broken.store(broken, Ordering::Release);
    }

    fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }
}

/// Writes until nobody is left who could send, and all that was sent is written.
pub(crate) fn run(mut store: Store, jobs: &Receiver<Job>, health: &Health) {
    loop {
        let first = if health.is_broken() {
            match jobs.recv_timeout(AGAIN) {
                Err(RecvTimeoutError::Timeout) => {
                    health.tell(store.probe());
                    continue;
                }
                job => job.ok(),
            }
        } else {
            jobs.recv().ok()
        };
        let Some(first) = first else { return };
        turn(&mut store, first, jobs, health);
    }
}

/// One group, and what is to be done behind it.
fn turn(store: &mut Store, first: Job, jobs: &Receiver<Job>, health: &Health) {
    let (mut ops, mut settles) = (Vec::new(), Vec::new());
    let mut next = Some(first);
    let mut work = None;
    while let Some(job) = next {
        match job {
            Job::Op(op, settle) => {
                ops.push(op);
                settles.push(settle);
            }
            Job::Work(asked) => {
                work = Some(asked);
                break;
            }
        }
        next = if ops.len() < GROUP { jobs.try_recv().ok() } else { None };
    }
    if !ops.is_empty() {
        write(store, &ops, settles, health);
    }
    // Who asked may be gone.
    match work {
        Some(Work::Recover(reply)) => drop(reply.send(store.recover())),
        Some(Work::Prune { before_ms, now_ms, reply }) => {
            drop(reply.send(store.prune(before_ms, now_ms)));
        }
        None => {}
    }
}

fn write(store: &mut Store, ops: &[Op], settles: Vec<Settle>, health: &Health) {
    match store.write(ops) {
        Ok(outcomes) => {
            health.tell(Ok(()));
            settles.into_iter().zip(outcomes).for_each(|(settle, outcome)| settle.settle(outcome));
        }
        Err(error) => {
            // Before anybody hears of it, so that who does finds the ledger closed.
            health.tell(Err(error.clone()));
            settles.into_iter().for_each(|settle| settle.settle(Err(error.clone())));
        }
    }
}
