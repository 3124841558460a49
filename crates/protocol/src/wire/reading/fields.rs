//! The table of all formats' request fields, and what no row can check alone.

use serde_json::Value;

use super::code::Coding;
use super::task::{CLASSIFICATION, CLUSTERING, DOCUMENT, Kind, QUERY, Task};
use super::values::{self, document, each, inputs, one_or_more, pairs, string, texts};
use super::{Asked, Form, Format};
use crate::wire::check::{self, Read};
use crate::wire::ollama;
use crate::wire::table::{self, Row, honoured, inert, neutral, refused};
use crate::wire::values::{keep_alive, model, read_object, short};
use crate::{Encoding, Fault, Long, Passage, Vectors};

type Field = table::Field<Draft, Format>;

/// The longest vector that can be asked for.
const DIMENSIONS_MAX: u32 = 1 << 16;
/// The highest power of llama.cpp's norms.
const NORM_MAX: i64 = 64;

/// A request while its fields are being read.
#[derive(Default)]
struct Draft {
    terms: Encoding,
    inputs: Vec<Passage>,
    list: bool,
    firsts: Vec<String>,
    seconds: Vec<String>,
    vectors: Vectors,
    kind: Option<Kind>,
    purpose: &'static [&'static str],
    raw: bool,
    context: Option<u32>,
    cut: Cut,
    form: Form,
}

/// What becomes of long texts.
#[derive(Default)]
struct Cut {
    /// Whether they are cut; where nothing is said, they are if there is a bound.
    on: Option<bool>,
    /// What is left of them: the end.
    end: bool,
    /// In pieces.
    chunk: bool,
    /// The most tokens, which may be as many as the model reads, and the field that says so.
    most: Option<(Option<u32>, String)>,
}

/// Every field that `format` knows.
pub fn fields(format: Format) -> impl Iterator<Item = Row> {
    table::rows(FIELDS, format)
}

/// Every entry of Ollama's `options`, none of which makes a vector another one.
pub fn ollama_options() -> impl Iterator<Item = &'static str> {
    ollama::options().map(|row| row.name)
}

/// Reads a request's body. A fault names the field and what is allowed.
pub fn read_request(format: Format, body: &[u8]) -> Result<Asked, Fault> {
    let body = read_object(body)?;
    let mut draft = Draft::default();
    // Jina's and vLLM's clients look for them.
    draft.form.texts = format == Rerank;
    // As these protocols' own servers do, whatever the model's files say.
    let usual = [Embeddings, OllamaEmbed, CohereEmbed, TeiEmbed, LlamaEmbedding];
    draft.vectors.normalise = usual.contains(&format).then_some(true);
    table::read_fields(FIELDS, format, "", &body, &mut draft)?;
    draft.finish(format)
}

/// Reads a body of a path that two protocols have: Jina's has `documents`, that of Text Embeddings
/// Inference `texts`.
pub fn read_rerank(body: &[u8]) -> Result<Asked, Fault> {
    let texts = read_object(body)?.contains_key("texts");
    read_request(if texts { Format::TeiRerank } else { Format::Rerank }, body)
}

impl Draft {
    fn finish(self, format: Format) -> Read<Asked> {
        self.is_whole(format)?;
        let long = self.cut.long()?;
        let kind = self.kind.unwrap_or(match format {
            Format::TeiEmbedAll => Kind::TokenVectors,
            Format::TeiEmbedSparse => Kind::Sparse,
            Format::TeiPredict | Format::Classify => Kind::Scores,
            Format::Pooling => Kind::Usual,
            _ => Kind::Vector,
        });
        if matches!(long, Long::Chunk { .. }) && kind != Kind::Vector {
            return check::bad("truncate", "is \"CHUNK\", which is for vectors of whole texts");
        }
        let (firsts, seconds) = (self.firsts, self.seconds);
        let cosine = format == Format::TeiSimilarity;
        let task = match format {
            Format::CohereRerank
            | Format::Rerank
            | Format::TeiRerank
            | Format::TeiSimilarity
            | Format::Score => Task::Match { firsts, seconds, cosine },
            _ => Task::Each(self.inputs, kind),
        };
        Ok(Asked {
            format,
            terms: Encoding { long, ..self.terms },
            task,
            vectors: self.vectors,
            purpose: self.purpose,
            raw: self.raw,
            context: self.context,
            form: Form { single: !self.list, ..self.form },
        })
    }

    /// Refuses what lacks something that the format is nothing without.
    fn is_whole(&self, format: Format) -> Read<()> {
        let missing = |name: &str| check::bad(name, "is missing");
        match format {
            Format::OllamaEmbed
            | Format::OllamaEmbeddings
            | Format::CohereEmbed
            | Format::CohereRerank
                if self.terms.model.is_empty() =>
            {
                missing("model")
            }
            Format::CohereRerank | Format::Rerank | Format::TeiRerank if self.firsts.is_empty() => {
                missing("query")
            }
            Format::Score if self.firsts.is_empty() => missing("text_1"),
            Format::Score if self.firsts.len() != 1 && self.firsts.len() != self.seconds.len() => {
                let (many, other) = (self.firsts.len(), self.seconds.len());
                let why =
                    format!("are {other} texts and 'text_1' is {many}: give as many, or one first");
                check::bad("text_2", why)
            }
            Format::CohereRerank
            | Format::Rerank
            | Format::TeiRerank
            | Format::Score
            | Format::TeiSimilarity => {
                if self.seconds.is_empty() {
                    missing(format.input())
                } else {
                    Ok(())
                }
            }
            _ if self.inputs.is_empty() => missing(format.input()),
            _ => Ok(()),
        }
    }
}

impl Cut {
    fn long(self) -> Read<Long> {
        let Self { on, end, chunk, most } = self;
        match (on, most) {
            (Some(false), Some((_, at))) => {
                check::bad(&at, "is how long texts are cut, and they are to be refused")
            }
            (Some(false) | None, None) => Ok(Long::Refuse),
            (_, most) => {
                let tokens = most.and_then(|most| most.0);
                Ok(match (chunk, end) {
                    (true, _) => Long::Chunk { tokens, overlap: 0 },
                    (_, true) => Long::KeepEnd(tokens),
                    _ => Long::KeepStart(tokens),
                })
            }
        }
    }
}

use Format::{
    Classify, CohereEmbed, CohereRerank, Embeddings, LlamaEmbedding, OllamaEmbed, OllamaEmbeddings,
    Pooling, Rerank, Score, TeiEmbed, TeiEmbedAll, TeiEmbedSparse, TeiParameters, TeiPredict,
    TeiRerank, TeiSimilarity,
};

const ALL: &[Format] = &[
    Embeddings,
    OllamaEmbed,
    OllamaEmbeddings,
    CohereEmbed,
    CohereRerank,
    Rerank,
    TeiEmbed,
    TeiEmbedAll,
    TeiEmbedSparse,
    TeiRerank,
    TeiPredict,
    TeiSimilarity,
    Score,
    Classify,
    Pooling,
    LlamaEmbedding,
];
const OLLAMA: &[Format] = &[OllamaEmbed, OllamaEmbeddings];
const INPUT: &[Format] = &[Embeddings, Classify, Pooling, LlamaEmbedding];
const TEI: &[Format] = &[TeiEmbed, TeiEmbedAll, TeiEmbedSparse];
const TEI_CUT: &[Format] =
    &[TeiEmbed, TeiEmbedAll, TeiEmbedSparse, TeiRerank, TeiPredict, TeiParameters];
const RANK: &[Format] = &[Rerank, CohereRerank];
const QUERIES: &[Format] = &[Rerank, CohereRerank, TeiRerank];
const LENGTH: &[Format] = &[Embeddings, OllamaEmbed, TeiEmbed, Pooling];
const CUT: &[Format] = &[Embeddings, Rerank, CohereRerank, Score, Classify, Pooling];
const VLLM: &[Format] = &[Embeddings, Rerank, Score, Classify, Pooling];
const SCORES: &[Format] = &[Rerank, Score, Classify, Pooling];
const CODED: &[Format] = &[Embeddings, Pooling];
const PROMPTS: &[Format] = &[Embeddings, Pooling, TeiEmbed, TeiEmbedAll, TeiParameters];

const CHAT: &str = "a text is read as it stands, by no chat template; send it as 'input'";
const MARKS: &str = "the model's own marks are put around every text";

#[rustfmt::skip]
static FIELDS: &[Field] = &[
    honoured(OLLAMA, "model", |d, at, v| {
        let name = model(at, v)?;
        d.terms.model = ollama::untagged(name);
        Ok(())
    }),
    honoured(NAMED, "model", |d, at, v| { d.terms.model = model(at, v)?; Ok(()) }),
    honoured(INPUT, "input", |d, at, v| { d.list = once(&mut d.inputs, at, inputs(at, v)?)?; Ok(()) }),
    honoured(&[OllamaEmbed], "input", |d, at, v| {
        d.inputs = passages(one_or_more(at, v)?);
        Ok(())
    }),
    honoured(&[OllamaEmbeddings], "prompt", |d, at, v| { d.inputs = vec![Passage::text(string(at, v)?)]; Ok(()) }),
    honoured(&[LlamaEmbedding], "content", |d, at, v| { d.list = once(&mut d.inputs, at, inputs(at, v)?)?; Ok(()) }),
    honoured(&[CohereEmbed], "texts", |d, at, v| {
        d.form.texts = once(&mut d.inputs, at, (passages(texts(at, v)?), true))?;
        Ok(())
    }),
    honoured(&[CohereEmbed], "inputs", |d, at, v| {
        once(&mut d.inputs, at, (passages(each(at, v, values::parts)?), ()))
    }),
    honoured(TEI, "inputs", |d, at, v| { (d.inputs, d.list) = inputs(at, v)?; Ok(()) }),
    honoured(&[TeiPredict], "inputs", |d, at, v| { (d.inputs, d.list) = pairs(at, v)?; Ok(()) }),
    honoured(&[TeiSimilarity], "inputs", similarity),
    honoured(QUERIES, "query", |d, at, v| { d.firsts = vec![string(at, v)?]; Ok(()) }),
    honoured(&[TeiRerank], "texts", |d, at, v| { d.seconds = texts(at, v)?; Ok(()) }),
    honoured(RANK, "documents", |d, at, v| { d.seconds = each(at, v, document)?; Ok(()) }),
    honoured(&[Score], "text_1", |d, at, v| once(&mut d.firsts, at, (one_or_more(at, v)?, ()))),
    honoured(&[Score], "text_2", |d, at, v| once(&mut d.seconds, at, (one_or_more(at, v)?, ()))),
    honoured(&[Score], "queries", |d, at, v| once(&mut d.firsts, at, (one_or_more(at, v)?, ()))),
    honoured(&[Score], "documents", |d, at, v| once(&mut d.seconds, at, (one_or_more(at, v)?, ()))),
    honoured(&[Pooling], "task", task),
    honoured(&[CohereEmbed], "input_type", purpose),
    honoured(PROMPTS, "prompt_name", |d, at, v| { d.vectors.prompt = Some(short(at, check::string(at, v)?)?); Ok(()) }),
    honoured(LENGTH, "dimensions", dimensions),
    honoured(&[CohereEmbed], "output_dimension", dimensions),
    honoured(&[Embeddings, Pooling, TeiEmbed], "normalize", |d, at, v| {
        d.vectors.normalise = Some(check::boolean(at, v)?);
        Ok(())
    }),
    honoured(&[LlamaEmbedding], "embd_normalize", norm),
    honoured(CODED, "encoding_format", |d, at, v| { d.form.codings = vec![coding(at, v, &Coding::ALL[..2])?]; Ok(()) }),
    honoured(&[CohereEmbed], "embedding_types", |d, at, v| {
        let one = |at: &str, value: &Value| coding(at, value, &Coding::ALL);
        d.form.codings = each(at, v, one)?;
        d.form.codings.dedup();
        Ok(())
    }),
    honoured(CUT, "truncate_prompt_tokens", |d, at, v| {
        match check::whole(at, v, -1, u32::MAX.into())? {
            0 => check::bad(at, "must be at least 1, or -1 for as many as the model reads"),
            most => { d.cut.most = Some((u32::try_from(most).ok(), at.to_owned())); Ok(()) }
        }
    }),
    honoured(CUT, "truncation_side", |d, at, v| { d.cut.end = left(at, v, ["left", "right"])?; Ok(()) }),
    honoured(&[Embeddings, CohereEmbed], "truncate", truncate),
    honoured(&[OllamaEmbed], "truncate", |d, at, v| { d.cut.on = Some(check::boolean(at, v)?); Ok(()) }),
    honoured(TEI_CUT, "truncate", |d, at, v| { d.cut.on = Some(check::boolean(at, v)?); Ok(()) }),
    honoured(TEI_CUT, "truncation_direction", |d, at, v| { d.cut.end = left(at, v, ["Left", "Right"])?; Ok(()) }),
    honoured(RANK, "truncation", |d, at, v| { d.cut.on = Some(check::boolean(at, v)?); Ok(()) }),
    honoured(&[CohereEmbed], "max_tokens", most),
    honoured(RANK, "max_tokens_per_doc", most),
    honoured(RANK, "top_n", |d, at, v| {
        d.form.top = Some(check::count(at, v, 1, u32::MAX)? as usize);
        Ok(())
    }),
    honoured(RANK, "return_documents", |d, at, v| { d.form.texts = check::boolean(at, v)?; Ok(()) }),
    honoured(&[TeiRerank], "return_text", |d, at, v| { d.form.texts = check::boolean(at, v)?; Ok(()) }),
    honoured(&[TeiRerank, TeiPredict], "raw_scores", |d, at, v| { d.raw = check::boolean(at, v)?; Ok(()) }),
    honoured(SCORES, "use_activation", |d, at, v| { d.raw = !check::boolean(at, v)?; Ok(()) }),
    refused(SCORES, "activation", "its name here is 'use_activation'"),
    honoured(&[TeiSimilarity], "parameters", |d, at, v| {
        table::read_fields(FIELDS, TeiParameters, at, check::object(at, v)?, d)
    }),
    honoured(OLLAMA, "options", options),
    honoured(ALL, "keep_alive", |d, at, v| { d.terms.keep_alive = Some(keep_alive(at, v)?); Ok(()) }),
    honoured(ALL, "priority", |d, at, v| {
        d.terms.priority = i32::try_from(check::whole(at, v, i32::MIN.into(), i32::MAX.into())?)
            .expect("the range was checked");
        Ok(())
    }),
    honoured(ALL, "timeout_ms", |d, at, v| { d.terms.timeout_ms = Some(check::count(at, v, 1, u32::MAX)?); Ok(()) }),
    inert(VLLM, "user"),
    inert(VLLM, "request_id"),
    neutral(VLLM, "add_special_tokens", &["true"], MARKS),
    refused(&[Embeddings, Classify, Pooling], "messages", CHAT),
    refused(&[CohereEmbed], "images", "models here read text alone"),
    refused(RANK, "rank_fields", "a document is its 'text'; join what is to be read"),
    refused(RANK, "max_chunks_per_doc", "a document is read as one; 'truncation' cuts it"),
];

/// Where a model's name is taken as it stands.
const NAMED: &[Format] = &[
    Embeddings,
    CohereEmbed,
    CohereRerank,
    Rerank,
    TeiEmbed,
    TeiEmbedAll,
    TeiEmbedSparse,
    TeiRerank,
    TeiPredict,
    TeiSimilarity,
    Score,
    Classify,
    Pooling,
    LlamaEmbedding,
];

fn passages(texts: Vec<String>) -> Vec<Passage> {
    texts.into_iter().map(Passage::text).collect()
}

/// Puts texts where none are yet: some formats have two names for the same.
fn once<T, U>(place: &mut Vec<T>, at: &str, (texts, more): (Vec<T>, U)) -> Read<U> {
    if !place.is_empty() {
        return check::bad(at, "is given beside another field for the same texts; give one");
    }
    *place = texts;
    Ok(more)
}

fn similarity(draft: &mut Draft, at: &str, value: &Value) -> Read<()> {
    let map = check::object(at, value)?;
    check::only(at, map, ["source_sentence", "sentences"].into_iter())?;
    let needed = |name: &str| {
        let at = format!("{at}.{name}");
        match map.get(name) {
            Some(value) => Ok((at, value)),
            None => check::bad(&at, "is missing"),
        }
    };
    let (at, source) = needed("source_sentence")?;
    draft.firsts = vec![string(&at, source)?];
    let (at, sentences) = needed("sentences")?;
    draft.seconds = texts(&at, sentences)?;
    Ok(())
}

fn task(draft: &mut Draft, at: &str, value: &Value) -> Read<()> {
    draft.kind = Some(match value.as_str() {
        Some("embed") => Kind::Vector,
        Some("token_embed") => Kind::TokenVectors,
        Some("classify" | "score") => Kind::Scores,
        Some("token_classify") => Kind::Tags,
        _ => {
            let why =
                "must be \"embed\", \"token_embed\", \"classify\", \"score\" or \"token_classify\"";
            return check::bad(at, why);
        }
    });
    Ok(())
}

fn purpose(draft: &mut Draft, at: &str, value: &Value) -> Read<()> {
    draft.purpose = match value.as_str() {
        Some("search_query") => QUERY,
        Some("search_document") => DOCUMENT,
        Some("classification") => CLASSIFICATION,
        Some("clustering") => CLUSTERING,
        Some("image") => return check::bad(at, "is \"image\", and models here read text alone"),
        _ => {
            let why = "must be \"search_query\", \"search_document\", \"classification\" or \
                       \"clustering\"";
            return check::bad(at, why);
        }
    };
    Ok(())
}

fn dimensions(draft: &mut Draft, at: &str, value: &Value) -> Read<()> {
    draft.vectors.dimensions = Some(check::count(at, value, 1, DIMENSIONS_MAX)?);
    Ok(())
}

/// llama.cpp's: -1 leaves a vector as it is, 2 makes its Euclidean length 1, others do the same by
/// other norms.
fn norm(draft: &mut Draft, at: &str, value: &Value) -> Read<()> {
    let power = check::whole(at, value, -1, NORM_MAX)?;
    draft.vectors.normalise = Some(power == 2);
    draft.form.norm = u32::try_from(power).ok().filter(|power| *power != 2);
    Ok(())
}

fn coding(at: &str, value: &Value, known: &[Coding]) -> Read<Coding> {
    let found = value.as_str().and_then(Coding::named).filter(|coding| known.contains(coding));
    found.map_or_else(
        || {
            let names: Vec<&str> = known.iter().map(|coding| coding.name()).collect();
            check::bad(at, format!("must be one of {}", names.join(", ")))
        },
        Ok,
    )
}

fn left(at: &str, value: &Value, sides: [&str; 2]) -> Read<bool> {
    match value.as_str() {
        Some(side) if side == sides[0] => Ok(true),
        Some(side) if side == sides[1] => Ok(false),
        _ => check::bad(at, format!("must be {:?} or {:?}", sides[0], sides[1])),
    }
}

/// Cohere's; and, beyond it, in pieces whose vectors' mean is the text's.
fn truncate(draft: &mut Draft, at: &str, value: &Value) -> Read<()> {
    let cut = &mut draft.cut;
    match value.as_str() {
        Some("NONE") => cut.on = Some(false),
        Some("START") => (cut.on, cut.end) = (Some(true), true),
        Some("END") => (cut.on, cut.end) = (Some(true), false),
        Some("CHUNK") => (cut.on, cut.chunk) = (Some(true), true),
        _ => return check::bad(at, "must be \"NONE\", \"START\", \"END\" or \"CHUNK\""),
    }
    Ok(())
}

fn most(draft: &mut Draft, at: &str, value: &Value) -> Read<()> {
    draft.cut.most = Some((Some(check::count(at, value, 1, u32::MAX)?), at.to_owned()));
    Ok(())
}

/// How texts are written, which is not what is done here; but the least context is.
fn options(draft: &mut Draft, at: &str, value: &Value) -> Read<()> {
    let map = check::object(at, value)?;
    check::only(at, map, ollama_options().collect::<Vec<_>>().into_iter())?;
    if let Some(least) = map.get("num_ctx").filter(|least| !least.is_null()) {
        draft.context = Some(check::count(&format!("{at}.num_ctx"), least, 1, u32::MAX)?);
    }
    Ok(())
}
