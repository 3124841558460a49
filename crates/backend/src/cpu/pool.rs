//! A team of threads that runs one step together and meets at barriers. Waiting spins for a
//! bounded time, then yields, then sleeps, so that a team larger than its cores still moves on.
//!
//! There is no task queue: whoever is free takes the next number from a counter.

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
    barrier: Epoch,
    arrived: AtomicUsize,
    running: AtomicUsize,
    failed: AtomicBool,
    quit: AtomicBool,
    job: Mutex<Option<JobCell>>,
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
}

impl Member<'_> {
    /// Threads in the team.
    pub fn threads(&self) -> usize {
        self.shared.threads
    }

    /// Returns when every thread has come here; what each wrote before, all can read after.
    pub fn barrier(&self) {
        let shared = self.shared;
        if shared.threads == 1 {
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

    /// Whoever panicked set `failed` before it moved the barrier on, so no one waits for it.
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
            barrier: Epoch::default(),
            arrived: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            quit: AtomicBool::new(false),
            job: Mutex::new(None),
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
        let _busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &*self.shared;
        shared.failed.store(false, Ordering::Relaxed);
        shared.arrived.store(0, Ordering::Relaxed);
        shared.running.store(self.threads.len(), Ordering::Release);
        // SAFETY: only the lifetime is changed; below we wait until no thread runs the job.
        let job_static: Job = unsafe { std::mem::transmute(std::ptr::from_ref(job)) };
        *shared.job.lock().unwrap_or_else(PoisonError::into_inner) = Some(JobCell(job_static));
        shared.start.advance();
        let mine = guarded(shared, 0, job);
        let mut spins = 0u32;
        while shared.running.load(Ordering::Acquire) > 0 {
            spins += 1;
            if spins < shared.spins { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        if let Err(panic) = mine {
            std::panic::resume_unwind(panic);
        }
        assert!(!shared.failed.load(Ordering::Relaxed), "a thread of the team panicked");
    }
}

/// Runs the job; if it panics, frees the others from their barriers so that they fail too.
fn guarded(
    shared: &Shared,
    index: usize,
    job: &(dyn Fn(Member<'_>) + Sync),
) -> std::thread::Result<()> {
    let member = Member { shared, index };
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job(member)));
    if outcome.is_err() {
        shared.failed.store(true, Ordering::SeqCst);
        shared.barrier.advance();
    }
    outcome
}

fn work(shared: &Shared, index: usize) {
    let mut seen = 0;
    loop {
        shared.start.wait_past(seen, shared.spins);
        seen = seen.wrapping_add(1);
        if shared.quit.load(Ordering::Acquire) {
            return;
        }
        let job = *shared.job.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(JobCell(job)) = job {
            // SAFETY: `Pool::run` keeps the job alive until `running` is 0.
            let _ = guarded(shared, index, unsafe { &*job });
        }
        shared.running.fetch_sub(1, Ordering::AcqRel);
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
