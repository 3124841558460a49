//! What every command over rows of data has in common: where they come from, which column is read,
//! where results go, how far it is, and going on with what was begun.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::Result;
use clap::Args as ClapArgs;
use ingle_data::{ERROR, Fields, Format, Input, Journal, Row, STDIN, TEXT, Writer, cell};
use ingle_model::pull::Progress;
use serde_json::{Value, json};

use crate::ui::{Bar, Failed, Interrupted, Ui, Usage, duration, interrupted};

/// Which rows, and where results go.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct RowArgs {
    /// Rows to read: lines of text, JSON lines, CSV, TSV or Parquet; `-` is standard input
    /// [default: standard input]
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<String>,

    /// Write to this file instead of standard output. It appears whole, at the end; until then
    /// rows are kept in a folder beside it, and the same command goes on where it was stopped
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// Begin the output file anew
    #[arg(long, requires = "output")]
    pub(crate) overwrite: bool,

    #[command(flatten)]
    pub(crate) table: TableArgs,
}

/// How rows are read and written.
#[derive(Clone, Debug, Default, ClapArgs)]
#[command(next_help_heading = "Rows")]
pub(crate) struct TableArgs {
    /// How rows are read: lines, jsonl, csv, tsv or parquet [default: by the file's name, or lines]
    #[arg(long, value_name = "FORMAT", value_parser = format)]
    pub(crate) format: Option<Format>,

    /// The column that is read [default: `text`, or the only one]
    #[arg(long, value_name = "NAME")]
    pub(crate) column: Option<String>,

    /// How rows are written [default: by the output's name, or csv and tsv as they were read, or
    /// jsonl]. As lines, only the result itself is
    #[arg(long, value_name = "FORMAT", value_parser = format)]
    pub(crate) output_format: Option<Format>,

    /// Write results alone, without the columns that were read
    #[arg(long)]
    pub(crate) results_only: bool,
}

fn format(name: &str) -> Result<Format, String> {
    Format::named(name)
        .ok_or_else(|| format!("there are: {}", Format::names().collect::<Vec<_>>().join(", ")))
}

/// What a command does with rows.
pub(crate) struct Plan<'a> {
    /// Its name and all that its results depend on: to go on it must be the same.
    pub(crate) task: Value,
    /// The columns that it adds; the first is the result itself.
    pub(crate) added: &'a [&'a str],
}

/// Of failed rows so many are told one by one.
const TOLD: usize = 20;
/// Rows of which texts together have so many bytes are not taken at once.
const BATCH_BYTES: usize = 8 << 20;

/// The most rows that are kept to be sorted.
const SORTED_MOST: usize = 200_000;

/// Rows that were taken together.
#[derive(Default)]
struct Batch {
    texts: Vec<String>,
    labels: Vec<String>,
    /// Of each row why it has no text, or nothing.
    failures: Vec<Option<String>>,
}

/// Where results go.
enum Sink {
    Stream(Writer),
    Journal(Box<Journal>, Format),
    Sorted(Writer, Ranking),
    Nowhere,
}

/// Rows that are written at the end, by a column, largest first.
struct Ranking {
    column: String,
    most: usize,
    rows: Vec<Fields>,
}

impl Ranking {
    fn add(&mut self, rows: Vec<Fields>) -> Result<()> {
        self.rows.extend(rows);
        // Those that can be among the first are kept, and as many more until it is worth sorting.
        if self.rows.len() >= self.most.saturating_mul(2).max(1024) {
            self.sort();
        }
        if self.rows.len() > SORTED_MOST {
            let why = format!("more than {SORTED_MOST} rows to be sorted: give --top or --output");
            return Err(Usage(why).into());
        }
        Ok(())
    }

    /// What failed comes last; what is equal stays in order.
    fn sort(&mut self) {
        let key = |row: &Fields| row.get(&self.column).and_then(Value::as_f64);
        let key = |row: &Fields| key(row).unwrap_or(f64::NEG_INFINITY);
        self.rows.sort_by(|one, other| key(other).total_cmp(&key(one)));
        self.rows.truncate(self.most);
    }
}

/// Rows that are worked on, and what becomes of them.
pub(crate) struct Table<'a> {
    ui: &'a Ui,
    input: Input,
    /// Read, and not yet taken.
    ahead: Option<Row>,
    /// Taken, and not yet told of.
    taken: VecDeque<Row>,
    column: String,
    /// The column that holds what is known of a row.
    label: Option<String>,
    only: bool,
    added: Vec<String>,
    sink: Sink,
    bar: Bar<'a>,
    began: Instant,
    skipped: u64,
    done: u64,
    failed: u64,
}

impl<'a> Table<'a> {
    /// Opens input and output, and passes over what was done before.
    pub(crate) fn open(args: &RowArgs, plan: &Plan<'_>, ui: &'a Ui) -> Result<Self> {
        interrupted(); // from here on Ctrl-C ends it in order
        let files = files(&args.files)?;
        let table = &args.table;
        let mut input = Input::new(&files, table.format);
        let (known, total) = known(&files, &input)?;
        let format = table.output_format.unwrap_or_else(|| output_format(args, &input));
        let ahead = input.next().transpose()?;
        let column = column(table.column.as_deref(), ahead.as_ref(), &input)?;
        let mut task = plan.task.clone();
        task["rows"] = json!({
            "files": known, "column": column, "results_only": table.results_only,
            "read_as": (0..files.len()).map(|at| input.format(at).name()).collect::<Vec<_>>(),
        });
        let (sink, skipped) = match &args.output {
            None => (Sink::Stream(Writer::new(format, plan.added)?), 0),
            Some(path) => {
                let journal = Journal::open(path, &task, args.overwrite);
                let journal = journal.map_err(|error| Usage(error.to_string()))?;
                let skipped = journal.rows();
                (Sink::Journal(Box::new(journal), format), skipped)
            }
        };
        let title = match &files[..] {
            [one] => input.name(0).rsplit('/').next().unwrap_or(one).to_owned(),
            more => format!("{} files", more.len()),
        };
        let mut bar = ui.lines(&title);
        bar.begin("rows", total);
        let mut table = Self {
            ui,
            input,
            ahead,
            taken: VecDeque::new(),
            column,
            label: None,
            only: table.results_only,
            added: plan.added.iter().map(|name| (*name).to_owned()).collect(),
            sink,
            bar,
            began: Instant::now(),
            skipped: 0,
            done: 0,
            failed: 0,
        };
        table.skip(skipped)?;
        Ok(table)
    }

    /// Rows whose labels are known, of which nothing is written.
    pub(crate) fn labelled(args: &RowArgs, label: &str, ui: &'a Ui) -> Result<Self> {
        let args = RowArgs { output: None, overwrite: false, ..args.clone() };
        let plan = Plan { task: json!({}), added: &[] };
        let table = Self::open(&args, &plan, ui)?;
        if table.column == label {
            let why = format!("{label:?} is the text and the label: --column names the text");
            return Err(Usage(why).into());
        }
        column(Some(label), table.ahead.as_ref(), &table.input)?;
        Ok(Self { label: Some(label.to_owned()), only: true, sink: Sink::Nowhere, ..table })
    }

    /// Rows that failed so far.
    pub(crate) fn failed(&self) -> u64 {
        self.failed
    }

    /// Writes rows at the end, the largest of a column first, and so many at most.
    pub(crate) fn sort_by(self, column: &str, most: Option<usize>) -> Self {
        let most = most.unwrap_or(usize::MAX);
        let ranking = Ranking { column: column.to_owned(), most, rows: Vec::new() };
        let sink = match self.sink {
            Sink::Stream(writer) | Sink::Sorted(writer, _) => Sink::Sorted(writer, ranking),
            other => other,
        };
        Self { sink, ..self }
    }

    fn skip(&mut self, rows: u64) -> Result<()> {
        for _ in 0..rows {
            if self.read()?.is_none() {
                let why = "the journal has more rows than there are: is this another input?\nhint: \
                           begin anew with --overwrite";
                return Err(Usage(why.to_owned()).into());
            }
        }
        self.skipped = rows;
        if rows > 0 {
            self.bar.resume(rows);
            self.bar.over(|| self.ui.note(format_args!("goes on behind row {rows}")));
        }
        Ok(())
    }

    fn read(&mut self) -> Result<Option<Row>> {
        match self.ahead.take() {
            Some(row) => Ok(Some(row)),
            None => Ok(self.input.next().transpose()?),
        }
    }

    /// Takes the next row and gives its text, or why it has none. Each row that was taken is to be
    /// told of, in the same order.
    pub(crate) fn take(&mut self) -> Result<Option<Result<String, String>>> {
        let Some(row) = self.read()? else { return Ok(None) };
        let text = row.fields.as_ref().map_err(Clone::clone).and_then(|fields| {
            self.free(fields)?;
            text(fields, &self.column).map(str::to_owned)
        });
        self.taken.push_back(row);
        Ok(Some(text))
    }

    /// Whether a row has room for results.
    fn free(&self, fields: &Fields) -> Result<(), String> {
        let mut added = self.added.iter().map(String::as_str).chain([ERROR]);
        match added.find(|name| fields.contains_key(*name)) {
            Some(name) if !self.only => Err(format!(
                "it has a column {name:?} already: leave it out, or write --results-only"
            )),
            _ => Ok(()),
        }
    }

    /// What is known of the last row that was taken.
    fn label(&self) -> Result<String, String> {
        let Some(column) = &self.label else { return Ok(String::new()) };
        match self.taken.back().map(|row| &row.fields) {
            Some(Ok(fields)) => value(fields, column).map(cell),
            _ => Err("it could not be read".to_owned()),
        }
    }

    /// Writes what came of the oldest rows that were taken.
    pub(crate) fn tell(&mut self, results: Vec<Result<Fields, String>>) -> Result<()> {
        let mut rows = Vec::with_capacity(results.len());
        for result in results {
            let row = self.taken.pop_front().expect("only what was taken is told of");
            rows.push(self.merge(row, result));
        }
        let shown = rows.len() as u64;
        match &mut self.sink {
            Sink::Journal(journal, _) => journal.write(&rows)?,
            Sink::Stream(writer) => {
                let mut shown = Ok(());
                self.bar.over(|| shown = show(self.ui, writer, &rows));
                shown?;
            }
            Sink::Sorted(_, ranking) => ranking.add(rows)?,
            Sink::Nowhere => {}
        }
        self.done += shown;
        self.bar.advance(self.skipped + self.done);
        Ok(())
    }

    /// A row of the output.
    fn merge(&mut self, row: Row, result: Result<Fields, String>) -> Fields {
        let place = self.input.place(&row);
        let number = row.number;
        let mut fields = match row.fields {
            Ok(fields) if !self.only => fields,
            _ => Fields::new(),
        };
        match result {
            Ok(result) => fields.extend(result),
            Err(why) => {
                self.failed += 1;
                let told = self.failed as usize;
                self.bar.over(|| match told {
                    0..=TOLD => self.ui.warn(format_args!("{place}: {why}")),
                    _ if told == TOLD + 1 => self.ui.warn("and more; each has its `error`"),
                    _ => {}
                });
                if fields.is_empty() {
                    fields.insert("row".to_owned(), number.into());
                }
                fields.insert(ERROR.to_owned(), format!("row {number}: {why}").into());
            }
        }
        fields
    }

    /// Works on all rows, so many at a time: texts, and what is known of them where that is read.
    /// Ctrl-C ends it between two batches.
    pub(crate) fn each_batch(
        &mut self,
        most: usize,
        mut work: impl FnMut(Vec<String>, Vec<String>) -> Result<Vec<Result<Fields, String>>>,
    ) -> Result<()> {
        loop {
            if interrupted().load(Ordering::Relaxed) {
                return Err(self.stopped());
            }
            let Batch { texts, labels, failures } = self.batch(most)?;
            if failures.is_empty() {
                return Ok(());
            }
            let results = if texts.is_empty() { Vec::new() } else { work(texts, labels)? };
            let mut results = results.into_iter();
            let results = failures.into_iter().map(|failure| match failure {
                Some(why) => Err(why),
                None => results.next().expect("each text has its result"),
            });
            let results = results.collect();
            self.tell(results)?;
        }
    }

    fn batch(&mut self, most: usize) -> Result<Batch> {
        let (mut batch, mut bytes) = (Batch::default(), 0);
        while batch.failures.len() < most && bytes < BATCH_BYTES {
            let Some(text) = self.take()? else { break };
            let row = text.and_then(|text| Ok((text, self.label()?)));
            batch.failures.push(row.as_ref().err().cloned());
            if let Ok((text, label)) = row {
                bytes += text.len();
                batch.texts.push(text);
                batch.labels.push(label);
            }
        }
        Ok(batch)
    }

    /// What Ctrl-C ends in.
    pub(crate) fn stopped(&mut self) -> anyhow::Error {
        self.bar.done();
        if matches!(self.sink, Sink::Journal(..)) {
            self.ui.note("stopped; the same command goes on from here");
        }
        Interrupted.into()
    }

    /// Brings the output to its place, and says how it went.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.bar.done();
        let Self { ui, began, skipped, done, failed, .. } = self;
        let told = matches!(self.sink, Sink::Journal(..));
        match self.sink {
            Sink::Stream(_) | Sink::Nowhere => {}
            Sink::Journal(journal, format) => {
                let added: Vec<&str> = self.added.iter().map(String::as_str).collect();
                journal.finish(format, &added)?;
            }
            Sink::Sorted(mut writer, mut ranking) => {
                ranking.sort();
                show(ui, &mut writer, &ranking.rows)?;
            }
        }
        let took = began.elapsed();
        let rate = done as f64 / took.as_secs_f64().max(1e-9);
        if told && ui.json {
            ui.object(&json!({
                "done": done - failed, "skipped": skipped, "failed": failed,
                "seconds": took.as_secs_f64(),
            }))?;
        }
        let mut parts = vec![format!("{} done", done - failed)];
        if skipped > 0 {
            parts.push(format!("{skipped} were there"));
        }
        if failed > 0 {
            parts.push(format!("{failed} failed"));
        }
        if done > 0 {
            parts.push(format!("{rate:.0} rows/s"));
        }
        parts.push(duration(took));
        ui.note(parts.join(" · "));
        if failed > 0 { Err(Failed.into()) } else { Ok(()) }
    }
}

fn show(ui: &Ui, writer: &mut Writer, rows: &[Fields]) -> Result<()> {
    let mut bytes = Vec::new();
    for row in rows {
        writer.write(row, &mut bytes).map_err(anyhow::Error::msg)?;
    }
    ui.out(String::from_utf8_lossy(&bytes))
}

/// The files, standard input where there are none.
fn files(named: &[String]) -> Result<Vec<String>> {
    if named.iter().filter(|name| *name == STDIN).count() > 1 {
        return Err(Usage("standard input can be read once".to_owned()).into());
    }
    Ok(if named.is_empty() { vec![STDIN.to_owned()] } else { named.to_vec() })
}

/// What files are known by, and how many rows they have together, where that is known.
fn known(files: &[String], input: &Input) -> Result<(Vec<Value>, Option<u64>)> {
    let mut total = Some(0);
    let mut all = Vec::new();
    for (at, file) in files.iter().enumerate() {
        let known = match file.as_str() {
            STDIN => None,
            path => ingle_data::known(Path::new(path), input.format(at))
                .map_err(|error| Usage(error.to_string()))?,
        };
        total = total.zip(known).map(|(total, known)| total + known.rows);
        all.push(match known {
            Some(known) => json!({ "bytes": known.bytes, "digest": known.digest }),
            None => Value::Null,
        });
    }
    Ok((all, total))
}

fn output_format(args: &RowArgs, input: &Input) -> Format {
    let named = args.output.as_deref().and_then(Format::of);
    named.unwrap_or(match input.format(0) {
        table @ (Format::Csv | Format::Tsv) => table,
        _ => Format::Jsonl,
    })
}

/// The column to read, by what the first row has.
fn column(asked: Option<&str>, first: Option<&Row>, input: &Input) -> Result<String> {
    let fields = first.and_then(|row| row.fields.as_ref().ok().map(|fields| (row, fields)));
    let Some((row, fields)) = fields else { return Ok(asked.unwrap_or(TEXT).to_owned()) };
    let all = || fields.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let file = input.name(row.file);
    match asked {
        Some(name) if fields.contains_key(name) => Ok(name.to_owned()),
        Some(name) => {
            Err(Usage(format!("{file} has no column {name:?}\nhint: it has: {}", all())).into())
        }
        None if fields.contains_key(TEXT) => Ok(TEXT.to_owned()),
        None if fields.len() == 1 => Ok(all()),
        None => {
            let which = format!("{file} has several columns: which is to be read?");
            Err(Usage(format!("{which}\nhint: --column with one of: {}", all())).into())
        }
    }
}

fn value<'a>(fields: &'a Fields, column: &str) -> Result<&'a Value, String> {
    match fields.get(column) {
        None => Err(format!("it has no column {column:?}")),
        Some(Value::Null) => Err(format!("its column {column:?} is empty")),
        Some(value) => Ok(value),
    }
}

fn text<'a>(fields: &'a Fields, column: &str) -> Result<&'a str, String> {
    let value = value(fields, column)?;
    value.as_str().ok_or_else(|| format!("its column {column:?} is no text"))
}
