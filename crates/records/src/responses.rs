//! Responses that may be asked for again, and built upon. Each owner's are bounded; where there is
//! no room the oldest that nobody computes any more go first.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use crate::{Records, Result};

/// A response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseRecord {
    /// Its id, never given twice.
    pub id: String,
    /// Whose it is.
    pub owner: String,
    /// The response that it goes on from.
    pub previous: Option<String>,
    /// Who computes it ([`Records::serving`]); `None` where nobody does any more.
    pub server: Option<String>,
    /// Where it stands, in its protocol's words.
    pub status: String,
    /// Seconds since 1970 when it was asked for.
    pub created_s: u64,
    /// What it was given.
    pub input: String,
    /// The response.
    pub response: String,
    /// Its stream's events, where they are kept.
    pub events: String,
    /// Where it and all that it builds on were asked for from, as its server writes it; `None`
    /// where nobody knows.
    pub origin: Option<String>,
}

impl ResponseRecord {
    /// What it takes of its owner's room.
    fn bytes(&self) -> u64 {
        let texts = [&self.id, &self.owner, &self.input, &self.response, &self.events];
        let origin = self.origin.as_ref().map_or(0, |text| text.len() as u64);
        texts.iter().map(|text| text.len() as u64).sum::<u64>() + origin
    }
}

/// How much of responses is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseLimits {
    /// Of one owner, at most as many.
    pub count: u64,
    /// Of one owner, at most as many bytes.
    pub bytes: u64,
    /// None is kept for longer, in seconds.
    pub age_s: u64,
}

/// How far a chain of responses is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainLimits {
    /// Responses.
    pub count: usize,
    /// Bytes of all of them.
    pub bytes: u64,
}

/// A response and all before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chain {
    /// The oldest first.
    Whole(Vec<ResponseRecord>),
    /// The owner has none with this id.
    Unknown(String),
    /// There are more of them, or they are larger, than is followed.
    TooLong,
}

impl Records {
    /// Keeps a response, and lets older ones go as far as it needs room. `false`: it alone is
    /// larger than its owner's room, and is not kept.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn keep_response(&self, record: &ResponseRecord, limits: ResponseLimits) -> Result<bool> {
        if record.bytes() > limits.bytes || limits.count == 0 {
            return Ok(false);
        }
        self.write(|change| {
            insert(change, record)?;
            make_room(change, &record.owner, record.created_s, limits)?;
            Ok(true)
        })
    }

    /// Writes what became of a response that was kept while it was computed. `false`: it was
    /// deleted meanwhile, or has become too large and is deleted now.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn end_response(&self, record: &ResponseRecord, limits: ResponseLimits) -> Result<bool> {
        let fits = record.bytes() <= limits.bytes;
        self.write(|change| {
            let sql = "DELETE FROM responses WHERE id = ?1 AND owner = ?2";
            let known = change.prepare_cached(sql)?.execute((&record.id, &record.owner))? > 0;
            if known && fits {
                insert(change, record)?;
                make_room(change, &record.owner, record.created_s, limits)?;
            }
            Ok(known && fits)
        })
    }

    /// A response of this owner's.
    ///
    /// # Errors
    /// Where the records cannot be read.
    pub fn response(&self, owner: &str, id: &str) -> Result<Option<ResponseRecord>> {
        self.read(|connection| find(connection, owner, id))
    }

    /// A response of this owner's and all before it.
    ///
    /// # Errors
    /// Where the records cannot be read.
    pub fn response_chain(&self, owner: &str, id: &str, limits: ChainLimits) -> Result<Chain> {
        self.read(|connection| {
            let (mut chain, mut bytes) = (Vec::new(), 0);
            let mut next = Some(id.to_owned());
            while let Some(id) = next {
                let Some(record) = find(connection, owner, &id)? else {
                    return Ok(Chain::Unknown(id));
                };
                bytes += record.bytes();
                next = record.previous.clone();
                chain.push(record);
                if chain.len() > limits.count || bytes > limits.bytes {
                    return Ok(Chain::TooLong);
                }
            }
            chain.reverse();
            Ok(Chain::Whole(chain))
        })
    }

    /// Deletes a response of this owner's; `false` where there is none.
    ///
    /// # Errors
    /// Where it cannot be deleted.
    pub fn delete_response(&self, owner: &str, id: &str) -> Result<bool> {
        self.write(|change| {
            let sql = "DELETE FROM responses WHERE owner = ?1 AND id = ?2";
            Ok(change.prepare_cached(sql)?.execute((owner, id))? > 0)
        })
    }

    /// Responses that somebody computes, or did when it ended.
    ///
    /// # Errors
    /// Where the records cannot be read.
    pub fn responses_under_way(&self) -> Result<Vec<ResponseRecord>> {
        self.read(|connection| {
            let sql = format!("SELECT {COLUMNS} FROM responses WHERE server IS NOT NULL");
            let mut query = connection.prepare_cached(&sql)?;
            query.query_map((), record)?.collect()
        })
    }
}

const COLUMNS: &str =
    "id, owner, previous, server, status, created_s, input, response, events, origin";

fn record(row: &Row<'_>) -> rusqlite::Result<ResponseRecord> {
    Ok(ResponseRecord {
        id: row.get(0)?,
        owner: row.get(1)?,
        previous: row.get(2)?,
        server: row.get(3)?,
        status: row.get(4)?,
        created_s: row.get::<_, i64>(5)?.cast_unsigned(),
        input: row.get(6)?,
        response: row.get(7)?,
        events: row.get(8)?,
        origin: row.get(9)?,
    })
}

fn find(
    connection: &Connection,
    owner: &str,
    id: &str,
) -> rusqlite::Result<Option<ResponseRecord>> {
    let sql = format!("SELECT {COLUMNS} FROM responses WHERE owner = ?1 AND id = ?2");
    connection.prepare_cached(&sql)?.query_row((owner, id), record).optional()
}

fn insert(change: &Transaction<'_>, record: &ResponseRecord) -> rusqlite::Result<()> {
    let sql = format!(
        "INSERT INTO responses ({COLUMNS}, bytes) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
    );
    change.prepare_cached(&sql)?.execute(params![
        record.id,
        record.owner,
        record.previous,
        record.server,
        record.status,
        record.created_s.cast_signed(),
        record.input,
        record.response,
        record.events,
        record.origin,
        record.bytes().cast_signed(),
    ])?;
    Ok(())
}

/// Lets go what is too old, whosever it is, and of this owner's the oldest that are too many or
/// take too much. The newest one fits by itself, and stays.
fn make_room(
    change: &Transaction<'_>,
    owner: &str,
    now_s: u64,
    limits: ResponseLimits,
) -> rusqlite::Result<()> {
    let sql = "DELETE FROM responses WHERE created_s < ?1 AND server IS NULL";
    change.prepare_cached(sql)?.execute([now_s.saturating_sub(limits.age_s).cast_signed()])?;
    let sql = "SELECT count(*), coalesce(sum(bytes), 0) FROM responses WHERE owner = ?1";
    let (mut count, mut bytes): (i64, i64) =
        change.prepare_cached(sql)?.query_row([owner], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let most = (limits.count.cast_signed(), limits.bytes.cast_signed());
    if count <= most.0 && bytes <= most.1 {
        return Ok(());
    }
    let sql = "SELECT seq, bytes FROM responses WHERE owner = ?1 AND server IS NULL ORDER BY seq";
    let mut oldest = change.prepare_cached(sql)?;
    let mut oldest = oldest.query([owner])?;
    while let Some(row) = oldest.next()? {
        let (seq, size): (i64, i64) = (row.get(0)?, row.get(1)?);
        if count <= most.0.max(1) && bytes <= most.1 {
            break;
        }
        change.prepare_cached("DELETE FROM responses WHERE seq = ?1")?.execute([seq])?;
        (count, bytes) = (count - 1, bytes - size);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
