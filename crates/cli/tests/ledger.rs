//! `ingle cost` and `ingle audit` as their users meet them, over a ledger of a few calls; and what
//! a server leaves in one of the words that were said, where that is wanted.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use ingle_ledger::{Identities, Ledger, Options, Place};
use ingle_protocol::{Cost, Entry, Usage};
use serde_json::{Value, json};
use support::server::Server;
use support::{Said, ingle, run, tiny};

/// A folder of its own for a test, with a ledger.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("cli-ledger-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("can be made");
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("UTF-8").to_owned()
    }

    fn place(&self) -> Place {
        Place::within(&self.0)
    }

    fn ledger(&self) -> String {
        self.place().to_string()
    }

    /// Runs the program on the ledger.
    fn run(&self, arguments: &[&str]) -> Said {
        run(&[arguments, &["--ledger", &self.ledger()]].concat())
    }

    fn lines(&self, arguments: &[&str]) -> Vec<Value> {
        let said = self.run(arguments);
        let json = |line: &str| serde_json::from_str(line).expect("JSON");
        said.answer().lines().map(json).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Midnight of the third of November 2026, in milliseconds since 1970.
const DAY: u64 = 1_793_664_000_000;

/// Three calls: two that left the machine on two days, and one that was answered on it.
fn calls(folder: &Folder) {
    let ledger = Ledger::open(&folder.place(), &Options::default()).expect("opens");
    let rows = [("a", "large", 0, 1_500_000, true), ("b", "small", 0, 100, false)];
    for (id, model, day, cost, left) in rows.into_iter().chain([("c", "large", 1, 500_000, true)]) {
        let entry = Entry {
            id: id.into(),
            at_ms: DAY + day * 86_400_000,
            key: "alice".into(),
            model: model.into(),
            hosts: if left { vec!["far.example".into()] } else { Vec::new() },
            tries: 1,
            usage: Usage { prompt_tokens: 1000, completion_tokens: 100, ..Usage::default() },
            cost: Cost { micros: Some(cost), ..Cost::default() },
            instead_micros: Some(2_000_000),
            ..Entry::default()
        };
        ledger.note(&entry).and_then(ingle_ledger::Ticket::wait).expect("is written");
    }
}

const TIME: [&str; 4] = ["--since", "2026-11-01", "--until", "2026-11-05"];

/// What is asked of the four days that have the calls.
fn cost<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["cost"], &TIME[..], more].concat()
}

#[test]
fn costs_in_every_form() {
    let folder = Folder::new("cost");
    calls(&folder);
    let said = folder.run(&cost(&[]));
    let lines: Vec<&str> = said.answer().lines().collect();
    let row = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let heading = ["MODEL", "CALLS", "PROMPT", "ANSWER", "COST", "UNKNOWN", "LEFT", "SAVED"];
    assert_eq!(row(lines[0]), heading, "{said:?}");
    assert_eq!(row(lines[1]), ["large", "2", "2000", "200", "$2.00", "-", "100", "%", "$2.00"]);
    let small = ["small", "1", "1000", "100", "$0.0001", "-", "0", "%", "$1.9999"];
    assert_eq!(row(lines[2]), small);
    assert_eq!(row(lines[3])[..5], ["all", "3", "3000", "300", "$2.0001"]);
    assert!(said.out.contains("Forecast"), "{said:?}");

    let json = folder.lines(&cost(&["--by", "day", "--json"]));
    assert_eq!(
        (&json[0]["day"], &json[0]["cost_micros"]),
        (&"2026-11-03".into(), &1_500_100.into())
    );
    assert_eq!((&json[1]["day"], &json[1]["calls"]), (&"2026-11-04".into(), &1.into()));
    assert_eq!(json[2]["total"]["saved_micros"], 3_999_900);
    assert_eq!(json[3]["forecast"]["calls_per_day"], 1.5, "three calls since the third");

    let csv = folder.run(&cost(&["--csv", "--by", "key"]));
    let lines: Vec<&str> = csv.answer().lines().collect();
    assert!(lines[0].starts_with("key,calls,prompt_tokens,"), "{csv:?}");
    assert!(lines[1].starts_with("alice,3,3000,") && lines.len() == 2, "{csv:?}");
    let bars = folder.run(&cost(&["--plot"]));
    assert!(bars.answer().starts_with(&format!("large {} $2.00\n", "#".repeat(40))), "{bars:?}");

    let parquet = folder.path("cost.parquet");
    folder.run(&cost(&["--parquet", &parquet])).answer();
    let bytes = fs::read(&parquet).expect("is there");
    assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
    folder.run(&cost(&["--parquet", &parquet])).refused(1, &["is there already"]);
    folder.run(&cost(&["--parquet", &parquet, "--overwrite"])).answer();
}

#[test]
fn what_will_be_and_could_be() {
    let folder = Folder::new("forecast");
    calls(&folder);
    let forecast = |more: &[&str]| {
        let all = folder.lines(&[&["cost", "--json"], &TIME[..], more].concat());
        all.last().expect("a forecast")["forecast"].clone()
    };
    let share = forecast(&["--volume", "1000000/day", "--local-share", "0.8"]);
    assert_eq!(share["micros_per_call"].as_f64().map(f64::round), Some(200_080.0));
    assert_eq!(share["calls_per_day"], 1e6);
    let price = forecast(&["--price", "0.15/0.60", "--local-share", "0"]);
    assert_eq!(price["micros_per_call"], 210.0);
    let cost = |more: &[&str]| folder.run(&[&["cost"], more].concat());
    cost(&["--local-share", "2"]).refused(2, &["from 0 to 1"]);
    cost(&["--volume", "many"]).refused(2, &["1000000/day"]);
    cost(&["--since", "yesterday"]).refused(2, &["2026-11-01"]);
    cost(&["--since", "2026-11-05", "--until", "2026-11-05"]).refused(2, &["--since"]);
    cost(&["--csv", "--plot"]).refused(2, &["cannot be used with"]);
    let empty = ["--since", "2020-01-01", "--until", "2020-01-02", "--volume", "5"];
    cost(&empty).refused(1, &["choose a longer one"]);
}

#[test]
fn audits() {
    let folder = Folder::new("audit");
    folder.run(&["audit", "verify"]).refused(1, &["there is no ledger"]);
    calls(&folder);
    let whole = folder.run(&["audit", "verify"]);
    assert!(whole.answer().starts_with("whole: 3 rows"), "{whole:?}");
    let anchor = folder.run(&["audit", "export"]).answer().trim().to_owned();
    assert!(anchor.ends_with(":3"), "{anchor}");
    folder.run(&["audit", "verify", "--anchor", &anchor]).answer();
    let other = format!("{}:3", "ab".repeat(32));
    let broken = folder.run(&["audit", "verify", "--anchor", &other]);
    assert_eq!((broken.code, broken.out.lines().count()), (Some(1), 1), "{broken:?}");
    assert!(broken.out.starts_with("not whole: row 3 "), "{broken:?}");
    folder.run(&["audit", "verify", "--anchor", "x"]).refused(2, &["HASH:COUNT"]);

    let ids = |more: &[&str]| {
        let all = folder.lines(&[&["audit", "list"], more].concat()).into_iter();
        all.map(|entry| entry["id"].as_str().expect("a text").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&[]), ["a", "b", "c"]);
    assert_eq!(ids(&["--since", "2026-11-04"]), ["c"]);
    assert_eq!(ids(&["--until", "2026-11-04"]), ["a", "b"]);
    assert_eq!(folder.run(&["audit", "show", "b"]).json()["model"], "small");
    folder.run(&["audit", "show", "x"]).refused(1, &["no call \"x\""]);

    let pruned = folder.run(&["audit", "prune", "--before", "2026-11-04", "--json"]).json();
    assert_eq!(pruned["removed"], 2);
    assert_eq!(ids(&[]), ["c"]);
    let json = folder.run(&["audit", "verify", "--json"]).json();
    assert_eq!((&json["whole"], &json["base"]["count"]), (&true.into(), &2.into()));
    folder.run(&["audit", "verify", "--anchor", &anchor]).answer();
}

/// The place may come from the environment, and no error tells the password in it.
#[test]
fn the_environment_names_the_ledger() {
    let folder = Folder::new("environment");
    calls(&folder);
    let said = ingle(&["audit", "export"]).env("INGLE_LEDGER", folder.ledger()).output();
    assert!(Said::from(said.expect("runs")).answer().ends_with(":3\n"));
    let home = ingle(&["audit", "export"]).env("INGLE_HOME", &folder.0).output();
    assert!(Said::from(home.expect("runs")).answer().ends_with(":3\n"));
    let url = "postgres://me:secret@127.0.0.1:9/x";
    let said = run(&["audit", "verify", "--ledger", url]);
    said.refused(1, &["postgres://127.0.0.1:9/x"]);
    assert!(!said.err.contains("secret"), "{said:?}");
}

/// Words that nothing but a request has.
const CANARY: &str = "the heron stands where nobody has seen it before";

/// Has a server answer with these flags, and ends it without warning; returns the answer's text.
fn served(folder: &Folder, more: &[&str]) -> String {
    let (model, ledger) = (tiny(), folder.ledger());
    let server = Server::start(&[&[model.as_str(), "--ledger", &ledger], more].concat());
    let body = json!({ "prompt": CANARY, "max_tokens": 8, "ignore_eos": true, "temperature": 0 });
    let said = server.ask("POST", "/v1/completions", &body.to_string());
    assert_eq!(said.status, 200, "{}", said.body);
    assert_eq!(server.metric("ingle_ledger_missed_calls_total"), 0.0);
    said.json()["choices"][0]["text"].as_str().expect("a text").to_owned()
}

/// Whether any file of the ledger has these bytes, journals included.
fn holds(folder: &Folder, needle: &[u8]) -> bool {
    let list = |folder: &Path| fs::read_dir(folder).into_iter().flatten();
    let live = folder.0.join("ledger.sqlite.live");
    let files = list(&folder.0).chain(list(&live)).map(|file| file.expect("is").path());
    let bytes = |path: PathBuf| fs::read(path).expect("is read");
    files.filter(|path| path.is_file()).map(bytes).any(|bytes| {
        let mut windows = bytes.windows(needle.len());
        windows.any(|window| window == needle)
    })
}

#[test]
fn words_are_kept_for_who_holds_the_key_alone() {
    let folder = Folder::new("content");
    let key = run(&["audit", "key"]).answer().to_owned();
    let public = key.lines().find_map(|line| line.strip_prefix("# public key: "));
    let public = public.expect("its public half").to_owned();
    fs::create_dir_all(folder.0.join("keys")).expect("can be made");
    let [mine, other, list] =
        ["key.txt", "other.txt", "list.txt"].map(|name| folder.path(&format!("keys/{name}")));
    fs::write(&mine, &key).expect("is written");
    fs::write(&other, run(&["audit", "key"]).answer()).expect("is written");
    fs::write(&list, format!("# those who may read\n{public}\n")).expect("is written");

    // Without the flag there is nothing, encrypted or not.
    served(&folder, &[]);
    assert!(holds(&folder, b"/v1/completions"), "the entry is there");
    assert!(!holds(&folder, CANARY.as_bytes()) && !holds(&folder, b"age-encryption.org"));
    assert_eq!(folder.lines(&["audit", "content", "--identity", &mine]), Vec::<Value>::new());

    let answer = served(&folder, &["--ledger-content", &public, "--ledger-content", &list]);
    assert!(holds(&folder, b"age-encryption.org") && !holds(&folder, CANARY.as_bytes()));
    let kept = folder.lines(&["audit", "content", "--identity", &mine]);
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0]["asked"]["text"], CANARY);
    assert_eq!(kept[0]["answer"], json!([{ "text": answer }]));
    assert_eq!(kept[0]["cut"], false);
    let call = kept[0]["call"].as_str().expect("an id");
    assert_eq!(folder.run(&["audit", "show", call]).json()["path"], "/v1/completions");
    let of = |call: &str, key: &str| {
        folder.run(&["audit", "content", "--identity", key, "--call", call])
    };
    assert_eq!(of(call, &mine).json(), kept[0]);
    of("nobody", &mine).refused(1, &["no content of the call"]);
    of(call, &other).refused(1, &["none of the keys opens it"]);
    of(call, &list).refused(2, &["is no secret key"]);

    assert!(folder.run(&["audit", "verify"]).answer().starts_with("whole: 3 rows"));
    let pruned = folder.run(&["audit", "prune", "--content", "--before", "2100-01-01"]);
    assert!(pruned.answer().contains("the content of 1 calls"), "{pruned:?}");
    assert_eq!(folder.lines(&["audit", "content", "--identity", &mine]), Vec::<Value>::new());
    assert!(folder.run(&["audit", "verify"]).answer().starts_with("whole: 3 rows"));
    assert_eq!(folder.lines(&["audit", "list"]).len(), 2, "the entries stay");
    let secret = key.lines().last().expect("a key");
    let records = folder.path("records");
    let said = run(&["serve", &tiny(), "--records", &records, "--ledger-content", secret]);
    said.refused(2, &["--ledger-content", "age1"]);
    assert!(!said.err.contains(secret), "a secret is not repeated: {said:?}");
}

/// Who can write to a ledger can encrypt whatever they like for its readers.
#[test]
fn what_is_opened_is_not_believed() {
    let folder = Folder::new("forged");
    fs::create_dir_all(folder.0.join("keys")).expect("can be made");
    let (key, other) = (Identities::make(), Identities::make());
    let mine = folder.path("keys/key.txt");
    fs::write(&mine, &key).expect("is written");
    let recipients = |key: &str| Identities::read("a key", key).expect("is read").recipients();
    let rows = [
        ("first", "{\"call\":\"first\",\"asked\":\"\u{7f}\u{9b}31m \\u001b[2J\"}", &key),
        ("forged", "{\"call\":\"first\",\"asked\":\"another's words\"}", &key),
        ("raw", "\u{1b}[2Jall is well", &key),
        ("two", "{\"call\":\"two\"}\n{\"call\":\"first\"}", &key),
        ("nobody's", "{\"asked\":\"whose?\"}", &key),
        ("closed", "{\"call\":\"closed\"}", &other),
        ("last", "{\"call\":\"last\",\"at_ms\":18446744073709551615}", &key),
    ];
    let ledger = Ledger::open(&folder.place(), &Options::default()).expect("opens");
    for (id, words, key) in rows {
        let sealed = recipients(key).seal(words.as_bytes()).expect("is encrypted");
        let kept = ledger.content(id, DAY, sealed);
        kept.and_then(ingle_ledger::Ticket::wait).expect("is written");
    }
    drop(ledger);
    let said = folder.run(&["audit", "content", "--identity", &mine]);
    let expect = [
        "{\"call\":\"first\",\"asked\":\"\\u007f\\u009b31m \\u001b[2J\"}",
        "{\"call\":\"last\",\"at_ms\":18446744073709551615}",
    ];
    assert_eq!(said.code, Some(1), "{said:?}");
    assert_eq!(said.out.lines().collect::<Vec<_>>(), expect, "{said:?}");
    let told: Vec<&str> = said.err.lines().collect();
    let whys = ["of the call \"first\"", "no JSON", "no JSON", "of which call", "none of the keys"];
    assert_eq!(told.len(), whys.len(), "{said:?}");
    for (line, (row, why)) in told.iter().zip(rows[1..].iter().zip(whys)) {
        let begin = format!("failed: what the call {:?} asked and got cannot be opened: ", row.0);
        assert!(line.starts_with(&begin) && line.contains(why), "{why:?} is not in {line:?}");
    }
    let of = |call: &str| folder.run(&["audit", "content", "--identity", &mine, "--call", call]);
    of("forged").refused(1, &["it says that it is of the call \"first\""]);
    assert_eq!(of("last").json()["call"], "last");
}
