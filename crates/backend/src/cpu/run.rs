//! One step over the threads of the pool. Which part of an op a thread takes is left to a counter;
//! what a part computes never depends on who takes it, or on what else is in the batch.

mod profile;

pub use profile::OpTime;
pub(super) use profile::profile;

use super::body::{ActRow, Keys, Query, SEGMENT, merge, partial_floats};
use super::kernels::TILE;
use super::pack::{Acts, BLOCK, LANES};
use super::pool::Member;
use super::{Cpu, Matrix, Scratch, reference};
use crate::{Attend, BLOCK_TOKENS, Batch, Buffer, Graph, Input, Op, Out, Pairing, Rows, Weight};
use std::ops::Range;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

/// Up to so many rows every thread prepares a product's input for itself: cheaper than
/// waiting for each other.
const PRIVATE_ROWS: usize = 4;
/// Rows of activations that a part of a product takes at most: they stay in the L2 cache.
const PART_ROWS: usize = 64;

/// The buffer that an input is as wide as.
pub(super) fn width_of(x: Input) -> Buffer {
    match x {
        Input::Plain(x) | Input::Normed { x, .. } => x,
        Input::Gated { gate, .. } => gate,
    }
}

/// The matrices that an op multiplies by.
pub(super) fn multiplied(op: &Op) -> Vec<usize> {
    match op {
        Op::MatMul { outs, .. } => outs.iter().map(|out| out.w.0 as usize).collect(),
        _ => Vec::new(),
    }
}

/// The graph's stages, each with at most one product: products share the quantised activations.
pub(super) fn stages(graph: &Graph) -> Vec<Range<usize>> {
    let mut parted = Vec::new();
    for stage in graph.stages() {
        let (mut start, mut products) = (stage.start, 0);
        for at in stage.clone() {
            products += usize::from(matches!(graph.ops[at], Op::MatMul { .. }));
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
            Op::Norm { x, gain, y, .. } => {
                assert_eq!((width(*x), rows(*x)), (width(*y), rows(*y)));
                assert!(width(*x).is_multiple_of(matrix(*gain).floats.len()));
            }
            Op::MatMul { x, outs } => {
                let (n, kind) = (width(width_of(*x)), rows(width_of(*x)));
                match *x {
                    Input::Plain(_) => {}
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
            Op::Attend(a) => check_attend(cpu, a),
            Op::Gather { x, y } => {
                assert_eq!((width(*x), rows(*x)), (width(*y), Rows::Tokens));
                assert_eq!(rows(*y), Rows::Samples);
            }
        }
    }
}

fn check_attend(cpu: &Cpu, a: &Attend) {
    let width = |b: Buffer| cpu.buffers[b.0 as usize].width;
    let cache = &cpu.caches[a.cache.0 as usize];
    assert_eq!((cache.heads, cache.dim), (a.kv_heads, a.dim));
    assert_eq!((width(a.q), width(a.y)), (a.heads * a.dim, a.heads * a.dim));
    assert_eq!((width(a.k), width(a.v)), (a.kv_heads * a.dim, a.kv_heads * a.dim));
    assert!(a.heads.is_multiple_of(a.kv_heads) && a.window != Some(0));
    for b in [a.q, a.k, a.v, a.y] {
        assert_eq!(cpu.buffers[b.0 as usize].rows, Rows::Tokens);
    }
}

/// Memory that the threads share during a step. Ops of one stage write to different buffers, and
/// parts of one op to different places in them: see [`Graph::stages`] and the ops below.
#[derive(Clone, Copy, Debug)]
struct Mem {
    ptr: *mut f32,
    width: usize,
    rows: usize,
}

impl Mem {
    fn row(&self, row: usize) -> *mut f32 {
        assert!(row < self.rows, "row {row} of {}; this is a bug", self.rows);
        // SAFETY: within the buffer, which has `rows · width` floats.
        unsafe { self.ptr.add(row * self.width) }
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
    caches: Vec<(*mut f32, *mut f32)>,
    acts: View,
    partials: Partials,
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
    let (tokens, sampled) = (batch.tokens(), samples.len());
    let mem = cpu.buffers.iter_mut().map(|buffer| Mem {
        ptr: buffer.data.as_mut_ptr(),
        width: buffer.width,
        rows: if buffer.rows == Rows::Tokens { tokens } else { sampled },
    });
    let mem = mem.collect();
    let caches = cpu.caches.iter_mut().map(|c| (c.keys.as_mut_ptr(), c.values.as_mut_ptr()));
    let caches = caches.collect();
    let acts = View::of(&mut cpu.acts);
    let partials = Partials(cpu.partials.as_mut_ptr());
    let place = |span: &crate::Span| {
        let start = span.start;
        span.tokens.iter().enumerate().map(move |(i, t)| (*t, start + i)).collect::<Vec<_>>()
    };
    let places = batch.spans.iter().flat_map(place).collect();
    let spans = batch.spans.iter().enumerate();
    let span_of = spans.flat_map(|(i, span)| std::iter::repeat_n(i, span.tokens.len())).collect();
    let step = Step { cpu, graph, batch, samples, places, span_of, mem, caches, acts, partials };
    cpu.pool.share(&|member| walk(&step, member));
}

impl Step<'_> {
    fn walk(&self, member: Member<'_>) {
        let scratch = &self.cpu.scratch[member.index];
        let mut scratch = scratch.lock().unwrap_or_else(PoisonError::into_inner);
        for stage in &self.cpu.stages {
            for at in stage.clone() {
                self.op(at, member, &mut scratch);
            }
            self.settle(stage.clone(), member);
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
        let done = &self.cpu.counters[3 * at + half].done;
        member.wait_until(|| done.load(Ordering::Acquire) >= parts);
    }

    /// An op's last half, and how many parts it has.
    fn last(&self, at: usize, threads: usize) -> (usize, usize) {
        match &self.graph.ops[at] {
            Op::MatMul { x, outs } => (1, self.cut(*x, outs, threads).parts()),
            Op::Attend(a) => {
                let tiles = tiles(self.batch, a);
                let halved = segments(&tiles, a, threads).is_some();
                (if halved { 2 } else { 1 }, tiles.len())
            }
            Op::Norm { x, .. } => (0, self.mem(*x).rows),
            Op::Embed { .. } | Op::Angles { .. } | Op::Rope { .. } => (0, self.places.len()),
            Op::Gather { .. } => (0, self.samples.len()),
        }
    }

    fn cut(&self, x: Input, outs: &[Out], threads: usize) -> Cut {
        let rows = outs.iter().map(|out| self.weight(out.w).rows);
        Cut::of(self.mem(width_of(x)).rows, rows, threads)
    }

    fn mem(&self, buffer: Buffer) -> &Mem {
        &self.mem[buffer.0 as usize]
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
        let counter = &self.cpu.counters[3 * at + half];
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

    /// One op, this thread's share. Each part writes its own row (or rows, or heads).
    fn op(&self, at: usize, member: Member<'_>, scratch: &mut Scratch) {
        match &self.graph.ops[at] {
            Op::Embed { table, y, scale } => self.parts(at, 0, self.places.len(), member, |row| {
                let table = self.weight(*table);
                // SAFETY: this part's own row.
                let y = unsafe { self.mem(*y).write(row) };
                reference::unpack_row(table.format, &table.bytes, self.places[row].0 as usize, y);
                y.iter_mut().for_each(|v| *v *= scale);
            }),
            Op::Norm { x, gain, y, eps, add } => {
                let gain = &self.weight(*gain).floats;
                self.parts(at, 0, self.mem(*x).rows, member, |row| {
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
            Op::Angles { freqs, y, scale } => self.parts(at, 0, self.places.len(), member, |row| {
                // SAFETY: this part's own row.
                let y = unsafe { self.mem(*y).write(row) };
                angles(freqs, self.places[row].1, *scale, y);
            }),
            Op::Rope { x, angles, dim, pairing } => {
                self.parts(at, 0, self.places.len(), member, |row| {
                    // SAFETY: this part's own row; the angles are of an earlier stage.
                    let (x, angles) =
                        unsafe { (self.mem(*x).write(row), self.mem(*angles).read(row)) };
                    x.chunks_exact_mut(*dim).for_each(|head| rotate(head, angles, *pairing));
                })
            }
            Op::Attend(attend) => self.attend(at, attend, member, scratch),
            Op::Gather { x, y } => self.parts(at, 0, self.samples.len(), member, |row| {
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

    /// Writes one row of a product's input, as floats.
    fn input(&self, x: Input, row: usize, to: &mut [f32]) {
        let kernels = self.cpu.kernels;
        // SAFETY: the inputs are of an earlier stage; the kernel row runs here.
        unsafe {
            match x {
                Input::Plain(x) => to.copy_from_slice(self.mem(x).read(row)),
                Input::Normed { x, gain, eps } => {
                    let gain = &self.weight(gain).floats;
                    (kernels.norm)(self.mem(x).row(row), gain, eps, to.as_mut_ptr(), false);
                }
                Input::Gated { gate, up, act } => {
                    (kernels.gate)(act, self.mem(gate).read(row), self.mem(up).read(row), to);
                }
            }
        }
    }

    fn product(
        &self,
        at: usize,
        x: Input,
        outs: &[Out],
        member: Member<'_>,
        scratch: &mut Scratch,
    ) {
        let (rows, cols) = (self.mem(width_of(x)).rows, self.mem(width_of(x)).width);
        let packed = outs.iter().any(|out| self.weight(out.w).packed.is_some());
        let view = if rows <= PRIVATE_ROWS {
            scratch.acts.reserve(rows, cols);
            View::of(&mut scratch.acts)
        } else {
            self.acts
        };
        let view = view.with_cols(cols);
        let prepare = |row| {
            // SAFETY: a row is prepared by one thread, or in a thread's own scratch.
            let (x_row, q, scale, sum) = unsafe { view.row_mut(row) };
            self.input(x, row, x_row);
            if packed && cols.is_multiple_of(BLOCK) {
                // SAFETY: the kernel row runs here.
                unsafe { (self.cpu.kernels.quantise)(x_row, q, scale, sum) };
            }
        };
        let private = rows <= PRIVATE_ROWS;
        if !private {
            self.parts(at, 0, rows, member, prepare);
            self.settle_half(at, 0, rows, member);
        }
        let cut = self.cut(x, outs, member.threads());
        let mut prepared = !private;
        self.parts(at, 1, cut.parts(), member, |part| {
            if !prepared {
                // Only with a part in hand: the input may be overwritten once all are done.
                (0..rows).for_each(prepare);
                prepared = true;
            }
            let (out, groups, rows) = cut.part(part);
            self.multiply(&outs[out], groups, rows, &view, scratch);
        });
    }

    /// The product of some groups of 16 weight rows with some rows of activations.
    fn multiply(
        &self,
        out: &Out,
        groups: Range<usize>,
        rows: Range<usize>,
        view: &View,
        scratch: &mut Scratch,
    ) {
        let w = self.weight(out.w);
        let acts: Vec<ActRow> = rows.clone().map(|row| view.row(row)).collect();
        scratch.tile.resize(rows.len(), [0.0; LANES]);
        let bias = out.bias.map(|bias| self.weight(bias).floats.as_slice());
        for group in groups {
            match (&w.packed, self.cpu.kernels.product) {
                // SAFETY: the activations are quantised, with the matrix's columns.
                (Some(packed), Some(product)) => unsafe {
                    product(packed, group, &acts, &mut scratch.tile);
                },
                _ => plain(w, group, &acts, &mut scratch.floats, &mut scratch.tile),
            }
            let first = group * LANES;
            let lanes = LANES.min(w.rows - first);
            for (row, tile) in rows.clone().zip(&scratch.tile) {
                // SAFETY: no other part has these columns of these rows.
                let y = unsafe {
                    std::slice::from_raw_parts_mut(self.mem(out.y).row(row).add(first), lanes)
                };
                hand_over(tile, bias.map(|bias| &bias[first..]), out.add, y);
            }
        }
    }

    fn attend(&self, at: usize, a: &Attend, member: Member<'_>, scratch: &mut Scratch) {
        let rows = self.places.len();
        self.parts(at, 0, rows, member, |row| self.store(a, row));
        self.settle_half(at, 0, rows, member);
        let tiles = tiles(self.batch, a);
        let segments = segments(&tiles, a, member.threads());
        let Some(segments) = segments else {
            return self.parts(at, 1, tiles.len(), member, |part| {
                self.attend_whole(a, &tiles[part], &mut scratch.floats);
            });
        };
        let floats = a.tile_floats();
        let place = |part: usize| self.partials.0.wrapping_add(part * floats);
        self.parts(at, 1, segments.len(), member, |part| {
            let (tile, segment) = segments[part];
            // SAFETY: this part's own place; `Cpu::reserve` made room for every part.
            let partial =
                unsafe { std::slice::from_raw_parts_mut(place(part), tiles[tile].floats(a)) };
            self.attend_segment(a, &tiles[tile], segment, partial);
        });
        self.settle_half(at, 1, segments.len(), member);
        self.parts(at, 2, tiles.len(), member, |tile| {
            let mine = segments.iter().enumerate().filter(|(_, (of, _))| *of == tile);
            // SAFETY: all segments are done, and each is read by the one part that merges it.
            let partial = |part| unsafe {
                std::slice::from_raw_parts_mut(place(part), tiles[tile].floats(a))
            };
            let merged = mine.map(|(part, _)| partial(part)).reduce(|sum, later| {
                merge_rows(sum, later, a.dim);
                sum
            });
            self.attended(a, &tiles[tile], merged.unwrap_or_default());
        });
    }

    /// A tile's attention, segment after segment.
    fn attend_whole(&self, a: &Attend, tile: &Tile, floats: &mut Vec<f32>) {
        let each = tile.floats(a);
        floats.resize(floats.len().max(2 * each), 0.0);
        let (sum, later) = floats[..2 * each].split_at_mut(each);
        for (i, segment) in tile.segments(a).enumerate() {
            if i == 0 {
                self.attend_segment(a, tile, segment, sum);
            } else {
                self.attend_segment(a, tile, segment, later);
                merge_rows(sum, later, a.dim);
            }
        }
        self.attended(a, tile, sum);
    }

    /// What one segment gives a tile's query heads.
    fn attend_segment(&self, a: &Attend, tile: &Tile, segment: usize, partial: &mut [f32]) {
        let (keys, values) = self.caches[a.cache.0 as usize];
        let part = BLOCK_TOKENS * a.dim;
        let kv = Keys {
            keys: keys.wrapping_add(tile.head * part),
            values: values.wrapping_add(tile.head * part),
            stride: part * a.kv_heads,
            blocks: &self.batch.spans[tile.span].blocks,
            dim: a.dim,
            scale: a.scale,
        };
        let query = |(row, head): (usize, usize)| {
            let to = self.places[row].1 + 1;
            let from = to.saturating_sub(a.window.unwrap_or(to));
            Query { q: self.mem(a.q).row(row).wrapping_add(head * a.dim), from, to }
        };
        let rows: Vec<Query> = tile.rows(a).map(query).collect();
        // SAFETY: all positions up to `to` are stored; a tile's rows fit its floats.
        unsafe { (self.cpu.kernels.attend)(&kv, &rows, segment, partial) };
    }

    /// Writes a tile's merged rows.
    fn attended(&self, a: &Attend, tile: &Tile, merged: &[f32]) {
        for ((row, head), merged) in tile.rows(a).zip(merged.chunks_exact(partial_floats(a.dim))) {
            let inverse = 1.0 / merged[a.dim + 1];
            // SAFETY: no other tile has these heads of these rows.
            let y = unsafe {
                let y = self.mem(a.y).row(row).add(head * a.dim);
                std::slice::from_raw_parts_mut(y, a.dim)
            };
            y.iter_mut().zip(merged).for_each(|(y, v)| *y = v * inverse);
        }
    }

    /// Stores one row's keys and values in its token's block.
    fn store(&self, a: &Attend, row: usize) {
        let position = self.places[row].1;
        let blocks = &self.batch.spans[self.span_of[row]].blocks;
        let (block, slot) = (blocks[position / BLOCK_TOKENS] as usize, position % BLOCK_TOKENS);
        let cache = &self.cpu.caches[a.cache.0 as usize];
        let part = BLOCK_TOKENS * a.dim;
        assert!((block + 1) * part * a.kv_heads <= cache.keys.len(), "a block out of range; a bug");
        let (keys, values) = self.caches[a.cache.0 as usize];
        // SAFETY: in range as just checked; the token's slot is written by one thread.
        unsafe {
            let (k, v) = (self.mem(a.k).read(row), self.mem(a.v).read(row));
            for head in 0..a.kv_heads {
                let base = (block * a.kv_heads + head) * part;
                for d in 0..a.dim {
                    *keys.add(base + d * BLOCK_TOKENS + slot) = k[head * a.dim + d];
                }
                let to = values.add(base + slot * a.dim);
                to.copy_from_nonoverlapping(v[head * a.dim..].as_ptr(), a.dim);
            }
        }
    }
}

/// `y = (y +) tile (+ bias)`, as many lanes as `y` has.
#[inline(always)]
fn hand_over(tile: &[f32; LANES], bias: Option<&[f32]>, add: bool, y: &mut [f32]) {
    let mut sum = *tile;
    if let Some(bias) = bias {
        sum.iter_mut().zip(bias).for_each(|(sum, bias)| *sum += bias);
    }
    if add {
        sum.iter_mut().zip(&*y).for_each(|(sum, old)| *sum += old);
    }
    match <&mut [f32; LANES]>::try_from(&mut *y) {
        Ok(whole) => *whole = sum,
        Err(_) => y.iter_mut().zip(sum).for_each(|(y, sum)| *y = sum),
    }
}

/// Some tokens of one span with the query heads of one KV head.
#[derive(Clone, Debug)]
pub(super) struct Tile {
    span: usize,
    head: usize,
    /// Rows of the batch.
    rows: Range<usize>,
    /// The first row's position.
    start: usize,
}

impl Tile {
    /// Its query rows: rows of the batch, and query heads.
    fn rows(&self, a: &Attend) -> impl Iterator<Item = (usize, usize)> {
        let heads = a.heads / a.kv_heads;
        let heads = self.head * heads..(self.head + 1) * heads;
        self.rows.clone().flat_map(move |row| heads.clone().map(move |head| (row, head)))
    }

    /// Floats of its partial rows.
    fn floats(&self, a: &Attend) -> usize {
        self.rows.len() * (a.heads / a.kv_heads) * partial_floats(a.dim)
    }

    /// The segments that any of its rows sees.
    fn segments(&self, a: &Attend) -> Range<usize> {
        let from = (self.start + 1).saturating_sub(a.window.unwrap_or(usize::MAX));
        from / SEGMENT..(self.start + self.rows.len()).div_ceil(SEGMENT)
    }
}

impl Attend {
    /// Floats of the largest tile's partial rows.
    fn tile_floats(&self) -> usize {
        TILE * (self.heads / self.kv_heads) * partial_floats(self.dim)
    }
}

fn tiles(batch: &Batch, a: &Attend) -> Vec<Tile> {
    let (mut tiles, mut first) = (Vec::new(), 0);
    for (span, of) in batch.spans.iter().enumerate() {
        for at in (0..of.tokens.len()).step_by(TILE) {
            let rows = first + at..first + of.tokens.len().min(at + TILE);
            let start = of.start + at;
            let tile = |head| Tile { span, head, rows: rows.clone(), start };
            tiles.extend((0..a.kv_heads).map(tile));
        }
        first += of.tokens.len();
    }
    tiles
}

/// Tiles and segments as parts of their own, where whole tiles would leave threads without work.
fn segments(tiles: &[Tile], a: &Attend, threads: usize) -> Option<Vec<(usize, usize)>> {
    /// More parts would cost more to merge than they save.
    const MOST: usize = 1024;
    if threads == 1 || tiles.len() >= 4 * threads {
        return None;
    }
    let parts = tiles.iter().enumerate();
    let parts: Vec<(usize, usize)> =
        parts.flat_map(|(i, tile)| tile.segments(a).map(move |segment| (i, segment))).collect();
    (parts.len() > tiles.len() && parts.len() <= MOST).then_some(parts)
}

/// Floats that an op's partial rows need in this step, where its segments are parts.
pub(super) fn partials(batch: &Batch, op: &Op, threads: usize) -> usize {
    let Op::Attend(a) = op else { return 0 };
    let parts = segments(&tiles(batch, a), a, threads);
    parts.map_or(0, |parts| parts.len() * a.tile_floats())
}

fn merge_rows(sum: &mut [f32], later: &[f32], dim: usize) {
    let rows = later.chunks_exact(partial_floats(dim));
    sum.chunks_exact_mut(partial_floats(dim)).zip(rows).for_each(|(sum, later)| merge(sum, later));
}

/// 16 rows of a matrix that is not packed, by the reference.
fn plain(
    w: &Matrix,
    group: usize,
    acts: &[ActRow],
    floats: &mut Vec<f32>,
    tile: &mut [[f32; LANES]],
) {
    floats.resize(floats.len().max(w.cols), 0.0);
    for lane in 0..LANES.min(w.rows - group * LANES) {
        let row = &mut floats[..w.cols];
        reference::unpack_row(w.format, &w.bytes, group * LANES + lane, row);
        for (act, tile) in acts.iter().zip(&mut *tile) {
            // SAFETY: a row of activations has the matrix's columns.
            let x = unsafe { std::slice::from_raw_parts(act.x, w.cols) };
            reference::product(row, x, &mut tile[lane..=lane]);
        }
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

/// [`Acts`] as the threads share them.
#[derive(Clone, Copy, Debug)]
struct View {
    x: *mut f32,
    q: *mut i8,
    scale: *mut f32,
    sum: *mut f32,
    cols: usize,
    blocks: usize,
}

impl View {
    fn of(acts: &mut Acts) -> Self {
        let (x, q) = (acts.x.as_mut_ptr(), acts.q.as_mut_ptr());
        let (scale, sum) = (acts.scale.as_mut_ptr(), acts.sum.as_mut_ptr());
        Self { x, q, scale, sum, cols: 0, blocks: 0 }
    }

    fn with_cols(self, cols: usize) -> Self {
        Self { cols, blocks: cols.div_ceil(BLOCK), ..self }
    }

    fn row(&self, row: usize) -> ActRow {
        ActRow {
            x: self.x.wrapping_add(row * self.cols),
            q: self.q.wrapping_add(row * self.blocks * 2 * BLOCK),
            scale: self.scale.wrapping_add(row * self.blocks),
            sum: self.sum.wrapping_add(row * self.blocks * 2),
        }
    }

    /// # Safety
    /// The row was reserved, and no other thread touches it meanwhile.
    #[allow(clippy::mut_from_ref, clippy::type_complexity, reason = "see `Mem::write`")]
    unsafe fn row_mut(&self, row: usize) -> (&mut [f32], &mut [i8], &mut [f32], &mut [f32]) {
        let at = self.row(row);
        // SAFETY: the caller's promise.
        unsafe {
            (
                std::slice::from_raw_parts_mut(at.x.cast_mut(), self.cols),
                std::slice::from_raw_parts_mut(at.q.cast_mut(), self.blocks * 2 * BLOCK),
                std::slice::from_raw_parts_mut(at.scale.cast_mut(), self.blocks),
                std::slice::from_raw_parts_mut(at.sum.cast_mut(), self.blocks * 2),
            )
        }
    }
}

/// How a product is cut into parts: by output, by groups of weight rows, by activation rows.
#[derive(Debug)]
struct Cut {
    rows: usize,
    part_groups: usize,
    /// Groups of each output, and parts by groups.
    outs: Vec<(usize, usize)>,
    row_parts: usize,
}

impl Cut {
    fn of(rows: usize, weight_rows: impl Iterator<Item = usize>, threads: usize) -> Self {
        let groups: Vec<usize> = weight_rows.map(|rows| rows.div_ceil(LANES)).collect();
        let row_parts = rows.div_ceil(PART_ROWS);
        let all: usize = groups.iter().sum();
        let part_groups = (all * row_parts).div_ceil(threads * 8).clamp(1, 64).min(all.max(1));
        let outs = groups.iter().map(|&g| (g, g.div_ceil(part_groups))).collect();
        Self { rows, part_groups, outs, row_parts }
    }

    fn parts(&self) -> usize {
        self.row_parts * self.outs.iter().map(|(_, parts)| parts).sum::<usize>()
    }

    /// Which output, which groups of its rows, which rows of activations.
    fn part(&self, part: usize) -> (usize, Range<usize>, Range<usize>) {
        let by_group = self.parts() / self.row_parts;
        let (rows, mut part) = (part / by_group, part % by_group);
        let rows = rows * PART_ROWS..self.rows.min((rows + 1) * PART_ROWS);
        for (out, (groups, parts)) in self.outs.iter().enumerate() {
            if part < *parts {
                let first = part * self.part_groups;
                return (out, first..(first + self.part_groups).min(*groups), rows);
            }
            part -= parts;
        }
        unreachable!("a part beyond the last; this is a bug")
    }
}
