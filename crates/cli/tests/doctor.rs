//! `ingle doctor`: what it says of a store that is empty, whole, or broken.

mod support;

use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use support::{Said, ingle, tiny};

/// A store of its own for each test.
struct Home(PathBuf);

impl Home {
    fn new(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("doctor").join(name);
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }

    fn run(&self, arguments: &[&str]) -> Said {
        ingle(arguments).env("INGLE_HOME", &self.0).output().expect("runs").into()
    }

    fn with_tiny(name: &str) -> Self {
        let home = Self::new(name);
        assert_eq!(home.run(&["pull", &tiny(), "--as", "tiny", "--quiet"]).code, Some(0));
        home
    }

    fn model(&self) -> PathBuf {
        self.0.join("models/tiny/qwen2.gguf")
    }
}

/// Topic and state of each line that is about models, and what is said there.
fn findings(said: &Said) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let rows = said.out.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let rows = rows.map(|row| (text(&row["topic"]), text(&row["state"]), text(&row["found"])));
    let machine = ["processor", "memory", "disk", "network", "port"];
    rows.filter(|(topic, ..)| !machine.contains(&topic.as_str())).collect()
}

/// The models' lines must be these, by topic, state and a word.
fn check(said: &Said, code: i32, expect: &[(&str, &str, &str)]) {
    assert_eq!(said.code, Some(code), "{said:?}");
    let found = findings(said);
    assert_eq!(found.len(), expect.len(), "{found:?}");
    for ((topic, state, what), (t, s, word)) in found.iter().zip(expect) {
        assert!((topic.as_str(), state.as_str()) == (*t, *s) && what.contains(word), "{found:?}");
    }
}

#[test]
fn an_empty_store_is_no_error() {
    let home = Home::new("empty");
    check(&home.run(&["doctor", "--json"]), 0, &[("models", "note", "none is here")]);
    assert!(!home.0.exists(), "nothing is changed");
    let people = home.run(&["doctor"]);
    assert_eq!(people.code, Some(0));
    for words in ["processor: ", "hint: `ingle pull smollm2`"] {
        assert!(people.out.contains(words), "{people:?}");
    }
}

#[test]
fn a_whole_model_answers() {
    let home = Home::with_tiny("whole");
    let models = ("models", "well", "1 here");
    let answer = ("answer", "well", "tiny answers");
    check(&home.run(&["doctor", "--json"]), 0, &[models, answer]);
    let verified = ("tiny", "well", "as it came");
    check(&home.run(&["doctor", "--verify", "--json"]), 0, &[models, verified, answer]);
}

#[test]
fn a_changed_file_is_found() {
    let home = Home::with_tiny("changed");
    let mut bytes = fs::read(home.model()).expect("is there");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(home.model(), &bytes).expect("is written");
    let models = ("models", "well", "1 here");
    let answer = ("answer", "well", "tiny answers");
    check(&home.run(&["doctor", "--json"]), 0, &[models, answer]);
    let changed = ("tiny", "wrong", "has changed since it came");
    check(&home.run(&["doctor", "--verify", "--json"]), 1, &[models, changed, answer]);
    fs::write(home.model(), &bytes[..last / 2]).expect("is written");
    let none = ("models", "note", "none is here");
    let short = ("models", "wrong", "tiny: its file is gone, or not as long");
    check(&home.run(&["doctor", "--json"]), 1, &[none, short]);
}

#[test]
fn what_is_no_model_is_told() {
    let home = Home::with_tiny("manifest");
    fs::write(home.0.join("models/tiny/manifest.json"), "no JSON").expect("is written");
    let none = ("models", "note", "none is here");
    check(&home.run(&["doctor", "--json"]), 1, &[none, ("models", "wrong", "tiny")]);
}
