//! Why records cannot be kept or read: always with the file's name and what to do next.

use std::path::PathBuf;

/// What every method here returns.
pub type Result<T> = std::result::Result<T, Error>;

/// Why records cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is damaged, or is no database.
    #[error(
        "{path} is damaged or no database ({what})\nhint: move it away (its -wal and -shm files \
         too) to begin anew, or put a backup in its place"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The file is a database of another program's.
    #[error("{path} is a database of another program\nhint: choose another folder for records")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A newer Ingle has written the file.
    #[error(
        "{path} was written by a newer Ingle (its version is {found}, this one knows {known})\n\
         hint: use the newer program, or another folder for records"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version that is known here.
        known: u32,
    },
    /// There is no room on the disk.
    #[error("{path}: there is no room on the disk\nhint: free some, then try again")]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// Another process holds the file for longer than can be waited.
    #[error("{path} is held by another process\nhint: try again; see which Ingle still runs")]
    Held {
        /// The file.
        path: PathBuf,
    },
    /// The system refused a file.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Anything else that SQLite says.
    #[error("{path}: {source}")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
}

impl Error {
    /// Sorts what SQLite says about the file at `path`.
    pub(crate) fn of(path: PathBuf, source: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{DatabaseBusy, DatabaseCorrupt, DatabaseLocked, DiskFull};
        match source.sqlite_error_code() {
            Some(DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                Self::Damaged { path, what: source.to_string() }
            }
            Some(DiskFull) => Self::Full { path },
            Some(DatabaseBusy | DatabaseLocked) => Self::Held { path },
            _ => Self::Sqlite { path, source },
        }
    }

    /// Sorts what the system says about the file at `path`.
    pub(crate) fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            std::io::ErrorKind::StorageFull => Self::Full { path },
            _ => Self::Io { path, source },
        }
    }
}
