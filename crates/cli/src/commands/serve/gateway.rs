//! What stands before a server's models: a policy, the providers that it names, budgets, and the
//! ledger. The one place that knows both the gateway and the ledger, since neither may know the
//! other. Absent: what any of them does.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::Context;
use clap::Args as ClapArgs;
use ingle_gateway::budget::{
    Account, Amount, Memory, Place as Shared, Rates, Redis, State, Store as Accounts,
};
use ingle_gateway::policy::{self, Table};
use ingle_gateway::remote::World;
use ingle_gateway::remote::net::{Net, Proxy};
use ingle_gateway::route::{Book, Forgetful, Gateway, Held, Kept, Parts, Said};
use ingle_gateway::{Metric, ModelCard, Provider, Sheet, Tell};
use ingle_ledger::{
    Durability, Error, Ledger, Options, Place, Recipients, Reserved, Sealed, Ticket, Told,
};
use ingle_model::pull::Store;
use ingle_protocol::{
    Call, Chat, Encoded, Encoding, Entry, Fault, KeepAlive, Request, Sink, Token, Weighed, Weighing,
};

use super::super::ledger::now_ms;
use super::content;
use super::spending::{self, Step};
use crate::ui::{self, Usage};

/// The version that a ledger has of no policy.
const NO_POLICY: &str = "none";

/// Where requests may go, and what is kept of them.
#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = "Where requests may go")]
pub(crate) struct GatewayArgs {
    /// A file that says which requests may leave this machine, to whom, and for how much; without
    /// it none does. It is read again when it changes. `ingle route explain` shows what it decides
    #[arg(long, value_name = "FILE")]
    pub(super) policy: Option<PathBuf>,

    /// Where each request's receipt is kept, without its words: a file or `postgres://…` [default:
    /// `ledger.sqlite` beside what clients leave]
    #[arg(long, value_name = "PLACE", env = "INGLE_LEDGER", hide_env_values = true)]
    pub(super) ledger: Option<Place>,

    /// Keep no receipts
    #[arg(long, conflicts_with = "ledger")]
    pub(super) no_ledger: bool,

    /// A Redis server that keeps the policy's budgets and what keys use in a minute,
    /// `redis://host:port`, for several servers that share them [default: this process, which
    /// begins by what the ledger tells]
    #[arg(long, value_name = "URL", env = "INGLE_BUDGETS", hide_env_values = true)]
    #[arg(requires = "policy")]
    pub(super) budgets: Option<Shared>,

    /// Wait until the disk has each receipt, so that a power cut loses none; otherwise it survives
    /// the program's end, whatever that is
    #[arg(long)]
    pub(super) ledger_sync: bool,

    /// Keep what each call asked and got, too, encrypted for this recipient: a public key of age's
    /// (age1…), or a file of such keys. May be given several times; each of them can read it, this
    /// server cannot. `ingle audit key` makes a key, `ingle audit content` reads
    #[arg(long, value_name = "RECIPIENT", conflicts_with = "no_ledger")]
    pub(super) ledger_content: Vec<String>,
}

impl GatewayArgs {
    /// The ledger; where the usual place cannot hold one, as on a disk that cannot be written to,
    /// the server does without, unless a policy wants one.
    fn open(&self, folder: Option<&Path>) -> anyhow::Result<Option<Ledger>> {
        if self.no_ledger {
            return Ok(None);
        }
        let durability = if self.ledger_sync { Durability::Power } else { Durability::Process };
        let options = Options { durability, ..Options::default() };
        if let Some(place) = &self.ledger {
            return Ok(Some(Ledger::open(place, &options)?));
        }
        let within = |folder: &Path| -> anyhow::Result<Ledger> {
            Ok(Ledger::open(&Place::within(folder), &options)?)
        };
        let opened = match folder {
            Some(folder) => within(folder),
            None => match Store::open_default() {
                Ok(store) => within(store.root()),
                Err(error) => Err(error.into()),
            },
        };
        match opened {
            Ok(ledger) => Ok(Some(ledger)),
            Err(error) if self.policy.is_some() => {
                Err(error.context("the policy's budgets need a ledger; --no-ledger does without"))
            }
            Err(error) => {
                ui::warn(&format!("no receipts can be kept: {error}"));
                Ok(None)
            }
        }
    }
}

/// A policy's text, read and checked.
pub(crate) fn read(path: &Path) -> anyhow::Result<(Table, String)> {
    let name = path.display().to_string();
    let file = std::fs::metadata(path).with_context(|| format!("no policy at {name}"))?;
    if file.len() > policy::POLICY_MAX as u64 {
        return Err(Usage(format!("{name} is too long to be a policy")).into());
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("no policy at {name}"))?;
    let table = Table::read(&name, &text).map_err(|wrong| Usage(wrong.to_string()))?;
    let version = policy::version(&text);
    Ok((table, version))
}

/// The policy that these settings name, as its file says now; the one that lets nothing leave where
/// they name none.
fn policy_of(args: &GatewayArgs) -> anyhow::Result<(Table, String)> {
    match &args.policy {
        Some(path) => read(path),
        None => Ok((Table::default(), NO_POLICY.to_owned())),
    }
}

/// What is needed to put a gateway before models, and to give it another policy.
pub(crate) struct Door {
    args: GatewayArgs,
    ledger: Option<Arc<Ledger>>,
    shared: Option<Arc<Redis>>,
    recipients: Option<Recipients>,
    handle: tokio::runtime::Handle,
    /// What holds, or will as soon as there is a gateway.
    held: Mutex<Held>,
    gateway: OnceLock<Arc<Gateway>>,
}

impl Door {
    /// Opens the ledger, in this folder where no place is named, and reads the policy once, so that
    /// what is wrong is told before anything is served.
    pub(crate) fn new(
        args: GatewayArgs,
        folder: Option<&Path>,
        handle: tokio::runtime::Handle,
    ) -> anyhow::Result<Self> {
        let recipients = content::recipients(&args.ledger_content)?;
        let ledger = args.open(folder)?.map(Arc::new);
        let shared = args.budgets.as_ref().map(Redis::open).transpose()?.map(Arc::new);
        let (table, version) = policy_of(&args)?;
        let variable = |name: &str| std::env::var(name).ok();
        let proxy = Proxy::from_env(&variable).map_err(Usage)?;
        let world = World::new(Arc::new(Net::new(proxy)));
        let held = Held::new(table, version, handle.clone(), world)
            .map_err(|fault| Usage(fault.to_string()))?;
        let (held, gateway) = (Mutex::new(held), OnceLock::new());
        Ok(Self { args, ledger, shared, recipients, handle, held, gateway })
    }

    /// Who keeps what keys use in a minute, where that is shared as budgets are.
    pub(super) fn rates(&self) -> Option<Arc<dyn Rates>> {
        self.shared.clone().map(|shared| shared as _)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the policy's file says now, to be held; nothing holds it yet.
    pub(super) fn read(&self) -> anyhow::Result<Held> {
        let (table, version) = policy_of(&self.args)?;
        let held = self.held().after(table, version);
        held.map_err(|fault| Usage(fault.to_string()).into())
    }

    /// Has this hold from now on.
    pub(super) fn hold(&self, held: Held) {
        let mut holds = self.held();
        *holds = held;
        if let Some(gateway) = self.gateway.get() {
            gateway.hold(holds.clone());
        }
    }

    /// The gateway before these models.
    pub(super) fn before(&self, local: Arc<dyn Provider>) -> anyhow::Result<Arc<dyn Provider>> {
        let held = self.held().clone();
        let spent = self.spent(&held.table)?;
        let store: Arc<dyn Accounts> = match &self.shared {
            Some(shared) => {
                if let Some(ledger) = &self.ledger {
                    spending::told(&**shared, &shared.open_calls()?, ledger)?;
                }
                // What it has forgotten the ledger knows.
                shared.restore(&spent, now_ms())?;
                spending::look(Arc::clone(shared) as _, &self.handle, now_ms);
                Arc::clone(shared) as _
            }
            None => Arc::new(Memory::new(State::recover(spent, [], |_| false).0)),
        };
        let (store, book): (Arc<dyn Accounts>, Arc<dyn Book>) = match &self.ledger {
            Some(ledger) => {
                let step = Step::before(store, self.handle.clone());
                let step = Arc::new(step);
                let pages = Pages::new(ledger, &step, self.recipients.clone());
                (step as _, Arc::new(pages))
            }
            None => (store, Arc::new(Forgetful)),
        };
        let gateway = Gateway::new(Parts {
            local,
            held,
            store,
            book,
            handle: self.handle.clone(),
            now_ms: Arc::new(now_ms),
        });
        // Another policy may have come meanwhile.
        let holds = self.held();
        let gateway = self.gateway.get_or_init(|| Arc::new(gateway));
        gateway.hold(holds.clone());
        Ok(Arc::clone(gateway) as _)
    }

    /// What was spent of budgets whose time is not over, out of the ledger.
    fn spent(&self, table: &Table) -> anyhow::Result<Vec<(Account, Amount)>> {
        let now_ms = now_ms();
        let Some(from_ms) = table.counted_since(now_ms) else { return Ok(Vec::new()) };
        let mut spent = Vec::new();
        if let Some(ledger) = &self.ledger {
            // A call is charged on the day on which it is decided, and may have come before that.
            let from_ms = from_ms.saturating_sub(spending::EARLIER_MS);
            for stored in ledger.reader()?.entries(from_ms, u64::MAX) {
                spent.extend(policy::charged(table, &stored?.entry, now_ms));
            }
        }
        Ok(spent)
    }
}

/// The ledger as a gateway's book, which budgets are in step with.
pub(super) struct Pages {
    ledger: Arc<Ledger>,
    step: Arc<Step>,
    /// For whom content is kept, where it is.
    recipients: Option<Recipients>,
    /// Content that is on its way to the ledger.
    waiting: content::Waiting,
    /// Contents that could not be kept.
    unsealed: AtomicU64,
    /// What was told of calls that leave, and could not be kept.
    unkept: Arc<AtomicU64>,
}

impl Pages {
    pub(super) fn new(
        ledger: &Arc<Ledger>,
        step: &Arc<Step>,
        recipients: Option<Recipients>,
    ) -> Self {
        let (ledger, step) = (Arc::clone(ledger), Arc::clone(step));
        let (waiting, unkept) = (content::Waiting::default(), Arc::default());
        Self { ledger, step, recipients, waiting, unsealed: AtomicU64::new(0), unkept }
    }

    /// Has the ledger told of a call that leaves. Where it has no room at once, that is waited for
    /// on a thread of its own: who tells may be the one that makes room, or serve others.
    fn tell(&self, told: Told, kept: Kept) {
        let unkept_so_far = Arc::clone(&self.unkept);
        let then = move |written: ingle_ledger::Result<()>| {
            if let Err(error) = &written {
                let count = unkept_so_far.fetch_add(1, Ordering::Relaxed) + 1;
                warn_of("the ledger cannot be written", count, error);
            }
            kept(written.map_err(|_| unkept()));
        };
        match self.ledger.offer(told) {
            Ok(Ok(ticket)) => settle(Ok(ticket), then),
            Err(error) => settle(Err(error), then),
            Ok(Err(told)) => {
                let ledger = Arc::clone(&self.ledger);
                let wait = move || settle(ledger.tell(told), then);
                drop(self.step.handle().spawn_blocking(wait));
            }
        }
    }

    /// Gives the ledger what a call asked and got, if not too much of that waits there already.
    fn keep(&self, entry: &Entry, sealed: Sealed) -> ingle_ledger::Result<()> {
        let behind = || Error::Behind { place: self.ledger.place().to_string() };
        let waits = self.waiting.add(sealed.bytes().len()).ok_or_else(behind)?;
        // Its ticket is not waited for: that of the call's end comes behind it.
        self.ledger.content(&entry.id, entry.at_ms, sealed)?.then(move |_| drop(waits));
        Ok(())
    }
}

/// Says the first time, the second, the fourth, and so on, so that an outage is a few lines.
fn warn_of(what: &str, count: u64, why: &dyn std::fmt::Display) {
    if count.is_power_of_two() {
        ui::warn(&format!("{what} ({count} so far): {why}"));
    }
}

/// What becomes of a ticket is told; a ledger that takes none says so at once.
fn settle(
    ticket: ingle_ledger::Result<Ticket>,
    told: impl FnOnce(ingle_ledger::Result<()>) + Send + 'static,
) {
    match ticket {
        Ok(ticket) => ticket.then(told),
        Err(error) => told(Err(error)),
    }
}

/// How soon what could not be kept may be tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Why a ledger keeps nothing, and where it is, is for its operator alone.
fn unkept() -> Fault {
    let message = "this server cannot keep its record of calls now: try again soon; whoever runs \
                   it finds why in its log";
    Fault::not_ready(AGAIN, message)
}

/// What is held, as the ledger has it.
fn reserved(held: &[(String, Amount)]) -> Vec<Reserved> {
    let one = |(budget, amount): &(String, Amount)| Reserved {
        budget: budget.clone(),
        micros: amount.micros,
        tokens: amount.tokens,
    };
    held.iter().map(one).collect()
}

impl Book for Pages {
    fn begin(&self, worst: &Entry, held: &[(String, Amount)], kept: Kept) {
        let kept = self.step.begins(worst, kept);
        self.tell(Told::begin(worst, &reserved(held)), kept);
    }

    fn amend(&self, worst: &Entry, held: &[(String, Amount)], kept: Kept) {
        let kept = self.step.amends(worst, kept);
        self.tell(Told::amend(worst, &reserved(held)), kept);
    }

    fn end(&self, entry: &Entry, kept: Kept) {
        let kept = self.step.ends(&entry.id, kept);
        self.tell(Told::end(entry), kept);
    }

    fn note(&self, entry: &Entry, kept: Kept) {
        // Told on the ledger's own thread, which is not to keep the ledger alive.
        let ledger = Arc::downgrade(&self.ledger);
        let told = move |written: ingle_ledger::Result<()>| {
            if let (Err(error), Some(ledger)) = (&written, ledger.upgrade()) {
                let what = "a call that stayed on this machine has no receipt";
                warn_of(what, ledger.missed().calls, error);
            }
            kept(written.map_err(|_| unkept()));
        };
        settle(self.ledger.note(entry), told);
    }

    fn wants_content(&self, stays: bool) -> bool {
        self.recipients.is_some() && content::may_be_kept(self.ledger.place(), stays)
    }

    fn content(&self, entry: &Entry, request: &Request, said: &Said) {
        let Some(recipients) = &self.recipients else { return };
        let sealed = content::seal(recipients, entry, request, said);
        if let Err(error) = sealed.and_then(|sealed| self.keep(entry, sealed)) {
            let count = self.unsealed.fetch_add(1, Ordering::Relaxed) + 1;
            warn_of("what a call asked and got is not kept", count, &error);
        }
    }

    fn metrics(&self) -> Vec<Metric> {
        let counter = |name, help, value: u64| Metric {
            name,
            help,
            counter: true,
            model: None,
            value: value as f64,
        };
        let missed = counter(
            "ingle_ledger_missed_calls_total",
            "Calls that stayed on this machine and could not be kept in the ledger.",
            self.ledger.missed().calls,
        );
        let unsealed = counter(
            "ingle_ledger_missed_contents_total",
            "Calls whose encrypted content could not be kept in the ledger.",
            self.unsealed.load(Ordering::Relaxed),
        );
        vec![missed, unsealed]
    }
}

/// A machine without models of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nobody;

fn nobody<T>() -> Result<T, Fault> {
    let message = "this server has no model of its own; its policy names who answers";
    Err(Fault::caller(message).at("model"))
}

impl Provider for Nobody {
    fn models(&self) -> Vec<ModelCard> {
        Vec::new()
    }
    fn known(&self, _: &str) -> Option<Option<ModelCard>> {
        Some(None)
    }
    fn load(&self, _: &str, _: Option<KeepAlive>) -> Result<(), Fault> {
        nobody()
    }
    fn unload(&self, _: &str) -> Result<(), Fault> {
        nobody()
    }
    fn sheet(&self, _: &str) -> Result<Sheet, Fault> {
        nobody()
    }
    fn fetch(&self, _: &str, _: Tell<'_>) -> Result<(), Fault> {
        nobody()
    }
    fn remove(&self, _: &str) -> Result<(), Fault> {
        nobody()
    }
    fn send(&self, _: Request, _: Sink) -> Result<Call, Fault> {
        nobody()
    }
    fn weigh(&self, _: &Weighing, _: Arc<AtomicBool>) -> Result<Weighed, Fault> {
        nobody()
    }
    fn encode(&self, _: &Encoding, _: Arc<AtomicBool>) -> Result<Encoded, Fault> {
        nobody()
    }
    fn render(&self, _: &str, _: &Chat) -> Result<String, Fault> {
        nobody()
    }
    fn tokenize(&self, _: &str, _: &str, _: bool) -> Result<Vec<Token>, Fault> {
        nobody()
    }
    fn detokenize(&self, _: &str, _: &[Token]) -> Result<String, Fault> {
        nobody()
    }
    fn metrics(&self) -> Vec<Metric> {
        Vec::new()
    }
}

#[cfg(test)]
#[path = "gateway_tests.rs"]
mod tests;
