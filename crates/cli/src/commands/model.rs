//! What every command that runs a model has in common: which one, and on what.

use std::convert::Infallible;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args as ClapArgs;
use ingle_backend::KvType;
use ingle_backend::cpu::kernels::{KERNELS, Kernels};
use ingle_backend::cpu::{Cpu, pool};
use ingle_engine::{AdapterFile, Local, Options, PrefixDisk, Resident, Speculation};
use ingle_model::pull::{Reference, Store};
use ingle_model::quantize::Recipe;
use ingle_protocol::{Adapter, Which};

use crate::ui::{self, Ui, Usage};

/// What the model is computed with.
#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = "How the model is run")]
pub(crate) struct ComputeArgs {
    /// Threads that compute [default: the cores that this process may use]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,

    /// Kernels to compute with: `best`, or one of avx512, avxvnni, avx512-256, avx2,
    /// neon-i8mm, neon-dotprod, portable, reference
    #[arg(long, value_name = "NAME", default_value = "best", value_parser = kernels)]
    kernels: Choice,

    /// How keys and values are kept: `f16`, `q8_0` (half of that, and less exact) or `f32`
    /// [default: f16; f32 for the reference kernels]
    #[arg(long, value_name = "TYPE", value_parser = kv_type)]
    kv_type: Option<KvType>,
}

/// How the model is run.
#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = "How the model is run")]
pub(crate) struct ModelArgs {
    #[command(flatten)]
    compute: ComputeArgs,

    /// Store weights that are not quantized yet so while they load, for instance as q8_0 or q4_k_m;
    /// `ingle quantize` names all formats [default: as the model has them]
    #[arg(long, value_name = "FORMAT", value_parser = super::quantize::format)]
    quantize: Option<&'static Recipe>,

    /// The longest prompt and answer together, in tokens [default: the model's own]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    context: Option<u32>,

    /// Memory for the KV cache, in MB [default: a quarter of what is free, at most 2 GiB]
    #[arg(long, value_name = "MB", value_parser = clap::value_parser!(u32).range(1..))]
    kv_mb: Option<u32>,

    /// Do not reuse the KV of prompts that begin alike
    #[arg(long)]
    no_prefix_cache: bool,

    /// What to guess tokens from, to check several in one step: `lookup` takes what followed the
    /// same words earlier in prompt and answer; `draft` asks --draft-model where that tells
    /// nothing; `none` guesses nothing. Answers are the same [default: draft with --draft-model,
    /// or else lookup; `ingle bench`: none, or draft]
    #[arg(long, value_name = "NAME", value_parser = speculation)]
    pub(crate) speculation: Option<Speculation>,

    /// A smaller model of the same vocabulary, which guesses tokens as long as that saves time: a
    /// catalogue name, a path, hf:…, pypi:… or npm:…
    #[arg(long, value_name = "REF", value_parser = super::reference)]
    pub(crate) draft_model: Option<Reference>,
}

/// What outlives the program.
#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = "How the model is run")]
pub(crate) struct PrefixArgs {
    /// Keep what was computed of prompts in this directory, for later runs to go on from. It holds
    /// the prompts too, and who can write there can change answers; deleting it, or any file in it,
    /// costs nothing but time
    #[arg(long, value_name = "DIR", conflicts_with = "no_prefix_cache")]
    prefix_cache_dir: Option<PathBuf>,

    /// The most MB in that directory; what was not used for longest goes first [default: 4000]
    #[arg(long, value_name = "MB", requires = "prefix_cache_dir")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    prefix_cache_mb: Option<u32>,
}

/// What is added to the model.
#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = "How the model is run")]
pub(crate) struct LoraArgs {
    /// Answer with an adapter (LoRA): a directory as PEFT saves it, or a GGUF file. SCALE is how
    /// much of it, 1 where it is left out. May be given several times
    #[arg(long, value_name = "PATH[=SCALE]")]
    lora: Vec<Scaled>,
}

/// An adapter's path, and how much of it.
#[derive(Clone, Debug, PartialEq)]
struct Scaled {
    path: PathBuf,
    scale: f32,
}

impl FromStr for Scaled {
    type Err = Infallible;

    /// What follows the last `=` is part of the path where it is no number.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        let parted =
            text.rsplit_once('=').and_then(|(path, scale)| Some((path, scale.parse().ok()?)));
        let (path, scale) = parted.unwrap_or((text, 1.0));
        Ok(Self { path: path.into(), scale })
    }
}

impl LoraArgs {
    /// The engine's options with these.
    pub(crate) fn on(&self, options: Options) -> Options {
        let file = |(name, one): (String, &Scaled)| AdapterFile { name, path: one.path.clone() };
        Options { adapters: self.names().zip(&self.lora).map(file).collect(), ..options }
    }

    /// What a request is answered with.
    pub(crate) fn wanted(&self) -> Vec<Adapter> {
        let one =
            |(name, one): (String, &Scaled)| Adapter { which: Which::Name(name), scale: one.scale };
        self.names().zip(&self.lora).map(one).collect()
    }

    /// Each is called as its file or folder is, those of one name with a number.
    fn names(&self) -> impl Iterator<Item = String> {
        let stem = |one: &Scaled| {
            let stem = one.path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
            stem.unwrap_or_else(|| "adapter".to_owned())
        };
        let stems: Vec<String> = self.lora.iter().map(stem).collect();
        let named = |at: usize| {
            let before = stems[..at].iter().filter(|stem| **stem == stems[at]).count();
            if before == 0 { stems[at].clone() } else { format!("{} {}", stems[at], before + 1) }
        };
        (0..stems.len()).map(named).collect::<Vec<_>>().into_iter()
    }
}

/// The default of `--prefix-cache-mb`.
const PREFIX_MB: u32 = 4000;

impl PrefixArgs {
    /// The engine's options with these.
    pub(crate) fn on(&self, options: Options) -> Options {
        let disk = |folder: &PathBuf| PrefixDisk {
            folder: folder.clone(),
            bytes_most: u64::from(self.prefix_cache_mb.unwrap_or(PREFIX_MB)) * 1_000_000,
        };
        Options { prefix_disk: self.prefix_cache_dir.as_ref().map(disk), ..options }
    }
}

fn speculation(name: &str) -> Result<Speculation, String> {
    match name {
        "none" => Ok(Speculation::None),
        "lookup" => Ok(Speculation::Lookup),
        "draft" => Ok(Speculation::Draft),
        _ => Err("there are: none, lookup, draft".into()),
    }
}

fn kv_type(name: &str) -> Result<KvType, String> {
    KvType::named(name).ok_or_else(|| {
        let names: Vec<&str> = KvType::ALL.iter().map(|kv| kv.name()).collect();
        format!("there are: {}", names.join(", "))
    })
}

/// A row of the kernel table, or the best.
type Choice = std::sync::Arc<Option<&'static Kernels>>;

fn kernels(name: &str) -> Result<Choice, String> {
    if name == "best" {
        return Ok(Choice::new(None));
    }
    let found = Kernels::named(name).ok_or_else(|| {
        let rows = KERNELS.iter().filter(|row| row.runs_here()).map(|row| row.name);
        format!("this machine has: best, {}", rows.collect::<Vec<_>>().join(", "))
    })?;
    Ok(Choice::new(Some(found)))
}

impl ComputeArgs {
    /// The backend, with no model yet.
    pub(crate) fn cpu(&self) -> Cpu {
        let threads = self.threads.map_or_else(pool::cores, usize::from);
        let kernels = self.kernels.unwrap_or_else(Kernels::best);
        Cpu::new(kernels, threads).with_kv(self.kv_type.unwrap_or(kernels.kv))
    }

    /// Threads that compute, where that was said.
    pub(crate) fn threads(&self) -> Option<usize> {
        self.threads.map(usize::from)
    }

    /// The engine's options with these.
    pub(crate) fn on(&self, options: Options) -> Options {
        Options {
            threads: self.threads(),
            kernels: *self.kernels,
            kv_type: self.kv_type,
            ..options
        }
    }
}

impl ModelArgs {
    /// The engine's options, with the draft model fetched if it is not here.
    pub(crate) fn ready(&self, ui: &Ui) -> anyhow::Result<Options> {
        let draft = self.draft_model.as_ref().map(|reference| fetch(reference, ui)).transpose()?;
        Ok(Options { draft, ..self.options() })
    }

    /// The engine's options, without the draft model's file.
    pub(crate) fn options(&self) -> Options {
        let usual = match self.draft_model {
            Some(_) => Speculation::Draft,
            None => Speculation::default(),
        };
        let options = Options {
            context: self.context.map(|n| n as usize),
            kv_bytes: self.kv_mb.map(|mb| mb as usize * 1_000_000),
            prefix_cache: !self.no_prefix_cache,
            speculation: self.speculation.unwrap_or(usual),
            quantize: self.quantize,
            warn: ui::warn,
            ..Options::default()
        };
        self.compute.on(options)
    }
}

/// Fetches a model if it is not here, with a progress bar; returns its file.
pub(crate) fn fetch(reference: &Reference, ui: &Ui) -> anyhow::Result<PathBuf> {
    let title = reference.file_name().map_or_else(|| reference.to_string(), Into::into);
    Ok(Store::open_default()?.resolve(&reference.to_string(), &mut ui.progress(&title))?)
}

/// Fetches a model if it is not here, and loads it.
pub(crate) fn open(reference: &Reference, options: &Options, ui: &Ui) -> anyhow::Result<Local> {
    let path = fetch(reference, ui)?;
    let name = reference.to_string();
    Ok(Local::open(&name, &path, options, &mut |_| {})?)
}

/// Fetches a model if it is not here, and loads it, whether it writes or reads.
pub(crate) fn open_any(
    reference: &Reference,
    options: &Options,
    ui: &Ui,
) -> anyhow::Result<Resident> {
    let path = fetch(reference, ui)?;
    Ok(Resident::open(&reference.to_string(), &path, options, &mut |_| {})?)
}

/// Reads a file that a command was given, `-` being standard input; at most `most` bytes.
pub(crate) fn read(path: &str, most: u64) -> anyhow::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let reader: Box<dyn Read> = if path == "-" {
        Box::new(std::io::stdin().lock())
    } else {
        let open = std::fs::File::open(path);
        Box::new(open.map_err(|error| Usage(format!("{path}: {error}")))?)
    };
    reader
        .take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Usage(format!("{path}: {error}")))?;
    if bytes.len() as u64 > most {
        return Err(Usage(format!("{path} has more than {most} bytes")).into());
    }
    Ok(bytes)
}

/// The same, as text.
pub(crate) fn read_text(path: &str, most: u64) -> anyhow::Result<String> {
    String::from_utf8(read(path, most)?).map_err(|_| Usage(format!("{path} is no text")).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adapters_have_paths_scales_and_names() {
        let check = |given: &[&str], expect: &[(&str, &str, f32)]| {
            let lora = given.iter().map(|text| text.parse().expect("takes all")).collect();
            let args = LoraArgs { lora };
            let files = args.on(Options::default()).adapters;
            let told: Vec<(&str, &str, f32)> = files
                .iter()
                .zip(args.wanted())
                .map(|(file, wanted)| {
                    assert_eq!(wanted.which, Which::Name(file.name.clone()));
                    (file.name.as_str(), file.path.to_str().expect("a text"), wanted.scale)
                })
                .collect();
            assert_eq!(told, expect, "{given:?}");
        };
        check(&["./a/tuned"], &[("tuned", "./a/tuned", 1.0)]);
        check(&["a.gguf=0.5"], &[("a", "a.gguf", 0.5)]);
        check(&["a=b.gguf"], &[("a=b", "a=b.gguf", 1.0)]);
        check(&["a=b=-2"], &[("a=b", "a=b", -2.0)]);
        check(
            &["x/a", "y/a.gguf=2", "z/a"],
            &[("a", "x/a", 1.0), ("a 2", "y/a.gguf", 2.0), ("a 3", "z/a", 1.0)],
        );
        check(&[".."], &[("adapter", "..", 1.0)]);
    }
}
