//! JSON lines of a journal as a file of any format. Twice through: first to know the columns and
//! what they hold, then to write; rows are never all in memory.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use crate::parquet::{Kind, Table};
use crate::{COLUMNS, Error, Fields, Format, Writer};

/// Bytes of JSON that make a group of rows in a Parquet file; as values they are about four times
/// as many.
const GROUP_BYTES: usize = 16 << 20;

/// Writes the lines of one file as another, all of which is on the disk then.
pub(crate) fn convert(from: &Path, to: &Path, format: Format, added: &[&str]) -> Result<(), Error> {
    let columns = columns(from, format == Format::Parquet)?;
    let file = File::create(to).map_err(|error| Error::at(to, error))?;
    let file = match format {
        Format::Parquet => parquet(from, file, columns).map_err(|why| Error::at(to, why))?,
        format => {
            let heading = columns.into_iter().map(|column| column.0).collect();
            let mut writer = Writer::new(format, added)?.with_heading(heading);
            let mut out = BufWriter::new(file);
            let mut bytes = Vec::new();
            each(from, |row, _| {
                bytes.clear();
                writer.write(&row, &mut bytes)?;
                out.write_all(&bytes).map_err(|error| error.to_string())
            })?;
            out.into_inner().map_err(|error| Error::at(to, error.error()))?
        }
    };
    file.sync_all().map_err(|error| Error::at(to, error))
}

fn parquet(from: &Path, file: File, columns: Vec<(String, Kind)>) -> Result<File, String> {
    let wrong = |error: parquet::errors::ParquetError| error.to_string();
    let mut table = Table::new(file, columns).map_err(wrong)?;
    let (mut rows, mut bytes) = (Vec::new(), 0);
    let read = each(from, |row, length| {
        rows.push(row);
        bytes += length;
        if bytes >= GROUP_BYTES {
            table.group(&rows).map_err(wrong)?;
            rows.clear();
            bytes = 0;
        }
        Ok(())
    });
    read.map_err(|error| error.to_string())?;
    if !rows.is_empty() {
        table.group(&rows).map_err(wrong)?;
    }
    table.close().map_err(wrong)
}

/// The columns in the order in which rows first have them, and what they hold where it matters.
fn columns(from: &Path, kinds: bool) -> Result<Vec<(String, Kind)>, Error> {
    let mut columns: Vec<(String, Kind)> = Vec::new();
    each(from, |row, _| {
        for (at, (name, value)) in row.iter().enumerate() {
            // Most rows have the columns of the one before, in the same places.
            let here = columns.get(at).is_some_and(|column| column.0 == *name).then_some(at);
            let known = here.or_else(|| columns.iter().position(|column| column.0 == *name));
            let known = known.unwrap_or_else(|| {
                columns.push((name.clone(), Kind::default()));
                columns.len() - 1
            });
            if kinds {
                columns[known].1 = columns[known].1.with(value);
            }
        }
        match columns.len() {
            0..=COLUMNS => Ok(()),
            _ => Err(format!("rows have more than {COLUMNS} columns together: write JSON lines")),
        }
    })?;
    Ok(columns)
}

/// Gives each row, and its bytes as JSON, to something.
fn each(
    from: &Path,
    mut take: impl FnMut(Fields, usize) -> Result<(), String>,
) -> Result<(), Error> {
    let file = File::open(from).map_err(|error| Error::at(from, error))?;
    for (at, line) in BufReader::with_capacity(1 << 18, file).lines().enumerate() {
        let taken = line.map_err(|error| error.to_string()).and_then(|line| {
            let row = serde_json::from_str(&line).map_err(|error| error.to_string())?;
            take(row, line.len())
        });
        taken.map_err(|why| Error::new(format!("{}, row {}", from.display(), at + 1), why))?;
    }
    Ok(())
}
