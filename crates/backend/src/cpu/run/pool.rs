//! What encoders do beside products and attention: tables that positions and kinds of text index,
//! and rows of a span made one. Absent: what a model puts between them.

use super::{Step, reference};
use crate::cpu::pool::Member;
use crate::cpu::{Matrix, Scratch};
use crate::{Buffer, Index, Op, Pooling};

impl Step<'_> {
    /// One of these ops, this thread's share.
    pub(super) fn encode(&self, at: usize, member: Member<'_>, scratch: &mut Scratch) {
        match &self.graph.ops[at] {
            Op::Lookup { table, by, y } => self.rows(at, self.size(*y), member, |row| {
                // SAFETY: this part's own row.
                let y = unsafe { self.mem(*y).write(row) };
                self.look_up(self.weight(*table), *by, row, y, &mut scratch.floats);
            }),
            Op::LayerNorm { x, gain, bias, y, eps } => {
                let gain = &self.weight(*gain).floats;
                let bias = bias.map(|bias| self.weight(bias).floats.as_slice());
                self.rows(at, self.size(*x), member, |row| {
                    let (x, y) = (self.mem(*x).row(row), self.mem(*y).row(row));
                    // SAFETY: this part's own row; the kernel row runs here.
                    unsafe { (self.cpu.kernels.layer_norm)(x, gain, bias, *eps, y) };
                });
            }
            Op::Activate { y, act } => self.rows(at, self.size(*y), member, |row| {
                // SAFETY: this part's own row; the kernel row runs here.
                unsafe {
                    let y = self.mem(*y).write(row);
                    let x = y.to_vec();
                    (self.cpu.kernels.gate)(*act, &x, None, y);
                }
            }),
            Op::Pool { x, y, how } => self.pool(at, (*x, *y, *how), member),
            _ => unreachable!("not an encoder's op; this is a bug"),
        }
    }

    /// Adds a row of a table to a token's row.
    pub(super) fn look_up(
        &self,
        table: &Matrix,
        by: Index,
        row: usize,
        y: &mut [f32],
        floats: &mut Vec<f32>,
    ) {
        let position = self.places[row].1;
        let at = match by {
            Index::Position => position,
            Index::Kind => {
                let second = self.batch.spans[self.span_of[row]].second;
                usize::from(second.is_some_and(|second| position >= second)).min(table.rows - 1)
            }
        };
        assert!(at < table.rows, "row {at} of a table of {}; this is a bug", table.rows);
        floats.resize(floats.len().max(table.cols), 0.0);
        let found = &mut floats[..table.cols];
        reference::unpack_row(table.format, &table.bytes, at, found);
        y.iter_mut().zip(found).for_each(|(y, v)| *y += *v);
    }

    /// Each span is a part: its rows are added up in their order.
    pub(super) fn pool(
        &self,
        at: usize,
        (x, y, how): (Buffer, Buffer, Pooling),
        member: Member<'_>,
    ) {
        self.rows(at, self.size(y), member, |span| {
            let first: usize = self.batch.spans[..span].iter().map(|span| span.tokens.len()).sum();
            let rows = first..first + self.batch.spans[span].tokens.len();
            // SAFETY: this part's own row; `x` is of an earlier stage.
            let (y, x) = unsafe { (self.mem(y).write(span), |row| self.mem(x).read(row)) };
            match how {
                Pooling::First => y.copy_from_slice(x(rows.start)),
                Pooling::Last => y.copy_from_slice(x(rows.end - 1)),
                Pooling::Mean => {
                    y.fill(0.0);
                    let share = 1.0 / rows.len() as f32;
                    rows.for_each(|row| y.iter_mut().zip(x(row)).for_each(|(y, x)| *y += x));
                    y.iter_mut().for_each(|y| *y *= share);
                }
                Pooling::LogMax => {
                    y.fill(0.0);
                    rows.for_each(|row| {
                        y.iter_mut().zip(x(row)).for_each(|(y, x)| *y = y.max(*x));
                    });
                    y.iter_mut().for_each(|y| *y = y.ln_1p());
                }
            }
        });
    }
}
