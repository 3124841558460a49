//! `ingle health`: asks a running server how it is, for a container's or a script's check: one word
//! and an exit code.

use std::time::Duration;

use anyhow::anyhow;
use clap::Args as ClapArgs;
use ingle_server::{Health, Remote};

use crate::ui::{Failed, Ui};

/// Ask a running server whether it is ready
#[derive(Debug, ClapArgs)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The server's address
    #[arg(value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: String,

    /// How long to wait for its answer
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    timeout: u16,

    /// Believe whatever certificate it shows: for a server on this machine, whose certificate is
    /// for another name
    #[arg(long)]
    insecure: bool,
}

const AFTER_HELP: &str = "\
Says `ok`, `loading` with how far it is, or `stopping`. The exit code is 0 for `ok` alone.

Examples:
  ingle health
  ingle health https://127.0.0.1:8443 --insecure
  ingle health --json | jq .models";

/// Runs the command.
pub(crate) fn run(args: Args, ui: &mut Ui) -> anyhow::Result<()> {
    let remote = Remote {
        url: args.url,
        key: None,
        patience: Duration::from_secs(args.timeout.into()),
        believe: args.insecure,
    };
    let Health { well, told } = remote.health().map_err(|why| anyhow!("{why}"))?;
    if ui.json {
        ui.object(&told)?;
    } else {
        ui.line(words(&told))?;
    }
    if well { Ok(()) } else { Err(Failed.into()) }
}

/// Its status, and how far it is.
fn words(told: &serde_json::Value) -> String {
    let status = told["status"].as_str().unwrap_or_default();
    let (phase, done, total) = (&told["phase"], told["done"].as_u64(), told["total"].as_u64());
    match (phase.as_str(), done, total) {
        (Some(phase), Some(done), Some(total)) if total > 0 => {
            let percent = u128::from(done) * 100 / u128::from(total);
            format!("{status}: {phase} {percent} %")
        }
        (Some(phase), ..) if !phase.is_empty() => format!("{status}: {phase}"),
        _ => status.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn states_in_words() {
        let rows = [
            (json!({ "status": "ok", "models": [] }), "ok"),
            (json!({ "status": "stopping" }), "stopping"),
            (
                json!({ "status": "loading", "phase": "fetching", "done": 50, "total": 200 }),
                "loading: fetching 25 %",
            ),
            (
                json!({ "status": "loading", "phase": "fetching", "done": 50, "total": null }),
                "loading: fetching",
            ),
            (json!({ "status": "loading", "phase": "", "done": 0, "total": null }), "loading"),
        ];
        for (told, expect) in rows {
            assert_eq!(words(&told), expect);
        }
    }
}
