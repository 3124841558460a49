//! What was, under another policy: `ingle route replay` over the ledger of calls that a server
//! carried, and what `ingle cost` says of them. Nothing is sent, and what cannot be known is said.

mod support;

use serde_json::{Value, json};
use support::answers::Good;
use support::place::Place;
use support::upstream::{Asked, Upstream, Way};
use support::{Said, ingle, run, until};

const IBAN: &str = "Pay to GB82 WEST 1234 5698 7654 32 today";

/// Every answer takes 1,000 tokens of prompt and 100 of answer: 2,000 micro-dollars at `far/m`, and
/// 13,000 at `dear/big`.
fn seller(_: &Asked, _: usize) -> Way {
    Way::Well(Good::new("fine", (1_000, 100)))
}

/// The dear one answers first; what is secret stays, and nobody is here to answer it.
fn then(url: &str) -> String {
    format!(
        r#"default_class = "open"
        [providers.far]
        kind = "compatible"
        url = "{url}/v1"
        [providers.dear]
        kind = "compatible"
        url = "{url}/v1"
        [models.auto]
        candidates = ["dear/big", "far/m"]
        order = "listed"
        [classes.open]
        providers = ["far", "dear"]
        redact = true
        [classes.secret]
        local_only = true
        [compare]
        model = "dear/big"
        [prices."dear/big"]
        input_per_million = 10
        output_per_million = 30
        {PRICE}"#
    )
}

/// What `far/m` costs, where that is known; `far/odd` has no price anywhere.
const PRICE: &str = r#"
    [prices."far/m"]
    input_per_million = 1
    output_per_million = 10
"#;

/// Another policy, of a provider that nobody has asked: this, and what `more` says.
fn now(candidates: &str, more: &str) -> String {
    format!(
        r#"default_class = "open"
        [providers.far]
        kind = "compatible"
        url = "https://far.example/v1"
        [models.auto]
        candidates = [{candidates}]
        order = "listed"
        {more}"#
    )
}

/// A ledger of seven calls, made by a server that has ended.
struct Past {
    place: Place,
    upstream: Upstream,
    policy: String,
}

impl Past {
    fn new(name: &str) -> Self {
        let (place, upstream) = (Place::new(name), Upstream::start(seller));
        let policy = then(&upstream.url);
        place.policy(&policy);
        let alice = place.key("alice", &[]);
        let legal = place.key("jane", &["--owner", "legal"]);
        let closed = place.key("closed", &["--classes", "secret"]);
        let server = place.serve(&[]);
        let rows = [
            (&closed, "auto", "Name nobody.", 403),
            (&alice, "auto", "Name a colour.", 200),
            (&alice, "auto", "Name another.", 200),
            (&alice, "far/m", "Name a tree.", 200),
            (&alice, "far/odd", "Name a bird.", 200),
            (&alice, "auto", IBAN, 200),
            (&legal, "auto", "Name a judge.", 200),
        ];
        for (key, model, text, status) in rows {
            let turns = json!([{ "role": "user", "content": text }]);
            let body = json!({ "model": model, "max_tokens": 200, "messages": turns });
            let said = server.ask_as(key, "POST", "/v1/chat/completions", &body.to_string());
            assert_eq!(said.status, status, "{model} {text}: {}", said.body);
        }
        until(|| place.calls().len() == rows.len());
        drop(server);
        let calls = place.calls();
        assert_eq!(upstream.asked().len(), 6, "{calls:?}");
        assert!(calls[5]["found"].to_string().contains("iban"), "{calls:?}");
        assert_eq!(calls[6]["team"], "legal", "{calls:?}");
        assert_eq!(calls[0]["classes"], json!(["secret"]), "{calls:?}");
        Self { place, upstream, policy }
    }

    /// Runs the program on the ledger, where no model is installed.
    fn run(&self, arguments: &[&str]) -> Said {
        let ledger = self.place.ledger();
        let mut command = ingle(&[arguments, &["--ledger", &ledger]].concat());
        command.env("INGLE_HOME", &self.place.0).output().expect("runs").into()
    }

    fn replay(&self, policy: &str, more: &[&str]) -> Said {
        let policy = self.place.write("new.toml", policy);
        self.run(&[&["route", "replay", "--policy", &policy], more].concat())
    }
}

/// What was: five answers whose price is known, one whose is not, and a refusal. Servers on
/// loopback are no others: nothing left.
fn was() -> Value {
    json!({
        "calls": 7, "refused": 1, "left_machine": 0, "cost_micros": 54_000, "unknown_cost": 1,
        "by": { "dear/big": 4, "far/m": 1, "far/odd": 1 },
    })
}

/// What is open goes to the cheap one, and what is secret stays.
fn open() -> String {
    format!("[classes.open]\nproviders = [\"far\"]\n[classes.secret]\nlocal_only = true\n{PRICE}")
}

#[test]
fn another_policy_over_what_was() {
    let past = Past::new("replay");
    let check = |policy: &str, would: &Value, unknown: &[&str]| {
        let said = past.replay(policy, &["--json"]).json();
        assert_eq!((&said["was"], &said["would"]), (&was(), would), "{policy}");
        assert_eq!(said["unknown_classes"], json!(unknown), "{policy}");
    };
    // The cheap one alone: a quarter of the price, and who was refused is refused.
    let cheap = json!({
        "calls": 7, "refused": 1, "left_machine": 6, "cost_micros": 10_000, "unknown_cost": 1,
        "by": { "far/m": 5, "far/odd": 1 },
    });
    check(&now(r#""far/m""#, &open()), &cheap, &[]);
    // What the ledger knows of a call gives its class: a team, what was found, its key's own.
    let rules = "[[rules]]\nclass = \"secret\"\nteam = [\"legal\"]\n\
                 [[rules]]\nclass = \"secret\"\ndetected = [\"iban\"]\n";
    let careful = json!({
        "calls": 7, "refused": 0, "left_machine": 4, "cost_micros": 6_000, "unknown_cost": 1,
        "by": { "far/m": 3, "far/odd": 1, "local/": 3 },
    });
    let local = r#""far/m", "local""#;
    check(&now(local, &format!("{rules}{}", open())), &careful, &[]);
    // What was open is confidential now: nothing would have left, and who named a model elsewhere
    // would have been refused.
    let closed = "[classes.open]\nlocal_only = true\n[classes.secret]\nlocal_only = true\n";
    let nothing = json!({
        "calls": 7, "refused": 2, "left_machine": 0, "cost_micros": 0, "unknown_cost": 0,
        "by": { "local/": 5 },
    });
    check(&now(local, &format!("{closed}{PRICE}")), &nothing, &[]);
    // Without a price nothing is known of any cost; a class that is no more keeps its calls here.
    let odd = json!({
        "calls": 7, "refused": 0, "left_machine": 6, "cost_micros": 0, "unknown_cost": 6,
        "by": { "far/m": 5, "far/odd": 1, "local/": 1 },
    });
    let classes = "[classes.open]\nproviders = [\"far\"]\n";
    check(&now(local, classes), &odd, &["secret"]);
    // Who was refused would be answered now: for what price, nobody knows.
    let free = json!({
        "calls": 7, "refused": 0, "left_machine": 7, "cost_micros": 10_000, "unknown_cost": 2,
        "by": { "far/m": 6, "far/odd": 1 },
    });
    let classes =
        "[classes.open]\nproviders = [\"far\"]\n[classes.secret]\nproviders = [\"far\"]\n";
    check(&now(local, &format!("{classes}{PRICE}")), &free, &[]);
    // Nobody was asked for any of this, and the ledger is as it was.
    assert_eq!(past.upstream.asked().len(), 6);
    let whole = run(&["audit", "verify", "--json", "--ledger", &past.place.ledger()]);
    assert_eq!((whole.json()["rows"].as_u64(), past.place.calls().len()), (Some(7), 7));
}

/// The policy that held decides as it did, and its version is the one that each call has.
#[test]
fn the_same_policy_over_what_was() {
    let past = Past::new("replay-same");
    let said = past.replay(&past.policy, &["--json"]).json();
    for name in ["calls", "refused", "left_machine", "cost_micros", "unknown_cost", "by"] {
        assert_eq!(said["would"][name], was()[name], "{name}: {said}");
    }
    let calls = past.place.calls();
    assert!(calls.iter().all(|call| call["policy"] == said["policy"]), "{said} {calls:?}");
    let other = past.replay(&now(r#""far/m""#, &open()), &["--json"]).json();
    assert_ne!(other["policy"], said["policy"]);
    // Of a time in which nothing was, nothing would have been.
    let never = past.replay(&past.policy, &["--json", "--since", "2100-01-01"]).json();
    assert_eq!((&never["was"]["calls"], &never["would"]["calls"]), (&json!(0), &json!(0)));
}

/// For people: two rows, and what the figures cannot tell.
#[test]
fn a_replay_says_what_it_does_not_know() {
    let past = Past::new("replay-told");
    let policy = now(r#""far/m", "local""#, "[classes.open]\nproviders = [\"far\"]\n");
    let said = past.replay(&policy, &[]);
    let lines: Vec<Vec<&str>> =
        said.answer().lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0][..5], ["calls", "refused", "left", "cost", "unknown"], "{said:?}");
    assert_eq!(lines[1][..6], ["was", "7", "1", "0", "$0.054", "1"], "{said:?}");
    assert_eq!(lines[2][..7], ["would", "be", "7", "0", "6", "$0.00", "6"], "{said:?}");
    assert_eq!(lines[2][7..].join(" "), "far/m × 5, far/odd × 1, local/ × 1", "{said:?}");
    for word in ["headers and workspaces are in no ledger", "kept here: secret"] {
        assert!(said.err.contains(word), "{word:?} is not in {said:?}");
    }
    let wrong = "default_class = \"open\"\n[providers.far]\nkind = \"nobody\"\n";
    past.replay(wrong, &[]).refused(2, &["new.toml:3:"]);
    let nowhere = past.place.path("nowhere.sqlite");
    let rules = past.place.path("policy.toml");
    let said = run(&["route", "replay", "--policy", &rules, "--ledger", &nowhere]);
    said.refused(1, &["there is no ledger"]);
}

/// The same calls in the forms of `ingle cost`, to the micro-dollar.
#[test]
fn costs_of_calls_that_a_server_carried() {
    let past = Past::new("replay-cost");
    let lines = |arguments: &[&str]| -> Vec<Value> {
        let said = past.run(arguments);
        let json = |line: &str| serde_json::from_str(line).expect("JSON");
        said.answer().lines().map(json).collect()
    };
    let all = lines(&["cost", "--by", "key", "--json"]);
    let figures = ["calls", "cost_micros", "unknown_cost_calls", "refused_calls"];
    let check = |row: &Value, expect: [u64; 4]| {
        assert_eq!(figures.map(|name| row[name].as_u64()), expect.map(Some), "{row}");
    };
    for (at, name, expect) in [
        (0, "alice", [5, 41_000, 1, 0]),
        (1, "jane", [1, 13_000, 0, 0]),
        (2, "closed", [1, 0, 0, 1]),
    ] {
        assert_eq!(all[at]["key"], name, "{all:?}");
        check(&all[at], expect);
    }
    let total = &all[3]["total"];
    check(total, [7, 54_000, 1, 1]);
    // Five calls of known cost, which would have been 13,000 each.
    assert_eq!((&total["compared_calls"], &total["saved_micros"]), (&json!(5), &json!(11_000)));

    // CSV says the same, cell for cell.
    let csv = past.run(&["cost", "--by", "key", "--csv"]);
    let mut rows = csv.answer().lines().map(|line| line.split(',').collect::<Vec<_>>());
    let heading = rows.next().expect("a heading");
    assert_eq!(heading[..2], ["key", "calls"], "{csv:?}");
    let rows: Vec<Vec<&str>> = rows.collect();
    assert_eq!(rows.len(), 3, "{csv:?}");
    for (row, json) in rows.iter().zip(&all) {
        assert_eq!(row.len(), json.as_object().expect("a row").len(), "{csv:?}");
        for (name, cell) in heading.iter().zip(row) {
            let expect = match &json[*name] {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            assert_eq!(*cell, expect, "{name}: {csv:?}");
        }
    }
}

/// What calls will cost is told from those whose cost is known, and from nothing else.
#[test]
fn forecasts_of_calls_that_a_server_carried() {
    let past = Past::new("replay-forecast");
    let said = past.run(&["cost", "--json", "--volume", "10/day"]);
    let last = said.answer().lines().last().expect("a forecast");
    let forecast = serde_json::from_str::<Value>(last).expect("JSON")["forecast"].clone();
    let figure = |name: &str| forecast[name].as_f64().unwrap_or_else(|| panic!("{forecast}"));
    assert_eq!((figure("local_share"), figure("calls_per_day")), (1.0, 10.0));
    assert_eq!((figure("micros_per_call"), figure("micros_per_day")), (10_800.0, 108_000.0));
    assert_eq!(figure("micros_per_30_days"), 3_240_000.0);
    assert_eq!((figure("unknown_share") * 6.0).round(), 1.0);
    assert_eq!(forecast["remote_micros_per_call"], Value::Null, "none left");
    let said = past.run(&["cost", "--local-share", "0.5"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("no call that left this machine has a known cost"), "{said:?}");
}
