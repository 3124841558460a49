//! Both kinds of BPE as one loop: a line of symbols, of which the best neighbouring pair is joined
//! until no pair is left that may be. What makes a pair good is a function of the two; a heap
//! keeps this at O(n log n), however long the word.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// No neighbour.
const NONE: u32 = u32::MAX;

/// A symbol of the line, named by the caller's `id`; `bytes` of the text from `start` on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Symbol {
    pub(super) id: u32,
    pub(super) start: u32,
    pub(super) bytes: u32,
    before: u32,
    after: u32,
}

/// Joins `left` and `right` into `id`; the greatest `merit` goes first, then the leftmost.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    merit: f32,
    at: u32,
    left: u32,
    right: u32,
    id: u32,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.merit.total_cmp(&other.merit).then_with(|| other.at.cmp(&self.at))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

/// The line and its heap, kept between words so that their memory is used again.
#[derive(Debug, Default)]
pub(super) struct Line {
    symbols: Vec<Symbol>,
    heap: BinaryHeap<Candidate>,
}

impl Line {
    /// Starts a new, empty line.
    pub(super) fn clear(&mut self) {
        self.symbols.clear();
        self.heap.clear();
    }

    /// Appends a symbol of so many bytes.
    pub(super) fn push(&mut self, id: u32, bytes: usize) {
        let at = self.symbols.len() as u32;
        let (before, start) = match self.symbols.last_mut() {
            Some(last) => {
                last.after = at;
                (at - 1, last.start + last.bytes)
            }
            None => (NONE, 0),
        };
        self.symbols.push(Symbol { id, start, bytes: bytes as u32, before, after: NONE });
    }

    /// Joins pairs until none is left for which `join` gives a merit and the pair's new id.
    pub(super) fn merge(&mut self, join: impl Fn(&Symbol, &Symbol) -> Option<(f32, u32)>) {
        for at in 1..self.symbols.len() as u32 {
            self.consider(at - 1, &join);
        }
        while let Some(best) = self.heap.pop() {
            let left = self.symbols[best.at as usize];
            if left.id != best.left || left.bytes == 0 || left.after == NONE {
                continue; // joined meanwhile
            }
            let right = self.symbols[left.after as usize];
            if right.id != best.right {
                continue;
            }
            self.symbols[left.after as usize].bytes = 0;
            if right.after != NONE {
                self.symbols[right.after as usize].before = best.at;
            }
            let joined = &mut self.symbols[best.at as usize];
            joined.id = best.id;
            joined.bytes += right.bytes;
            joined.after = right.after;
            self.consider(best.at, &join);
            if left.before != NONE {
                self.consider(left.before, &join);
            }
        }
    }

    fn consider(&mut self, at: u32, join: &impl Fn(&Symbol, &Symbol) -> Option<(f32, u32)>) {
        let left = &self.symbols[at as usize];
        if left.after == NONE {
            return;
        }
        let right = &self.symbols[left.after as usize];
        if let Some((merit, id)) = join(left, right) {
            self.heap.push(Candidate { merit, at, left: left.id, right: right.id, id });
        }
    }

    /// What is left, in order.
    pub(super) fn symbols(&self) -> impl Iterator<Item = &Symbol> {
        self.symbols.iter().filter(|symbol| symbol.bytes > 0)
    }
}
