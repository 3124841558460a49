//! `ingle train`: what can be learned from labelled rows in seconds.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args as ClapArgs, Subcommand};
use ingle_backend::cpu::pool;
use ingle_data::Fields;
use ingle_heads::{Kind, MOST_FOLDS, Options, Set, Trained, train};
use ingle_model::pull::Reference;
use ingle_protocol::{Vectors, Want};
use serde_json::json;

use super::encoder::{self, ReadArgs, Reader};
use super::report;
use super::rows::{RowArgs, Table, TableArgs};
use crate::ui::{Ui, Usage, duration, size};

/// Train a classifier on rows of your own
#[derive(Debug, ClapArgs)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Train a head over an encoder's vectors, for `ingle classify --head`
    ///
    /// Rows have a text and its label. The encoder turns texts into vectors, and the head learns
    /// to tell labels apart by them: some hundred rows and seconds are enough for much. What is
    /// told of it was measured by cross-validation, on rows that it had not seen; then all rows
    /// train the head that is written.
    #[command(after_long_help = AFTER_HELP)]
    Head(HeadArgs),
}

#[derive(Debug, ClapArgs)]
struct HeadArgs {
    /// Labelled rows: JSON lines, CSV, TSV or Parquet; `-` is standard input [default: standard
    /// input]
    #[arg(value_name = "FILE")]
    files: Vec<String>,

    /// Write the head to this file
    #[arg(short, long, value_name = "FILE", default_value = "head.json")]
    output: PathBuf,

    /// The column that holds the label
    #[arg(long, value_name = "NAME", default_value = "label")]
    label_column: String,

    /// The encoder: a catalogue name, a path, hf:…, pypi:… or npm:…
    #[arg(short, long, value_name = "REF", default_value = encoder::DEFAULT_ENCODER, value_parser = super::reference)]
    model: Reference,

    /// The encoder's own instruction that is put before each text, by name [default: what the
    /// model's files say]
    #[arg(short, long, value_name = "NAME")]
    prompt: Option<String>,

    /// What learns: `logistic` (regression), or `mlp`, a perceptron with one hidden layer
    #[arg(short, long, value_name = "KIND", default_value = "logistic", value_parser = kind)]
    kind: Kind,

    /// Parts of the rows, each judged by what the others trained
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u8).range(2..=MOST_FOLDS as i64))]
    folds: u8,

    /// Hidden units of a perceptron
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    units: u16,

    /// What chance begins with: the same rows and seed give the same head
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Write the reliability plot to this file, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,

    #[command(flatten)]
    table: TableArgs,

    #[command(flatten)]
    read: ReadArgs,
}

const AFTER_HELP: &str = "\
Examples:
  ingle train head labelled.jsonl
  ingle train head tickets.csv --column body --label-column team -o teams.json --plot teams.svg
  ingle train head labelled.jsonl --kind mlp && ingle classify --head head.json new.txt

A line of labelled.jsonl:
  {\"text\": \"The parcel never came.\", \"label\": \"complaint\"}";

fn kind(name: &str) -> Result<Kind, String> {
    Kind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
        let names = Kind::ALL.map(Kind::name);
        format!("there are: {}", names.join(", "))
    })
}

/// Runs the command.
pub(crate) fn run(args: Args, ui: &mut Ui) -> anyhow::Result<()> {
    match args.action {
        Action::Head(args) => head(&args, ui),
    }
}

fn head(args: &HeadArgs, ui: &Ui) -> anyhow::Result<()> {
    let reader = Reader::open(&args.model, &args.read, ui)?;
    let how = Vectors { prompt: args.prompt.clone(), ..Vectors::default() };
    reader.can(&Want::Vector(how.clone()))?;
    let rows = RowArgs {
        files: args.files.clone(),
        output: None,
        overwrite: false,
        table: args.table.clone(),
    };
    let began = Instant::now();
    let (mut vectors, mut labels) = (Vec::new(), Vec::new());
    let mut table = Table::labelled(&rows, &args.label_column, ui)?;
    table.each_batch(encoder::BATCH, |texts, names| {
        let read = reader.vectors(texts, &how)?;
        let rows = read.into_iter().zip(names).map(|(vector, name)| {
            vectors.push(vector?);
            labels.push(name);
            Ok(Fields::new())
        });
        Ok(rows.collect())
    })?;
    let failed = table.failed();
    drop(table);
    let read = began.elapsed();
    let set = Set::new(&vectors, &labels).map_err(|error| Usage(error.to_string()))?;
    drop(vectors);
    let options = Options {
        kind: args.kind,
        folds: args.folds.into(),
        units: args.units.into(),
        seed: args.seed,
        threads: args.read.compute.threads().unwrap_or_else(pool::cores),
    };
    let began = Instant::now();
    let trained = train(&set, reader.name(), args.prompt.as_deref(), &options);
    let trained = trained.map_err(|error| Usage(error.to_string()))?;
    let bytes = write(&args.output, &trained)?;
    ui.note(format_args!(
        "{} rows read in {}, head trained in {} on {} parts",
        labels.len(),
        duration(read),
        duration(began.elapsed()),
        trained.folds
    ));
    let counts = set.counts().into_iter();
    let more = json!({
        "head": args.output.display().to_string(), "kind": args.kind.name(), "failed": failed,
        "folds": trained.folds, "c": trained.head.c(), "encoder": reader.name(),
        "labels": counts.map(|(name, rows)| json!({ "label": name, "rows": rows })).collect::<Vec<_>>(),
    });
    report::show(ui, &trained.calibration, args.plot.as_deref(), more)?;
    let path = args.output.display();
    ui.note(format_args!("{path} ({}): use it with `ingle classify --head {path}`", size(bytes)));
    Ok(())
}

/// Writes a head whole or not at all.
fn write(path: &Path, trained: &Trained) -> anyhow::Result<u64> {
    let text = trained.head.write();
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = path.with_file_name(name);
    let written = std::fs::write(&part, &text).and_then(|()| std::fs::rename(&part, path));
    written.map_err(|error| Usage(format!("{}: {error}", path.display())))?;
    Ok(text.len() as u64)
}
