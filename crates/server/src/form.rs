//! A form's parts (`multipart/form-data`, RFC 7578 and 2046) as its bytes come, however they are
//! cut. It holds one part's head or one piece of its contents, never a whole part. Absent: what the
//! parts mean, parts within parts, and names in other alphabets' old encodings.

use std::fmt;

/// The most bytes of a part's head.
const HEAD_MOST: usize = 8 << 10;
/// The longest mark between parts (RFC 2046).
const BOUNDARY_MOST: usize = 70;

/// What comes next of a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A part begins.
    Head {
        /// The field's name.
        name: String,
        /// The name of the file that it holds, if it says that it holds one.
        file: Option<String>,
    },
    /// More of its contents; never empty.
    Data(Vec<u8>),
    /// It is whole.
    End,
}

/// Why bytes are no form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bad(&'static str);

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the body is no form: {}", self.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before the first part.
    Before,
    /// Behind a mark, where its line's end or the form's end is.
    Mark,
    Head,
    Data,
    After,
}

/// Reads a form: bytes are pushed, and pieces taken until there is none.
#[derive(Debug)]
pub(crate) struct Form {
    /// What stands between parts: a line's end, two hyphens, the boundary.
    mark: Vec<u8>,
    bytes: Vec<u8>,
    place: Place,
}

impl Form {
    /// For a body of this content type; `None` where that is no form's.
    pub(crate) fn of(content_type: &str) -> Option<Self> {
        let (kind, rest) = content_type.split_once(';')?;
        if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
            return None;
        }
        let boundary = parameters(rest).find(|(name, _)| name == "boundary")?.1;
        let right = (1..=BOUNDARY_MOST).contains(&boundary.len())
            && boundary.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
        // The first mark has no line's end before it: one is put there.
        right.then(|| Self {
            mark: format!("\r\n--{boundary}").into_bytes(),
            bytes: b"\r\n".to_vec(),
            place: Place::Before,
        })
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.place != Place::After {
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// Whether the form has come to its own end.
    pub(crate) fn whole(&self) -> bool {
        self.place == Place::After
    }

    /// The next piece; `None` where more bytes are needed for it, or the form is at its end.
    pub(crate) fn next(&mut self) -> Result<Option<Piece>, Bad> {
        loop {
            match self.place {
                Place::Before => {
                    if !self.skip_to_mark() {
                        return Ok(None);
                    }
                }
                Place::Mark => {
                    let Some(two) = self.bytes.first_chunk::<2>() else { return Ok(None) };
                    self.place = match two {
                        b"\r\n" => Place::Head,
                        b"--" => Place::After,
                        _ => return Err(Bad("something stands behind a mark between parts")),
                    };
                    // The line's end stays: a head may be empty, and then it is all of it.
                    if self.place == Place::After {
                        self.bytes.clear();
                    }
                }
                Place::Head => {
                    let Some(end) = find(&self.bytes, b"\r\n\r\n") else {
                        return self.more_head().map(|()| None);
                    };
                    let head: Vec<u8> = self.bytes.drain(..end + 4).collect();
                    self.place = Place::Data;
                    // A part's contents may be empty, and then the mark begins with that line's
                    // end, which is its own.
                    return read_head(&head).map(Some);
                }
                Place::Data => return Ok(self.data()),
                Place::After => return Ok(None),
            }
        }
    }

    fn skip_to_mark(&mut self) -> bool {
        match find(&self.bytes, &self.mark) {
            Some(at) => {
                self.bytes.drain(..at + self.mark.len());
                self.place = Place::Mark;
                true
            }
            None => {
                let kept = self.bytes.len().min(self.mark.len() - 1);
                self.bytes.drain(..self.bytes.len() - kept);
                false
            }
        }
    }

    fn more_head(&self) -> Result<(), Bad> {
        if self.bytes.len() > HEAD_MOST {
            return Err(Bad("a part's head is too long"));
        }
        Ok(())
    }

    fn data(&mut self) -> Option<Piece> {
        if let Some(at) = find(&self.bytes, &self.mark) {
            if at == 0 {
                self.bytes.drain(..self.mark.len());
                self.place = Place::Mark;
                return Some(Piece::End);
            }
            return Some(Piece::Data(self.bytes.drain(..at).collect()));
        }
        // What may be the beginning of a mark waits.
        let sure = (self.bytes.len() + 1).saturating_sub(self.mark.len());
        (sure > 0).then(|| Piece::Data(self.bytes.drain(..sure).collect()))
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn read_head(head: &[u8]) -> Result<Piece, Bad> {
    let head = std::str::from_utf8(head).map_err(|_| Bad("a part's head is not UTF-8"))?;
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    let disposition = lines.find(|line| line.0.trim().eq_ignore_ascii_case("content-disposition"));
    let rest = disposition.and_then(|line| line.1.trim().split_once(';'));
    let Some((_, rest)) = rest.filter(|(kind, _)| kind.trim() == "form-data") else {
        return Err(Bad("a part does not say which field it is"));
    };
    let (mut name, mut file) = (None, None);
    for (key, value) in parameters(rest) {
        match key.as_str() {
            "name" => name = Some(value),
            "filename" => file = Some(value),
            _ => {}
        }
    }
    let name = name.ok_or(Bad("a part does not say which field it is"))?;
    Ok(Piece::Head { name, file })
}

/// `; name="value"` again and again, names in small letters.
fn parameters(text: &str) -> impl Iterator<Item = (String, String)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (name, value) = rest.trim_start_matches([';', ' ', '\t']).split_once('=')?;
        let name = name.trim().to_ascii_lowercase();
        let (value, behind) = match value.trim_start().strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let end = value.find(';').unwrap_or(value.len());
                (value[..end].trim().to_owned(), &value[end..])
            }
        };
        rest = behind;
        Some((name, value))
    })
}

/// Up to the closing quote; a backslash takes the quote behind it as it is, and browsers write one
/// as `%22`.
fn unquote(text: &str) -> (String, &str) {
    let (mut value, mut escaped) = (String::new(), false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => {
                if c != '"' && c != '\\' {
                    value.push('\\');
                }
                value.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return (value.replace("%22", "\""), &text[at + 1..]),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: &str = "multipart/form-data; boundary=XX";

    /// A field's name, its file's name, its contents.
    type Part = (String, Option<String>, String);

    /// All parts of a body that comes in pieces of `size` bytes, and whether it came to its end.
    fn read(body: &[u8], size: usize) -> Result<(Vec<Part>, bool), Bad> {
        let mut form = Form::of(KIND).expect("a form");
        let (mut parts, mut ended) = (Vec::new(), 0);
        for bytes in body.chunks(size) {
            form.push(bytes);
            while let Some(piece) = form.next()? {
                match piece {
                    Piece::Head { name, file } => parts.push((name, file, String::new())),
                    Piece::Data(data) => {
                        assert!(!data.is_empty());
                        let text = String::from_utf8(data).expect("cut between characters");
                        parts.last_mut().expect("a head came first").2.push_str(&text);
                    }
                    Piece::End => ended += 1,
                }
            }
            assert!(form.bytes.len() <= HEAD_MOST + size, "more is held than is needed");
        }
        assert!(ended == parts.len() || !form.whole());
        Ok((parts, form.whole()))
    }

    #[test]
    fn a_form_is_read_however_it_is_cut() {
        let disposition = "Content-Disposition: form-data; name=";
        let body = format!(
            "before\r\n--XX\r\n{disposition}\"purpose\"\r\n\r\nbatch\r\n--XX\r\n\
             content-type: text/plain\r\n{disposition}\"file\"; filename=\"a \\\"b\\\"%22.jsonl\"\
             \r\n\r\nline\r\n--X\r\n\r\n--\r\nline\r\n\r\n--XX\r\n{disposition}empty\r\n\r\n\
             \r\n--XX--\r\nafter"
        );
        let part = |name: &str, file: Option<&str>, text: &str| {
            (name.to_owned(), file.map(str::to_owned), text.to_owned())
        };
        let expect = vec![
            part("purpose", None, "batch"),
            part("file", Some("a \"b\"\".jsonl"), "line\r\n--X\r\n\r\n--\r\nline\r\n"),
            part("empty", None, ""),
        ];
        for size in 1..=body.len() {
            assert_eq!(read(body.as_bytes(), size), Ok((expect.clone(), true)), "{size}");
        }
        let cut = &body.as_bytes()[..body.len() - 12];
        assert_eq!(read(cut, 7).map(|read| read.1), Ok(false), "cut off before its end");
    }

    #[test]
    fn what_is_no_form() {
        let part = |head: &str| format!("--XX\r\n{head}\r\n\r\nx\r\n--XX--\r\n");
        let long = format!("x: {}", "y".repeat(HEAD_MOST + 1));
        let bodies = [
            part("content-type: text/plain"),
            part("content-disposition: form-data"),
            part("content-disposition: form-data; filename=\"a\""),
            part("content-disposition: attachment; name=\"a\""),
            "--XXY\r\n".to_owned(),
            format!("--XX\r\n{long}"),
        ];
        for body in bodies {
            for size in [1, 5, 100_000] {
                assert!(read(body.as_bytes(), size).is_err(), "{body:.100} by {size}");
            }
        }
        for kind in [
            "multipart/form-data",
            "application/json; boundary=X",
            "multipart/form-data; boundary=",
            "multipart/mixed; boundary=X",
            "multipart/form-data; boundary=\"a\u{e9}\"",
        ] {
            assert!(Form::of(kind).is_none(), "{kind}");
        }
        let long = format!("multipart/form-data; boundary={}", "x".repeat(71));
        assert!(Form::of(&long).is_none());
        assert!(Form::of("Multipart/Form-Data; charset=x; boundary=\"a b\"").is_some());
    }
}
