//! The small formats beside the two large ones: the list of models, and texts to tokens and back
//! (vLLM's `/tokenize` and `/detokenize`).

use serde_json::{Value, json};

use super::check::{self, Read};
use super::request::short;
use super::values::{read_object, tokens};
use crate::{Fault, Reads, Token};

/// A model as `/v1/models` lists it.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelLine<'a> {
    /// The name it is asked for by.
    pub name: &'a str,
    /// Seconds since 1970 when the server took it in.
    pub created_s: u64,
    /// The longest prompt and answer together, in tokens; 0 where its file was not read yet.
    pub context_tokens: usize,
    /// Its architecture.
    pub architecture: &'a str,
    /// Whether it can hold a conversation.
    pub chat: bool,
    /// What it tells of texts, where it reads and does not write.
    pub reads: Option<&'a Reads>,
    /// Where it stands: `unloaded`, `fetching`, `loading`, `ready` or `failed`.
    pub status: &'a str,
    /// The share done of what is under way, 0 to 1.
    pub progress: Option<f32>,
    /// Memory that it takes when loaded; 0 where its file was not read yet.
    pub memory_bytes: u64,
    /// Requests that it answers or that wait for it.
    pub requests: usize,
    /// Why it failed.
    pub error: Option<&'a str>,
    /// The model that it is an adapter of, if it is one.
    pub parent: Option<&'a str>,
}

fn model(line: &ModelLine<'_>) -> Value {
    let known = |number: u64| if number == 0 { Value::Null } else { json!(number) };
    json!({
        "id": line.name,
        "object": "model",
        "created": line.created_s,
        "owned_by": "ingle",
        "max_model_len": known(line.context_tokens as u64),
        "architecture": line.architecture,
        "chat": line.chat,
        "reads": line.reads.map(reads),
        "status": line.status,
        "progress": line.progress.map(short),
        "memory_bytes": known(line.memory_bytes),
        "requests": line.requests,
        "error": line.error,
        "parent": line.parent,
    })
}

fn reads(reads: &Reads) -> Value {
    json!({
        "dimensions": reads.dimensions,
        "max_tokens": reads.tokens,
        "labels": reads.labels,
        "token_labels": reads.tags,
        "token_vectors": reads.late,
        "sparse": reads.sparse,
        "prompts": reads.prompts,
    })
}

/// One model.
pub fn write_model(line: &ModelLine<'_>) -> String {
    model(line).to_string()
}

/// All models.
pub fn write_models(lines: &[ModelLine<'_>]) -> String {
    let data: Vec<Value> = lines.iter().map(model).collect();
    json!({ "object": "list", "data": data }).to_string()
}

/// A text to be encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokenize {
    /// Empty for the server's default.
    pub model: String,
    /// The text.
    pub text: String,
    /// Whether control tokens written out in the text are read as such.
    pub special: bool,
}

/// Reads `{"prompt", "model"?, "parse_special"?}`. Nothing is added to the text's own tokens, so
/// vLLM's `add_special_tokens` is known only as false.
pub fn read_tokenize(body: &[u8]) -> Result<Tokenize, Fault> {
    let body = read_object(body)?;
    let known = ["prompt", "model", "parse_special", "add_special_tokens"];
    check::only("", &body, known.into_iter())?;
    let given = |name: &str| body.get(name).filter(|value| !value.is_null());
    let flag = |name: &str| given(name).map_or(Ok(false), |value| check::boolean(name, value));
    let text = |name: &str| given(name).map_or(Ok(""), |value| check::string(name, value));
    if flag("add_special_tokens")? {
        let why = "is supported only as false: a text's own tokens are given";
        return check::bad("add_special_tokens", why);
    }
    if given("prompt").is_none() {
        return check::bad("prompt", "is missing");
    }
    Ok(Tokenize {
        model: text("model")?.to_owned(),
        text: text("prompt")?.to_owned(),
        special: flag("parse_special")?,
    })
}

/// The tokens of a text.
pub fn write_tokens(tokens: &[Token], context_tokens: usize) -> String {
    json!({ "count": tokens.len(), "max_model_len": context_tokens, "tokens": tokens }).to_string()
}

/// Tokens to be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detokenize {
    /// Empty for the server's default.
    pub model: String,
    /// The tokens.
    pub tokens: Vec<Token>,
}

/// Reads `{"tokens", "model"?}`.
pub fn read_detokenize(body: &[u8]) -> Result<Detokenize, Fault> {
    let body = read_object(body)?;
    check::only("", &body, ["tokens", "model"].into_iter())?;
    let model: Read<&str> = match body.get("model") {
        None | Some(Value::Null) => Ok(""),
        Some(value) => check::string("model", value),
    };
    match body.get("tokens") {
        Some(value) => {
            Ok(Detokenize { model: model?.to_owned(), tokens: tokens("tokens", value)? })
        }
        None => check::bad("tokens", "is missing"),
    }
}

/// The text of tokens.
pub fn write_text(text: &str) -> String {
    json!({ "prompt": text }).to_string()
}
