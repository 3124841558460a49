//! The matrices of a recorded model that adapters may add to, by the names that files give them:
//! those that rows are multiplied by, each of its parts where the graph has it in several.
//!
//! Absent: tables, and stacks of experts.

use ingle_backend::{Buffer, Graph, Op, Pairing, Weight};
use std::collections::BTreeMap;
use std::ops::Range;

/// A matrix, or rows of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The rows, as the backend knows them.
    pub w: Weight,
    /// Which of the file's matrix they are.
    pub rows: Range<usize>,
    /// Columns.
    pub cols: usize,
    /// Floats per head, where the file has the rows of heads in the order in which neighbours
    /// rotate together. Elsewhere than in GGUF files those rotate together that are half a head
    /// apart.
    pub interleaved: Option<usize>,
}

/// All of a model's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// The model's architecture, as its file names it.
    pub arch: String,
    /// By the tensor's name without `.weight`, in the order of their rows.
    pub of: BTreeMap<String, Vec<Target>>,
}

/// What the backend was given: its tensor's name, and its shape.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) name: String,
    pub(super) w: Weight,
    pub(super) rows: usize,
    pub(super) cols: usize,
}

impl Targets {
    /// Those among what was taken that the graph multiplies by.
    pub(super) fn of(arch: &str, graph: &Graph, taken: &[Taken]) -> Self {
        let heads: BTreeMap<Buffer, usize> = graph.ops.iter().filter_map(adjacent).collect();
        let outs = graph.ops.iter().filter_map(|op| match op {
            Op::MatMul { outs, .. } => Some(outs),
            _ => None,
        });
        let multiplied: BTreeMap<Weight, Option<usize>> =
            outs.flatten().map(|out| (out.w, heads.get(&out.y).copied())).collect();
        let mut of = BTreeMap::<String, Vec<Target>>::new();
        for Taken { name, w, rows, cols } in taken {
            let Some(&interleaved) = multiplied.get(w) else { continue };
            let Some(name) = name.strip_suffix(".weight") else { continue };
            // Where the embeddings are multiplied by, it is for the logits.
            let name = if name == "token_embd" { "output" } else { name };
            let parts = of.entry(name.to_owned()).or_default();
            let first = parts.last().map_or(0, |part| part.rows.end);
            parts.push(Target { w: *w, rows: first..first + rows, cols: *cols, interleaved });
        }
        Self { arch: arch.to_owned(), of }
    }
}

/// A buffer whose neighbours rotate together, and the floats of its heads.
fn adjacent(op: &Op) -> Option<(Buffer, usize)> {
    match op {
        Op::Rope { x, dim, pairing: Pairing::Adjacent, .. } => Some((*x, *dim)),
        _ => None,
    }
}
