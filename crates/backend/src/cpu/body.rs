//! The kernels' bodies, generic over the provider of vectors and the weights' layout. A row of
//! the kernel table is these bodies compiled under its target features.
//!
//! Batch invariance lives here: whatever else is in a tile, one output element is made by the same
//! operations in the same order. Tiles only share what they load.
#![allow(clippy::needless_range_loop, reason = "kernels are loops over fixed arrays, by index")]

use super::pack::{ACT_MAX, BLOCK, LANES, Packed};
use super::simd::Simd;
use crate::{Activation, BLOCK_TOKENS, Format};

/// A row of quantised activations, as pointers into [`super::pack::Acts`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct ActRow {
    pub(crate) x: *const f32,
    pub(crate) q: *const i8,
    pub(crate) scale: *const f32,
    pub(crate) sum: *const f32,
}

/// Quantises one row: 16-bit integers as two signed bytes, a scale per 32, and per 16 their sum
/// times the scale.
///
/// # Safety
/// The outputs have a place for every whole block of `x`.
#[inline(always)]
pub(crate) unsafe fn quantise<S: Simd>(
    x: &[f32],
    q: &mut [i8],
    scale: &mut [f32],
    sum: &mut [f32],
) {
    for (b, x) in x.as_chunks::<BLOCK>().0.iter().enumerate() {
        // SAFETY: a block has 32 floats and becomes 64 bytes.
        unsafe {
            let (low, high) =
                (S::load_f32(x.as_ptr().cast()), S::load_f32(x[LANES..].as_ptr().cast()));
            let largest = S::max(S::abs(low), S::abs(high));
            let mut lanes = [0.0f32; LANES];
            S::store(largest, lanes.as_mut_ptr());
            let max = fold(lanes, |a, b| if a > b { a } else { b });
            let inverse = if max > 0.0 { ACT_MAX / max } else { 0.0 };
            scale[b] = max / ACT_MAX;
            let q = q[b * 2 * BLOCK..][..2 * BLOCK].as_mut_ptr();
            for (half, x) in [low, high].into_iter().enumerate() {
                let total = S::split(S::mul(x, S::floats(inverse)), q.add(half * LANES));
                sum[2 * b + half] = total as f32 * scale[b];
            }
        }
    }
}

/// Columns `4g..4g + 4` of a block's planes, as unsigned bytes.
#[inline(always)]
unsafe fn group<S: Simd, const BITS: u8>(planes: *const u8, g: usize) -> S::Bytes {
    // SAFETY: the caller's block has `plane_lines(BITS)` vectors.
    unsafe {
        if BITS == 8 {
            return S::load(planes.add(64 * g));
        }
        let low = S::load(planes.add(64 * (g / 2)));
        let high = !g.is_multiple_of(2);
        let low = if high { S::nibble::<true>(low) } else { S::nibble::<false>(low) };
        match BITS {
            5 => S::above(low, S::load(planes.add(256)), g as u32, 0x10),
            6 => {
                let plane = S::load(planes.add(256 + 64 * (g / 4)));
                S::above(low, plane, 2 * (g as u32 % 4), 0x30)
            }
            _ => low,
        }
    }
}

/// 16 rows of a packed matrix times `T` rows of activations, into `y[t][0..16]`:
/// `Σ_block d·xs · Σ(u·q) + m · xs·Σq`, block after block, where `m` is the minimum, or what makes
/// the unsigned `u` signed again.
///
/// A block's weights are unpacked to registers once; each row of activations then needs one sum of
/// integers, first of the high bytes, then, shifted, of the low ones.
///
/// # Safety
/// The packed matrix has this layout; the activations have its columns; `y` has room.
#[inline(always)]
pub(crate) unsafe fn tile<
    S: Simd,
    const BITS: u8,
    const OFFSET: i32,
    const MINS: bool,
    const HALVES: usize,
    const F16: bool,
    const T: usize,
>(
    w: &Packed,
    at: usize,
    x: &[ActRow; T],
    y: &mut [[f32; LANES]; T],
) {
    let lines = super::pack::plane_lines(BITS);
    let size = if F16 { 2 } else { 4 };
    let per_scale = LANES * size * (1 + MINS as usize);
    // SAFETY: offsets stay within the group's lines and scales, by `Packed::new`.
    unsafe {
        let mut planes = w.lines.as_ptr().add(at * w.group_lines).cast::<u8>();
        let mut scales = w.scales.as_ptr().add(at * w.group_scales);
        let mut acc = [S::floats(0.0); T];
        for block in 0..w.cols / BLOCK {
            for half in 0..HALVES {
                let d = if F16 { S::load_f16(scales) } else { S::load_f32(scales) };
                let m = match (MINS, F16) {
                    (true, true) => S::load_f16(scales.add(LANES * size)),
                    (true, false) => S::load_f32(scales.add(LANES * size)),
                    (false, _) => S::mul(d, S::floats(-OFFSET as f32)),
                };
                let count = 8 / HALVES;
                let mut v = [S::zero(); 8];
                for g in 0..count {
                    v[g] = group::<S, BITS>(planes, g + half * count);
                }
                for t in 0..T {
                    let q = x[t].q.add(block * 2 * BLOCK + half * LANES);
                    let sum = integers::<S, BITS, T>(&v, count, q);
                    let by = S::mul(d, S::floats(*x[t].scale.add(block)));
                    acc[t] = S::fma(S::to_floats(sum), by, acc[t]);
                    let sums = x[t].sum.add(2 * block);
                    let sum = if HALVES == 2 { *sums.add(half) } else { *sums + *sums.add(1) };
                    acc[t] = S::fma(m, S::floats(sum), acc[t]);
                }
                scales = scales.add(per_scale);
            }
            planes = planes.add(64 * lines);
        }
        for t in 0..T {
            S::store(acc[t], y[t].as_mut_ptr());
        }
    }
}

/// `Σ (256·high + low) · u` over a block, or half of one. Sums of integers are exact in any order:
/// where few rows keep the processor busy, four shorter chains of additions replace one.
#[inline(always)]
unsafe fn integers<S: Simd, const BITS: u8, const T: usize>(
    v: &[S::Bytes; 8],
    count: usize,
    q: *const i8,
) -> S::Ints {
    // SAFETY: the caller's promise.
    unsafe {
        if T <= 2 {
            let (mut high, mut low) = ([S::none(); 2], [S::none(); 2]);
            for g in 0..count {
                high[g % 2] = dot::<S, BITS>(high[g % 2], v[g], q.add(4 * g));
                low[g % 2] = dot::<S, BITS>(low[g % 2], v[g], q.add(BLOCK + 4 * g));
            }
            let high = S::shift(S::plus(high[0], high[1]));
            return S::plus(high, S::plus(low[0], low[1]));
        }
        let mut sum = S::none();
        for g in 0..count {
            sum = dot::<S, BITS>(sum, v[g], q.add(4 * g));
        }
        sum = S::shift(sum);
        for g in 0..count {
            sum = dot::<S, BITS>(sum, v[g], q.add(BLOCK + 4 * g));
        }
        sum
    }
}

#[inline(always)]
unsafe fn dot<S: Simd, const BITS: u8>(sum: S::Ints, w: S::Bytes, x: *const i8) -> S::Ints {
    // SAFETY: the caller's promise.
    unsafe { if BITS == 8 { S::dot::<false>(sum, w, x) } else { S::dot::<true>(sum, w, x) } }
}

/// As [`tile`], for weights stored as floats: four sums a row, by column modulo 4.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
pub(crate) unsafe fn tile_floats<S: Simd, const T: usize>(
    w: &Packed,
    at: usize,
    x: &[ActRow; T],
    y: &mut [[f32; LANES]; T],
) {
    let size = w.format.block_bytes();
    // SAFETY: offsets stay within the group's lines, by `Packed::new`.
    unsafe {
        let base = w.lines.as_ptr().add(at * w.group_lines).cast::<u8>();
        let mut acc = [[S::floats(0.0); 4]; T];
        for col in 0..w.cols {
            let from = base.add(col * LANES * size);
            let v = match w.format {
                Format::F16 => S::load_f16(from),
                Format::BF16 => S::load_bf16(from),
                _ => S::load_f32(from),
            };
            for t in 0..T {
                let sum = &mut acc[t][col % 4];
                *sum = S::fma(v, S::floats(*x[t].x.add(col)), *sum);
            }
        }
        for t in 0..T {
            let [a, b, c, d] = acc[t];
            S::store(S::add(S::add(a, b), S::add(c, d)), y[t].as_mut_ptr());
        }
    }
}

/// `e^x` within 2 ulp, for `x` from -87 to 88 and clamped there: `2^n · e^r` with a degree-6
/// polynomial on `|r| ≤ ln 2 / 2` (the coefficients of Cephes' `expf`).
#[inline(always)]
unsafe fn exp<S: Simd>(x: S::Floats) -> S::Floats {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    const TERMS: [f32; 6] =
        [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
    // SAFETY: arithmetic on registers.
    unsafe {
        let x = S::min(S::max(x, S::floats(-87.0)), S::floats(88.0));
        let n = S::round(S::mul(x, S::floats(std::f32::consts::LOG2_E)));
        let r = S::fma(n, S::floats(-LN2_HIGH), x);
        let r = S::fma(n, S::floats(-LN2_LOW), r);
        let mut p = S::floats(TERMS[0]);
        for i in 1..TERMS.len() {
            p = S::fma(p, r, S::floats(TERMS[i]));
        }
        let e = S::add(S::fma(p, S::mul(r, r), r), S::floats(1.0));
        S::mul(e, S::power(n))
    }
}

/// `y = act(gate) · up`
///
/// # Safety
/// All three have the same length.
#[inline(always)]
pub(crate) unsafe fn gate<S: Simd>(act: Activation, gate: &[f32], up: &[f32], y: &mut [f32]) {
    let whole = y.len() - y.len() % LANES;
    // SAFETY: 16 floats at a time, the rest through arrays of 16.
    unsafe {
        for at in (0..whole).step_by(LANES) {
            let (g, u) = (gate.as_ptr().add(at), up.as_ptr().add(at));
            gate_lanes::<S>(act, g, u, y.as_mut_ptr().add(at));
        }
        if whole < y.len() {
            let (mut g, mut u, mut out) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
            g[..y.len() - whole].copy_from_slice(&gate[whole..]);
            u[..y.len() - whole].copy_from_slice(&up[whole..]);
            gate_lanes::<S>(act, g.as_ptr(), u.as_ptr(), out.as_mut_ptr());
            y[whole..].copy_from_slice(&out[..gate.len() - whole]);
        }
    }
}

#[inline(always)]
unsafe fn gate_lanes<S: Simd>(act: Activation, gate: *const f32, up: *const f32, y: *mut f32) {
    // SAFETY: the caller gives 16 floats each.
    unsafe {
        let (g, up) = (S::load_f32(gate.cast()), S::load_f32(up.cast()));
        let one = S::floats(1.0);
        let activated = match act {
            Activation::Silu => {
                let falling = exp::<S>(S::sub(S::floats(0.0), g));
                S::div(g, S::add(one, falling))
            }
            Activation::GeluTanh => {
                let cube = S::mul(S::mul(g, g), S::floats(0.044_715));
                let u = S::mul(S::fma(cube, g, g), S::floats(0.797_884_6));
                // 1 + tanh u = 2 - 2 / (e^2u + 1)
                let e = exp::<S>(S::add(u, u));
                let tanh = S::sub(S::floats(2.0), S::div(S::floats(2.0), S::add(e, one)));
                S::mul(S::mul(S::floats(0.5), g), tanh)
            }
        };
        S::store(S::mul(activated, up), y);
    }
}

/// `y = (y +) gain · x / √(mean(x²) + eps)`, one run of `gain`'s width.
///
/// # Safety
/// `x` and `y` have `gain.len()` floats; they may be the same.
#[inline(always)]
pub(crate) unsafe fn norm(x: *const f32, gain: &[f32], eps: f32, y: *mut f32, add: bool) {
    let n = gain.len();
    let mut sums = [0.0f32; 2 * LANES];
    let whole = n - n % (2 * LANES);
    // SAFETY: all offsets are below `n`.
    unsafe {
        for at in (0..whole).step_by(2 * LANES) {
            for lane in 0..2 * LANES {
                let v = *x.add(at + lane);
                sums[lane] = v.mul_add(v, sums[lane]);
            }
        }
        for at in whole..n {
            let v = *x.add(at);
            sums[at % (2 * LANES)] = v.mul_add(v, sums[at % (2 * LANES)]);
        }
        let mut sum = 0.0f32;
        for lane in sums {
            sum += lane;
        }
        let scale = 1.0 / (sum / n as f32 + eps).sqrt();
        if add {
            for i in 0..n {
                *y.add(i) += *x.add(i) * scale * gain[i];
            }
        } else {
            for i in 0..n {
                *y.add(i) = *x.add(i) * scale * gain[i];
            }
        }
    }
}

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

/// `p[r][at + j] = scale · q[r] · key[j]`
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
            let p = p[r][at..at + LANES].as_mut_ptr();
            S::store(S::mul(sums[r], S::floats(kv.scale)), p);
        }
    }
}

/// A reduction of 16 lanes, halving.
#[inline(always)]
fn fold(mut v: [f32; LANES], of: impl Fn(f32, f32) -> f32) -> f32 {
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            v[i] = of(v[i], v[i + half]);
        }
    }
    v[0]
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
