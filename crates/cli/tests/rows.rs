//! Commands over rows of data as their users meet them: formats in and out, rows that fail, being
//! stopped and going on.
#![cfg(unix)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::{Said, end, ingle, piped, run, tiny, until};

/// A folder of its own for a test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("cli-rows-{name}-{}", std::process::id()));
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

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).expect("is there")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn classify(arguments: &[&str]) -> Said {
    let model = tiny();
    let usual = ["classify", "-m", &model, "--threads", "1", "--labels", "spam,no spam"];
    run(&[&usual[..], arguments].concat())
}

/// So small that any model comes to its end.
fn schema(folder: &Folder) -> String {
    folder.write("s.json", r#"{"enum": ["bill", "letter"]}"#)
}

fn extract(folder: &Folder, arguments: &[&str]) -> Said {
    let (model, schema) = (tiny(), schema(folder));
    let usual = ["extract", "-m", &model, "--threads", "1", "--schema", &schema];
    run(&[&usual[..], arguments].concat())
}

#[test]
fn labels_are_weighed_for_each_row() {
    let folder = Folder::new("classify");
    let file = folder.write("a.csv", "id,body\n1,Win a prize!\n2,\"See you\nat noon\"\n");
    let said = classify(&[&file, "--column", "body", "--output-format", "jsonl"]);
    let rows = lines(said.answer());
    assert_eq!(rows.len(), 2, "{rows:?}");
    for row in &rows {
        let all = row["probabilities"].as_object().expect("an object");
        assert_eq!(all.keys().collect::<Vec<_>>(), ["spam", "no spam"]);
        let sum: f64 = all.values().map(|it| it.as_f64().expect("a number")).sum();
        assert!((sum - 1.0).abs() < 1e-9, "{row}");
        let best = row["predicted"].as_str().expect("a text");
        assert_eq!(all[best], row["probability"]);
        assert!(row["probability"].as_f64() >= Some(0.5), "{row}");
    }
    assert_eq!((&rows[1]["id"], &rows[1]["body"]), (&json!("2"), &json!("See you\nat noon")));
    // Alone, among others and in another order the answer is the same.
    let one = piped(
        &["classify", "-m", &tiny(), "--labels", "spam,no spam", "--threads", "1"],
        b"Win a prize!\n",
    );
    assert_eq!(lines(one.answer())[0]["probabilities"], rows[0]["probabilities"]);
    // Without the prior it is another, and a high temperature makes all alike.
    let bare = classify(&[&file, "--column", "body", "--output-format", "jsonl", "--no-prior"]);
    assert_ne!(lines(bare.answer())[0]["probabilities"], rows[0]["probabilities"]);
    let hot = classify(&[&file, "--column", "body", "--output-format", "lines", "-t", "1e9"]);
    assert_eq!(hot.answer().lines().count(), 2);
    // A table stays one.
    let table = classify(&[&file, "--column", "body"]);
    assert!(table.answer().starts_with("id,body,predicted,probability,probabilities,error\n"));
}

#[test]
fn answers_are_held_against_known_labels() {
    let folder = Folder::new("calibrate");
    let text = |at: usize| {
        let (text, label) =
            if at.is_multiple_of(2) { ("prize", "spam") } else { ("noon", "no spam") };
        format!("{}\n", json!({ "text": format!("{text} {at}"), "label": label }))
    };
    let file = folder.write("a.jsonl", (0..40).map(text).collect::<String>());
    let plot = folder.path("plot.svg");
    let told = classify(&["--calibrate", &file, "--json", "--plot", &plot]).json();
    assert_eq!((&told["rows"], &told["failed"]), (&json!(40), &json!(0)));
    for when in ["before", "after"] {
        for figure in ["accuracy", "macro_f1", "ece"] {
            let part = |name: &str| told[when][figure][name].as_f64().expect("a number");
            assert!(part("low") <= part("value") + 1e-9, "{told}");
            assert!((0.0..=1.0).contains(&part("value")), "{told}");
        }
    }
    assert!(told["temperature"].as_f64() > Some(0.0), "{told}");
    assert!(folder.read("plot.svg").starts_with("<svg"));
    let words = classify(&["--calibrate", &file]);
    for word in ["accuracy", "macro-F1", "calibration error", "40 rows, temperature"] {
        assert!(words.answer().contains(word), "{words:?}");
    }
    assert!(words.err.contains("--temperature"), "{words:?}");
    // A label that is none of those is told, and the rest is judged.
    folder.write(
        "b.jsonl",
        (0..20).map(text).collect::<String>() + "{\"text\":\"a\",\"label\":\"x\"}\n",
    );
    let told = classify(&["--calibrate", &folder.path("b.jsonl"), "--json"]);
    assert!(told.err.contains("row 21: its label \"x\" is none of these"), "{told:?}");
    assert_eq!(told.json()["failed"], 1);
    let few = folder.write("c.jsonl", "{\"text\":\"a\",\"label\":\"spam\"}\n");
    classify(&["--calibrate", &few]).refused(2, &["1 labelled rows"]);
    let none = folder.write("d.jsonl", "{\"text\":\"a\"}\n");
    classify(&["--calibrate", &none]).refused(2, &["no column \"label\"", "it has: text"]);
}

#[test]
fn values_are_extracted_from_rows_of_any_format() {
    let folder = Folder::new("extract");
    let rows = [json!({ "id": 1, "text": "one bill" }), json!({ "id": 2, "text": "a letter" })];
    let jsonl = rows.iter().map(|row| format!("{row}\n")).collect::<String>();
    let jsonl = folder.write("a.jsonl", jsonl);
    let parquet = folder.path("a.parquet");
    let said = extract(&folder, &[&jsonl, "-o", &parquet]);
    assert_eq!((said.code, said.out.as_str()), (Some(0), ""), "{said:?}");
    assert!(said.err.contains("2 done"), "{said:?}");
    // What was written is read again: its own column is in the way, unless left out.
    let again = extract(&folder, &[&parquet]);
    assert_eq!(again.code, Some(1));
    assert!(again.err.contains("a column \"value\" already"), "{again:?}");
    let again = extract(&folder, &[&parquet, "--results-only"]);
    let values = lines(again.answer());
    assert!(values.iter().all(|row| row["value"] == "bill" || row["value"] == "letter"));
    assert_eq!(values.len(), 2);
    let table = folder.path("a.csv");
    assert_eq!(extract(&folder, &[&jsonl, "-o", &table]).code, Some(0));
    assert!(folder.read("a.csv").starts_with("id,text,value\n1,one bill,"));
    // Lines of one text file are rows only if that is said.
    let text = folder.write("a.txt", "one bill\na letter\n");
    assert_eq!(extract(&folder, &[&text]).answer().lines().count(), 1);
    let said = extract(&folder, &[&text, "--format", "lines"]);
    assert_eq!(lines(said.answer())[1]["text"], "a letter");
    extract(&folder, &[&text, "--column", "text"]).refused(2, &["--format"]);
    extract(&folder, &[&text, &jsonl]).refused(2, &["one kind at a time"]);
}

#[test]
fn a_row_that_fails_loses_no_other() {
    let folder = Folder::new("fails");
    let long = "x".repeat(5000);
    let text = format!(
        "{{\"text\": \"a\"}}\n{{\"text\"\n{{\"text\": null}}\n{{\"other\": 1}}\n\
         {{\"text\": \"{long}\"}}\n{{\"text\": \"b\"}}\n"
    );
    let file = folder.write("a.jsonl", text);
    let out = folder.path("out.jsonl");
    let said = classify(&[&file, "-o", &out, "--json"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    let summary: Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!((&summary["done"], &summary["failed"]), (&json!(2), &json!(4)));
    let rows = lines(&folder.read("out.jsonl"));
    assert_eq!(rows.len(), 6);
    let errors = ["", "no JSON", "is empty", "no column", "the context holds", ""];
    for (at, (row, why)) in rows.iter().zip(errors).enumerate() {
        let told = row["error"].as_str().unwrap_or_default();
        assert_eq!(why.is_empty(), row["predicted"].is_string(), "{row}");
        assert!(told.contains(why), "{row}");
        let number = format!("row {}: ", at + 1);
        assert!(why.is_empty() || (told.starts_with(&number) && said.err.contains(&number)));
    }
}

#[test]
fn what_cannot_be_done_is_refused_first() {
    let folder = Folder::new("refused");
    let (one, two) = (folder.write("a.txt", "a\n"), folder.write("b.csv", "a,b\n1,2\n"));
    let check = |arguments: &[&str], words: &[&str]| classify(arguments).refused(2, words);
    check(&[&folder.path("none.txt")], &["none.txt", "No such file"]);
    check(&[&two], &["several columns", "--column with one of: a, b"]);
    check(&[&two, "--column", "c"], &["no column \"c\"", "it has: a, b"]);
    check(&[&one, "--format", "xml"], &["there are: lines, jsonl, csv, tsv, parquet"]);
    check(&["-", "-"], &["standard input can be read once"]);
    let there = folder.write("out.jsonl", "mine\n");
    check(&[&one, "-o", &there], &["out.jsonl", "there already", "--overwrite"]);
    assert_eq!(folder.read("out.jsonl"), "mine\n");
    let said = classify(&[&one, "-o", &there, "--overwrite"]);
    assert_eq!((said.code, lines(&folder.read("out.jsonl")).len()), (Some(0), 1), "{said:?}");
    let model = tiny();
    let check = |labels: &str, words: &[&str]| {
        run(&["classify", "-m", &model, "--labels", labels, &one]).refused(2, words);
    };
    check("a", &["at least two"]);
    check("a,a", &["no two alike"]);
    run(&["classify", "--head", &one, &one]).refused(2, &["no head"]);
}

/// Rows that take some time, stopped and gone on with.
#[test]
fn it_goes_on_where_it_was_stopped() {
    const ROWS: usize = 400;
    let folder = Folder::new("resume");
    let row = |at: usize| format!("{}\n", json!({ "at": at, "text": format!("row {at}") }));
    let file = folder.write("in.jsonl", (0..ROWS).map(row).collect::<String>());
    let (out, model) = (folder.path("out.csv"), tiny());
    let usual = ["classify", "-m", &model, "--threads", "1", "-o", &out, &file, "--labels"];
    let part = folder.0.join("out.csv.journal/rows.jsonl");
    let done = || fs::read_to_string(&part).map_or(0, |text| text.lines().count());
    let mut before = 0;
    for (kill, signal) in ["KILL", "INT", "KILL"].iter().enumerate() {
        let mut child =
            ingle(&[&usual[..], &["a,b"]].concat()).stderr(Stdio::null()).spawn().expect("starts");
        until(|| done() > before + 8 * kill || child.try_wait().expect("is ours").is_some());
        let id = child.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &id]).status();
        assert!(sent.expect("runs").success());
        let code = end(&mut child).code();
        assert_eq!(code, if *signal == "INT" { Some(130) } else { None });
        assert!(done() > before && done() < ROWS && !Path::new(&out).exists());
        before = done();
    }
    // Other labels are another task, and so is another input.
    run(&[&usual[..], &["a,c"]].concat()).refused(2, &["begun with something else (judge)"]);
    let said = run(&[&usual[..], &["a,b", "--json"]].concat());
    let summary = said.json();
    assert_eq!(summary["skipped"], before, "{summary}");
    let text = folder.read("out.csv");
    let ats: Vec<&str> =
        text.lines().skip(1).map(|line| line.split(',').next().expect("one")).collect();
    let expect: Vec<String> = (0..ROWS).map(|at| at.to_string()).collect();
    assert_eq!(ats, expect);
    assert!(!part.exists());
    let whole = run(&[&usual[..], &["a,b", "--overwrite"]].concat());
    assert_eq!(whole.code, Some(0), "{whole:?}");
    assert_eq!(folder.read("out.csv"), text, "what was stopped is what was not");
}
