//! One JSON value in a stream, passed on as it comes and mended where that is safe: a comma before
//! a closing bracket is left out, a line feed within a text is written as JSON writes it. Whether
//! all of it is JSON is for a reader of JSON to tell, once it is complete.

/// How far a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// More has to come.
    More,
    /// The value is complete with this character.
    Done,
    /// It was complete before this character, which is no part of it.
    DoneBefore,
    /// This character cannot come here.
    Bad,
}

/// Reads one value.
#[derive(Clone, Debug, Default)]
pub(super) struct Value {
    /// The brackets to be closed, innermost last.
    open: Vec<char>,
    begun: bool,
    text: bool,
    escaped: bool,
    /// A comma, and space after it, of which it is not known whether something follows.
    comma: String,
    mended: Option<&'static str>,
}

/// The deepest value that is read.
const DEPTH_MAX: usize = 128;

impl Value {
    /// What was mended, if anything was.
    pub(super) fn mended(&self) -> Option<&'static str> {
        self.mended
    }

    /// Whether a text is under way, in which any mark is only text.
    pub(super) fn in_text(&self) -> bool {
        self.text
    }

    /// Takes a character; what it adds goes to `out`.
    pub(super) fn push(&mut self, c: char, out: &mut String) -> Progress {
        if self.text {
            return self.push_text(c, out);
        }
        if c.is_ascii_whitespace() {
            return self.space(c, out);
        }
        if !self.comma.is_empty() {
            if matches!(c, '}' | ']') {
                self.mended = Some("a comma before a closing bracket was left out");
                self.comma.clear();
            }
            out.push_str(&std::mem::take(&mut self.comma));
        }
        match c {
            '{' | '[' if self.open.len() == DEPTH_MAX => Progress::Bad,
            '{' | '[' => {
                self.open.push(if c == '{' { '}' } else { ']' });
                self.keep(c, out)
            }
            '}' | ']' => match self.open.pop() {
                None if self.begun => Progress::DoneBefore,
                Some(open) if open == c => {
                    out.push(c);
                    if self.open.is_empty() { Progress::Done } else { Progress::More }
                }
                _ => Progress::Bad,
            },
            ',' if self.open.is_empty() => {
                if self.begun {
                    Progress::DoneBefore
                } else {
                    Progress::Bad
                }
            }
            ',' => {
                self.comma.push(c);
                Progress::More
            }
            '"' => {
                self.text = true;
                self.keep(c, out)
            }
            ':' | '+' | '-' | '.' => self.keep(c, out),
            c if c.is_ascii_alphanumeric() => self.keep(c, out),
            // A mark that follows a number, say.
            _ if self.begun && self.open.is_empty() => Progress::DoneBefore,
            _ => Progress::Bad,
        }
    }

    fn keep(&mut self, c: char, out: &mut String) -> Progress {
        self.begun = true;
        out.push(c);
        Progress::More
    }

    fn space(&mut self, c: char, out: &mut String) -> Progress {
        match (self.begun, self.open.is_empty(), self.comma.is_empty()) {
            (false, ..) => Progress::More,
            (true, true, _) => Progress::DoneBefore,
            (true, false, true) => self.keep(c, out),
            (true, false, false) => {
                self.comma.push(c);
                Progress::More
            }
        }
    }

    fn push_text(&mut self, c: char, out: &mut String) -> Progress {
        match c {
            _ if self.escaped => self.escaped = false,
            '\\' => self.escaped = true,
            '"' => {
                self.text = false;
                out.push(c);
                return if self.open.is_empty() { Progress::Done } else { Progress::More };
            }
            '\n' | '\r' | '\t' => {
                self.mended = Some("a line feed within a text was written as JSON writes it");
                out.push_str(match c {
                    '\n' => "\\n",
                    '\r' => "\\r",
                    _ => "\\t",
                });
                return Progress::More;
            }
            _ => {}
        }
        out.push(c);
        Progress::More
    }

    /// Closes what is open, where that is plain to see. `None` where a text or a key is cut.
    pub(super) fn close(&mut self) -> Option<String> {
        if self.text || !self.begun {
            return None;
        }
        if !self.open.is_empty() {
            self.mended = Some("brackets that were left open were closed");
        }
        self.comma.clear();
        Some(std::iter::from_fn(|| self.open.pop()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a value is passed on as, and what comes after it.
    fn read(text: &str) -> Option<(String, String)> {
        let (mut value, mut out) = (Value::default(), String::new());
        for (at, c) in text.char_indices() {
            match value.push(c, &mut out) {
                Progress::More => {}
                Progress::Done => return Some((out, text[at + c.len_utf8()..].to_owned())),
                Progress::DoneBefore => return Some((out, text[at..].to_owned())),
                Progress::Bad => return None,
            }
        }
        let rest = value.close()?;
        Some((out + &rest, String::new()))
    }

    #[test]
    fn values_are_passed_on_and_mended() {
        let check = |text: &str, value: &str, rest: &str| {
            assert_eq!(read(text), Some((value.into(), rest.into())), "{text:?}");
        };
        check(r#"{"a": 1} more"#, r#"{"a": 1}"#, " more");
        check(r#" [1, {"b": "}]\""}, []]x"#, r#"[1, {"b": "}]\""}, []]"#, "x");
        check(r#""text", 1"#, r#""text""#, ", 1");
        check("12.5e-3}", "12.5e-3", "}");
        check("true</tool_call>", "true", "</tool_call>");
        check(r#"{"a": [1, 2, ], }"#, r#"{"a": [1, 2]}"#, "");
        check("{\"a\": \"x\ny\"}", r#"{"a": "x\ny"}"#, "");
        check(r#"{"a": [1, 2"#, r#"{"a": [1, 2]}"#, "");
        check(r#"{"a": 1, "#, r#"{"a": 1}"#, "");
        for text in [r#"{"a": "x"#, "]", "{]", "<", ",", "", "{'a': 1}"] {
            assert_eq!(read(text), None, "{text:?}");
        }
        assert_eq!(read(&"[".repeat(200)), None, "too deep");
    }
}
