//! `ingle extract` as its users meet it: one text, many files, what fails, and going on where it
//! stopped.
#![cfg(unix)]

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Value, json};
use support::{Said, end, ingle, piped, run, tiny};

/// A folder of its own for a test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("ingle-extract-{name}-{}", std::process::id()));
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

/// So small that any model comes to its end.
fn small() -> Value {
    let count = json!({ "type": "integer", "minimum": 0, "maximum": 99 });
    let kind = json!({ "enum": ["bill", "letter"] });
    json!({
        "type": "object",
        "properties": { "kind": kind, "count": count },
        "required": ["kind", "count"],
        "additionalProperties": false,
    })
}

fn valid(schema: &Value, value: &Value) {
    let kinds = schema["properties"]["kind"]["enum"].as_array().expect("a list");
    assert!(kinds.contains(&value["kind"]) && value["count"].is_u64(), "{value}");
    assert_eq!(value.as_object().map(serde_json::Map::len), Some(2), "{value}");
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn extract(arguments: &[&str]) -> Said {
    let model = tiny();
    run(&[&["extract", "-m", &model, "--threads", "1"], arguments].concat())
}

#[test]
fn a_text_gives_its_value() {
    let folder = Folder::new("stdin");
    let schema = json!({
        "type": "object",
        "properties": {
            "number": { "type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$" },
            "total": { "type": "number", "minimum": 0, "maximum": 10000 },
            "paid": { "type": "boolean" },
        },
        "required": ["number", "total", "paid"],
        "additionalProperties": false,
    });
    let path = folder.write("invoice.json", schema.to_string());
    let invoice = "Invoice QX-1734\n12 chairs at 20.50\nTotal: 246.00 EUR. Paid on May 3.\n";
    let said = piped(&["extract", "--schema", &path], invoice.as_bytes());
    let value: Value = serde_json::from_str(said.answer()).expect("JSON");
    assert_eq!(value["total"], 246.0, "even a small model finds it: {value}");
    assert!(value["number"].is_string() && value["paid"].is_boolean(), "{value}");
    assert!(said.err.contains("1 done"), "{said:?}");
    let told = piped(&["extract", "--json", "--schema", &path], invoice.as_bytes()).json();
    assert_eq!((&told["value"], &told["receipt"]["model"]), (&value, &json!("smollm2")));
}

#[test]
fn files_give_lines_in_their_order() {
    let folder = Folder::new("files");
    let schema = folder.write("s.json", small().to_string());
    let files: Vec<String> =
        (0..20).map(|at| folder.write(&format!("{at}.txt"), format!("{at} bills"))).collect();
    let names: Vec<&str> = files.iter().map(String::as_str).collect();
    let said = extract(&[&["--schema", &schema], &names[..]].concat());
    let told = lines(said.answer());
    assert_eq!(told.iter().map(|line| &line["file"]).collect::<Vec<_>>(), names);
    told.iter().for_each(|line| valid(&small(), &line["value"]));
    // One that is named twice is read once, and alone it has its line, too.
    let said = extract(&["--schema", &schema, names[0], names[0]]);
    assert_eq!(lines(said.answer()), told[..1]);
}

#[test]
fn what_fails_is_told_by_name_and_the_rest_goes_on() {
    let folder = Folder::new("fails");
    let schema = folder.write("s.json", small().to_string());
    let good = folder.write("good.txt", "Two letters.");
    let files = [
        (folder.path("absent.txt"), "No such file"),
        (folder.write("empty.txt", " \n"), "it is empty"),
        (folder.write("bytes.txt", [0xff, 0xfe, 0x00]), "not UTF-8"),
        (folder.write("long.txt", "long ".repeat(200)), "the context holds"),
    ];
    let names: Vec<&str> = files.iter().map(|file| file.0.as_str()).collect();
    let arguments = [&["--schema", &schema], &names[..], &[&good]].concat();
    let said = extract(&arguments);
    assert_eq!((said.code, lines(&said.out).len()), (Some(1), 1), "{said:?}");
    assert_eq!(lines(&said.out)[0]["file"], json!(good));
    for (name, why) in &files {
        let line = said.err.lines().find(|line| line.contains(name));
        assert!(line.is_some_and(|line| line.contains(why)), "{why:?} is not in {said:?}");
    }
    assert!(said.err.contains("1 done · 4 failed"), "{said:?}");
    let told = extract(&[&arguments[..], &["--json"]].concat());
    let errors = lines(&told.out);
    assert_eq!((told.code, errors.len()), (Some(1), 5), "{told:?}");
    assert!(errors[1]["error"].as_str().expect("a text").contains("it is empty"));
    let cut = extract(&["--schema", &schema, "-n", "5", &good]);
    cut.refused(1, &[&good, "cut short inside the value", "--max-tokens"]);
}

#[test]
fn it_goes_on_where_it_stopped() {
    let folder = Folder::new("resume");
    let schema = folder.write("s.json", small().to_string());
    let [a, b, c] = ["a", "b", "c"].map(|name| folder.write(name, format!("{name} bills")));
    let (out, absent) = (folder.path("out.jsonl"), folder.path("d"));
    let go = |files: &[&str], more: &[&str]| {
        extract(&[&["--schema", &schema, "-o", &out, "--temperature", "1"], more, files].concat())
    };
    let said = go(&[&a, &absent, &b], &[]);
    assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{said:?}");
    let first = folder.read("out.jsonl");
    assert_eq!(lines(&first).iter().map(|line| &line["file"]).collect::<Vec<_>>(), [&a, &b]);
    // A power cut in the middle of a line, and the file that was not there has come.
    folder.write("out.jsonl", format!("{first}{{\"file\":\"{c}\",\"val"));
    folder.write("d", "d bills");
    let said = go(&[&a, &absent, &b, &c], &["--json"]);
    let summary = said.json();
    assert_eq!((&summary["done"], &summary["skipped"]), (&json!(2), &json!(2)), "{summary}");
    let second = folder.read("out.jsonl");
    assert!(second.starts_with(&first), "what was there stays: {second}");
    let named: Vec<Value> = lines(&second).iter().map(|line| line["file"].clone()).collect();
    assert_eq!(named, [&a, &b, &absent, &c].map(|name| json!(name)));
    assert!(go(&[&a, &b, &c], &[]).err.contains("0 done · 4 were there"));
    assert_eq!(folder.read("out.jsonl"), second, "nothing is done twice");
    let other = folder.write("other.json", r#"{"type": "string", "maxLength": 3}"#);
    let said = extract(&["--schema", &other, "-o", &out, &a]);
    said.refused(2, &["line 1", "another schema", "--overwrite"]);
    assert_eq!(folder.read("out.jsonl"), second);
    let said = extract(&["--schema", &other, "-o", &out, "--overwrite", &a]);
    assert_eq!((said.code, lines(&folder.read("out.jsonl")).len()), (Some(0), 1), "{said:?}");
    let notes = folder.write("notes.txt", "mine\n");
    let said = extract(&["--schema", &schema, "-o", &notes, &a]);
    said.refused(2, &["line 1", "not one of this command's"]);
    assert_eq!(folder.read("notes.txt"), "mine\n", "what is not ours is left alone");
}

#[test]
fn a_schema_that_will_not_do_is_refused_before_anything() {
    let folder = Folder::new("schemas");
    let text = folder.write("a.txt", "A text.");
    let check = |schema: &str, code: i32, words: &[&str]| {
        let schema = folder.write("s.json", schema);
        extract(&["--schema", &schema, &text]).refused(code, words);
    };
    check("{", 2, &["s.json", "no JSON"]);
    check(r#"{"type": 5}"#, 2, &["s.json", "no JSON schema"]);
    check(r#"{"type": "array", "uniqueItems": true}"#, 1, &["uniqueItems"]);
    extract(&["--schema", &folder.path("none.json"), &text]).refused(2, &["none.json"]);
    extract(&["--schema", "-"]).refused(2, &["standard input"]);
    extract(&[&text]).refused(2, &["--schema"]);
}

#[test]
fn ctrl_c_ends_it_in_order() {
    let folder = Folder::new("interrupt");
    // Nothing ends it soon.
    let endless = json!({ "type": "array", "items": { "const": 1 }, "minItems": 3000 });
    let schema = folder.write("s.json", endless.to_string());
    let (text, out) = (folder.write("a.txt", "A text."), folder.path("out.jsonl"));
    let mut child = ingle(&["extract", "-n", "8000", "--schema", &schema, "-o", &out, &text])
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    support::until(|| fs::metadata(&out).is_ok());
    let id = child.id().to_string();
    let killed = std::process::Command::new("kill").args(["-s", "INT", &id]).status();
    assert!(killed.expect("runs").success());
    assert_eq!(end(&mut child).code(), Some(130));
    assert_eq!(folder.read("out.jsonl"), "");
}
