//! What adapters add to a step's products: `scale · b · (a · x)` for the rows of those spans that
//! name them, in f32, whatever the weights are. Rows go down to the rank right after they are
//! prepared, by the thread that prepared them, and up again where a part has its tiles in hand, so
//! that no thread waits for another. A row's bits depend on its own adapters alone, in the order in
//! which its span names them; a row without any is not touched.

use super::product::Wanted;
use super::{Range, Scratch, Step, width_of};
use crate::cpu::acts::View;
use crate::cpu::adapters::Deltas;
use crate::cpu::narrow::Narrow;
use crate::cpu::pack::{LANES, Lanes};
use crate::cpu::{Cpu, LowRank};
use crate::{Batch, Graph, Input, Op, Out, Rows, Span, Weight};

/// An adapter of a span.
#[derive(Clone, Copy, Debug)]
pub(super) struct Working<'a> {
    deltas: &'a Deltas,
    scale: f32,
}

/// Rows on their way between an adapter's two products: each has room for every output of an op.
#[derive(Clone, Copy, Debug)]
pub(super) struct Low {
    ptr: *mut f32,
    /// Floats of an output.
    width: usize,
    /// Floats of a row.
    stride: usize,
}

/// Floats that rows of the step take between two products: of one output, and of all of an op.
pub(in crate::cpu) fn low_floats(cpu: &Cpu, graph: &Graph, batch: &Batch) -> (usize, usize) {
    let width = |span: &Span| working(cpu, span).iter().map(|one| one.deltas.widest).sum();
    let width: usize = batch.spans.iter().map(width).max().unwrap_or(0);
    let outs = graph.ops.iter().map(|op| match op {
        Op::MatMul { outs, .. } => outs.len(),
        _ => 0,
    });
    (width, if width > 0 { width * outs.max().unwrap_or(0) } else { 0 })
}

/// A span's adapters.
pub(super) fn working<'a>(cpu: &'a Cpu, span: &Span) -> Vec<Working<'a>> {
    let one = |applied: &crate::Applied| {
        let deltas = cpu.adapters.get(&applied.adapter.0);
        let deltas = deltas.expect("an adapter that is not held; this is a bug");
        Working { deltas, scale: applied.scale }
    };
    span.adapters.iter().map(one).collect()
}

impl Working<'_> {
    fn of(&self, w: Weight) -> Option<&LowRank> {
        self.deltas.of(w)
    }
}

impl<'a> Step<'a> {
    /// Where rows stay between an adapter's products: with those who share the prepared rows, or
    /// with a thread's own. `None` where no row of the step has an adapter.
    pub(super) fn low(&self, rows: usize, private: bool, scratch: &mut Scratch) -> Option<Low> {
        let (width, stride) = self.low_floats;
        if stride == 0 {
            return None;
        }
        if !private {
            return Some(Low { ptr: self.low_rows, width, stride });
        }
        scratch.low.resize(scratch.low.len().max(rows * stride), 0.0);
        Some(Low { ptr: scratch.low.as_mut_ptr(), width, stride })
    }

    /// Rows next to each other of one span that has adapters, and these.
    fn runs(
        &self,
        x: Input,
        rows: Range<usize>,
    ) -> impl Iterator<Item = (Range<usize>, &[Working<'a>])> {
        let kind = self.cpu.buffers[width_of(x).0 as usize].rows;
        let span = move |row: usize| match kind {
            Rows::Tokens => self.span_of[row],
            Rows::Samples => self.span_of[self.samples[row]],
            Rows::Spans => row,
        };
        let mut at = rows.start;
        let runs = std::iter::from_fn(move || {
            let first = at;
            let own = (first < rows.end).then(|| span(first))?;
            at = (first..rows.end).find(|&row| span(row) != own).unwrap_or(rows.end);
            Some((first..at, &*self.working[own]))
        });
        runs.filter(|(_, working)| !working.is_empty())
    }

    /// Takes prepared rows down to the ranks of their adapters. Their floats are made here where
    /// the product itself does not read them.
    pub(super) fn down(
        &self,
        (x, outs): (Input, &[Out]),
        rows: Range<usize>,
        (view, wanted): (&View, Wanted),
        low: Low,
    ) {
        for (run, working) in self.runs(x, rows) {
            let of_outs = outs.iter().enumerate();
            let places = of_outs.flat_map(|(at, out)| low.places(at, out.w, working));
            for (at, (place, delta, scale)) in places.enumerate() {
                if at == 0 && !wanted.floats {
                    // SAFETY: the thread prepares these rows.
                    run.clone().for_each(|row| self.input(x, row, unsafe { view.floats_mut(row) }));
                }
                let acts = view.part(&run);
                for (group, columns) in delta.down.chunks_exact(acts.cols).enumerate() {
                    let of = Narrow {
                        m: columns.as_ptr().cast(),
                        columns: acts.cols,
                        x: acts.x,
                        x_stride: acts.cols,
                        rows: run.len(),
                        y: low.at(run.start, place + group * LANES),
                        y_stride: low.stride,
                        scale,
                        add: false,
                    };
                    // SAFETY: the rows' floats are there, and room for the results; the kernel row
                    // runs here.
                    unsafe { (self.cpu.kernels.narrow)(&of) };
                }
            }
        }
    }

    /// Adds what adapters make of an output's group of 16 columns to a tile for each of some rows.
    pub(super) fn up(
        &self,
        x: Input,
        (at, w): (usize, Weight),
        group: usize,
        rows: &Range<usize>,
        (low, tile): (Low, &mut [Lanes]),
    ) {
        for (run, working) in self.runs(x, rows.clone()) {
            for (place, delta, _) in low.places(at, w, working) {
                let tile = &mut tile[run.start - rows.start..run.end - rows.start];
                let of = Narrow {
                    m: delta.up[group * delta.rank..][..delta.rank].as_ptr().cast(),
                    columns: delta.rank,
                    x: low.at(run.start, place),
                    x_stride: low.stride,
                    rows: run.len(),
                    y: tile.as_mut_ptr().cast(),
                    y_stride: LANES,
                    scale: 1.0,
                    add: true,
                };
                // SAFETY: the rows were taken down, and a row of the tile is 16 floats; the kernel
                // row runs here.
                unsafe { (self.cpu.kernels.narrow)(&of) };
            }
        }
    }
}

impl Low {
    /// Where a row has a float.
    fn at(&self, row: usize, place: usize) -> *mut f32 {
        self.ptr.wrapping_add(row * self.stride + place)
    }

    /// The deltas of an op's output, where rows have what goes between their products, and by what
    /// that is multiplied.
    fn places<'a>(
        &self,
        out: usize,
        w: Weight,
        working: &'a [Working<'a>],
    ) -> impl Iterator<Item = (usize, &'a LowRank, f32)> {
        let first = out * self.width;
        let places = working.iter().scan(first, |next, one| {
            let place = *next;
            *next += one.deltas.widest;
            Some((place, one))
        });
        places.filter_map(move |(place, one)| Some((place, one.of(w)?, one.scale)))
    }
}
