//! BERT's WordPiece: words without case or accents, cut greedily into their longest known parts.
//! In a GGUF file the parts that begin a word carry `▁`; the others carry nothing.

use super::vocabulary::{TokenKind, Vocabulary};
use crate::Token;
use regex::Regex;
use rustc_hash::FxHashMap;
use unicode_normalization::UnicodeNormalization;

#[derive(Debug)]
pub(super) struct WordPiece {
    parts: FxHashMap<Box<str>, Token>,
    /// Of the longest part, in bytes.
    longest: usize,
    unk: Token,
    lowercase: bool,
    strip_accents: bool,
    /// What is dropped: accents and what prints nothing.
    accents: Regex,
    unseen: Regex,
    /// A sign or a Chinese character by itself, or a run of anything else.
    words: Regex,
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
        let lowercase = vocabulary.lowercase.unwrap_or(true);
        let signs = r"\p{P}$+<=>^`|~";
        let han = "\u{4E00}-\u{9FFF}\u{3400}-\u{4DBF}\u{20000}-\u{2A6DF}\u{2A700}-\u{2B73F}\
                   \u{2B740}-\u{2B81F}\u{2B920}-\u{2CEAF}\u{F900}-\u{FAFF}\u{2F800}-\u{2FA1F}";
        let compile = |pattern: &str| Regex::new(pattern).expect("a tested pattern");
        Self {
            parts,
            longest,
            unk,
            lowercase,
            strip_accents: vocabulary.strip_accents.unwrap_or(lowercase),
            accents: compile(r"\p{Mn}+"),
            unseen: compile(r"[\p{C}\x{FFFD}]+"),
            words: compile(&format!("[{signs}{han}]|[^{signs}{han}]+")),
        }
    }

    pub(super) fn encode(&self, text: &str, tokens: &mut Vec<Token>) {
        for stretch in text.split_whitespace() {
            let mut clean = self.unseen.replace_all(stretch, "").into_owned();
            if self.strip_accents {
                let apart: String = clean.nfd().collect();
                clean = self.accents.replace_all(&apart, "").into_owned();
            }
            if self.lowercase {
                clean = clean.to_lowercase();
            }
            for word in self.words.find_iter(&clean) {
                self.word(&format!("▁{}", word.as_str()), tokens);
            }
        }
    }

    /// Either all of a word's parts are known, or the word is not.
    fn word(&self, word: &str, tokens: &mut Vec<Token>) {
        let before = tokens.len();
        let mut rest = word;
        while !rest.is_empty() {
            let most = rest.floor_char_boundary(self.longest);
            let ends = (1..=most).rev().filter(|&end| rest.is_char_boundary(end));
            let Some((end, token)) =
                ends.map(|end| (end, self.parts.get(&rest[..end]))).find(|(_, t)| t.is_some())
            else {
                tokens.truncate(before);
                break;
            };
            tokens.extend(token);
            rest = &rest[end..];
        }
        if tokens.len() == before {
            tokens.push(self.unk);
        }
    }
}
