//! How much of something is taken: places among the answers, bytes of bodies and of what waits to
//! be read. The most there may be is an argument, since it can change while some are taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many places are taken.
#[derive(Debug, Default)]
pub(crate) struct Places(AtomicUsize);

/// Some places, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    of: Arc<Places>,
    count: usize,
}

impl Places {
    /// Takes `count` places where no more than `most` are taken then.
    pub(crate) fn take(self: &Arc<Self>, count: usize, most: usize) -> Option<Place> {
        let fits = |taken: usize| taken.checked_add(count).filter(|sum| *sum <= most);
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fits).ok()?;
        Some(Place { of: Arc::clone(self), count })
    }

    pub(crate) fn taken(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Place {
    /// Has others given back with these, which are of the same.
    pub(crate) fn join(&mut self, mut others: Self) {
        self.count += std::mem::take(&mut others.count);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.of.0.fetch_sub(self.count, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_most_are_taken() {
        let places = Arc::<Places>::default();
        let two = places.take(2, 3).expect("free");
        assert!(places.take(2, 3).is_none());
        assert!(places.take(usize::MAX, usize::MAX).is_none(), "no overflow");
        let more = places.take(2, 4).expect("the most has grown");
        assert!(places.take(1, 1).is_none(), "the most has shrunk");
        assert_eq!(places.taken(), 4);
        let mut all = two;
        all.join(more);
        assert_eq!(places.taken(), 4);
        drop(all);
        assert_eq!(places.taken(), 0);
    }
}
