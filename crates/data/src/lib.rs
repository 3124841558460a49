//! Rows of data: read from lines of text, JSON lines, CSV, TSV and Parquet, one after another and
//! in bounded memory, and written in the same formats. What is written to a file goes through a
//! journal first, so that a run that was killed is gone on with and each row stands there once.
//!
//! Absent: what is done with a row, and a terminal. Numbers of rows begin at 1, as people count.
#![forbid(unsafe_code)]

mod convert;
mod journal;
mod known;
mod parquet;
mod read;
mod write;

use std::fmt::Display;
use std::path::Path;

use serde_json::{Map, Value};

pub use journal::Journal;
pub use known::{Known, known};
pub use read::Input;
pub use write::{Writer, cell, vector};

/// The most bytes of one row as text.
pub const ROW_BYTES: usize = 16 << 20;
/// The most columns of a table.
pub const COLUMNS: usize = 4096;
/// The most bytes of a Parquet file that comes through a pipe: its table of contents is at its end,
/// so all of it is kept.
pub const PIPED_PARQUET_BYTES: usize = 1 << 30;
/// The column of a line of text, where none has a name.
pub const TEXT: &str = "text";
/// The column that says what is wrong with a row.
pub const ERROR: &str = "error";
/// Standard input, as a file's name.
pub const STDIN: &str = "-";

/// A row's columns and what is in them, in the order of the file.
pub type Fields = Map<String, Value>;

/// A row that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Which file it is of, by its place among those that were named.
    pub file: usize,
    /// Its number in that file, from 1; a heading is none.
    pub number: u64,
    /// What is in it, or what is wrong with it. Those behind it are not lost.
    pub fields: Result<Fields, String>,
}

/// What stops all reading or writing, and where.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {why}")]
pub struct Error {
    /// A file, or one of its rows.
    pub place: String,
    /// What is wrong, and what to do about it.
    pub why: String,
}

impl Error {
    /// Something that is wrong with a file.
    pub(crate) fn new(place: impl Display, why: impl Display) -> Self {
        Self { place: place.to_string(), why: why.to_string() }
    }

    pub(crate) fn at(path: &Path, why: impl Display) -> Self {
        Self::new(path.display(), why)
    }
}

/// How rows stand in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A line is a row of the one column [`TEXT`].
    Lines,
    /// A line is a JSON object. Empty lines are none.
    Jsonl,
    /// Commas, quotes, and a heading.
    Csv,
    /// The same with tabs.
    Tsv,
    /// Apache Parquet.
    Parquet,
}

/// Each format with its name, and how names of files of it end.
const FORMATS: &[(Format, &str, &[&str])] = &[
    (Format::Lines, "lines", &["txt", "text"]),
    (Format::Jsonl, "jsonl", &["jsonl", "ndjson"]),
    (Format::Csv, "csv", &["csv"]),
    (Format::Tsv, "tsv", &["tsv", "tab"]),
    (Format::Parquet, "parquet", &["parquet", "pq"]),
];

impl Format {
    /// The format of that name, as [`Format::name`] tells it.
    pub fn named(name: &str) -> Option<Self> {
        FORMATS.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        FORMATS.iter().find(|row| row.0 == self).map_or("", |row| row.1)
    }

    /// All names.
    pub fn names() -> impl Iterator<Item = &'static str> {
        FORMATS.iter().map(|row| row.1)
    }

    /// What the end of a file's name says, if anything.
    pub fn of(path: &Path) -> Option<Self> {
        let end = path.extension()?.to_str()?.to_ascii_lowercase();
        FORMATS.iter().find(|row| row.2.contains(&end.as_str())).map(|row| row.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_known_by_their_names_and_by_files() {
        for name in Format::names() {
            assert_eq!(Format::named(name).map(Format::name), Some(name));
        }
        let check = |path: &str, expect: Option<Format>| {
            assert_eq!(Format::of(Path::new(path)), expect, "{path}");
        };
        check("a/b.JSONL", Some(Format::Jsonl));
        check("a.csv", Some(Format::Csv));
        check("a.pq", Some(Format::Parquet));
        check("a.b/c", None);
        check("-", None);
        assert_eq!(Format::named("xml"), None);
    }
}
