//! The bodies of what is done to each row by itself, generic over the provider of vectors. A row of
//! the kernel table is these bodies, those of products and of attention, compiled under its target
//! features. What a row gives depends on nothing but the row.
#![allow(clippy::needless_range_loop, reason = "kernels are loops over fixed arrays, by index")]

use super::pack::{LANES, Lanes};
use super::simd::Simd;
use crate::Activation;

/// `e^x` within 2 ulp, for `x` from -87 to 88 and clamped there.
#[inline(always)]
pub(super) unsafe fn exp<S: Simd>(x: S::Floats) -> S::Floats {
    // SAFETY: arithmetic on registers.
    unsafe {
        let (less, power) = exp_parts::<S>(x);
        S::mul(S::add(less, S::floats(1.0)), power)
    }
}

/// `2^x` within 2 ulp, for `x` from -126 to 127, and no less than at -126: the polynomial of degree
/// 5 with the least error, 7.5e-8, on `|r| ≤ 1/2`.
#[inline(always)]
pub(super) unsafe fn exp2<S: Simd>(x: S::Floats) -> S::Floats {
    const TERMS: [f32; 6] =
        [1.327_647_1e-3, 9.675_542e-3, 5.550_713e-2, 2.402_212e-1, 6.931_469_4e-1, 1.000_000_1];
    // SAFETY: arithmetic on registers.
    unsafe {
        let x = S::max(x, S::floats(-126.0));
        let n = S::round(x);
        let r = S::sub(x, n);
        let mut p = S::floats(TERMS[0]);
        for i in 1..TERMS.len() {
            p = S::fma(p, r, S::floats(TERMS[i]));
        }
        S::mul(p, S::power(n))
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

/// `y = act(gate) · up`, or `y = act(gate)`
///
/// # Safety
/// All three have the same length.
#[inline(always)]
pub(crate) unsafe fn gate<S: Simd>(
    act: Activation,
    gate: &[f32],
    up: Option<&[f32]>,
    y: &mut [f32],
) {
    let whole = y.len() - y.len() % LANES;
    // SAFETY: 16 floats at a time, the rest through arrays of 16.
    unsafe {
        for at in (0..whole).step_by(LANES) {
            let g = S::load_f32(gate.as_ptr().add(at).cast());
            let u = match up {
                Some(up) => S::load_f32(up.as_ptr().add(at).cast()),
                None => S::floats(1.0),
            };
            S::store(gated::<S>(act, g, u), y.as_mut_ptr().add(at));
        }
        if whole < y.len() {
            let (mut g, mut u, mut out) = ([0.0; LANES], [1.0; LANES], [0.0; LANES]);
            g[..y.len() - whole].copy_from_slice(&gate[whole..]);
            if let Some(up) = up {
                u[..y.len() - whole].copy_from_slice(&up[whole..]);
            }
            let (g, u) = (S::load_f32(g.as_ptr().cast()), S::load_f32(u.as_ptr().cast()));
            S::store(gated::<S>(act, g, u), out.as_mut_ptr());
            y[whole..].copy_from_slice(&out[..gate.len() - whole]);
        }
    }
}

/// [`Activation::ClampedSwiglu`]'s limit, and how much steeper than SiLU's its sigmoid is.
pub(crate) const CLAMP: f32 = 7.0;
pub(crate) const STEEPNESS: f32 = 1.702;

/// `act(gate) · up`, 16 of each.
#[inline(always)]
pub(super) unsafe fn gated<S: Simd>(act: Activation, gate: S::Floats, up: S::Floats) -> S::Floats {
    // SAFETY: arithmetic on registers.
    unsafe {
        let one = S::floats(1.0);
        let (mut up, mut g, mut steepness) = (up, gate, 1.0);
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
            Activation::Gelu => gelu::<S>(g),
            Activation::Relu => S::max(g, S::floats(0.0)),
            Activation::Tanh => capped::<S>(g, 1.0),
        };
        S::mul(activated, up)
    }
}

/// `x · Φ(x)`, where `Φ(x) - 1/2` is `x` times a quotient of polynomials of `x²`, which are those
/// with the least error (1.6e-8) up to where Φ is 0 or 1 in 32 bits. Within 1e-7 of `|x|`.
#[inline(always)]
unsafe fn gelu<S: Simd>(x: S::Floats) -> S::Floats {
    const MOST: f32 = 5.4;
    const OVER: [f32; 6] =
        [2.277_679e-8, 6.490_398e-6, 1.762_676e-4, 4.722_409e-3, 3.449_221e-2, 3.989_420_5e-1];
    const UNDER: [f32; 6] =
        [1.208_658_8e-6, 7.651_072e-5, 1.925_499_8e-3, 2.902_798e-2, 2.531_234_3e-1, 1.0];
    // SAFETY: arithmetic on registers.
    unsafe {
        let z = S::min(S::max(x, S::floats(-MOST)), S::floats(MOST));
        let square = S::mul(z, z);
        let (mut over, mut under) = (S::floats(OVER[0]), S::floats(UNDER[0]));
        for i in 1..OVER.len() {
            over = S::fma(over, square, S::floats(OVER[i]));
            under = S::fma(under, square, S::floats(UNDER[i]));
        }
        let more = S::div(S::mul(z, over), under);
        S::fma(x, more, S::mul(x, S::floats(0.5)))
    }
}

/// `y = gain · (x - mean(x)) / √(variance(x) + eps) (+ bias)`, one row.
///
/// # Safety
/// `x` and `y` have `gain.len()` floats; they may be the same. `bias` has as many.
#[inline(always)]
pub(crate) unsafe fn layer_norm<S: Simd>(
    x: *const f32,
    gain: &[f32],
    bias: Option<&[f32]>,
    eps: f32,
    y: *mut f32,
) {
    let (n, whole) = (gain.len(), gain.len() - gain.len() % LANES);
    // SAFETY: all offsets are below `n`.
    unsafe {
        let mut sum = S::floats(0.0);
        for at in (0..whole).step_by(LANES) {
            sum = S::add(sum, S::load_f32(x.add(at).cast()));
        }
        let mut lanes = [0.0f32; LANES];
        S::store(sum, lanes.as_mut_ptr());
        (whole..n).for_each(|at| lanes[at % LANES] += *x.add(at));
        let mean = fold(lanes, |a, b| a + b) / n as f32;
        let mut sum = S::floats(0.0);
        for at in (0..whole).step_by(LANES) {
            let v = S::sub(S::load_f32(x.add(at).cast()), S::floats(mean));
            sum = S::fma(v, v, sum);
        }
        S::store(sum, lanes.as_mut_ptr());
        (whole..n).for_each(|at| lanes[at % LANES] += (*x.add(at) - mean).powi(2));
        let scale = 1.0 / (fold(lanes, |a, b| a + b) / n as f32 + eps).sqrt();
        for at in (0..whole).step_by(LANES) {
            let v = S::sub(S::load_f32(x.add(at).cast()), S::floats(mean));
            let by = S::load_f32(gain.as_ptr().add(at).cast());
            let mut v = S::mul(S::mul(v, S::floats(scale)), by);
            if let Some(bias) = bias {
                v = S::add(v, S::load_f32(bias.as_ptr().add(at).cast()));
            }
            S::store(v, y.add(at));
        }
        for at in whole..n {
            let v = (*x.add(at) - mean) * scale * gain[at];
            *y.add(at) = v + bias.map_or(0.0, |bias| bias[at]);
        }
    }
}

/// `1 / √(mean(x²) + eps)` of a run of `n`.
#[inline(always)]
pub(super) unsafe fn norm_scale<S: Simd>(x: *const f32, n: usize, eps: f32) -> f32 {
    let whole = n - n % (2 * LANES);
    // SAFETY: all offsets are below `n`.
    unsafe {
        let mut sums = [S::floats(0.0); 2];
        for at in (0..whole).step_by(2 * LANES) {
            for i in 0..2 {
                let v = S::load_f32(x.add(at + i * LANES).cast());
                sums[i] = S::fma(v, v, sums[i]);
            }
        }
        let mut lanes = [0.0f32; LANES];
        S::store(S::add(sums[0], sums[1]), lanes.as_mut_ptr());
        for at in whole..n {
            let v = *x.add(at);
            lanes[at % LANES] = v.mul_add(v, lanes[at % LANES]);
        }
        1.0 / (fold(lanes, |a, b| a + b) / n as f32 + eps).sqrt()
    }
}

/// `y = (y +) gain · x / √(mean(x²) + eps)`, one run of `gain`'s width.
///
/// # Safety
/// `x` and `y` have `gain.len()` floats; they may be the same.
#[inline(always)]
pub(crate) unsafe fn norm<S: Simd>(x: *const f32, gain: &[f32], eps: f32, y: *mut f32, add: bool) {
    let (n, gain) = (gain.len(), gain.as_ptr());
    let whole = n - n % LANES;
    // SAFETY: all offsets are below `n`.
    unsafe {
        let scale = norm_scale::<S>(x, n, eps);
        for at in (0..whole).step_by(LANES) {
            let (v, by) = (S::load_f32(x.add(at).cast()), S::load_f32(gain.add(at).cast()));
            let mut v = S::mul(S::mul(v, S::floats(scale)), by);
            if add {
                v = S::add(S::load_f32(y.add(at).cast()), v);
            }
            S::store(v, y.add(at));
        }
        for at in whole..n {
            let v = *x.add(at) * scale * *gain.add(at);
            *y.add(at) = if add { *y.add(at) + v } else { v };
        }
    }
}

/// Where the outputs of some rows go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    /// The first row's first output.
    pub(crate) y: *mut f32,
    /// Floats from one row to the next.
    pub(crate) stride: usize,
    pub(crate) rows: usize,
    /// Outputs of a row.
    pub(crate) cols: usize,
    /// As many, if any.
    pub(crate) bias: Option<*const f32>,
    /// Whether they are added to what is there.
    pub(crate) add: bool,
}

impl Target {
    /// Has its lines on their way, which are far apart, so that no processor foresees them.
    pub(crate) fn fetch(&self) {
        for row in 0..self.rows {
            for at in (0..self.cols).step_by(LANES) {
                fetch(self.y.wrapping_add(row * self.stride + at));
            }
        }
    }
}

/// Has a cache line on its way; it need not be readable.
#[cfg(target_arch = "x86_64")]
fn fetch(line: *const f32) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: every such processor has the instruction, which changes nothing and never faults.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) }
}

#[cfg(not(target_arch = "x86_64"))]
fn fetch(_: *const f32) {}

/// `y = (y +) tile (+ bias)`: tiles of 16 outputs, `[group of outputs][row]`, become rows.
///
/// # Safety
/// All that `to` names is there, and a tile for each of it.
#[inline(always)]
pub(crate) unsafe fn hand_over<S: Simd>(tiles: &[Lanes], to: &Target) {
    for row in 0..to.rows {
        for at in (0..to.cols).step_by(LANES) {
            let Lanes(tile) = &tiles[at / LANES * to.rows + row];
            // SAFETY: 16 outputs, or as many as the row has left.
            unsafe {
                let y = to.y.add(row * to.stride + at);
                let bias = to.bias.map(|bias| bias.add(at));
                if at + LANES <= to.cols {
                    let mut sum = S::load_f32(tile.as_ptr().cast());
                    if let Some(bias) = bias {
                        sum = S::add(sum, S::load_f32(bias.cast()));
                    }
                    if to.add {
                        sum = S::add(sum, S::load_f32(y.cast()));
                    }
                    S::store(sum, y);
                } else {
                    for lane in 0..to.cols - at {
                        let sum = tile[lane] + bias.map_or(0.0, |bias| *bias.add(lane));
                        let y = y.add(lane);
                        *y = if to.add { sum + *y } else { sum };
                    }
                }
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
