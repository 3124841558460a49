//! Rows through files of every format, and journals that were left at any point.

use std::fs;
use std::path::{Path, PathBuf};

use ingle_data::{Fields, Format, Input, Journal, Known, Row, known, vector};
use serde_json::{Value, json};

/// A folder of its own for a test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("rows-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("can be made");
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        fs::write(self.path(name), bytes).expect("can be written");
        self.path(name).to_str().expect("UTF-8").to_owned()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("is there")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn fields(value: Value) -> Fields {
    value.as_object().expect("an object").clone()
}

fn all(files: &[String], format: Option<Format>) -> Vec<Row> {
    Input::new(files, format).collect::<Result<_, _>>().expect("reads")
}

fn values(rows: Vec<Row>) -> Vec<Value> {
    rows.into_iter().map(|row| Value::Object(row.fields.expect("is whole"))).collect()
}

/// What a journal makes of rows, read again.
fn through(format: Format, rows: &[Value]) -> Vec<Value> {
    let folder = Folder::new(format.name());
    let out = folder.path(&format!("out.{}", format.name()));
    let mut journal = Journal::open(&out, &json!({}), false).expect("opens");
    let rows: Vec<Fields> = rows.iter().cloned().map(fields).collect();
    journal.write(&rows).expect("writes");
    journal.finish(format, &["label"]).expect("ends");
    assert!(!folder.path("out.journal").exists());
    values(all(&[out.to_str().expect("UTF-8").to_owned()], Some(format)))
}

#[test]
fn formats_hold_what_they_can() {
    let floats = vector(&[0.1, -2.5e-8, 3.0]);
    let rows = [
        json!({ "text": "a,\"b\"\nc", "n": 1, "x": 0.5, "ok": true, "v": floats, "label": "p" }),
        json!({ "text": "é", "n": -2, "x": 2.0, "ok": false, "v": [], "label": "q", "late": "z" }),
        json!({ "text": "", "n": null, "x": null, "ok": null, "v": null, "label": null }),
    ];
    assert_eq!(through(Format::Jsonl, &rows), rows);
    // A table has every column in every row.
    let mut full = rows.clone();
    full[0]["late"] = Value::Null;
    full[2]["late"] = Value::Null;
    assert_eq!(through(Format::Parquet, &full), full);
    let texts = through(Format::Csv, &rows);
    let v = "[0.1,-2.5e-8,3.0]";
    assert_eq!(
        texts[0],
        json!({
            "text": "a,\"b\"\nc", "n": "1", "x": "0.5", "ok": "true", "v": v, "label": "p",
            "late": "",
        })
    );
    assert_eq!(texts[1]["late"], "z");
    assert_eq!(through(Format::Tsv, &rows), texts);
    let lines = [json!({ "text": "p" }), json!({ "text": "q" }), json!({ "text": "" })];
    assert_eq!(through(Format::Lines, &rows), lines);
    assert_eq!(through(Format::Parquet, &[]), [] as [Value; 0]);
}

#[test]
fn parquet_has_several_groups_of_rows() {
    let text = "x".repeat(1 << 20);
    let rows: Vec<Value> = (0..40).map(|at| json!({ "at": at, "text": text })).collect();
    assert_eq!(through(Format::Parquet, &rows), rows);
}

#[test]
fn files_are_read_one_after_another() {
    let folder = Folder::new("several");
    let files = [
        folder.write("a.txt", "one\ntwo\n"),
        folder.write("b.csv", "text,n\nthree,3\nfour\n"),
        folder.write("c.jsonl", "{\"text\": \"five\"}\n"),
    ];
    let rows = all(&files, None);
    let places: Vec<(usize, u64)> = rows.iter().map(|row| (row.file, row.number)).collect();
    assert_eq!(places, [(0, 1), (0, 2), (1, 1), (1, 2), (2, 1)]);
    assert_eq!(rows[2].fields, Ok(fields(json!({ "text": "three", "n": "3" }))));
    assert_eq!(rows[3].fields, Err("it has 1 cells and the heading 2".to_owned()));
    let input = Input::new(&files, None);
    assert!(input.place(&rows[3]).ends_with("b.csv, row 2"));
    // A format that is named holds for all; one that is not there ends the reading, by its name.
    assert_eq!(all(&files, Some(Format::Lines)).len(), 6);
    let absent = folder.path("absent.csv").to_str().expect("UTF-8").to_owned();
    let mut input = Input::new(&[files[0].clone(), absent.clone()], None);
    assert!(input.by_ref().take(2).all(|row| row.is_ok()));
    let error = input.next().expect("more").expect_err("is not there").to_string();
    assert!(error.starts_with(&absent), "{error}");
    assert!(input.next().is_none());
}

#[test]
fn a_broken_parquet_file_is_an_error() {
    let folder = Folder::new("broken");
    let out = folder.path("whole.parquet");
    let mut journal = Journal::open(&out, &json!({}), false).expect("opens");
    let rows: Vec<Fields> = (0..100)
        .map(|at| fields(json!({ "text": format!("row {at}"), "v": [0.5, 1.5] })))
        .collect();
    journal.write(&rows).expect("writes");
    journal.finish(Format::Parquet, &[]).expect("ends");
    let whole = fs::read(&out).expect("reads");
    let read = |bytes: &[u8]| {
        let file = folder.write("broken.parquet", bytes);
        let _ = known(Path::new(&file), Format::Parquet);
        Input::new(&[file], None).collect::<Result<Vec<Row>, _>>()
    };
    assert_eq!(read(&whole).expect("is whole").len(), 100);
    for length in [0, 3, 4, 12, whole.len() / 2, whole.len() - 1] {
        let error = read(&whole[..length]).expect_err("is cut off").to_string();
        assert!(error.contains("no whole Parquet file"), "{error}");
    }
    // Whatever byte is wrong, it is rows or an error.
    for at in (0..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        let _ = read(&bytes);
    }
}

#[test]
fn files_are_known_again() {
    let folder = Folder::new("known");
    let known = |name: &str, text: &str| -> Known {
        let path = folder.write(name, text);
        let format = Format::of(Path::new(&path)).expect("is known");
        known(Path::new(&path), format).expect("reads").expect("is a file")
    };
    assert_eq!(known("a.csv", "a,b\n1,2\n3,4").rows, 2);
    assert_eq!(known("a.txt", "a\nb\n").rows, 2);
    assert_eq!(known("a.txt", "").rows, 0);
    assert_ne!(known("a.txt", "a\n").digest, known("a.txt", "b\n").digest);
}

/// Work on rows 0 to `count`, from where the journal is, a few at a time and at most `most`.
fn work(journal: &mut Journal, count: u64, most: usize) {
    let row = |at: u64| fields(json!({ "at": at, "label": format!("l{at}") }));
    for at in (journal.rows()..count).take(most) {
        journal.write(&[row(at)]).expect("writes");
    }
}

fn expect_rows(folder: &Folder, count: u64) {
    let lines: Vec<Value> = folder
        .read("out.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let ats: Vec<u64> = lines.iter().map(|line| line["at"].as_u64().expect("a number")).collect();
    assert_eq!(ats, (0..count).collect::<Vec<_>>());
}

#[test]
fn a_journal_is_gone_on_with_wherever_its_lines_were_cut() {
    let folder = Folder::new("cut");
    let (out, task) = (folder.path("out.jsonl"), json!({ "model": "m" }));
    let mut journal = Journal::open(&out, &task, false).expect("opens");
    work(&mut journal, 20, 6);
    let rows = journal.folder().join("rows.jsonl");
    drop(journal);
    let whole = fs::read(&rows).expect("is there");
    let line = whole.len() as u64 / 6;
    // What a power cut may leave: less, a part of a line, or zeros.
    for cut in (0..=whole.len()).rev() {
        fs::write(&rows, &whole[..cut]).expect("writes");
        let journal = Journal::open(&out, &task, false).expect("opens");
        assert_eq!(journal.rows(), cut as u64 / line);
    }
    fs::write(&rows, [&whole[..], &[0; 50], b"\n{}\n"].concat()).expect("writes");
    let mut journal = Journal::open(&out, &task, false).expect("opens");
    assert_eq!(journal.rows(), 6);
    assert!(!out.exists());
    work(&mut journal, 20, 20);
    journal.finish(Format::Jsonl, &["label"]).expect("ends");
    expect_rows(&folder, 20);
    assert!(!folder.path("out.jsonl.journal").exists());
    let error = Journal::open(&out, &task, false).expect_err("is there").to_string();
    assert!(error.contains("there already") && error.contains("--overwrite"), "{error}");
    drop(Journal::open(&out, &task, true).expect("begins anew"));
}

/// The folder as a kill between any two steps of the end leaves it.
#[test]
fn a_kill_at_the_end_loses_nothing() {
    let task = json!({ "model": "m" });
    for step in 0..4 {
        let folder = Folder::new(&format!("end-{step}"));
        let out = folder.path("out.jsonl");
        let mut journal = Journal::open(&out, &task, false).expect("opens");
        work(&mut journal, 5, 5);
        let (rows, made) = (journal.folder().join("rows.jsonl"), journal.folder().join("made"));
        let begun = journal.folder().join("task.json");
        drop(journal);
        // Made in part; made; in its place; and no task any more.
        fs::write(&made, "{").expect("writes");
        if step > 0 {
            fs::copy(&rows, &made).expect("copies");
        }
        if step > 1 {
            fs::rename(&made, &out).expect("renames");
        }
        if step > 2 {
            fs::remove_file(&begun).expect("removes");
            assert!(Journal::open(&out, &task, false).is_err(), "it is done");
            expect_rows(&folder, 5);
            let journal = Journal::open(&out, &task, true).expect("begins anew");
            assert_eq!(journal.rows(), 0);
            continue;
        }
        let journal = Journal::open(&out, &task, false).expect("opens");
        assert_eq!(journal.rows(), 5);
        journal.finish(Format::Jsonl, &["label"]).expect("ends");
        expect_rows(&folder, 5);
    }
}

#[test]
fn another_task_or_another_process_is_refused() {
    let folder = Folder::new("task");
    let out = folder.path("out.csv");
    let task = json!({ "model": "m", "column": "a" });
    let journal = Journal::open(&out, &task, false).expect("opens");
    let error = Journal::open(&out, &task, false).expect_err("is held").to_string();
    assert!(error.contains("another process"), "{error}");
    let error = Journal::open(&out, &task, true).expect_err("is held").to_string();
    assert!(error.contains("another process"), "{error}");
    drop(journal);
    let other = json!({ "model": "m", "column": "b" });
    let error = Journal::open(&out, &other, false).expect_err("is another").to_string();
    assert!(error.contains("(column)") && error.contains("--overwrite"), "{error}");
    drop(Journal::open(&out, &other, true).expect("begins anew"));
    drop(Journal::open(&out, &other, false).expect("goes on"));
}
