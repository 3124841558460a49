//! One step over the threads of the pool. Which part of an op a thread takes is left to a counter;
//! what a part computes never depends on who takes it, or on what else is in the batch.

mod adapt;
mod attend;
mod experts;
mod pool;
mod product;
mod profile;
mod turns;

pub(super) use adapt::low_floats;
pub(super) use attend::partials;
pub(super) use experts::between;
pub use profile::OpTime;
pub(super) use profile::profile;

use super::acts::View;
use super::pool::Member;
use super::{Counter, Cpu, Matrix, Scratch, reference};
use crate::{Batch, Buffer, Graph, Input, Op, Pairing, Rows, Weight};
use adapt::Working;
use attend::{Kind, Tile};
use std::ops::Range;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use turns::Turn;

/// Floats that a part of [`Op::Cap`] takes: a row of logits is shared by all threads.
const CAP_FLOATS: usize = 1 << 14;

fn cap_pieces(width: usize) -> usize {
    width.div_ceil(CAP_FLOATS)
}

/// Floats that a part of an op that goes row by row takes, beside which it costs little that
/// threads take turns: 1.9 µs of a norm on a core of a Zen 4 (of Gemma 3's prefill in `ingle
/// inspect`).
const ROW_FLOATS: usize = 1 << 12;

/// Rows that a part takes, and how many parts there are, of an op that goes row by row.
fn row_parts(rows: usize, width: usize) -> (usize, usize) {
    let each = (ROW_FLOATS / width.max(1)).max(1);
    (each, rows.div_ceil(each))
}

/// Counters of an op.
pub(super) const COUNTERS: usize = 4;

/// The buffer that an input is as wide as.
pub(super) fn width_of(x: Input) -> Buffer {
    match x {
        Input::Plain(x) | Input::Normed { x, .. } | Input::Activated { x, .. } => x,
        Input::Gated { gate, .. } => gate,
    }
}

/// The matrices that an op multiplies by.
pub(super) fn multiplied(op: &Op) -> Vec<usize> {
    op.multiplies_by().iter().map(|w| w.0 as usize).collect()
}

/// The graph's stages, each with at most one product: products share the quantised activations.
pub(super) fn stages(graph: &Graph) -> Vec<Range<usize>> {
    let mut parted = Vec::new();
    for stage in graph.stages() {
        let (mut start, mut products) = (stage.start, 0);
        for at in stage.clone() {
            products += usize::from(!graph.ops[at].multiplies_by().is_empty());
            if products > 1 {
                parted.push(start..at);
                (start, products) = (at, 1);
            }
        }
        parted.push(start..stage.end);
    }
    parted
}

/// Every shape that the unsafe code below relies on. Wrong ones are a bug of the architecture.
pub(super) fn check(cpu: &Cpu, graph: &Graph) {
    let width = |b: Buffer| cpu.buffers[b.0 as usize].width;
    let rows = |b: Buffer| cpu.buffers[b.0 as usize].rows;
    let matrix = |w: Weight| &cpu.weights[w.0 as usize];
    for op in &graph.ops {
        match op {
            Op::Embed { table, y, .. } => assert_eq!(matrix(*table).cols, width(*y)),
            Op::Lookup { table, y, .. } => {
                assert_eq!((matrix(*table).cols, Rows::Tokens), (width(*y), rows(*y)));
            }
            Op::LayerNorm { x, gain, bias, y, .. } => {
                assert_eq!((width(*x), rows(*x)), (width(*y), rows(*y)));
                let floats = |w: Weight| matrix(w).floats.len();
                assert_eq!(floats(*gain), width(*x));
                assert!(bias.is_none_or(|bias| floats(bias) == width(*x)));
            }
            Op::Pool { x, y, .. } => {
                assert_eq!((width(*x), rows(*x)), (width(*y), Rows::Tokens));
                assert_eq!(rows(*y), Rows::Spans);
            }
            Op::Norm { x, gain, y, .. } => {
                assert_eq!((width(*x), rows(*x)), (width(*y), rows(*y)));
                assert!(width(*x).is_multiple_of(matrix(*gain).floats.len()));
            }
            Op::MatMul { x, outs } => {
                let (n, kind) = (width(width_of(*x)), rows(width_of(*x)));
                match *x {
                    Input::Plain(_) | Input::Activated { .. } => {}
                    Input::Normed { gain, .. } => assert_eq!(matrix(gain).floats.len(), n),
                    Input::Gated { up, .. } => assert_eq!((width(up), rows(up)), (n, kind)),
                }
                for out in outs {
                    let w = matrix(out.w);
                    assert_eq!((w.cols, w.rows, kind), (n, width(out.y), rows(out.y)));
                    assert!(out.bias.is_none_or(|b| matrix(b).floats.len() == w.rows));
                }
            }
            Op::Angles { freqs, y, .. } => assert_eq!(2 * freqs.len(), width(*y)),
            Op::Rope { x, angles, dim, .. } => {
                assert!(width(*x).is_multiple_of(*dim) && width(*angles) <= *dim);
            }
            Op::Attend(a) => attend::check(cpu, a),
            Op::Route { logits, routes, .. } => {
                assert_eq!((rows(*logits), rows(*routes)), (Rows::Tokens, Rows::Tokens));
                assert!((1..=width(*logits)).contains(&(width(*routes) / 2)));
            }
            Op::Experts(e) => experts::check(cpu, e),
            Op::Activate { .. } => {}
            Op::Cap { cap, .. } => assert!(cap.is_finite() && *cap > 0.0),
            Op::Gather { x, y } => {
                assert_eq!((width(*x), rows(*x)), (width(*y), Rows::Tokens));
                assert_eq!(rows(*y), Rows::Samples);
            }
        }
    }
}

/// Memory that the threads share during a step. Ops of one stage write to different buffers, and
/// parts of one op to different places in them: see [`Graph::stages`] and the ops below.
#[derive(Clone, Copy, Debug)]
struct Mem {
    ptr: *mut f32,
    width: usize,
    /// Floats from one row to the next.
    stride: usize,
    rows: usize,
}

impl Mem {
    fn row(&self, row: usize) -> *mut f32 {
        assert!(row < self.rows, "row {row} of {}; this is a bug", self.rows);
        // SAFETY: within the buffer, which has `rows · stride` floats.
        unsafe { self.ptr.add(row * self.stride) }
    }

    /// The first of some rows.
    fn rows(&self, rows: &Range<usize>) -> *mut f32 {
        assert!(rows.end <= self.rows, "rows {rows:?} of {}; this is a bug", self.rows);
        self.row(rows.start)
    }

    /// # Safety
    /// No thread writes to the row meanwhile.
    unsafe fn read(&self, row: usize) -> &[f32] {
        // SAFETY: the row lies within the buffer; the caller's promise.
        unsafe { std::slice::from_raw_parts(self.row(row), self.width) }
    }

    /// # Safety
    /// No other thread touches the row meanwhile.
    #[allow(clippy::mut_from_ref, reason = "shared memory; the promise is the caller's")]
    unsafe fn write(&self, row: usize) -> &mut [f32] {
        // SAFETY: the row lies within the buffer; the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.row(row), self.width) }
    }
}

/// Where segments of attention leave their partial rows.
#[derive(Clone, Copy, Debug)]
struct Partials(*mut f32);

/// A step, as every thread sees it.
struct Step<'a> {
    cpu: &'a Cpu,
    graph: &'a Graph,
    batch: &'a Batch,
    samples: Vec<usize>,
    /// For every row: its token and position.
    places: Vec<(u32, usize)>,
    /// For every row: its span.
    span_of: Vec<usize>,
    mem: Vec<Mem>,
    /// Each cache's first block, and its bytes.
    caches: Vec<(*mut u8, usize)>,
    acts: View,
    /// What is between the two products of a mixture of experts.
    between: View,
    partials: Partials,
    /// Each span's adapters.
    working: Vec<Vec<Working<'a>>>,
    /// Of one output and of all of an op: see [`adapt::low_floats`].
    low_floats: (usize, usize),
    low_rows: *mut f32,
    /// For each kind of attention: what it is cut into.
    tiles: Vec<(Kind, Vec<Tile>)>,
    turns: Vec<Turn>,
}
// SAFETY: the pointers are to memory that `step` holds exclusively while the pool runs; who writes
// what is said at `Mem`.
unsafe impl Sync for Step<'_> {}

/// How a thread goes through a step.
type Walk<'a> = &'a (dyn Fn(&Step<'_>, Member<'_>) + Sync);

/// Runs the whole graph.
pub(super) fn step(cpu: &mut Cpu, graph: &Graph, batch: &Batch, samples: Vec<usize>) {
    step_by(cpu, graph, batch, samples, &|step, member| step.walk(member));
}

/// Lays a step out and sends every thread through it.
fn step_by(cpu: &mut Cpu, graph: &Graph, batch: &Batch, samples: Vec<usize>, walk: Walk<'_>) {
    let counts = batch.counts();
    let mem = cpu.buffers.iter_mut().map(|buffer| Mem {
        ptr: buffer.as_mut_ptr(),
        width: buffer.width,
        stride: buffer.stride,
        rows: buffer.rows_of(counts),
    });
    let mem = mem.collect();
    let caches = cpu.caches.iter_mut().map(|cache| cache.blocks()).collect();
    let (acts, between) = (cpu.acts.view(0, 0), cpu.between.view(0, 0));
    let partials = Partials(cpu.partials.as_mut_ptr());
    let low_rows = cpu.low.as_mut_ptr();
    let cpu = &*cpu;
    let place = |span: &crate::Span| {
        let start = span.start;
        span.tokens.iter().enumerate().map(move |(i, t)| (*t, start + i)).collect::<Vec<_>>()
    };
    let places = batch.spans.iter().flat_map(place).collect();
    let spans = batch.spans.iter().enumerate();
    let span_of = spans.flat_map(|(i, span)| std::iter::repeat_n(i, span.tokens.len())).collect();
    let tiles = attend::all_tiles(graph, batch);
    let mut step = Step {
        cpu,
        graph,
        batch,
        samples,
        places,
        span_of,
        mem,
        caches,
        acts,
        between,
        partials,
        working: batch.spans.iter().map(|span| adapt::working(cpu, span)).collect(),
        low_floats: low_floats(cpu, graph, batch),
        low_rows,
        tiles,
        turns: Vec::new(),
    };
    step.turns = turns::turns(&cpu.stages, |at| step.alone(graph, at));
    cpu.pool.share(&|member| walk(&step, member));
}

impl Step<'_> {
    fn walk(&self, member: Member<'_>) {
        let scratch = &self.cpu.scratch[member.index];
        let mut scratch = scratch.lock().unwrap_or_else(PoisonError::into_inner);
        for Turn { ops, alone } in &self.turns {
            if *alone {
                self.turn_alone(ops.clone(), member, &mut scratch);
                continue;
            }
            for at in ops.clone() {
                self.op(at, member, &mut scratch);
            }
            self.settle(ops.clone(), member);
        }
    }

    /// Returns when the ops are done; what they wrote can be read then.
    fn settle(&self, ops: Range<usize>, member: Member<'_>) {
        for at in ops {
            let (half, parts) = self.last(at, member.threads());
            self.settle_half(at, half, parts, member);
        }
    }

    fn settle_half(&self, at: usize, half: usize, parts: usize, member: Member<'_>) {
        let done = &self.counter(at, half).done;
        member.wait_until(|| done.load(Ordering::Acquire) >= parts);
    }

    /// An op's last half, and how many parts it has.
    fn last(&self, at: usize, threads: usize) -> (usize, usize) {
        match &self.graph.ops[at] {
            Op::MatMul { x, outs } => (1, self.cut(*x, outs, threads).parts()),
            Op::Attend(a) => self.last_of_attend(a, threads),
            Op::Experts(e) => self.last_of_experts(e, threads),
            Op::Cap { y, .. } => (0, self.mem(*y).rows * cap_pieces(self.mem(*y).width)),
            Op::Norm { x: row, .. }
            | Op::LayerNorm { x: row, .. }
            | Op::Lookup { y: row, .. }
            | Op::Pool { y: row, .. }
            | Op::Activate { y: row, .. }
            | Op::Rope { x: row, .. }
            | Op::Embed { y: row, .. }
            | Op::Angles { y: row, .. }
            | Op::Route { logits: row, .. }
            | Op::Gather { y: row, .. } => {
                let (rows, width) = self.size(*row);
                (0, row_parts(rows, width).1)
            }
        }
    }

    /// The counter of what an op does first, second or third, or of the turn that it begins.
    fn counter(&self, at: usize, which: usize) -> &Counter {
        &self.cpu.counters[COUNTERS * at + which]
    }

    fn mem(&self, buffer: Buffer) -> &Mem {
        &self.mem[buffer.0 as usize]
    }

    /// A buffer's rows and width.
    fn size(&self, buffer: Buffer) -> (usize, usize) {
        (self.mem(buffer).rows, self.mem(buffer).width)
    }

    fn weight(&self, weight: Weight) -> &Matrix {
        &self.cpu.weights[weight.0 as usize]
    }

    /// Takes parts `0..parts` of the op's first or second half until none is left. A part that was
    /// taken keeps what it reads as it is: nobody goes on before it is done.
    fn parts(
        &self,
        at: usize,
        half: usize,
        parts: usize,
        member: Member<'_>,
        mut each: impl FnMut(usize),
    ) {
        let counter = self.counter(at, half);
        while counter.taken.load(Ordering::Relaxed) < parts {
            let part = counter.taken.fetch_add(1, Ordering::Relaxed);
            if part < parts {
                each(part);
                if counter.done.fetch_add(1, Ordering::AcqRel) + 1 == parts {
                    member.announce();
                }
            }
        }
    }

    /// Takes parts of as many rows as there are of this width, some at a time.
    fn rows(
        &self,
        at: usize,
        (rows, width): (usize, usize),
        member: Member<'_>,
        mut each: impl FnMut(usize),
    ) {
        let (of_part, parts) = row_parts(rows, width);
        self.parts(at, 0, parts, member, |part| {
            (part * of_part..rows.min((part + 1) * of_part)).for_each(&mut each);
        });
    }

    /// One op, this thread's share. Each part writes its own row (or rows, or heads).
    fn op(&self, at: usize, member: Member<'_>, scratch: &mut Scratch) {
        match &self.graph.ops[at] {
            Op::Embed { table, y, scale } => self.rows(at, self.size(*y), member, |row| {
                let table = self.weight(*table);
                // SAFETY: this part's own row.
                let y = unsafe { self.mem(*y).write(row) };
                reference::unpack_row(table.format, &table.bytes, self.places[row].0 as usize, y);
                y.iter_mut().for_each(|v| *v *= scale);
            }),
            Op::Lookup { .. } | Op::LayerNorm { .. } | Op::Activate { .. } | Op::Pool { .. } => {
                self.encode(at, member, scratch);
            }
            Op::Norm { x, gain, y, eps, add } => {
                let gain = &self.weight(*gain).floats;
                self.rows(at, self.size(*x), member, |row| {
                    let (x, y) = (self.mem(*x).row(row), self.mem(*y).row(row));
                    for from in (0..self.mem_width(at)).step_by(gain.len()) {
                        // SAFETY: this part's own row; the kernel row runs here.
                        unsafe {
                            (self.cpu.kernels.norm)(x.add(from), gain, *eps, y.add(from), *add);
                        }
                    }
                });
            }
            Op::MatMul { x, outs } => self.product(at, *x, outs, member, scratch),
            Op::Angles { freqs, y, scale } => self.rows(at, self.size(*y), member, |row| {
                // SAFETY: this part's own row.
                let y = unsafe { self.mem(*y).write(row) };
                angles(freqs, self.places[row].1, *scale, y);
            }),
            Op::Rope { x, angles, dim, pairing } => {
                self.rows(at, self.size(*x), member, |row| {
                    // SAFETY: this part's own row; the angles are of an earlier stage.
                    let (x, angles) =
                        unsafe { (self.mem(*x).write(row), self.mem(*angles).read(row)) };
                    x.chunks_exact_mut(*dim).for_each(|head| rotate(head, angles, *pairing));
                })
            }
            Op::Attend(attend) => self.attend(at, attend, member, scratch),
            Op::Route { logits, routes, mixing } => {
                self.route(at, (*logits, *routes, *mixing), member);
            }
            Op::Experts(experts) => self.experts(at, experts, member, scratch),
            Op::Cap { y, cap } => {
                let mem = self.mem(*y);
                let pieces = cap_pieces(mem.width);
                self.parts(at, 0, mem.rows * pieces, member, |part| {
                    let from = part % pieces * CAP_FLOATS;
                    let floats = CAP_FLOATS.min(mem.width - from);
                    // SAFETY: this part's own piece of a row; the kernel row runs here.
                    unsafe {
                        let y = mem.row(part / pieces).add(from);
                        (self.cpu.kernels.cap)(*cap, std::slice::from_raw_parts_mut(y, floats));
                    }
                });
            }
            Op::Gather { x, y } => self.rows(at, self.size(*y), member, |row| {
                // SAFETY: this part's own row; `x` is of an earlier stage.
                unsafe {
                    self.mem(*y).write(row).copy_from_slice(self.mem(*x).read(self.samples[row]))
                }
            }),
        }
    }

    /// The width of a [`Op::Norm`]'s rows.
    fn mem_width(&self, at: usize) -> usize {
        let Op::Norm { x, .. } = &self.graph.ops[at] else { unreachable!("asked of a norm") };
        self.mem(*x).width
    }
}

fn angles(freqs: &[f64], position: usize, scale: f32, y: &mut [f32]) {
    for (freq, y) in freqs.iter().zip(y.as_chunks_mut::<2>().0) {
        let (sin, cos) = (position as f64 * freq).sin_cos();
        *y = [cos as f32 * scale, sin as f32 * scale];
    }
}

fn rotate(head: &mut [f32], angles: &[f32], pairing: Pairing) {
    let pairs = angles.len() / 2;
    for (i, [cos, sin]) in angles.as_chunks::<2>().0.iter().enumerate() {
        let (a, b) = match pairing {
            Pairing::Adjacent => (2 * i, 2 * i + 1),
            Pairing::Halves => (i, i + pairs),
        };
        let (x, y) = (head[a], head[b]);
        (head[a], head[b]) = (x * cos - y * sin, x * sin + y * cos);
    }
}
