//! SentencePiece's Unigram (T5, XLM-R): characters are replaced by what a table says, in some
//! models cleaned as BERT's and set apart by spaces (Model2Vec); spaces become `▁`, and of all ways
//! to cut a text into known pieces the likeliest is taken (Viterbi; Kudo, 2018). A piece's
//! likelihood is its score. Texts are cut at spaces first where no piece has one within, so that a
//! long text takes no more memory than its longest word.
//!
//! Absent: sampling of other cuts, which is for training.

mod charsmap;

use super::spans::Sink;
use super::vocabulary::{TokenKind, Vocabulary};
use super::wordpiece::Clean;
use crate::{Error, Token};
use charsmap::Charsmap;
use rustc_hash::FxHashMap;

/// How much worse an unknown character is than the worst piece (SentencePiece's `kUnkPenalty`).
const UNKNOWN: f64 = 10.0;
const MARK: char = '▁';

#[derive(Debug)]
pub(super) struct Unigram {
    pieces: FxHashMap<Box<str>, (Token, f64)>,
    /// Of the longest piece, in bytes.
    longest: usize,
    unk: Option<Token>,
    unknown: f64,
    charsmap: Option<Charsmap>,
    clean: Option<Clean>,
    /// Characters with spaces on both sides, and with one behind.
    spaced: [String; 2],
    remove_extra: bool,
    /// Whether texts may be cut before each `▁`.
    by_words: bool,
}

/// A text as it is cut, and where each of its bytes is from.
#[derive(Debug, Default)]
struct Normal {
    text: String,
    /// For each byte, where its character begins in the text as it was written; and its end.
    from: Vec<(u32, u32)>,
}

impl Normal {
    fn push(&mut self, character: char, from: (u32, u32)) {
        self.text.push(character);
        self.from.resize(self.text.len(), from);
    }
}

/// The best way to a place in a word.
#[derive(Clone, Copy, Debug)]
struct Best {
    score: f64,
    from: usize,
    token: Option<Token>,
}

impl Unigram {
    pub(super) fn new(
        vocabulary: &Vocabulary,
        kinds: &[TokenKind],
        unk: Option<Token>,
    ) -> Result<Self, Error> {
        let mut pieces: FxHashMap<Box<str>, (Token, f64)> = FxHashMap::default();
        let (mut worst, mut by_words) = (f64::INFINITY, true);
        for (id, text) in (0..).zip(&vocabulary.tokens) {
            let score = vocabulary.scores.get(id as usize).copied().unwrap_or(0.0);
            let kind = kinds[id as usize];
            let plain = matches!(kind, TokenKind::Normal | TokenKind::UserDefined);
            if text.is_empty() || !plain || !score.is_finite() {
                continue;
            }
            if kind == TokenKind::Normal {
                worst = worst.min(score);
            }
            by_words &= !text.chars().skip(1).any(|character| character == MARK);
            pieces.entry(text.as_str().into()).or_insert((id, score));
        }
        let charsmap = match vocabulary.charsmap.is_empty() {
            true => None,
            false => Some(Charsmap::new(&vocabulary.charsmap)?),
        };
        Ok(Self {
            longest: pieces.keys().map(|piece| piece.len()).max().unwrap_or(0),
            pieces,
            unk: unk.filter(|&unk| (unk as usize) < kinds.len()),
            unknown: if worst.is_finite() { worst - UNKNOWN } else { -UNKNOWN },
            charsmap,
            clean: vocabulary.clean.then(|| Clean::of(vocabulary)),
            spaced: vocabulary.spaced.clone(),
            remove_extra: vocabulary.remove_extra_whitespaces.unwrap_or(true),
            by_words,
        })
    }

    /// The tokens of a text, before which a space is put where that is so.
    pub(super) fn encode(&self, text: &str, space: bool, tokens: &mut impl Sink) {
        let normal = self.normal(text, space);
        let mut rest = 0;
        while rest < normal.text.len() {
            let next = normal.text[rest..].char_indices().skip(1).find(|(_, c)| *c == MARK);
            let end = match next {
                Some((at, _)) if self.by_words => rest + at,
                _ => normal.text.len(),
            };
            self.cut(&normal, rest, end, tokens);
            rest = end;
        }
    }

    /// Characters replaced, spaces marked, those too many left out.
    fn normal(&self, text: &str, space: bool) -> Normal {
        let mut normal = Normal::default();
        let mut pending = None;
        let mut began = false;
        self.prepared(text, &mut |character, from| {
            // Where texts are cut at blanks, any blank is one; else only spaces are marked.
            if character == ' ' || self.remove_extra && character.is_whitespace() {
                match (self.remove_extra, began) {
                    (true, true) => pending = Some(from),
                    (true, false) => {}
                    (false, _) => normal.push(MARK, from),
                }
                return;
            }
            if !began && space {
                normal.push(MARK, (from.0, from.0));
            }
            if let Some(from) = pending.take() {
                normal.push(MARK, from);
            }
            began = true;
            normal.push(character, from);
        });
        normal
    }

    /// Each character of the text as it is read, and the bytes that it is from.
    fn prepared(&self, text: &str, each: &mut impl FnMut(char, (u32, u32))) {
        let [around, behind] = &self.spaced;
        let mut apart = |character: char, from: (u32, u32)| {
            let both = around.contains(character);
            if both {
                each(' ', (from.0, from.0));
            }
            each(character, from);
            if both || behind.contains(character) {
                each(' ', (from.1, from.1));
            }
        };
        self.replaced(text, &mut |character, from| match self.clean {
            Some(clean) => clean.each(character, &mut |cleaned| apart(cleaned, from)),
            None => apart(character, from),
        });
    }

    /// Each character that the table makes of the text's, and the bytes that it is from.
    fn replaced(&self, text: &str, each: &mut impl FnMut(char, (u32, u32))) {
        let mut at = 0;
        while at < text.len() {
            if let Some(map) = &self.charsmap
                && let Some((bytes, to)) = map.longest(&text[at..])
            {
                let from = (at as u32, (at + bytes) as u32);
                to.chars().for_each(|character| each(character, from));
                at += bytes;
                continue;
            }
            let Some(character) = text[at..].chars().next() else { break };
            each(character, (at as u32, (at + character.len_utf8()) as u32));
            at += character.len_utf8();
        }
    }

    /// The likeliest cut of a part of the text; neighbouring unknown characters are one token.
    fn cut(&self, normal: &Normal, start: usize, end: usize, tokens: &mut impl Sink) {
        let text = &normal.text[start..end];
        let none = Best { score: f64::NEG_INFINITY, from: 0, token: None };
        let mut best = vec![none; text.len() + 1];
        best[0].score = 0.0;
        for (at, character) in text.char_indices() {
            let here = best[at].score;
            let width = character.len_utf8();
            let mut single = false;
            let most = text.floor_char_boundary(at + self.longest);
            let ends = text[at..most].char_indices().map(|(i, c)| at + i + c.len_utf8());
            for to in ends {
                let Some(&(token, score)) = self.pieces.get(&text[at..to]) else { continue };
                single |= to == at + width;
                if here + score > best[to].score {
                    best[to] = Best { score: here + score, from: at, token: Some(token) };
                }
            }
            let to = at + width;
            if !single && here + self.unknown > best[to].score {
                best[to] = Best { score: here + self.unknown, from: at, token: None };
            }
        }
        let mut way = Vec::new();
        let mut to = text.len();
        while to > 0 {
            way.push((best[to].token, best[to].from, to));
            to = best[to].from;
        }
        let mut way = way.into_iter().rev().peekable();
        while let Some((token, from, mut to)) = way.next() {
            while token.is_none()
                && let Some((_, _, further)) = way.next_if(|(token, ..)| token.is_none())
            {
                to = further;
            }
            let place =
                normal.from[start + from].0 as usize..normal.from[start + to - 1].1 as usize;
            if let Some(token) = token.or(self.unk) {
                tokens.push(token, place);
            }
        }
    }
}
