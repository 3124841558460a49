//! `ingle tokenize`: a text's tokens, or a check of many against known ones.

use clap::Args as ClapArgs;
use ingle_model::gguf::Gguf;
use ingle_model::pull::{Reference, Store};
use ingle_model::tokenizer::{Special, Tokenizer, check_cases};
use serde_json::json;

use super::model;
use crate::ui::{Failed, Ui, Usage};

/// Show how a model reads a text
///
/// With `--cases`, checks a file of texts against the tokens they should become: a JSON list of
/// `{"text": …, "parse_special": …, "ids": […]}`. Without `parse_special`, `ids` is a whole prompt,
/// BOS included where the model asks for it. Exits with 1 where any differs.
#[derive(Debug, ClapArgs)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The model: a catalogue name, a path, hf:…, pypi:… or npm:…
    #[arg(value_name = "MODEL", value_parser = super::reference)]
    model: Reference,

    /// The text; without it, standard input is read
    #[arg(value_name = "TEXT", conflicts_with = "cases")]
    text: Option<String>,

    /// Check the texts of this JSON file
    #[arg(long, value_name = "FILE")]
    cases: Option<String>,

    /// Read control tokens that are written out in the text as text
    #[arg(long)]
    plain: bool,
}

const AFTER_HELP: &str = "\
Examples:
  ingle tokenize smollm2 \"Hello, world!\"
  ingle tokenize smollm2 --json < README.md | jq '.ids | length'
  ingle tokenize gemma3 --cases crates/model/tests/fixtures/gemma3-270m.tokens.json";

/// The most that is read.
const INPUT_MOST: u64 = 256 << 20;
/// Mismatches that are shown.
const SHOWN: usize = 20;

/// Runs the command.
pub(crate) fn run(args: Args, ui: &mut Ui) -> anyhow::Result<()> {
    let title = args.model.file_name().map_or_else(|| args.model.to_string(), Into::into);
    let path = Store::open_default()?.resolve(&args.model.to_string(), &mut ui.progress(&title))?;
    let tokenizer = Tokenizer::from_gguf(&Gguf::open(&path)?)?;
    if let Some(cases) = &args.cases {
        return check(&tokenizer, cases, ui);
    }
    let text = match args.text {
        Some(text) => text,
        None => text_of(model::read("-", INPUT_MOST)?, "standard input")?,
    };
    let special = if args.plain { Special::Plain } else { Special::Parse };
    let ids = tokenizer.encode(&text, special);
    let pieces = ids.iter().map(|id| tokenizer.token_text(*id).unwrap_or_default());
    if ui.json {
        let pieces: Vec<&str> = pieces.collect();
        return ui.object(&json!({ "ids": ids, "tokens": pieces }));
    }
    let width = ids.iter().map(|id| id.to_string().len()).max().unwrap_or(0);
    ids.iter()
        .zip(pieces)
        .try_for_each(|(id, piece)| ui.line(format_args!("{id:>width$}  {piece:?}")))
}

fn text_of(bytes: Vec<u8>, name: &str) -> Result<String, Usage> {
    String::from_utf8(bytes).map_err(|error| Usage(format!("{name} is not UTF-8: {error}")))
}

fn check(tokenizer: &Tokenizer, file: &str, ui: &Ui) -> anyhow::Result<()> {
    let cases = text_of(model::read(file, INPUT_MOST)?, file)?;
    let report = check_cases(tokenizer, &cases).map_err(|what| Usage(format!("{file}: {what}")))?;
    let wrong = report.mismatches.len();
    if ui.json {
        ui.object(&json!({ "rows": report.rows, "mismatches": wrong }))?;
    } else {
        for mismatch in report.mismatches.iter().take(SHOWN) {
            ui.line(format_args!("row {}: {mismatch:?}", mismatch.row))?;
        }
        ui.line(format_args!("{} rows, {wrong} mismatches", report.rows))?;
    }
    if wrong == 0 { Ok(()) } else { Err(Failed.into()) }
}
