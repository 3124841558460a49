//! An architecture is one file of `crates/model/src/archs/` and one row of its table, and nothing
//! else names it. What may name the same word: the tokenizer's table (GGUF calls kinds of
//! tokenizer `llama` or `qwen2` too), the catalogue (models are called so), two tables, and tests.

use ingle_tidy::{Atom, File, Kind, test_ranges, tokens};

const FOLDER: &str = "crates/model/src/archs/";
const TABLE: &str = "crates/model/src/archs/mod.rs";
const MOST_LINES: usize = 150;
/// Files of the folder that hold what architectures share.
const SHARED: &[&str] = &["experts", "heads", "rope", "targets"];
/// Where the same words mean something else, and the two tables that are by architecture without
/// recording any: how directories name what files have, and which architectures only read.
const HOMONYMS: &[&str] = &[
    "crates/model/src/tokenizer",
    "crates/model/src/catalogue",
    "crates/model/src/huggingface/",
    "crates/model/src/reading.rs",
];

fn architectures(files: &[File]) -> Vec<&str> {
    let names = files.iter().filter_map(|file| file.path.strip_prefix(FOLDER)?.strip_suffix(".rs"));
    names.filter(|name| *name != "mod" && !SHARED.contains(name)).collect()
}

fn long_architectures(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for name in architectures(files) {
        let path = format!("{FOLDER}{name}.rs");
        let file = files.iter().find(|file| file.path == path);
        let lines = file.map_or(0, |file| file.text.lines().count());
        if lines > MOST_LINES {
            complaints.push(format!("{path} has {lines} lines"));
        }
    }
    complaints
}

/// Whether the atom at `at` names `arch`: as a module of `archs`, or as a text of its own.
fn names(atoms: &[Atom], at: usize, arch: &str) -> bool {
    let atom = &atoms[at];
    match atom.kind {
        // GGUF's names have hyphens where those of files have underscores.
        Kind::Literal => {
            atom.text.trim_matches('"').replace('-', "_") == arch && atom.text.starts_with('"')
        }
        Kind::Ident if atom.text == arch => {
            let before: Vec<&str> =
                atoms[at.saturating_sub(3)..at].iter().map(|atom| atom.text.as_str()).collect();
            before == ["archs", ":", ":"]
        }
        _ => false,
    }
}

fn named_elsewhere(files: &[File]) -> Vec<String> {
    let archs = architectures(files);
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| file.is_rust() && file.path.contains("/src/")) {
        let exempt = file.path == TABLE
            || file.is_test()
            || HOMONYMS.iter().any(|path| file.path.starts_with(path));
        if exempt {
            continue;
        }
        let atoms = tokens(&file.text).unwrap_or_default();
        let tests = test_ranges(&atoms);
        for (at, atom) in atoms.iter().enumerate() {
            let own = |arch: &str| file.path == format!("{FOLDER}{arch}.rs");
            let named = archs.iter().find(|arch| names(&atoms, at, arch) && !own(arch));
            if let Some(arch) = named.filter(|_| !tests.iter().any(|t| t.contains(&atom.line))) {
                complaints.push(format!("{}:{}: names `{arch}`", file.path, atom.line));
            }
        }
    }
    complaints
}

fn without_a_row(files: &[File]) -> Vec<String> {
    let table = files.iter().find(|file| file.path == TABLE);
    let atoms = table.and_then(|file| tokens(&file.text).ok()).unwrap_or_default();
    let tests = test_ranges(&atoms);
    let row = |arch: &str| {
        let outside = |atom: &Atom| !tests.iter().any(|range| range.contains(&atom.line));
        let named = |at: usize| atoms[at].kind == Kind::Literal && names(&atoms, at, arch);
        (0..atoms.len()).filter(|&at| named(at) && outside(&atoms[at])).count()
    };
    let archs = architectures(files).into_iter();
    archs
        .filter(|arch| row(arch) != 1)
        .map(|arch| format!("`{arch}` has {} rows in {TABLE}", row(arch)))
        .collect()
}

#[test]
fn architectures_are_short() {
    let why = "an architecture records a graph in at most 150 lines: share what repeats";
    super::hold(why, long_architectures);
}

#[test]
fn architectures_are_named_in_one_place() {
    let why = "an architecture is its own file and its row; ask the model, don't name it";
    super::hold(why, named_elsewhere);
}

#[test]
fn architectures_have_one_row() {
    super::hold("give the architecture its one row", without_a_row);
}

#[test]
fn breaches_are_found() {
    let with = |table: &str, path: &str, text: &str| {
        let own = File::new("crates/model/src/archs/bert.rs", &"//! Bert.\n".repeat(151));
        [own, File::new(TABLE, table), File::new(path, text)]
    };
    let table = "mod bert;\nstatic A: &[(&str, Load)] = &[(\"bert\", bert::load)];";
    let engine = "crates/engine/src/lib.rs";
    let elsewhere = |path, text| named_elsewhere(&with(table, path, text)).len();
    assert_eq!(elsewhere(engine, "fn f() { if name == \"bert\" {} }"), 1);
    assert_eq!(elsewhere(engine, "fn f() { archs::bert::load() }"), 1);
    assert_eq!(elsewhere(engine, "fn f() { \"bert-like\"; bert() } // \"bert\""), 0);
    assert_eq!(elsewhere(engine, "#[cfg(test)]\nmod tests {\n  const A: &str = \"bert\";\n}"), 0);
    assert_eq!(elsewhere("crates/model/src/tokenizer/kinds.rs", "const A: &str = \"bert\";"), 0);
    assert_eq!(long_architectures(&with(table, engine, "")).len(), 1);
    assert_eq!(without_a_row(&with(table, engine, "")).len(), 0);
    assert_eq!(without_a_row(&with("mod bert;", engine, "")).len(), 1);
}
