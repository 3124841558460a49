//! The end that bytes flow into: a partial file that knows its length, its hash and its bound, so
//! that no source can write more than was agreed or go unverified.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{Progress, Quiet};
use crate::Error;

/// The largest model file that is fetched where nobody says how large it is: 2 TiB.
const MAX_MODEL: u64 = 2 << 40;
/// Bytes moved at a time.
pub(crate) const BLOCK: usize = 256 * 1024;

/// How many bytes a part may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    /// Exactly so many.
    Exactly(u64),
    /// The size is not known beforehand.
    AtMost(u64),
}

impl Bound {
    /// The bound that a known or unknown size gives.
    pub(crate) fn of(size: Option<u64>) -> Self {
        size.map_or(Self::AtMost(MAX_MODEL), Self::Exactly)
    }

    /// Whether a part of this size is acceptable.
    pub(crate) fn allows(self, size: u64) -> bool {
        match self {
            Self::Exactly(exact) => size == exact,
            Self::AtMost(most) => size <= most,
        }
    }
}

/// A file being written, hashed as it grows.
#[derive(Debug)]
pub(crate) struct Sink {
    file: File,
    path: PathBuf,
    hasher: Sha256,
    len: u64,
}

impl Sink {
    /// Opens or creates the file and keeps its first `keep` bytes (fewer where it is shorter).
    pub(crate) fn open(path: &Path, keep: u64) -> Result<Self, Error> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(path).map_err(|source| io_error(path, source))?;
        let mut sink = Self { file, path: path.into(), hasher: Sha256::new(), len: 0 };
        sink.cut(keep)?;
        Ok(sink)
    }

    /// How many bytes are there.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Drops everything behind the first `keep` bytes.
    pub(crate) fn cut(&mut self, keep: u64) -> Result<(), Error> {
        let failed = |source| io_error(&self.path, source);
        let there = self.file.metadata().map_err(failed)?.len();
        let keep = keep.min(there);
        self.file.set_len(keep).map_err(failed)?;
        self.file.seek(SeekFrom::Start(0)).map_err(failed)?;
        self.hasher = Sha256::new();
        let mut kept = (&self.file).take(keep);
        let hashed = hash_into(&mut self.hasher, &mut kept, &self.path, &mut Quiet)?;
        self.file.seek(SeekFrom::Start(hashed)).map_err(failed)?;
        self.len = hashed;
        Ok(())
    }

    /// Appends bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(|source| io_error(&self.path, source))?;
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Appends all that a reader gives, which must be `size` bytes; `named` is for errors.
    ///
    /// # Errors
    /// [`Error::Fetch`] where the reader fails or gives more or fewer bytes.
    pub(crate) fn fill(
        &mut self,
        reader: &mut dyn Read,
        size: u64,
        named: &str,
        progress: &mut dyn Progress,
    ) -> Result<(), Error> {
        let mut block = vec![0; BLOCK];
        let mut done = 0;
        loop {
            if progress.cancelled() {
                return Err(Error::Interrupted);
            }
            let got = match reader.read(&mut block) {
                Ok(0) => break,
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::Fetch(format!("cannot unpack {named}: {error}"))),
            };
            done += got as u64;
            if done > size {
                return Err(Error::Fetch(format!("{named} holds more than its {size} bytes")));
            }
            self.write(&block[..got])?;
            progress.advance(done);
        }
        if done < size {
            return Err(Error::Fetch(format!("{named} ends after {done} of its {size} bytes")));
        }
        Ok(())
    }

    /// Puts everything on the disk; returns the size and the SHA-256 in hexadecimal.
    pub(crate) fn finish(self) -> Result<(u64, String), Error> {
        self.file.sync_all().map_err(|source| io_error(&self.path, source))?;
        Ok((self.len, hex(&self.hasher.finalize())))
    }
}

/// A file's size and SHA-256 in hexadecimal.
pub(crate) fn hash_file(path: &Path, progress: &mut dyn Progress) -> Result<(u64, String), Error> {
    let mut hasher = Sha256::new();
    let mut file = File::open(path).map_err(|source| io_error(path, source))?;
    let size = hash_into(&mut hasher, &mut file, path, progress)?;
    Ok((size, hex(&hasher.finalize())))
}

/// The SHA-256 of a text, in hexadecimal.
pub(crate) fn hash_text(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

/// Hashes all that a reader of this file gives.
fn hash_into(
    hasher: &mut Sha256,
    reader: &mut dyn Read,
    path: &Path,
    progress: &mut dyn Progress,
) -> Result<u64, Error> {
    let mut block = vec![0; BLOCK];
    let mut total = 0;
    while !progress.cancelled() {
        match reader.read(&mut block) {
            Ok(0) => return Ok(total),
            Ok(got) => {
                hasher.update(&block[..got]);
                total += got as u64;
                progress.advance(total);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(io_error(path, error)),
        }
    }
    Err(Error::Interrupted)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn io_error(path: &Path, source: io::Error) -> Error {
    Error::Io { path: path.into(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pull::Quiet;
    use crate::pull::tests::scratch;

    #[test]
    fn a_part_has_the_size_that_it_claims() {
        let folder = scratch("sink");
        let check = |text: &str, size: u64, expect: Option<&str>| {
            let mut sink = Sink::open(&folder.join("part"), 0).expect("opened");
            let filled = sink.fill(&mut text.as_bytes(), size, "x", &mut Quiet);
            let said = filled.err().map(|error| error.to_string());
            assert_eq!(said.as_deref(), expect, "{text} of {size}");
        };
        check("abc", 3, None);
        check("", 0, None);
        check("abcd", 3, Some("x holds more than its 3 bytes"));
        check("ab", 3, Some("x ends after 2 of its 3 bytes"));
    }

    #[test]
    fn what_is_kept_is_hashed_too() {
        let folder = scratch("sink");
        let path = folder.join("part");
        std::fs::write(&path, "abcdef").expect("written");
        for (keep, len) in [(0, 0), (3, 3), (u64::MAX, 6)] {
            std::fs::write(&path, "abcdef").expect("written");
            let mut sink = Sink::open(&path, keep).expect("opened");
            assert_eq!(sink.len(), len);
            sink.write(b"xyz").expect("written");
            let (size, sha256) = sink.finish().expect("finished");
            let expect = format!("{}xyz", &"abcdef"[..len as usize]);
            assert_eq!((size, sha256), (len + 3, hash_text(&expect)));
            assert_eq!(std::fs::read_to_string(&path).expect("read"), expect);
        }
    }
}
