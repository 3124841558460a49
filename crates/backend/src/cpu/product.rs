//! The body of a product: 16 rows of a packed matrix times rows of activations, generic over the
//! provider of vectors and the weights' layout.
//!
//! Batch invariance lives here: whatever other rows there are, one output element is made by the
//! same operations in the same order. Rows only share what they load. Sums of integers are exact,
//! so that their order is free, and that is where rows differ in how they are computed.
#![allow(clippy::needless_range_loop, reason = "kernels are loops over fixed arrays, by index")]

use super::acts::{ByteScale, Bytes, Part, Scale};
use super::pack::{BLOCK, LANES, Lanes, Line, Packed, plane_lines};
use super::prepare::TOGETHER;
use super::scales::{Halves, Kind, Reader};
use super::simd::Simd;
use crate::Format;

/// How many bytes ahead of the block in hand weights are asked for. By the bench of a matrix that
/// no cache holds, 1.5 kB to 8 kB do the same, within what the machine drifts.
const AHEAD: usize = 3072;

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

/// A block's weights, or those of half of one, unpacked: they stay in registers for all rows.
#[derive(Clone, Copy)]
struct Unpacked<S: Simd> {
    v: [S::Bytes; 8],
    scale: S::Floats,
    min: S::Floats,
}

/// Where the next weights of a group are.
struct Cursor<S: Simd> {
    planes: *const u8,
    scales: Reader<S>,
}

impl<S: Simd> Cursor<S> {
    #[inline(always)]
    unsafe fn at(w: &Packed, group: usize) -> Self {
        let scales = w.scales[group * w.group_scales..].as_ptr();
        Self {
            planes: w.lines[group * w.group_lines..].as_ptr().cast(),
            // SAFETY: the caller's promise: the provider runs here.
            scales: unsafe { Reader::at(scales) },
        }
    }

    /// Before each block, from the first on: what is needed soon is asked for.
    ///
    /// # Safety
    /// The packed matrix has this layout, and weights are left.
    #[inline(always)]
    unsafe fn enter<K: Kind, const BITS: u8, const MINS: bool>(&mut self, block: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            // Planes of 8 bits are taken line after line, which the processor foresees better.
            let lines = if BITS < 8 { plane_lines(BITS) } else { 0 };
            for line in 0..lines {
                S::prefetch(self.planes.wrapping_add(AHEAD + 64 * line));
            }
            self.scales.enter::<K, MINS>(block);
        }
    }

    /// # Safety
    /// As [`Cursor::enter`].
    #[inline(always)]
    unsafe fn unpack<K: Kind, const BITS: u8, const MINS: bool, const HALVES: usize>(
        &mut self,
        half: usize,
    ) -> Unpacked<S> {
        // SAFETY: the caller's promise.
        unsafe {
            let [scale, min] = self.scales.next::<K, MINS>();
            let count = 8 / HALVES;
            let mut v = [S::zero(); 8];
            for g in 0..count {
                v[g] = group::<S, BITS>(self.planes, g + half * count);
            }
            if half + 1 == HALVES {
                self.planes = self.planes.add(64 * plane_lines(BITS));
            }
            Unpacked { v, scale, min }
        }
    }
}

/// Adds a block's, or half a block's, products to `R` rows' sums:
/// `d·xs · Σ (u - offset)·q (+ m · xs·Σq)`.
///
/// # Safety
/// `lines` and `scales` are the rows' at this block.
#[inline(always)]
unsafe fn add<
    S: Simd,
    const BITS: u8,
    const OFFSET: i32,
    const MINS: bool,
    const HALVES: usize,
    const R: usize,
>(
    w: &Unpacked<S>,
    half: usize,
    lines: *const Line,
    scales: *const Scale,
    acc: &mut [S::Floats; R],
) {
    let which = if HALVES == 1 { 0 } else { 1 + half };
    // SAFETY: the caller's promise.
    unsafe {
        let q = lines.cast::<i8>().add(half * LANES);
        let sums: [S::Ints; R] = S::sums::<BITS, R>(&w.v, 8 / HALVES, q);
        for r in 0..R {
            let x = scales.add(r);
            let mut sum = sums[r];
            if OFFSET > 0 && !(BITS == 8 && S::SIGNED) {
                let moved = S::scaled(S::ints(&raw const (*x).ints[which]), OFFSET.ilog2());
                sum = S::minus(sum, moved);
            }
            let by = S::mul(w.scale, S::floats((*x).scale));
            acc[r] = S::fma(S::to_floats(sum), by, acc[r]);
            if MINS {
                acc[r] = S::fma(w.min, S::floats((*x).sums[which]), acc[r]);
            }
        }
    }
}

/// 16 rows of a packed matrix times the rows of activations, as many as `y` has.
///
/// # Safety
/// The packed matrix has this layout; the activations have its columns and `y`'s rows.
#[inline(always)]
pub(crate) unsafe fn tile<
    S: Simd,
    K: Kind,
    const BITS: u8,
    const OFFSET: i32,
    const MINS: bool,
    const HALVES: usize,
>(
    w: &Packed,
    at: usize,
    x: &Part,
    y: &mut [Lanes],
) {
    // SAFETY: the caller's promise.
    unsafe {
        match y.len() {
            1 => few::<S, K, BITS, OFFSET, MINS, HALVES, 1>(w, at, x, y),
            2 => few::<S, K, BITS, OFFSET, MINS, HALVES, 2>(w, at, x, y),
            3 => few::<S, K, BITS, OFFSET, MINS, HALVES, 3>(w, at, x, y),
            4 => few::<S, K, BITS, OFFSET, MINS, HALVES, 4>(w, at, x, y),
            _ => many::<S, K, BITS, OFFSET, MINS, HALVES>(w, at, x, y),
        }
    }
}

/// Rows whose sums stay in registers.
#[inline(always)]
unsafe fn few<
    S: Simd,
    K: Kind,
    const BITS: u8,
    const OFFSET: i32,
    const MINS: bool,
    const HALVES: usize,
    const R: usize,
>(
    w: &Packed,
    at: usize,
    x: &Part,
    y: &mut [Lanes],
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut from = Cursor::<S>::at(w, at);
        let mut acc = [S::floats(0.0); R];
        for block in 0..w.cols / BLOCK {
            let (lines, scales) = (x.lines.add(block * x.step), x.scales.add(block * x.step));
            from.enter::<K, BITS, MINS>(block);
            for half in 0..HALVES {
                let w = from.unpack::<K, BITS, MINS, HALVES>(half);
                add::<S, BITS, OFFSET, MINS, HALVES, R>(&w, half, lines, scales, &mut acc);
            }
        }
        for r in 0..R {
            S::store(acc[r], y[r].0.as_mut_ptr());
        }
    }
}

/// Any number of rows, some at a time, whose sums stay in the first cache.
#[inline(always)]
unsafe fn many<
    S: Simd,
    K: Kind,
    const BITS: u8,
    const OFFSET: i32,
    const MINS: bool,
    const HALVES: usize,
>(
    w: &Packed,
    at: usize,
    x: &Part,
    y: &mut [Lanes],
) {
    y.fill(Lanes::default());
    let (rows, y) = (y.len(), y.as_mut_ptr());
    // SAFETY: the caller's promise; rows are below `rows`.
    unsafe {
        let mut from = Cursor::<S>::at(w, at);
        for block in 0..w.cols / BLOCK {
            let (lines, scales) = (x.lines.add(block * x.step), x.scales.add(block * x.step));
            from.enter::<K, BITS, MINS>(block);
            for half in 0..HALVES {
                let w = from.unpack::<K, BITS, MINS, HALVES>(half);
                let mut row = 0;
                while S::ROWS == 4 && row + 4 <= rows {
                    let (lines, scales) = (lines.add(row), scales.add(row));
                    let y = y.add(row);
                    on::<S, BITS, OFFSET, MINS, HALVES, 4>(&w, half, lines, scales, y);
                    row += 4;
                }
                while row + 2 <= rows {
                    let (lines, scales) = (lines.add(row), scales.add(row));
                    let y = y.add(row);
                    on::<S, BITS, OFFSET, MINS, HALVES, 2>(&w, half, lines, scales, y);
                    row += 2;
                }
                if row < rows {
                    let (lines, scales) = (lines.add(row), scales.add(row));
                    let y = y.add(row);
                    on::<S, BITS, OFFSET, MINS, HALVES, 1>(&w, half, lines, scales, y);
                }
            }
        }
    }
}

/// [`add`] to sums that are kept in memory.
#[inline(always)]
unsafe fn on<
    S: Simd,
    const BITS: u8,
    const OFFSET: i32,
    const MINS: bool,
    const HALVES: usize,
    const R: usize,
>(
    w: &Unpacked<S>,
    half: usize,
    lines: *const Line,
    scales: *const Scale,
    y: *mut Lanes,
) {
    // SAFETY: the caller gives `R` rows.
    unsafe {
        let mut acc = [S::floats(0.0); R];
        for r in 0..R {
            acc[r] = S::load_f32(y.add(r).cast());
        }
        add::<S, BITS, OFFSET, MINS, HALVES, R>(w, half, lines, scales, &mut acc);
        for r in 0..R {
            S::store(acc[r], y.add(r).cast());
        }
    }
}

/// As [`tile`], for weights of 8 bits whose scales are halves, and activations of one byte.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
pub(crate) unsafe fn bytes<S: Simd>(w: &Packed, at: usize, x: &Part, y: &mut [Lanes]) {
    let blocks = w.cols / BLOCK;
    for (chunk, y) in y.chunks_mut(TOGETHER).enumerate() {
        let (first, step) = (chunk * TOGETHER * blocks, y.len());
        let mut row = 0;
        // SAFETY: the caller's promise; rows are below `y`'s.
        unsafe {
            let lines = x.lines.cast::<Bytes>().add(first);
            let scales = x.scales.cast::<ByteScale>().add(first);
            while row < step {
                let (lines, scales) = (lines.add(row), scales.add(row));
                let y = &mut y[row..];
                row += match step - row {
                    8.. if S::ROWS == 4 => few_bytes::<S, 8>(w, at, (lines, scales, step), y),
                    4.. if S::ROWS == 4 => few_bytes::<S, 4>(w, at, (lines, scales, step), y),
                    2.. => few_bytes::<S, 2>(w, at, (lines, scales, step), y),
                    _ => few_bytes::<S, 1>(w, at, (lines, scales, step), y),
                };
            }
        }
    }
}

/// Rows whose sums stay in registers, of blocks that are a step apart. Weights go by, vector after
/// vector: those of 16 rows are in the first cache. Returns `R`.
#[inline(always)]
unsafe fn few_bytes<S: Simd, const R: usize>(
    w: &Packed,
    at: usize,
    (lines, scales, step): (*const Bytes, *const ByteScale, usize),
    y: &mut [Lanes],
) -> usize {
    // SAFETY: the caller's promise.
    unsafe {
        let mut from = Cursor::<S>::at(w, at);
        let mut acc = [S::floats(0.0); R];
        for block in 0..w.cols / BLOCK {
            let (lines, scales) = (lines.add(block * step), scales.add(block * step));
            from.enter::<Halves, 8, false>(block);
            let [scale, _] = from.scales.next::<Halves, false>();
            let mut sums = [S::none(); R];
            if !S::SIGNED {
                for r in 0..R {
                    sums[r] = S::ints(&raw const (*scales.add(r)).start);
                }
            }
            for g in 0..8 {
                let v = S::load(from.planes.add(64 * g));
                for r in 0..R {
                    sums[r] = S::dot::<8>(sums[r], v, lines.add(r).cast::<i8>().add(4 * g));
                }
            }
            from.planes = from.planes.add(64 * plane_lines(8));
            for r in 0..R {
                let by = S::mul(scale, S::floats((*scales.add(r)).scale));
                acc[r] = S::fma(S::to_floats(sums[r]), by, acc[r]);
            }
        }
        for r in 0..R {
            S::store(acc[r], y[r].0.as_mut_ptr());
        }
    }
    R
}

/// As [`tile`], for weights stored as floats.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
pub(crate) unsafe fn floats<S: Simd>(w: &Packed, at: usize, x: &Part, y: &mut [Lanes]) {
    let mut row = 0;
    // SAFETY: the caller's promise; rows are below `y`'s.
    unsafe {
        while row < y.len() {
            let (x, left) = (x.x.add(row * x.cols), &mut y[row..]);
            row += match left.len() {
                1 => few_floats::<S, 1>(w, at, x, left),
                2 | 3 => few_floats::<S, 2>(w, at, x, left),
                _ => few_floats::<S, 4>(w, at, x, left),
            };
        }
    }
}

/// Four sums a row, by column modulo 4. Returns `R`.
#[inline(always)]
unsafe fn few_floats<S: Simd, const R: usize>(
    w: &Packed,
    at: usize,
    x: *const f32,
    y: &mut [Lanes],
) -> usize {
    let size = w.format.block_bytes();
    // SAFETY: offsets stay within the group's lines, by `Packed::new`.
    unsafe {
        let base = w.lines.as_ptr().add(at * w.group_lines).cast::<u8>();
        let mut acc = [[S::floats(0.0); 4]; R];
        for col in 0..w.cols {
            let from = base.add(col * LANES * size);
            let v = match w.format {
                Format::F16 => S::load_f16(from),
                Format::BF16 => S::load_bf16(from),
                _ => S::load_f32(from),
            };
            for r in 0..R {
                let sum = &mut acc[r][col % 4];
                *sum = S::fma(v, S::floats(*x.add(r * w.cols + col)), *sum);
            }
        }
        for r in 0..R {
            let [a, b, c, d] = acc[r];
            S::store(S::add(S::add(a, b), S::add(c, d)), y[r].0.as_mut_ptr());
        }
    }
    R
}
