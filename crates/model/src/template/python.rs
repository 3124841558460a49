//! What chat templates use of Python beyond Jinja: `json.dumps`, `strftime`, and methods that the
//! template engine's own collection lacks.

use minijinja::value::{Rest, Value, ValueKind, ValueOrKwargs};
use minijinja::{Error, ErrorKind, State, filters};
use minijinja_contrib::pycompat::unknown_method_callback;
use std::fmt::Write;

/// The deepest value that is written as JSON.
const DEPTH_LIMIT: usize = 128;
/// The widest indent of a level.
const INDENT_LIMIT: usize = 32;
/// The most parts of a list, and entries of a part.
const PARTS_LIMIT: usize = 10_000;

/// The arguments of `json.dumps`.
pub(super) struct JsonStyle {
    pub(super) ascii: bool,
    pub(super) indent: Option<usize>,
    pub(super) separators: Option<Vec<String>>,
    pub(super) sort_keys: bool,
}

/// A method of a value, by Python's name for it.
pub(super) fn method(
    state: &mut State,
    value: &Value,
    method: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    if method == "format" {
        narrow(value)?;
    }
    unknown_method_callback(state, value, method, arguments)
}

/// Jinja2's own filter, its parts bounded.
pub(super) fn batch(
    state: &State,
    value: Value,
    count: usize,
    fill: Option<Value>,
) -> Result<Value, Error> {
    filters::batch(state, value, parts(count)?, fill)
}

/// Jinja2's own filter, its parts bounded.
pub(super) fn slice(
    state: &State,
    value: Value,
    count: usize,
    fill: Option<Value>,
) -> Result<Value, Error> {
    filters::slice(state, value, parts(count)?, fill)
}

fn parts(count: usize) -> Result<usize, Error> {
    if count <= PARTS_LIMIT { Ok(count) } else { Err(invalid("lists have parts of at most 10000")) }
}

/// Jinja2's own filter, its widths bounded.
pub(super) fn format(
    state: &mut State,
    pattern: &Value,
    arguments: Rest<ValueOrKwargs>,
) -> Result<Value, Error> {
    narrow(pattern)?;
    filters::format(state, pattern, arguments)
}

/// Refuses a pattern whose widths could be large: a number of five digits, or a width that is an
/// argument (`%*d`).
fn narrow(pattern: &Value) -> Result<(), Error> {
    let text = pattern.as_str().unwrap_or_default().replace("%%", "");
    let mut numbers = text.split(|c: char| !c.is_ascii_digit());
    let flags =
        |field: &str| field.trim_start_matches(|c| "-+ #.0123456789".contains(c)).starts_with('*');
    if numbers.any(|digits| digits.len() > 4) || text.split('%').skip(1).any(flags) {
        return Err(invalid("a format is no wider than 9999"));
    }
    Ok(())
}

/// Jinja's test: what Python can loop over, which None is not.
pub(super) fn is_iterable(value: &Value) -> bool {
    !value.is_none() && (value.as_str().is_some() || value.try_iter().is_ok())
}

/// Jinja's test: what has a length and items, as text, dictionaries and even Undefined do.
pub(super) fn is_sequence(value: &Value) -> bool {
    use ValueKind::{Map, Seq, String, Undefined};
    matches!(value.kind(), String | Seq | Map | Undefined)
}

/// Puts a margin, so many spaces or a text, before each line but (unless `first`) the first one
/// and (unless `blank`) empty ones.
pub(super) fn indent(
    text: &str,
    margin: &Value,
    first: bool,
    blank: bool,
) -> Result<String, Error> {
    let margin = match margin.as_str() {
        Some(text) => text.to_owned(),
        None => match usize::try_from(margin.clone())? {
            width @ ..=INDENT_LIMIT => " ".repeat(width),
            _ => return Err(invalid("indent is by at most 32 spaces")),
        },
    };
    let mut out = String::with_capacity(text.len());
    for (i, line) in text.split('\n').enumerate() {
        if i > 0 {
            out.push('\n');
        }
        let line = line.strip_suffix('\r').unwrap_or(line);
        if if i == 0 { first } else { blank || !line.is_empty() } {
            out.push_str(&margin);
        }
        out.push_str(line);
    }
    Ok(out)
}

/// A date in UTC, by `strftime`'s directives.
pub(super) fn strftime(format: &str, unix_s: i64) -> Result<String, Error> {
    let fail = |error: jiff::Error| Error::new(ErrorKind::InvalidOperation, error.to_string());
    let now = jiff::Timestamp::from_second(unix_s).map_err(fail)?;
    let date = jiff::tz::Offset::UTC.to_datetime(now);
    jiff::fmt::strtime::format(format, date).map_err(fail)
}

/// The JSON text that Python writes.
pub(super) fn dumps(value: &Value, style: &JsonStyle) -> Result<String, Error> {
    let (item, key) = match style.separators.as_deref() {
        None => (if style.indent.is_some() { "," } else { ", " }, ": "),
        Some([item, key]) => (item.as_str(), key.as_str()),
        Some(_) => return Err(invalid("tojson takes two separators")),
    };
    if style.indent.is_some_and(|indent| indent > INDENT_LIMIT) {
        return Err(invalid("tojson indents by at most 32"));
    }
    let mut writer = Writer { out: String::new(), style, item, key };
    writer.value(value, 0)?;
    Ok(writer.out)
}

struct Writer<'a> {
    out: String,
    style: &'a JsonStyle,
    item: &'a str,
    key: &'a str,
}

impl Writer<'_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > DEPTH_LIMIT {
            return Err(invalid("a value is nested too deeply for JSON"));
        }
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.number(value),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => self.list(value, depth)?,
            ValueKind::Map => self.map(value, depth)?,
            kind => return Err(invalid(&format!("an {kind} value has no JSON form"))),
        }
        Ok(())
    }

    /// Python writes 1e16 as `1e+16` and 0.00001 as `1e-05`.
    fn number(&mut self, value: &Value) {
        if value.is_integer() {
            let _ = write!(self.out, "{value}");
            return;
        }
        let number = f64::try_from(value.clone()).unwrap_or(f64::NAN);
        self.out.push_str(&match number {
            x if x.is_nan() => "NaN".into(),
            x if x.is_infinite() => if x > 0.0 { "Infinity" } else { "-Infinity" }.into(),
            x if x != 0.0 && !(1e-4..1e16).contains(&x.abs()) => {
                let short = format!("{x:e}");
                let (digits, power) = short.split_once('e').unwrap_or((&short, "0"));
                let (sign, power) = power.strip_prefix('-').map_or(('+', power), |p| ('-', p));
                format!("{digits}e{sign}{power:0>2}")
            }
            x => format!("{x:?}"),
        });
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for character in text.chars() {
            match character {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{C}' => self.out.push_str("\\f"),
                c if c < ' ' || self.style.ascii && !c.is_ascii() => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = write!(self.out, "\\u{unit:04x}");
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }

    fn list(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        self.out.push('[');
        let mut empty = true;
        for item in value.try_iter()? {
            self.before_item(empty, depth);
            empty = false;
            self.value(&item, depth + 1)?;
        }
        self.close(']', empty, depth);
        Ok(())
    }

    fn map(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        let mut keys: Vec<Value> = value.try_iter()?.collect();
        if self.style.sort_keys {
            keys.sort();
        }
        self.out.push('{');
        for (i, key) in keys.iter().enumerate() {
            self.before_item(i == 0, depth);
            match key.as_str() {
                Some(text) => self.string(text),
                None => self.string(&json_key(key)),
            }
            self.out.push_str(self.key);
            self.value(&value.get_item(key)?, depth + 1)?;
        }
        self.close('}', keys.is_empty(), depth);
        Ok(())
    }

    fn before_item(&mut self, first: bool, depth: usize) {
        if !first {
            self.out.push_str(self.item);
        }
        self.line(depth + 1);
    }

    fn close(&mut self, bracket: char, empty: bool, depth: usize) {
        if !empty {
            self.line(depth);
        }
        self.out.push(bracket);
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = self.style.indent {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(' ', indent * depth));
        }
    }
}

/// Keys that are no text are written as JSON would write the value.
fn json_key(key: &Value) -> String {
    match key.kind() {
        ValueKind::None => "null".into(),
        ValueKind::Bool => if key.is_true() { "true" } else { "false" }.into(),
        _ => key.to_string(),
    }
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.to_owned())
}
