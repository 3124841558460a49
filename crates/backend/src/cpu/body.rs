//! The kernels' bodies, generic over the provider of vectors and the weights' layout. A row of
//! the kernel table is these bodies compiled under its target features.
//!
//! Batch invariance lives here: whatever else is in a tile, one output element is made by the same
//! operations in the same order. Tiles only share what they load.
#![allow(clippy::needless_range_loop, reason = "kernels are loops over fixed arrays, by index")]

use super::pack::{ACT_MAX, BLOCK, LANES, Packed};
use super::simd::Simd;
use crate::{Activation, Format};

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

/// `e^x` within 2 ulp, for `x` from -87 to 88 and clamped there.
#[inline(always)]
pub(super) unsafe fn exp<S: Simd>(x: S::Floats) -> S::Floats {
    // SAFETY: arithmetic on registers.
    unsafe {
        let (less, power) = exp_parts::<S>(x);
        S::mul(S::add(less, S::floats(1.0)), power)
    }
}

/// `e^r - 1` and `2^n`, of which the first plus one times the second is `e^x`: a degree-6
/// polynomial on `|r| ≤ ln 2 / 2` (the coefficients of Cephes' `expf`).
#[inline(always)]
unsafe fn exp_parts<S: Simd>(x: S::Floats) -> (S::Floats, S::Floats) {
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
        (S::fma(p, S::mul(r, r), r), S::power(n))
    }
}

/// `cap · tanh(x / cap)`, by `tanh u = (e^2u - 1) / (e^2u + 1)`, where `e^2u - 1` is kept from
/// cancelling near 0.
#[inline(always)]
pub(super) unsafe fn capped<S: Simd>(x: S::Floats, cap: f32) -> S::Floats {
    /// Where tanh is 1 in 32 bits.
    const MOST: f32 = 20.0;
    // SAFETY: arithmetic on registers.
    unsafe {
        let u = S::mul(x, S::floats(2.0 / cap));
        let u = S::min(S::max(u, S::floats(-MOST)), S::floats(MOST));
        let (less, power) = exp_parts::<S>(u);
        let grown = S::fma(less, power, S::sub(power, S::floats(1.0)));
        S::mul(S::div(grown, S::add(grown, S::floats(2.0))), S::floats(cap))
    }
}

/// `y = cap · tanh(y / cap)`
///
/// # Safety
/// Runs where the provider's instructions do.
#[inline(always)]
pub(crate) unsafe fn cap<S: Simd>(cap: f32, y: &mut [f32]) {
    let (whole, rest) = y.as_chunks_mut::<LANES>();
    let mut last = [0.0; LANES];
    last[..rest.len()].copy_from_slice(rest);
    for lanes in whole.iter_mut().chain([&mut last]) {
        // SAFETY: 16 floats at a time.
        unsafe {
            S::store(capped::<S>(S::load_f32(lanes.as_ptr().cast()), cap), lanes.as_mut_ptr());
        }
    }
    rest.copy_from_slice(&last[..rest.len()]);
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

/// [`Activation::ClampedSwiglu`]'s limit, and how much steeper than SiLU's its sigmoid is.
pub(crate) const CLAMP: f32 = 7.0;
pub(crate) const STEEPNESS: f32 = 1.702;

#[inline(always)]
unsafe fn gate_lanes<S: Simd>(act: Activation, gate: *const f32, up: *const f32, y: *mut f32) {
    // SAFETY: the caller gives 16 floats each.
    unsafe {
        let (g, up) = (S::load_f32(gate.cast()), S::load_f32(up.cast()));
        let one = S::floats(1.0);
        let (mut up, mut g, mut steepness) = (up, g, 1.0);
        if act == Activation::ClampedSwiglu {
            let limit = S::floats(CLAMP);
            g = S::min(g, limit);
            up = S::add(S::max(S::min(up, limit), S::floats(-CLAMP)), one);
            steepness = STEEPNESS;
        }
        let activated = match act {
            Activation::Silu | Activation::ClampedSwiglu => {
                let falling = exp::<S>(S::mul(g, S::floats(-steepness)));
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

/// A reduction of 16 lanes, halving.
#[inline(always)]
pub(super) fn fold(mut v: [f32; LANES], of: impl Fn(f32, f32) -> f32) -> f32 {
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            v[i] = of(v[i], v[i + half]);
        }
    }
    v[0]
}
