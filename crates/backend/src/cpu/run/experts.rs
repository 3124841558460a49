//! A step's mixtures of experts over the threads. Parts are columns of an expert: first of what its
//! gate lets through, for the tokens that chose it together, then of the sum that goes to the
//! residual stream, one expert after another, so that a token's sum has one order whatever else is
//! in the batch. Only matrices of chosen experts are read.

use super::{Range, Scratch, Step, width_of};
use crate::cpu::acts::{PART_ROWS, Part, View};
use crate::cpu::pack::{BLOCK, LANES, Lanes};
use crate::cpu::pool::Member;
use crate::cpu::prepare::{Source, Way};
use crate::cpu::{Cpu, reference};
use crate::{Batch, Buffer, Experts, Mixing, Op, Rows, Stack, Weight};

/// Columns within an expert that a part takes at most: what leaves the gate and what it gates then
/// stay in the L1 cache, beside [`PART_ROWS`] rows.
const PART_BLOCKS: usize = 4;
/// Groups of 16 columns of the sum that a part takes at most.
const PART_GROUPS: usize = 8;

/// As [`super::check`].
pub(super) fn check(cpu: &Cpu, e: &Experts) {
    let width = |b: Buffer| cpu.buffers[b.0 as usize].width;
    let matrix = |w: Weight| &cpu.weights[w.0 as usize];
    let cols = width(width_of(e.x));
    assert_eq!(width(e.routes), 2 * e.used);
    assert!((1..=e.experts).contains(&e.used) && e.hidden > 0);
    for (stack, rows, cols) in
        [(e.gate, e.hidden, cols), (e.up, e.hidden, cols), (e.down, width(e.y), e.hidden)]
    {
        let w = matrix(stack.w);
        assert_eq!((w.rows, w.cols), (e.experts * stack.stride, cols));
        assert!(stack.first + rows <= stack.stride);
        assert!(stack.bias.is_none_or(|bias| matrix(bias).floats.len() == w.rows));
    }
    for b in e.x.reads().into_iter().chain([e.routes, e.y]) {
        assert_eq!(cpu.buffers[b.0 as usize].rows, Rows::Tokens);
    }
}

/// Rows and width of the activations between an op's products, if it is a mixture of experts.
pub(in crate::cpu) fn between(batch: &Batch, op: &Op) -> Option<(usize, usize)> {
    let Op::Experts(e) = op else { return None };
    Some((batch.tokens() * e.used, e.hidden))
}

/// Which pairs of a token and one of its experts each expert has; a pair is the token's row times
/// the experts that a token has, plus the expert's place among these.
#[derive(Debug)]
struct Chosen {
    /// `(expert, pair)`, ascending.
    pairs: Vec<(usize, usize)>,
    /// Of `pairs`, the run of each expert that has any.
    runs: Vec<Range<usize>>,
}

impl Chosen {
    fn of(mut pairs: Vec<(usize, usize)>) -> Self {
        pairs.sort_unstable();
        let mut end = 0;
        let run = |run: &[(usize, usize)]| {
            end += run.len();
            end - run.len()..end
        };
        let runs = pairs.chunk_by(|a, b| a.0 == b.0).map(run).collect();
        Self { pairs, runs }
    }

    /// An expert's pairs, as many at a time as a part takes.
    fn chunks(&self, run: usize) -> impl Iterator<Item = &[(usize, usize)]> {
        self.runs.get(run).into_iter().flat_map(|run| self.pairs[run.clone()].chunks(PART_ROWS))
    }
}

/// How the op is cut into parts: known before it is known which experts are chosen, so that every
/// thread, however late, knows when all is done.
#[derive(Clone, Copy, Debug)]
struct Cut {
    /// Experts that may be chosen.
    most: usize,
    /// Columns of a part within an expert, and parts of an expert.
    inner: (usize, usize),
    /// Columns of a part of the sum, and parts of it.
    outer: (usize, usize),
}

impl Cut {
    fn of(e: &Experts, pairs: usize, width: usize, threads: usize) -> Self {
        let cut = |columns: usize, times: usize, by: usize, most: usize| {
            let units = columns.div_ceil(by);
            let part = by * (units * times).div_ceil(threads * 8).clamp(1, most);
            (part, columns.div_ceil(part))
        };
        let most = pairs.min(e.experts);
        let inner = cut(e.hidden, most, BLOCK, PART_BLOCKS);
        Self { most, inner, outer: cut(width, 1, LANES, PART_GROUPS) }
    }
}

impl Step<'_> {
    pub(super) fn route(
        &self,
        at: usize,
        (logits, routes, mixing): (Buffer, Buffer, Mixing),
        member: Member<'_>,
    ) {
        self.rows(at, self.size(logits), member, |row| {
            // SAFETY: this part's own row; the logits are of an earlier stage.
            let (logits, routes) =
                unsafe { (self.mem(logits).read(row), self.mem(routes).write(row)) };
            reference::route(logits, mixing, routes);
        });
    }

    /// As [`Step::last`].
    pub(super) fn last_of_experts(&self, e: &Experts, threads: usize) -> (usize, usize) {
        (2, self.cut_experts(e, threads).outer.1)
    }

    fn cut_experts(&self, e: &Experts, threads: usize) -> Cut {
        Cut::of(e, self.places.len() * e.used, self.mem(e.y).width, threads)
    }

    pub(super) fn experts(
        &self,
        at: usize,
        e: &Experts,
        member: Member<'_>,
        scratch: &mut Scratch,
    ) {
        let rows = self.places.len();
        let wanted = self.wanted([e.gate.w, e.up.w].into_iter());
        let (view, private) = self.view(e.x, false, scratch);
        if !private {
            self.prepare_all(at, e.x, &view, wanted, member);
        }
        let Cut { most, inner, outer } = self.cut_experts(e, member.threads());
        let (mut chosen, mut prepared) = (None, !private);
        self.parts(at, 1, most * inner.1, member, |part| {
            // Only with a part in hand: what is read may be overwritten once all are done.
            if !prepared {
                self.prepare(e.x, 0..rows, &view, wanted);
                prepared = true;
            }
            let chosen = chosen.get_or_insert_with(|| self.chosen(e));
            let first = part % inner.1 * inner.0;
            let columns = first..e.hidden.min(first + inner.0);
            for pairs in chosen.chunks(part / inner.1) {
                self.gated(e, pairs, &columns, &view, scratch);
            }
        });
        self.settle_half(at, 1, most * inner.1, member);
        self.parts(at, 2, outer.1, member, |part| {
            let chosen = chosen.get_or_insert_with(|| self.chosen(e));
            let first = part * outer.0;
            let columns = first..self.mem(e.y).width.min(first + outer.0);
            for pairs in (0..chosen.runs.len()).flat_map(|run| chosen.chunks(run)) {
                self.summed(e, pairs, &columns, scratch);
            }
        });
    }

    fn chosen(&self, e: &Experts) -> Chosen {
        let used = e.used;
        let of_row = |row: usize| {
            // SAFETY: the routes are of an earlier stage.
            let routes = unsafe { self.mem(e.routes).read(row) };
            let experts = routes[..used].iter().enumerate();
            experts.map(move |(place, expert)| (*expert as usize, row * used + place))
        };
        Chosen::of((0..self.places.len()).flat_map(of_row).collect())
    }

    /// Columns of what an expert's gate lets through, for some of its pairs.
    fn gated(
        &self,
        e: &Experts,
        pairs: &[(usize, usize)],
        columns: &Range<usize>,
        view: &View,
        scratch: &mut Scratch,
    ) {
        let (expert, used) = (pairs[0].0, e.used);
        let rows: Vec<usize> = pairs.iter().map(|(_, pair)| pair / used).collect();
        let mut picked = std::mem::take(&mut scratch.picked);
        // SAFETY: the rows are prepared.
        let acts = unsafe { picked.pick(view, &rows) };
        let each = columns.len();
        let mut floats = std::mem::take(&mut scratch.gates);
        floats.resize(floats.len().max(2 * each * pairs.len()), 0.0);
        let (gates, ups) = floats.split_at_mut(each * pairs.len());
        for (stack, to) in [(e.gate, &mut *gates), (e.up, &mut *ups)] {
            self.stacked(stack, expert, columns, &acts, scratch, |row, at, values| {
                to[row * each + at..][..values.len()].copy_from_slice(values);
            });
        }
        let wanted = self.wanted([e.down.w].into_iter());
        let between = self.between_of(e);
        let rows = gates.chunks_exact(each).zip(ups.chunks_exact(each));
        for ((_, pair), (gate, up)) in pairs.iter().zip(rows) {
            // SAFETY: no other part has these columns of this row; the kernel row runs here.
            unsafe {
                let (x, place) = between.columns_mut(*pair, columns.clone());
                if wanted.ints {
                    let way = Way::Gated { up: up.as_ptr(), act: e.act };
                    let x = gate.as_ptr();
                    let from = Source { x, stride: each, rows: 1, cols: each, way, high: false };
                    (self.cpu.kernels.quantise)(&from, place);
                }
                if wanted.floats {
                    (self.cpu.kernels.gate)(e.act, gate, Some(up), x);
                }
            }
        }
        (scratch.gates, scratch.picked) = (floats, picked);
    }

    /// What is between the two products: a row for each pair.
    fn between_of(&self, e: &Experts) -> View {
        self.between.shaped(self.places.len() * e.used, e.hidden)
    }

    /// Adds an expert's share to columns of the sum, for some of its pairs.
    fn summed(
        &self,
        e: &Experts,
        pairs: &[(usize, usize)],
        columns: &Range<usize>,
        scratch: &mut Scratch,
    ) {
        let (expert, used) = (pairs[0].0, e.used);
        let rows: Vec<usize> = pairs.iter().map(|(_, pair)| *pair).collect();
        let mut picked = std::mem::take(&mut scratch.picked);
        // SAFETY: the rows are of an earlier half.
        let acts = unsafe { picked.pick(&self.between_of(e), &rows) };
        self.stacked(e.down, expert, columns, &acts, scratch, |row, at, values| {
            let (row, place) = (pairs[row].1 / used, pairs[row].1 % used);
            // SAFETY: the routes are of an earlier stage; no other part has these columns.
            let (share, y) = unsafe {
                let y = self.mem(e.y).row(row).add(columns.start + at);
                let share = self.mem(e.routes).read(row)[used + place];
                (share, std::slice::from_raw_parts_mut(y, values.len()))
            };
            y.iter_mut().zip(values).for_each(|(y, value)| *y += share * value);
        });
        scratch.picked = picked;
    }

    /// The product of some rows of an expert's matrix, the columns of what comes out, with rows of
    /// activations. `each` gets a row's number, how far into the columns it is, and values.
    fn stacked(
        &self,
        stack: Stack,
        expert: usize,
        columns: &Range<usize>,
        acts: &Part,
        scratch: &mut Scratch,
        mut each: impl FnMut(usize, usize, &[f32]),
    ) {
        let w = self.weight(stack.w);
        let first = expert * stack.stride + stack.first;
        let rows = first + columns.start..first + columns.end;
        assert!(rows.end <= w.rows, "expert {expert} is not there; this is a bug");
        let bias = stack.bias.map(|bias| self.weight(bias).floats.as_slice());
        // Where experts are no whole groups, those at their edges are computed for both.
        for group in rows.start / LANES..rows.end.div_ceil(LANES) {
            let Scratch { tile, floats, .. } = scratch;
            tile.resize(tile.len().max(acts.rows), Lanes::default());
            self.tiles(w, group, acts, floats, &mut tile[..acts.rows]);
            let own = rows.start.max(group * LANES)..rows.end.min((group + 1) * LANES);
            let lanes = own.start - group * LANES..own.end - group * LANES;
            for (row, Lanes(tile)) in tile[..acts.rows].iter_mut().enumerate() {
                let values = &mut tile[lanes.clone()];
                if let Some(bias) = bias {
                    values.iter_mut().zip(&bias[own.clone()]).for_each(|(v, bias)| *v += bias);
                }
                each(row, own.start - rows.start, values);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn experts_get_their_pairs_in_order() {
        let chosen = Chosen::of(vec![(5, 0), (2, 1), (2, 2), (9, 3), (2, 4)]);
        let chunks = |run| chosen.chunks(run).map(<[_]>::to_vec).collect::<Vec<_>>();
        assert_eq!(chunks(0), [[(2, 1), (2, 2), (2, 4)]]);
        assert_eq!((chunks(1), chunks(2)), (vec![vec![(5, 0)]], vec![vec![(9, 3)]]));
        assert_eq!(chunks(3).len(), 0, "fewer experts than might have been");
        let many = Chosen::of((0..PART_ROWS + 1).map(|pair| (0, pair)).collect());
        assert_eq!(many.chunks(0).map(<[_]>::len).collect::<Vec<_>>(), [PART_ROWS, 1]);
    }
}
