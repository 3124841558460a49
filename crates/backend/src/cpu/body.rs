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
    pub(crate) sum: *const i32,
}

/// Quantises one row: 16-bit integers as two signed bytes, a scale per 32.
#[inline(always)]
pub(crate) fn quantise(x: &[f32], q: &mut [i8], scale: &mut [f32], sum: &mut [i32]) {
    let blocks = x.as_chunks::<BLOCK>().0.iter();
    let out = q.as_chunks_mut::<{ 2 * BLOCK }>().0.iter_mut();
    for (b, (x, q)) in blocks.zip(out).enumerate() {
        let mut largest = [0.0f32; LANES];
        for i in 0..BLOCK {
            largest[i % LANES] = largest[i % LANES].max(x[i].abs());
        }
        let mut max = 0.0f32;
        for lane in largest {
            max = max.max(lane);
        }
        let inverse = if max > 0.0 { ACT_MAX / max } else { 0.0 };
        scale[b] = max / ACT_MAX;
        let mut sums = [0i32; 2];
        for i in 0..BLOCK {
            let int = (x[i] * inverse).round_ties_even() as i32;
            let int = int.clamp(-(ACT_MAX as i32), ACT_MAX as i32);
            let high = (int + 128) >> 8;
            q[i] = high as i8;
            q[BLOCK + i] = (int - (high << 8)) as i8;
            sums[i / (BLOCK / 2)] += int;
        }
        sum[2 * b] = sums[0];
        sum[2 * b + 1] = sums[1];
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
/// `Σ_block xs · (d · Σ(u - offset)·q + m · Σq)`, block after block.
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
        let load = |from| if F16 { S::load_f16(from) } else { S::load_f32(from) };
        let mut acc = [S::floats(0.0); T];
        for block in 0..w.cols / BLOCK {
            for half in 0..HALVES {
                let mut high = [S::ints(0); T];
                let mut low = [S::ints(0); T];
                let mut sums = [0i32; T];
                for t in 0..T {
                    let sum = x[t].sum.add(2 * block);
                    sums[t] = if HALVES == 2 { *sum.add(half) } else { *sum + *sum.add(1) };
                    low[t] = S::ints(-OFFSET * sums[t]);
                }
                for g in 0..8 / HALVES {
                    let g = g + half * (8 / HALVES);
                    let v = group::<S, BITS>(planes, g);
                    for t in 0..T {
                        let q = x[t].q.add(block * 2 * BLOCK + 4 * g);
                        if BITS == 8 {
                            high[t] = S::dot::<false>(high[t], v, q);
                            low[t] = S::dot::<false>(low[t], v, q.add(BLOCK));
                        } else {
                            high[t] = S::dot::<true>(high[t], v, q);
                            low[t] = S::dot::<true>(low[t], v, q.add(BLOCK));
                        }
                    }
                }
                let d = load(scales);
                for t in 0..T {
                    let mut part = S::mul(S::join(high[t], low[t]), d);
                    if MINS {
                        let m = load(scales.add(LANES * size));
                        part = S::fma(m, S::floats(sums[t] as f32), part);
                    }
                    acc[t] = S::fma(part, S::floats(*x[t].scale.add(block)), acc[t]);
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

/// As [`tile`], for weights stored as floats: four sums, by column modulo 4.
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
    pub(crate) y: *mut f32,
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

/// `R` query rows over the KV blocks that any of them sees, with an online softmax (Milakov and
/// Gimelshein, 2018), block after block of 16 positions.
///
/// # Safety
/// Pointers as described; `out` has `R · dim` floats; every seen position was stored.
#[inline(always)]
pub(crate) unsafe fn attend<S: Simd, const R: usize>(
    kv: &Keys<'_>,
    rows: &[Query; R],
    out: &mut [f32],
) {
    let dim = kv.dim;
    let mut most = [f32::NEG_INFINITY; R];
    let mut total = [0.0f32; R];
    out[..R * dim].fill(0.0);
    let from = rows.iter().map(|row| row.from).min().unwrap_or(0);
    let to = rows.iter().map(|row| row.to).max().unwrap_or(0);
    for block in from / BLOCK_TOKENS..to.div_ceil(BLOCK_TOKENS) {
        let at = kv.blocks[block] as usize * kv.stride;
        let first = block * BLOCK_TOKENS;
        let mut p = [[0.0f32; BLOCK_TOKENS]; R];
        // SAFETY: the block is one of the cache's.
        unsafe { scores::<S, R>(kv.keys.add(at), kv, rows, &mut p) };
        let mut grown = [1.0f32; R];
        for r in 0..R {
            let low = rows[r].from.saturating_sub(first).min(BLOCK_TOKENS);
            let high = rows[r].to.saturating_sub(first).min(BLOCK_TOKENS);
            // SAFETY: arithmetic on arrays.
            grown[r] = unsafe { soften::<S>(&mut p[r], low..high, &mut most[r], &mut total[r]) };
        }
        let last = to.saturating_sub(first).min(BLOCK_TOKENS);
        let skip = from.saturating_sub(first);
        // SAFETY: as above.
        unsafe { mix::<S, R>(kv.values.add(at), dim, skip..last, (&p, &grown), out) };
    }
    for r in 0..R {
        let inverse = 1.0 / total[r];
        for d in 0..dim {
            // SAFETY: `y` has `dim` floats.
            unsafe { *rows[r].y.add(d) = out[r * dim + d] * inverse };
        }
    }
}

/// `p[r][j] = scale · q[r] · key[j]`
#[inline(always)]
unsafe fn scores<S: Simd, const R: usize>(
    keys: *const f32,
    kv: &Keys<'_>,
    rows: &[Query; R],
    p: &mut [[f32; BLOCK_TOKENS]; R],
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
            S::store(S::mul(sums[r], S::floats(kv.scale)), p[r].as_mut_ptr());
        }
    }
}

/// A reduction of 16 lanes, halving.
#[inline(always)]
fn fold(mut v: [f32; BLOCK_TOKENS], of: impl Fn(f32, f32) -> f32) -> f32 {
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
    p: &mut [f32; BLOCK_TOKENS],
    seen: std::ops::Range<usize>,
    most: &mut f32,
    total: &mut f32,
) -> f32 {
    if seen.is_empty() {
        *p = [0.0; BLOCK_TOKENS];
        return 1.0;
    }
    let hidden = (0..seen.start).chain(seen.end..BLOCK_TOKENS);
    for j in hidden.clone() {
        p[j] = f32::NEG_INFINITY;
    }
    let max = most.max(fold(*p, f32::max));
    // SAFETY: 16 floats.
    unsafe {
        let weights = exp::<S>(S::sub(S::load_f32(p.as_ptr().cast()), S::floats(max)));
        S::store(weights, p.as_mut_ptr());
    }
    for j in hidden {
        p[j] = 0.0;
    }
    let mut grown = [1.0f32; BLOCK_TOKENS];
    if *most != max {
        // SAFETY: arithmetic on registers; 16 floats are stored.
        unsafe { S::store(exp::<S>(S::floats(*most - max)), grown.as_mut_ptr()) };
    }
    *total = total.mul_add(grown[0], fold(*p, |a, b| a + b));
    *most = max;
    grown[0]
}

/// `out[r] = grown[r] · out[r] + Σ p[r][j] · value[j]`
#[inline(always)]
unsafe fn mix<S: Simd, const R: usize>(
    values: *const f32,
    dim: usize,
    seen: std::ops::Range<usize>,
    (p, grown): (&[[f32; BLOCK_TOKENS]; R], &[f32; R]),
    out: &mut [f32],
) {
    let whole = dim - dim % LANES;
    // SAFETY: a head's block has 16 values of `dim` floats; `out` has `R · dim`.
    unsafe {
        for at in (0..whole).step_by(LANES) {
            let mut sums = [S::floats(0.0); R];
            for r in 0..R {
                let old = S::load_f32(out.as_ptr().add(r * dim + at).cast());
                sums[r] = S::mul(S::floats(grown[r]), old);
            }
            for j in seen.clone() {
                let value = S::load_f32(values.add(j * dim + at).cast());
                for r in 0..R {
                    sums[r] = S::fma(S::floats(p[r][j]), value, sums[r]);
                }
            }
            for r in 0..R {
                S::store(sums[r], out.as_mut_ptr().add(r * dim + at));
            }
        }
        for at in whole..dim {
            for r in 0..R {
                let mut sum = grown[r] * out[r * dim + at];
                for j in seen.clone() {
                    sum = p[r][j].mul_add(*values.add(j * dim + at), sum);
                }
                out[r * dim + at] = sum;
            }
        }
    }
}
