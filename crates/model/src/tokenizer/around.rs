//! What a model puts around one text, and around two that it reads together: as its file says, or
//! as its family does where the file is silent.

use super::vocabulary::Vocabulary;
use super::{Tokenizer, known};
use crate::Token;
use std::ops::Range;

/// Marks around texts, and what kind each place is of (BERT's token types).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Around {
    /// Before one text, and behind it.
    pub single: [Marks; 2],
    /// Before two texts, between them, and behind.
    pub pair: [Marks; 3],
    /// The types of one text, and of the first and the second of two.
    pub types: [u32; 3],
}

/// Tokens and their types.
pub type Marks = Vec<(Token, u32)>;

/// Texts and their marks in one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whole {
    /// All tokens.
    pub tokens: Vec<Token>,
    /// A type for each.
    pub types: Vec<u32>,
    /// Where the texts stand among them; the second is empty where there is one.
    pub texts: [Range<usize>; 2],
}

impl Whole {
    fn marks(&mut self, marks: &Marks) {
        self.tokens.extend(marks.iter().map(|(token, _)| *token));
        self.types.extend(marks.iter().map(|(_, kind)| *kind));
    }

    fn text(&mut self, tokens: &[Token], kind: u32) -> Range<usize> {
        let start = self.tokens.len();
        self.tokens.extend(tokens);
        self.types.resize(self.tokens.len(), kind);
        start..self.tokens.len()
    }
}

impl Around {
    /// How many marks one text gets.
    pub fn single_marks(&self) -> usize {
        self.single.iter().map(Vec::len).sum()
    }

    /// How many marks two texts get.
    pub fn pair_marks(&self) -> usize {
        self.pair.iter().map(Vec::len).sum()
    }

    /// One text with its marks.
    pub fn one(&self, text: &[Token]) -> Whole {
        let mut whole = Whole::default();
        whole.marks(&self.single[0]);
        whole.texts[0] = whole.text(text, self.types[0]);
        whole.marks(&self.single[1]);
        whole
    }

    /// Two texts with their marks.
    pub fn two(&self, first: &[Token], second: &[Token]) -> Whole {
        let mut whole = Whole::default();
        whole.marks(&self.pair[0]);
        whole.texts[0] = whole.text(first, self.types[1]);
        whole.marks(&self.pair[1]);
        whole.texts[1] = whole.text(second, self.types[2]);
        whole.marks(&self.pair[2]);
        whole
    }

    /// What a file says in numbers, of which -1 and -2 are the texts, or else what is made of the
    /// mark before and the one behind: those of two are put together as llama.cpp does it for
    /// reranking.
    pub(super) fn of(
        vocabulary: &Vocabulary,
        prefix: Option<Token>,
        suffix: Option<Token>,
        bert: bool,
    ) -> Self {
        let said = &vocabulary.around;
        if let Some(around) = said.as_ref().and_then(|said| read(said, vocabulary.tokens.len())) {
            return around;
        }
        let marks = |token: Option<Token>, kind| token.map(|token| (token, kind)).into_iter();
        let second = u32::from(bert);
        let sep = known(vocabulary.sep, vocabulary.tokens.len()).filter(|_| !bert);
        let between = marks(suffix, 0).chain(marks(sep.filter(|sep| Some(*sep) != suffix), 0));
        Self {
            single: [marks(prefix, 0).collect(), marks(suffix, 0).collect()],
            pair: [marks(prefix, 0).collect(), between.collect(), marks(suffix, second).collect()],
            types: [0, 0, second],
        }
    }
}

/// What a file says of marks: of one text, of two, and the types of both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Tokens, and -1 for the text.
    pub single: Vec<i64>,
    /// Tokens, -1 for the first text and -2 for the second.
    pub pair: Vec<i64>,
    /// A type for each of both.
    pub types: [Vec<i64>; 2],
}

/// Marks of sequences that are sound: each text once, in order, tokens that there are.
fn read(said: &Said, tokens: usize) -> Option<Around> {
    let parts = |ids: &[i64], types: &[i64], texts: i64| {
        let (mut marks, mut kinds): (Vec<Marks>, Vec<u32>) = (vec![Vec::new()], Vec::new());
        for (id, kind) in ids.iter().zip(types) {
            let kind = u32::try_from(*kind).ok()?;
            if *id == -(marks.len() as i64) {
                marks.push(Vec::new());
                kinds.push(kind);
                continue;
            }
            let token = Token::try_from(*id).ok().filter(|id| (*id as usize) < tokens)?;
            marks.last_mut()?.push((token, kind));
        }
        (ids.len() == types.len() && kinds.len() as i64 == texts).then_some((marks, kinds))
    };
    let (single, kind) = parts(&said.single, &said.types[0], 1)?;
    let (pair, kinds) = parts(&said.pair, &said.types[1], 2)?;
    Some(Around {
        single: single.try_into().ok()?,
        pair: pair.try_into().ok()?,
        types: [kind[0], kinds[0], kinds[1]],
    })
}

impl Tokenizer {
    /// What the model puts around texts.
    pub fn around(&self) -> &Around {
        &self.shared.around
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_put_around_texts() {
        let tokens = vec!["x".to_owned(); 9];
        let check =
            |said: Option<Said>, bert: bool, one: (&[Token], &[u32]), two: (&[Token], &[u32])| {
                let vocabulary =
                    Vocabulary { around: said, tokens: tokens.clone(), ..Vocabulary::default() };
                let around = Around::of(&vocabulary, Some(1), Some(2), bert);
                let whole = around.one(&[7, 8]);
                assert_eq!((&whole.tokens[..], &whole.types[..]), one);
                assert_eq!(&whole.tokens[whole.texts[0].clone()], [7, 8]);
                assert_eq!(whole.tokens.len(), 2 + around.single_marks());
                let whole = around.two(&[7], &[8]);
                assert_eq!((&whole.tokens[..], &whole.types[..]), two);
                assert_eq!(&whole.tokens[whole.texts[1].clone()], [8]);
                assert_eq!(whole.tokens.len(), 2 + around.pair_marks());
            };
        let bert = ([1, 7, 2, 8, 2], [0, 0, 0, 1, 1]);
        check(None, true, (&[1, 7, 8, 2], &[0; 4]), (&bert.0, &bert.1));
        check(None, false, (&[1, 7, 8, 2], &[0; 4]), (&bert.0, &[0; 5]));
        let said = Said {
            single: vec![3, -1],
            pair: vec![3, -1, 4, 4, -2],
            types: [vec![0, 0], vec![0, 0, 0, 1, 1]],
        };
        let two = ([3, 7, 4, 4, 8], [0, 0, 0, 1, 1]);
        check(Some(said.clone()), false, (&[3, 7, 8], &[0; 3]), (&two.0, &two.1));
        // What is not sound is as if it were not said.
        for broken in [
            Said { single: vec![3], ..said.clone() },
            Said { single: vec![99, -1], ..said.clone() },
            Said { pair: vec![3, -2, 4, 4, -1], ..said.clone() },
            Said { types: [vec![0], vec![0; 5]], ..said.clone() },
        ] {
            check(Some(broken), true, (&[1, 7, 8, 2], &[0; 4]), (&bert.0, &bert.1));
        }
    }
}
