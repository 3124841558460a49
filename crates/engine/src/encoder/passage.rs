//! Texts become the tokens that are computed: with the model's marks around them, its instruction
//! before them, and cut as the caller asked where they are too long. Where the model knows nothing
//! of their order ([`Bag`]), what it has no vectors for is left out.

use ingle_model::Token;
use ingle_model::reading::{Bag, Reading};
use ingle_model::tokenizer::{Special, Tokenizer};
use ingle_protocol::{Encoding, Fault, Long, Passage, Reads, Want, Written};
use std::borrow::Cow;
use std::ops::Range;

/// What is computed at once: a text, or a part of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) tokens: Vec<Token>,
    /// Where the second of two texts begins.
    pub(super) second: Option<usize>,
    /// Whether something of the text was left out.
    pub(super) cut: bool,
    /// Which of the tokens are the text's own, without marks and instruction.
    pub(super) own: Range<usize>,
    /// Where these stand in the text, in bytes, where that is wanted.
    pub(super) bytes: Vec<(u32, u32)>,
}

/// A text's tokens, and where they stand in it, where that is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Text {
    tokens: Vec<Token>,
    bytes: Vec<(u32, u32)>,
    /// Whether characters were left out before it had tokens.
    cut: bool,
}

impl Text {
    fn part(&self, tokens: Range<usize>) -> Self {
        let bytes = self.bytes.get(tokens.clone()).unwrap_or_default().to_vec();
        Self { tokens: self.tokens[tokens].to_vec(), bytes, cut: self.cut }
    }
}

/// How texts of one request become pieces.
pub(super) struct Cutter<'a> {
    tokenizer: &'a Tokenizer,
    prompt: &'a str,
    long: Long,
    /// Tokens of a piece at most, marks included.
    most: usize,
    offsets: bool,
    bag: Option<Bag>,
}

/// The first so many characters of a text, and whether there are more.
fn start(text: &str, characters: usize) -> (&str, bool) {
    match text.char_indices().nth(characters) {
        Some((end, _)) => (&text[..end], true),
        None => (text, false),
    }
}

fn chosen_prompt<'a>(reading: &'a Reading, want: &Want) -> Result<&'a str, Fault> {
    let asked = match want {
        Want::Vector(vectors) | Want::TokenVectors(vectors) => vectors.prompt.as_ref(),
        Want::Sparse | Want::Scores { .. } | Want::Tags => return Ok(""),
    };
    let Some(name) = asked.or(reading.usual_prompt.as_ref()) else { return Ok("") };
    let found = reading.prompts.iter().find(|(known, _)| known == name);
    match found {
        Some((_, text)) => Ok(text),
        None if reading.prompts.is_empty() => {
            Err(Fault::caller(format!("this model has no instructions, {name:?} neither")))
        }
        None => {
            let known: Vec<&str> = reading.prompts.iter().map(|(name, _)| &**name).collect();
            let known = known.join(", ");
            Err(Fault::caller(format!("this model has no instruction {name:?}; it has {known}")))
        }
    }
}

impl<'a> Cutter<'a> {
    pub(super) fn new(
        tokenizer: &'a Tokenizer,
        reading: &'a Reading,
        reads: &Reads,
        encoding: &Encoding,
    ) -> Result<Self, Fault> {
        let context = reads.tokens as usize;
        let asked = match encoding.long {
            Long::Refuse => None,
            Long::KeepStart(most) | Long::KeepEnd(most) => most,
            Long::Chunk { tokens, .. } => tokens,
        };
        let most = asked.map_or(context, |most| context.min(most as usize));
        let prompt = chosen_prompt(reading, &encoding.want)?;
        let offsets = encoding.want == Want::Tags;
        let (long, bag) = (encoding.long, reading.bag);
        let cutter = Self { tokenizer, prompt, long, most, offsets, bag };
        let taken = cutter.marks(true) + cutter.instruction().len();
        if most <= taken {
            return Err(Fault::caller(format!(
                "a piece of {most} tokens has no room for a text beside the {taken} that the model \
                 puts around it"
            )));
        }
        if let Long::Chunk { overlap, .. } = encoding.long
            && 2 * overlap as usize >= most
        {
            return Err(Fault::caller("the overlap must be less than half of a piece"));
        }
        Ok(cutter)
    }

    /// Tokens around one text, or two.
    fn marks(&self, pair: bool) -> usize {
        let around = self.tokenizer.around();
        if pair { around.pair_marks() } else { around.single_marks() }
    }

    fn instruction(&self) -> Vec<Token> {
        if self.prompt.is_empty() {
            return Vec::new();
        }
        self.tokenizer.encode(self.prompt, Special::Plain)
    }

    /// A text's tokens; those of the instruction, if there is one, are the first of them.
    fn tokens(&self, written: &Written, prompt: &str) -> Result<Text, Fault> {
        let bare = |tokens| Text { tokens, ..Text::default() };
        match written {
            Written::Text(text) if self.offsets => {
                let found = self.tokenizer.encode_with_offsets(text, Special::Plain);
                let place = |bytes: &Range<usize>| (bytes.start as u32, bytes.end as u32);
                let bytes = found.iter().map(|(_, bytes)| place(bytes)).collect();
                let tokens = found.into_iter().map(|(token, _)| token).collect();
                Ok(Text { tokens, bytes, cut: false })
            }
            Written::Text(text) => {
                let whole = if prompt.is_empty() {
                    Cow::Borrowed(text.as_str())
                } else {
                    Cow::Owned(format!("{prompt}{text}"))
                };
                let (text, cut) = self.start(&whole);
                Ok(Text { cut, ..bare(self.tokenizer.encode(text, Special::Plain)) })
            }
            Written::Tokens(tokens) => {
                let vocabulary = self.tokenizer.vocab_len();
                match tokens.iter().find(|token| **token as usize >= vocabulary) {
                    Some(token) => Err(Fault::caller(format!(
                        "there is no token {token}; ids are below {vocabulary}"
                    ))),
                    None => Ok(bare(tokens.clone())),
                }
            }
        }
    }

    /// What of a text becomes tokens, where its start is all that is asked for, and whether that is
    /// less than all: a model of static embeddings cuts its characters first.
    fn start<'t>(&self, text: &'t str) -> (&'t str, bool) {
        let chars = self.bag.and_then(|bag| bag.token_chars);
        match (self.long, chars) {
            (Long::KeepStart(_), Some(chars)) => start(text, self.most.saturating_mul(chars)),
            _ => (text, false),
        }
    }

    /// The pieces of one text, or of two that are read together.
    pub(super) fn cut(&self, passage: &Passage) -> Result<Vec<Piece>, Fault> {
        let first = self.tokens(&passage.text, self.prompt)?;
        let second = passage.pair.as_ref().map(|pair| self.tokens(pair, "")).transpose()?;
        let whole = matches!(passage.text, Written::Tokens(_)) && second.is_none();
        let marks = if whole { 0 } else { self.marks(second.is_some()) };
        let len = first.tokens.len() + second.as_ref().map_or(0, |text| text.tokens.len());
        if len == 0 && marks == 0 && self.bag.is_none() {
            return Err(Fault::caller("there is nothing to read in it"));
        }
        let room = self.most - marks;
        if len <= room {
            let cut = first.cut || second.as_ref().is_some_and(|text| text.cut);
            return Ok(vec![self.piece(&first, second.as_ref(), whole, cut)]);
        }
        match (self.long, second) {
            (Long::Refuse, _) => Err(Fault::caller(format!(
                "it has {} tokens, the model's marks included, and the model reads {}: shorten it, \
                 or ask for it to be truncated or read in chunks",
                len + marks,
                self.most
            ))),
            (Long::Chunk { .. }, Some(_)) => {
                Err(Fault::caller("two texts that are read together cannot be read in chunks"))
            }
            (Long::Chunk { overlap, .. }, None) => {
                let step = room - (overlap as usize).min(room / 2);
                let mut pieces = Vec::new();
                let mut from = 0;
                loop {
                    let to = first.tokens.len().min(from + room);
                    pieces.push(self.piece(&first.part(from..to), None, whole, false));
                    if to == first.tokens.len() {
                        return Ok(pieces);
                    }
                    from += step;
                }
            }
            (long, second) => {
                let (first, second) = shorten(&first, second.as_ref(), room, long);
                Ok(vec![self.piece(&first, second.as_ref(), whole, true)])
            }
        }
    }

    fn piece(&self, first: &Text, second: Option<&Text>, whole: bool, cut: bool) -> Piece {
        if let Some(bag) = self.bag {
            let both = first.tokens.iter().chain(second.into_iter().flat_map(|text| &text.tokens));
            let tokens: Vec<Token> = both.copied().filter(|id| Some(*id) != bag.dropped).collect();
            return Piece { own: 0..tokens.len(), tokens, cut, ..Piece::default() };
        }
        if whole {
            let own = 0..first.tokens.len();
            return Piece { tokens: first.tokens.clone(), cut, own, ..Piece::default() };
        }
        let around = self.tokenizer.around();
        let made = match second {
            Some(second) => around.two(&first.tokens, &second.tokens),
            None => around.one(&first.tokens),
        };
        Piece {
            second: made.types.iter().position(|kind| *kind > 0),
            tokens: made.tokens,
            cut,
            own: made.texts[0].clone(),
            bytes: first.bytes.clone(),
        }
    }
}

/// The longer of two texts is cut, token by token, until both fit.
fn shorten(first: &Text, second: Option<&Text>, room: usize, long: Long) -> (Text, Option<Text>) {
    let cut = |text: &Text, to: usize| match long {
        Long::KeepEnd(_) => text.part(text.tokens.len() - to..text.tokens.len()),
        _ => text.part(0..to),
    };
    let (a, b) = shares(first.tokens.len(), second.map_or(0, |text| text.tokens.len()), room);
    (cut(first, a), second.map(|second| cut(second, b)))
}

/// What two of these lengths keep of `room`, the longer one giving way first.
fn shares(a: usize, b: usize, room: usize) -> (usize, usize) {
    if a + b <= room {
        return (a, b);
    }
    let half = room / 2;
    match (a <= half, b <= room - half) {
        (true, _) => (a, room - a),
        (false, true) => (room - b, b),
        (false, false) => (half, room - half),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_text_gives_way() {
        for (a, b, room, expect) in [
            (3, 4, 10, (3, 4)),
            (3, 40, 10, (3, 7)),
            (40, 3, 10, (7, 3)),
            (40, 30, 10, (5, 5)),
            (40, 30, 11, (5, 6)),
            (40, 0, 11, (11, 0)),
            (0, 40, 11, (0, 11)),
        ] {
            assert_eq!(shares(a, b, room), expect, "{a} and {b} in {room}");
        }
    }

    #[test]
    fn texts_begin_with_whole_characters() {
        for (characters, expect) in
            [(0, ("", true)), (2, ("aé", true)), (3, ("aéb", false)), (9, ("aéb", false))]
        {
            assert_eq!(start("aéb", characters), expect);
        }
        assert_eq!(start("", 0), ("", false));
    }

    #[test]
    fn the_asked_end_is_kept() {
        let text = |tokens: Range<Token>| Text { tokens: tokens.collect(), ..Text::default() };
        let check = |second: Option<Text>, room, long, expect: (Range<Token>, Option<Text>)| {
            let cut = shorten(&text(0..6), second.as_ref(), room, long);
            assert_eq!(cut, (text(expect.0), expect.1));
        };
        check(None, 2, Long::KeepStart(None), (0..2, None));
        check(None, 2, Long::KeepEnd(None), (4..6, None));
        check(Some(text(7..8)), 3, Long::KeepEnd(None), (4..6, Some(text(7..8))));
    }
}
