//! The CPU backend. A step is one job of the pool: every thread walks the same ops and takes parts
//! of each from a counter; stages of ops that touch each other's data are parted by barriers.
//!
//! `submit` computes before it returns: the calling thread is one of the team.

mod acts;
mod adapters;
#[cfg(target_arch = "aarch64")]
mod arm;
mod attend;
mod blocks;
mod body;
mod buffers;
mod forecast;
pub mod kernels;
pub mod machine;
mod narrow;
mod pack;
mod paged;
pub mod pool;
mod prepare;
mod product;
mod reference;
mod run;
mod scales;
mod simd;
mod stored;
mod whole;
#[cfg(target_arch = "x86_64")]
mod x86;

use crate::{
    Adapter, BLOCK_TOKENS, Backend, Batch, Buffer, Bytes, Cache, Counts, Delta, Experts, Format,
    Graph, KvType, Op, Pages, Refusal, Rows, Shapes, Ticket, Weight, WeightShape,
};
use acts::Acts;
use adapters::{Deltas, LowRank};
use buffers::Activations;
pub use forecast::Forecast;
use kernels::Kernels;
use pack::{Lanes, Line, Packed};
use paged::LayerCache;
use pool::Pool;
pub use run::OpTime;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Signed bytes that a quantised activation is kept in. A product of the integer kernels costs as
/// many byte products.
pub const ACTIVATION_BYTES: usize = 2;

/// A matrix of the model file, repacked if kernels multiply by it.
#[derive(Debug)]
struct Matrix {
    format: Format,
    rows: usize,
    cols: usize,
    bytes: Bytes,
    packed: Option<Packed>,
    /// Vectors are unpacked when they are taken.
    floats: Vec<f32>,
}

/// Parts of an op that were taken, and those that are done.
#[derive(Debug, Default)]
struct Counter {
    taken: AtomicUsize,
    done: AtomicUsize,
}

/// One thread's own scratch.
#[derive(Debug, Default)]
struct Scratch {
    acts: Acts,
    floats: Vec<f32>,
    /// What an expert's gate and what it gates have in a part.
    gates: Vec<f32>,
    /// The rows that chose an expert, side by side.
    picked: Acts,
    tile: Vec<Lanes>,
    /// Rows between an adapter's products.
    low: Vec<f32>,
}

/// Runs graphs on the machine's cores.
#[derive(Debug)]
pub struct Cpu {
    kernels: &'static Kernels,
    kv: KvType,
    /// Whether products take 8 bits of activations where they can.
    high: bool,
    pool: Arc<Pool>,
    weights: Vec<Matrix>,
    buffers: Vec<Activations>,
    caches: Vec<LayerCache>,
    stages: Vec<Range<usize>>,
    /// Of each op: for what it does one after another, and for the turn that it begins.
    counters: Vec<Counter>,
    acts: Acts,
    /// What is between the two products of a mixture of experts: a row for each pair of a token and
    /// one of its experts.
    between: Acts,
    /// Partial rows of attention, where segments are parts.
    partials: Vec<f32>,
    /// By number.
    adapters: BTreeMap<u64, Deltas>,
    adapters_taken: u64,
    /// Rows between an adapter's products.
    low: Vec<f32>,
    scratch: Vec<Mutex<Scratch>>,
    /// The last step's logits, and their rows.
    logits: Option<(Ticket, Buffer, usize)>,
    tickets: u64,
}

impl Cpu {
    /// A backend of `threads` threads with one row of the kernel table.
    pub fn new(kernels: &'static Kernels, threads: usize) -> Self {
        Self::with_pool(kernels, Arc::new(Pool::new(threads)))
    }

    /// Another backend on the same threads, for another model: one of the two runs at a time.
    pub fn beside(&self) -> Self {
        Self::with_pool(self.kernels, Arc::clone(&self.pool)).with_kv(self.kv)
    }

    fn with_pool(kernels: &'static Kernels, pool: Arc<Pool>) -> Self {
        Self {
            kernels,
            kv: kernels.kv,
            high: false,
            scratch: (0..pool.threads()).map(|_| Mutex::default()).collect(),
            pool,
            weights: Vec::new(),
            buffers: Vec::new(),
            caches: Vec::new(),
            stages: Vec::new(),
            counters: Vec::new(),
            acts: Acts::default(),
            between: Acts::default(),
            partials: Vec::new(),
            adapters: BTreeMap::new(),
            adapters_taken: 0,
            low: Vec::new(),
            logits: None,
            tickets: 0,
        }
    }

    /// Keeps keys and values as this type, instead of the kernel row's own. To be said before the
    /// caches are made.
    pub fn with_kv(self, kv: KvType) -> Self {
        assert!(self.caches.is_empty(), "caches of two types; this is a bug");
        Self { kv, ..self }
    }

    /// Multiplies weights of 8 bits by activations of 8 bits instead of 16, which costs half: for
    /// models whose answers bear it.
    pub fn with_bytes(self) -> Self {
        Self { high: true, ..self }
    }

    /// How keys and values are kept.
    pub fn kv(&self) -> KvType {
        self.kv
    }

    /// Threads that compute, the caller's among them.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// The kernel row in use.
    pub fn kernels(&self) -> &'static Kernels {
        self.kernels
    }

    /// Repacks one matrix, all threads together.
    fn pack(&mut self, at: usize) -> Result<(), Refusal> {
        const GROUPS: usize = 16;
        let matrix = &self.weights[at];
        let shape = (matrix.format, matrix.rows, matrix.cols);
        let Some(mut packed) = Packed::new(shape.0, shape.1, shape.2)? else {
            return Ok(()); // columns that are no whole blocks: the reference multiplies by it
        };
        let mut scales = packed.scales.chunks_mut((packed.group_scales * GROUPS).max(1));
        let parts: Vec<Mutex<(&mut [Line], &mut [u8])>> = packed
            .lines
            .chunks_mut(packed.group_lines * GROUPS)
            .map(|lines| Mutex::new((lines, scales.next().unwrap_or_default())))
            .collect();
        let next = AtomicUsize::new(0);
        self.pool.share(&|_| {
            loop {
                let part = next.fetch_add(1, Ordering::Relaxed);
                let Some(cell) = parts.get(part) else { return };
                let mut cell = cell.lock().expect("each part is taken once");
                let (lines, scales) = &mut *cell;
                pack::fill(shape, &matrix.bytes, part * GROUPS, lines, scales);
            }
        });
        drop(parts);
        self.weights[at].packed = Some(packed);
        Ok(())
    }

    /// Makes what steps will read as it is stored, if it has to be made: no step waits for it.
    fn make_rest(&self) {
        let unpacked = |it: &&Matrix| it.packed.is_none() && it.floats.is_empty();
        for matrix in self.weights.iter().filter(unpacked).filter(|it| it.bytes.is_made()) {
            let _ = matrix.bytes.first();
        }
    }

    /// Runs a step with a clock beside each op, which costs a little; its logits cannot be polled.
    pub fn profile(&mut self, graph: &Graph, batch: &Batch) -> Vec<OpTime> {
        let samples = self.ready(graph, batch);
        self.logits = None;
        run::profile(self, graph, batch, samples)
    }

    /// How large everything is that graphs refer to.
    pub fn shapes(&self) -> Shapes {
        let packed = |packed: &Packed| size_of_val(&*packed.lines) + size_of_val(&*packed.scales);
        let weights = self.weights.iter().map(|matrix| WeightShape {
            format: matrix.format,
            rows: matrix.rows,
            cols: matrix.cols,
            bytes: matrix.bytes.len(),
            held: matrix.packed.as_ref().map_or(matrix.bytes.len(), packed),
        });
        let buffers = self.buffers.iter().map(|buffer| (buffer.rows, buffer.width));
        Shapes { weights: weights.collect(), buffers: buffers.collect(), kv: self.kv }
    }

    /// Makes a step possible: room for its rows, counters at 0. Returns its sampled rows.
    fn ready(&mut self, graph: &Graph, batch: &Batch) -> Vec<usize> {
        let samples = batch.samples();
        self.reserve(graph, batch, batch.counts());
        self.counters.fill_with(Counter::default);
        samples
    }

    /// Makes room for a step's rows.
    fn reserve(&mut self, graph: &Graph, batch: &Batch, counts: Counts) {
        let threads = self.threads();
        for buffer in &mut self.buffers {
            buffer.reserve(buffer.rows_of(counts));
        }
        let widest = graph.ops.iter().filter_map(|op| match op {
            Op::MatMul { x, .. } | Op::Experts(Experts { x, .. }) => {
                Some(self.buffers[run::width_of(*x).0 as usize].width)
            }
            _ => None,
        });
        let most = counts.tokens.max(counts.samples).max(counts.spans);
        self.acts.reserve(most, widest.max().unwrap_or(0));
        let between = graph.ops.iter().filter_map(|op| run::between(batch, op));
        let (pairs, hidden) = between.fold((0, 0), |(a, b), (c, d)| (a.max(c), b.max(d)));
        self.between.reserve(pairs, hidden);
        let partials = graph.ops.iter().map(|op| run::partials(batch, op, threads)).max();
        self.partials.resize(self.partials.len().max(partials.unwrap_or(0)), 0.0);
        let low = most * run::low_floats(self, graph, batch).1;
        self.low.resize(self.low.len().max(low), 0.0);
    }
}

/// Zeroed memory, untouched until it is used. The system is asked first, since it may refuse.
fn zeroed<T: Clone>(zero: T, len: usize) -> Result<Vec<T>, Refusal> {
    drop(capacity::<T>(len)?);
    Ok(vec![zero; len])
}

/// Zeroed memory on huge pages where it is large: a step reads all weights, and would miss the TLB
/// at every 4 kB.
fn zeroed_huge<T: Clone>(zero: T, len: usize) -> Result<Vec<T>, Refusal> {
    let mut memory = capacity(len)?;
    huge(memory.spare_capacity_mut());
    memory.resize(len, zero);
    Ok(memory)
}

fn capacity<T>(len: usize) -> Result<Vec<T>, Refusal> {
    let mut memory = Vec::new();
    match memory.try_reserve_exact(len) {
        Ok(()) => Ok(memory),
        Err(_) => Err(Refusal::OutOfMemory { bytes: len.saturating_mul(size_of::<T>()) }),
    }
}

#[cfg(target_os = "linux")]
fn huge<T>(memory: &mut [T]) {
    const PAGE: usize = 4096;
    const WORTH: usize = 4 << 20;
    if size_of_val(memory) < WORTH {
        return;
    }
    let start = memory.as_mut_ptr().addr().next_multiple_of(PAGE);
    let end = (memory.as_mut_ptr().addr() + size_of_val(memory)) / PAGE * PAGE;
    // SAFETY: whole pages of memory that we hold; the advice changes no content, and where it is
    // not followed nothing is lost.
    unsafe {
        libc::madvise(std::ptr::without_provenance_mut(start), end - start, libc::MADV_HUGEPAGE);
    }
}

#[cfg(not(target_os = "linux"))]
fn huge<T>(_: &mut [T]) {}

impl Backend for Cpu {
    fn weight(
        &mut self,
        format: Format,
        rows: usize,
        cols: usize,
        bytes: Bytes,
    ) -> Result<Weight, Refusal> {
        let whole = format.row_bytes(cols).and_then(|row| row.checked_mul(rows));
        if whole != Some(bytes.len()) || rows == 0 || cols == 0 {
            return Err(Refusal::WrongSize { format, rows, cols, bytes: bytes.len() });
        }
        let mut floats = Vec::new();
        if rows == 1 {
            floats = zeroed(0.0, cols)?;
            format.unpack(&bytes, &mut floats);
        }
        self.weights.push(Matrix { format, rows, cols, bytes, packed: None, floats });
        Ok(Weight(self.weights.len() as u32 - 1))
    }

    fn alloc(&mut self, rows: Rows, width: usize) -> Buffer {
        self.buffers.push(Activations::new(rows, width));
        Buffer(self.buffers.len() as u32 - 1)
    }

    fn cache(&mut self, heads: usize, dim: usize) -> Cache {
        self.caches.push(LayerCache::new(self.kv, heads, dim));
        Cache(self.caches.len() as u32 - 1)
    }

    fn prepare(
        &mut self,
        graph: &Graph,
        pages: Pages,
        progress: &mut dyn FnMut(f32),
    ) -> Result<(), Refusal> {
        assert_eq!(pages.block_tokens, BLOCK_TOKENS, "the kernels know one block size");
        run::check(self, graph);
        self.stages = run::stages(graph);
        for (at, buffer) in self.buffers.iter_mut().enumerate() {
            // Logits are handed out as they stand.
            if graph.logits != Some(Buffer(at as u32)) {
                buffer.stride = Activations::apart(buffer.width);
            }
        }
        self.counters = (0..run::COUNTERS * graph.ops.len()).map(|_| Counter::default()).collect();
        for cache in &mut self.caches {
            cache.allot(pages.blocks)?;
        }
        if self.kernels.product.is_none() {
            self.make_rest();
            return Ok(());
        }
        let mut multiplied: Vec<usize> = graph.ops.iter().flat_map(run::multiplied).collect();
        multiplied.sort_unstable();
        multiplied.dedup();
        let total: usize = multiplied.iter().map(|&at| self.weights[at].bytes.len()).sum();
        let mut done = 0;
        let tables = graph.ops.iter().filter_map(|op| match op {
            Op::Embed { table, .. } => Some(table.0 as usize),
            _ => None,
        });
        let tables: Vec<usize> = tables.collect();
        for at in multiplied {
            self.pack(at)?;
            let Matrix { bytes, packed, .. } = &mut self.weights[at];
            // Rows of a table are read in every step: what was made of a file is kept for them.
            if packed.is_some() && !(bytes.is_made() && tables.contains(&at)) {
                bytes.release();
            }
            done += self.weights[at].bytes.len();
            progress(done as f32 / total as f32);
        }
        self.make_rest();
        Ok(())
    }

    fn adapt(&mut self, deltas: &[Delta]) -> Result<Adapter, Refusal> {
        self.take_adapter(deltas)
    }

    fn release(&mut self, adapter: Adapter) {
        self.adapters.remove(&adapter.0);
    }

    fn submit(&mut self, graph: &Graph, batch: &Batch) -> Ticket {
        let samples = self.ready(graph, batch);
        let logits = graph.logits.expect("a graph is for its logits; this is a bug");
        let ticket = Ticket(self.tickets);
        self.tickets += 1;
        let rows = self.buffers[logits.0 as usize].rows_of(batch.counts());
        run::step(self, graph, batch, samples);
        self.logits = Some((ticket, logits, rows));
        ticket
    }

    fn poll(&mut self, ticket: Ticket) -> Option<&[f32]> {
        let (_, buffer, rows) = self.logits.take_if(|(at, ..)| *at == ticket)?;
        Some(self.buffers[buffer.0 as usize].floats(rows))
    }

    fn block_bytes(&self) -> usize {
        self.bytes_of_block()
    }

    fn save(&self, block: u32, out: &mut Vec<u8>) {
        self.save_block(block, out);
    }

    fn restore(&mut self, block: u32, bytes: &[u8]) {
        self.restore_block(block, bytes);
    }
}
