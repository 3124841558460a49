//! A directory's tensors under the names that GGUF files give them. A tensor that the family's
//! table does not know is refused by name: it would have changed what the model says.

use std::collections::BTreeMap;
use std::path::Path;

use super::change;
use super::config::first_position;
use super::families::{Family, How, Name, Quirk};
use super::heads::Head;
use super::json::Object;
use super::table;
use crate::Error;
use crate::gguf::{Held, Planned};
use crate::safetensors::{self, Stored};

/// What the weights' files are called, before `.safetensors`.
pub(super) const STEM: &str = "model";

/// What changes of tensors depend on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// Rows before the first position's.
    pub(super) first_position: u64,
    /// Layers.
    layers: u64,
    /// Whether the embeddings are the output matrix too.
    tied: bool,
    /// Query heads, and key heads.
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
}

/// No sizes, for what depends on none.
const NO_SIZES: Sizes = Sizes { first_position: 0, layers: 0, tied: false, heads: 0, kv_heads: 0 };

impl Sizes {
    fn of(family: &Family, config: &Object) -> Result<Self, Error> {
        let count = |keys: &[&str]| {
            let found = keys.iter().find_map(|key| config.uint(key).transpose());
            found.transpose().map(|found| found.unwrap_or(0))
        };
        let heads = count(&["num_attention_heads"])?;
        Ok(Self {
            first_position: first_position(family, config)?,
            layers: count(&["num_hidden_layers", "n_layers", "n_layer"])?,
            tied: config.flag("tie_word_embeddings")?.unwrap_or(family.tied),
            heads: heads as usize,
            kv_heads: config.uint("num_key_value_heads")?.unwrap_or(heads) as usize,
        })
    }
}

/// A tensor in the making: what is done, to what, in which order.
#[derive(Debug)]
struct Making {
    how: How,
    parts: BTreeMap<usize, Stored>,
}

/// All tensors that are needed.
pub(super) fn read(
    base: &Path,
    family: &'static Family,
    head: Head,
    config: &Object,
) -> Result<Vec<(Planned, Held)>, Error> {
    if family.quirks.contains(&Quirk::Table) {
        return table::read(base);
    }
    let Some(stored) = safetensors::open_set(base, STEM)? else {
        return Err(lacking(base));
    };
    let sizes = Sizes::of(family, config)?;
    let mut making: BTreeMap<String, Making> = BTreeMap::new();
    for (name, stored) in stored {
        if family.ignored.iter().any(|part| name.starts_with(part)) {
            continue;
        }
        for (row, found) in rows(family, &name, sizes.layers)? {
            let wanted = head.needs(row.when) && !(row.how == How::Untied && sizes.tied);
            if row.to.is_empty() || !wanted {
                continue;
            }
            let making = making
                .entry(found.target(row, &name))
                .or_insert_with(|| Making { how: row.how, parts: BTreeMap::new() });
            let part = if let How::MxScales(_) = row.how { 1 } else { found.part };
            if making.parts.insert(part, stored.clone()).is_some() {
                return Err(Error::Unsupported(format!("tensor {name} is there twice")));
            }
        }
    }
    let made = making.into_iter().map(|(name, Making { how, parts })| {
        let parts: Vec<Stored> = in_a_row(&name, parts)?;
        change::make(name, how, &parts, &sizes)
    });
    made.collect()
}

/// Why there are no weights.
pub(super) fn lacking(base: &Path) -> Error {
    let pickled = ["pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt"];
    let hint = match pickled.iter().find(|file| base.join(file).exists()) {
        Some(file) => format!(
            ": {file} is a program in Python's pickle format, which Ingle does not run; fetch the \
             model's safetensors files, or save it as such"
        ),
        None => String::new(),
    };
    let place = base.join(format!("{STEM}.safetensors"));
    Error::Missing(format!("{}{hint}", place.display()))
}

/// A tensor as it is, under another name.
pub(super) fn as_it_is(name: String, stored: &Stored) -> Result<(Planned, Held), Error> {
    change::make(name, How::As, std::slice::from_ref(stored), &NO_SIZES)
}

/// Numbers in a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Found<'a> {
    layer: Option<usize>,
    /// Which part of its target it is.
    part: usize,
    /// What follows the row's name: `weight` or `bias`, or nothing.
    kind: &'a str,
}

impl Found<'_> {
    /// The name in a GGUF file.
    fn target(&self, row: &Name, name: &str) -> String {
        let layer = self.layer.map_or_else(String::new, |layer| layer.to_string());
        let to = row.to.replace("{}", &layer);
        debug_assert!(!to.contains('{'), "{name}");
        if self.kind.is_empty() { to } else { format!("{to}.{}", self.kind) }
    }
}

/// The rows that a tensor belongs to.
fn rows<'a>(
    family: &'static Family,
    name: &'a str,
    layers: u64,
) -> Result<Vec<(&'static Name, Found<'a>)>, Error> {
    let bare = family.prefixes.iter().filter_map(|prefix| name.strip_prefix(prefix));
    let mut found = Vec::new();
    for name in std::iter::once(name).chain(bare) {
        let rows = family.names.iter().copied().flatten();
        found.extend(rows.filter_map(|row| Some((row, match_row(row.from, name)?))));
        if !found.is_empty() {
            break;
        }
    }
    if found.is_empty() {
        return Err(Error::Unsupported(format!(
            "tensor {name} is not known of `{}`; Ingle would leave out a part of the model",
            family.types[0]
        )));
    }
    match found[0].1.layer {
        Some(layer) if layer as u64 >= layers => Err(Error::Unsupported(format!(
            "tensor {name} is of a layer that the configuration does not count ({layers} layers)"
        ))),
        _ => Ok(found),
    }
}

/// Whether a name is what a row says; its last part may be missing there.
fn match_row<'a>(row: &str, name: &'a str) -> Option<Found<'a>> {
    // Older files call a norm's factor and summand so.
    const KINDS: &[(&str, &str)] =
        &[(".weight", "weight"), (".bias", "bias"), (".gamma", "weight"), (".beta", "bias")];
    if let Some(found) = numbers(row, name) {
        return Some(found);
    }
    KINDS.iter().find_map(|(end, kind)| {
        let found = numbers(row, name.strip_suffix(end)?)?;
        Some(Found { kind, ..found })
    })
}

/// The numbers in the places of `{}` (a layer) and `{e}` (a part), where all else is the same.
fn numbers<'a>(row: &str, name: &str) -> Option<Found<'a>> {
    let mut found = Found::default();
    let (mut row, mut name) = (row, name);
    while let Some(open) = row.find('{') {
        let rest = name.strip_prefix(&row[..open])?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: usize = rest[..digits].parse().ok()?;
        let close = row[open..].find('}')? + open + 1;
        match &row[open..close] {
            "{}" => found.layer = Some(number),
            _ => found.part = number,
        }
        (row, name) = (&row[close..], &rest[digits..]);
    }
    (row == name).then_some(found)
}

/// Parts in their order, none missing.
fn in_a_row(name: &str, parts: BTreeMap<usize, Stored>) -> Result<Vec<Stored>, Error> {
    if !parts.keys().copied().eq(0..parts.len()) {
        return Err(Error::Missing(format!("parts of {name}; there are {}", parts.len())));
    }
    Ok(parts.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_matched_with_their_numbers() {
        let check = |row: &str, name: &str, expect: Option<(Option<usize>, usize, &str)>| {
            let found = match_row(row, name);
            let found = found.map(|found| (found.layer, found.part, found.kind));
            assert_eq!(found, expect, "{row} {name}");
        };
        check("a.norm", "a.norm.weight", Some((None, 0, "weight")));
        check("a.norm", "a.norm.beta", Some((None, 0, "bias")));
        check("a.norm.bias", "a.norm.bias", Some((None, 0, "")));
        check("a.norm", "a.norm.weight_scale", None);
        check("a.{}.q", "a.12.q.bias", Some((Some(12), 0, "bias")));
        check("a.{}.q", "a..q.bias", None);
        check("a.{}.q", "a.x.q.bias", None);
        check("a.{}.q", "a.99999999999999999999999.q.bias", None);
        check("a.{}.e.{e}.up", "a.3.e.7.up.weight", Some((Some(3), 7, "weight")));
        check("a", "b", None);
    }
}
