//! The write-ahead log is brought into the file by a thread of its own: what waits for a disk's
//! flush there is waited for by no call. While that thread works, rows go on into the log; only
//! where the log has become so long that it has to begin anew is everybody made to wait, for the
//! few rows that came meanwhile. Absent: what is written, and when the log itself is flushed, which
//! is the writer's business.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::fault;
use crate::{Error, Result};

/// The log is brought into the file whenever about this many pages of 4 KiB came.
const PASS_PAGES: u64 = 4096;
/// A log of this many pages begins anew. While nobody else reads an old moment it grows no longer
/// than that and what comes during one pass: 256 MiB and a little.
const MOST_PAGES: i64 = 65_536;
/// What is left of a log's file when it begins anew, where it had become longer.
const LEFT_BYTES: i64 = MOST_PAGES * 4096;
/// How long another's transaction, or somebody who reads, is waited for when the log is to begin
/// anew, with everybody else behind it.
const PATIENCE: Duration = Duration::from_millis(20);

/// Readies the connection that writes: it does nothing of this itself.
pub(super) fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_| Ok(()))?;
    connection.pragma_update_and_check(None, "journal_size_limit", LEFT_BYTES, |_| Ok(()))
}

/// Who keeps the log short, until it is dropped.
#[derive(Debug)]
pub(super) struct Keeper {
    nudges: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    turn: Arc<Mutex<()>>,
    pages: u64,
}

impl Keeper {
    /// Begins to keep the log of this ledger short. What was left in it is the first to go.
    pub(super) fn start(path: &Path, writer: &Connection) -> Result<Self> {
        let failed = |error| fault(path, &error);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        connection.busy_timeout(PATIENCE).map_err(failed)?;
        // As careful as the writer: at least the log is flushed before the file is touched, and
        // the file before the log begins anew.
        let careful: i64 =
            writer.pragma_query_value(None, "synchronous", |row| row.get(0)).map_err(failed)?;
        connection.pragma_update(None, "synchronous", careful).map_err(failed)?;
        let turn = Arc::<Mutex<()>>::default();
        let theirs = Arc::clone(&turn);
        let (nudges, nudged) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("ledger-log".into())
            .spawn(move || keep(&connection, &nudged, &theirs))
            .map_err(|error| Error::Other {
                place: path.display().to_string(),
                what: format!("a thread is needed: {error}"),
            })?;
        Ok(Self { nudges: Some(nudges), thread: Some(thread), turn, pages: PASS_PAGES })
    }

    /// Waits while the log begins anew. Who writes asks before each transaction.
    pub(super) fn wait(&self) {
        drop(self.turn.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Notes that the log has about so many pages more.
    pub(super) fn grown(&mut self, pages: u64) {
        self.pages += pages;
        if self.pages >= PASS_PAGES
            && let Some(nudges) = &self.nudges
        {
            // One that lies there already says the same.
            let _ = nudges.try_send(());
            self.pages = 0;
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.nudges = None;
        if let Some(thread) = self.thread.take() {
            // It panicked, then; who closes the file last does its work.
            let _ = thread.join();
        }
    }
}

fn keep(connection: &Connection, nudged: &Receiver<()>, turn: &Mutex<()>) {
    while nudged.recv().is_ok() {
        // What cannot be done now, as on a full disk, is tried again with the next rows: until
        // then they are safe in the log.
        let Ok((long, true)) = pass(connection, "PASSIVE") else { continue };
        if long < MOST_PAGES {
            continue;
        }
        // What came during that pass goes while nobody waits, too: little is left then.
        if let Ok((_, true)) = pass(connection, "PASSIVE") {
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = pass(connection, "RESTART");
        }
    }
}

/// Brings the log into the file; returns its pages, and whether all that were there came.
fn pass(connection: &Connection, how: &str) -> rusqlite::Result<(i64, bool)> {
    let sql = format!("PRAGMA wal_checkpoint({how})");
    connection.query_row(&sql, (), |row| {
        let (busy, long, done): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok((long, busy == 0 && long == done))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with a table, in write-ahead mode, of which the writer brings nothing in.
    fn file(name: &str) -> (std::path::PathBuf, Connection) {
        let folder =
            std::env::temp_dir().join(format!("ingle-ledger-log-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("can be made");
        let writer = Connection::open(folder.join("x.sqlite")).expect("opens");
        writer.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).expect("is set");
        prepare(&writer).expect("is set");
        writer.execute_batch("CREATE TABLE a (b); INSERT INTO a VALUES (1)").expect("is SQL");
        (folder, writer)
    }

    #[test]
    fn all_of_the_log_comes_unless_somebody_reads_an_old_moment() {
        let (folder, writer) = file("pass");
        let open = || Connection::open(folder.join("x.sqlite")).expect("opens");
        let (keeper, reader) = (open(), open());
        reader.execute_batch("BEGIN; SELECT * FROM a").expect("is SQL");
        writer.execute_batch("INSERT INTO a VALUES (2)").expect("is SQL");
        let (long, all) = pass(&keeper, "PASSIVE").expect("is done");
        assert!(long > 0 && !all, "the last row waits for who reads");
        reader.execute_batch("COMMIT").expect("is SQL");
        assert_eq!(pass(&keeper, "PASSIVE"), Ok((long, true)));
        assert_eq!(pass(&keeper, "RESTART"), Ok((long, true)));
        writer.execute_batch("INSERT INTO a VALUES (3)").expect("is SQL");
        assert_eq!(pass(&keeper, "PASSIVE"), Ok((1, true)), "the log began anew");
        drop((reader, keeper, writer));
        std::fs::remove_dir_all(&folder).expect("is removed");
    }

    #[test]
    fn enough_pages_are_a_nudge() {
        let (folder, writer) = file("nudge");
        let path = folder.join("x.sqlite");
        let mut keeper = Keeper::start(&path, &writer).expect("starts");
        keeper.wait();
        for _ in 0..100 {
            writer.execute_batch("INSERT INTO a VALUES (zeroblob(9999))").expect("is SQL");
        }
        keeper.grown(1);
        let size = || std::fs::metadata(&path).expect("is there").len();
        for _ in 0..200 {
            if size() > 900_000 {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(size() > 900_000, "nobody brought the log in");
        drop((keeper, writer));
        std::fs::remove_dir_all(&folder).expect("is removed");
    }
}
