//! How a server comes by its models: looks for each that was named, fetches what is not here,
//! loads the first, and tells the terminal and `/health` of it. The others are loaded when they
//! are first asked for.

use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use ingle_engine::{AdapterFile, Bounds, Load, Options, Resident, Stage, Status, Unloaded};
use ingle_model::pull::{Progress, Reference, Store};
use ingle_protocol::Fault;
use ingle_server::Slot;
use serde_json::json;

use super::adapters::Adapters;
use super::gateway::Door;
use super::models::{Files, Models};
use crate::ui::{Bar, Style, Ui, duration, size};

/// The most of a fleet's memory that one model's KV cache takes where nobody says: a quarter, and
/// no more than this.
const KV_MAX: usize = 2 << 30;
/// How often the first model is asked how far it is.
const LOOK: Duration = Duration::from_millis(5);
/// The longest name, in bytes.
const NAME_MAX: usize = 256;

/// A model to be served and the name that clients ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) reference: Reference,
}

impl FromStr for Named {
    type Err = String;

    /// `NAME=REF`, or a reference alone.
    fn from_str(text: &str) -> Result<Self, String> {
        let parted = text
            .split_once('=')
            .filter(|(name, rest)| !name.contains(['/', ':', '\\']) && !rest.starts_with('='));
        let (name, reference) = match parted {
            Some((name, rest)) => (Some(checked(name)?), super::super::reference(rest)?),
            None => (None, super::super::reference(text)?),
        };
        let name = name.unwrap_or_else(|| own_name(&reference));
        Ok(Self { name, reference })
    }
}

/// A name that can stand in a URL, a log and a label.
pub(super) fn checked(name: &str) -> Result<String, String> {
    let right = (1..=NAME_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
    if right && name.trim() == name {
        return Ok(name.to_owned());
    }
    Err(format!("a model's name has 1 to {NAME_MAX} bytes, no control characters, no outer space"))
}

/// A path is nobody's business but this machine's: clients see the file's name alone.
fn own_name(reference: &Reference) -> String {
    let stem = match reference {
        Reference::Path(path) => path.file_stem().map(|stem| stem.to_string_lossy().into_owned()),
        _ => None,
    };
    stem.unwrap_or_else(|| reference.to_string())
}

/// `NAME=PATH` of an adapter, or a path alone, which is called as its file or folder is.
pub(super) fn adapter(text: &str) -> Result<AdapterFile, String> {
    let parted = text.split_once('=').filter(|(name, _)| !name.contains(['/', '\\']));
    let (name, path) = match parted {
        Some((name, path)) => (name.to_owned(), path),
        None => {
            let stem = Path::new(text).file_stem().map(|stem| stem.to_string_lossy().into_owned());
            (stem.ok_or("an adapter has no name: give it one, as NAME=PATH")?, text)
        }
    };
    let wrong =
        |_| format!("an adapter's name has 1 to {NAME_MAX} bytes, and no control characters");
    Ok(AdapterFile { name: checked(&name).map_err(wrong)?, path: path.into() })
}

/// What the starting thread needs.
pub(crate) struct Start {
    /// The default first; at least one.
    pub(crate) named: Vec<Named>,
    pub(crate) any_installed: bool,
    pub(crate) bounds: Bounds,
    pub(crate) options: Options,
    /// Adapters of the default model.
    pub(crate) adapters: Vec<AdapterFile>,
    /// Guesses for the one model that is served.
    pub(crate) draft: Option<Reference>,
    /// Where the models are put, to be ended in order.
    pub(crate) loaded: Arc<OnceLock<Arc<Models>>>,
    /// What stands before them.
    pub(crate) door: Arc<Door>,
    pub(crate) json: bool,
    pub(crate) quiet: bool,
}

impl Start {
    /// All names, for people.
    pub(super) fn names(&self) -> String {
        if self.named.is_empty() {
            return "the policy's providers".to_owned();
        }
        self.named.iter().map(|it| it.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Says on standard output, or as a note, that something happened.
    pub(super) fn announce(&self, ui: &Ui, event: &str, url: &str) -> anyhow::Result<()> {
        if ui.json {
            let names: Vec<&str> = self.named.iter().map(|it| it.name.as_str()).collect();
            let (model, models) = (names.first(), &names);
            let told = json!({ "event": event, "url": url, "model": model, "models": models });
            return ui.object(&told);
        }
        ui.note(format_args!("{event} on {url} ({})", self.names()));
        Ok(())
    }

    /// Makes every model one that can be asked, and the slot full once the first is in memory.
    pub(crate) fn run(mut self, slot: &Slot, url: &str) -> anyhow::Result<()> {
        let ui = Ui::new(self.json, self.quiet);
        let store = Store::open_default()?;
        let draft = self.draft.as_ref().map(|reference| super::super::model::fetch(reference, &ui));
        self.options.draft = draft.transpose()?;
        let started = Arc::new(AtomicBool::new(false));
        let models = Arc::new(self.models(&store, &started)?);
        let absent = self.look(&store, &models)?;
        let first = &self.named[0];
        if absent.contains(&first) {
            let mut told = Told::new(&ui, first, |done, total| {
                let phase = "fetching".to_owned();
                slot.report(ingle_server::Progress { phase, done, total });
            });
            let path = store.resolve(&first.reference.to_string(), &mut told)?;
            models.found(&first.name, path);
            models.read(&first.name)?;
        }
        load_first(&models, &first.name, slot)?;
        started.store(true, Ordering::Relaxed);
        let loaded = Arc::clone(self.loaded.get_or_init(|| Arc::clone(&models)));
        slot.fill(self.door.before(loaded)?);
        self.announce(&ui, "ready", url)?;
        for named in absent.into_iter().filter(|it| *it != first) {
            fetch(&store, &models, named, &ui);
        }
        for name in models.look_into_store() {
            if let Err(fault) = models.read(&name) {
                ui.note(format_args!("{name} cannot be served: {fault}"));
            }
        }
        Ok(())
    }

    fn models(&self, store: &Store, started: &Arc<AtomicBool>) -> Result<Models, Fault> {
        let share = usize::try_from(self.bounds.memory_bytes / 4).unwrap_or(usize::MAX);
        let kv_bytes = self.options.kv_bytes.unwrap_or(share.min(KV_MAX));
        let options = Options { kv_bytes: Some(kv_bytes), ..self.options.clone() };
        let store = (store.clone(), self.any_installed);
        let (files, adapters) = (Files::default(), Adapters::default());
        let first = &self.named[0].name;
        self.adapters.iter().for_each(|file| adapters.push(first, file.clone()));
        let tell = Tell { json: self.json, quiet: self.quiet, started: Arc::clone(started) };
        let load = loader(Arc::clone(&files), adapters.clone(), options.clone(), tell.clone());
        let unloaded: Unloaded = Box::new(move |name| tell.unloaded(name));
        Models::new(&self.bounds, options, store, (files, adapters, load), unloaded)
    }

    /// Looks into all files that are here, so that what cannot be served is said now. Returns
    /// whose file is not here.
    fn look(&self, store: &Store, models: &Models) -> anyhow::Result<Vec<&Named>> {
        let mut absent = Vec::new();
        for named in &self.named {
            let text = named.reference.to_string();
            let path = match &named.reference {
                Reference::Path(_) => Some(store.resolve(&text, &mut ingle_model::pull::Quiet)?),
                _ => store.find(&text),
            };
            match path {
                Some(path) => {
                    models.found(&named.name, path);
                    models.read(&named.name)?;
                }
                None => {
                    models.fetching(&named.name, None);
                    absent.push(named);
                }
            }
        }
        Ok(absent)
    }
}

/// Loads the model that is there before anyone asks.
fn load_first(models: &Models, name: &str, slot: &Slot) -> Result<(), Fault> {
    let fleet = models.fleet();
    fleet.load(name, None)?;
    loop {
        let Some(Status { stage, loads, .. }) = fleet.status(name) else {
            return Err(Fault::ours(format!("`{name}` was lost; this is a bug")));
        };
        let share = match stage {
            Stage::Failed(fault) => return Err(fault),
            _ if loads > 0 => return Ok(()),
            Stage::Loading(share) => share,
            Stage::Unloaded | Stage::Ready => 0.0,
        };
        let (phase, done) = ("loading".to_owned(), (share * 100.0) as u64);
        slot.report(ingle_server::Progress { phase, done, total: Some(100) });
        std::thread::sleep(LOOK);
    }
}

/// Fetches a model while the server runs. What goes wrong is told and ends nothing.
fn fetch(store: &Store, models: &Models, named: &Named, ui: &Ui) {
    let mut told = Told::new(ui, named, |done, total| {
        let share = total.filter(|total| *total > 0).map(|total| done as f32 / total as f32);
        models.fetching(&named.name, share.map(|share| share.min(1.0)));
    });
    let outcome = store.resolve(&named.reference.to_string(), &mut told);
    drop(told);
    let outcome = outcome.map_err(|error| Fault::ours(error.to_string())).and_then(|path| {
        models.found(&named.name, path);
        models.read(&named.name)
    });
    if let Err(fault) = outcome {
        let what = format!("`{}` cannot be served until a restart: {fault}", named.name);
        ui.err(Style::Red, &what);
        models.failed(&named.name, Fault::ours(what));
    }
}

/// How loads and unloads are told.
#[derive(Clone)]
struct Tell {
    json: bool,
    quiet: bool,
    /// The first load is told as the server's being ready.
    started: Arc<AtomicBool>,
}

impl Tell {
    fn event(&self, event: &str, model: &str, took: Option<Duration>) {
        if !self.started.load(Ordering::Relaxed) {
            return;
        }
        let ui = Ui::new(self.json, self.quiet);
        if ui.json {
            let ms = took.map(|took| took.as_millis() as u64);
            // Who reads no more is told no more.
            let _ = ui.object(&json!({ "event": event, "model": model, "ms": ms }));
            return;
        }
        match took {
            Some(took) => ui.note(format_args!("{event} {model} in {}", duration(took))),
            None => ui.note(format_args!("{event} {model}")),
        }
    }

    fn unloaded(&self, model: &str) {
        self.event("unloaded", model, None);
    }
}

/// Loads by name, with a bar on the terminal.
fn loader(files: Files, adapters: Adapters, options: Options, tell: Tell) -> Load<Resident> {
    Box::new(move |name, progress| {
        let path = files.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        let path = path.ok_or_else(|| Fault::ours(format!("`{name}` has no file; a bug")))?;
        let began = Instant::now();
        let options = Options { adapters: adapters.files(name), ..options.clone() };
        let outcome = open(name, &path, &options, &tell, progress);
        match &outcome {
            Ok(_) => tell.event("loaded", name, Some(began.elapsed())),
            Err(fault) => {
                let ui = Ui::new(tell.json, tell.quiet);
                ui.err(Style::Red, format_args!("`{name}` could not be loaded: {fault}"));
            }
        }
        outcome
    })
}

fn open(
    name: &str,
    path: &Path,
    options: &Options,
    tell: &Tell,
    progress: &mut dyn FnMut(f32),
) -> Result<Resident, Fault> {
    let ui = Ui::new(tell.json, tell.quiet);
    let total = std::fs::metadata(path).map_or(0, |file| file.len());
    let mut bar = ui.progress(name);
    bar.begin(&format!("loading {}", size(total)), Some(total));
    Resident::open(name, path, options, &mut |share| {
        bar.advance((share * total as f32) as u64);
        progress(share);
    })
}

/// Tells a fetch's progress twice: on the terminal, and to whom it may concern.
struct Told<'a, F: FnMut(u64, Option<u64>)> {
    bar: Bar<'a>,
    report: F,
    total: Option<u64>,
}

impl<'a, F: FnMut(u64, Option<u64>)> Told<'a, F> {
    fn new(ui: &'a Ui, named: &Named, report: F) -> Self {
        let title = named.reference.file_name().unwrap_or(&named.name);
        Self { bar: ui.progress(title), report, total: None }
    }
}

impl<F: FnMut(u64, Option<u64>)> Progress for Told<'_, F> {
    fn begin(&mut self, label: &str, total: Option<u64>) {
        self.total = total;
        (self.report)(0, total);
        self.bar.begin(label, total);
    }

    fn advance(&mut self, bytes_done: u64) {
        (self.report)(bytes_done, self.total);
        self.bar.advance(bytes_done);
    }

    fn done(&mut self) {
        self.bar.done();
    }

    fn cancelled(&self) -> bool {
        self.bar.cancelled()
    }

    fn note(&mut self, line: &str) {
        self.bar.note(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_references() {
        let rows: &[(&str, Option<(&str, &str)>)] = &[
            ("smollm2", Some(("smollm2", "smollm2"))),
            ("fast=smollm2", Some(("fast", "smollm2"))),
            ("./folder/x.gguf", Some(("x", "./folder/x.gguf"))),
            ("mine=./x.gguf", Some(("mine", "./x.gguf"))),
            ("./a=b.gguf", Some(("a=b", "./a=b.gguf"))),
            ("pypi:p==1.0/m.gguf", Some(("pypi:p==1.0/m.gguf", "pypi:p==1.0/m.gguf"))),
            ("mine=pypi:p==1.0/m.gguf", Some(("mine", "pypi:p==1.0/m.gguf"))),
            ("=smollm2", None),
            ("a=", None),
            ("a =smollm2", None),
            ("a\n=smollm2", None),
        ];
        for (text, expect) in rows {
            let named = text.parse::<Named>().ok();
            let told = named.as_ref().map(|it| (it.name.clone(), it.reference.to_string()));
            let expect = expect.map(|(name, reference)| (name.to_owned(), reference.to_owned()));
            assert_eq!(told, expect, "{text:?}");
        }
    }

    #[test]
    fn adapters_have_names_and_paths() {
        let check = |text: &str, expect: Option<(&str, &str)>| {
            let told = adapter(text).ok();
            let told =
                told.as_ref().map(|it| (it.name.as_str(), it.path.to_str().expect("a text")));
            assert_eq!(told, expect, "{text:?}");
        };
        check("tuned=./folder", Some(("tuned", "./folder")));
        check("./folder/tuned.gguf", Some(("tuned", "./folder/tuned.gguf")));
        check("./a=b", Some(("a=b", "./a=b")));
        check("tuned=a=b", Some(("tuned", "a=b")));
        check("=a", None);
        check("..", None);
    }
}
