//! Products with the narrow matrices of adapters: 16 outputs of some rows, from the matrix's
//! columns one below the other. Both of an adapter's matrices are multiplied by this body, down to
//! its rank and up again. What a row gives depends on nothing but the row.
#![allow(clippy::needless_range_loop, reason = "kernels are loops over fixed arrays, by index")]

use super::pack::LANES;
use super::simd::Simd;

/// Sums of a row that do not wait for each other.
const CHAINS: usize = 4;

/// `y = (y +) scale · Σ m[k] · x[k]` for each row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Narrow {
    /// So many columns of 16 floats.
    pub(crate) m: *const f32,
    pub(crate) columns: usize,
    /// The first row's inputs, one a column.
    pub(crate) x: *const f32,
    /// Floats from one row's to the next's.
    pub(crate) x_stride: usize,
    pub(crate) rows: usize,
    /// The first row's 16 outputs.
    pub(crate) y: *mut f32,
    /// Floats from one row's to the next's.
    pub(crate) y_stride: usize,
    pub(crate) scale: f32,
    /// Whether they are added to what is there.
    pub(crate) add: bool,
}

/// # Safety
/// All that `of` names is there, and the provider's instructions run here.
#[inline(always)]
pub(crate) unsafe fn narrow<S: Simd>(of: &Narrow) {
    let pairs = of.rows - of.rows % 2;
    // SAFETY: the caller's promise; rows below `of.rows`.
    unsafe {
        for row in (0..pairs).step_by(2) {
            together::<S, 2>(of, row);
        }
        if pairs < of.rows {
            together::<S, 1>(of, pairs);
        }
    }
}

/// `R` rows, which share what is loaded of the matrix.
#[inline(always)]
unsafe fn together<S: Simd, const R: usize>(of: &Narrow, first: usize) {
    let whole = of.columns - of.columns % CHAINS;
    // SAFETY: the caller's promise; columns below `of.columns`.
    unsafe {
        let x = of.x.add(first * of.x_stride);
        let mut sums = [[S::floats(0.0); CHAINS]; R];
        for k in (0..whole).step_by(CHAINS) {
            for c in 0..CHAINS {
                let m = S::load_f32(of.m.add((k + c) * LANES).cast());
                for r in 0..R {
                    let x = S::floats(*x.add(r * of.x_stride + k + c));
                    sums[r][c] = S::fma(m, x, sums[r][c]);
                }
            }
        }
        for c in 0..CHAINS {
            if whole + c < of.columns {
                let m = S::load_f32(of.m.add((whole + c) * LANES).cast());
                for r in 0..R {
                    let x = S::floats(*x.add(r * of.x_stride + whole + c));
                    sums[r][c] = S::fma(m, x, sums[r][c]);
                }
            }
        }
        for r in 0..R {
            let [a, b, c, d] = sums[r];
            let sum = S::add(S::add(a, b), S::add(c, d));
            let y = of.y.add((first + r) * of.y_stride);
            let before = if of.add { S::load_f32(y.cast_const().cast()) } else { S::floats(0.0) };
            S::store(S::fma(sum, S::floats(of.scale), before), y);
        }
    }
}
