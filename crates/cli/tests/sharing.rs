//! Servers that share budgets and limits through a Redis server: two of them spend one budget of
//! money, one of tokens and one key's rate at once, by whole answers and streams, with clients that
//! go away, upstreams that fail, and one of the two killed and started again. What is spent is
//! never more than there is, and in the end both ledgers, the receipts that callers got, what was
//! lost, and the Redis server say the same, to the micro-dollar. And keys are replaced while calls
//! run, and keep what they used.
#![cfg(unix)]
#![allow(clippy::print_stdout, reason = "a skipped test says so")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use ingle_gateway::budget::{Account, Period, Place as Shared, Redis, Standing, Store, call_of};
use ingle_ledger::{Options, Reader};
use ingle_protocol::{End, Entry};
use serde_json::{Value, json};
use support::place::Place;
use support::run;
use support::seller::{Upstream, price};
use support::server::Server;

/// Of all calls together.
const MICROS: u64 = 30_000;
/// Of the key `slow`.
const TOKENS: u64 = 1_500;
/// Of the key `slow`, in a minute.
const PER_MINUTE: u64 = 30;
const THREADS: u64 = 6;
const CALLS: u64 = 60;

/// A Redis server of this test's own.
struct Kept {
    folder: PathBuf,
    process: Child,
    url: String,
}

impl Kept {
    /// One that runs, or why there is none.
    fn start(name: &str) -> Result<Self, String> {
        let found = Command::new("redis-server").arg("--version").output();
        found.map_err(|error| format!("redis-server cannot be started: {error}"))?;
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let folder = folder.join(format!("sharing-{name}-redis-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir_all(&folder).expect("a folder");
        let free = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr());
        let port = free.expect("a free port").port();
        let mut command = Command::new("redis-server");
        command.arg("--dir").arg(&folder).args(["--bind", "127.0.0.1", "--save", ""]);
        command.args(["--port", &port.to_string(), "--appendonly", "no"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().expect("starts");
        let kept = Self { folder, process, url: format!("redis://127.0.0.1:{port}") };
        support::until(|| Redis::open(&kept.place()).is_ok());
        Ok(kept)
    }

    fn place(&self) -> Shared {
        self.url.parse().expect("a place")
    }

    fn open(&self) -> Redis {
        Redis::open(&self.place()).expect("it answers")
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

/// Where it is, or a loud word and nothing.
fn redis(name: &str) -> Option<Kept> {
    match Kept::start(name) {
        Ok(kept) => Some(kept),
        Err(why) => {
            println!("\n!!! NOT CHECKED: servers that share budgets: {why}\n");
            None
        }
    }
}

fn policy(url: &str, budgets: &str) -> String {
    format!(
        r#"default_class = "open"
        [providers.far]
        kind = "compatible"
        url = "{url}"
        retries = 1
        [models.auto]
        candidates = ["far/m"]
        [classes.open]
        providers = ["far"]
        [prices."far/m"]
        input_per_million = "1"
        output_per_million = "10"
        {budgets}
        "#
    )
}

/// A server with a ledger of its own by this name.
fn serve(place: &Place, ledger: &str, more: &[&str]) -> Server {
    let ledger = place.path(ledger);
    let usual = ["--no-local", "--ledger", &ledger];
    place.start(&[&usual[..], more].concat(), &[])
}

fn entries(place: &Place, ledger: &str) -> Vec<Entry> {
    let ledger = place.path(ledger).parse().expect("a place");
    let mut reader = Reader::open(&ledger, &Options::default()).expect("a ledger");
    let all = reader.entries(0, u64::MAX);
    all.map(|stored| stored.expect("is read").entry).collect()
}

fn chat(what: &str, number: u64, stream: bool) -> String {
    let messages = [json!({ "role": "user", "content": format!("{what} {number}") })];
    let mut body = json!({ "model": "auto", "max_tokens": 40, "messages": messages });
    if stream {
        body["stream"] = json!(true);
    }
    body.to_string()
}

/// What a caller got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Got {
    /// An answer to its end, and what its receipt says that it cost.
    Receipt(u64),
    /// A status that is no answer.
    Refused(u16),
    /// Something that ended early, or nothing.
    Cut,
}

/// Sends a request.
fn send(address: &str, key: &str, body: &str) -> std::io::Result<BufReader<TcpStream>> {
    send_over(TcpStream::connect(address)?, key, body)
}

fn send_over(
    mut socket: TcpStream,
    key: &str,
    body: &str,
) -> std::io::Result<BufReader<TcpStream>> {
    write!(
        socket,
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nauthorization: Bearer {key}\r\n\
         \r\n{body}",
        body.len()
    )?;
    Ok(BufReader::new(socket))
}

/// Reads to the first piece of a stream.
fn first_piece(reader: &mut BufReader<TcpStream>) -> bool {
    let mut line = String::new();
    while !line.starts_with("data: ") {
        line.clear();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return false;
        }
    }
    true
}

/// Asks, and reads all; one that goes away reads the beginning alone.
fn ask(address: &str, key: &str, what: &str, number: u64, streamed: bool) -> Got {
    match send(address, key, &chat(what, number, streamed)) {
        Ok(reader) => heard(reader, what, streamed),
        Err(_) => Got::Cut,
    }
}

/// What comes of a request that was sent.
fn heard(mut reader: BufReader<TcpStream>, what: &str, streamed: bool) -> Got {
    if what == "leave" {
        first_piece(&mut reader);
        return Got::Cut;
    }
    let mut bytes = Vec::new();
    if reader.read_to_end(&mut bytes).is_err() {
        return Got::Cut;
    }
    let text = String::from_utf8(bytes).expect("UTF-8");
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return Got::Cut };
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    match status {
        Some(200) => {}
        Some(status) => return Got::Refused(status),
        None => return Got::Cut,
    }
    let whole = if streamed { None } else { serde_json::from_str(body).ok() };
    let events = body.lines().filter_map(|line| line.strip_prefix("data: "));
    let mut events = events.filter_map(|event| serde_json::from_str::<Value>(event).ok());
    let last = whole.or_else(|| events.find(|event| event["ingle"].is_object()));
    let cost = last.and_then(|last| last["ingle"]["cost_micros"].as_u64());
    cost.map_or(Got::Cut, Got::Receipt)
}

/// Numbers that are the same each time, and look like chance (splitmix64).
fn chance(of: u64) -> u64 {
    let mut it = of.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    it ^ (it >> 31)
}

/// Of how many calls so many do this, and whether they are streamed. Few fail, so that no server
/// leaves the other one alone for a while.
const KINDS: [(u64, &str, bool); 7] = [
    (8, "say", false),
    (8, "say", true),
    (3, "leave", true),
    (1, "flaky", false),
    (1, "flaky", true),
    (1, "fail", false),
    (1, "cut", true),
];

/// What a call does.
fn kind(chance: u64) -> (&'static str, bool) {
    let all: u64 = KINDS.iter().map(|row| row.0).sum();
    let mut left = chance % all;
    let row = KINDS.iter().find(|row| {
        let here = left < row.0;
        left = left.saturating_sub(row.0);
        here
    });
    row.map_or(("say", false), |row| (row.1, row.2))
}

fn account(name: &str) -> Account {
    Account { name: name.into(), window: Period::Forever.window(0) }
}

/// All money, and the slow key's tokens.
fn standings(store: &Redis) -> [Standing; 2] {
    let all = store.standings(&[account("all"), account("tokens:slow")]).expect("it answers");
    [all[0], all[1]]
}

/// Looks at the budgets for as long as others spend.
fn watch(store: &Redis, ended: &AtomicBool) {
    while !ended.load(Ordering::SeqCst) {
        let [all, slow] = standings(store);
        assert!(all.spent.micros + all.reserved.micros <= MICROS, "{all:?}");
        assert!(slow.spent.tokens + slow.reserved.tokens <= TOKENS, "{slow:?}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Ends it for others, too, where one of a scope's threads has panicked.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// What all share who call.
struct Scene {
    addresses: [RwLock<String>; 2],
    keys: [String; 2],
    done: AtomicU64,
}

impl Scene {
    /// One of the servers, once it listens: the other may have been killed.
    fn connect(&self, which: u64) -> TcpStream {
        let mut got = None;
        support::until(|| {
            let address = self.addresses[which as usize % 2].read().expect("no panic").clone();
            got = TcpStream::connect(address).ok();
            got.is_some()
        });
        got.expect("or it waited in vain")
    }

    /// One caller's calls, and what each got: its number, whether the slow key's, and that.
    fn calls(&self, thread: u64) -> Vec<(u64, bool, Got)> {
        let numbers = thread * CALLS..(thread + 1) * CALLS;
        let one = |number: u64| {
            let chance = chance(number);
            let (what, streamed) = kind(chance);
            let slow = (chance / 64).is_multiple_of(3);
            let socket = self.connect(chance / 1_024);
            let key = &self.keys[usize::from(slow)];
            let sent = send_over(socket, key, &chat(what, number, streamed));
            let got = sent.map_or(Got::Cut, |reader| heard(reader, what, streamed));
            self.done.fetch_add(1, Ordering::SeqCst);
            (number, slow, got)
        };
        numbers.map(one).collect()
    }
}

/// Kills a server in the middle of an answer, and starts another on its ledger.
fn kill(server: Server, scene: &Scene, number: u64, again: impl FnOnce() -> Server) -> Server {
    let mut server = server;
    let mut reader =
        send(server.address(), &scene.keys[0], &chat("endless", number, true)).expect("it listens");
    assert!(first_piece(&mut reader), "there is room for one more");
    server.signal("KILL");
    assert!(!server.wait().success());
    drop(server);
    let server = again();
    *scene.addresses[1].write().expect("no panic") = server.address().to_owned();
    server
}

/// Ends servers in good order.
fn end(servers: impl IntoIterator<Item = Server>) {
    for mut server in servers {
        server.signal("TERM");
        server.wait();
    }
}

/// Every receipt has its entry; tells what all entries cost, and how many were lost.
fn agree(entries: &[Entry], got: &[(u64, bool, Got)]) -> (u64, usize) {
    let cost = |entry: &Entry| entry.cost.micros.expect("it has a price");
    let mut ids = BTreeSet::new();
    assert!(entries.iter().all(|entry| ids.insert(entry.id.clone())), "a call has one entry");
    let mut ended: BTreeMap<u64, u64> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.end == End::Stop) {
        *ended.entry(cost(entry)).or_default() += 1;
    }
    let mut receipts = 0;
    for (number, _, got) in got {
        let Got::Receipt(micros) = got else { continue };
        assert_eq!(*micros, price(*number), "what the other server said");
        let entry = ended.get_mut(micros).filter(|count| **count > 0);
        *entry.unwrap_or_else(|| panic!("call {number} has no entry")) -= 1;
        receipts += micros;
    }
    // What is left ended, and its caller did not hear: it had gone, or its server was killed.
    let unheard: u64 = ended.values().sum();
    let cut = got.iter().filter(|(_, _, got)| *got == Got::Cut).count();
    assert!(unheard <= cut as u64, "{unheard} entries whose callers heard nothing, of {cut}");
    let unheard: u64 = ended.iter().map(|(micros, count)| micros * count).sum();
    let others = entries.iter().filter(|entry| entry.end != End::Stop);
    let others: u64 = others.map(cost).sum();
    let all: u64 = entries.iter().map(cost).sum();
    assert_eq!(all, receipts + unheard + others);
    let lost = entries.iter().filter(|entry| entry.end == End::Lost);
    assert!(lost.clone().all(|entry| cost(entry) > 0), "at its worst");
    (all, lost.count())
}

/// One of all money, and one of the slow key's tokens.
fn budgets() -> String {
    format!(
        r#"[budgets.all]
        scope = "all"
        per = "forever"
        usd = "0.{MICROS:06}"
        [budgets.tokens]
        scope = "key"
        of = ["slow"]
        per = "forever"
        tokens = {TOKENS}"#
    )
}

#[test]
fn two_servers_spend_one_budget_and_one_is_killed() {
    let Some(kept) = redis("spend") else { return };
    let (upstream, place) = (Upstream::start(), Place::new("sharing-spend"));
    place.policy(&policy(&upstream.url, &budgets()));
    let rate = PER_MINUTE.to_string();
    let keys = [place.key("free", &[]), place.key("slow", &["--requests-per-minute", &rate])];
    let serve = |ledger: &str| serve(&place, ledger, &["--budgets", &kept.url]);
    let (one, other) = (serve("one.sqlite"), serve("other.sqlite"));
    let addresses = [&one, &other].map(|server| RwLock::new(server.address().to_owned()));
    let scene = Scene { addresses, keys, done: AtomicU64::new(0) };
    let (store, ended, began) = (kept.open(), AtomicBool::new(false), Instant::now());
    let mut other = Some(other);
    let got: Vec<(u64, bool, Got)> = thread::scope(|scope| {
        let (scene, store, ended) = (&scene, &store, &ended);
        let ends = Ends(ended);
        let watching = scope.spawn(move || watch(store, ended));
        let all: Vec<_> = (0..THREADS).map(|it| scope.spawn(move || scene.calls(it))).collect();
        for round in 1..=2 {
            // While there is still money for one that does not end.
            support::until(|| scene.done.load(Ordering::SeqCst) > round * THREADS * CALLS / 20);
            let again = || serve("other.sqlite");
            let number = THREADS * CALLS + round;
            other = other.take().map(|other| kill(other, scene, number, again));
        }
        let got = all.into_iter().flat_map(|it| it.join().expect("no panic")).collect();
        drop(ends);
        watching.join().expect("no panic");
        got
    });
    let passed = u64::try_from(began.elapsed().as_millis()).expect("small") + 1;
    end([one].into_iter().chain(other));
    // What is left to be told of is told at the next start.
    end([serve("one.sqlite"), serve("other.sqlite")]);

    let [all, slow] = standings(&store);
    let entries = [entries(&place, "one.sqlite"), entries(&place, "other.sqlite")].concat();
    let (spent, lost) = agree(&entries, &got);
    assert_eq!(all.spent.micros, spent, "the ledgers' sum is the budget's");
    let charges = entries.iter().flat_map(|entry| entry.charges.iter().flatten());
    let tokens: u64 = charges.map(|charge| charge.tokens).sum();
    assert_eq!(all.spent.tokens, tokens, "and so it is of tokens");
    assert!(spent <= MICROS && slow.spent.tokens <= TOKENS, "{spent} {slow:?}");
    assert!(lost >= 2, "each kill lost a call: {lost}");
    let known: BTreeSet<&str> = entries.iter().map(|entry| entry.id.as_str()).collect();
    let open = store.open_calls().expect("it answers");
    assert!(open.iter().all(|(id, _)| !known.contains(call_of(id))), "{open:?}");

    let count = |of: &dyn Fn(&(u64, bool, Got)) -> bool| got.iter().filter(|it| of(it)).count();
    let receipts = count(&|it| matches!(it.2, Got::Receipt(_)));
    assert!(receipts > 60, "{receipts} answers");
    assert!(count(&|it| it.2 == Got::Refused(402)) > 0, "both wanted more than there was");
    // Requests that came through, and those of whom nobody knows.
    let through = count(&|it| it.1 && !matches!(it.2, Got::Refused(429) | Got::Cut)) as u64;
    assert!(through <= PER_MINUTE + passed * PER_MINUTE / 60_000 + 1, "{through} in {passed} ms");
    let asked = count(&|it| it.1);
    println!(
        "{receipts} receipts, {lost} lost, {} unheard of; {spent} of {MICROS} micro-dollars; \
         {through} of {asked} slow requests",
        open.len()
    );
    for ledger in ["one.sqlite", "other.sqlite"] {
        let whole = run(&["audit", "verify", "--json", "--ledger", &place.path(ledger)]);
        assert!(whole.json()["rows"].as_u64() > Some(0), "{whole:?}");
    }
}

/// Where nobody can say what was used, nothing is: no call begins, whatever its key.
#[test]
fn nothing_begins_where_the_shared_place_is_gone() {
    let Some(mut kept) = redis("gone") else { return };
    let (upstream, place) = (Upstream::start(), Place::new("sharing-gone"));
    let budget = "[budgets.all]\nscope = \"all\"\nper = \"forever\"\nusd = 1\n";
    place.policy(&policy(&upstream.url, budget));
    let keys = [place.key("free", &[]), place.key("slow", &["--requests-per-minute", "60"])];
    let server = place.serve(&["--budgets", &kept.url]);
    let ask = |key: &str, number| ask(server.address(), key, "say", number, false);
    for (number, key) in (1..).zip(&keys) {
        assert_eq!(ask(key, number), Got::Receipt(price(number)));
    }
    kept.process.kill().and_then(|()| kept.process.wait()).expect("it is ours");
    assert_eq!(ask(&keys[1], 3), Got::Refused(503), "its limit is not known");
    assert_eq!(ask(&keys[0], 4), Got::Refused(503), "nor what is spent");
    // Nothing of them left, and what does not need it goes on.
    assert_eq!(server.ask("GET", "/health", "").status, 200);
    let entries = entries(&place, "ledger.sqlite");
    let spent: u64 = entries.iter().filter_map(|entry| entry.cost.micros).sum();
    assert_eq!(spent, price(1) + price(2));
}

/// Until a secret is replaced.
fn reloaded(server: &mut Server) {
    while server.event()["event"] != "reloaded" {}
}

/// A key's secret is replaced while one of its answers runs: that ends as it would, the old secret
/// opens nothing more, and the new one has what is left of the key's budget and minute.
fn rotate(name: &str, more: &[&str]) {
    let gate = Arc::<Mutex<()>>::default();
    let (upstream, place) = (Upstream::gated(Arc::clone(&gate)), Place::new(name));
    let budget = "[budgets.each]\nscope = \"key\"\nper = \"forever\"\nusd = \"0.0013\"\n";
    place.policy(&policy(&upstream.url, budget));
    let paid = place.key("paid", &[]);
    let limit = ["--requests-per-minute", "1"];
    let limited = place.key("limited", &limit);
    let mut server = place.serve(more);
    let address = server.address().to_owned();
    let held = gate.lock().expect("nobody has it yet");
    let mut running = send(&address, &limited, &chat("long", 10, true)).expect("it listens");
    assert!(first_piece(&mut running));
    // About 500 micro-dollars at worst, for one try, fit beside what two of these take, and not
    // beside what three do.
    for number in [300, 299, 298] {
        assert_eq!(ask(&address, &paid, "say", number, false), Got::Receipt(price(number)));
    }
    for (name, more) in [("paid", &[][..]), ("limited", &limit)] {
        let file = place.keys();
        assert_eq!(run(&["key", "revoke", name, "--file", &file]).code, Some(0));
        let fresh = place.key(name, more);
        reloaded(&mut server);
        let old = if name == "paid" { &paid } else { &limited };
        support::until(|| ask(&address, old, "say", 1, false) == Got::Refused(401));
        let expect = if name == "paid" { 402 } else { 429 };
        let mut got = Got::Refused(401);
        support::until(|| {
            got = ask(&address, &fresh, "say", 297, false);
            got != Got::Refused(401)
        });
        assert_eq!(got, Got::Refused(expect), "{name}");
    }
    drop(held);
    let mut rest = String::new();
    running.read_to_string(&mut rest).expect("UTF-8");
    assert!(rest.contains("[DONE]"), "{rest}");
}

#[test]
fn a_key_is_replaced_while_calls_run() {
    rotate("sharing-rotate", &[]);
}

#[test]
fn a_key_is_replaced_where_servers_share() {
    let Some(kept) = redis("rotate") else { return };
    rotate("sharing-rotate-shared", &["--budgets", &kept.url]);
}
