//! What `/metrics` of the built program has is what `docs/METRICS.md` lists and what the panels of
//! `deploy/grafana/ingle.json` ask for.
#![cfg(unix)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use support::server::Server;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// There with TLS alone, which tests of the server's own look at.
fn with_tls(name: &str) -> bool {
    name.starts_with("ingle_server_tls_")
}

/// Each metric's kind and help.
fn metrics(text: &str) -> BTreeMap<String, (String, String)> {
    let mut found = BTreeMap::<String, (String, String)>::new();
    for line in text.lines() {
        let (what, rest) = match line.split_once(' ') {
            Some(("#", rest)) => rest.split_once(' ').expect("HELP or TYPE"),
            _ => continue,
        };
        let (name, rest) = rest.split_once(' ').expect("a name");
        let entry = found.entry(name.to_owned()).or_default();
        match what {
            "HELP" => rest.clone_into(&mut entry.1),
            _ => rest.clone_into(&mut entry.0),
        }
    }
    found
}

/// Our metrics that a text names.
fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = |word: &&str| {
        word.starts_with("ingle_") || word.starts_with("process_") && word.ends_with("_bytes")
    };
    words.filter(ours).collect()
}

/// A histogram's series, by its own name.
fn base<'a>(name: &'a str, known: &BTreeMap<String, (String, String)>) -> &'a str {
    let ends = ["_bucket", "_sum", "_count"];
    let parts = ends.iter().filter_map(|end| name.strip_suffix(end));
    let histogram = |base: &&str| known.get(*base).is_some_and(|it| it.0 == "histogram");
    parts.into_iter().find(histogram).unwrap_or(name)
}

fn served() -> BTreeMap<String, (String, String)> {
    // Nobody listens there; that spans are counted is enough.
    let server = Server::start(&["--otlp-endpoint", "http://127.0.0.1:9"]);
    let body = json!({ "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 2 });
    assert_eq!(server.ask("POST", "/v1/chat/completions", &body.to_string()).status, 200);
    metrics(&server.ask("GET", "/metrics", "").body)
}

/// The page's table of all metrics, as it has to be.
fn table(known: &BTreeMap<String, (String, String)>) -> String {
    let row = |(name, (kind, help)): (&String, &(String, String))| {
        format!("| `{name}` | {kind} | {help} |\n")
    };
    let rows: String = known.iter().map(row).collect();
    format!("| metric | kind | what |\n|---|---|---|\n{rows}")
}

#[test]
fn the_page_and_the_dashboard_name_what_there_is() {
    let known = served();
    let page = read("docs/METRICS.md");
    let (mapping, all) = page.split_once("## All of them\n\n").expect("the list of all");
    let there = |name: &str| with_tls(name) || known.contains_key(base(name, &known));
    for name in named(mapping) {
        let part = ["ingle_server_", "ingle_engine_", "ingle_model_"].contains(&name);
        assert!(part || there(name), "docs/METRICS.md: there is no {name}");
    }
    let listed: String = all.split_inclusive('\n').filter(|line| !line.contains("_tls_")).collect();
    assert_eq!(listed, table(&known), "docs/METRICS.md lists all metrics, in this order");

    let dashboard = read("deploy/grafana/ingle.json");
    let dashboard: Value = serde_json::from_str(&dashboard).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("a list");
    let mut ids = BTreeSet::new();
    let mut asked = 0;
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "an id twice: {panel}");
        let targets = panel["targets"].as_array().map_or(&[][..], Vec::as_slice);
        assert_eq!(targets.is_empty(), panel["type"] == "row", "{panel}");
        for target in targets {
            let query = target["expr"].as_str().expect("a query");
            let names = named(query);
            assert!(!names.is_empty(), "{query}");
            for name in names {
                assert!(there(name), "the dashboard asks for {name}, which there is not: {query}");
            }
            let brackets =
                |open, close| query.matches(open).count() == query.matches(close).count();
            assert!(brackets('(', ')') && brackets('{', '}') && brackets('[', ']'), "{query}");
            asked += 1;
        }
    }
    assert!(asked > 30, "{asked} queries");
    let variable = &dashboard["templating"]["list"][1]["query"]["query"];
    assert!(named(variable.as_str().expect("a text")).iter().all(|name| there(name)));
}
