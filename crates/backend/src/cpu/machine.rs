//! What the machine itself can do, measured: the limits that kernels are held to.

use super::pool::Pool;
use std::hint::black_box;
use std::sync::Mutex;
use std::time::Instant;

/// More than any cache holds.
const BYTES: usize = 512 << 20;
/// Passes; the best one counts, since other programs only make it slower.
const PASSES: usize = 4;

/// Bytes per second that `threads` threads read from memory, together.
pub fn read_bandwidth(threads: usize) -> f64 {
    let memory = vec![1u64; BYTES / size_of::<u64>()];
    let mut pool = Pool::new(threads);
    let share = memory.len().div_ceil(pool.threads());
    let sums: Vec<Mutex<u64>> = memory.chunks(share).map(|_| Mutex::new(0)).collect();
    let mut best = f64::INFINITY;
    for _ in 0..PASSES {
        let start = Instant::now();
        pool.run(&|member| {
            let Some(part) = memory.chunks(share).nth(member.index) else { return };
            *sums[member.index].lock().expect("its own") = sum(black_box(part));
        });
        best = best.min(start.elapsed().as_secs_f64());
    }
    black_box(&sums);
    BYTES as f64 / best
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
