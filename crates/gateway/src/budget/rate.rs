//! How much of something may be had in a minute: a bucket that holds a minute's worth and fills
//! evenly. Time is an argument. Absent: whose buckets there are, and clocks.
//!
//! A bucket is told by when it is full again (the generic cell rate algorithm, ITU-T I.371): what
//! is taken moves that time on, and what would move it more than a minute ahead does not fit. So a
//! key that changes its limit keeps what it owes, as a time. What was taken and not used is given
//! back; what was used beyond is owed, and the bucket then stays empty for longer.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use super::Refusal;

/// A minute, in microseconds.
pub(super) const MINUTE_US: u64 = 60_000_000;
/// The most that one step moves a bucket, in microseconds: a year. Times and steps together stay
/// below 2^53, where a shared bucket's server is exact.
const STEP_MAX_US: u64 = 31_536_000_000_000;

/// A bucket, by when it is full again: microseconds on a clock of the caller's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    full_at_us: u64,
}

/// What came of taking from a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// After how long it could be taken; `None` where it was.
    pub wait: Option<Duration>,
    /// In what time the bucket is full.
    pub full_in: Duration,
}

/// Buckets by name, kept somewhere. One that does not answer returns [`Refusal::Broken`], and then
/// nothing was taken that anybody may use.
pub trait Rates: Send + Sync + fmt::Debug {
    /// Takes so many of what flows in `per_minute`, if they are there, as [`Bucket::take`] does.
    ///
    /// # Errors
    /// The place where buckets are kept does not answer.
    fn take(&self, bucket: &str, count: u64, per_minute: NonZeroU32) -> Result<Taken, Refusal>;

    /// So many were taken, and so many were used: as [`Bucket::settle`]. Tells in what time the
    /// bucket is full.
    ///
    /// # Errors
    /// The place where buckets are kept does not answer; what was not used may not be given back.
    fn settle(
        &self,
        bucket: &str,
        taken: u64,
        used: u64,
        per_minute: NonZeroU32,
    ) -> Result<Duration, Refusal>;

    /// Whether asking may wait for another program, so that it is not for an async task's thread.
    fn waits(&self) -> bool;
}

impl Bucket {
    /// One that is full again at a time.
    pub fn new(full_at_us: u64) -> Self {
        Self { full_at_us }
    }

    /// Takes so many, or says how long that has to wait. More than there can ever be is taken as
    /// all there can be.
    ///
    /// # Errors
    /// After how long there would be as many.
    pub fn take(
        &mut self,
        now_us: u64,
        count: u64,
        per_minute: NonZeroU32,
    ) -> Result<(), Duration> {
        let full_at_us = self.full_at_us.max(now_us).saturating_add(cost(count, per_minute));
        match full_at_us.saturating_sub(now_us.saturating_add(MINUTE_US)) {
            0 => self.full_at_us = full_at_us,
            over => return Err(Duration::from_micros(over)),
        }
        Ok(())
    }

    /// So many were taken and so many were used.
    pub fn settle(&mut self, now_us: u64, taken: u64, used: u64, per_minute: NonZeroU32) {
        self.full_at_us = match change(taken, used, per_minute) {
            Change::Owe(more) => self.full_at_us.max(now_us).saturating_add(more),
            Change::Back(less) => self.full_at_us.saturating_sub(less),
        };
    }

    /// In what time it is full.
    pub fn full_in(&self, now_us: u64) -> Duration {
        Duration::from_micros(self.full_at_us.saturating_sub(now_us))
    }
}

/// How many can be taken of a bucket that is full in this time.
pub fn left(full_in: Duration, per_minute: NonZeroU32) -> u64 {
    let missing = full_in.as_micros().saturating_mul(per_minute.get().into());
    let missing = missing.div_ceil(MINUTE_US.into());
    u64::from(per_minute.get()).saturating_sub(u64::try_from(missing).unwrap_or(u64::MAX))
}

/// By what a settlement moves a bucket, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Owe(u64),
    Back(u64),
}

/// In what time what is taken flows in, in microseconds: at most a minute, rounded up.
pub(super) fn cost(count: u64, per_minute: NonZeroU32) -> u64 {
    time_of(count.min(per_minute.get().into()), per_minute, true)
}

pub(super) fn change(taken: u64, used: u64, per_minute: NonZeroU32) -> Change {
    let taken = taken.min(per_minute.get().into());
    match used.checked_sub(taken) {
        Some(more) if more > 0 => Change::Owe(time_of(more, per_minute, true)),
        _ => Change::Back(time_of(taken - used.min(taken), per_minute, false)),
    }
}

/// In what time so many flow in; rounded against whoever takes.
fn time_of(count: u64, per_minute: NonZeroU32, up: bool) -> u64 {
    let (us, rate) = (u128::from(count) * u128::from(MINUTE_US), u128::from(per_minute.get()));
    let time = if up { us.div_ceil(rate) } else { us / rate };
    u64::try_from(time).unwrap_or(u64::MAX).min(STEP_MAX_US)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn rate(per_minute: u32) -> NonZeroU32 {
        NonZeroU32::new(per_minute).expect("not 0")
    }

    fn left_at(bucket: Bucket, now_us: u64, rate: NonZeroU32) -> u64 {
        left(bucket.full_in(now_us), rate)
    }

    #[test]
    fn a_minutes_worth_and_then_as_it_flows_in() {
        let (mut bucket, rate) = (Bucket::default(), rate(60));
        assert_eq!(bucket.take(0, 60, rate), Ok(()));
        assert_eq!((left_at(bucket, 0, rate), bucket.full_in(0)), (0, Duration::from_secs(60)));
        assert_eq!(bucket.take(0, 1, rate), Err(Duration::from_secs(1)));
        assert_eq!(bucket.take(SECOND, 2, rate), Err(Duration::from_secs(1)));
        assert_eq!(bucket.take(SECOND, 1, rate), Ok(()));
        assert_eq!(left_at(bucket, 11 * SECOND, rate), 10);
        assert_eq!(bucket.take(3600 * SECOND, 61, rate), Ok(()), "more than it holds is all");
        assert_eq!(left_at(bucket, 3600 * SECOND, rate), 0, "time spent away is not saved up");
    }

    #[test]
    fn what_was_not_used_comes_back_and_what_was_used_beyond_is_owed() {
        let (mut bucket, rate) = (Bucket::default(), rate(600));
        bucket.take(0, 500, rate).expect("full");
        bucket.settle(0, 500, 100, rate);
        assert_eq!(left_at(bucket, 0, rate), 500);
        bucket.take(0, 500, rate).expect("there are as many");
        bucket.settle(0, 500, 800, rate);
        assert_eq!(left_at(bucket, 0, rate), 0);
        assert_eq!(bucket.take(0, 1, rate), Err(Duration::from_millis(30_100)));
        assert_eq!(left_at(bucket, 31 * SECOND, rate), 10);
        // Given back later than the bucket was full: it holds no more than it can.
        let mut bucket = Bucket::default();
        bucket.take(0, 600, rate).expect("full");
        bucket.settle(59 * SECOND, 600, 0, rate);
        assert_eq!(left_at(bucket, 59 * SECOND, rate), 600);
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
            let _ = left_at(bucket, 0, rate);
            bucket.settle(0, u64::MAX, 0, rate);
            assert_eq!(left(Duration::MAX, rate), 0);
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
            // In units of a token times a minute's microseconds.
            let unit = i128::from(MINUTE_US);
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
                let left = i128::from(left_at(bucket, now, rate)) * unit;
                assert!(left <= level.max(0) + slack && left + unit + slack > level);
            }
        }
    }
}
