//! A stream's bytes cut into events, however they were split on the way: event streams, as
//! [WHATWG](https://html.spec.whatwg.org/multipage/server-sent-events.html) defines them, and lines
//! of JSON. Absent: connecting again, and what events mean.

use super::wrong;
use crate::{Fault, Format};

/// The most bytes of a line, and of an event's data.
pub const FRAME_MAX: usize = 16 << 20;
/// The most bytes of an event's name.
const NAME_MAX: usize = 128;

/// An event: its name, if it has one, and its data.
pub type Frame = (Option<String>, String);

/// Cuts a stream's bytes, as they come, into events.
#[derive(Debug)]
pub struct Frames {
    /// Whether a line is an event.
    lines: bool,
    /// The line that has not ended.
    line: Vec<u8>,
    /// Whether a line feed belongs to the line end before it.
    after_cr: bool,
    /// Whether a line has been read: a byte order mark stands before the first alone.
    begun: bool,
    name: Option<String>,
    data: Option<String>,
}

impl Frames {
    /// For a stream in `format`: an event stream, or, of Ollama's, lines of JSON.
    pub fn new(format: Format) -> Self {
        Self {
            lines: format == Format::Ollama,
            line: Vec::new(),
            after_cr: false,
            begun: false,
            name: None,
            data: None,
        }
    }

    /// Takes the next bytes, split anywhere, and gives the events that are complete: each one's
    /// name, if it has one, and its data.
    ///
    /// # Errors
    /// Where a line or an event is longer than [`FRAME_MAX`], or is no UTF-8.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Vec<Frame>, Fault> {
        let (mut rest, mut out) = (bytes, Vec::new());
        if self.after_cr && !rest.is_empty() {
            self.after_cr = false;
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            self.grow(&rest[..end])?;
            let mut behind = &rest[end + 1..];
            if rest[end] == b'\r' {
                self.after_cr = behind.is_empty();
                behind = behind.strip_prefix(b"\n").unwrap_or(behind);
            }
            rest = behind;
            out.extend(self.end_line()?);
        }
        self.grow(rest)?;
        Ok(out)
    }

    /// The stream has ended: what is left. (Of an event stream an event that no blank line ended is
    /// none.)
    ///
    /// # Errors
    /// As [`Frames::take`] has them.
    pub fn end(&mut self) -> Result<Vec<Frame>, Fault> {
        if !self.lines {
            self.line.clear();
            return Ok(Vec::new());
        }
        Ok(self.end_line()?.into_iter().collect())
    }

    fn grow(&mut self, more: &[u8]) -> Result<(), Fault> {
        if self.line.len() + more.len() > FRAME_MAX {
            return Err(too_long());
        }
        self.line.extend_from_slice(more);
        Ok(())
    }

    fn end_line(&mut self) -> Result<Option<Frame>, Fault> {
        let line = std::mem::take(&mut self.line);
        let Ok(line) = std::str::from_utf8(&line) else {
            return Err(wrong("a line of the provider's answer is no UTF-8"));
        };
        let line = if self.begun { line } else { line.strip_prefix('\u{feff}').unwrap_or(line) };
        self.begun = true;
        if self.lines {
            return Ok((!line.trim().is_empty()).then(|| (None, line.to_owned())));
        }
        if line.is_empty() {
            let name = self.name.take();
            return Ok(self.data.take().map(|data| (name, data)));
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match (field, &mut self.data) {
            ("event", _) if value.len() > NAME_MAX => return Err(too_long()),
            ("event", _) => self.name = Some(value.to_owned()).filter(|name| !name.is_empty()),
            ("data", None) => self.data = Some(value.to_owned()),
            ("data", Some(data)) if data.len() + value.len() >= FRAME_MAX => return Err(too_long()),
            ("data", Some(data)) => {
                data.push('\n');
                data.push_str(value);
            }
            // Comments have no name of a field; ids and times to wait are for who connects again.
            _ => {}
        }
        Ok(None)
    }
}

fn too_long() -> Fault {
    wrong(format!("an event of the provider's answer is longer than {FRAME_MAX} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(format: Format, pieces: &[&[u8]]) -> Result<Vec<Frame>, Fault> {
        let (mut frames, mut out) = (Frames::new(format), Vec::new());
        for piece in pieces {
            out.extend(frames.take(piece)?);
        }
        out.extend(frames.end()?);
        Ok(out)
    }

    const EVENTS: &[(&str, &[(&str, &str)])] = &[
        ("data: a\n\n", &[("", "a")]),
        ("data: a\r\rdata: b\r\n\r\n", &[("", "a"), ("", "b")]),
        ("\u{feff}data:a\n\n", &[("", "a")]),
        ("event: x\r\ndata: é\r\ndata:\r\ndata:  c\r\n\r\n", &[("x", "é\n\n c")]),
        (": waiting\n\ndata: a\n: more\n\n", &[("", "a")]),
        ("id: 1\nretry: 5\nodd\ndata: a\n\n", &[("", "a")]),
        ("event: x\n\ndata: a\n\n", &[("", "a")]),
        ("data\n\n", &[("", "")]),
        ("data: a\n\ndata: cut", &[("", "a")]),
        ("data: a\n\ndata: cut\n", &[("", "a")]),
        ("\n\n\r\n", &[]),
        ("", &[]),
    ];

    fn plain(frames: &[Frame]) -> Vec<(&str, &str)> {
        frames.iter().map(|(name, data)| (name.as_deref().unwrap_or(""), &**data)).collect()
    }

    #[test]
    fn events_are_cut_wherever_the_bytes_are_split() {
        for (text, expect) in EVENTS {
            let bytes = text.as_bytes();
            for first in 0..=bytes.len() {
                for second in first..=bytes.len() {
                    let (a, b, c) = (&bytes[..first], &bytes[first..second], &bytes[second..]);
                    let frames = all(Format::Chat, &[a, b, c]).expect("events");
                    assert_eq!(plain(&frames), *expect, "{text:?} at {first} and {second}");
                }
            }
        }
    }

    #[test]
    fn lines_are_events_of_ollamas() {
        let frames = all(Format::Ollama, &[b"{\"a\"", b":1}\r", b"\n\n  \n{}\n{\"b\":2}"]);
        let frames = frames.expect("lines");
        assert_eq!(plain(&frames), [("", "{\"a\":1}"), ("", "{}"), ("", "{\"b\":2}")]);
    }

    #[test]
    fn what_is_endless_is_an_error() {
        let check = |text: &[u8], repeat: usize, words: &str| {
            let mut frames = Frames::new(Format::Chat);
            let fault = (0..repeat).find_map(|_| frames.take(text).err()).expect("ends");
            assert!(fault.message.contains(words), "{fault}");
        };
        check(&[b'x'; 1 << 20], 17, "longer than");
        check(format!("data: {}\n", "x".repeat(1 << 20)).as_bytes(), 17, "longer than");
        check(format!("event: {}\n", "x".repeat(129)).as_bytes(), 1, "longer than");
        check(b"data: \xff\n", 1, "no UTF-8");
    }

    proptest! {
        #[test]
        fn any_bytes_are_cut_the_same_in_pieces(
            pieces in prop::collection::vec("[da:tevn \r\n\u{feff}x]{0,6}", 0..12),
        ) {
            let whole = pieces.concat();
            let pieces: Vec<&[u8]> = pieces.iter().map(|piece| piece.as_bytes()).collect();
            for format in [Format::Chat, Format::Ollama] {
                prop_assert_eq!(all(format, &pieces), all(format, &[whole.as_bytes()]));
            }
        }
    }
}
