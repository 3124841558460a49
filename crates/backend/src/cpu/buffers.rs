//! Activations in memory: rows of floats, each at a cache line's start and an odd number of lines
//! after the one before, so that the same columns of many rows lie in different sets of a cache.
//! Products write columns of 64 rows at a time, and powers of two would have them evict each other.
//!
//! Absent: what is in them, and who may write when (`run.rs`).

use super::pack::{LANES, Lanes};
use crate::{Counts, Rows};

/// One buffer of a graph.
#[derive(Debug)]
pub(super) struct Activations {
    pub(super) rows: Rows,
    pub(super) width: usize,
    /// Floats from one row to the next.
    pub(super) stride: usize,
    data: Vec<Lanes>,
}

impl Activations {
    /// Without room yet, its rows next to each other.
    pub(super) const fn new(rows: Rows, width: usize) -> Self {
        Self { rows, width, stride: width, data: Vec::new() }
    }

    /// Floats from one row to the next where rows are kept apart.
    pub(super) const fn apart(width: usize) -> usize {
        (width.div_ceil(LANES) | 1) * LANES
    }

    /// How many rows it has in a step.
    pub(super) const fn rows_of(&self, counts: Counts) -> usize {
        counts.of(self.rows)
    }

    /// Makes room for so many rows.
    pub(super) fn reserve(&mut self, rows: usize) {
        let lines = (rows * self.stride).div_ceil(LANES);
        if self.data.len() < lines {
            self.data.resize(lines, Lanes::default());
        }
    }

    pub(super) const fn as_mut_ptr(&mut self) -> *mut f32 {
        self.data.as_mut_ptr().cast()
    }

    /// Its first rows, which are next to each other.
    pub(super) fn floats(&self, rows: usize) -> &[f32] {
        assert_eq!(self.stride, self.width, "rows that are kept apart; this is a bug");
        let lines = &self.data[..(rows * self.width).div_ceil(LANES)];
        // SAFETY: so many lines of 16 floats each hold as many floats, and we hold them shared.
        unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), rows * self.width) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_lie_in_different_sets() {
        for (width, lines) in [(1, 1), (16, 1), (17, 3), (576, 37), (640, 41), (2048, 129)] {
            assert_eq!(Activations::apart(width), lines * LANES, "{width} floats");
        }
    }
}
