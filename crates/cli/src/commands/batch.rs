//! `ingle batch`: many requests in a file, answered without a server, over as many runs as it
//! takes; and a server's batches (`remote`). What is done is kept in a journal, a folder beside the
//! output, which is gone at the end.

mod remote;

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use anyhow::Context;
use clap::{Args as ClapArgs, Subcommand};
use ingle_engine::Bounds;
use ingle_model::pull::Progress;
use ingle_records::{
    BatchLimits, BatchRecord, BatchStatus, Begun, FileLimits, FileRecord, Kept, NewBatch, Records,
};
use ingle_server::{OFFLINE_ORIGIN, OFFLINE_OWNER, Slot, batch_endpoints};
use serde_json::{Value, json};

use super::model::ModelArgs;
use super::serve::{Door, GatewayArgs, Models, Named, Start};
use crate::ui::{self, Bar, Interrupted, Ui, Usage};

/// The names of the one batch and its input in a journal.
const BATCH: &str = "batch_journal";
const INPUT: &str = "file-input";
/// What is wrong with an input is shown of so many lines.
const SHOWN: usize = 10;

/// Answer many requests from a file, or look after a server's batches
#[derive(Debug, ClapArgs)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Answer every line of a file of requests, as OpenAI's batches have them
    ///
    /// Each line is an object with `custom_id`, `method` ("POST"), `url` ("/v1/chat/completions",
    /// "/v1/completions", "/v1/responses" or "/v1/embeddings") and `body`. Ctrl-C stops it, and so
    /// may anything else: the same command goes on where it was.
    #[command(after_long_help = AFTER_HELP)]
    Run(Box<RunArgs>),
    /// List the batches of a server
    List(remote::ListArgs),
    /// Show how far a batch of a server is, and its files
    Show(remote::OneArgs),
    /// End a batch of a server; what was answered by then stays
    Cancel(remote::OneArgs),
}

/// What is answered, and by whom.
#[derive(Debug, ClapArgs)]
struct RunArgs {
    /// The file of requests
    input: PathBuf,

    /// Where the answers go, in the order of the requests [default: the input's name, ending in
    /// `.out.jsonl`]. Lines that fail go to a file beside it that ends in `.errors.jsonl`
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// The model of lines that name none, as `[NAME=]REF`: a catalogue name, a path, hf:…, pypi:…
    /// or npm:…; lines may name this one and every model that `ingle list` shows
    #[arg(short, long, value_name = "REF", default_value = super::DEFAULT_MODEL)]
    model: Named,

    #[command(flatten)]
    run: ModelArgs,

    #[command(flatten)]
    gateway: GatewayArgs,
}

const AFTER_HELP: &str = "\
Examples:
  ingle batch run jobs.jsonl
  ingle batch run jobs.jsonl -o answers.jsonl --model gemma3
  INGLE_API_KEY=… ingle batch list --url https://ingle.example

A line of jobs.jsonl:
  {\"custom_id\": \"1\", \"method\": \"POST\", \"url\": \"/v1/chat/completions\",
   \"body\": {\"messages\": [{\"role\": \"user\", \"content\": \"Why is the sky blue?\"}]}}

Through a server, with OpenAI's clients: files and batches of `ingle serve`";

/// Runs the command.
pub(crate) fn run(args: Args, ui: &mut Ui) -> anyhow::Result<()> {
    match args.action {
        Action::Run(args) => answer(&args, ui),
        Action::List(args) => remote::list(&args, ui),
        Action::Show(args) => remote::show(&args, ui),
        Action::Cancel(args) => remote::cancel(&args, ui),
    }
}

/// A path with another end.
fn ending(path: &Path, end: &str) -> PathBuf {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{name}{end}"))
}

fn answer(args: &RunArgs, ui: &Ui) -> anyhow::Result<()> {
    let began = Instant::now();
    let out = args.out.clone().unwrap_or_else(|| ending(&args.input, ".out.jsonl"));
    let journal = ending(&out, ".journal");
    if out.exists() && !journal.exists() {
        let shown = out.display();
        let hint = "hint: move it away, or give another name with -o";
        return Err(Usage(format!("{shown} is there already\n{hint}")).into());
    }
    let broken = |error| Usage(format!("{}: {error}", args.input.display()));
    let input = File::open(&args.input).map_err(broken)?;
    let records = Arc::new(Records::open(&journal)?);
    let resumed = take(&records, &args.input, input, &journal)?;
    if resumed && !ui.quiet {
        ui.note(format_args!("goes on with {}", journal.display()));
    }
    let Some(batch) = work(args, Arc::clone(&records), ui)? else {
        ui.note("stopped; the same command goes on from here");
        return Err(Interrupted.into());
    };
    finish(&records, &batch, &out)?;
    drop(records);
    Records::remove(&journal)?;
    if batch.status == BatchStatus::Failed {
        return Err(refused(&args.input, &batch).into());
    }
    report(&batch, &out, began, ui)
}

/// Puts the input into the journal, or sees that it is the one that is there. True where the
/// journal had begun before.
fn take(records: &Records, path: &Path, mut input: File, journal: &Path) -> anyhow::Result<bool> {
    let known = records.file(OFFLINE_OWNER, INPUT)?.is_some();
    if known {
        let kept = records.open_file(INPUT)?;
        if !same(BufReader::new(kept), BufReader::new(&input))? {
            let (path, journal) = (path.display(), journal.display());
            let message = format!("{path} is not what it was when {journal} was begun");
            let hint = "hint: put it back to go on, or remove that folder to begin anew";
            return Err(Usage(format!("{message}\n{hint}")).into());
        }
    } else {
        keep(records, &mut input)?;
    }
    if records.batch(OFFLINE_OWNER, BATCH)?.is_none() {
        begin(records, path)?;
    }
    Ok(known)
}

/// Whether two files have the same contents.
fn same(mut one: impl BufRead, mut other: impl BufRead) -> std::io::Result<bool> {
    loop {
        let (left, right) = (one.fill_buf()?, other.fill_buf()?);
        let count = left.len().min(right.len());
        if left[..count] != right[..count] {
            return Ok(false);
        }
        if count == 0 {
            return Ok(left.len() == right.len());
        }
        one.consume(count);
        other.consume(count);
    }
}

fn keep(records: &Records, input: &mut File) -> anyhow::Result<()> {
    let mut upload = records.upload(INPUT)?;
    let mut bytes = vec![0; 1 << 20];
    loop {
        match input.read(&mut bytes)? {
            0 => break,
            count => upload.write(&bytes[..count])?,
        }
    }
    let file = FileRecord {
        id: INPUT.to_owned(),
        owner: OFFLINE_OWNER.to_owned(),
        purpose: "batch".to_owned(),
        name: "input".to_owned(),
        bytes: upload.bytes(),
        created_s: 0,
        expires_s: None,
        origin: Some(OFFLINE_ORIGIN.to_owned()),
    };
    let kept = records.keep(upload, &file, FileLimits { count: 1, bytes: u64::MAX })?;
    anyhow::ensure!(kept == Kept::Yes, "the journal is another program's");
    Ok(())
}

fn begin(records: &Records, path: &Path) -> anyhow::Result<()> {
    let batch = NewBatch {
        id: BATCH.to_owned(),
        owner: OFFLINE_OWNER.to_owned(),
        endpoint: endpoint(path)?,
        input_file: INPUT.to_owned(),
        completion_window: "none".to_owned(),
        metadata: None,
        origin: Some(OFFLINE_ORIGIN.to_owned()),
        created_s: 0,
        expires_s: i64::MAX as u64,
    };
    let begun = records.begin_batch(&batch, BatchLimits { open: 1, ended: 1 })?;
    anyhow::ensure!(begun == Begun::Yes, "the journal holds another batch");
    Ok(())
}

/// The path that the first line is for, and so all of them; what is wrong with lines is told when
/// they are read.
fn endpoint(path: &Path) -> anyhow::Result<String> {
    let lines = BufReader::new(File::open(path)?.take(16 << 20)).lines();
    let first = lines.map_while(Result::ok).find(|line| !line.trim().is_empty());
    let line = first.and_then(|line| serde_json::from_str::<Value>(&line).ok());
    let url = line.as_ref().and_then(|line| line["url"].as_str()).unwrap_or_default();
    let mut known = batch_endpoints();
    let usual = known.next().unwrap_or_default();
    Ok(known.find(|known| *known == url).unwrap_or(usual).to_owned())
}

/// Answers what is to be answered; `None` where it was interrupted.
fn work(args: &RunArgs, records: Arc<Records>, ui: &Ui) -> anyhow::Result<Option<BatchRecord>> {
    ui::interrupted();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("no threads for the batch")?;
    let loaded = Arc::<OnceLock<Arc<Models>>>::default();
    let start = Start {
        door: Arc::new(Door::new(args.gateway.clone(), None, runtime.handle().clone())?),
        adapters: Vec::new(),
        loaded: Arc::clone(&loaded),
        named: vec![args.model.clone()],
        any_installed: true,
        bounds: Bounds::default(),
        draft: args.run.draft_model.clone(),
        options: args.run.options(),
        // Standard output is for the result.
        json: false,
        quiet: ui.quiet,
    };
    let title = args.input.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut bar = ui.lines(&title);
    let mut begun = false;
    let outcome = runtime.block_on(async {
        let stop = ingle_server::signals(true)?;
        let load = move |slot: &Slot| start.run(slot, "this machine");
        let tell = |batch: &BatchRecord| show(&mut bar, &mut begun, batch);
        Ok(ingle_server::offline(records, BATCH, load, tell, stop).await?)
    });
    drop(bar);
    runtime.shutdown_background();
    if let Some(models) = loaded.get() {
        models.finish();
    }
    outcome
}

fn show(bar: &mut Bar<'_>, begun: &mut bool, batch: &BatchRecord) {
    let [total, answered, failed] = batch.counts;
    if total == 0 {
        return;
    }
    if !std::mem::replace(begun, true) {
        bar.begin("lines", Some(total));
        bar.resume(answered + failed);
    }
    bar.advance(answered + failed);
}

/// Brings the output to its place. Done again after a crash, it does the rest.
fn finish(records: &Records, batch: &BatchRecord, out: &Path) -> anyhow::Result<()> {
    if let Some(errors) = &batch.error_file {
        records.move_contents(errors, &ending(out, ".errors.jsonl"))?;
    }
    if let Some(output) = &batch.output_file {
        records.move_contents(output, out)?;
    }
    Ok(())
}

/// What is wrong with the input.
fn refused(path: &Path, batch: &BatchRecord) -> Usage {
    let errors = batch.errors.as_deref().unwrap_or("[]");
    let errors: Vec<Value> = serde_json::from_str(errors).unwrap_or_default();
    let mut text = format!("{} is no file of requests", path.display());
    for error in errors.iter().take(SHOWN) {
        let line = error["line"].as_u64().map(|line| format!("line {line}: ")).unwrap_or_default();
        text.push_str(&format!("\n  {line}{}", error["message"].as_str().unwrap_or_default()));
    }
    if errors.len() > SHOWN {
        text.push_str("\n  and more");
    }
    Usage(format!("{text}\nhint: `ingle batch run --help` shows a line"))
}

fn report(batch: &BatchRecord, out: &Path, began: Instant, ui: &Ui) -> anyhow::Result<()> {
    let [total, answered, failed] = batch.counts;
    let shown = |path: &Path| path.display().to_string();
    let output = batch.output_file.is_some().then(|| shown(out));
    let errors = batch.error_file.is_some().then(|| shown(&ending(out, ".errors.jsonl")));
    if ui.json {
        return ui.object(&json!({
            "output": output,
            "errors": errors,
            "total": total,
            "completed": answered,
            "failed": failed,
            "seconds": began.elapsed().as_secs_f64(),
        }));
    }
    let failed = errors.map_or_else(String::new, |path| format!(", {failed} failed: see {path}"));
    ui.note(format_args!(
        "{answered} of {total} lines answered in {}{failed}",
        ui::duration(began.elapsed())
    ));
    output.map_or(Ok(()), |output| ui.line(output))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_what_is_written() {
        let rows = [
            ("jobs.jsonl", "jobs.out.jsonl", "jobs.out.journal", "jobs.out.errors.jsonl"),
            ("a/b", "a/b.out.jsonl", "a/b.out.journal", "a/b.out.errors.jsonl"),
        ];
        for (input, out, journal, errors) in rows {
            let path = ending(Path::new(input), ".out.jsonl");
            assert_eq!(path, Path::new(out));
            assert_eq!(ending(&path, ".journal"), Path::new(journal));
            assert_eq!(ending(&path, ".errors.jsonl"), Path::new(errors));
        }
    }

    #[test]
    fn contents_are_compared_however_they_are_read() {
        let check = |one: &[u8], other: &[u8], expect: bool| {
            for (left, right) in [(1, 3), (2, 2), (5, 100)] {
                let one = BufReader::with_capacity(left, one);
                let other = BufReader::with_capacity(right, other);
                assert_eq!(same(one, other).expect("reads"), expect, "{left} {right}");
            }
        };
        check(b"", b"", true);
        check(b"abcdef", b"abcdef", true);
        check(b"abcdef", b"abcde", false);
        check(b"", b"a", false);
        check(b"abcdef", b"abcdeg", false);
    }
}
