//! Which files of a folder are documents: those that a row of `kind.rs` knows, that are not hidden,
//! and that no `.gitignore` or `.ignore` leaves out. Links are not followed, so no loop can be one.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use ignore::{DirEntry, WalkBuilder};

use crate::kind::Kind;
use crate::{Error, Result, store};

/// What is taken in, at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a file; larger ones are left out, and told.
    pub file_bytes: u64,
    /// Files of a folder; more are refused.
    pub files: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { file_bytes: 8 << 20, files: 1_000_000 }
    }
}

/// Folders within folders, at most.
const DEPTH: usize = 128;

/// Why a file is not searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Skip {
    /// Its extension is none of a text's.
    Kind,
    /// Its contents are no text.
    Binary,
    /// It is larger than [`Limits::file_bytes`].
    Large,
    /// It is a link, a pipe, a socket or a device.
    Special,
    /// Its name is no UTF-8.
    Name,
    /// It cannot be read, or a folder cannot.
    Unreadable,
}

impl Skip {
    /// For programs.
    pub fn key(self) -> &'static str {
        match self {
            Self::Kind => "kind",
            Self::Binary => "binary",
            Self::Large => "large",
            Self::Special => "special",
            Self::Name => "name",
            Self::Unreadable => "unreadable",
        }
    }

    /// In a word or two.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kind => "of no known text format",
            Self::Binary => "not text inside",
            Self::Large => "too large",
            Self::Special => "links or special files",
            Self::Name => "with names that are no UTF-8",
            Self::Unreadable => "unreadable",
        }
    }
}

/// A file that may be a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Within the folder, with `/`.
    pub(crate) path: String,
    pub(crate) kind: Kind,
    pub(crate) stamp: Stamp,
}

/// What tells cheaply whether a file has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) bytes: i64,
    /// Nanoseconds since 1970.
    pub(crate) modified_ns: i64,
}

impl Stamp {
    pub(crate) fn of(known: &Metadata) -> Self {
        let modified = known.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let modified_ns = modified.map_or(0, |since| since.as_nanos());
        let modified_ns = i64::try_from(modified_ns).unwrap_or(i64::MAX);
        Self { bytes: known.len().cast_signed(), modified_ns }
    }
}

/// What a walk found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Walked {
    /// In the order of their paths.
    pub(crate) found: Vec<Found>,
    /// How many files were left out, by reason.
    pub(crate) skipped: BTreeMap<Skip, u64>,
}

impl Walked {
    pub(crate) fn skip(&mut self, why: Skip) {
        *self.skipped.entry(why).or_default() += 1;
    }
}

/// Walks a folder.
pub(crate) fn walk(folder: &Path, limits: &Limits) -> Result<Walked> {
    let known = folder.metadata().map_err(|error| Error::io(folder, error))?;
    if !known.is_dir() {
        let what = "is no folder\nhint: name the folder that it is in".to_owned();
        return Err(Error::Walk { folder: folder.to_owned(), what });
    }
    let mut walked = Walked::default();
    let entries = WalkBuilder::new(folder)
        .follow_links(false)
        .require_git(false)
        .max_depth(Some(DEPTH))
        .filter_entry(|entry| entry.depth() == 0 || entry.file_name() != store::FOLDER)
        .build();
    for entry in entries {
        match entry.map(|entry| look(folder, &entry, limits)) {
            Ok(None) => {}
            Ok(Some(Ok(found))) => walked.found.push(found),
            Ok(Some(Err(why))) => walked.skip(why),
            // Most often a folder that may not be entered.
            Err(_) => walked.skip(Skip::Unreadable),
        }
        if walked.found.len() > limits.files {
            return Err(Error::TooMany { folder: folder.to_owned(), most: limits.files });
        }
    }
    walked.found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(walked)
}

/// What stands at an entry; nothing to tell of a folder.
fn look(
    folder: &Path,
    entry: &DirEntry,
    limits: &Limits,
) -> Option<std::result::Result<Found, Skip>> {
    let kind = entry.file_type()?;
    if kind.is_dir() || entry.depth() == 0 {
        return None;
    }
    Some(if kind.is_file() { document(folder, entry, limits) } else { Err(Skip::Special) })
}

fn document(folder: &Path, entry: &DirEntry, limits: &Limits) -> std::result::Result<Found, Skip> {
    let within = entry.path().strip_prefix(folder).map_err(|_| Skip::Unreadable)?;
    let path = slashed(within).ok_or(Skip::Name)?;
    let kind = Kind::of(within).ok_or(Skip::Kind)?;
    let known = entry.metadata().map_err(|_| Skip::Unreadable)?;
    if known.len() > limits.file_bytes {
        return Err(Skip::Large);
    }
    Ok(Found { path, kind, stamp: Stamp::of(&known) })
}

/// A path within the folder, the same on every system.
fn slashed(path: &Path) -> Option<String> {
    let parts = path.iter().map(|part| part.to_str()).collect::<Option<Vec<&str>>>()?;
    Some(parts.join("/"))
}

/// The file of a path within the folder.
pub(crate) fn full(folder: &Path, path: &str) -> PathBuf {
    path.split('/').fold(folder.to_owned(), |full, part| full.join(part))
}

#[cfg(test)]
mod tests;
