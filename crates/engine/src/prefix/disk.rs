//! A directory of blocks' files, bounded in bytes: the least recently used ones make room. When a
//! file was last used is its time of change, so that it outlives the process.
//!
//! Other processes may write here, and anyone may delete anything at any time. What this one
//! believes to be here is only a guess, looked over whenever room is made.

use super::file::{self, Name};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The most files, however small they are.
const FILES_MOST: usize = 1 << 16;
/// Making room makes so much more of it, in parts of the whole.
const SPARE: u64 = 16;
/// A file that nobody finished for so long has nobody.
const ABANDONED: Duration = Duration::from_secs(3600);
/// Uses that are closer together count as one.
const USE_MICROS: u64 = 60_000_000;

#[derive(Clone, Copy, Debug)]
struct Entry {
    bytes: u64,
    used_micros: u64,
}

/// What is believed to be in the directory.
#[derive(Debug, Default)]
struct Index {
    files: BTreeMap<Name, Entry>,
    bytes: u64,
}

impl Index {
    fn insert(&mut self, name: Name, entry: Entry) {
        self.remove(name);
        self.bytes += entry.bytes;
        self.files.insert(name, entry);
    }

    fn remove(&mut self, name: Name) {
        if let Some(old) = self.files.remove(&name) {
            self.bytes -= old.bytes;
        }
    }

    /// What goes so that there are at most so many bytes and files, least recently used first.
    fn surplus(&self, bytes_most: u64, files_most: usize) -> Vec<Name> {
        let mut by_age: Vec<(u64, Name, u64)> =
            self.files.iter().map(|(name, at)| (at.used_micros, *name, at.bytes)).collect();
        by_age.sort_unstable();
        let (mut bytes, mut files) = (self.bytes, self.files.len());
        let too_much = |&(.., own): &(u64, Name, u64)| {
            let over = bytes > bytes_most || files > files_most;
            (bytes, files) = (bytes - own, files - 1);
            over
        };
        by_age.into_iter().take_while(too_much).map(|(_, name, _)| name).collect()
    }
}

/// A directory of blocks' files.
#[derive(Debug)]
pub(crate) struct Disk {
    folder: PathBuf,
    bytes_most: u64,
    index: Mutex<Index>,
    warn: fn(&str),
    warned: AtomicBool,
    parts: AtomicU64,
}

/// The payload of a file that was read.
#[derive(Debug)]
pub(crate) struct Payload {
    bytes: Vec<u8>,
    range: Range<usize>,
}

impl Payload {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[self.range.clone()]
    }
}

impl Disk {
    /// Opens a directory, made if it is not there. What is wrong later is told once, by `warn`.
    pub(crate) fn open(folder: &Path, bytes_most: u64, warn: fn(&str)) -> io::Result<Self> {
        make(folder)?;
        let disk = Self {
            folder: folder.to_owned(),
            bytes_most,
            index: Mutex::default(),
            warn,
            warned: AtomicBool::new(false),
            parts: AtomicU64::new(0),
        };
        disk.look()?;
        Ok(disk)
    }

    /// Whether a block seems to be here.
    pub(crate) fn has(&self, name: Name) -> bool {
        self.index().files.contains_key(&name)
    }

    /// A block's payload of so many bytes, if its file is here and sound. One that is not is
    /// deleted.
    pub(crate) fn read(&self, name: Name, head: &[u8], payload_bytes: usize) -> Option<Payload> {
        let path = self.path(name);
        let bytes = whole(&path, file::file_bytes(head.len(), payload_bytes));
        let sound = bytes.as_ref().is_ok_and(|bytes| file::payload(bytes, head).is_some());
        if !sound {
            let _ = fs::remove_file(&path);
            self.forget(&[name]);
        }
        let bytes = bytes.ok().filter(|_| sound)?;
        Some(Payload { bytes, range: head.len()..head.len() + payload_bytes })
    }

    /// Of these blocks nothing is believed: where they are computed, they are written anew.
    pub(crate) fn forget(&self, names: &[Name]) {
        let mut index = self.index();
        names.iter().for_each(|name| index.remove(*name));
    }

    /// Adds a file, unless it is here. `depth` is how many blocks come before its own: where they
    /// all would not fit the bound, it is of no use. Failing is told once and forgiven.
    pub(crate) fn write(&self, name: Name, depth: usize, bytes: &[u8]) {
        let len = bytes.len() as u64;
        if len.saturating_mul(depth as u64 + 1) > self.bytes_most || self.has(name) {
            return;
        }
        if let Err(error) = self.make_room(len).and_then(|()| self.put(name, bytes)) {
            self.complain(&error);
            return;
        }
        let used_micros = now_micros().saturating_sub(depth as u64);
        self.index().insert(name, Entry { bytes: len, used_micros });
    }

    /// Those of these blocks that are here, a prefix and its continuations, were used now. Each is
    /// marked a little later than the one after it, so that no prefix goes before what needs it.
    pub(crate) fn used(&self, names: &[Name]) {
        let (now, mut index) = (now_micros(), self.index());
        let here = |name: &&Name| index.files.contains_key(*name);
        let here: Vec<Name> = names.iter().take_while(here).copied().collect();
        let stale = |name: &Name| index.files[name].used_micros + USE_MICROS < now;
        if !here.iter().any(stale) {
            return;
        }
        let marked: Vec<(Name, u64)> = here.iter().copied().zip((0..now).rev()).collect();
        for (name, micros) in &marked {
            if let Some(entry) = index.files.get_mut(name) {
                entry.used_micros = *micros;
            }
        }
        drop(index);
        for (name, micros) in marked {
            let time = UNIX_EPOCH + Duration::from_micros(micros);
            let file = OpenOptions::new().write(true).open(self.path(name));
            // A file that is gone, or another's, is not marked.
            let _ = file.and_then(|file| file.set_modified(time));
        }
    }

    /// Tells what is wrong, once.
    pub(crate) fn complain(&self, error: &io::Error) {
        if !self.warned.swap(true, Ordering::Relaxed) {
            let folder = self.folder.display();
            (self.warn)(&format!(
                "prefixes cannot be kept in {folder}: {error}; answers go on without. Free some \
                 space, or choose another directory with --prefix-cache-dir"
            ));
        }
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, name: Name) -> PathBuf {
        self.folder.join(format!("{name:032x}.kv"))
    }

    /// Writes a file under another name first, so that it appears whole.
    fn put(&self, name: Name, bytes: &[u8]) -> io::Result<()> {
        let part = self.parts.fetch_add(1, Ordering::Relaxed);
        let part = self.folder.join(format!("{name:032x}-{}-{part}.part", std::process::id()));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        private(&mut options);
        let written = options.open(&part).and_then(|mut file| file.write_all(bytes));
        let written = written.and_then(|()| fs::rename(&part, self.path(name)));
        if written.is_err() {
            let _ = fs::remove_file(&part);
        }
        written
    }

    /// Deletes what was not used for longest until so many bytes more may come.
    fn make_room(&self, bytes: u64) -> io::Result<()> {
        let full = |index: &Index| {
            index.bytes + bytes > self.bytes_most || index.files.len() >= FILES_MOST
        };
        if !full(&self.index()) {
            return Ok(());
        }
        self.look()?;
        let spare = self.bytes_most / SPARE;
        let bytes_most = self.bytes_most.saturating_sub(bytes.max(spare));
        let files_most = FILES_MOST - FILES_MOST / SPARE as usize;
        let surplus = match &*self.index() {
            index if full(index) => index.surplus(bytes_most, files_most),
            _ => Vec::new(),
        };
        for name in surplus {
            match fs::remove_file(self.path(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => self.index().remove(name),
            }
        }
        Ok(())
    }

    /// Looks what is in the directory, and deletes what was begun and abandoned.
    fn look(&self) -> io::Result<()> {
        let mut index = Index::default();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let Some((name, kind)) = named(&entry.file_name()) else { continue };
            // Whatever vanishes meanwhile is not here.
            let Ok(about) = entry.metadata() else { continue };
            let changed = about.modified().unwrap_or(UNIX_EPOCH);
            match kind {
                Kind::Whole if about.is_file() => {
                    let used_micros = micros(changed);
                    index.insert(name, Entry { bytes: about.len(), used_micros });
                }
                Kind::Part if changed.elapsed().is_ok_and(|age| age > ABANDONED) => {
                    let _ = fs::remove_file(entry.path());
                }
                _ => {}
            }
        }
        *self.index() = index;
        Ok(())
    }
}

/// What a name of ours is of.
enum Kind {
    Whole,
    Part,
}

/// Which of our names a file has, if any: nobody else's files are touched.
fn named(file: &std::ffi::OsStr) -> Option<(Name, Kind)> {
    let (stem, kind) = file.to_str()?.rsplit_once('.')?;
    let (digits, kind) = match kind {
        "kv" => (stem, Kind::Whole),
        "part" => (stem.split_once('-')?.0, Kind::Part),
        _ => return None,
    };
    let ours = digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    Some((Name::from_str_radix(digits, 16).ok().filter(|_| ours)?, kind))
}

/// A regular file of just so many bytes.
fn whole(path: &Path, bytes: u64) -> io::Result<Vec<u8>> {
    // Looked at before it is opened, since opening a pipe waits for its other end.
    let about = fs::symlink_metadata(path)?;
    if !about.is_file() || about.len() != bytes {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut content = Vec::new();
    let capacity = usize::try_from(bytes).map_err(|_| io::ErrorKind::OutOfMemory)?;
    content.try_reserve_exact(capacity).map_err(|_| io::ErrorKind::OutOfMemory)?;
    File::open(path)?.take(bytes).read_to_end(&mut content)?;
    Ok(content)
}

fn now_micros() -> u64 {
    micros(SystemTime::now())
}

fn micros(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Prompts are private: what is made here is for its user alone, where the system knows users.
fn make(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

#[cfg(unix)]
fn private(options: &mut OpenOptions) {
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
}

#[cfg(not(unix))]
fn private(_: &mut OpenOptions) {}
