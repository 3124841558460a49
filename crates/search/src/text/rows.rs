//! Records as text: a line a field, `name: value`, so that a value is found together with what it
//! is. A row that is broken is taken as it stands.

use csv::{ByteRecord, ReaderBuilder};
use serde_json::Value;

use super::{Row, Text};

/// Marks between fields that are looked for in the first line, the likelier first.
const DELIMITERS: [u8; 4] = [b',', b'\t', b';', b'|'];

/// A table whose first row names the columns.
pub(super) fn table(base: &Text) -> Text {
    let bytes = base.text.as_bytes();
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(delimiter(&base.text))
        .from_reader(bytes);
    let (mut out, mut names, mut record) = (Text::default(), None, ByteRecord::new());
    // What is read from memory and may have any number of fields cannot fail.
    while let Ok(true) = reader.read_byte_record(&mut record) {
        let start = record.position().map_or(0, |at| at.byte() as usize).min(bytes.len());
        let end = (reader.position().byte() as usize).clamp(start, bytes.len());
        let fields: Vec<String> =
            record.iter().map(|field| String::from_utf8_lossy(field).into_owned()).collect();
        let Some(names) = &names else {
            names = Some(fields);
            continue;
        };
        let named = fields
            .iter()
            .enumerate()
            .map(|(index, value)| (names.get(index).map_or("", String::as_str), value.as_str()));
        row(&mut out, base, start..end, &named.collect::<Vec<_>>());
    }
    out
}

fn delimiter(text: &str) -> u8 {
    let first = text.lines().next().unwrap_or_default();
    let count = |mark: u8| first.bytes().filter(|byte| *byte == mark).count();
    let best = DELIMITERS.iter().rev().copied().max_by_key(|mark| count(*mark));
    best.filter(|mark| count(*mark) > 0).unwrap_or(b',')
}

/// A JSON value a line.
pub(super) fn json_lines(base: &Text) -> Text {
    let mut out = Text::default();
    let mut start = 0;
    for line in base.text.split_inclusive('\n') {
        let range = start..start + line.len();
        start = range.end;
        let mut fields = Vec::new();
        match serde_json::from_str(line) {
            Ok(value) => flatten("", &value, &mut fields),
            Err(_) => fields.push((String::new(), line.trim().to_owned())),
        }
        let fields: Vec<(&str, &str)> =
            fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        row(&mut out, base, range, &fields);
    }
    out
}

/// Bytes of a field's name, at most: a value far within others keeps the nearest names.
const NAME: usize = 100;

/// A value's leaves, by their names; the reader of JSON has bounded how deep they are.
fn flatten(name: &str, value: &Value, out: &mut Vec<(String, String)>) {
    let leaf = match value {
        Value::Object(members) => {
            for (key, value) in members {
                let full = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                flatten(if full.len() > NAME { key } else { &full }, value, out);
            }
            return;
        }
        Value::Array(items) => return items.iter().for_each(|item| flatten(name, item, out)),
        Value::String(text) => text.clone(),
        Value::Null => return,
        other => other.to_string(),
    };
    out.push((name.to_owned(), leaf));
}

/// Adds a row, if anything is in it.
fn row(out: &mut Text, base: &Text, source: std::ops::Range<usize>, fields: &[(&str, &str)]) {
    let start = out.text.len();
    for (name, value) in fields {
        let (name, value) = (name.trim(), value.trim());
        if !value.is_empty() {
            let colon = if name.is_empty() { "" } else { ": " };
            out.put(base.source(source.start), &format!("{name}{colon}{value}\n"));
        }
    }
    if out.text.len() > start {
        let text = start..out.text.len();
        out.rows.push(Row { text, source: base.source_range(&source) });
    }
}
