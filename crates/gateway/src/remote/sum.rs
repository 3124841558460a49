//! How many bytes of answers are taken in at a time, all calls together. Absent: the most there may
//! be, which is an argument, and what one answer may have.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of each answer that count for nothing here: almost all have less.
const FREE_BYTES: usize = 1 << 20;

/// The sum.
#[derive(Debug, Default)]
pub(super) struct Sum(AtomicUsize);

/// One answer's part of it, given back when dropped.
#[derive(Debug)]
pub(super) struct Part {
    of: Arc<Sum>,
    free: usize,
    bytes: usize,
}

impl Sum {
    pub(super) fn part(self: &Arc<Self>) -> Part {
        Part { of: Arc::clone(self), free: FREE_BYTES, bytes: 0 }
    }
}

impl Part {
    /// Takes so many bytes more where there are no more than `most` then; false where there would
    /// be.
    pub(super) fn add(&mut self, bytes: usize, most: usize) -> bool {
        let free = self.free.min(bytes);
        let more = bytes - free;
        let fits = |all: usize| all.checked_add(more).filter(|all| *all <= most);
        let taken =
            more == 0 || self.of.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        if taken {
            self.free -= free;
            self.bytes += more;
        }
        taken
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.of.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_the_first_bytes_of_each_counts_together() {
        let sum = Arc::<Sum>::default();
        let [mut one, mut two, mut three] = [(); 3].map(|()| sum.part());
        assert!(one.add(FREE_BYTES - 1, 0) && one.add(3, 10) && two.add(FREE_BYTES + 8, 10));
        assert!(
            !one.add(1, 10) && !one.add(usize::MAX, usize::MAX),
            "what is refused takes nothing"
        );
        assert!(three.add(FREE_BYTES, 10) && !three.add(1, 10));
        drop(two);
        assert!(three.add(8, 10) && !one.add(1, 10));
        drop((one, three));
        assert_eq!(sum.0.load(Ordering::Relaxed), 0);
    }
}
