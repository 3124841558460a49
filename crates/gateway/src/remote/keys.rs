//! Keys of providers: where they are read from, and a type that shows them to nobody. A key's
//! memory is overwritten when it is dropped. They are read when a policy is, not for each call.
//! Absent: how the system's keyring is asked (`keyring`).

use std::fmt;
use std::path::Path;

use ingle_protocol::Fault;
use zeroize::Zeroizing;

use super::keyring;

/// What a reference looks like.
const HOW: &str = "it is written env:NAME, file:PATH or keyring:SERVICE/USER";
/// Where a variable's text is found.
type Variable<'a> = &'a dyn Fn(&str) -> Option<String>;
/// Where the keyring's key of a service and a user is found.
type Keyring<'a> = &'a dyn Fn(&str, &str) -> Result<Zeroizing<String>, String>;

/// A key is no longer than this, in bytes; the JSON file of a service account has about 2,400.
const KEY_MAX: u64 = 64 << 10;

/// A key. It shows nothing of itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// A key as it stands, without the space around it.
    pub fn new(text: impl Into<String>) -> Self {
        let text = Zeroizing::new(text.into());
        Self(Zeroizing::new(text.trim().to_owned()))
    }

    /// Reads a key from where a reference says: `env:NAME`, `file:PATH`, or
    /// `keyring:SERVICE/USER` (`keyring:USER` for the service `ingle`). A file that others may read
    /// is warned of. May read a file, and wait for the keyring, for half a minute at most.
    ///
    /// # Errors
    /// A fault of ours that names the reference, never the key.
    pub fn read(reference: &str) -> Result<Self, Fault> {
        Self::read_with(reference, &|name| std::env::var(name).ok(), &keyring::read)
    }

    /// [`Secret::read`], with the environment and the keyring as arguments.
    fn read_with(
        reference: &str,
        variable: Variable<'_>,
        ring: Keyring<'_>,
    ) -> Result<Self, Fault> {
        let wrong = |why: String| Fault::ours(format!("the key {:?}: {why}", name(reference)));
        let secret = match reference.split_once(':') {
            Some(("env", name)) => variable(name)
                .map(Self::new)
                .ok_or_else(|| wrong(format!("the variable {name} is not set, or is no text")))?,
            Some(("file", path)) => read_file(Path::new(path)).map_err(wrong)?,
            Some(("keyring", name)) => {
                let (service, user) = keyring::place(name).map_err(wrong)?;
                let text = ring(service, user).map_err(wrong)?;
                if text.len() as u64 > KEY_MAX {
                    return Err(wrong(format!("it is longer than {KEY_MAX} bytes")));
                }
                Self::new(text.as_str())
            }
            _ => return Err(wrong(HOW.to_owned())),
        };
        if secret.text().is_empty() {
            return Err(wrong("it is empty".to_owned()));
        }
        Ok(secret)
    }

    /// The key itself, for the place that sends or signs with it.
    pub(super) fn text(&self) -> &str {
        &self.0
    }

    /// A message without the key, or any part of it between colons, wherever it repeats it.
    pub(super) fn scrub(&self, message: &str) -> String {
        let parts = std::iter::once(self.text()).chain(self.text().split(':'));
        let long = parts.filter(|part| part.len() >= 8);
        long.fold(message.to_owned(), |message, part| message.replace(part, "…"))
    }
}

/// A reference as it may be shown: without what is behind its first colon, unless that is a name of
/// something. Who writes the key itself where a reference belongs does not find it in a log.
fn name(reference: &str) -> &str {
    let known = ["env:", "file:", "keyring:"];
    if known.iter().any(|kind| reference.starts_with(kind)) { reference } else { "…" }
}

fn read_file(path: &Path) -> Result<Secret, String> {
    let failed = |error: std::io::Error| format!("the file cannot be read: {error}");
    let told = std::fs::metadata(path).map_err(failed)?;
    if !told.is_file() || told.len() > KEY_MAX {
        return Err(format!("it is no file of at most {KEY_MAX} bytes"));
    }
    warn_of_readers(path, &told);
    std::fs::read_to_string(path).map(Secret::new).map_err(failed)
}

/// Whether others than its owner may read a file of these permissions (Unix's).
#[cfg(unix)]
fn others_read(mode: u32) -> bool {
    mode & 0o044 != 0
}

#[cfg(unix)]
fn warn_of_readers(path: &Path, told: &std::fs::Metadata) {
    use std::os::unix::fs::PermissionsExt;
    if others_read(told.permissions().mode()) {
        tracing::warn!(path = %path.display(), "others may read this file of a key: chmod 600 it");
    }
}

#[cfg(not(unix))]
fn warn_of_readers(_path: &Path, _told: &std::fs::Metadata) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_and_not_shown() {
        let folder = std::env::temp_dir().join(format!("ingle-keys-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder can be made");
        let file = folder.join("key");
        std::fs::write(&file, "sk-from-file\n").expect("a file can be written");
        let by_file = format!("file:{}", file.display());
        let variable =
            |name: &str| ["A", "EMPTY"].contains(&name).then(|| "sk-a".replace("sk-a", name));
        let variable = |name: &str| match variable(name)?.as_str() {
            "A" => Some(" sk-1234567890 ".to_owned()),
            _ => Some(String::new()),
        };
        let ring = |service: &str, user: &str| match (service, user) {
            ("ingle", "a") => Ok(Zeroizing::new("sk-of-the-ring\n".to_owned())),
            ("work", "long") => Ok(Zeroizing::new("k".repeat(70_000))),
            ("work", "empty") => Ok(Zeroizing::new(String::new())),
            _ => Err("the keyring has no key".to_owned()),
        };
        let check = |reference: &str, expect: Result<&str, &str>| {
            let read = Secret::read_with(reference, &variable, &ring);
            match (read, expect) {
                (Ok(secret), Ok(text)) => assert_eq!(secret.text(), text),
                (Err(fault), Err(part)) => {
                    assert!(fault.message.contains(part), "{reference}: {}", fault.message);
                }
                (read, _) => panic!("{reference}: {read:?}"),
            }
        };
        check("env:A", Ok("sk-1234567890"));
        check(&by_file, Ok("sk-from-file"));
        check("env:B", Err("the variable B is not set"));
        check("env:EMPTY", Err("it is empty"));
        check("file:/nowhere/key", Err("cannot be read"));
        check(&format!("file:{}", folder.display()), Err("it is no file"));
        check("keyring:a", Ok("sk-of-the-ring"));
        check("keyring:ingle/a", Ok("sk-of-the-ring"));
        check("keyring:work/a", Err("the key \"keyring:work/a\": the keyring has no key"));
        check("keyring:work/long", Err("longer than 65536 bytes"));
        check("keyring:work/empty", Err("it is empty"));
        check("keyring:work/", Err("keyring:SERVICE/USER"));
        check("sk-proj-secret", Err("the key \"…\": it is written env:NAME, file:PATH or keyring"));
        std::fs::remove_dir_all(&folder).expect("the folder is ours");

        let secret = Secret::new("AKID12345678:wJalr/secret");
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        let message = "no such key: wJalr/secret of AKID12345678";
        assert_eq!(secret.scrub(message), "no such key: … of …");
    }

    #[cfg(unix)]
    #[test]
    fn readers_of_a_key_are_noticed() {
        for (mode, expect) in [(0o600, false), (0o640, true), (0o604, true), (0o400, false)] {
            assert_eq!(others_read(mode), expect, "{mode:o}");
        }
    }
}
