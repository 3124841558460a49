//! `ingle embed`, `classify`, `rerank` and `train` with encoders: tiny random ones, whose vectors
//! mean nothing and are the same each time.
#![cfg(unix)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use ingle_data::{Fields, Input};
use serde_json::{Value, json};
use support::{Said, end, ingle, of, run, until};

/// A folder of its own for a test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("cli-encode-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("can be made");
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("UTF-8").to_owned()
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        fs::write(self.0.join(name), text).expect("can be written");
        self.path(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Makes vectors of 16 floats of texts of at most 32 tokens, and has prompts.
fn bert() -> String {
    of("model", "golden/directories/bert")
}

/// Has the labels bad, fine, good.
fn labels() -> String {
    of("model", "golden/directories/bert-labels")
}

fn with(command: &[&str], model: &str, more: &[&str]) -> Said {
    run(&[command, &["-m", model, "--threads", "1"], more].concat())
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn floats(row: &Value) -> Vec<f64> {
    let list = row["embedding"].as_array().expect("a list");
    list.iter().map(|it| it.as_f64().expect("a number")).collect()
}

fn rows_of(file: &str) -> Vec<Fields> {
    let rows = Input::new(&[file.to_owned()], None);
    rows.map(|row| row.expect("reads").fields.expect("is whole")).collect()
}

#[test]
fn each_row_has_its_vector() {
    let folder = Folder::new("embed");
    let long = "rain ".repeat(40);
    let file = folder.write("a.txt", format!("The rain in Spain\n{long}\nprices rise\n"));
    let said = with(&["embed"], &bert(), &[&file]);
    assert_eq!(said.code, Some(1), "{said:?}");
    let rows = lines(&said.out);
    assert_eq!(rows.len(), 3);
    assert!(rows[1]["error"].as_str().is_some_and(|why| why.starts_with("row 2: ")), "{rows:?}");
    for row in [&rows[0], &rows[2]] {
        let floats = floats(row);
        let length: f64 = floats.iter().map(|it| it * it).sum();
        assert!(floats.len() == 16 && (length - 1.0).abs() < 1e-5, "{row}");
    }
    let cut = with(&["embed"], &bert(), &[&file, "--long", "start", "--dimensions", "4"]);
    let cut = lines(cut.answer());
    assert!(cut.iter().all(|row| floats(row).len() == 4), "{cut:?}");
    // The usual prompt is its own: `query`.
    let told = |prompt: &str| {
        let said = with(&["embed"], &bert(), &[&file, "--prompt", prompt]);
        floats(&lines(&said.out)[0])
    };
    assert_eq!(told("query"), floats(&rows[0]));
    assert_ne!(told("document"), floats(&rows[0]));
    // A table of floats, read again.
    let out = folder.path("a.parquet");
    assert_eq!(with(&["embed"], &bert(), &[&file, "-o", &out]).code, Some(1));
    let again: Vec<Value> = rows_of(&out).into_iter().map(Value::Object).collect();
    assert_eq!((again.len(), floats(&again[2])), (3, floats(&rows[2])));
    let check = |more: &[&str], words: &[&str]| with(&["embed"], &bert(), more).refused(2, words);
    check(&[&file, "--prompt", "x"], &["no prompt of the name \"x\"", "query, document"]);
    check(&[&file, "--dimensions", "17"], &["1 to 16 floats"]);
    with(&["embed"], &labels(), &["--prompt", "query", &file]).refused(2, &["bert-labels"]);
}

#[test]
fn a_classifier_has_labels_of_its_own() {
    let folder = Folder::new("own");
    let file = folder.write("a.txt", "The rain in Spain\nprices rise\n");
    let said = with(&["classify"], &labels(), &[&file]);
    for row in lines(said.answer()) {
        let all = row["probabilities"].as_object().expect("an object");
        assert_eq!(all.keys().collect::<Vec<_>>(), ["bad", "fine", "good"]);
        let sum: f64 = all.values().map(|it| it.as_f64().expect("a number")).sum();
        assert!((sum - 1.0).abs() < 1e-9, "{row}");
        assert_eq!(all[row["predicted"].as_str().expect("a text")], row["probability"]);
    }
    with(&["classify"], &bert(), &[&file]).refused(2, &["no labels of its own", "--head"]);
}

/// Rows of two kinds, which differ in their words.
fn labelled(folder: &Folder) -> String {
    let row = |at: usize| {
        let (text, label) = match at % 2 {
            0 => (format!("the rain in Spain {at}"), "weather"),
            _ => (format!("prices stay prices {at}"), "money"),
        };
        format!("{}\n", json!({ "text": text, "label": label }))
    };
    folder.write("labelled.jsonl", (0..80).map(row).collect::<String>())
}

#[test]
fn a_head_is_trained_and_used() {
    let folder = Folder::new("train");
    let (rows, head) = (labelled(&folder), folder.path("head.json"));
    for kind in ["logistic", "mlp"] {
        let train = ["train", "head", &rows, "-o", &head, "--kind", kind];
        let told = with(&train, &bert(), &["--json", "--plot", &folder.path("a.svg")]).json();
        assert!(told["after"]["accuracy"]["value"].as_f64() >= Some(0.9), "{told}");
        assert_eq!((&told["rows"], &told["kind"]), (&json!(80), &json!(kind)));
        let first = fs::read_to_string(&head).expect("is there");
        assert!(with(&train, &bert(), &[]).answer().contains("80 rows, temperature"));
        assert_eq!(fs::read_to_string(&head).expect("is there"), first, "the same again");
        let said = run(&["classify", "--head", &head, &rows, "--threads", "1"]);
        let rows = lines(said.answer());
        let right = rows.iter().filter(|row| row["predicted"] == row["label"]).count();
        assert!(rows.len() == 80 && right >= 76, "{right}");
        assert!(fs::read_to_string(folder.path("a.svg")).expect("is there").contains("</svg>"));
    }
    let told = run(&["classify", "--calibrate", "--head", &head, &rows, "--json"]).json();
    assert_eq!(told["rows"], 80);
    let one = folder.write("one.csv", "text,label\na,x\nb,x\n");
    with(&["train", "head", &one], &bert(), &[]).refused(2, &["at least two"]);
    with(&["train", "head", &rows], &bert(), &["--label-column", "kind"])
        .refused(2, &["no column \"kind\""]);
}

#[test]
fn the_best_come_first() {
    let folder = Folder::new("rerank");
    let file = folder.write("a.txt", "prices rise\nthe rain in Spain stays\nmain\n");
    let asked = ["rerank", "--query", "the rain in Spain"];
    let said = with(&asked, &bert(), &[&file]);
    let scores = |rows: &[Value]| -> Vec<f64> {
        rows.iter().map(|row| row["score"].as_f64().expect("a number")).collect()
    };
    let best = lines(said.answer());
    assert!(best.len() == 3 && scores(&best).is_sorted_by(|one, next| one >= next), "{best:?}");
    assert!(scores(&best).iter().all(|score| score.abs() <= 1.0001), "{best:?}");
    let two = with(&asked, &bert(), &[&file, "--top", "2"]);
    assert_eq!(lines(two.answer()), best[..2]);
    let out = folder.path("out.jsonl");
    assert_eq!(with(&asked, &bert(), &[&file, "-o", &out]).code, Some(0));
    let kept = rows_of(&out);
    let texts: Vec<&Value> = kept.iter().map(|row| &row["text"]).collect();
    assert_eq!(texts, ["prices rise", "the rain in Spain stays", "main"]);
    assert!(best.iter().all(|row| kept.iter().any(|kept| kept["score"] == row["score"])));
    with(&asked, &labels(), &[&file]).refused(2, &["bert-labels"]);
}

/// Killed again and again, each line is embedded once, in order, and as if nothing had been.
#[test]
fn lines_outlive_being_killed() {
    const LINES: usize = 30_000;
    let folder = Folder::new("killed");
    let text = (0..LINES).map(|at| format!("row {at}\n")).collect::<String>();
    let (file, out) = (folder.write("in.txt", text), folder.path("out.jsonl"));
    let part = folder.0.join("out.jsonl.journal/rows.jsonl");
    let done = || fs::metadata(&part).map_or(0, |file| file.len());
    let model = bert();
    let go = ["embed", "-m", &model, "--threads", "1", "--dimensions", "2", &file, "-o", &out];
    for _ in 0..3 {
        let before = done();
        let mut child = ingle(&go).stderr(Stdio::null()).spawn().expect("starts");
        until(|| done() > before + 20_000 || child.try_wait().expect("is ours").is_some());
        child.kill().expect("is ours");
        assert_eq!(end(&mut child).code(), None, "it was killed in the middle");
        assert!(!Path::new(&out).exists() && done() > before);
    }
    let summary = run(&[&go[..], &["--json"]].concat()).json();
    let count = |name: &str| summary[name].as_u64().expect("a number");
    assert!(count("skipped") > 0 && count("done") + count("skipped") == LINES as u64, "{summary}");
    let killed = fs::read_to_string(&out).expect("is there");
    for (at, row) in lines(&killed).iter().enumerate() {
        assert_eq!(row["text"], format!("row {at}"));
    }
    assert_eq!(killed.lines().count(), LINES);
    assert_eq!(run(&[&go[..], &["--overwrite"]].concat()).code, Some(0));
    assert!(fs::read_to_string(&out).expect("is there") == killed, "as if nothing had been");
}
