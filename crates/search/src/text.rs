//! A file's bytes as text that can be searched, with the way back: where in the file each part of
//! it stands. Nothing of a file can make this fail; what is no text is said to be none.

mod html;
mod markdown;
mod rows;

use std::ops::Range;

use crate::kind::Kind;

/// A document's text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) text: String,
    /// From where on in the text, what stands from where on in the file, in order. Between two of
    /// these both advance alike.
    origins: Vec<(usize, usize)>,
    /// In order.
    pub(crate) headings: Vec<Heading>,
    /// Records, where the file is a row of them; else none.
    pub(crate) rows: Vec<Row>,
}

/// A heading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heading {
    /// In the text.
    pub(crate) at: Range<usize>,
    /// 1 is the highest.
    pub(crate) level: u8,
    pub(crate) title: String,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// In the text.
    pub(crate) text: Range<usize>,
    /// In the file.
    pub(crate) source: Range<usize>,
}

impl Text {
    /// The text of a file's bytes; `None` where they are none.
    pub(crate) fn read(kind: Kind, bytes: &[u8]) -> Option<Self> {
        let plain = decode(kind, bytes)?;
        Some(match kind {
            Kind::Plain | Kind::Code | Kind::Nameless => plain,
            Kind::Markdown => markdown::read(plain),
            Kind::Html => html::read(&plain),
            Kind::Table => rows::table(&plain),
            Kind::JsonLines => rows::json_lines(&plain),
        })
    }

    /// Where in the file a place of the text stands.
    pub(crate) fn source(&self, at: usize) -> usize {
        let behind = self.origins.partition_point(|origin| origin.0 <= at);
        let (text, source) = behind.checked_sub(1).map_or((0, 0), |index| self.origins[index]);
        // What stands for less than it is ends where the next begins.
        let next = self.origins.get(behind).map_or(usize::MAX, |origin| origin.1);
        (source + (at - text)).min(next)
    }

    /// Where in the file a range of the text stands.
    pub(crate) fn source_range(&self, range: &Range<usize>) -> Range<usize> {
        let start = self.source(range.start);
        // The end is where its last character ends, not where what follows begins.
        let end = match range.end.checked_sub(1) {
            Some(last) if last >= range.start => self.source(last) + 1,
            _ => start,
        };
        start..end
    }

    /// Adds a text that stands in another one from `at` on, as it does there.
    fn take(&mut self, base: &Self, at: usize, text: &str) {
        self.mark(base.source(at));
        let inner = base.origins.partition_point(|origin| origin.0 <= at);
        for &(from, source) in base.origins[inner..].iter().take_while(|it| it.0 < at + text.len())
        {
            self.origins.push((self.text.len() + (from - at), source));
        }
        self.text.push_str(text);
    }

    /// Adds a text that stands for something in the file.
    fn put(&mut self, source: usize, text: &str) {
        self.mark(source);
        self.text.push_str(text);
    }

    /// What is added next stands there in the file.
    fn mark(&mut self, source: usize) {
        let at = self.text.len();
        if self.origins.last().is_some_and(|last| last.0 == at) {
            self.origins.pop();
        }
        if self.source(at) != source {
            self.origins.push((at, source));
        }
    }
}

/// Of so many characters one may be broken in what is still text.
const BROKEN_PART: usize = 10;

/// Bytes as UTF-8. What is broken becomes U+FFFD, as long as it is little of the whole; a byte 0
/// stands in no text. Without an extension to say that it is text, nothing may be broken.
fn decode(kind: Kind, bytes: &[u8]) -> Option<Text> {
    if bytes.contains(&0) {
        return None;
    }
    let mark = if bytes.starts_with("\u{feff}".as_bytes()) { '\u{feff}'.len_utf8() } else { 0 };
    let (mut text, mut at, mut broken) = (Text::default(), mark, 0);
    for piece in bytes[mark..].utf8_chunks() {
        text.put(at, piece.valid());
        at += piece.valid().len();
        if !piece.invalid().is_empty() {
            text.put(at, "\u{fffd}");
            at += piece.invalid().len();
            broken += 1;
        }
    }
    let most = if kind == Kind::Nameless { 0 } else { text.text.len() / BROKEN_PART };
    (broken <= most).then_some(text)
}

#[cfg(test)]
mod tests;
