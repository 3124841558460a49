//! A folder of documents that can be asked: their passages, the passages' vectors and words, in one
//! SQLite file beside them, and questions answered from both.
//!
//! [`Index::update`] makes the file agree with the folder and touches only what differs;
//! [`Searcher::ask`] finds passages by vectors, by words (BM25), or by both lists fused. What makes
//! vectors of texts is an [`Embed`], and who orders what was found once more a [`Rank`].
//!
//! Absent: models, terminals, and formats that are no text (PDF, office documents).
#![forbid(unsafe_code)]

mod chunk;
mod embed;
mod error;
mod find;
mod index;
mod kind;
mod snippet;
mod store;
mod text;
mod vectors;
mod walk;
mod watch;
mod words;

pub use chunk::Chunking;
pub use embed::{Embed, Rank};
pub use error::{Error, Result};
pub use find::{Answer, Hit, Mode, Placed, Question, Searcher, Took};
pub use index::{Counts, Index, Progress, Report, Settings};
pub use snippet::Line;
pub use walk::{Limits, Skip};
pub use watch::Watch;
