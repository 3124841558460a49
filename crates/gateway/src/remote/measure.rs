//! What was measured of a provider's model: plain numbers, for who decides and for `/metrics`.
//! Recent answers count most (an exponentially weighted mean). Absent: clocks; times are arguments.

use std::time::Duration;

use super::breaker::Standing;

/// What the newest answer counts for.
const WEIGHT: f64 = 0.2;

/// What is known of one provider's model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// The provider's name.
    pub provider: String,
    /// The model, as the provider calls it.
    pub model: String,
    /// Where its breaker stands; `until_ms` counts from now.
    pub breaker: Standing,
    /// Until a time that its provider asked to be left alone for is over, in milliseconds from now.
    pub limited_ms: u64,
    /// Requests that this model answers now.
    pub in_flight: usize,
    /// Requests that its provider answers now, and the most that it may.
    pub busy: (usize, usize),
    /// Requests that wait for the provider to have room.
    pub waiting: usize,
    /// Milliseconds from a try's start to the first piece of its answer; `None` before there was
    /// any.
    pub ttft_ms: Option<f64>,
    /// Milliseconds for each token after the first; `None` before there were any.
    pub ms_per_token: Option<f64>,
    /// Tries.
    pub tries: u64,
    /// Answers that came to their end.
    pub answers: u64,
    /// Tries that failed by its fault.
    pub failures: u64,
}

/// What is measured of one provider's model.
#[derive(Clone, Debug, Default)]
pub(super) struct Measured {
    pub(super) ttft_ms: Option<f64>,
    pub(super) ms_per_token: Option<f64>,
    pub(super) tries: u64,
    pub(super) answers: u64,
    pub(super) failures: u64,
}

impl Measured {
    /// An answer began after so long.
    pub(super) fn began(&mut self, after: Duration) {
        blend(&mut self.ttft_ms, after.as_secs_f64() * 1e3);
    }

    /// An answer ended, and its tokens after the first came in so long.
    pub(super) fn answered(&mut self, tokens: u32, within: Duration) {
        self.answers += 1;
        if tokens > 1 && within > Duration::ZERO {
            blend(&mut self.ms_per_token, within.as_secs_f64() * 1e3 / f64::from(tokens - 1));
        }
    }
}

fn blend(mean: &mut Option<f64>, value: f64) {
    *mean = Some(mean.map_or(value, |mean| mean + WEIGHT * (value - mean)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recent_answers_count_most() {
        let mut measured = Measured::default();
        for ms in [100, 100, 200] {
            measured.began(Duration::from_millis(ms));
        }
        assert_eq!(measured.ttft_ms, Some(120.0));
        measured.answered(1, Duration::from_secs(9));
        assert_eq!((measured.answers, measured.ms_per_token), (1, None));
        measured.answered(11, Duration::from_millis(50));
        assert_eq!((measured.answers, measured.ms_per_token), (2, Some(5.0)));
    }
}
