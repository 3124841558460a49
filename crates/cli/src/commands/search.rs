//! `ingle search`: a folder of documents, indexed and asked. Finding is the search room's affair;
//! here is what a person says and sees, and which models read.

mod ask;
mod index;
mod models;

use std::path::PathBuf;

use clap::Args as ClapArgs;
use ingle_model::pull::Reference;

use super::model::ComputeArgs;
use crate::ui::Ui;

/// Search a folder of documents by what they mean and by their words
///
/// With a question and a folder, brings the folder's index up to date and answers from it. The
/// index is one SQLite file in the folder (.ingle/search.sqlite): passages, vectors and words.
/// Only new and changed files are read again, and an index that was interrupted goes on where it
/// stopped.
///
/// Text, Markdown, HTML, source code, CSV and JSONL are read; of tables each row is a passage. What
/// .gitignore or .ignore leaves out, and hidden files, are left out here. Links are not followed.
#[derive(Debug, ClapArgs)]
#[command(after_long_help = AFTER_HELP)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    part: Option<Part>,

    /// What to look for, in your own words
    #[arg(value_name = "QUESTION", required = true)]
    question: Option<String>,

    /// The folder of documents
    #[arg(value_name = "FOLDER", required = true)]
    folder: Option<PathBuf>,

    #[command(flatten)]
    place: PlaceArgs,

    #[command(flatten)]
    take: TakeArgs,

    #[command(flatten)]
    find: FindArgs,
}

const AFTER_HELP: &str = "\
Examples:
  ingle search \"how do I renew a certificate?\" notes/
  ingle search index notes/ --watch             Keep the index up to date until Ctrl-C
  ingle search ask \"renew certificate\" notes/ --mode words
  ingle search ask --stdin notes/ --json < questions.txt

Vectors find what means the same in other words, words (BM25) find names and numbers; hybrid, the
usual, fuses both lists by the ranks that a passage has in them (reciprocal rank fusion).";

/// What to do, where it is one thing alone.
#[derive(Debug, clap::Subcommand)]
enum Part {
    /// Bring a folder's index up to date
    Index(IndexArgs),
    /// Ask an index as it is
    Ask(AskArgs),
}

/// Flags of `ingle search index`.
#[derive(Debug, ClapArgs)]
struct IndexArgs {
    /// The folder of documents
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,

    /// Stay, and take in what changes, until Ctrl-C
    #[arg(long)]
    watch: bool,

    #[command(flatten)]
    place: PlaceArgs,

    #[command(flatten)]
    take: TakeArgs,
}

/// Flags of `ingle search ask`.
#[derive(Debug, ClapArgs)]
struct AskArgs {
    /// What to look for; with --stdin the folder
    #[arg(value_name = "QUESTION", required_unless_present = "stdin")]
    question: Option<String>,

    /// The folder of documents [default: this one]
    #[arg(value_name = "FOLDER")]
    folder: Option<PathBuf>,

    /// Read questions from standard input, one a line, to its end; the index may change meanwhile
    #[arg(long)]
    stdin: bool,

    #[command(flatten)]
    place: PlaceArgs,

    #[command(flatten)]
    find: FindArgs,
}

/// Where the index is and who reads for it.
#[derive(Clone, Debug, ClapArgs)]
struct PlaceArgs {
    /// Keep the index in this file [default: .ingle/search.sqlite in the folder]
    #[arg(long, value_name = "FILE")]
    index: Option<PathBuf>,

    /// The model that makes vectors: a catalogue name, a path, hf:…, pypi:… or npm:…
    /// [default: the index's own; minilm for a new one]
    #[arg(short, long, value_name = "REF", value_parser = super::reference)]
    model: Option<Reference>,

    #[command(flatten)]
    compute: ComputeArgs,
}

/// How documents are taken in.
#[derive(Clone, Debug, ClapArgs)]
struct TakeArgs {
    /// Make the index anew, as for another model
    #[arg(long)]
    rebuild: bool,

    /// Leave out files that are larger, in MB
    #[arg(long, value_name = "MB", default_value_t = 8)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1000))]
    max_file_mb: u64,
}

/// How passages are found.
#[derive(Clone, Debug, ClapArgs)]
struct FindArgs {
    /// By what: `vector` (meaning), `words` (BM25; needs no model), or `hybrid` (both)
    #[arg(long, value_name = "MODE", default_value = "hybrid", value_parser = ask::mode)]
    mode: ingle_search::Mode,

    /// Passages to show
    #[arg(short = 'k', long, value_name = "N", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1000))]
    top: u16,

    /// Passages of one file, at most
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1000))]
    per_file: u16,

    /// A model that reads the question with each of the best passages, and orders them anew (a
    /// cross-encoder); of a passage that is longer than it reads it judges the beginning
    #[arg(long, value_name = "REF", value_parser = super::reference)]
    reranker: Option<Reference>,

    /// Passages that it reads
    #[arg(long, value_name = "N", default_value_t = 32, requires = "reranker")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1000))]
    rerank: u16,
}

/// Runs the command.
pub(crate) fn run(args: Args, ui: &mut Ui) -> anyhow::Result<()> {
    match args.part {
        Some(Part::Index(args)) => index::run(&args, ui),
        Some(Part::Ask(args)) => ask::run(&args, ui),
        None => {
            let folder = args.folder.unwrap_or_default();
            let question = args.question.unwrap_or_default();
            let reader = index::bring_up_to_date(&folder, &args.place, &args.take, ui)?;
            ask::once(&folder, &question, &args.place, &args.find, Some(reader), ui)
        }
    }
}
