//! What was read, as each format answers it. Answers that are objects have their receipt under
//! `ingle`; those that are lists have no place for one, and it is given beside them.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Value, json};

use super::code::{Coded, Coding, normed};
use super::task::{Task, scores, unlike};
use super::{Asked, Format};
use crate::wire::check::Read;
use crate::wire::openai::short;
use crate::wire::{Stamp, receipt};
use crate::{Encoded, Fault, Output, Receipt, Tag, Written};

/// An answer, written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its body, a JSON text.
    pub body: String,
    /// Its receipt, a JSON text, where the body has none.
    pub receipt: Option<String>,
}

#[derive(Serialize)]
struct OpenAi<'a> {
    #[serde(skip_serializing_if = "String::is_empty")]
    id: String,
    object: &'static str,
    created: u64,
    model: &'a str,
    data: Vec<Item<'a>>,
    usage: Value,
    ingle: Value,
}

#[derive(Serialize)]
struct Item<'a> {
    object: &'static str,
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding: Option<Told<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Told<'a>>,
}

/// What was read of a text, whatever it is.
#[derive(Serialize)]
#[serde(untagged)]
enum Told<'a> {
    Vector(Coded<'a>),
    Vectors(Vec<Coded<'a>>),
    Weights(Vec<Weight>),
    Value(Value),
}

#[derive(Serialize)]
struct Weight {
    index: u32,
    value: f32,
}

#[derive(Serialize)]
struct Ollama<'a> {
    model: &'a str,
    embeddings: Vec<Told<'a>>,
    total_duration: u64,
    load_duration: u64,
    prompt_eval_count: u32,
    ingle: Value,
}

#[derive(Serialize)]
struct OllamaOne<'a> {
    embedding: Told<'a>,
    ingle: Value,
}

#[derive(Serialize)]
struct Cohere<'a> {
    id: &'a str,
    response_type: &'static str,
    embeddings: std::collections::BTreeMap<&'static str, Vec<Told<'a>>>,
    texts: Vec<&'a str>,
    meta: Value,
    ingle: Value,
}

#[derive(Serialize)]
struct Llama<'a> {
    index: usize,
    embedding: Vec<Coded<'a>>,
}

impl Asked {
    /// Writes the answer: `read` is what [`Asked::encodings`] are read to, in their order.
    ///
    /// # Errors
    /// Ours, where this is not what was asked for, or is not finite.
    pub fn write_answer(&self, stamp: &Stamp, read: &[Encoded]) -> Result<Answer, Fault> {
        read.iter().flat_map(|all| &all.read).try_for_each(finite)?;
        let mut total = Receipt::total(read.iter().map(|encoded| &encoded.receipt))
            .ok_or_else(|| Fault::ours("nothing was read; this is a bug"))?;
        total.notes.extend(self.notes(&stamp.model, read));
        let body = match &self.task {
            Task::Match { firsts: _, seconds, .. } => {
                Some(self.ranked(stamp, seconds, &scores(read)?, &total))
            }
            Task::Each(..) => None,
        };
        let body = match (body, read) {
            (Some(body), _) => body,
            (None, [read]) => self.each(stamp, read, &total)?,
            _ => return Err(unlike()),
        };
        let beside = body.starts_with('[').then(|| receipt::write(&total));
        Ok(Answer { body, receipt: beside })
    }

    /// What the caller should know of it.
    fn notes(&self, model: &str, read: &[Encoded]) -> Vec<String> {
        let all = || read.iter().flat_map(|encoded| &encoded.read);
        let (cut, count) = (all().filter(|read| read.cut).count(), all().count());
        let cut = (cut > 0).then(|| format!("{cut} of {count} texts were cut, as was asked"));
        let whole = all().all(|read| matches!(read.output, Output::Vector(_)));
        let near = (whole && read.len() == 2 && self.format != Format::TeiSimilarity)
            .then(|| format!("scores are how near vectors are: `{model}` is no reranker"));
        cut.into_iter().chain(near).collect()
    }

    fn each(&self, stamp: &Stamp, read: &Encoded, total: &Receipt) -> Read<String> {
        let text = match self.format {
            Format::Embeddings | Format::Pooling => write(&self.openai(stamp, read, total)?),
            Format::Classify => classified(stamp, read, total)?.to_string(),
            Format::OllamaEmbed => write(&Ollama {
                model: &stamp.model,
                embeddings: self.told(read)?,
                total_duration: nanos(total.timings.total),
                load_duration: nanos(total.timings.load),
                prompt_eval_count: total.usage.prompt_tokens,
                ingle: receipt::to_value(total),
            }),
            Format::OllamaEmbeddings => {
                let embedding = self.told(read)?.pop().ok_or_else(unlike)?;
                write(&OllamaOne { embedding, ingle: receipt::to_value(total) })
            }
            Format::CohereEmbed => write(&self.cohere(stamp, read, total)?),
            Format::TeiPredict => {
                let one = |one| super::tei::predicted(one, &read.labels);
                let mut all: Vec<Value> = read.read.iter().map(one).collect::<Read<_>>()?;
                if self.form.single {
                    all.swap_remove(0).to_string()
                } else {
                    json!(all).to_string()
                }
            }
            Format::LlamaEmbedding => {
                let rows = self.coded_all(read, Coding::Float)?.into_iter().enumerate();
                let row = |(index, vector)| Llama { index, embedding: vec![vector] };
                write(&rows.map(row).collect::<Vec<_>>())
            }
            _ => write(&self.told(read)?),
        };
        Ok(text)
    }

    fn openai<'a>(&self, stamp: &'a Stamp, read: &'a Encoded, total: &Receipt) -> Read<OpenAi<'a>> {
        let pooling = self.format == Format::Pooling;
        let object = if pooling { "pooling" } else { "embedding" };
        let item = |(index, told)| match pooling {
            true => Item { object, index, embedding: None, data: Some(told) },
            false => Item { object, index, embedding: Some(told), data: None },
        };
        Ok(OpenAi {
            id: if pooling { format!("pool-{}", stamp.id) } else { String::new() },
            object: "list",
            created: stamp.created_ms / 1000,
            model: &stamp.model,
            data: self.told(read)?.into_iter().enumerate().map(item).collect(),
            usage: usage(total),
            ingle: receipt::to_value(total),
        })
    }

    fn cohere<'a>(
        &'a self,
        stamp: &'a Stamp,
        read: &'a Encoded,
        total: &Receipt,
    ) -> Read<Cohere<'a>> {
        let codings = match self.form.codings.as_slice() {
            [] => &[Coding::Float],
            codings => codings,
        };
        let one = |coding: &Coding| {
            let vectors = self.coded_all(read, *coding)?.into_iter().map(Told::Vector).collect();
            Ok((coding.name(), vectors))
        };
        Ok(Cohere {
            id: &stamp.id,
            response_type: "embeddings_by_type",
            embeddings: codings.iter().map(one).collect::<Read<_>>()?,
            texts: if self.form.texts { self.texts() } else { Vec::new() },
            meta: meta(json!({ "input_tokens": total.usage.prompt_tokens })),
            ingle: receipt::to_value(total),
        })
    }

    /// The texts that were read, where they are texts.
    fn texts(&self) -> Vec<&str> {
        let Task::Each(inputs, _) = &self.task else { return Vec::new() };
        let texts = inputs.iter().filter_map(|input| match &input.text {
            Written::Text(text) => Some(text.as_str()),
            Written::Tokens(_) => None,
        });
        texts.collect()
    }

    /// A vector a text.
    fn coded_all<'a>(&self, read: &'a Encoded, coding: Coding) -> Read<Vec<Coded<'a>>> {
        let one = |one: &'a crate::Read| match &one.output {
            Output::Vector(vector) => Ok(self.coded(vector, coding)),
            _ => Err(unlike()),
        };
        read.read.iter().map(one).collect()
    }

    fn coded<'a>(&self, vector: &'a [f32], coding: Coding) -> Coded<'a> {
        coding.write(match self.form.norm {
            Some(power) => Cow::Owned(normed(vector, power)),
            None => Cow::Borrowed(vector),
        })
    }

    /// Whatever was read of each text.
    fn told<'a>(&self, read: &'a Encoded) -> Read<Vec<Told<'a>>> {
        let coding = self.form.coding();
        let inputs = match &self.task {
            Task::Each(inputs, _) => inputs.as_slice(),
            Task::Match { .. } => &[],
        };
        let one = |(at, one): (usize, &'a crate::Read)| match &one.output {
            Output::Vector(vector) => Told::Vector(self.coded(vector, coding)),
            Output::TokenVectors(vectors) => {
                Told::Vectors(vectors.iter().map(|vector| self.coded(vector, coding)).collect())
            }
            Output::Sparse(weights) => {
                let weight = |(index, value): &(u32, f32)| Weight { index: *index, value: *value };
                Told::Weights(weights.iter().map(weight).collect())
            }
            Output::Scores(scores) => {
                Told::Value(scores.iter().map(|score| short(*score)).collect())
            }
            Output::Tags(tags) => {
                let text = inputs.get(at).map(|input| &input.text);
                Told::Value(tagged(tags, &read.labels, text))
            }
        };
        Ok(read.read.iter().enumerate().map(one).collect())
    }

    /// Scores, best first where the format ranks.
    fn ranked(&self, stamp: &Stamp, texts: &[String], scores: &[f32], total: &Receipt) -> String {
        let mut order: Vec<usize> = (0..scores.len().min(texts.len())).collect();
        if !matches!(self.format, Format::Score | Format::TeiSimilarity) {
            order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        }
        order.truncate(self.form.top.unwrap_or(usize::MAX));
        let row = |at: &usize| {
            let (index, score) = (*at, short(scores[*at]));
            match self.format {
                Format::TeiSimilarity => score,
                Format::Score => json!({ "index": index, "object": "score", "score": score }),
                Format::TeiRerank if self.form.texts => {
                    json!({ "index": index, "text": texts[index], "score": score })
                }
                Format::TeiRerank => json!({ "index": index, "score": score }),
                _ if self.form.texts => {
                    let text = json!({ "text": texts[index] });
                    json!({ "index": index, "document": text, "relevance_score": score })
                }
                _ => json!({ "index": index, "relevance_score": score }),
            }
        };
        let rows: Vec<Value> = order.iter().map(row).collect();
        let ingle = receipt::to_value(total);
        let out = match self.format {
            Format::TeiRerank | Format::TeiSimilarity => json!(rows),
            Format::Score => json!({
                "id": format!("score-{}", stamp.id),
                "object": "list",
                "created": stamp.created_ms / 1000,
                "model": stamp.model,
                "data": rows,
                "usage": usage(total),
                "ingle": ingle,
            }),
            _ => json!({
                "id": stamp.id,
                "object": "list",
                "model": stamp.model,
                "results": rows,
                "usage": usage(total),
                "meta": meta(json!({ "search_units": 1 })),
                "ingle": ingle,
            }),
        };
        out.to_string()
    }
}

fn write(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("numbers, texts, lists and objects always serialize")
}

fn usage(total: &Receipt) -> Value {
    let tokens = total.usage.prompt_tokens;
    json!({ "prompt_tokens": tokens, "completion_tokens": 0, "total_tokens": tokens })
}

fn meta(billed: Value) -> Value {
    json!({ "api_version": { "version": "2" }, "billed_units": billed })
}

fn nanos(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// JSON has no numbers that are none.
fn finite(read: &crate::Read) -> Read<()> {
    let right = match &read.output {
        Output::Vector(vector) => vector.iter().all(|x| x.is_finite()),
        Output::TokenVectors(vectors) => vectors.iter().flatten().all(|x| x.is_finite()),
        Output::Sparse(weights) => weights.iter().all(|row| row.1.is_finite()),
        Output::Scores(scores) => scores.iter().all(|x| x.is_finite()),
        Output::Tags(tags) => tags.iter().all(|tag| tag.score.is_finite()),
    };
    let broken =
        "the model gave what is no number: its file is damaged, or it cannot read this text";
    if right { Ok(()) } else { Err(Fault::ours(broken)) }
}

/// A label's name.
pub(super) fn label(labels: &[String], at: usize) -> String {
    labels.get(at).cloned().unwrap_or_else(|| format!("LABEL_{at}"))
}

fn classified(stamp: &Stamp, read: &Encoded, total: &Receipt) -> Read<Value> {
    let one = |(index, one): (usize, &crate::Read)| {
        let Output::Scores(scores) = &one.output else { return Err(unlike()) };
        let best = (0..scores.len()).reduce(|a, b| if scores[b] > scores[a] { b } else { a });
        let probs: Vec<Value> = scores.iter().map(|score| short(*score)).collect();
        Ok(json!({
            "index": index,
            "label": label(&read.labels, best.ok_or_else(unlike)?),
            "probs": probs,
            "num_classes": scores.len(),
        }))
    };
    let data: Vec<Value> = read.read.iter().enumerate().map(one).collect::<Read<_>>()?;
    Ok(json!({
        "id": format!("classify-{}", stamp.id),
        "object": "list",
        "created": stamp.created_ms / 1000,
        "model": stamp.model,
        "data": data,
        "usage": usage(total),
        "ingle": receipt::to_value(total),
    }))
}

/// A text's tokens with their labels, and where they stand, in characters.
fn tagged(tags: &[Tag], labels: &[String], text: Option<&Written>) -> Value {
    let text = match text {
        Some(Written::Text(text)) => text.as_str(),
        _ => "",
    };
    let (mut seen, mut characters) = (0, 0);
    let mut place = |byte: u32| {
        // Tags follow one another; where one does not, it is counted from the beginning.
        if (byte as usize) < seen {
            (seen, characters) = (0, 0);
        }
        let more = text.get(seen..byte as usize).unwrap_or_default();
        (seen, characters) = (seen + more.len(), characters + more.chars().count());
        characters
    };
    let one = |tag: &Tag| {
        json!({
            "label": label(labels, tag.label as usize),
            "score": short(tag.score),
            "start": place(tag.bytes.0),
            "end": place(tag.bytes.1),
        })
    };
    tags.iter().map(one).collect()
}
