//! `ingle bench`: how fast a model runs here, and how near that is to what the memory allows.

mod reader;

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use clap::Args as ClapArgs;
use ingle_backend::cpu::machine;
use ingle_engine::{Local, Options, Resident, Speculation};
use ingle_model::pull::Reference;
use ingle_protocol::{Event, Input, Request, Sampling, Token};
use serde_json::{Value, json};

use super::model::{self, ModelArgs};
use crate::ui::{Interrupted, Ui, Usage, interrupted};

/// Measure how fast a model reads and writes
///
/// Prefill is how fast the prompts are read: their tokens over the time until every request has
/// its first token. Decode is how fast answers are written once all requests have begun, all
/// requests together. Prompts are random tokens, never the same twice, so no cache helps.
///
/// Decode reads every weight once a step. The share says how near that comes to the read
/// bandwidth that the same threads reach on plain memory, measured just before.
///
/// Of a model that reads (an encoder), texts and tokens a second: 512 texts of 8 to 256 tokens, or
/// the lines of a file.
#[derive(Debug, ClapArgs)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The model: a catalogue name, a path, hf:…, pypi:… or npm:…
    #[arg(value_name = "MODEL", default_value = super::DEFAULT_MODEL, value_parser = super::reference)]
    model: Reference,

    /// Tokens of each prompt
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    prompt: u32,

    /// Tokens of each answer
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(2..))]
    generate: u32,

    /// Requests at once; several numbers measure one after another
    #[arg(long, value_name = "N,…", default_value = "1", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=1024))]
    concurrency: Vec<u16>,

    /// Measure so many times, after one run to warm up
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    repeat: u16,

    /// For a model that reads: the lines of this file are the texts
    #[arg(long, value_name = "FILE")]
    texts: Option<String>,

    #[command(flatten)]
    run: ModelArgs,
}

const AFTER_HELP: &str = "\
Examples:
  ingle bench smollm2
  ingle bench smollm2 --prompt 512 --generate 128 --threads 2 --concurrency 1,4,16 --repeat 5
  ingle bench minilm --texts sentences.txt --threads 2
  ingle bench ./model.gguf --json | jq .decode_tokens_per_second

With --json, one object a concurrency; rates are medians in tokens per second, `_spread` gives the
least and the most.";

/// What one run showed, in tokens per second.
#[derive(Clone, Copy, Debug)]
struct Rates {
    prefill: f64,
    decode: f64,
}

/// Runs the command.
pub(crate) fn run(args: Args, ui: &mut Ui) -> anyhow::Result<()> {
    let most = usize::from(args.concurrency.iter().copied().max().unwrap_or(1));
    let defaults = args.run.ready(ui)?;
    // What a model makes of random tokens repeats itself, and would be guessed too well.
    let asked = args.run.speculation.or(defaults.draft.as_ref().map(|_| Speculation::Draft));
    let speculation = asked.unwrap_or(Speculation::None);
    // Prompts are not held back beside answers, so that all answers are written at one time.
    let prefill_tokens = Some(defaults.step_tokens);
    let running = most.max(defaults.running);
    let options = Options { running, speculation, prefill_tokens, ..defaults };
    let model = match model::open_any(&args.model, &options, ui)? {
        Resident::Reader(encoder) => return reader::run(&args, &encoder, ui),
        Resident::Writer(local) => local,
    };
    if args.texts.is_some() {
        return Err(Usage("--texts is for models that read".to_owned()).into());
    }
    let bandwidth = machine::read_bandwidth(model.info().threads);
    if !ui.json {
        ui.line(format_args!(
            "{}: {} threads, {} kernels, KV in {}, prompt {}, generate {}, repeat {}",
            args.model,
            model.info().threads,
            model.info().kernels,
            model.info().kv_type,
            args.prompt,
            args.generate,
            args.repeat
        ))?;
        ui.line(format_args!("memory read bandwidth: {:.1} GB/s", bandwidth / 1e9))?;
    }
    let mut rows = vec![heading()];
    for &concurrency in &args.concurrency {
        let runs = measure(&model, &args, usize::from(concurrency), ui)?;
        let [prefill, decode] = [|r: &Rates| r.prefill, |r: &Rates| r.decode]
            .map(|of| Spread::of(runs.iter().map(of).collect()));
        let read = model.info().weight_bytes as f64 * decode.median / f64::from(concurrency);
        let share = read / bandwidth;
        if ui.json {
            ui.object(&object(&args, &model, concurrency, (prefill, decode), (bandwidth, share)))?;
        }
        rows.push(vec![
            concurrency.to_string(),
            prefill.to_string(),
            decode.to_string(),
            format!("{:.0} %", 100.0 * share),
        ]);
    }
    if ui.json { Ok(()) } else { ui.table(&rows, &[0, 1, 2, 3]) }
}

fn heading() -> Vec<String> {
    ["CONCURRENCY", "PREFILL tok/s", "DECODE tok/s", "OF BANDWIDTH"].map(Into::into).to_vec()
}

fn object(
    args: &Args,
    model: &Local,
    concurrency: u16,
    (prefill, decode): (Spread, Spread),
    (bandwidth, share): (f64, f64),
) -> Value {
    json!({
        "model": args.model.to_string(),
        "threads": model.info().threads,
        "kernels": model.info().kernels,
        "kv_type": model.info().kv_type,
        "prompt": args.prompt,
        "generate": args.generate,
        "repeat": args.repeat,
        "concurrency": concurrency,
        "prefill_tokens_per_second": prefill.median,
        "prefill_spread": [prefill.least, prefill.most],
        "decode_tokens_per_second": decode.median,
        "decode_spread": [decode.least, decode.most],
        "weight_bytes": model.info().weight_bytes,
        "read_bandwidth_bytes_per_second": bandwidth,
        "decode_share_of_bandwidth": share,
    })
}

/// Median and extremes.
#[derive(Clone, Copy, Debug)]
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |i: usize| values.get(i).copied().unwrap_or(f64::NAN);
        let (half, last) = (values.len() / 2, values.len().saturating_sub(1));
        let median = if values.len().is_multiple_of(2) {
            (at(half.saturating_sub(1)) + at(half)) / 2.0
        } else {
            at(half)
        };
        Self { median, least: at(0), most: at(last) }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1} ({:.1} to {:.1})", self.median, self.least, self.most)
    }
}

fn measure(model: &Local, args: &Args, concurrency: usize, ui: &Ui) -> anyhow::Result<Vec<Rates>> {
    let mut runs = Vec::new();
    for repeat in 0..=args.repeat {
        if interrupted().load(Ordering::Relaxed) {
            return Err(Interrupted.into());
        }
        let rates = once(model, args, concurrency, u64::from(repeat))?;
        if repeat > 0 {
            runs.push(rates); // the first warmed up
            if !ui.json {
                let (prefill, decode) = (rates.prefill, rates.decode);
                ui.note(format_args!(
                    "concurrency {concurrency}, run {repeat}: prefill {prefill:.1}, decode {decode:.1}"
                ));
            }
        }
    }
    Ok(runs)
}

/// When one request's tokens came, after the start.
type Arrivals = Vec<Duration>;

fn once(model: &Local, args: &Args, concurrency: usize, salt: u64) -> anyhow::Result<Rates> {
    let start = Instant::now();
    let mut calls = Vec::new();
    for index in 0..concurrency {
        let tokens = random(args.prompt, model.info().vocabulary, salt << 32 | index as u64);
        // Room for every event, so that the engine's thread never waits.
        let (sender, arrivals) = sync_channel(args.generate as usize + 8);
        let sink = Box::new(move |event| {
            let _ = sender.send((start.elapsed(), event)); // read below, until it is done
            ControlFlow::Continue(())
        });
        calls.push((model.send(&request(args, tokens), sink)?, arrivals));
    }
    let mut times: Vec<Arrivals> = Vec::new();
    for (_call, arrivals) in calls {
        let mut tokens = Arrivals::new();
        for (at, event) in arrivals {
            match event {
                Event::Text(piece) | Event::Reasoning(piece) => {
                    tokens.extend(piece.scores.iter().map(|_| at));
                }
                Event::Failed(fault) => return Err(fault.into()),
                Event::ToolCall { .. } | Event::Prompt(_) => {}
                Event::Beams(_) | Event::Passed(_) => {}
                Event::Done(_) => break,
            }
        }
        times.push(tokens);
    }
    rates(args.prompt as usize * concurrency, &times)
        .ok_or_else(|| anyhow::anyhow!("an answer was too short to measure"))
}

/// Prompt tokens until all have begun; generated ones from then until the first has ended, or,
/// where answers are so short that some ended before all had begun, from the first token to the
/// last.
fn rates(prompt_tokens: usize, times: &[Arrivals]) -> Option<Rates> {
    let begun = times.iter().filter_map(|tokens| tokens.first()).max()?;
    let ended = times.iter().filter_map(|tokens| tokens.last()).min()?;
    let rate = |from: &Duration, to: &Duration| {
        let within = times.iter().flatten().filter(|at| *at > from && *at <= to).count();
        let seconds = to.saturating_sub(*from).as_secs_f64();
        (within > 0 && seconds > 0.0).then(|| within as f64 / seconds)
    };
    let all = || rate(times.iter().flatten().min()?, times.iter().flatten().max()?);
    let decode = rate(begun, ended).or_else(all)?;
    Some(Rates { prefill: prompt_tokens as f64 / begun.as_secs_f64(), decode })
}

fn request(args: &Args, tokens: Vec<Token>) -> Request {
    Request {
        model: args.model.to_string(),
        input: Input::Tokens(tokens),
        sampling: Sampling { temperature: 0.0, ignore_eos: true, ..Sampling::default() },
        max_tokens: Some(args.generate),
        logprobs: Some(0), // one score a token: tells tokens apart from pieces of text
        ..Request::default()
    }
}

/// SplitMix64's tokens.
fn random(count: u32, vocabulary: usize, salt: u64) -> Vec<Token> {
    let mix = |i: u32| {
        let z = (salt ^ 0xD1B5_4A32_D192_ED03)
            .wrapping_add(u64::from(i).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ z >> 31) % vocabulary as u64) as Token
    };
    (0..count).map(mix).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_count_what_falls_in_the_common_time() {
        let ms = Duration::from_millis;
        let times = [vec![ms(100), ms(300), ms(400)], vec![ms(200), ms(300), ms(500)]];
        let rates = rates(40, &times).expect("enough tokens");
        assert!((rates.prefill - 200.0).abs() < 1e-9, "40 tokens in 0.2 s");
        assert!((rates.decode - 15.0).abs() < 1e-9, "3 tokens from 0.2 to 0.4 s");
        assert!(super::rates(40, &[vec![ms(100)]]).is_none());
    }

    #[test]
    fn answers_without_a_common_time_have_rates() {
        let ms = Duration::from_millis;
        let times = [vec![ms(100), ms(150)], vec![ms(200), ms(300)]];
        let rates = rates(40, &times).expect("tokens at different times");
        assert!((rates.decode - 15.0).abs() < 1e-9, "3 tokens from 0.1 to 0.3 s");
    }

    #[test]
    fn spreads_have_medians() {
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]).median, 2.0);
        let even = Spread::of(vec![4.0, 1.0, 2.0, 3.0]);
        assert_eq!((even.median, even.least, even.most), (2.5, 1.0, 4.0));
    }
}
