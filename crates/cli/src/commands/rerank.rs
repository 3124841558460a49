//! `ingle rerank`: how well texts answer a query, best first.

use clap::Args as ClapArgs;
use ingle_data::Fields;
use ingle_model::pull::Reference;
use ingle_protocol::{Passage, Reads, Vectors, Want};
use serde_json::json;

use super::encoder::{self, ReadArgs, Reader};
use super::rows::{Plan, RowArgs, Table};
use crate::ui::{Ui, Usage};

/// Order texts by how well they answer a query
///
/// Each row gets a `score`, higher being better. A reranker reads the query and a text together
/// and says how likely the one answers the other, 0 to 1; with any other encoder the score is the
/// cosine of their vectors.
///
/// Rows are written best first. With --output they keep the order in which they were read, so that
/// Ctrl-C or a crash loses nothing: the same command goes on where it was.
#[derive(Debug, ClapArgs)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Args {
    /// What is asked
    #[arg(short = 'Q', long, value_name = "TEXT")]
    query: String,

    /// Write only the best N rows
    #[arg(short = 'n', long, value_name = "N", conflicts_with = "output")]
    top: Option<usize>,

    #[command(flatten)]
    rows: RowArgs,

    /// The reranker, or another encoder: a catalogue name, a path, hf:…, pypi:… or npm:…
    #[arg(short, long, value_name = "REF", default_value = encoder::DEFAULT_ENCODER, value_parser = super::reference)]
    model: Reference,

    #[command(flatten)]
    read: ReadArgs,
}

const AFTER_HELP: &str = "\
Examples:
  ingle rerank --query \"how do I reset my password\" faq.txt --top 3
  ingle rerank --query \"refund\" tickets.csv --column body -o scored.csv
  ingle rerank --query \"late delivery\" mails.jsonl -m ./bge-reranker --json

Exit codes:
  0    every row has its score
  1    some have none; which and why is on standard error and in their `error`";

/// The column that is added.
const SCORE: &str = "score";

/// How texts are scored.
enum Scorer<'a> {
    /// By the model's own head.
    Head(&'a str),
    /// By the cosine with the query's vector.
    Cosine(Vec<f32>, Vectors),
}

/// Runs the command.
pub(crate) fn run(args: Args, ui: &mut Ui) -> anyhow::Result<()> {
    let reader = Reader::open(&args.model, &args.read, ui)?;
    let scorer = scorer(&reader, &args.query)?;
    let task = json!({ "command": "rerank", "reader": reader.task(), "query": args.query });
    let plan = Plan { task, added: &[SCORE] };
    let mut table = Table::open(&args.rows, &plan, ui)?;
    if args.rows.output.is_none() {
        table = table.sort_by(SCORE, args.top);
    }
    table.each_batch(encoder::BATCH, |texts, _| {
        let row = |score: f64| Fields::from_iter([(SCORE.to_owned(), score.into())]);
        let scores = scorer.scores(&reader, texts)?;
        Ok(scores.into_iter().map(|one| one.map(row)).collect())
    })?;
    table.finish()
}

fn scorer<'a>(reader: &Reader, query: &'a str) -> anyhow::Result<Scorer<'a>> {
    let Reads { labels, dimensions, prompts, .. } = reader.reads();
    if labels.len() == 1 {
        return Ok(Scorer::Head(query));
    }
    if *dimensions == 0 {
        let name = reader.name();
        let why = format!("`{name}` makes neither scores of pairs nor vectors: name a reranker");
        return Err(Usage(why).into());
    }
    let named = |name: &str| prompts.iter().find(|prompt| *prompt == name).cloned();
    let vectors =
        |name: &str| Vectors { prompt: named(name), normalise: Some(true), ..Vectors::default() };
    reader.can(&Want::Vector(vectors("query")))?;
    let read = reader.vectors(vec![query.to_owned()], &vectors("query"))?;
    let vector = read.into_iter().next().unwrap_or_else(|| Err("nothing was read".to_owned()));
    let vector = vector.map_err(|why| Usage(format!("the query: {why}")))?;
    Ok(Scorer::Cosine(vector, vectors("document")))
}

impl Scorer<'_> {
    fn scores(
        &self,
        reader: &Reader,
        texts: Vec<String>,
    ) -> anyhow::Result<Vec<Result<f64, String>>> {
        Ok(match self {
            Self::Head(query) => {
                let pairs = texts.into_iter().map(|text| Passage::pair(*query, text)).collect();
                let scores = reader.scores(pairs, true)?.into_iter();
                let first = |scores: Vec<f32>| f64::from(scores.first().copied().unwrap_or(0.0));
                scores.map(|one| one.map(first)).collect()
            }
            Self::Cosine(query, vectors) => {
                let vectors = reader.vectors(texts, vectors)?.into_iter();
                vectors.map(|one| one.map(|vector| cosine(query, &vector))).collect()
            }
        })
    }
}

/// Of vectors whose length is 1.
fn cosine(one: &[f32], other: &[f32]) -> f64 {
    one.iter().zip(other).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}
