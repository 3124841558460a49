//! `ingle batch run` over its life: answered, killed and gone on with, interrupted, refused.
#![cfg(unix)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use ingle_records::Records;
use serde_json::{Value, json};
use support::{end, ingle, run, tiny};

/// A folder for one test.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("batch-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("makes");
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("UTF-8").to_owned()
    }

    /// Writes a file of requests that generate a few tokens each.
    fn jobs(&self, count: usize) {
        let line = |at: usize| {
            let body =
                json!({ "prompt": format!("number {at}"), "max_tokens": 1 + at % 4, "seed": at });
            let url = "/v1/completions";
            json!({ "custom_id": format!("id-{at}"), "method": "POST", "url": url, "body": body })
        };
        let text: String = (0..count).map(|at| format!("{}\n", line(at))).collect();
        fs::write(self.path("jobs.jsonl"), text).expect("writes");
    }

    fn command(&self) -> Command {
        let jobs = self.path("jobs.jsonl");
        let mut command = ingle(&["batch", "run", &jobs, "--model", &tiny(), "--json"]);
        // Nothing of the user's own is looked at.
        command.env("INGLE_HOME", self.path("home"));
        command
    }

    /// The answers, each line exactly once and in order.
    fn answers(&self, count: usize) -> Vec<Value> {
        let text = fs::read_to_string(self.path("jobs.out.jsonl")).expect("is there");
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let ids: Vec<&str> =
            lines.iter().map(|line| line["custom_id"].as_str().expect("a text")).collect();
        let expect: Vec<String> = (0..count).map(|at| format!("id-{at}")).collect();
        assert_eq!(ids, expect);
        lines
    }

    /// The journal, once it is there.
    fn journal(&self) -> Option<Records> {
        let journal = self.0.join("jobs.out.journal");
        // As long as it is being made, nobody else should look into it.
        let made =
            fs::metadata(journal.join("records.sqlite")).map_or(0, |file| file.len()) >= 4096;
        made.then(|| Records::open(&journal).ok()).flatten()
    }

    /// Waits until so many lines have their result, or the run has ended.
    fn reach(&self, child: &mut Child, done: u64) {
        let mut records = None;
        while child.try_wait().expect("is ours").is_none() {
            records = records.or_else(|| self.journal());
            if records.as_ref().map_or(0, of) >= done {
                break;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Lines that have their result.
fn of(records: &Records) -> u64 {
    let batch = records.batch(ingle_server::OFFLINE_OWNER, "batch_journal");
    batch.ok().flatten().map_or(0, |batch| batch.counts[1] + batch.counts[2])
}

fn text(line: &Value) -> &Value {
    &line["response"]["body"]["choices"][0]["text"]
}

/// Killed again and again, it answers every line exactly once; and what it says is what an
/// undisturbed run says.
#[test]
fn a_batch_outlives_being_killed() {
    const LINES: usize = 600;
    const KILLS: u64 = 5;
    let place = Place::new("killed");
    place.jobs(LINES);
    let mut killed = 0;
    for kill in 0..KILLS {
        let mut child = place.command().spawn().expect("starts");
        // Spread over the lines, no two gaps alike.
        place.reach(&mut child, kill * 80 + 7 * (kill % 3));
        child.kill().expect("is ours");
        let status = child.wait().expect("is ours");
        killed += u64::from(status.code().is_none());
    }
    assert_eq!(killed, KILLS, "it was killed in the middle each time");
    let before = place.journal().as_ref().map_or(0, of);
    assert!(before > 0 && before < LINES as u64, "{before}");
    let said: support::Said = place.command().output().expect("runs").into();
    let summary = said.json();
    assert_eq!(
        (&summary["total"], &summary["completed"]),
        (&json!(LINES), &json!(LINES)),
        "{summary}"
    );
    let after: Vec<Value> = place.answers(LINES);
    assert!(!Path::new(&place.path("jobs.out.journal")).exists());
    fs::remove_file(place.path("jobs.out.jsonl")).expect("removes");
    let said: support::Said = place.command().output().expect("runs").into();
    said.json();
    let whole = place.answers(LINES);
    for (one, other) in after.iter().zip(&whole) {
        assert_eq!(text(one), text(other), "{}", one["custom_id"]);
        assert!(text(one).is_string());
    }
}

#[test]
fn ctrl_c_stops_it_and_it_goes_on() {
    let place = Place::new("interrupted");
    place.jobs(300);
    let mut child = place.command().spawn().expect("starts");
    place.reach(&mut child, 3);
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-s", "INT", &id]).status().expect("runs").success());
    assert_eq!(end(&mut child).code(), Some(130));
    assert!(!Path::new(&place.path("jobs.out.jsonl")).exists());
    // Another input is not gone on with.
    let jobs = fs::read_to_string(place.path("jobs.jsonl")).expect("reads");
    fs::write(place.path("jobs.jsonl"), jobs.replace("number 299", "number 300")).expect("writes");
    let said: support::Said = place.command().output().expect("runs").into();
    said.refused(2, &["is not what it was", "hint:"]);
    fs::write(place.path("jobs.jsonl"), jobs).expect("writes");
    let said: support::Said = place.command().output().expect("runs").into();
    assert_eq!(said.json()["completed"], 300);
    place.answers(300);
    let said: support::Said = place.command().output().expect("runs").into();
    said.refused(2, &["is there already"]);
}

#[test]
fn lines_that_fail_stand_apart() {
    let place = Place::new("failures");
    place.jobs(3);
    let jobs = fs::read_to_string(place.path("jobs.jsonl")).expect("reads");
    let wrong = jobs.replace("\"max_tokens\":2", "\"max_tokens\":\"two\"");
    fs::write(place.path("jobs.jsonl"), wrong).expect("writes");
    let said: support::Said = place.command().output().expect("runs").into();
    let summary = said.json();
    assert_eq!((&summary["completed"], &summary["failed"]), (&json!(2), &json!(1)), "{summary}");
    let errors = fs::read_to_string(place.path("jobs.out.errors.jsonl")).expect("is there");
    let error: Value = serde_json::from_str(&errors).expect("one line of JSON");
    assert_eq!(error["custom_id"], "id-1");
    assert_eq!(error["response"]["body"]["error"]["param"], "max_tokens");
}

#[test]
fn what_is_no_input_is_refused() {
    let place = Place::new("refused");
    let model = tiny();
    let check = |text: Option<&str>, words: &[&str]| {
        if let Some(text) = text {
            fs::write(place.path("jobs.jsonl"), text).expect("writes");
        }
        run(&["batch", "run", &place.path("jobs.jsonl"), "--model", &model]).refused(2, words);
        assert!(!Path::new(&place.path("jobs.out.journal")).exists(), "{text:?}");
    };
    check(None, &["jobs.jsonl"]);
    check(Some(""), &["no lines"]);
    check(Some("{}\n"), &["line 1: ", "custom_id"]);
}
