//! The table of a format's request fields: one row a field, read by the reader, by the check for
//! unknown fields and by the documentation. A field is honoured, means nothing at the values named,
//! or is refused with a reason; `null` is the same as not given. Nothing is dropped silently.
//! Absent: the rows, which each format has of its own.

use serde_json::{Map, Value};

use super::check::{self, Read};

/// What becomes of a field.
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    /// It has its effect.
    Honoured,
    /// About the caller or the machine, not the answer: accepted with any value, and nothing is
    /// done with it.
    Inert,
    /// Accepted with these values (JSON texts), at which it has no effect; refused with others.
    Neutral(&'static [&'static str], &'static str),
    /// Refused, for this reason.
    Refused(&'static str),
}

impl Rule {
    /// In words, as the documentation's tables have it.
    pub fn words(&self) -> String {
        match self {
            Self::Honoured => "honoured".to_owned(),
            Self::Inert => "accepted, no effect".to_owned(),
            Self::Neutral(values, why) => format!("only `{}`: {why}", values.join("` or `")),
            Self::Refused(why) => format!("refused: {why}"),
        }
    }
}

/// What a table says of a field.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its name in a request.
    pub name: &'static str,
    /// What becomes of it.
    pub rule: Rule,
}

/// A row of a table whose fields are read into a `D`, and which has columns `F`.
pub(super) struct Field<D: 'static, F: 'static> {
    pub(super) row: Row,
    /// Which formats know it.
    pub(super) formats: &'static [F],
    read: fn(&mut D, &str, &Value) -> Read<()>,
}

/// A field that has its effect.
pub(super) const fn honoured<D, F>(
    formats: &'static [F],
    name: &'static str,
    read: fn(&mut D, &str, &Value) -> Read<()>,
) -> Field<D, F> {
    Field { row: Row { name, rule: Rule::Honoured }, formats, read }
}

const fn plain<D, F>(formats: &'static [F], name: &'static str, rule: Rule) -> Field<D, F> {
    Field { row: Row { name, rule }, formats, read: |_, _, _| Ok(()) }
}

/// A field that may have any value.
pub(super) const fn inert<D, F>(formats: &'static [F], name: &'static str) -> Field<D, F> {
    plain(formats, name, Rule::Inert)
}

/// A field that may have these values.
pub(super) const fn neutral<D, F>(
    formats: &'static [F],
    name: &'static str,
    values: &'static [&'static str],
    why: &'static str,
) -> Field<D, F> {
    plain(formats, name, Rule::Neutral(values, why))
}

/// A field that is known and not taken.
pub(super) const fn refused<D, F>(
    formats: &'static [F],
    name: &'static str,
    why: &'static str,
) -> Field<D, F> {
    plain(formats, name, Rule::Refused(why))
}

/// The rows that `format` knows.
pub(super) fn rows<D, F: PartialEq>(
    table: &'static [Field<D, F>],
    format: F,
) -> impl Iterator<Item = Row> {
    table.iter().filter(move |field| field.formats.contains(&format)).map(|field| field.row)
}

/// Reads every field of `body`, which stands at `at` (nowhere: the body itself), into a draft; the
/// first one at fault fails it.
pub(super) fn read_fields<D, F: PartialEq + Copy>(
    table: &'static [Field<D, F>],
    format: F,
    at: &str,
    body: &Map<String, Value>,
    draft: &mut D,
) -> Read<()> {
    for (name, value) in body {
        let known = || table.iter().filter(|field| field.formats.contains(&format));
        let Some(field) = known().find(|field| field.row.name == name) else {
            return check::unknown(at, name, known().map(|field| field.row.name));
        };
        if value.is_null() {
            continue;
        }
        let at = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
        match field.row.rule {
            Rule::Honoured => (field.read)(draft, &at, value)?,
            Rule::Inert => {}
            Rule::Neutral(values, _) if values.iter().any(|text| same(text, value)) => {}
            Rule::Neutral(values, why) => {
                let allowed = values.join(" or ");
                return check::bad(&at, format!("is supported only as {allowed}: {why}"));
            }
            Rule::Refused(why) => return check::bad(&at, format!("is not supported: {why}")),
        }
    }
    Ok(())
}

/// Whether `value` is what `text` says; `1.0` is `1`.
fn same(text: &str, value: &Value) -> bool {
    let Ok(wanted) = serde_json::from_str::<Value>(text) else { return false };
    wanted == *value || (wanted.is_number() && wanted.as_f64() == value.as_f64())
}
