//! Batches: many requests in a file, answered in the background, over as many lives of the process
//! as it takes.
//!
//! A batch is a small state machine whose every step is one transaction, so that a crash leaves it
//! at one side of a step or the other:
//!
//! ```text
//! validating ─▶ in_progress ─▶ finalizing ─▶ completed, or expired
//!     │  └────────▶ failed └─▶ cancelling ─▶ cancelled
//!     └─▶ cancelled
//! ```
//!
//! While it is in progress each line of its input has a row, and its result is in that row before
//! it counts; a line that has one never gets another. The output is made of the rows, in the order
//! of the input, and the rows go in the same step that makes the batch ended. Absent: what a line
//! says, and who answers it.

mod output;

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::{Listed, Page, Records, Result};

pub use output::Unrun;

/// Where a batch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BatchStatus {
    /// Its input was not read through yet.
    Validating,
    /// Its input was refused.
    Failed,
    /// Its lines are answered.
    InProgress,
    /// Its output is written.
    Finalizing,
    /// All lines have a result.
    Completed,
    /// Its time was over before.
    Expired,
    /// It is to be ended, and its output is written.
    Cancelling,
    /// It was ended.
    Cancelled,
}

use BatchStatus::{
    Cancelled, Cancelling, Completed, Expired, Failed, Finalizing, InProgress, Validating,
};

/// Each status and its name, on the wire and in the table.
const STATUSES: &[(BatchStatus, &str)] = &[
    (Validating, "validating"),
    (Failed, "failed"),
    (InProgress, "in_progress"),
    (Finalizing, "finalizing"),
    (Completed, "completed"),
    (Expired, "expired"),
    (Cancelling, "cancelling"),
    (Cancelled, "cancelled"),
];

impl BatchStatus {
    /// Its name, as OpenAI has it.
    pub fn name(self) -> &'static str {
        STATUSES.iter().find(|row| row.0 == self).map_or("", |row| row.1)
    }

    /// Whether nothing more will become of it.
    pub fn ended(self) -> bool {
        matches!(self, Failed | Completed | Expired | Cancelled)
    }
}

/// What a batch is asked to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewBatch {
    /// Its id, never given twice.
    pub id: String,
    /// Whose it is.
    pub owner: String,
    /// The path that its lines are for.
    pub endpoint: String,
    /// The file of its lines, which is its owner's.
    pub input_file: String,
    /// How long it may take, as its owner wrote it.
    pub completion_window: String,
    /// Its owner's notes, a JSON object.
    pub metadata: Option<String>,
    /// Where it was begun from and where its input came from, as its server writes it; `None` where
    /// nobody knows. Its output has the same.
    pub origin: Option<String>,
    /// Seconds since 1970 when it was made.
    pub created_s: u64,
    /// Seconds since 1970 when its time is over.
    pub expires_s: u64,
}

/// A batch and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchRecord {
    /// What it was asked to do.
    pub asked: NewBatch,
    /// Where it stands.
    pub status: BatchStatus,
    /// What is wrong with its input, a JSON array.
    pub errors: Option<String>,
    /// The file of answers, where there are any.
    pub output_file: Option<String>,
    /// The file of lines that failed, where there are any.
    pub error_file: Option<String>,
    /// Lines: all, those answered, those that failed.
    pub counts: [u64; 3],
    /// Each status it came to after its first, and when, in seconds since 1970.
    pub times: Vec<(BatchStatus, u64)>,
}

/// How many batches one owner may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// That are not ended.
    pub open: u64,
    /// That are remembered after they ended; the oldest are forgotten first.
    pub ended: u64,
}

/// What became of a wish to begin a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It is on the disk.
    Yes,
    /// Its owner has no such file.
    NoFile,
    /// Its owner has as many open batches as are allowed.
    TooMany,
}

/// What became of a wish to end a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// It is on its way, or was already.
    Yes(Box<BatchRecord>),
    /// The owner has no such batch.
    Unknown,
    /// It has ended, or its output is being written.
    TooLate(BatchStatus),
}

/// Where a line stands in the input file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineSpan {
    /// Its owner's name for it; unique in its batch.
    pub custom_id: String,
    /// The first byte.
    pub start: u64,
    /// How many.
    pub bytes: u64,
}

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered; its result goes into the output file.
    Answered,
    /// It failed; its result goes into the error file.
    Failed,
}

/// How many batches stand where, and how many of their lines have no result yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Batches that have not ended.
    pub batches: u64,
    /// Lines of those in progress without a result.
    pub lines: u64,
}

impl Records {
    /// Begins a batch over a file of the same owner's.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn begin_batch(&self, batch: &NewBatch, limits: BatchLimits) -> Result<Begun> {
        self.write(|change| {
            let known: bool = change
                .prepare_cached("SELECT EXISTS (SELECT 1 FROM files WHERE owner = ?1 AND id = ?2)")?
                .query_row((&batch.owner, &batch.input_file), |row| row.get(0))?;
            if !known {
                return Ok(Begun::NoFile);
            }
            let sql = "SELECT count(*) FROM batches WHERE owner = ?1 AND status IN \
                       ('validating', 'in_progress', 'finalizing', 'cancelling')";
            let open: i64 =
                change.prepare_cached(sql)?.query_row([&batch.owner], |row| row.get(0))?;
            if open.cast_unsigned() >= limits.open {
                return Ok(Begun::TooMany);
            }
            forget_oldest(change, &batch.owner, limits)?;
            insert(change, batch)?;
            Ok(Begun::Yes)
        })
    }

    /// A batch of this owner's.
    ///
    /// # Errors
    /// Where the records cannot be read.
    pub fn batch(&self, owner: &str, id: &str) -> Result<Option<BatchRecord>> {
        self.read(|connection| find(connection, owner, id))
    }

    /// A page of this owner's batches. `None`: there is no batch that it could begin after.
    ///
    /// # Errors
    /// Where the records cannot be read.
    pub fn batches(&self, owner: &str, page: &Page<'_>) -> Result<Option<Listed<BatchRecord>>> {
        self.read(|connection| {
            let Some(after) = page.after(connection, "batches", owner)? else { return Ok(None) };
            // Parameter 2 is a filter's place in other lists.
            let sql = format!(
                "SELECT {COLUMNS} FROM batches WHERE owner = ?1 AND ?2 IS NULL AND {} LIMIT ?4",
                page.order()
            );
            let mut query = connection.prepare_cached(&sql)?;
            let none: Option<i64> = None;
            let rows = query.query_map(params![owner, none, after, page.fetched()], record)?;
            Ok(Some(page.listed(rows.collect::<rusqlite::Result<_>>()?)))
        })
    }

    /// Everyone's batches that have not ended, the oldest first; at most `limit`.
    ///
    /// # Errors
    /// Where the records cannot be read.
    pub fn open_batches(&self, limit: u32) -> Result<Vec<BatchRecord>> {
        self.read(|connection| {
            let sql = format!(
                "SELECT {COLUMNS} FROM batches WHERE status IN \
                 ('validating', 'in_progress', 'finalizing', 'cancelling') ORDER BY seq LIMIT ?1"
            );
            let mut query = connection.prepare_cached(&sql)?;
            query.query_map([limit], record)?.collect()
        })
    }

    /// How much is to be done, for everyone.
    ///
    /// # Errors
    /// Where the records cannot be read.
    pub fn backlog(&self) -> Result<Backlog> {
        self.read(|connection| {
            let sql = "SELECT count(*), coalesce(sum(CASE status WHEN 'in_progress' \
                       THEN total - completed - failed ELSE 0 END), 0) FROM batches WHERE \
                       status IN ('validating', 'in_progress', 'finalizing', 'cancelling')";
            connection.prepare_cached(sql)?.query_row((), |row| {
                let [batches, lines]: [i64; 2] = [row.get(0)?, row.get(1)?];
                Ok(Backlog { batches: batches.cast_unsigned(), lines: lines.cast_unsigned() })
            })
        })
    }

    /// Refuses a batch's input: `errors` says why, a JSON array. False where the batch was not
    /// being validated any more.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn refuse_batch(&self, id: &str, errors: &str, now_s: u64) -> Result<bool> {
        self.write(|change| {
            if !step(change, id, &[Validating], Failed, now_s)? {
                return Ok(false);
            }
            change
                .prepare_cached("UPDATE batches SET errors = ?2 WHERE id = ?1")?
                .execute((id, errors))?;
            Ok(true)
        })
    }

    /// Takes a batch's lines, in order: it is in progress then. False where it was not being
    /// validated any more.
    ///
    /// # Errors
    /// Where they cannot be written.
    pub fn accept_batch(&self, id: &str, lines: &[LineSpan], now_s: u64) -> Result<bool> {
        self.write(|change| {
            if !step(change, id, &[Validating], InProgress, now_s)? {
                return Ok(false);
            }
            let seq: i64 = change
                .prepare_cached("UPDATE batches SET total = ?2 WHERE id = ?1 RETURNING seq")?
                .query_row((id, lines.len() as i64), |row| row.get(0))?;
            let mut insert = change.prepare_cached(
                "INSERT INTO batch_lines (batch, line, custom_id, start, bytes) \
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?;
            for (line, number) in lines.iter().zip(0_i64..) {
                let (start, bytes) = (line.start.cast_signed(), line.bytes.cast_signed());
                insert.execute((seq, number, &line.custom_id, start, bytes))?;
            }
            Ok(true)
        })
    }

    /// Lines of a batch in progress that have no result, from line `from` on (the first is 0), in
    /// order and with their numbers; at most `limit`.
    ///
    /// # Errors
    /// Where the records cannot be read.
    pub fn waiting_lines(&self, id: &str, from: u64, limit: u32) -> Result<Vec<(u64, LineSpan)>> {
        self.read(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT line, custom_id, start, bytes FROM batch_lines WHERE batch = \
                 (SELECT seq FROM batches WHERE id = ?1 AND status = 'in_progress') \
                 AND outcome = 0 AND line >= ?2 ORDER BY line LIMIT ?3",
            )?;
            let rows = query.query_map(params![id, from.cast_signed(), limit], |row| {
                let [line, start, bytes]: [i64; 3] = [row.get(0)?, row.get(2)?, row.get(3)?];
                let (start, bytes) = (start.cast_unsigned(), bytes.cast_unsigned());
                Ok((line.cast_unsigned(), LineSpan { custom_id: row.get(1)?, start, bytes }))
            })?;
            rows.collect()
        })
    }

    /// Keeps a line's result, one line of JSON. False, and nothing is changed, where it has one
    /// already or its batch is not in progress: then this one does not count.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn finish_line(&self, id: &str, line: u64, outcome: Outcome, result: &str) -> Result<bool> {
        let (code, column) = match outcome {
            Outcome::Answered => (output::ANSWERED, "completed"),
            Outcome::Failed => (output::FAILED, "failed"),
        };
        self.write(|change| {
            let updated = change
                .prepare_cached(
                    "UPDATE batch_lines SET outcome = ?3, result = ?4 WHERE batch = \
                     (SELECT seq FROM batches WHERE id = ?1 AND status = 'in_progress') \
                     AND line = ?2 AND outcome = 0",
                )?
                .execute(params![id, line.cast_signed(), code, result])?;
            if updated == 1 {
                let sql = format!("UPDATE batches SET {column} = {column} + 1 WHERE id = ?1");
                change.prepare_cached(&sql)?.execute([id])?;
            }
            Ok(updated == 1)
        })
    }

    /// Begins to end a batch of this owner's. One whose lines were not taken yet is ended at once.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn cancel_batch(&self, owner: &str, id: &str, now_s: u64) -> Result<Cancel> {
        self.write(|change| {
            let Some(batch) = find(change, owner, id)? else { return Ok(Cancel::Unknown) };
            match batch.status {
                Validating => step(change, id, &[Validating], Cancelled, now_s)?,
                InProgress => step(change, id, &[InProgress], Cancelling, now_s)?,
                Cancelling | Cancelled => true,
                late => return Ok(Cancel::TooLate(late)),
            };
            let batch = find(change, owner, id)?.unwrap_or(batch);
            Ok(Cancel::Yes(Box::new(batch)))
        })
    }

    /// Closes a batch in progress: from here on no line gets a result, and its output can be
    /// written. True where every line has a result, or its time is over.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn finalize_batch(&self, id: &str, now_s: u64) -> Result<bool> {
        self.write(|change| {
            let sql = "SELECT total = completed + failed OR expires_s <= ?2 FROM batches \
                       WHERE id = ?1";
            let due: Option<bool> = change
                .prepare_cached(sql)?
                .query_row(params![id, now_s.cast_signed()], |row| row.get(0))
                .optional()?;
            Ok(due == Some(true) && step(change, id, &[InProgress], Finalizing, now_s)?)
        })
    }
}

const COLUMNS: &str = "id, owner, endpoint, input_file, completion_window, metadata, created_s, \
     expires_s, status, errors, output_file, error_file, total, completed, failed, in_progress_s, \
     finalizing_s, completed_s, failed_s, expired_s, cancelling_s, cancelled_s, origin";

/// The statuses whose times are the columns from the 15th on, in their order.
const TIMED: [BatchStatus; 7] =
    [InProgress, Finalizing, Completed, Failed, Expired, Cancelling, Cancelled];

fn record(row: &Row<'_>) -> rusqlite::Result<BatchRecord> {
    let count = |at: usize| row.get::<_, i64>(at).map(i64::cast_unsigned);
    let name: String = row.get(8)?;
    let mut times = Vec::new();
    for (status, at) in TIMED.into_iter().zip(15..) {
        times.extend(row.get::<_, Option<i64>>(at)?.map(|time| (status, time.cast_unsigned())));
    }
    Ok(BatchRecord {
        asked: NewBatch {
            id: row.get(0)?,
            owner: row.get(1)?,
            endpoint: row.get(2)?,
            input_file: row.get(3)?,
            completion_window: row.get(4)?,
            metadata: row.get(5)?,
            origin: row.get(22)?,
            created_s: count(6)?,
            expires_s: count(7)?,
        },
        status: STATUSES.iter().find(|row| row.1 == name).map_or(Failed, |row| row.0),
        errors: row.get(9)?,
        output_file: row.get(10)?,
        error_file: row.get(11)?,
        counts: [count(12)?, count(13)?, count(14)?],
        times,
    })
}

fn find(connection: &Connection, owner: &str, id: &str) -> rusqlite::Result<Option<BatchRecord>> {
    let sql = format!("SELECT {COLUMNS} FROM batches WHERE owner = ?1 AND id = ?2");
    connection.prepare_cached(&sql)?.query_row((owner, id), record).optional()
}

fn insert(change: &Connection, batch: &NewBatch) -> rusqlite::Result<()> {
    let sql = "INSERT INTO batches (id, owner, endpoint, input_file, completion_window, metadata, \
               created_s, expires_s, origin, status) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, \
               'validating')";
    change.prepare_cached(sql)?.execute(params![
        batch.id,
        batch.owner,
        batch.endpoint,
        batch.input_file,
        batch.completion_window,
        batch.metadata,
        batch.created_s.cast_signed(),
        batch.expires_s.cast_signed(),
        batch.origin,
    ])?;
    Ok(())
}

/// Makes room for one more batch among those that are remembered.
fn forget_oldest(change: &Connection, owner: &str, limits: BatchLimits) -> rusqlite::Result<()> {
    let sql = "DELETE FROM batches WHERE owner = ?1 AND seq IN (SELECT seq FROM batches WHERE \
               owner = ?1 AND status IN ('failed', 'completed', 'expired', 'cancelled') \
               ORDER BY seq DESC LIMIT -1 OFFSET ?2)";
    change.prepare_cached(sql)?.execute(params![owner, limits.ended.cast_signed()])?;
    Ok(())
}

/// Brings a batch from one of these statuses to the next one; false where it is in none of them.
fn step(
    change: &Connection,
    id: &str,
    from: &[BatchStatus],
    to: BatchStatus,
    now_s: u64,
) -> rusqlite::Result<bool> {
    let status = change
        .prepare_cached("SELECT status FROM batches WHERE id = ?1")?
        .query_row([id], |row| row.get::<_, String>(0))
        .optional()?;
    if !from.iter().any(|from| status.as_deref() == Some(from.name())) {
        return Ok(false);
    }
    let to = to.name();
    let sql = format!("UPDATE batches SET status = '{to}', {to}_s = ?2 WHERE id = ?1");
    change.prepare_cached(&sql)?.execute(params![id, now_s.cast_signed()])?;
    Ok(true)
}

#[cfg(test)]
mod tests;
