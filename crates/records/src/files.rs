//! Files that clients upload and batches write: a row each, their contents in a folder beside the
//! database. Contents come first and go last, so that a row always has its contents; contents that
//! a crash left without a row are swept away later.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::disk::{self, Draft};
use crate::{Error, Listed, Page, Records, Result};

/// The folder of contents.
pub(crate) const FOLDER: &str = "files";

/// Contents without a row are somebody's upload under way, unless they are as old as this.
const STRAY: Duration = Duration::from_secs(24 * 3600);

/// What is known of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRecord {
    /// Its id: at most 64 letters, digits, `-` and `_`, and never given twice.
    pub id: String,
    /// Whose it is.
    pub owner: String,
    /// What it is for, in the words of the protocol that it came by.
    pub purpose: String,
    /// What its owner calls it.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Seconds since 1970 when it was made.
    pub created_s: u64,
    /// Seconds since 1970 when it will be deleted, if ever.
    pub expires_s: Option<u64>,
    /// Where it and all that it was made of came from, as its server writes it; `None` where nobody
    /// knows, and in lists, which leave it out.
    pub origin: Option<String>,
}

/// How much one owner may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileLimits {
    /// Files.
    pub count: u64,
    /// Bytes of all of them.
    pub bytes: u64,
}

/// What became of a wish to keep a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is on the disk.
    Yes,
    /// Its owner has as many files as are allowed.
    TooMany,
    /// Its owner's files would take more bytes than are allowed.
    TooLarge,
}

/// What became of a wish to delete a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// It is gone.
    Yes,
    /// The owner has no such file.
    Unknown,
    /// A batch that runs still reads it: this one.
    InUse(String),
}

/// A file on its way in; dropped before it is kept, it is gone.
#[derive(Debug)]
pub struct Upload {
    draft: Draft,
    id: String,
    bytes: u64,
}

impl Upload {
    /// Adds to the file's contents.
    ///
    /// # Errors
    /// Where the disk is full or fails.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.draft.write(bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// The id that it was begun with.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What was written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Records {
    /// Begins a file with an id that was never used.
    ///
    /// # Errors
    /// Where the folder cannot be written to.
    pub fn upload(&self, id: &str) -> Result<Upload> {
        let path = self.contents(id)?;
        disk::make_folder(&self.folder().join(FOLDER))?;
        Ok(Upload { draft: Draft::new(path)?, id: id.to_owned(), bytes: 0 })
    }

    /// Keeps a file that was uploaded, its id and size as they were there.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn keep(&self, upload: Upload, file: &FileRecord, limits: FileLimits) -> Result<Kept> {
        let file = FileRecord { id: upload.id, bytes: upload.bytes, ..file.clone() };
        let path = self.contents(&file.id)?;
        upload.draft.name()?;
        let kept = self.write(|change| {
            let room = room(change, &file, limits)?;
            if room == Kept::Yes {
                insert(change, &file)?;
            }
            Ok(room)
        });
        if !matches!(kept, Ok(Kept::Yes)) {
            disk::remove(&path)?;
        }
        kept
    }

    /// A file of this owner's.
    ///
    /// # Errors
    /// Where the records cannot be read.
    pub fn file(&self, owner: &str, id: &str) -> Result<Option<FileRecord>> {
        self.read(|connection| {
            let sql = format!("SELECT {COLUMNS}, origin FROM files WHERE owner = ?1 AND id = ?2");
            connection.prepare_cached(&sql)?.query_row((owner, id), record).optional()
        })
    }

    /// A page of this owner's files, of one purpose or of all. `None`: there is no file that the
    /// page could begin after.
    ///
    /// # Errors
    /// Where the records cannot be read.
    pub fn files(
        &self,
        owner: &str,
        purpose: Option<&str>,
        page: &Page<'_>,
    ) -> Result<Option<Listed<FileRecord>>> {
        self.read(|connection| {
            let Some(after) = page.after(connection, "files", owner)? else { return Ok(None) };
            let sql = format!(
                "SELECT {COLUMNS}, NULL FROM files WHERE owner = ?1 \
                 AND (?2 IS NULL OR purpose = ?2) AND {} LIMIT ?4",
                page.order()
            );
            let mut query = connection.prepare_cached(&sql)?;
            let rows = query.query_map(params![owner, purpose, after, page.fetched()], record)?;
            Ok(Some(page.listed(rows.collect::<rusqlite::Result<_>>()?)))
        })
    }

    /// Opens a file's contents; whose it is was asked before.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub fn open_file(&self, id: &str) -> Result<File> {
        let path = self.contents(id)?;
        File::open(&path).map_err(|error| Error::io(path, error))
    }

    /// Moves a file's contents out of the records, to a place on the same disk: for records that
    /// are gone soon. That it was done before is as good.
    ///
    /// # Errors
    /// Where they cannot be moved.
    pub fn move_contents(&self, id: &str, to: &Path) -> Result<()> {
        let path = self.contents(id)?;
        match fs::rename(&path, to) {
            Err(error) if error.kind() == ErrorKind::NotFound && to.exists() => Ok(()),
            Err(error) => Err(Error::io(to, error)),
            Ok(()) => disk::sync_folder(to),
        }
    }

    /// Deletes a file of this owner's, unless a batch that runs reads it.
    ///
    /// # Errors
    /// Where it cannot be deleted.
    pub fn delete_file(&self, owner: &str, id: &str) -> Result<Deleted> {
        let deleted = self.write(|change| {
            if let Some(batch) = reader(change, owner, id)? {
                return Ok(Deleted::InUse(batch));
            }
            let sql = "DELETE FROM files WHERE owner = ?1 AND id = ?2";
            let count = change.execute(sql, (owner, id))?;
            Ok(if count == 0 { Deleted::Unknown } else { Deleted::Yes })
        })?;
        if deleted == Deleted::Yes {
            disk::remove(&self.contents(id)?)?;
        }
        Ok(deleted)
    }

    /// Deletes the files whose time is over, and contents that a crash left without a row. Returns
    /// how many files went.
    ///
    /// # Errors
    /// Where they cannot be listed or deleted.
    pub fn sweep_files(&self, now_s: u64) -> Result<usize> {
        let due: Vec<(String, String)> = self.read(|connection| {
            let mut query =
                connection.prepare_cached("SELECT owner, id FROM files WHERE expires_s <= ?1")?;
            let rows = query.query_map([now_s as i64], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect()
        })?;
        let mut gone = 0;
        for (owner, id) in due {
            gone += usize::from(self.delete_file(&owner, &id)? == Deleted::Yes);
        }
        Ok(gone + self.sweep_strays()?)
    }

    fn sweep_strays(&self) -> Result<usize> {
        let folder = self.folder().join(FOLDER);
        let Ok(entries) = fs::read_dir(&folder) else { return Ok(0) };
        let now = SystemTime::now();
        let old = |entry: &fs::DirEntry| {
            let written = entry.metadata().and_then(|known| known.modified());
            written.is_ok_and(|at| now.duration_since(at).is_ok_and(|age| age >= STRAY))
        };
        let mut gone = 0;
        for entry in entries.filter_map(std::io::Result::ok).filter(old) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let known: bool = self.read(|connection| {
                let sql = "SELECT EXISTS (SELECT 1 FROM files WHERE id = ?1)";
                connection.prepare_cached(sql)?.query_row([&name], |row| row.get(0))
            })?;
            if !known {
                disk::remove(&entry.path())?;
                gone += 1;
            }
        }
        Ok(gone)
    }

    /// Where a file's contents are. No id leads out of the folder.
    pub(crate) fn contents(&self, id: &str) -> Result<PathBuf> {
        let sound = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        let path = self.folder().join(FOLDER).join(id);
        if (1..=64).contains(&id.len()) && id.bytes().all(sound) {
            return Ok(path);
        }
        Err(Error::io(path, std::io::Error::other("this is no id of a file")))
    }
}

/// All but the last one, which is where it came from, or nothing in lists: those are long.
const COLUMNS: &str = "id, owner, purpose, name, bytes, created_s, expires_s";

fn record(row: &Row<'_>) -> rusqlite::Result<FileRecord> {
    Ok(FileRecord {
        id: row.get(0)?,
        owner: row.get(1)?,
        purpose: row.get(2)?,
        name: row.get(3)?,
        bytes: row.get::<_, i64>(4)?.cast_unsigned(),
        created_s: row.get::<_, i64>(5)?.cast_unsigned(),
        expires_s: row.get::<_, Option<i64>>(6)?.map(i64::cast_unsigned),
        origin: row.get(7)?,
    })
}

/// Adds the row of a file whose contents are there.
pub(crate) fn insert(connection: &Connection, file: &FileRecord) -> rusqlite::Result<()> {
    let sql = "INSERT INTO files (id, owner, purpose, name, bytes, created_s, expires_s, \
               origin) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    connection.prepare_cached(sql)?.execute(params![
        file.id,
        file.owner,
        file.purpose,
        file.name,
        file.bytes.cast_signed(),
        file.created_s.cast_signed(),
        file.expires_s.map(u64::cast_signed),
        file.origin,
    ])?;
    Ok(())
}

/// Whether the file's owner may have it, too.
fn room(connection: &Connection, file: &FileRecord, limits: FileLimits) -> rusqlite::Result<Kept> {
    let sql = "SELECT count(*), coalesce(sum(bytes), 0) FROM files WHERE owner = ?1";
    let (count, bytes): (i64, i64) = connection
        .prepare_cached(sql)?
        .query_row([&file.owner], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(match (count.cast_unsigned(), bytes.cast_unsigned()) {
        (count, _) if count >= limits.count => Kept::TooMany,
        (_, bytes) if bytes.saturating_add(file.bytes) > limits.bytes => Kept::TooLarge,
        _ => Kept::Yes,
    })
}

/// The batch that still reads a file, if one does.
fn reader(connection: &Connection, owner: &str, file: &str) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT id FROM batches WHERE owner = ?1 AND input_file = ?2 \
               AND status IN ('validating', 'in_progress', 'finalizing', 'cancelling') LIMIT 1";
    connection.prepare_cached(sql)?.query_row((owner, file), |row| row.get(0)).optional()
}

#[cfg(test)]
mod tests;
