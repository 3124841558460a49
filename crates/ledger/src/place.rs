//! Where a ledger is: a file, or a Postgres database by its URL. A place tells no password.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::postgres::Remote;
use crate::sqlite::File;
use crate::store::Store;
use crate::{Error, Options, Result};

/// The name of a ledger's file in a folder of Ingle's data.
const NAME: &str = "ledger.sqlite";

/// Where a ledger is kept.
#[derive(Clone, PartialEq, Eq)]
pub enum Place {
    /// In a SQLite file that only its user can read.
    File(PathBuf),
    /// In a Postgres database: `postgres://user:password@host:port/database`. Connections to other
    /// machines are encrypted, and the server's certificate is checked, unless the URL says
    /// `sslmode=disable`; those to this machine are not, unless it says `sslmode=require`.
    Postgres(String),
}

impl Place {
    /// The ledger in a folder of Ingle's data.
    pub fn within(folder: &Path) -> Self {
        Self::File(folder.join(NAME))
    }

    /// What writes there.
    pub(crate) fn store(&self, options: &Options) -> Result<Store> {
        Ok(Store(match self {
            Self::File(path) => Box::new(File::open(path, options)?),
            Self::Postgres(url) => Box::new(Remote::open(url, self.to_string(), options)?),
        }))
    }

    /// What reads there, at one moment of it.
    pub(crate) fn snapshot(&self, options: &Options) -> Result<Store> {
        Ok(Store(match self {
            Self::File(path) => {
                if File::is_left_behind(path)? {
                    Store(Box::new(File::open(path, options)?)).adopt()?;
                }
                Box::new(File::snapshot(path)?)
            }
            Self::Postgres(url) => Box::new(Remote::snapshot(url, self.to_string(), options)?),
        }))
    }
}

impl FromStr for Place {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |what: String| Err(Error::Place { what });
        if text.is_empty() {
            return wrong("a ledger is a file's path or postgres://…".into());
        }
        match text.split_once("://") {
            None => Ok(Self::File(text.into())),
            Some(("postgres" | "postgresql", _)) => Ok(Self::Postgres(text.to_owned())),
            Some((scheme, _)) => {
                let scheme: String = scheme.chars().take(32).collect();
                wrong(format!("no ledger is kept at {scheme:?}: write a path or postgres://…"))
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Postgres(url) => {
                let rest = url.split_once("://").map_or("", |parts| parts.1);
                // What stands before the last @ may be a password, and so may a parameter.
                let rest = rest.split('?').next().unwrap_or_default();
                write!(f, "postgres://{}", rest.rsplit('@').next().unwrap_or_default())
            }
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_without_passwords() {
        let check = |text: &str, expect: &str| {
            let place: Place = text.parse().expect("a place");
            assert_eq!(place.to_string(), expect);
            assert_eq!(format!("{place:?}"), format!("Place({expect})"));
        };
        check("ledger.sqlite", "ledger.sqlite");
        check("postgres://a:secret@db.example:5433/x", "postgres://db.example:5433/x");
        check("postgresql://a:se@cret@db/x?password=secret", "postgres://db/x");
        check("postgres:///x?host=/run/pg&user=a", "postgres:///x");
    }

    #[test]
    fn other_texts_are_no_places() {
        for text in ["", "mysql://a/b", "http://x"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }
}
