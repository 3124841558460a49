//! How much a key has used of what it may in a minute, in requests and in tokens: two buckets that
//! hold a minute's worth each and fill evenly. Time is an argument.
//!
//! A bucket is told by when it is full again (the generic cell rate algorithm, ITU-T I.371): what
//! is taken moves that time on, and what would move it more than a minute ahead does not fit. So a
//! key that changes its limit keeps what it owes, as a time. What was taken and not used is given
//! back; what was used beyond is owed, and the bucket then stays empty for longer.

use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const MINUTE_NS: u64 = 60_000_000_000;

/// Nanoseconds on a clock of the caller's.
type Now = u64;

/// A bucket.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bucket {
    full_at: Now,
}

impl Bucket {
    /// Takes so many, or says how long that has to wait. More than there can ever be is taken as
    /// all there can be.
    pub(crate) fn take(
        &mut self,
        now: Now,
        count: u64,
        per_minute: NonZeroU32,
    ) -> Result<(), Duration> {
        let count = count.min(per_minute.get().into());
        let full_at = self.full_at.max(now).saturating_add(time_of(count, per_minute, true));
        match full_at.saturating_sub(now.saturating_add(MINUTE_NS)) {
            0 => self.full_at = full_at,
            over => return Err(Duration::from_nanos(over)),
        }
        Ok(())
    }

    /// So many were taken and so many were used.
    pub(crate) fn settle(&mut self, now: Now, taken: u64, used: u64, per_minute: NonZeroU32) {
        let taken = taken.min(per_minute.get().into());
        self.full_at = if used > taken {
            self.full_at.max(now).saturating_add(time_of(used - taken, per_minute, true))
        } else {
            self.full_at.saturating_sub(time_of(taken - used, per_minute, false))
        };
    }

    /// How many can be taken now.
    pub(crate) fn left(&self, now: Now, per_minute: NonZeroU32) -> u64 {
        let missing = u128::from(self.full_at.saturating_sub(now)) * u128::from(per_minute.get());
        let missing = missing.div_ceil(MINUTE_NS.into());
        u64::from(per_minute.get()).saturating_sub(u64::try_from(missing).unwrap_or(u64::MAX))
    }

    /// How long until it is full.
    pub(crate) fn full_in(&self, now: Now) -> Duration {
        Duration::from_nanos(self.full_at.saturating_sub(now))
    }
}

/// In what time so many flow in; rounded against whoever takes.
fn time_of(count: u64, per_minute: NonZeroU32, up: bool) -> u64 {
    let (ns, rate) = (u128::from(count) * u128::from(MINUTE_NS), u128::from(per_minute.get()));
    u64::try_from(if up { ns.div_ceil(rate) } else { ns / rate }).unwrap_or(u64::MAX)
}

/// What a key has used, and the clock it goes by.
#[derive(Debug)]
pub(crate) struct Meter {
    clock: Instant,
    buckets: Mutex<Buckets>,
}

/// A bucket each.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Buckets {
    pub(crate) requests: Bucket,
    pub(crate) tokens: Bucket,
}

impl Meter {
    pub(crate) fn new() -> Self {
        Self { clock: Instant::now(), buckets: Mutex::default() }
    }

    /// The time now, and the buckets.
    pub(crate) fn now(&self) -> (Now, MutexGuard<'_, Buckets>) {
        let buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        (u64::try_from(self.clock.elapsed().as_nanos()).unwrap_or(u64::MAX), buckets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn rate(per_minute: u32) -> NonZeroU32 {
        NonZeroU32::new(per_minute).expect("not 0")
    }

    #[test]
    fn a_minutes_worth_and_then_as_it_flows_in() {
        let (mut bucket, rate) = (Bucket::default(), rate(60));
        assert_eq!(bucket.take(0, 60, rate), Ok(()));
        assert_eq!((bucket.left(0, rate), bucket.full_in(0)), (0, Duration::from_secs(60)));
        assert_eq!(bucket.take(0, 1, rate), Err(Duration::from_secs(1)));
        assert_eq!(bucket.take(SECOND, 2, rate), Err(Duration::from_secs(1)));
        assert_eq!(bucket.take(SECOND, 1, rate), Ok(()));
        assert_eq!(bucket.left(11 * SECOND, rate), 10);
        assert_eq!(bucket.take(3600 * SECOND, 61, rate), Ok(()), "more than it holds is all");
        assert_eq!(bucket.left(3600 * SECOND, rate), 0, "and time spent away is not saved up");
    }

    #[test]
    fn what_was_not_used_comes_back_and_what_was_used_beyond_is_owed() {
        let (mut bucket, rate) = (Bucket::default(), rate(600));
        bucket.take(0, 500, rate).expect("full");
        bucket.settle(0, 500, 100, rate);
        assert_eq!(bucket.left(0, rate), 500);
        bucket.take(0, 500, rate).expect("there are as many");
        bucket.settle(0, 500, 800, rate);
        assert_eq!(bucket.left(0, rate), 0);
        assert_eq!(bucket.take(0, 1, rate), Err(Duration::from_millis(30_100)));
        assert_eq!(bucket.left(31 * SECOND, rate), 10);
        // Given back later than the bucket was full: it holds no more than it can.
        let mut bucket = Bucket::default();
        bucket.take(0, 600, rate).expect("full");
        bucket.settle(59 * SECOND, 600, 0, rate);
        assert_eq!(bucket.left(59 * SECOND, rate), 600);
        bucket.take(59 * SECOND, 600, rate).expect("full");
        assert!(bucket.take(59 * SECOND, 1, rate).is_err());
    }

    #[test]
    fn no_number_is_too_large() {
        let mut bucket = Bucket::default();
        for per_minute in [1, u32::MAX] {
            let rate = rate(per_minute);
            let _ = bucket.take(u64::MAX, u64::MAX, rate);
            bucket.settle(u64::MAX, 0, u64::MAX, rate);
            let _ = (bucket.left(0, rate), bucket.full_in(0));
            bucket.settle(0, u64::MAX, 0, rate);
        }
    }

    /// Against a model in exact fractions, over random lives: never more is granted than has flowed
    /// in, nor is anything refused that is there.
    #[test]
    fn it_is_the_bucket_that_it_says() {
        let mut seed = 7_u64;
        let mut draw = move |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        for _ in 0..200 {
            let per_minute = 1 + draw(5000);
            let rate = rate(per_minute as u32);
            let (mut bucket, mut now) = (Bucket::default(), 0);
            // In units of a token times a minute's nanoseconds.
            let unit = i128::from(MINUTE_NS);
            let most = i128::from(per_minute) * unit;
            let mut level = most;
            let mut taken: Option<u64> = None;
            for _ in 0..300 {
                let passed = draw(2 * SECOND);
                now += passed;
                level = most.min(level + i128::from(passed) * i128::from(per_minute));
                let slack = 700 * i128::from(per_minute);
                match taken.take() {
                    Some(count) => {
                        let used = draw(2 * count + 1);
                        bucket.settle(now, count, used, rate);
                        level = most.min(level + (i128::from(count) - i128::from(used)) * unit);
                    }
                    None => {
                        let count = 1 + draw(per_minute);
                        let fits = bucket.take(now, count, rate).is_ok();
                        let cost = i128::from(count) * unit;
                        assert!(if fits { level + slack >= cost } else { level < cost + slack });
                        if fits {
                            level -= cost;
                            taken = Some(count);
                        }
                    }
                }
                let left = i128::from(bucket.left(now, rate)) * unit;
                assert!(left <= level.max(0) + slack && left + unit + slack > level);
            }
        }
    }
}
