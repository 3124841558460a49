//! A configuration's keys to the metadata of a GGUF file, as the family's table says, and what is
//! the same in all families.

use super::families::{Family, Key, Kind, Or};
use super::json::Object;
use super::quirks;
use crate::Error;
use crate::gguf::{Outline, Value};

/// The part of a configuration that is about text, where there are others.
pub(super) fn inner(config: Object) -> Result<Object, Error> {
    Ok(config.object("text_config")?.unwrap_or(config))
}

/// Sets the keys of the family's table, and what a configuration says without numbers.
pub(super) fn write(family: &Family, config: &Object, outline: &mut Outline) -> Result<(), Error> {
    let at = |suffix: &str| format!("{}.{suffix}", family.arch);
    for key in family.keys.iter().copied().flatten() {
        if let Some(value) = value(key, config)? {
            outline.set(&at(key.to), value);
        }
    }
    let first = first_position(family, config)?;
    if first > 0 {
        let all = config.uint("max_position_embeddings")?.unwrap_or(0);
        let left = all.checked_sub(first).filter(|left| *left > 0).ok_or_else(|| {
            config.refuse("max_position_embeddings", "the padding token's id leaves no position")
        })?;
        outline.set(&at("context_length"), uint(config, "max_position_embeddings", left)?);
    }
    if let Some(only) = family.activation
        && activation(config)?.is_some_and(|said| said != only)
    {
        let key = ACTIVATIONS.iter().find(|key| config.get(key).is_some());
        return Err(config.refuse(key.copied().unwrap_or_default(), &format!("only {only}")));
    }
    quirks::write(family, config, outline)?;
    if family.encoder && family.activation.is_some() {
        outline.set(&at("attention.causal"), Value::Bool(false));
    } else if family.encoder {
        outline.set(&at("attention.causal"), Value::Bool(false));
        let kind = config.str("position_embedding_type")?.unwrap_or("absolute");
        if kind != "absolute" {
            return Err(config.refuse("position_embedding_type", "only absolute ones are known"));
        }
        let activation = activation(config)?.unwrap_or("gelu");
        outline.set("ingle.activation", Value::Str(activation.to_owned()));
        let types = config.uint("type_vocab_size")?.unwrap_or(0);
        let types = uint(config, "type_vocab_size", types)?;
        outline.set("tokenizer.ggml.token_type_count", types);
    }
    Ok(())
}

/// The position of a text's first token in the table of positions.
pub(super) fn first_position(family: &Family, config: &Object) -> Result<u64, Error> {
    if !family.positions_behind_padding {
        return Ok(0);
    }
    Ok(config.uint("pad_token_id")?.unwrap_or(1).saturating_add(1))
}

fn value(key: &Key, config: &Object) -> Result<Option<Value>, Error> {
    let found = key.from.iter().find(|name| config.get(name).is_some());
    let Some(name) = found else {
        return match key.or {
            Or::Refused => Err(config.lacks(key.from[0])),
            Or::Nothing => Ok(None),
            Or::Uint(usual) => Ok(Some(Value::U32(usual as u32))),
            Or::Float(usual) => Ok(Some(Value::F32(usual as f32))),
        };
    };
    Ok(match key.kind {
        Kind::Uint => config.uint(name)?.map(|n| uint(config, name, n)).transpose()?,
        Kind::Float => config.float(name)?.map(|x| Value::F32(x as f32)),
        Kind::Flag => config.flag(name)?.map(Value::Bool),
    })
}

/// A count; GGUF files have 32 bits for it.
pub(super) fn uint(config: &Object, key: &str, n: u64) -> Result<Value, Error> {
    u32::try_from(n).map(Value::U32).map_err(|_| config.refuse(key, "too large"))
}

/// What a key for the function is called that bends feed-forward networks. Gemma's newer one counts
/// where both are there.
const ACTIVATIONS: &[&str] =
    &["hidden_activation", "hidden_act", "activation", "activation_function"];

/// What feed-forward networks are bent by, where it is told.
pub(super) fn activation(config: &Object) -> Result<Option<&'static str>, Error> {
    const NAMES: &[(&str, &str)] = &[
        ("gelu", "gelu"),
        ("gelu_python", "gelu"),
        ("gelu_new", "gelu_tanh"),
        ("gelu_fast", "gelu_tanh"),
        ("gelu_pytorch_tanh", "gelu_tanh"),
        ("relu", "relu"),
        ("silu", "silu"),
        ("swish", "silu"),
        ("swiglu", "silu"),
        ("geglu", "gelu"),
    ];
    let Some(key) = ACTIVATIONS.iter().find(|key| config.get(key).is_some()) else {
        return Ok(None);
    };
    let said = config.str(key)?.unwrap_or_default();
    let known = NAMES.iter().find(|(name, _)| *name == said).map(|(_, ours)| *ours);
    known.map(Some).ok_or_else(|| config.refuse(key, "no such function is known"))
}
