//! A text as the detector reads it: one byte a character, so that full-width digits are digits,
//! every space is a space and what has no width is not there; with the way back to the text's own
//! bytes. Absent: letters that merely look like others, and any encoding but JSON's `\n`.

use std::borrow::Cow;
use std::ops::Range;

/// Stands for a letter of an alphabet that joins with ours in one word: accented Latin, Greek,
/// Cyrillic.
pub(super) const LETTER: u8 = 0x80;
/// Stands for any other character.
pub(super) const OTHER: u8 = 0x81;

/// A text, a byte a character, and where each was.
#[derive(Debug)]
pub(super) struct Folded<'a> {
    text: &'a str,
    /// The characters.
    pub(super) bytes: Cow<'a, [u8]>,
    /// Where in the text each character begins; `None` where it is its own place.
    places: Option<Vec<u32>>,
}

impl<'a> Folded<'a> {
    /// The text must be shorter than 4 GiB.
    pub(super) fn new(text: &'a str) -> Self {
        let ascii = text.is_ascii();
        let plain = ascii && !text.bytes().any(|byte| byte == b'\\' || byte.is_ascii_control());
        if plain {
            return Self { text, bytes: Cow::Borrowed(text.as_bytes()), places: None };
        }
        let mut bytes = Vec::with_capacity(text.len());
        let mut places = Vec::new();
        if ascii {
            bytes.extend(text.bytes().map(ascii_byte));
        } else {
            places.reserve(text.len());
            for (at, char) in text.char_indices() {
                if let Some(byte) = one_byte(char) {
                    bytes.push(byte);
                    places.push(u32::try_from(at).unwrap_or(u32::MAX));
                }
            }
        }
        unescape(&mut bytes);
        Self { text, bytes: Cow::Owned(bytes), places: (!ascii).then_some(places) }
    }

    /// The text's own bytes that characters came from; what has no width between them is in it.
    pub(super) fn original(&self, range: Range<usize>) -> Range<usize> {
        let Some(places) = &self.places else { return range };
        let place = |at: usize| places.get(at).map_or(self.text.len(), |place| *place as usize);
        let start = place(range.start);
        if range.is_empty() {
            return start..start;
        }
        let last = place(range.end - 1);
        let width = self.text[last..].chars().next().map_or(0, char::len_utf8);
        start..last + width
    }
}

fn ascii_byte(byte: u8) -> u8 {
    match byte {
        b'\t' => b' ',
        b'\r' | 0x0b | 0x0c => b'\n',
        byte => byte,
    }
}

/// JSON within text: `\n`, `\r` and `\t` are line breaks, not a letter at the next word's edge.
fn unescape(bytes: &mut [u8]) {
    let mut at = 0;
    while at + 1 < bytes.len() {
        if bytes[at] == b'\\' {
            if matches!(bytes[at + 1], b'n' | b'r' | b't') {
                bytes[at..at + 2].fill(b'\n');
            }
            at += 1;
        }
        at += 1;
    }
}

/// Characters without width, from first to last: they are dropped.
const UNSEEN: &[(u32, u32)] = &[
    (0x00ad, 0x00ad),
    (0x034f, 0x034f),
    (0x061c, 0x061c),
    (0x115f, 0x1160),
    (0x17b4, 0x17b5),
    (0x180b, 0x180f),
    (0x200b, 0x200f),
    (0x202a, 0x202e),
    (0x2060, 0x206f),
    (0x3164, 0x3164),
    (0xfe00, 0xfe0f),
    (0xfeff, 0xfeff),
    (0xffa0, 0xffa0),
    (0xfff9, 0xfffb),
    (0xe0000, 0xe0fff),
];

/// Where alphabets have their digit 0; 1 to 9 follow it.
const ZEROS: &[u32] = &[
    0x0660, 0x06f0, 0x07c0, 0x0966, 0x09e6, 0x0a66, 0x0ae6, 0x0b66, 0x0be6, 0x0c66, 0x0ce6, 0x0d66,
    0x0de6, 0x0e50, 0x0ed0, 0x0f20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90,
    0x1b50, 0x1bb0, 0x1c40, 0x1c50, 0xa620, 0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10,
    0x104a0, 0x11066, 0x1d7ce, 0x1d7d8, 0x1d7e2, 0x1d7ec, 0x1d7f6, 0x1e950, 0x1fbf0,
];

/// What other characters are read as.
const READ_AS: &[(&[u32], u8)] = &[
    (&[0x00a0, 0x1680, 0x202f, 0x205f, 0x3000], b' '),
    (&[0x0085, 0x2028, 0x2029], b'\n'),
    (&[0x2043, 0x2212, 0xfe58, 0xfe63, 0x30fb], b'-'),
    (&[0x00b7, 0x2022, 0x2024, 0x2027, 0x3002, 0xfe52, 0xff61], b'.'),
    (&[0xfe6b], b'@'),
    (&[0x2044, 0x2215], b'/'),
    (&[0xfe62], b'+'),
    (&[0x02d0, 0xa789, 0xfe55], b':'),
];

fn one_byte(char: char) -> Option<u8> {
    if char.is_ascii() {
        return Some(ascii_byte(char as u8));
    }
    let code = u32::from(char);
    if UNSEEN.iter().any(|(first, last)| (*first..=*last).contains(&code)) {
        return None;
    }
    // Full-width forms of ASCII stand in its order.
    if let 0xff01..=0xff5e = code {
        return u8::try_from(code - 0xfee0).ok();
    }
    if matches!(code, 0x2000..=0x200a) {
        return Some(b' ');
    }
    if matches!(code, 0x2010..=0x2015) {
        return Some(b'-');
    }
    if let Some((_, byte)) = READ_AS.iter().find(|(codes, _)| codes.contains(&code)) {
        return Some(*byte);
    }
    if let Some(zero) = ZEROS.iter().find(|zero| (**zero..**zero + 10).contains(&code)) {
        return u8::try_from(code - zero).ok().map(|digit| b'0' + digit);
    }
    Some(if code < 0x0600 && char.is_alphabetic() { LETTER } else { OTHER })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_become_bytes_and_find_their_way_back() {
        let check = |text: &str, expect: &str, range: Range<usize>, original: &str| {
            let folded = Folded::new(text);
            assert_eq!(folded.bytes.as_ref(), expect.as_bytes(), "{text:?}");
            assert_eq!(&text[folded.original(range)], original, "{text:?}");
        };
        check("a 1", "a 1", 2..3, "1");
        check("a\t1\r\n", "a 1\n\n", 2..3, "1");
        check("４\u{200b}１\u{2009}１", "41 1", 0..2, "４\u{200b}１");
        check("４\u{200b}１\u{2009}１", "41 1", 3..4, "１");
        check("x\u{2011}٣", "x-3", 2..3, "٣");
        check("a\\n41\\\\n", "a\n\n41\\\\n", 3..5, "41");
        check("＠．＿", "@._", 0..3, "＠．＿");
        check("𝟒𝟏\u{fe0f}.", "41.", 0..2, "𝟒𝟏");
    }
}
