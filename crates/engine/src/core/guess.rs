//! Who gets drafts in the next step, and from where: what a sequence said before comes first, and
//! where that tells nothing, a second model may guess. Its steps are turns of the loop like the
//! first one's, so that time is told between them.
//!
//! Absent here: whether a draft pays (`draft`), and what becomes of it.

use super::{Core, Live};
use crate::Speculation;
use crate::draft::Lookup;
use crate::draft::model::{Asking, Guesser};
use ingle_backend::Backend;
use ingle_model::archs::Network;
use ingle_protocol::Fault;
use ingle_scheduler::{Chunk, SeqId};
use std::time::Duration;

impl Core {
    /// Lets a second, small model guess, its keys and values taking at most so many bytes. Its
    /// tokens have to mean the same texts. A core that is never told the time makes no use of it,
    /// since it cannot know whether that pays.
    ///
    /// # Errors
    /// Where the backend refuses the model.
    pub fn guess_with(
        &mut self,
        backend: Box<dyn Backend>,
        network: Network,
        kv_bytes: usize,
        progress: &mut dyn FnMut(f32),
    ) -> Result<(), Fault> {
        let first = (self.network.vocabulary, self.network.weight_bytes);
        let guesser = Guesser::new(backend, network, kv_bytes, first, progress);
        let refused = |refusal| Fault::ours(format!("the draft model: {refusal}"));
        self.guesser = Some(guesser.map_err(refused)?);
        Ok(())
    }

    /// Prepares the next step's drafts; false while the second model works on them.
    pub(super) fn drafted(&mut self) -> bool {
        if self.speculation == Speculation::None {
            return true;
        }
        if !self.guesser.as_ref().is_some_and(Guesser::working) {
            self.draft();
        }
        let (Some(guesser), Some(now)) = (&mut self.guesser, self.now) else { return true };
        let over = guesser.turn(now);
        if over {
            for (id, mut draft) in guesser.drafts() {
                if let Some(guided) = self.live.get_mut(&id).and_then(|live| live.guided.as_mut()) {
                    draft.truncate(guided.agreed(&draft));
                }
                self.scheduler.draft(id, &draft);
            }
        }
        over
    }

    /// Proposes to the scheduler what may follow the tokens of those who decode, and has guessed
    /// what may follow the others'.
    fn draft(&mut self) {
        let tokens = |id| self.scheduler.tokens(id).expect("forgotten together");
        let decodes = |(id, live): (&SeqId, &Live)| tokens(*id).len() > live.prompt;
        let decoding = self.live.iter().filter(|&live| decodes(live)).count();
        let alone = self.alone();
        let (mut drafts, mut asking) = (Vec::new(), Vec::new());
        for (&id, live) in &mut self.live {
            let Some(sampler) = live.sampler.as_ref().filter(|_| live.started) else { continue };
            let tokens = self.scheduler.tokens(id).expect("forgotten together");
            let lookup = live.lookup.get_or_insert_with(|| Lookup::new(self.context));
            lookup.read(tokens);
            if !alone || tokens.len() <= live.prompt {
                continue;
            }
            let mut draft = lookup.propose(tokens, decoding);
            if let Some(guided) = &mut live.guided {
                draft.truncate(guided.agreed(&draft));
            }
            if !draft.is_empty() {
                drafts.push((id, draft));
            } else if self.guesser.is_some() && self.scheduler.runs(id) {
                let (tokens, sampler) = (tokens.to_vec(), sampler.again());
                asking.push(Asking { id, tokens, prompt: live.prompt, sampler });
            }
        }
        let rows = decoding + drafts.iter().map(|(_, draft)| draft.len()).sum::<usize>();
        for (id, draft) in &drafts {
            self.scheduler.draft(*id, draft);
        }
        if let Some(guesser) = &mut self.guesser {
            let waits = |id: &&SeqId| !self.scheduler.runs(**id);
            self.live.keys().filter(waits).for_each(|id| guesser.forget(*id));
            guesser.begin(asking, decoding, rows);
        }
    }

    /// Learns what came of a sequence's draft, and counts it.
    pub(super) fn settle(&mut self, id: SeqId, drafted: usize, accepted: usize) {
        let guessed = self.guesser.as_mut().is_some_and(|one| one.settle(id, drafted, accepted));
        let live = self.live.get_mut(&id).expect("planned, so it lives");
        if let Some(lookup) = &mut live.lookup {
            let own = if guessed { (0, 0) } else { (drafted, accepted) };
            lookup.settle(own.0, own.1);
        }
        if drafted > 0 {
            live.watch.speculated(accepted, drafted - accepted);
        }
        self.stats.drafted_tokens += drafted as u64;
        self.stats.accepted_tokens += accepted as u64;
        if guessed {
            self.stats.drafted_by_model += drafted as u64;
            self.stats.accepted_by_model += accepted as u64;
        }
    }

    /// Tells the second model what a step of the first one took.
    pub(super) fn weigh(&mut self, step: &[Chunk], prompts: usize, took: Duration) {
        if let Some(guesser) = &mut self.guesser {
            let rows = step.iter().map(|chunk| chunk.positions.len()).sum();
            guesser.step(rows, step.len(), prompts > 0, took);
        }
    }
}
