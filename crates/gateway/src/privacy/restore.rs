//! What stands behind placeholders, and its way back into an answer as it streams. Text is held
//! back only while it may be a placeholder's beginning. Absent: scores and tokens, which tell of
//! what the model wrote and are passed on as they are.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use ingle_protocol::{CallPart, Event, Piece};

use super::Kind;
use super::forms::{self, Step};
use super::json::quoted;

/// Values and their placeholders.
#[derive(Default)]
pub(super) struct Book {
    /// Kinds, values and placeholders.
    rows: Vec<(Kind, String, String)>,
    /// The words of the placeholders that there are.
    tags: Vec<&'static str>,
    /// By word and number: the row.
    places: BTreeMap<(usize, u32), usize>,
    series: Option<u8>,
}

impl Book {
    pub(super) fn new(values: Vec<(Kind, String)>, series: Option<u8>) -> Self {
        let mut book = Self { series, ..Self::default() };
        let mut counts: Vec<u32> = Vec::new();
        for (kind, value) in values {
            let known = book.tags.iter().position(|tag| *tag == kind.tag());
            let tag = known.unwrap_or_else(|| {
                book.tags.push(kind.tag());
                counts.push(0);
                counts.len() - 1
            });
            counts[tag] += 1;
            book.places.insert((tag, counts[tag]), book.rows.len());
            let placeholder = forms::written(kind.tag(), series, counts[tag]);
            book.rows.push((kind, value, placeholder));
        }
        book
    }

    pub(super) fn kind(&self, row: usize) -> Kind {
        self.rows[row].0
    }

    pub(super) fn placeholder(&self, row: usize) -> &str {
        &self.rows[row].2
    }

    /// What stands at a place: the value and where its placeholder ends.
    fn read(&self, text: &[u8], at: usize, prior: u8, ended: bool) -> Result<(&str, usize), Step> {
        match forms::read(&self.tags, text, at, prior, ended) {
            Step::Form(form) if form.series == self.series => {
                let row = self.places.get(&(form.tag, form.number)).ok_or(Step::No)?;
                Ok((&self.rows[*row].1, form.end))
            }
            Step::Form(_) => Err(Step::No),
            step => Err(step),
        }
    }
}

/// What was replaced in one request, and by what. Holds the values themselves: it is not to be
/// kept longer than the answer, and tells none of them when it is printed.
#[derive(Clone, Default)]
pub struct Redaction {
    book: Arc<Book>,
    replaced: u32,
}

impl fmt::Debug for Redaction {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Redaction({} places)", self.replaced)
    }
}

impl Redaction {
    pub(super) fn new(book: Arc<Book>, replaced: u32) -> Self {
        Self { book, replaced }
    }

    /// How many places were replaced: what a receipt keeps.
    pub fn replaced(&self) -> u32 {
        self.replaced
    }

    /// Whether nothing was.
    pub fn is_empty(&self) -> bool {
        self.book.rows.is_empty()
    }

    /// A whole text with its values back.
    pub fn restore(&self, text: &str) -> String {
        let mut held = Held::default();
        let mut out = held.push(&self.book, text, false);
        out.push_str(&held.finish(&self.book, false));
        out
    }

    /// Puts values back into one answer's events.
    pub fn restorer(&self) -> Restorer {
        Restorer { redaction: self.clone(), held: Held::default(), stream: Stream::Text }
    }
}

/// Text that may be a placeholder's beginning.
#[derive(Default)]
struct Held {
    text: String,
    /// The character before it.
    prior: u8,
}

impl Held {
    /// What may go on of the text held and more; `json` says that it is within a JSON string.
    fn push(&mut self, book: &Book, more: &str, json: bool) -> String {
        self.text.push_str(more);
        self.take(book, json, false)
    }

    /// All that is held, when nothing follows it.
    fn finish(&mut self, book: &Book, json: bool) -> String {
        let out = self.take(book, json, true);
        self.prior = 0;
        out
    }

    fn take(&mut self, book: &Book, json: bool, ended: bool) -> String {
        let bytes = self.text.as_bytes();
        let mut out = String::with_capacity(self.text.len());
        let (mut at, mut told) = (0, 0);
        while at < bytes.len() {
            if !forms::begins(&book.tags, bytes[at]) {
                self.prior = bytes[at];
                at += 1;
                continue;
            }
            match book.read(bytes, at, self.prior, ended) {
                Ok((value, end)) => {
                    out.push_str(&self.text[told..at]);
                    if json {
                        let quoted = quoted(value);
                        out.push_str(&quoted[1..quoted.len() - 1]);
                    } else {
                        out.push_str(value);
                    }
                    self.prior = b']';
                    (at, told) = (end, end);
                }
                Err(Step::More) => break,
                Err(_) => {
                    self.prior = bytes[at];
                    at += 1;
                }
            }
        }
        out.push_str(&self.text[told..at]);
        self.text.drain(..at);
        out
    }
}

/// What text is held of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Text,
    Reasoning,
    Arguments(u32),
}

impl Stream {
    pub(super) fn of(event: &Event) -> Option<Self> {
        match event {
            Event::Text(_) => Some(Self::Text),
            Event::Reasoning(_) => Some(Self::Reasoning),
            Event::ToolCall { index, part: CallPart::Arguments(_) } => {
                Some(Self::Arguments(*index))
            }
            _ => None,
        }
    }

    pub(super) fn event(self, text: String) -> Event {
        match self {
            Self::Text => Event::Text(Piece { text, ..Piece::default() }),
            Self::Reasoning => Event::Reasoning(Piece { text, ..Piece::default() }),
            Self::Arguments(index) => Event::ToolCall { index, part: CallPart::Arguments(text) },
        }
    }

    fn is_json(self) -> bool {
        matches!(self, Self::Arguments(_))
    }
}

/// Puts values back into an answer as it streams. Holds text back only as long as it may be a
/// placeholder's beginning; what it holds goes out before an event of another sort.
pub struct Restorer {
    redaction: Redaction,
    held: Held,
    stream: Stream,
}

impl fmt::Debug for Restorer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Restorer({:?}, {} bytes held)", self.stream, self.held.text.len())
    }
}

impl Restorer {
    /// The next event, with what was held back before it: none, one or two. An event whose text is
    /// all held back, and that has nothing else in it, does not come.
    pub fn event(&mut self, mut event: Event) -> Vec<Event> {
        let mut out = Vec::with_capacity(2);
        let stream = Stream::of(&event);
        if stream != Some(self.stream) {
            let rest = self.held.finish(&self.redaction.book, self.stream.is_json());
            if !rest.is_empty() {
                out.push(self.stream.event(rest));
            }
            self.stream = stream.unwrap_or(Stream::Text);
        }
        let book = &self.redaction.book;
        match &mut event {
            Event::Text(piece) | Event::Reasoning(piece) => {
                let empty = piece.is_empty();
                piece.text = self.held.push(book, &piece.text, false);
                if piece.is_empty() && !empty {
                    return out;
                }
            }
            Event::ToolCall { part: CallPart::Arguments(text), .. } => {
                *text = self.held.push(book, text, true);
                if text.is_empty() {
                    return out;
                }
            }
            Event::Done(receipt) => {
                receipt.stop = receipt.stop.take().map(|stop| self.redaction.restore(&stop));
            }
            Event::Failed(fault) => fault.message = self.redaction.restore(&fault.message),
            Event::Beams(beams) => {
                beams.iter_mut().for_each(|beam| beam.text = self.redaction.restore(&beam.text));
            }
            // What was redacted is never passed through.
            Event::Prompt(_) | Event::ToolCall { .. } | Event::Passed(_) => {}
        }
        out.push(event);
        out
    }
}
