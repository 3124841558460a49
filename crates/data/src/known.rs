//! What a file is known by before its rows are read: how long it is, a digest of what is in it, and
//! about how many rows it has. A journal is gone on with only where these are the same.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use crate::{Error, Format, parquet};

/// What is known of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its length.
    pub bytes: u64,
    /// FNV-1a over its words of eight bytes, little-endian, the last one filled up with zeros. It
    /// tells a changed file, but for one that was made to be taken for it.
    pub digest: u64,
    /// Its rows; near enough for a progress bar where cells have lines in them.
    pub rows: u64,
}

/// Reads a file once to know it again. `None` where it is no file but a pipe or a device.
///
/// # Errors
/// Where it cannot be read.
pub fn known(path: &Path, format: Format) -> Result<Option<Known>, Error> {
    let wrong = |error: std::io::Error| Error::at(path, error);
    let mut file = File::open(path).map_err(wrong)?;
    if !file.metadata().map_err(wrong)?.is_file() {
        return Ok(None);
    }
    let mut known = read(&mut file).map_err(wrong)?;
    match format {
        Format::Csv | Format::Tsv => known.rows = known.rows.saturating_sub(1),
        Format::Parquet => known.rows = parquet::rows(file).map_err(|why| Error::at(path, why))?,
        Format::Lines | Format::Jsonl => {}
    }
    Ok(Some(known))
}

/// Length, digest, and lines.
fn read(mut bytes: impl Read) -> std::io::Result<Known> {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let mut known = Known { bytes: 0, digest: 0xcbf2_9ce4_8422_2325, rows: 0 };
    let mut buffer = vec![0; 1 << 18];
    let mut last = b'\n';
    loop {
        let mut filled = 0;
        // Full, but for the end: words must not depend on how the file is read.
        while filled < buffer.len() {
            match bytes.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let Some(end) = buffer[..filled].last() else { break };
        last = *end;
        known.bytes += filled as u64;
        known.rows += buffer[..filled].iter().filter(|byte| **byte == b'\n').count() as u64;
        for chunk in buffer[..filled].chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            known.digest = (known.digest ^ u64::from_le_bytes(word)).wrapping_mul(PRIME);
        }
    }
    known.rows += u64::from(last != b'\n');
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_and_lines_are_counted() {
        let check = |bytes: &[u8], rows: u64| {
            let known = read(bytes).expect("reads");
            assert_eq!((known.bytes, known.rows), (bytes.len() as u64, rows), "{bytes:?}");
            known.digest
        };
        let same = check(b"a\nb\nc", 3);
        assert_eq!(same, check(b"a\nb\nc", 3));
        assert_ne!(same, check(b"a\nb\nd", 3));
        assert_ne!(same, check(b"a\nb\nc\n", 3));
        check(b"", 0);
        check(&vec![b'\n'; 300_000], 300_000);
    }
}
