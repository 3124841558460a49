//! sentence-transformers' own files: what it puts behind a model (`modules.json`), how tokens'
//! vectors become one, its instructions (`config_sentence_transformers.json`), how long a text may
//! be. PyLate's files for a vector a token are the same.

use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::families::Family;
use super::heads::Head;
use super::json::{self, Object};
use super::weights;
use crate::Error;
use crate::gguf::{Array, Held, Outline, Planned, Strs, Value};
use crate::safetensors;

/// The files that say how long a text may be; older ones are named after the model.
const LENGTHS: &[&str] = &[
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_xlm-roberta_config.json",
];

/// The most modules.
const MAX_MODULES: usize = 16;

/// What is put behind each other, first the model itself.
#[derive(Debug, Default)]
pub(super) struct Modules {
    /// Kinds and folders, which are empty where they are the directory itself; nothing where
    /// sentence-transformers has not been here.
    all: Vec<(String, String)>,
}

impl Modules {
    pub(super) fn read(directory: &Path) -> Result<Self, Error> {
        let path = directory.join("modules.json");
        let Some(listed) = json::read::<Vec<Json>>(&path)? else { return Ok(Self::default()) };
        let wrong = |what: &str| json::wrong(&path, what);
        if listed.len() > MAX_MODULES {
            return Err(wrong("too many modules"));
        }
        let module = |module: &Json| {
            let kind = module.get("type").and_then(Json::as_str).unwrap_or_default();
            let folder = module.get("path").and_then(Json::as_str).unwrap_or_default();
            let folder = if folder == "." { "" } else { folder };
            if !folder.is_empty() && Path::new(folder).file_name() != Some(folder.as_ref()) {
                return Err(wrong(&format!("{folder:?} is no folder beside it")));
            }
            let kind = kind.rsplit('.').next().unwrap_or_default();
            match kind {
                "Transformer" | "MLMTransformer" | "Pooling" | "Dense" | "Normalize"
                | "Dropout" | "SpladePooling" | "StaticEmbedding" | "MultiVectorMask" => {
                    Ok((kind.to_owned(), folder.to_owned()))
                }
                other => Err(Error::Unsupported(format!(
                    "modules.json: a module of type `{other}` is not supported"
                ))),
            }
        };
        let all = listed.iter().map(module).collect::<Result<Vec<_>, _>>()?;
        let first = |wanted: &str| all.iter().position(|(kind, _)| kind == wanted);
        let last_dense = all.iter().rposition(|(kind, _)| kind == "Dense");
        if first("Normalize").is_some_and(|at| Some(at) < last_dense) {
            return Err(wrong("only what comes last is made of length 1"));
        }
        Ok(Self { all })
    }

    fn folders<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a str> {
        self.all.iter().filter(move |(known, _)| known == kind).map(|(_, folder)| folder.as_str())
    }

    fn has(&self, kind: &str) -> bool {
        self.folders(kind).next().is_some()
    }

    /// Where the model itself is.
    pub(super) fn base(&self, directory: &Path) -> PathBuf {
        const KINDS: &[&str] = &["Transformer", "MLMTransformer", "StaticEmbedding"];
        let folder = KINDS.iter().find_map(|kind| self.folders(kind).next());
        directory.join(folder.unwrap_or_default())
    }

    /// Whether the model itself is a table of tokens' vectors.
    pub(super) fn are_a_table(&self) -> bool {
        self.has("StaticEmbedding")
    }

    /// The head that they make; `None` where the model's own class has to say.
    pub(super) fn head(&self) -> Option<Head> {
        match () {
            () if self.are_a_table() => Some(Head::None),
            () if self.has("SpladePooling") => Some(Head::Masked),
            () if self.has("Pooling") => Some(Head::None),
            () if self.has("Dense") => Some(Head::Late),
            () => None,
        }
    }

    /// What the layers behind the model are called in a GGUF file, and their folders.
    fn dense(&self, directory: &Path, head: Head) -> Result<Vec<(&'static str, PathBuf)>, Error> {
        let stems: &[&str] = match head {
            Head::Late => &["late", "late_2", "late_3"],
            Head::None => &["dense_2", "dense_3"],
            _ => &[],
        };
        let folders: Vec<&str> = self.folders("Dense").collect();
        if folders.len() > stems.len() {
            return Err(Error::Unsupported("modules.json: too many of Dense".into()));
        }
        let folders = folders.into_iter().map(|folder| directory.join(folder));
        Ok(stems.iter().copied().zip(folders).collect())
    }

    /// The matrices that vectors are multiplied by, behind pooling.
    pub(super) fn weights(
        &self,
        directory: &Path,
        head: Head,
    ) -> Result<Vec<(Planned, Held)>, Error> {
        let mut made = Vec::new();
        for (stem, folder) in self.dense(directory, head)? {
            let missing = || Error::Missing(format!("{}/model.safetensors", folder.display()));
            let stored = safetensors::open_set(&folder, "model")?.ok_or_else(missing)?;
            for (name, stored) in stored {
                let kind =
                    name.strip_prefix("linear.").filter(|kind| ["weight", "bias"].contains(kind));
                let Some(kind) = kind else {
                    return Err(Error::Unsupported(format!("a Dense module's tensor {name}")));
                };
                made.push(weights::as_it_is(format!("{stem}.{kind}"), &stored)?);
            }
        }
        Ok(made)
    }
}

/// Sets all that is not weights. Without modules only the longest text is told, if it is.
pub(super) fn write(
    directory: &Path,
    base: &Path,
    modules: &Modules,
    (family, head): (&Family, Head),
    outline: &mut Outline,
) -> Result<(), Error> {
    for (stem, folder) in modules.dense(directory, head)? {
        if let Some(bent) = bent(&folder, head)? {
            outline.set(&format!("ingle.{stem}.activation"), Value::Str(bent.to_owned()));
        }
    }
    for folder in modules.folders("MultiVectorMask") {
        let config = Object::read(&directory.join(folder).join("config.json"))?;
        for key in ["skiplist_words", "keep_only_token_ids"] {
            if config.list(key)?.is_some_and(|all| !all.is_empty()) {
                return Err(config.refuse(key, "every token's vector is told"));
            }
        }
    }
    for folder in modules.folders("Pooling") {
        let config = Object::read(&directory.join(folder).join("config.json"))?;
        outline.set(&format!("{}.pooling_type", family.arch), Value::U32(pooling(&config)?));
    }
    for folder in modules.folders("SpladePooling") {
        let config = Object::read(&directory.join(folder).join("config.json"))?;
        for (key, known) in [("pooling_strategy", "max"), ("activation_function", "relu")] {
            if config.str(key)?.is_some_and(|said| said != known) {
                return Err(config.refuse(key, &format!("only `{known}` is supported")));
            }
        }
    }
    if modules.has("Normalize") {
        outline.set("ingle.normalise", Value::Bool(true));
    }
    for file in LENGTHS {
        let config = Object::read(&base.join(file))?;
        if let Some(tokens) = config.uint("max_seq_length")? {
            let tokens =
                u32::try_from(tokens).map_err(|_| config.refuse("max_seq_length", "too large"))?;
            outline.set("ingle.max_tokens", Value::U32(tokens));
        }
    }
    prompts(&Object::read(&directory.join("config_sentence_transformers.json"))?, outline)
}

/// What a layer's output is bent by, if by anything.
fn bent(folder: &Path, head: Head) -> Result<Option<&'static str>, Error> {
    const NAMES: &[(&str, Option<&str>)] = &[
        ("Identity", None),
        ("Tanh", Some("tanh")),
        ("GELU", Some("gelu")),
        ("ReLU", Some("relu")),
        ("SiLU", Some("silu")),
    ];
    let config = Object::read(&folder.join("config.json"))?;
    if config.flag("use_residual")? == Some(true) {
        return Err(config.refuse("use_residual", "only false is supported"));
    }
    let input = if head == Head::Late { "token_embeddings" } else { "sentence_embedding" };
    for key in ["module_input_name", "module_output_name"] {
        if config.str(key)?.is_some_and(|said| said != input) {
            return Err(config.refuse(key, &format!("only `{input}` is supported here")));
        }
    }
    let key = "activation_function";
    let said = config.str(key)?.ok_or_else(|| config.lacks(key))?;
    let class = said.rsplit('.').next();
    let known = NAMES.iter().find(|(name, _)| Some(*name) == class);
    let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
    let refuse = || config.refuse(key, &format!("only {} are supported", names.join(", ")));
    known.map(|(_, ours)| *ours).ok_or_else(refuse)
}

/// The number that GGUF files have for a way of pooling.
fn pooling(config: &Object) -> Result<u32, Error> {
    const WAYS: &[(&str, &str, u32)] = &[
        ("pooling_mode_mean_tokens", "mean", 1),
        ("pooling_mode_cls_token", "cls", 2),
        ("pooling_mode_lasttoken", "lasttoken", 3),
    ];
    if config.flag("include_prompt")? == Some(false) {
        return Err(config.refuse("include_prompt", "instructions that are read but not pooled"));
    }
    if let Some(named) = config.get("pooling_mode") {
        let way = WAYS.iter().find(|(_, way, _)| named.as_str() == Some(way));
        let why = "only mean, cls and lasttoken are supported";
        return way.map(|way| way.2).ok_or_else(|| config.refuse("pooling_mode", why));
    }
    let on =
        |key: &str| key.starts_with("pooling_mode_") && matches!(config.flag(key), Ok(Some(true)));
    let mut chosen = config.map.keys().filter(|key| on(key));
    match (chosen.next(), chosen.next()) {
        (None, _) => Err(config.lacks("pooling_mode_mean_tokens")),
        (Some(_), Some(second)) => Err(config.refuse(second, "only one way of pooling at a time")),
        (Some(first), None) => {
            let way = WAYS.iter().find(|(key, _, _)| key == first);
            let why = "only mean, cls and lasttoken are supported";
            way.map(|way| way.2).ok_or_else(|| config.refuse(first, why))
        }
    }
}

/// Instructions, and which one is usual.
fn prompts(config: &Object, outline: &mut Outline) -> Result<(), Error> {
    let Some(prompts) = config.object("prompts")? else { return Ok(()) };
    let mut all = Vec::new();
    for name in prompts.map.keys() {
        all.extend(prompts.str(name)?.map(|text| (name.as_str(), text)));
    }
    let names: Strs = all.iter().map(|(name, _)| *name).collect();
    let texts: Strs = all.iter().map(|(_, text)| *text).collect();
    if let Some(usual) = config.str("default_prompt_name")? {
        if !all.iter().any(|(name, _)| *name == usual) {
            return Err(config.refuse("default_prompt_name", "there is no such prompt"));
        }
        outline.set("ingle.prompt.default", Value::Str(usual.to_owned()));
    }
    if !all.is_empty() {
        outline.set("ingle.prompt.names", Value::Array(Array::Strs(names)));
        outline.set("ingle.prompt.texts", Value::Array(Array::Strs(texts)));
    }
    Ok(())
}
