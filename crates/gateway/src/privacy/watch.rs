//! What is found in an answer while it streams, also across the seams of its pieces: it is
//! replaced by its kind's word, or whoever watches ends the answer. Text is held back as long as
//! something in it may still be growing. Absent: a way back, since nobody is to know the values.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use ingle_protocol::{CallPart, Event};

use super::restore::Stream;
use super::{Detector, Finding, Kind, Unsure};

/// What is still held when nothing is found in it, in bytes: more than most of what is looked for
/// is long.
const HELD_LEAST: usize = 256;
/// The most that is held for something that goes on and on.
const HELD_MOST: usize = 65_536;
/// How much of what has gone out is searched again, for the words that name what follows.
const CONTEXT: usize = 64;

/// Watches one answer. Each stretch of text or arguments is delayed by at most a few hundred bytes
/// while nothing is found in it.
pub struct Watch {
    detector: Arc<Detector>,
    which: Box<dyn Fn(Kind) -> bool + Send>,
    /// The end of what went out, and behind it what is held.
    text: String,
    /// Where what is held begins.
    gone: usize,
    /// How long the text has to be before it is searched again.
    due: usize,
    stream: Stream,
    found: BTreeMap<Kind, u32>,
    unsure: Option<Unsure>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Watch({:?}, {} bytes held)", self.stream, self.text.len() - self.gone)
    }
}

impl Watch {
    pub(super) fn new(detector: Arc<Detector>, which: Box<dyn Fn(Kind) -> bool + Send>) -> Self {
        Self {
            detector,
            which,
            text: String::new(),
            gone: 0,
            due: 0,
            stream: Stream::Text,
            found: BTreeMap::new(),
            unsure: None,
        }
    }

    /// Kinds and how often each was found so far: who is to block them ends the answer where there
    /// are any, before what [`Watch::event`] returned goes out.
    pub fn found(&self) -> Vec<(Kind, u32)> {
        self.found.iter().map(|(kind, count)| (*kind, *count)).collect()
    }

    /// Why some of the answer was withheld, if it was.
    pub fn unsure(&self) -> Option<&Unsure> {
        self.unsure.as_ref()
    }

    /// What may go out, with words such as `[EMAIL]` for what was found: none, one or two events.
    pub fn event(&mut self, mut event: Event) -> Vec<Event> {
        let mut out = Vec::with_capacity(2);
        let stream = Stream::of(&event);
        if stream != Some(self.stream) {
            let rest = self.take(true);
            if !rest.is_empty() {
                out.push(self.stream.event(rest));
            }
            self.text.clear();
            (self.gone, self.due) = (0, 0);
            self.stream = stream.unwrap_or(Stream::Text);
        }
        match &mut event {
            Event::Text(piece) | Event::Reasoning(piece) => {
                let empty = piece.is_empty();
                self.text.push_str(&piece.text);
                piece.text = self.take(false);
                if piece.is_empty() && !empty {
                    return out;
                }
            }
            Event::ToolCall { part: CallPart::Arguments(text), .. } => {
                self.text.push_str(text);
                *text = self.take(false);
                if text.is_empty() {
                    return out;
                }
            }
            _ => {}
        }
        out.push(event);
        out
    }

    /// What may go out of what is held.
    fn take(&mut self, ended: bool) -> String {
        let held = self.text.len() - self.gone;
        if held == 0 || (!ended && self.text.len() < self.due.max(self.gone + 2 * HELD_LEAST)) {
            return String::new();
        }
        let found = match self.detector.detect(&self.text) {
            Ok(found) => found,
            Err(unsure) => {
                self.unsure = Some(unsure);
                self.gone = self.text.len();
                return String::new();
            }
        };
        let edge = if ended || held > HELD_MOST { held } else { held - HELD_LEAST };
        let mut edge = self.gone + edge;
        // What touches the end of what is known may go on behind it.
        let growing = found.iter().find(|one| one.bytes.end > edge && one.bytes.start < edge);
        if let (Some(one), false) = (growing, ended || held > HELD_MOST) {
            edge = one.bytes.start.max(self.gone);
        }
        while !self.text.is_char_boundary(edge) {
            edge -= 1;
        }
        let out = self.pass(&found, edge);
        self.due = self.text.len() + HELD_LEAST;
        out
    }

    /// The text from what has gone on to the edge, without what was found there.
    fn pass(&mut self, found: &[Finding], edge: usize) -> String {
        let mut out = String::new();
        let mut told = self.gone;
        for Finding { bytes, kind, .. } in found {
            let inside = bytes.end > told && bytes.end <= edge;
            if !inside || !(self.which)(*kind) {
                continue;
            }
            out.push_str(&self.text[told..bytes.start.max(told)]);
            out.push_str(&format!("[{}]", kind.tag()));
            told = bytes.end;
            *self.found.entry(*kind).or_default() += 1;
        }
        out.push_str(&self.text[told.min(edge)..edge]);
        let mut keep = edge.saturating_sub(CONTEXT);
        while !self.text.is_char_boundary(keep) {
            keep += 1;
        }
        self.text.drain(..keep);
        self.gone = edge - keep;
        out
    }
}
