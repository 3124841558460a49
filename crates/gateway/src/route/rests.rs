//! When a model of this machine that could not be loaded is asked again: its card says that it
//! failed until somebody does. Absent: clocks, and providers elsewhere, which have breakers.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// How long such a model is left alone, in milliseconds.
pub(super) const FAILED_MS: u64 = 5_000;
/// So many of them are known; of more, none rests.
const MODELS_MAX: usize = 1024;

/// Until when each of them rests, in milliseconds since 1970.
#[derive(Debug, Default)]
pub(super) struct Rests(Mutex<BTreeMap<String, u64>>);

impl Rests {
    /// Until when a model that `failed` rests; `None` for one that may be asked now. When its rest
    /// is over one call may ask, and the others wait for what comes of that.
    pub(super) fn until(&self, model: &str, failed: bool, now_ms: u64) -> Option<u64> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !failed {
            all.remove(model);
            return None;
        }
        let next = now_ms.saturating_add(FAILED_MS);
        let Some(until) = all.get_mut(model) else {
            if all.len() >= MODELS_MAX {
                return None;
            }
            all.insert(model.to_owned(), next);
            return Some(next);
        };
        // A clock that was set back makes no rest longer.
        let rests = now_ms < *until;
        *until = if rests { next.min(*until) } else { next };
        rests.then_some(*until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_failed_is_asked_again() {
        let rests = Rests::default();
        let check = |failed, now_ms, expect| {
            assert_eq!(rests.until("m", failed, now_ms), expect, "at {now_ms}");
        };
        check(false, 0, None);
        check(true, 1_000, Some(6_000));
        check(true, 5_999, Some(6_000));
        // One asks, and the others go on waiting.
        check(true, 6_000, None);
        check(true, 6_001, Some(11_000));
        check(true, 11_000, None);
        // It came, and failed again later.
        check(false, 11_500, None);
        check(true, 12_000, Some(17_000));
        // The clock was set back.
        check(true, 2_000, Some(7_000));
        assert_eq!(rests.until("other", true, 7_000), Some(12_000));
    }
}
