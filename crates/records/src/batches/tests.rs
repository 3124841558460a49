//! Whole lives of batches in random orders, with crashes: whatever was promised before one is true
//! after it, and every line is in the output exactly once.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;

use super::*;
use crate::files::{FileLimits, FileRecord, Kept};
use crate::testing::{Folder, Random};

const ROOMY: BatchLimits = BatchLimits { open: 1000, ended: 1000 };

fn upload(records: &Records, owner: &str, id: &str) {
    let mut upload = records.upload(id).expect("begins");
    upload.write(b"{}\n").expect("writes");
    let file = FileRecord {
        id: id.to_owned(),
        owner: owner.to_owned(),
        purpose: "batch".to_owned(),
        name: String::new(),
        bytes: 3,
        created_s: 0,
        expires_s: None,
        origin: None,
    };
    let limits = FileLimits { count: 1000, bytes: 1 << 30 };
    assert_eq!(records.keep(upload, &file, limits).expect("keeps"), Kept::Yes);
}

fn begin(records: &Records, owner: &str, id: &str, expires_s: u64) -> Begun {
    let batch = NewBatch {
        id: id.to_owned(),
        owner: owner.to_owned(),
        endpoint: "/v1/completions".to_owned(),
        input_file: "input".to_owned(),
        completion_window: "24h".to_owned(),
        metadata: Some("{}".to_owned()),
        origin: Some(format!("where {id} was begun")),
        created_s: 0,
        expires_s,
    };
    records.begin_batch(&batch, ROOMY).expect("writes")
}

fn spans(count: u64) -> Vec<LineSpan> {
    let span = |at: u64| LineSpan { custom_id: format!("id-{at}"), start: at * 10, bytes: 10 };
    (0..count).map(span).collect()
}

#[test]
fn a_batch_knows_where_it_was_begun() {
    let folder = Folder::new("origin");
    {
        let records = Records::open(folder.path()).expect("opens");
        upload(&records, "a", "input");
        assert_eq!(begin(&records, "a", "b", 9), Begun::Yes);
    }
    let records = Records::open(folder.path()).expect("opens");
    assert_eq!(get(&records, "b").asked.origin.as_deref(), Some("where b was begun"));
    let open = records.open_batches(9).expect("reads");
    assert_eq!(open[0].asked.origin.as_deref(), Some("where b was begun"));
}

#[test]
fn what_a_batch_writes_comes_from_where_it_does() {
    let folder = Folder::new("output-origin");
    let records = Records::open(folder.path()).expect("opens");
    upload(&records, "a", "input");
    assert_eq!(begin(&records, "a", "b", 9), Begun::Yes);
    assert!(records.accept_batch("b", &spans(2), 1).expect("writes"));
    for (line, outcome) in [(0, Outcome::Answered), (1, Outcome::Failed)] {
        assert!(records.finish_line("b", line, outcome, "x").expect("writes"));
    }
    assert!(records.finalize_batch("b", 1).expect("writes"));
    assert_eq!(records.close_batch("b", &unrun, 1).expect("writes"), Some(Completed));
    let batch = get(&records, "b");
    for id in [batch.output_file, batch.error_file] {
        let file = records.file("a", &id.expect("has a line")).expect("reads").expect("is there");
        assert_eq!(file.origin.as_deref(), Some("where b was begun"));
    }
}

fn get(records: &Records, id: &str) -> BatchRecord {
    records.batch("a", id).expect("reads").expect("is there")
}

/// Lines of an output file.
fn lines(records: &Records, id: Option<&str>) -> Vec<String> {
    let Some(id) = id else { return Vec::new() };
    let known = records.file("a", id).expect("reads").expect("the output is its owner's");
    let mut text = String::new();
    records.open_file(id).expect("is there").read_to_string(&mut text).expect("reads");
    assert_eq!(known.bytes, text.len() as u64);
    text.lines().map(str::to_owned).collect()
}

fn unrun(custom_id: &str, end: BatchStatus) -> String {
    format!("{custom_id} {}", end.name())
}

#[test]
fn each_step_is_taken_from_where_it_may_be_taken_alone() {
    type Act<'a> = (&'a str, &'a dyn Fn(&Records) -> bool);
    let acts: &[Act<'_>] = &[
        ("refuse", &|records| records.refuse_batch("b", "[]", 1).expect("writes")),
        ("accept", &|records| records.accept_batch("b", &spans(1), 1).expect("writes")),
        ("answer", &|records| records.finish_line("b", 0, Outcome::Answered, "x").expect("writes")),
        ("fail", &|records| records.finish_line("b", 0, Outcome::Failed, "x").expect("writes")),
        ("cancel", &|records| {
            matches!(records.cancel_batch("a", "b", 1).expect("writes"), Cancel::Yes(_))
        }),
        ("finalize", &|records| records.finalize_batch("b", 1).expect("writes")),
        ("expire", &|records| records.finalize_batch("b", 100).expect("writes")),
        ("close", &|records| records.close_batch("b", &unrun, 1).expect("writes").is_some()),
    ];
    // What was done, what may come next, and where it stands.
    #[rustfmt::skip]
    let rows = [
        ("", "refuse accept cancel", Validating),
        ("refuse", "", Failed),
        ("cancel", "cancel", Cancelled),
        ("accept", "answer fail cancel expire", InProgress),
        ("accept answer", "cancel finalize expire", InProgress),
        ("accept fail", "cancel finalize expire", InProgress),
        ("accept answer finalize", "close", Finalizing),
        ("accept expire", "close", Finalizing),
        ("accept cancel", "cancel close", Cancelling),
        ("accept answer cancel", "cancel close", Cancelling),
        ("accept answer finalize close", "", Completed),
        ("accept expire close", "", Expired),
        ("accept cancel close", "cancel", Cancelled),
    ];
    for (done, next, status) in rows {
        for (name, act) in acts {
            let folder = Folder::new("steps");
            let records = Records::open(folder.path()).expect("opens");
            upload(&records, "a", "input");
            assert_eq!(begin(&records, "a", "b", 50), Begun::Yes);
            for step in done.split_whitespace() {
                let (_, act) = acts.iter().find(|act| act.0 == step).expect("is an act");
                assert!(act(&records), "{done}: {step}");
            }
            let before = get(&records, "b");
            assert_eq!(
                (before.status, before.status.ended()),
                (status, next.is_empty() || status == Cancelled),
                "{done}"
            );
            let expect = next.split(' ').any(|next| next == *name);
            assert_eq!(act(&records), expect, "{name} after {done:?}");
            if !expect {
                assert_eq!(get(&records, "b"), before, "{name} after {done:?} changed something");
            }
        }
    }
}

#[test]
fn another_owner_sees_nothing() {
    let folder = Folder::new("owners");
    let records = Records::open(folder.path()).expect("opens");
    upload(&records, "a", "input");
    assert_eq!(begin(&records, "b", "theirs", 9), Begun::NoFile);
    assert_eq!(begin(&records, "a", "mine", 9), Begun::Yes);
    let page = Page { after: None, limit: 9, newest_first: true };
    assert_eq!(records.batch("b", "mine").expect("reads"), None);
    assert_eq!(records.batches("b", &page).expect("reads").expect("a page").rows, []);
    assert_eq!(records.batches("a", &page).expect("reads").expect("a page").rows.len(), 1);
    let after = Page { after: Some("mine"), ..page };
    assert_eq!(records.batches("b", &after).expect("reads"), None);
    assert_eq!(records.cancel_batch("b", "mine", 1).expect("reads"), Cancel::Unknown);
}

#[test]
fn a_file_is_kept_as_long_as_a_batch_reads_it() {
    let folder = Folder::new("in-use");
    let records = Records::open(folder.path()).expect("opens");
    upload(&records, "a", "input");
    begin(&records, "a", "b", 9);
    let delete = || records.delete_file("a", "input").expect("writes");
    assert_eq!(delete(), crate::Deleted::InUse("b".to_owned()));
    records.cancel_batch("a", "b", 1).expect("writes");
    assert_eq!(delete(), crate::Deleted::Yes);
}

#[test]
fn the_oldest_ended_batches_are_forgotten_and_open_ones_bounded() {
    let folder = Folder::new("forget");
    let records = Records::open(folder.path()).expect("opens");
    upload(&records, "a", "input");
    let limits = BatchLimits { open: 2, ended: 2 };
    let begin = |id: &str| {
        let batch =
            NewBatch { id: id.to_owned(), owner: "a".to_owned(), ..get(&records, "b0").asked };
        records.begin_batch(&batch, limits).expect("writes")
    };
    assert_eq!(super::tests::begin(&records, "a", "b0", 9), Begun::Yes);
    assert_eq!(begin("b1"), Begun::Yes);
    assert_eq!(begin("b2"), Begun::TooMany);
    for id in ["b2", "b3", "b4"] {
        records.cancel_batch("a", "b1", 1).expect("writes");
        records
            .cancel_batch("a", &format!("b{}", id[1..].parse::<u32>().expect("a number") - 1), 1)
            .expect("writes");
        assert_eq!(begin(id), Begun::Yes, "{id}");
    }
    let page = Page { after: None, limit: 9, newest_first: false };
    let rows = records.batches("a", &page).expect("reads").expect("a page").rows;
    let ids: Vec<&str> = rows.iter().map(|row| row.asked.id.as_str()).collect();
    assert_eq!(ids, ["b0", "b2", "b3", "b4"], "b1 ended first");
}

/// The folder as a power cut at this moment would leave it.
fn crash(from: &Folder, name: &str) -> Folder {
    let to = Folder::new(name);
    fs::create_dir_all(to.path().join("files")).expect("makes");
    for part in ["", "files"] {
        for entry in fs::read_dir(from.path().join(part)).expect("lists") {
            let entry = entry.expect("lists");
            if entry.path().is_file() && !entry.file_name().to_string_lossy().ends_with("-shm") {
                let target = to.path().join(part).join(entry.file_name());
                fs::copy(entry.path(), target).expect("copies");
            }
        }
    }
    to
}

/// What was promised of one batch.
#[derive(Default)]
struct Promised {
    results: BTreeMap<u64, (Outcome, String)>,
    cancelled: bool,
    ended: bool,
}

struct Life {
    random: Random,
    total: u64,
    now_s: u64,
    promised: Promised,
    ids: u64,
}

impl Life {
    /// Does one thing of those that a server does; some are too late or too early on purpose.
    fn act(&mut self, records: &Records) {
        self.now_s += 1;
        let now_s = self.now_s;
        match self.random.below(20) {
            0 => drop(records.accept_batch("b", &spans(self.total), now_s).expect("writes")),
            1 if self.random.below(8) == 0 => {
                if matches!(records.cancel_batch("a", "b", now_s), Ok(Cancel::Yes(_))) {
                    self.promised.cancelled = true;
                }
            }
            2 => drop(records.finalize_batch("b", now_s).expect("writes")),
            3 => {
                let closed = records.close_batch("b", &unrun, now_s).expect("writes");
                self.promised.ended |= closed.is_some();
            }
            // The power goes between the output and the step that makes it known.
            4 if matches!(get(records, "b").status, Finalizing | Cancelling) => {
                let batch = get(records, "b");
                let end = if batch.status == Cancelling { Cancelled } else { Completed };
                records.write_output(&batch, end, &unrun, now_s).expect("writes");
            }
            _ => self.finish(records),
        }
    }

    /// Gives a line a result, perhaps one that has some.
    fn finish(&mut self, records: &Records) {
        let line = self.random.below(self.total);
        let outcome = if self.random.below(4) == 0 { Outcome::Failed } else { Outcome::Answered };
        self.ids += 1;
        let result = format!("id-{line} result {}", self.ids);
        let counted = records.finish_line("b", line, outcome, &result).expect("writes");
        if counted {
            let before = self.promised.results.insert(line, (outcome, result));
            assert_eq!(before, None, "line {line} was answered twice");
        }
    }

    fn hold(&self, records: &Records) {
        let batch = get(records, "b");
        let kinds = self.promised.results.values().map(|result| result.0);
        let failed = kinds.filter(|kind| *kind == Outcome::Failed).count() as u64;
        let answered = self.promised.results.len() as u64 - failed;
        if batch.status != Validating && batch.counts[0] != 0 {
            assert_eq!(batch.counts, [self.total, answered, failed]);
        }
        assert!(!self.promised.ended || batch.status.ended());
        if self.promised.cancelled {
            assert!(matches!(batch.status, Cancelling | Cancelled), "{:?}", batch.status);
        }
        if batch.status.ended() && batch.counts[0] != 0 {
            self.hold_output(records, &batch);
        }
        let waiting = records.waiting_lines("b", 0, 1000).expect("reads");
        for (line, span) in &waiting {
            assert!(!self.promised.results.contains_key(line), "{line} has a result");
            assert_eq!(span, &spans(self.total)[*line as usize]);
        }
    }

    /// Each line exactly once, in order, in its file, with the result that was promised.
    fn hold_output(&self, records: &Records, batch: &BatchRecord) {
        let of = |wanted: Outcome| {
            (0..self.total).filter_map(move |line| match self.promised.results.get(&line) {
                Some((outcome, result)) => (*outcome == wanted).then(|| result.clone()),
                None => {
                    (wanted == Outcome::Failed).then(|| unrun(&format!("id-{line}"), batch.status))
                }
            })
        };
        let (output, errors) = (batch.output_file.as_deref(), batch.error_file.as_deref());
        assert_eq!(lines(records, output), of(Outcome::Answered).collect::<Vec<_>>());
        assert_eq!(lines(records, errors), of(Outcome::Failed).collect::<Vec<_>>());
    }
}

fn live(seed: u64) -> BatchStatus {
    let mut random = Random(seed);
    let total = 1 + random.below(12);
    // One in three runs out of time.
    let expires_s = if random.below(3) == 0 { 40 } else { 100_000 };
    let mut folder = Folder::new(&format!("life-{seed}-0"));
    let mut records = Records::open(folder.path()).expect("opens");
    upload(&records, "a", "input");
    begin(&records, "a", "b", expires_s);
    let mut life = Life { random, total, now_s: 0, promised: Promised::default(), ids: 0 };
    for step in 1..400 {
        life.act(&records);
        if life.random.below(12) == 0 {
            let after = crash(&folder, &format!("life-{seed}-{step}"));
            (records, folder) = (Records::open(after.path()).expect("opens after a crash"), after);
            life.hold(&records);
        }
        if get(&records, "b").status.ended() {
            life.hold(&records);
            break;
        }
    }
    life.hold(&records);
    get(&records, "b").status
}

#[test]
fn whatever_was_promised_outlives_crashes() {
    let ends: Vec<BatchStatus> = (1..=30).map(live).collect();
    for end in [Completed, Expired, Cancelled] {
        assert!(ends.contains(&end), "no life came to {end:?}: {ends:?}");
    }
}
