//! Masks beside the step: while the backend computes, one small thread works out what each
//! constrained sequence may say next. A guide goes to that thread and comes back with its masks,
//! so nothing is shared and nothing is locked; a sequence has at most one order under way, and the
//! queues hold one for each sequence of a step.
//!
//! Where there is no thread to be had, masks are made when they are needed.

use super::{Allowed, Guide};
use ingle_protocol::{Fault, Token};
use ingle_scheduler::SeqId;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::Instant;

/// Guides compute derivatives of expressions that may be deep.
const STACK_BYTES: usize = 64 << 20;

/// A live sequence's guide, here or away, and what it said.
pub(crate) struct Guided {
    guide: Option<Box<Guide>>,
    masks: Result<Vec<Allowed>, Fault>,
    /// Whether the tokens drafted for it are those that must come.
    pub(crate) forced: bool,
}

/// What masks took, in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MaskStats {
    pub(crate) masks: u64,
    /// Nanoseconds that they took, and that steps waited for them.
    pub(crate) made_ns: u64,
    pub(crate) awaited_ns: u64,
}

struct Order {
    id: SeqId,
    guide: Box<Guide>,
    draft: Vec<Token>,
}

struct Done {
    id: SeqId,
    guide: Box<Guide>,
    masks: Result<Vec<Allowed>, Fault>,
    took_ns: u64,
}

/// The thread that makes masks, once there is something to make.
pub(crate) struct Masks {
    link: Option<(SyncSender<Order>, Receiver<Done>)>,
    started: bool,
    /// What nobody could take: to be done when it is needed.
    left: Vec<Order>,
    under_way: usize,
    bound: usize,
    stats: MaskStats,
}

impl Guided {
    pub(crate) fn new(guide: Guide) -> Self {
        Self { guide: Some(Box::new(guide)), masks: Ok(Vec::new()), forced: false }
    }

    /// The guide, between steps.
    pub(crate) fn guide(&mut self) -> Result<&mut Guide, Fault> {
        let lost = || Fault::ours("what the answer may say is unknown: its mask failed");
        self.guide.as_deref_mut().ok_or_else(lost)
    }

    /// What may come after so many drafted tokens.
    pub(crate) fn allowed(&self, at: usize) -> Result<&Allowed, Fault> {
        let unknown = || Fault::ours("what the answer may say is unknown: no mask was made");
        self.masks.as_ref().map_err(Fault::clone)?.get(at).ok_or_else(unknown)
    }

    /// Takes in what was chosen; whether the answer is complete now.
    pub(crate) fn accept(&mut self, token: Token) -> Result<bool, Fault> {
        let guide = self.guide()?;
        guide.accept(token)?;
        Ok(guide.complete())
    }

    /// How many leading tokens of a guess are worth trying.
    pub(crate) fn agreed(&mut self, guess: &[Token]) -> usize {
        self.guide().map_or(0, |guide| guide.agreed(guess))
    }

    /// The tokens that must come next, at most so many of them, if a step is to take them at once.
    pub(crate) fn forced(&mut self, most: usize) -> Vec<Token> {
        let forced = self.guide().map(|guide| guide.forced().take(most).collect());
        let forced: Vec<Token> = forced.unwrap_or_default();
        self.forced = !forced.is_empty();
        forced
    }

    /// The guide is back.
    pub(crate) fn returned(&mut self, guide: Box<Guide>, masks: Result<Vec<Allowed>, Fault>) {
        (self.guide, self.masks) = (Some(guide), masks);
    }
}

impl Masks {
    /// For at most so many sequences in a step.
    pub(crate) fn new(bound: usize) -> Self {
        let (left, stats) = (Vec::new(), MaskStats::default());
        Self { link: None, started: false, left, under_way: 0, bound, stats }
    }

    pub(crate) fn stats(&self) -> MaskStats {
        self.stats
    }

    /// Lets masks be made for a sequence of the step that is about to start.
    pub(crate) fn order(&mut self, id: SeqId, guided: &mut Guided, draft: &[Token]) {
        guided.masks = Ok(Vec::new());
        let Some(guide) = guided.guide.take() else { return };
        let order = Order { id, guide, draft: draft.to_vec() };
        if !self.started {
            self.started = true;
            self.link = start(self.bound);
        }
        match &self.link {
            None => self.left.push(order),
            Some((orders, _)) => match orders.send(order) {
                Ok(()) => self.under_way += 1,
                Err(unsent) => self.left.push(unsent.0),
            },
        }
    }

    /// Waits for all that was ordered, and hands it back.
    pub(crate) fn gather(
        &mut self,
        mut back: impl FnMut(SeqId, Box<Guide>, Result<Vec<Allowed>, Fault>),
    ) {
        let mut give = |done: Done, stats: &mut MaskStats| {
            stats.made_ns += done.took_ns;
            let free = |allowed: &&Allowed| matches!(allowed, Allowed::Some(_));
            let made = done.masks.iter().flatten().filter(free).count();
            stats.masks += made as u64;
            back(done.id, done.guide, done.masks);
        };
        for order in self.left.drain(..) {
            give(make(order), &mut self.stats);
        }
        while self.under_way > 0 {
            let Some((_, done)) = &self.link else { break };
            let came = done.try_recv().or_else(|error| match error {
                TryRecvError::Disconnected => Err(()),
                TryRecvError::Empty => {
                    let from = Instant::now();
                    let came = done.recv().map_err(|_| ());
                    self.stats.awaited_ns += from.elapsed().as_nanos() as u64;
                    came
                }
            });
            // Without an answer its sequence has no mask, and fails for that.
            let Ok(came) = came else { break };
            self.under_way -= 1;
            give(came, &mut self.stats);
        }
        self.under_way = 0;
    }
}

fn start(bound: usize) -> Option<(SyncSender<Order>, Receiver<Done>)> {
    let (orders, inbox) = sync_channel::<Order>(bound);
    let (outbox, done) = sync_channel(bound);
    let work = move || {
        for order in inbox {
            if outbox.send(make(order)).is_err() {
                return;
            }
        }
    };
    let thread = std::thread::Builder::new().name("ingle-masks".into()).stack_size(STACK_BYTES);
    thread.spawn(work).ok().map(|_| (orders, done))
}

fn make(order: Order) -> Done {
    let Order { id, mut guide, draft } = order;
    let from = Instant::now();
    let masks = guide.allowed(&draft);
    Done { id, guide, masks, took_ns: from.elapsed().as_nanos() as u64 }
}
