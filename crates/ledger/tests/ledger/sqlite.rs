//! What holds of a ledger in a file alone.

use std::time::{Duration, SystemTime};

use ingle_ledger::{Durability, Error, Ledger, Options, Place, Reader};

use crate::promises::PROMISES;
use crate::support::{DAY, Folder, all, entry, is_whole, open};

#[test]
fn a_file_keeps_all_promises() {
    for (name, promise) in PROMISES {
        println!("{name}");
        promise(&Folder::new(name).place());
    }
}

#[test]
fn a_file_is_its_users_alone() {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let folder = Folder::new("private");
        let ledger = open(&folder.place());
        ledger.note(&entry("a", 1)).expect("is sent").wait().expect("is written");
        let files = std::fs::read_dir(folder.path()).expect("is listed");
        for file in files.map(|file| file.expect("is listed")) {
            let mode = file.metadata().expect("is known").permissions().mode();
            assert_eq!(mode & 0o077, 0, "{file:?}");
        }
    }
}

#[test]
fn other_files_are_left_alone() {
    let folder = Folder::new("foreign");
    let check = |name: &str, make: &dyn Fn(&std::path::Path), expect: fn(&Error) -> bool| {
        let path = folder.path().join(name);
        make(&path);
        let before = std::fs::read(&path).expect("is read");
        for error in [
            Ledger::open(&Place::File(path.clone()), &Options::default()).map(drop),
            Reader::open(&Place::File(path.clone()), &Options::default()).map(drop),
        ] {
            let error = error.expect_err("is no ledger");
            assert!(expect(&error) && error.to_string().contains(name), "{name}: {error:?}");
        }
        assert_eq!(std::fs::read(&path).expect("is read"), before);
    };
    let sql = |sql: &'static str| {
        move |path: &std::path::Path| {
            let connection = rusqlite::Connection::open(path).expect("opens");
            connection.execute_batch(sql).expect("is SQL");
        }
    };
    let text =
        |path: &std::path::Path| std::fs::write(path, "a text\n".repeat(99)).expect("writes");
    check("text", &text, |error| matches!(error, Error::Damaged { .. }));
    check("other", &sql("CREATE TABLE a (b)"), |error| matches!(error, Error::Foreign { .. }));
    let newer =
        sql("CREATE TABLE a (b); PRAGMA application_id = 1281713255; PRAGMA user_version = 9");
    check("newer", &newer, |error| matches!(error, Error::Newer { .. }));
}

/// A full ledger says so on every ticket, lets no call begin, loses nothing that it acknowledged,
/// and goes on when there is room.
#[test]
fn a_full_ledger_refuses_and_goes_on() {
    let folder = Folder::new("full");
    let options = Options { file_bytes: Some(512 << 10), ..Options::default() };
    let ledger = Ledger::open(&folder.place(), &options).expect("opens");
    let mut kept = 0;
    let full = loop {
        let mut entry = entry(format!("{kept}"), 1);
        entry.at_ms = DAY + kept;
        match ledger.note(&entry).expect("is sent").wait() {
            Ok(()) => kept += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, Error::Full { .. }) && kept > 100, "{full} after {kept}");
    let begun = ledger.begin(&entry("x", 1), &[]).and_then(ingle_ledger::Ticket::wait);
    assert_eq!(begun, Err(full.clone()));
    assert_eq!(all(&folder.place()).len() as u64, kept);
    assert!(is_whole(&folder.place()));
    ledger.prune(DAY + kept / 2, 1).expect("what is removed makes room");
    // It is tried again after a while, or by whoever writes.
    let noted = ledger.note(&entry("y", 1)).expect("is sent").wait();
    assert_eq!(noted, Ok(()));
    assert_eq!(ledger.healthy(), Ok(()));
    ledger.begin(&entry("z", 1), &[]).expect("is sent").wait().expect("is announced");
    assert!(is_whole(&folder.place()));
}

#[test]
fn a_ledger_that_could_not_be_written_is_tried_again() {
    let folder = Folder::new("again");
    let ledger = open(&folder.place());
    let Place::File(path) = folder.place() else { unreachable!() };
    let other = rusqlite::Connection::open(&path).expect("opens");
    other.execute_batch("ALTER TABLE ledger_entries RENAME TO elsewhere").expect("is SQL");
    let failed = ledger.note(&entry("a", 1)).expect("is sent").wait();
    assert!(failed.is_err());
    other.execute_batch("ALTER TABLE elsewhere RENAME TO ledger_entries").expect("is SQL");
    for _ in 0..200 {
        if ledger.healthy().is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(ledger.healthy(), Ok(()), "nobody wrote, and it was tried");
    ledger.note(&entry("b", 1)).expect("is sent").wait().expect("is written");
    assert!(is_whole(&folder.place()));
}

#[test]
fn either_durability_is_a_chain() {
    for durability in [Durability::Power, Durability::Process] {
        let folder = Folder::new("durability");
        let options = Options { durability, ..Options::default() };
        let ledger = Ledger::open(&folder.place(), &options).expect("opens");
        for round in 0..5 {
            let note = |n| ledger.note(&entry(format!("{round}-{n}"), 1)).expect("is sent");
            let tickets: Vec<_> = (0..1000).map(note).collect();
            assert!(tickets.into_iter().all(|ticket| ticket.wait().is_ok()));
        }
        drop(ledger);
        assert_eq!(all(&folder.place()).len(), 5000);
        assert!(is_whole(&folder.place()));
    }
}

/// Signs of life of those who were killed do not gather.
#[test]
fn old_signs_of_the_dead_are_removed() {
    let folder = Folder::new("signs");
    drop(open(&folder.place()));
    let signs = folder.path().join("ledger.sqlite.live");
    for (name, hours) in [("new", 0), ("old", 2)] {
        let file = std::fs::File::create(signs.join(name));
        let given = SystemTime::now() - Duration::from_secs(hours * 3600);
        file.and_then(|file| file.set_modified(given)).expect("is written");
    }
    let living = open(&folder.place());
    let names = || std::fs::read_dir(&signs).expect("is listed").count();
    assert!(signs.join("new").exists() && !signs.join("old").exists());
    assert_eq!(names(), 2, "that of the living, and one that may be just given");
    drop(living);
    assert_eq!(names(), 1);
}

/// What is brought out of the log while rows come is in the file, once, and the rows go on.
#[test]
fn rows_come_while_the_log_goes_into_the_file() {
    let folder = Folder::new("log");
    let place = folder.place();
    let options = Options { durability: Durability::Process, ..Options::default() };
    let ledger = Ledger::open(&place, &options).expect("opens");
    // Each takes about five pages: enough for several passes.
    for n in 0..6000_u64 {
        let entry = entry(format!("{n}"), 1);
        ledger.begin(&entry, &[]).expect("is sent").wait().expect("is announced");
        ledger.end(&entry).expect("is sent").wait().expect("is ended");
        if n % 1000 == 0 {
            assert!(is_whole(&place));
        }
    }
    assert_eq!(all(&place).len(), 6000);
    assert!(is_whole(&place));
    drop(ledger);
    let log = folder.path().join("ledger.sqlite-wal");
    assert!(!log.exists(), "who goes last leaves a file alone");
    assert_eq!(all(&place).len(), 6000);
}

/// What nobody waited for is written when the ledger is dropped.
#[test]
fn dropping_it_writes_what_is_on_its_way() {
    let folder = Folder::new("drop");
    let ledger = open(&folder.place());
    for n in 0..2000 {
        drop(ledger.note(&entry(format!("{n}"), 1)).expect("is sent"));
    }
    drop(ledger);
    assert_eq!(all(&folder.place()).len(), 2000);
}
