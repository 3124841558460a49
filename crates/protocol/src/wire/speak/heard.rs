//! What all formats' answers have in common while they are heard: how far the answer has come, its
//! calls one after another, and the receipt at its end. Absent: how any format says it.

use super::wrong;
use crate::{CallPart, Event, Fault, Finish, Piece, Receipt, Timings, Usage};

/// Calls that an answer may have.
const CALLS_MAX: u32 = 1024;
/// Characters of what a server calls itself, or why it ended, that are told on.
const WORDS_MAX: usize = 256;

/// An answer while it is heard.
#[derive(Debug, Default)]
pub(in crate::wire) struct Heard {
    pub(in crate::wire) usage: Usage,
    pub(in crate::wire) finish: Option<Finish>,
    pub(in crate::wire) stop: Option<String>,
    /// Whether anything of an answer has come.
    pub(in crate::wire) spoke: bool,
    /// Whether the end has come.
    pub(in crate::wire) done: bool,
    model: String,
    notes: Vec<String>,
    calls: u32,
    /// Whether a call goes on, and whether it has arguments.
    open: Option<bool>,
}

/// Events as they are heard.
pub(in crate::wire) type Out = Vec<Event>;

impl Heard {
    /// The model that says it answers.
    pub(in crate::wire) fn model(&mut self, name: Option<&str>) {
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            self.model = name.chars().take(WORDS_MAX).collect();
        }
    }

    pub(in crate::wire) fn note(&mut self, note: String) {
        if self.notes.is_empty() {
            self.notes.push(note);
        }
    }

    pub(in crate::wire) fn text(&mut self, out: &mut Out, text: &str) {
        self.piece(out, Piece { text: text.to_owned(), ..Piece::default() });
    }

    pub(in crate::wire) fn piece(&mut self, out: &mut Out, piece: Piece) {
        if !piece.is_empty() {
            self.end_call(out);
            self.spoke = true;
            out.push(Event::Text(piece));
        }
    }

    pub(in crate::wire) fn thought(&mut self, out: &mut Out, text: &str) {
        if !text.is_empty() {
            self.end_call(out);
            self.spoke = true;
            out.push(Event::Reasoning(Piece { text: text.to_owned(), ..Piece::default() }));
        }
    }

    /// A call begins; the one before it is over.
    pub(in crate::wire) fn begin(
        &mut self,
        out: &mut Out,
        id: &str,
        name: &str,
    ) -> Result<(), Fault> {
        self.end_call(out);
        if self.calls == CALLS_MAX {
            return Err(wrong(format!("the answer makes more than {CALLS_MAX} calls")));
        }
        if name.is_empty() {
            return Err(wrong("the answer calls a tool without a name"));
        }
        (self.calls, self.open, self.spoke) = (self.calls + 1, Some(false), true);
        let part = CallPart::Begin { id: id.to_owned(), name: name.to_owned() };
        out.push(Event::ToolCall { index: self.calls - 1, part });
        Ok(())
    }

    /// How many calls there are.
    pub(in crate::wire) fn calls(&self) -> u32 {
        self.calls
    }

    /// More of the open call's arguments.
    pub(in crate::wire) fn more(&mut self, out: &mut Out, text: &str) -> Result<(), Fault> {
        let Some(begun) = &mut self.open else {
            return Err(wrong("a call goes on that did not begin"));
        };
        if !text.is_empty() {
            *begun = true;
            let part = CallPart::Arguments(text.to_owned());
            out.push(Event::ToolCall { index: self.calls - 1, part });
        }
        Ok(())
    }

    /// Whether the open call's arguments have begun; `None` where none is open.
    pub(in crate::wire) fn argued(&self) -> Option<bool> {
        self.open
    }

    /// The open call, if there is one, is complete.
    pub(in crate::wire) fn end_call(&mut self, out: &mut Out) {
        if self.open.take().is_some() {
            out.push(Event::ToolCall { index: self.calls - 1, part: CallPart::End });
        }
    }

    /// The end. A call that a limit met may be cut short, and does not end.
    pub(in crate::wire) fn end(&mut self, out: &mut Out) -> Result<(), Fault> {
        let Some(finish) = self.finish else { return Err(unfinished()) };
        if finish == Finish::Length {
            self.open = None;
        }
        self.end_call(out);
        self.done = true;
        out.push(Event::Done(Box::new(Receipt {
            model: std::mem::take(&mut self.model),
            route: Vec::new(),
            left_machine: true,
            cost_micros: 0,
            finish: if finish == Finish::Stop && self.calls > 0 {
                Finish::ToolCalls
            } else {
                finish
            },
            stop: self.stop.take(),
            notes: std::mem::take(&mut self.notes),
            usage: self.usage,
            timings: Timings::default(),
        })));
        Ok(())
    }

    /// The connection has ended, which is an answer's end only where that was told before.
    pub(in crate::wire) fn closed(&self) -> Result<Out, Fault> {
        if self.done { Ok(Vec::new()) } else { Err(unfinished()) }
    }
}

pub(in crate::wire) fn unfinished() -> Fault {
    wrong("the provider's answer ended before it was complete")
}

/// A note that something else than the model ended an answer.
pub(in crate::wire) fn ended_by(reason: &str) -> String {
    let reason: String = reason.chars().filter(|c| !c.is_control()).take(64).collect();
    format!("the provider ended the answer: {reason}")
}
