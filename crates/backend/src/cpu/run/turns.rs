//! Which ops of a step one thread does alone. An op of one part has work for one thread, and where
//! such ops follow each other, handing each to whichever thread comes first costs more than it
//! brings: the run of them is one turn, for which the other threads wait once. What an op computes
//! does not depend on it.
//!
//! Absent: how many parts an op has; that is said where the op is.

use super::attend::Tile;
use super::{Op, Range, Step, row_parts};
use crate::cpu::acts::PART_ROWS;
use crate::cpu::pool::Member;
use crate::cpu::{Counter, Scratch};
use crate::{Attend, Graph};
use std::sync::atomic::Ordering;

/// Multiply-adds of attention, queries with keys and weights with values, that are not worth the
/// other threads' while: 1.8 µs on a core of a Zen 4, which makes 37 of them in a nanosecond (of
/// Gemma 3's prefill in `ingle inspect`).
const ATTEND_MACS: usize = 1 << 16;

/// Ops between which nobody waits for another thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) ops: Range<usize>,
    /// Whether one thread does all of it; else it is a stage, of which all take parts.
    pub(super) alone: bool,
}

/// Stages as turns, those next to each other that are for one thread as one.
pub(super) fn turns(stages: &[Range<usize>], alone: impl Fn(usize) -> bool) -> Vec<Turn> {
    let mut turns: Vec<Turn> = Vec::with_capacity(stages.len());
    for stage in stages {
        let now = stage.clone().all(&alone);
        match turns.last_mut() {
            Some(last) if now && last.alone => last.ops.end = stage.end,
            _ => turns.push(Turn { ops: stage.clone(), alone: now }),
        }
    }
    turns
}

impl Step<'_> {
    /// Whether an op has work for one thread alone.
    pub(super) fn alone(&self, graph: &Graph, at: usize) -> bool {
        match &graph.ops[at] {
            Op::Norm { x: row, .. }
            | Op::LayerNorm { x: row, .. }
            | Op::Lookup { y: row, .. }
            | Op::Activate { y: row, .. }
            | Op::Rope { x: row, .. }
            | Op::Embed { y: row, .. }
            | Op::Angles { y: row, .. }
            | Op::Gather { y: row, .. } => {
                let (rows, width) = self.size(*row);
                row_parts(rows, width).1 <= 1
            }
            Op::Attend(a) => self.attends_alone(a),
            // Matrices are read by all; the rest is rare.
            Op::MatMul { .. }
            | Op::Experts(_)
            | Op::Route { .. }
            | Op::Cap { .. }
            | Op::Pool { .. } => false,
        }
    }

    fn attends_alone(&self, a: &Attend) -> bool {
        if self.places.len() > PART_ROWS {
            return false;
        }
        let macs = |tile: &Tile| 2 * a.dim * tile.rows(a).count() * tile.seen(a);
        let (rows, width) = self.size(a.k);
        let macs: usize = self.attention_tiles(a).iter().map(macs).sum();
        row_parts(rows, width).1 <= 1 && macs <= ATTEND_MACS
    }

    /// A turn that is for one thread: does it, or waits for whoever does.
    pub(super) fn turn_alone(&self, ops: Range<usize>, member: Member<'_>, scratch: &mut Scratch) {
        let Counter { taken, done } = self.counter(ops.start, 3);
        if taken.load(Ordering::Relaxed) == 0 && taken.fetch_add(1, Ordering::Relaxed) == 0 {
            for at in ops {
                self.op(at, member.alone(), scratch);
            }
            done.store(1, Ordering::Release);
            member.announce();
        }
        member.wait_until(|| done.load(Ordering::Acquire) == 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_for_one_thread_are_one_turn() {
        let check = |small: &[usize], expect: &[(Range<usize>, bool)]| {
            let turns = turns(&[0..1, 1..3, 3..4, 4..6, 6..7], |at| small.contains(&at));
            let turns: Vec<_> = turns.into_iter().map(|turn| (turn.ops, turn.alone)).collect();
            assert_eq!(turns, expect, "{small:?}");
        };
        let shared = |ops| (ops, false);
        check(&[], &[0..1, 1..3, 3..4, 4..6, 6..7].map(shared));
        check(
            &[0, 1, 3],
            &[(0..1, true), (1..3, false), (3..4, true), (4..6, false), (6..7, false)],
        );
        check(&[1, 2, 3, 5], &[(0..1, false), (1..4, true), (4..6, false), (6..7, false)]);
        check(&[0, 1, 2, 3, 4, 5, 6], &[(0..7, true)]);
    }
}
