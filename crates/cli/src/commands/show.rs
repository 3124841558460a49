//! `ingle show`: what is in a model file, without loading its weights.

use std::path::Path;

use anyhow::Context;
use clap::Args as ClapArgs;
use ingle_model::catalogue;
use ingle_model::gguf::{Gguf, TensorInfo, Value, optional};
use ingle_model::pull::{Manifest, Reference, Store};
use serde_json::{Map, Value as Json, json};

use crate::ui::{Style, Ui, count, size};

/// The longest metadata value that a person is shown, in characters.
const MAX_SHOWN: usize = 100;

/// Show what is in a model file
///
/// Reads the file's head only, so it is quick for a model of any size, and fetches nothing.
#[derive(Debug, ClapArgs)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Args {
    /// A model in the store, or a path
    #[arg(value_name = "REF", value_parser = super::reference)]
    reference: Reference,

    /// Also show every metadata entry
    #[arg(long)]
    metadata: bool,

    /// Also show every tensor
    #[arg(long)]
    tensors: bool,
}

const AFTER_HELP: &str = "\
Examples:
  ingle show smollm2
  ingle show ./model.gguf --metadata
  ingle show smollm2 --tensors --json | jq '.tensors[0]'";

/// Runs the command.
pub(crate) fn run(args: Args, ui: &mut Ui) -> anyhow::Result<()> {
    let store = Store::open_default()?;
    let manifest = store.lookup(&args.reference)?.map(|entry| entry.manifest);
    let named = args.reference.to_string();
    let path = store.find(&named).with_context(|| missing(&args.reference))?;
    let file = Gguf::open(&path).with_context(|| path.display().to_string())?;
    let facts = facts(&file, &path, manifest.as_ref())?;
    if ui.json {
        return ui.object(&object(&file, facts, &args));
    }
    let width = facts.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
    for (name, shown, _) in &facts {
        let name = ui.paint_out(Style::Dim, format_args!("{:<width$}", name.replace('_', " ")));
        ui.line(format_args!("{name}  {shown}"))?;
    }
    if args.metadata {
        ui.line("")?;
        let rows = file
            .metadata()
            .map(|(key, value)| vec![clean(key), value.type_name().into(), clean(&short(value))]);
        table(ui, ["KEY", "TYPE", "VALUE"], rows)?;
    }
    if args.tensors {
        ui.line("")?;
        let rows = file.tensors().iter().map(|tensor| {
            let shape: Vec<String> = tensor.shape.iter().map(ToString::to_string).collect();
            vec![clean(&tensor.name), tensor.type_name().into_owned(), shape.join(" × ")]
        });
        table(ui, ["TENSOR", "FORMAT", "SHAPE"], rows)?;
    }
    Ok(())
}

fn missing(reference: &Reference) -> String {
    match reference {
        Reference::Path(path) => format!("there is no model at {}", path.display()),
        Reference::Name(name) if catalogue::find(name).is_none() => {
            format!("there is no model {name} here\nhint: `ingle list` names those that are")
        }
        other => format!("there is no model {other} here\nhint: `ingle pull {other}` fetches it"),
    }
}

fn table(
    ui: &Ui,
    heading: [&str; 3],
    rows: impl Iterator<Item = Vec<String>>,
) -> anyhow::Result<()> {
    let rows: Vec<Vec<String>> =
        std::iter::once(heading.map(Into::into).to_vec()).chain(rows).collect();
    ui.table(&rows, &[])
}

/// One fact: its name, how a person reads it, how a program does.
type Fact = (&'static str, String, Json);

fn facts(file: &Gguf, path: &Path, manifest: Option<&Manifest>) -> anyhow::Result<Vec<Fact>> {
    let mut facts: Vec<Fact> = Vec::new();
    let mut text = |name, value: Option<&str>| {
        facts.extend(value.map(|value| (name, clean(value), value.into())));
    };
    let get = |key: &str| optional(file.str(key));
    text("name", manifest.map(|manifest| manifest.name.as_str()));
    text("file", Some(&path.display().to_string()));
    text("title", get("general.name")?);
    let licence = manifest.and_then(|manifest| manifest.licence.as_deref());
    text("licence", licence.or(get("general.license")?));
    text("source", manifest.map(|manifest| manifest.source.as_str()));
    text("sha256", manifest.map(|manifest| manifest.sha256.as_str()));
    text("architecture", Some(file.arch()));
    text("tokenizer", get("tokenizer.ggml.model")?);
    text("pre_tokenizer", get("tokenizer.ggml.pre")?);

    let bytes = match std::fs::metadata(path)? {
        about if about.is_dir() => file.stored().map(|weights| weights.len() as u64).sum(),
        about => about.len(),
    };
    facts.push(("size", size(bytes), bytes.into()));
    let parameters = file.tensors().iter().map(|tensor| {
        tensor.shape.iter().fold(1_u64, |product, length| product.saturating_mul(*length))
    });
    let parameters = parameters.fold(0, u64::saturating_add);
    facts.push(("parameters", count(parameters), parameters.into()));
    facts.extend(bits_per_weight(file));
    let numbers = [
        ("context", "context_length", " tokens"),
        ("layers", "block_count", ""),
        ("embedding", "embedding_length", ""),
        ("heads", "attention.head_count", ""),
        ("kv_heads", "attention.head_count_kv", ""),
    ];
    for (name, key, unit) in numbers {
        // Some architectures have one number a layer here; those stand in --metadata.
        if let Ok(number) = file.uint(&file.key(key)) {
            facts.push((name, format!("{number}{unit}"), number.into()));
        }
    }
    if let Some(tokens) = optional(file.strs("tokenizer.ggml.tokens"))? {
        facts.push(("vocabulary", format!("{} tokens", tokens.len()), tokens.len().into()));
    }
    let template = file.get("tokenizer.chat_template").is_some();
    let shown = if template { "yes" } else { "no; for plain completion" };
    facts.push(("chat_template", shown.into(), template.into()));
    facts.push(formats(file));
    Ok(facts)
}

/// Bits that a weight takes in the mean, scales included; nothing where a format is not known.
fn bits_per_weight(file: &Gguf) -> Option<Fact> {
    let known = file.tensors().iter().all(|tensor| tensor.format.is_some());
    let sum = |of: fn(&TensorInfo) -> u64| file.tensors().iter().map(of).map(|n| n as f64).sum();
    let (bytes, weights): (f64, f64) =
        (sum(|tensor| tensor.bytes), sum(|tensor| tensor.shape.iter().product()));
    let bits = 8.0 * bytes / weights;
    (known && bits.is_finite()).then(|| ("bits_per_weight", format!("{bits:.2}"), bits.into()))
}

/// How many bytes each storage format takes, the most first.
fn formats(file: &Gguf) -> Fact {
    let mut sums: Vec<(String, u64)> = Vec::new();
    for tensor in file.tensors() {
        let name = tensor.type_name();
        match sums.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += tensor.bytes,
            None => sums.push((name.into_owned(), tensor.bytes)),
        }
    }
    sums.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let shown: Vec<String> =
        sums.iter().map(|(name, sum)| format!("{name} {}", size(*sum))).collect();
    let object: Map<String, Json> =
        sums.into_iter().map(|(name, sum)| (name, sum.into())).collect();
    ("formats", shown.join(", "), object.into())
}

fn object(file: &Gguf, facts: Vec<Fact>, args: &Args) -> Json {
    let facts = facts.into_iter().map(|(name, _, value)| (name.to_string(), value));
    let mut object: Map<String, Json> = facts.collect();
    if args.metadata {
        let entries = file.metadata().map(|(key, value)| (key.to_string(), scalar(value)));
        object.insert("metadata".into(), Json::Object(entries.collect()));
    }
    if args.tensors {
        let tensors = file.tensors().iter().map(|tensor| {
            json!({
                "name": tensor.name,
                "format": tensor.type_name(),
                "shape": tensor.shape,
                "offset": tensor.offset,
                "bytes": tensor.bytes,
            })
        });
        object.insert("tensors".into(), tensors.collect());
    }
    Json::Object(object)
}

/// A metadata value as JSON; of an array only its length.
pub(crate) fn scalar(value: &Value) -> Json {
    match value {
        Value::Array(array) => json!({ "length": array.len() }),
        Value::Bool(bool) => (*bool).into(),
        Value::Str(text) => text.as_str().into(),
        // By way of text, so that 0.1 does not become 0.10000000149011612.
        Value::F32(number) => number.to_string().parse::<f64>().ok().into(),
        Value::F64(number) => json!(number),
        Value::U64(number) => (*number).into(),
        other => other.as_integer().and_then(|number| i64::try_from(number).ok()).into(),
    }
}

/// A metadata value for a person.
fn short(value: &Value) -> String {
    let text = match value {
        Value::Array(array) => format!("({} entries)", array.len()),
        Value::Str(text) => text.clone(),
        other => scalar(other).to_string(),
    };
    if text.chars().count() <= MAX_SHOWN {
        return text;
    }
    let length = text.chars().count();
    let head: String = text.chars().take(MAX_SHOWN).collect();
    format!("{head}… ({length} characters)")
}

/// Text of a file with its control characters escaped: it must not steer the terminal.
fn clean(text: &str) -> String {
    text.chars().fold(String::new(), |mut clean, c| {
        if c.is_control() {
            clean.extend(c.escape_debug())
        } else {
            clean.push(c)
        }
        clean
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_says_does_not_steer_the_terminal() {
        assert_eq!(clean("a\u{1b}[2Jb\nc\u{9b}é"), "a\\u{1b}[2Jb\\nc\\u{9b}é");
        let long = short(&Value::Str("x".repeat(500)));
        assert!(long.ends_with("… (500 characters)"), "{long}");
    }
}
