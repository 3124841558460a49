//! Why a ledger cannot be kept or read: always with its place and what to do next. No password is
//! in a place.

use std::io;

/// What every method here returns.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a ledger cannot be kept or read. Cheap to copy, since all rows of a group fail alike.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The file is damaged, or is no database.
    #[error(
        "{place} is damaged or no database ({what})\nhint: move it away (its -wal and -shm files \
         too) to begin anew, or put a backup in its place"
    )]
    Damaged {
        /// The ledger.
        place: String,
        /// What is wrong with it.
        what: String,
    },
    /// The file is a database of another program's.
    #[error("{place} is a database of another program\nhint: choose another place for the ledger")]
    Foreign {
        /// The ledger.
        place: String,
    },
    /// A newer Ingle has written it.
    #[error(
        "{place} was written by a newer Ingle (its version is {found}, this one knows {known})\n\
         hint: use the newer program, or another place for the ledger"
    )]
    Newer {
        /// The ledger.
        place: String,
        /// Its version.
        found: u32,
        /// The newest version that is known here.
        known: u32,
    },
    /// There is no room.
    #[error(
        "{place}: there is no room for more\nhint: free some room on its disk, or remove old \
         entries; until then no call that needs a receipt is begun"
    )]
    Full {
        /// The ledger.
        place: String,
    },
    /// Another process holds it for longer than can be waited.
    #[error("{place} is held by another process\nhint: try again; see which Ingle still runs")]
    Held {
        /// The ledger.
        place: String,
    },
    /// More waits to be written than there is room for.
    #[error(
        "{place}: more calls wait to be kept than there is room for\nhint: see whether its disk or \
         its server is slow"
    )]
    Behind {
        /// The ledger.
        place: String,
    },
    /// Something cannot be encrypted, or decrypted.
    #[error("{what}")]
    Sealed {
        /// What is wrong, and what to do.
        what: String,
    },
    /// There is no ledger there.
    #[error("{place}: there is no ledger\nhint: one is begun by the first call that is recorded")]
    Absent {
        /// The place.
        place: String,
    },
    /// A database server cannot be reached, or refuses.
    #[error("{place}: {what}\nhint: see that the server runs and that the address is right")]
    Unreachable {
        /// The ledger.
        place: String,
        /// What was said.
        what: String,
    },
    /// A text that was to name a ledger names none.
    #[error("{what}")]
    Place {
        /// What is wrong with it, and what to write.
        what: String,
    },
    /// A call of that id was announced before, and has not ended.
    #[error("{place}: a call {id:?} is under way already\nhint: give every call an id of its own")]
    Twice {
        /// The ledger.
        place: String,
        /// The call.
        id: String,
    },
    /// A call of that id was never announced, or has its entry already: who took this process for
    /// dead has written it, at the worst that the call could cost.
    #[error("{place}: the call {id:?} is not open: it has its entry, or was never announced")]
    Closed {
        /// The ledger.
        place: String,
        /// The call.
        id: String,
    },
    /// A row cannot be read.
    #[error("{place}: row {seq} cannot be read ({what})\nhint: `ingle audit verify` says more")]
    Unreadable {
        /// The ledger.
        place: String,
        /// Its place in the chain, from 1.
        seq: u64,
        /// What is wrong with it.
        what: String,
    },
    /// Anything else that the system or the database says.
    #[error("{place}: {what}")]
    Other {
        /// The ledger.
        place: String,
        /// What was said.
        what: String,
    },
}

impl Error {
    /// What a disk says.
    pub(crate) fn disk(place: &str, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull => Self::Full { place: place.to_owned() },
            _ => Self::Other { place: place.to_owned(), what: error.to_string() },
        }
    }
}
