//! `ingle rm`: removes models from the store.

use std::io::{self, BufRead, IsTerminal, Write};

use clap::Args as ClapArgs;
use ingle_model::pull::Store;
use serde_json::json;

use crate::ui::{Failed, Ui, Usage, size};

/// Remove models from the store
///
/// Also removes what is there of an interrupted download. Files outside the store are never
/// touched.
#[derive(Debug, ClapArgs)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The models' names, as `ingle list` shows them
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

const AFTER_HELP: &str = "\
Without --yes it asks first; where nobody can be asked (no terminal), --yes is required.

Examples:
  ingle rm smollm2
  ingle rm --yes smollm2 gemma3";

/// Runs the command.
pub(crate) fn run(args: Args, ui: &mut Ui) -> anyhow::Result<()> {
    let store = Store::open_default()?;
    if !args.yes && !asked(&args.names)? {
        ui.note("nothing was removed");
        return Ok(());
    }
    let mut failed = false;
    for name in &args.names {
        match store.remove(name) {
            Ok(bytes) if ui.json => ui.object(&json!({ "removed": name, "bytes": bytes }))?,
            Ok(bytes) => ui.note(format_args!("removed {name} ({} freed)", size(bytes))),
            Err(error) => {
                failed = true;
                ui.error(&error.into());
            }
        }
    }
    if failed { Err(Failed.into()) } else { Ok(()) }
}

fn asked(names: &[String]) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Usage("nobody can be asked here\nhint: add --yes".into()).into());
    }
    let mut stderr = io::stderr().lock();
    write!(stderr, "Remove {}? [y/N] ", names.join(", "))?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()))
}
