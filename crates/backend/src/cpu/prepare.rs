//! Rows on their way into a product: taken as they are, normed or gated, and quantised in the same
//! pass, so that what is between is never written. A few rows go together, block by block, since a
//! block's rows are neighbours in memory and the blocks of a row are not.
//!
//! Absent: rows that stay floats (`body.rs` norms and gates them), and who asks for which rows.
#![allow(clippy::needless_range_loop, reason = "kernels are loops over fixed arrays, by index")]

use super::acts::{ACT_MAX, BYTE_MAX, ByteScale, Bytes, Place, Scale};
use super::body::{gated, norm_scale};
use super::pack::{BLOCK, LANES};
use super::simd::Simd;
use crate::Activation;

/// Rows that are prepared together at most; divides [`super::acts::PART_ROWS`]. Eight lines that
/// are written next to each other, and not so many streams that are read.
pub(crate) const TOGETHER: usize = 8;

/// Some rows, at most [`TOGETHER`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source {
    /// The first.
    pub(crate) x: *const f32,
    /// Floats from one row to the next.
    pub(crate) stride: usize,
    pub(crate) rows: usize,
    /// Whole blocks.
    pub(crate) cols: usize,
    pub(crate) way: Way,
    /// Whether they become bytes.
    pub(crate) high: bool,
}

/// What becomes of rows before they are quantised.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    /// Nothing.
    Plain,
    /// As [`super::body::norm`], `cols` gains.
    Normed { gain: *const f32, eps: f32 },
    /// As [`super::body::gate`]; `up` is laid out as the rows are.
    Gated { up: *const f32, act: Activation },
    /// The same, without anything that is gated.
    Activated { act: Activation },
}

/// All blocks of some rows, each as the expression gives it by row and column. A closure would be a
/// function of its own, without the target features that its intrinsics are compiled under.
macro_rules! blocks {
    ($S:ty, $HIGH:ident, $from:ident, $to:ident, |$row:ident, $at:ident| $of:expr) => {
        for block in 0..$from.cols / BLOCK {
            for $row in 0..$from.rows {
                let $at = block * BLOCK;
                let v = $of;
                one::<$S, $HIGH>(v, &$to, block * $to.step + $row);
            }
        }
    };
}

/// Two vectors: the columns of a block.
type Pair<S> = [<S as Simd>::Floats; 2];

/// Quantises the rows.
///
/// # Safety
/// They can be read; there is a place for each of their blocks, that of the first row given and
/// those of the others beside it.
#[inline(always)]
pub(crate) unsafe fn quantise<S: Simd>(from: &Source, to: Place) {
    // SAFETY: the caller's promise.
    unsafe {
        if from.high {
            quantise_to::<S, true>(from, to);
        } else {
            quantise_to::<S, false>(from, to);
        }
    }
}

#[inline(always)]
unsafe fn quantise_to<S: Simd, const HIGH: bool>(from: &Source, to: Place) {
    assert!(from.rows <= TOGETHER, "{} rows at once; this is a bug", from.rows);
    // SAFETY: the caller's promise; all columns are below `cols`.
    unsafe {
        match from.way {
            Way::Plain => {
                blocks!(S, HIGH, from, to, |row, at| pair::<S>(from.x.add(row * from.stride + at)));
            }
            Way::Normed { gain, eps } => {
                let mut scales = [0.0f32; TOGETHER];
                for row in 0..from.rows {
                    scales[row] = norm_scale::<S>(from.x.add(row * from.stride), from.cols, eps);
                }
                blocks!(S, HIGH, from, to, |row, at| {
                    let ([a, b], [c, d]) =
                        (pair::<S>(from.x.add(row * from.stride + at)), pair::<S>(gain.add(at)));
                    let scale = S::floats(scales[row]);
                    [S::mul(S::mul(a, scale), c), S::mul(S::mul(b, scale), d)]
                });
            }
            Way::Gated { up, act } => blocks!(S, HIGH, from, to, |row, at| {
                let at = row * from.stride + at;
                let ([a, b], [c, d]) = (pair::<S>(from.x.add(at)), pair::<S>(up.add(at)));
                [gated::<S>(act, a, c), gated::<S>(act, b, d)]
            }),
            Way::Activated { act } => blocks!(S, HIGH, from, to, |row, at| {
                let [a, b] = pair::<S>(from.x.add(row * from.stride + at));
                [gated::<S>(act, a, S::floats(1.0)), gated::<S>(act, b, S::floats(1.0))]
            }),
        }
    }
}

#[inline(always)]
unsafe fn pair<S: Simd>(x: *const f32) -> Pair<S> {
    // SAFETY: the caller gives 32 floats.
    unsafe { [S::load_f32(x.cast()), S::load_f32(x.add(LANES).cast())] }
}

/// 32 floats become 64 bytes, or 32, and what belongs to them, at the place of so many blocks on.
#[inline(always)]
unsafe fn one<S: Simd, const HIGH: bool>([low, high]: Pair<S>, to: &Place, at: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let max = S::largest(S::max(S::abs(low), S::abs(high)));
        let most = if HIGH { BYTE_MAX } else { ACT_MAX };
        let inverse = if max > 0.0 { most / max } else { 0.0 };
        let (by, scale) = (S::floats(inverse), max / most);
        let v = [S::mul(low, by), S::mul(high, by)];
        if HIGH {
            let sum = S::bytes(v, to.lines.cast::<Bytes>().add(at).cast());
            let start = sum.wrapping_mul(-128);
            to.scales.cast::<ByteScale>().add(at).write(ByteScale { scale, start });
        } else {
            let [first, second] = S::split(v, to.lines.add(at).cast());
            let ints = [first.wrapping_add(second), first, second];
            let sums = ints.map(|sum| sum as f32 * scale);
            to.scales.add(at).write(Scale { scale, sums, ints });
        }
    }
}
