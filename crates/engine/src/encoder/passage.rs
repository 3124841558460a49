//! Texts become the tokens that are computed: with the model's marks around them, its instruction
//! before them, and cut as the caller asked where they are too long.

use ingle_model::Token;
use ingle_model::reading::Reading;
use ingle_model::tokenizer::{Special, Tokenizer};
use ingle_protocol::{Encoding, Fault, Long, Passage, Reads, Want, Written};

/// What is computed at once: a text, or a part of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) tokens: Vec<Token>,
    /// Where the second of two texts begins.
    pub(super) second: Option<usize>,
    /// Whether something of the text was left out.
    pub(super) cut: bool,
    /// Which of the tokens are the text's own, without marks and instruction.
    pub(super) own: std::ops::Range<usize>,
    /// Where these stand in the text, in bytes, where that is wanted.
    pub(super) bytes: Vec<(u32, u32)>,
}

/// How texts of one request become pieces.
pub(super) struct Cutter<'a> {
    tokenizer: &'a Tokenizer,
    prompt: &'a str,
    long: Long,
    /// Tokens of a piece at most, marks included.
    most: usize,
    offsets: bool,
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
        let cutter = Self { tokenizer, prompt, long: encoding.long, most, offsets };
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
        let (before, after) = self.tokenizer.marks();
        before.iter().len() + after.iter().len() * if pair { 2 } else { 1 }
    }

    fn instruction(&self) -> Vec<Token> {
        if self.prompt.is_empty() {
            return Vec::new();
        }
        self.tokenizer.encode(self.prompt, Special::Plain)
    }

    /// A text's tokens; those of the instruction, if there is one, are the first of them.
    fn tokens(&self, written: &Written, prompt: &str) -> Result<Vec<Token>, Fault> {
        match written {
            Written::Text(text) if prompt.is_empty() => {
                Ok(self.tokenizer.encode(text, Special::Plain))
            }
            Written::Text(text) => {
                Ok(self.tokenizer.encode(&format!("{prompt}{text}"), Special::Plain))
            }
            Written::Tokens(tokens) => {
                let vocabulary = self.tokenizer.vocab_len();
                match tokens.iter().find(|token| **token as usize >= vocabulary) {
                    Some(token) => Err(Fault::caller(format!(
                        "there is no token {token}; ids are below {vocabulary}"
                    ))),
                    None => Ok(tokens.clone()),
                }
            }
        }
    }

    /// The pieces of one text, or of two that are read together.
    pub(super) fn cut(&self, passage: &Passage) -> Result<Vec<Piece>, Fault> {
        let first = self.tokens(&passage.text, self.prompt)?;
        let second = passage.pair.as_ref().map(|pair| self.tokens(pair, "")).transpose()?;
        let whole = matches!(passage.text, Written::Tokens(_)) && second.is_none();
        let marks = if whole { 0 } else { self.marks(second.is_some()) };
        let len = first.len() + second.as_ref().map_or(0, Vec::len);
        if len == 0 && marks == 0 {
            return Err(Fault::caller("there is nothing to read in it"));
        }
        let room = self.most - marks;
        if len <= room {
            return Ok(vec![self.piece(first, second, whole, false)]);
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
                    let to = first.len().min(from + room);
                    pieces.push(self.piece(first[from..to].to_vec(), None, whole, false));
                    if to == first.len() {
                        return Ok(pieces);
                    }
                    from += step;
                }
            }
            (long, second) => {
                let (first, second) = shorten(first, second, room, long);
                Ok(vec![self.piece(first, second, whole, true)])
            }
        }
    }

    fn piece(
        &self,
        first: Vec<Token>,
        second: Option<Vec<Token>>,
        whole: bool,
        cut: bool,
    ) -> Piece {
        let (before, after) = if whole { (None, None) } else { self.tokenizer.marks() };
        let mut tokens: Vec<Token> = before.into_iter().collect();
        let own = tokens.len()..tokens.len() + first.len();
        tokens.extend(first);
        tokens.extend(after);
        let begins = second.is_some().then_some(tokens.len());
        if let Some(second) = second {
            tokens.extend(second);
            tokens.extend(after);
        }
        let _ = self.offsets;
        Piece { tokens, second: begins, cut, own, bytes: Vec::new() }
    }
}

/// The longer of two texts is cut, token by token, until both fit.
fn shorten(
    mut first: Vec<Token>,
    mut second: Option<Vec<Token>>,
    room: usize,
    long: Long,
) -> (Vec<Token>, Option<Vec<Token>>) {
    let cut = |tokens: &mut Vec<Token>, to: usize| match long {
        Long::KeepEnd(_) => drop(tokens.drain(..tokens.len() - to)),
        _ => tokens.truncate(to),
    };
    let other = second.as_ref().map_or(0, Vec::len);
    let (a, b) = shares(first.len(), other, room);
    cut(&mut first, a);
    if let Some(second) = &mut second {
        cut(second, b);
    }
    (first, second)
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
    fn the_asked_end_is_kept() {
        let text = || (0..6).collect::<Vec<Token>>();
        assert_eq!(shorten(text(), None, 2, Long::KeepStart(None)), (vec![0, 1], None));
        assert_eq!(shorten(text(), None, 2, Long::KeepEnd(None)), (vec![4, 5], None));
        let both = shorten(text(), Some(vec![7]), 3, Long::KeepEnd(None));
        assert_eq!(both, (vec![4, 5], Some(vec![7])));
    }
}
