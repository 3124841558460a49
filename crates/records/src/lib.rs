//! What outlives a request: files, batches and stored responses, in one SQLite file that only its
//! user can read. What a method has returned is on the disk, whatever happens to the power then.
//!
//! Each kind of record is a module with its tables, which `schema.rs` lists, and methods on
//! [`Records`] that take and give plain values; time is an argument. They block: call them from a
//! thread that may wait.
//!
//! Absent: HTTP, JSON (texts of it are kept as they are), models, and who may see what: a record
//! has an owner, and whoever calls says whose records are meant.
#![forbid(unsafe_code)]

mod batches;
mod disk;
mod error;
mod files;
mod lease;
mod page;
mod responses;
mod schema;
mod serving;
mod store;
#[cfg(test)]
mod testing;

pub use batches::{
    Backlog, BatchLimits, BatchRecord, BatchStatus, Begun, Cancel, LineSpan, NewBatch, Outcome,
    Unrun,
};
pub use error::{Error, Result};
pub use files::{Deleted, FileLimits, FileRecord, Kept, Upload};
pub use lease::Lease;
pub use page::{Listed, Page};
pub use responses::{Chain, ChainLimits, ResponseLimits, ResponseRecord};
pub use serving::Serving;
pub use store::Records;
