//! Rows that are lines: texts, or JSON objects. A line that is too long is a bad row, and is passed
//! over without being kept.

use std::io::{BufRead, ErrorKind};

use serde_json::Value;

use super::{Found, Rows};
use crate::{Fields, ROW_BYTES, TEXT};

/// Lines, each in at most so many bytes.
struct Lines<R> {
    bytes: R,
    line: Vec<u8>,
    most: usize,
    begun: bool,
}

impl<R: BufRead> Lines<R> {
    fn new(bytes: R) -> Self {
        Self { bytes, line: Vec::new(), most: ROW_BYTES, begun: false }
    }

    /// The next line without its end; `None` behind the last.
    fn next(&mut self) -> Result<Option<Result<&str, String>>, String> {
        self.line.clear();
        let (mut any, mut long) = (false, false);
        loop {
            let chunk = match self.bytes.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.to_string()),
            };
            if chunk.is_empty() {
                break;
            }
            any = true;
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let part = &chunk[..end.unwrap_or(chunk.len())];
            long |= self.line.len() + part.len() > self.most;
            if !long {
                self.line.extend_from_slice(part);
            }
            let count = part.len() + usize::from(end.is_some());
            self.bytes.consume(count);
            if end.is_some() {
                break;
            }
        }
        if !any {
            return Ok(None);
        }
        if long {
            return Ok(Some(Err(format!("it has more than {} bytes", self.most))));
        }
        let mut line = self.line.as_slice();
        line = line.strip_suffix(b"\r").unwrap_or(line);
        if !std::mem::replace(&mut self.begun, true) {
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        Ok(Some(std::str::from_utf8(line).map_err(|_| "it is no text: not UTF-8".to_owned())))
    }
}

/// A line is a text.
pub(super) struct Texts<R>(Lines<R>);

impl<R: BufRead> Texts<R> {
    pub(super) fn new(bytes: R) -> Self {
        Self(Lines::new(bytes))
    }
}

impl<R: BufRead> Rows for Texts<R> {
    fn next(&mut self) -> Result<Option<Found>, String> {
        let row = |line: &str| Fields::from_iter([(TEXT.to_owned(), line.into())]);
        Ok(self.0.next()?.map(|line| line.map(row)))
    }
}

/// A line is a JSON object; empty ones are no rows.
pub(super) struct Objects<R>(Lines<R>);

impl<R: BufRead> Objects<R> {
    pub(super) fn new(bytes: R) -> Self {
        Self(Lines::new(bytes))
    }
}

impl<R: BufRead> Rows for Objects<R> {
    fn next(&mut self) -> Result<Option<Found>, String> {
        loop {
            match self.0.next()? {
                None => return Ok(None),
                Some(Ok(line)) if line.trim().is_empty() => {}
                Some(line) => return Ok(Some(line.and_then(object))),
            }
        }
    }
}

fn object(line: &str) -> Found {
    match serde_json::from_str(line) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err("it is JSON, but no object".to_owned()),
        Err(error) => Err(format!("it is no JSON: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    /// The rows as JSON, `!` before what is wrong; `small` cuts the reading into pieces.
    fn read(mut rows: impl Rows) -> Vec<String> {
        let next = || rows.next().expect("reads");
        let shown = |row: Found| match row {
            Ok(fields) => Value::Object(fields).to_string(),
            Err(why) => format!("!{why}"),
        };
        std::iter::from_fn(next).map(shown).collect()
    }

    fn both(bytes: &[u8], expect: &[&str], make: impl Fn(BufReader<&[u8]>) -> Vec<String>) {
        for small in [1, 3, 4096] {
            assert_eq!(make(BufReader::with_capacity(small, bytes)), expect, "{small}");
        }
    }

    #[test]
    fn lines_are_texts() {
        let check = |bytes: &[u8], expect: &[&str]| both(bytes, expect, |it| read(Texts::new(it)));
        check(b"", &[]);
        check(b"\n", &[r#"{"text":""}"#]);
        check(b"\xef\xbb\xbfa\r\n\nb", &[r#"{"text":"a"}"#, r#"{"text":""}"#, r#"{"text":"b"}"#]);
        check(b"\xff\nb\n", &["!it is no text: not UTF-8", r#"{"text":"b"}"#]);
    }

    #[test]
    fn lines_are_objects() {
        let check =
            |bytes: &[u8], expect: &[&str]| both(bytes, expect, |it| read(Objects::new(it)));
        check(b"{\"b\":1,\"a\":[0.5]}\n\n  \r\n{}", &[r#"{"b":1,"a":[0.5]}"#, "{}"]);
        check(b"[1]\n{}\n", &["!it is JSON, but no object", "{}"]);
        let cut = read(Objects::new(b"{\"a\":\n{}".as_slice()));
        assert!(cut[0].starts_with("!it is no JSON: EOF"), "{cut:?}");
        assert_eq!(cut[1], "{}");
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over() {
        let mut rows = Texts::new(BufReader::with_capacity(2, b"abcdef\nab\nabc".as_slice()));
        rows.0.most = 3;
        let expect = ["!it has more than 3 bytes", r#"{"text":"ab"}"#, r#"{"text":"abc"}"#];
        assert_eq!(read(rows), expect);
    }
}
