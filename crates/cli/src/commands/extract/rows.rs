//! Texts that are rows: a value for each, beside what was in it.

use std::path::Path;

use ingle_data::{Fields, Format};
use serde_json::json;

use super::work::{Outcome, Texts, Work};
use super::{Args, Schema, model, request};
use crate::commands::rows::{Plan, RowArgs, Table, TableArgs};
use crate::ui::{Interrupted, Ui, Usage};

/// The column that is added.
const VALUE: &str = "value";

/// Whether files are rows: one that is says so for all.
pub(super) fn are(args: &Args) -> anyhow::Result<bool> {
    let TableArgs { format, column, output_format, results_only } = &args.table;
    let table = |file: &String| Format::of(Path::new(file)).is_some_and(|it| it != Format::Lines);
    let tables = args.files.iter().filter(|file| table(file)).count();
    if format.is_some() || (tables > 0 && tables == args.files.len()) {
        return Ok(true);
    }
    if tables > 0 {
        let why = "some files are rows and others texts: take them one kind at a time, or say with \
                   --format how all are read";
        return Err(Usage(why.to_owned()).into());
    }
    if column.is_some() || output_format.is_some() || *results_only {
        let why = "these files are texts, not rows: say with --format how rows are read";
        return Err(Usage(why.to_owned()).into());
    }
    Ok(false)
}

struct Rows<'a>(Table<'a>);

impl Texts for Rows<'_> {
    fn next(&mut self) -> anyhow::Result<Option<Result<String, String>>> {
        self.0.take()
    }

    fn tell(&mut self, outcome: Outcome) -> anyhow::Result<()> {
        let row = |value| Fields::from_iter([(VALUE.to_owned(), value)]);
        self.0.tell(vec![outcome.value.map(row)])
    }
}

/// Works on rows.
pub(super) fn run(args: &Args, schema: &Schema, ui: &Ui) -> anyhow::Result<()> {
    let rows = RowArgs {
        files: args.files.clone(),
        output: args.output.clone(),
        overwrite: args.overwrite,
        table: args.table.clone(),
    };
    let task = json!({
        "command": "extract", "schema": schema.value, "prompt": args.prompt,
        "model": args.model.to_string(), "max_tokens": args.max_tokens,
        "temperature": args.temperature, "seed": args.seed,
    });
    let options = args.prefix.on(args.run.ready(ui)?);
    let model = model::open(&args.model, &options, ui)?;
    let mut texts = Rows(Table::open(&rows, &Plan { task, added: &[VALUE] }, ui)?);
    let mut work = Work::new(&model, schema, request(args, schema, model.chats()), options.running);
    match work.run(&mut texts) {
        Ok(()) => texts.0.finish(),
        Err(error) if error.is::<Interrupted>() => Err(texts.0.stopped()),
        Err(error) => Err(error),
    }
}
