//! The body of attention: query rows over one segment of a sequence's paged keys and values, with
//! an online softmax. How segments are shared and merged is said in `run/attend.rs`.
#![allow(clippy::needless_range_loop, reason = "kernels are loops over fixed arrays, by index")]

use super::body::{capped, exp, fold};
use super::pack::LANES;
use super::simd::Simd;
use crate::BLOCK_TOKENS;

/// One query head's row of an attention tile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query {
    pub(crate) q: *const f32,
    /// The positions it sees.
    pub(crate) from: usize,
    pub(crate) to: usize,
}

/// What the query rows of a tile share: one KV head of one sequence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keys<'a> {
    /// `[block][kv head][dim][16 tokens]`, at this head's first block.
    pub(crate) keys: *const f32,
    /// `[block][kv head][16 tokens][dim]`, at this head's first block.
    pub(crate) values: *const f32,
    /// Floats from one block to the next.
    pub(crate) stride: usize,
    /// The sequence's blocks.
    pub(crate) blocks: &'a [u32],
    pub(crate) dim: usize,
    pub(crate) scale: f32,
    /// Scores become `cap · tanh(score / cap)`.
    pub(crate) softcap: Option<f32>,
}

/// Positions that one update of the softmax takes in, counted from the sequence's start: enough
/// that the update costs little beside the products.
const STRIDE: usize = 64;
/// Blocks of a stride.
const BLOCKS: usize = STRIDE / BLOCK_TOKENS;
const _: () = assert!(BLOCKS * BLOCK_TOKENS == STRIDE && BLOCK_TOKENS == LANES);

/// Positions after which the softmax begins anew, counted from the sequence's start. Segments are
/// merged in their order, so that threads can share a long context and the result is the same.
pub(crate) const SEGMENT: usize = 4 * STRIDE;

/// Floats that a segment leaves of each query row: its weighted values, largest score and sum of
/// weights; the sum is 0 where the row sees none of the segment.
pub(crate) const fn partial_floats(dim: usize) -> usize {
    dim + 2
}

/// `R` query rows over the positions of one segment that any of them sees, with an online softmax
/// (Milakov and Gimelshein, 2018), stride after stride of 64 positions.
///
/// # Safety
/// Pointers as described; `partial` has `R` rows' floats; every seen position was stored.
#[inline(always)]
pub(crate) unsafe fn attend<S: Simd, const R: usize>(
    kv: &Keys<'_>,
    rows: &[Query; R],
    segment: usize,
    partial: &mut [f32],
) {
    let dim = kv.dim;
    let mut most = [f32::NEG_INFINITY; R];
    let mut total = [0.0f32; R];
    partial.fill(0.0);
    let from = rows.iter().map(|row| row.from).min().unwrap_or(0).max(segment * SEGMENT);
    let to = rows.iter().map(|row| row.to).max().unwrap_or(0).min((segment + 1) * SEGMENT);
    let mut p = [[0.0f32; STRIDE]; R];
    for stride in from / STRIDE..to.div_ceil(STRIDE) {
        let first = stride * STRIDE;
        let seen = (from / BLOCK_TOKENS).max(stride * BLOCKS)
            ..to.div_ceil(BLOCK_TOKENS).min((stride + 1) * BLOCKS);
        for block in seen.clone() {
            let keys = kv.keys.wrapping_add(kv.blocks[block] as usize * kv.stride);
            // SAFETY: the block is one of the cache's.
            unsafe { scores::<S, R>(keys, kv, rows, block * BLOCK_TOKENS - first, &mut p) };
        }
        let mut grown = [1.0f32; R];
        for r in 0..R {
            let low = rows[r].from.saturating_sub(first).min(STRIDE);
            let high = rows[r].to.saturating_sub(first).min(STRIDE);
            // SAFETY: arithmetic on arrays.
            grown[r] = unsafe { soften::<S>(&mut p[r], low..high, &mut most[r], &mut total[r]) };
        }
        let seen = from.max(first)..to.min(first + STRIDE);
        // SAFETY: as above.
        unsafe { mix::<S, R>(kv, seen, &p, &grown, partial) };
    }
    for r in 0..R {
        let at = r * partial_floats(dim) + dim;
        (partial[at], partial[at + 1]) = (most[r], total[r]);
    }
}

/// Merges a later segment's partial row into an earlier one's.
pub(crate) fn merge(sum: &mut [f32], later: &[f32]) {
    let dim = sum.len() - 2;
    let (most, total) = (later[dim], later[dim + 1]);
    if total == 0.0 {
        return;
    }
    if sum[dim + 1] == 0.0 {
        sum.copy_from_slice(later);
        return;
    }
    let max = if most > sum[dim] { most } else { sum[dim] };
    let (own, other) = ((sum[dim] - max).exp(), (most - max).exp());
    for (sum, later) in sum[..dim].iter_mut().zip(later) {
        *sum = *sum * own + later * other;
    }
    sum[dim] = max;
    sum[dim + 1] = sum[dim + 1] * own + total * other;
}

/// `p[r][at + j] = scale · q[r] · key[j]`, capped.
#[inline(always)]
unsafe fn scores<S: Simd, const R: usize>(
    keys: *const f32,
    kv: &Keys<'_>,
    rows: &[Query; R],
    at: usize,
    p: &mut [[f32; STRIDE]; R],
) {
    // SAFETY: a head's block has `dim` rows of 16 keys; `q` has `dim` floats.
    unsafe {
        let mut sums = [S::floats(0.0); R];
        for d in 0..kv.dim {
            let key = S::load_f32(keys.add(d * BLOCK_TOKENS).cast());
            for r in 0..R {
                sums[r] = S::fma(S::floats(*rows[r].q.add(d)), key, sums[r]);
            }
        }
        for r in 0..R {
            sums[r] = S::mul(sums[r], S::floats(kv.scale));
        }
        if let Some(cap) = kv.softcap {
            for r in 0..R {
                sums[r] = capped::<S>(sums[r], cap);
            }
        }
        for r in 0..R {
            S::store(sums[r], p[r][at..at + LANES].as_mut_ptr());
        }
    }
}

/// Turns scores into weights relative to the new maximum, 0 outside of `seen`; returns what the
/// earlier sums are to be multiplied by.
#[inline(always)]
unsafe fn soften<S: Simd>(
    p: &mut [f32; STRIDE],
    seen: std::ops::Range<usize>,
    most: &mut f32,
    total: &mut f32,
) -> f32 {
    if seen.is_empty() {
        *p = [0.0; STRIDE];
        return 1.0;
    }
    p[..seen.start].fill(f32::NEG_INFINITY);
    p[seen.end..].fill(f32::NEG_INFINITY);
    let (mut lanes, mut grown) = ([0.0f32; LANES], [1.0f32; LANES]);
    // SAFETY: 16 floats at a time.
    unsafe {
        let part = |p: &[f32; STRIDE], i: usize| S::load_f32(p[i * LANES..].as_ptr().cast());
        let pairs = (S::max(part(p, 0), part(p, 1)), S::max(part(p, 2), part(p, 3)));
        S::store(S::max(pairs.0, pairs.1), lanes.as_mut_ptr());
        let max = most.max(fold(lanes, |a, b| if a > b { a } else { b }));
        let mut sum = S::floats(0.0);
        for i in 0..BLOCKS {
            let weights = exp::<S>(S::sub(part(p, i), S::floats(max)));
            S::store(weights, p[i * LANES..].as_mut_ptr());
        }
        p[..seen.start].fill(0.0);
        p[seen.end..].fill(0.0);
        for i in 0..BLOCKS {
            sum = S::add(sum, part(p, i));
        }
        if *most != max {
            S::store(exp::<S>(S::floats(*most - max)), grown.as_mut_ptr());
        }
        S::store(sum, lanes.as_mut_ptr());
        *most = max;
    }
    *total = total.mul_add(grown[0], fold(lanes, |a, b| a + b));
    grown[0]
}

/// `out[r] = grown[r] · out[r] + Σ p[r][j] · value[j]`, over the positions seen of one stride.
#[inline(always)]
unsafe fn mix<S: Simd, const R: usize>(
    kv: &Keys<'_>,
    seen: std::ops::Range<usize>,
    p: &[[f32; STRIDE]; R],
    grown: &[f32; R],
    out: &mut [f32],
) {
    let dim = kv.dim;
    let value = |position: usize| {
        let block = kv.blocks[position / BLOCK_TOKENS] as usize * kv.stride;
        kv.values.wrapping_add(block + position % BLOCK_TOKENS * dim)
    };
    let mut values = [std::ptr::null::<f32>(); STRIDE];
    for position in seen.clone() {
        values[position % STRIDE] = value(position);
    }
    let (first, last) = (seen.start % STRIDE, seen.start % STRIDE + seen.len());
    let whole = dim - dim % LANES;
    // SAFETY: each value has `dim` floats; `out` has `R` partial rows.
    unsafe {
        for at in (0..whole).step_by(LANES) {
            let mut sums = [S::floats(0.0); R];
            for r in 0..R {
                let old = S::load_f32(out.as_ptr().add(r * partial_floats(dim) + at).cast());
                sums[r] = S::mul(S::floats(grown[r]), old);
            }
            for j in first..last {
                let value = S::load_f32(values[j].add(at).cast());
                for r in 0..R {
                    sums[r] = S::fma(S::floats(p[r][j]), value, sums[r]);
                }
            }
            for r in 0..R {
                S::store(sums[r], out.as_mut_ptr().add(r * partial_floats(dim) + at));
            }
        }
        for at in whole..dim {
            for r in 0..R {
                let mut sum = grown[r] * out[r * partial_floats(dim) + at];
                for j in first..last {
                    sum = p[r][j].mul_add(*values[j].add(at), sum);
                }
                out[r * partial_floats(dim) + at] = sum;
            }
        }
    }
}
