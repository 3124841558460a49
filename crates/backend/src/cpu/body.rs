//! The bodies of what is done to each row by itself, generic over the provider of vectors. A row of
//! the kernel table is these bodies, those of products and of attention, compiled under its target
//! features. What a row gives depends on nothing but the row.
#![allow(clippy::needless_range_loop, reason = "kernels are loops over fixed arrays, by index")]

use super::pack::LANES;
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
