//! What the rules of this repository are checked against: its files, and the tokens of those that
//! are Rust. The rules themselves are the tests of this crate, one module a subject, and STYLE.md
//! lists them.
//!
//! There is no parser: a token tree says where a function starts and ends, inside macros too, and
//! needs neither a build nor knowledge of the grammar.
#![forbid(unsafe_code)]

mod tokens;

use std::path::{Path, PathBuf};
use std::{fs, io};

pub use tokens::{Atom, Kind, functions, test_ranges, tokens};

/// Folders that hold no source: build output, histories, environments, downloads.
const SKIPPED: &[&str] = &[".git", ".venv", "__pycache__", "artifacts", "node_modules", "target"];

/// A text file of the repository.
#[derive(Clone, Debug)]
pub struct File {
    /// From the repository's root, with `/` between folders.
    pub path: String,
    /// All of it.
    pub text: String,
}

impl File {
    /// A file for a test of a rule.
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// Whether this is Rust source.
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether all of this file is test code or what tests read.
    pub fn is_test(&self) -> bool {
        let whole = self.path.contains("/tests/") || self.path.ends_with("/tests.rs");
        whole || self.is_fixture() || self.path.starts_with("crates/tidy/")
    }

    /// Whether this is data of tests, which no rule of style holds for.
    pub fn is_fixture(&self) -> bool {
        self.path.split('/').any(|part| ["fixtures", "golden", "corpus"].contains(&part))
    }
}

/// The repository's root.
///
/// # Panics
/// If this crate was moved out of `crates/`.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("this crate is at crates/tidy").to_owned()
}

/// Every text file of the repository, in the order of their paths. Files that are no UTF-8 are
/// left out: they hold no text to have rules about.
///
/// # Errors
/// If a folder or file cannot be read.
pub fn files() -> io::Result<Vec<File>> {
    let root = root();
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            let skipped = SKIPPED.iter().any(|name| entry.file_name() == *name);
            if kind.is_dir() && !skipped {
                folders.push(entry.path());
            } else if kind.is_file() {
                found.extend(read(&root, &entry.path())?);
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn read(root: &Path, path: &Path) -> io::Result<Option<File>> {
    if path.extension().is_some_and(|extension| extension == "gguf") {
        return Ok(None); // a model: large, and no text
    }
    let name = path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/");
    Ok(String::from_utf8(fs::read(path)?).ok().map(|text| File { path: name, text }))
}
