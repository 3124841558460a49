//! `ingle route`: what a policy decides on a request, and what it would have decided on those that
//! were. Nothing is sent. Absent: deciding, which is the gateway's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

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
use ingle_protocol::wire::{self, anthropic, llama_cpp, ollama, openai, responses};
use ingle_protocol::{Entry, Fault, Format, Origin, Request, Step, Verbatim};
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
    /// A request as a client sends it to the path; `-` reads standard input
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

    /// The workspace that it names; may be repeated
    #[arg(long, value_name = "NAME")]
    workspace: Vec<String>,

    /// A header that it carries; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = header)]
    header: Vec<(String, String)>,

    /// Data classes that its key carries
    #[arg(long, value_name = "CLASSES", value_delimiter = ',')]
    classes: Vec<String>,

    /// The only models that its key may use
    #[arg(long, value_name = "MODELS", value_delimiter = ',')]
    models: Vec<String>,
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

/// What is asked, and the format in which a provider may get it with its own bytes, if it may.
type Asked = (Box<dyn wire::Ask>, Option<Format>);

fn asked(it: impl wire::Ask + 'static, format: Option<Format>) -> Asked {
    (Box::new(it), format)
}

/// Reads a request.
type Read = fn(&[u8]) -> Result<Asked, Fault>;

/// The paths that requests come by, and who reads them there, as a server does.
const PATHS: &[(&str, Read)] = &[
    ("/v1/chat/completions", |body| {
        let it = openai::read_request(openai::Format::Chat, body)?;
        Ok(asked(it, Some(Format::Chat)))
    }),
    ("/v1/completions", |body| {
        Ok(asked(openai::read_request(openai::Format::Completions, body)?, None))
    }),
    ("/v1/responses", |body| {
        let open = responses::read_open(body)?;
        if open.previous().is_some() {
            let why = "what it builds on is known to the server alone: leave it out, and say with \
                       --classes of what classes that is";
            return Err(Fault::caller(why).at("previous_response_id"));
        }
        let it = open.close(&[], &[])?;
        // One that is kept is computed in pieces of its own.
        let passes = it.store == Some(false) && !it.background;
        Ok(asked(it, passes.then_some(Format::Responses)))
    }),
    ("/v1/messages", |body| Ok(asked(anthropic::read_request(body)?, Some(Format::Messages)))),
    ("/api/chat", |body| Ok(asked(ollama::read_request(ollama::Format::Chat, body)?, None))),
    ("/api/generate", |body| {
        Ok(asked(ollama::read_request(ollama::Format::Generate, body)?, None))
    }),
    ("/completion", |body| {
        Ok(asked(llama_cpp::read_request(llama_cpp::Format::Completion, body)?, None))
    }),
    ("/infill", |body| Ok(asked(llama_cpp::read_request(llama_cpp::Format::Infill, body)?, None))),
];

/// The request that this text is by the path that it would come by, and where it comes from.
fn request(args: &Explain, table: &Table, text: String) -> anyhow::Result<Request> {
    let Some((_, read)) = PATHS.iter().find(|row| row.0 == args.path) else {
        let known = PATHS.iter().map(|row| row.0).collect::<Vec<_>>().join(", ");
        let path = &args.path;
        return Err(Usage(format!("no request is read by {path:?}; there are: {known}")).into());
    };
    let read = read(text.as_bytes());
    let (asked, format) = read.map_err(|fault| Usage(format!("{}: {fault}", args.request)))?;
    let Some(mut request) = asked.requests().first().cloned() else {
        return Err(Usage("there is no request in it".into()).into());
    };
    if !(request.model.is_empty() || args.models.is_empty() || args.models.contains(&request.model))
    {
        let model = &request.model;
        let why = format!("a key with these --models is told that there is no model {model:?}");
        return Err(Usage(why).into());
    }
    let alone = asked.requests().len() == 1 && asked.choices() == 1;
    let elsewhere = table.providers.iter().any(|it| it.name != policy::LOCAL);
    let own = format.filter(|_| alone && elsewhere);
    request.origin = Some(Arc::new(Origin {
        key: args.key.clone(),
        team: args.team.clone(),
        path: args.path.clone(),
        workspaces: args.workspace.clone(),
        headers: args.header.clone(),
        classes: args.classes.clone(),
        models: (!args.models.is_empty()).then(|| args.models.clone().into()),
        verbatim: own.map(|format| Arc::new(Verbatim { format, body: text })),
        ..Origin::default()
    }));
    Ok(request)
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

/// What is decided on a request where these models are here.
fn decide(table: &Table, request: &Request, names: &BTreeSet<String>) -> Decision {
    let origin = request.origin.clone().unwrap_or_default();
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
        candidates: here(table, &request.model, names),
        accounts: BTreeMap::new(),
    };
    policy::decide(table, &ask, &facts)
}

fn tell(args: &Explain, ui: &mut Ui) -> anyhow::Result<()> {
    let (table, version) = read(&args.policy)?;
    let text = read_text(&args.request, REQUEST_MAX)?;
    let decision = decide(&table, &request(args, &table, text)?, &installed());
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

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "default_class = \"open\"\n[providers.far]\nkind = \"openai\"\n\
                          [classes.open]\nproviders = [\"far\"]\n\
                          [classes.secret]\nlocal_only = true\n\
                          [models.chain]\ncandidates = [\"far/m\", \"far/n\"]\n\
                          [[rules]]\nclass = \"secret\"\ndetected = [\"email\"]\n";

    fn explain(path: &str, models: &[&str]) -> Explain {
        Explain {
            request: "-".into(),
            policy: PathBuf::new(),
            path: path.into(),
            key: "k".into(),
            team: String::new(),
            workspace: Vec::new(),
            header: Vec::new(),
            classes: Vec::new(),
            models: models.iter().map(|it| (*it).to_owned()).collect(),
        }
    }

    fn table(text: &str) -> Table {
        Table::read("policy.toml", text).expect("a policy")
    }

    /// What a server may send on as it came is explained with its own bytes.
    #[test]
    fn requests_are_read_as_a_server_reads_them() {
        let check = |path: &str, body: &str, expect: Option<Format>| {
            let read = |policy: &str| {
                let table = table(policy);
                let request = request(&explain(path, &[]), &table, body.to_owned());
                let origin = request.expect(path).origin.expect("it has one");
                assert_eq!((origin.path.as_str(), origin.key.as_str()), (path, "k"));
                origin.verbatim.as_ref().map(|own| (own.format, own.body.clone()))
            };
            assert_eq!(read(POLICY), expect.map(|format| (format, body.to_owned())), "{path}");
            assert_eq!(read(""), None, "nobody is elsewhere: {path}");
        };
        let turns = r#""model":"far/m","messages":[{"role":"user","content":"hi"}]"#;
        let chat = "/v1/chat/completions";
        check(chat, &format!("{{{turns}}}"), Some(Format::Chat));
        check(chat, &format!("{{{turns},\"n\":2}}"), None);
        let messages = format!("{{{turns},\"max_tokens\":9}}");
        check("/v1/messages", &messages, Some(Format::Messages));
        check("/api/chat", &format!("{{{turns}}}"), None);
        check("/v1/responses", r#"{"model":"far/m","input":"hi"}"#, None);
        let unkept = r#"{"model":"far/m","input":"hi","store":false}"#;
        check("/v1/responses", unkept, Some(Format::Responses));
        check("/v1/completions", r#"{"model":"far/m","prompt":"hi"}"#, None);
        let wrong = |path: &str, body: &str| {
            let wrong = request(&explain(path, &[]), &table(POLICY), body.to_owned());
            wrong.expect_err(path).to_string()
        };
        assert!(wrong("/v1/embeddings", "{}").contains("/v1/responses"));
        let after = r#"{"model":"m","input":"hi","previous_response_id":"resp_1"}"#;
        assert!(wrong("/v1/responses", after).contains("--classes"));
        let other = explain(chat, &["other"]);
        let unknown = request(&other, &table(POLICY), format!("{{{turns}}}"));
        assert!(unknown.expect_err("it may not").to_string().contains("there is no model"));
    }

    /// What stands in the bytes alone is found, and a key's list of models holds.
    #[test]
    fn a_decision_is_the_servers() {
        let check = |body: &str, models: &[&str], expect: &str| {
            let table = table(POLICY);
            let request = request(&explain("/v1/chat/completions", models), &table, body.into());
            let decision = decide(&table, &request.expect("a request"), &BTreeSet::new());
            let tried = match decision.outcome {
                Ok(all) => {
                    all.iter().map(|it| it.candidate.to_string()).collect::<Vec<_>>().join(" ")
                }
                Err(refused) => format!("{:?}", refused.check),
            };
            assert_eq!(tried, expect, "{body} {models:?}");
        };
        let turns = r#""model":"chain","messages":[{"role":"user","content":"hi"}]"#;
        let plain = format!("{{{turns}}}");
        check(&plain, &[], "far/m far/n");
        check(&format!("{{{turns},\"metadata\":{{\"a\":\"b@example.org\"}}}}"), &[], "Privacy");
        check(&plain, &["chain", "far/n"], "far/n");
    }
}
