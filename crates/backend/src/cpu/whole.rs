//! The body of attention over a sequence that is one span, whose tokens may see those behind them:
//! keys and values are read where products left them, so that none is stored, rounded or brought
//! into another order. A query row is a lane here: one float of a key meets 16 rows, and nothing of
//! the softmax is summed across a vector.
//!
//! However many positions and dimensions are in hand at a time, each sum is made in the same order:
//! keys by dimension, values by position. Absent: positions of earlier steps (`attend.rs`), and who
//! takes which rows (`run/attend.rs`).
#![allow(clippy::needless_range_loop, reason = "kernels are loops over fixed arrays, by index")]

use super::attend::share;
use super::body::{capped, exp2};
use super::pack::{LANES, Lanes};
use super::simd::Simd;
use std::f32::consts::{LN_2, LOG2_E};

/// What the rows of a tile share: one KV head of one sequence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sequence {
    /// This head's key of the sequence's first token.
    pub(crate) keys: *const f32,
    /// Floats from one token's to the next.
    pub(crate) keys_stride: usize,
    /// The same of values.
    pub(crate) values: *const f32,
    /// The same of values.
    pub(crate) values_stride: usize,
    /// Floats of a head.
    pub(crate) dim: usize,
    pub(crate) scale: f32,
    /// Scores become `cap · tanh(score / cap)`.
    pub(crate) softcap: Option<f32>,
}

/// One query head's row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seer {
    pub(crate) q: *const f32,
    /// Where what it attends to goes.
    pub(crate) y: *mut f32,
    /// The positions it sees, itself among them.
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// A logit that takes its share and has no value.
    pub(crate) sink: Option<f32>,
}

/// Positions that one update of the softmax takes in, counted from the first that a row of the tile
/// sees: their scores stay in the first cache.
const STRIDE: usize = 128;

/// Vectors that [`rows`] works in.
pub(crate) const fn room(dim: usize) -> usize {
    2 * dim + STRIDE
}

/// Any number of rows, 16 at a time.
///
/// # Safety
/// Pointers as described, the positions that are seen among the sequence's; there is [`room`].
#[inline(always)]
pub(crate) unsafe fn rows<S: Simd>(of: &Sequence, rows: &[Seer], room: &mut [Lanes]) {
    let (queries, rest) = room.split_at_mut(of.dim);
    let (sums, scores) = rest.split_at_mut(of.dim);
    for rows in rows.chunks(LANES) {
        // SAFETY: the caller's promise.
        unsafe {
            spread::<S>(of, rows, queries);
            attend::<S>(of, rows, queries, sums, scores);
            collect::<S>(of.dim, rows, sums);
        }
    }
}

/// What scores are to be multiplied by before they are powers of two; where they are capped first,
/// before that.
fn factor(of: &Sequence) -> f32 {
    if of.softcap.is_some() { of.scale } else { of.scale * LOG2_E }
}

/// `queries[d][lane] = factor · q[d]` of each row; lanes without any are 0.
#[inline(always)]
unsafe fn spread<S: Simd>(of: &Sequence, rows: &[Seer], queries: &mut [Lanes]) {
    let (factor, whole) = (factor(of), of.dim - of.dim % LANES);
    // SAFETY: a row has `dim` floats.
    unsafe {
        for at in (0..whole).step_by(LANES) {
            let mut v = [S::floats(0.0); LANES];
            for (lane, row) in rows.iter().enumerate() {
                v[lane] = S::mul(S::load_f32(row.q.add(at).cast()), S::floats(factor));
            }
            let v = S::transposed(v);
            for i in 0..LANES {
                S::store(v[i], queries[at + i].0.as_mut_ptr());
            }
        }
        for d in whole..of.dim {
            let Lanes(to) = &mut queries[d];
            *to = [0.0; LANES];
            for (lane, row) in rows.iter().enumerate() {
                to[lane] = *row.q.add(d) * factor;
            }
        }
    }
}

/// Each row's `y[d] = sums[d][lane]`.
#[inline(always)]
unsafe fn collect<S: Simd>(dim: usize, rows: &[Seer], sums: &[Lanes]) {
    let whole = dim - dim % LANES;
    // SAFETY: a row has `dim` floats.
    unsafe {
        for at in (0..whole).step_by(LANES) {
            let mut v = [S::floats(0.0); LANES];
            for i in 0..LANES {
                v[i] = S::load_f32(sums[at + i].0.as_ptr().cast());
            }
            let v = S::transposed(v);
            for (lane, row) in rows.iter().enumerate() {
                S::store(v[lane], row.y.add(at));
            }
        }
        for (d, Lanes(sums)) in sums.iter().enumerate().skip(whole) {
            for (lane, row) in rows.iter().enumerate() {
                *row.y.add(d) = sums[lane];
            }
        }
    }
}

/// Up to 16 rows over all positions that any of them sees, stride after stride, with an online
/// softmax (Milakov and Gimelshein, 2018).
#[inline(always)]
unsafe fn attend<S: Simd>(
    of: &Sequence,
    rows: &[Seer],
    queries: &[Lanes],
    sums: &mut [Lanes],
    scores: &mut [Lanes],
) {
    let from = rows.iter().map(|row| row.from).min().unwrap_or(0);
    let to = rows.iter().map(|row| row.to).max().unwrap_or(0);
    sums.fill(Lanes::default());
    // SAFETY: positions are below `to`; the caller's promise.
    unsafe {
        let (mut most, mut total) = (S::floats(f32::MIN), S::floats(0.0));
        for first in (from..to).step_by(STRIDE) {
            let scores = &mut scores[..STRIDE.min(to - first)];
            score::<S>(of, queries, of.keys.add(first * of.keys_stride), scores);
            hide(rows, first, scores, f32::NEG_INFINITY);
            let grown = soften::<S>(scores, &mut most, &mut total);
            hide(rows, first, scores, 0.0);
            mix::<S>(of, of.values.add(first * of.values_stride), scores, grown, sums);
        }
        let (mut mosts, mut shares) = ([0.0f32; LANES], [0.0f32; LANES]);
        S::store(most, mosts.as_mut_ptr());
        S::store(total, shares.as_mut_ptr());
        for (lane, row) in rows.iter().enumerate() {
            shares[lane] = share(mosts[lane] * LN_2, shares[lane], row.sink);
        }
        let shares = S::load_f32(shares.as_ptr().cast());
        for Lanes(sum) in sums {
            S::store(S::mul(S::load_f32(sum.as_ptr().cast()), shares), sum.as_mut_ptr());
        }
    }
}

/// Writes a value over the scores of positions that rows do not see.
#[inline(always)]
fn hide(rows: &[Seer], first: usize, scores: &mut [Lanes], value: f32) {
    for (lane, row) in rows.iter().enumerate() {
        let seen = row.from.saturating_sub(first)..row.to.saturating_sub(first);
        let end = scores.len();
        let hidden = (0..seen.start.min(end)).chain(seen.end.min(end)..end);
        hidden.for_each(|at| scores[at].0[lane] = value);
    }
}

/// `scores[j][lane] = q · key[j]`, capped.
#[inline(always)]
unsafe fn score<S: Simd>(of: &Sequence, queries: &[Lanes], keys: *const f32, scores: &mut [Lanes]) {
    let mut at = 0;
    // SAFETY: the caller gives a key for each of `scores`.
    unsafe {
        while at < scores.len() {
            let (keys, to) = (keys.add(at * of.keys_stride), &mut scores[at..]);
            at += match to.len() {
                8.. if S::ROWS == 4 => score_some::<S, 8>(of, queries, keys, to),
                4.. => score_some::<S, 4>(of, queries, keys, to),
                _ => score_some::<S, 1>(of, queries, keys, to),
            };
        }
    }
}

/// The same for `B` keys. Returns `B`.
#[inline(always)]
unsafe fn score_some<S: Simd, const B: usize>(
    of: &Sequence,
    queries: &[Lanes],
    keys: *const f32,
    scores: &mut [Lanes],
) -> usize {
    let mut key = [keys; B];
    for b in 0..B {
        key[b] = keys.wrapping_add(b * of.keys_stride);
    }
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [S::floats(0.0); B];
        for (d, Lanes(q)) in queries.iter().enumerate() {
            let q = S::load_f32(q.as_ptr().cast());
            for b in 0..B {
                sums[b] = S::fma(S::floats(*key[b].add(d)), q, sums[b]);
            }
        }
        for b in 0..B {
            if let Some(cap) = of.softcap {
                sums[b] = S::mul(capped::<S>(sums[b], cap), S::floats(LOG2_E));
            }
            S::store(sums[b], scores[b].0.as_mut_ptr());
        }
    }
    B
}

/// Turns scores into weights relative to the new maximum; returns what the earlier sums are to be
/// multiplied by.
#[inline(always)]
unsafe fn soften<S: Simd>(
    scores: &mut [Lanes],
    most: &mut S::Floats,
    total: &mut S::Floats,
) -> S::Floats {
    /// Maxima and sums on their way at a time.
    const WAYS: usize = 4;
    let (whole, rest) = scores.as_chunks_mut::<WAYS>();
    // SAFETY: 16 floats at a time.
    unsafe {
        let mut now = [*most; WAYS];
        for scores in &*whole {
            for i in 0..WAYS {
                now[i] = S::max(S::load_f32(scores[i].0.as_ptr().cast()), now[i]);
            }
        }
        for Lanes(score) in &*rest {
            now[0] = S::max(S::load_f32(score.as_ptr().cast()), now[0]);
        }
        let now = S::max(S::max(now[0], now[1]), S::max(now[2], now[3]));
        let mut sums = [S::floats(0.0); WAYS];
        for scores in whole {
            for i in 0..WAYS {
                sums[i] = S::add(sums[i], weigh::<S>(&mut scores[i], now));
            }
        }
        for score in rest {
            sums[0] = S::add(sums[0], weigh::<S>(score, now));
        }
        let sum = S::add(S::add(sums[0], sums[1]), S::add(sums[2], sums[3]));
        let grown = exp2::<S>(S::sub(*most, now));
        (*most, *total) = (now, S::fma(*total, grown, sum));
        grown
    }
}

/// `2^(score - most)`, in its place, too.
#[inline(always)]
unsafe fn weigh<S: Simd>(Lanes(score): &mut Lanes, most: S::Floats) -> S::Floats {
    // SAFETY: 16 floats.
    unsafe {
        let weight = exp2::<S>(S::sub(S::load_f32(score.as_ptr().cast()), most));
        S::store(weight, score.as_mut_ptr());
        weight
    }
}

/// `sums[d] = grown · sums[d] + Σ weights[j] · value[j][d]`
#[inline(always)]
unsafe fn mix<S: Simd>(
    of: &Sequence,
    values: *const f32,
    weights: &[Lanes],
    grown: S::Floats,
    sums: &mut [Lanes],
) {
    let mut at = 0;
    // SAFETY: the caller gives a value for each weight.
    unsafe {
        while at < sums.len() {
            let (values, to) = (values.add(at), &mut sums[at..]);
            at += match to.len() {
                16.. if S::ROWS == 4 => mix_some::<S, 16>(of, values, weights, grown, to),
                4.. => mix_some::<S, 4>(of, values, weights, grown, to),
                _ => mix_some::<S, 1>(of, values, weights, grown, to),
            };
        }
    }
}

/// The same for `N` dimensions. Returns `N`.
#[inline(always)]
unsafe fn mix_some<S: Simd, const N: usize>(
    of: &Sequence,
    values: *const f32,
    weights: &[Lanes],
    grown: S::Floats,
    sums: &mut [Lanes],
) -> usize {
    // SAFETY: the caller's promise.
    unsafe {
        let mut acc = [grown; N];
        for i in 0..N {
            acc[i] = S::mul(S::load_f32(sums[i].0.as_ptr().cast()), grown);
        }
        for (j, Lanes(weight)) in weights.iter().enumerate() {
            let weight = S::load_f32(weight.as_ptr().cast());
            let value = values.add(j * of.values_stride);
            for i in 0..N {
                acc[i] = S::fma(S::floats(*value.add(i)), weight, acc[i]);
            }
        }
        for i in 0..N {
            S::store(acc[i], sums[i].0.as_mut_ptr());
        }
    }
    N
}
