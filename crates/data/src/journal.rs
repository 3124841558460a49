//! A file of rows that is made over as many lives of the process as it takes. Its rows are JSON
//! lines in a folder beside it, one for each row of the input, in order, so that how many there are
//! says where to go on; at the end they become the file, at once, and the folder goes.
//!
//! ```text
//! OUT.journal/task.json   what is done; without it there is no journal
//! OUT.journal/rows.jsonl  what was done so far
//! OUT.journal/lock        held as long as somebody works on it
//! OUT.journal/made        OUT, before it is in its place
//! ```
//!
//! A kill between any two steps loses nothing: the folder's task is written before its rows, and
//! taken away when the file stands in its place. Absent: what a power cut takes of the last rows,
//! which are done again where their lines are not whole.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::convert::convert;
use crate::{Error, Fields, Format};

const TASK: &str = "task.json";
const ROWS: &str = "rows.jsonl";
const LOCK: &str = "lock";
const MADE: &str = "made";
/// The most that is read of a task.
const TASK_BYTES: u64 = 1 << 20;

/// A file of rows that is being made.
#[derive(Debug)]
pub struct Journal {
    out: PathBuf,
    folder: PathBuf,
    file: File,
    rows: u64,
    bytes: Vec<u8>,
    /// Until this is dropped.
    _lock: File,
}

impl Journal {
    /// The journal of a file, begun or gone on with. `task` says what is done: to go on it must be
    /// the same.
    ///
    /// # Errors
    /// Where the file is there already, another process makes it, or what was begun is another
    /// task; with `overwrite` only the second.
    pub fn open(out: &Path, task: &Value, overwrite: bool) -> Result<Self, Error> {
        let mut name = out.file_name().unwrap_or_default().to_owned();
        name.push(".journal");
        let folder = out.with_file_name(name);
        let begun = folder.join(TASK).exists();
        if out.exists() && !begun && !overwrite {
            let why = "it is there already\nhint: move it away, name another one, or begin it anew \
                       with --overwrite";
            return Err(Error::at(out, why));
        }
        fs::create_dir_all(&folder).map_err(|error| Error::at(&folder, error))?;
        let lock = lock(&folder)?;
        if overwrite {
            remove(&folder.join(TASK))?;
        }
        let known = same_task(&folder, task)?;
        let path = folder.join(ROWS);
        let wrong = |error: std::io::Error| Error::at(&path, error);
        let mut options = OpenOptions::new();
        // What lies there without a task is what a finished run left.
        let options = options.read(true).write(true).create(true).truncate(!known);
        let mut file = options.open(&path).map_err(wrong)?;
        if !known {
            begin(&folder, task)?;
        }
        let (rows, whole) = whole(&file).map_err(wrong)?;
        file.set_len(whole).map_err(wrong)?;
        file.seek(SeekFrom::End(0)).map_err(wrong)?;
        Ok(Self { out: out.to_owned(), folder, file, rows, bytes: Vec::new(), _lock: lock })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Rows that are done.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Writes the next rows. Once this returns they outlive the process.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn write(&mut self, rows: &[Fields]) -> Result<(), Error> {
        let wrong = |why: &dyn std::fmt::Display| Error::at(&self.folder.join(ROWS), why);
        self.bytes.clear();
        for row in rows {
            serde_json::to_writer(&mut self.bytes, row).map_err(|error| wrong(&error))?;
            self.bytes.push(b'\n');
        }
        self.file.write_all(&self.bytes).map_err(|error| wrong(&error))?;
        self.rows += rows.len() as u64;
        Ok(())
    }

    /// Makes the file of the rows, and takes the folder away. `added` are the columns that are
    /// results, the first of which is what lines of text are made of.
    ///
    /// # Errors
    /// Where the disk fails; then nothing is lost.
    pub fn finish(self, format: Format, added: &[&str]) -> Result<(), Error> {
        let (rows, made) = (self.folder.join(ROWS), self.folder.join(MADE));
        self.file.sync_all().map_err(|error| Error::at(&rows, error))?;
        remove(&made)?;
        if format == Format::Jsonl {
            // The rows stay in the folder, too, until the file is in its place.
            let linked = fs::hard_link(&rows, &made).or_else(|_| fs::copy(&rows, &made).map(drop));
            linked.map_err(|error| Error::at(&made, error))?;
        } else {
            convert(&rows, &made, format, added)?;
        }
        fs::rename(&made, &self.out).map_err(|error| Error::at(&self.out, error))?;
        for name in [TASK, ROWS, MADE, LOCK] {
            remove(&self.folder.join(name))?;
        }
        fs::remove_dir(&self.folder).map_err(|error| Error::at(&self.folder, error))
    }
}

/// Nobody else works on it as long as this is held.
fn lock(folder: &Path) -> Result<File, Error> {
    let path = folder.join(LOCK);
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(|error| Error::at(&path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(Error::at(folder, "another process is at work on it: let it end first"))
        }
        Err(TryLockError::Error(error)) => Err(Error::at(&path, error)),
    }
}

/// Whether the journal has begun, with this task.
fn same_task(folder: &Path, task: &Value) -> Result<bool, Error> {
    use std::io::Read;
    let path = folder.join(TASK);
    let mut bytes = Vec::new();
    match File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(Error::at(&path, error)),
        Ok(file) => file.take(TASK_BYTES).read_to_end(&mut bytes),
    }
    .map_err(|error| Error::at(&path, error))?;
    let known: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    if known == *task {
        return Ok(true);
    }
    let differs = |name: &&String| known[name.as_str()] != task[name.as_str()];
    let names = task.as_object().into_iter().flat_map(|task| task.keys());
    let what = names.filter(differs).map(String::as_str).collect::<Vec<_>>().join(", ");
    Err(Error::at(
        folder,
        format!(
            "it was begun with something else ({what})\nhint: put that back to go on, or begin \
             anew with --overwrite"
        ),
    ))
}

/// The task appears whole or not at all.
fn begin(folder: &Path, task: &Value) -> Result<(), Error> {
    let (path, made) = (folder.join(TASK), folder.join(MADE));
    let written = File::create(&made).and_then(|mut file| {
        file.write_all(task.to_string().as_bytes())?;
        file.sync_all()?;
        fs::rename(&made, &path)
    });
    written.map_err(|error| Error::at(&path, error))
}

/// How many whole lines there are, and their bytes. A line that was cut off, and what a power cut
/// may leave of later ones, is none.
fn whole(file: &File) -> std::io::Result<(u64, u64)> {
    let mut reader = BufReader::with_capacity(1 << 18, file);
    let (mut rows, mut bytes) = (0, 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        let count = reader.read_until(b'\n', &mut line)?;
        if !(line.starts_with(b"{") && line.ends_with(b"}\n")) || line.contains(&0) {
            return Ok((rows, bytes));
        }
        (rows, bytes) = (rows + 1, bytes + count as u64);
    }
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::at(path, error)),
        _ => Ok(()),
    }
}
