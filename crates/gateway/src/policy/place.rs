//! Where in a policy's text something is: line, column, and the keys that lead to it. Absent: what
//! is wrong there.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What is wrong with a policy, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {}{message}", led(.key))]
pub struct Wrong {
    /// The file's name, as it was given.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// The keys that lead there, `providers.openai.kind`; empty where none does.
    pub key: String,
    /// What is wrong and what to do.
    pub message: String,
}

fn led(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!("`{key}`: ") }
}

/// What is wrong, and which bytes of the text say it.
pub(super) struct At(pub(super) Range<usize>, pub(super) String);

impl At {
    /// What is wrong with a value.
    pub(super) fn new<T>(value: &Spanned<T>, message: impl Into<String>) -> Self {
        Self(value.span(), message.into())
    }

    /// The same, for who reads it.
    pub(super) fn wrong(self, file: &str, text: &str) -> Wrong {
        let Self(range, message) = self;
        let before = text.get(..range.start).unwrap_or(text);
        let key = DeTable::parse(text).ok().and_then(|table| path(table.get_ref(), range.start));
        Wrong {
            file: file.to_owned(),
            line: line(text, range.start),
            column: before.rsplit('\n').next().unwrap_or_default().chars().count() + 1,
            key: key.unwrap_or_default(),
            message,
        }
    }
}

/// The line that a byte is in, from 1.
pub(super) fn line(text: &str, at: usize) -> usize {
    text.get(..at).unwrap_or(text).matches('\n').count() + 1
}

/// The keys that lead to a byte: the longest such path.
fn path(table: &DeTable<'_>, at: usize) -> Option<String> {
    let mut best: Option<Vec<String>> = None;
    let mut keep = |found: Vec<String>| {
        if best.as_ref().is_none_or(|best| found.len() > best.len()) {
            best = Some(found);
        }
    };
    for (name, value) in table {
        let inside = match value.get_ref() {
            DeValue::Table(inner) => path_in(inner, at),
            DeValue::Array(all) => all.iter().enumerate().find_map(|(number, value)| {
                let inner = match value.get_ref() {
                    DeValue::Table(inner) => path_in(inner, at),
                    _ => None,
                };
                let here = value.span().contains(&at).then(Vec::new);
                inner.or(here).map(|mut found| {
                    found.insert(0, (number + 1).to_string());
                    found
                })
            }),
            _ => None,
        };
        let here = name.span().contains(&at) || value.span().contains(&at);
        if let Some(mut found) = inside.or(here.then(Vec::new)) {
            found.insert(0, shown(name.get_ref()));
            keep(found);
        }
    }
    best.map(|keys| keys.join("."))
}

fn path_in(table: &DeTable<'_>, at: usize) -> Option<Vec<String>> {
    path(table, at).map(|found| vec![found])
}

/// A key as a file writes it.
fn shown(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let plain = !key.is_empty() && key.chars().all(bare);
    if plain { key.to_owned() } else { format!("{key:?}") }
}
