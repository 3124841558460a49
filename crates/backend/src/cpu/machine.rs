//! What the machine itself can do, measured: the limits that kernels are held to.

mod chains;

use super::pool::Pool;
use chains::Chain;
use std::hint::black_box;
use std::sync::Mutex;
use std::time::Instant;

/// More than any cache holds.
const BYTES: usize = 512 << 20;
/// Passes; the best one counts, since other programs only make it slower.
const PASSES: usize = 12;

/// Short passes, of a millisecond at most: some of many fall between what other programs do.
const SHORT_PASSES: usize = 40;
/// Calls of a chain in a short pass.
const CALLS: usize = 100;
/// Barriers in a pass of microseconds, and such passes.
const BARRIERS: usize = 20;
const BARRIER_PASSES: usize = 500;

/// What multiply-adds reach with nothing to wait for.
#[derive(Clone, Copy, Debug)]
pub struct Peak {
    /// The instructions that reached it.
    pub by: &'static str,
    /// Operations per second of all threads together, a multiply-add counting two.
    pub per_second: f64,
}

/// Products of 8-bit integers, summed to 32 bits, in the fastest of the ways known here.
pub fn byte_products(threads: usize) -> Peak {
    fastest(chains::BYTES, threads)
}

/// Products of 32-bit floats.
pub fn float_products(threads: usize) -> Peak {
    fastest(chains::FLOATS, threads)
}

fn fastest(chains: &[Chain], threads: usize) -> Peak {
    let pool = Pool::new(threads);
    let mut best = Peak { by: "nothing", per_second: 0.0 };
    for chain in chains.iter().filter(|chain| (chain.runs)()) {
        let seconds = quickest(SHORT_PASSES, || {
            // SAFETY: the chain runs here, as just asked.
            pool.run(&|_| (0..CALLS).for_each(|_| unsafe { (chain.call)() }));
        });
        let per_second = (CALLS * chain.operations * pool.threads()) as f64 / seconds;
        if per_second > best.per_second {
            best = Peak { by: chain.name, per_second };
        }
    }
    best
}

/// Seconds that a barrier takes when all threads arrive at once: what an op with no work costs.
pub fn barrier(threads: usize) -> f64 {
    let pool = Pool::new(threads);
    let pass = || pool.run(&|member| (0..BARRIERS).for_each(|_| member.barrier()));
    quickest(BARRIER_PASSES, pass) / BARRIERS as f64
}

/// The least seconds that one of the passes took.
fn quickest(passes: usize, mut pass: impl FnMut()) -> f64 {
    let timed = |_| {
        let start = Instant::now();
        pass();
        start.elapsed().as_secs_f64()
    };
    (0..passes).map(timed).fold(f64::INFINITY, f64::min)
}

/// Bytes per second that `threads` threads read from memory, together.
pub fn read_bandwidth(threads: usize) -> f64 {
    let memory = vec![1u64; BYTES / size_of::<u64>()];
    let pool = Pool::new(threads);
    let share = memory.len().div_ceil(pool.threads());
    let sums: Vec<Mutex<u64>> = memory.chunks(share).map(|_| Mutex::new(0)).collect();
    let seconds = quickest(PASSES, || {
        pool.run(&|member| {
            let Some(part) = memory.chunks(share).nth(member.index) else { return };
            *sums[member.index].lock().expect("its own") = sum(black_box(part));
        });
    });
    black_box(&sums);
    BYTES as f64 / seconds
}

/// Eight sums at once, so that additions do not wait for each other.
fn sum(part: &[u64]) -> u64 {
    let mut sums = [0u64; 32];
    for chunk in part.as_chunks::<32>().0 {
        for i in 0..32 {
            sums[i] = sums[i].wrapping_add(chunk[i]);
        }
    }
    sums.iter().fold(0, |a, b| a.wrapping_add(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_has_limits() {
        for threads in [1, 2] {
            for peak in [byte_products(threads), float_products(threads)] {
                assert!(peak.per_second.is_finite() && peak.per_second > 0.0, "{peak:?}");
            }
            assert!(barrier(threads) > 0.0);
        }
    }
}
