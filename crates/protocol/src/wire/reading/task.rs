//! What is to be read for a request, by what its model can tell, and scores of what was read.

use super::{Asked, Format};
use crate::wire::check::{self, Read};
use crate::{Encoded, Encoding, Fault, Output, Passage, Reads, Vectors, Want, Written};

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Task {
    /// What the model makes of each text.
    Each(Vec<Passage>, Kind),
    /// How well the second texts answer the first ones: as many of both, or one first.
    Match {
        firsts: Vec<String>,
        seconds: Vec<String>,
        /// By their vectors alone, whatever else the model can tell.
        cosine: bool,
    },
}

/// What of a text is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Vector,
    TokenVectors,
    Sparse,
    Scores,
    Tags,
    /// What the model is for.
    Usual,
}

/// The most numbers that one answer may have.
const NUMBERS_MAX: u64 = 1 << 24;
/// The most bytes of texts that are read in pairs: the one first text is read with each second.
const PAIRS_MAX: usize = 64 << 20;

/// Names of models' instructions for questions, and for what is to answer them.
pub(super) const QUERY: &[&str] = &["query", "search_query"];
pub(super) const DOCUMENT: &[&str] = &["document", "search_document", "passage"];
pub(super) const CLASSIFICATION: &[&str] = &["classification"];
pub(super) const CLUSTERING: &[&str] = &["clustering"];

impl Asked {
    /// What the model of this name is to read, one after another.
    ///
    /// # Errors
    /// The caller's, where the model cannot tell what is asked, or it is too much.
    pub fn encodings(&self, model: &str, reads: &Reads) -> Result<Vec<Encoding>, Fault> {
        if let Some(least) = self.context.filter(|least| *least > reads.tokens) {
            let has = reads.tokens;
            let message = format!(
                "{least} tokens of context are asked for and `{model}` reads {has}: ask for no more"
            );
            return Err(Fault::caller(message).at("options.num_ctx"));
        }
        let all = match &self.task {
            Task::Each(inputs, kind) => {
                vec![self.encoding(model, inputs.clone(), self.want(*kind, self.purpose, reads)?)]
            }
            Task::Match { firsts, seconds, cosine } => {
                self.matching(model, firsts, seconds, *cosine, reads)?
            }
        };
        for encoding in &all {
            reads.can(model, &encoding.want)?;
        }
        let numbers = all.iter().map(|encoding| numbers(encoding, reads)).sum::<u64>();
        if numbers > NUMBERS_MAX {
            let message = format!(
                "the answer could have {numbers} numbers; at most {NUMBERS_MAX} at once: send fewer \
                 or shorter texts"
            );
            return Err(Fault::caller(message).at(self.format.input()));
        }
        Ok(all)
    }

    fn encoding(&self, model: &str, inputs: Vec<Passage>, want: Want) -> Encoding {
        Encoding { model: model.to_owned(), inputs, want, ..self.terms.clone() }
    }

    fn want(&self, kind: Kind, purpose: &[&str], reads: &Reads) -> Read<Want> {
        let vectors = || self.vectors(purpose, reads);
        Ok(match kind {
            Kind::Vector => Want::Vector(vectors()?),
            Kind::TokenVectors => Want::TokenVectors(vectors()?),
            Kind::Sparse => Want::Sparse,
            Kind::Scores => Want::Scores { probabilities: !self.raw },
            Kind::Tags => Want::Tags,
            Kind::Usual => {
                let kind = match reads {
                    Reads { late: true, .. } => Kind::TokenVectors,
                    Reads { dimensions: 1.., .. } => Kind::Vector,
                    reads if !reads.tags.is_empty() => Kind::Tags,
                    reads if reads.sparse => return Ok(Want::Sparse),
                    _ => Kind::Scores,
                };
                return self.want(kind, purpose, reads);
            }
        })
    }

    fn vectors(&self, purpose: &[&str], reads: &Reads) -> Read<Vectors> {
        let has = |name: &str| reads.prompts.iter().any(|prompt| prompt == name);
        let mut vectors = self.vectors.clone();
        if let Some(most) = vectors.dimensions.filter(|most| *most > reads.dimensions) {
            let why = format!("is {most} and the model's vectors have {}", reads.dimensions);
            return check::bad(self.format.dimensions(), why);
        }
        match &vectors.prompt {
            Some(name) if !has(name) => {
                let name: String = name.chars().take(64).collect();
                let known = reads.prompts.join(", ");
                let known = if known.is_empty() { "none".to_owned() } else { known };
                let why = format!("is {name:?}, and the prompts that the model has are: {known}");
                return check::bad("prompt_name", why);
            }
            Some(_) => {}
            None => {
                let named = purpose.iter().find(|name| has(name));
                vectors.prompt = named.map(|name| (*name).to_owned());
            }
        }
        Ok(vectors)
    }

    fn matching(
        &self,
        model: &str,
        firsts: &[String],
        seconds: &[String],
        cosine: bool,
        reads: &Reads,
    ) -> Read<Vec<Encoding>> {
        let texts = |all: &[String]| all.iter().map(Passage::text).collect::<Vec<_>>();
        if !cosine && !reads.labels.is_empty() {
            if reads.labels.len() != 1 {
                let message = format!(
                    "`{model}` tells {} labels apart and ranks nothing: ask a reranker, or a model \
                     that makes vectors",
                    reads.labels.len()
                );
                return Err(Fault::caller(message).at("model"));
            }
            let firsts = firsts.iter().cycle().take(seconds.len().max(firsts.len()));
            let pairs = firsts.zip(seconds);
            let bytes: usize = pairs.clone().map(|(a, b)| a.len() + b.len()).sum();
            if bytes > PAIRS_MAX {
                let message = format!(
                    "read in pairs the texts are {bytes} bytes; at most {PAIRS_MAX} at once: send \
                     fewer, or a shorter query"
                );
                return Err(Fault::caller(message).at(self.format.input()));
            }
            let pairs = pairs.map(|(first, second)| Passage::pair(first, second)).collect();
            return Ok(vec![self.encoding(model, pairs, self.want(Kind::Scores, &[], reads)?)]);
        }
        let kind = if reads.late && !cosine { Kind::TokenVectors } else { Kind::Vector };
        let sides = if cosine { [self.purpose; 2] } else { [QUERY, DOCUMENT] };
        let side = |texts: Vec<Passage>, purpose| {
            let mut want = self.want(kind, purpose, reads)?;
            // So that a product is a cosine.
            if let Want::Vector(vectors) | Want::TokenVectors(vectors) = &mut want {
                vectors.normalise = Some(true);
            }
            Ok(self.encoding(model, texts, want))
        };
        Ok(vec![side(texts(firsts), sides[0])?, side(texts(seconds), sides[1])?])
    }
}

/// How many numbers may come of it.
fn numbers(encoding: &Encoding, reads: &Reads) -> u64 {
    // A token has a byte at least; beside them there are the model's marks.
    let tokens = |written: &Written| match written {
        Written::Text(text) => text.len() as u64 + 8,
        Written::Tokens(tokens) => tokens.len() as u64 + 8,
    };
    let most = u64::from(reads.tokens);
    let (texts, dimensions) = (encoding.inputs.len() as u64, u64::from(reads.dimensions.max(1)));
    match &encoding.want {
        Want::Vector(vectors) => texts * vectors.dimensions.map_or(dimensions, u64::from),
        Want::TokenVectors(_) => {
            let each = encoding.inputs.iter().map(|input| tokens(&input.text).min(most));
            each.sum::<u64>().saturating_mul(dimensions)
        }
        Want::Scores { .. } => texts * reads.labels.len() as u64,
        // As many as a text has words, and what the model adds to them.
        Want::Sparse | Want::Tags => {
            encoding.inputs.iter().map(|input| tokens(&input.text).min(most)).sum()
        }
    }
}

impl Format {
    /// Its field for texts.
    pub(super) fn input(self) -> &'static str {
        match self {
            Self::Embeddings | Self::OllamaEmbed | Self::Classify | Self::Pooling => "input",
            Self::OllamaEmbeddings => "prompt",
            Self::CohereEmbed | Self::TeiRerank => "texts",
            Self::CohereRerank | Self::Rerank => "documents",
            Self::Score => "text_2",
            Self::LlamaEmbedding => "content",
            _ => "inputs",
        }
    }

    /// Its field for the length of vectors.
    fn dimensions(self) -> &'static str {
        if self == Self::CohereEmbed { "output_dimension" } else { "dimensions" }
    }
}

/// A fault where what was read is not what was asked for.
pub(super) fn unlike() -> Fault {
    Fault::ours("the model gave something else than was asked for; this is a bug")
}

/// How well the texts match, in their order: what a reranker said of each pair, or how near the
/// vectors of each are.
pub(super) fn scores(read: &[Encoded]) -> Read<Vec<f32>> {
    let scores: Vec<f32> = match read {
        [pairs] => {
            let one = |read: &crate::Read| match &read.output {
                Output::Scores(scores) => scores.first().copied().ok_or_else(unlike),
                _ => Err(unlike()),
            };
            pairs.read.iter().map(one).collect::<Read<_>>()?
        }
        [firsts, seconds] if !firsts.read.is_empty() => {
            let firsts = firsts.read.iter().cycle();
            let near = |(first, second): (&crate::Read, &crate::Read)| match (
                &first.output,
                &second.output,
            ) {
                (Output::Vector(a), Output::Vector(b)) => Ok(product(a, b)),
                (Output::TokenVectors(a), Output::TokenVectors(b)) => Ok(late(a, b)),
                _ => Err(unlike()),
            };
            firsts.zip(&seconds.read).map(near).collect::<Read<_>>()?
        }
        _ => return Err(unlike()),
    };
    Ok(scores)
}

fn product(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32
}

/// The sum over the first text's tokens of the nearest one of the second (Khattab and Zaharia,
/// ColBERT, 2020).
fn late(query: &[Vec<f32>], document: &[Vec<f32>]) -> f32 {
    let nearest = |token: &Vec<f32>| {
        document.iter().map(|other| product(token, other)).fold(f32::NEG_INFINITY, f32::max)
    };
    if document.is_empty() { 0.0 } else { query.iter().map(nearest).sum() }
}
