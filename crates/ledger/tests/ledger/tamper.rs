//! That a change of anything in a ledger's file shows, and where: each row is SQL by somebody who
//! can write to the file, and what is found.

use ingle_ledger::{Anchor, Broken, Fault, Identities, Place, Verdict};
use rusqlite::Connection;

use crate::support::{Folder, entry, open, reader};

const ROWS: u64 = 6;

fn ledger(name: &str) -> (Folder, Connection) {
    let folder = Folder::new(name);
    let ledger = open(&folder.place());
    for n in 1..=ROWS {
        ledger.note(&entry(format!("{n}"), n)).expect("is sent").wait().expect("is written");
    }
    drop(ledger);
    let Place::File(path) = folder.place() else { unreachable!() };
    let connection = Connection::open(path).expect("opens");
    (folder, connection)
}

/// What is found after this SQL, without an anchor and with one from before.
fn after(sql: &str) -> (Verdict, Verdict) {
    let (folder, connection) = ledger("tamper");
    let anchor = reader(&folder.place()).anchor().expect("is read");
    connection.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let mut reader = reader(&folder.place());
    let verdict = reader.verify(None).expect("is read");
    (verdict, reader.verify(Some(anchor)).expect("is read"))
}

fn broken(seq: u64, fault: Fault) -> Verdict {
    Verdict::Broken(Broken { seq, fault })
}

#[test]
fn nothing_is_found_where_nothing_was_changed() {
    let (without, with) = after("");
    assert!(matches!(&without, Verdict::Whole(whole) if whole.rows == ROWS), "{without:?}");
    assert_eq!(without, with);
}

#[test]
fn every_column_is_held() {
    let (_folder, connection) = ledger("columns");
    let mut columns = connection.prepare("PRAGMA table_info(ledger_entries)").expect("is SQL");
    let columns = columns.query_map((), |row| Ok((row.get(1)?, row.get(2)?))).expect("is read");
    let columns: Vec<(String, String)> = columns.map(|row| row.expect("is read")).collect();
    assert!(columns.len() > 20, "{columns:?}");
    for (name, kind) in columns.iter().filter(|column| column.0 != "seq") {
        let changes: &[&str] = match kind.as_str() {
            "INTEGER" => &["coalesce({}, 0) + 1", "-{} - 1"],
            "TEXT" => &["{} || ' '", "replace({}, 'a', 'b') || 'a'", "''"],
            "BLOB" => &["zeroblob(32)", "x''", "CAST({} || x'00' AS BLOB)", "substr({}, 2)"],
            other => panic!("no change is known for {other}"),
        };
        for change in changes {
            let value = change.replace("{}", name);
            let (verdict, _) =
                after(&format!("UPDATE ledger_entries SET {name} = {value} WHERE seq = 3"));
            let Verdict::Broken(Broken { seq: 3, fault }) = verdict else {
                panic!("{name} = {value} was not found: {verdict:?}");
            };
            let expect = match name.as_str() {
                "prev" | "hash" | "body" => fault == Fault::Changed,
                _ => matches!(fault, Fault::Column(column) if column == name),
            };
            assert!(expect, "{name} = {value}: {fault:?}");
        }
    }
    for null in ["cost_micros", "instead_micros"] {
        let (verdict, _) = after(&format!("UPDATE ledger_entries SET {null} = NULL WHERE seq = 3"));
        assert!(matches!(verdict, Verdict::Broken(Broken { seq: 3, .. })), "{null}");
    }
}

#[test]
fn what_is_removed_moved_or_put_in_is_found() {
    let check = |sql: &str, expect: Verdict| assert_eq!(after(sql).0, expect, "{sql}");
    check("DELETE FROM ledger_entries WHERE seq = 1", broken(1, Fault::Missing));
    check("DELETE FROM ledger_entries WHERE seq = 3", broken(3, Fault::Missing));
    check("DELETE FROM ledger_entries WHERE seq = 6", broken(6, Fault::Cut));
    check("DELETE FROM ledger_entries WHERE seq > 3", broken(4, Fault::Cut));
    check("DELETE FROM ledger_entries", broken(1, Fault::Cut));
    check("UPDATE ledger_entries SET seq = 99 WHERE seq = 3", broken(3, Fault::Missing));
    let swap = |one: u64, other: u64| {
        format!(
            "UPDATE ledger_entries SET seq = 99 WHERE seq = {one}; \
             UPDATE ledger_entries SET seq = {one} WHERE seq = {other}; \
             UPDATE ledger_entries SET seq = {other} WHERE seq = 99;"
        )
    };
    check(&swap(3, 4), broken(3, Fault::Moved));
    check(&swap(1, 6), broken(1, Fault::Moved));
    let copy = |of: u64, to: u64| {
        format!(
            "CREATE TEMP TABLE copied AS SELECT * FROM ledger_entries WHERE seq = {of}; \
             UPDATE copied SET seq = {to}; \
             INSERT OR REPLACE INTO ledger_entries SELECT * FROM copied;"
        )
    };
    check(&copy(2, 7), broken(7, Fault::Surplus));
    check(&format!("{} UPDATE ledger_chain SET count = 7", copy(2, 7)), broken(7, Fault::Moved));
    check(&format!("{} UPDATE ledger_chain SET count = 7", copy(6, 7)), broken(7, Fault::Moved));
    check(&copy(2, 4), broken(4, Fault::Moved));
    let up = "UPDATE ledger_entries SET seq = -seq WHERE seq >= 4; \
              UPDATE ledger_entries SET seq = 1 - seq WHERE seq < 0;";
    let put_in = format!("{up} {} UPDATE ledger_chain SET count = 7", copy(2, 4));
    check(&put_in, broken(4, Fault::Moved));
}

#[test]
fn the_ends_are_held() {
    let check = |sql: &str, expect: Verdict| assert_eq!(after(sql).0, expect, "{sql}");
    check("UPDATE ledger_chain SET head = zeroblob(32)", broken(6, Fault::Changed));
    check("UPDATE ledger_chain SET count = 5", broken(6, Fault::Surplus));
    check("UPDATE ledger_chain SET count = 7", broken(7, Fault::Cut));
    check("UPDATE ledger_chain SET base_count = 2", broken(3, Fault::Moved));
    let behead = "UPDATE ledger_chain SET base_count = 2, base_head = \
                  (SELECT hash FROM ledger_entries WHERE seq = 2); \
                  DELETE FROM ledger_entries WHERE seq <= 2";
    check(behead, broken(2, Fault::Beheaded));
}

#[test]
fn content_is_held_and_may_go() {
    let check = |sql: &str, expect: Option<Fault>| {
        let folder = Folder::new("content");
        let ledger = open(&folder.place());
        let keys = Identities::read("a key", &Identities::make()).expect("is a key");
        for id in ["a", "b"] {
            let sealed = keys.recipients().seal(id.as_bytes()).expect("is encrypted");
            drop(ledger.content(id, 1, sealed).expect("is sent"));
            ledger.note(&entry(id, 1)).expect("is sent").wait().expect("is written");
        }
        drop(ledger);
        let Place::File(path) = folder.place() else { unreachable!() };
        let connection = Connection::open(path).expect("opens");
        connection.execute_batch(sql).expect("is SQL");
        match (reader(&folder.place()).verify(None).expect("is read"), expect) {
            (Verdict::Whole(whole), None) => assert_eq!(whole.rows, 4, "{sql}"),
            (Verdict::Broken(found), Some(fault)) => assert_eq!(found.fault, fault, "{sql}"),
            other => panic!("{sql}: {other:?}"),
        }
    };
    check("", None);
    check("DELETE FROM ledger_content", None);
    check("UPDATE ledger_content SET content = x'00' WHERE seq = 1", Some(Fault::Content));
    let other = "UPDATE ledger_content SET content = \
                 (SELECT content FROM ledger_content WHERE seq = 1) WHERE seq = 3";
    check(other, Some(Fault::Content));
}

#[test]
fn an_anchor_shows_what_the_chain_alone_cannot() {
    let cut = "DELETE FROM ledger_entries WHERE seq > 4; UPDATE ledger_chain SET count = 4, \
               head = (SELECT hash FROM ledger_entries WHERE seq = 4)";
    let (without, with) = after(cut);
    assert!(matches!(without, Verdict::Whole(_)), "a shorter chain is one: {without:?}");
    assert_eq!(with, broken(5, Fault::Cut));

    let (folder, _connection) = ledger("anchor");
    let place = folder.place();
    let anchor = reader(&place).anchor().expect("is read");
    let other = Folder::new("rewritten");
    let rewritten = open(&other.place());
    for n in 1..=ROWS + 2 {
        // As it was, but that the fifth cost less.
        let cost = if n == 5 { 0 } else { n };
        let entry = entry(format!("{n}"), cost);
        rewritten.note(&entry).expect("is sent").wait().expect("is written");
    }
    let verdict = reader(&other.place()).verify(Some(anchor)).expect("is read");
    assert_eq!(verdict, broken(6, Fault::NotAnchored));
    let early = Anchor { count: 0, head: ingle_ledger::Hash::default() };
    assert!(matches!(reader(&place).verify(Some(early)), Ok(Verdict::Whole(_))));
    let wrong = Anchor { count: 0, head: anchor.head };
    assert_eq!(reader(&place).verify(Some(wrong)), Ok(broken(0, Fault::NotAnchored)));
}

#[test]
fn removal_in_order_is_told_apart() {
    let (folder, connection) = ledger("removal");
    open(&folder.place()).prune(u64::MAX, 5).expect("is written");
    let mut whole = reader(&folder.place());
    assert!(matches!(whole.verify(None), Ok(Verdict::Whole(_))));
    drop(whole);
    connection.execute_batch("UPDATE ledger_chain SET base_before_ms = 1").expect("is SQL");
    let verdict = reader(&folder.place()).verify(None).expect("is read");
    assert_eq!(verdict, broken(ROWS, Fault::Beheaded));
}
