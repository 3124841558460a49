//! Programs that share budgets, each with a ledger of its own, and die at any step.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;

use ingle_gateway::Provider;
use ingle_gateway::policy::{Table, charged};
use ingle_gateway::remote::World;
use ingle_gateway::remote::net::Net;
use ingle_gateway::route::{Book, Gateway, Held, Parts};
use ingle_ledger::{Options, Place, Reader};
use ingle_protocol::{Chat, Event, Input, Message, Request, Sink};

use super::super::super::gateway::{Nobody, Pages};
use super::seller::{Upstream, price};
use super::*;

/// Of all calls of a life together.
const MICROS: u64 = 8_000;
/// Room for one call at one candidate, and not for two.
const ONE: u64 = 600;
const LIVES: u64 = 9;
const ROUNDS: u64 = 3;
const THREADS: u64 = 4;
const CALLS: u64 = 6;
/// Calls before this one are too cheap to bring a budget to its end.
const FIRST: u64 = 200;

/// How many steps a program still takes. The last one is taken and not heard of, and none after
/// it is.
#[derive(Debug)]
struct Fuse {
    left: AtomicI64,
    /// Steps that are being taken.
    busy: AtomicI64,
}

impl Fuse {
    /// Takes a step: `act` is told whether it is taken, and whether what came of it is heard.
    fn step<T>(&self, act: impl FnOnce(bool, bool) -> T) -> T {
        self.busy.fetch_add(1, Ordering::SeqCst);
        let left = self.left.fetch_sub(1, Ordering::SeqCst);
        let came = act(left > 0, left > 1);
        self.busy.fetch_sub(1, Ordering::SeqCst);
        came
    }

    fn burnt(&self) -> bool {
        self.left.load(Ordering::SeqCst) <= 0
    }

    /// No step is taken any more when this returns.
    fn burn(&self) {
        self.left.store(0, Ordering::SeqCst);
        while self.busy.load(Ordering::SeqCst) > 0 {
            thread::yield_now();
        }
    }
}

/// Shared budgets, as a program that may die reaches them.
struct Reach {
    fuse: Arc<Fuse>,
    shared: Arc<Memory>,
}

impl Reach {
    fn go<T>(&self, act: impl FnOnce(&Memory) -> Result<T, Refusal>) -> Result<T, Refusal> {
        let dead = || Refusal::Broken("this program is dead".to_owned());
        self.fuse.step(|taken, heard| {
            let came = if taken { act(&self.shared) } else { Err(dead()) };
            if heard { came } else { Err(dead()) }
        })
    }
}

impl Store for Reach {
    fn waits(&self) -> bool {
        false
    }

    fn reserve(
        &self,
        id: &str,
        amount: Amount,
        claims: &[Claim],
        now_ms: u64,
    ) -> Result<(), Refusal> {
        self.go(|shared| shared.reserve(id, amount, claims, now_ms))
    }
    fn sent(&self, id: &str) -> Result<(), Refusal> {
        self.go(|shared| shared.sent(id))
    }
    fn settle(&self, id: &str, took: Option<Amount>) -> Result<Settled, Refusal> {
        self.go(|shared| shared.settle(id, took))
    }
    fn release(&self, id: &str) -> Result<(), Refusal> {
        self.go(|shared| shared.release(id))
    }
    fn expire(&self, before_ms: u64) -> Result<Vec<Lost>, Refusal> {
        self.go(|shared| shared.expire(before_ms))
    }
    fn standings(&self, accounts: &[Account]) -> Result<Vec<Standing>, Refusal> {
        self.shared.standings(accounts)
    }
}

/// Its ledger, likewise.
struct Mortal {
    fuse: Arc<Fuse>,
    pages: Pages,
}

impl Mortal {
    fn go(&self, kept: Kept, act: impl FnOnce(&Pages, Kept)) {
        let fuse = Arc::clone(&self.fuse);
        self.fuse.step(|taken, heard| {
            let told = move |written| {
                if heard && !fuse.burnt() {
                    kept(written);
                }
            };
            if taken {
                act(&self.pages, Box::new(told));
            }
        });
    }
}

impl Book for Mortal {
    fn begin(&self, worst: &Entry, held: &[(String, Amount)], kept: Kept) {
        self.go(kept, |pages, kept| pages.begin(worst, held, kept));
    }
    fn amend(&self, worst: &Entry, held: &[(String, Amount)], kept: Kept) {
        self.go(kept, |pages, kept| pages.amend(worst, held, kept));
    }
    fn end(&self, entry: &Entry, kept: Kept) {
        self.go(kept, |pages, kept| pages.end(entry, kept));
    }
    fn note(&self, entry: &Entry, kept: Kept) {
        self.go(kept, |pages, kept| pages.note(entry, kept));
    }
}

/// A gateway, its ledger, and what is left of its life.
struct Program {
    runtime: tokio::runtime::Runtime,
    gateway: Gateway,
    fuse: Arc<Fuse>,
    ledger: Arc<Ledger>,
    path: PathBuf,
}

fn now_ms() -> u64 {
    crate::commands::ledger::now_ms()
}

fn place(path: &Path) -> Place {
    path.to_str().expect("UTF-8").parse().expect("a place")
}

fn opened(path: &Path, shared: &Memory) -> Ledger {
    let ledger = Ledger::open(&place(path), &Options::default()).expect("a ledger");
    let state = shared.snapshot();
    let open: Vec<(String, u64)> =
        state.open().map(|(id, open)| (id.clone(), open.at_ms)).collect();
    told(shared, &open, &ledger).expect("both answer");
    ledger
}

impl Program {
    /// One that goes on with a ledger.
    fn start(path: PathBuf, shared: &Arc<Memory>, policy: &str, steps: i64) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let handle = runtime.handle().clone();
        let ledger = Arc::new(opened(&path, shared));
        let (left, busy) = (AtomicI64::new(steps), AtomicI64::new(0));
        let fuse = Arc::new(Fuse { left, busy });
        let reach = Reach { fuse: Arc::clone(&fuse), shared: Arc::clone(shared) };
        let step = Arc::new(Step::before(Arc::new(reach), handle.clone()));
        let pages = Pages::new(&ledger, &step, None);
        let table = Table::read("policy.toml", policy).expect("a policy");
        let world = World::new(Arc::new(Net::new(None)));
        let held = Held::new(table, "1".to_owned(), handle.clone(), world);
        let gateway = Gateway::new(Parts {
            local: Arc::new(Nobody),
            held: held.expect("a policy that holds"),
            store: step,
            book: Arc::new(Mortal { fuse: Arc::clone(&fuse), pages }),
            handle,
            now_ms: Arc::new(now_ms),
        });
        Self { runtime, gateway, fuse, ledger, path }
    }

    /// Ends it where it is. What it wrote is another ledger's beginning, whose process is dead.
    fn die(self, round: u64) -> PathBuf {
        self.fuse.burn();
        // What is in line is written; nothing comes after it.
        self.ledger.recover().expect("it is written to");
        let next = self.path.with_extension(format!("{round}.sqlite"));
        let log = |path: &Path| PathBuf::from(format!("{}-wal", path.display()));
        std::fs::copy(&self.path, &next).expect("a file");
        if log(&self.path).exists() {
            std::fs::copy(log(&self.path), log(&next)).expect("a file");
        }
        self.runtime.shutdown_background();
        next
    }

    /// What a call's receipt says that it cost, if its caller heard that.
    fn ask(&self, what: &str, number: u64) -> Option<u64> {
        let message = Message {
            role: "user".to_owned(),
            content: format!("{what} {number}"),
            ..Message::default()
        };
        let request = Request {
            model: "auto".to_owned(),
            input: Input::Chat(Chat { messages: vec![message], ..Chat::default() }),
            max_tokens: Some(40),
            ..Request::default()
        };
        let (tell, told) = sync_channel(64);
        let sink: Sink = Box::new(move |event| match tell.try_send(event) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        });
        let _call = self.gateway.send(request, sink).ok()?;
        if what == "away" {
            thread::sleep(Duration::from_millis(number % 8));
            return None;
        }
        loop {
            match told.recv_timeout(Duration::from_millis(5)) {
                Ok(Event::Done(receipt)) => return Some(receipt.cost_micros),
                Ok(Event::Text(_)) if what == "leave" => return None,
                Ok(Event::Failed(_)) | Err(RecvTimeoutError::Disconnected) => return None,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) if self.fuse.burnt() => return None,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

/// Numbers that are the same each time, and look like chance (splitmix64).
fn chance(of: u64) -> u64 {
    let mut it = of.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    it ^ (it >> 31)
}

/// What is asked of the other servers: some answers are begun and dropped, so that each may be
/// charged, and the next is asked; some callers are away while that goes on.
const KINDS: [&str; 14] = [
    "say", "say", "say", "say", "say", "leave", "leave", "flaky", "cut", "drop", "drop", "drops",
    "away", "away",
];

/// A call that was heard of: what it was, its number, and what it cost.
type Heard = (&'static str, u64, u64);

/// What callers of two programs heard.
fn round(programs: &[Program; 2], seed: u64, round: u64) -> Vec<Heard> {
    let calls = |caller: u64| {
        let first = FIRST + (round * THREADS + caller) * CALLS;
        let one = |number: u64| {
            let chance = chance(seed << 32 | number);
            let what = KINDS[(chance % KINDS.len() as u64) as usize];
            let program = &programs[(chance / 64 % 2) as usize];
            program.ask(what, number).map(|micros| (what, number, micros))
        };
        (first..first + CALLS).filter_map(one).collect::<Vec<_>>()
    };
    let calls = &calls;
    thread::scope(|scope| {
        let all: Vec<_> = (0..THREADS).map(|it| scope.spawn(move || calls(it))).collect();
        all.into_iter().flat_map(|it| it.join().expect("no panic")).collect()
    })
}

const FAR: [&str; 3] = ["far", "other", "last"];

/// With so many who may be asked, one after another; one alone is asked twice.
fn policy(url: &str, candidates: usize, micros: u64) -> String {
    let all = &FAR[..candidates];
    let listed = |with: &str| {
        let names: Vec<String> = all.iter().map(|name| format!("\"{name}{with}\"")).collect();
        names.join(", ")
    };
    let retries = u32::from(candidates == 1);
    let mut policy = format!(
        "default_class = \"open\"\n[models.auto]\ncandidates = [{}]\n[classes.open]\n\
         providers = [{}]\n[budgets.all]\nscope = \"all\"\nper = \"forever\"\n\
         usd = \"0.{micros:06}\"\n",
        listed("/m"),
        listed("")
    );
    for name in all {
        policy += &format!(
            "[providers.{name}]\nkind = \"compatible\"\nurl = \"{url}\"\nretries = {retries}\n\
             [prices.\"{name}/m\"]\ninput_per_million = 1\noutput_per_million = 10\n"
        );
    }
    policy
}

fn cost(entry: &Entry) -> u64 {
    entry.cost.micros.expect("it has a price")
}

/// What an entry counts as in budgets.
fn counts(entry: &Entry) -> Amount {
    let sum = |sum: Amount, it: &Charge| Amount {
        micros: sum.micros + it.micros,
        tokens: sum.tokens + it.tokens,
    };
    entry.charges.iter().flatten().fold(Amount::default(), sum)
}

/// What entries count as, which is what they cost, and what a program has spent that comes after
/// and has them alone.
fn counted(entries: &[Entry], policy: &str, seed: &dyn std::fmt::Debug) -> Amount {
    let table = Table::read("policy.toml", policy).expect("a policy");
    let mut all = Amount::default();
    let mut after = Amount::default();
    for entry in entries {
        let it = counts(entry);
        assert_eq!(it.micros, cost(entry), "seed {seed:?}: {entry:#?}");
        all = Amount { micros: all.micros + it.micros, tokens: all.tokens + it.tokens };
        for (_, spent) in charged(&table, entry, now_ms()) {
            after.micros += spent.micros;
            after.tokens += spent.tokens;
        }
    }
    assert_eq!(after, all, "seed {seed:?}: {entries:#?}");
    all
}

fn standing(shared: &Memory) -> Standing {
    let account = Account { name: "all".into(), window: Period::Forever.window(0) };
    shared.standings(&[account]).expect("it answers")[0]
}

fn entries(reader: &mut Reader) -> Vec<Entry> {
    reader.entries(0, u64::MAX).map(|stored| stored.expect("it is read").entry).collect()
}

/// Were nobody to look at these ledgers again: all that they say, of calls under way too, is
/// charged or held, and so is within the budget.
fn bounded<'a>(
    shared: &Memory,
    paths: impl IntoIterator<Item = &'a PathBuf>,
    most: u64,
    seed: &dyn std::fmt::Debug,
) {
    let mut said = 0;
    for path in paths {
        let reader = Reader::open(&place(path), &Options::default());
        let mut reader = reader.expect("it is read");
        said += entries(&mut reader).iter().map(cost).sum::<u64>();
        let open = reader.announced().expect("it is read");
        said += open.iter().map(|call| cost(&call.worst)).sum::<u64>();
    }
    let Standing { spent, reserved, .. } = standing(shared);
    let all = spent.micros + reserved.micros;
    assert!(said <= all && all <= most, "seed {seed:?}: {said} {spent:?} {reserved:?}");
}

/// What two ledgers say is what was spent, each receipt has its entry, and all of it is within
/// the budget.
fn agree(
    shared: &Memory,
    ledgers: &[Ledger; 2],
    heard: &[Heard],
    policy: &str,
    seed: u64,
) -> usize {
    let readers = ledgers.iter().map(|ledger| ledger.reader().expect("it is read"));
    let entries: Vec<Entry> = readers.flat_map(|mut reader| entries(&mut reader)).collect();
    let ids: BTreeSet<&str> = entries.iter().map(|entry| entry.id.as_str()).collect();
    assert_eq!(ids.len(), entries.len(), "seed {seed}: a call has one entry");
    let sum = counted(&entries, policy, &seed);
    assert_eq!(standing(shared).spent, sum, "seed {seed}: {entries:#?}");
    assert!(sum.micros <= MICROS, "seed {seed}: {sum:?}");
    let mut ended: BTreeMap<u64, usize> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.end == End::Stop) {
        *ended.entry(cost(entry)).or_default() += 1;
    }
    for (what, number, micros) in heard {
        let said = price(*number);
        let dropped = what.starts_with("drop");
        let right = if dropped { *micros > said } else { *micros == said };
        assert!(right, "seed {seed}: {what} {number} cost {micros}, the other said {said}");
        let entry = ended.get_mut(micros).filter(|count| **count > 0);
        *entry.unwrap_or_else(|| panic!("seed {seed}: call {number} has no entry")) -= 1;
    }
    entries.iter().filter(|entry| entry.end == End::Lost).count()
}

fn life(folder: &Path, seed: u64) -> (usize, usize, u64) {
    let upstream = Upstream::start();
    let candidates = 1 + seed as usize % FAR.len();
    let policy = policy(&upstream.url, candidates, MICROS);
    let shared = Arc::new(Memory::default());
    let mut paths = ["one", "other"].map(|name| folder.join(format!("{name}-{seed}.sqlite")));
    let mut heard = Vec::new();
    for at in 0..ROUNDS {
        let steps = |which: u64| match chance(seed * 100 + at * 10 + which) {
            long if long.is_multiple_of(3) => i64::MAX / 2,
            short => (short / 3 % 70) as i64 + 1,
        };
        let [one, other] = paths;
        let programs = [(one, 0), (other, 1)]
            .map(|(path, which)| Program::start(path, &shared, &policy, steps(which)));
        heard.extend(round(&programs, seed, at));
        paths = programs.map(|program| program.die(at));
        bounded(&shared, &paths, MICROS, &seed);
    }
    let ledgers = paths.map(|path| opened(&path, &shared));
    let lost = agree(&shared, &ledgers, &heard, &policy, seed);
    (heard.len(), lost, standing(&shared).spent.micros)
}

/// Whole answers, callers that go away, upstreams that fail and cut, retries, and two programs
/// that die at any step, again and again.
#[test]
fn what_is_spent_is_what_ledgers_say_whoever_dies() {
    let name = format!("ingle-spending-{}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).expect("a folder");
    let lives: Vec<_> = (0..LIVES).map(|seed| life(&folder, seed)).collect();
    std::fs::remove_dir_all(&folder).expect("it was made");
    let receipts: usize = lives.iter().map(|life| life.0).sum();
    let lost: usize = lives.iter().map(|life| life.1).sum();
    assert!(receipts > 30 && lost > 0, "{lives:?}");
}

/// One call of a program that takes so many steps, with a budget of so much; its entry, if it
/// has one.
fn last_step(folder: &Path, url: &str, most: u64, what: &str, at: (u64, i64)) -> Option<Entry> {
    let (number, steps) = at;
    let (policy, shared) = (policy(url, FAR.len(), most), Arc::new(Memory::default()));
    let path = folder.join(format!("{what}-{number}.sqlite"));
    let program = Program::start(path, &shared, &policy, steps);
    let heard = program.ask(what, number);
    let path = program.die(0);
    bounded(&shared, [&path], most, &(what, at));
    let ledger = opened(&path, &shared);
    let mut all = entries(&mut ledger.reader().expect("it is read"));
    let sum = counted(&all, &policy, &(what, at));
    let Standing { spent, reserved, .. } = standing(&shared);
    assert_eq!(spent, sum, "{what} {at:?}: {all:#?}");
    assert!(all.len() <= 1 && sum.micros <= most, "{what} {at:?}: {all:#?}");
    if let Some(micros) = heard {
        assert_eq!((all[0].end, sum.micros), (End::Stop, micros), "{what} {at:?}");
    }
    // Nothing that the ledger knows of is held any more.
    assert!(all.is_empty() || reserved.micros == 0, "{what} {at:?}: {reserved:?} {all:#?}");
    all.pop()
}

/// Two servers begin to answer and are cut, so that the third is asked, or all three are; and
/// the program dies at each step of that. Then with room for one of them at a time, so that
/// each waits until the budget has back what the one before it did not take.
#[test]
fn each_step_of_a_failover_may_be_the_last() {
    let folder = std::env::temp_dir().join(format!("ingle-failover-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let upstream = Upstream::start();
    let check = |first: u64, what: &str, most: u64, end: End| {
        let mut seen = BTreeSet::new();
        for steps in 1..=20_i64 {
            let at = (first + steps.unsigned_abs(), steps);
            let entry = last_step(&folder, &upstream.url, most, what, at);
            seen.extend(entry.map(|entry| (format!("{:?}", entry.end), entry.provider)));
        }
        let lost = FAR.map(|name| (format!("{:?}", End::Lost), name.to_owned()));
        let ended = (format!("{end:?}"), "last".to_owned());
        let expect: BTreeSet<_> = lost.into_iter().chain([ended]).collect();
        assert_eq!(seen, expect, "{what} {most}");
    };
    check(FIRST, "drops", MICROS, End::Stop);
    check(FIRST + 25, "never", MICROS, End::Failed);
    check(FIRST + 50, "drops", ONE, End::Stop);
    check(FIRST + 75, "never", ONE, End::Failed);
    std::fs::remove_dir_all(&folder).expect("it was made");
}
