//! A promise that a row will be on the disk: waited for by a thread, awaited by a task, or given
//! what is to be done then. No runtime is known here.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::Result;

/// A row on its way. It is written whether or not anybody waits.
#[must_use = "a row is on the disk only when its ticket says so"]
pub struct Ticket(Arc<Shared>);

/// The writer's end. Dropped without [`Settle::settle`] (its thread panicked), it says so.
pub(crate) struct Settle(Option<Arc<Shared>>, Result<()>);

struct Shared {
    state: Mutex<State>,
    settled: Condvar,
}

#[derive(Default)]
struct State {
    outcome: Option<Result<()>>,
    waker: Option<Waker>,
    then: Option<Then>,
}

type Then = Box<dyn FnOnce(Result<()>) + Send>;

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// A ticket and who settles it; `unless` is what it says where that is dropped before.
    pub(crate) fn new(unless: crate::Error) -> (Self, Settle) {
        let shared = Arc::new(Shared { state: Mutex::default(), settled: Condvar::new() });
        (Self(Arc::clone(&shared)), Settle(Some(shared), Err(unless)))
    }

    /// One whose row is kept already.
    pub(crate) fn kept() -> Self {
        let state = State { outcome: Some(Ok(())), ..State::default() };
        Self(Arc::new(Shared { state: Mutex::new(state), settled: Condvar::new() }))
    }

    /// Blocks until the row is committed.
    ///
    /// # Errors
    /// Where it could not be written: then nothing of it is in the ledger.
    pub fn wait(self) -> Result<()> {
        let mut state = self.0.lock();
        loop {
            if let Some(outcome) = &state.outcome {
                return outcome.clone();
            }
            state = self.0.settled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Has this done when the row is committed or has failed: on the writer's thread, so it must
    /// not block; or here and now, where that is known already.
    pub fn then(self, work: impl FnOnce(Result<()>) + Send + 'static) {
        let mut state = self.0.lock();
        match state.outcome.clone() {
            None => state.then = Some(Box::new(work)),
            Some(outcome) => {
                drop(state);
                work(outcome);
            }
        }
    }
}

impl Future for Ticket {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.0.lock();
        match &state.outcome {
            Some(outcome) => Poll::Ready(outcome.clone()),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ticket").field(&self.0.lock().outcome).finish()
    }
}

impl Settle {
    pub(crate) fn settle(mut self, outcome: Result<()>) {
        self.1 = outcome;
    }
}

impl Drop for Settle {
    fn drop(&mut self) {
        let Some(shared) = self.0.take() else { return };
        let outcome = std::mem::replace(&mut self.1, Ok(()));
        let (waker, then) = {
            let mut state = shared.lock();
            state.outcome = Some(outcome.clone());
            (state.waker.take(), state.then.take())
        };
        shared.settled.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
        if let Some(then) = then {
            then(outcome);
        }
    }
}

impl fmt::Debug for Settle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Settle")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;
    use crate::Error;

    fn gone() -> Error {
        Error::Other { place: "here".into(), what: "the writer is gone".into() }
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn threads_wait() {
        let (ticket, settle) = Ticket::new(gone());
        let waits = std::thread::spawn(move || ticket.wait());
        settle.settle(Ok(()));
        assert_eq!(waits.join().expect("no panic"), Ok(()));
        let (ticket, settle) = Ticket::new(gone());
        drop(settle);
        assert_eq!(ticket.wait(), Err(gone()), "a writer that is gone settles nothing well");
    }

    #[test]
    fn tasks_are_woken() {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        let (mut ticket, settle) = Ticket::new(gone());
        assert_eq!(Pin::new(&mut ticket).poll(&mut context), Poll::Pending);
        settle.settle(Ok(()));
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert_eq!(Pin::new(&mut ticket).poll(&mut context), Poll::Ready(Ok(())));
    }

    #[test]
    fn work_is_done_once_before_or_after() {
        for late in [false, true] {
            let done = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&done);
            let (ticket, settle) = Ticket::new(gone());
            let work = move |outcome: Result<()>| {
                assert_eq!(outcome, Ok(()));
                count.fetch_add(1, Ordering::SeqCst);
            };
            if late {
                settle.settle(Ok(()));
                ticket.then(work);
            } else {
                ticket.then(work);
                assert_eq!(done.load(Ordering::SeqCst), 0);
                settle.settle(Ok(()));
            }
            assert_eq!(done.load(Ordering::SeqCst), 1);
        }
    }
}
