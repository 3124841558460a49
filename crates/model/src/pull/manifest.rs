//! What the store remembers beside a model file: a [`Manifest`] once it is whole, a [`Partial`]
//! while it is not. Both are small JSON files, written aside and renamed.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Error;

/// The longest manifest that is read, in bytes.
const MAX_JSON: u64 = 1 << 20;

/// A model that is here: what it is and how it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The layout's version; 1.
    pub version: u32,
    /// The model's name: its folder's name.
    pub name: String,
    /// What the user asked for.
    pub reference: String,
    /// Where the bytes came from.
    pub source: String,
    /// The model file's name in the folder, or its directory's.
    pub file: String,
    /// The size of the model file, or of all files of the directory, in bytes.
    pub size: u64,
    /// The model file's SHA-256, in lower-case hexadecimal; a directory's is that of the lines
    /// "SHA-256, two spaces, path" of its files, by path.
    pub sha256: String,
    /// Whether the SHA-256 was known before the file came (from the catalogue, the hub or the
    /// user) and is the same; otherwise it was computed then.
    #[serde(default)]
    pub verified: bool,
    /// When it was fetched: RFC 3339, UTC.
    pub fetched_at: String,
    /// The licence, where known.
    pub licence: Option<String>,
    /// What is in the directory, by path; empty where the model is one file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<Kept>,
}

/// A file of a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its path in the directory.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256, in lower-case hexadecimal.
    pub sha256: String,
}

/// A model that is not whole yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Partial {
    /// What is being fetched: the references of the source's parts.
    pub(crate) source: Vec<String>,
    /// How many parts are whole.
    pub(crate) parts: usize,
    /// How many bytes those are.
    pub(crate) bytes: u64,
    /// Which version of the next part the bytes behind them belong to.
    pub(crate) version: Option<Version>,
    /// The SHA-256 that the whole file must have, as the hub names it.
    pub(crate) sha256: Option<String>,
}

/// What a server says to identify the bytes that it serves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Version {
    /// The entity tag of the host that serves the bytes.
    pub(crate) etag: Option<String>,
    /// The SHA-256 of the whole file, where the hub names it.
    pub(crate) sha256: Option<String>,
    /// The whole file's size in bytes.
    pub(crate) size: u64,
}

/// Reads a small JSON file; `None` where there is none.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::Io { path: path.into(), source }),
    };
    let mut text = String::new();
    let broken = |why: String| Error::Malformed {
        what: format!("{} is not a manifest: {why}", path.display()),
        offset: 0,
    };
    file.take(MAX_JSON + 1).read_to_string(&mut text).map_err(|error| broken(error.to_string()))?;
    if text.len() as u64 > MAX_JSON {
        return Err(broken("it is too long".into()));
    }
    serde_json::from_str(&text).map(Some).map_err(|error| broken(error.to_string()))
}

/// Writes a small JSON file so that a reader sees the old one or the new one, never a half.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), Error> {
    let failed = |source| Error::Io { path: path.into(), source };
    let mut text = serde_json::to_vec_pretty(value).map_err(|error| failed(error.into()))?;
    text.push(b'\n');
    let aside = path.with_extension("json.new");
    let mut file = File::create(&aside).map_err(failed)?;
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&aside, path).map_err(failed)
}
