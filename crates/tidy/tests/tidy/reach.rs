//! What the promise that nothing leaves the machine rests on: which code can reach the network or
//! start another program. Fetching models, answering clients and asking the providers that a user
//! set up can, and of the server the few files that are told whom to call; nothing else.

use ingle_tidy::{Atom, File, Kind, tokens};

const SOCKETS: &[&str] = &[
    "TcpListener",
    "TcpStream",
    "ToSocketAddrs",
    "UdpSocket",
    "UnixDatagram",
    "UnixListener",
    "UnixStream",
    "hyper",
    "hyper_util",
    "reqwest",
    "ureq",
];

/// What opens connections to others.
const CALLERS: &[&str] =
    &["connect", "get_connection", "get_connection_with_timeout", "reqwest", "ureq"];

/// Where sockets are.
const MAY_CONNECT: &[&str] =
    &["crates/gateway/src/remote/", "crates/model/src/pull/", "crates/server/src/"];
/// Who calls others: fetching a model, sending traces to the collector that the operator named,
/// asking the server that was named how it is, or a provider that its user set up, keeping the
/// ledger in the database that was named, sharing budgets through the Redis server that was named.
const MAY_CALL: &[&str] = &[
    "crates/gateway/src/budget/redis/pool.rs",
    "crates/gateway/src/remote/net",
    "crates/model/src/pull/",
    "crates/server/src/traces/send.rs",
    "crates/server/src/ask.rs",
    "crates/ledger/src/postgres.rs",
];
/// Where another program (the user's pip or npm) is started.
const MAY_START: &[&str] = &["crates/model/src/pull/package.rs"];

fn sources(files: &[File]) -> impl Iterator<Item = &File> {
    let ours = files.iter().filter(|file| file.path.starts_with("crates/") && file.is_rust());
    ours.filter(|file| file.path.contains("/src/") && !file.is_test())
}

fn is_under(file: &File, places: &[&str]) -> bool {
    places.iter().any(|place| file.path.starts_with(place))
}

/// Where any of these names stands outside of these places.
fn names(files: &[File], names: &[&str], places: &[&str]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in sources(files).filter(|file| !is_under(file, places)) {
        let atoms = tokens(&file.text).unwrap_or_default();
        for atom in atoms.iter().filter(|atom| names.contains(&atom.text.as_str())) {
            complaints.push(format!("{}:{}: `{}`", file.path, atom.line, atom.text));
        }
    }
    complaints
}

fn sockets(files: &[File]) -> Vec<String> {
    names(files, SOCKETS, MAY_CONNECT)
}

fn calls(files: &[File]) -> Vec<String> {
    names(files, CALLERS, MAY_CALL)
}

/// Whether `process::Command` stands at `at`, by itself or in a `process::{...}`.
fn starts_a_process(atoms: &[Atom], at: usize) -> bool {
    let text = |at: usize| atoms.get(at).map_or("", |atom| atom.text.as_str());
    if [text(at), text(at + 1), text(at + 2)] != ["process", ":", ":"] {
        return false;
    }
    let names = match atoms.get(at + 3).map(|atom| atom.kind) {
        Some(Kind::Open { inside, .. }) => &atoms[at + 4..at + 4 + inside],
        Some(_) => &atoms[at + 3..=at + 3],
        None => &[],
    };
    names.iter().any(|name| name.text == "Command")
}

fn processes(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in sources(files).filter(|file| !is_under(file, MAY_START)) {
        let atoms = tokens(&file.text).unwrap_or_default();
        let starts = (0..atoms.len()).filter(|&at| starts_a_process(&atoms, at));
        complaints.extend(starts.map(|at| format!("{}:{}", file.path, atoms[at].line)));
    }
    complaints
}

#[test]
fn the_network_is_for_models_and_clients() {
    super::hold("sockets are for fetching models, answering clients and asking providers", sockets);
}

#[test]
fn connections_outward_are_few() {
    super::hold("only those who are told whom to call open connections", calls);
}

#[test]
fn only_package_managers_are_started() {
    super::hold("no program is started but the user's own pip and npm", processes);
}

#[test]
fn a_way_out_is_found() {
    let socket = |path, text, complaints| super::expect(sockets, path, text, complaints);
    socket("crates/engine/src/lib.rs", "use std::net::TcpStream;", 1);
    socket("crates/gateway/src/policy/decide.rs", "use std::net::TcpStream;", 1);
    socket("crates/gateway/src/remote/attempt.rs", "use hyper::Request;", 0);
    socket("crates/cli/src/main.rs", "fn f() { ureq::get(\"\"); }", 1);
    socket("crates/engine/src/lib.rs", "// a TcpStream\nfn f() { \"ureq\" }", 0);
    socket("crates/model/src/pull/http.rs", "fn f() { ureq::get(\"\"); }", 0);

    let call = |path, text, complaints| super::expect(calls, path, text, complaints);
    call("crates/gateway/src/remote/call.rs", "fn f() { TcpStream::connect(\"\"); }", 1);
    let redis = "fn f(it: Client) { it.get_connection_with_timeout(A); }";
    call("crates/gateway/src/budget/redis.rs", redis, 1);
    call("crates/gateway/src/budget/redis/pool.rs", redis, 0);
    call("crates/gateway/src/remote/net.rs", "fn f() { TcpStream::connect(\"\"); }", 0);
    call("crates/server/src/routes.rs", "fn f() { ureq::get(\"\"); }", 1);
    call("crates/server/src/listen.rs", "fn f() { TcpStream::connect(\"\"); }", 1);
    call("crates/server/src/listen.rs", "fn f() { TcpListener::bind(\"\"); }", 0);
    call("crates/server/src/traces/send.rs", "fn f() { ureq::post(\"\"); }", 0);
    call("crates/model/src/pull/http.rs", "fn f() { ureq::get(\"\"); }", 0);
    call("crates/ledger/src/ledger.rs", "fn f() { config.connect(tls); }", 1);

    let process = |path, text, complaints| super::expect(processes, path, text, complaints);
    process("crates/cli/src/main.rs", "fn f() { std::process::Command::new(\"sh\"); }", 1);
    process("crates/cli/src/main.rs", "use std::process::{Child, Command};", 1);
    process("crates/cli/src/main.rs", "use std::process::{ExitCode};", 0);
    process("crates/cli/src/main.rs", "use std::process::ExitCode; enum Command {}", 0);
    process("crates/model/src/pull/package.rs", "use std::process::Command;", 0);
}
