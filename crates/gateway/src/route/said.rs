//! What a caller was told, remembered up to a bound for a book that keeps it. Absent: what was
//! asked, and who may read either.

use ingle_protocol::{CallPart, Event};

/// The most bytes of an answer that are remembered.
const SAID_BYTES: usize = 512 << 10;

/// What a part of an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Its text.
    Text,
    /// What was thought before.
    Reasoning,
    /// The name of a tool that is called.
    Tool,
    /// The tool's arguments, as a JSON text.
    Arguments,
    /// Another server's own bytes, handed on as they came.
    Passed,
}

/// An answer as its caller had it, values that had been replaced put back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    parts: Vec<(Part, String)>,
    bytes: usize,
    cut: bool,
}

impl Said {
    /// The parts in their order; no two beside each other are of one kind, but tools.
    pub fn parts(&self) -> &[(Part, String)] {
        &self.parts
    }

    /// Whether more was said than is remembered.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// Remembers an event, where it has words.
    pub(super) fn hear(&mut self, event: &Event) {
        match event {
            Event::Text(piece) => self.add(Part::Text, &piece.text),
            Event::Reasoning(piece) => self.add(Part::Reasoning, &piece.text),
            Event::ToolCall { part: CallPart::Begin { name, .. }, .. } => {
                self.add(Part::Tool, name);
            }
            Event::ToolCall { part: CallPart::Arguments(text), .. } => {
                self.add(Part::Arguments, text);
            }
            Event::Passed(text) => self.add(Part::Passed, text),
            Event::Beams(beams) => {
                beams.iter().for_each(|beam| self.add(Part::Text, &beam.text));
            }
            _ => {}
        }
    }

    fn add(&mut self, part: Part, text: &str) {
        // A part costs something, too, however short it is.
        let room = SAID_BYTES.saturating_sub(self.bytes);
        let fits = (0..=text.len().min(room)).rev().find(|at| text.is_char_boundary(*at));
        let taken = &text[..fits.unwrap_or(0)];
        self.cut |= taken.len() < text.len();
        if taken.is_empty() {
            return;
        }
        self.bytes += taken.len();
        match self.parts.last_mut() {
            Some((last, known)) if *last == part && part != Part::Tool => known.push_str(taken),
            _ => {
                self.bytes += 32;
                self.parts.push((part, taken.to_owned()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ingle_protocol::Piece;

    use super::*;

    fn text(text: &str) -> Event {
        Event::Text(Piece { text: text.into(), ..Piece::default() })
    }

    #[test]
    fn an_answer_is_remembered_in_its_parts() {
        let mut said = Said::default();
        let call = |part| Event::ToolCall { index: 0, part };
        let begin = || call(CallPart::Begin { id: "1".into(), name: "look".into() });
        let thought = Event::Reasoning(Piece { text: "hm".into(), ..Piece::default() });
        let arguments = |text: &str| call(CallPart::Arguments(text.into()));
        let events = [thought, text("a"), text(""), text("b"), begin(), begin()];
        events.iter().for_each(|event| said.hear(event));
        [arguments("{"), arguments("}"), call(CallPart::End)].iter().for_each(|it| said.hear(it));
        let row = |part, text: &str| (part, text.to_owned());
        let expect = [
            row(Part::Reasoning, "hm"),
            row(Part::Text, "ab"),
            row(Part::Tool, "look"),
            row(Part::Tool, "look"),
            row(Part::Arguments, "{}"),
        ];
        assert_eq!((said.parts(), said.is_cut()), (&expect[..], false));
    }

    #[test]
    fn an_endless_answer_is_cut_between_characters() {
        let mut said = Said::default();
        for _ in 0..SAID_BYTES {
            said.hear(&text("é\u{1f980}"));
        }
        assert!(said.is_cut() && said.parts().len() == 1);
        let bytes = said.parts()[0].1.len();
        assert!(bytes <= SAID_BYTES && bytes > SAID_BYTES - 64, "{bytes}");
        let begin = CallPart::Begin { id: String::new(), name: "x".into() };
        let mut calls = Said::default();
        for _ in 0..SAID_BYTES {
            calls.hear(&Event::ToolCall { index: 0, part: begin.clone() });
        }
        assert!(calls.is_cut() && calls.parts().len() < SAID_BYTES / 32);
    }
}
