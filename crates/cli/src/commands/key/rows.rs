//! Keys as rows of a TOML file, `[[keys]]`: in a file of their own, which `ingle key` writes and
//! nobody else, or among a server's settings. What is wrong is told by line and column.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ingle_server::{Key, KeyHash, Scope};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ui::Usage;

/// The most bytes of a file of keys or settings.
pub(crate) const FILE_MAX: u64 = 4 << 20;

/// What a key may do where its row does not say: the least that a client needs.
const USUAL: [Scope; 2] = [Scope::Infer, Scope::Read];

const HEAD: &str = "\
# Keys of `ingle serve --keys-file`, written by `ingle key`, which keeps no comments but these.
# A key itself is nowhere: `hash` is the SHA-256 of the salt and the key.

";

/// A text that is read by its type's own rules.
#[derive(Clone, Debug)]
pub(crate) struct Parsed<T>(pub(crate) T);

impl<'de, T: FromStr<Err = String>> Deserialize<'de> for Parsed<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map(Self).map_err(D::Error::custom)
    }
}

impl<T: Display> Serialize for Parsed<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&self.0)
    }
}

/// A key's name, or an owner's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name(pub(crate) String);

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        ingle_server::check_name(text).map(|()| Self(text.to_owned()))
    }
}

impl Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A key.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Row {
    pub(crate) name: Parsed<Name>,
    pub(crate) hash: Parsed<KeyHash>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) owner: Option<Parsed<Name>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) scopes: Option<Vec<Parsed<Scope>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) models: Option<BTreeSet<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) min_priority: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) requests_per_minute: Option<NonZeroU32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tokens_per_minute: Option<NonZeroU32>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) classes: BTreeSet<String>,
}

impl Row {
    /// The key that a server holds.
    pub(crate) fn key(&self) -> Key {
        let scopes = match &self.scopes {
            Some(scopes) => scopes.iter().map(|scope| scope.0).collect(),
            None => USUAL.into(),
        };
        Key {
            owner: self.owner.as_ref().map(|owner| owner.0.0.clone()),
            scopes,
            models: self.models.clone(),
            min_priority: self.min_priority,
            requests_per_minute: self.requests_per_minute,
            tokens_per_minute: self.tokens_per_minute,
            classes: self.classes.clone(),
            ..Key::new(self.name.0.0.clone(), self.hash.0.clone())
        }
    }
}

/// A file of keys.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ring {
    #[serde(default)]
    pub(crate) keys: Vec<Row>,
}

/// The keys among other settings.
#[derive(Deserialize)]
struct Among {
    #[serde(default)]
    keys: Vec<Row>,
}

/// Where in a file a place is, from 1.
pub(crate) fn place(path: &str, text: &str, at: usize) -> String {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("{path}:{line}:{column}")
}

/// What is wrong with a file, and where.
pub(crate) fn wrong(path: &str, text: &str, error: &toml::de::Error) -> Usage {
    let place = error.span().map_or_else(|| path.to_owned(), |at| place(path, text, at.start));
    Usage(format!("{place}: {}", error.message().replace('\n', ", ")))
}

/// The keys of a file of settings; whatever else is there is somebody else's to read.
pub(crate) fn among(path: &str, text: &str) -> Result<Vec<Row>, Usage> {
    toml::from_str::<Among>(text).map(|among| among.keys).map_err(|it| wrong(path, text, &it))
}

impl Ring {
    /// Reads a file of keys.
    pub(crate) fn read(path: &str) -> anyhow::Result<Self> {
        let text = super::super::model::read_text(path, FILE_MAX)?;
        Ok(toml::from_str(&text).map_err(|error| wrong(path, &text, &error))?)
    }

    /// Makes a change to a file of keys: whole or not at all, and one after another. A file that
    /// is not there is made where it may be.
    pub(crate) fn change(
        path: &str,
        make: bool,
        change: impl FnOnce(&mut Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let fresh = PathBuf::from(format!("{path}.new"));
        let mut file = private(&fresh).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                let hint = "hint: wait for it, or delete that file if it was cut off";
                Usage(format!("{} is there: another `ingle key` works\n{hint}", fresh.display()))
            }
            _ => Usage(format!("{}: {error}", fresh.display())),
        })?;
        let done = (|| -> anyhow::Result<()> {
            let new = make && !Path::new(path).exists();
            let mut ring = if new { Self::default() } else { Self::read(path)? };
            change(&mut ring)?;
            file.write_all(format!("{HEAD}{}", toml::to_string(&ring)?).as_bytes())?;
            file.sync_all()?;
            Ok(std::fs::rename(&fresh, path)?)
        })();
        if done.is_err() {
            // It is ours, and nothing reads it.
            let _ = std::fs::remove_file(&fresh);
        }
        done
    }
}

/// A new file for its owner alone.
fn private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "sha256:0011223344556677:\
                        0000000000000000000000000000000000000000000000000000000000000000";

    #[test]
    fn what_is_wrong_is_told_by_its_place() {
        let row = |more: &str| format!("[[keys]]\nname = \"a\"\nhash = \"{HASH}\"\n{more}\n");
        let rows = [
            (row(""), "1"),
            (row("scopes = [\"infer\", \"metrics\"]"), "1"),
            (row("owner = \"team\"\nmin_priority = -3\ntokens_per_minute = 9"), "1"),
            (row("scope = [\"infer\"]"), "f:4:1: unknown field `scope`, expected one of"),
            (row("scopes = [\"infer\", \"all\"]"), "there is no scope \"all\"; there are: infer,"),
            (row("requests_per_minute = 0"), "f:4:23: "),
            (row("name = \"b\""), "f:4:1: duplicate key"),
            ("[[keys]]\nname = \"a\"\n".to_owned(), "missing field `hash`"),
            ("[[keys]]\nname = \"a b\"\n".to_owned(), "f:2:8: \"a b\" is no name"),
            (
                "[[keys]]\nname = \"a\"\nhash = \"me\"\n".to_owned(),
                "f:3:8: a key's hash is sha256:",
            ),
            ("keys = 3\n".to_owned(), "f:1:8: "),
            ("\n[[keys]\n".to_owned(), "f:2:"),
        ];
        for (text, expect) in rows {
            let told = match among("f", &text) {
                Ok(rows) => rows.len().to_string(),
                Err(Usage(told)) => told,
            };
            assert!(told.contains(expect), "{text}: {told}");
        }
    }

    #[test]
    fn places_count_from_one() {
        let text = "a\nbä c\n";
        for (at, expect) in [(0, "f:1:1"), (2, "f:2:1"), (6, "f:2:4"), (99, "f:3:1")] {
            assert_eq!(place("f", text, at), expect);
        }
    }

    #[test]
    fn a_row_without_scopes_has_the_least() {
        let rows = among("f", &format!("[[keys]]\nname = \"a\"\nhash = \"{HASH}\"\n"));
        let key = rows.expect("is right")[0].key();
        assert_eq!(key.scopes, USUAL.into());
    }
}
