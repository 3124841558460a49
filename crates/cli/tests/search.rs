//! `ingle search` with a real encoder: a folder is indexed, asked in each mode, killed on the way,
//! and watched.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use ingle_search::Searcher;
use serde_json::Value;
use support::{end, ingle, piped, run, until};

const TEXTS: [(&str, &str); 5] = [
    ("bread.md", "# Bread\n\nFlour, water and yeast rise for an hour before they are baked.\n"),
    ("sea.txt", "The moon pulls at the ocean, and the tides follow it twice a day.\n"),
    ("cats.html", "<h1>Cats</h1><p>They purr when they are <b>content</b>.</p>"),
    ("sort.py", "def sort_names(names):\n    return sorted(names, key=str.lower)\n"),
    ("towns.csv", "town,height\nBern,540\nDavos,1560\n"),
];

/// A folder of this name and this process in the system's folder for such, gone after its test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ingle-asked-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("the system's folder for such can be written to");
        for (name, text) in TEXTS {
            fs::write(path.join(name), text).expect("is written");
        }
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn first(answer: &Value) -> &str {
    answer["hits"][0]["path"].as_str().unwrap_or("nothing found")
}

#[test]
fn a_folder_is_indexed_and_asked() {
    let folder = Folder::new("asked");
    let answer = run(&["search", "what makes the sea go up and down?", folder.path(), "--json"]);
    assert_eq!(first(&answer.json()), "sea.txt", "{answer:?}");

    let index = run(&["search", "index", folder.path(), "--json"]).json();
    assert_eq!((&index["documents"], &index["passages"]), (&5.into(), &6.into()));
    assert_eq!((&index["unchanged"], &index["embedded"]), (&5.into(), &0.into()));

    // Words that stand nowhere are found by what they mean, by vectors and so by both.
    for mode in ["vector", "hybrid"] {
        let question = "a pet's sound of happiness";
        let answer = run(&["search", "ask", question, folder.path(), "--mode", mode, "--json"]);
        assert_eq!(first(&answer.json()), "cats.html", "{mode}");
    }
    let words = ["search", "ask", "Davos", folder.path(), "--mode", "words"];
    let shown = run(&words);
    assert!(shown.answer().starts_with(" 1. towns.csv:3\n    town: Davos\n"), "{shown:?}");
    assert_eq!(first(&run(&[&words[..], &["--json"]].concat()).json()), "towns.csv");

    let questions = "How long does dough rise?\n\nsorting names\n";
    let said = piped(&["search", "ask", "--stdin", folder.path(), "--json"], questions.as_bytes());
    let answers: Vec<Value> =
        said.answer().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(answers.iter().map(first).collect::<Vec<_>>(), ["bread.md", "sort.py"]);
}

#[test]
fn what_cannot_be_is_refused_with_what_to_do() {
    let folder = Folder::new("refused");
    run(&["search", "ask", "tides", folder.path()])
        .refused(1, &["search.sqlite is not there", "ingle search index"]);
    run(&["search", "ask", "tides", folder.path(), "--mode", "magic"])
        .refused(2, &["hybrid, vector, words"]);
    run(&["search", "index", "no-such-folder"]).refused(1, &["no-such-folder"]);
    run(&["search", "just a question"]).refused(2, &["FOLDER"]);
    run(&["search", "index", folder.path(), "-m", &support::tiny()])
        .refused(1, &["writes text", "minilm"]);
}

#[test]
fn a_killed_index_goes_on() {
    let folder = Folder::new("killed");
    for at in 0..1500 {
        let text = format!("Letter {at}: the parcel {at} was sent to town {}.\n", at % 7);
        fs::write(folder.0.join(format!("{at}.txt")), text).expect("is written");
    }
    let mut child = ingle(&["search", "index", folder.path()]).spawn().expect("starts");
    until(|| passages(&folder.0) > 100);
    child.kill().expect("is ours");
    end(&mut child);
    let there = passages(&folder.0);
    let index = run(&["search", "index", folder.path(), "--json"]).json();
    assert_eq!(index["passages"], 1506);
    assert_eq!(index["embedded"], 1506 - there, "nothing is read twice");
}

fn passages(folder: &Path) -> u64 {
    Searcher::open(folder, None)
        .and_then(|searcher| searcher.counts())
        .map_or(0, |counts| counts.passages)
}

#[test]
fn a_watched_folder_is_kept_up_to_date() {
    let folder = Folder::new("watched");
    let mut watcher =
        ingle(&["search", "index", folder.path(), "--watch", "--json"]).spawn().expect("starts");
    let mut told = BufReader::new(watcher.stdout.take().expect("is piped")).lines();
    // A file that is written may be seen twice: empty, and with its text.
    let mut until_told = |what: &str, count: u64| loop {
        let line = told.next().expect("goes on").expect("is read");
        let told: Value = serde_json::from_str(&line).expect("JSON");
        if told[what] == count {
            return;
        }
    };
    until_told("documents", 5);
    let mut asker = Asker::new(folder.path());
    assert_ne!(asker.ask("what do ants build?"), "ants.txt");

    fs::write(folder.0.join("ants.txt"), "Ants build hills.\n").expect("is written");
    until_told("new", 1);
    until(|| asker.ask("what do ants build?") == "ants.txt");
    fs::write(folder.0.join("ants.txt"), "Nothing of the kind.\n").expect("is written");
    until_told("changed", 1);
    fs::remove_file(folder.0.join("sea.txt")).expect("is removed");
    until_told("deleted", 1);
    assert_ne!(asker.ask("what makes the tides?"), "sea.txt");

    drop(asker.child.stdin.take());
    assert!(end(&mut asker.child).success());
    watcher.kill().expect("is ours");
    end(&mut watcher);
}

/// A running `ingle search ask --stdin`.
struct Asker {
    child: Child,
    answers: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Asker {
    fn new(folder: &str) -> Self {
        let mut child = ingle(&["search", "ask", "--stdin", folder, "--json"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("starts");
        let answers = BufReader::new(child.stdout.take().expect("is piped")).lines();
        Self { child, answers }
    }

    /// The file of the first hit.
    fn ask(&mut self, question: &str) -> String {
        let stdin = self.child.stdin.as_mut().expect("is piped");
        writeln!(stdin, "{question}").expect("is read");
        let line = self.answers.next().expect("goes on").expect("is read");
        first(&serde_json::from_str(&line).expect("JSON")).to_owned()
    }
}
