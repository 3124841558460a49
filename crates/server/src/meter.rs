//! What keys have used of what they may in a minute, in requests and in tokens, as whoever keeps
//! their buckets says: this process, or a place that several share. A key's buckets go by its name,
//! so that they are the same after its secret was replaced, and in every process.
//!
//! A place that is shared is asked off the async threads, by so many at once; who finds more asking
//! is refused. What it said last is remembered for the headers that tell a key where it stands.
//! Absent: what a bucket does (`gateway::budget`), and what it is taken for (`limits`).

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ingle_gateway::budget::{Bucket, Rates, Refusal, Taken};
use tokio::runtime::{Handle, RuntimeFlavor};

/// Buckets of this process that are held before those that are full are forgotten: that is what
/// one that nobody knows is, too.
const BUCKETS: usize = 4096;
/// Who may wait for a shared place at once.
const ASKING: usize = 64;

/// What flows in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    Requests,
    Tokens,
}

/// Buckets of this process, by its own clock.
#[derive(Debug)]
struct Own {
    clock: Instant,
    buckets: Mutex<BTreeMap<String, Bucket>>,
}

impl Own {
    fn new() -> Self {
        Self { clock: Instant::now(), buckets: Mutex::default() }
    }

    /// Changes a bucket at the time that it is now.
    fn with<T>(&self, name: &str, change: impl FnOnce(&mut Bucket, u64) -> T) -> T {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let now_us = u64::try_from(self.clock.elapsed().as_micros()).unwrap_or(u64::MAX);
        if buckets.len() >= BUCKETS && !buckets.contains_key(name) {
            buckets.retain(|_, bucket| !bucket.full_in(now_us).is_zero());
        }
        match buckets.get_mut(name) {
            Some(bucket) => change(bucket, now_us),
            None => change(buckets.entry(name.to_owned()).or_default(), now_us),
        }
    }
}

impl Rates for Own {
    fn take(&self, bucket: &str, count: u64, per_minute: NonZeroU32) -> Result<Taken, Refusal> {
        Ok(self.with(bucket, |bucket, now_us| {
            let wait = bucket.take(now_us, count, per_minute).err();
            Taken { wait, full_in: bucket.full_in(now_us) }
        }))
    }

    fn settle(
        &self,
        bucket: &str,
        taken: u64,
        used: u64,
        per_minute: NonZeroU32,
    ) -> Result<Duration, Refusal> {
        Ok(self.with(bucket, |bucket, now_us| {
            bucket.settle(now_us, taken, used, per_minute);
            bucket.full_in(now_us)
        }))
    }

    fn waits(&self) -> bool {
        false
    }
}

/// Where all of a server's buckets are kept, and how many ask there now.
#[derive(Debug)]
pub(crate) struct Place {
    rates: Arc<dyn Rates>,
    asking: AtomicUsize,
}

/// One of those who ask, until it is dropped.
struct Asking<'a>(&'a AtomicUsize);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Place {
    /// The one that was given, or this process.
    pub(crate) fn new(rates: Option<Arc<dyn Rates>>) -> Self {
        let rates = rates.unwrap_or_else(|| Arc::new(Own::new()));
        Self { rates, asking: AtomicUsize::new(0) }
    }

    /// Asks, where that may wait off the async threads.
    fn ask<T>(&self, ask: impl FnOnce(&dyn Rates) -> Result<T, Refusal>) -> Result<T, Refusal> {
        if !self.rates.waits() {
            return ask(&*self.rates);
        }
        let before = self.asking.fetch_add(1, Ordering::Relaxed);
        let _asking = Asking(&self.asking);
        if before >= ASKING {
            return Err(Refusal::Broken(format!("{ASKING} requests ask for their limits at once")));
        }
        let many = |handle: Handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread;
        match Handle::try_current().is_ok_and(many) {
            true => tokio::task::block_in_place(|| ask(&*self.rates)),
            false => ask(&*self.rates),
        }
    }
}

/// What a bucket's place said last: in what time it is full, and when that was said.
type Heard = Option<(Duration, Instant)>;

/// A key's buckets.
#[derive(Debug)]
pub(crate) struct Meter {
    place: Arc<Place>,
    names: [String; 2],
    heard: Mutex<[Heard; 2]>,
}

impl Meter {
    /// Those of the key of that name.
    pub(crate) fn new(place: &Arc<Place>, key: &str) -> Self {
        let names = ["requests", "tokens"].map(|what| format!("{what}:{key}"));
        Self { place: Arc::clone(place), names, heard: Mutex::default() }
    }

    fn heard(&self) -> MutexGuard<'_, [Heard; 2]> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, of: Of, full_in: Duration) {
        self.heard()[of as usize] = Some((full_in, Instant::now()));
    }

    /// Takes so many, or says for how long that has to wait.
    pub(crate) fn take(
        &self,
        of: Of,
        count: u64,
        per_minute: NonZeroU32,
    ) -> Result<Option<Duration>, Refusal> {
        let name = &self.names[of as usize];
        let Taken { wait, full_in } =
            self.place.ask(|rates| rates.take(name, count, per_minute))?;
        self.hear(of, full_in);
        Ok(wait)
    }

    /// So many were taken and so many used. Does not wait where that could take a while; what a
    /// place does not take back is missing for a minute at most.
    pub(crate) fn settle(self: &Arc<Self>, of: Of, taken: u64, used: u64, per_minute: NonZeroU32) {
        let meter = Arc::clone(self);
        let settle = move || {
            let name = &meter.names[of as usize];
            match meter.place.rates.settle(name, taken, used, per_minute) {
                Ok(full_in) => meter.hear(of, full_in),
                Err(error) => tracing::warn!(%error, "what a key did not use is not given back"),
            }
        };
        match Handle::try_current() {
            Ok(handle) if self.place.rates.waits() => drop(handle.spawn_blocking(settle)),
            _ => settle(),
        }
    }

    /// In what time a bucket is full, as far as this process has heard.
    pub(crate) fn full_in(&self, of: Of) -> Duration {
        let heard = self.heard()[of as usize];
        heard.map_or(Duration::ZERO, |(full_in, at)| full_in.saturating_sub(at.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per_minute: u32) -> NonZeroU32 {
        NonZeroU32::new(per_minute).expect("not 0")
    }

    /// A place that does not answer.
    #[derive(Debug)]
    struct Away;

    impl Rates for Away {
        fn take(&self, _: &str, _: u64, _: NonZeroU32) -> Result<Taken, Refusal> {
            Err(Refusal::Broken("away".to_owned()))
        }
        fn settle(&self, _: &str, _: u64, _: u64, _: NonZeroU32) -> Result<Duration, Refusal> {
            Err(Refusal::Broken("away".to_owned()))
        }
        fn waits(&self) -> bool {
            true
        }
    }

    #[test]
    fn buckets_go_by_the_name_of_their_key() {
        let place = Arc::new(Place::new(None));
        let meter = |key| Arc::new(Meter::new(&place, key));
        let take = |meter: &Meter, of, count| {
            meter.take(of, count, rate(60)).expect("it answers").is_none()
        };
        let (one, other) = (meter("a"), meter("b"));
        assert!(take(&one, Of::Requests, 60) && !take(&one, Of::Requests, 59));
        assert!(take(&other, Of::Requests, 60) && take(&one, Of::Tokens, 60));
        // The same key, of another life of the configuration.
        let again = meter("a");
        assert!(!take(&again, Of::Requests, 59));
        again.settle(Of::Tokens, 60, 0, rate(60));
        assert!(take(&one, Of::Tokens, 60));
        assert!(one.full_in(Of::Requests) > Duration::from_secs(50));
        assert_eq!(other.full_in(Of::Tokens), Duration::ZERO, "nothing was heard of it");
    }

    #[test]
    fn full_buckets_are_forgotten() {
        let own = Own::new();
        for number in 0..BUCKETS {
            own.take(&number.to_string(), 0, rate(1)).expect("it answers");
        }
        own.take("0", 1, rate(1)).expect("it answers");
        own.take("one more", 1, rate(1)).expect("it answers");
        assert_eq!(own.buckets.lock().expect("no panic").len(), 2);
        assert!(own.take("0", 1, rate(1)).expect("it answers").wait.is_some());
    }

    #[test]
    fn who_does_not_hear_takes_nothing_and_few_wait() {
        let place = Arc::new(Place::new(Some(Arc::new(Away))));
        let meter = Arc::new(Meter::new(&place, "a"));
        assert!(matches!(meter.take(Of::Requests, 1, rate(9)), Err(Refusal::Broken(_))));
        meter.settle(Of::Tokens, 9, 1, rate(9));
        assert_eq!(meter.full_in(Of::Requests), Duration::ZERO);
        place.asking.store(ASKING, Ordering::Relaxed);
        let refused = meter.take(Of::Requests, 1, rate(9)).expect_err("too many").to_string();
        assert!(refused.contains("64 requests ask"), "{refused}");
        assert_eq!(place.asking.load(Ordering::Relaxed), ASKING);
    }
}
