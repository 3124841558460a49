//! Which crate may know which: the table of ARCHITECTURE.md, held over `cargo metadata`, and what
//! may come in from outside.

use std::process::Command;

use ingle_tidy::File;
use serde_json::Value;

/// Each room and the rooms it may depend on. Whatever stands in no row fails.
const ROOMS: &[(&str, &[&str])] = &[
    ("scheduler", &[]),
    ("backend", &[]),
    ("protocol", &[]),
    ("model", &["backend", "protocol"]),
    ("engine", &["scheduler", "model", "backend", "protocol"]),
    ("gateway", &["protocol"]),
    ("records", &["protocol"]),
    ("ledger", &["protocol"]),
    ("search", &["protocol"]),
    ("server", &["engine", "gateway", "protocol", "records"]),
    (
        "cli",
        &[
            "scheduler",
            "backend",
            "protocol",
            "model",
            "engine",
            "gateway",
            "records",
            "ledger",
            "search",
            "server",
            "data",
            "heads",
        ],
    ),
    ("data", &[]),
    ("heads", &[]),
    ("tidy", &[]),
];

/// Packages from outside that only these rooms may depend on directly (tests may use any).
const RESERVED: &[(&str, &[&str], &str)] = &[
    ("tokio", &["gateway", "server", "mirror", "cli"], "the rest is plain threads"),
    ("axum", &["server"], "HTTP ends in the server"),
    ("clap", &["cli"], "only the program reads a command line"),
    ("rusqlite", &["records", "ledger", "search"], "SQL stays where the tables are"),
    ("postgres", &["ledger"], "SQL stays where the tables are"),
    ("redis", &["gateway"], "budgets are all that is shared there"),
    ("anyhow", &["cli"], "a library's errors are types"),
    ("serde", JSON, "the engine knows no JSON"),
    ("serde_json", JSON, "the engine knows no JSON"),
    ("parquet", &["data"], "tables stay where rows are read and written"),
];

/// Rooms whose files or messages are JSON.
const JSON: &[&str] = &["protocol", "model", "gateway", "server", "cli", "data", "heads", "search"];

/// Packages that no build may contain, whoever asks for them.
const BANNED: &[(&str, &str)] = &[
    ("malachite", "LGPL"),
    ("malachite-base", "LGPL"),
    ("openssl-sys", "TLS is rustls, and a build needs no system library"),
    ("native-tls", "TLS is rustls, and a build needs no system library"),
    ("onig_sys", "a C library for what regex crates do"),
    ("aws-lc-sys", "ring is the one TLS provider: two of them panic when a connection opens"),
    ("ort-sys", "downloads binaries while it builds"),
];

/// Licences that the build may contain, by SPDX identifier; deny.toml lists the same.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// A direct dependency of one of our crates.
#[derive(Clone, Debug)]
struct Edge {
    from: String,
    to: String,
    only_tests: bool,
}

/// `cargo metadata` for this machine's platform, so that nothing is fetched which a build of the
/// tests has not fetched already.
fn metadata() -> Value {
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).current_dir(ingle_tidy::root()).output();
        let output = output.expect("a toolchain runs this test");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{program} {arguments:?}: {error}");
        String::from_utf8(output.stdout).expect("cargo and rustc write UTF-8")
    };
    let version = run("rustc", &["-vV"]);
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("a host line");
    let text =
        run(env!("CARGO"), &["metadata", "--format-version", "1", "--filter-platform", host]);
    serde_json::from_str(&text).expect("cargo metadata is JSON")
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn members(metadata: &Value) -> impl Iterator<Item = &Value> {
    let ids = list(metadata, "workspace_members");
    list(metadata, "packages").iter().filter(move |package| ids.contains(&package["id"]))
}

fn room(package: &str) -> Option<&str> {
    package.strip_prefix("ingle-")
}

fn edges(metadata: &Value) -> Vec<Edge> {
    let mut edges = Vec::new();
    for package in members(metadata) {
        for dependency in list(package, "dependencies") {
            edges.push(Edge {
                from: text(package, "name").to_owned(),
                to: text(dependency, "name").to_owned(),
                only_tests: dependency["kind"] == "dev",
            });
        }
    }
    edges
}

fn broken_walls(edges: &[Edge]) -> Vec<String> {
    let mut complaints = Vec::new();
    for Edge { from, to, .. } in edges {
        let row = room(from).and_then(|from| ROOMS.iter().find(|(name, _)| *name == from));
        let Some((name, may)) = row else {
            complaints.push(format!("{from} has no row: add it to ROOMS and ARCHITECTURE.md"));
            continue;
        };
        if room(to).is_some_and(|to| !may.contains(&to)) {
            complaints.push(format!("`{name}` depends on {to}; it may know {may:?}"));
        }
    }
    complaints
}

fn broken_reserves(edges: &[Edge]) -> Vec<String> {
    let mut complaints = Vec::new();
    for edge in edges.iter().filter(|edge| !edge.only_tests) {
        let Some((name, rooms, why)) = RESERVED.iter().find(|row| row.0 == edge.to) else {
            continue;
        };
        if room(&edge.from).is_none_or(|from| !rooms.contains(&from)) {
            complaints.push(format!("{} depends on {name}, but {why}", edge.from));
        }
    }
    complaints
}

/// Whether an SPDX expression lets us choose licences of the list alone. `/` is an old `OR`.
fn allowed(expression: &str) -> bool {
    let plain = expression.replace(['(', ')'], " ").replace('/', " OR ");
    let one = |name: &str| {
        LICENCES.contains(&name.split_whitespace().collect::<Vec<_>>().join(" ").as_str())
    };
    // AND binds tighter, except where brackets say otherwise: `(A OR B) AND C`.
    if let Some(inner) = expression.strip_prefix('(') {
        let (bracket, rest) = inner.split_once(')').unwrap_or((inner, ""));
        let rest = rest.trim().strip_prefix("AND ").unwrap_or("");
        return allowed(bracket) && (rest.is_empty() || allowed(rest));
    }
    plain.split(" OR ").any(|all| all.split(" AND ").all(one))
}

/// The packages that reach a build of ours, as cargo resolved them.
fn outsiders(metadata: &Value) -> impl Iterator<Item = &Value> {
    let nodes = list(&metadata["resolve"], "nodes");
    list(metadata, "packages").iter().filter(move |package| {
        room(text(package, "name")).is_none()
            && nodes.iter().any(|node| node["id"] == package["id"])
    })
}

fn unwanted_packages(metadata: &Value) -> Vec<String> {
    let mut complaints = Vec::new();
    for package in outsiders(metadata) {
        let (name, licence) = (text(package, "name"), text(package, "license"));
        if let Some((_, why)) = BANNED.iter().find(|(banned, _)| *banned == name) {
            complaints.push(format!("{name}: {why} (`cargo tree -i {name}` says who asks)"));
        }
        if !allowed(licence) {
            complaints.push(format!("{name}: licence {licence:?} is not in LICENCES"));
        }
    }
    complaints
}

fn loose_manifests(files: &[File]) -> Vec<String> {
    let wanted = [
        "version.workspace = true",
        "edition.workspace = true",
        "rust-version.workspace = true",
        "license.workspace = true",
        "publish.workspace = true",
        "[lints]\nworkspace = true",
    ];
    let is_manifest = |path: &str| path.starts_with("crates/") && path.ends_with("/Cargo.toml");
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| is_manifest(&file.path)) {
        let lacks = wanted.iter().filter(|line| !file.text.contains(*line));
        complaints.extend(lacks.map(|line| format!("{} lacks `{line}`", file.path)));
    }
    complaints
}

#[test]
fn rooms_depend_as_the_table_says() {
    let complaints = broken_walls(&edges(&metadata()));
    let why = "a crate depends on another that it must not know; move the code or the adapter:";
    assert!(complaints.is_empty(), "{why}\n  {}\n", complaints.join("\n  "));
}

#[test]
fn outside_packages_stay_in_their_rooms() {
    let complaints = broken_reserves(&edges(&metadata()));
    assert!(
        complaints.is_empty(),
        "a package is in the wrong room:\n  {}\n",
        complaints.join("\n  ")
    );
}

#[test]
fn no_package_is_banned_or_ill_licensed() {
    let metadata = metadata();
    assert!(outsiders(&metadata).count() > 20, "cargo metadata lists no packages");
    let complaints = unwanted_packages(&metadata);
    assert!(complaints.is_empty(), "packages to do without:\n  {}\n", complaints.join("\n  "));
}

#[test]
fn one_binary_so_that_cargo_run_needs_no_name() {
    let metadata = metadata();
    let targets = members(&metadata).flat_map(|package| list(package, "targets"));
    let binaries = targets.filter(|target| target["kind"] == serde_json::json!(["bin"]));
    let names: Vec<&str> = binaries.map(|target| text(target, "name")).collect();
    assert_eq!(names, ["ingle"]);
}

#[test]
fn manifests_inherit_from_the_workspace() {
    super::hold("a crate's manifest inherits what the workspace settles", loose_manifests);
}

#[test]
fn a_broken_wall_is_found() {
    let edge = |from: &str, to: &str, only_tests| {
        [Edge { from: from.to_owned(), to: to.to_owned(), only_tests }]
    };
    assert_eq!(broken_walls(&edge("ingle-engine", "ingle-model", false)).len(), 0);
    assert_eq!(broken_walls(&edge("ingle-engine", "ingle-gateway", false)).len(), 1);
    assert_eq!(broken_walls(&edge("ingle-backend", "ingle-model", true)).len(), 1);
    assert_eq!(broken_walls(&edge("ingle-attic", "libc", false)).len(), 1);
    assert_eq!(broken_reserves(&edge("ingle-engine", "tokio", false)).len(), 1);
    assert_eq!(broken_reserves(&edge("ingle-engine", "serde_json", true)).len(), 0);
    assert_eq!(broken_reserves(&edge("ingle-server", "tokio", false)).len(), 0);
}

#[test]
fn licence_expressions_are_read() {
    let check =
        |expression: &str, expect: bool| assert_eq!(allowed(expression), expect, "{expression}");
    check("MIT OR Apache-2.0", true);
    check("Unlicense/MIT", true);
    check("Apache-2.0 / MIT", true);
    check("MIT OR Apache-2.0 OR LGPL-2.1-or-later", true);
    check("(MIT OR Apache-2.0) AND Unicode-3.0", true);
    check("Apache-2.0 WITH LLVM-exception OR GPL-3.0", true);
    check("(MIT OR Apache-2.0) AND GPL-3.0", false);
    check("MIT AND GPL-3.0-only", false);
    check("GPL-3.0", false);
    check("", false);
}

#[test]
fn a_loose_manifest_is_found() {
    let check = |text, complaints| {
        super::expect(loose_manifests, "crates/attic/Cargo.toml", text, complaints);
    };
    check("[package]\nname = \"ingle-attic\"\nversion = \"0.1.0\"\n", 6);
}
