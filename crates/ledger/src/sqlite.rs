//! A ledger in a SQLite file: private to its user, checked for being ours and whole, in write-ahead
//! mode. A process that writes shows that it lives by a lock on a file of its own, beside it.

mod left;

use std::fs::{self, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, ToSql, params_from_iter};

use crate::journal::Journal;
use crate::ledger::Durability;
use crate::row::Cell;
use crate::store::{Linked, NAMES, Sql};
use crate::{Error, Options, Result};
pub(crate) use left::Left;

/// Marks a file as a ledger: the bytes "Ledg".
const APPLICATION_ID: u32 = 0x4c65_6467;
/// The steps that made the tables; a file says how many of them it has seen. What a release has
/// carried is never changed.
const STEPS: &[&str] = &[
    include_str!("schema/sqlite.sql"),
    include_str!("schema/sqlite-2.sql"),
    include_str!("schema/sqlite-3.sql"),
];
/// Another process's transaction is waited for as long.
const PATIENCE: Duration = Duration::from_secs(10);
/// The log is brought into the file when a transaction leaves this many pages of 4 KiB in it, on
/// the writer's thread: calls go on meanwhile, into a journal, or wait for the disk anyway.
const LOG_PAGES: i64 = 4096;
/// What is left of a log's file when it begins anew, where it had become longer.
const LOG_BYTES: i64 = 4 * LOG_PAGES * 4096;
/// A sign of life without a lock is one that is just being given, unless it is as old as this.
const STRAY: Duration = Duration::from_secs(3600);
/// A file up to this size is read through when it is opened, to find damage before it matters.
const CHECKED_BYTES: u64 = 64 << 20;

/// A file that is written to, or one moment of it that is read.
#[derive(Debug)]
pub(crate) struct File {
    path: PathBuf,
    connection: Connection,
    insert: String,
    sign: Option<Sign>,
    /// Whether this process is told things by a journal.
    journaled: bool,
}

/// A sign of life, until it is dropped.
#[derive(Debug)]
struct Sign {
    name: String,
    path: PathBuf,
    _file: fs::File,
}

impl Drop for Sign {
    fn drop(&mut self) {
        // One that is left lies there unlocked, which says the same.
        let _ = fs::remove_file(&self.path);
    }
}

impl File {
    /// Opens a ledger to be written, and makes it where there is none.
    pub(crate) fn open(path: &Path, options: &Options) -> Result<Self> {
        let size_bytes = make_private(path)?;
        let failed = |error| fault(path, &error);
        let mut connection = Connection::open(path).map_err(failed)?;
        check(path, &connection, size_bytes)?;
        prepare(&mut connection, options).map_err(failed)?;
        let named = connection.query_row("SELECT lower(hex(randomblob(16)))", (), |row| row.get(0));
        let sign = Sign::give(path, named.map_err(failed)?)?;
        let journaled = options.durability == Durability::Process;
        let new = Self::new(path, connection);
        Ok(Self { sign: Some(sign), journaled, ..new })
    }

    /// Whether processes that died were told things that are not in its tables.
    pub(crate) fn is_left_behind(path: &Path) -> Result<bool> {
        left::of_the_dead(path).map(|left| !left.is_empty())
    }

    /// Opens a ledger to be read as it is now.
    pub(crate) fn snapshot(path: &Path) -> Result<Self> {
        let failed = |error| fault(path, &error);
        let size_bytes = match fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::Absent { place: path.display().to_string() });
            }
            known => known.map_err(|error| io(path, &error))?.len(),
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        check(path, &connection, size_bytes)?;
        if version(&connection).map_err(failed)? == 0 {
            return Err(Error::Absent { place: path.display().to_string() });
        }
        left::wait_for_the_living(path, &connection)?;
        let begin = "PRAGMA query_only = ON; BEGIN; SELECT 1 FROM ledger_chain;";
        connection.execute_batch(begin).map_err(failed)?;
        Ok(Self::new(path, connection))
    }

    fn new(path: &Path, connection: Connection) -> Self {
        let places: Vec<String> = (1..=NAMES.len()).map(|at| format!("?{at}")).collect();
        let (names, places) = (NAMES.join(", "), places.join(", "));
        let insert = format!("INSERT INTO ledger_entries ({names}) VALUES ({places})");
        let path = path.to_owned();
        Self { path, connection, insert, sign: None, journaled: false }
    }

    /// Runs a statement that has no parameters and tells nothing.
    fn say(&self, sql: &str) -> Result<()> {
        let run = || self.connection.prepare_cached(sql)?.execute(());
        run().map(drop).map_err(|error| fault(&self.path, &error))
    }
}

impl Sql for File {
    fn begin(&mut self) -> Result<()> {
        self.say("BEGIN IMMEDIATE")
    }

    fn commit(&mut self) -> Result<()> {
        self.say("COMMIT")
    }

    fn rollback(&mut self) {
        // An error may have rolled it back already.
        let _ = self.connection.execute_batch("ROLLBACK");
    }

    fn run(&mut self, sql: &str, cells: &[Cell]) -> Result<u64> {
        let run = || self.connection.prepare_cached(sql)?.execute(params_from_iter(cells));
        run().map(|rows| rows as u64).map_err(|error| fault(&self.path, &error))
    }

    fn rows(&mut self, sql: &str, cells: &[Cell]) -> Result<Vec<Vec<Cell>>> {
        let read = || {
            let mut statement = self.connection.prepare_cached(sql)?;
            let columns = statement.column_count();
            let mut rows = statement.query(params_from_iter(cells))?;
            let mut all = Vec::new();
            while let Some(row) = rows.next()? {
                let cells = (0..columns).map(|at| row.get_ref(at).map(cell));
                all.push(cells.collect::<rusqlite::Result<Vec<_>>>()?);
            }
            Ok(all)
        };
        read().map_err(|error| fault(&self.path, &error))
    }

    fn insert(&mut self, rows: &[Linked<'_>]) -> Result<()> {
        let insert = || {
            let mut statement = self.connection.prepare_cached(&self.insert)?;
            rows.iter()
                .try_for_each(|row| statement.execute(params_from_iter(row.cells())).map(drop))
        };
        insert().map_err(|error| fault(&self.path, &error))
    }

    fn hold(&self) -> &'static str {
        // Its transactions hold all of the file.
        ""
    }

    fn process(&self) -> &str {
        self.sign.as_ref().map_or("", |sign| &sign.name)
    }

    fn lives(&mut self, process: &str) -> Result<bool> {
        let path = sign_of(&self.path, process);
        let file = match fs::File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            file => file.map_err(|error| io(&path, &error))?,
        };
        match file.try_lock_shared() {
            // Its journal comes first.
            Ok(()) if left::has_journal(&path) => Ok(true),
            Ok(()) => {
                let _ = fs::remove_file(&path);
                Ok(false)
            }
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(io(&path, &error)),
        }
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn journal(&mut self) -> Result<Option<Journal>> {
        let Some(sign) = self.sign.as_ref().filter(|_| self.journaled) else { return Ok(None) };
        let journal = Journal::new(&sign.path, open_private)?;
        // A process may have died between its journal and the mark of that.
        let gone = |mark: &String| !left::has_journal(&sign_of(&self.path, mark));
        let clean = || -> rusqlite::Result<()> {
            let mut marks = self.connection.prepare("SELECT process FROM ledger_journals")?;
            let marks = marks.query_map((), |row| row.get::<_, String>(0))?;
            for mark in marks.collect::<rusqlite::Result<Vec<_>>>()?.iter().filter(|it| gone(it)) {
                let sql = "DELETE FROM ledger_journals WHERE process = ?1";
                self.connection.execute(sql, [mark])?;
            }
            Ok(())
        };
        clean().map_err(|error| fault(&self.path, &error))?;
        Ok(Some(journal))
    }

    fn left(&mut self) -> Result<Vec<Left>> {
        left::of_the_dead(&self.path)
    }

    fn sync(&mut self) -> Result<()> {
        // What was committed is in the log until that is brought into the file, flushed before.
        let mut log = self.path.clone().into_os_string();
        log.push("-wal");
        match fs::File::open(Path::new(&log)).and_then(|log| log.sync_data()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            outcome => outcome.map_err(|error| io(&self.path, &error)),
        }
    }
}

impl Sign {
    /// Gives a sign of life under a name that nobody else has.
    fn give(ledger: &Path, name: String) -> Result<Self> {
        let path = sign_of(ledger, &name);
        if let Some(folder) = path.parent() {
            make_folder(folder)?;
            sweep(folder);
        }
        let file = open_private(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { name, path, _file: file }),
            Err(TryLockError::WouldBlock) => Err(Error::Held { place: path.display().to_string() }),
            Err(TryLockError::Error(error)) => Err(io(&path, &error)),
        }
    }
}

/// Removes the signs of those who were killed. One without a lock may be one that is just being
/// given, unless it is old; one that cannot be removed is in nobody's way.
fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().filter_map(std::io::Result::ok) {
        let given = entry.metadata().and_then(|known| known.modified()).ok();
        let age = given.and_then(|at| SystemTime::now().duration_since(at).ok());
        let path = entry.path();
        let is_free = || fs::File::open(&path).is_ok_and(|file| file.try_lock_shared().is_ok());
        // Journals, and the signs of who has one, are for who brings those in.
        let is_bare = path.extension().is_none() && !left::has_journal(&path);
        if is_bare && age.is_some_and(|age| age >= STRAY) && is_free() {
            let _ = fs::remove_file(&path);
        }
    }
}

/// Where a process's sign of life is: in a folder beside the ledger. A name that stands in the
/// ledger is not believed to be one.
fn sign_of(ledger: &Path, name: &str) -> PathBuf {
    let mut folder = ledger.to_owned().into_os_string();
    folder.push(".live");
    let name: String = name.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
    PathBuf::from(folder).join(if name.is_empty() { "none".into() } else { name })
}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Int(int) => ValueRef::Integer(*int),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// A text that is no UTF-8 was written by others: it is read as bytes, which fit nowhere.
fn cell(value: ValueRef<'_>) -> Cell {
    match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(int) => Cell::Int(int),
        ValueRef::Real(real) => Cell::Text(real.to_string()),
        ValueRef::Blob(bytes) => Cell::Bytes(bytes.to_vec()),
        ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => text.into(),
            Err(_) => Cell::Bytes(bytes.to_vec()),
        },
    }
}

/// Sees that the file is there and that only its user can read it, before anything is in it. SQLite
/// gives its other files the same mode. Returns its size.
fn make_private(path: &Path) -> Result<u64> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder {
        make_folder(folder)?;
    }
    let file = open_private(path)?;
    let known = file.metadata().map_err(|error| io(path, &error))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        if known.permissions().mode() & 0o077 != 0 {
            let mode = fs::Permissions::from_mode(0o600);
            file.set_permissions(mode).map_err(|error| io(path, &error))?;
        }
    }
    Ok(known.len())
}

fn make_folder(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(|error| io(folder, &error))
}

fn open_private(path: &Path) -> Result<fs::File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|error| io(path, &error))
}

fn version(connection: &Connection) -> rusqlite::Result<u32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Whether the file is ours, whole, and of a version that is known.
fn check(path: &Path, connection: &Connection, size_bytes: u64) -> Result<()> {
    let failed = |error| fault(path, &error);
    let place = || path.display().to_string();
    connection.busy_timeout(PATIENCE).map_err(failed)?;
    let owner: u32 =
        connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(failed)?;
    let tables: bool = connection
        .query_row("SELECT EXISTS (SELECT 1 FROM sqlite_schema)", (), |row| row.get(0))
        .map_err(failed)?;
    if owner != APPLICATION_ID && (owner != 0 || tables) {
        return Err(Error::Foreign { place: place() });
    }
    let (found, known) = (version(connection).map_err(failed)?, STEPS.len() as u32);
    if found > known {
        return Err(Error::Newer { place: place(), found, known });
    }
    if size_bytes <= CHECKED_BYTES {
        let said: String =
            connection.query_row("PRAGMA quick_check(1)", (), |row| row.get(0)).map_err(failed)?;
        if said != "ok" {
            return Err(Error::Damaged { place: place(), what: said });
        }
    }
    Ok(())
}

fn prepare(connection: &mut Connection, options: &Options) -> rusqlite::Result<()> {
    // Answers with the mode that it is in: a file system without shared memory keeps the old one,
    // which is as durable.
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    let synchronous = match options.durability {
        Durability::Power => "FULL",
        Durability::Process => "NORMAL",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update_and_check(None, "wal_autocheckpoint", LOG_PAGES, |_| Ok(()))?;
    connection.pragma_update_and_check(None, "journal_size_limit", LOG_BYTES, |_| Ok(()))?;
    // What is removed is overwritten: it says who asked what of whom.
    connection.pragma_update_and_check(None, "secure_delete", true, |_| Ok(()))?;
    connection.set_prepared_statement_cache_capacity(32);
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    for (sql, at) in STEPS.iter().zip(0_u32..) {
        use rusqlite::TransactionBehavior::Immediate;
        let change = connection.transaction_with_behavior(Immediate)?;
        // Two processes may open it at once.
        if version(&change)? == at {
            change.execute_batch(sql)?;
            change.pragma_update(None, "user_version", at + 1)?;
            change.commit()?;
        }
    }
    if let Some(most) = options.file_bytes {
        let page: u32 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
        let pages = u32::try_from(most / u64::from(page.max(1))).unwrap_or(u32::MAX).max(1);
        connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
    }
    Ok(())
}

/// Sorts what SQLite says.
fn fault(path: &Path, error: &rusqlite::Error) -> Error {
    use rusqlite::ErrorCode::{
        DatabaseBusy, DatabaseCorrupt, DatabaseLocked, DiskFull, NotADatabase,
    };
    let (place, what) = (path.display().to_string(), error.to_string());
    match error.sqlite_error_code() {
        Some(DatabaseCorrupt | NotADatabase) => Error::Damaged { place, what },
        Some(DiskFull) => Error::Full { place },
        Some(DatabaseBusy | DatabaseLocked) => Error::Held { place },
        _ => Error::Other { place, what },
    }
}

/// Sorts what the system says.
fn io(path: &Path, error: &std::io::Error) -> Error {
    Error::disk(&path.display().to_string(), error)
}
