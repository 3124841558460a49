//! Buckets that several processes share, each a number in a Redis server: when it is full again, by
//! that server's clock. Absent: what buckets do (`budget::rate`), which the scripts only repeat.
//!
//! To take is asked again where a connection breaks, and then may count twice: somebody waits for
//! longer. To give back is asked once at most: what is lost on its way is not given back. So what
//! goes wrong with a connection never lets more through.

use std::num::NonZeroU32;
use std::time::Duration;

use super::{Redis, Reply};
use crate::budget::Refusal;
use crate::budget::rate::{Change, MINUTE_US, Rates, Taken, change, cost};

impl Rates for Redis {
    fn take(&self, bucket: &str, count: u64, per_minute: NonZeroU32) -> Result<Taken, Refusal> {
        self.name_fits(bucket)?;
        let took = cost(count, per_minute);
        let said = [bucket.to_owned(), took.to_string(), MINUTE_US.to_string()];
        let reply = self.ask(&self.scripts.take, &said)?;
        reply.done()?;
        let wait_us = reply.count(reply.at(2)?)?;
        let wait = (wait_us > 0).then(|| Duration::from_micros(wait_us));
        Ok(Taken { wait, full_in: reply.full_in()? })
    }

    fn settle(
        &self,
        bucket: &str,
        taken: u64,
        used: u64,
        per_minute: NonZeroU32,
    ) -> Result<Duration, Refusal> {
        self.name_fits(bucket)?;
        let (more, less) = match change(taken, used, per_minute) {
            Change::Owe(more) => (more, 0),
            Change::Back(less) => (0, less),
        };
        let said = [bucket.to_owned(), more.to_string(), less.to_string()];
        let reply = self.once(&self.scripts.give, &said)?;
        reply.done()?;
        reply.full_in()
    }

    fn waits(&self) -> bool {
        true
    }
}

impl Reply<'_> {
    /// In what time a bucket is full.
    fn full_in(&self) -> Result<Duration, Refusal> {
        let (now_us, full_at_us) = (self.count(self.at(3)?)?, self.count(self.at(4)?)?);
        Ok(Duration::from_micros(full_at_us.saturating_sub(now_us)))
    }
}
