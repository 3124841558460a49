//! The thread that writes: it takes what waits in the queue as one group, commits it, and settles
//! its tickets. While one group is brought to the disk, the next one gathers. What could not be
//! kept meanwhile, of calls that stayed here, is said in a row as soon as rows can be written
//! again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::store::{Op, Store};
use crate::ticket::Settle;
use crate::{Error, Missed, Pruned, Recovered, Result};

/// Rows that wait to be written at most; who comes then waits, too.
pub(crate) const QUEUE: usize = 2048;
/// Rows of a group at most.
pub(crate) const GROUP: usize = 1024;
/// How long until a ledger that could not be written is tried again, where nothing else does.
pub(crate) const AGAIN: Duration = Duration::from_millis(500);

/// Something for the writer to do.
pub(crate) enum Job {
    Op(Op, Settle),
    Work(Work),
}

/// What is done between groups.
#[derive(Debug)]
pub(crate) enum Work {
    Recover(SyncSender<Result<Recovered>>),
    Prune {
        before_ms: u64,
        now_ms: u64,
        reply: SyncSender<Result<Pruned>>,
    },
    Forget {
        before_ms: u64,
        reply: SyncSender<Result<u64>>,
    },
    /// Nothing, but that it comes behind what came before it.
    Wait(SyncSender<Result<()>>),
}

/// Whether the last that was to be written could be.
#[derive(Debug, Default)]
pub(crate) struct Health {
    broken: AtomicBool,
    error: Mutex<Option<Error>>,
    missed: Mutex<Gap>,
}

/// Calls that could not be kept.
#[derive(Debug, Default)]
struct Gap {
    all: Missed,
    /// Those that the ledger does not tell of yet.
    untold: Missed,
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

    pub(crate) fn tell(&self, outcome: Result<()>) {
        let broken = outcome.is_err();
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = outcome.err();
        self.broken.store(broken, Ordering::Release);
    }

    /// Notes that a call could not be kept.
    pub(crate) fn miss(&self, missed: &Missed) {
        let mut gap = self.gap();
        gap.all.add(missed);
        gap.untold.add(missed);
    }

    /// All of them.
    pub(crate) fn missed(&self) -> Missed {
        self.gap().all
    }

    fn gap(&self) -> MutexGuard<'_, Gap> {
        self.missed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_broken(&self) -> bool {
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
                    own_up(&mut store, health);
                    continue;
                }
                job => job.ok(),
            }
        } else {
            jobs.recv().ok()
        };
        let Some(first) = first else {
            if health.is_broken() && health.gap().untold.calls > 0 {
                health.tell(store.probe());
            }
            own_up(&mut store, health);
            return;
        };
        turn(&mut store, first, jobs, health);
        own_up(&mut store, health);
    }
}

/// Says in the ledger how many calls it misses, where it can be written.
pub(crate) fn own_up(store: &mut Store, health: &Health) {
    let untold = std::mem::take(&mut health.gap().untold);
    if untold.calls == 0 {
        return;
    }
    let outcome = match health.ask() {
        Ok(()) => store.write(&[Op::Gap(untold)]).map(drop),
        broken => broken,
    };
    if let Err(error) = outcome {
        health.gap().untold.add(&untold);
        health.tell(Err(error));
    }
}

/// One group, and what is to be done behind it.
fn turn(store: &mut Store, first: Job, jobs: &Receiver<Job>, health: &Health) {
    let (mut ops, mut settles) = (Vec::new(), Vec::new());
    let mut next = Some(first);
    let mut asked = None;
    while let Some(job) = next {
        match job {
            Job::Op(op, settle) => {
                ops.push(op);
                settles.push(settle);
            }
            Job::Work(work) => {
                asked = Some(work);
                break;
            }
        }
        next = if ops.len() < GROUP { jobs.try_recv().ok() } else { None };
    }
    if !ops.is_empty() {
        write(store, &ops, settles, health);
    }
    if let Some(asked) = asked {
        work(store, asked, health);
    }
}

/// Does something between groups.
pub(crate) fn work(store: &mut Store, asked: Work, health: &Health) {
    // Who asked may be gone.
    match asked {
        Work::Recover(reply) => drop(reply.send(store.recover())),
        Work::Prune { before_ms, now_ms, reply } => {
            let pruned = store.prune(before_ms, now_ms);
            if pruned.is_ok() {
                // There is room again.
                health.tell(store.probe());
            }
            drop(reply.send(pruned));
        }
        Work::Forget { before_ms, reply } => drop(reply.send(store.forget(before_ms))),
        Work::Wait(reply) => drop(reply.send(health.ask())),
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
            for op in ops {
                if let Op::Note(row) = op {
                    health.miss(&Missed::one(row.at_ms()));
                }
            }
            settles.into_iter().for_each(|settle| settle.settle(Err(error.clone())));
        }
    }
}
