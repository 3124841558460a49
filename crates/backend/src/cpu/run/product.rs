//! A step's products over the threads: rows of activations are prepared once, then groups of 16
//! weight rows with some rows of activations are parts.

use super::{Mem, Range, Scratch, Step, width_of};
use crate::cpu::acts::{PART_ROWS, Part, View};
use crate::cpu::body::Target;
use crate::cpu::pack::{LANES, Lanes, Packed};
use crate::cpu::pool::Member;
use crate::cpu::prepare::{Source, TOGETHER, Way};
use crate::cpu::{Matrix, reference};
use crate::{Input, Out, Weight};

/// Up to so many rows every thread prepares a product's input for itself: cheaper than
/// waiting for each other.
pub(super) const PRIVATE_ROWS: usize = 4;
const _: () = assert!(PRIVATE_ROWS <= TOGETHER && PART_ROWS.is_multiple_of(TOGETHER));

/// Groups of outputs that are handed over together, so that so many lines of a row are written one
/// after another. Of few rows one: that is written while the next group's weights are read.
const fn together(rows: usize) -> usize {
    if rows <= PRIVATE_ROWS { 1 } else { 4 }
}

/// What products read of a row of activations.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted {
    pub(super) ints: bool,
    pub(super) floats: bool,
}

impl Step<'_> {
    pub(super) fn cut(&self, x: Input, outs: &[Out], threads: usize) -> Cut {
        Cut::of(self.mem(width_of(x)).rows, self.groups(outs), threads)
    }

    /// Groups of 16 rows of each matrix.
    fn groups(&self, outs: &[Out]) -> impl Iterator<Item = usize> + Clone {
        outs.iter().map(|out| self.weight(out.w).rows.div_ceil(LANES))
    }

    /// Writes one row of a product's input, as floats.
    pub(super) fn input(&self, x: Input, row: usize, to: &mut [f32]) {
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
                    let up = Some(self.mem(up).read(row));
                    (kernels.gate)(act, self.mem(gate).read(row), up, to);
                }
                Input::Activated { x, act } => {
                    (kernels.gate)(act, self.mem(x).read(row), None, to);
                }
            }
        }
    }

    /// Where a product's input is prepared, and whether every thread does so for itself.
    pub(super) fn view(&self, x: Input, high: bool, scratch: &mut Scratch) -> (View, bool) {
        let (rows, cols) = (self.mem(width_of(x)).rows, self.mem(width_of(x)).width);
        let private = rows <= PRIVATE_ROWS;
        if !private {
            return (self.acts.shaped(rows, cols).of_high(high), false);
        }
        scratch.acts.reserve(rows, cols);
        (scratch.acts.view(rows, cols).of_high(high), true)
    }

    /// Whether the high bytes of its input are enough for a product with these matrices.
    fn high(&self, outs: &[Out]) -> bool {
        let takes = |out: &Out| self.weight(out.w).packed.as_ref().is_some_and(Packed::takes_high);
        self.cpu.high && outs.iter().all(takes)
    }

    /// Rows of a product's input on their way in.
    fn source(&self, x: Input, rows: &Range<usize>, high: bool) -> Source {
        let Mem { width: cols, stride, .. } = *self.mem(width_of(x));
        let way = match x {
            Input::Plain(_) => Way::Plain,
            Input::Normed { gain, eps, .. } => {
                Way::Normed { gain: self.weight(gain).floats.as_ptr(), eps }
            }
            Input::Activated { act, .. } => Way::Activated { act },
            Input::Gated { up, act, .. } => {
                assert_eq!(self.mem(up).stride, stride, "a bug");
                Way::Gated { up: self.mem(up).rows(rows), act }
            }
        };
        let x = self.mem(width_of(x)).rows(rows);
        Source { x, stride, rows: rows.len(), cols, way, high }
    }

    /// What products with these matrices read of their input.
    pub(super) fn wanted(&self, weights: impl Iterator<Item = Weight>) -> Wanted {
        weights.fold(Wanted::default(), |wanted, w| {
            let ints = self.weight(w).packed.as_ref().is_some_and(Packed::takes_ints);
            Wanted { ints: wanted.ints || ints, floats: wanted.floats || !ints }
        })
    }

    /// Prepares some rows of a product's input, at most [`TOGETHER`].
    pub(super) fn prepare(&self, x: Input, rows: Range<usize>, view: &View, wanted: Wanted) {
        // SAFETY: a row is prepared by one thread, or in a thread's own scratch; the inputs are of
        // an earlier stage, and a buffer's rows one stride apart; the kernel row runs here.
        unsafe {
            if wanted.ints {
                let source = self.source(x, &rows, view.is_high());
                (self.cpu.kernels.quantise)(&source, view.places(&rows));
            }
            if wanted.floats {
                rows.for_each(|row| self.input(x, row, view.floats_mut(row)));
            }
        }
    }

    /// Prepares all rows, every thread some of them.
    pub(super) fn prepare_all(
        &self,
        at: usize,
        x: Input,
        view: &View,
        wanted: Wanted,
        member: Member<'_>,
    ) {
        self.prepare_each(at, x, member, |rows| self.prepare(x, rows, view, wanted));
    }

    /// Has every thread prepare some of the rows, in its way.
    fn prepare_each(
        &self,
        at: usize,
        x: Input,
        member: Member<'_>,
        each_part: impl Fn(Range<usize>),
    ) {
        let rows = self.mem(width_of(x)).rows;
        let each = rows.div_ceil(member.threads()).next_power_of_two().min(TOGETHER);
        let parts = rows.div_ceil(each);
        self.parts(at, 0, parts, member, |part| {
            each_part(part * each..rows.min((part + 1) * each));
        });
        self.settle_half(at, 0, parts, member);
    }

    pub(super) fn product(
        &self,
        at: usize,
        x: Input,
        outs: &[Out],
        member: Member<'_>,
        scratch: &mut Scratch,
    ) {
        let rows = self.mem(width_of(x)).rows;
        let wanted = self.wanted(outs.iter().map(|out| out.w));
        let (view, private) = self.view(x, self.high(outs), scratch);
        let low = self.low(rows, private, scratch);
        let ready = |rows: Range<usize>| {
            self.prepare(x, rows.clone(), &view, wanted);
            if let Some(low) = low {
                self.down((x, outs), rows, (&view, wanted), low);
            }
        };
        if !private {
            self.prepare_each(at, x, member, ready);
        }
        let cut = self.cut(x, outs, member.threads());
        let mut prepared = !private;
        self.parts(at, 1, cut.parts(), member, |part| {
            if !prepared {
                // Only with a part in hand: the input may be overwritten once all are done.
                ready(0..rows);
                prepared = true;
            }
            let (out, groups, rows) = cut.part(part, self.groups(outs));
            let adapt = |group: usize, tile: &mut [Lanes]| {
                if let Some(low) = low {
                    self.up(x, (out, outs[out].w), group, &rows, (low, tile));
                }
            };
            self.multiply(&outs[out], groups, &rows, &view, scratch, adapt);
        });
    }

    /// One group of 16 weight rows times rows of activations, which are quantised if the matrix is
    /// packed for integers: a tile for each row.
    pub(super) fn tiles(
        &self,
        w: &Matrix,
        group: usize,
        acts: &Part,
        floats: &mut Vec<f32>,
        tiles: &mut [Lanes],
    ) {
        match (&w.packed, self.cpu.kernels.product) {
            // SAFETY: the activations are quantised, with the matrix's columns.
            (Some(packed), Some(product)) => unsafe { product(packed, group, acts, tiles) },
            _ => plain(w, group, acts, floats, tiles),
        }
    }

    /// The product of some groups of 16 weight rows with some rows of activations; `adapt` gets
    /// each group's tiles before they are handed over.
    fn multiply(
        &self,
        out: &Out,
        groups: Range<usize>,
        rows: &Range<usize>,
        view: &View,
        scratch: &mut Scratch,
        adapt: impl Fn(usize, &mut [Lanes]),
    ) {
        let w = self.weight(out.w);
        let acts = view.part(rows);
        let to = self.mem(out.y);
        let bias = out.bias.map(|bias| self.weight(bias).floats.as_slice());
        let Scratch { tile, floats, .. } = scratch;
        let most = together(rows.len());
        if tile.len() < most * rows.len() {
            tile.resize(most * rows.len(), Lanes::default());
        }
        for first in groups.clone().step_by(most) {
            let now = first..groups.end.min(first + most);
            let cols = now.start * LANES..w.rows.min(now.end * LANES);
            let target = Target {
                y: to.rows(rows).wrapping_add(cols.start),
                stride: to.stride,
                rows: rows.len(),
                cols: cols.len(),
                bias: bias.map(|bias| bias[cols].as_ptr()),
                add: out.add,
            };
            if rows.len() > PRIVATE_ROWS {
                target.fetch();
            }
            for (group, tile) in now.clone().zip(tile.chunks_exact_mut(rows.len())) {
                self.tiles(w, group, &acts, floats, tile);
                adapt(group, tile);
            }
            // SAFETY: no other part has these columns of these rows; the kernel row runs here.
            unsafe { (self.cpu.kernels.hand_over)(&tile[..now.len() * rows.len()], &target) };
        }
    }
}

/// 16 rows of a matrix that is not packed, by the reference.
fn plain(w: &Matrix, group: usize, acts: &Part, floats: &mut Vec<f32>, tile: &mut [Lanes]) {
    floats.resize(floats.len().max(w.cols), 0.0);
    for lane in 0..LANES.min(w.rows - group * LANES) {
        let row = &mut floats[..w.cols];
        reference::unpack_row(w.format, &w.bytes, group * LANES + lane, row);
        for (at, Lanes(tile)) in tile.iter_mut().enumerate() {
            // SAFETY: a row of activations has the matrix's columns.
            let x = unsafe { std::slice::from_raw_parts(acts.x.add(at * acts.cols), w.cols) };
            reference::product(row, x, &mut tile[lane..=lane]);
        }
    }
}

/// How a product is cut into parts: by output, by groups of weight rows, by activation rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    rows: usize,
    part_groups: usize,
    /// Parts by groups, of all outputs.
    by_group: usize,
    row_parts: usize,
}

impl Cut {
    /// Of outputs that have so many groups each.
    fn of(rows: usize, groups: impl Iterator<Item = usize> + Clone, threads: usize) -> Self {
        let row_parts = rows.div_ceil(PART_ROWS);
        let all: usize = groups.clone().sum();
        let part_groups = (all * row_parts).div_ceil(threads * 8).clamp(1, 64).min(all.max(1));
        let by_group = groups.map(|groups| groups.div_ceil(part_groups)).sum();
        Self { rows, part_groups, by_group, row_parts }
    }

    pub(super) fn parts(&self) -> usize {
        self.row_parts * self.by_group
    }

    /// Which output, which groups of its rows, which rows of activations.
    fn part(
        &self,
        part: usize,
        groups: impl Iterator<Item = usize>,
    ) -> (usize, Range<usize>, Range<usize>) {
        let (rows, mut part) = (part / self.by_group, part % self.by_group);
        let rows = rows * PART_ROWS..self.rows.min((rows + 1) * PART_ROWS);
        for (out, groups) in groups.enumerate() {
            let parts = groups.div_ceil(self.part_groups);
            if part < parts {
                let first = part * self.part_groups;
                return (out, first..(first + self.part_groups).min(groups), rows);
            }
            part -= parts;
        }
        unreachable!("a part beyond the last; this is a bug")
    }
}
