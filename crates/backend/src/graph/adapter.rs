//! Low-rank adapters (LoRA; Hu et al., 2021) as data. Weights stay as they are and are shared by
//! all; what an adapter adds to their products is computed beside them, for the rows of those spans
//! that name it.
//!
//! Absent: adapters of tables and of stacks of experts.

use super::Weight;

/// An adapter that a backend holds, by number. No number is given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Adapter(pub(crate) u64);

/// An adapter that a span is computed with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Applied {
    /// Which.
    pub adapter: Adapter,
    /// What its deltas are multiplied by.
    pub scale: f32,
}

/// What is added to one matrix: `w + b · a`.
#[derive(Clone, Debug, PartialEq)]
pub struct Delta {
    /// What it is added to.
    pub w: Weight,
    /// Rows of `a` and columns of `b`; at least 1.
    pub rank: usize,
    /// `[rank, columns of w]`
    pub a: Vec<f32>,
    /// `[rows of w, rank]`
    pub b: Vec<f32>,
}
