//! What is asked and answered, encrypted as age files (<https://age-encryption.org/v1>) for those
//! who may read it: keys that begin with `age1` close, keys that begin with `AGE-SECRET-KEY-1`
//! open. Who writes a ledger needs the first kind alone. Absent: where the bytes are kept, and what
//! they say.

use std::fmt;
use std::io::{Read, Write};

use age::secrecy::ExposeSecret;
use age::x25519;

use crate::{Error, Result};

/// The most recipients: each makes every content a little longer.
const RECIPIENTS: usize = 32;
/// The most keys that are tried.
const IDENTITIES: usize = 256;
/// The most bytes that one content has when it is opened.
const OPENED_BYTES: u64 = 16 << 20;

/// Bytes that only who holds a key can read.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(pub(crate) Vec<u8>);

impl Sealed {
    /// An age file.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

fn wrong(what: impl Into<String>) -> Error {
    Error::Sealed { what: what.into() }
}

/// What of a line is a key: neither empty nor a comment.
fn keys(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().zip(1..).map(|(line, number)| (number, line.trim()));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// Those for whom content is encrypted: each of them can read it.
#[derive(Clone)]
pub struct Recipients(Vec<x25519::Recipient>);

impl Recipients {
    /// Of public keys, one a line; lines that begin with `#` are comments. `from` is what errors
    /// call the text.
    ///
    /// # Errors
    /// Where a line is no public key, or there are none or too many; a line is not repeated, since
    /// it may be a secret.
    pub fn read(from: &str, text: &str) -> Result<Self> {
        let one = |(number, line): (usize, &str)| {
            line.parse::<x25519::Recipient>().map_err(|_| {
                let hint = "hint: a recipient is a key that begins with age1, one a line";
                wrong(format!("{from}: line {number} is no public key of age's\n{hint}"))
            })
        };
        let all: Vec<x25519::Recipient> = keys(text).map(one).collect::<Result<_>>()?;
        match all.len() {
            0 => Err(wrong(format!("{from} has no key; write age1…, one a line"))),
            1..=RECIPIENTS => Ok(Self(all)),
            many => Err(wrong(format!("{from} has {many} keys; {RECIPIENTS} is the most"))),
        }
    }

    /// Encrypts some bytes for all of them.
    ///
    /// # Errors
    /// Where the library cannot: that is a bug.
    pub fn seal(&self, content: &[u8]) -> Result<Sealed> {
        let failed = |what: String| wrong(format!("content cannot be encrypted: {what}"));
        let all = self.0.iter().map(|one| one as &dyn age::Recipient);
        let encryptor =
            age::Encryptor::with_recipients(all).map_err(|error| failed(error.to_string()))?;
        let mut sealed = Vec::with_capacity(content.len() + 1024);
        let written = encryptor.wrap_output(&mut sealed).and_then(|mut writer| {
            writer.write_all(content)?;
            writer.finish().map(drop)
        });
        written.map_err(|error| failed(error.to_string()))?;
        Ok(Sealed(sealed))
    }
}

impl fmt::Debug for Recipients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(ToString::to_string)).finish()
    }
}

/// Keys that open content.
pub struct Identities(Vec<x25519::Identity>);

impl Identities {
    /// Of secret keys, one a line, as `age-keygen` writes them. `from` is what errors call the
    /// text.
    ///
    /// # Errors
    /// Where a line is no secret key, or there are none or too many; no line is repeated.
    pub fn read(from: &str, text: &str) -> Result<Self> {
        let one = |(number, line): (usize, &str)| {
            line.parse::<x25519::Identity>().map_err(|_| {
                let hint = "hint: a key that opens begins with AGE-SECRET-KEY-1, one a line";
                wrong(format!("{from}: line {number} is no secret key of age's\n{hint}"))
            })
        };
        let all: Vec<x25519::Identity> = keys(text).map(one).collect::<Result<_>>()?;
        match all.len() {
            0 => Err(wrong(format!("{from} has no key; write AGE-SECRET-KEY-1…, one a line"))),
            1..=IDENTITIES => Ok(Self(all)),
            many => Err(wrong(format!("{from} has {many} keys; {IDENTITIES} is the most"))),
        }
    }

    /// A new secret key as the text of a file, which names its public key in a comment.
    pub fn make() -> String {
        let made = x25519::Identity::generate();
        let secret = made.to_string();
        format!("# public key: {}\n{}\n", made.to_public(), secret.expose_secret())
    }

    /// Who can be encrypted for, so that these open it.
    pub fn recipients(&self) -> Recipients {
        Recipients(self.0.iter().map(x25519::Identity::to_public).collect())
    }

    /// Decrypts content.
    ///
    /// # Errors
    /// Where none of the keys opens it, it was changed, or it is longer than what is kept of any
    /// call, 16 MiB.
    pub fn open(&self, sealed: &Sealed) -> Result<Vec<u8>> {
        let none = || wrong("none of the keys opens it\nhint: name the key that it was made for");
        let failed = |error: &dyn fmt::Display| wrong(format!("it cannot be decrypted: {error}"));
        let decryptor =
            age::Decryptor::new_buffered(sealed.bytes()).map_err(|error| failed(&error))?;
        let all = self.0.iter().map(|one| one as &dyn age::Identity);
        let reader = decryptor.decrypt(all).map_err(|error| match error {
            age::DecryptError::NoMatchingKeys => none(),
            other => failed(&other),
        })?;
        let mut content = Vec::new();
        let read = reader.take(OPENED_BYTES + 1).read_to_end(&mut content);
        match read.map_err(|error| failed(&error))? as u64 {
            ..=OPENED_BYTES => Ok(content),
            _ => Err(failed(&format_args!("it has more than {OPENED_BYTES} bytes"))),
        }
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identities({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> Identities {
        Identities::read("a key", &Identities::make()).expect("is read")
    }

    #[test]
    fn who_holds_a_key_reads_and_nobody_else() {
        let (one, other, third) = (made(), made(), made());
        let both = format!("{:?}", one.recipients()).replace(['[', ']', '"'], "");
        let both = format!("# both\n\n {both}\n{:?}\n", other.recipients().0[0].to_string());
        let both = Recipients::read("a list", &both.replace('"', "")).expect("is read");
        for content in [&b""[..], b"a secret", &[7; 200_000]] {
            let sealed = both.seal(content).expect("is encrypted");
            let hidden = |part: &[u8]| sealed.bytes().windows(8).all(|window| window != part);
            assert!(content.len() < 8 || hidden(&content[..8]));
            assert_eq!(one.open(&sealed).as_deref(), Ok(content));
            assert_eq!(other.open(&sealed).as_deref(), Ok(content));
            let error = third.open(&sealed).expect_err("has no key");
            assert!(error.to_string().contains("none of the keys"), "{error}");
            for at in [0, sealed.bytes().len() / 2, sealed.bytes().len() - 1] {
                let mut changed = sealed.clone();
                changed.0[at] ^= 1;
                assert!(one.open(&changed).is_err(), "byte {at}");
            }
            let cut = Sealed(sealed.bytes()[..sealed.bytes().len() - 1].to_vec());
            assert!(one.open(&cut).is_err(), "it was cut");
        }
    }

    #[test]
    fn what_is_too_long_is_an_error_and_no_beginning() {
        let key = made();
        let check = |bytes: u64, whole: bool| {
            let content = vec![b'x'; bytes as usize];
            let sealed = key.recipients().seal(&content).expect("is encrypted");
            let opened = key.open(&sealed);
            assert_eq!(opened.as_ref().ok().map(|it| it.len() as u64), whole.then_some(bytes));
            if let Err(error) = opened {
                assert!(error.to_string().contains("more than 16777216 bytes"), "{error}");
            }
        };
        check(OPENED_BYTES, true);
        check(OPENED_BYTES + 1, false);
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_repeated() {
        let secret = Identities::make();
        let secret = secret.lines().last().expect("a key");
        for text in ["", "# nothing\n", "age1x", secret, "AGE-SECRET-KEY-1X"] {
            let error = Recipients::read("list.txt", text).expect_err(text).to_string();
            assert!(error.contains("list.txt") && !error.contains("AGE-SECRET-KEY-1"), "{error}");
        }
        let public = made().recipients().0[0].to_string();
        for text in ["", public.as_str(), "AGE-SECRET-KEY-1X"] {
            assert!(Identities::read("key.txt", text).is_err(), "{text}");
        }
        let many = format!("{public}\n").repeat(RECIPIENTS + 1);
        assert!(Recipients::read("list.txt", &many).is_err());
        assert!(!format!("{:?}", made()).contains("SECRET"));
    }
}
