//! A document in passages that a model reads at once: cut where a section ends, or else a
//! paragraph, a sentence, a line, a word, whichever is there. Neighbours share a little, so that
//! what stands across a cut is found too. Absent: tokens; lengths are bytes, and a model that reads
//! less than a passage says so itself.

use std::ops::Range;

use crate::kind::Kind;
use crate::text::{Heading, Text};

/// How long passages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunking {
    /// Bytes of a passage, at most.
    pub bytes: usize,
    /// Bytes that one has in common with the one before, at most; less than half of a passage.
    pub overlap: usize,
}

impl Default for Chunking {
    /// Some 200 tokens of English: the encoders in use read 256 or more.
    fn default() -> Self {
        Self { bytes: 900, overlap: 120 }
    }
}

impl Chunking {
    /// The same, within what works.
    pub(crate) fn sane(self) -> Self {
        let bytes = self.bytes.clamp(64, 1 << 16);
        Self { bytes, overlap: self.overlap.min(bytes / 2 - 16) }
    }
}

/// A passage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) text: String,
    /// The headings above it, the highest first; empty where there are none.
    pub(crate) heading: String,
    /// Bytes of the file.
    pub(crate) source: Range<usize>,
    /// Lines of the file, from 1; both are part of it.
    pub(crate) lines: (usize, usize),
}

impl Chunk {
    /// What a model reads: the passage below its headings.
    pub(crate) fn read(&self) -> String {
        if self.heading.is_empty() {
            self.text.clone()
        } else {
            format!("{}\n{}", self.heading, self.text)
        }
    }
}

/// Bytes of all headings above a passage, at most; the lowest stay.
const HEADINGS: usize = 200;

/// A document's passages, in order.
pub(crate) fn chunks(text: &Text, kind: Kind, rule: Chunking, bytes: &[u8]) -> Vec<Chunk> {
    let rule = rule.sane();
    let starts: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] == b'\n').collect();
    let line = |at: usize| starts.partition_point(|end| *end < at) + 1;
    let chunk = |part: &Range<usize>, source: Range<usize>, heading: &str| {
        let source = source.start..source.end.min(bytes.len());
        let lines = (line(source.start), line(source.end.saturating_sub(1).max(source.start)));
        Chunk { text: text.text[part.clone()].to_owned(), heading: heading.into(), source, lines }
    };
    let cut = |range: &Range<usize>| cut(&text.text, range, kind.is_lines(), rule);
    if !text.rows.is_empty() {
        let parts = text.rows.iter().flat_map(|row| {
            cut(&row.text).into_iter().map(|part| chunk(&part, row.source.clone(), ""))
        });
        return parts.collect();
    }
    let mut all = Vec::new();
    for section in sections(text) {
        for part in cut(&section.range) {
            let begins = part.start <= section.begins;
            let heading = if begins { &section.above } else { &section.within };
            all.push(chunk(&part, text.source_range(&part), heading));
        }
    }
    all
}

/// What stands below a heading, the heading with it.
struct Section {
    range: Range<usize>,
    /// Behind its own headings.
    begins: usize,
    /// The headings above it.
    above: String,
    /// And its own.
    within: String,
}

/// A document's sections. Headings that nothing stands below belong to what follows.
fn sections(text: &Text) -> Vec<Section> {
    let mut sections = Vec::new();
    let mut stack: Vec<&Heading> = Vec::new();
    let (mut start, mut begins, mut above) = (0, 0, String::new());
    for heading in &text.headings {
        let body = text.text.get(begins..heading.at.start).unwrap_or_default();
        let filled = !body.trim().is_empty();
        if filled {
            let range = start..heading.at.start;
            sections.push(Section { range, begins, above, within: joined(&stack) });
            start = heading.at.start;
            above = String::new();
        }
        stack.retain(|upper| upper.level < heading.level);
        if filled {
            above = joined(&stack);
        }
        stack.push(heading);
        begins = heading.at.end;
    }
    let range = start..text.text.len();
    sections.push(Section { range, begins, above, within: joined(&stack) });
    sections
}

fn joined(headings: &[&Heading]) -> String {
    let mut path = String::new();
    for title in headings.iter().rev().map(|heading| heading.title.as_str()) {
        let longer = if path.is_empty() { title.into() } else { format!("{title} > {path}") };
        if longer.len() > HEADINGS {
            break;
        }
        path = longer;
    }
    path
}

/// Cuts a range into parts of at most so many bytes, blanks at their ends aside.
fn cut(text: &str, range: &Range<usize>, is_lines: bool, rule: Chunking) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let mut start = range.start;
    while range.end - start > rule.bytes {
        let window = floor(text, start + rule.bytes / 2)..floor(text, start + rule.bytes);
        let end = break_in(text, &window, is_lines).unwrap_or(window.end);
        parts.push(start..end);
        let shared = floor(text, end - rule.overlap)..end;
        start = overlap_start(text, &shared, is_lines);
    }
    parts.push(start..range.end);
    parts.into_iter().map(|part| trim(text, part)).filter(|part| !part.is_empty()).collect()
}

/// The best place to cut at: the last one of the best kind that there is.
fn break_in(text: &str, window: &Range<usize>, is_lines: bool) -> Option<usize> {
    let inner = &text[window.clone()];
    let paragraph = || inner.rfind("\n\n").map(|at| at + 2);
    let line = || inner.rfind('\n').map(|at| at + 1);
    let word = || {
        let blank = inner.char_indices().rfind(|(_, c)| c.is_whitespace());
        blank.map(|(at, c)| at + c.len_utf8())
    };
    let best = if is_lines {
        paragraph().or_else(line)
    } else {
        paragraph().or_else(|| sentences(inner).last()).or_else(line)
    };
    best.or_else(word).map(|at| window.start + at)
}

/// Where sentences begin behind others.
fn sentences(text: &str) -> impl Iterator<Item = usize> {
    let mut ended = false;
    let mut blank = false;
    text.char_indices().filter_map(move |(at, c)| {
        let begins = (ended && blank && !c.is_whitespace()).then_some(at);
        match c {
            '。' | '！' | '？' => (ended, blank) = (true, true),
            '.' | '!' | '?' => (ended, blank) = (true, false),
            '"' | '\'' | '”' | '’' | ')' | ']' if ended && !blank => {}
            c if c.is_whitespace() => blank = true,
            _ => (ended, blank) = (false, false),
        }
        begins
    })
}

/// Where the next part begins within what it may share with the last one.
fn overlap_start(text: &str, shared: &Range<usize>, is_lines: bool) -> usize {
    let inner = &text[shared.clone()];
    let line = || inner.find('\n').map(|at| at + 1);
    let word = || inner.find(char::is_whitespace).map(|at| at + 1).map(|at| floor(inner, at));
    let best = if is_lines { line() } else { sentences(inner).next().or_else(word) };
    let best = best.map(|at| shared.start + at).filter(|at| *at < shared.end);
    match best {
        Some(at) => at,
        // Without any place to begin at, as in scripts without blanks, it begins anywhere.
        None if is_lines || inner.contains(char::is_whitespace) => shared.end,
        None => shared.start,
    }
}

/// The range without blanks at its end and blank lines at its beginning: indents stay.
fn trim(text: &str, range: Range<usize>) -> Range<usize> {
    let inner = text[range.clone()].trim_end();
    let before = &inner[..inner.len() - inner.trim_start().len()];
    let skip = match before.rfind('\n') {
        Some(feed) => feed + 1,
        None if text[..range.start].is_empty() || text[..range.start].ends_with('\n') => 0,
        None => before.len(),
    };
    range.start + skip..range.start + inner.len()
}

/// The nearest place at or before this one that is between two characters.
fn floor(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at)
}

#[cfg(test)]
mod tests;
