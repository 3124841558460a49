//! What becomes of a group when the connection breaks at any of its steps.

use std::sync::{Arc, Mutex};

use super::*;
use crate::sqlite::File;
use crate::{Options, Place, Reader, Verdict};

/// Where a connection breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Breaks {
    /// When it begins.
    Begin,
    /// When rows are put in.
    Insert,
    /// At the end, with all of it kept.
    Kept,
    /// At the end, with nothing of it kept.
    Undone,
}

/// A database that breaks, once for each row of the list, and is well then.
#[derive(Debug)]
struct Breaking {
    inner: File,
    breaks: Arc<Mutex<Vec<Breaks>>>,
}

impl Breaking {
    fn now(&mut self, at: Breaks) -> bool {
        let mut left = self.breaks.lock().expect("no panic");
        let breaks = left.first() == Some(&at);
        if breaks {
            left.remove(0);
        }
        breaks
    }
}

fn broken() -> Error {
    Error::Unreachable { place: "there".into(), what: "the connection broke".into() }
}

impl Sql for Breaking {
    fn begin(&mut self) -> Result<()> {
        if self.now(Breaks::Begin) { Err(broken()) } else { self.inner.begin() }
    }

    fn commit(&mut self) -> Result<()> {
        if self.now(Breaks::Kept) {
            return self.inner.commit().and(Err(broken()));
        }
        if self.now(Breaks::Undone) {
            self.inner.rollback();
            return Err(broken());
        }
        self.inner.commit()
    }

    fn rollback(&mut self) {
        self.inner.rollback();
    }

    fn run(&mut self, sql: &str, cells: &[Cell]) -> Result<u64> {
        self.inner.run(sql, cells)
    }

    fn rows(&mut self, sql: &str, cells: &[Cell]) -> Result<Vec<Vec<Cell>>> {
        self.inner.rows(sql, cells)
    }

    fn insert(&mut self, rows: &[Linked<'_>]) -> Result<()> {
        if self.now(Breaks::Insert) { Err(broken()) } else { self.inner.insert(rows) }
    }

    fn hold(&self) -> &'static str {
        self.inner.hold()
    }

    fn process(&self) -> &str {
        self.inner.process()
    }

    fn lives(&mut self, process: &str) -> Result<bool> {
        self.inner.lives(process)
    }

    fn place(&self) -> String {
        self.inner.place()
    }

    fn journal(&mut self) -> Result<Option<Journal>> {
        self.inner.journal()
    }

    fn left(&mut self) -> Result<Vec<Left>> {
        self.inner.left()
    }

    fn sync(&mut self) -> Result<()> {
        self.inner.sync()
    }
}

fn row(id: &str) -> Row {
    Row::of(&Entry { id: id.into(), ..Entry::default() })
}

fn announce(id: &str, tries: u32) -> Box<Announce> {
    let row = Row::of(&Entry { id: id.into(), tries, end: End::Lost, ..Entry::default() });
    Box::new(Announce { row, reserved: Vec::new() })
}

fn announced(id: &str) -> Op {
    Op::Begin(announce(id, 0))
}

/// What the ticket of a group's only row says, and whether it is in the ledger.
fn outcome(breaks: &[Breaks], op: &Op) -> (bool, bool) {
    let folder = std::env::temp_dir().join(format!("ingle-ledger-breaks-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    let place = Place::within(&folder);
    let Place::File(path) = &place else { unreachable!() };
    let opened = || File::open(path, &Options::default()).expect("opens");
    let inner = opened();
    let before = [announced("open"), Op::Note(Box::new(row("first")))];
    Store(Box::new(opened())).write(&before).expect("is written");
    let mut store =
        Store(Box::new(Breaking { inner, breaks: Arc::new(Mutex::new(breaks.to_vec())) }));
    let told = store.write(std::slice::from_ref(op)).map(|told| told[0].clone());
    let mut reader = Reader::open(&place, &Options::default()).expect("is read");
    assert!(matches!(reader.verify(None), Ok(Verdict::Whole(_))), "{breaks:?}");
    let entries = reader
        .entries(0, u64::MAX)
        .filter(|entry| entry.as_ref().is_ok_and(|stored| stored.entry.id == "x"));
    let entries = entries.count();
    let open = reader.announced().expect("is read");
    let open = open.iter().filter(|call| call.worst.id == "x").count();
    assert!(entries + open <= 1, "{breaks:?}: it is there twice");
    drop((reader, store));
    std::fs::remove_dir_all(&folder).expect("is removed");
    (matches!(told, Ok(Ok(()))), entries + open == 1)
}

#[test]
fn a_ticket_says_what_became_of_its_row() {
    use Breaks::{Begin, Insert, Kept, Undone};
    let check = |breaks: &[Breaks], expect: bool| {
        for op in [announced("x"), Op::Note(Box::new(row("x")))] {
            let has_rows = matches!(op, Op::Note(_));
            if has_rows || !breaks.contains(&Insert) {
                assert_eq!(outcome(breaks, &op), (expect, expect), "{breaks:?}, {op:?}");
            }
        }
    };
    check(&[], true);
    check(&[Begin], true);
    check(&[Insert], true);
    check(&[Kept], true);
    check(&[Undone], false);
    check(&[Begin, Kept], true);
    check(&[Begin, Begin], false);
    check(&[Insert, Undone], false);
}

/// What the ticket of a call that is announced anew says, and which of its announcements the
/// ledger has then: the first tells of no try, the second of one.
fn amended(breaks: &[Breaks]) -> (bool, u32) {
    let folder = std::env::temp_dir().join(format!("ingle-ledger-amended-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    let place = Place::within(&folder);
    let Place::File(path) = &place else { unreachable!() };
    let inner = File::open(path, &Options::default()).expect("opens");
    let later = Arc::<Mutex<Vec<Breaks>>>::default();
    let mut store = Store(Box::new(Breaking { inner, breaks: Arc::clone(&later) }));
    store.write(&[announced("x")]).expect("is written");
    later.lock().expect("no panic").extend(breaks);
    let told = store.write(&[Op::Amend(announce("x", 1))]).map(|told| told[0].clone());
    let mut reader = Reader::open(&place, &Options::default()).expect("is read");
    let open = reader.announced().expect("is read");
    assert_eq!(open.len(), 1, "{breaks:?}");
    drop((reader, store));
    std::fs::remove_dir_all(&folder).expect("is removed");
    (matches!(told, Ok(Ok(()))), open[0].worst.tries)
}

#[test]
fn a_ticket_says_which_announcement_stands() {
    use Breaks::{Begin, Kept, Undone};
    let check = |breaks: &[Breaks], expect: (bool, u32)| {
        assert_eq!(amended(breaks), expect, "{breaks:?}");
    };
    check(&[], (true, 1));
    check(&[Begin], (true, 1));
    check(&[Kept], (true, 1));
    check(&[Undone], (false, 0));
    check(&[Begin, Kept], (true, 1));
    check(&[Begin, Begin], (false, 0));
}

#[test]
fn a_group_announces_amends_and_ends() {
    let folder = std::env::temp_dir().join(format!("ingle-ledger-group-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    let place = Place::within(&folder);
    let Place::File(path) = &place else { unreachable!() };
    let mut store = Store(Box::new(File::open(path, &Options::default()).expect("opens")));
    let ops = [
        Op::Amend(announce("a", 9)),
        announced("a"),
        Op::Amend(announce("a", 1)),
        Op::End(Box::new(row("a"))),
        Op::Amend(announce("a", 2)),
        announced("b"),
        Op::Amend(announce("b", 3)),
    ];
    let told = store.write(&ops).expect("is written");
    let well: Vec<bool> = told.iter().map(Result::is_ok).collect();
    assert_eq!(well, [false, true, true, true, false, true, true]);
    let closed = |at: usize| matches!(told[at], Err(Error::Closed { .. }));
    assert!(closed(0) && closed(4), "{told:?}");
    let mut reader = Reader::open(&place, &Options::default()).expect("is read");
    let open = reader.announced().expect("is read");
    let open: Vec<_> = open.iter().map(|it| (it.worst.id.as_str(), it.worst.tries)).collect();
    assert_eq!(open, [("b", 3)]);
    assert!(matches!(reader.verify(None), Ok(Verdict::Whole(whole)) if whole.rows == 1));
    drop((reader, store));
    std::fs::remove_dir_all(&folder).expect("is removed");
}

#[test]
fn what_is_reserved_is_text_and_back() {
    let reserved =
        |budget: &str, micros, tokens| Reserved { budget: budget.into(), micros, tokens };
    let rows = [reserved("a b  c", 5, 0), reserved("", u64::MAX, 1), reserved("é\u{1f980}", 0, 0)];
    assert_eq!(read_reserved(write_reserved(&rows).text()), rows);
    let lines = write_reserved(&[reserved("a\n5 5 b", 1, 2)]);
    assert_eq!(read_reserved(lines.text()), [reserved("a 5 5 b", 1, 2)]);
    assert_eq!(read_reserved("x\n1\n-1 2 a\n1 2 a"), [reserved("a", 1, 2)]);
}
