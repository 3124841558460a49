//! One SQLite file, opened with care: private to its user, ours, and of the form that is known.
//! What is in it can be made again, so nothing is migrated: another form is refused, with what to
//! do.

use std::fs::{self, OpenOptions};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::types::{FromSql, ToSql};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, Transaction, TransactionBehavior};

use crate::chunk::Chunk;
use crate::vectors::Quantised;
use crate::walk::{Found, Stamp};
use crate::{Error, Result};

/// The folder in a folder of documents that its index is in.
pub(crate) const FOLDER: &str = ".ingle";
/// The index in it.
const NAME: &str = "search.sqlite";
/// Marks a file as ours: the bytes "IngS".
const APPLICATION_ID: u32 = 0x496e_6753;
/// Counts the forms that the file has had.
const FORM: u32 = 1;
/// Another process's transaction is waited for as long.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a folder's index is, if not elsewhere.
pub(crate) fn usual(folder: &Path) -> PathBuf {
    folder.join(FOLDER).join(NAME)
}

/// An index's file.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) path: PathBuf,
    pub(crate) folder: PathBuf,
    pub(crate) connection: Connection,
}

/// A file as the index knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) id: i64,
    pub(crate) kind: String,
    pub(crate) stamp: Stamp,
    pub(crate) checked_ns: i64,
    pub(crate) sha256: Vec<u8>,
}

/// A passage and its vector.
pub(crate) type Passage = (Chunk, Quantised);

impl Store {
    /// Opens a folder's index; makes it where it is not there and `make` says so.
    pub(crate) fn open(folder: &Path, file: Option<&Path>, make: bool) -> Result<Self> {
        let folder = folder.canonicalize().map_err(|error| Error::io(folder, error))?;
        let path = file.map_or_else(|| usual(&folder), Path::to_owned);
        if make {
            make_private(&folder, &path)?;
        } else if !path.is_file() {
            return Err(Error::NotIndexed { path, folder });
        }
        let failed = |error| Error::sqlite(&path, error);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags).map_err(failed)?;
        let mut store = Self { path, folder, connection };
        let is_made = store.check()?;
        if make {
            store.prepare().map_err(|error| Error::sqlite(&store.path, error))?;
        } else if !is_made {
            return Err(Error::Empty { path: store.path, folder: store.folder });
        }
        store.is_of_the_folder(make)?;
        Ok(store)
    }

    /// Removes a folder's index. Nobody may have it open.
    pub(crate) fn remove(folder: &Path, file: Option<&Path>) -> Result<()> {
        let path = file.map_or_else(|| usual(folder), Path::to_owned);
        if !path.exists() {
            return Ok(());
        }
        // A file that was named may be anything. In its usual place it is ours, however damaged.
        if file.is_some() && !is_marked(&path).map_err(|error| Error::io(&path, error))? {
            return Err(Error::Foreign { path });
        }
        for end in ["-wal", "-shm", ""] {
            let mut name = path.clone().into_os_string();
            name.push(end);
            match fs::remove_file(&name) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io(name, error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Sees that the file is ours and of the form that is known; false where nothing is in it.
    fn check(&self) -> Result<bool> {
        let failed = |error| Error::sqlite(&self.path, error);
        let connection = &self.connection;
        connection.busy_timeout(PATIENCE).map_err(failed)?;
        let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, u32>(0));
        let owner = number("application_id").map_err(failed)?;
        let found = number("user_version").map_err(failed)?;
        let tables: bool = connection
            .query_row("SELECT EXISTS (SELECT 1 FROM sqlite_schema)", (), |row| row.get(0))
            .map_err(failed)?;
        let path = self.path.clone();
        if owner != APPLICATION_ID && (owner != 0 || tables) {
            return Err(Error::Foreign { path });
        }
        if tables && found != FORM {
            let folder = self.folder.clone();
            return Err(Error::OtherVersion { path, folder, found, known: FORM });
        }
        Ok(tables)
    }

    fn prepare(&mut self) -> rusqlite::Result<()> {
        let connection = &mut self.connection;
        // First, so that it stands in the file itself, whenever this ends.
        let owner: u32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
        if owner != APPLICATION_ID {
            connection.pragma_update(None, "application_id", APPLICATION_ID)?;
        }
        // Answers with the mode that it is in: a file system without shared memory keeps the old.
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        // What a power cut takes is indexed again.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.set_prepared_statement_cache_capacity(64);
        let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let made: u32 = change.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if made == 0 {
            change.execute_batch(include_str!("store/schema.sql"))?;
            change.pragma_update(None, "user_version", FORM)?;
        }
        change.commit()
    }

    /// Sees that it is this folder's: an index that lies elsewhere could be any folder's. One that
    /// lies in the folder may have been moved with it.
    fn is_of_the_folder(&self, make: bool) -> Result<()> {
        let here = self.folder.to_string_lossy().into_owned();
        let found: Option<String> = self.about("folder")?;
        let inside = self.path.starts_with(&self.folder);
        match found {
            Some(found) if found != here && !inside => {
                Err(Error::OtherFolder { path: self.path.clone(), found })
            }
            Some(found) if found == here => Ok(()),
            _ if make => self.set_about("folder", &here),
            _ => Ok(()),
        }
    }

    /// What the index says about itself.
    pub(crate) fn about<T: FromSql>(&self, name: &str) -> Result<Option<T>> {
        let sql = "SELECT value FROM about WHERE name = ?";
        let value = self.connection.query_row(sql, [name], |row| row.get(0)).optional();
        value.map_err(|error| Error::sqlite(&self.path, error))
    }

    /// Says something about the index.
    pub(crate) fn set_about(&self, name: &str, value: &dyn ToSql) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO about (name, value) VALUES (?, ?)";
        let done = self.connection.execute(sql, (name, value));
        done.map(drop).map_err(|error| Error::sqlite(&self.path, error))
    }

    /// Reads.
    pub(crate) fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        work(&self.connection).map_err(|error| Error::sqlite(&self.path, error))
    }

    /// Reads and writes in one transaction: all of it is there when this returns, or none.
    pub(crate) fn write<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let outcome = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .and_then(|change| {
                let value = work(&change)?;
                change.commit()?;
                Ok(value)
            });
        outcome.map_err(|error| Error::sqlite(&self.path, error))
    }
}

/// Whether a file says that it is a search index of ours, or nothing at all. A database's header
/// has its application's number at byte 68 (SQLite's documentation, "Database File Format").
fn is_marked(path: &Path) -> std::io::Result<bool> {
    let mut header = Vec::new();
    fs::File::open(path)?.take(72).read_to_end(&mut header)?;
    Ok(header.is_empty() || header.get(68..72) == Some(&APPLICATION_ID.to_be_bytes()))
}

/// Makes the file where it is not there, readable by its user alone, and the folder that it is in
/// by default, which says of itself that no version control is to keep it.
fn make_private(folder: &Path, path: &Path) -> Result<()> {
    let inner = folder.join(FOLDER);
    if path.starts_with(&inner) {
        fs::create_dir_all(&inner).map_err(|error| Error::io(&inner, error))?;
        let ignore = inner.join(".gitignore");
        if !ignore.exists() {
            fs::write(&ignore, "*\n").map_err(|error| Error::io(ignore, error))?;
        }
    }
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop).map_err(|error| Error::io(path, error))
}

/// All files that the index knows, by their paths.
pub(crate) fn documents(
    connection: &Connection,
) -> rusqlite::Result<std::collections::BTreeMap<String, Known>> {
    let sql = "SELECT path, id, kind, bytes, modified_ns, checked_ns, sha256 FROM documents";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map((), |row| {
        let stamp = Stamp { bytes: row.get(3)?, modified_ns: row.get(4)? };
        let (id, kind, checked_ns, sha256) = (row.get(1)?, row.get(2)?, row.get(5)?, row.get(6)?);
        Ok((row.get(0)?, Known { id, kind, stamp, checked_ns, sha256 }))
    })?;
    rows.collect()
}

/// The file was read again, and is the same.
pub(crate) fn touch(
    change: &Transaction<'_>,
    id: i64,
    stamp: &Stamp,
    checked_ns: i64,
) -> rusqlite::Result<()> {
    let sql = "UPDATE documents SET bytes = ?, modified_ns = ?, checked_ns = ? WHERE id = ?";
    let mut statement = change.prepare_cached(sql)?;
    statement.execute((stamp.bytes, stamp.modified_ns, checked_ns, id)).map(drop)
}

/// A count, which SQLite keeps with a sign.
pub(crate) fn count(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    row.get(at).map(|count: i64| count.max(0).cast_unsigned())
}

/// Takes a file out, with its passages, their vectors and words.
pub(crate) fn forget(change: &Transaction<'_>, path: &str) -> rusqlite::Result<()> {
    let mut statement = change.prepare_cached("DELETE FROM documents WHERE path = ?")?;
    statement.execute([path]).map(drop)
}

/// Puts a file in the place of what was known of it.
pub(crate) fn replace(
    change: &Transaction<'_>,
    found: &Found,
    checked_ns: i64,
    sha256: &[u8],
    passages: std::result::Result<&[Passage], &str>,
) -> rusqlite::Result<()> {
    forget(change, &found.path)?;
    let (stamp, kind) = (&found.stamp, found.kind.name());
    change
        .prepare_cached(
            "INSERT INTO documents (path, kind, bytes, modified_ns, checked_ns, sha256, skipped)
             VALUES (?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute((
            &found.path,
            kind,
            stamp.bytes,
            stamp.modified_ns,
            checked_ns,
            sha256,
            passages.err(),
        ))?;
    let document = change.last_insert_rowid();
    for (chunk, vector) in passages.unwrap_or_default() {
        put(change, document, &found.path, chunk, vector)?;
    }
    Ok(())
}

fn put(
    change: &Transaction<'_>,
    document: i64,
    path: &str,
    chunk: &Chunk,
    vector: &Quantised,
) -> rusqlite::Result<()> {
    let (start, stop) = (chunk.source.start as i64, chunk.source.end as i64);
    let (first, last) = (chunk.lines.0 as i64, chunk.lines.1 as i64);
    change
        .prepare_cached(
            "INSERT INTO chunks (document, heading, text, start, stop, first_line, last_line)
             VALUES (?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute((document, &chunk.heading, &chunk.text, start, stop, first, last))?;
    let id = change.last_insert_rowid();
    let codes: Vec<u8> = vector.codes.iter().map(|code| code.cast_unsigned()).collect();
    change
        .prepare_cached("INSERT INTO vectors (chunk, scale, codes) VALUES (?, ?, ?)")?
        .execute((id, f64::from(vector.scale), codes))?;
    change
        .prepare_cached("INSERT INTO words (rowid, path, heading, text) VALUES (?, ?, ?, ?)")?
        .execute((id, path, &chunk.heading, &chunk.text))?;
    Ok(())
}

/// The passages of a file with the same contents, read in the same way, if there is one.
pub(crate) fn twin(
    connection: &Connection,
    kind: &str,
    sha256: &[u8],
) -> rusqlite::Result<Option<Vec<Passage>>> {
    let sql = "SELECT id FROM documents WHERE sha256 = ? AND kind = ? AND skipped IS NULL LIMIT 1";
    let mut statement = connection.prepare_cached(sql)?;
    let Some(id) = statement.query_row((sha256, kind), |row| row.get::<_, i64>(0)).optional()?
    else {
        return Ok(None);
    };
    let mut statement = connection.prepare_cached(
        "SELECT heading, text, start, stop, first_line, last_line, scale, codes
         FROM chunks JOIN vectors ON vectors.chunk = chunks.id
         WHERE document = ? ORDER BY chunks.id",
    )?;
    let passages = statement.query_map([id], |row| {
        let count = |at| count(row, at).map(|count| count as usize);
        let chunk = Chunk {
            heading: row.get(0)?,
            text: row.get(1)?,
            source: count(2)?..count(3)?,
            lines: (count(4)?, count(5)?),
        };
        let codes: Vec<u8> = row.get(7)?;
        let codes = codes.into_iter().map(u8::cast_signed).collect();
        Ok((chunk, Quantised { scale: row.get::<_, f64>(6)? as f32, codes }))
    })?;
    passages.collect::<rusqlite::Result<Vec<Passage>>>().map(Some)
}
