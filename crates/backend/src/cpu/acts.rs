//! Activations as the integer kernels want them: 16-bit integers with a scale per 32 columns, kept
//! as two signed bytes (`256·high + low`), because the byte products of two terms cost what one
//! product of 16-bit integers costs, and need no widening of the weights. Who can do with 8 bits
//! has them in one byte, at half the cost.
//!
//! A kernel goes through the blocks of columns and, within a block, through the rows, so that is
//! their order in memory too: neighbours are used one after another, whatever the row's width.
//! Absent: how a row comes about; that is the business of whoever runs the op.

use super::pack::{BLOCK, Line};
use super::prepare::TOGETHER;
use std::ops::Range;

/// Rows that stand together, and that a part of a product takes at most: those of a block stay in
/// the L1 cache, all of them in the L2 cache.
pub(crate) const PART_ROWS: usize = 64;

/// The largest quantised activation: both its bytes stay in range.
pub(crate) const ACT_MAX: f32 = 127.0 * 256.0;
/// The same where it has one byte.
pub(crate) const BYTE_MAX: f32 = 127.0;

/// What belongs to 32 quantised values of a row.
#[repr(C, align(32))]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scale {
    /// What one unit of them is worth.
    pub(crate) scale: f32,
    /// Their sum, and those of their halves, times the scale.
    pub(crate) sums: [f32; 3],
    /// The same sums, of the integers.
    pub(crate) ints: [i32; 3],
}

/// 32 quantised values of a row, of one byte each.
pub(crate) type Bytes = [i8; BLOCK];

/// What belongs to them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ByteScale {
    /// What one unit of them is worth.
    pub(crate) scale: f32,
    /// -128 times their sum: what a sum of products begins with where weights are stored 128 too
    /// large.
    pub(crate) start: i32,
}
const _: () = assert!(size_of::<Bytes>() <= 64 && size_of::<ByteScale>() <= size_of::<Scale>());

/// Rows of activations, quantised for the integer kernels and as floats for the others.
#[derive(Debug, Default)]
pub(crate) struct Acts {
    /// `[row][col]`
    x: Vec<f32>,
    /// `[part of 64 rows][block][row]` of 32 high bytes and 32 low bytes; or, where activations
    /// have one byte, `[8 rows][block][row]` of [`Bytes`].
    lines: Vec<Line>,
    /// The same of [`Scale`] or [`ByteScale`].
    scales: Vec<Scale>,
}

impl Acts {
    /// Makes room for `rows` of `cols`.
    pub(crate) fn reserve(&mut self, rows: usize, cols: usize) {
        let blocks = cols / BLOCK;
        self.x.resize(self.x.len().max(rows * cols), 0.0);
        self.lines.resize(self.lines.len().max(rows * blocks), Line([0; 64]));
        self.scales.resize(self.scales.len().max(rows * blocks), Scale::default());
    }

    /// Brings some rows side by side, at most as many as a part has.
    ///
    /// # Safety
    /// No thread writes to the rows meanwhile.
    pub(crate) unsafe fn pick(&mut self, from: &View, rows: &[usize]) -> Part {
        if let [row] = *rows {
            return from.part(&(row..row + 1));
        }
        self.reserve(rows.len(), from.cols);
        let to = self.view(rows.len(), from.cols);
        for (at, &row) in rows.iter().enumerate() {
            let (source, target) = (from.part(&(row..row + 1)), to.part(&(at..at + 1)));
            // SAFETY: both have these columns; `self` is ours alone.
            unsafe {
                target.x.cast_mut().copy_from_nonoverlapping(source.x, from.cols);
                for block in 0..from.cols / BLOCK {
                    let (source_at, at) = (block * source.step, block * target.step);
                    *target.lines.cast_mut().add(at) = *source.lines.add(source_at);
                    *target.scales.cast_mut().add(at) = *source.scales.add(source_at);
                }
            }
        }
        to.part(&(0..rows.len()))
    }

    /// So many of them as threads share them; room was made.
    pub(crate) fn view(&mut self, rows: usize, cols: usize) -> View {
        let (lines, scales) = (self.lines.as_mut_ptr(), self.scales.as_mut_ptr());
        let (x, room) = (self.x.as_mut_ptr(), self.x.len());
        View { x, lines, scales, rows: 0, cols: 0, room, high: false }.shaped(rows, cols)
    }
}

/// [`Acts`] of one width, as the threads share them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    x: *mut f32,
    lines: *mut Line,
    scales: *mut Scale,
    rows: usize,
    cols: usize,
    /// Floats that there is room for.
    room: usize,
    /// Whether integers have one byte.
    high: bool,
}

/// Where a row is quantised to, and those after it beside it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// Its first block.
    pub(crate) lines: *mut Line,
    /// What belongs to it.
    pub(crate) scales: *mut Scale,
    /// From one block to the next.
    pub(crate) step: usize,
}

/// Some rows of one part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    /// How many.
    pub(crate) rows: usize,
    /// The first row's floats.
    pub(crate) x: *const f32,
    /// From one row's floats to the next.
    pub(crate) cols: usize,
    /// The first row's first block; the next row's is beside it.
    pub(crate) lines: *const Line,
    /// What belongs to it.
    pub(crate) scales: *const Scale,
    /// From one block to the next; of integers of one byte that of the first 8 rows alone.
    pub(crate) step: usize,
    /// Whether integers have one byte: [`Bytes`] and [`ByteScale`] are behind the pointers then.
    pub(crate) high: bool,
}

impl View {
    /// The same memory for other rows and columns, for which room was made.
    pub(crate) fn shaped(self, rows: usize, cols: usize) -> Self {
        assert!(rows * cols <= self.room, "no room was made; this is a bug");
        Self { rows, cols, ..self }
    }

    /// The same memory, for integers of two bytes or of one.
    pub(crate) fn of_high(self, high: bool) -> Self {
        Self { high, ..self }
    }

    /// Whether integers have one byte.
    pub(crate) fn is_high(&self) -> bool {
        self.high
    }

    /// Where a row's first block is, counted in blocks, and how far the next one.
    fn place(&self, row: usize) -> (usize, usize) {
        let each = if self.high { TOGETHER } else { PART_ROWS };
        let (part, within) = (row / each * each, row % each);
        (part * (self.cols / BLOCK) + within, each.min(self.rows - part))
    }

    /// The memory of a block that is counted so.
    fn at(&self, at: usize) -> (*mut Line, *mut Scale) {
        if self.high {
            let lines = self.lines.cast::<Bytes>().wrapping_add(at);
            return (lines.cast(), self.scales.cast::<ByteScale>().wrapping_add(at).cast());
        }
        (self.lines.wrapping_add(at), self.scales.wrapping_add(at))
    }

    /// A row's floats.
    ///
    /// # Safety
    /// No other thread touches them meanwhile.
    #[allow(clippy::mut_from_ref, reason = "shared memory; the promise is the caller's")]
    pub(crate) unsafe fn floats_mut(&self, row: usize) -> &mut [f32] {
        // SAFETY: the caller's promise.
        unsafe { self.columns_mut(row, 0..self.cols).0 }
    }

    /// Where some rows of one part are quantised to.
    pub(crate) fn places(&self, rows: &Range<usize>) -> Place {
        let Part { lines, scales, step, .. } = self.part(rows);
        Place { lines: lines.cast_mut(), scales: scales.cast_mut(), step }
    }

    /// Some columns of a row, from a block's first on, and the place of their integers.
    ///
    /// # Safety
    /// No other thread touches these columns of the row meanwhile.
    #[allow(clippy::mut_from_ref, reason = "shared memory; the promise is the caller's")]
    pub(crate) unsafe fn columns_mut(&self, row: usize, cols: Range<usize>) -> (&mut [f32], Place) {
        assert!(row < self.rows && cols.end <= self.cols, "row {row} of {}; a bug", self.rows);
        let (at, step) = self.place(row);
        let (lines, scales) = self.at(at + cols.start / BLOCK * step);
        let x = self.x.wrapping_add(row * self.cols + cols.start);
        // SAFETY: there is room for `rows` of `cols`; the caller's promise.
        (unsafe { std::slice::from_raw_parts_mut(x, cols.len()) }, Place { lines, scales, step })
    }

    /// Rows of one part.
    pub(crate) fn part(&self, rows: &Range<usize>) -> Part {
        assert!(
            rows.end <= self.rows && rows.end.div_ceil(PART_ROWS) <= rows.start / PART_ROWS + 1
        );
        let (at, step) = self.place(rows.start);
        let (lines, scales) = self.at(at);
        let x = self.x.wrapping_add(rows.start * self.cols);
        Part { rows: rows.len(), x, cols: self.cols, lines, scales, step, high: self.high }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_of_every_row_has_a_place_of_its_own() {
        for (rows, cols) in [(1, 32), (63, 64), (64, 96), (65, 96), (200, 64)] {
            let mut acts = Acts::default();
            acts.reserve(rows, cols);
            let room = acts.lines.len();
            for high in [false, true] {
                let view = acts.view(rows, cols).of_high(high);
                let places = (0..rows).flat_map(|row| {
                    let (at, step) = view.place(row);
                    (0..cols / BLOCK).map(move |block| at + block * step)
                });
                let mut places: Vec<usize> = places.collect();
                places.sort_unstable();
                assert_eq!(places, (0..room).collect::<Vec<_>>(), "{rows} rows of {cols}");
            }
        }
    }
}
