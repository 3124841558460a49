//! Lists in pages: records of one owner in the order in which they were made, from behind one that
//! the caller knows.

use rusqlite::{Connection, OptionalExtension};

/// Which part of a list is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page<'a> {
    /// What comes behind the record with this id.
    pub after: Option<&'a str>,
    /// At most as many records.
    pub limit: u32,
    /// The newest first, or the oldest.
    pub newest_first: bool,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<T> {
    /// The records, in order.
    pub rows: Vec<T>,
    /// Whether there are more behind them.
    pub more: bool,
}

impl Page<'_> {
    /// The `seq` that the page begins behind; `None` where the owner has no such record. `table`
    /// has `seq`, `id` and `owner`.
    pub(crate) fn after(
        &self,
        connection: &Connection,
        table: &str,
        owner: &str,
    ) -> rusqlite::Result<Option<i64>> {
        let Some(id) = self.after else {
            return Ok(Some(if self.newest_first { i64::MAX } else { 0 }));
        };
        let sql = format!("SELECT seq FROM {table} WHERE owner = ?1 AND id = ?2");
        connection.prepare_cached(&sql)?.query_row((owner, id), |row| row.get(0)).optional()
    }

    /// What SQL says of the rows and their order; parameter 3 is what [`Page::after`] gave.
    pub(crate) fn order(&self) -> &'static str {
        if self.newest_first { "seq < ?3 ORDER BY seq DESC" } else { "seq > ?3 ORDER BY seq" }
    }

    /// How many rows to ask for: one more than are wanted, to know whether there are more.
    pub(crate) fn fetched(&self) -> u32 {
        self.limit.saturating_add(1)
    }

    /// The page of the rows that came.
    pub(crate) fn listed<T>(&self, mut rows: Vec<T>) -> Listed<T> {
        let more = rows.len() > self.limit as usize;
        rows.truncate(self.limit as usize);
        Listed { rows, more }
    }
}
