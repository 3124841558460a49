//! An answer's bytes become what is told of it: events of the format that its provider speaks, or,
//! where that is the caller's own, its events as they came. What came is counted, so that an answer
//! that is cut can be reckoned. No IO: bytes in, events out. Absent: the formats themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ingle_protocol::wire::speak::{self, Hear};
use ingle_protocol::{Blame, CallPart, Event, Fault, Format, Receipt, Retry};

use super::amazon;
use super::kinds::Cut;
use super::sum::Part;
use super::{Bounds, EVENT_LEAST};

/// When what found too many answers under way may be tried again.
const CROWDED: Duration = Duration::from_secs(1);
/// Events of a caller's own format that are held back, at most, until the answer proper begins.
const HELD_MAX: usize = 64;

/// What came of an answer.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pieces: AtomicU64,
    bytes: AtomicU64,
}

impl Tally {
    /// The tokens that it was, estimated: a piece is at least one, and so are four bytes.
    pub(super) fn tokens(&self) -> u32 {
        let pieces = self.pieces.load(Ordering::Relaxed);
        let bytes = self.bytes.load(Ordering::Relaxed);
        u32::try_from(pieces.max(bytes.div_ceil(4))).unwrap_or(u32::MAX)
    }

    fn add(&self, bytes: usize) {
        self.pieces.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// How an answer's bytes are cut.
#[derive(Debug)]
enum Cutting {
    /// Into events, or lines.
    Frames(speak::Frames),
    /// Into Amazon's.
    Amazon(amazon::Frames),
    /// Not at all.
    Whole(Vec<u8>),
}

/// What an answer is that is to be heard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    pub(super) format: Format,
    pub(super) cut: Cut,
    /// In pieces, or whole.
    pub(super) stream: bool,
    /// Whether it is handed on as it comes.
    pub(super) passed: bool,
}

/// Who listens to one answer.
pub(super) struct Ear {
    hear: Box<dyn Hear + Send>,
    cutting: Cutting,
    /// Whether what came is handed on as it is.
    passed: bool,
    bounds: Bounds,
    /// Its bytes, and what short events count beyond theirs.
    bytes: usize,
    /// The same, among those of all answers.
    part: Part,
    /// Bytes since the last event ended.
    open: usize,
    tally: Arc<Tally>,
    begun: bool,
    /// What to tell, which waits for the answer to begin.
    held: Vec<Event>,
    receipt: Option<Receipt>,
}

impl Ear {
    /// For an answer in pieces, or a whole one.
    pub(super) fn new(heard: Heard, bounds: Bounds, tally: Arc<Tally>, part: Part) -> Self {
        let Heard { format, cut, stream, passed } = heard;
        let cutting = match (stream, cut) {
            (false, _) => Cutting::Whole(Vec::new()),
            (true, Cut::Amazon) => Cutting::Amazon(amazon::Frames::new(bounds.event_bytes)),
            (true, _) => Cutting::Frames(speak::Frames::new(format)),
        };
        Self {
            hear: speak::hear(format, stream),
            cutting,
            passed,
            bounds,
            bytes: 0,
            part,
            open: 0,
            tally,
            begun: false,
            held: Vec::new(),
            receipt: None,
        }
    }

    /// Takes the next bytes. After an error nothing more is to be given to it.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.charge(bytes.len())?;
        self.open += bytes.len();
        let event_bytes = self.bounds.event_bytes;
        let events = match &mut self.cutting {
            Cutting::Frames(frames) => frames.take(bytes)?,
            Cutting::Amazon(frames) => frames.take(bytes)?,
            Cutting::Whole(held) => {
                held.extend_from_slice(bytes);
                return Ok(());
            }
        };
        if !events.is_empty() {
            self.open = 0;
        } else if self.open > event_bytes {
            return Err(wrong(format!(
                "an event of its answer is longer than {event_bytes} bytes"
            )));
        }
        events.into_iter().try_for_each(|(name, data)| self.read(name.as_deref(), data))
    }

    /// The answer has ended, as the connection tells.
    pub(super) fn end(&mut self) -> Result<(), Fault> {
        let events = match &mut self.cutting {
            Cutting::Frames(frames) => frames.end()?,
            Cutting::Amazon(frames) => frames.end().map(|()| Vec::new())?,
            Cutting::Whole(held) => {
                let body = String::from_utf8(std::mem::take(held))
                    .map_err(|_| wrong("its answer is no UTF-8"))?;
                let events = self.hear.whole(&body)?;
                self.tell(body, events)?;
                return self.complete();
            }
        };
        events.into_iter().try_for_each(|(name, data)| self.read(name.as_deref(), data))?;
        if self.receipt.is_none() {
            let events = self.hear.end()?;
            self.heard(events);
        }
        self.complete()
    }

    fn complete(&self) -> Result<(), Fault> {
        match self.receipt {
            Some(_) => Ok(()),
            None => Err(wrong("its answer ended before it was complete")),
        }
    }

    fn read(&mut self, name: Option<&str>, data: String) -> Result<(), Fault> {
        if self.receipt.is_some() {
            return Ok(()); // what comes behind the end is nothing to anybody
        }
        let events = self.hear.read(name, &data)?;
        self.tell(data, events)
    }

    /// Holds what is to be told of some data: itself, or the events that it is.
    fn tell(&mut self, data: String, events: Vec<Event>) -> Result<(), Fault> {
        let (before, bytes) = (self.held.len(), data.len());
        if self.passed {
            self.held.push(Event::Passed(data));
        }
        self.heard(events);
        let more = self.held.len() - before;
        let charged = self.charge((more * EVENT_LEAST).saturating_sub(bytes));
        if charged.is_err() {
            self.held.truncate(before);
        }
        charged
    }

    /// Counts bytes of the answer, as far as there may be more of them.
    fn charge(&mut self, bytes: usize) -> Result<(), Fault> {
        let Bounds { answer_bytes, all_bytes, .. } = self.bounds;
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > answer_bytes {
            let what = format!(
                "its answer is longer than {answer_bytes} bytes, or comes in too many events"
            );
            return Err(wrong(what));
        }
        match self.part.add(bytes, all_bytes) {
            true => Ok(()),
            false => {
                let what = "so many long answers are under way that there is no room for it: try \
                            again when some have ended";
                Err(Fault::not_ready(CROWDED, what))
            }
        }
    }

    fn heard(&mut self, events: Vec<Event>) {
        for event in events {
            let text = match &event {
                Event::Done(receipt) => {
                    self.receipt = Some((**receipt).clone());
                    self.begun = true;
                    continue;
                }
                Event::Failed(_) => continue, // a fault is an `Err` here
                Event::Text(piece) | Event::Reasoning(piece) => piece.text.len(),
                Event::ToolCall { part: CallPart::Begin { name, .. }, .. } => name.len(),
                Event::ToolCall { part: CallPart::Arguments(text), .. } => text.len(),
                _ => 0,
            };
            self.begun = true;
            self.tally.add(text);
            if !self.passed {
                self.held.push(event);
            }
        }
    }

    /// Whether the answer proper has begun, so that it is told; until then it can still be asked
    /// for elsewhere.
    pub(super) fn begun(&self) -> bool {
        self.begun || self.held.len() > HELD_MAX
    }

    /// What is to be told.
    pub(super) fn told(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.held)
    }

    /// What the answer said of itself, once it is complete.
    pub(super) fn receipt(&self) -> Option<&Receipt> {
        self.receipt.as_ref()
    }
}

/// A fault of the provider's, that another may not have.
pub(super) fn wrong(message: impl Into<String>) -> Fault {
    Fault { blame: Blame::Provider, retry: Retry::Elsewhere, param: None, message: message.into() }
}
