//! Which scale, and which minimum, brings a group of weights nearest to a format's levels.
//!
//! Nearest means the least sum of squared errors, every weight counting alike. For one choice of
//! levels the best scale is a linear regression; so the search tries some places for the group's
//! extremes, takes the levels that these give, and fits the scale to them; from the best, levels
//! and scale then improve each other in turn (Lloyd, "Least squares quantization in PCM", 1982).
//!
//! No byte of any layout is known here. Sums run in eight lanes, so that compilers make vectors of
//! them; their order is fixed, and so are the bits of the result.

/// Sums run side by side in so many lanes; divides every group's length.
pub(super) const LANES: usize = 8;
/// Most times that levels and scale improve each other.
const ROUNDS: usize = 6;
/// Groups of smaller weights are zero in every format whose scales are halves.
const NOTHING: f32 = 1e-12;

/// The values that a format's codes stand for, before scaling.
pub(super) trait Levels {
    /// The lowest level.
    const LOW: f32;
    /// The highest level.
    const HIGH: f32;
    /// How far beside its end of the levels the group's extreme is tried: from, to, steps.
    const TRIES: (f32, f32, usize);

    /// The level nearest to `v`.
    fn snap(v: f32) -> f32;
}

/// All integers from `LOW` to `HIGH`.
pub(super) struct Even<const LOW: i32, const HIGH: i32>;

impl<const LOW: i32, const HIGH: i32> Levels for Even<LOW, HIGH> {
    const LOW: f32 = LOW as f32;
    const HIGH: f32 = HIGH as f32;
    const TRIES: (f32, f32, usize) = match HIGH - LOW {
        0..=15 => (-1.5, 0.9, 13),
        16..=63 => (-1.5, 0.9, 9),
        _ => (-1.0, 0.4, 3),
    };

    #[inline(always)]
    fn snap(v: f32) -> f32 {
        round(within(v, Self::LOW, Self::HIGH))
    }
}

/// A book of uneven levels, in rising order.
pub(super) trait Book {
    /// Its levels.
    const LEVELS: &'static [i8];
}

impl<B: Book> Levels for B {
    const LOW: f32 = B::LEVELS[0] as f32;
    const HIGH: f32 = B::LEVELS[B::LEVELS.len() - 1] as f32;
    const TRIES: (f32, f32, usize) = (-24.0, 16.0, 11);

    /// Counts the midpoints that lie below `v`: no branch, no look-up.
    #[inline(always)]
    fn snap(v: f32) -> f32 {
        let mut level = Self::LOW;
        let mut i = 1;
        while i < B::LEVELS.len() {
            let (below, above) = (f32::from(B::LEVELS[i - 1]), f32::from(B::LEVELS[i]));
            level += if v > (below + above) * 0.5 { above - below } else { 0.0 };
            i += 1;
        }
        level
    }
}

/// The nearest integer, the even one of two, where `|v|` is below 2²².
#[inline(always)]
fn round(v: f32) -> f32 {
    // The sum has no room for a fraction.
    const SHIFT: f32 = 12_582_912.0;
    (v + SHIFT) - SHIFT
}

/// `v` between two bounds, in the form that is one instruction each.
#[inline(always)]
fn within(v: f32, low: f32, high: f32) -> f32 {
    let v = if v < high { v } else { high };
    if v > low { v } else { low }
}

#[inline(always)]
pub(super) fn total(lanes: [f32; LANES]) -> f32 {
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (b + f)) + ((c + g) + (d + h))
}

/// Steps from one number to another.
#[inline(always)]
fn steps((from, to, count): (f32, f32, usize)) -> impl Iterator<Item = f32> {
    let step = (to - from) / (count - 1) as f32;
    (0..count).map(move |i| from + step * i as f32)
}

/// The weight of largest magnitude, with its sign.
#[inline(always)]
pub(super) fn extreme(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |most: f32, x| if x.abs() > most.abs() { *x } else { most })
}

/// The sum of squared errors of `x` against `scale · level + min`.
#[inline(always)]
pub(super) fn error<L: Levels, const N: usize>(x: &[f32; N], scale: f32, min: f32) -> f32 {
    let inverse = if scale == 0.0 { 0.0 } else { scale.recip() };
    let mut sum = [0.0; LANES];
    for x in x.as_chunks::<LANES>().0 {
        for i in 0..LANES {
            let miss = x[i] - min - scale * L::snap((x[i] - min) * inverse);
            sum[i] += miss * miss;
        }
    }
    total(sum)
}

/// `Σ x·q` and `Σ q·q` over the levels `q` that lie nearest to `x · inverse`.
#[inline(always)]
fn products<L: Levels, const N: usize>(x: &[f32; N], inverse: f32) -> (f32, f32) {
    let (mut xq, mut qq) = ([0.0; LANES], [0.0; LANES]);
    for x in x.as_chunks::<LANES>().0 {
        for i in 0..LANES {
            let q = L::snap(x[i] * inverse);
            xq[i] += x[i] * q;
            qq[i] += q * q;
        }
    }
    (total(xq), total(qq))
}

/// A scale, and how much of the sum of squares it explains.
#[derive(Clone, Copy)]
struct Scale {
    scale: f32,
    gain: f32,
}

impl Scale {
    /// The better one of this and the best scale for the levels that `x · inverse` gives.
    #[inline(always)]
    fn or<L: Levels, const N: usize>(self, x: &[f32; N], inverse: f32) -> Self {
        let (xq, qq) = products::<L, N>(x, inverse);
        // With the best scale, `xq / qq`, the error is `Σ x·x − xq² / qq`.
        if qq > 0.0 && xq * xq > self.gain * qq {
            Self { scale: xq / qq, gain: xq * xq / qq }
        } else {
            self
        }
    }
}

/// The scale with which levels come nearest to `x`; negative where the extreme weight is positive
/// and the levels reach further down than up.
#[inline(always)]
pub(super) fn scale<L: Levels, const N: usize>(x: &[f32; N]) -> f32 {
    let extreme = extreme(x);
    if extreme.abs() < NOTHING {
        return 0.0;
    }
    let mut best = Scale { scale: 0.0, gain: 0.0 }.or::<L, N>(x, L::LOW / extreme);
    for beside in steps(L::TRIES) {
        best = best.or::<L, N>(x, (L::LOW - beside) / extreme);
        if L::HIGH != -L::LOW {
            best = best.or::<L, N>(x, (L::HIGH + beside) / extreme);
        }
    }
    for _ in 0..ROUNDS {
        let next = best.or::<L, N>(x, best.scale.recip());
        if next.gain <= best.gain {
            break;
        }
        best = next;
    }
    best.scale
}

/// The scale and minimum with which levels from 0 on come nearest to `x`. With `floor`, the minimum
/// is at most 0, as in formats that store its magnitude.
#[inline(always)]
pub(super) fn affine<L: Levels, const N: usize>(x: &[f32; N], floor: bool) -> (f32, f32) {
    let (mut low, mut high) = (if floor { 0.0 } else { x[0] }, x[0]);
    for x in x {
        low = if *x < low { *x } else { low };
        high = if *x > high { *x } else { high };
    }
    if high - low < NOTHING {
        return (0.0, low);
    }
    let mut best = Line { scale: (high - low) / L::HIGH, min: low, error: f32::INFINITY };
    for beside in steps(L::TRIES) {
        let line = fit::<L, N>(x, (high - low) / (L::HIGH + beside), low, floor);
        best = if line.error < best.error { line } else { best };
    }
    for _ in 0..ROUNDS {
        let line = fit::<L, N>(x, best.scale, best.min, floor);
        if line.error >= best.error {
            break;
        }
        best = line;
    }
    (best.scale, best.min)
}

/// Weights as `scale · level + min`, and the sum of squared errors.
#[derive(Clone, Copy)]
struct Line {
    scale: f32,
    min: f32,
    error: f32,
}

/// The best line through the levels that an earlier line gives.
#[inline(always)]
fn fit<L: Levels, const N: usize>(x: &[f32; N], scale: f32, min: f32, floor: bool) -> Line {
    let inverse = scale.recip();
    let [mut q1, mut qq, mut y1, mut yy, mut yq] = [[0.0; LANES]; 5];
    for x in x.as_chunks::<LANES>().0 {
        for i in 0..LANES {
            // Counted from the minimum, so that little is lost where all weights lie far from 0.
            let y = x[i] - min;
            let q = L::snap(y * inverse);
            q1[i] += q;
            qq[i] += q * q;
            y1[i] += y;
            yy[i] += y * y;
            yq[i] += y * q;
        }
    }
    let [q1, qq, y1, yy, yq] = [q1, qq, y1, yy, yq].map(total);
    let n = N as f32;
    let spread = n * qq - q1 * q1;
    if spread <= 0.0 {
        return Line { scale, min, error: f32::INFINITY };
    }
    let slope = (n * yq - y1 * q1) / spread;
    let rise = (y1 - slope * q1) / n;
    if floor && min + rise > 0.0 {
        // The minimum is 0, and the scale is fitted to the weights themselves.
        let xq = yq + min * q1;
        let xx = yy + 2.0 * min * y1 + n * min * min;
        return Line { scale: xq / qq, min: 0.0, error: xx - xq * xq / qq };
    }
    Line { scale: slope, min: min + rise, error: yy - slope * yq - rise * y1 }
}
