//! What the promise that nothing leaves the machine rests on: which code can reach the network or
//! start another program. Fetching models and answering clients can; nothing else.

use ingle_tidy::{Atom, File, Kind, tokens};

const SOCKETS: &[&str] = &[
    "TcpListener",
    "TcpStream",
    "ToSocketAddrs",
    "UdpSocket",
    "UnixStream",
    "hyper",
    "hyper_util",
    "reqwest",
    "ureq",
];

/// Where sockets are.
const MAY_CONNECT: &[&str] = &["crates/model/src/pull/", "crates/server/src/"];
/// Where another program (the user's pip or npm) is started.
const MAY_START: &[&str] = &["crates/model/src/pull/package.rs"];

fn sources(files: &[File]) -> impl Iterator<Item = &File> {
    let ours = files.iter().filter(|file| file.path.starts_with("crates/") && file.is_rust());
    ours.filter(|file| file.path.contains("/src/") && !file.is_test())
}

fn is_under(file: &File, places: &[&str]) -> bool {
    places.iter().any(|place| file.path.starts_with(place))
}

fn sockets(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in sources(files).filter(|file| !is_under(file, MAY_CONNECT)) {
        let atoms = tokens(&file.text).unwrap_or_default();
        for atom in atoms.iter().filter(|atom| SOCKETS.contains(&atom.text.as_str())) {
            complaints.push(format!("{}:{}: `{}`", file.path, atom.line, atom.text));
        }
    }
    complaints
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
    super::hold("sockets are for fetching models and answering clients", sockets);
}

#[test]
fn only_package_managers_are_started() {
    super::hold("no program is started but the user's own pip and npm", processes);
}

#[test]
fn a_way_out_is_found() {
    let socket = |path, text, complaints| super::expect(sockets, path, text, complaints);
    socket("crates/engine/src/lib.rs", "use std::net::TcpStream;", 1);
    socket("crates/cli/src/main.rs", "fn f() { ureq::get(\"\"); }", 1);
    socket("crates/engine/src/lib.rs", "// a TcpStream\nfn f() { \"ureq\" }", 0);
    socket("crates/model/src/pull/http.rs", "fn f() { ureq::get(\"\"); }", 0);

    let process = |path, text, complaints| super::expect(processes, path, text, complaints);
    process("crates/cli/src/main.rs", "fn f() { std::process::Command::new(\"sh\"); }", 1);
    process("crates/cli/src/main.rs", "use std::process::{Child, Command};", 1);
    process("crates/cli/src/main.rs", "use std::process::{ExitCode};", 0);
    process("crates/cli/src/main.rs", "use std::process::ExitCode; enum Command {}", 0);
    process("crates/model/src/pull/package.rs", "use std::process::Command;", 0);
}
