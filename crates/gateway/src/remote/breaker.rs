//! When a provider's model is left alone for a while: a state machine over outcomes, with time as
//! an argument. Closed, it lets all pass; opened by failures, none until it has cooled down; then
//! one probe, whose outcome closes or opens it. Absent: clocks, and what counts as a failure.

use std::collections::VecDeque;

/// When a breaker opens, and for how long. Times are milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Failures one after another that open it.
    pub consecutive: u32,
    /// The last outcomes that its rate is reckoned over.
    pub window: usize,
    /// How many there have to be before their rate says anything.
    pub least: usize,
    /// The share of failures among them that opens it, in percent.
    pub percent: u32,
    /// How long it stays open the first time, doubled each time that its probe fails.
    pub cooldown_ms: u64,
    /// How long at most.
    pub cooldown_most_ms: u64,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            consecutive: 5,
            window: 20,
            least: 10,
            percent: 50,
            cooldown_ms: 10_000,
            cooldown_most_ms: 300_000,
        }
    }
}

/// Where a breaker stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// All pass.
    #[default]
    Closed,
    /// None pass.
    Open {
        /// Until then, in the clock that it is told the time by.
        until_ms: u64,
    },
    /// One passes, to see.
    HalfOpen {
        /// Whether it is under way.
        probing: bool,
    },
}

/// Whether one may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admit {
    /// It may.
    Yes,
    /// It may, as the one that tells whether more do.
    Probe,
    /// It may not.
    No {
        /// Until then; `None` while a probe is under way.
        until_ms: Option<u64>,
    },
}

/// A breaker.
#[derive(Clone, Debug)]
pub struct Breaker {
    settings: BreakerSettings,
    standing: Standing,
    /// The last outcomes, oldest first, whether good.
    recent: VecDeque<bool>,
    /// Failures since the last success.
    failures: u32,
    /// Times that it opened since it was last closed.
    opened: u32,
}

impl Breaker {
    /// A closed one.
    pub fn new(settings: BreakerSettings) -> Self {
        let standing = Standing::Closed;
        Self { settings, standing, recent: VecDeque::new(), failures: 0, opened: 0 }
    }

    /// Where it stands at a time.
    pub fn standing(&self, now_ms: u64) -> Standing {
        match self.standing {
            Standing::Open { until_ms } if now_ms >= until_ms => {
                Standing::HalfOpen { probing: false }
            }
            standing => standing,
        }
    }

    /// Asks whether one may pass. Who is told [`Admit::Probe`] has to tell how it went, by
    /// [`Breaker::record`] or [`Breaker::forget`].
    pub fn admit(&mut self, now_ms: u64) -> Admit {
        match self.standing(now_ms) {
            Standing::Closed => Admit::Yes,
            Standing::Open { until_ms } => Admit::No { until_ms: Some(until_ms) },
            Standing::HalfOpen { probing: true } => Admit::No { until_ms: None },
            Standing::HalfOpen { probing: false } => {
                self.standing = Standing::HalfOpen { probing: true };
                Admit::Probe
            }
        }
    }

    /// Tells how one that passed went. Who passed before it opened no longer matters.
    pub fn record(&mut self, now_ms: u64, probe: bool, good: bool) {
        match (self.standing, probe) {
            (Standing::HalfOpen { .. }, true) if good => {
                *self = Self::new(self.settings);
            }
            (Standing::HalfOpen { .. }, true) => self.open(now_ms),
            (Standing::Closed, _) => self.count(now_ms, good),
            _ => {}
        }
    }

    /// Tells that one that passed ended without saying anything about its provider.
    pub fn forget(&mut self, probe: bool) {
        if probe && self.standing == (Standing::HalfOpen { probing: true }) {
            self.standing = Standing::HalfOpen { probing: false };
        }
    }

    fn count(&mut self, now_ms: u64, good: bool) {
        self.failures = if good { 0 } else { self.failures.saturating_add(1) };
        self.recent.push_back(good);
        while self.recent.len() > self.settings.window {
            self.recent.pop_front();
        }
        let bad = self.recent.iter().filter(|good| !**good).count() as u64;
        let all = self.recent.len();
        let many = all >= self.settings.least.max(1)
            && bad * 100 >= all as u64 * u64::from(self.settings.percent);
        if !good && (self.failures >= self.settings.consecutive || many) {
            self.open(now_ms);
        }
    }

    fn open(&mut self, now_ms: u64) {
        let times = 1_u64 << self.opened.min(32);
        let settings = self.settings;
        let wait = settings.cooldown_ms.saturating_mul(times).min(settings.cooldown_most_ms);
        self.standing = Standing::Open { until_ms: now_ms.saturating_add(wait) };
        self.opened = self.opened.saturating_add(1);
        self.recent.clear();
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `+` and `-` are outcomes, `?` asks to pass, `x` forgets; digits wait as many seconds. What
    /// is asked is answered `y`, `p` or `n`; then where it stands: `c`, `o` or `h`.
    fn play(script: &str) -> String {
        let settings = BreakerSettings {
            consecutive: 3,
            window: 6,
            least: 4,
            percent: 50,
            cooldown_ms: 1_000,
            cooldown_most_ms: 4_000,
        };
        let (mut breaker, mut now_ms, mut probe) = (Breaker::new(settings), 0, false);
        let mut told = String::new();
        for step in script.chars() {
            match step {
                '+' | '-' => breaker.record(now_ms, std::mem::take(&mut probe), step == '+'),
                'x' => breaker.forget(std::mem::take(&mut probe)),
                '?' => told.push(match breaker.admit(now_ms) {
                    Admit::Yes => 'y',
                    Admit::Probe => {
                        probe = true;
                        'p'
                    }
                    Admit::No { .. } => 'n',
                }),
                digit => now_ms += u64::from(digit.to_digit(10).expect("a digit")) * 1_000,
            }
        }
        told.push(match breaker.standing(now_ms) {
            Standing::Closed => 'c',
            Standing::Open { .. } => 'o',
            Standing::HalfOpen { .. } => 'h',
        });
        told
    }

    #[test]
    fn it_opens_cools_down_and_probes() {
        let check = |script, expect| assert_eq!(play(script), expect, "{script}");
        check("?", "yc");
        check("--+-", "o"); // 3 of the last 4 failed
        check("--?", "yc");
        check("---?", "no");
        check("-+-+", "c"); // half of four, but a success opens nothing
        check("-+--", "o");
        check("-++++-+", "c");
        check("---1?", "ph");
        check("---1??", "pnh");
        check("---1?+?", "pyc");
        check("---1?+--", "pc"); // closed anew: it forgot what was
        check("---1?-1?", "pno"); // twice as long
        check("---1?-2?", "pph");
        check("---1?-2?-4?", "ppph");
        check("---1?-2?-4?-4?", "pppph"); // at most four seconds
        check("---1?x?", "pph"); // what was cancelled says nothing
        check("---+?", "no"); // who passed before does not close it
        check("---1+?", "ph");
    }

    #[test]
    fn until_when_is_told() {
        let mut breaker = Breaker::new(BreakerSettings { consecutive: 1, ..Default::default() });
        breaker.record(5, false, false);
        assert_eq!(breaker.admit(6), Admit::No { until_ms: Some(10_005) });
        assert_eq!(breaker.admit(10_005), Admit::Probe);
        assert_eq!(breaker.admit(10_006), Admit::No { until_ms: None });
    }
}
