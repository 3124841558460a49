//! BPE by a list of merges: over bytes (GPT-2's way, in which a vocabulary spells each byte as a
//! printable character) or over characters with `▁` for a space (Gemma 4's way).

use super::merge::Line;
use super::spans::{Sink, unescaped};
use super::split::{Row, Splitter};
use super::vocabulary::{TokenKind, Vocabulary};
use crate::Token;
use rustc_hash::FxHashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};

/// A merge's symbol has no token.
const NO_TOKEN: Token = Token::MAX;

/// The merges, over symbols. A symbol's number is its token's id where it has one; numbers past
/// the vocabulary are symbols that only stand between two merges.
#[derive(Debug)]
pub(super) struct BytePair {
    splitter: Splitter,
    whole_words: bool,
    characters: bool,
    symbols: FxHashMap<Box<[u8]>, u32>,
    /// The symbol of each byte.
    bytes: Vec<u32>,
    /// What each byte is written as where nothing else fits.
    fallback: Vec<Token>,
    /// Left symbol << 32 | right symbol → rank and joined symbol.
    merges: FxHashMap<u64, (u32, u32)>,
    /// Ids below this are tokens.
    vocabulary: u32,
    /// Whether merging a token's own text makes that token: most words are one, and this saves
    /// merging them again and again. Learnt as words come by.
    closed: Vec<AtomicU8>,
}

/// What is known of a token's text.
const UNKNOWN: u8 = 0;
const CLOSED: u8 = 1;
const OPEN: u8 = 2;

impl BytePair {
    pub(super) fn new(vocabulary: &Vocabulary, kinds: &[TokenKind], row: &Row) -> Self {
        let spell = |text: &str| if row.characters { Some(text.into()) } else { spelt(text) };
        let mut symbols: FxHashMap<Box<[u8]>, u32> = FxHashMap::default();
        symbols.reserve(vocabulary.tokens.len());
        for (id, text) in (0..).zip(&vocabulary.tokens) {
            // Markup must not arise from plain text.
            let plain = !matches!(kinds[id as usize], TokenKind::Control | TokenKind::Unknown);
            if let Some(bytes) = spell(text).filter(|_| plain) {
                symbols.entry(bytes.into()).or_insert(id);
            }
        }
        let count = vocabulary.tokens.len() as u32;
        let mut next = count;
        let mut symbol = |bytes: &[u8]| match symbols.get(bytes) {
            Some(&id) => id,
            None => {
                symbols.insert(bytes.into(), next);
                next += 1;
                next - 1
            }
        };
        let bytes: Vec<u32> = (0..=255u8).map(|byte| symbol(&[byte])).collect();
        let mut merges = FxHashMap::default();
        merges.reserve(vocabulary.merges.len());
        for (rank, merge) in (0..).zip(&vocabulary.merges) {
            // The first character may itself be the space that separates.
            let Some((gap, _)) = merge.char_indices().skip(1).find(|&(_, c)| c == ' ') else {
                continue;
            };
            let (left, right) = merge.split_at(gap);
            let (Some(left), Some(right)) = (spell(left), spell(&right[1..])) else { continue };
            let pair = pair(symbol(&left), symbol(&right));
            let joined = symbol(&[left, right].concat());
            merges.entry(pair).or_insert((rank, joined));
        }
        let fallback = (0..=255u8).map(|byte| {
            let id = if row.characters {
                symbols.get(format!("<0x{byte:02X}>").as_bytes()).copied()
            } else {
                Some(bytes[byte as usize])
            };
            id.filter(|&id| id < count).or(vocabulary.unk).unwrap_or(NO_TOKEN)
        });
        let fallback = fallback.collect();
        Self {
            splitter: Splitter::new(row),
            whole_words: row.whole_words,
            characters: row.characters,
            symbols,
            bytes,
            fallback,
            merges,
            vocabulary: count,
            closed: (0..count).map(|_| AtomicU8::new(UNKNOWN)).collect(),
        }
    }

    /// Whether symbols are characters, with `▁` for a space, and not bytes.
    pub(super) fn over_characters(&self) -> bool {
        self.characters
    }

    pub(super) fn encode(&self, text: &str, line: &mut Line, tokens: &mut impl Sink) {
        if !self.characters {
            return self.words(text, line, tokens);
        }
        let before = tokens.count();
        self.words(&text.replace(' ', "▁"), line, tokens);
        tokens.place(before, unescaped(text, false));
    }

    fn words(&self, text: &str, line: &mut Line, tokens: &mut impl Sink) {
        let mut lengths = Vec::new();
        self.splitter.split(text, &mut lengths);
        let mut at = 0;
        for length in lengths {
            let word = &text[at..at + length];
            let whole = self.symbols.get(word.as_bytes()).copied().unwrap_or(NO_TOKEN);
            let known = self.closed.get(whole as usize);
            if known.is_some_and(|known| {
                self.needs_no_merging(word) || known.load(Ordering::Relaxed) == CLOSED
            }) {
                tokens.push(whole, at..at + length);
            } else {
                let single = self.word(word, at, line, tokens);
                if let Some(known) = known {
                    let closed = if single == Some(whole) { CLOSED } else { OPEN };
                    known.store(closed, Ordering::Relaxed);
                }
            }
            at += length;
        }
    }

    /// Whether a word that is a token is taken as it stands. Over characters, newlines are.
    fn needs_no_merging(&self, word: &str) -> bool {
        self.whole_words || self.characters && word.starts_with('\n')
    }

    /// A word's tokens, which begins at byte `at`; returns the token if it is one.
    fn word(
        &self,
        word: &str,
        at: usize,
        line: &mut Line,
        tokens: &mut impl Sink,
    ) -> Option<Token> {
        let (before, mut last) = (tokens.count(), None);
        line.clear();
        if self.characters {
            let mut buffer = [0; 4];
            for character in word.chars() {
                let bytes = character.encode_utf8(&mut buffer).as_bytes();
                line.push(self.symbols.get(bytes).copied().unwrap_or(NO_TOKEN), bytes.len());
            }
        } else {
            for byte in word.bytes() {
                line.push(self.bytes[usize::from(byte)], 1);
            }
        }
        line.merge(|left, right| {
            let &(rank, joined) = self.merges.get(&pair(left.id, right.id))?;
            Some((-(rank as f32), joined))
        });
        let mut push = |token: Token, bytes: Range<usize>| {
            last = Some(token);
            tokens.push(token, bytes);
        };
        for symbol in line.symbols() {
            let (start, length) = (symbol.start as usize, symbol.bytes as usize);
            if symbol.id < self.vocabulary {
                push(symbol.id, at + start..at + start + length);
                continue;
            }
            for (i, &byte) in word.as_bytes()[start..start + length].iter().enumerate() {
                let token = self.fallback[usize::from(byte)];
                if token != NO_TOKEN {
                    push(token, at + start + i..at + start + i + 1);
                }
            }
        }
        last.filter(|_| tokens.count() == before + 1)
    }
}

fn pair(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

/// What a byte-level token writes. Text that is not in the byte alphabet stands for itself.
pub(super) fn unspell(text: &str) -> Vec<u8> {
    spelt(text).unwrap_or_else(|| text.as_bytes().to_vec())
}

/// The bytes that a byte-level vocabulary spells so; `None` for text outside its alphabet, which
/// no merge can make. GPT-2 writes the 188 printable characters of Latin-1 as themselves, and the
/// other 68 bytes, in order, as U+0100 and on.
fn spelt(text: &str) -> Option<Vec<u8>> {
    let byte = |character| match u32::from(character) {
        code @ (0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF) => Some(code as u8),
        code @ 0x100..=0x120 => Some((code - 0x100) as u8), // 0x00 to 0x20
        code @ 0x121..=0x142 => Some((code - 0x121 + 0x7F) as u8), // 0x7F to 0xA0
        0x143 => Some(0xAD),
        _ => None,
    };
    text.chars().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::{spelt, unspell};

    #[test]
    fn each_byte_has_one_spelling() {
        let letters = (0..0x200).filter_map(char::from_u32);
        let mut bytes: Vec<u8> = letters.filter_map(|c| spelt(&c.to_string())).flatten().collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
    }

    #[test]
    fn text_outside_the_alphabet_stands_for_itself() {
        assert_eq!(unspell("ĠHelloĊ"), b" Hello\n");
        assert_eq!(unspell("Ġ\u{200D}"), "Ġ\u{200D}".as_bytes());
    }
}
