//! `ingle route`: what a policy decides on a request, and what it would have decided on those that
//! were. Nothing is sent. Absent: deciding, which is the gateway's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};
use ingle_gateway::policy::{
    self, Ask, Candidate, Choice, Decision, Fact, Facts, Found, Needs, Table,
};
use ingle_gateway::prices::Tokens;
use ingle_gateway::prices::money::dollars;
use ingle_gateway::privacy::Detector;
use ingle_gateway::remote::kind;
use ingle_gateway::remote::net::is_here;
use ingle_gateway::route::needs;
use ingle_model::pull::Store;
use ingle_protocol::wire::{Ask as _, anthropic, openai};
use ingle_protocol::{Entry, Origin, Request, Step};
use serde_json::json;

use super::ledger::{LedgerArgs, When, now_ms};
use super::model::read_text;
use super::serve::gateway::read;
use crate::ui::{Ui, Usage};

/// The most bytes of a request.
const REQUEST_MAX: u64 = 32 << 20;

/// What a policy decides, and what another would have cost
#[derive(Debug, ClapArgs)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print the whole decision on a request, without sending it
    Explain(Explain),
    /// Say what another policy would have cost, and where data would have gone, over the ledger
    Replay(Replay),
}

#[derive(Debug, ClapArgs)]
struct Explain {
    /// A request as a client sends it: chat completions, or Anthropic's messages; `-` reads
    /// standard input
    request: String,

    /// The policy
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,

    /// The path that the request comes by
    #[arg(long, default_value = "/v1/chat/completions")]
    path: String,

    /// The name of the key that it comes with
    #[arg(long, value_name = "NAME", default_value = "")]
    key: String,

    /// The team of that key
    #[arg(long, value_name = "NAME", default_value = "")]
    team: String,

    /// The workspace that it names
    #[arg(long, value_name = "NAME", default_value = "")]
    workspace: String,

    /// A header that it carries; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = header)]
    header: Vec<(String, String)>,

    /// Data classes that its key carries
    #[arg(long, value_name = "CLASSES", value_delimiter = ',')]
    classes: Vec<String>,
}

#[derive(Debug, ClapArgs)]
struct Replay {
    /// The other policy
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,

    /// From this day on, as 2026-11-01 or 30d
    #[arg(long, value_name = "DAY", default_value = "30d")]
    since: When,

    #[command(flatten)]
    ledger: LedgerArgs,
}

const AFTER_HELP: &str = "\
Examples:
  ingle route explain request.json --policy policy.toml
  ingle route explain request.json --policy policy.toml --team finance --header x-class=secret
  ingle route replay --policy new.toml --since 7d";

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a header is written NAME=VALUE")?;
    Ok((name.to_ascii_lowercase(), value.to_owned()))
}

/// Runs the command.
pub(crate) fn run(args: Args, ui: &mut Ui) -> anyhow::Result<()> {
    match args.what {
        What::Explain(explain) => tell(&explain, ui),
        What::Replay(again) => replay(&again, ui),
    }
}

/// The request in a file, by the path that it would come by.
fn request(args: &Explain) -> anyhow::Result<Request> {
    let text = read_text(&args.request, REQUEST_MAX)?;
    let asked = match args.path.as_str() {
        "/v1/messages" => anthropic::read_request(text.as_bytes()).map(|it| it.requests().to_vec()),
        _ => openai::read_request(openai::Format::Chat, text.as_bytes())
            .map(|it| it.requests().to_vec()),
    };
    let requests = asked.map_err(|fault| Usage(format!("{}: {fault}", args.request)))?;
    requests.into_iter().next().ok_or_else(|| Usage("there is no request in it".into()).into())
}

/// The models of this machine: what is in the store is here.
fn installed() -> BTreeSet<String> {
    let installed = Store::open_default().ok().and_then(|store| store.list().ok());
    let models = installed.map(|list| list.models).unwrap_or_default();
    models.into_iter().map(|entry| entry.manifest.name).collect()
}

/// Those of them that may answer for a name, and the default, which is always taken to be there.
fn here(table: &Table, model: &str, names: &BTreeSet<String>) -> BTreeMap<Candidate, Fact> {
    let local = policy::candidates(table, model).into_iter().filter(Candidate::is_local);
    let known = local.filter(|it| it.model.is_empty() || names.contains(&it.model));
    let fact = Fact {
        tools: Some(true),
        vision: Some(false),
        schema: Some(true),
        grammar: Some(true),
        logprobs: Some(true),
        ..Fact::default()
    };
    known.map(|it| (it, fact.clone())).collect()
}

fn decide(args: &Explain, table: &Table, request: &Request) -> Decision {
    let origin = Origin {
        key: args.key.clone(),
        team: args.team.clone(),
        path: args.path.clone(),
        workspace: args.workspace.clone(),
        headers: args.header.clone(),
        classes: args.classes.clone(),
        ..Origin::default()
    };
    let found = match table.wants_detection() {
        false => Found::NotLooked,
        true => {
            let survey = Detector::new().survey(request);
            match survey.unsure {
                Some(unsure) => Found::Failed(unsure.to_string()),
                None => Found::Kinds(survey.counts()),
            }
        }
    };
    let ask = Ask { origin: &origin, model: &request.model, needs: needs(request), found };
    let facts = Facts {
        now_ms: now_ms(),
        candidates: here(table, &request.model, &installed()),
        accounts: BTreeMap::new(),
    };
    policy::decide(table, &ask, &facts)
}

fn tell(args: &Explain, ui: &mut Ui) -> anyhow::Result<()> {
    let (table, version) = read(&args.policy)?;
    let decision = decide(args, &table, &request(args)?);
    if !ui.json {
        ui.note("budgets are taken as unspent, and all providers as well");
        return ui.line(decision.explain().trim_end());
    }
    let step =
        |it: &Step| json!({ "candidate": it.candidate, "taken": it.taken, "reason": it.reason });
    let (tried, refused) = match &decision.outcome {
        Ok(choices) => (choices.iter().map(|it| it.candidate.to_string()).collect(), None),
        Err(refused) => (Vec::new(), Some(refused.message.clone())),
    };
    ui.object(&json!({
        "policy": version,
        "classes": decision.classes,
        "found": decision.found,
        "candidates": decision.steps.iter().map(step).collect::<Vec<_>>(),
        "tried": tried,
        "refused": refused,
    }))
}

/// Whether any byte leaves this machine for a candidate, as far as its address tells: a provider on
/// loopback is asked as others are, and is here.
fn leaves(table: &Table, choice: &Choice) -> bool {
    let provider = table.provider(&choice.candidate.provider);
    let here = provider.is_some_and(|it| {
        let usual = || kind(it.kind.name()).map_or("", |kind| kind.url);
        is_here(it.url.as_deref().unwrap_or_else(usual))
    });
    choice.leaves && !here
}

/// Sums over calls.
#[derive(Debug, Default)]
struct Sums {
    calls: u64,
    refused: u64,
    left: u64,
    micros: u64,
    unknown: u64,
    by: BTreeMap<String, u64>,
}

impl Sums {
    fn count(&mut self, to: &str, leaves: bool, micros: Option<u64>) {
        self.calls += 1;
        self.left += u64::from(leaves);
        self.micros = self.micros.saturating_add(micros.unwrap_or(0));
        self.unknown += u64::from(micros.is_none());
        *self.by.entry(to.to_owned()).or_default() += 1;
    }

    /// What was.
    fn was(&mut self, entry: &Entry) {
        if entry.provider.is_empty() {
            self.calls += 1;
            self.refused += 1;
            return;
        }
        let to = format!("{}/{}", entry.provider, entry.model);
        self.count(&to, !entry.hosts.is_empty(), entry.cost.micros);
    }

    /// What would have been. Budgets are taken as unspent.
    fn would(&mut self, table: &Table, names: &BTreeSet<String>, entry: &Entry) {
        let origin = policy::again(table, entry);
        let usage = &entry.usage;
        let needs = Needs {
            prompt_tokens: usage.prompt_tokens.into(),
            prompt_most: usage.prompt_tokens.into(),
            max_tokens: (usage.completion_tokens > 0).then_some(usage.completion_tokens.into()),
            ..Needs::default()
        };
        let found = Found::Kinds(entry.found.clone());
        let ask = Ask { origin: &origin, model: &entry.asked, needs, found };
        let facts = Facts {
            now_ms: entry.at_ms,
            candidates: here(table, &entry.asked, names),
            accounts: BTreeMap::new(),
        };
        let decision = policy::decide(table, &ask, &facts);
        let Some(choice) = decision.outcome.ok().and_then(|all| all.into_iter().next()) else {
            self.calls += 1;
            self.refused += 1;
            return;
        };
        let used = Tokens::from(usage);
        let micros = match choice.leaves {
            // Of a call that nobody answered then, nobody knows what it would have taken.
            true if used.total() == 0 => None,
            true => table.cost(&choice.candidate, &used, false).map(|it| it.0),
            false => {
                let computed = entry.timings.total.saturating_sub(entry.timings.queued);
                let ms = u64::try_from(computed.as_millis()).unwrap_or(u64::MAX);
                Some(table.local_cost(ms).unwrap_or(0))
            }
        };
        self.count(&choice.candidate.to_string(), leaves(table, &choice), micros);
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "calls": self.calls,
            "refused": self.refused,
            "left_machine": self.left,
            "cost_micros": self.micros,
            "unknown_cost": self.unknown,
            "by": self.by,
        })
    }

    fn row(&self, name: &str) -> Vec<String> {
        let by = self.by.iter().map(|(to, calls)| format!("{to} × {calls}"));
        vec![
            name.to_owned(),
            self.calls.to_string(),
            self.refused.to_string(),
            self.left.to_string(),
            dollars(self.micros),
            self.unknown.to_string(),
            by.collect::<Vec<_>>().join(", "),
        ]
    }
}

fn replay(args: &Replay, ui: &mut Ui) -> anyhow::Result<()> {
    let (table, version) = read(&args.policy)?;
    let mut reader = args.ledger.reader()?;
    let (mut was, mut would) = (Sums::default(), Sums::default());
    let (names, mut unknown) = (installed(), BTreeSet::new());
    for stored in reader.entries(args.since.ms(now_ms()), u64::MAX) {
        let entry = stored?.entry;
        was.was(&entry);
        would.would(&table, &names, &entry);
        let known = |class: &&String| table.classes.iter().any(|it| it.name == **class);
        unknown.extend(entry.classes.iter().filter(|class| !known(class)).cloned());
    }
    if ui.json {
        return ui.object(&json!({
            "policy": version,
            "was": was.json(),
            "would": would.json(),
            "unknown_classes": unknown,
        }));
    }
    let heads = ["", "calls", "refused", "left", "cost", "unknown", "answered by"];
    let table = [heads.map(str::to_owned).to_vec(), was.row("was"), would.row("would be")];
    ui.table(&table, &[1, 2, 3, 4, 5])?;
    ui.note(
        "headers and workspaces are in no ledger: the classes that held stand for them; budgets are \
         taken as unspent",
    );
    if !unknown.is_empty() {
        let all = unknown.into_iter().collect::<Vec<_>>().join(", ");
        ui.note(format!("calls had classes that this policy has not, and are kept here: {all}"));
    }
    Ok(())
}
