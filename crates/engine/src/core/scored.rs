//! Prompts whose every position is wanted. Their rows of logits are told as they come and kept by
//! nobody; so that few are there at once, a step computes as many of such positions, all sequences
//! together, as may be answered at once, for which there is memory.
//!
//! Absent: what is made of the rows.

use super::{Core, Live};
use ingle_backend::{BLOCK_TOKENS, Sample};
use ingle_scheduler::{Chunk, SeqId};

/// The most rows of logits that a step's prompts have.
pub(crate) fn rows_most(running: usize) -> usize {
    running.max(BLOCK_TOKENS)
}

impl Live {
    /// How many of a chunk's rows are told of, before those that are sampled; nothing where its
    /// other positions have no rows.
    pub(super) fn told(&self, chunk: &Chunk) -> Option<usize> {
        let wide = self.scores && chunk.positions.start + 1 < self.prompt;
        let sampled =
            if chunk.sample && self.sampler.is_some() { 1 + chunk.draft.len() } else { 0 };
        (wide || self.sampler.is_none()).then(|| chunk.positions.len() - sampled)
    }

    /// Which rows of a chunk are wanted.
    pub(super) fn rows(&self, chunk: &Chunk) -> Sample {
        match (self.told(chunk), chunk.sample) {
            (Some(_), _) => Sample::All,
            (None, true) => Sample::Tail(1 + chunk.draft.len()),
            (None, false) => Sample::None,
        }
    }

    /// Tells of the rows before those that are sampled.
    pub(super) fn tell_rows<'a>(
        &mut self,
        chunk: &Chunk,
        rows: &mut impl Iterator<Item = &'a [f32]>,
    ) {
        let told = self.told(chunk).unwrap_or(0);
        for (position, row) in chunk.positions.clone().take(told).zip(rows) {
            self.watch.logits(position + 1, row);
        }
    }
}

impl Core {
    /// Shares the rows that a step may have among those whose prompts are told of.
    pub(super) fn bound_scored(&mut self) {
        let scored = self.live.iter().filter(|(_, live)| live.scores);
        let ids: Vec<SeqId> = scored.map(|(id, _)| *id).collect();
        let each = rows_most(self.running) / ids.len().max(1);
        ids.into_iter().for_each(|id| self.scheduler.bound(id, each));
    }
}
