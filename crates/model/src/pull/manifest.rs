//! What the store remembers beside a model file: a [`Manifest`] once it is whole, a [`Partial`]
//! while it is not. Both are small JSON files, written aside and renamed.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Error;

/// The longest manifest that is read, in bytes.
const MAX_JSON: u64 = 64 * 1024;

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
    /// The model file's name in the folder.
    pub file: String,
    /// The model file's size in bytes.
    pub size: u64,
    /// The model file's SHA-256, in lower-case hexadecimal.
    pub sha256: String,
    /// Whether the SHA-256 was known before the file came (from the catalogue, the hub or the
    /// user) and is the same; otherwise it was computed then.
    #[serde(default)]
    pub verified: bool,
    /// When it was fetched: RFC 3339, UTC.
    pub fetched_at: String,
    /// The licence, where known.
    pub licence: Option<String>,
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

/// Seconds since 1970 as RFC 3339 in UTC. (Days to a civil date: Howard Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms".)
pub(crate) fn rfc3339(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468; // days since 0000-03-01
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_civil() {
        let cases = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ];
        for (seconds, expect) in cases {
            assert_eq!(rfc3339(seconds), expect);
        }
    }
}
