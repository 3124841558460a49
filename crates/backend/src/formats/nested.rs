//! Scales of scales: the K formats store a group's scale (and minimum) as a small integer under one
//! half for the whole block. Each group first says what it would like best ([`search`]); then the
//! integers and the half improve each other in turn, judged by the error of the weights themselves.

use std::ops::RangeInclusive;

use half::f16;

use super::search::{self, LANES, Levels, error, total};

/// Most times that integers and halves improve each other.
const ROUNDS: usize = 3;

/// The nearest IEEE half to a scale; the largest or smallest one where it is larger or smaller
/// still, since with a scale of 0 nothing is left of the weights.
pub(super) fn half(value: f32) -> f16 {
    let nearest = f16::from_f32(value.clamp(-65504.0, 65504.0));
    if nearest.to_f32() == 0.0 && value != 0.0 {
        return f16::MIN_POSITIVE_SUBNORMAL.copysign(nearest);
    }
    nearest
}

/// Integers from `low` to `high`, one a group, under one half.
#[inline(always)]
pub(super) fn scales<L: Levels, const G: usize, const N: usize>(
    x: &[[f32; N]],
    (low, high): (i32, i32),
) -> (f16, [i32; G]) {
    let mut wanted = [0.0; G];
    for (wanted, x) in wanted.iter_mut().zip(x) {
        *wanted = search::scale::<L, N>(x);
    }
    let mut best = (f32::INFINITY, (f16::ZERO, [0; G]));
    let mut d = half(search::extreme(&wanted) / low as f32);
    for _ in 0..ROUNDS {
        if d == f16::ZERO {
            break;
        }
        let (mut scales, mut missed) = ([0; G], 0.0);
        for ((scale, x), wanted) in scales.iter_mut().zip(x).zip(&wanted) {
            let nearest = ((wanted / d.to_f32()).round() as i32).clamp(low, high);
            let mut least = f32::INFINITY;
            for near in (nearest - 1).max(low)..=(nearest + 1).min(high) {
                let error = error::<L, N>(x, d.to_f32() * near as f32, 0.0);
                (least, *scale) = if error < least { (error, near) } else { (least, *scale) };
            }
            missed += least;
        }
        if missed >= best.0 {
            break;
        }
        best = (missed, (d, scales));
        d = half(refit::<L, N>(x, d.to_f32(), &scales));
    }
    best.1
}

/// The best `d` for the levels that `d · scales` gives.
#[inline(always)]
fn refit<L: Levels, const N: usize>(x: &[[f32; N]], d: f32, scales: &[i32]) -> f32 {
    let (mut xa, mut aa) = (0.0, 0.0);
    for (x, scale) in x.iter().zip(scales) {
        let scale = *scale as f32;
        let of = sums::<L, N>(x, d * scale, 0.0);
        xa += scale * of.xq;
        aa += scale * scale * of.qq;
    }
    if aa > 0.0 { xa / aa } else { d }
}

/// What [`lines`] found: the two halves, each group's scale, each group's minimum.
pub(super) type Lines<const G: usize> = (f16, f16, [u8; G], [u8; G]);

/// Integers from 0 to `most`, a scale and a minimum a group, under a half each.
#[inline(always)]
pub(super) fn lines<L: Levels, const G: usize, const N: usize>(
    x: &[[f32; N]],
    most: u8,
) -> Lines<G> {
    let mut wanted = [(0.0, 0.0); G];
    for (wanted, x) in wanted.iter_mut().zip(x) {
        let (scale, min) = search::affine::<L, N>(x, true);
        *wanted = (scale, -min);
    }
    let largest = wanted.iter().fold((0.0, 0.0), |a: (f32, f32), b| (a.0.max(b.0), a.1.max(b.1)));
    let mut d = half(largest.0 / f32::from(most));
    let mut d_min = half(largest.1 / f32::from(most));
    let mut best = (f32::INFINITY, (f16::ZERO, f16::ZERO, [0; G], [0; G]));
    for _ in 0..ROUNDS {
        let (mut scales, mut mins, mut missed) = ([0; G], [0; G], 0.0);
        for (g, (x, wanted)) in x.iter().zip(&wanted).enumerate() {
            let choice = line::<L, N>(x, *wanted, (d.to_f32(), d_min.to_f32()), most);
            missed += choice.0;
            (scales[g], mins[g]) = choice.1;
        }
        if missed >= best.0 {
            break;
        }
        best = (missed, (d, d_min, scales, mins));
        let (next, next_min) = refit_lines::<L, G, N>(x, &best.1);
        (d, d_min) = (half(next), half(next_min));
    }
    best.1
}

/// The best integers for one group, among the neighbours of what it wants, and their error.
#[inline(always)]
fn line<L: Levels, const N: usize>(
    x: &[f32; N],
    wanted: (f32, f32),
    (d, d_min): (f32, f32),
    most: u8,
) -> (f32, (u8, u8)) {
    let mut least = (f32::INFINITY, (0, 0));
    for scale in near(wanted.0, d, most) {
        for min in near(wanted.1, d_min, most) {
            let error = error::<L, N>(x, d * f32::from(scale), -(d_min * f32::from(min)));
            least = if error < least.0 { (error, (scale, min)) } else { least };
        }
    }
    least
}

/// The integer whose multiple of `d` is nearest to `wanted`, and its neighbours.
#[inline(always)]
fn near(wanted: f32, d: f32, most: u8) -> RangeInclusive<u8> {
    let nearest = if d == 0.0 { 0 } else { ((wanted / d).round() as u8).min(most) };
    nearest.saturating_sub(1)..=(nearest + 1).min(most)
}

/// The best two halves for the levels that the integers give under the present ones: a regression
/// over two unknowns.
#[inline(always)]
fn refit_lines<L: Levels, const G: usize, const N: usize>(
    x: &[[f32; N]],
    (d, d_min, scales, mins): &Lines<G>,
) -> (f32, f32) {
    let (d, d_min) = (d.to_f32(), d_min.to_f32());
    // `x` is about `d · a − d_min · b`, with `a = scale · q` and `b = min`.
    let [mut aa, mut ab, mut bb, mut xa, mut xb] = [0.0_f64; 5];
    for (g, x) in x.iter().enumerate() {
        let (scale, min) = (f32::from(scales[g]), f32::from(mins[g]));
        let of = sums::<L, N>(x, d * scale, -(d_min * min));
        aa += f64::from(scale * scale * of.qq);
        ab += f64::from(scale * min * of.q1);
        bb += f64::from(min * min * N as f32);
        xa += f64::from(scale * of.xq);
        xb += f64::from(min * of.x1);
    }
    let spread = aa * bb - ab * ab;
    if aa <= 0.0 {
        return (d, d_min);
    }
    if spread <= 0.0 {
        return ((xa / aa) as f32, d_min);
    }
    let (fitted, min) = ((xa * bb - ab * xb) / spread, (ab * xa - aa * xb) / spread);
    (fitted as f32, min.max(0.0) as f32)
}

/// Sums over a group's weights `x` and their nearest levels `q`.
struct Sums {
    q1: f32,
    qq: f32,
    x1: f32,
    xq: f32,
}

#[inline(always)]
fn sums<L: Levels, const N: usize>(x: &[f32; N], scale: f32, min: f32) -> Sums {
    let inverse = if scale == 0.0 { 0.0 } else { scale.recip() };
    let [mut q1, mut qq, mut x1, mut xq] = [[0.0; LANES]; 4];
    for x in x.as_chunks::<LANES>().0 {
        for i in 0..LANES {
            let q = L::snap((x[i] - min) * inverse);
            q1[i] += q;
            qq[i] += q * q;
            x1[i] += x[i];
            xq[i] += x[i] * q;
        }
    }
    Sums { q1: total(q1), qq: total(qq), x1: total(x1), xq: total(xq) }
}
