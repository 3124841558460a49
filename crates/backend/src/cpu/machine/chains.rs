//! Loops of multiply-adds, with enough sums that none waits for another, and with operands in
//! registers or the first cache. They compute nothing of use: only how fast they run counts.
#![allow(clippy::needless_range_loop, reason = "kernels are loops over fixed arrays, by index")]

use std::hint::black_box;

/// One way to multiply and add.
pub(super) struct Chain {
    /// Its instructions.
    pub(super) name: &'static str,
    /// Whether this machine has them.
    pub(super) runs: fn() -> bool,
    /// Operations of one call, a multiply-add counting two.
    pub(super) operations: usize,
    /// May be called where it runs.
    pub(super) call: unsafe fn(),
}

/// Rounds of one call.
#[cfg(target_arch = "x86_64")]
const ROUNDS: usize = 4096;
/// Sums that are under way at once: latency times instructions a cycle, and some more.
#[cfg(target_arch = "x86_64")]
const SUMS: usize = 12;
/// Sums of the plain loops, which the compiler makes vectors of.
const PLAIN: usize = 64;
/// Rounds of those.
const PLAIN_ROUNDS: usize = 256;

/// 8-bit products.
pub(super) static BYTES: &[Chain] = &[
    #[cfg(target_arch = "x86_64")]
    Chain {
        name: "vpdpbusd, 512 bits",
        runs: || is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni"),
        operations: ROUNDS * SUMS * 64 * 2,
        call: x86::dpbusd_512,
    },
    #[cfg(target_arch = "x86_64")]
    Chain {
        name: "vpdpbusd, 256 bits",
        runs: || is_x86_feature_detected!("avx2") && is_x86_feature_detected!("avxvnni"),
        operations: ROUNDS * SUMS * 32 * 2,
        call: x86::dpbusd_256,
    },
    #[cfg(target_arch = "x86_64")]
    Chain {
        name: "vpmaddubsw, widened once in eight",
        runs: || is_x86_feature_detected!("avx2"),
        operations: ROUNDS * 4 * 32 * 2,
        call: x86::maddubs,
    },
    Chain {
        name: "a plain loop",
        runs: || true,
        operations: PLAIN_ROUNDS * PLAIN * 2,
        call: bytes,
    },
];

/// 32-bit float products.
pub(super) static FLOATS: &[Chain] = &[
    #[cfg(target_arch = "x86_64")]
    Chain {
        name: "vfmadd, 512 bits",
        runs: || is_x86_feature_detected!("avx512f"),
        operations: ROUNDS * SUMS * 16 * 2,
        call: x86::fma_512,
    },
    #[cfg(target_arch = "x86_64")]
    Chain {
        name: "vfmadd, 256 bits",
        runs: || is_x86_feature_detected!("avx") && is_x86_feature_detected!("fma"),
        operations: ROUNDS * SUMS * 8 * 2,
        call: x86::fma_256,
    },
    Chain {
        name: "a plain loop",
        runs: || true,
        operations: PLAIN_ROUNDS * PLAIN * 2,
        call: floats,
    },
];

fn bytes() {
    let (w, mut x) = (black_box([3i8; PLAIN]), black_box([-5i8; PLAIN]));
    let mut sums = [0i32; PLAIN];
    for _ in 0..PLAIN_ROUNDS {
        for i in 0..PLAIN {
            sums[i] += i32::from(w[i]) * i32::from(x[i]);
            x[i] ^= 1; // else the product could be made once
        }
    }
    black_box(sums);
}

fn floats() {
    let (w, mut x) = (black_box([0.5f32; PLAIN]), black_box([1.5f32; PLAIN]));
    for _ in 0..PLAIN_ROUNDS {
        for i in 0..PLAIN {
            x[i] = x[i] * w[i] + 0.25;
        }
    }
    black_box(x);
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{ROUNDS, SUMS, black_box};
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) fn dpbusd_512() {
        let (w, x) = (_mm512_set1_epi8(black_box(3)), _mm512_set1_epi8(black_box(-5)));
        let mut sums = [_mm512_setzero_si512(); SUMS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, w, x);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx2,avxvnni")]
    pub(super) fn dpbusd_256() {
        let (w, x) = (_mm256_set1_epi8(black_box(3)), _mm256_set1_epi8(black_box(-5)));
        let mut sums = [_mm256_setzero_si256(); SUMS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm256_dpbusd_avx_epi32(*sum, w, x);
            }
        }
        black_box(sums);
    }

    /// Two vectors of weights times two of activations a round, loaded afresh: the products of
    /// operands that stay could be made once. Weights below 16 can be summed eight times in 16
    /// bits.
    #[target_feature(enable = "avx2")]
    pub(super) fn maddubs() {
        const VECTORS: usize = 64;
        let w = black_box([[3u8; 32]; VECTORS]);
        let x = black_box([[-5i8; 32]; VECTORS]);
        let mut wide = [_mm256_setzero_si256(); 4];
        let mut narrow = wide;
        for round in 0..ROUNDS {
            let at = 2 * (round % (VECTORS / 2));
            // SAFETY: 32 bytes within the arrays, which need no alignment.
            let load = |from: *const [u8; 32]| unsafe { _mm256_loadu_si256(from.cast()) };
            for i in 0..4 {
                let (w, x) = (load(&w[at + i / 2]), load((&raw const x[at + i % 2]).cast()));
                narrow[i] = _mm256_add_epi16(narrow[i], _mm256_maddubs_epi16(w, x));
            }
            if round % 8 == 7 {
                for i in 0..4 {
                    let sums = _mm256_madd_epi16(narrow[i], _mm256_set1_epi16(1));
                    wide[i] = _mm256_add_epi32(wide[i], sums);
                    narrow[i] = _mm256_setzero_si256();
                }
            }
        }
        black_box(wide);
    }

    #[target_feature(enable = "avx512f")]
    pub(super) fn fma_512() {
        let (a, b) = (_mm512_set1_ps(black_box(0.5)), _mm512_set1_ps(black_box(0.25)));
        let mut sums = [b; SUMS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, a, b);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx,fma")]
    pub(super) fn fma_256() {
        let (a, b) = (_mm256_set1_ps(black_box(0.5)), _mm256_set1_ps(black_box(0.25)));
        let mut sums = [b; SUMS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, a, b);
            }
        }
        black_box(sums);
    }
}
