//! Keys with lists of models, by the whole program: what such a key sees, how it is refused the
//! rest, who answers for it and who is never asked, and that a list which changes holds at once.

mod support;

use serde_json::{Value, json};
use support::answers::Good;
use support::place::Place;
use support::server::Server;
use support::until;
use support::upstream::{Asked, Upstream, Way};

/// Other servers, each with a model `m`.
const OTHERS: [&str; 3] = ["a", "b", "c"];
const CHAT: &str = "/v1/chat/completions";
const PATHS: [&str; 4] = [CHAT, "/v1/responses", "/v1/messages", "/api/chat"];

/// One that fails where its name stands in what is said to it.
fn other(name: &'static str) -> Upstream {
    Upstream::start(move |asked: &Asked, _: usize| match asked.last().contains(name) {
        true => Way::Status("500 Internal Server Error", ""),
        false => Way::Well(Good::default()),
    })
}

fn policy(others: &[Upstream]) -> String {
    let mut text = r#"default_class = "open"
        [classes.open]
        providers = ["a", "b", "c"]
        [models.auto]
        candidates = ["a/m", "b/m", "c/m"]
        order = "listed"
        [models.pair]
        candidates = ["c/m", "b/m"]
        order = "listed"
        "#
    .to_owned();
    for (name, other) in OTHERS.iter().zip(others) {
        text += &format!(
            "[providers.{name}]\nkind = \"compatible\"\nurl = \"{}/v1\"\nretries = 0\n\
             models = [\"m\"]\n",
            other.url
        );
    }
    text
}

/// The other servers, and a place with a policy that lets all of them be asked.
struct House {
    place: Place,
    others: [Upstream; 3],
}

impl House {
    fn new(name: &str) -> Self {
        let (place, others) = (Place::new(name), OTHERS.map(other));
        place.policy(&policy(&others));
        Self { place, others }
    }

    /// A key that may ask these, separated by commas.
    fn key(&self, name: &str, models: &str) -> String {
        self.place.key(name, &["--models", models])
    }

    /// How often each was asked.
    fn asked(&self) -> [usize; 3] {
        self.others.each_ref().map(|other| other.asked().len())
    }
}

fn body(path: &str, model: &str, text: &str, stream: bool) -> String {
    let turns = json!([{ "role": "user", "content": text }]);
    let mut body = json!({ "model": model, "stream": stream });
    match path {
        "/v1/responses" => body["input"] = turns,
        _ => body["messages"] = turns,
    }
    if path == "/v1/messages" {
        body["max_tokens"] = 9.into();
    }
    body.to_string()
}

/// The models that a key is shown, in the order of their names.
fn shown(server: &Server, key: &str) -> Vec<String> {
    let said = server.ask_as(key, "GET", "/v1/models", "").json();
    let all = said["data"].as_array().expect("a list").iter();
    let mut all: Vec<String> =
        all.map(|model| model["id"].as_str().expect("a name").to_owned()).collect();
    all.sort();
    all
}

/// Whether it is said in a protocol's own words that there is no such model.
fn is_no_model(path: &str, said: &Value) -> bool {
    let error = &said["error"];
    match path {
        "/v1/messages" => {
            let told = said["request_id"].is_string() && error["message"].is_string();
            told && said["type"] == "error" && error["type"] == "not_found_error"
        }
        "/api/chat" => error.is_string(),
        _ => {
            let named = error["param"] == "model" && error["code"] == "model_not_found";
            named && error["type"] == "invalid_request_error"
        }
    }
}

#[test]
fn what_is_not_on_a_keys_list_is_not_there_for_it() {
    let house = House::new("keys-named");
    let (all, one) = (house.place.key("all", &[]), house.key("one", "auto,b/m"));
    let server = house.place.serve(&[]);
    assert_eq!(shown(&server, &all), ["a/m", "auto", "b/m", "c/m", "pair"]);
    assert_eq!(shown(&server, &one), ["auto", "b/m"]);
    for (key, name, status) in [(&all, "a/m", 200), (&one, "b/m", 200), (&one, "a/m", 404)] {
        let path = format!("/v1/models/{name}");
        assert_eq!(server.ask_as(key, "GET", &path, "").status, status, "{name}");
    }
    // What others may ask is refused as what nobody has ever heard of, streamed or not.
    for path in PATHS {
        for name in ["a/m", "c/m", "pair", "m", "nobody"] {
            for stream in [false, true] {
                let said = server.ask_as(&one, "POST", path, &body(path, name, "none", stream));
                let what = format!("{path} {name} {stream}: {}", said.body);
                assert_eq!(said.status, 404, "{what}");
                assert!(is_no_model(path, &said.json()), "{what}");
                assert!(said.body.contains("there is: auto, b/m"), "{what}");
            }
        }
    }
    let met: Vec<usize> = house.others.iter().map(Upstream::connections).collect();
    assert_eq!(met, [0; 3], "nobody was even called");
    for path in PATHS {
        let said = server.ask_as(&one, "POST", path, &body(path, "b/m", "none", false));
        assert_eq!(said.status, 200, "{path}: {}", said.body);
    }
    assert_eq!(house.asked(), [0, PATHS.len(), 0]);
}

/// A name of the policy is answered by those whom the key may use, in order and one after another,
/// and by nobody else, however many of them fail.
#[test]
fn nobody_is_chosen_whom_a_key_may_not_use() {
    let house = House::new("keys-auto");
    let all = house.place.key("all", &[]);
    let one = house.key("one", "auto,b/m");
    let two = house.key("two", "auto,b/m,c/m");
    let whole = house.key("whole", "auto");
    let pair = house.key("pair", "pair");
    let server = house.place.serve(&[]);
    let check = |key: &str, model: &str, failing: &str, status: u16, expect: [usize; 3]| {
        let before = house.asked();
        let said = server.ask_as(key, "POST", CHAT, &body(CHAT, model, failing, false));
        let after = house.asked();
        let asked = [0, 1, 2].map(|at| after[at] - before[at]);
        assert_eq!((said.status, asked), (status, expect), "{model} {failing}: {}", said.body);
    };
    check(&all, "auto", "none", 200, [1, 0, 0]);
    check(&all, "auto", "a", 200, [1, 1, 0]);
    check(&one, "auto", "none", 200, [0, 1, 0]);
    check(&one, "auto", "b", 502, [0, 1, 0]);
    check(&two, "auto", "b", 200, [0, 1, 1]);
    check(&two, "auto", "none", 200, [0, 1, 0]);
    check(&two, "auto", "b c", 502, [0, 1, 1]);
    check(&two, "c/m", "none", 200, [0, 0, 1]);
    check(&two, "b/m", "b", 502, [0, 1, 0]);
    check(&whole, "auto", "a", 200, [1, 1, 0]);
    check(&pair, "pair", "c", 200, [0, 1, 1]);

    // In another protocol, and streamed.
    let before = house.asked();
    let said =
        server.ask_as(&one, "POST", "/v1/messages", &body("/v1/messages", "auto", "b", true));
    assert!(said.body.contains("\"type\":\"error\""), "{}", said.body);
    let after = house.asked();
    assert_eq!([0, 1, 2].map(|at| after[at] - before[at]), [0, 1, 0]);

    // Why is in the ledger, for each of the key's calls.
    let mut calls = Vec::new();
    until(|| {
        calls = house.place.calls();
        calls.retain(|call| call["key"] == "one");
        calls.len() == 3
    });
    for call in &calls {
        let route = call["route"].as_array().expect("candidates");
        let of = |name: &str| {
            let found = route.iter().find(|step| step["candidate"] == name);
            found.unwrap_or_else(|| panic!("no {name} in {call}"))
        };
        for name in ["a/m", "c/m"] {
            let why = of(name)["reason"].as_str().expect("a reason");
            assert!(why.contains("the key `one` may not use it"), "{call}");
            assert_ne!(of(name)["taken"], true, "{call}");
        }
        assert_eq!((&call["provider"], &call["asked"]), (&json!("b"), &json!("auto")), "{call}");
    }
}

/// The list of a key that is in use changes in its file: its secret opens what the new one has.
#[test]
fn a_list_that_changes_holds_while_the_server_runs() {
    let house = House::new("keys-change");
    let key = house.key("one", "auto,b/m");
    let mut server = house.place.serve(&[]);
    let ask = |server: &Server, model: &str| {
        server.ask_as(&key, "POST", CHAT, &body(CHAT, model, "none", false)).status
    };
    assert_eq!((ask(&server, "auto"), ask(&server, "b/m"), ask(&server, "c/m")), (200, 200, 404));
    assert_eq!(house.asked(), [0, 2, 0]);
    let rows = std::fs::read_to_string(house.place.keys()).expect("is there");
    assert!(rows.contains("b/m"), "{rows}");
    // Exchanged whole: nobody reads half a file.
    let fresh = house.place.write("keys.new", rows.replace("b/m", "c/m"));
    std::fs::rename(fresh, house.place.keys()).expect("is exchanged");
    while server.event()["event"] != "reloaded" {}
    assert_eq!(shown(&server, &key), ["auto", "c/m"]);
    assert_eq!((ask(&server, "auto"), ask(&server, "b/m"), ask(&server, "c/m")), (200, 404, 200));
    assert_eq!(house.asked(), [0, 2, 2]);
    // Without a list it may ask them all, and the first is asked first.
    let lines = rows.lines().filter(|line| !line.starts_with("models"));
    let free: String = lines.map(|line| format!("{line}\n")).collect();
    assert!(free.len() < rows.len(), "{rows}");
    let fresh = house.place.write("keys.new", free);
    std::fs::rename(fresh, house.place.keys()).expect("is exchanged");
    while server.event()["event"] != "reloaded" {}
    assert_eq!((ask(&server, "auto"), ask(&server, "b/m"), ask(&server, "pair")), (200, 200, 200));
    assert_eq!(house.asked(), [1, 3, 3]);
}
