//! The roofline (Williams, Waterman and Patterson, 2009): what a machine's limits allow an op,
//! against the time it took. Arithmetic only; nothing here measures or prints.

use ingle_backend::cpu::ACTIVATION_BYTES;
use ingle_backend::{Cost, Role};

/// From what share of its time on a limit counts as what binds an op.
const BINDS: f64 = 1.0 / 3.0;
/// From what share of the roof on an op cannot have got its bytes from memory; between 1 and this,
/// the limit may have been measured low.
const CACHED: f64 = 1.25;

/// What a machine can do at most, all threads together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Limits {
    /// Bytes per second from memory.
    pub(super) bandwidth: f64,
    /// Operations per second on 8-bit integers, a multiply-add counting two.
    pub(super) bytes: f64,
    /// The same on 32-bit floats.
    pub(super) floats: f64,
}

impl Limits {
    /// Seconds that the bytes take.
    pub(super) fn memory(&self, cost: &Cost) -> f64 {
        cost.bytes() as f64 / self.bandwidth
    }

    /// Seconds that the operations take. A quantised activation has more than eight bits, so each
    /// operation on it is made of several on 8-bit integers.
    pub(super) fn compute(&self, cost: &Cost) -> f64 {
        let quantised = (cost.quantised_flops * ACTIVATION_BYTES as u64) as f64;
        let others = (cost.flops - cost.quantised_flops) as f64;
        quantised / self.bytes + others / self.floats
    }

    /// Seconds that nothing computes it faster than, reading while computing.
    pub(super) fn floor(&self, cost: &Cost) -> f64 {
        self.memory(cost).max(self.compute(cost))
    }

    /// A machine of other limits; integers and floats keep their ratio.
    pub(super) fn with(&self, bandwidth: Option<f64>, compute: Option<f64>) -> Self {
        let bytes = compute.unwrap_or(self.bytes);
        Self {
            bandwidth: bandwidth.unwrap_or(self.bandwidth),
            bytes,
            floats: self.floats * bytes / self.bytes,
        }
    }
}

/// One op of a phase, all its steps together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Line {
    /// What it is for.
    pub(super) role: Role,
    /// Which layer it stands in, where it stands in one.
    pub(super) layer: Option<usize>,
    /// What it costs.
    pub(super) cost: Cost,
    /// What it took, in seconds.
    pub(super) seconds: f64,
    /// Of them, what threads waited for each other.
    pub(super) overhead: f64,
}

/// What some ops came to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sum {
    /// How many they are.
    pub(super) ops: usize,
    /// Their cost.
    pub(super) cost: Cost,
    /// What they took, in seconds.
    pub(super) seconds: f64,
    /// Of them, what threads waited for each other.
    pub(super) overhead: f64,
    /// Seconds that nothing computes them faster than.
    pub(super) floor: f64,
    /// Of `floor`, those of ops whose bytes take longer than their operations.
    memory_floor: f64,
}

/// What an op's time is spent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Reading and writing memory.
    Memory,
    /// Reading and writing, faster than memory could.
    Cache,
    /// Multiplying and adding.
    Compute,
    /// Threads waiting for each other, or having no part in it.
    Overhead,
    /// None of these: other instructions, or waits within the kernel.
    Kernel,
}

impl Verdict {
    /// In a word.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Memory => "memory-bound",
            Self::Cache => "cache-bound",
            Self::Compute => "compute-bound",
            Self::Overhead => "overhead-bound",
            Self::Kernel => "kernel-bound",
        }
    }
}

impl Sum {
    /// The sum of some ops under these limits.
    pub(super) fn of<'a>(lines: impl IntoIterator<Item = &'a Line>, limits: &Limits) -> Self {
        lines.into_iter().fold(Self::default(), |mut sum, line| {
            let floor = limits.floor(&line.cost);
            sum.ops += 1;
            sum.cost += line.cost;
            sum.seconds += line.seconds;
            sum.overhead += line.overhead;
            sum.floor += floor;
            if limits.memory(&line.cost) >= limits.compute(&line.cost) {
                sum.memory_floor += floor;
            }
            sum
        })
    }

    /// How near the ops come to what the limits allow; 1 is there. More than 1 means that part of
    /// the bytes came from a cache.
    pub(super) fn roof_share(&self) -> f64 {
        share(self.floor, self.seconds)
    }

    /// What share of the time threads waited for each other.
    pub(super) fn overhead_share(&self) -> f64 {
        share(self.overhead, self.seconds)
    }

    /// What the time is spent on.
    pub(super) fn verdict(&self) -> Verdict {
        let (roof, overhead) = (self.roof_share(), self.overhead_share());
        match () {
            () if overhead >= BINDS && overhead > roof => Verdict::Overhead,
            () if roof < BINDS => Verdict::Kernel,
            () if 2.0 * self.memory_floor >= self.floor && roof >= CACHED => Verdict::Cache,
            () if 2.0 * self.memory_floor >= self.floor => Verdict::Memory,
            () => Verdict::Compute,
        }
    }

    /// The verdict as a sentence.
    pub(super) fn words(&self) -> String {
        let percent = |share: f64| format!("{:.0} %", 100.0 * share);
        let roof = percent(self.roof_share());
        let part = percent(self.roof_share().min(1.0));
        let reason = match self.verdict() {
            Verdict::Memory => format!("moving the bytes alone takes {part} of the time"),
            Verdict::Cache => {
                format!("it moves bytes at {roof} of what memory gives: they stay in a cache")
            }
            Verdict::Compute => format!("the multiply-adds alone take {part} of the time"),
            Verdict::Overhead => format!(
                "{} of the time threads wait for each other or have no part",
                percent(self.overhead_share())
            ),
            Verdict::Kernel => format!(
                "bytes or multiply-adds alone would take {roof} of the time; the rest is other \
                 instructions and waits within the kernels"
            ),
        };
        format!("{}: {reason}", self.verdict().word())
    }
}

/// A part of a whole; 0 of nothing.
pub(super) fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// What ops would take elsewhere, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Forecast {
    /// If each op comes as near to the limits there as here, and threads wait as long.
    pub(super) as_here: f64,
    /// If each op meets them.
    pub(super) at_the_roof: f64,
}

/// What ops that were measured under the limits `here` would take under those of `there`.
pub(super) fn forecast(lines: &[Line], here: &Limits, there: &Limits) -> Forecast {
    let as_here = |line: &Line| {
        let (before, after) = (here.floor(&line.cost), there.floor(&line.cost));
        let slower = if before > 0.0 { after / before } else { 1.0 };
        line.overhead + (line.seconds - line.overhead) * slower
    };
    Forecast {
        as_here: lines.iter().map(as_here).sum(),
        at_the_roof: lines.iter().map(|line| there.floor(&line.cost)).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 10 B/s, 40 operations/s on bytes (20 products), 8 on floats.
    const HERE: Limits = Limits { bandwidth: 10.0, bytes: 40.0, floats: 8.0 };

    fn line(bytes_read: u64, flops: u64, quantised_flops: u64, times: (f64, f64)) -> Line {
        let cost = Cost { flops, quantised_flops, bytes_read, ..Cost::default() };
        Line { role: Role::Down, layer: None, cost, seconds: times.0, overhead: times.1 }
    }

    #[test]
    fn floors_are_the_slower_of_two() {
        let cost = line(100, 108, 100, (0.0, 0.0)).cost;
        assert_eq!(HERE.memory(&cost), 10.0);
        assert_eq!(HERE.compute(&cost), 6.0, "200 byte operations in 5 s, 8 float ones in 1 s");
        assert_eq!(HERE.floor(&cost), 10.0);
    }

    #[test]
    fn verdicts_name_what_takes_the_time() {
        let check = |lines: &[Line], expect, roof| {
            let sum = Sum::of(lines, &HERE);
            assert_eq!((sum.verdict(), sum.roof_share()), (expect, roof), "{sum:?}");
            assert!(sum.words().starts_with(expect.word()), "{}", sum.words());
        };
        check(&[line(100, 0, 0, (20.0, 1.0))], Verdict::Memory, 0.5);
        check(&[line(100, 0, 0, (5.0, 0.0))], Verdict::Cache, 2.0);
        check(&[line(100, 0, 0, (8.0, 0.0))], Verdict::Cache, 1.25);
        check(&[line(120, 0, 0, (10.0, 0.0))], Verdict::Memory, 1.2);
        check(&[line(10, 100, 100, (10.0, 1.0))], Verdict::Compute, 0.5);
        check(&[line(10, 0, 0, (10.0, 6.0))], Verdict::Overhead, 0.1);
        check(&[line(10, 0, 0, (10.0, 1.0))], Verdict::Kernel, 0.1);
        check(&[line(0, 0, 0, (1.0, 0.1))], Verdict::Kernel, 0.0);
        check(&[], Verdict::Kernel, 0.0);
        let mixed = [line(100, 0, 0, (20.0, 0.0)), line(10, 100, 100, (10.0, 0.0))];
        check(&mixed, Verdict::Memory, 0.5);
        check(&[mixed[1], mixed[1], mixed[1], mixed[0]], Verdict::Compute, 0.5);
    }

    #[test]
    fn forecasts_keep_the_share_of_the_roof_and_the_overhead() {
        let lines = [line(100, 0, 0, (22.0, 2.0)), line(10, 100, 100, (11.0, 1.0))];
        let check = |bandwidth, compute, as_here, at_the_roof| {
            let there = HERE.with(bandwidth, compute);
            assert_eq!(forecast(&lines, &HERE, &there), Forecast { as_here, at_the_roof });
        };
        check(None, None, 33.0, 15.0);
        check(Some(20.0), None, 2.0 + 10.0 + 11.0, 10.0);
        check(None, Some(80.0), 22.0 + 1.0 + 5.0, 12.5);
        check(Some(1000.0), Some(80.0), 2.0 + 0.2 + 1.0 + 5.0, 2.6);
        assert_eq!(HERE.with(None, Some(80.0)).floats, 16.0);
    }
}
