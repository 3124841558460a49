//! Text to tokens and back, from a model file's own vocabulary: the ids are llama.cpp's, which are
//! those that the model was trained on.
//!
//! Special tokens are found first, longest match first; what is between them goes to the family's
//! algorithm. Plain text never becomes markup: in [`Special::Plain`] only user-defined tokens are
//! found, and no merge can make a control token.
//!
//! Absent: `clean_up_tokenization_spaces` (it deletes spaces that the model wrote), and the
//! families `rwkv`, `plamo2`, `whitespace` and `hybriddna`, each an algorithm of
//! its own: a file of theirs is refused by name.

mod around;
mod bytepair;
mod cases;
mod decode;
mod merge;
mod sentencepiece;
mod spans;
mod split;
mod unigram;
mod vocabulary;
mod wordpiece;

pub use around::{Around, Marks, Said, Whole};
pub use cases::{CaseReport, Mismatch, check_cases};
pub use decode::Decoder;
pub use vocabulary::{TokenKind, Vocabulary};
pub(crate) use wordpiece::WORD_MAX;

use spans::Sink;

use crate::gguf::Gguf;
use crate::{Error, Token};
use aho_corasick::{AhoCorasick, MatchKind};
use std::sync::Arc;

/// Whether markup in a text (`<|im_end|>`) is the token that it spells, or just text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// It is the token: for rendered chat templates.
    Parse,
    /// It is text: for what users write.
    Plain,
}

/// A model's tokenizer. A clone shares everything.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    family: Family,
    texts: Vec<String>,
    kinds: Vec<TokenKind>,
    /// What each token writes: `written[ends[id - 1]..ends[id]]`.
    written: Vec<u8>,
    ends: Vec<usize>,
    markup: Finder,
    user_defined: Finder,
    bos: Option<Token>,
    eos: Option<Token>,
    /// Put before and after texts.
    around: Around,
    stops: Vec<Token>,
    gap_marks: Option<[Token; 3]>,
    space_prefix: bool,
    /// Whether only what begins a text gets that space, and not what follows a special token.
    space_first_only: bool,
    /// Whether only what does not begin with one.
    space_unless_there: bool,
    swallow_after_special: bool,
    /// Whether characters are composed first.
    nfc: bool,
}

#[derive(Debug)]
enum Family {
    BytePair(bytepair::BytePair),
    SentencePiece(sentencepiece::SentencePiece),
    WordPiece(wordpiece::WordPiece),
    Unigram(unigram::Unigram),
}

/// Tokens that are found in a text before anything else.
#[derive(Debug)]
struct Finder {
    patterns: Option<AhoCorasick>,
    tokens: Vec<Token>,
}

/// Whether there is such a pre-tokenizer.
#[cfg(test)]
pub(crate) fn knows_pattern(name: &str) -> bool {
    split::find(name).is_ok()
}

/// What a family does where the file is silent.
struct Defaults {
    bos: Option<Token>,
    eos: Option<Token>,
    sep: Option<Token>,
    add_bos: bool,
    add_eos: bool,
    add_sep: bool,
    space_prefix: bool,
}

const NO_DEFAULTS: Defaults = Defaults {
    bos: None,
    eos: None,
    sep: None,
    add_bos: false,
    add_eos: false,
    add_sep: false,
    space_prefix: false,
};

/// Tokens that end an answer whatever the file's keys say, by their text, as llama.cpp lists them.
static STOPS: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
    // Fill-in-the-middle: padding, repository name, file separator.
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<PAD>",
    "[PAD]",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<REPO>",
    "<reponame>",
    "<|file_sep|>",
];

/// The marks of fill-in-the-middle in files that do not name them, by their text: before the text
/// before a gap, before the text after it, before what fills it.
static GAPS: &[[&str; 3]] = &[
    ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"],
    ["<fim_prefix>", "<fim_suffix>", "<fim_middle>"],
    ["<fim-prefix>", "<fim-suffix>", "<fim-middle>"],
    ["<PRE>", "<SUF>", "<MID>"],
    ["▁<PRE>", "▁<SUF>", "▁<MID>"],
    ["<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"],
    ["<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"],
];

/// Tokens that llama.cpp always shows, though files call them control: gpt-oss's channels.
static SHOWN: &[&str] = &["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"];

impl Tokenizer {
    /// The tokenizer of a model file.
    ///
    /// # Errors
    /// As [`Tokenizer::new`]; [`Error::Missing`] where the file has no vocabulary.
    pub fn from_gguf(file: &Gguf) -> Result<Self, Error> {
        Self::new(Vocabulary::from_gguf(file)?)
    }

    /// The tokenizer of a vocabulary.
    ///
    /// # Errors
    /// [`Error::Unsupported`] names a family or a pre-tokenizer that this version does not know,
    /// or says what in the vocabulary does not fit together.
    pub fn new(vocabulary: Vocabulary) -> Result<Self, Error> {
        check(&vocabulary)?;
        let (mut stops, kinds) = stops_and_kinds(&vocabulary);
        let (family, defaults) = family(&vocabulary, &kinds)?;
        let known = |id: Option<Token>| known(id, kinds.len());
        let bos = known(vocabulary.bos.or(defaults.bos));
        let eos = known(vocabulary.eos.or(defaults.eos));
        let sep = known(vocabulary.sep.or(defaults.sep));
        let add_bos = vocabulary.add_bos.unwrap_or(defaults.add_bos);
        let add_eos = vocabulary.add_eos.unwrap_or(defaults.add_eos);
        let add_sep = vocabulary.add_sep.unwrap_or(defaults.add_sep);
        let suffix = if add_sep { sep } else { eos.filter(|_| add_eos) };
        stops.extend([eos, vocabulary.eot, vocabulary.eom].into_iter().flatten());
        stops.extend(&vocabulary.fill_in_ends);
        stops.retain(|&id| (id as usize) < kinds.len());
        stops.sort_unstable();
        stops.dedup();
        let gap_marks = gap_marks(&vocabulary);
        let bert = matches!(family, Family::WordPiece(_));
        let around = Around::of(&vocabulary, bos.filter(|_| add_bos), suffix, bert);
        let (written, ends) = written(&vocabulary, &kinds, &family);
        let texts = vocabulary.tokens;
        let markup = Finder::new(&texts, &kinds, |kind| {
            matches!(kind, TokenKind::Control | TokenKind::UserDefined | TokenKind::Unknown)
        })?;
        let user_defined = Finder::new(&texts, &kinds, |kind| kind == TokenKind::UserDefined)?;
        Ok(Self {
            shared: Arc::new(Shared {
                family,
                texts,
                kinds,
                written,
                ends,
                markup,
                user_defined,
                bos,
                eos,
                around,
                stops,
                gap_marks,
                space_prefix: vocabulary.add_space_prefix.unwrap_or(defaults.space_prefix),
                space_first_only: vocabulary.space_first_only,
                space_unless_there: vocabulary.space_unless_there,
                swallow_after_special: vocabulary.swallow_after_special,
                nfc: vocabulary.nfc,
            }),
        })
    }

    /// The text's tokens, with nothing put before or after.
    pub fn encode(&self, text: &str, special: Special) -> Vec<Token> {
        self.encode_from(text, special, self.shared.space_prefix)
    }

    /// The tokens of a plain text that continues another one: no space is put before it.
    pub fn encode_continuation(&self, text: &str) -> Vec<Token> {
        self.encode_from(text, Special::Plain, false)
    }

    /// The text's tokens as [`Tokenizer::encode`] gives them, each with the bytes of the text that
    /// it stands for: whole characters, without the spaces before them, unless it is spaces. Tokens
    /// that share a character have its bytes both, and one that stands for nothing in the text has
    /// an empty range.
    pub fn encode_with_offsets(
        &self,
        text: &str,
        special: Special,
    ) -> Vec<(Token, std::ops::Range<usize>)> {
        let mut tokens: Vec<(Token, std::ops::Range<usize>)> = Vec::new();
        self.encode_into(text, special, self.shared.space_prefix, &mut tokens);
        for (_, bytes) in &mut tokens {
            *bytes = spans::trimmed(text, bytes.clone());
        }
        tokens
    }

    fn encode_from(&self, text: &str, special: Special, space_prefix: bool) -> Vec<Token> {
        let mut tokens = Vec::with_capacity(text.len() / 3);
        self.encode_into(text, special, space_prefix, &mut tokens);
        tokens
    }

    fn encode_into(
        &self,
        text: &str,
        special: Special,
        space_prefix: bool,
        tokens: &mut impl Sink,
    ) {
        let shared = &*self.shared;
        let finder = match special {
            Special::Parse => &shared.markup,
            Special::Plain => &shared.user_defined,
        };
        let mut line = merge::Line::default();
        let mut rest = 0;
        for (found, token) in finder.find(text) {
            if found.start < rest {
                continue; // its first character was swallowed
            }
            let space = space_prefix && shared.spaces(text, rest);
            shared.plain(&text[..found.start], rest, space, &mut line, tokens);
            tokens.push(token, found.clone());
            rest = found.end;
            if shared.swallow_after_special && shared.swallows(token) {
                rest = text.len() - text[rest..].trim_ascii_start().len();
            }
        }
        let space = space_prefix && shared.spaces(text, rest);
        shared.plain(text, rest, space, &mut line, tokens);
    }

    /// The tokens of a whole prompt: with the BOS that the model asks for, unless the text brings
    /// its own, and with the EOS or SEP that it asks for.
    pub fn encode_prompt(&self, text: &str, special: Special) -> Vec<Token> {
        let mut tokens = self.encode(text, special);
        let [before, behind] = &self.shared.around.single;
        let before: Vec<Token> = before.iter().map(|(token, _)| *token).collect();
        if !tokens.starts_with(&before) {
            tokens.splice(0..0, before);
        }
        tokens.extend(behind.iter().map(|(token, _)| *token));
        tokens
    }

    /// What a token adds to a text, in bytes that may be part of a character; nothing for control
    /// tokens. `None` where the vocabulary has no such token.
    pub fn bytes(&self, token: Token) -> Option<&[u8]> {
        let shared = &*self.shared;
        let kind = shared.kinds.get(token as usize)?;
        match kind {
            TokenKind::Control | TokenKind::Unknown => Some(&[]),
            _ => shared.written(token),
        }
    }

    /// As [`Tokenizer::bytes`], but control tokens write their text.
    pub fn bytes_with_markup(&self, token: Token) -> Option<&[u8]> {
        self.shared.written(token)
    }

    /// A token's text as the vocabulary spells it (`Ġthe`, `▁the`, `<|im_end|>`).
    pub fn token_text(&self, token: Token) -> Option<&str> {
        self.shared.texts.get(token as usize).map(String::as_str)
    }

    /// What a token is for.
    pub fn kind(&self, token: Token) -> Option<TokenKind> {
        self.shared.kinds.get(token as usize).copied()
    }

    /// The text that tokens write from its start on: control tokens write nothing, bytes that are
    /// no UTF-8 become U+FFFD, and the space that encoding put before the text is taken off.
    pub fn decode(&self, tokens: &[Token]) -> String {
        let mut decoder = self.decoder_from_start();
        let mut text: String = tokens.iter().map(|&token| decoder.push(token)).collect();
        text += &decoder.flush();
        text
    }

    /// Decodes tokens one by one as the continuation of a prompt: a leading space is kept.
    pub fn decoder(&self) -> Decoder {
        Decoder::new(self.clone(), false)
    }

    /// Decodes tokens one by one from a text's start: together the same as [`Tokenizer::decode`].
    pub fn decoder_from_start(&self) -> Decoder {
        Decoder::new(self.clone(), self.shared.space_prefix)
    }

    /// How many tokens there are; every id is below this.
    pub fn vocab_len(&self) -> usize {
        self.shared.texts.len()
    }

    /// Begins a sequence.
    pub fn bos(&self) -> Option<Token> {
        self.shared.bos
    }

    /// Ends a sequence.
    pub fn eos(&self) -> Option<Token> {
        self.shared.eos
    }

    /// Whether prompts begin with BOS.
    pub fn adds_bos(&self) -> bool {
        self.shared.around.single[0].first().map(|(token, _)| *token) == self.shared.bos
            && self.shared.bos.is_some()
    }

    /// Whether generation ends with this token.
    pub fn is_end(&self, token: Token) -> bool {
        self.shared.stops.binary_search(&token).is_ok()
    }

    /// The tokens before the text before a gap, before the text after it, and before what fills it;
    /// `None` for models that were not taught to fill gaps.
    pub fn gap_marks(&self) -> Option<[Token; 3]> {
        self.shared.gap_marks
    }

    /// The tokens that end generation, ascending.
    pub fn ends(&self) -> &[Token] {
        &self.shared.stops
    }
}

/// An id, if the vocabulary has it.
fn known(id: Option<Token>, tokens: usize) -> Option<Token> {
    id.filter(|&id| (id as usize) < tokens)
}

/// The marks of a gap, as the file names them or as they are written.
fn gap_marks(vocabulary: &Vocabulary) -> Option<[Token; 3]> {
    let known = |id: &Token| (*id as usize) < vocabulary.tokens.len();
    if let [Some(before), Some(after), Some(filling)] = vocabulary.fill_in_marks {
        return Some([before, after, filling]).filter(|marks| marks.iter().all(known));
    }
    let id = |text: &str| vocabulary.tokens.iter().position(|token| token == text);
    GAPS.iter().find_map(|marks| {
        let (before, after, filling) = (id(marks[0])?, id(marks[1])?, id(marks[2])?);
        Some([before, after, filling].map(|id| id as Token))
    })
}

impl Shared {
    /// Whether a space is put before what begins at byte `from`, where one is put before texts.
    fn spaces(&self, text: &str, from: usize) -> bool {
        let there = || text[from..].starts_with([' ', '▁']);
        !(self.space_first_only && from > 0 || self.space_unless_there && there())
    }

    /// Encodes what stands between special tokens: the text from byte `from` on.
    fn plain(
        &self,
        text: &str,
        from: usize,
        space: bool,
        line: &mut merge::Line,
        tokens: &mut impl Sink,
    ) {
        let text = &text[from..];
        if text.is_empty() {
            return;
        }
        let before = tokens.count();
        if self.nfc && !spans::is_composed(text) {
            let (composed, places) = spans::composed(text);
            self.family(&composed, space, line, tokens);
            tokens.place(before, |at| from + places[at]);
            return;
        }
        self.family(text, space, line, tokens);
        tokens.place(before, |at| from + at);
    }

    /// What the family's algorithm makes of a text.
    fn family(&self, text: &str, space: bool, line: &mut merge::Line, tokens: &mut impl Sink) {
        match &self.family {
            Family::BytePair(bpe) => bpe.encode(text, line, tokens),
            Family::SentencePiece(spm) => spm.encode(text, space, line, tokens),
            Family::WordPiece(wpm) => wpm.encode(text, tokens),
            Family::Unigram(unigram) => unigram.encode(text, space, tokens),
        }
    }

    fn written(&self, token: Token) -> Option<&[u8]> {
        let end = *self.ends.get(token as usize)?;
        let start = if token == 0 { 0 } else { self.ends[token as usize - 1] };
        Some(&self.written[start..end])
    }

    /// Phi-3's special tokens swallow whitespace, but for the three of its Llama 2 base.
    fn swallows(&self, token: Token) -> bool {
        !matches!(self.texts[token as usize].as_str(), "<unk>" | "<s>" | "<|endoftext|>")
    }
}

impl Finder {
    fn new(
        texts: &[String],
        kinds: &[TokenKind],
        wanted: impl Fn(TokenKind) -> bool,
    ) -> Result<Self, Error> {
        let chosen = |id: &Token| wanted(kinds[*id as usize]) && !texts[*id as usize].is_empty();
        let tokens: Vec<Token> = (0..texts.len() as Token).filter(chosen).collect();
        if tokens.is_empty() {
            return Ok(Self { patterns: None, tokens });
        }
        let patterns = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(tokens.iter().map(|&id| &texts[id as usize]))
            .map_err(|error| Error::Unsupported(format!("too many special tokens: {error}")))?;
        Ok(Self { patterns: Some(patterns), tokens })
    }

    fn find<'a>(
        &'a self,
        text: &'a str,
    ) -> impl Iterator<Item = (std::ops::Range<usize>, Token)> + 'a {
        let found = self.patterns.as_ref().map(|patterns| patterns.find_iter(text));
        found.into_iter().flatten().map(|m| (m.range(), self.tokens[m.pattern().as_usize()]))
    }
}

/// Refuses what later code could not index.
fn check(vocabulary: &Vocabulary) -> Result<(), Error> {
    let tokens = vocabulary.tokens.len();
    if tokens == 0 || tokens > 1 << 24 {
        return Err(Error::Unsupported(format!(
            "a vocabulary of {tokens} tokens; from 1 to {} are supported",
            1 << 24
        )));
    }
    for (what, length) in [("scores", vocabulary.scores.len()), ("types", vocabulary.kinds.len())] {
        if length != 0 && length < tokens {
            return Err(Error::Unsupported(format!(
                "the vocabulary has {tokens} tokens but {length} token {what}; \
                 the model file needs to be converted again"
            )));
        }
    }
    Ok(())
}

/// Builds the family's algorithm.
fn family(vocabulary: &Vocabulary, kinds: &[TokenKind]) -> Result<(Family, Defaults), Error> {
    let unk = vocabulary.unk.filter(|&id| (id as usize) < kinds.len());
    match vocabulary.model.as_str() {
        "llama" => {
            let spm = sentencepiece::SentencePiece::new(vocabulary, kinds, unk.or(Some(0)));
            let defaults = Defaults {
                bos: Some(1),
                eos: Some(2),
                add_bos: true,
                space_prefix: true,
                ..NO_DEFAULTS
            };
            Ok((Family::SentencePiece(spm), defaults))
        }
        "gpt2" | "gemma4" => {
            if vocabulary.merges.is_empty() {
                return Err(Error::Missing("its merges (tokenizer.ggml.merges)".into()));
            }
            let pre = if vocabulary.model == "gemma4" { "gemma4" } else { &vocabulary.pre };
            let row = split::find(pre)?;
            let bpe = bytepair::BytePair::new(vocabulary, kinds, row);
            Ok((Family::BytePair(bpe), Defaults { add_bos: row.add_bos, ..NO_DEFAULTS }))
        }
        "bert" => {
            let wpm = wordpiece::WordPiece::new(vocabulary, kinds, unk.unwrap_or(100));
            let defaults = Defaults {
                bos: Some(101),
                sep: Some(102),
                add_bos: true,
                add_sep: true,
                space_prefix: true,
                ..NO_DEFAULTS
            };
            Ok((Family::WordPiece(wpm), defaults))
        }
        "t5" => {
            let unigram = unigram::Unigram::new(vocabulary, kinds, unk.or(Some(2)))?;
            let defaults =
                Defaults { eos: Some(1), add_eos: true, space_prefix: true, ..NO_DEFAULTS };
            Ok((Family::Unigram(unigram), defaults))
        }
        other => Err(Error::Unsupported(format!(
            "this version does not know the tokenizer family '{other}' (tokenizer.ggml.model); \
             use a newer version of Ingle or another model"
        ))),
    }
}

/// What every token writes, one after another, and where each ends.
fn written(vocabulary: &Vocabulary, kinds: &[TokenKind], family: &Family) -> (Vec<u8>, Vec<usize>) {
    let byte_level = matches!(family, Family::BytePair(bpe) if !bpe.over_characters());
    let mut written = Vec::new();
    let ends = vocabulary.tokens.iter().zip(kinds).map(|(text, kind)| {
        match kind {
            TokenKind::Control | TokenKind::Unknown | TokenKind::UserDefined => {
                written.extend_from_slice(text.as_bytes());
            }
            TokenKind::Byte if let Some(byte) = sentencepiece::byte_of(text) => written.push(byte),
            _ if byte_level => written.extend(bytepair::unspell(text)),
            _ => written.extend(text.replace('▁', " ").bytes()),
        }
        written.len()
    });
    let ends = ends.collect();
    (written, ends)
}

/// The tokens whose text says that they end generation, and every token's kind, mended where files
/// are known to be wrong.
fn stops_and_kinds(vocabulary: &Vocabulary) -> (Vec<Token>, Vec<TokenKind>) {
    let has = |text: &str| vocabulary.tokens.iter().any(|token| token == text);
    // Where a finer marker exists, the coarser one is an ordinary part of an answer.
    let end_is_inner = has("<|return|>") && has("<|call|>") || has("<|calls|>") && has("<|flush|>");
    let s_is_text = has("<|tool_response>") || has("<|plamo:eos|>");
    let mut kinds = vocabulary.kinds.clone();
    kinds.resize(vocabulary.tokens.len(), TokenKind::Normal);
    let mut stops = Vec::new();
    for (id, text) in (0..).zip(&vocabulary.tokens) {
        let kind = &mut kinds[id as usize];
        match text.as_str() {
            "<|end|>" if end_is_inner => *kind = TokenKind::UserDefined,
            "</s>" if s_is_text => *kind = TokenKind::Normal,
            text if SHOWN.contains(&text) => *kind = TokenKind::UserDefined,
            // A word that is spelled so may be nothing but a word.
            _ if vocabulary.kinds_told && *kind == TokenKind::Normal => {}
            text if STOPS.contains(&text) => {
                *kind = TokenKind::Control;
                stops.push(id);
            }
            _ => {}
        }
    }
    (stops, kinds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary(model: &str, tokens: &[&str]) -> Vocabulary {
        let tokens = tokens.iter().map(|&token| token.to_owned()).collect();
        Vocabulary { model: model.into(), tokens, ..Vocabulary::default() }
    }

    fn refused(vocabulary: Vocabulary, expected: &str) {
        let error = Tokenizer::new(vocabulary).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        refused(vocabulary("llama", &[]), "0 tokens");
        refused(vocabulary("rwkv", &["a"]), "'rwkv'");
        refused(vocabulary("gpt2", &["a"]), "merges");
        let short = Vocabulary { scores: vec![0.0], ..vocabulary("llama", &["a", "b"]) };
        refused(short, "1 token scores");
        let merges = vec!["a b".to_owned()];
        refused(
            Vocabulary { pre: "nonesuch".into(), merges, ..vocabulary("gpt2", &["a"]) },
            "'nonesuch'",
        );
    }

    #[test]
    fn special_ids_beyond_the_vocabulary_are_none() {
        let far = Some(7);
        let few = Vocabulary {
            bos: far,
            eos: far,
            eot: far,
            unk: far,
            fill_in_ends: vec![7],
            ..vocabulary("llama", &["<unk>", "a"])
        };
        let tokenizer = Tokenizer::new(few).expect("sound without them");
        assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.ends()), (None, None, &[][..]));
        assert_eq!(tokenizer.encode_prompt("b", Special::Parse), [0, 0, 0, 0]); // `▁b` in bytes
    }

    #[test]
    fn the_marks_of_a_gap_are_found() {
        let check = |texts: &[&str], named: [Option<Token>; 3], expect: Option<[Token; 3]>| {
            let texts = [&["<unk>"], texts].concat();
            let all = Vocabulary { fill_in_marks: named, ..vocabulary("llama", &texts) };
            assert_eq!(Tokenizer::new(all).expect("sound").gap_marks(), expect, "{texts:?}");
        };
        let (spelt, none) = (["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"], [None; 3]);
        check(&spelt, none, Some([1, 2, 3]));
        check(&spelt, [Some(3), Some(2), Some(0)], Some([3, 2, 0]));
        check(&spelt, [Some(3), None, None], Some([1, 2, 3]));
        check(&spelt, [Some(9), Some(9), Some(9)], None);
        check(&spelt[..2], none, None);
        check(&["<SUF>", "<PRE>", "<MID>"], none, Some([2, 1, 3]));
    }

    /// Merges that make what is no token, name what no text can spell, or are no pair.
    #[test]
    fn odd_merges_do_no_harm() {
        let merges = ["a b", "ab c", "Ġ a", "x", "", " ", "é \u{200D}", "a b"];
        let odd = Vocabulary {
            merges: merges.iter().map(|&merge| merge.to_owned()).collect(),
            ..vocabulary("gpt2", &["a", "b", "c", "abc", "Ġ"])
        };
        let tokenizer = Tokenizer::new(odd).expect("sound");
        for (text, ids) in [("abc", &[3][..]), ("ab", &[0, 1]), (" a", &[4, 0]), ("?", &[])] {
            assert_eq!(tokenizer.encode(text, Special::Plain), ids, "{text}");
            assert_eq!(tokenizer.encode(text, Special::Plain), ids, "{text}, once known");
        }
    }

    #[test]
    fn clones_are_shared_between_threads() {
        fn check<T: Clone + Send + Sync + 'static>() {}
        check::<Tokenizer>();
        check::<crate::template::Template>();
    }
}
