//! Why a folder cannot be indexed or asked: always with what to do next.

use std::path::PathBuf;

use ingle_protocol::Fault;

/// What every method here returns.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a folder cannot be indexed or asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no index yet.
    #[error("{path} is not there\nhint: `ingle search index {folder}` makes it")]
    NotIndexed {
        /// Where the index would be.
        path: PathBuf,
        /// The folder that was asked.
        folder: PathBuf,
    },
    /// Nothing was taken into the index yet.
    #[error("{path} has no documents yet\nhint: `ingle search index {folder}` takes them in")]
    Empty {
        /// The index.
        path: PathBuf,
        /// The folder that was asked.
        folder: PathBuf,
    },
    /// The file is damaged, or is no database.
    #[error("{path} is damaged or no database ({what})\nhint: add --rebuild to make it anew")]
    Damaged {
        /// The index.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The file is a database of another program's.
    #[error("{path} is a database of another program\nhint: name another file with --index")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Another version of Ingle has written the file.
    #[error(
        "{path} was written by another version of Ingle (its form is {found}, this one's {known})\n\
         hint: `ingle search index {folder} --rebuild` makes it anew"
    )]
    OtherVersion {
        /// The index.
        path: PathBuf,
        /// The folder that it is of.
        folder: PathBuf,
        /// Its form.
        found: u32,
        /// The form that is known here.
        known: u32,
    },
    /// The index is of another folder.
    #[error(
        "{path} is an index of {found}\nhint: name another file with --index, or add --rebuild to \
         make this one anew"
    )]
    OtherFolder {
        /// The index.
        path: PathBuf,
        /// Its folder.
        found: String,
    },
    /// The index's passages were cut by another rule.
    #[error(
        "{path} has passages of other lengths ({found})\nhint: `ingle search index {folder} \
         --rebuild` makes it anew"
    )]
    OtherChunking {
        /// The index.
        path: PathBuf,
        /// The folder that it is of.
        folder: PathBuf,
        /// By what rule they were cut.
        found: String,
    },
    /// The index was made with another embedding model.
    #[error(
        "{path} holds vectors of `{found}`, and `{given}` makes other ones\nhint: add --model \
         {found}, or make the index anew: ingle search index {folder} --model {given} --rebuild"
    )]
    OtherModel {
        /// The index.
        path: PathBuf,
        /// The folder that it is of.
        folder: PathBuf,
        /// Its model.
        found: String,
        /// The one that is there now.
        given: String,
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
    /// The system refused a file or a folder.
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
        /// The index.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// There are more files than an index takes.
    #[error(
        "{folder} has more than {most} files\nhint: index a smaller folder, or name what is to be \
         left out in a file .ignore, written like .gitignore"
    )]
    TooMany {
        /// The folder.
        folder: PathBuf,
        /// The most that are taken.
        most: usize,
    },
    /// The folder cannot be walked.
    #[error("{folder}: {what}")]
    Walk {
        /// The folder.
        folder: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The folder cannot be watched.
    #[error("{folder} cannot be watched: {source}")]
    Watch {
        /// The folder.
        folder: PathBuf,
        /// What is wrong.
        source: notify::Error,
    },
    /// The question asks for what is not there.
    #[error("{0}")]
    Question(String),
    /// The model failed.
    #[error("{0}")]
    Model(Fault),
    /// The model gave something that is no vector, or too few of them.
    #[error("`{model}` gave no usable vectors ({what})\nhint: name another model with --model")]
    BadVectors {
        /// The model.
        model: String,
        /// What is wrong with them.
        what: &'static str,
    },
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::Model(fault)
    }
}

impl Error {
    /// Sorts what the system says about the file at `path`.
    pub(crate) fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            std::io::ErrorKind::StorageFull => Self::Full { path },
            _ => Self::Io { path, source },
        }
    }

    /// Sorts what SQLite says about the file at `path`.
    pub(crate) fn sqlite(path: impl Into<PathBuf>, source: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{DatabaseBusy, DatabaseCorrupt, DatabaseLocked, DiskFull};
        let path = path.into();
        match source.sqlite_error_code() {
            Some(DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                Self::Damaged { path, what: source.to_string() }
            }
            Some(DiskFull) => Self::Full { path },
            Some(DatabaseBusy | DatabaseLocked) => Self::Held { path },
            _ => Self::Sqlite { path, source },
        }
    }
}
