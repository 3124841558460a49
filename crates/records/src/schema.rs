//! The tables, by the steps that made them what they are. A file says how many of the steps it has
//! seen (`user_version`); opening it takes the rest, each in a transaction of its own. A step that
//! a release has carried is never changed: what is to be different is a new step at the end.

use rusqlite::{Connection, TransactionBehavior};

/// Marks a file as ours: the bytes "Ingl".
pub(crate) const APPLICATION_ID: u32 = 0x496e_676c;

/// One row a step: what it brings, and its SQL.
pub(crate) const STEPS: &[(&str, &str)] = &[
    ("files and batches", include_str!("schema/batches.sql")),
    ("responses", include_str!("schema/responses.sql")),
    ("where batches come from", include_str!("schema/origins.sql")),
    ("where responses come from", include_str!("schema/response_origins.sql")),
    ("where files come from", include_str!("schema/file_origins.sql")),
];

/// Takes the steps that the file has not seen. Two processes may open it at once: the version is
/// read again inside of each transaction.
pub(crate) fn migrate(connection: &mut Connection, steps: &[(&str, &str)]) -> rusqlite::Result<()> {
    for ((_, sql), at) in steps.iter().zip(0_u32..) {
        let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if version(&change)? == at {
            change.execute_batch(sql)?;
            change.pragma_update(None, "user_version", at + 1)?;
            change.commit()?;
        }
    }
    Ok(())
}

/// How many steps the file has seen.
pub(crate) fn version(connection: &Connection) -> rusqlite::Result<u32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}
