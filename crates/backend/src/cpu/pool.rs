//! A team of threads that works on one job together. Waiting spins for a bounded time, then yields,
//! then sleeps, so that a team larger than its cores still moves on.
//!
//! There is no task queue: whoever is free takes the next number from a counter. In a shared job
//! nobody waits for a thread, only for parts that were taken: one that lost its core to another
//! process delays the others by no more than the part it holds.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Rounds of spinning before a waiting thread yields: about 50 µs.
const SPINS: u32 = 1500;
/// Yields before it sleeps.
const YIELDS: u32 = 64;

/// A number that only grows, and a way to wait until it changes.
#[derive(Debug, Default)]
struct Epoch {
    now: AtomicU32,
    sleepers: AtomicUsize,
    lock: Mutex<()>,
    bell: Condvar,
}

impl Epoch {
    fn advance(&self) {
        self.now.fetch_add(1, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            let _guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
            self.bell.notify_all();
        }
    }

    fn wait_past(&self, seen: u32, spins: u32) {
        for round in 0..spins + YIELDS {
            if self.now.load(Ordering::Acquire) != seen {
                return;
            }
            if round < spins { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        while self.now.load(Ordering::SeqCst) == seen {
            guard = self.bell.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        drop(guard);
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What the team runs: called once on every thread, with that thread's member.
type Job = *const (dyn Fn(Member<'_>) + Sync);

#[derive(Debug)]
struct Shared {
    threads: usize,
    spins: u32,
    start: Epoch,
    /// Moved on when a part that others may wait for is done.
    news: Epoch,
    barrier: Epoch,
    arrived: AtomicUsize,
    failed: AtomicBool,
    quit: AtomicBool,
    job: Mutex<Slot>,
    /// Moved on when a thread enters or leaves a job.
    doors: Epoch,
}

/// The job, while it can be entered, and who is or was in it, the caller not counted.
#[derive(Debug, Default)]
struct Slot {
    job: Option<JobCell>,
    inside: usize,
    entered: usize,
}

#[derive(Clone, Copy, Debug)]
struct JobCell(Job);
// SAFETY: `Pool::run` keeps the job alive until every thread has left it, and the job is `Sync`.
unsafe impl Send for JobCell {}

/// The team. Its first member is whoever calls [`Pool::run`].
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// Held while a job runs: one at a time.
    busy: Mutex<()>,
}

/// One thread of the team, inside a job.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    shared: &'a Shared,
    /// 0 to `threads - 1`.
    pub index: usize,
    alone: bool,
}

impl Member<'_> {
    /// Threads that share the work.
    pub fn threads(&self) -> usize {
        if self.alone { 1 } else { self.shared.threads }
    }

    /// The same thread for work that it shares with no other. It meets nobody at a barrier then,
    /// and nobody hears what it announces.
    #[must_use]
    pub fn alone(self) -> Self {
        Self { alone: true, ..self }
    }

    /// Returns when every thread has come here; what each wrote before, all can read after.
    pub fn barrier(&self) {
        let shared = self.shared;
        if self.threads() == 1 {
            return;
        }
        let seen = shared.barrier.now.load(Ordering::SeqCst);
        self.check();
        if shared.arrived.fetch_add(1, Ordering::AcqRel) + 1 == shared.threads {
            shared.arrived.store(0, Ordering::Relaxed);
            shared.barrier.advance();
        } else {
            shared.barrier.wait_past(seen, shared.spins);
        }
        self.check();
    }

    /// Waits until `done`, which another thread makes true before it calls [`Member::announce`].
    pub fn wait_until(&self, done: impl Fn() -> bool) {
        loop {
            let seen = self.shared.news.now.load(Ordering::SeqCst);
            self.check();
            if done() {
                return;
            }
            self.shared.news.wait_past(seen, self.shared.spins);
        }
    }

    /// Wakes whoever waits for something that is now done.
    pub fn announce(&self) {
        if self.threads() > 1 {
            self.shared.news.advance();
        }
    }

    /// Whoever panicked set `failed` before it moved the epochs on, so no one waits for it.
    fn check(&self) {
        let failed = self.shared.failed.load(Ordering::SeqCst);
        assert!(!failed, "another thread of the team panicked");
    }
}

/// The cores that this process may use: affinity and cgroup quota are respected.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Pool {
    /// A team of `threads`, of which the caller is one.
    pub fn new(threads: usize) -> Self {
        let threads = threads.max(1);
        let shared = Arc::new(Shared {
            threads,
            spins: if threads > cores() { 0 } else { SPINS },
            start: Epoch::default(),
            news: Epoch::default(),
            barrier: Epoch::default(),
            arrived: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            quit: AtomicBool::new(false),
            job: Mutex::default(),
            doors: Epoch::default(),
        });
        let spawn = |index| {
            let shared = Arc::clone(&shared);
            let builder = std::thread::Builder::new().name(format!("ingle-cpu-{index}"));
            builder.spawn(move || work(&shared, index)).expect("the system refused a thread")
        };
        let threads = (1..threads).map(spawn).collect();
        Self { shared, threads, busy: Mutex::new(()) }
    }

    /// Threads in the team.
    pub fn threads(&self) -> usize {
        self.shared.threads
    }

    /// Runs `job` once on every thread and returns when all are done. A job that calls this waits
    /// for itself.
    pub fn run(&self, job: &(dyn Fn(Member<'_>) + Sync)) {
        self.start(job, true);
    }

    /// Runs `job` on this thread, and on every other that comes before this one is done. The job
    /// shares its work by counters and meets at no barrier.
    pub fn share(&self, job: &(dyn Fn(Member<'_>) + Sync)) {
        self.start(job, false);
    }

    fn start(&self, job: &(dyn Fn(Member<'_>) + Sync), all: bool) {
        let _busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &*self.shared;
        shared.failed.store(false, Ordering::Relaxed);
        shared.arrived.store(0, Ordering::Relaxed);
        // SAFETY: only the lifetime is changed; below we wait until no thread runs the job, nor can
        // begin to.
        let forever: Job = unsafe { std::mem::transmute(std::ptr::from_ref(job)) };
        *shared.slot() = Slot { job: Some(JobCell(forever)), inside: 0, entered: 0 };
        shared.start.advance();
        let mine = guarded(shared, 0, job);
        loop {
            let seen = shared.doors.now.load(Ordering::SeqCst);
            let mut slot = shared.slot();
            if !all || slot.entered == self.threads.len() {
                slot.job = None;
            }
            if slot.job.is_none() && slot.inside == 0 {
                break;
            }
            drop(slot);
            shared.doors.wait_past(seen, shared.spins);
        }
        if let Err(panic) = mine {
            std::panic::resume_unwind(panic);
        }
        assert!(!shared.failed.load(Ordering::SeqCst), "a thread of the team panicked");
    }
}

impl Shared {
    fn slot(&self) -> std::sync::MutexGuard<'_, Slot> {
        self.job.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The job, if it can still be entered.
    fn enter(&self) -> Option<JobCell> {
        let mut slot = self.slot();
        let job = slot.job?;
        slot.inside += 1;
        slot.entered += 1;
        Some(job)
    }

    fn leave(&self) {
        self.slot().inside -= 1;
        self.doors.advance();
    }
}

/// Runs the job; if it panics, frees the others from their barriers so that they fail too.
fn guarded(
    shared: &Shared,
    index: usize,
    job: &(dyn Fn(Member<'_>) + Sync),
) -> std::thread::Result<()> {
    let member = Member { shared, index, alone: false };
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job(member)));
    if outcome.is_err() {
        shared.failed.store(true, Ordering::SeqCst);
        shared.barrier.advance();
        shared.news.advance();
    }
    outcome
}

fn work(shared: &Shared, index: usize) {
    let mut seen = 0;
    loop {
        shared.start.wait_past(seen, shared.spins);
        // Read before the job is: a job that begins in between is entered twice, not never, and
        // finds nothing left to do.
        seen = shared.start.now.load(Ordering::SeqCst);
        if shared.quit.load(Ordering::Acquire) {
            return;
        }
        if let Some(JobCell(job)) = shared.enter() {
            // SAFETY: `Pool::start` keeps the job alive until nobody is inside.
            let _ = guarded(shared, index, unsafe { &*job });
            shared.leave();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.quit.store(true, Ordering::Release);
        self.shared.start.advance();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_meets_at_every_barrier() {
        for threads in [1, 2, 3, 7] {
            let pool = Pool::new(threads);
            let counts: Vec<AtomicUsize> = (0..200).map(|_| AtomicUsize::new(0)).collect();
            for _ in 0..3 {
                counts.iter().for_each(|count| count.store(0, Ordering::Relaxed));
                pool.run(&|member| {
                    for count in &counts {
                        count.fetch_add(1, Ordering::Relaxed);
                        member.barrier();
                        assert_eq!(count.load(Ordering::Relaxed), threads);
                    }
                });
            }
        }
    }

    #[test]
    fn shared_work_is_done_by_whoever_comes() {
        for threads in [1, 2, 5] {
            let pool = Pool::new(threads);
            for _ in 0..500 {
                let [taken, done] = [0, 0].map(AtomicUsize::new);
                pool.share(&|member| {
                    while taken.fetch_add(1, Ordering::Relaxed) < 10 {
                        if done.fetch_add(1, Ordering::AcqRel) + 1 == 10 {
                            member.announce();
                        }
                    }
                    member.wait_until(|| done.load(Ordering::Acquire) == 10);
                });
                assert_eq!(done.load(Ordering::Relaxed), 10);
            }
        }
    }

    #[test]
    fn a_panic_in_one_thread_ends_the_job_and_not_the_team() {
        let pool = Pool::new(3);
        let job = |member: Member<'_>| {
            member.barrier();
            assert_ne!(member.index, 1, "planted");
            member.barrier();
        };
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pool.run(&job)));
        assert!(outcome.is_err());
        let count = AtomicUsize::new(0);
        pool.run(&|member| {
            member.barrier();
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.load(Ordering::Relaxed), 3);
    }
}
