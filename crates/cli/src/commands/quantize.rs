//! `ingle quantize`: a smaller copy of a model file. What becomes of each tensor is the model
//! room's affair; here is only what a person says and sees.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use ingle_backend::cpu::pool;
use ingle_model::gguf::Gguf;
use ingle_model::pull::Reference;
use ingle_model::quantize::{Options, RECIPES, Recipe, Report, quantize, recipe};
use serde_json::{Map, Value, json};

use super::model;
use crate::ui::{Style, Ui, Usage, size};

/// Make a smaller copy of a model file
///
/// Stores a model's matrices with fewer bits a weight. Norms, biases and routers stay as they are,
/// and the metadata is carried over. The copy loads wherever GGUF files do, and is there whole or
/// not at all.
#[derive(Debug, ClapArgs)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The model: a path, a catalogue name, hf:…, pypi:… or npm:…
    #[arg(value_name = "IN", value_parser = super::reference)]
    from: Reference,

    /// The file to write
    #[arg(value_name = "OUT")]
    out: PathBuf,

    /// How to store it, for instance q8_0 or q4_k_m
    #[arg(long, value_name = "FORMAT", value_parser = format)]
    to: &'static Recipe,

    /// Also quantize what is quantized already, which loses accuracy a second time
    #[arg(long)]
    allow_requantize: bool,

    /// Replace OUT if it is there
    #[arg(long)]
    force: bool,

    /// Threads that compute [default: the cores that this process may use]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

const AFTER_HELP: &str = "\
Formats, the largest first:
  f32, f16, bf16, q8_0, q6_k, q5_1, q5_k_m, q5_k_s, q5_0, q4_1, q4_k_m, q4_k_s, q4_0, iq4_nl,
  iq4_xs, mxfp4_moe, q3_k_l, q3_k_m, q3_k_s, q2_k
  The mixes _s, _m and _l give more bits to the matrices where errors cost most.

Examples:
  ingle quantize model-f16.gguf model-q4_k_m.gguf --to q4_k_m
  ingle quantize model-bf16.gguf model-q8_0.gguf --to q8_0 --threads 8
  ingle quantize model-f16.gguf small.gguf --to q3_k_m --json | jq .bits_per_weight";

/// The recipe of that name.
pub(super) fn format(name: &str) -> Result<&'static Recipe, String> {
    recipe(name).ok_or_else(|| {
        let names: Vec<&str> = RECIPES.iter().map(|recipe| recipe.name).collect();
        format!("there are: {}", names.join(", "))
    })
}

/// Runs the command.
pub(crate) fn run(args: Args, ui: &mut Ui) -> anyhow::Result<()> {
    let out = &args.out;
    if out.exists() && !args.force {
        let shown = out.display();
        return Err(Usage(format!("{shown} is there already\nhint: add --force")).into());
    }
    let file = Gguf::open(&model::fetch(&args.from, ui)?)?;
    let threads = args.threads.map_or_else(pool::cores, usize::from);
    let options = Options { recipe: args.to, requantize: args.allow_requantize, threads };
    let title = out.file_name().map(|name| name.to_string_lossy().into_owned());
    let mut bar = ui.progress(&title.unwrap_or_default());
    let report = quantize(&file, &options, out, &mut bar)?;
    drop(bar);
    if report.requantized > 0 {
        ui.err(
            Style::Red,
            format_args!(
                "warning: {} tensors were quantized already, and lost accuracy again; an F16, BF16 \
                 or F32 file gives better answers",
                report.requantized
            ),
        );
    }
    if ui.json {
        return ui.object(&object(&args, &report));
    }
    let formats: Vec<String> = report
        .formats
        .iter()
        .map(|(format, bytes)| format!("{} {}", format.name(), size(*bytes)))
        .collect();
    let (bits, formats) = (report.bits_per_weight(), formats.join(", "));
    ui.note(format_args!("{}, {bits:.2} bits a weight: {formats}", size(report.bytes)));
    ui.line(out.display())
}

fn object(args: &Args, report: &Report) -> Value {
    let formats: Map<String, Value> = report
        .formats
        .iter()
        .map(|(format, bytes)| (format.name().to_owned(), (*bytes).into()))
        .collect();
    json!({
        "file": args.out.display().to_string(),
        "to": args.to.name,
        "bytes": report.bytes,
        "parameters": report.weights,
        "bits_per_weight": report.bits_per_weight(),
        "formats": formats,
        "requantized_tensors": report.requantized,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_every_format() {
        let listed = AFTER_HELP.split("The mixes").next().expect("a part before");
        let listed: Vec<&str> =
            listed.split([',', '\n', ' ']).filter(|word| recipe(word).is_some()).collect();
        let known: Vec<&str> = RECIPES.iter().map(|recipe| recipe.name).collect();
        assert_eq!(listed, known);
    }
}
