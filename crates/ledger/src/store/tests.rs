//! What becomes of a group when the connection breaks at any of its steps.

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
    breaks: Vec<Breaks>,
}

impl Breaking {
    fn now(&mut self, at: Breaks) -> bool {
        let breaks = self.breaks.first() == Some(&at);
        if breaks {
            self.breaks.remove(0);
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

fn announced(id: &str) -> Op {
    Op::Begin(Box::new(Announce { row: row(id), reserved: Vec::new() }))
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
    let mut store = Store(Box::new(Breaking { inner, breaks: breaks.to_vec() }));
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
