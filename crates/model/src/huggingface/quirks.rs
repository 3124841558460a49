//! What is peculiar to an architecture's configuration, as its row lists it: what has a name in
//! GGUF files, and what its graph can only have in one way, so that another is refused.

use super::config::{self, uint};
use super::families::{Family, Quirk};
use super::json::Object;
use super::{rope, table};
use crate::Error;
use crate::gguf::Outline;

/// Sets and checks what the family's row lists.
pub(super) fn write(family: &Family, config: &Object, outline: &mut Outline) -> Result<(), Error> {
    for quirk in family.quirks {
        match quirk {
            Quirk::Rope => rope::write(family, config, outline)?,
            Quirk::LocalRope => rope::write_local(family, config, outline)?,
            Quirk::NoWindow => no_window(family, config, outline)?,
            Quirk::Windows(pattern) => windows(*pattern, config)?,
            Quirk::Scale(layers) => scale(*layers, config)?,
            Quirk::Clamped => clamped(config)?,
            Quirk::Table => table::write(config, outline)?,
            Quirk::Nomic => nomic(family, config, outline)?,
            Quirk::LongRope | Quirk::UnroundedYarn => {} // what rotates knows of it
        }
    }
    Ok(())
}

/// Where layers have a window that the graph has not, a context no longer than that is the same.
fn no_window(family: &Family, config: &Object, outline: &mut Outline) -> Result<(), Error> {
    if config.flag("use_sliding_window")? == Some(false) {
        return Ok(());
    }
    let Some(window) = config.uint("sliding_window")?.filter(|window| *window > 0) else {
        return Ok(());
    };
    let context = config.uint("max_position_embeddings")?.unwrap_or(window);
    let length = uint(config, "sliding_window", window.min(context))?;
    outline.set(&format!("{}.context_length", family.arch), length);
    Ok(())
}

/// Which layers have a window: all but the last of each `pattern`.
fn windows(pattern: usize, config: &Object) -> Result<(), Error> {
    for key in ["sliding_window_pattern", "_sliding_window_pattern"] {
        if config.uint(key)?.is_some_and(|said| said != pattern as u64) {
            return Err(config.refuse(key, &format!("only {pattern} is supported")));
        }
    }
    let Some(layers) = config.list("layer_types")? else { return Ok(()) };
    let right = layers.iter().enumerate().all(|(i, layer)| {
        let full = i % pattern == pattern - 1;
        layer.as_str() == Some(if full { "full_attention" } else { "sliding_attention" })
    });
    if right {
        return Ok(());
    }
    let why = format!("only a full layer behind each {} with a window is supported", pattern - 1);
    Err(config.refuse("layer_types", &why))
}

/// What scores are divided by the root of: a head's width, or in one size the model's by its heads.
fn scale(layers: u64, config: &Object) -> Result<(), Error> {
    let key = "query_pre_attn_scalar";
    let Some(said) = config.float(key)? else { return Ok(()) };
    let number = |key: &str, usual: u64| Ok::<_, Error>(config.uint(key)?.unwrap_or(usual));
    let expect = if number("num_hidden_layers", 0)? == layers {
        number("hidden_size", 0)? / number("num_attention_heads", 8)?.max(1)
    } else {
        number("head_dim", 256)?
    };
    if said == expect as f64 {
        return Ok(());
    }
    Err(config.refuse(key, &format!("only {expect} is supported")))
}

fn clamped(config: &Object) -> Result<(), Error> {
    match config.float("swiglu_limit")? {
        None | Some(7.0) => Ok(()),
        Some(_) => Err(config.refuse("swiglu_limit", "only 7 is supported")),
    }
}

/// What Nomic's own code can be told, and its graph has in one way alone.
fn nomic(family: &Family, config: &Object, outline: &mut Outline) -> Result<(), Error> {
    if config::activation(config)?.is_some_and(|said| said != "silu") {
        let why = format!("{}: only a gate of SiLU is supported", config.file);
        return Err(Error::Unsupported(why));
    }
    if config.get("rope_parameters").is_some() {
        rope::write(family, config, outline)?;
    }
    for (key, only) in [("prenorm", false), ("rotary_emb_interleaved", false)] {
        if config.flag(key)?.is_some_and(|said| said != only) {
            return Err(config.refuse(key, &format!("only {only} is supported")));
        }
    }
    if config.float("rotary_emb_fraction")?.is_some_and(|part| part != 1.0) {
        return Err(config.refuse("rotary_emb_fraction", "only 1 is supported"));
    }
    if config.get("rotary_emb_scale_base").is_some() {
        return Err(config.refuse("rotary_emb_scale_base", "not supported"));
    }
    // Longer texts would be rotated by other frequencies.
    if config.get("rotary_scaling_factor").is_some()
        && let Some(trained) = config.uint("max_trained_positions")?
    {
        let length = uint(config, "max_trained_positions", trained)?;
        outline.set(&format!("{}.context_length", family.arch), length);
    }
    Ok(())
}
