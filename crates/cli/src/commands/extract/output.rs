//! Where values are written: standard output, or a file of lines that a later run goes on with. A
//! line is written whole, or it is taken for not written: what a power cut leaves of the last one
//! is cut off before the work goes on.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use ingle_protocol::wire::receipt;
use serde_json::{Value, json};

use super::{Outcome, STDIN, Schema};
use crate::ui::{Ui, Usage};

/// Where values go.
pub(super) struct Output {
    file: Option<(PathBuf, File)>,
    /// Files that have their line.
    there: BTreeSet<String>,
}

impl Output {
    /// Standard output, or a file, which may be there already.
    pub(super) fn open(
        path: Option<&Path>,
        overwrite: bool,
        schema: &Schema,
    ) -> anyhow::Result<Self> {
        let Some(path) = path else { return Ok(Self { file: None, there: BTreeSet::new() }) };
        let wrong = |error: std::io::Error| Usage(format!("{}: {error}", path.display()));
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(overwrite);
        let mut file = file.open(path).map_err(wrong)?;
        let (there, whole) = read(&file, schema).map_err(|why| {
            let path = path.display();
            Usage(format!(
                "{path}: {why}\nhint: give another output file, or begin it anew with --overwrite"
            ))
        })?;
        file.set_len(whole).map_err(wrong)?;
        file.seek(SeekFrom::End(0)).map_err(wrong)?;
        Ok(Self { file: Some((path.to_owned(), file)), there })
    }

    /// Whether a file has its line.
    pub(super) fn has(&self, file: &str) -> bool {
        self.there.contains(file)
    }

    /// Lines that were there.
    pub(super) fn skipped(&self) -> usize {
        self.there.len()
    }

    /// Writes what came of a file, or of standard input alone. What failed leaves no line in a
    /// file, so that it is tried again; on standard output it does with `--json`.
    pub(super) fn write(
        &mut self,
        ui: &Ui,
        name: Option<&str>,
        outcome: Outcome,
    ) -> anyhow::Result<()> {
        let Some((path, file)) = &mut self.file else {
            return show(ui, name, outcome);
        };
        let Ok(value) = outcome.value else { return Ok(()) };
        let line = json!({ "file": name.unwrap_or(STDIN), "value": value });
        let written = file.write_all(format!("{line}\n").as_bytes());
        written.map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))
    }

    /// Makes sure that all of it is on the disk.
    pub(super) fn finish(&mut self) -> anyhow::Result<()> {
        let Some((path, file)) = &self.file else { return Ok(()) };
        match file.sync_all() {
            // A pipe or a terminal has no disk.
            Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
            other => other.map_err(|error| anyhow::anyhow!("{}: {error}", path.display())),
        }
    }
}

/// On standard output.
fn show(ui: &Ui, name: Option<&str>, outcome: Outcome) -> anyhow::Result<()> {
    let mut line = match name {
        Some(name) => json!({ "file": name }),
        None => json!({}),
    };
    match (outcome.value, name) {
        (Ok(value), None) if !ui.json => return ui.object(&value),
        (Ok(value), _) => line["value"] = value,
        (Err(why), _) if ui.json => line["error"] = json!(why),
        (Err(_), _) => return Ok(()),
    }
    if let Some(receipt) = outcome.receipt.filter(|_| ui.json) {
        line["receipt"] = serde_json::from_str(&receipt::write(&receipt))?;
    }
    ui.object(&line)
}

/// The files that have lines, and the bytes of all whole lines.
fn read(file: &File, schema: &Schema) -> Result<(BTreeSet<String>, u64), String> {
    let (mut there, mut whole) = (BTreeSet::new(), 0);
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let count = reader.read_until(b'\n', &mut line).map_err(|error| error.to_string())?;
        if line.last() != Some(&b'\n') {
            break; // the end, or a line that was cut off
        }
        let mut row: Value = serde_json::from_slice(&line)
            .map_err(|error| format!("line {number} is not one of this command's: {error}"))?;
        let value = row.get_mut("value").map(Value::take);
        let (Some(name), Some(value)) = (row["file"].as_str(), value) else {
            return Err(format!("line {number} is not one of this command's"));
        };
        schema
            .matches(&value)
            .map_err(|why| format!("line {number} was made with another schema: {why}"))?;
        there.insert(name.to_owned());
        whole += count as u64;
    }
    Ok((there, whole))
}
