//! What the ledger promises, held against SQLite and Postgres: that what was acknowledged is there
//! once, whatever is killed; that a change of anything shows; that sums are exact.

mod kill;
mod postgres;
mod promises;
mod random;
mod speed;
mod sqlite;
mod support;
mod tamper;
