//! Cached prefixes beyond what the scheduler knows: who shares them, and how they outlive the
//! process.
//!
//! A block on disk is one file. It holds all that it is known by: the identity of what computed
//! it, its salt, and every token from the sequence's start to the block's end. Whoever wants a
//! block writes down how its file has to begin and compares, so that nothing in a file is
//! interpreted, and no hash stands for tokens; hashes only name files.
//!
//! Absent here: compression, an index on disk, and locks between processes. A file appears whole,
//! by renaming, and whatever is wrong with one is a miss.

mod disk;
mod file;
mod identity;
mod reader;
mod salts;
mod writer;

pub(crate) use disk::{Disk, Payload};
pub(crate) use file::{Identity, Key, Name, SUM, head, names};
pub(crate) use identity::{model_identity, with_arithmetic};
pub(crate) use reader::{Fetch, Loaded, start as read};
pub(crate) use salts::Salts;
pub(crate) use writer::{Job as Write, Queue};
