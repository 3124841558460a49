//! Texts read by a model that understands rather than writes: an encoder, and what its head makes
//! of each text. Absent: how texts are found or shown, and what a vector is compared with.

use std::sync::Arc;

use crate::{Fault, KeepAlive, Origin, Receipt, Token};

/// Texts to be read, and what is wanted of each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Encoding {
    /// The model's name; empty means the server's default.
    pub model: String,
    /// What is read, each by itself.
    pub inputs: Vec<Passage>,
    /// What is wanted of each.
    pub want: Want,
    /// What becomes of a text that is longer than the model reads.
    pub long: Long,
    /// The adapter to read with, by its name; `None` reads with the model as it is.
    pub adapter: Option<String>,
    /// Lower is computed sooner; 0 is usual.
    pub priority: i32,
    /// From its arrival, in milliseconds: then it is ended.
    pub timeout_ms: Option<u32>,
    /// How long its model is kept in memory afterwards; `None` leaves it to the server.
    pub keep_alive: Option<KeepAlive>,
    /// On whose account it is computed, as in a [`crate::Request`].
    pub owner: u32,
    /// Where it comes from, where a policy may want to know.
    pub origin: Option<Arc<Origin>>,
}

/// One text, or two that are read together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    /// The text; of two, the first: a query that the other is to answer, a premise.
    pub text: Written,
    /// The second of two.
    pub pair: Option<Written>,
}

impl Passage {
    /// One text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: Written::Text(text.into()), pair: None }
    }

    /// Two texts, read together.
    pub fn pair(first: impl Into<String>, second: impl Into<String>) -> Self {
        Self { pair: Some(Written::Text(second.into())), ..Self::text(first) }
    }
}

/// A text, or its tokens, used as they stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// Plain text; the model's own marks are put around it. What looks like a mark in it is text.
    Text(String),
    /// Token ids.
    Tokens(Vec<Token>),
}

/// What is wanted of each text.
#[derive(Clone, Debug, PartialEq)]
pub enum Want {
    /// One vector.
    Vector(Vectors),
    /// A vector a token (late interaction, as ColBERT's).
    TokenVectors(Vectors),
    /// Weights of words of the vocabulary (SPLADE).
    Sparse,
    /// A score a label of the model's classification head; a reranker has one label.
    Scores {
        /// Made probabilities, by softmax over labels, or by a sigmoid where there is one label or
        /// the labels exclude each other not; else logits.
        probabilities: bool,
    },
    /// A label a token (named entities).
    Tags,
}

impl Default for Want {
    fn default() -> Self {
        Self::Vector(Vectors::default())
    }
}

/// How vectors are made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vectors {
    /// Only the first so many floats, normalised again (Matryoshka representation learning;
    /// Kusupati et al., 2022); `None` takes all.
    pub dimensions: Option<u32>,
    /// Whether their length is made 1; `None` does what the model's files say.
    pub normalise: Option<bool>,
    /// The name of the model's own instruction that is put before each text, as `query` or
    /// `document`; `None` puts the one that its files name as usual, if any.
    pub prompt: Option<String>,
}

/// What becomes of a text that is longer than the model reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Long {
    /// It is refused.
    #[default]
    Refuse,
    /// Its beginning is read, of so many tokens at most, the model's marks among them; `None` reads
    /// as many as the model can. Of two texts the longer one is cut, token by token.
    KeepStart(Option<u32>),
    /// Its end is read.
    KeepEnd(Option<u32>),
    /// It is read in pieces of at most so many tokens, each beginning so many before the last one's
    /// end; its vector is the pieces' mean, weighted by their tokens. Only for [`Want::Vector`].
    Chunk {
        /// Tokens of a piece; `None` takes as many as the model reads.
        tokens: Option<u32>,
        /// Tokens that neighbours have in common; less than half of a piece.
        overlap: u32,
    },
}

/// What was read of one text.
#[derive(Clone, Debug, PartialEq)]
pub struct Read {
    /// What was wanted.
    pub output: Output,
    /// Tokens that were computed.
    pub tokens: u32,
    /// Whether something of the text was left out, as was asked.
    pub cut: bool,
}

/// What came of one text.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// One vector.
    Vector(Vec<f32>),
    /// A vector a token.
    TokenVectors(Vec<Vec<f32>>),
    /// Tokens of the vocabulary and their weights above 0, in the order of the tokens.
    Sparse(Vec<(Token, f32)>),
    /// A score a label, in the order of [`Encoded::labels`].
    Scores(Vec<f32>),
    /// A label a token of the text, marks left out.
    Tags(Vec<Tag>),
}

/// A token's label.
#[derive(Clone, Debug, PartialEq)]
pub struct Tag {
    /// The label's index in [`Encoded::labels`].
    pub label: u32,
    /// Its probability.
    pub score: f32,
    /// Where the token stands in the text: the first byte, and the one behind the last.
    pub bytes: (u32, u32),
}

/// Everything that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoded {
    /// One for each input, in their order.
    pub read: Vec<Read>,
    /// The labels of the model's head; empty where it has none.
    pub labels: Vec<String>,
    /// What it took; nothing is generated.
    pub receipt: Receipt,
}

/// What a model that reads can tell of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// Floats of a vector; 0 where it makes none.
    pub dimensions: u32,
    /// The most tokens of a text, the model's marks among them.
    pub tokens: u32,
    /// Labels of its head for whole texts; a reranker has one.
    pub labels: Vec<String>,
    /// Labels of its head for tokens.
    pub tags: Vec<String>,
    /// Whether it makes a vector a token that is meant to be compared so.
    pub late: bool,
    /// Whether it makes weights of words.
    pub sparse: bool,
    /// Names of its instructions.
    pub prompts: Vec<String>,
}

impl Reads {
    /// Refuses what such a model cannot tell, by name.
    pub fn can(&self, model: &str, want: &Want) -> Result<(), Fault> {
        let (can, what) = match want {
            Want::Vector(_) => (self.dimensions > 0, "vectors"),
            Want::TokenVectors(_) => (self.late, "a vector a token"),
            Want::Sparse => (self.sparse, "weights of words"),
            Want::Scores { .. } => (!self.labels.is_empty(), "scores or labels of texts"),
            Want::Tags => (!self.tags.is_empty(), "labels of tokens"),
        };
        if can {
            return Ok(());
        }
        let message =
            format!("`{model}` does not make {what}; `ingle show {model}` tells what it makes");
        Err(Fault::caller(message).at("model"))
    }
}
