//! A step's products over the threads: rows of activations are prepared once, then groups of 16
//! weight rows with some rows of activations are parts.

use super::{Range, Scratch, Step, width_of};
use crate::cpu::acts::{PART_ROWS, Part, View};
use crate::cpu::pack::{BLOCK, LANES, Lanes};
use crate::cpu::pool::Member;
use crate::cpu::{Matrix, reference};
use crate::{Input, Out};

/// Up to so many rows every thread prepares a product's input for itself: cheaper than
/// waiting for each other.
pub(super) const PRIVATE_ROWS: usize = 4;

impl Step<'_> {
    pub(super) fn cut(&self, x: Input, outs: &[Out], threads: usize) -> Cut {
        let rows = outs.iter().map(|out| self.weight(out.w).rows);
        Cut::of(self.mem(width_of(x)).rows, rows, threads)
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

    /// Where a product's input is prepared, and whether every thread does so for itself.
    pub(super) fn view(&self, x: Input, scratch: &mut Scratch) -> (View, bool) {
        let (rows, cols) = (self.mem(width_of(x)).rows, self.mem(width_of(x)).width);
        let private = rows <= PRIVATE_ROWS;
        if !private {
            return (self.acts.shaped(rows, cols), false);
        }
        scratch.acts.reserve(rows, cols);
        (scratch.acts.view(rows, cols), true)
    }

    /// Prepares one row of a product's input.
    pub(super) fn prepare(&self, x: Input, row: usize, view: &View, quantised: bool) {
        // SAFETY: a row is prepared by one thread, or in a thread's own scratch.
        let (x_row, place) = unsafe { view.columns_mut(row, 0..view.cols()) };
        self.input(x, row, x_row);
        if quantised && view.cols().is_multiple_of(BLOCK) {
            // SAFETY: the kernel row runs here.
            unsafe { (self.cpu.kernels.quantise)(x_row, place) };
        }
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
        let packed = outs.iter().any(|out| self.weight(out.w).packed.is_some());
        let (view, private) = self.view(x, scratch);
        let prepare = |row| self.prepare(x, row, &view, packed);
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

    /// One group of 16 weight rows times rows of activations, which are quantised if the matrix is
    /// packed, into `scratch.tile`.
    pub(super) fn tiles(&self, w: &Matrix, group: usize, acts: &Part, scratch: &mut Scratch) {
        scratch.tile.resize(acts.rows, Lanes::default());
        match (&w.packed, self.cpu.kernels.product) {
            // SAFETY: the activations are quantised, with the matrix's columns.
            (Some(packed), Some(product)) => unsafe {
                product(packed, group, acts, &mut scratch.tile);
            },
            _ => plain(w, group, acts, &mut scratch.floats, &mut scratch.tile),
        }
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
        let acts = view.part(&rows);
        let bias = out.bias.map(|bias| self.weight(bias).floats.as_slice());
        for group in groups {
            self.tiles(w, group, &acts, scratch);
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
}

/// `y = (y +) tile (+ bias)`, as many lanes as `y` has.
#[inline(always)]
fn hand_over(Lanes(tile): &Lanes, bias: Option<&[f32]>, add: bool, y: &mut [f32]) {
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
#[derive(Debug)]
pub(super) struct Cut {
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

    pub(super) fn parts(&self) -> usize {
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
