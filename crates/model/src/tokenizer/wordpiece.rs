//! BERT's WordPiece: words without case or accents, cut greedily into their longest known parts.
//! In a GGUF file the parts that begin a word carry `▁`; the others carry nothing.
//!
//! Text is cleaned character by character, as the package `tokenizers` does it (`BertNormalizer`,
//! `BertPreTokenizer`), so that it is known at every byte of a word where it comes from.

use super::spans::Sink;
use super::vocabulary::{TokenKind, Vocabulary};
use crate::Token;
use regex::Regex;
use rustc_hash::FxHashMap;
use std::ops::Range;
use std::sync::LazyLock;
use unicode_normalization::char::decompose_canonical;

/// Longer words, in characters, are unknown.
pub(crate) const WORD_MAX: usize = 100;
/// What begins a word in a GGUF file.
const BEGIN: &str = "▁";

#[derive(Debug)]
pub(super) struct WordPiece {
    parts: FxHashMap<Box<str>, Token>,
    /// Of the longest part, in bytes.
    longest: usize,
    unk: Token,
    clean: Clean,
}

/// What becomes of a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// It is a part of a word.
    Letter,
    /// It is a word of its own.
    Alone,
    /// It parts words.
    Space,
    /// It prints nothing and is dropped.
    Unseen,
    /// It is dropped where accents are.
    Accent,
}

/// Classes of the first planes' characters, each by its number; made once, and never for ASCII
/// text.
static CLASSES: LazyLock<Vec<Class>> = LazyLock::new(|| {
    const KNOWN: u32 = 0x3_0000;
    let compile = |pattern: &str| Regex::new(pattern).expect("a tested pattern");
    let mut classes = vec![Class::Letter; KNOWN as usize];
    let all: String = (0..KNOWN).filter_map(char::from_u32).collect();
    for (pattern, class) in [
        (r"\s", Class::Space),
        (r"\p{Mn}", Class::Accent),
        (r"\p{P}", Class::Alone),
        (r"\p{C}", Class::Unseen),
    ] {
        for found in compile(pattern).find_iter(&all) {
            for character in found.as_str().chars() {
                classes[character as usize] = class;
            }
        }
    }
    classes[0xFFFD] = Class::Unseen;
    classes
});

impl Class {
    fn of(character: char) -> Self {
        match character {
            '\t' | '\n' | '\r' | ' ' => Self::Space,
            _ if character.is_ascii_alphanumeric() => Self::Letter,
            _ if character.is_ascii_punctuation() => Self::Alone,
            _ if is_han(character) => Self::Alone,
            _ => CLASSES.get(character as usize).copied().unwrap_or(Self::Letter),
        }
    }
}

/// The characters that BERT's makers took for Chinese words.
fn is_han(character: char) -> bool {
    matches!(u32::from(character),
        0x4E00..=0x9FFF | 0x3400..=0x4DBF | 0x20000..=0x2A6DF | 0x2A700..=0x2B73F
        | 0x2B740..=0x2B81F | 0x2B920..=0x2CEAF | 0xF900..=0xFAFF | 0x2F800..=0x2FA1F)
}

/// What BERT makes of characters before they are words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clean {
    lowercase: bool,
    strip_accents: bool,
}

impl Clean {
    pub(super) fn of(vocabulary: &Vocabulary) -> Self {
        let lowercase = vocabulary.lowercase.unwrap_or(true);
        Self { lowercase, strip_accents: vocabulary.strip_accents.unwrap_or(lowercase) }
    }

    /// What becomes of a character; blanks are spaces.
    pub(super) fn each(self, character: char, each: &mut impl FnMut(char)) {
        let alone = is_han(character);
        match Class::of(character) {
            Class::Unseen => return,
            Class::Space => return each(' '),
            _ if alone => each(' '),
            _ => {}
        }
        let mut cased = |part: char| match self.lowercase {
            true => part.to_lowercase().for_each(&mut *each),
            false => each(part),
        };
        if self.strip_accents && !character.is_ascii() {
            decompose_canonical(character, |part| {
                if Class::of(part) != Class::Accent {
                    cased(part);
                }
            });
        } else {
            cased(character);
        }
        if alone {
            each(' ');
        }
    }
}

/// A word in the making, and where in the text each of its bytes is from.
#[derive(Default)]
struct Word {
    text: String,
    from: Vec<Range<u32>>,
}

impl Word {
    fn push(&mut self, character: char, from: Range<u32>) {
        if self.text.is_empty() {
            self.text.push_str(BEGIN);
            self.from.resize(BEGIN.len(), from.start..from.start);
        }
        self.text.push(character);
        self.from.resize(self.text.len(), from);
    }

    fn place(&self, part: Range<usize>) -> Range<usize> {
        self.from[part.start].start as usize..self.from[part.end - 1].end as usize
    }

    fn clear(&mut self) {
        self.text.clear();
        self.from.clear();
    }
}

impl WordPiece {
    pub(super) fn new(vocabulary: &Vocabulary, kinds: &[TokenKind], unk: Token) -> Self {
        let mut parts: FxHashMap<Box<str>, Token> = FxHashMap::default();
        for (id, text) in (0..).zip(&vocabulary.tokens) {
            if !matches!(kinds[id as usize], TokenKind::Control | TokenKind::Unknown) {
                parts.entry(text.as_str().into()).or_insert(id);
            }
        }
        let longest = parts.keys().map(|part| part.len()).max().unwrap_or(0);
        Self { parts, longest, unk, clean: Clean::of(vocabulary) }
    }

    pub(super) fn encode(&self, text: &str, tokens: &mut impl Sink) {
        let mut word = Word::default();
        for (at, character) in text.char_indices() {
            let from = at as u32..(at + character.len_utf8()) as u32;
            let class = Class::of(character);
            match class {
                Class::Unseen => continue,
                Class::Space => {
                    self.end(&mut word, tokens);
                    continue;
                }
                Class::Alone if is_han(character) => self.end(&mut word, tokens),
                _ => {}
            }
            if !self.clean.strip_accents || character.is_ascii() {
                self.push(character, class, &from, &mut word, tokens);
            } else {
                decompose_canonical(character, |part| {
                    let class = Class::of(part);
                    if class != Class::Accent {
                        self.push(part, class, &from, &mut word, tokens);
                    }
                });
            }
            if class == Class::Alone && is_han(character) {
                self.end(&mut word, tokens);
            }
        }
        self.end(&mut word, tokens);
    }

    /// Adds a cleaned character to the word, or ends it there.
    fn push(
        &self,
        character: char,
        class: Class,
        from: &Range<u32>,
        word: &mut Word,
        tokens: &mut impl Sink,
    ) {
        let alone = class == Class::Alone;
        if alone {
            self.end(word, tokens);
        }
        if self.clean.lowercase {
            character.to_lowercase().for_each(|lower| word.push(lower, from.clone()));
        } else {
            word.push(character, from.clone());
        }
        if alone {
            self.end(word, tokens);
        }
    }

    /// The tokens of a word: either all of its parts are known, or it is not.
    fn end(&self, word: &mut Word, tokens: &mut impl Sink) {
        if word.text.is_empty() {
            return;
        }
        let before = tokens.count();
        let mut done = 0;
        let known = word.text.chars().nth(WORD_MAX + 1).is_none();
        while known && done < word.text.len() {
            let rest = &word.text[done..];
            let most = rest.floor_char_boundary(self.longest);
            let ends = (1..=most).rev().filter(|&end| rest.is_char_boundary(end));
            let Some((end, &token)) = ends
                .map(|end| (end, self.parts.get(&rest[..end])))
                .find_map(|(end, token)| Some((end, token?)))
            else {
                break;
            };
            tokens.push(token, word.place(done..done + end));
            done += end;
        }
        if done < word.text.len() {
            tokens.cut(before);
            tokens.push(self.unk, word.place(0..word.text.len()));
        }
        word.clear();
    }
}
