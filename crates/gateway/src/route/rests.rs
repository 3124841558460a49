//! When a model of this machine that could not be loaded is asked again: its card says that it
//! failed until somebody does. Absent: clocks, and providers elsewhere, which have breakers.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How long such a model is left alone, in milliseconds.
pub(super) const FAILED_MS: u64 = 5_000;
/// So many of them are known; of more, none rests.
const MODELS_MAX: usize = 1024;

/// Until when each of them rests, in milliseconds since 1970.
#[derive(Debug, Default)]
pub(super) struct Rests(Mutex<BTreeMap<String, u64>>);

impl Rests {
    /// Until when a model that `failed` rests; `None` for one that may be asked now. Who looks
    /// takes nothing: that is for who asks ([`Rests::ask`]).
    pub(super) fn until(&self, model: &str, failed: bool, now_ms: u64) -> Option<u64> {
        let mut all = self.lock();
        if !failed {
            all.remove(model);
            return None;
        }
        let (next, full) = (now_ms.saturating_add(FAILED_MS), all.len() >= MODELS_MAX);
        match all.get_mut(model) {
            Some(until) => {
                // A clock that was set back makes no rest longer.
                *until = next.min(*until);
                Some(*until).filter(|until| now_ms < *until)
            }
            None if full => None,
            None => {
                all.insert(model.to_owned(), next);
                Some(next)
            }
        }
    }

    /// Whether any model rests, or is to be asked again.
    pub(super) fn any(&self) -> bool {
        !self.lock().is_empty()
    }

    /// Asks a model. When its rest is over one call may, and others wait for what comes of that.
    ///
    /// # Errors
    /// Until when it rests.
    pub(super) fn ask(&self, model: &str, now_ms: u64) -> Result<(), u64> {
        let mut all = self.lock();
        let Some(until) = all.get_mut(model) else { return Ok(()) };
        if now_ms < *until {
            return Err(*until);
        }
        *until = now_ms.saturating_add(FAILED_MS);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_failed_is_asked_again() {
        let rests = Rests::default();
        let look = |failed, now_ms, expect| {
            assert_eq!(rests.until("m", failed, now_ms), expect, "at {now_ms}");
        };
        let ask = |now_ms, expect| assert_eq!(rests.ask("m", now_ms), expect, "at {now_ms}");
        look(false, 0, None);
        ask(0, Ok(()));
        assert!(!rests.any());
        look(true, 1_000, Some(6_000));
        look(true, 5_999, Some(6_000));
        ask(5_999, Err(6_000));
        // Any number may look; one asks, and the others go on waiting.
        look(true, 6_000, None);
        look(true, 6_000, None);
        ask(6_000, Ok(()));
        ask(6_000, Err(11_000));
        look(true, 6_001, Some(11_000));
        look(true, 11_000, None);
        assert!(rests.any());
        // It came, and failed again later.
        look(false, 11_500, None);
        ask(11_500, Ok(()));
        ask(11_500, Ok(()));
        look(true, 12_000, Some(17_000));
        // The clock was set back.
        look(true, 2_000, Some(7_000));
        assert_eq!(rests.until("other", true, 7_000), Some(12_000));
    }
}
