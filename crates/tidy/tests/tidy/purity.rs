//! The core does no IO and holds no state that a test cannot replay: no clock, no randomness, no
//! files, no threads. Time and chance are arguments.

use ingle_tidy::{File, Kind, test_ranges, tokens};

const IO: &[&str] = &[
    "Instant",
    "SystemTime",
    "Mutex",
    "RwLock",
    "RandomState",
    "env",
    "fs",
    "net",
    "process",
    "thread",
    "thread_local",
    "tracing",
];
const DISORDER: &[&str] = &["HashMap", "HashSet"]; // their order differs from run to run
const FLOATS: &[&str] = &["f32", "f64"];

/// Which words do not occur in which folder, tests aside.
const PURE: &[(&str, &[&[&str]])] = &[
    ("crates/scheduler/src/", &[IO, DISORDER, FLOATS]),
    ("crates/model/src/archs/", &[IO]),
    ("crates/protocol/src/", &[IO]),
    ("crates/gateway/src/policy", &[IO, DISORDER]),
    ("crates/gateway/src/prices", &[IO, DISORDER, FLOATS]),
    ("crates/gateway/src/budget.rs", &[IO, DISORDER, FLOATS]),
    ("crates/gateway/src/budget/state", &[IO, DISORDER, FLOATS]),
    ("crates/gateway/src/budget/window", &[IO, DISORDER, FLOATS]),
];

fn impure(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| file.is_rust() && !file.is_test()) {
        let row = PURE.iter().find(|(folder, _)| file.path.starts_with(folder));
        let Some((folder, words)) = row else { continue };
        let atoms = tokens(&file.text).unwrap_or_default();
        let tests = test_ranges(&atoms);
        for (at, atom) in atoms.iter().enumerate() {
            let word = atom.kind == Kind::Ident && atoms.get(at + 1).is_none_or(|n| n.text != "!");
            let banned = word && words.iter().any(|list| list.contains(&atom.text.as_str()));
            if banned && !tests.iter().any(|range| range.contains(&atom.line)) {
                let (path, line, word) = (&file.path, atom.line, &atom.text);
                complaints.push(format!("{path}:{line}: `{word}` in {folder}"));
            }
        }
    }
    complaints
}

#[test]
fn the_core_is_pure() {
    super::hold("the core takes time, chance and data as arguments", impure);
}

#[test]
fn an_impurity_is_found() {
    let check = |path, text, complaints| super::expect(impure, path, text, complaints);
    check("crates/scheduler/src/lib.rs", "fn f(now: Instant) -> f64 { 0.0 }", 2);
    check("crates/scheduler/src/lib.rs", "#[cfg(test)] mod tests { use std::time::Instant; }", 0);
    check("crates/scheduler/src/lib.rs", "// Instant\nfn f() -> &str { \"f64\" }", 0);
    check("crates/protocol/src/lib.rs", "const A: &str = env!(\"A\");", 0);
    check("crates/scheduler/src/add/tests.rs", "use std::time::Instant;", 0);
    check("crates/model/src/archs/bert.rs", "fn f(scale: f32) { fs::read(path) }", 1);
    check("crates/engine/src/lib.rs", "fn f(now: Instant) {}", 0);
}
