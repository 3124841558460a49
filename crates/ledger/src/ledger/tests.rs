//! What becomes of calls while the ledger cannot be written: those that leave wait and are refused,
//! those that stay go on, and how many are missing is said in the chain.

use super::*;
use crate::{Verdict, Whole};

fn folder(name: &str) -> PathBuf {
    let path =
        std::env::temp_dir().join(format!("ingle-ledger-full-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    path
}

fn entry(id: u64) -> Entry {
    Entry { id: id.to_string(), at_ms: 1000 + id, ..Entry::default() }
}

fn whole(ledger: &Ledger) -> Whole {
    match ledger.reader().and_then(|mut reader| reader.verify(None)) {
        Ok(Verdict::Whole(whole)) => whole,
        other => panic!("nobody changed it: {other:?}"),
    }
}

/// Another process holds the file: nothing is written until it lets go.
#[test]
fn who_stays_never_waits_and_is_counted() {
    let folder = folder("behind");
    let place = Place::within(&folder);
    let ledger = Ledger::open(&place, &Options::default()).expect("opens");
    let Place::File(path) = &place else { unreachable!() };
    let other = rusqlite::Connection::open(path).expect("opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("is SQL");
    let (mut tickets, mut refused) = (Vec::new(), 0);
    for id in 0..5000 {
        match ledger.note(&entry(id)) {
            Ok(ticket) => tickets.push(ticket),
            Err(Error::Behind { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(refused >= 5000 - 2 * writer::QUEUE as u64, "the queue has a bound: {refused}");
    assert_eq!((ledger.missed().calls, ledger.missed().to_ms), (refused, 1000 + 4999));
    let begun = ledger.begin(&entry(9999), &[]).map(drop);
    assert!(matches!(begun, Err(Error::Behind { .. })), "what leaves is refused: {begun:?}");
    let offered = ledger.offer(Told::begin(&entry(9998), &[])).expect("it can be written");
    let back = offered.map(drop).expect_err("what is offered is given back");
    other.execute_batch("COMMIT").expect("is SQL");
    let kept = tickets.len() as u64;
    for ticket in tickets {
        ticket.wait().expect("was taken, and is kept");
    }
    ledger.tell(back).expect("there is room").wait().expect("is announced");
    // What is asked between groups is done after the row that says what is missing.
    ledger.recover().expect("is written");
    let found = whole(&ledger);
    assert_eq!(found.missed, ledger.missed());
    assert_eq!((found.rows, kept + refused), (kept + 1, 5000));
    let spend = ledger.reader().and_then(|mut it| it.spend(crate::By::All, 0, u64::MAX));
    assert_eq!(spend.expect("is read")[0].calls, kept, "that row is no call");
    drop(ledger);
    std::fs::remove_dir_all(&folder).expect("is removed");
}

/// A ledger without its table: what was noted meanwhile is missing, and said so when it is back.
#[test]
fn what_failed_is_counted_too() {
    let folder = folder("failed");
    let place = Place::within(&folder);
    let ledger = Ledger::open(&place, &Options::default()).expect("opens");
    let Place::File(path) = &place else { unreachable!() };
    let other = rusqlite::Connection::open(path).expect("opens");
    other.execute_batch("ALTER TABLE ledger_entries RENAME TO elsewhere").expect("is SQL");
    assert!(ledger.note(&entry(3)).expect("is taken").wait().is_err());
    assert!(ledger.note(&entry(1)).is_err(), "that it cannot be written is known");
    assert_eq!(ledger.missed(), Missed { calls: 2, from_ms: 1001, to_ms: 1003 });
    other.execute_batch("ALTER TABLE elsewhere RENAME TO ledger_entries").expect("is SQL");
    // The end writes it, if nothing did before.
    drop(ledger);
    let ledger = Ledger::open(&place, &Options::default()).expect("opens");
    let found = whole(&ledger);
    assert_eq!((found.rows, found.missed.calls, found.missed.from_ms), (1, 2, 1001));
    assert_eq!(ledger.missed().calls, 0, "of this process");
    drop(ledger);
    std::fs::remove_dir_all(&folder).expect("is removed");
}
