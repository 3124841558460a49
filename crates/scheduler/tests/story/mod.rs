//! What lives were made of, summed up.

/// What happened in a life, to tell that the workload is worth its time; and a digest of every
/// decision.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Story {
    pub(crate) digest: u64,
    pub(crate) steps: u64,
    pub(crate) found: u64,
    pub(crate) found_midway: u64,
    pub(crate) preempted: u64,
    pub(crate) evicted: u64,
    pub(crate) twins: u64,
    /// Sequences that let another compute a block which they share.
    pub(crate) awaited: u64,
    pub(crate) cancelled: u64,
    pub(crate) refused: u64,
    pub(crate) stopped: u64,
    pub(crate) full: u64,
    /// Drafted tokens that came true, and those that did not.
    pub(crate) accepted: u64,
    pub(crate) rejected: u64,
    /// Drafts that were cut because the step, the blocks or the sequence had no more room.
    pub(crate) cut: [u64; 3],
    /// Newcomers that were admitted before an older one; those of them before one of their owner.
    pub(crate) overtakes: u64,
    pub(crate) urgent: u64,
    /// Sequences that ran and had to let others go first, by turn or for want of room.
    pub(crate) left_out: u64,
    /// Steps in which answers kept prompts short.
    pub(crate) held_back: u64,
    /// The greatest difference between two owners who wait, in percents of what is allowed.
    pub(crate) unfair_percent: u64,
    /// Blocks that were adopted; those offered that were not.
    pub(crate) adopted: u64,
    pub(crate) unadopted: u64,
    /// Published blocks that the scheduler told of.
    pub(crate) saved: u64,
    /// Blocks that were taken for drafts in vain.
    pub(crate) given_back: u64,
}

impl Story {
    pub(crate) fn add(&mut self, other: &Self) {
        self.digest ^= other.digest;
        self.steps += other.steps;
        self.found += other.found;
        self.found_midway += other.found_midway;
        self.preempted += other.preempted;
        self.evicted += other.evicted;
        self.twins += other.twins;
        self.awaited += other.awaited;
        self.cancelled += other.cancelled;
        self.refused += other.refused;
        self.stopped += other.stopped;
        self.full += other.full;
        self.accepted += other.accepted;
        self.rejected += other.rejected;
        self.given_back += other.given_back;
        self.overtakes += other.overtakes;
        self.urgent += other.urgent;
        self.left_out += other.left_out;
        self.held_back += other.held_back;
        self.adopted += other.adopted;
        self.unadopted += other.unadopted;
        self.saved += other.saved;
        self.unfair_percent = self.unfair_percent.max(other.unfair_percent);
        (0..3).for_each(|at| self.cut[at] += other.cut[at]);
    }
    /// Everything that has to happen often.
    pub(crate) fn counts(&self) -> [u64; 23] {
        [
            self.found,
            self.found_midway,
            self.preempted,
            self.evicted,
            self.twins,
            self.cancelled,
            self.refused,
            self.stopped,
            self.full,
            self.accepted,
            self.rejected,
            self.cut[0],
            self.cut[1],
            self.cut[2],
            self.given_back,
            self.overtakes,
            self.urgent,
            self.left_out,
            self.held_back,
            self.adopted,
            self.unadopted,
            self.saved,
            self.awaited,
        ]
    }
}
