//! `ingle embed`: rows in, vectors out.

use clap::Args as ClapArgs;
use ingle_data::{Fields, vector};
use ingle_model::pull::Reference;
use ingle_protocol::{Vectors, Want};
use serde_json::json;

use super::encoder::{self, ReadArgs, Reader};
use super::rows::{Plan, RowArgs, Table};
use crate::ui::Ui;

/// Turn texts into vectors
///
/// Each row gets a column `embedding`, a list of floats. Texts that mean the like have vectors that
/// point in like directions. Rows come from lines, JSON lines, CSV, TSV or Parquet, and keep their
/// order; one that fails has an `error` and loses no other.
///
/// With --output, Ctrl-C or a crash loses nothing: the same command goes on where it was.
#[derive(Debug, ClapArgs)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Args {
    #[command(flatten)]
    rows: RowArgs,

    /// The encoder: a catalogue name, a path, hf:…, pypi:… or npm:…
    #[arg(short, long, value_name = "REF", default_value = encoder::DEFAULT_ENCODER, value_parser = super::reference)]
    model: Reference,

    /// Only the first N floats, normalised again; for models that were trained for it
    #[arg(long, value_name = "N")]
    dimensions: Option<u32>,

    /// The model's own instruction that is put before each text, by name: often `query` or
    /// `document` [default: what the model's files say]
    #[arg(short, long, value_name = "NAME")]
    prompt: Option<String>,

    /// Leave vectors as long as they come [default: what the model's files say]
    #[arg(long)]
    no_normalise: bool,

    #[command(flatten)]
    read: ReadArgs,
}

const AFTER_HELP: &str = "\
Examples:
  ingle embed notes.txt > vectors.jsonl
  ingle embed tickets.csv --column body -o tickets.parquet
  zcat big.jsonl.gz | ingle embed --format jsonl --results-only -o vectors.parquet
  ingle embed questions.txt --prompt query -m nomic.gguf

Exit codes:
  0    every row has its vector
  1    some have none; which and why is on standard error and in their `error`";

/// Runs the command.
pub(crate) fn run(args: Args, ui: &mut Ui) -> anyhow::Result<()> {
    let reader = Reader::open(&args.model, &args.read, ui)?;
    let vectors = Vectors {
        dimensions: args.dimensions,
        normalise: args.no_normalise.then_some(false),
        prompt: args.prompt,
    };
    reader.can(&Want::Vector(vectors.clone()))?;
    let task = json!({
        "command": "embed", "reader": reader.task(), "dimensions": vectors.dimensions,
        "prompt": vectors.prompt, "normalise": vectors.normalise,
    });
    let plan = Plan { task, added: &["embedding"] };
    let mut table = Table::open(&args.rows, &plan, ui)?;
    table.each_batch(encoder::BATCH, |texts, _| {
        let read = reader.vectors(texts, &vectors)?;
        let row = |floats: Vec<f32>| Fields::from_iter([("embedding".into(), vector(&floats))]);
        Ok(read.into_iter().map(|one| one.map(row)).collect())
    })?;
    table.finish()
}
