//! `ingle inspect`: where a model's time goes, op by op, against what the machine could do.

mod measure;
mod roof;
mod target;

use clap::Args as ClapArgs;
use ingle_backend::Role;
use ingle_backend::cpu::ACTIVATION_BYTES;
use ingle_model::pull::Reference;
use serde_json::{Value, json};

use super::model::{self, ComputeArgs};
use crate::ui::{Style, Ui, size};
use measure::{Bench, Machine, Phase, Plan};
use roof::{Limits, Line, Sum, forecast, share};
use target::Target;

/// Show what each op of a model costs, and what bounds it
///
/// Measures the machine's limits, then a step of decode and the prefill of a prompt, op by op.
/// READ, WRITTEN and MFLOP are what an op must move and compute: each byte passes once, weights as
/// the file stores them; a multiply-add counts two. OF ROOF says how near an op comes to the
/// limits: the time that its bytes or its operations take at least, over the time it took.
///
/// memory-bound, compute-bound: that limit explains a third of the time or more.
/// cache-bound: the bytes moved faster than memory moves them, so they were in a cache.
/// overhead-bound: threads wait for each other, or have no part in the op.
/// kernel-bound: none of these; other instructions take the time, or waits within the kernel.
#[derive(Debug, ClapArgs)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The model: a catalogue name, a path, hf:…, pypi:… or npm:…
    #[arg(value_name = "MODEL", default_value = super::DEFAULT_MODEL, value_parser = super::reference)]
    model: Reference,

    /// Tokens of the prompt that is read [default: 512, or the model's context]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    prompt: Option<u32>,

    /// Tokens that stand before the one that is decoded [default: 512, or what the context leaves]
    #[arg(long, value_name = "N")]
    context_used: Option<u32>,

    /// Measure so many times, after one run to warm up; medians are shown
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    repeat: u16,

    /// Also show every op by itself
    #[arg(long)]
    ops: bool,

    /// Forecast another machine, as bandwidth=80GB/s,compute=500GFLOPS; may be given several times
    #[arg(long, value_name = "LIMITS", value_parser = target::target)]
    on: Vec<Target>,

    #[command(flatten)]
    compute: ComputeArgs,
}

const AFTER_HELP: &str = "\
Examples:
  ingle inspect smollm2
  ingle inspect smollm2 --context-used 4000 --ops
  ingle inspect ./model.gguf --on bandwidth=80GB/s,compute=500GFLOPS
  ingle inspect smollm2 --json | jq '.phases[0].groups[] | [.op, .verdict]'

A machine's compute is its rate on 8-bit integers, a multiply-add counting two; one on 32-bit floats
is taken to be in the ratio that it has here.";

/// Runs the command.
pub(crate) fn run(args: Args, ui: &mut Ui) -> anyhow::Result<()> {
    let path = model::fetch(&args.model, ui)?;
    let cpu = args.compute.cpu();
    let (threads, kernels, kv) = (cpu.threads(), cpu.kernels().name, cpu.kv().name());
    let plan = |context| Plan::fit(args.prompt, args.context_used, args.repeat, context);
    let (mut bench, plan) = Bench::open(&path, cpu, plan)?;
    let note = |text: &str| {
        if !ui.json {
            ui.note(text);
        }
    };
    note("measuring the machine");
    let before = Machine::measure(threads);
    let phases = bench.measure(plan, before.barrier, &note)?;
    note("measuring the machine again");
    let machine = before.best(Machine::measure(threads));
    let weights = bench.weight_bytes();
    let report = Report { args: &args, threads, kernels, kv, weights, machine };
    if ui.json {
        return ui.object(&report.object(&phases));
    }
    report.head(ui)?;
    phases.iter().try_for_each(|phase| report.phase(phase, ui))
}

/// Below this a machine was not left alone.
const STEADY: f64 = 0.85;

/// What stands beside every phase.
struct Report<'a> {
    args: &'a Args,
    threads: usize,
    kernels: &'static str,
    /// How keys and values are kept.
    kv: &'static str,
    /// Bytes of the weights that a token reads, in the file, and of all that are held.
    weights: (usize, usize),
    machine: Machine,
}

impl Report<'_> {
    fn head(&self, ui: &Ui) -> anyhow::Result<()> {
        let (file, held) = self.weights;
        ui.line(format_args!(
            "{}: {} threads, {} kernels, KV in {}; a token reads {} of weights; the kernels hold {}",
            self.args.model,
            self.threads,
            self.kernels,
            self.kv,
            size(file as u64),
            size(held as u64)
        ))?;
        let Machine { limits, bytes_by, floats_by, barrier, steadiness } = self.machine;
        let Limits { bandwidth, bytes, floats } = limits;
        ui.line(format_args!(
            "limits: memory {:.1} GB/s; 8-bit integers {:.0} GFLOP/s ({bytes_by}); floats {:.0} \
             GFLOP/s ({floats_by}); a barrier {:.2} µs",
            bandwidth / 1e9,
            bytes / 1e9,
            floats / 1e9,
            barrier * 1e6
        ))?;
        ui.line(format_args!(
            "an operation on quantised weights is made of {ACTIVATION_BYTES} on 8-bit integers: \
             its activations keep 16 bits"
        ))?;
        if steadiness < STEADY {
            ui.line(format_args!(
                "the limits differed by {:.0} % before and after: something else ran as well, and \
                 times are longer than they need be",
                100.0 * (1.0 - steadiness)
            ))?;
        }
        Ok(())
    }

    fn phase(&self, phase: &Phase, ui: &Ui) -> anyhow::Result<()> {
        let limits = &self.machine.limits;
        let all = Sum::of(&phase.lines, limits);
        ui.line("")?;
        ui.line(ui.paint_out(Style::Bold, title(phase)))?;
        let mut rows = vec![HEADING.map(Into::into).to_vec()];
        let groups = groups(&phase.lines);
        rows.extend(groups.iter().map(|(role, lines)| {
            row(role.name(), &Sum::of(lines.iter().copied(), limits), all.seconds)
        }));
        rows.push(row("all", &all, all.seconds));
        ui.table(&rows, RIGHT)?;
        if self.args.ops {
            ui.line("")?;
            let mut rows = vec![HEADING.map(Into::into).to_vec()];
            rows.extend(phase.lines.iter().map(|line| {
                let layer = line.layer.map_or(String::new(), |layer| format!("{layer}."));
                row(&format!("{layer}{}", line.role.name()), &Sum::of([line], limits), all.seconds)
            }));
            ui.table(&rows, RIGHT)?;
        }
        ui.line(format_args!(
            "{}: {:.1} tok/s, {:.3} ms; {}",
            phase.name,
            phase.tokens as f64 / phase.seconds,
            phase.seconds * 1e3,
            all.words()
        ))?;
        if let Some((role, sum)) = most(&groups, limits) {
            let part = 100.0 * share(sum.seconds, all.seconds);
            ui.line(format_args!("most of it: {} ({part:.0} %), {}", role.name(), sum.words()))?;
        }
        for target in &self.args.on {
            let (as_here, at_the_roof) = self.elsewhere(phase, target);
            ui.line(format_args!(
                "on {}: {as_here:.1} tok/s as near to its limits as here, {at_the_roof:.1} at them",
                target.text
            ))?;
        }
        Ok(())
    }

    /// Tokens per second on another machine: as near to its limits as here, and at them. The
    /// clocks' own time is taken out, by the ratio that it has here.
    fn elsewhere(&self, phase: &Phase, target: &Target) -> (f64, f64) {
        let here = &self.machine.limits;
        let there = here.with(target.bandwidth, target.compute);
        let forecast = forecast(&phase.lines, here, &there);
        let clocked: f64 = phase.lines.iter().map(|line| line.seconds).sum();
        let tokens = phase.tokens as f64;
        let as_here = share(tokens, forecast.as_here * share(phase.seconds, clocked));
        (as_here, share(tokens, forecast.at_the_roof))
    }

    fn object(&self, phases: &[Phase]) -> Value {
        let Machine { limits, bytes_by, floats_by, barrier, steadiness } = self.machine;
        let phases: Vec<Value> = phases.iter().map(|phase| self.phase_object(phase)).collect();
        json!({
            "model": self.args.model.to_string(),
            "threads": self.threads,
            "kernels": self.kernels,
            "kv_type": self.kv,
            "repeat": self.args.repeat,
            "weight_bytes": self.weights.0,
            "held_weight_bytes": self.weights.1,
            "limits": {
                "read_bytes_per_second": limits.bandwidth,
                "byte_flops_per_second": limits.bytes,
                "byte_flops_by": bytes_by,
                "float_flops_per_second": limits.floats,
                "float_flops_by": floats_by,
                "byte_products_per_quantised_product": ACTIVATION_BYTES,
                "barrier_seconds": barrier,
                "steadiness": steadiness,
            },
            "phases": phases,
        })
    }

    fn phase_object(&self, phase: &Phase) -> Value {
        let limits = &self.machine.limits;
        let all = Sum::of(&phase.lines, limits);
        let groups = groups(&phase.lines)
            .into_iter()
            .map(|(role, lines)| object(role.name(), &Sum::of(lines, limits), all.seconds));
        let mut value = object("all", &all, all.seconds);
        value["phase"] = phase.name.into();
        value["tokens"] = phase.tokens.into();
        value["context_used"] = phase.used.into();
        value["seconds"] = phase.seconds.into();
        value["clocked_seconds"] = all.seconds.into();
        value["tokens_per_second"] = (phase.tokens as f64 / phase.seconds).into();
        value["groups"] = groups.collect();
        if self.args.ops {
            let ops = phase.lines.iter().map(|line| {
                let mut op = object(line.role.name(), &Sum::of([line], limits), all.seconds);
                op["layer"] = line.layer.into();
                op
            });
            value["each"] = ops.collect();
        }
        let on = self.args.on.iter().map(|target| {
            let (as_here, at_the_roof) = self.elsewhere(phase, target);
            json!({
                "on": target.text,
                "tokens_per_second": as_here,
                "tokens_per_second_at_the_roof": at_the_roof,
            })
        });
        value["on"] = on.collect();
        value
    }
}

fn title(phase: &Phase) -> String {
    match phase.used {
        0 => format!("{}: {} tokens", phase.name, phase.tokens),
        used => format!("{}: {} token after {used}", phase.name, phase.tokens),
    }
}

/// The ops of a phase by what they are for, in the order in which they come first.
fn groups(lines: &[Line]) -> Vec<(Role, Vec<&Line>)> {
    let mut groups: Vec<(Role, Vec<&Line>)> = Vec::new();
    for line in lines {
        match groups.iter_mut().find(|(role, _)| *role == line.role) {
            Some((_, lines)) => lines.push(line),
            None => groups.push((line.role, vec![line])),
        }
    }
    groups
}

/// The group that takes the most time.
fn most(groups: &[(Role, Vec<&Line>)], limits: &Limits) -> Option<(Role, Sum)> {
    let sums = groups.iter().map(|(role, lines)| (*role, Sum::of(lines.iter().copied(), limits)));
    sums.max_by(|a, b| a.1.seconds.total_cmp(&b.1.seconds))
}

const HEADING: [&str; 12] = [
    "OP", "OPS", "READ", "WRITTEN", "MFLOP", "FLOP/B", "ms", "SHARE", "GB/s", "GFLOP/s", "OF ROOF",
    "VERDICT",
];
/// The columns of numbers.
const RIGHT: &[usize] = &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10];

fn row(name: &str, sum: &Sum, seconds: f64) -> Vec<String> {
    let cost = &sum.cost;
    vec![
        name.to_owned(),
        sum.ops.to_string(),
        size(cost.bytes_read),
        size(cost.bytes_written),
        format!("{:.2}", cost.flops as f64 / 1e6),
        format!("{:.2}", cost.intensity()),
        format!("{:.3}", sum.seconds * 1e3),
        format!("{:.1} %", 100.0 * share(sum.seconds, seconds)),
        format!("{:.1}", share(cost.bytes() as f64, sum.seconds) / 1e9),
        format!("{:.1}", share(cost.flops as f64, sum.seconds) / 1e9),
        format!("{:.0} %", 100.0 * sum.roof_share()),
        sum.verdict().word().to_owned(),
    ]
}

fn object(name: &str, sum: &Sum, seconds: f64) -> Value {
    let cost = &sum.cost;
    json!({
        "op": name,
        "ops": sum.ops,
        "bytes_read": cost.bytes_read,
        "matrix_bytes": cost.matrix_bytes,
        "bytes_written": cost.bytes_written,
        "flops": cost.flops,
        "quantised_flops": cost.quantised_flops,
        "flops_per_byte": cost.intensity(),
        "seconds": sum.seconds,
        "overhead_seconds": sum.overhead,
        "share_of_time": share(sum.seconds, seconds),
        "bytes_per_second": share(cost.bytes() as f64, sum.seconds),
        "flops_per_second": share(cost.flops as f64, sum.seconds),
        "least_seconds": sum.floor,
        "share_of_roof": sum.roof_share(),
        "verdict": sum.verdict().word(),
        "words": sum.words(),
    })
}
