//! SentencePiece's BPE (Llama 2, Gemma, Mistral): characters with `▁` for a space, joined by the
//! score of the token that the join makes. A character without a token is written byte by byte.

use super::merge::Line;
use super::spans::{Sink, unescaped};
use super::vocabulary::{TokenKind, Vocabulary};
use crate::Token;
use rustc_hash::FxHashMap;

const NO_TOKEN: Token = Token::MAX;

/// Tokens by their text, with their scores.
#[derive(Debug)]
pub(super) struct SentencePiece {
    pieces: FxHashMap<Box<str>, Token>,
    scores: Vec<f32>,
    /// What each byte is written as.
    bytes: Vec<Token>,
}

impl SentencePiece {
    pub(super) fn new(vocabulary: &Vocabulary, kinds: &[TokenKind], unk: Option<Token>) -> Self {
        let mut pieces: FxHashMap<Box<str>, Token> = FxHashMap::default();
        let mut bytes = vec![NO_TOKEN; 256];
        for (id, text) in (0..).zip(&vocabulary.tokens) {
            match kinds[id as usize] {
                // Markup must not arise from plain text.
                TokenKind::Control | TokenKind::Unknown => {}
                TokenKind::Byte => {
                    if let Some(byte) = byte_of(text) {
                        bytes[usize::from(byte)] = id;
                    }
                }
                _ => {
                    pieces.entry(text.as_str().into()).or_insert(id);
                }
            }
        }
        let unk = unk.unwrap_or(NO_TOKEN);
        for token in bytes.iter_mut().filter(|token| **token == NO_TOKEN) {
            *token = unk;
        }
        let mut scores: Vec<f32> = vocabulary.scores.iter().map(|score| *score as f32).collect();
        scores.resize(vocabulary.tokens.len(), 0.0);
        Self { pieces, scores, bytes }
    }

    /// The tokens of a text, before which a space is put where that is so.
    pub(super) fn encode(&self, plain: &str, space: bool, line: &mut Line, tokens: &mut impl Sink) {
        let before = tokens.count();
        let text = [if space { "▁" } else { "" }, &plain.replace(' ', "▁")].concat();
        line.clear();
        let mut at = 0;
        for character in text.chars() {
            let end = at + character.len_utf8();
            line.push(self.pieces.get(&text[at..end]).copied().unwrap_or(NO_TOKEN), end - at);
            at = end;
        }
        line.merge(|left, right| {
            let start = left.start as usize;
            let joined = &text[start..start + left.bytes as usize + right.bytes as usize];
            let &token = self.pieces.get(joined)?;
            Some((self.scores[token as usize], token))
        });
        for symbol in line.symbols() {
            let (start, length) = (symbol.start as usize, symbol.bytes as usize);
            if symbol.id != NO_TOKEN {
                tokens.push(symbol.id, start..start + length);
                continue;
            }
            for (i, &byte) in text.as_bytes()[start..start + length].iter().enumerate() {
                let token = self.bytes[usize::from(byte)];
                if token != NO_TOKEN {
                    tokens.push(token, start + i..start + i + 1);
                }
            }
        }
        tokens.place(before, unescaped(plain, space));
    }
}

/// The byte that a token such as `<0x0A>` writes.
pub(super) fn byte_of(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok())?
}
