//! One SQLite file, opened with care: private to its user, checked for being ours and whole,
//! brought to the newest schema, and written so that a commit is on the disk when it returns
//! (write-ahead log, `synchronous = FULL`).

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::{Error, Result, disk, files, lease, schema, serving};

/// The database's name in its folder.
const NAME: &str = "records.sqlite";

/// Another process's transaction is waited for as long.
const PATIENCE: Duration = Duration::from_secs(10);

/// A file up to this size is read through when it is opened, to find damage before it matters.
const CHECKED_BYTES: u64 = 64 << 20;

/// The records of one folder. Several processes may have the same folder open.
#[derive(Debug)]
pub struct Records {
    folder: PathBuf,
    connection: Mutex<Connection>,
}

impl Records {
    /// Opens the records in a folder; makes both where they are not there.
    ///
    /// # Errors
    /// Where the file is damaged, another program's or a newer Ingle's, or the folder cannot be
    /// written to.
    pub fn open(folder: &Path) -> Result<Self> {
        disk::make_folder(folder)?;
        let path = folder.join(NAME);
        let size_bytes = make_private(&path)?;
        let failed = |error| Error::of(path.clone(), error);
        let mut connection = Connection::open(&path).map_err(failed)?;
        check(&path, &connection, size_bytes)?;
        prepare(&mut connection).map_err(failed)?;
        Ok(Self { folder: folder.to_owned(), connection: Mutex::new(connection) })
    }

    /// Removes the records in a folder, and the folder if nothing else is in it. Nobody may have
    /// them open.
    ///
    /// # Errors
    /// Where something of them cannot be removed.
    pub fn remove(folder: &Path) -> Result<()> {
        for inner in [files::FOLDER, serving::FOLDER].map(|name| folder.join(name)) {
            if inner.is_dir() {
                fs::remove_dir_all(&inner).map_err(|error| Error::io(inner, error))?;
            }
        }
        let others = ["-wal", "-shm", ""].map(|end| format!("{NAME}{end}"));
        for name in others.iter().map(String::as_str).chain([lease::NAME]) {
            disk::remove(&folder.join(name))?;
        }
        // Something of another's is in it, then.
        let _ = fs::remove_dir(folder);
        Ok(())
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The database's file.
    pub fn path(&self) -> PathBuf {
        self.folder.join(NAME)
    }

    /// Reads.
    pub(crate) fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        work(&self.lock()).map_err(|error| Error::of(self.path(), error))
    }

    /// Reads and writes in one transaction: all of it is on the disk when this returns, or none.
    pub(crate) fn write<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let mut connection = self.lock();
        let outcome = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .and_then(|change| {
                let value = work(&change)?;
                change.commit()?;
                Ok(value)
            });
        outcome.map_err(|error| Error::of(self.path(), error))
    }

    /// A thread that panicked has rolled its transaction back.
    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sees that the file is there and that only its user can read it, before anything is in it. SQLite
/// gives its other files the same mode. Returns its size.
fn make_private(path: &Path) -> Result<u64> {
    let failed = |error| Error::io(path, error);
    let file = disk::open_private(path, OpenOptions::new().create(true).append(true))?;
    let known = file.metadata().map_err(failed)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        if known.permissions().mode() & 0o077 != 0 {
            file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(failed)?;
        }
    }
    Ok(known.len())
}

/// Whether the file is ours, whole, and of a version that is known.
fn check(path: &Path, connection: &Connection, size_bytes: u64) -> Result<()> {
    let failed = |error| Error::of(path.to_owned(), error);
    connection.busy_timeout(PATIENCE).map_err(failed)?;
    let owner: u32 =
        connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(failed)?;
    let tables: bool = connection
        .query_row("SELECT EXISTS (SELECT 1 FROM sqlite_schema)", (), |row| row.get(0))
        .map_err(failed)?;
    if owner != schema::APPLICATION_ID && (owner != 0 || tables) {
        return Err(Error::Foreign { path: path.to_owned() });
    }
    let (found, known) = (schema::version(connection).map_err(failed)?, schema::STEPS.len() as u32);
    if found > known {
        return Err(Error::Newer { path: path.to_owned(), found, known });
    }
    if size_bytes <= CHECKED_BYTES {
        let said: String =
            connection.query_row("PRAGMA quick_check(1)", (), |row| row.get(0)).map_err(failed)?;
        if said != "ok" {
            return Err(Error::Damaged { path: path.to_owned(), what: said });
        }
    }
    Ok(())
}

fn prepare(connection: &mut Connection) -> rusqlite::Result<()> {
    // Answers with the mode that it is in: a file system without shared memory keeps the old one,
    // which is as durable.
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // What is deleted is overwritten: it may have been a conversation.
    connection.pragma_update(None, "secure_delete", true)?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.pragma_update(None, "application_id", schema::APPLICATION_ID)?;
    schema::migrate(connection, schema::STEPS)
}

#[cfg(test)]
mod tests;
