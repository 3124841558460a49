//! The body of attention: query rows over one segment of a sequence's paged keys and values, with
//! an online softmax. How segments are shared and merged is said in `run/attend.rs`, where things
//! stand in the cache in `paged.rs`.
//!
//! However many rows, blocks and dimensions are in hand at a time, each sum is made in the same
//! order: keys by dimension, values by position.
#![allow(clippy::needless_range_loop, reason = "kernels are loops over fixed arrays, by index")]

use super::body::{capped, exp, fold};
use super::pack::LANES;
use super::paged::{Piece, Side};
use super::simd::Simd;
use super::stored::{Bytes, Floats, Halves, Stored};
use crate::{BLOCK_TOKENS, KV_GROUP, KvType};

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
    /// This head's keys in the cache's first block; its values follow.
    pub(crate) first: *const u8,
    /// Bytes from one block to the next.
    pub(crate) stride: usize,
    /// The sequence's blocks.
    pub(crate) blocks: &'a [u32],
    pub(crate) piece: Piece,
    pub(crate) scale: f32,
    /// Scores become `cap · tanh(score / cap)`.
    pub(crate) softcap: Option<f32>,
}

impl Keys<'_> {
    /// The keys, or values, of one of the sequence's blocks.
    pub(crate) fn block(&self, block: usize, side: Side) -> *const u8 {
        let keys = self.first.wrapping_add(self.blocks[block] as usize * self.stride);
        match side {
            Side::Keys => keys,
            Side::Values => keys.wrapping_add(self.piece.bytes()),
        }
    }
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

/// Any number of query rows, some at a time.
///
/// # Safety
/// As [`attend`].
#[inline(always)]
pub(crate) unsafe fn rows<S: Simd>(
    kv: &Keys<'_>,
    rows: &[Query],
    segment: usize,
    partial: &mut [f32],
) {
    // SAFETY: the caller's promise.
    unsafe {
        match kv.piece.kv {
            KvType::F16 => rows_of::<S, Halves>(kv, rows, segment, partial),
            KvType::Q8_0 => rows_of::<S, Bytes>(kv, rows, segment, partial),
            KvType::F32 => rows_of::<S, Floats>(kv, rows, segment, partial),
        }
    }
}

#[inline(always)]
unsafe fn rows_of<S: Simd, K: Stored>(
    kv: &Keys<'_>,
    rows: &[Query],
    segment: usize,
    partial: &mut [f32],
) {
    let (mut rows, mut partial) = (rows, partial);
    while let Some(take) = [8, 4, 3, 2, 1].into_iter().find(|&take| take <= rows.len()) {
        let (now, rest) = rows.split_at(take);
        let (out, left) = partial.split_at_mut(take * partial_floats(kv.piece.dim));
        // SAFETY: the caller's promise; the lengths were just cut to fit.
        unsafe {
            match take {
                8 => attend::<S, K, 8, 1, 1>(kv, now.as_array().expect("8 rows"), segment, out),
                4 => attend::<S, K, 4, 2, 2>(kv, now.as_array().expect("4 rows"), segment, out),
                3 => attend::<S, K, 3, 2, 2>(kv, now.as_array().expect("3 rows"), segment, out),
                2 => attend::<S, K, 2, 4, 2>(kv, now.as_array().expect("2 rows"), segment, out),
                _ => attend::<S, K, 1, 4, 2>(kv, now.as_array().expect("1 row"), segment, out),
            }
        }
        (rows, partial) = (rest, left);
    }
}

/// `R` query rows over the positions of one segment that any of them sees, with an online softmax
/// (Milakov and Gimelshein, 2018), stride after stride of 64 positions; `B` blocks of keys and `N`
/// vectors of values at a time keep the processor busy where rows are few.
///
/// # Safety
/// Pointers as described; `partial` has `R` rows' floats; every seen position was stored.
#[inline(always)]
unsafe fn attend<S: Simd, K: Stored, const R: usize, const B: usize, const N: usize>(
    kv: &Keys<'_>,
    rows: &[Query; R],
    segment: usize,
    partial: &mut [f32],
) {
    let dim = kv.piece.dim;
    let mut most = [f32::NEG_INFINITY; R];
    let mut total = [0.0f32; R];
    partial.fill(0.0);
    let from = rows.iter().map(|row| row.from).min().unwrap_or(0).max(segment * SEGMENT);
    let to = rows.iter().map(|row| row.to).max().unwrap_or(0).min((segment + 1) * SEGMENT);
    let mut p = [[0.0f32; STRIDE]; R];
    for stride in from / STRIDE..to.div_ceil(STRIDE) {
        let first = stride * STRIDE;
        let mut block = (from / BLOCK_TOKENS).max(stride * BLOCKS);
        let end = to.div_ceil(BLOCK_TOKENS).min((stride + 1) * BLOCKS);
        // SAFETY: the blocks are some of the cache's.
        unsafe {
            while block + B <= end {
                scores::<S, K, R, B>(kv, rows, block, &mut p);
                block += B;
            }
            for block in block..end {
                scores::<S, K, R, 1>(kv, rows, block, &mut p);
            }
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
        unsafe { mix::<S, K, R, N>(kv, seen, &p, &grown, partial) };
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

/// What makes a row's weighted values their mean: one over the sum of weights, to which a sink adds
/// its own. Weights stand relative to the largest score.
pub(crate) fn share(most: f32, total: f32, sink: Option<f32>) -> f32 {
    match sink {
        Some(sink) if sink > most => {
            let scale = (most - sink).exp();
            scale / total.mul_add(scale, 1.0)
        }
        Some(sink) => 1.0 / (total + (sink - most).exp()),
        None => 1.0 / total,
    }
}

/// `p[r][j] = scale · q[r] · key[j]`, capped, for `B` blocks of keys of one stride.
#[inline(always)]
unsafe fn scores<S: Simd, K: Stored, const R: usize, const B: usize>(
    kv: &Keys<'_>,
    rows: &[Query; R],
    block: usize,
    p: &mut [[f32; STRIDE]; R],
) {
    let piece = kv.piece;
    let mut keys = [std::ptr::null::<u8>(); B];
    for b in 0..B {
        keys[b] = kv.block(block + b, Side::Keys);
    }
    // SAFETY: a piece has its groups, a group its dimensions; `q` has `dim` floats.
    unsafe {
        let mut sums = [[S::floats(0.0); B]; R];
        for group in 0..piece.dim.div_ceil(KV_GROUP) {
            let mut part = if K::SCALED { [[S::floats(0.0); B]; R] } else { sums };
            let at = piece.group(group);
            for d in 0..piece.width(group) {
                let from = at + K::SCALES + d * BLOCK_TOKENS * K::SIZE;
                let mut key = [S::floats(0.0); B];
                for b in 0..B {
                    key[b] = K::load::<S>(keys[b].add(from));
                }
                for r in 0..R {
                    let q = S::floats(*rows[r].q.add(group * KV_GROUP + d));
                    for b in 0..B {
                        part[r][b] = S::fma(q, key[b], part[r][b]);
                    }
                }
            }
            if K::SCALED {
                for b in 0..B {
                    let scale = S::load_f16(keys[b].add(at));
                    for r in 0..R {
                        sums[r][b] = S::fma(part[r][b], scale, sums[r][b]);
                    }
                }
            } else {
                sums = part;
            }
        }
        for r in 0..R {
            for b in 0..B {
                let mut score = S::mul(sums[r][b], S::floats(kv.scale));
                if let Some(cap) = kv.softcap {
                    score = capped::<S>(score, cap);
                }
                let at = (block + b) % BLOCKS * BLOCK_TOKENS;
                S::store(score, p[r][at..at + LANES].as_mut_ptr());
            }
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
unsafe fn mix<S: Simd, K: Stored, const R: usize, const N: usize>(
    kv: &Keys<'_>,
    seen: std::ops::Range<usize>,
    p: &[[f32; STRIDE]; R],
    grown: &[f32; R],
    out: &mut [f32],
) {
    for group in 0..kv.piece.dim.div_ceil(KV_GROUP) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut scaled = [[0.0f32; STRIDE]; R];
            let p = if K::SCALED {
                scale_weights::<S, R>(kv, group, seen.clone(), p, &mut scaled);
                &scaled
            } else {
                p
            };
            let (mut at, width) = (0, kv.piece.width(group));
            while at + N * LANES <= width {
                mix_lanes::<S, K, R, N>(kv, (group, at), seen.clone(), p, grown, out);
                at += N * LANES;
            }
            while at < width {
                mix_lanes::<S, K, R, 1>(kv, (group, at), seen.clone(), p, grown, out);
                at += LANES;
            }
        }
    }
}

/// `scaled[r][j] = p[r][j] · scale of value[j]`'s group
#[inline(always)]
unsafe fn scale_weights<S: Simd, const R: usize>(
    kv: &Keys<'_>,
    group: usize,
    seen: std::ops::Range<usize>,
    p: &[[f32; STRIDE]; R],
    scaled: &mut [[f32; STRIDE]; R],
) {
    for block in seen.start / BLOCK_TOKENS..seen.end.div_ceil(BLOCK_TOKENS) {
        let at = block % BLOCKS * BLOCK_TOKENS;
        // SAFETY: a group of this type begins with 16 scales; 16 floats at a time.
        unsafe {
            let scale = S::load_f16(kv.block(block, Side::Values).add(kv.piece.group(group)));
            for r in 0..R {
                let weights = S::load_f32(p[r][at..at + LANES].as_ptr().cast());
                let to = scaled[r][at..at + LANES].as_mut_ptr();
                S::store(S::mul(weights, scale), to);
            }
        }
    }
}

/// [`mix`] for `N` vectors of a group's dimensions, the last of which may reach beyond the group:
/// what is read there is dropped.
#[inline(always)]
unsafe fn mix_lanes<S: Simd, K: Stored, const R: usize, const N: usize>(
    kv: &Keys<'_>,
    (group, at): (usize, usize),
    seen: std::ops::Range<usize>,
    p: &[[f32; STRIDE]; R],
    grown: &[f32; R],
    out: &mut [f32],
) {
    let piece = kv.piece;
    let (width, place) = (piece.width(group), group * KV_GROUP + at);
    let whole = width - at >= N * LANES;
    // SAFETY: values stand as `Piece` says, and the cache can be read a vector beyond its end;
    // `out` has `R` partial rows.
    unsafe {
        let mut sums = [[S::floats(0.0); N]; R];
        for r in 0..R {
            let row = &out[r * partial_floats(piece.dim) + place..];
            for n in 0..N {
                let old = if whole {
                    S::load_f32(row.as_ptr().add(n * LANES).cast())
                } else {
                    let mut lanes = [0.0; LANES];
                    lanes[..width - at].copy_from_slice(&row[..width - at]);
                    S::load_f32(lanes.as_ptr().cast())
                };
                sums[r][n] = S::mul(S::floats(grown[r]), old);
            }
        }
        for block in seen.start / BLOCK_TOKENS..seen.end.div_ceil(BLOCK_TOKENS) {
            let base = kv.block(block, Side::Values);
            let base = base.add(piece.group(group) + K::SCALES + at * K::SIZE);
            let first = block * BLOCK_TOKENS;
            for slot in seen.start.max(first) - first..seen.end.min(first + BLOCK_TOKENS) - first {
                let mut value = [S::floats(0.0); N];
                for n in 0..N {
                    value[n] = K::load::<S>(base.add((slot * width + n * LANES) * K::SIZE));
                }
                let j = (first + slot) % STRIDE;
                for r in 0..R {
                    for n in 0..N {
                        sums[r][n] = S::fma(S::floats(p[r][j]), value[n], sums[r][n]);
                    }
                }
            }
        }
        for r in 0..R {
            let row = &mut out[r * partial_floats(piece.dim) + place..];
            for n in 0..N {
                if whole {
                    S::store(sums[r][n], row.as_mut_ptr().add(n * LANES));
                } else {
                    let mut lanes = [0.0; LANES];
                    S::store(sums[r][n], lanes.as_mut_ptr());
                    row[..width - at].copy_from_slice(&lanes[..width - at]);
                }
            }
        }
    }
}
