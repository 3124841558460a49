//! `ingle key`: makes, lists and revokes the keys of a server. A key is random and shown once;
//! what is kept of it is a salted digest.

mod rows;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::num::NonZeroU32;

use clap::{Args as ClapArgs, Subcommand};
use ingle_server::{KeyHash, Scope};
use serde_json::json;

pub(super) use rows::{FILE_MAX, Ring, among, place, wrong};
use rows::{Name, Parsed, Row};

use crate::ui::{Ui, Usage};

/// Make, list and revoke keys for `ingle serve`
///
/// A key is 256 random bits, shown once. What is kept is the SHA-256 of it and a salt: nobody can
/// try so many keys, so a slow hash would protect nothing more. A server that runs takes changes
/// of its file of keys up within a second or two, and at once on SIGHUP.
#[derive(Debug, ClapArgs)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make a key, and show it once
    Create(Create),
    /// Show which keys a file has
    List(List),
    /// Take a key out of a file: its next request is refused
    Revoke(Revoke),
}

#[derive(Debug, ClapArgs)]
struct Create {
    /// What logs and metrics call it
    name: Name,

    /// Add it to this file, for `ingle serve --keys-file`; otherwise its row is printed
    #[arg(long, value_name = "FILE")]
    file: Option<String>,

    /// What it opens, separated by commas: infer, files, batch, models, read, metrics
    #[arg(long, value_name = "SCOPES", value_delimiter = ',', default_value = "infer,read")]
    scopes: Vec<Scope>,

    /// The only models that it may ask, separated by commas
    #[arg(long, value_name = "MODELS", value_delimiter = ',')]
    models: Vec<String>,

    /// The most requests in a minute
    #[arg(long, value_name = "N")]
    requests_per_minute: Option<NonZeroU32>,

    /// The most tokens in a minute, of prompts and answers
    #[arg(long, value_name = "N")]
    tokens_per_minute: Option<NonZeroU32>,

    /// The lowest `priority` that its requests may give, lower being sooner [default: 0 where a
    /// server has several keys]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    min_priority: Option<i32>,

    /// The data classes of all that it asks, by a policy's names, separated by commas
    #[arg(long, value_name = "CLASSES", value_delimiter = ',')]
    classes: Vec<Name>,

    /// Whose it is: keys of one owner share files, batches, cached prefixes and their turn
    /// [default: its own]
    #[arg(long, value_name = "NAME")]
    owner: Option<Name>,
}

#[derive(Debug, ClapArgs)]
struct List {
    /// The file of keys
    #[arg(long, value_name = "FILE")]
    file: String,
}

#[derive(Debug, ClapArgs)]
struct Revoke {
    /// The key's name
    name: String,

    /// The file of keys
    #[arg(long, value_name = "FILE")]
    file: String,
}

const AFTER_HELP: &str = "\
Examples:
  ingle key create alice --file keys.toml
  ingle key create monitor --file keys.toml --scopes metrics
  ingle key create guest --file keys.toml --requests-per-minute 20 --tokens-per-minute 20000
  ingle key list --file keys.toml
  ingle key revoke guest --file keys.toml
  ingle serve --keys-file keys.toml";

/// Runs the command.
pub(crate) fn run(args: Args, ui: &mut Ui) -> anyhow::Result<()> {
    match args.what {
        What::Create(create) => make(create, ui),
        What::List(List { file }) => list(&file, ui),
        What::Revoke(revoke) => take(&revoke, ui),
    }
}

fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    let failed = |error| anyhow::anyhow!("the system gives no random numbers: {error}");
    getrandom::fill(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

fn make(create: Create, ui: &Ui) -> anyhow::Result<()> {
    let mut key = "ingle-".to_owned();
    for byte in random::<32>()? {
        write!(key, "{byte:02x}")?;
    }
    let row = Row {
        name: Parsed(create.name),
        hash: Parsed(KeyHash::of(&random::<16>()?, key.as_bytes())),
        owner: create.owner.map(Parsed),
        scopes: Some(BTreeSet::from_iter(create.scopes).into_iter().map(Parsed).collect()),
        models: (!create.models.is_empty()).then(|| create.models.into_iter().collect()),
        min_priority: create.min_priority,
        requests_per_minute: create.requests_per_minute,
        tokens_per_minute: create.tokens_per_minute,
        classes: create.classes.into_iter().map(|class| class.0).collect(),
    };
    let text = toml::to_string(&Ring { keys: vec![row.clone()] })?;
    if let Some(file) = &create.file {
        let name = row.name.0.clone();
        Ring::change(file, true, |ring| {
            if ring.keys.iter().any(|other| other.name.0 == name) {
                let hint = "hint: revoke that one first, or take another name";
                return Err(Usage(format!("{file} has a key {name}\n{hint}")).into());
            }
            ring.keys.push(row.clone());
            Ok(())
        })?;
    }
    if ui.json {
        let name = &row.name.0.0;
        return ui.object(&json!({ "name": name, "key": key, "file": create.file, "row": text }));
    }
    ui.line(&key)?;
    match &create.file {
        Some(file) => ui.note(format_args!("this is shown once; its hash is in {file}")),
        None => {
            ui.note("the key is shown once; its row, for the server's file of settings or keys:");
            ui.out(format_args!("\n{text}"))?;
        }
    }
    Ok(())
}

fn list(file: &str, ui: &Ui) -> anyhow::Result<()> {
    let ring = Ring::read(file)?;
    let number = |limit: Option<NonZeroU32>| limit.map_or("-".to_owned(), |n| n.to_string());
    let heads = ["NAME", "SCOPES", "REQUESTS/MIN", "TOKENS/MIN", "OWNER", "MODELS"];
    let mut table = vec![heads.map(str::to_owned).to_vec()];
    for key in ring.keys.iter().map(Row::key) {
        let scopes: Vec<&str> = key.scopes.iter().map(|scope| scope.name()).collect();
        if ui.json {
            ui.object(&json!({
                "name": key.name,
                "scopes": scopes,
                "requests_per_minute": key.requests_per_minute,
                "tokens_per_minute": key.tokens_per_minute,
                "min_priority": key.min_priority,
                "owner": key.owner,
                "classes": key.classes,
                "models": key.models,
            }))?;
        }
        let models = key.models.map_or("all".to_owned(), |all| Vec::from_iter(all).join(", "));
        table.push(vec![
            key.name,
            scopes.join(", "),
            number(key.requests_per_minute),
            number(key.tokens_per_minute),
            key.owner.unwrap_or_else(|| "-".to_owned()),
            models,
        ]);
    }
    if ui.json { Ok(()) } else { ui.table(&table, &[2, 3]) }
}

fn take(Revoke { name, file }: &Revoke, ui: &Ui) -> anyhow::Result<()> {
    Ring::change(file, false, |ring| {
        let before = ring.keys.len();
        ring.keys.retain(|row| row.name.0.0 != *name);
        if ring.keys.len() == before {
            let names: Vec<&str> = ring.keys.iter().map(|row| row.name.0.0.as_str()).collect();
            let told = format!("{file} has no key {name}; it has: {}", names.join(", "));
            return Err(Usage(told).into());
        }
        Ok(())
    })?;
    if ui.json {
        return ui.object(&json!({ "revoked": name, "file": file }));
    }
    ui.note(format_args!("revoked {name}"));
    Ok(())
}
