//! JSON files of a directory, read with bounds, and what they hold, asked for by key: a value of
//! another type than is needed is an error that names file and key. `null` is the same as nothing.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::Error;

/// The most bytes of a file; the largest known tokenizers have some 40 million.
const MAX_BYTES: u64 = 128 << 20;

/// Reads a file; `None` where there is none.
///
/// # Errors
/// [`Error::Malformed`] where it is too long, or not what is expected; [`Error::Io`].
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let Some(text) = text(path)? else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|error| wrong(path, &error.to_string()))
}

/// Reads a file of text; `None` where there is none.
///
/// # Errors
/// As [`read`].
pub(crate) fn text(path: &Path) -> Result<Option<String>, Error> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(io(source)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(wrong(path, &format!("it is longer than {MAX_BYTES} bytes")));
    }
    String::from_utf8(bytes).map(Some).map_err(|error| wrong(path, &error.to_string()))
}

pub(crate) fn wrong(path: &Path, what: &str) -> Error {
    Error::Malformed { what: format!("{}: {what}", path.display()), offset: 0 }
}

/// An object of a file, or a part of one, that knows where it is from.
#[derive(Clone, Debug, Default)]
pub(super) struct Object {
    /// The file's name, for errors.
    pub(super) file: String,
    pub(super) map: Map<String, Value>,
}

impl Object {
    /// The object that a file holds; an empty one where there is none.
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let map = read::<Map<String, Value>>(path)?.unwrap_or_default();
        let file = path.file_name().map(|name| name.to_string_lossy().into_owned());
        Ok(Self { file: file.unwrap_or_default(), map })
    }

    /// What stands under a key.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        pick: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        pick(value).map(Some).ok_or_else(|| {
            let shown: String = value.to_string().chars().take(60).collect();
            Error::Unsupported(format!("{}: `{key}` is {shown}, not {expected}", self.file))
        })
    }

    /// A non-negative integer.
    pub(super) fn uint(&self, key: &str) -> Result<Option<u64>, Error> {
        self.typed(key, "a non-negative integer", Value::as_u64)
    }

    /// A number.
    pub(super) fn float(&self, key: &str) -> Result<Option<f64>, Error> {
        self.typed(key, "a number", Value::as_f64)
    }

    /// A bool.
    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, Error> {
        self.typed(key, "true or false", Value::as_bool)
    }

    /// A text.
    pub(super) fn str(&self, key: &str) -> Result<Option<&str>, Error> {
        self.typed(key, "a text", Value::as_str)
    }

    /// A list.
    pub(super) fn list(&self, key: &str) -> Result<Option<&[Value]>, Error> {
        self.typed(key, "a list", |value| value.as_array().map(Vec::as_slice))
    }

    /// An object within.
    pub(super) fn object(&self, key: &str) -> Result<Option<Self>, Error> {
        let within = self.typed(key, "an object", Value::as_object)?;
        Ok(within.map(|map| Self { file: format!("{}: {key}", self.file), map: map.clone() }))
    }

    /// That a key is missing.
    pub(super) fn lacks(&self, key: &str) -> Error {
        Error::Missing(format!("`{key}` in its {}", self.file))
    }

    /// That what stands under a key cannot be honoured.
    pub(super) fn refuse(&self, key: &str, why: &str) -> Error {
        let value = self.map.get(key).unwrap_or(&Value::Null);
        let shown: String = value.to_string().chars().take(60).collect();
        Error::Unsupported(format!("{}: `{key}` is {shown}: {why}", self.file))
    }
}
