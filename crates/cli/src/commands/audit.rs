//! `ingle audit`: whether the ledger is whole, what it says of calls, what they asked and got where
//! that is kept, and removing what is old.

use anyhow::anyhow;
use clap::{Args as ClapArgs, Subcommand};
use ingle_ledger::{Anchor, Identities, Kept, Ledger, Options, Verdict, Whole};
use ingle_protocol::wire::{self, rfc3339};
use serde_json::{Value, json};

use super::ledger::{LedgerArgs, When, now_ms};
use crate::ui::{Failed, Ui, Usage, count};

/// The most bytes of a file of keys.
const KEYS_BYTES: u64 = 64 << 10;

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
    /// Write what calls asked and got as JSON, one a line, where `ingle serve --ledger-content`
    /// kept it
    Content(Content),
    /// Write a new key that opens such content, to keep where no server is
    Key(Key),
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
struct Content {
    /// A file of keys that open it, as `ingle audit key` or age-keygen writes it; `-` is standard
    /// input
    #[arg(long, value_name = "FILE")]
    identity: String,
    /// Of this call alone
    #[arg(long, value_name = "ID")]
    call: Option<String>,
    #[command(flatten)]
    ledger: LedgerArgs,
}

#[derive(Debug, ClapArgs)]
struct Key {}

#[derive(Debug, ClapArgs)]
struct Prune {
    /// Remove only what they asked and got; their entries stay
    #[arg(long)]
    content: bool,
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
  ingle audit prune --before 365d
  ingle audit prune --content --before 30d
  ingle audit key > key.txt
  ingle audit content --identity key.txt --call ID";

/// Runs the command.
pub(crate) fn run(args: Args, ui: &mut Ui) -> anyhow::Result<()> {
    match args.what {
        What::Verify(args) => verify(&args, ui),
        What::Export(args) => export(&args, ui),
        What::List(args) => list(&args, ui),
        What::Show(args) => show(&args, ui),
        What::Content(args) => content(&args, ui),
        What::Key(Key {}) => ui.line(Identities::make().trim_end()),
        What::Prune(args) => prune(&args, ui),
    }
}

fn anchor(anchor: &Anchor) -> Value {
    json!({ "count": anchor.count, "head": anchor.head.to_string() })
}

fn verify(args: &Verify, ui: &Ui) -> anyhow::Result<()> {
    match args.ledger.reader()?.verify(args.anchor)? {
        Verdict::Whole(Whole { anchor: end, rows, base, missed }) => {
            if ui.json {
                let end = anchor(&end);
                return ui.object(&json!({ "whole": true, "rows": rows, "end": end,
                    "base": anchor(&base), "missed": missed.calls }));
            }
            ui.line(format_args!("whole: {} rows, the last is {end}", count(rows)))?;
            if base.count > 0 {
                ui.line(format_args!("{} older ones were removed in order", count(base.count)))?;
            }
            if missed.calls > 0 {
                let [from, to] = [missed.from_ms, missed.to_ms].map(|ms| rfc3339(ms / 1000));
                ui.line(format_args!(
                    "{} calls that stayed on their machine could not be kept, from {from} to {to}",
                    count(missed.calls)
                ))?;
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
        ui.json_line(&wire::entry::write(&stored?.entry))?;
    }
    Ok(())
}

fn show(args: &Show, ui: &Ui) -> anyhow::Result<()> {
    let found = args.ledger.reader()?.find(&args.id)?;
    let found = found.ok_or_else(|| anyhow!("the ledger has no call {:?}", args.id))?;
    ui.json_line(&wire::entry::write(&found.entry))
}

fn content(args: &Content, ui: &Ui) -> anyhow::Result<()> {
    let text = super::model::read_text(&args.identity, KEYS_BYTES)?;
    let keys = Identities::read(&args.identity, &text).map_err(|it| Usage(it.to_string()))?;
    let mut reader = args.ledger.reader()?;
    let (mut found, mut closed) = (false, false);
    for kept in reader.contents(args.call.as_deref()) {
        found = true;
        match kept.map_err(anyhow::Error::from).and_then(|kept| opened(&keys, &kept)) {
            Ok(line) => ui.object(&line)?,
            Err(error) => {
                closed = true;
                // What can be done is the same for all of them, and stands in the documentation.
                ui.warn(error.to_string().lines().next().unwrap_or_default());
            }
        }
    }
    match &args.call {
        Some(call) if !found => {
            let hint =
                "hint: it is kept where a server runs with --ledger-content, until it is pruned";
            Err(anyhow!("the ledger has no content of the call {call:?}\n{hint}"))
        }
        _ if closed => Err(Failed.into()),
        _ => Ok(()),
    }
}

/// What a call asked and got. Who can write to the ledger can encrypt anything for its readers, and
/// put it beside any call: only what says itself that it is this one's is shown as such.
fn opened(keys: &Identities, kept: &Kept) -> anyhow::Result<Value> {
    let cannot = |why: &dyn std::fmt::Display| {
        anyhow!("what the call {:?} asked and got cannot be opened: {why}", kept.id)
    };
    let words = keys.open(&kept.sealed).map_err(|error| cannot(&error))?;
    let line: Value = serde_json::from_slice(&words)
        .map_err(|error| cannot(&format_args!("it is no JSON: {error}")))?;
    match line.get("call").and_then(Value::as_str) {
        Some(call) if kept.is_of(call) => Ok(line),
        Some(call) => Err(cannot(&format_args!("it says that it is of the call {call:?}"))),
        None => Err(cannot(&"it does not say of which call it is")),
    }
}

fn prune(args: &Prune, ui: &Ui) -> anyhow::Result<()> {
    let place = args.ledger.place()?;
    // One that is not there is not to be made by this.
    drop(args.ledger.reader()?);
    let now_ms = now_ms();
    let ledger = Ledger::open(&place, &Options::default())?;
    if args.content {
        let removed = ledger.forget(args.before.ms(now_ms))?;
        if ui.json {
            return ui.object(&json!({ "removed": removed }));
        }
        return ui.line(format_args!("the content of {} calls was removed", count(removed)));
    }
    let pruned = ledger.prune(args.before.ms(now_ms), now_ms)?;
    if ui.json {
        return ui.object(&json!({ "removed": pruned.rows, "base": anchor(&pruned.base) }));
    }
    ui.line(format_args!("{} rows were removed", count(pruned.rows)))
}
