//! What protocols have for models that read: embeddings, reranking, scores, classification. They
//! ask for few things in many shapes, so there is one table of fields (`fields`) whose columns are
//! the formats, one [`Asked`], and a short writer a format (`answer`).
//!
//! What is computed for a request depends on what its model can tell ([`crate::Reads`]): a reranker
//! reads a query with each text, while of a model that makes vectors these are compared. Too long a
//! text is refused unless the request says what becomes of it, also where its protocol's own
//! servers would cut it. Absent: pictures, and reading answers.

mod answer;
mod code;
mod fields;
mod task;
mod tei;
mod values;

pub use answer::Answer;
pub use fields::{fields, ollama_options, read_request, read_rerank};
pub use tei::{Info, write_info};

use crate::{Encoding, Vectors};
use code::Coding;
use task::Task;

/// Which request format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenAI's `/v1/embeddings`, and what vLLM has beside it.
    Embeddings,
    /// Ollama's `/api/embed`
    OllamaEmbed,
    /// Ollama's `/api/embeddings`
    OllamaEmbeddings,
    /// Cohere's `/v2/embed`
    CohereEmbed,
    /// Cohere's `/v2/rerank`
    CohereRerank,
    /// Jina's `/v1/rerank`, which is Cohere's first one, vLLM's and llama.cpp's too.
    Rerank,
    /// Text Embeddings Inference's `/embed`
    TeiEmbed,
    /// Its `/embed_all`
    TeiEmbedAll,
    /// Its `/embed_sparse`
    TeiEmbedSparse,
    /// Its `/rerank`
    TeiRerank,
    /// Its `/predict`
    TeiPredict,
    /// Its `/similarity`
    TeiSimilarity,
    /// The object `parameters` of that.
    TeiParameters,
    /// vLLM's `/score`
    Score,
    /// vLLM's `/classify`
    Classify,
    /// vLLM's `/pooling`
    Pooling,
    /// llama.cpp's `/embedding`
    LlamaEmbedding,
}

/// A request as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// Which format it has, and so its answer.
    pub format: Format,
    /// The model, and on what terms it reads; texts and what is wanted of them are not in it yet.
    pub terms: Encoding,
    task: Task,
    /// How vectors are made, where they are wanted.
    vectors: Vectors,
    /// What texts are read for, by the names that models have for it, the likeliest first.
    purpose: &'static [&'static str],
    /// Scores as the model gives them, made no probabilities.
    raw: bool,
    /// The least tokens that the model has to read.
    context: Option<u32>,
    form: Form,
}

/// How the answer is written.
#[derive(Clone, Debug, Default, PartialEq)]
struct Form {
    /// How vectors are written; the first one where there is place for one.
    codings: Vec<Coding>,
    /// Whether texts stand beside their scores.
    texts: bool,
    /// Only so many of the best.
    top: Option<usize>,
    /// One text was given as such, so that one result is given back.
    single: bool,
    /// The power whose norm is made 1; 0 makes the largest number 32760, as llama.cpp does.
    norm: Option<u32>,
}

impl Form {
    fn coding(&self) -> Coding {
        self.codings.first().copied().unwrap_or(Coding::Float)
    }
}
