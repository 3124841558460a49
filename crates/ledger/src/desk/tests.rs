//! Calls that are taken down, and what becomes of them where the tables cannot be written.

use std::path::PathBuf;

use ingle_protocol::{Cost, End, Entry};

use crate::{By, Durability, Error, Ledger, Options, Place, Reader, Verdict};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("ingle-ledger-desk-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }

    fn place(&self) -> Place {
        Place::within(&self.0)
    }

    fn other(&self) -> rusqlite::Connection {
        let Place::File(path) = self.place() else { unreachable!() };
        rusqlite::Connection::open(path).expect("opens")
    }

    /// The ends of calls by id, in their order.
    fn ends(&self) -> Vec<(String, End)> {
        let mut reader = Reader::open(&self.place(), &options()).expect("opens");
        assert!(matches!(reader.verify(None), Ok(Verdict::Whole(_))), "nobody changed it");
        let entries = reader.entries(0, u64::MAX).map(|it| it.expect("is read").entry);
        entries.map(|it| (it.id, it.end)).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn options() -> Options {
    Options { durability: Durability::Process, ..Options::default() }
}

fn open(place: &Place) -> Ledger {
    Ledger::open(place, &options()).expect("opens")
}

fn entry(id: &str) -> Entry {
    Entry { id: id.into(), at_ms: 1000, end: End::Stop, ..Entry::default() }
}

#[test]
fn who_reads_finds_what_was_kept_at_once() {
    let folder = Folder::new("read");
    let ledger = open(&folder.place());
    for id in ["a", "b", "c"] {
        ledger.begin(&entry(id), &[]).expect("is taken").wait().expect("is kept");
        ledger.end(&entry(id)).expect("is taken").wait().expect("is kept");
        assert_eq!(folder.ends().last(), Some(&(id.to_owned(), End::Stop)));
    }
    ledger.begin(&entry("d"), &[]).expect("is taken").wait().expect("is kept");
    let announced = Reader::open(&folder.place(), &options()).and_then(|mut it| it.announced());
    assert_eq!(announced.expect("is read").len(), 1, "nothing is there of those that ended");
}

#[test]
fn a_call_is_announced_once_and_ended_once() {
    let folder = Folder::new("once");
    let ledger = open(&folder.place());
    let begin = || ledger.begin(&entry("a"), &[]).map(drop);
    let end = || ledger.end(&entry("a")).map(drop);
    assert!(matches!(end(), Err(Error::Closed { .. })));
    assert_eq!(begin(), Ok(()));
    assert!(matches!(begin(), Err(Error::Twice { .. })));
    assert_eq!(end(), Ok(()));
    assert!(matches!(end(), Err(Error::Closed { .. })));
    drop(ledger);
    assert_eq!(folder.ends().len(), 1);
    let left = std::fs::read_dir(folder.0.join("ledger.sqlite.live")).expect("is there");
    assert_eq!(left.count(), 0, "who ends leaves no journal, and no sign");
}

/// Tables that cannot be written refuse what leaves; what was kept before is kept.
#[test]
fn what_was_taken_down_comes_in_when_it_can() {
    let folder = Folder::new("later");
    let ledger = open(&folder.place());
    let other = folder.other();
    other.execute_batch("ALTER TABLE ledger_entries RENAME TO elsewhere").expect("is SQL");
    ledger.note(&entry("a")).expect("is taken").wait().expect("is kept");
    while ledger.healthy().is_ok() {
        std::thread::yield_now();
    }
    assert!(ledger.begin(&entry("b"), &[]).is_err() && ledger.note(&entry("c")).is_err());
    other.execute_batch("ALTER TABLE elsewhere RENAME TO ledger_entries").expect("is SQL");
    while ledger.healthy().is_err() {
        std::thread::yield_now();
    }
    ledger.begin(&entry("d"), &[]).expect("is taken").wait().expect("is kept");
    ledger.end(&entry("d")).expect("is taken").wait().expect("is kept");
    assert_eq!(ledger.missed().calls, 1, "that of c");
    drop(ledger);
    let ends: Vec<String> = folder.ends().into_iter().map(|it| it.0).collect();
    assert_eq!(ends, ["a", "d"]);
    let mut reader = Reader::open(&folder.place(), &options()).expect("opens");
    assert_eq!(reader.spend(By::All, 0, u64::MAX).expect("is read")[0].calls, 2);
}

/// Who dies before the tables have what it took down leaves it to the next, reader or not; and it
/// comes in once.
#[test]
fn what_the_dead_took_down_comes_in_once() {
    for by_reader in [true, false] {
        let folder = Folder::new(if by_reader { "reader" } else { "writer" });
        let ledger = open(&folder.place());
        let held = folder.other();
        held.execute_batch("BEGIN IMMEDIATE").expect("is SQL");
        ledger.begin(&entry("a"), &[]).expect("is taken").wait().expect("is kept");
        ledger.begin(&entry("b"), &[]).expect("is taken").wait().expect("is kept");
        ledger.end(&entry("a")).expect("is taken").wait().expect("is kept");
        ledger.note(&entry("c")).expect("is taken").wait().expect("is kept");
        held.execute_batch("ALTER TABLE ledger_chain RENAME TO elsewhere; COMMIT").expect("is SQL");
        drop(ledger);
        held.execute_batch("ALTER TABLE elsewhere RENAME TO ledger_chain").expect("is SQL");
        let kept = [("a".to_owned(), End::Stop), ("c".to_owned(), End::Stop)];
        if by_reader {
            assert_eq!(folder.ends(), kept);
        }
        let ledger = open(&folder.place());
        assert_eq!(ledger.recovered().calls, 1, "that of b");
        drop(ledger);
        let lost = ("b".to_owned(), End::Lost);
        assert_eq!(folder.ends(), [&kept[..], &[lost]].concat());
        drop(open(&folder.place()));
        assert_eq!(folder.ends().len(), 3);
    }
}

/// Wherever the announcements of a call lie when its process dies, the last one is what it lost.
#[test]
fn what_the_dead_announced_last_is_lost() {
    let worst = |micros: u64| {
        let cost = Cost { micros: Some(micros), ..Cost::default() };
        Entry { cost, ..entry("a") }
    };
    for brought_in in [true, false] {
        let folder = Folder::new(if brought_in { "amended" } else { "taken" });
        let ledger = open(&folder.place());
        let amend = |micros: u64| ledger.amend(&worst(micros), &[]).map(drop);
        assert!(matches!(amend(1), Err(Error::Closed { .. })), "it was never announced");
        ledger.begin(&worst(500), &[]).expect("is taken").wait().expect("is kept");
        if brought_in {
            drop(ledger.reader().expect("opens"));
        }
        let held = folder.other();
        held.execute_batch("BEGIN IMMEDIATE").expect("is SQL");
        assert_eq!((amend(700), amend(40)), (Ok(()), Ok(())));
        // What ended is not announced any more.
        ledger.begin(&entry("b"), &[]).expect("is taken").wait().expect("is kept");
        ledger.amend(&entry("b"), &[]).expect("is taken").wait().expect("is kept");
        ledger.end(&entry("b")).expect("is taken").wait().expect("is kept");
        assert!(matches!(ledger.amend(&entry("b"), &[]), Err(Error::Closed { .. })));
        held.execute_batch("ALTER TABLE ledger_chain RENAME TO elsewhere; COMMIT").expect("is SQL");
        drop(ledger);
        held.execute_batch("ALTER TABLE elsewhere RENAME TO ledger_chain").expect("is SQL");
        let ledger = open(&folder.place());
        let recovered = ledger.recovered();
        assert_eq!((recovered.calls, recovered.micros), (1, 40), "{brought_in}");
        drop(ledger);
        let ends = [("b".to_owned(), End::Stop), ("a".to_owned(), End::Lost)];
        assert_eq!(folder.ends(), ends);
    }
}
