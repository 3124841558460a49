//! `ingle audit`: whether the ledger is whole, what it says of calls, and removing what is old.

use anyhow::anyhow;
use clap::{Args as ClapArgs, Subcommand};
use ingle_ledger::{Anchor, Ledger, Options, Verdict, Whole};
use ingle_protocol::wire;
use serde_json::{Value, json};

use super::ledger::{LedgerArgs, When, now_ms};
use crate::ui::{Failed, Ui, count};

/// See whether the ledger of calls is whole, and what it says
///
/// Every call leaves an entry in the ledger: who asked, what was decided and why, which hosts any
/// byte went to, what it took and cost; no word of it. Each row is hashed with the one before, so
/// that a change of anything shows.
#[derive(Debug, ClapArgs)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Walk the whole chain; the exit code is 0 if it is whole
    Verify(Verify),
    /// Write the chain's length and head as HASH:COUNT, to keep elsewhere
    Export(Export),
    /// Write entries as JSON, one a line
    List(List),
    /// Write the entry of one call as JSON
    Show(Show),
    /// Remove entries of calls from before a day; the chain stays whole
    Prune(Prune),
}

#[derive(Debug, ClapArgs)]
struct Verify {
    /// What `ingle audit export` wrote before: the chain has to go on from there
    #[arg(long, value_name = "HASH:COUNT")]
    anchor: Option<Anchor>,
    #[command(flatten)]
    ledger: LedgerArgs,
}

#[derive(Debug, ClapArgs)]
struct Export {
    #[command(flatten)]
    ledger: LedgerArgs,
}

#[derive(Debug, ClapArgs)]
struct List {
    /// Calls from this day on, or from so many days ago
    #[arg(long, value_name = "DAY", default_value = "1970-01-01")]
    since: When,
    /// Calls before this day
    #[arg(long, value_name = "DAY")]
    until: Option<When>,
    #[command(flatten)]
    ledger: LedgerArgs,
}

#[derive(Debug, ClapArgs)]
struct Show {
    /// The call's id
    id: String,
    #[command(flatten)]
    ledger: LedgerArgs,
}

#[derive(Debug, ClapArgs)]
struct Prune {
    /// The first day that stays, or how many days do
    #[arg(long, value_name = "DAY")]
    before: When,
    #[command(flatten)]
    ledger: LedgerArgs,
}

const AFTER_HELP: &str = "\
Who can write to the ledger can cut its end off, or write another one: that shows only against an
anchor that was kept where they cannot write.

Examples:
  ingle audit verify
  ingle audit export > anchor.txt
  ingle audit verify --anchor \"$(cat anchor.txt)\"
  ingle audit list --since 7d | jq 'select(.hosts != null)'
  ingle audit prune --before 365d";

/// Runs the command.
pub(crate) fn run(args: Args, ui: &mut Ui) -> anyhow::Result<()> {
    match args.what {
        What::Verify(args) => verify(&args, ui),
        What::Export(args) => export(&args, ui),
        What::List(args) => list(&args, ui),
        What::Show(args) => show(&args, ui),
        What::Prune(args) => prune(&args, ui),
    }
}

fn anchor(anchor: &Anchor) -> Value {
    json!({ "count": anchor.count, "head": anchor.head.to_string() })
}

fn verify(args: &Verify, ui: &Ui) -> anyhow::Result<()> {
    match args.ledger.reader()?.verify(args.anchor)? {
        Verdict::Whole(Whole { anchor: end, rows, base }) => {
            if ui.json {
                let end = anchor(&end);
                return ui.object(&json!({ "whole": true, "rows": rows, "end": end,
                    "base": anchor(&base) }));
            }
            ui.line(format_args!("whole: {} rows, the last is {end}", count(rows)))?;
            if base.count > 0 {
                ui.line(format_args!("{} older ones were removed in order", count(base.count)))?;
            }
            Ok(())
        }
        Verdict::Broken(broken) => {
            if ui.json {
                let why = broken.to_string();
                ui.object(&json!({ "whole": false, "row": broken.seq, "why": why }))?;
            } else {
                ui.line(format_args!("not whole: {broken}"))?;
            }
            Err(Failed.into())
        }
    }
}

fn export(args: &Export, ui: &Ui) -> anyhow::Result<()> {
    let end = args.ledger.reader()?.anchor()?;
    if ui.json { ui.object(&anchor(&end)) } else { ui.line(end) }
}

fn list(args: &List, ui: &Ui) -> anyhow::Result<()> {
    let now_ms = now_ms();
    let until = args.until.map_or(u64::MAX, |until| until.ms(now_ms));
    let mut reader = args.ledger.reader()?;
    for stored in reader.entries(args.since.ms(now_ms), until) {
        ui.line(wire::entry::write(&stored?.entry))?;
    }
    Ok(())
}

fn show(args: &Show, ui: &Ui) -> anyhow::Result<()> {
    let found = args.ledger.reader()?.find(&args.id)?;
    let found = found.ok_or_else(|| anyhow!("the ledger has no call {:?}", args.id))?;
    ui.line(wire::entry::write(&found.entry))
}

fn prune(args: &Prune, ui: &Ui) -> anyhow::Result<()> {
    let place = args.ledger.place()?;
    // One that is not there is not to be made by this.
    drop(args.ledger.reader()?);
    let now_ms = now_ms();
    let pruned =
        Ledger::open(&place, &Options::default())?.prune(args.before.ms(now_ms), now_ms)?;
    if ui.json {
        return ui.object(&json!({ "removed": pruned.rows, "base": anchor(&pruned.base) }));
    }
    ui.line(format_args!("{} rows were removed", count(pruned.rows)))
}
