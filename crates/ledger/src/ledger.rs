//! A ledger that is written to: calls are announced, amended, ended, and noted, each through a
//! bounded line to one thread that writes them in groups; they are kept when that has written them,
//! or before, by a journal. What leaves the machine waits for room in that line, for a while, and
//! is refused then; what stayed here never waits: where it cannot be kept, the ledger says how many
//! calls it misses. Reading is another thing (`read.rs`).

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use ingle_protocol::{End, Entry};

use crate::desk::{self, Desk};
use crate::row::Row;
use crate::store::{Announce, Content, Op};
use crate::writer::{self, Health, Job, Work};
use crate::{Anchor, Error, Place, Reader, Result, Sealed, Ticket};

/// How often room in a full queue is looked for, and how many times.
const LOOK: (Duration, u32) = (Duration::from_millis(1), if cfg!(test) { 50 } else { 5000 });

/// What a row that was committed survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// A power cut, too: each group waits until the disk has it.
    #[default]
    Power,
    /// The program being killed: a journal has it. A power cut or a crash of the system may take
    /// the last rows, those of some seconds at most; never some without all that follow, so the
    /// chain stays whole. In Postgres no row waits for the server's disk.
    Process,
}

/// How a ledger is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// What a committed row survives.
    pub durability: Durability,
    /// The most bytes that a ledger in a file may take; `None` leaves that to the disk. A full one
    /// refuses, as a full disk does.
    pub file_bytes: Option<u64>,
    /// For a database server whose certificate no usual authority signed: a file with those of the
    /// authorities to believe instead, as PEM.
    pub authorities: Option<PathBuf>,
}

/// What is kept back of a budget for a call that is under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reserved {
    /// The budget's name.
    pub budget: String,
    /// The most that the call can cost, in micro-dollars.
    pub micros: u64,
    /// The most tokens that it can take.
    pub tokens: u64,
}

/// What a ledger is told of a call that was or is to be announced.
#[derive(Debug)]
pub struct Told(Op);

impl Told {
    /// As [`Ledger::begin`] announces it.
    pub fn begin(worst: &Entry, reserved: &[Reserved]) -> Self {
        Self(Op::Begin(Box::new(announcement(worst, reserved))))
    }

    /// As [`Ledger::amend`] announces it anew.
    pub fn amend(worst: &Entry, reserved: &[Reserved]) -> Self {
        Self(Op::Amend(Box::new(announcement(worst, reserved))))
    }

    /// As [`Ledger::end`] ends it.
    pub fn end(entry: &Entry) -> Self {
        Self(Op::End(Box::new(Row::of(entry))))
    }
}

/// Calls whose process had died, which opening the ledger made entries of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// How many.
    pub calls: u64,
    /// What they can have cost at most, all together, in micro-dollars.
    pub micros: u64,
    /// Those among them of which that is not known.
    pub unknown: u64,
}

impl Recovered {
    pub(crate) fn count(&mut self, micros: Option<u64>) {
        self.calls += 1;
        self.micros = self.micros.saturating_add(micros.unwrap_or(0));
        self.unknown += u64::from(micros.is_none());
    }
}

/// Calls that stayed on this machine and could not be kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missed {
    /// How many.
    pub calls: u64,
    /// When the first and the last of them came, in milliseconds since 1970.
    pub from_ms: u64,
    /// See `from_ms`.
    pub to_ms: u64,
}

impl Missed {
    /// A call that came then.
    pub(crate) fn one(at_ms: u64) -> Self {
        Self { calls: 1, from_ms: at_ms, to_ms: at_ms }
    }

    /// Adds others.
    pub(crate) fn add(&mut self, other: &Self) {
        if other.calls == 0 {
            return;
        }
        let first = self.calls == 0;
        self.from_ms = if first { other.from_ms } else { self.from_ms.min(other.from_ms) };
        self.to_ms = self.to_ms.max(other.to_ms);
        self.calls = self.calls.saturating_add(other.calls);
    }
}

/// What old rows were removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// How many rows.
    pub rows: u64,
    /// The last row that was ever removed: how many there were until then, and its hash, which the
    /// rest of the chain is linked to.
    pub base: Anchor,
}

/// A ledger that calls are recorded in. Shared by reference; dropping it writes what is on its way.
#[derive(Debug)]
pub struct Ledger {
    place: Place,
    options: Options,
    health: Arc<Health>,
    recovered: Recovered,
    way: Way,
    writer: Option<JoinHandle<()>>,
}

/// How what is told comes to the thread that writes.
#[derive(Debug)]
enum Way {
    /// Told is what the tables have.
    Queue(Option<SyncSender<Job>>),
    /// Told is what a journal has.
    Desk(Arc<Desk>),
}

impl Ledger {
    /// Opens a ledger, makes it where there is none, and writes entries for the calls of processes
    /// that died.
    ///
    /// # Errors
    /// Where it is damaged, another program's or a newer Ingle's, or cannot be written to.
    pub fn open(place: &Place, options: &Options) -> Result<Self> {
        let health = Arc::new(Health::default());
        let (reply, opened) = sync_channel(1);
        let (known, there, how) = (Arc::clone(&health), place.clone(), options.clone());
        let begin = move || {
            let mut store = there.store(&how)?;
            let recovered = store.recover()?;
            let journal = store.0.journal()?;
            Ok((recovered, journal.map(|it| Arc::new(Desk::new(there.to_string(), it))), store))
        };
        let run = move || match begin() {
            Err(error) => drop(reply.send(Err(error))),
            Ok((recovered, Some(at), store)) => {
                if reply.send(Ok((recovered, Way::Desk(Arc::clone(&at))))).is_ok() {
                    desk::run(store, &at, &known);
                }
            }
            Ok((recovered, None, store)) => {
                let (queue, jobs) = sync_channel(writer::QUEUE);
                if reply.send(Ok((recovered, Way::Queue(Some(queue))))).is_ok() {
                    writer::run(store, &jobs, &known);
                }
            }
        };
        let failed = |what: String| Error::Other { place: place.to_string(), what };
        let writer = std::thread::Builder::new()
            .name("ledger".into())
            .spawn(run)
            .map_err(|error| failed(format!("a thread is needed: {error}")))?;
        let gone = |_| Err(failed("its writer is gone".into()));
        let (recovered, way) = opened.recv().unwrap_or_else(gone)?;
        let (place, options) = (place.clone(), options.clone());
        Ok(Self { place, options, health, recovered, way, writer: Some(writer) })
    }

    /// What opening it found of processes that died.
    pub fn recovered(&self) -> Recovered {
        self.recovered
    }

    /// Its place.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Announces a call, before its first byte leaves: wait for the ticket. `worst` is what is
    /// known of it, with the most that it can cost; it becomes its entry, with [`End::Lost`], if
    /// this process dies. Blocks while the queue is full, for five seconds at most.
    ///
    /// # Errors
    /// At once where the last that was to be written could not be, and where there is no room in
    /// time: no receipt, no call.
    pub fn begin(&self, worst: &Entry, reserved: &[Reserved]) -> Result<Ticket> {
        self.tell(Told::begin(worst, reserved))
    }

    /// Announces a call anew that was announced and has not ended, before it may cost more than
    /// was said, or otherwise: wait for the ticket. From then on that is what becomes its entry if
    /// this process dies; until then, and where it cannot be written, what was said before.
    /// Blocks while the queue is full, for five seconds at most.
    ///
    /// # Errors
    /// As [`Ledger::begin`] has them. The ticket says [`Error::Closed`] where the call is not open.
    pub fn amend(&self, worst: &Entry, reserved: &[Reserved]) -> Result<Ticket> {
        self.tell(Told::amend(worst, reserved))
    }

    /// Ends a call that was announced under the entry's id, with its entry. Blocks while the queue
    /// is full, for five seconds at most.
    ///
    /// # Errors
    /// Where there is no room in time: then it stays announced, and counts at its worst when this
    /// process is gone. The ticket says [`Error::Closed`] where the call is not open.
    pub fn end(&self, entry: &Entry) -> Result<Ticket> {
        self.tell(Told::end(entry))
    }

    /// What [`Ledger::begin`], [`Ledger::amend`] and [`Ledger::end`] do. Blocks while the queue is
    /// full, for five seconds at most: not for threads that tickets settle on, since the queue
    /// waits for these.
    ///
    /// # Errors
    /// As those have them.
    pub fn tell(&self, told: Told) -> Result<Ticket> {
        let mut told = told;
        for _ in 0..LOOK.1 {
            told = match self.offer(told)? {
                Ok(ticket) => return Ok(ticket),
                Err(back) => back,
            };
            std::thread::sleep(LOOK.0);
        }
        Err(self.behind())
    }

    /// The same where there is room at once; else it is given back. Never blocks.
    ///
    /// # Errors
    /// As [`Ledger::tell`] has them, but for want of room.
    pub fn offer(&self, told: Told) -> Result<std::result::Result<Ticket, Told>> {
        if let Op::Begin(_) | Op::Amend(_) = &told.0 {
            self.health.ask()?;
        }
        Ok(self.put(told.0)?.map_err(Told))
    }

    /// Notes a call that was never announced, since nothing of it left the machine or cost
    /// anything that is held by a budget: refused, or answered here. Never blocks.
    ///
    /// # Errors
    /// Where the last that was to be written could not be, or the queue is full. Such a call, and
    /// one whose ticket fails, is among those [`Ledger::missed`], which the ledger itself tells of
    /// as soon as it can be written again.
    pub fn note(&self, entry: &Entry) -> Result<Ticket> {
        let missed = |error| {
            self.health.miss(&Missed::one(entry.at_ms));
            error
        };
        self.health.ask().map_err(missed)?;
        self.at_once(Op::Note(Box::new(Row::of(entry)))).map_err(missed)
    }

    /// Keeps what a call asked and got, encrypted, beside a row that has its digest. Given before
    /// the call's end, it is kept when that is. Never blocks.
    ///
    /// # Errors
    /// Where the last that was to be written could not be, or the queue is full: then it is not
    /// kept.
    pub fn content(&self, id: &str, at_ms: u64, sealed: Sealed) -> Result<Ticket> {
        self.health.ask()?;
        let content = Content { id: id.to_owned(), at_ms, bytes: sealed.0 };
        self.at_once(Op::Content(Box::new(content)))
    }

    /// Calls of this process that stayed here and could not be kept, since it was opened.
    pub fn missed(&self) -> Missed {
        self.health.missed()
    }

    /// Whether the last that was to be written could be; [`Ledger::begin`] asks, too.
    ///
    /// # Errors
    /// Why not.
    pub fn healthy(&self) -> Result<()> {
        self.health.ask()
    }

    /// Makes entries of the calls of other processes that have died meanwhile.
    ///
    /// # Errors
    /// Where that cannot be written.
    pub fn recover(&self) -> Result<Recovered> {
        self.ask(Work::Recover)
    }

    /// Removes the rows before the first whose call came at `before_ms` or later, in milliseconds
    /// since 1970. The chain stays whole: each removal is a row of it, and the rest is linked to
    /// the last hash that was removed.
    ///
    /// # Errors
    /// Where that cannot be written.
    pub fn prune(&self, before_ms: u64, now_ms: u64) -> Result<Pruned> {
        self.ask(|reply| Work::Prune { before_ms, now_ms, reply })
    }

    /// Removes what calls before `before_ms` asked and got, and leaves their entries; returns of
    /// how many it was.
    ///
    /// # Errors
    /// Where that cannot be written.
    pub fn forget(&self, before_ms: u64) -> Result<u64> {
        self.ask(|reply| Work::Forget { before_ms, reply })
    }

    /// What reads it.
    ///
    /// # Errors
    /// Where it cannot be opened once more.
    pub fn reader(&self) -> Result<Reader> {
        if let Way::Desk(_) = self.way {
            // What cannot be brought in now is not read; the rest is.
            drop(self.ask(Work::Wait));
        }
        Reader::open(&self.place, &self.options)
    }

    /// Has the writer do something of its own between groups, and waits for it.
    fn ask<T>(&self, work: impl FnOnce(SyncSender<Result<T>>) -> Work) -> Result<T> {
        let (reply, answer) = sync_channel(1);
        match &self.way {
            Way::Desk(desk) => desk.ask(work(reply)),
            Way::Queue(queue) => {
                let queue = queue.as_ref().ok_or_else(|| self.gone())?;
                queue.send(Job::Work(work(reply))).map_err(|_| self.gone())?;
            }
        }
        answer.recv().unwrap_or_else(|_| Err(self.gone()))
    }

    /// Tells this where there is room at once.
    fn at_once(&self, op: Op) -> Result<Ticket> {
        self.put(op)?.map_err(|_| self.behind())
    }

    /// Tells this; gives it back where there is no room.
    fn put(&self, op: Op) -> Result<std::result::Result<Ticket, Op>> {
        let queue = match &self.way {
            Way::Desk(desk) => return Ok(desk.take(op)?.map_or_else(|| Ok(Ticket::kept()), Err)),
            Way::Queue(queue) => queue.as_ref().ok_or_else(|| self.gone())?,
        };
        let (ticket, settle) = Ticket::new(self.gone());
        match queue.try_send(Job::Op(op, settle)) {
            Ok(()) => Ok(Ok(ticket)),
            Err(TrySendError::Full(Job::Op(back, _))) => Ok(Err(back)),
            Err(_) => Err(self.gone()),
        }
    }

    fn behind(&self) -> Error {
        Error::Behind { place: self.place.to_string() }
    }

    fn gone(&self) -> Error {
        Error::Other { place: self.place.to_string(), what: "its writer is gone".into() }
    }
}

/// What is found of a call whose process died.
fn announcement(worst: &Entry, reserved: &[Reserved]) -> Announce {
    let mut lost = worst.clone();
    lost.end = End::Lost;
    lost.cost.estimated = true;
    Announce { row: Row::of(&lost), reserved: reserved.to_vec() }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        match &mut self.way {
            Way::Queue(queue) => *queue = None,
            Way::Desk(desk) => desk.shut(),
        }
        // What is told on the writer's own thread may hold the ledger last; that thread cannot wait
        // for itself, and ends by itself.
        let other = |it: &JoinHandle<()>| it.thread().id() != std::thread::current().id();
        if let Some(writer) = self.writer.take().filter(other) {
            // It panicked, then, and every ticket has said so.
            let _ = writer.join();
        }
    }
}

#[cfg(test)]
mod tests;
