//! Adapters as the Python package `peft` saves them: `adapter_config.json` and
//! `adapter_model.safetensors`. What the configuration says is honoured or refused by name; a field
//! that is not known is refused where it says anything.
//!
//! Absent: pickled weights (`adapter_model.bin`), which are programs.

use super::{Part, Stored, refused};
use crate::{Error, safetensors};
use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The two files.
pub(super) const FILES: [&str; 2] = ["adapter_config.json", "adapter_model.safetensors"];

/// The most bytes of a configuration; one that names all of a large model's modules has 100,000.
const MAX_CONFIG: u64 = 1 << 20;
/// The most patterns of ranks, and of alphas.
const MAX_PATTERNS: usize = 1024;

/// What the configuration may say without a difference: where the adapter comes from, how it was
/// trained, and which modules it has, which its weights tell.
const IDLE: &[&str] = &[
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "fan_in_fan_out",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_dropout",
    "lora_ga_config",
    "megatron_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "velora_config",
];

/// What is read of it.
const READ: &[&str] = &[
    "alpha_pattern",
    "init_lora_weights",
    "lora_alpha",
    "peft_type",
    "r",
    "rank_pattern",
    "use_rslora",
];

/// Ways to begin that leave the model as it is.
const BEGINNINGS: &[&str] = &["gaussian", "eva", "orthogonal"];

/// What modules are called, and the same in GGUF files (llama.cpp's converter).
const MODULES: &[(&str, &str)] = &[
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.qkv_proj", "attn_qkv"),
    ("self_attn.o_proj", "attn_output"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.gate_up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

pub(super) fn open(folder: &Path) -> Result<Vec<Part>, Error> {
    let config = Config::read(&folder.join(FILES[0]))?;
    let tensors = tensors(&folder.join(FILES[1]))?;
    let mut pairs = BTreeMap::<&str, [Option<&Stored>; 2]>::new();
    for (name, stored) in &tensors {
        // Beside an output's pair `peft` saves the model's own matrix, in case it was resized; one
        // that was does not fit the pair.
        if name.ends_with(".base_layer.weight") {
            continue;
        }
        let which = [".lora_A.weight", ".lora_B.weight"];
        let module = name.strip_prefix("base_model.model.").unwrap_or(name);
        let found =
            which.iter().zip(0..).find_map(|(end, at)| Some((module.strip_suffix(end)?, at)));
        let Some((module, at)) = found else {
            return Err(refused(format!("its tensor {name} is no part of a low-rank pair")));
        };
        pairs.entry(module).or_default()[at] = Some(stored);
    }
    let part = |(module, pair): (&str, [Option<&Stored>; 2])| {
        let [Some(a), Some(b)] = pair else {
            return Err(refused(format!("for {module} it has one of two matrices")));
        };
        let name = name(module).ok_or_else(|| {
            refused(format!("it adapts {module}, and no matrix is known by that name"))
        })?;
        let scale = config.scale(module, a.rows)?;
        Part { name, a: a.clone(), b: b.clone(), scale }.checked()
    };
    pairs.into_iter().map(part).collect()
}

/// What a module is called in GGUF files.
fn name(module: &str) -> Option<String> {
    if module == "lm_head" || module.ends_with(".lm_head") {
        return Some("output".to_owned());
    }
    let (before, within) = module.split_once("layers.")?;
    if !(before.is_empty() || before.ends_with('.')) {
        return None;
    }
    let (layer, within) = within.split_once('.')?;
    let layer: u32 = layer.parse().ok()?;
    let (_, name) = MODULES.iter().find(|(module, _)| *module == within)?;
    Some(format!("blk.{layer}.{name}"))
}

/// Ranks or alphas of some modules.
type Patterns = Vec<(Regex, f64)>;

/// What is read of the configuration.
#[derive(Debug)]
struct Config {
    rank: f64,
    alpha: f64,
    ranks: Patterns,
    alphas: Patterns,
    /// Whether scales are by the rank's root (Kalajdzievski, 2023).
    by_root: bool,
}

impl Config {
    fn read(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        File::open(path).map_err(io)?.take(MAX_CONFIG + 1).read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() as u64 > MAX_CONFIG {
            return Err(refused(format!("its {} has more than {MAX_CONFIG} bytes", FILES[0])));
        }
        let map: Map<String, Value> = serde_json::from_slice(&bytes)
            .map_err(|error| refused(format!("its {}: {error}", FILES[0])))?;
        Self::of(&map)
    }

    fn of(map: &Map<String, Value>) -> Result<Self, Error> {
        let wrong = |key: &str| field(key, map.get(key).unwrap_or(&Value::Null));
        for (key, value) in map {
            let known = IDLE.contains(&key.as_str()) || READ.contains(&key.as_str());
            if !known && !idle(value) {
                return Err(field(key, value));
            }
        }
        if map.get("peft_type").and_then(Value::as_str) != Some("LORA") {
            return Err(wrong("peft_type"));
        }
        match map.get("init_lora_weights") {
            None | Some(Value::Null | Value::Bool(_)) => {}
            Some(Value::String(how)) if BEGINNINGS.contains(&how.as_str()) => {}
            // The others take something away from the model's own weights.
            Some(_) => return Err(wrong("init_lora_weights")),
        }
        let number = |key: &str, or: f64| match map.get(key) {
            None => Ok(or),
            Some(value) => value.as_f64().ok_or_else(|| wrong(key)),
        };
        let by_root = match map.get("use_rslora") {
            None | Some(Value::Null) => false,
            Some(value) => value.as_bool().ok_or_else(|| wrong("use_rslora"))?,
        };
        let patterns = |key: &str| match map.get(key) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Object(map)) if map.len() <= MAX_PATTERNS => {
                map.iter().map(|pair| pattern(key, pair)).collect()
            }
            Some(_) => Err(wrong(key)),
        };
        Ok(Self {
            rank: number("r", 8.0)?,
            alpha: number("lora_alpha", 8.0)?,
            ranks: patterns("rank_pattern")?,
            alphas: patterns("alpha_pattern")?,
            by_root,
        })
    }

    /// What a module's delta, of this rank, is multiplied by.
    fn scale(&self, module: &str, rank: usize) -> Result<f64, Error> {
        let of = |patterns: &Patterns, or: f64| {
            let found = patterns.iter().find(|(pattern, _)| pattern.is_match(module));
            found.map_or(or, |(_, value)| *value)
        };
        let said = of(&self.ranks, self.rank);
        if said != rank as f64 {
            let what = format!("its rank for {module} is {rank}, and it says {said}");
            return Err(refused(what));
        }
        let by = if self.by_root { said.sqrt() } else { said };
        Ok(of(&self.alphas, self.alpha) / by)
    }
}

/// Whether a value says nothing.
fn idle(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text == "none",
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// That a field says what cannot be honoured.
fn field(key: &str, value: &Value) -> Error {
    let shown: String = value.to_string().chars().take(60).collect();
    refused(format!("its {} says `{key}: {shown}`, which is not supported", FILES[0]))
}

/// A pattern of modules, as `peft` reads it: a regular expression of a name's end, from a dot or
/// the beginning on.
fn pattern(key: &str, (text, value): (&String, &Value)) -> Result<(Regex, f64), Error> {
    let whole = format!(r"^(?:.*\.)?(?:{text})$");
    let regex = RegexBuilder::new(&whole).size_limit(1 << 20).build();
    let wrong = |what: String| refused(format!("its {} says {key}: {what}", FILES[0]));
    let regex = regex.map_err(|error| wrong(error.to_string()))?;
    let value = value.as_f64().ok_or_else(|| wrong(format!("{text}: {value}")))?;
    Ok((regex, value))
}

/// The weights, by their names.
fn tensors(path: &Path) -> Result<BTreeMap<String, Stored>, Error> {
    let tensor = |(name, tensor): (String, safetensors::Stored)| {
        let Some(format) = tensor.format else {
            return Err(refused(format!("its tensor {name} is of type {}", tensor.kind)));
        };
        let [rows, cols] = tensor.shape[..] else {
            return Err(refused(format!("its tensor {name} is no matrix")));
        };
        if cols == 0 {
            return Err(refused(format!("its tensor {name} is empty")));
        }
        Ok((name, Stored { format, rows, cols, bytes: tensor.bytes }))
    };
    safetensors::open(path)?.into_iter().map(tensor).collect()
}

#[cfg(test)]
mod tests;
