//! `ingle serve`: models behind the HTTP APIs of OpenAI, Anthropic and Ollama.

mod adapters;
mod content;
pub(super) mod gateway;
mod models;
mod ops;
mod reload;
mod settings;
mod spending;
mod start;

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;
use clap::Args as ClapArgs;
use gateway::Nobody;
pub(super) use gateway::{Door, GatewayArgs};
use ingle_engine::{AdapterFile, Bounds};
use ingle_model::pull::Store;
use ingle_protocol::KeepAlive;
use ingle_records::Records;
use ingle_server::{AccessLog, Config, DEFAULT_PORT, Error, Key, Limits, Slot, Stop};
pub(super) use models::Models;
use ops::OpsArgs;
use reload::Watch;
use settings::Settings;
pub(super) use start::{Named, Start};

use super::model::{ModelArgs, PrefixArgs};
use crate::ui::{self, Ui, Usage};

/// The most threads that serve requests, and those beside models of this machine.
const SERVING_MAX: usize = 16;
const SERVING_BESIDE_MODELS: usize = 2;
/// The most bytes of a file of keys.
const KEYS_MAX: u64 = 1 << 20;

/// Serve models over HTTP, as the clients of OpenAI, Anthropic and Ollama know it
///
/// Listens at once, fetches the models that are not here, and loads the first: /health tells how
/// far it is. The others are loaded when they are first asked for, and whoever is idle makes room
/// where memory is short. No request fetches anything, unless --allow-pull lets it. The first
/// Ctrl-C or SIGTERM lets running answers finish; the second ends at once.
#[derive(Clone, Debug, ClapArgs)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Models, the first for requests that name none: each a catalogue name, a path, hf:…, pypi:…
    /// or npm:…, and before it, with `=`, the name that clients ask for [default: the reference,
    /// or a file's name]
    #[arg(value_name = "[NAME=]REF", default_value = super::DEFAULT_MODEL)]
    models: Vec<Named>,

    /// A file of settings: each flag here by its name, with `_` for `-`, and keys; flags go before
    /// it. It is read again when it changes, and on SIGHUP
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Show which settings hold, as such a file, and where each comes from; serve nothing
    #[arg(long)]
    print_config: bool,

    /// The name that clients ask for, where one model is served
    #[arg(long = "as", value_name = "NAME", value_parser = start::checked)]
    name: Option<String>,

    /// Serve also every model that `ingle list` shows, by its name there
    #[arg(long)]
    any_installed: bool,

    /// Let clients fetch and delete models (Ollama's `/api/pull` and `/api/delete`) and load
    /// adapters from files of this machine (`/v1/load_lora_adapter`); serves what is here, too, as
    /// `--any-installed` does
    #[arg(long)]
    allow_pull: bool,

    /// An adapter (LoRA) of the first model, and the name that clients ask for: a directory as PEFT
    /// saves it, or a GGUF file. May be given several times
    #[arg(long, value_name = "[NAME=]PATH", value_parser = start::adapter)]
    lora: Vec<AdapterFile>,

    /// Memory that all models together may take, in MB [default: nine tenths of what is free]
    #[arg(long, value_name = "MB", value_parser = clap::value_parser!(u32).range(1..))]
    memory_mb: Option<u32>,

    /// How long a model without requests is kept: `5m`, seconds, 0 for not at all, -1 or `forever`
    /// for until its memory is needed, and then as the last
    #[arg(long, value_name = "TIME", default_value = "forever", allow_hyphen_values = true)]
    keep_alive: KeepAlive,

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

    /// A file of keys with names, scopes and limits, as `ingle key create --file` writes it
    #[arg(long, value_name = "FILE")]
    keys_file: Option<PathBuf>,

    /// Log each request as a line of JSON to this file, `-` being standard error; never what was
    /// asked or answered. Opened anew on SIGHUP
    #[arg(long, value_name = "FILE")]
    access_log: Option<String>,

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

    /// The folder for what clients leave here: files, batches, responses to be kept [default:
    /// `INGLE_HOME`]
    #[arg(long, value_name = "FOLDER")]
    records: Option<PathBuf>,

    /// Keep no responses, so that none can be fetched again, built upon by its id, or computed in
    /// the background
    #[arg(long)]
    no_store: bool,

    /// The most answers under way; a request beyond gets status 429
    #[arg(long, value_name = "N", default_value_t = 256)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    max_answers: u16,

    /// How long running answers may go on after the first Ctrl-C or SIGTERM
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    drain: u32,

    /// Serve no model of this machine: the policy's providers alone
    #[arg(long, requires = "policy")]
    no_local: bool,

    #[command(flatten)]
    gateway: GatewayArgs,

    #[command(flatten)]
    ops: OpsArgs,

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
  ingle serve smollm2 gemma3 mine=./model.gguf --memory-mb 8000 --keep-alive 30m
  ingle serve smollm2 --lora tuned=./adapter
  ingle serve --host 0.0.0.0 --api-key-file ./keys --tls-cert ./chain.pem --tls-key ./key.pem
  ingle serve --host 0.0.0.0 --keys-file keys.toml --access-log access.log
  ingle serve --config ingle.toml
  ingle serve --policy policy.toml

  curl http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{\"messages\": [{\"role\": \"user\", \"content\": \"Why is the sky blue?\"}]}'

With OpenAI's Python client:
  OpenAI(base_url=\"http://127.0.0.1:8080/v1\", api_key=\"none\")

With clients of Anthropic and Ollama:
  ANTHROPIC_BASE_URL=http://127.0.0.1:8080
  OLLAMA_HOST=http://127.0.0.1:8080";

/// Runs the command.
pub(crate) fn run(_: Args, ui: &mut Ui) -> anyhow::Result<()> {
    let argv: Vec<OsString> = std::env::args_os().collect();
    let settings = Settings::read(&argv)?;
    if settings.args.print_config {
        return settings.print(ui);
    }
    let args = settings.args.clone();
    let records = records(args.records.as_deref())?;
    let config = args.ops.on(Config { records, ..config(&settings)? }).map_err(usage)?;
    // The flag's handler has to be there before the runtime adds its own behind it.
    ui::hand_over();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(serving_threads(args.no_local, available_parallelism()))
        .enable_all()
        .build()
        .context("no threads for the server")?;
    let no_local = args.no_local;
    let folder = args.records.as_deref();
    let door = Arc::new(Door::new(args.gateway.clone(), folder, runtime.handle().clone())?);
    let config = Config { rates: door.rates(), ..config };
    let start = start(args, Arc::clone(&door), ui)?;
    let loaded = Arc::clone(&start.loaded);
    let outcome = runtime.block_on(async {
        // With nothing to read again SIGHUP is what it always was: the terminal is gone, the end.
        let stop = ingle_server::signals(!settings.are_read_again())?;
        let mut told = stop.clone();
        tokio::spawn(async move {
            drop(told.wait_for(|stop| *stop != Stop::Run).await);
            ui::interrupt();
        });
        if let Some(collector) = &config.traces {
            ui.note(format_args!(
                "traces of requests, without their words, go to {}",
                collector.url()
            ));
        }
        let bound = ingle_server::bind(config).await.map_err(usage)?;
        let url = bound.url();
        start.announce(ui, "listening", &url)?;
        let (json, quiet, control) = (ui.json, ui.quiet, bound.control());
        let models = Arc::clone(&loaded);
        tokio::spawn(
            Watch { argv, settings, control, models, door: Arc::clone(&door), json, quiet }.run(),
        );
        let load = move |slot: &Slot| {
            if !no_local {
                return start.run(slot, &url);
            }
            slot.fill(door.before(Arc::new(Nobody))?);
            start.announce(&Ui::new(json, quiet), "ready", &url)
        };
        Ok(bound.serve(load, stop).await?)
    });
    // What still loads or encodes ends with the process.
    runtime.shutdown_background();
    if let Some(models) = loaded.get() {
        models.finish();
    }
    outcome
}

/// Threads that serve requests, of so many cores. A model of this machine computes on all of them,
/// and its threads wait for one another, so that each which has to make way holds up all: then few
/// serve, which is enough to hand tokens on. Where nothing is computed here the cores are theirs;
/// on one core a second thread would do nothing but take turns.
fn serving_threads(no_local: bool, cores: usize) -> usize {
    cores.clamp(1, if no_local { SERVING_MAX } else { SERVING_BESIDE_MODELS })
}

/// The cores that this process may use.
fn available_parallelism() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// What is to be served, and how.
fn start(args: Args, door: Arc<Door>, ui: &Ui) -> anyhow::Result<Start> {
    let any_installed = args.any_installed || args.allow_pull;
    if args.model.draft_model.is_some() && (args.models.len() > 1 || any_installed) {
        return Err(Usage("--draft-model is for one model: serve it alone".into()).into());
    }
    let named = if args.no_local { Vec::new() } else { named(args.models, args.name)? };
    apart(&named, &args.lora)?;
    let memory = args.memory_mb.map(|mb| u64::from(mb) * 1_000_000);
    let usual = Bounds::default();
    Ok(Start {
        door,
        loaded: Arc::default(),
        adapters: args.lora,
        named,
        any_installed,
        bounds: Bounds {
            keep_alive: args.keep_alive,
            memory_bytes: memory.unwrap_or(usual.memory_bytes),
            ..usual
        },
        draft: args.model.draft_model.clone(),
        options: args.prefix.on(args.model.options()),
        json: ui.json,
        quiet: ui.quiet,
    })
}

/// The names of what is to be served: names are given once, and `--as` to one model.
fn named(mut models: Vec<Named>, name: Option<String>) -> anyhow::Result<Vec<Named>> {
    match (name, models.as_mut_slice()) {
        (Some(name), [one]) => one.name = name,
        (Some(name), _) => {
            let hint = format!("hint: {name}=REF names one of several models");
            return Err(Usage(format!("--as is for one model\n{hint}")).into());
        }
        (None, _) => {}
    }
    for (at, model) in models.iter().enumerate() {
        if models[..at].iter().any(|other| other.name == model.name) {
            let name = &model.name;
            let hint = "hint: NAME=REF gives a model another name";
            return Err(Usage(format!("two models are called {name}\n{hint}")).into());
        }
    }
    Ok(models)
}

/// Models and adapters are asked for by one name each.
fn apart(models: &[Named], adapters: &[AdapterFile]) -> anyhow::Result<()> {
    for (at, AdapterFile { name, .. }) in adapters.iter().enumerate() {
        let model = models.iter().any(|model| model.name == *name);
        if model || adapters[..at].iter().any(|other| other.name == *name) {
            let hint = "hint: --lora NAME=PATH gives an adapter another name";
            return Err(Usage(format!("an adapter's name is there twice: {name}\n{hint}")).into());
        }
    }
    Ok(())
}

/// A configuration that contradicts itself is a wrong command line.
fn usage(error: Error) -> anyhow::Error {
    match error {
        Error::Config(message) => Usage(message).into(),
        other => other.into(),
    }
}

/// The text of a file of keys, one a line. Standard input has it once, however often it is asked.
fn plain_keys(file: &str) -> anyhow::Result<String> {
    static STDIN: OnceLock<String> = OnceLock::new();
    match STDIN.get() {
        Some(text) if file == "-" => Ok(text.clone()),
        _ => {
            let text = super::model::read_text(file, KEYS_MAX)?;
            Ok(if file == "-" { STDIN.get_or_init(|| text).clone() } else { text })
        }
    }
}

fn access_log(to: &str) -> AccessLog {
    if to == "-" { AccessLog::Stderr } else { AccessLog::File(to.into()) }
}

/// The records in a folder that was named, or in the usual one; where that cannot hold any, as on
/// a disk that cannot be written to, the server does without.
fn records(folder: Option<&Path>) -> anyhow::Result<Option<Arc<Records>>> {
    if let Some(folder) = folder {
        return Ok(Some(Arc::new(Records::open(folder)?)));
    }
    let opened = Store::open_default().map_err(anyhow::Error::from);
    match opened.and_then(|store| Ok(Records::open(store.root())?)) {
        Ok(records) => Ok(Some(Arc::new(records))),
        Err(error) => {
            ui::warn(&format!("no files, batches or responses can be kept: {error}"));
            Ok(None)
        }
    }
}

/// What a server is told that can change while it runs, and its address.
fn config(settings: &Settings) -> anyhow::Result<Config> {
    let args = &settings.args;
    let mut chosen = args.api_key.clone();
    if let Some(file) = &args.api_key_file {
        let text = plain_keys(file)?;
        chosen.extend(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(Into::into));
        if chosen.is_empty() {
            return Err(Usage(format!("{file} holds no key; write one a line")).into());
        }
    }
    let mut keys = settings.keys.clone();
    for key in chosen {
        let key = Key::chosen(&key).map_err(usage)?;
        // The same key in a flag and in the file is one key.
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    Ok(Config {
        listen: SocketAddr::new(args.host, args.port),
        keys,
        isolate_keys: args.isolate_keys,
        insecure_no_auth: args.insecure_no_auth,
        cors_origins: args.cors_origin.clone(),
        hosts: args.allow_host.clone(),
        manage_models: args.allow_pull,
        // Opened once: what a killed server left is settled then.
        records: None,
        store: !args.no_store,
        access_log: args.access_log.as_deref().map(access_log),
        limits: Limits {
            answers: args.max_answers.into(),
            drain: Duration::from_secs(args.drain.into()),
            ..Limits::default()
        },
        ..Config::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_for_models_where_there_are_any() {
        let check = |no_local, cores, expect| assert_eq!(serving_threads(no_local, cores), expect);
        check(false, 1, 1);
        check(false, 64, 2);
        check(true, 1, 1);
        check(true, 6, 6);
        check(true, 64, 16);
    }
}
