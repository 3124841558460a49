//! What an op costs, from shapes alone: what a roofline, a forecast or a choice between machines
//! is made of. Nothing is measured here, and no backend is known.
//!
//! Floating-point operations: a multiply-add counts two, whatever the numbers' format; an
//! exponential, a root, a sine, a maximum and a change of sign count one. Unpacking weights,
//! rounding activations and moving data count none.
//!
//! Bytes: what an op must read and write if each byte passes once (compulsory traffic; Williams,
//! Waterman and Patterson, "Roofline", 2009). What a cache still holds from the op before costs
//! memory nothing; what does not fit costs it more than once.

use super::{
    Activation, Attend, Batch, Buffer, Counts, Experts, Input, Op, Out, Pooling, Rows, Weight,
};
use crate::{Format, KvType};
use std::ops::{Add, AddAssign};

/// Bytes of an activation.
const FLOAT: u64 = size_of::<f32>() as u64;

/// A matrix or vector of the model file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightShape {
    /// How the file stores it.
    pub format: Format,
    /// Its rows.
    pub rows: usize,
    /// Its columns.
    pub cols: usize,
    /// Its bytes in the file.
    pub bytes: usize,
    /// Its bytes as the backend holds it for its kernels.
    pub held: usize,
}

/// How large everything is that a graph refers to by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shapes {
    /// By [`Weight`].
    pub weights: Vec<WeightShape>,
    /// By [`Buffer`]: what it has a row for, and floats per row.
    pub buffers: Vec<(Rows, usize)>,
    /// How keys and values are kept.
    pub kv: KvType,
}

/// What some ops cost. Costs add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Floating-point operations, a multiply-add counting two.
    pub flops: u64,
    /// Of `flops`, those of products with quantised weights, which integer kernels compute.
    pub quantised_flops: u64,
    /// Bytes read, weights as the file stores them.
    pub bytes_read: u64,
    /// Of `bytes_read`, those of the matrices that products multiply by.
    pub matrix_bytes: u64,
    /// Bytes written.
    pub bytes_written: u64,
}

impl Cost {
    /// Bytes read and written.
    pub fn bytes(&self) -> u64 {
        self.bytes_read + self.bytes_written
    }

    /// Arithmetic intensity in operations per byte; 0 where nothing is moved.
    pub fn intensity(&self) -> f64 {
        if self.bytes() == 0 { 0.0 } else { self.flops as f64 / self.bytes() as f64 }
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.flops += other.flops;
        self.quantised_flops += other.quantised_flops;
        self.bytes_read += other.bytes_read;
        self.matrix_bytes += other.matrix_bytes;
        self.bytes_written += other.bytes_written;
    }
}

impl Add for Cost {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self += other;
        self
    }
}

impl Activation {
    /// Operations of one element, the product with `up` included.
    const fn flops(self) -> u64 {
        match self {
            Self::Silu => 5,      // -x, exp, +, /, ·
            Self::GeluTanh => 10, // x·x, ·x, ·c, +, ·c, tanh, +, ·x, /2, ·
            Self::Gelu => 6,      // ·c, erf, +, ·x, /2, ·
            Self::Relu | Self::Tanh => 2,
            Self::ClampedSwiglu => 10, // min, min, max, ·c, -x, exp, +, /, +, ·
        }
    }
}

/// A cost without products.
fn plain(flops: usize, bytes_read: u64, bytes_written: u64) -> Cost {
    Cost { flops: flops as u64, bytes_read, bytes_written, ..Cost::default() }
}

/// Bytes of so many activations.
fn floats(count: usize) -> u64 {
    count as u64 * FLOAT
}

impl Shapes {
    /// The matrix or vector of this number, which is one of the backend's that made the shapes.
    pub fn weight(&self, weight: Weight) -> &WeightShape {
        &self.weights[weight.0 as usize]
    }

    fn width(&self, buffer: Buffer) -> usize {
        self.buffers[buffer.0 as usize].1
    }

    fn rows(&self, buffer: Buffer, counts: Counts) -> usize {
        counts.of(self.buffers[buffer.0 as usize].0)
    }
}

impl Op {
    /// What the op costs in a step. Panics where `shapes` are not those of the op's graph.
    pub fn cost(&self, shapes: &Shapes, batch: &Batch) -> Cost {
        let counts = batch.counts();
        match self {
            Self::Embed { table, y, .. } => {
                let table = shapes.weight(*table);
                let (row, all) = (table.bytes / table.rows, counts.tokens * shapes.width(*y));
                plain(all, (counts.tokens * row) as u64, floats(all))
            }
            Self::Lookup { table, y, .. } => {
                let table = shapes.weight(*table);
                let (row, all) = (table.bytes / table.rows, counts.tokens * shapes.width(*y));
                plain(all, (counts.tokens * row) as u64 + floats(all), floats(all))
            }
            Self::LayerNorm { x, gain, bias, .. } => {
                let (rows, width) = (shapes.rows(*x, counts), shapes.weight(*gain).cols);
                let all = rows * width;
                let (added, reads) = if bias.is_some() { (all, 2 * width) } else { (0, width) };
                let reads = if all == 0 { 0 } else { all + reads };
                plain(6 * all + added, floats(reads), floats(all)) // +; -, ·, +; ·scale, ·gain
            }
            Self::Activate { y, act } => {
                let all = shapes.rows(*y, counts) * shapes.width(*y);
                plain((act.flops() as usize - 1) * all, floats(all), floats(all))
            }
            Self::Pool { x, y, how } => {
                let (width, all) = (shapes.width(*y), counts.tokens * shapes.width(*x));
                let (flops, read) = match how {
                    Pooling::Mean | Pooling::LogMax => (all, all),
                    Pooling::First | Pooling::Last => (0, counts.spans * width),
                };
                plain(flops, floats(read), floats(counts.spans * width))
            }
            Self::Norm { x, gain, y, add, .. } => {
                let all = shapes.rows(*x, counts) * shapes.width(*y);
                let gain = if all == 0 { 0 } else { shapes.weight(*gain).cols };
                let (added, reads) = if *add { (all, 2 * all) } else { (0, all) };
                plain(4 * all + added, floats(reads + gain), floats(all)) // ·, +, ·scale, ·gain
            }
            Self::MatMul { x, outs } => product(shapes, counts, *x, outs),
            Self::Angles { freqs, y, .. } => {
                let all = counts.tokens * shapes.width(*y);
                let freqs = if all == 0 { 0 } else { size_of_val(&**freqs) };
                plain(all / 2 * 5, freqs as u64, floats(all)) // ·, sin, cos, 2 · scale
            }
            Self::Rope { x, angles, dim, .. } => {
                let (heads, rotated) = (shapes.width(*x) / dim, shapes.width(*angles));
                let all = counts.tokens * heads * rotated;
                plain(all / 2 * 6, floats(all + counts.tokens * rotated), floats(all))
            }
            Self::Attend(attend) => attention(shapes, attend, batch),
            Self::Cap { y, .. } => {
                let all = shapes.rows(*y, counts) * shapes.width(*y);
                plain(3 * all, floats(all), floats(all)) // /, tanh, ·
            }
            Self::Route { logits, routes, .. } => {
                let (experts, chosen) = (shapes.width(*logits), shapes.width(*routes));
                let all = counts.tokens * experts;
                // exp, +, / of an expert
                plain(3 * all, floats(all), floats(counts.tokens * chosen))
            }
            Self::Experts(experts) => mixture(shapes, counts.tokens, experts),
            Self::Gather { y, .. } => {
                let all = counts.samples * shapes.width(*y);
                plain(0, floats(all), floats(all))
            }
        }
    }
}

/// What a product's input costs, and its rows and columns.
fn input(shapes: &Shapes, counts: Counts, x: Input) -> (Cost, usize, usize) {
    let (buffer, flops, inputs, gain) = match x {
        Input::Plain(x) => (x, 0, 1, 0),
        Input::Normed { x, gain, .. } => (x, 4, 1, shapes.weight(gain).cols),
        Input::Gated { gate, act, .. } => (gate, act.flops() as usize, 2, 0),
        Input::Activated { x, act } => (x, act.flops() as usize - 1, 1, 0),
    };
    let (rows, cols) = (shapes.rows(buffer, counts), shapes.width(buffer));
    let cost = plain(flops * rows * cols, floats(inputs * rows * cols + gain), 0);
    (cost, rows, cols)
}

/// `2 · rows · width of y · width of x` a matrix; each matrix and the input pass once.
fn product(shapes: &Shapes, counts: Counts, x: Input, outs: &[Out]) -> Cost {
    let (mut cost, rows, cols) = input(shapes, counts, x);
    if rows == 0 {
        return Cost::default();
    }
    for out in outs {
        let w = shapes.weight(out.w);
        let all = rows * w.rows;
        let flops = 2 * (all * cols) as u64;
        let (bias, biased) = if out.bias.is_some() { (w.rows, all) } else { (0, 0) };
        let added = if out.add { all } else { 0 };
        cost += Cost {
            flops: flops + (biased + added) as u64,
            quantised_flops: if w.format.grid().is_some() { flops } else { 0 },
            bytes_read: w.bytes as u64 + floats(bias + added),
            matrix_bytes: w.bytes as u64,
            bytes_written: floats(all),
        };
    }
    cost
}

/// How many of `experts` are chosen by any of so many tokens that choose `used` each, if all are
/// chosen equally often: just `used` by one token.
fn distinct(experts: usize, used: usize, tokens: usize) -> f64 {
    let missed = (1.0 - used as f64 / experts as f64).powi(tokens.min(1 << 20) as i32);
    experts as f64 * (1.0 - missed)
}

/// Each token's input passes its `used` experts; of the matrices only those that some token chose
/// are read, as many as [`distinct`] expects.
fn mixture(shapes: &Shapes, tokens: usize, e: &Experts) -> Cost {
    let (mut cost, rows, cols) = input(shapes, Counts { tokens, ..Counts::default() }, e.x);
    if rows == 0 {
        return Cost::default();
    }
    let (pairs, width) = (tokens * e.used, shapes.width(e.y));
    let read = distinct(e.experts, e.used, tokens);
    for (stack, rows, cols) in
        [(e.gate, e.hidden, cols), (e.up, e.hidden, cols), (e.down, width, e.hidden)]
    {
        let w = shapes.weight(stack.w);
        let flops = 2 * (pairs * rows * cols) as u64;
        let biased = if stack.bias.is_some() { (pairs * rows) as u64 } else { 0 };
        let bytes = (w.bytes / w.rows * rows) as f64 * read;
        let biases = if stack.bias.is_some() { floats(rows) as f64 * read } else { 0.0 };
        cost += Cost {
            flops: flops + biased,
            quantised_flops: if w.format.grid().is_some() { flops } else { 0 },
            bytes_read: (bytes + biases).round() as u64,
            matrix_bytes: bytes.round() as u64,
            bytes_written: 0,
        };
    }
    let gated = e.act.flops() as usize * pairs * e.hidden;
    let moved = floats(tokens * width); // added to what is there
    cost + plain(gated + 2 * pairs * width, moved + floats(2 * pairs), moved)
}

/// For each token and query head, `4 · dim + 5` a position that it sees (a key's and a value's
/// multiply-adds; scale, maximum, difference, exponential, sum; 3 more where it is capped), and
/// `dim` divisions; a sink is a difference, an exponential and a sum more. Each cached position
/// that any token of a span sees is read once, and the step's own are written; where tokens see
/// those behind them nothing is cached.
fn attention(shapes: &Shapes, a: &Attend, batch: &Batch) -> Cost {
    let cached = (2 * a.kv_heads * shapes.kv.head_bytes(a.dim)) as u64 * u64::from(a.causal);
    let pair = 4 * a.dim + if a.softcap.is_some() { 8 } else { 5 };
    let sink = if a.sinks.is_some() { 3 } else { 0 };
    let read = if batch.tokens() > 0 && a.sinks.is_some() { a.heads } else { 0 };
    let mut cost = plain(0, floats(read), 0);
    for span in &batch.spans {
        let (tokens, end) = (span.tokens.len(), span.start + span.tokens.len());
        if tokens == 0 {
            continue;
        }
        let seen = |position: usize| a.sees(position, end).len();
        let pairs: usize = (span.start..end).map(seen).sum();
        let first = a.sees(span.start, end).start;
        let own = tokens * 2 * (a.heads + a.kv_heads) * a.dim; // q, y; k, v
        let y = tokens * a.heads * a.dim;
        cost += Cost {
            flops: (a.heads * (pairs * pair + tokens * (a.dim + sink))) as u64,
            bytes_read: floats(own - y) + (end - first) as u64 * cached,
            bytes_written: floats(y) + tokens as u64 * cached,
            ..Cost::default()
        };
    }
    cost
}

#[cfg(test)]
mod tests;
