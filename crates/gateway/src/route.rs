//! The provider that stands before all others: each request is decided by the policy that holds,
//! paid for out of its budgets, sent where it may go, and kept in a book, once, whatever its end.
//! The engine of this machine is one provider among them. Fails closed: what cannot be looked at,
//! held or noted does not leave.
//!
//! Absent: what is decided (`policy`), how another machine is asked (`remote`), what is found in
//! texts (`privacy`), and where budgets and the book are kept.

mod ask;
mod flight;
mod held;
mod keep;
mod rests;
mod said;

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use ingle_protocol::{
    Adapter, Blame, Call, Chat, Encoded, Encoding, End, Entry, Fault, Input, KeepAlive, Origin,
    Request, Retry, Sink, Token, Weighed, Weighing, Written,
};

use crate::budget::{Amount, Refusal, Store};
use crate::policy::{self, Ask, Candidate, Check, Decision, Found, Refused, Table};
use crate::privacy::{Detector, Unsure};
use crate::{AdapterCard, Metric, ModelCard, Provider, Sheet, Tell, Wanted};
pub use ask::needs;
pub use held::Held;
pub use said::{Part, Said};

/// Told when what was given to a [`Book`] is on the disk, or cannot be: on the book's own thread,
/// so it does not block.
pub type Kept = Box<dyn FnOnce(Result<(), Fault>) + Send>;

/// Where calls are kept. No method waits: one that cannot put an entry in line at once has another
/// thread do that.
pub trait Book: Send + Sync {
    /// Announces a call before its first byte leaves: what is known of it, with the most that it
    /// can cost at the candidate that is asked, and what is held for that, by budget. Were this
    /// process to end now, that is what is found of it.
    fn begin(&self, worst: &Entry, held: &[(String, Amount)], kept: Kept);
    /// Says the same anew of a call that was announced, before another candidate is asked: with
    /// what the tries so far took, and the most that it can cost there; or without the latter,
    /// where budgets have no room for that before. Until it is kept, what was said before stands.
    fn amend(&self, worst: &Entry, held: &[(String, Amount)], kept: Kept);
    /// Ends a call that was announced.
    fn end(&self, entry: &Entry, kept: Kept);
    /// Notes a call of which nothing left the machine.
    fn note(&self, entry: &Entry, kept: Kept);
    /// Whether [`Book::content`] is to be told of an answer; `stays` says that its words may be
    /// nowhere but on this machine.
    fn wants_content(&self, _stays: bool) -> bool {
        false
    }
    /// What a call asked and got, told before its end is: in its caller's own words, before
    /// anything was replaced in them and after it was put back.
    fn content(&self, _entry: &Entry, _request: &Request, _said: &Said) {}
    /// Numbers for `/metrics`.
    fn metrics(&self) -> Vec<Metric> {
        Vec::new()
    }
}

/// A book that forgets, for who wants no ledger.
#[derive(Clone, Copy, Debug)]
pub struct Forgetful;

impl Book for Forgetful {
    fn begin(&self, _: &Entry, _: &[(String, Amount)], kept: Kept) {
        kept(Ok(()));
    }
    fn amend(&self, _: &Entry, _: &[(String, Amount)], kept: Kept) {
        kept(Ok(()));
    }
    fn end(&self, _: &Entry, kept: Kept) {
        kept(Ok(()));
    }
    fn note(&self, _: &Entry, kept: Kept) {
        kept(Ok(()));
    }
}

/// What a gateway is made of.
#[expect(missing_debug_implementations, reason = "holds providers")]
pub struct Parts {
    /// The models of this machine.
    pub local: Arc<dyn Provider>,
    /// What holds at first.
    pub held: Held,
    /// Where budgets are kept.
    pub store: Arc<dyn Store>,
    /// Where calls are kept.
    pub book: Arc<dyn Book>,
    /// Runs what comes after a failure, off the threads that tell of it.
    pub handle: tokio::runtime::Handle,
    /// Milliseconds since 1970.
    pub now_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
}

/// All providers behind one.
pub struct Gateway {
    way: Arc<Way>,
}

/// What all calls share.
struct Way {
    local: Arc<dyn Provider>,
    held: RwLock<Arc<Held>>,
    looker: Looker,
    rests: rests::Rests,
    store: Arc<dyn Store>,
    book: Arc<dyn Book>,
    handle: tokio::runtime::Handle,
    now_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
}

/// The detector, made when a policy first wants it: what it takes is no request's to wait for, and
/// nobody's where no policy asks.
#[derive(Default)]
struct Looker(OnceLock<Detector>);

impl Looker {
    /// Makes it where this policy wants it.
    fn ready(&self, table: &Table) {
        if table.wants_detection() {
            self.get();
        }
    }

    fn get(&self) -> &Detector {
        self.0.get_or_init(Detector::new)
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").field("held", &self.way.held()).finish_non_exhaustive()
    }
}

impl Way {
    /// What holds now; calls under way go on with what held when they began.
    fn held(&self) -> Arc<Held> {
        Arc::clone(&self.held.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn now_ms(&self) -> u64 {
        (self.now_ms)()
    }

    /// What is in a request that is nobody else's business, where the policy wants to know.
    fn found(&self, table: &Table, request: &Request) -> Found {
        if !table.wants_detection() {
            return Found::NotLooked;
        }
        let survey = self.looker.get().survey(request);
        match survey.unsure {
            Some(unsure) => Found::Failed(plainly(&unsure).to_owned()),
            None => Found::Kinds(survey.counts()),
        }
    }

    /// The decision on a request at this moment, in milliseconds since 1970.
    fn decide(
        &self,
        held: &Held,
        request: &Request,
        origin: &Origin,
        now_ms: u64,
    ) -> Result<Decision, Fault> {
        let table = &held.table;
        let found = self.found(table, request);
        let ask = Ask { origin, model: &request.model, needs: ask::needs(request), found };
        let accounts = policy::accounts(table, &ask, now_ms);
        let standings = match accounts.is_empty() {
            true => Vec::new(),
            false => self.store.standings(&accounts).map_err(|refusal| broken(&refusal))?,
        };
        let facts = policy::Facts {
            now_ms,
            candidates: ask::facts(&*self.local, held, &self.rests, &request.model, now_ms)?,
            accounts: accounts.into_iter().zip(standings).collect(),
        };
        Ok(policy::decide(table, &ask, &facts))
    }
}

/// Why a request could not be looked at, for a ledger: where in it may be said in its own words.
fn plainly(unsure: &Unsure) -> &'static str {
    match unsure {
        Unsure::TooLong { .. } => "it has more text than is searched",
        Unsure::TooMany => "it holds more personal data than is kept apart",
        Unsure::Tokens => "it is made of token ids, which cannot be searched: send text",
        Unsure::Opaque { .. } => "it holds a picture, sound or file, which cannot be searched",
        Unsure::NotJson { .. } => "what should be JSON in it is none",
        Unsure::Fixed { .. } => "it holds personal data where nothing can be replaced",
        Unsure::Crowded => "it is full of texts that look like placeholders",
    }
}

/// What is to be weighed, as a request that can be looked at: its labels are among its texts.
fn weighed(weighing: &Weighing) -> Request {
    let mut request = weighing.request.clone();
    request.stop.extend(weighing.labels.iter().cloned());
    request
}

/// What is to be read, likewise. Token ids say nothing of what they spell.
fn read(encoding: &Encoding) -> Request {
    let passages = encoding.inputs.iter();
    let all = passages.flat_map(|it| std::iter::once(&it.text).chain(it.pair.as_ref()));
    let (mut texts, mut tokens) = (Vec::new(), Vec::new());
    for written in all {
        match written {
            Written::Text(text) => texts.push(text.as_str()),
            Written::Tokens(ids) => tokens.extend_from_slice(ids),
        }
    }
    let input = match tokens.is_empty() {
        true => Input::Text(texts.join("\n")),
        false => Input::Tokens(tokens),
    };
    Request { model: encoding.model.clone(), input, ..Request::default() }
}

/// How soon what could not be held or looked up may be tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Why the place that keeps budgets holds nothing is for its operator alone.
fn broken(refusal: &Refusal) -> Fault {
    tracing::warn!(error = %refusal, "budgets cannot be held or looked up, and a call is not made");
    let message = "what may be spent cannot be looked up now, so nobody is asked: try again soon; \
                   whoever runs this server finds why in its log";
    Fault::not_ready(AGAIN, message)
}

/// What a caller is told where nobody may answer.
fn refusal(refused: &Refused) -> Fault {
    let message = refused.message.clone();
    let wait = refused.retry_after_ms.map(Duration::from_millis);
    match refused.check {
        Check::Privacy => Fault { blame: Blame::Policy, ..Fault::caller(message) },
        Check::Capability => Fault::caller(message).at("model"),
        Check::Budget | Check::CostAndLatency => {
            Fault { blame: Blame::Budget, ..Fault::caller(message) }
        }
        Check::Health => Fault {
            blame: Blame::Provider,
            retry: wait.map_or(Retry::Elsewhere, Retry::WhenReady),
            param: None,
            message,
        },
    }
}

impl Gateway {
    /// A gateway of these parts.
    pub fn new(parts: Parts) -> Self {
        let Parts { local, held, store, book, handle, now_ms } = parts;
        let looker = Looker::default();
        looker.ready(&held.table);
        let held = RwLock::new(Arc::new(held));
        let rests = rests::Rests::default();
        Self { way: Arc::new(Way { local, held, looker, rests, store, book, handle, now_ms }) }
    }

    /// Another policy from now on. Calls under way end by the one that they began with.
    pub fn hold(&self, held: Held) {
        self.way.looker.ready(&held.table);
        *self.way.held.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(held);
    }

    /// What would be decided on a request now. Nothing is sent, held or kept.
    ///
    /// # Errors
    /// Where the facts cannot be had.
    pub fn explain(&self, request: &Request) -> Result<Decision, Fault> {
        let origin = request.origin.clone().unwrap_or_default();
        self.way.decide(&self.way.held(), request, &origin, self.way.now_ms())
    }

    /// The model of this machine that a name stands for, for what is asked of this machine alone.
    fn here(&self, name: &str, origin: &Origin) -> Result<String, Fault> {
        let held = self.way.held();
        // Nobody stands in for a model that was asked for by its name.
        let all = policy::named(&held.table, name).into_iter().filter(Candidate::is_local);
        let mut fault = {
            let why = format!("{name:?} is not on this machine, and is asked for texts alone");
            Fault::caller(why).at("model")
        };
        for it in all {
            match policy::may_use(&held.table, origin, name, &it) {
                Ok(()) => return Ok(it.model),
                Err(why) => {
                    let told = Fault::caller(format!("{it}: {why}")).at("model");
                    fault = Fault { blame: Blame::Policy, ..told };
                }
            }
        }
        Err(fault)
    }

    /// Notes something that this machine did and that generated nothing.
    fn noted<T>(
        &self,
        origin: &Origin,
        model: &str,
        outcome: Result<T, Fault>,
        receipt: impl FnOnce(&T) -> Option<ingle_protocol::Receipt>,
    ) -> Result<T, Fault> {
        let entry = keep::computed(&self.way.held(), origin, model, &outcome, receipt);
        let (kept, wait) = std::sync::mpsc::sync_channel(1);
        self.way.book.note(&entry, Box::new(move |result| drop(kept.send(result))));
        // Nothing left and nothing was spent: it stands, even where it could not be kept.
        drop(wait.recv());
        outcome
    }

    /// Refuses a request of a class that nobody may answer.
    fn permitted(&self, origin: &Origin, request: impl FnOnce() -> Request) -> Result<(), Fault> {
        let held = self.way.held();
        if held.table.classes.iter().all(|class| !class.block) {
            return Ok(());
        }
        let request = request();
        let decision = self.way.decide(&held, &request, origin, self.way.now_ms())?;
        match &decision.outcome {
            Err(refused) if refused.check == Check::Privacy => {
                let mut entry = keep::begun(&held, origin, &request.model);
                keep::decided(&mut entry, &decision);
                entry.end = End::Refused;
                self.way.book.note(&entry, Box::new(drop));
                Err(refusal(refused))
            }
            _ => Ok(()),
        }
    }
}

impl Provider for Gateway {
    fn wanted(&self) -> Wanted {
        let held = self.way.held();
        Wanted {
            headers: held.table.headers().into_iter().map(str::to_owned).collect(),
            verbatim: held.table.providers.iter().any(|it| it.name != policy::LOCAL),
        }
    }

    fn models(&self) -> Vec<ModelCard> {
        let mut cards = self.way.local.models();
        for card in ask::elsewhere(&self.way.held().table) {
            if cards.iter().all(|known| known.name != card.name) {
                cards.push(card);
            }
        }
        cards
    }

    fn find(&self, name: &str) -> Result<Option<ModelCard>, Fault> {
        ask::find(&self.way.held(), name, |name| self.way.local.find(name))
    }

    fn known(&self, name: &str) -> Option<Option<ModelCard>> {
        ask::find(&self.way.held(), name, |name| self.way.local.known(name).ok_or(())).ok()
    }

    fn lingers(&self, model: &str, request: &Request) -> bool {
        let here = !self.way.local.models().is_empty();
        self.way.store.waits() || ask::lingers(&self.way.held().table, here, model, request)
    }

    fn load(&self, model: &str, keep: Option<KeepAlive>) -> Result<(), Fault> {
        self.way.local.load(model, keep)
    }

    fn unload(&self, model: &str) -> Result<(), Fault> {
        self.way.local.unload(model)
    }

    fn sheet(&self, model: &str) -> Result<Sheet, Fault> {
        self.way.local.sheet(model)
    }

    fn fetch(&self, reference: &str, tell: Tell<'_>) -> Result<(), Fault> {
        self.way.local.fetch(reference, tell)
    }

    fn remove(&self, model: &str) -> Result<(), Fault> {
        self.way.local.remove(model)
    }

    fn adapters(&self, model: &str) -> Vec<AdapterCard> {
        self.way.local.adapters(model)
    }

    fn load_adapter(&self, model: &str, name: &str, path: &Path) -> Result<(), Fault> {
        self.way.local.load_adapter(model, name, path)
    }

    fn unload_adapter(&self, name: &str) -> Result<(), Fault> {
        self.way.local.unload_adapter(name)
    }

    fn scale_adapters(&self, model: &str, scales: &[Adapter]) -> Result<(), Fault> {
        self.way.local.scale_adapters(model, scales)
    }

    fn send(&self, request: Request, sink: Sink) -> Result<Call, Fault> {
        flight::start(&self.way, request, sink)
    }

    fn weigh(&self, weighing: &Weighing, cancelled: Arc<AtomicBool>) -> Result<Weighed, Fault> {
        let origin = weighing.request.origin.clone().unwrap_or_default();
        let model = self.here(&weighing.request.model, &origin)?;
        let mut weighing = weighing.clone();
        weighing.request.model.clone_from(&model);
        self.permitted(&origin, || weighed(&weighing))?;
        let weighed = self.way.local.weigh(&weighing, cancelled);
        self.noted(&origin, &model, weighed, |weighed| Some(weighed.receipt.clone()))
    }

    fn encode(&self, encoding: &Encoding, cancelled: Arc<AtomicBool>) -> Result<Encoded, Fault> {
        let origin = encoding.origin.clone().unwrap_or_default();
        let model = self.here(&encoding.model, &origin)?;
        let encoding = Encoding { model: model.clone(), ..encoding.clone() };
        self.permitted(&origin, || read(&encoding))?;
        let encoded = self.way.local.encode(&encoding, cancelled);
        self.noted(&origin, &model, encoded, |encoded| Some(encoded.receipt.clone()))
    }

    fn render(&self, model: &str, chat: &Chat) -> Result<String, Fault> {
        self.way.local.render(&self.here(model, &Origin::default())?, chat)
    }

    fn tokenize(&self, model: &str, text: &str, special: bool) -> Result<Vec<Token>, Fault> {
        self.way.local.tokenize(&self.here(model, &Origin::default())?, text, special)
    }

    fn detokenize(&self, model: &str, tokens: &[Token]) -> Result<String, Fault> {
        self.way.local.detokenize(&self.here(model, &Origin::default())?, tokens)
    }

    fn metrics(&self) -> Vec<Metric> {
        let mut metrics = self.way.local.metrics();
        let held = self.way.held();
        metrics.extend(
            held.remote.metrics(|provider, model| ask::is_named(&held.table, provider, model)),
        );
        metrics.extend(self.way.book.metrics());
        metrics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_detector_is_made_for_policies_that_want_it() {
        let check = |text: &str, expect: bool| {
            let looker = Looker::default();
            looker.ready(&Table::read("policy.toml", text).expect("a policy"));
            assert_eq!(looker.0.get().is_some(), expect, "{text}");
        };
        check("", false);
        check("[classes.a]\n", false);
        check("[classes.a]\nredact = true\n", true);
        check("[classes.a]\n[[rules]]\nclass = \"a\"\ndetected = [\"iban\"]\n", true);
    }
}
