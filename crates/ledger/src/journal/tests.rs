//! Records as they are written, torn, missing and foreign; files that take turns, and full ones.

use ingle_protocol::Entry;
use proptest::prelude::*;

use super::*;
use crate::{Missed, Reserved};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("ingle-ledger-journal-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("can be made");
        Self(path)
    }

    fn sign(&self) -> PathBuf {
        self.0.join("sign")
    }

    fn journal(&self) -> Journal {
        let open = |path: &Path| {
            let file = fs::OpenOptions::new().create(true).append(true).open(path);
            Ok(file.expect("can be made"))
        };
        Journal::new(&self.sign(), open).expect("is made")
    }

    fn records(&self) -> Vec<Record> {
        Records::open(&self.sign()).expect("is read").collect()
    }

    fn numbers(&self) -> Vec<u64> {
        self.records().iter().map(|record| record.seq).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn row(id: &str) -> Box<Row> {
    Box::new(Row::of(&Entry { id: id.into(), at_ms: 7, ..Entry::default() }))
}

/// One of each kind.
fn told() -> Vec<Op> {
    let reserved = vec![Reserved { budget: "all of it".into(), micros: 5, tokens: u64::MAX }];
    let missed = Missed { calls: 3, from_ms: 1, to_ms: 2 };
    let content = Content { id: "\u{e9}".into(), at_ms: u64::MAX, bytes: vec![0, 255, 1] };
    vec![
        Op::Begin(Box::new(Announce { row: *row("a"), reserved: reserved.clone() })),
        Op::End(row("a")),
        Op::Note(row("")),
        Op::Gap(missed),
        Op::Content(Box::new(content)),
        Op::Amend(Box::new(Announce { row: *row("b"), reserved })),
    ]
}

#[test]
fn what_was_told_is_read_in_its_order() {
    let folder = Folder::new("order");
    let mut journal = folder.journal();
    for (op, seq) in told().iter().zip(1..) {
        assert_eq!(journal.put(op).expect("is written"), seq);
    }
    let read: Vec<String> =
        folder.records().iter().map(|it| format!("{:?}", it.op().expect("is known"))).collect();
    let expect: Vec<String> = told().iter().map(|op| format!("{op:?}")).collect();
    assert_eq!(read, expect);
    journal.remove().expect("is removed");
    assert!(folder.records().is_empty());
}

/// Wherever the end is cut off or a byte is another, what stands before is read, and no more.
#[test]
fn reading_stops_where_a_record_is_torn() {
    let folder = Folder::new("torn");
    let mut journal = folder.journal();
    let mut ends = vec![0];
    for op in &told() {
        journal.put(op).expect("is written");
        ends.push(journal.turns[0].bytes as usize);
    }
    let [path, _] = paths(&folder.sign());
    let whole = fs::read(&path).expect("is read");
    for at in 0..whole.len() {
        let before = ends.iter().filter(|end| **end <= at).count() as u64 - 1;
        let expect: Vec<u64> = (1..=before).collect();
        fs::write(&path, &whole[..at]).expect("is written");
        assert_eq!(folder.numbers(), expect, "cut off at {at}");
        let mut other = whole.clone();
        other[at] ^= 0x10;
        fs::write(&path, &other).expect("is written");
        assert_eq!(folder.numbers(), expect, "another byte at {at}");
    }
}

#[test]
fn files_take_turns_once_what_they_have_is_elsewhere() {
    let folder = Folder::new("turns");
    let mut journal = folder.journal();
    let large = Content { id: String::new(), at_ms: 0, bytes: vec![7; 1 << 20] };
    let large = Op::Content(Box::new(large));
    let put = |journal: &mut Journal, count: u64| {
        for _ in 0..count {
            journal.put(&large).expect("is written");
        }
    };
    put(&mut journal, 3);
    assert!(!journal.may_turn(3), "it is short still");
    put(&mut journal, 1);
    assert!(journal.may_turn(0), "the other file never had anything");
    journal.turn();
    put(&mut journal, 4);
    assert_eq!(folder.numbers(), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert!(!journal.may_turn(3) && journal.may_turn(4), "number 4 is in the other file");
    journal.turn();
    put(&mut journal, 1);
    assert_eq!(folder.numbers(), [5, 6, 7, 8, 9]);
    // A record is missing between the two.
    fs::write(&paths(&folder.sign())[0], b"").expect("is written");
    put(&mut journal, 1);
    assert_eq!(folder.numbers(), [5, 6, 7, 8], "9 is missing, so 10 is not told");
}

/// A disk without room keeps nothing, and says so each time.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_refuses() {
    let folder = Folder::new("full");
    let full = |_: &Path| Ok(File::options().append(true).open("/dev/full").expect("is there"));
    let mut journal = Journal::new(&folder.sign(), full).expect("is made");
    for _ in 0..2 {
        assert!(journal.put(&told()[1]).is_err());
    }
    assert_eq!(journal.seq, 0, "it has no number");
}

proptest! {
    /// Whatever bytes are there: no panic, and nothing that was not written as a whole.
    #[test]
    fn foreign_bytes_are_no_records(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(read_record(&mut bytes.as_slice()), None);
        drop(Record { seq: 1, fields: bytes }.op());
    }
}
