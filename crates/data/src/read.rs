//! Rows from files, one file after another. Each format is a reader that gives a row, the end, or
//! what stops the reading; what is wrong with one row alone stops nothing.

mod lines;
mod table;

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use crate::{Error, Fields, Format, PIPED_PARQUET_BYTES, Row, STDIN, parquet};

/// A row, or what is wrong with it.
pub(crate) type Found = Result<Fields, String>;

/// What gives the rows of one file; an error stops it for good.
pub(crate) trait Rows {
    /// The next row; `None` at the end.
    fn next(&mut self) -> Result<Option<Found>, String>;
}

/// Rows of several files, in their order.
#[expect(missing_debug_implementations, reason = "holds readers of any kind")]
pub struct Input {
    files: Vec<String>,
    format: Option<Format>,
    /// The file that is read, and the rows it gave.
    at: usize,
    number: u64,
    open: Option<Box<dyn Rows>>,
    stopped: bool,
}

impl Input {
    /// The rows of these files, [`STDIN`] being standard input. Where no format is given, each
    /// file's name tells; lines of text are what names tell nothing of. Nothing is opened yet.
    pub fn new(files: &[String], format: Option<Format>) -> Self {
        let files = files.to_vec();
        Self { files, format, at: 0, number: 0, open: None, stopped: false }
    }

    /// The format in which a file is read.
    pub fn format(&self, file: usize) -> Format {
        let path = self.files.get(file).map(Path::new);
        self.format.or_else(|| path.and_then(Format::of)).unwrap_or(Format::Lines)
    }

    /// The name of a file.
    pub fn name(&self, file: usize) -> &str {
        match self.files.get(file).map(String::as_str) {
            Some(STDIN) | None => "standard input",
            Some(name) => name,
        }
    }

    /// Where a row stands, for people.
    pub fn place(&self, row: &Row) -> String {
        format!("{}, row {}", self.name(row.file), row.number)
    }

    fn advance(&mut self) -> Result<Option<Row>, Error> {
        while self.at < self.files.len() {
            let mut rows = match self.open.take() {
                Some(rows) => rows,
                None => open(&self.files[self.at], self.format(self.at))
                    .map_err(|why| Error::new(self.name(self.at), why))?,
            };
            let next = rows.next().map_err(|why| {
                let place = format!("{}, row {}", self.name(self.at), self.number + 1);
                Error::new(place, why)
            })?;
            if let Some(fields) = next {
                self.open = Some(rows);
                self.number += 1;
                return Ok(Some(Row { file: self.at, number: self.number, fields }));
            }
            (self.at, self.number) = (self.at + 1, 0);
        }
        Ok(None)
    }
}

impl Iterator for Input {
    type Item = Result<Row, Error>;

    /// After an error there is nothing more.
    fn next(&mut self) -> Option<Self::Item> {
        if self.stopped {
            return None;
        }
        let next = self.advance().transpose();
        self.stopped = !matches!(next, Some(Ok(_)));
        next
    }
}

fn open(name: &str, format: Format) -> Result<Box<dyn Rows>, String> {
    let told = |error: std::io::Error| error.to_string();
    if format == Format::Parquet {
        return match name {
            STDIN => parquet::read_bytes(bounded(std::io::stdin().lock())?),
            path => parquet::read_file(File::open(path).map_err(told)?),
        };
    }
    let bytes: Box<dyn Read> = match name {
        STDIN => Box::new(std::io::stdin()),
        path => Box::new(File::open(path).map_err(told)?),
    };
    Ok(match format {
        Format::Lines => Box::new(lines::Texts::new(BufReader::with_capacity(1 << 16, bytes))),
        Format::Jsonl => Box::new(lines::Objects::new(BufReader::with_capacity(1 << 16, bytes))),
        Format::Tsv => Box::new(table::Table::new(bytes, b'\t')?),
        Format::Csv | Format::Parquet => Box::new(table::Table::new(bytes, b',')?),
    })
}

/// All of it, where it is not too much.
fn bounded(bytes: impl Read) -> Result<Vec<u8>, String> {
    let mut all = Vec::new();
    let most = PIPED_PARQUET_BYTES;
    let read = bytes.take(most as u64 + 1).read_to_end(&mut all);
    read.map_err(|error| error.to_string())?;
    if all.len() > most {
        return Err(format!(
            "a Parquet file of more than {most} bytes: name it, instead of a pipe"
        ));
    }
    Ok(all)
}
