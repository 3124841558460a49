//! The adapters that a backend holds: each matrix's delta laid out for [`super::narrow`], found by
//! the matrix's number.
//!
//! Absent: which rows they are for (`run/adapt.rs`).

use super::pack::{LANES, Lanes};
use super::{Cpu, zeroed};
use crate::{Adapter, Delta, Format, Refusal, Weight};

/// One matrix's delta, its rank and rows filled up with zeros to whole groups of 16.
#[derive(Debug)]
pub(super) struct LowRank {
    pub(super) rank: usize,
    /// `[group of 16 of the rank][column]`
    pub(super) down: Vec<Lanes>,
    /// `[group of 16 rows][one of the rank]`
    pub(super) up: Vec<Lanes>,
}

/// One adapter.
#[derive(Debug)]
pub(super) struct Deltas {
    /// By the matrix's number.
    of: Vec<Option<LowRank>>,
    /// Floats that a row takes between the two products, at most.
    pub(super) widest: usize,
}

impl Deltas {
    /// What it adds to a matrix, if anything.
    pub(super) fn of(&self, w: Weight) -> Option<&LowRank> {
        self.of.get(w.0 as usize)?.as_ref()
    }
}

/// A `[rows, cols]` matrix as `[group of 16 rows][column]`.
fn columns(rows: usize, cols: usize, from: &[f32]) -> Result<Vec<Lanes>, Refusal> {
    let mut to = zeroed(Lanes::default(), rows.div_ceil(LANES) * cols)?;
    for (row, values) in from.chunks_exact(cols).enumerate() {
        let group = &mut to[row / LANES * cols..][..cols];
        for (Lanes(lanes), value) in group.iter_mut().zip(values) {
            lanes[row % LANES] = *value;
        }
    }
    Ok(to)
}

impl Cpu {
    /// Bytes that a delta of a `[rows, cols]` matrix takes.
    pub fn delta_bytes(rank: usize, rows: usize, cols: usize) -> u64 {
        let line = |rows: usize, cols: usize| rows.div_ceil(LANES) as u64 * cols as u64;
        (line(rank, cols) + line(rows, rank)) * size_of::<Lanes>() as u64
    }

    pub(super) fn take_adapter(&mut self, deltas: &[Delta]) -> Result<Adapter, Refusal> {
        let mut of = Vec::new();
        let mut widest = 0;
        for Delta { w, rank, a, b } in deltas {
            let matrix = &self.weights[w.0 as usize];
            for (rows, cols, floats) in [(*rank, matrix.cols, a), (matrix.rows, *rank, b)] {
                if rows == 0 || cols == 0 || rows.checked_mul(cols) != Some(floats.len()) {
                    let bytes = size_of_val(&**floats);
                    return Err(Refusal::WrongSize { format: Format::F32, rows, cols, bytes });
                }
            }
            let down = columns(*rank, matrix.cols, a)?;
            let up = columns(matrix.rows, *rank, b)?;
            if of.len() <= w.0 as usize {
                of.resize_with(w.0 as usize + 1, || None);
            }
            of[w.0 as usize] = Some(LowRank { rank: *rank, down, up });
            widest = widest.max(rank.next_multiple_of(LANES));
        }
        let number = self.adapters_taken;
        self.adapters_taken += 1;
        self.adapters.insert(number, Deltas { of, widest });
        Ok(Adapter(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_in_groups_of_rows() {
        let (rows, cols) = (18, 3);
        let from: Vec<f32> = (0..rows * cols).map(|i| i as f32).collect();
        let to = columns(rows, cols, &from).expect("memory");
        assert_eq!(to.len(), 2 * cols);
        for (row, col) in (0..32).flat_map(|row| (0..cols).map(move |col| (row, col))) {
            let expect = if row < rows { from[row * cols + col] } else { 0.0 };
            let Lanes(lanes) = to[row / LANES * cols + col];
            assert_eq!(lanes[row % LANES], expect, "row {row}, column {col}");
        }
    }
}
