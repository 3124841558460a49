//! `ingle list`: which models are here, and which could be.

use clap::Args as ClapArgs;
use ingle_model::catalogue::{MODELS, Model};
use ingle_model::pull::{Entry, Store};
use serde_json::{Value, json};

use crate::ui::{Ui, size};

/// Show which models are here
#[derive(Debug, ClapArgs)]
#[command(visible_alias = "ls", after_long_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Show the models that Ingle knows by name instead
    #[arg(long)]
    catalogue: bool,
}

const AFTER_HELP: &str = "\
Examples:
  ingle list                      Models in the store
  ingle list --catalogue          Models that can be fetched by name
  ingle list --json | jq -r .path";

/// Runs the command.
pub(crate) fn run(args: Args, ui: &mut Ui) -> anyhow::Result<()> {
    if args.catalogue { catalogue(ui) } else { models(ui) }
}

/// A model in the store, as JSON.
pub(crate) fn object(entry: &Entry) -> Value {
    let manifest = &entry.manifest;
    json!({
        "name": manifest.name,
        "path": entry.path,
        "size": manifest.size,
        "sha256": manifest.sha256,
        "verified": manifest.verified,
        "licence": manifest.licence,
        "reference": manifest.reference,
        "source": manifest.source,
        "fetched_at": manifest.fetched_at,
    })
}

fn models(ui: &Ui) -> anyhow::Result<()> {
    let store = Store::open_default()?;
    let listing = store.list()?;
    for problem in &listing.problems {
        ui.note(format_args!("skipped {problem}"));
    }
    if ui.json {
        for entry in &listing.models {
            ui.object(&object(entry))?;
        }
        return Ok(());
    }
    for (name, bytes) in &listing.partial {
        let so_far = size(*bytes);
        ui.note(format_args!("{name} is not whole ({so_far} so far); `ingle pull` goes on"));
    }
    if listing.models.is_empty() {
        let root = store.root().display();
        ui.note(format_args!("no models in {root}; `ingle pull smollm2` fetches one"));
        return Ok(());
    }
    let mut rows = vec![heading(["NAME", "SIZE", "LICENCE", "FETCHED", "SOURCE"])];
    rows.extend(listing.models.iter().map(|entry| {
        let manifest = &entry.manifest;
        vec![
            manifest.name.clone(),
            size(manifest.size),
            manifest.licence.clone().unwrap_or_else(|| "unknown".into()),
            manifest.fetched_at.chars().take(10).collect(),
            shortened(&manifest.source),
        ]
    }));
    ui.table(&rows, &[1])
}

fn catalogue(ui: &Ui) -> anyhow::Result<()> {
    if ui.json {
        return MODELS.iter().try_for_each(|model| ui.object(&row(model)));
    }
    let mut rows = vec![heading(["NAME", "SIZE", "LICENCE", "WHAT IT IS", "GOOD FOR"])];
    rows.extend(MODELS.iter().map(|model| {
        [model.name, &size(model.size), model.licence, model.title, model.good_for]
            .map(Into::into)
            .to_vec()
    }));
    ui.table(&rows, &[1])
}

fn row(model: &Model) -> Value {
    let sources = model.sources.iter();
    let sources: Vec<Vec<&str>> =
        sources.map(|parts| parts.iter().map(|part| part.from).collect()).collect();
    json!({
        "name": model.name,
        "aliases": model.aliases,
        "title": model.title,
        "good_for": model.good_for,
        "licence": model.licence,
        "size": model.size,
        "sha256": model.sha256,
        "sources": sources,
        "default": model.default,
    })
}

fn heading(names: [&str; 5]) -> Vec<String> {
    names.map(Into::into).to_vec()
}

/// The beginning of a long source, for a table.
fn shortened(source: &str) -> String {
    const MOST: usize = 48;
    if source.chars().count() <= MOST {
        return source.into();
    }
    source.chars().take(MOST - 1).chain(['…']).collect()
}
