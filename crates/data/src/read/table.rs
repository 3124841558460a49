//! Rows of a table as text: commas or tabs, quotes, and a heading that names the columns. Cells
//! are texts; that `1` may be a number is for others to say.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use serde_json::Value;

use super::{Found, Rows};
use crate::{COLUMNS, Fields, ROW_BYTES};

/// What is read ahead of a row counts as its own, so a row may have a little less.
const AHEAD: usize = 1 << 16;

/// Bytes that end a reading where one row takes too many, as behind a quote that nothing closes.
struct Meter<R> {
    bytes: R,
    left: Rc<Cell<usize>>,
}

impl<R: Read> Read for Meter<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.bytes.read(buffer)?;
        let left = self.left.get().checked_sub(count);
        let long = || {
            io::Error::other(format!("it has more than {ROW_BYTES} bytes: is a quote not closed?"))
        };
        self.left.set(left.ok_or_else(long)?);
        Ok(count)
    }
}

/// A table of text.
pub(super) struct Table<R> {
    reader: csv::Reader<Meter<R>>,
    left: Rc<Cell<usize>>,
    heading: Vec<String>,
    record: csv::ByteRecord,
}

impl<R: Read> Table<R> {
    /// Reads the heading.
    pub(super) fn new(bytes: R, delimiter: u8) -> Result<Self, String> {
        let left = Rc::new(Cell::new(ROW_BYTES + AHEAD));
        let meter = Meter { bytes, left: Rc::clone(&left) };
        let mut options = csv::ReaderBuilder::new();
        let options = options.delimiter(delimiter).flexible(true).buffer_capacity(AHEAD);
        let mut reader = options.from_reader(meter);
        let heading = reader.headers().map_err(|error| error.to_string())?;
        let heading: Vec<String> = heading.iter().map(str::to_owned).collect();
        if heading.len() > COLUMNS {
            return Err(format!("its heading has more than {COLUMNS} columns"));
        }
        for (at, name) in heading.iter().enumerate() {
            if heading[..at].contains(name) {
                return Err(format!("its heading names the column {name:?} twice"));
            }
        }
        Ok(Self { reader, left, heading, record: csv::ByteRecord::new() })
    }
}

impl<R: Read> Rows for Table<R> {
    fn next(&mut self) -> Result<Option<Found>, String> {
        self.left.set(ROW_BYTES + AHEAD);
        let more = self.reader.read_byte_record(&mut self.record);
        if !more.map_err(|error| error.to_string())? {
            return Ok(None);
        }
        if self.record.len() != self.heading.len() {
            let (have, want) = (self.record.len(), self.heading.len());
            return Ok(Some(Err(format!("it has {have} cells and the heading {want}"))));
        }
        let cell = |(name, cell): (&String, &[u8])| {
            let cell = std::str::from_utf8(cell);
            let cell = cell.map_err(|_| format!("column {name:?} is no text: not UTF-8"))?;
            Ok((name.clone(), Value::from(cell)))
        };
        Ok(Some(self.heading.iter().zip(&self.record).map(cell).collect::<Result<Fields, _>>()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], delimiter: u8) -> Result<Vec<String>, String> {
        let mut rows = Table::new(bytes, delimiter)?;
        let shown = |row: Found| match row {
            Ok(fields) => Value::Object(fields).to_string(),
            Err(why) => format!("!{why}"),
        };
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            all.push(shown(row));
        }
        Ok(all)
    }

    #[test]
    fn cells_have_the_headings_names() {
        let check = |bytes: &[u8], expect: &[&str]| {
            assert_eq!(read(bytes, b',').expect("reads"), expect);
        };
        check(b"", &[]);
        check(b"a,b\n", &[]);
        check(b"\xef\xbb\xbfb,a\r\n1,\"x,\n\"\"y\"\"\"\r\n", &[r#"{"b":"1","a":"x,\n\"y\""}"#]);
        let short = ["!it has 1 cells and the heading 2", r#"{"a":"1","b":"2"}"#];
        check(b"a,b\n1\n1,2\n", &short);
        check(b"a\n\xff\n1", &["!column \"a\" is no text: not UTF-8", r#"{"a":"1"}"#]);
        assert_eq!(read(b"a\tb\n1\t,", b'\t'), Ok(vec![r#"{"a":"1","b":","}"#.to_owned()]));
    }

    #[test]
    fn what_is_no_table_is_refused() {
        let check = |bytes: &[u8], words: &str| {
            let why = read(bytes, b',').expect_err("is refused");
            assert!(why.contains(words), "{why}");
        };
        check(b"a,b,a\n", "\"a\" twice");
        check(b"\xff\n", "UTF-8");
        check(",".repeat(COLUMNS).as_bytes(), "columns");
        let open = [b"a\n1\n\"".as_slice(), &vec![b'x'; ROW_BYTES + 2 * AHEAD]].concat();
        check(&open, "a quote not closed");
    }
}
