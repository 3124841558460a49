//! What an op is for, told from where its data flows: a graph has no names, and needs none here.

use super::{Attend, Buffer, Graph, Input, Op, Out};

/// What an op does in a transformer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Looks the tokens up.
    Embed,
    /// Makes queries, keys or values.
    Qkv,
    /// Norms activations, outside of a product.
    Norm,
    /// Makes rope's angles.
    Angles,
    /// Rotates by them.
    Rope,
    /// Attends.
    Attention,
    /// Multiplies what attention gave.
    Output,
    /// Makes a gate, what it gates, or both.
    GateUp,
    /// Multiplies what passed a gate.
    Down,
    /// Scores a token's experts.
    Router,
    /// Chooses among them.
    Route,
    /// Computes what was chosen.
    Experts,
    /// Picks the rows that are sampled.
    Gather,
    /// Makes one row of a text's.
    Pool,
    /// Applies a nonlinearity.
    Activate,
    /// Makes the logits.
    Logits,
    /// Caps a buffer's elements.
    Cap,
    /// Multiplies for some other purpose.
    Product,
}

impl Role {
    /// A short name for people and programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Embed => "embed",
            Self::Qkv => "qkv",
            Self::Norm => "norm",
            Self::Angles => "angles",
            Self::Rope => "rope",
            Self::Attention => "attention",
            Self::Output => "output",
            Self::GateUp => "gate_up",
            Self::Down => "down",
            Self::Router => "router",
            Self::Route => "route",
            Self::Experts => "experts",
            Self::Gather => "gather",
            Self::Pool => "pool",
            Self::Activate => "activate",
            Self::Cap => "cap",
            Self::Logits => "logits",
            Self::Product => "product",
        }
    }
}

impl Graph {
    /// What each op is for.
    pub fn roles(&self) -> Vec<Role> {
        (0..self.ops.len()).map(|at| self.role(at)).collect()
    }

    fn role(&self, at: usize) -> Role {
        match &self.ops[at] {
            Op::Embed { .. } | Op::Lookup { .. } => Role::Embed,
            Op::Norm { .. } | Op::LayerNorm { .. } => Role::Norm,
            Op::MatMul { x, outs } => self.product(at, *x, outs),
            Op::Angles { .. } => Role::Angles,
            Op::Rope { .. } => Role::Rope,
            Op::Attend(_) => Role::Attention,
            Op::Cap { .. } => Role::Cap,
            Op::Route { .. } => Role::Route,
            Op::Experts(_) => Role::Experts,
            Op::Gather { .. } => Role::Gather,
            Op::Pool { .. } => Role::Pool,
            Op::Activate { .. } => Role::Activate,
        }
    }

    fn product(&self, at: usize, x: Input, outs: &[Out]) -> Role {
        match x {
            _ if outs.iter().any(|out| Some(out.y) == self.logits) => Role::Logits,
            Input::Gated { .. } | Input::Activated { .. } => Role::Down,
            Input::Plain(x) if self.is_attended(at, x) => Role::Output,
            _ => self.purpose(at, outs),
        }
    }

    /// Whether what op `at` finds in the buffer was written by attention.
    fn is_attended(&self, at: usize, buffer: Buffer) -> bool {
        let writer = self.ops[..at].iter().rfind(|op| op.touches().1.contains(&buffer));
        matches!(writer, Some(Op::Attend(_)))
    }

    /// What reads a product first: attention, possibly after norms and rope in place, a gate, or
    /// the choice of experts.
    fn purpose(&self, at: usize, outs: &[Out]) -> Role {
        let makes = |buffers: &[Buffer]| outs.iter().any(|out| buffers.contains(&out.y));
        for op in &self.ops[at + 1..] {
            match op {
                Op::Attend(Attend { q, k, v, .. }) if makes(&[*q, *k, *v]) => return Role::Qkv,
                Op::MatMul { x: Input::Gated { gate, up, .. }, .. } if makes(&[*gate, *up]) => {
                    return Role::GateUp;
                }
                Op::MatMul { x: Input::Activated { x, .. }, .. } if makes(&[*x]) => {
                    return Role::GateUp;
                }
                Op::Route { logits, .. } if makes(&[*logits]) => return Role::Router,
                Op::MatMul { outs: later, .. } if later.iter().any(|out| makes(&[out.y])) => break,
                _ => {}
            }
        }
        Role::Product
    }
}
