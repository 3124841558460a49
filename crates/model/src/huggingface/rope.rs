//! How positions are rotated, from either place where configurations say it (`rope_parameters`, or
//! `rope_theta` and `rope_scaling`) to a GGUF file's keys and lists of divisors. Formulas are those
//! of `transformers` (`modeling_rope_utils.py`).

use std::f64::consts::TAU;

use super::config::uint;
use super::families::{Family, Quirk};
use super::json::Object;
use crate::Error;
use crate::gguf::{Held, Outline, Planned, Value};
use ingle_backend::{Bytes, Format};

/// The most divisors; a head's pairs.
const MAX_PAIRS: usize = 1 << 16;

/// What a configuration says of how positions are rotated.
struct Rope {
    base: f64,
    kind: String,
    /// Where the rest stands.
    said: Object,
}

impl Rope {
    /// Of all layers, or of those that see everything.
    fn read(config: &Object) -> Result<Self, Error> {
        let told = match config.object("rope_parameters")? {
            Some(all) => all.object("full_attention")?.or(Some(all)),
            None => config.object("rope_scaling")?,
        };
        let said = told.unwrap_or_default();
        let base = match said.float("rope_theta")? {
            Some(base) => base,
            None => {
                let named = config.float("rope_theta")?.or(config.float("global_rope_theta")?);
                named.unwrap_or(default_base(config))
            }
        };
        let kind = said.str("rope_type")?.or(said.str("type")?).unwrap_or("default").to_owned();
        Ok(Self { base, kind, said })
    }

    fn number(&self, key: &str) -> Result<f64, Error> {
        self.said.float(key)?.ok_or_else(|| self.said.lacks(key))
    }

    /// The context that a model was first trained for, from either place.
    fn trained(&self, config: &Object) -> Result<u64, Error> {
        let key = "original_max_position_embeddings";
        let said = self.said.uint(key)?.or(config.uint(key)?);
        said.or(config.uint("max_position_embeddings")?).ok_or_else(|| config.lacks(key))
    }
}

/// What `transformers` takes where a configuration says nothing.
fn default_base(config: &Object) -> f64 {
    match config.str("model_type").ok().flatten() {
        Some("gemma3_text") => 1e6,
        Some("modernbert") => 1.6e5,
        _ => 1e4,
    }
}

/// The width of a head, and how many of its floats are rotated.
fn widths(rope: &Rope, config: &Object) -> Result<(u64, u64), Error> {
    let heads = config.uint("num_attention_heads")?.unwrap_or(8).max(1);
    let plain = config.uint("hidden_size")?.unwrap_or(0) / heads;
    let head = config.uint("head_dim")?.unwrap_or(plain);
    let key = "partial_rotary_factor";
    let part = rope.said.float(key)?.or(config.float(key)?).unwrap_or(1.0);
    if !(0.0..=1.0).contains(&part) {
        return Err(config.refuse(key, "from 0 to 1"));
    }
    Ok((head, (head as f64 * part) as u64))
}

/// Sets the keys of all layers, or of those that see everything.
pub(super) fn write(family: &Family, config: &Object, outline: &mut Outline) -> Result<(), Error> {
    let rope = Rope::read(config)?;
    let at = |suffix: &str| format!("{}.rope.{suffix}", family.arch);
    outline.set(&at("freq_base"), Value::F32(rope.base as f32));
    let (head, rotated) = widths(&rope, config)?;
    if rotated != head {
        outline.set(&at("dimension_count"), uint(config, "partial_rotary_factor", rotated)?);
    }
    let trained = |rope: &Rope| {
        let trained = rope.trained(config)?;
        uint(config, "original_max_position_embeddings", trained)
    };
    let kind = |outline: &mut Outline, kind: &str| {
        outline.set(&at("scaling.type"), Value::Str(kind.to_owned()));
    };
    match rope.kind.as_str() {
        "default" | "llama3" => {}
        "linear" => {
            kind(outline, "linear");
            outline.set(&at("scaling.factor"), Value::F32(rope.number("factor")? as f32));
        }
        "yarn" => {
            check_yarn(family, &rope)?;
            kind(outline, "yarn");
            outline.set(&at("scaling.factor"), Value::F32(rope.number("factor")? as f32));
            outline.set(&at("scaling.original_context_length"), trained(&rope)?);
            for (from, to) in [("beta_fast", "yarn_beta_fast"), ("beta_slow", "yarn_beta_slow")] {
                if let Some(beta) = rope.said.float(from)? {
                    outline.set(&at(&format!("scaling.{to}")), Value::F32(beta as f32));
                }
            }
        }
        "longrope" | "su" if family.quirks.contains(&Quirk::LongRope) => {
            kind(outline, "longrope");
            outline.set(&at("scaling.original_context_length"), trained(&rope)?);
            let attention = Value::F32(long_attention(&rope, config)? as f32);
            outline.set(&at("scaling.attn_factor"), attention);
        }
        other => {
            let why = format!("rope scaling of type `{other}` is not supported");
            return Err(Error::Unsupported(format!("{}: {why}", config.file)));
        }
    }
    Ok(())
}

/// Refuses what YaRN can be told beside what GGUF files have keys for.
fn check_yarn(family: &Family, rope: &Rope) -> Result<(), Error> {
    for key in ["attention_factor", "mscale", "mscale_all_dim"] {
        if rope.said.get(key).is_some() {
            return Err(rope.said.refuse(key, "not supported; YaRN's own factor is"));
        }
    }
    let rounded = rope.said.flag("truncate")?.unwrap_or(true);
    if rounded == family.quirks.contains(&Quirk::UnroundedYarn) {
        return Err(rope.said.refuse("truncate", &format!("only {} is supported", !rounded)));
    }
    Ok(())
}

/// What LongRoPE multiplies cosines and sines by.
fn long_attention(rope: &Rope, config: &Object) -> Result<f64, Error> {
    if let Some(said) = rope.said.float("attention_factor")? {
        return Ok(said);
    }
    let trained = rope.trained(config)? as f64;
    let longest = config.uint("max_position_embeddings")?.unwrap_or(0) as f64;
    let factor = rope.said.float("factor")?.unwrap_or(longest / trained);
    Ok(if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / trained.ln()).sqrt() })
}

/// Sets the base of layers with a window.
pub(super) fn write_local(
    family: &Family,
    config: &Object,
    outline: &mut Outline,
) -> Result<(), Error> {
    let local = config.object("rope_parameters")?.map(|all| all.object("sliding_attention"));
    let local = local.transpose()?.flatten().unwrap_or_default();
    let base = match local.float("rope_theta")? {
        Some(base) => base,
        None => {
            let named = config.float("rope_local_base_freq")?;
            named.or(config.float("local_rope_theta")?).unwrap_or(1e4)
        }
    };
    if local.str("rope_type")?.is_some_and(|kind| kind != "default") {
        return Err(local.refuse("rope_type", "not supported in layers with a window"));
    }
    outline.set(&format!("{}.rope.freq_base_swa", family.arch), Value::F32(base as f32));
    Ok(())
}

/// Lists of divisors of the frequencies, as tensors of a GGUF file.
pub(super) fn divisors(family: &Family, config: &Object) -> Result<Vec<(Planned, Held)>, Error> {
    if !family.quirks.contains(&Quirk::Rope) {
        return Ok(Vec::new());
    }
    let rope = Rope::read(config)?;
    let (_, rotated) = widths(&rope, config)?;
    let pairs = (rotated / 2) as usize;
    if pairs > MAX_PAIRS {
        return Err(config.refuse("head_dim", "too large"));
    }
    match rope.kind.as_str() {
        "llama3" => Ok(vec![vector("rope_freqs.weight", &llama3(&rope, pairs)?)]),
        "longrope" | "su" => [("short_factor", "short"), ("long_factor", "long")]
            .into_iter()
            .map(|(key, to)| {
                let list = rope.said.list(key)?.ok_or_else(|| rope.said.lacks(key))?;
                let numbers: Option<Vec<f32>> =
                    list.iter().map(|x| x.as_f64().map(|x| x as f32)).collect();
                let numbers = numbers.filter(|numbers| numbers.len() == pairs);
                let why = format!("not {pairs} numbers");
                let numbers = numbers.ok_or_else(|| rope.said.refuse(key, &why))?;
                Ok(vector(&format!("rope_factors_{to}.weight"), &numbers))
            })
            .collect(),
        _ => Ok(Vec::new()),
    }
}

fn vector(name: &str, numbers: &[f32]) -> (Planned, Held) {
    let shape = vec![numbers.len() as u64];
    let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
    let planned = Planned { name: name.to_owned(), shape, format: Format::F32 };
    (planned, Held::stored_as(Bytes::from(bytes)))
}

/// What Llama 3.1 divides each frequency by: nothing where waves are short, the factor where they
/// are long, and between in proportion.
fn llama3(rope: &Rope, pairs: usize) -> Result<Vec<f32>, Error> {
    let factor = rope.number("factor")?;
    let (low, high) = (rope.number("low_freq_factor")?, rope.number("high_freq_factor")?);
    let trained = rope.number("original_max_position_embeddings")?;
    let divisor = |i: usize| {
        let turns = trained * rope.base.powf(-(i as f64) / pairs as f64) / TAU;
        if turns > high {
            return 1.0;
        }
        if turns < low {
            return factor as f32;
        }
        let smooth = (turns - low) / (high - low);
        ((1.0 - smooth) / factor + smooth).recip() as f32
    };
    Ok((0..pairs).map(divisor).collect())
}
