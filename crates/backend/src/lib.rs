//! Where numbers live and how they are computed. A model records a [`Graph`] once, as plain data;
//! each step brings a [`Batch`], also plain data; a [`Backend`] runs the one over the other. A new
//! op is one variant, and the compiler then names every backend that lacks it.
//!
//! No request, model name or text is known here, and nothing outside this crate is `unsafe`.
#![allow(unsafe_code)]

pub mod bytes;
pub mod clock;
pub mod cpu;
pub mod formats;
pub mod graph;
mod kv;

pub use bytes::{Bytes, Make};
pub use formats::Format;
pub use graph::{
    Activation, Adapter, Applied, Attend, Batch, Buffer, Cache, Cost, Counts, Delta, Experts,
    Graph, Index, Input, Mixing, Op, Out, Pairing, Pooling, Role, Rows, Sample, Shapes, Span,
    Stack, Weight, WeightShape,
};
pub use kv::{KV_GROUP, KvType};

/// A step that was submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(pub u64);

/// Why a backend cannot hold a model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The memory cannot be had.
    #[error("not enough memory: {bytes} bytes were refused; try a smaller --context or model")]
    OutOfMemory {
        /// How much was asked for.
        bytes: usize,
    },
    /// A weight's bytes are not what its shape and format need.
    #[error("a {format:?} weight of {rows} rows of {cols} cannot be {bytes} bytes")]
    WrongSize {
        /// The weight's format.
        format: Format,
        /// Its rows.
        rows: usize,
        /// Its columns.
        cols: usize,
        /// The bytes that were given.
        bytes: usize,
    },
}

/// The paged KV cache's size: every layer's cache has `blocks` blocks of `block_tokens` tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pages {
    /// Tokens per block. [`BLOCK_TOKENS`] is the one size that the CPU kernels take.
    pub block_tokens: usize,
    /// Blocks in all.
    pub blocks: usize,
}

/// Tokens per KV block: as many as an AVX-512 register has floats, so that a block of keys,
/// stored dimension by dimension, is scored 16 tokens at a time without horizontal sums.
pub const BLOCK_TOKENS: usize = 16;

/// A device that runs graphs.
pub trait Backend: Send {
    /// Takes a matrix `[rows, cols]` of a model file, or a vector as one row.
    fn weight(
        &mut self,
        format: Format,
        rows: usize,
        cols: usize,
        bytes: Bytes,
    ) -> Result<Weight, Refusal>;

    /// Activations `[rows, width]` of f32.
    fn alloc(&mut self, rows: Rows, width: usize) -> Buffer;

    /// One layer's keys and values, `heads × dim` floats each per token.
    fn cache(&mut self, heads: usize, dim: usize) -> Cache;

    /// Makes ready to run `graph`: repacks weights, allocates the KV cache. `progress` is called
    /// with the share done, 0 to 1.
    fn prepare(
        &mut self,
        graph: &Graph,
        pages: Pages,
        progress: &mut dyn FnMut(f32),
    ) -> Result<(), Refusal>;

    /// Takes an adapter in, after [`Backend::prepare`]: spans may name it from then on. At most one
    /// delta a matrix, and of matrices that the graph multiplies by, no stacks of experts among
    /// them.
    fn adapt(&mut self, deltas: &[Delta]) -> Result<Adapter, Refusal>;

    /// Drops an adapter, which no span names any more.
    fn release(&mut self, adapter: Adapter);

    /// Starts a step. What it computes can be read by [`Backend::poll`].
    fn submit(&mut self, graph: &Graph, batch: &Batch) -> Ticket;

    /// The rows of `graph.logits` that the batch has, or `None` while the step runs. Never
    /// blocks: a browser cannot wait.
    fn poll(&mut self, ticket: Ticket) -> Option<&[f32]>;

    /// Bytes of one KV block over all layers, as [`Backend::save`] writes it.
    fn block_bytes(&self) -> usize;

    /// Appends the keys and values of a KV block, which no step is writing. Their layout is the
    /// backend's own: what is saved is for the same backend, settings and graph.
    fn save(&self, block: u32, out: &mut Vec<u8>);

    /// Overwrites a KV block that no step is using with what [`Backend::save`] wrote.
    ///
    /// # Panics
    /// Where there are not [`Backend::block_bytes`] of it.
    fn restore(&mut self, block: u32, bytes: &[u8]);
}
