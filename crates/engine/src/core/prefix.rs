//! How the loop and the disk meet. A job whose prefix seems to be on disk is put aside until its
//! blocks are back, or until one is missing; a few of them are taken in each turn, so that nobody
//! else's step waits for long. Blocks that were computed are handed to the writer now and then.
//!
//! One sequence is read at a time: those behind it that share its prefix find it in memory then.

use super::{Core, Ending, Job};
use crate::PrefixDisk;
use crate::prefix::{self, Disk, Fetch, Identity, Key, Loaded, Name, Payload, Queue, Salts, Write};
use ingle_backend::{BLOCK_TOKENS, Backend, Batch, Span};
use ingle_scheduler::{Salt, Scheduler};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::time::{Duration, Instant};

/// The most jobs that are put aside; one more is computed instead.
const ASIDE_MOST: usize = 64;
/// Bytes that are taken in beside others' steps, in one turn: a few milliseconds of copying.
const TURN_BYTES: usize = 4 << 20;
/// While anyone runs, a block is handed to the writer in one turn of so many: the copy takes about
/// a twentieth of a small model's step.
const SAVE_TURNS: u64 = 4;
/// How long writing may take when the engine ends.
const END: Duration = Duration::from_secs(10);

/// A job that is not in the scheduler yet.
struct Aside {
    job: Job,
    salt: Salt,
    /// Blocks of its prompt that were read.
    blocks: usize,
}

/// The job whose blocks are being read.
struct Active {
    aside: Aside,
    ticket: u64,
    wanted: Arc<AtomicBool>,
}

/// A prefix cache on disk, as the loop sees it.
pub(super) struct Kept {
    disk: Arc<Disk>,
    identity: Identity,
    block_bytes: usize,
    fetches: SyncSender<Fetch>,
    loaded: Receiver<Loaded>,
    /// What came while the loop rested.
    early: Option<Loaded>,
    queue: Queue,
    active: Option<Active>,
    waiting: VecDeque<Aside>,
    tickets: u64,
    turns: u64,
}

/// What becomes of a job that was aside.
type Ready = (Aside, Option<Ending>);

impl Kept {
    fn open(
        options: &PrefixDisk,
        warn: fn(&str),
        identity: Identity,
        block_bytes: usize,
    ) -> io::Result<Self> {
        let disk = Arc::new(Disk::open(&options.folder, options.bytes_most, warn)?);
        let (fetches, loaded) =
            prefix::read(Arc::clone(&disk), identity, BLOCK_TOKENS, block_bytes)?;
        let queue = Queue::start(Arc::clone(&disk), identity, BLOCK_TOKENS)?;
        Ok(Self {
            disk,
            identity,
            block_bytes,
            fetches,
            loaded,
            early: None,
            queue,
            active: None,
            waiting: VecDeque::new(),
            tickets: 0,
            turns: 0,
        })
    }

    pub(super) fn aside(&self) -> usize {
        self.waiting.len() + usize::from(self.active.is_some())
    }

    /// Where a prompt's blocks in memory end, and those on disk after them, one token left aside.
    fn ahead(&self, scheduler: &Scheduler, aside: &Aside, salt: &str) -> (usize, Vec<Name>) {
        let prompt = &aside.job.prompt;
        let tokens = &prompt[..prompt.len().saturating_sub(1) / BLOCK_TOKENS * BLOCK_TOKENS];
        let first = scheduler.found(aside.salt, tokens);
        let key = Key { identity: &self.identity, salt, tokens };
        let names = prefix::names(key, BLOCK_TOKENS).skip(first);
        (first, names.take_while(|name| self.disk.has(*name)).collect())
    }

    /// Begins to read what of a job's prompt is on disk; gives it back where there is nothing.
    fn begin(&mut self, scheduler: &Scheduler, salts: &Salts, aside: Aside) -> Option<Aside> {
        let Some(salt) = salts.text(aside.salt) else { return Some(aside) };
        let (first, names) = self.ahead(scheduler, &aside, &salt);
        if names.is_empty() {
            return Some(aside);
        }
        if self.active.is_some() {
            self.waiting.push_back(aside);
            return None;
        }
        let (ticket, wanted) = (self.tickets, Arc::new(AtomicBool::new(true)));
        self.tickets += 1;
        let tokens = aside.job.prompt.clone();
        let fetch = Fetch { ticket, salt, tokens, first, names, wanted: Arc::clone(&wanted) };
        if self.fetches.try_send(fetch).is_err() {
            return Some(aside); // it has yet to notice that the last one is not wanted
        }
        self.active = Some(Active { aside, ticket, wanted });
        None
    }

    /// Takes in what was read. Returns the jobs that go on, and those that end.
    fn turn(
        &mut self,
        scheduler: &mut Scheduler,
        backend: &mut dyn Backend,
        salts: &Salts,
        now: Option<Instant>,
    ) -> Vec<Ready> {
        let mut ready = self.drop_unwanted(now);
        let mut bytes = match scheduler.idle() {
            true => usize::MAX,
            false => TURN_BYTES,
        };
        loop {
            if self.active.is_some() {
                if !self.receive(scheduler, backend, &mut bytes) {
                    return ready;
                }
                let Active { aside, wanted, .. } = self.active.take().expect("active");
                wanted.store(false, Ordering::Release);
                ready.push((aside, None));
            }
            let Some(next) = self.waiting.pop_front() else { return ready };
            ready.extend(self.begin(scheduler, salts, next).map(|aside| (aside, None)));
        }
    }

    /// Those who were cancelled or are too late.
    fn drop_unwanted(&mut self, now: Option<Instant>) -> Vec<Ready> {
        let why = |aside: &Aside| super::gone(&aside.job.cancelled, aside.job.deadline, now);
        let mut ready = Vec::new();
        for aside in std::mem::take(&mut self.waiting) {
            match why(&aside) {
                None => self.waiting.push_back(aside),
                ending => ready.push((aside, ending)),
            }
        }
        if let Some(ending) = self.active.as_ref().and_then(|active| why(&active.aside)) {
            let Active { aside, wanted, .. } = self.active.take().expect("active");
            wanted.store(false, Ordering::Release);
            ready.push((aside, Some(ending)));
        }
        ready
    }

    /// Takes in blocks of the active job; true when no more of them come.
    fn receive(
        &mut self,
        scheduler: &mut Scheduler,
        backend: &mut dyn Backend,
        bytes: &mut usize,
    ) -> bool {
        let Some(active) = &mut self.active else { return true };
        let (mut parts, mut ended) = (Vec::<(usize, Payload)>::new(), false);
        while *bytes > 0 && !ended {
            let told = self.early.take().map_or_else(|| self.loaded.try_recv(), Ok);
            match told {
                Ok(Loaded::Block { ticket, at, payload }) if ticket == active.ticket => {
                    *bytes = bytes.saturating_sub(payload.bytes().len());
                    parts.push((at, payload));
                }
                Ok(Loaded::End { ticket }) if ticket == active.ticket => ended = true,
                Ok(_) => {} // of one that nobody wants any more
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => ended = true,
            }
        }
        let (Some(&(first, _)), Some((last, _))) = (parts.first(), parts.last()) else {
            return ended;
        };
        let (salt, prefix) = (active.aside.salt, (last + 1) * BLOCK_TOKENS);
        let prefix = &active.aside.job.prompt[..prefix];
        for (at, block) in scheduler.adopt(salt, prefix, first) {
            backend.restore(block.0, parts[at - first].1.bytes());
            active.aside.blocks += 1;
        }
        // Where not all are there now, there was no room, or what came before was evicted.
        ended || scheduler.found(salt, prefix) < prefix.len() / BLOCK_TOKENS
    }

    /// Waits for a block, for a moment.
    fn rest(&mut self) {
        if self.active.is_some() && self.early.is_none() {
            self.early = self.loaded.recv_timeout(Duration::from_millis(1)).ok();
        }
    }

    /// Hands up to `most` blocks that nobody has written yet to the writer, as it has room. False
    /// where none is left.
    fn save(
        &mut self,
        scheduler: &mut Scheduler,
        backend: &dyn Backend,
        salts: &Salts,
        most: usize,
    ) -> bool {
        for _ in 0..most {
            if !self.queue.has_room() {
                return true;
            }
            let Some(fresh) = scheduler.fresh() else { return false };
            let Some(salt) = salts.text(fresh.salt) else { continue };
            let key = Key { identity: &self.identity, salt: &salt, tokens: &fresh.tokens };
            let mut file = prefix::head(key, self.block_bytes);
            file.reserve_exact(self.block_bytes + prefix::SUM);
            backend.save(fresh.block.0, &mut file);
            self.queue.push(Write::Block { salt, tokens: fresh.tokens, file });
        }
        true
    }
}

impl Core {
    /// Keeps cached prefixes in a directory, too, and uses those that are there. `identity` makes
    /// the model's of the keys and values of a few tokens.
    pub(crate) fn keep(
        &mut self,
        options: &PrefixDisk,
        warn: fn(&str),
        identity: impl FnOnce(&[u8]) -> Identity,
    ) {
        if self.salts.is_none() {
            return;
        }
        let tokens =
            (0..BLOCK_TOKENS).map(|at| (at * self.network.vocabulary / BLOCK_TOKENS) as u32);
        let span = Span { tokens: tokens.collect(), blocks: vec![0], ..Span::default() };
        let ticket = self.backend.submit(&self.network.graph, &Batch { spans: vec![span] });
        while self.backend.poll(ticket).is_none() {
            std::thread::yield_now();
        }
        let mut block = Vec::new();
        self.backend.save(0, &mut block);
        match Kept::open(options, warn, identity(&block), block.len()) {
            Ok(kept) => self.kept = Some(kept),
            Err(error) => warn(&format!(
                "prefixes cannot be kept in {}: {error}; answers go on without. Choose another \
                 directory with --prefix-cache-dir",
                options.folder.display()
            )),
        }
    }

    /// Puts a job aside if its prefix is on disk; gives it back if not.
    pub(super) fn set_aside(&mut self, job: Job, salt: Option<Salt>) -> Option<Job> {
        let (Some(kept), Some(salts), Some(salt)) = (&mut self.kept, &self.salts, salt) else {
            return Some(job);
        };
        if let Some(text) = salts.text(salt) {
            let tokens = job.prompt.clone();
            kept.queue.push(Write::Used { salt: text, tokens });
        }
        if kept.waiting.len() >= ASIDE_MOST {
            return Some(job);
        }
        let aside = Aside { job, salt, blocks: 0 };
        kept.begin(&self.scheduler, salts, aside).map(|aside| aside.job)
    }

    /// Takes in what was read from disk, and lets those go on whose prefix is here.
    pub(super) fn take_in(&mut self) {
        let (Some(kept), Some(salts)) = (&mut self.kept, &self.salts) else { return };
        for (aside, ending) in kept.turn(&mut self.scheduler, &mut *self.backend, salts, self.now) {
            match ending {
                None => self.enter(aside.job, Some(aside.salt), aside.blocks * BLOCK_TOKENS),
                Some(ending) => {
                    self.stats.late += u64::from(ending == Ending::Expired);
                    aside.job.watch.ended(ending);
                }
            }
        }
    }

    /// Waits for a block from disk, for a moment, if there is nothing else to do.
    pub(crate) fn rest(&mut self) {
        if self.scheduler.idle() && self.flight.is_none() {
            self.kept.iter_mut().for_each(Kept::rest);
        }
    }

    /// Hands computed blocks to the writer; false where there are none left.
    pub(crate) fn save(&mut self) -> bool {
        let (Some(kept), Some(salts)) = (&mut self.kept, &self.salts) else { return false };
        kept.save(&mut self.scheduler, &*self.backend, salts, usize::MAX)
    }

    /// The same beside others' steps.
    pub(super) fn save_beside(&mut self) {
        let (Some(kept), Some(salts)) = (&mut self.kept, &self.salts) else { return };
        kept.turns += 1;
        if kept.turns.is_multiple_of(SAVE_TURNS) {
            kept.save(&mut self.scheduler, &*self.backend, salts, 1);
        }
    }

    /// Ends those who are aside, and writes what is not written yet.
    pub(super) fn finish(&mut self) {
        if let Some(kept) = &mut self.kept {
            let active = kept.active.take().map(|active| active.aside);
            let all = active.into_iter().chain(kept.waiting.drain(..));
            all.for_each(|aside| aside.job.watch.ended(Ending::Cancelled));
        }
        let began = Instant::now();
        while self.save() && began.elapsed() < END {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.kept = None;
    }
}
