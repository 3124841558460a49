//! Safetensors files, read in place: the header says where each tensor lies, the weights stay in
//! the mapped file. A set of files with an index is read as one.
//!
//! The crate `safetensors` reads the header and holds its rules: tensors lie one behind another,
//! without gaps, from the header's end to the file's, each as long as its shape and type say. What
//! it does not bound is bounded here. Layout: <https://huggingface.co/docs/safetensors/index>.
//! Absent: writing, and knowing what a tensor is for.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use ingle_backend::{Bytes, Format};
use safetensors::tensor::{Dtype, SafeTensors};
use serde::Deserialize;

use crate::Error;
use crate::huggingface::json;

/// The most bytes that a header may take; the largest known have some 2 million. Reading one takes
/// some ten times as much memory.
const MAX_HEADER: u64 = 16 << 20;
/// The most files of a set; the largest known models have some 200.
const MAX_FILES: usize = 4096;

/// A tensor as it is stored.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its dimensions, the slowest-running first: the last is the length of a row.
    pub shape: Vec<usize>,
    /// How its numbers are stored, as the format names it: `F32`, `BF16`, `I64`, …
    pub kind: String,
    /// What that is as a weight format; `None` for what is none, as integers are.
    pub format: Option<Format>,
    /// Its numbers, little-endian, still in the mapped file.
    pub bytes: Bytes,
}

/// Tensors by their names.
pub type Tensors = BTreeMap<String, Stored>;

/// Reads the header of a file that is in memory.
///
/// # Errors
/// [`Error::Malformed`] where the file breaks a rule of its format.
pub fn read(bytes: &Bytes) -> Result<Tensors, Error> {
    let malformed = |offset: u64, what: String| Error::Malformed { what, offset };
    let claimed = bytes.first_chunk().map_or(0, |length| u64::from_le_bytes(*length));
    if claimed > MAX_HEADER {
        let what = format!(
            "a safetensors header of {claimed} bytes, of at most {MAX_HEADER}: is it such a file?"
        );
        return Err(malformed(0, what));
    }
    let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| {
        malformed(8, format!("not a sound safetensors file ({error}): is it cut off?"))
    })?;
    let start = 8 + header;
    let tensors = metadata.tensors().into_iter().map(|(name, info)| {
        let (from, to) = info.data_offsets;
        let within = bytes.slice(start + from..start + to);
        let within = within.ok_or_else(|| malformed(8, format!("{name} is not in the file")))?;
        let (kind, format) = (format!("{:?}", info.dtype), format(info.dtype));
        Ok((name, Stored { shape: info.shape.clone(), kind, format, bytes: within }))
    });
    tensors.collect()
}

fn format(kind: Dtype) -> Option<Format> {
    match kind {
        Dtype::F32 => Some(Format::F32),
        Dtype::F16 => Some(Format::F16),
        Dtype::BF16 => Some(Format::BF16),
        _ => None,
    }
}

/// Maps a file and reads its header.
///
/// The file must not be changed or cut while its tensors are in use.
///
/// # Errors
/// [`Error::Io`] where it cannot be read, else those of [`read`], with the file's name.
pub fn open(path: &Path) -> Result<Tensors, Error> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(io)?;
    if !file.metadata().map_err(io)?.is_file() {
        return Err(io(std::io::Error::other("not a regular file")));
    }
    read(&Bytes::map(&file).map_err(io)?).map_err(|error| match error {
        Error::Malformed { what, offset } => {
            Error::Malformed { what: format!("{}: {what}", path.display()), offset }
        }
        other => other,
    })
}

/// What `model.safetensors.index.json` says.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// All tensors of a directory: of `{stem}.safetensors`, or of the files that
/// `{stem}.safetensors.index.json` names; `None` where neither is there.
///
/// # Errors
/// Those of [`open`]; [`Error::Malformed`] where the index names a file outside of the directory,
/// or a tensor that its file lacks, or does not name one that is there.
pub fn open_set(directory: &Path, stem: &str) -> Result<Option<Tensors>, Error> {
    let single = directory.join(format!("{stem}.safetensors"));
    let index = directory.join(format!("{stem}.safetensors.index.json"));
    if single.is_file() {
        return open(&single).map(Some);
    }
    let Some(Index { weight_map }) = json::read::<Index>(&index)? else { return Ok(None) };
    let wrong =
        |what: String| Error::Malformed { what: format!("{}: {what}", index.display()), offset: 0 };
    let mut files: Vec<&String> = weight_map.values().collect();
    files.sort_unstable();
    files.dedup();
    if files.len() > MAX_FILES {
        return Err(wrong(format!("{} files, of at most {MAX_FILES}", files.len())));
    }
    let mut all = Tensors::new();
    for file in files {
        let plain = Path::new(file).file_name().is_some_and(|name| name == file.as_str());
        if !plain || !file.ends_with(".safetensors") {
            return Err(wrong(format!("{file:?} is no safetensors file beside it")));
        }
        for (name, stored) in open(&directory.join(file))? {
            if weight_map.get(&name) != Some(file) {
                return Err(wrong(format!("it does not say that {name} is in {file}")));
            }
            all.insert(name, stored);
        }
    }
    match weight_map.iter().find(|(name, _)| !all.contains_key(*name)) {
        Some((name, file)) => Err(wrong(format!("{name} is not in {file}"))),
        None => Ok(Some(all)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with this header, and so many bytes behind it.
    fn file(header: &str, data: usize) -> Bytes {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend((0..data).map(|i| i as u8));
        Bytes::from(bytes)
    }

    fn refused(bytes: Bytes, expect: &str) {
        let error = read(&bytes).expect_err(expect).to_string();
        assert!(error.contains(expect), "{error}, not {expect}");
    }

    #[test]
    fn tensors_are_where_the_header_says() {
        let header = r#"{"__metadata__":{"format":"pt"},
            "b":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},
            "a":{"dtype":"BF16","shape":[2,3],"data_offsets":[8,20]}}"#;
        let tensors = read(&file(header, 20)).expect("sound");
        let a = &tensors["a"];
        assert_eq!((&a.shape[..], a.format), (&[2, 3][..], Some(Format::BF16)));
        assert_eq!(&*a.bytes, (8..20).collect::<Vec<u8>>());
        assert_eq!((tensors["b"].format, tensors["b"].kind.as_str()), (None, "I64"));
    }

    #[test]
    fn a_header_that_lies_is_refused() {
        let one = |shape: &str, offsets: &str| {
            format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#)
        };
        refused(Bytes::from(Vec::new()), "is it cut off?");
        refused(Bytes::from(vec![255; 64]), "a safetensors header of 18446744073709551615 bytes");
        refused(file("{", 0), "not a sound safetensors file");
        refused(file(&one("[2]", "[0,8]"), 7), "is it cut off?");
        refused(file(&one("[2]", "[0,8]"), 9), "is it cut off?");
        refused(file(&one("[2]", "[4,12]"), 12), "not a sound");
        refused(file(&one("[2]", "[8,0]"), 8), "not a sound");
        refused(file(&one("[3]", "[0,8]"), 8), "not a sound");
        refused(file(&one("[4611686018427387904,8]", "[0,8]"), 8), "not a sound");
        refused(file(&one("[-1]", "[0,8]"), 8), "not a sound");
        let same = r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},
            "b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#;
        refused(file(same, 4), "not a sound");
    }
}
