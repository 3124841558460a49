//! Where tokens go as they are found: into a list, or into one that also tells which bytes of the
//! text each of them stands for. The families tell the bytes of the text as they see it; what was
//! done to it before, of which each knows, is undone behind them.

use crate::Token;
use std::ops::Range;
use unicode_normalization::char::canonical_combining_class;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// Takes tokens in their order.
pub(super) trait Sink {
    /// Takes a token that stands for these bytes.
    fn push(&mut self, token: Token, bytes: Range<usize>);
    /// How many it has.
    fn count(&self) -> usize;
    /// Drops all but the first.
    fn cut(&mut self, count: usize);
    /// Puts the bytes of all but the first `count` where `place` says they are.
    fn place(&mut self, count: usize, place: impl FnMut(usize) -> usize);
}

impl Sink for Vec<Token> {
    fn push(&mut self, token: Token, _: Range<usize>) {
        self.push(token);
    }

    fn count(&self) -> usize {
        self.len()
    }

    fn cut(&mut self, count: usize) {
        self.truncate(count);
    }

    fn place(&mut self, _: usize, _: impl FnMut(usize) -> usize) {}
}

impl Sink for Vec<(Token, Range<usize>)> {
    fn push(&mut self, token: Token, bytes: Range<usize>) {
        self.push((token, bytes));
    }

    fn count(&self) -> usize {
        self.len()
    }

    fn cut(&mut self, count: usize) {
        self.truncate(count);
    }

    fn place(&mut self, count: usize, mut place: impl FnMut(usize) -> usize) {
        for (_, bytes) in &mut self[count..] {
            *bytes = place(bytes.start)..place(bytes.end);
        }
    }
}

/// Where a byte of a text is from in which each space was replaced by `▁`, and before which a space
/// was put if `prefixed`: a place behind the last character is the text's end.
pub(super) fn unescaped(text: &str, prefixed: bool) -> impl FnMut(usize) -> usize {
    const MARK: usize = '▁'.len_utf8();
    let begin = if prefixed { MARK } else { 0 };
    // What was asked for last, here and there: places come in their order, but for a few.
    let (mut there, mut here) = (begin, 0);
    move |place| {
        if place < there {
            (there, here) = (begin, 0);
        }
        while there < place {
            let Some(character) = text[here..].chars().next() else { break };
            let width = if character == ' ' { MARK } else { character.len_utf8() };
            if there + width > place {
                // Within a character, as bytes that stand for one are.
                return here + (place - there).min(character.len_utf8());
            }
            (there, here) = (there + width, here + character.len_utf8());
        }
        here
    }
}

/// Whether a text is as composition leaves it (Unicode's NFC); sometimes it is and this does not
/// know.
pub(super) fn is_composed(text: &str) -> bool {
    text.is_ascii() || is_nfc_quick(text.chars()) == IsNormalized::Yes
}

/// A text whose characters are composed, and where each of its bytes, and its end, is from: the
/// beginning of the characters that were composed together.
pub(super) fn composed(text: &str) -> (String, Vec<usize>) {
    let (mut composed, mut places) = (String::new(), Vec::new());
    let mut start = 0;
    while start < text.len() {
        // Nothing is composed with a character that begins anew.
        let rest = text[start..].char_indices().skip(1);
        let begins = |(_, c): &(usize, char)| {
            canonical_combining_class(*c) == 0
                && is_nfc_quick(std::iter::once(*c)) == IsNormalized::Yes
        };
        let end = rest.into_iter().find(begins).map_or(text.len(), |(at, _)| start + at);
        composed.extend(text[start..end].nfc());
        places.resize(composed.len(), start);
        start = end;
    }
    places.push(text.len());
    (composed, places)
}

/// The bytes as a range of whole characters, without the spaces before them.
pub(super) fn trimmed(text: &str, bytes: Range<usize>) -> Range<usize> {
    let start = text.floor_char_boundary(bytes.start);
    let end = text.ceil_char_boundary(bytes.end);
    let within = &text[start..end];
    match within.trim_start() {
        "" => start..end,
        trimmed => end - trimmed.len()..end,
    }
}
