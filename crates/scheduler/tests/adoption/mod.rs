//! What the world foretells of blocks that come from elsewhere, and of those that are to go there.

use super::{Life, Rng, Slot, World};
use ingle_scheduler::{BlockId, Fresh, Rank, Salt, Token};

/// A published block that was computed here, as the scheduler has to tell of it.
#[derive(Clone, Debug)]
pub(crate) struct Unsaved {
    pub(crate) block: BlockId,
    pub(crate) salt: Salt,
    pub(crate) tokens: Vec<Token>,
}

impl World {
    /// Offers blocks of a prefix of the past, all but its first `known` ones.
    pub(crate) fn adopt(&mut self, rng: &mut Rng) {
        if self.past.is_empty() {
            return;
        }
        let block_tokens = self.limits.block_tokens;
        let mut tokens = self.past[rng.below(self.past.len())].clone();
        tokens.truncate(tokens.len() / block_tokens * block_tokens);
        let salt = Salt(rng.below(4) as u64);
        let life = Life::new(&tokens, usize::MAX, Some(salt), Rank::default());
        let names: Vec<u64> =
            (1..=tokens.len() / block_tokens).map(|n| life.digests[n * block_tokens - 1]).collect();
        let there = names.iter().map_while(|name| self.published.get(name).copied());
        let mut held: Vec<BlockId> = there.collect();
        let known = rng.below(2) * rng.below(names.len() + 1);
        assert_eq!(self.scheduler.found(salt, &tokens), held.len(), "blocks that are published");
        let adopted = self.scheduler.adopt(salt, &tokens, known);
        if held.len() < known {
            assert_eq!(adopted, [], "its prefix is not there");
            return;
        }
        let first = held.len();
        held.iter().for_each(|block| self.users[block.0 as usize] += 1);
        let taken = (names.len() - first).min(self.unused());
        assert_eq!(adopted.len(), taken, "as many as there is room for");
        for (at, &(part, block)) in adopted.iter().enumerate() {
            assert_eq!(part, first + at, "the parts that are missing, in order");
            self.take(block);
            self.published.insert(names[part], block);
            self.names[block.0 as usize] = Some(names[part]);
            for slot in 0..block_tokens {
                let digest = life.digests[part * block_tokens + slot];
                self.memory.slots[block.0 as usize * block_tokens + slot] =
                    Some(Slot { digest, writer: None, salt: Some(salt) });
            }
            held.push(block);
        }
        self.story.adopted += taken as u64;
        self.story.unadopted += (names.len() - first - taken) as u64;
        self.release(&held);
    }

    /// Asks for some of what was published, oldest first.
    pub(crate) fn save(&mut self, rng: &mut Rng) {
        for _ in 0..rng.below(9) {
            let first = (!self.unsaved.is_empty()).then(|| self.unsaved.remove(0));
            self.story.saved += u64::from(first.is_some());
            let told = first.map(|Unsaved { block, salt, tokens }| Fresh { block, salt, tokens });
            assert_eq!(self.scheduler.fresh(), told, "what was computed and is still there");
        }
    }
}
