//! The small formats beside the two large ones: which models there are, what is known of one, which
//! are in memory, how far a fetch is.

use serde_json::{Map, Value, json};

use crate::wire::check;
use crate::wire::rfc3339;
use crate::wire::values::{model as name, read_object};
use crate::{Fault, Reads};

/// The release of Ollama whose protocol this is. Clients ask for it to learn what they may send.
const VERSION: &str = "0.12.11";

/// A model as the lists show it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named<'a> {
    /// The name it is asked for by.
    pub name: &'a str,
    /// Seconds since 1970 when the server took it in.
    pub created_s: u64,
    /// Its file's size in bytes; 0 where that is not known.
    pub size_bytes: u64,
    /// Its file's SHA-256, in hexadecimal; empty where that is not known.
    pub sha256: &'a str,
    /// Its architecture; empty where its file was not read yet.
    pub architecture: &'a str,
    /// Memory that it takes when loaded.
    pub memory_bytes: u64,
    /// The longest prompt and answer together, in tokens.
    pub context_tokens: usize,
}

fn model(line: &Named<'_>) -> Value {
    json!({
        "name": line.name,
        "model": line.name,
        "modified_at": rfc3339(line.created_s),
        "size": line.size_bytes,
        "digest": line.sha256,
        "details": details(line),
    })
}

fn details(line: &Named<'_>) -> Value {
    json!({
        "parent_model": "",
        "format": "gguf",
        "family": line.architecture,
        "families": [line.architecture],
        "parameter_size": "",
        "quantization_level": "",
    })
}

/// All models (`/api/tags`).
pub fn write_models(lines: &[Named<'_>]) -> String {
    json!({ "models": lines.iter().map(model).collect::<Vec<_>>() }).to_string()
}

/// Those that are in memory (`/api/ps`). How long each stays is decided by who asks next, so no
/// time is told.
pub fn write_running(lines: &[Named<'_>]) -> String {
    let running = |line: &Named<'_>| {
        let mut out = model(line);
        out["size"] = json!(line.memory_bytes);
        out["size_vram"] = json!(0);
        out["context_length"] = json!(line.context_tokens);
        out
    };
    json!({ "models": lines.iter().map(running).collect::<Vec<_>>() }).to_string()
}

/// What is known of a model beside its line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown<'a> {
    /// Its chat template; empty where it has none.
    pub template: &'a str,
    /// What its file says of it: names, and values as JSON texts.
    pub metadata: &'a [(String, String)],
    /// Whether its template knows tools.
    pub tools: bool,
    /// Whether its template knows of thinking.
    pub thinking: bool,
    /// What it tells of texts, where it reads and does not write.
    pub reads: Option<&'a Reads>,
}

/// All that is known of a model (`/api/show`).
pub fn write_model(line: &Named<'_>, shown: &Shown<'_>) -> String {
    let value = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| json!(text));
    let info: Map<String, Value> =
        shown.metadata.iter().map(|(name, text)| (name.clone(), value(text))).collect();
    let vectors = shown.reads.is_some_and(|reads| reads.dimensions > 0);
    let capabilities = [
        ("completion", shown.reads.is_none()),
        ("embedding", vectors),
        ("tools", shown.tools),
        ("thinking", shown.thinking),
    ];
    let capabilities = capabilities.into_iter().filter(|row| row.1).map(|row| row.0);
    json!({
        "modelfile": "",
        "parameters": "",
        "template": shown.template,
        "modified_at": rfc3339(line.created_s),
        "details": details(line),
        "model_info": info,
        "capabilities": capabilities.collect::<Vec<_>>(),
    })
    .to_string()
}

/// The version of the protocol, and of Ingle.
pub fn write_version() -> String {
    json!({ "version": VERSION, "ingle": env!("CARGO_PKG_VERSION") }).to_string()
}

/// A model's name without the tag that Ollama's clients add where none is given.
pub(in crate::wire) fn untagged(name: String) -> String {
    name.strip_suffix(":latest").map_or(name.clone(), str::to_owned)
}

/// Reads a body that names a model, under its new key or its old one, and may ask for a stream: of
/// `/api/show`, `/api/pull` and `/api/delete`. `stream` is true where nothing is said.
pub fn read_named(body: &[u8]) -> Result<(String, bool), Fault> {
    let body = read_object(body)?;
    check::only("", &body, ["model", "name", "stream", "verbose", "insecure"].into_iter())?;
    let given = |name: &str| body.get(name).filter(|value| !value.is_null());
    let flag = |name: &str| given(name).map(|value| check::boolean(name, value)).transpose();
    flag("verbose")?;
    if flag("insecure")? == Some(true) {
        return check::bad("insecure", "is supported only as false: models come by TLS alone");
    }
    match given("model").or_else(|| given("name")) {
        Some(model) => Ok((untagged(name("model", model)?), flag("stream")?.unwrap_or(true))),
        None => check::bad("model", "is missing"),
    }
}

/// A line that tells how far a fetch is.
pub fn write_progress(status: &str, completed: Option<u64>, total: Option<u64>) -> String {
    let mut out = json!({ "status": status });
    for (name, value) in [("total", total), ("completed", completed)] {
        if let Some(value) = value {
            out[name] = json!(value);
        }
    }
    line(&out.to_string())
}

/// A text as a line.
pub fn line(text: &str) -> String {
    format!("{text}\n")
}
