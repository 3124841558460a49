//! `ingle run`: one prompt, one streamed answer, one line that says what it took.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use clap::Args as ClapArgs;
use ingle_engine::Local;
use ingle_model::pull::Reference;
use ingle_protocol::wire::receipt;
use ingle_protocol::{Chat, Event, Finish, Grammar, Input, Message, Receipt, Request, Sampling};

use super::model::{self, LoraArgs, ModelArgs, PrefixArgs};
use crate::ui::{Interrupted, Style, Ui, Usage, duration, interrupted};

/// Answer one prompt
///
/// The answer is streamed to standard output; what it took is one line on standard error. What is
/// piped in is added to the prompt, so that files can be worked on.
#[derive(Debug, ClapArgs)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Args {
    /// What to ask; with a pipe, what to do with what is piped in
    #[arg(value_name = "PROMPT", num_args = 0..)]
    prompt: Vec<String>,

    /// The model: a catalogue name, a path, hf:…, pypi:… or npm:…
    #[arg(short, long, value_name = "REF", default_value = super::DEFAULT_MODEL, value_parser = super::reference)]
    model: Reference,

    /// A system message, ahead of the prompt
    #[arg(short, long, value_name = "TEXT")]
    system: Option<String>,

    /// Continue the prompt as plain text, without the model's chat template
    #[arg(long, conflicts_with = "system")]
    raw: bool,

    /// End the answer after so many tokens [default: when the context is full]
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: Option<u32>,

    /// End the answer before this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,

    #[command(flatten)]
    grammar: GrammarArgs,

    #[command(flatten)]
    sampling: SamplingArgs,

    #[command(flatten)]
    run: ModelArgs,

    #[command(flatten)]
    lora: LoraArgs,

    #[command(flatten)]
    prefix: PrefixArgs,
}

/// What the answer has to match.
#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = "What the answer has to match")]
#[group(multiple = false)]
struct GrammarArgs {
    /// A JSON schema, in a file
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,

    /// A regular expression that the whole answer matches
    #[arg(long, value_name = "RE")]
    regex: Option<String>,

    /// A grammar in a file: Lark, as llguidance takes it
    #[arg(long, value_name = "FILE")]
    grammar: Option<PathBuf>,
}

impl GrammarArgs {
    fn read(&self) -> anyhow::Result<Option<Grammar>> {
        Ok(match self {
            Self { schema: Some(path), .. } => Some(Grammar::JsonSchema(text(path)?)),
            Self { regex: Some(pattern), .. } => Some(Grammar::Regex(pattern.clone())),
            Self { grammar: Some(path), .. } => Some(Grammar::Lark(text(path)?)),
            Self { schema: None, regex: None, grammar: None } => None,
        })
    }
}

/// A grammar's file. The engine takes less than this.
fn text(path: &Path) -> anyhow::Result<String> {
    let broken = |error: std::io::Error| Usage(format!("{}: {error}", path.display()));
    let mut text = String::new();
    let mut file = File::open(path).map_err(broken)?.take(GRAMMAR_MOST + 1);
    file.read_to_string(&mut text).map_err(broken)?;
    if text.len() as u64 > GRAMMAR_MOST {
        return Err(Usage(format!("{}: more than {GRAMMAR_MOST} bytes", path.display())).into());
    }
    Ok(text)
}

/// How tokens are chosen.
#[derive(Clone, Copy, Debug, ClapArgs)]
#[command(next_help_heading = "How tokens are chosen")]
struct SamplingArgs {
    /// How bold to be; 0 always takes the likeliest token
    #[arg(short, long, value_name = "T", default_value_t = 0.7)]
    temperature: f32,

    /// Keep the likeliest tokens that together have this probability
    #[arg(long, value_name = "P", default_value_t = 0.95)]
    top_p: f32,

    /// Keep only so many tokens; 0 keeps all
    #[arg(long, value_name = "K", default_value_t = 40)]
    top_k: u32,

    /// Keep tokens at least this fraction as likely as the likeliest
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    min_p: f32,

    /// Divide the odds of tokens that were seen before by this
    #[arg(long, value_name = "F", default_value_t = 1.0)]
    repetition_penalty: f32,

    /// Draw the same tokens again [default: other ones each time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

impl SamplingArgs {
    fn rules(self) -> Sampling {
        let Self { temperature, top_p, top_k, min_p, repetition_penalty, seed } = self;
        let plain = Sampling::default();
        Sampling { temperature, top_p, top_k, min_p, repetition_penalty, seed, ..plain }
    }
}

const AFTER_HELP: &str = "\
Examples:
  ingle run \"Why is the sky blue?\"
  cat report.txt | ingle run \"Summarise this\" > summary.txt
  ingle run --model gemma3 --raw \"Once upon a time\" --max-tokens 100
  ingle run --model ./model.gguf --temperature 0 \"Say hello\"
  ingle run --lora ./tuned=0.5 \"Say hello\"
  ingle run --json \"Say hello\" | jq .receipt
  ingle run --schema person.json \"Who was Marie Curie?\"
  ingle run --regex \"yes|no\" \"Is the sky blue?\"";

/// The most that is read of a grammar's file.
const GRAMMAR_MOST: u64 = 1 << 20;

/// The most that is read from a pipe.
const INPUT_MOST: u64 = 64 << 20;

/// Events on their way. Where output is read slowly the model waits: nobody else is served here.
const EVENTS_MOST: usize = 1024;

/// Runs the command.
pub(crate) fn run(args: Args, ui: &mut Ui) -> anyhow::Result<()> {
    let prompt = prompt(&args)?;
    let grammar = args.grammar.read()?;
    let options = args.lora.on(args.prefix.on(args.run.ready(ui)?));
    let model = model::open(&args.model, &options, ui)?;
    let request = Request { grammar, ..request(&args, prompt) };
    let (sender, events) = sync_channel(EVENTS_MOST);
    let sink = Box::new(move |event| match sender.send(event) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    });
    let stop = interrupted();
    let mut call = Some(model.send(&request, sink)?);
    let (mut text, mut thought) = (String::new(), String::new());
    let receipt = loop {
        if stop.load(Ordering::Relaxed) {
            call = None; // dropping it cancels; the receipt still comes
        }
        match next(&events)? {
            None => {}
            Some(Event::Text(piece)) if ui.json => text += &piece.text,
            Some(Event::Text(piece)) => {
                think(ui, &mut thought, "\n");
                ui.say(&piece.text)?;
            }
            Some(Event::Reasoning(piece)) if ui.json => thought += &piece.text,
            Some(Event::Reasoning(piece)) => think(ui, &mut thought, &piece.text),
            // Not asked for.
            Some(Event::ToolCall { .. } | Event::Prompt(_)) => {}
            Some(Event::Beams(_) | Event::Passed(_)) => {}
            Some(Event::Failed(fault)) => return Err(fault.into()),
            Some(Event::Done(receipt)) => break receipt,
        }
    };
    drop(call);
    if !ui.json {
        think(ui, &mut thought, "\n");
    }
    show(ui, (&text, &thought), &receipt, &model)?;
    if receipt.finish == Finish::Cancelled { Err(Interrupted.into()) } else { Ok(()) }
}

/// Shows what the model thinks, line by line, beside the answer: `thought` is the line that is not
/// whole.
fn think(ui: &Ui, thought: &mut String, more: &str) {
    thought.push_str(more);
    while let Some(at) = thought.find('\n') {
        let line: String = thought.drain(..=at).collect();
        if !line.trim().is_empty() {
            ui.note(line.trim_end());
        }
    }
}

/// The next event, or nothing for a while: Ctrl-C is looked for in between.
fn next(events: &Receiver<Event>) -> anyhow::Result<Option<Event>> {
    match events.recv_timeout(Duration::from_millis(50)) {
        Ok(event) => Ok(Some(event)),
        Err(RecvTimeoutError::Timeout) => Ok(None),
        Err(RecvTimeoutError::Disconnected) => anyhow::bail!("the engine stopped unexpectedly"),
    }
}

/// The words of the command line, and what is piped in.
fn prompt(args: &Args) -> anyhow::Result<String> {
    let words = args.prompt.join(" ");
    let mut piped = String::new();
    if !std::io::stdin().is_terminal() {
        let read = std::io::stdin().lock().take(INPUT_MOST + 1).read_to_string(&mut piped);
        read.map_err(|error| Usage(format!("standard input: {error}")))?;
        if piped.len() as u64 > INPUT_MOST {
            return Err(Usage(format!("more than {INPUT_MOST} bytes on standard input")).into());
        }
    }
    match (words.is_empty(), piped.trim().is_empty()) {
        (true, true) => {
            let hint = "hint: ingle run \"Why is the sky blue?\"";
            Err(Usage(format!("there is no prompt\n{hint}")).into())
        }
        (false, true) => Ok(words),
        (true, false) => Ok(piped),
        (false, false) => Ok(format!("{words}\n\n{piped}")),
    }
}

fn request(args: &Args, prompt: String) -> Request {
    let message =
        |role: &str, content: String| Message { role: role.into(), content, ..Message::default() };
    let system = args.system.clone().map(|text| message("system", text));
    let messages = system.into_iter().chain([message("user", prompt.clone())]).collect();
    Request {
        model: args.model.to_string(),
        input: if args.raw {
            Input::Text(prompt)
        } else {
            Input::Chat(Chat { messages, ..Chat::default() })
        },
        sampling: args.sampling.rules(),
        stop: args.stop.clone(),
        max_tokens: args.max_tokens,
        adapters: Some(args.lora.wanted()),
        ..Request::default()
    }
}

/// Ends the answer's line, and says what it took.
fn show(
    ui: &Ui,
    (text, thought): (&str, &str),
    receipt: &Receipt,
    model: &Local,
) -> anyhow::Result<()> {
    if ui.json {
        let receipt: serde_json::Value = serde_json::from_str(&receipt::write(receipt))?;
        let mut object = serde_json::json!({ "text": text, "receipt": receipt });
        if !thought.is_empty() {
            object["reasoning"] = thought.into();
        }
        return ui.object(&object);
    }
    ui.line("")?;
    if !ui.quiet {
        ui.err(Style::Dim, line(receipt, model));
    }
    Ok(())
}

/// The receipt in one line.
fn line(receipt: &Receipt, model: &Local) -> String {
    let Receipt { usage, timings, .. } = receipt;
    let mut parts = vec![
        format!("{} on {} threads ({})", receipt.model, model.info().threads, model.info().kernels),
        format!("{} prompt + {} generated tokens", usage.prompt_tokens, usage.completion_tokens),
        format!("first token {}", duration(timings.first_token)),
    ];
    if !timings.load.is_zero() {
        parts.push(format!("waited {} for the model", duration(timings.load)));
    }
    if let Some(rate) = timings.decode_tokens_per_second(usage) {
        parts.push(format!("{rate:.0} tokens/s"));
    }
    match receipt.finish {
        Finish::Length => parts.push("ended by the token limit".into()),
        Finish::Cancelled => parts.push("interrupted".into()),
        Finish::Stop | Finish::ToolCalls => {}
    }
    parts.push(if receipt.cost_micros == 0 {
        "cost 0".into()
    } else {
        format!("cost ${:.6}", receipt.cost_micros as f64 / 1e6)
    });
    let place = if receipt.left_machine { "left this machine" } else { "stayed on this machine" };
    parts.push(place.into());
    parts.join(" · ")
}
