//! A mixture of experts as data: which experts a token is sent to, and what they compute. How many
//! there are is a shape, so that one op serves any number; who computes what is not known here.

use super::{Activation, Buffer, Input, Weight};

/// How the shares of a token's chosen experts are made of its router's logits. The chosen are those
/// of the largest logits, the first of equal ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mixing {
    /// A softmax over all experts, of which the chosen keep their shares.
    All,
    /// A softmax over the chosen: also that over all, divided by the sum of the chosen's shares.
    Chosen,
}

/// One matrix of every expert, stacked in a matrix: that of expert `e` begins at the row
/// `e · stride + first`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stack {
    /// `[experts × stride, width of what it multiplies]`
    pub w: Weight,
    /// `[experts × stride]`, added to the product.
    pub bias: Option<Weight>,
    /// Rows from one expert's to the next's.
    pub stride: usize,
    /// Rows of another matrix before it, where two are stored as one.
    pub first: usize,
}

/// Experts, of which each token has a few: feed-forward networks `down · (act(gate · x) · up · x)`
/// (Shazeer et al., 2017), added by their shares to what `y` holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Experts {
    /// What they read.
    pub x: Input,
    /// `[tokens, 2 × chosen]`: the chosen experts' numbers, then their shares, from
    /// [`Op::Route`](super::Op::Route).
    pub routes: Buffer,
    /// How many experts there are.
    pub experts: usize,
    /// How many of them a token has.
    pub used: usize,
    /// Width inside an expert.
    pub hidden: usize,
    /// `hidden` rows an expert.
    pub gate: Stack,
    /// `hidden` rows an expert.
    pub up: Stack,
    /// As many rows an expert as `y` is wide.
    pub down: Stack,
    /// What is applied to the gate.
    pub act: Activation,
    /// `[tokens, width]`
    pub y: Buffer,
}

impl Experts {
    /// The stacks of matrices that it multiplies by.
    pub fn stacks(&self) -> [Stack; 3] {
        [self.gate, self.up, self.down]
    }
}
