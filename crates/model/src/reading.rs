//! What a model file says of itself as a reader: whether it understands texts rather than writes
//! them, what it makes of one, and how. Keys are llama.cpp's where it has them; the others begin
//! with `ingle.` and come from the files beside a Hugging Face model.
//!
//! Absent: how any of it is computed (`archs/heads.rs`).

use crate::gguf::{Gguf, Value, optional};
use crate::{Error, Token};
use ingle_backend::{Activation, Pooling};

/// The most labels, prompts or floats that a file may name for one head.
const MOST: usize = 1 << 20;

/// A model that reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// What it makes of a text.
    pub head: Head,
    /// How a text's rows become one, where they do.
    pub pooling: Pooling,
    /// Whether tokens see those behind them.
    pub causal: bool,
    /// What is applied between the two layers of a classifier.
    pub activation: Activation,
    /// Labels of its head, whatever they are of.
    pub labels: Vec<String>,
    /// What its labels' scores are.
    pub problem: Problem,
    /// Whether its vectors have length 1.
    pub normalise: bool,
    /// Its instructions: a name, and what is put before a text.
    pub prompts: Vec<(String, String)>,
    /// The one that is put there unless another is asked for.
    pub usual_prompt: Option<String>,
    /// The most tokens of a text, where the file says less than its architecture allows.
    pub tokens_most: Option<usize>,
    /// Where its tokens' vectors know nothing of each other: how texts are read then.
    pub bag: Option<Bag>,
}

/// How texts are read whose tokens have the same vectors wherever they stand (Model2Vec): a text of
/// no tokens has the vector of zeros.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bag {
    /// The token that is left out of texts: what stands for unknown words.
    pub dropped: Option<Token>,
    /// Half of the vocabulary's tokens have no more characters. A text whose start alone is to be
    /// read, so many tokens of it, is cut to so many times this many characters first.
    pub token_chars: Option<usize>,
}

/// What is made of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// One vector.
    Vector,
    /// A vector a token (ColBERT).
    Late,
    /// Weights of words (SPLADE).
    Sparse,
    /// A score a label.
    Sequence,
    /// A score a label, for each token.
    Tokens,
}

/// What a classifier's scores are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// One of the labels is right.
    Single,
    /// Any of them may be.
    Multi,
    /// A number.
    Regression,
}

/// Architectures that only read.
const ENCODERS: &[&str] = &["bert", "nomic-bert", "modern-bert", "gemma-embedding", "model2vec"];
/// Those of them that are a table of tokens' vectors, without layers.
const TABLES: &[&str] = &["model2vec"];

/// Whether an architecture is a table of tokens' vectors, without layers.
pub(crate) fn is_table(arch: &str) -> bool {
    TABLES.contains(&arch)
}

impl Reading {
    /// What a file says; `None` of a model that writes.
    pub fn of(gguf: &Gguf) -> Result<Option<Self>, Error> {
        let text = |key: &str| optional(gguf.str(key));
        let pooling = optional(gguf.uint(&gguf.key("pooling_type")))?;
        let named = text("ingle.head")?;
        let encoder = ENCODERS.contains(&gguf.arch());
        if !encoder && pooling.unwrap_or(0) == 0 && named.is_none() {
            return Ok(None);
        }
        let causal = optional(gguf.bool(&gguf.key("attention.causal")))?.unwrap_or(!encoder);
        let scores = gguf.tensors().iter().any(|tensor| tensor.name == "cls.output.weight");
        let head = match (named, pooling) {
            (Some("late"), _) => Head::Late,
            (Some("mlm"), _) => Head::Sparse,
            (Some("token"), _) => Head::Tokens,
            (Some("sequence"), _) | (None, Some(4)) => Head::Sequence,
            (None, _) if scores => Head::Sequence,
            (None, _) => Head::Vector,
            (Some(other), _) => return Err(unknown("ingle.head", other)),
        };
        let usual = if causal { Pooling::Last } else { Pooling::Mean };
        let pooling = match (pooling, text("ingle.head.pooling")?) {
            _ if head == Head::Sparse => Pooling::LogMax,
            (_, Some("mean")) | (Some(1), None) => Pooling::Mean,
            (_, Some("cls")) | (Some(2), None) => Pooling::First,
            (Some(3), None) => Pooling::Last,
            (_, None) if head == Head::Sequence && !causal => Pooling::First,
            (None | Some(0 | 4), None) => usual,
            (Some(other), None) => {
                return Err(unknown(&gguf.key("pooling_type"), &other.to_string()));
            }
            (_, Some(other)) => return Err(unknown("ingle.head.pooling", other)),
        };
        Ok(Some(Self {
            head,
            pooling,
            causal,
            activation: activation(gguf, "ingle.head.activation", Activation::Tanh)?,
            labels: labels(gguf, head)?,
            problem: match text("ingle.head.problem")? {
                None | Some("single") => Problem::Single,
                Some("multi") => Problem::Multi,
                Some("regression") => Problem::Regression,
                Some(other) => return Err(unknown("ingle.head.problem", other)),
            },
            normalise: optional(gguf.bool("ingle.normalise"))?.unwrap_or(true),
            prompts: prompts(gguf)?,
            usual_prompt: text("ingle.prompt.default")?.map(str::to_owned),
            tokens_most: optional(gguf.uint("ingle.max_tokens"))?
                .map(|most| usize::try_from(most).unwrap_or(usize::MAX).max(1)),
            bag: if is_table(gguf.arch()) { Some(bag(gguf)?) } else { None },
        }))
    }
}

fn bag(gguf: &Gguf) -> Result<Bag, Error> {
    let number = |key: &str| optional(gguf.uint(key));
    Ok(Bag {
        dropped: number("ingle.dropped_token")?.and_then(|id| Token::try_from(id).ok()),
        token_chars: number("ingle.token_chars")?.and_then(|chars| usize::try_from(chars).ok()),
    })
}

fn unknown(key: &str, value: &str) -> Error {
    Error::Unsupported(format!("the model file gives {key} as {value:?}, which is not supported"))
}

/// A nonlinearity by its name.
pub(crate) fn activation(gguf: &Gguf, key: &str, usual: Activation) -> Result<Activation, Error> {
    Ok(match optional(gguf.str(key))? {
        None => usual,
        Some("tanh") => Activation::Tanh,
        Some("relu") => Activation::Relu,
        Some("gelu") => Activation::Gelu,
        Some("gelu_tanh" | "gelu_new" | "gelu_pytorch_tanh") => Activation::GeluTanh,
        Some("silu" | "swish") => Activation::Silu,
        Some(other) => return Err(unknown(key, other)),
    })
}

fn texts(gguf: &Gguf, key: &str) -> Result<Vec<String>, Error> {
    let Some(strs) = optional(gguf.strs(key))? else { return Ok(Vec::new()) };
    Ok(strs.iter().take(MOST).map(str::to_owned).collect())
}

/// As the file names them, or by number.
fn labels(gguf: &Gguf, head: Head) -> Result<Vec<String>, Error> {
    if !matches!(head, Head::Sequence | Head::Tokens) {
        return Ok(Vec::new());
    }
    let named = match gguf.get(&gguf.key("classifier.output_labels")) {
        Some(Value::Array(_)) => texts(gguf, &gguf.key("classifier.output_labels"))?,
        _ => Vec::new(),
    };
    let count = gguf.tensor("cls.output.weight")?.rows;
    if named.is_empty() {
        return Ok((0..count.min(MOST)).map(|label| format!("LABEL_{label}")).collect());
    }
    if named.len() != count {
        let named = named.len();
        let what = format!("the model file names {named} labels and scores {count}");
        return Err(Error::Unsupported(what));
    }
    Ok(named)
}

fn prompts(gguf: &Gguf) -> Result<Vec<(String, String)>, Error> {
    let (names, texts) = (texts(gguf, "ingle.prompt.names")?, texts(gguf, "ingle.prompt.texts")?);
    if names.len() != texts.len() {
        let what = "the model file has other numbers of prompts and of their names";
        return Err(Error::Unsupported(what.to_owned()));
    }
    Ok(names.into_iter().zip(texts).collect())
}
