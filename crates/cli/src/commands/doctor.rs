//! `ingle doctor`: looks at all that a model needs of this machine, and says of each thing that is
//! not as it should be what to do. It reaches for no network and changes nothing.

use clap::Args as ClapArgs;
use ingle_backend::cpu::kernels::{KERNELS, Kernels};
use ingle_backend::cpu::pool;
use ingle_engine::{Bounds, Local, Options};
use ingle_model::pull::{Entry, Listing, Settings, Store};
use ingle_protocol::{Call, Event, Finish, Input, Request, Sampling};
use serde_json::json;
use std::ops::ControlFlow;
use std::sync::mpsc::sync_channel;

use super::DEFAULT_MODEL;
use crate::ui::{Failed, Style, Ui, size};

/// Less memory than this for models, and even the default one is tight.
const MEMORY_LEAST: u64 = 1 << 30;
/// Less disk than this, and few models can be fetched.
const DISK_LEAST: u64 = 2_000_000_000;

/// Check this machine and what Ingle keeps on it
#[derive(Debug, ClapArgs)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Read every model in the store to its end, and compare its SHA-256
    #[arg(long)]
    verify: bool,
}

const AFTER_HELP: &str = "\
Each line says what was looked at, how it is, and what to do if it is not well. `wrong` stops
something from working, and the exit code is 1 then; `note` is good to know.

Examples:
  ingle doctor
  ingle doctor --verify
  ingle doctor --json | jq -r 'select(.state != \"well\")'";

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Well,
    /// Works, but there is something to know.
    Note,
    Wrong,
}

impl State {
    const fn word(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Note => "note",
            Self::Wrong => "wrong",
        }
    }
}

/// What was found.
#[derive(Debug)]
struct Finding {
    state: State,
    what: String,
    /// What to do.
    hint: Option<String>,
}

impl Finding {
    fn well(what: impl Into<String>) -> Self {
        Self { state: State::Well, what: what.into(), hint: None }
    }

    fn note(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { state: State::Note, what: what.into(), hint: Some(hint.into()) }
    }

    fn wrong(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { state: State::Wrong, what: what.into(), hint: Some(hint.into()) }
    }

    /// An error, whose hint stands on a line of its own.
    fn error(error: &ingle_model::Error) -> Self {
        let text = error.to_string();
        match text.split_once("\nhint: ") {
            Some((what, hint)) => Self::wrong(what, hint),
            None => Self::wrong(text, "look at the file and its folder"),
        }
    }
}

/// Runs the command.
pub(crate) fn run(args: Args, ui: &mut Ui) -> anyhow::Result<()> {
    let store = Store::open_default()?;
    let listing = store.list();
    let mut all_well = true;
    let mut tell = |topic: &str, finding: Finding| {
        all_well &= finding.state != State::Wrong;
        show(topic, &finding, ui)
    };
    tell("processor", processor(Kernels::best(), pool::cores()))?;
    tell("memory", memory(Bounds::default().memory_bytes))?;
    tell("disk", disk(&store))?;
    tell("network", network(&Settings::from_env()))?;
    tell("port", port())?;
    match listing {
        Err(error) => tell("models", Finding::error(&error))?,
        Ok(listing) => {
            for (topic, finding) in models(&listing) {
                tell(&topic, finding)?;
            }
            for entry in listing.models.iter().filter(|_| args.verify) {
                tell(&entry.manifest.name, verified(&store, entry, ui)?)?;
            }
            if let Some(entry) = listing.models.iter().min_by_key(|entry| entry.manifest.size) {
                tell("answer", answer(entry))?;
            }
        }
    }
    if all_well { Ok(()) } else { Err(Failed.into()) }
}

fn show(topic: &str, finding: &Finding, ui: &Ui) -> anyhow::Result<()> {
    let Finding { state, what, hint } = finding;
    if ui.json {
        let (state, hint) = (state.word(), hint.as_deref());
        return ui.object(&json!({ "topic": topic, "state": state, "found": what, "hint": hint }));
    }
    let style = match state {
        State::Well => Style::Dim,
        State::Note => Style::Bold,
        State::Wrong => Style::Red,
    };
    let word = ui.paint_out(style, format_args!("{:<5}", state.word()));
    ui.line(format_args!("{word}  {topic}: {what}"))?;
    if let Some(hint) = hint {
        ui.line(format_args!("       {} {hint}", ui.paint_out(Style::Cyan, "hint:")))?;
    }
    Ok(())
}

fn processor(kernels: &Kernels, cores: usize) -> Finding {
    let arch = std::env::consts::ARCH;
    let what = format!("{arch}, {cores} cores for this process, kernels `{}`", kernels.name);
    let written = KERNELS.iter().map(|row| row.name);
    if kernels.name == "portable" {
        let written: Vec<_> = written.filter(|name| *name != "reference").collect();
        return Finding::note(
            what,
            format!("this processor has none of the faster kernels ({})", written.join(", ")),
        );
    }
    Finding::well(what)
}

fn memory(bytes: u64) -> Finding {
    let what = format!("{} for models", size(bytes));
    if bytes < MEMORY_LEAST {
        let hint = "end other programs, or choose a small model and a small --kv-mb";
        return Finding::note(what, hint);
    }
    Finding::well(what)
}

fn disk(store: &Store) -> Finding {
    let root = store.root().display();
    match store.free_bytes() {
        None => Finding::note(
            format!("models are kept in {root}; how much is free there is unknown"),
            "set INGLE_HOME to a folder on a disk that can be asked, if fetching fails",
        ),
        Some(free) if free < DISK_LEAST => Finding::note(
            format!("{} free for models in {root}", size(free)),
            "`ingle rm NAME` removes a model; INGLE_HOME names another folder",
        ),
        Some(free) => Finding::well(format!("{} free for models in {root}", size(free))),
    }
}

fn network(settings: &Settings) -> Finding {
    if settings.offline {
        return Finding::note(
            "nothing is fetched: INGLE_OFFLINE is set",
            "unset it to fetch models",
        );
    }
    let token = if settings.token.is_some() { "with a token" } else { "without a token" };
    let hub = format!("{} is the hub, {token}", settings.endpoint);
    if settings.hub_offline {
        return Finding::note(
            format!("{hub}, and HF_HUB_OFFLINE forbids it"),
            "unset it to fetch models from there",
        );
    }
    Finding::well(format!("{hub}; it is asked only when you fetch a model"))
}

fn port() -> Finding {
    let address = ingle_server::Config::default().listen;
    match ingle_server::can_listen(address) {
        Ok(()) => Finding::well(format!("{address} is free for `ingle serve`")),
        Err(error) => Finding::note(
            format!("`ingle serve` cannot have {address}: {error}"),
            "it may be running already; else give it --port",
        ),
    }
}

/// What stands in the store, and what is wrong there.
fn models(listing: &Listing) -> Vec<(String, Finding)> {
    let Listing { models, partial, problems } = listing;
    let all: u64 = models.iter().map(|entry| entry.manifest.size).sum();
    let here = match models.as_slice() {
        [] => Finding::note("none is here", format!("`ingle pull {DEFAULT_MODEL}` fetches one")),
        models => Finding::well(format!("{} here, {} in all", models.len(), size(all))),
    };
    let problems = problems.iter().map(|problem| {
        Finding::wrong(problem, "`ingle rm` removes what is there, `ingle pull` fetches it again")
    });
    let named = |finding| ("models".to_owned(), finding);
    let mut found: Vec<_> = [here].into_iter().chain(problems).map(named).collect();
    found.extend(partial.iter().map(|(name, bytes)| {
        let what = format!("not whole, {} so far", size(*bytes));
        (name.clone(), Finding::note(what, format!("`ingle pull {name}` goes on")))
    }));
    found
}

fn verified(store: &Store, entry: &Entry, ui: &Ui) -> anyhow::Result<Finding> {
    match store.check(entry, &mut ui.progress(&entry.manifest.name)) {
        Ok(()) => Ok(Finding::well("the file is as it came")),
        Err(error @ ingle_model::Error::Interrupted) => Err(error.into()),
        Err(error) => Ok(Finding::error(&error)),
    }
}

/// Whether a model says anything: all from its file to the kernels.
fn answer(entry: &Entry) -> Finding {
    const TOKENS: u32 = 4;
    let name = &entry.manifest.name;
    let answer = (|| {
        let model = Local::open(name, &entry.path, &Options::default(), &mut |_| {})?;
        let request = Request {
            input: Input::Text("The sky is".into()),
            max_tokens: Some(TOKENS),
            sampling: Sampling { temperature: 0.0, ..Sampling::default() },
            ..Request::default()
        };
        let (sender, events) = sync_channel(64);
        let sink = Box::new(move |event| match sender.send(event) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        });
        let _call: Call = model.send(&request, sink)?;
        for event in events {
            match event {
                Event::Done(receipt) => return Ok(*receipt),
                Event::Failed(fault) => return Err(fault),
                _ => {}
            }
        }
        Err(ingle_protocol::Fault::ours("the answer has no end"))
    })();
    match answer {
        Ok(receipt) if matches!(receipt.finish, Finish::Stop | Finish::Length) => {
            Finding::well(format!("{name} answers"))
        }
        Ok(receipt) => Finding::wrong(format!("{name} ended with {:?}", receipt.finish), BUG),
        Err(fault) => Finding::wrong(format!("{name} does not answer: {fault}"), BUG),
    }
}

const BUG: &str = "`ingle doctor --verify` tells whether its file is whole; if it is, report this";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_little_is_told() {
        let check = |finding: Finding, state: State| {
            assert_eq!(finding.state, state, "{finding:?}");
            assert_eq!(finding.hint.is_some(), state != State::Well, "{finding:?}");
        };
        let row = |name| Kernels::named(name).expect("runs everywhere");
        check(processor(row("portable"), 4), State::Note);
        check(processor(row("reference"), 4), State::Well);
        check(memory(MEMORY_LEAST), State::Well);
        check(memory(MEMORY_LEAST - 1), State::Note);
        check(network(&Settings::default()), State::Well);
        check(network(&Settings { offline: true, ..Settings::default() }), State::Note);
        check(network(&Settings { hub_offline: true, ..Settings::default() }), State::Note);
    }

    #[test]
    fn errors_bring_their_hints() {
        let with = ingle_model::Error::Refused("it is bad\nhint: mend it".into());
        let finding = Finding::error(&with);
        assert_eq!(
            (finding.what.as_str(), finding.hint.as_deref()),
            ("it is bad", Some("mend it"))
        );
    }
}
