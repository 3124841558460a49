//! What Text Embeddings Inference has of its own: what a model is, and labels ordered by their
//! scores.

use serde_json::{Map, Value, json};

use super::answer::label;
use super::task::unlike;
use super::values::TEXTS_MAX;
use crate::wire::check::Read;
use crate::wire::openai::short;
use crate::{Output, Reads};

/// What `/info` tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info<'a> {
    /// The model's name.
    pub model: &'a str,
    /// Its file's SHA-256, in hexadecimal; empty where that is not known.
    pub sha256: &'a str,
    /// What it tells of texts.
    pub reads: Option<&'a Reads>,
    /// Requests that may be under way.
    pub requests: usize,
}

/// What the model is, and what may be asked at once.
pub fn write_info(info: &Info<'_>) -> String {
    let none = Reads::default();
    let reads = info.reads.unwrap_or(&none);
    json!({
        "model_id": info.model,
        "model_sha": (!info.sha256.is_empty()).then_some(info.sha256),
        "model_dtype": "float32",
        "model_type": sort(reads),
        "max_concurrent_requests": info.requests,
        "max_input_length": reads.tokens,
        "max_client_batch_size": TEXTS_MAX,
        "auto_truncate": false,
        "version": env!("CARGO_PKG_VERSION"),
        "prompts": reads.prompts,
    })
    .to_string()
}

fn sort(reads: &Reads) -> Value {
    let name = |at: usize| label(&reads.labels, at);
    let ids: Map<String, Value> =
        (0..reads.labels.len()).map(|at| (at.to_string(), json!(name(at)))).collect();
    let labels: Map<String, Value> =
        (0..reads.labels.len()).map(|at| (name(at), json!(at))).collect();
    let classes = json!({ "id2label": ids, "label2id": labels });
    match reads.labels.len() {
        0 => json!({ "embedding": { "pooling": if reads.sparse { "splade" } else { "model" } } }),
        1 => json!({ "reranker": classes }),
        _ => json!({ "classifier": classes }),
    }
}

/// A text's labels and their scores, the best first.
pub(super) fn predicted(read: &crate::Read, labels: &[String]) -> Read<Value> {
    let Output::Scores(scores) = &read.output else { return Err(unlike()) };
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let row = |at: &usize| json!({ "score": short(scores[*at]), "label": label(labels, *at) });
    Ok(order.iter().map(row).collect())
}
