//! A batch's output: its lines' results in the order of the input, written to files that exist
//! whole or not at all. Writing them again after a crash makes the same files, since their ids
//! follow from the batch's; only then, in one step, the files are known, the lines gone and the
//! batch ended.

use rusqlite::{OptionalExtension, params};

use super::{BatchRecord, BatchStatus, COLUMNS, record, step};
use crate::disk::{self, Draft};
use crate::files::{self, FileRecord};
use crate::{Records, Result};

/// What stands in `batch_lines.outcome` for a line that was answered.
pub(super) const ANSWERED: i64 = 1;
/// The same for one that failed.
pub(super) const FAILED: i64 = 2;

/// Lines that are read at once: while they are, nobody else can use the records.
const CHUNK: u32 = 256;

/// Writes the result of a line that was never answered, by its `custom_id` and the status that the
/// batch is coming to: one line of JSON.
pub type Unrun<'a> = &'a dyn Fn(&str, BatchStatus) -> String;

/// A line as its output needs it.
struct Line {
    number: i64,
    custom_id: String,
    outcome: i64,
    result: Option<String>,
}

/// Where an output's contents go, and how much of it there is.
struct Sink {
    id: String,
    draft: Draft,
    bytes: u64,
}

impl Sink {
    fn new(records: &Records, id: String) -> Result<Self> {
        let draft = Draft::new(records.contents(&id)?)?;
        Ok(Self { id, draft, bytes: 0 })
    }

    fn line(&mut self, text: &str) -> Result<()> {
        self.draft.write(text.as_bytes())?;
        self.draft.write(b"\n")?;
        self.bytes += text.len() as u64 + 1;
        Ok(())
    }

    /// The file, if there is anything in it.
    fn finish(self, batch: &BatchRecord, kind: &str, now_s: u64) -> Result<Option<FileRecord>> {
        if self.bytes == 0 {
            return Ok(None);
        }
        self.draft.name()?;
        Ok(Some(FileRecord {
            id: self.id,
            owner: batch.asked.owner.clone(),
            purpose: "batch_output".to_owned(),
            name: format!("{}_{kind}.jsonl", batch.asked.id),
            bytes: self.bytes,
            created_s: now_s,
            expires_s: None,
            // What holds for the batch and all that it builds on holds for its answers.
            origin: batch.asked.origin.clone(),
        }))
    }
}

impl Records {
    /// Writes the output of a batch that is finalizing or cancelling, and ends it. Returns what it
    /// has come to; `None` where it was neither.
    ///
    /// # Errors
    /// Where the output cannot be written; it can be tried again.
    pub fn close_batch(
        &self,
        id: &str,
        unrun: Unrun<'_>,
        now_s: u64,
    ) -> Result<Option<BatchStatus>> {
        let found = self.read(|connection| {
            let sql = format!("SELECT {COLUMNS} FROM batches WHERE id = ?1");
            connection.prepare_cached(&sql)?.query_row([id], record).optional()
        })?;
        let Some(batch) = found else { return Ok(None) };
        let [total, answered, failed] = batch.counts;
        let end = match batch.status {
            BatchStatus::Cancelling => BatchStatus::Cancelled,
            BatchStatus::Finalizing if total == answered + failed => BatchStatus::Completed,
            BatchStatus::Finalizing => BatchStatus::Expired,
            _ => return Ok(None),
        };
        let files = self.write_output(&batch, end, unrun, now_s)?;
        self.settle(id, end, files, now_s)
    }

    /// Answers in one file, everything else in another.
    pub(super) fn write_output(
        &self,
        batch: &BatchRecord,
        end: BatchStatus,
        unrun: Unrun<'_>,
        now_s: u64,
    ) -> Result<[Option<FileRecord>; 2]> {
        disk::make_folder(&self.folder().join(files::FOLDER))?;
        let stem = batch.asked.id.trim_start_matches("batch_");
        let mut output = Sink::new(self, format!("file-{stem}-out"))?;
        let mut errors = Sink::new(self, format!("file-{stem}-err"))?;
        let mut from = 0;
        loop {
            let lines = self.lines(&batch.asked.id, from)?;
            let Some(last) = lines.last() else { break };
            from = last.number + 1;
            for line in lines {
                match (line.outcome, line.result) {
                    (ANSWERED, Some(result)) => output.line(&result)?,
                    (_, Some(result)) => errors.line(&result)?,
                    (_, None) => errors.line(&unrun(&line.custom_id, end))?,
                }
            }
        }
        Ok([output.finish(batch, "output", now_s)?, errors.finish(batch, "error", now_s)?])
    }

    fn lines(&self, id: &str, from: i64) -> Result<Vec<Line>> {
        self.read(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT line, custom_id, outcome, result FROM batch_lines WHERE batch = \
                 (SELECT seq FROM batches WHERE id = ?1) AND line >= ?2 ORDER BY line LIMIT ?3",
            )?;
            let rows = query.query_map(params![id, from, CHUNK], |row| {
                let (number, outcome) = (row.get(0)?, row.get(2)?);
                Ok(Line { number, custom_id: row.get(1)?, outcome, result: row.get(3)? })
            })?;
            rows.collect()
        })
    }

    /// The last step: the files are their owner's, the lines are gone, the batch has ended.
    fn settle(
        &self,
        id: &str,
        end: BatchStatus,
        files: [Option<FileRecord>; 2],
        now_s: u64,
    ) -> Result<Option<BatchStatus>> {
        self.write(|change| {
            let closing = [BatchStatus::Finalizing, BatchStatus::Cancelling];
            if !step(change, id, &closing, end, now_s)? {
                return Ok(None);
            }
            for file in files.iter().flatten() {
                files::insert(change, file)?;
            }
            let [output, errors] = files.map(|file| file.map(|file| file.id));
            let seq: i64 = change
                .prepare_cached(
                    "UPDATE batches SET output_file = ?2, error_file = ?3 WHERE id = ?1 \
                     RETURNING seq",
                )?
                .query_row((id, output, errors), |row| row.get(0))?;
            change.prepare_cached("DELETE FROM batch_lines WHERE batch = ?1")?.execute([seq])?;
            Ok(Some(end))
        })
    }
}
