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
    /// Kinds and folders; empty where sentence-transformers has not been here.
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
            if !folder.is_empty() && Path::new(folder).file_name() != Some(folder.as_ref()) {
                return Err(wrong(&format!("{folder:?} is no folder beside it")));
            }
            let kind = kind.rsplit('.').next().unwrap_or_default();
            match kind {
                "Transformer" | "MLMTransformer" | "Pooling" | "Dense" | "Normalize"
                | "Dropout" | "SpladePooling" => Ok((kind.to_owned(), folder.to_owned())),
                other => Err(Error::Unsupported(format!(
                    "modules.json: a module of type `{other}` is not supported"
                ))),
            }
        };
        let all = listed.iter().map(module).collect::<Result<_, _>>()?;
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
        let folder = self.folders("Transformer").chain(self.folders("MLMTransformer")).next();
        directory.join(folder.unwrap_or_default())
    }

    /// The head that they make; `None` where the model's own class has to say.
    pub(super) fn head(&self) -> Option<Head> {
        match () {
            () if self.has("SpladePooling") => Some(Head::Masked),
            () if self.has("Pooling") => Some(Head::None),
            () if self.has("Dense") => Some(Head::Late),
            () => None,
        }
    }

    /// The matrices that vectors are multiplied by, behind pooling.
    pub(super) fn weights(
        &self,
        directory: &Path,
        head: Head,
    ) -> Result<Vec<(Planned, Held)>, Error> {
        let mut made = Vec::new();
        for (i, folder) in self.folders("Dense").enumerate() {
            let folder = directory.join(folder);
            let config = Object::read(&folder.join("config.json"))?;
            let bent = config.str("activation_function")?.unwrap_or("Identity");
            if !bent.ends_with("Identity") {
                return Err(config.refuse("activation_function", "only Identity is supported"));
            }
            let stem = match (head, i) {
                (Head::Late, 0) => "late".to_owned(),
                (Head::None, 0 | 1) => format!("dense_{}", i + 2),
                _ => return Err(Error::Unsupported("modules.json: too many of Dense".into())),
            };
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
    family: &Family,
    outline: &mut Outline,
) -> Result<(), Error> {
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
