//! GGUF model files, read in place: the metadata is copied out and checked once, the weights stay
//! in the mapped file. What else holds a model is read as if it were one ([`Gguf::assemble`]).
//!
//! A file is hostile until read: every count, length, offset and name is checked before use, and
//! memory grows with the file's true size, never with a number that it claims. Layout:
//! <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>, versions 2 and 3, little-endian.
//! There is no joining of split files here, and no knowledge of any architecture.

mod assemble;
mod read;
mod value;
mod write;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use ingle_backend::{Bytes, Format};

use crate::{Error, huggingface};
pub use assemble::Held;
use read::{Reader, malformed};
pub use value::{Array, Strs, Value};
pub use write::{Outline, Planned, Writer};

/// "GGUF", read as a little-endian word.
const MAGIC: u32 = 0x4655_4747;
/// What offsets of tensors are multiples of, unless `general.alignment` says otherwise.
const DEFAULT_ALIGNMENT: u32 = 32;
/// No known file aligns to more than a page; this also keeps padding small.
const MAX_ALIGNMENT: u32 = 1 << 16;
/// The most bytes that all but the weights may take; the largest known vocabularies take some 12
/// million. Without it, a file could pass its weights off as metadata to be copied.
const MAX_HEAD: usize = 128 << 20;
/// The most metadata entries; known files have some 50.
const MAX_ENTRIES: usize = 1 << 16;
/// The most tensors; known files have some 2,000.
const MAX_TENSORS: usize = 1 << 17;
/// The format's limit for keys, in bytes; tensors' names are held to it too.
const MAX_NAME: u64 = (1 << 16) - 1;
/// The format's limit.
const MAX_DIMS: u32 = 4;
/// Least bytes that a metadata entry takes: key length, type, a one-byte value.
const MIN_ENTRY: usize = 8 + 4 + 1;
/// Least bytes that a tensor's description takes: name length, dimensions, one of them, type,
/// offset.
const MIN_TENSOR: usize = 8 + 4 + 8 + 4 + 8;

/// An opened and wholly checked model file.
#[derive(Debug)]
pub struct Gguf {
    /// The file, or its head alone where the weights are `held`.
    bytes: Bytes,
    /// Where the weights of an assembled file are, in the order of `tensors`.
    held: Option<Vec<Held>>,
    /// What could not be made of weights, if they are made.
    fault: Option<Arc<OnceLock<String>>>,
    version: u32,
    arch: String,
    entries: Vec<Entry>,
    keys: HashMap<String, usize>,
    tensors: Vec<TensorInfo>,
    names: HashMap<String, usize>,
}

#[derive(Debug)]
struct Entry {
    key: String,
    value: Value,
    /// Where the value stands in the file.
    at: usize,
}

/// What the file says of one tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    /// Its name, unique in the file.
    pub name: String,
    /// Its dimensions, the fastest-running first: `shape[0]` is the length of a row.
    pub shape: Vec<u64>,
    /// How its weights are stored; `None` for a type that Ingle has no decoder for.
    pub format: Option<Format>,
    /// The file's number for that type.
    pub ggml_type: u32,
    /// Where its weights begin, in bytes from the start of the file; in an assembled one, where
    /// they would if it were written.
    pub offset: u64,
    /// How many bytes they take; 0 where the format is unknown.
    pub bytes: u64,
    /// Where the file says all this.
    at: usize,
}

impl TensorInfo {
    /// The storage type's name, or its number where it has none that we know.
    pub fn type_name(&self) -> Cow<'static, str> {
        match self.format {
            Some(format) => format.name().into(),
            None => FOREIGN.iter().find(|(id, _)| *id == self.ggml_type).map_or_else(
                || format!("type {}", self.ggml_type).into(),
                |(_, name)| (*name).into(),
            ),
        }
    }
}

/// Types that files may hold and that have no decoder here, to name them in errors
/// (`GGMLQuantizationType` of the Python package `gguf`).
const FOREIGN: &[(u32, &str)] = &[
    (9, "Q8_1"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (40, "NVFP4"),
    (41, "Q1_0"),
];

/// A tensor's weights: `rows` rows of `cols` weights each, row after row, each of whole blocks.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// How they are stored.
    pub format: Format,
    /// The length of a row, in weights.
    pub cols: usize,
    /// The product of all other dimensions.
    pub rows: usize,
    /// The stored weights, still in the mapped file, or made when they are first read.
    pub bytes: Bytes,
}

impl Tensor {
    /// Some of its rows. Panics where it has fewer.
    pub(crate) fn rows(&self, rows: std::ops::Range<usize>) -> Self {
        let each = self.bytes.len() / self.rows;
        let bytes = self.bytes.slice(rows.start * each..rows.end * each);
        Self {
            format: self.format,
            cols: self.cols,
            rows: rows.len(),
            bytes: bytes.expect("the rows are there"),
        }
    }

    /// All its rows as one.
    pub(crate) fn flat(self) -> Self {
        Self { cols: self.rows * self.cols, rows: 1, ..self }
    }
}

/// Makes a missing key or tensor no error: for what a file need not have.
pub fn optional<T>(found: Result<T, Error>) -> Result<Option<T>, Error> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Error::Missing(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Gguf {
    /// Maps the file at `path` and reads all but its weights. A Hugging Face directory is read as
    /// if it were such a file; so is the one whose `config.json` or safetensors file is named.
    ///
    /// The file must not be changed or cut while it is open; replacing it by renaming another over
    /// it is safe.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be read, else those of [`Gguf::from_bytes`] or of
    /// [`huggingface::open`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        if let Some(directory) = huggingface::directory(path) {
            return huggingface::open(&directory);
        }
        let io = |source| Error::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        if !file.metadata().map_err(io)?.is_file() {
            return Err(io(std::io::Error::other("not a regular file")));
        }
        Self::from_bytes(Bytes::map(&file).map_err(io)?)
    }

    /// Reads all but the weights of a file that is already in memory.
    ///
    /// # Errors
    /// [`Error::Malformed`] where the file breaks a rule, [`Error::Unsupported`] where it is of
    /// another version or byte order, [`Error::Missing`] where it names no architecture.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, Error> {
        let length = bytes.len() as u64;
        Self::read(bytes, length)
    }

    /// Reads the head of a file that has, or would have, `length` bytes.
    fn read(bytes: Bytes, length: u64) -> Result<Self, Error> {
        let mut reader = Reader::new(&bytes[..bytes.len().min(MAX_HEAD)]);
        let version = version(&mut reader)?;
        let tensor_count = reader.count(MAX_TENSORS, MIN_TENSOR, "the count of tensors")?;
        let entry_count = reader.count(MAX_ENTRIES, MIN_ENTRY, "the count of metadata entries")?;
        let (entries, keys) = entries(&mut reader, entry_count)?;
        let alignment = alignment(&entries, &keys)?;
        let (mut tensors, names) = tensors(&mut reader, tensor_count)?;
        let data = reader.at() as u64;
        let data = data.checked_next_multiple_of(alignment).unwrap_or(u64::MAX);
        for tensor in &mut tensors {
            place(tensor, data, alignment, length)
                .map_err(|what| malformed(tensor.at, format!("tensor {}: {what}", tensor.name)))?;
        }
        apart(&tensors)?;
        let arch = String::new();
        let (held, fault) = (None, None);
        let mut file = Self { arch, version, entries, keys, tensors, names, bytes, held, fault };
        file.arch = file.str("general.architecture")?.to_owned();
        Ok(file)
    }

    /// The version of the format that the file is written in.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The architecture's name (`general.architecture`), such as "llama".
    pub fn arch(&self) -> &str {
        &self.arch
    }

    /// The architecture's own key that ends in `suffix`, such as "llama.block_count".
    pub fn key(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.arch)
    }

    /// A metadata value, whatever its type.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.keys.get(key).map(|i| &self.entries[*i].value)
    }

    /// All metadata, in the file's order.
    pub fn metadata(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|entry| (entry.key.as_str(), &entry.value))
    }

    /// What `pick` makes of the value of `key`; where it makes nothing, the value is not
    /// `expected`.
    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        pick: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<T, Error> {
        let i = self.keys.get(key).ok_or_else(|| Error::Missing(key.to_owned()))?;
        let Entry { value, at, .. } = &self.entries[*i];
        pick(value).ok_or_else(|| {
            malformed(*at, format!("{key} is not {expected} (its type is {})", value.type_name()))
        })
    }

    /// A string. Errors of all these: [`Error::Missing`], and [`Error::Malformed`] where the type
    /// is another.
    pub fn str(&self, key: &str) -> Result<&str, Error> {
        self.typed(key, "a string", |value| match value {
            Value::Str(string) => Some(string.as_str()),
            _ => None,
        })
    }

    /// A non-negative integer, stored in any width.
    pub fn uint(&self, key: &str) -> Result<u64, Error> {
        self.typed(key, "a non-negative integer", |value| value.as_integer()?.try_into().ok())
    }

    /// A finite number; integers count too.
    pub fn float(&self, key: &str) -> Result<f64, Error> {
        self.typed(key, "a finite number", |value| {
            let number = match value {
                Value::F32(x) => f64::from(*x),
                Value::F64(x) => *x,
                _ => value.as_integer()? as f64,
            };
            number.is_finite().then_some(number)
        })
    }

    /// A bool.
    pub fn bool(&self, key: &str) -> Result<bool, Error> {
        self.typed(key, "a bool", |value| match value {
            Value::Bool(bool) => Some(*bool),
            _ => None,
        })
    }

    /// An array of strings.
    pub fn strs(&self, key: &str) -> Result<&Strs, Error> {
        self.typed(key, "an array of strings", |value| match value {
            Value::Array(Array::Strs(all)) => Some(all),
            _ => None,
        })
    }

    /// An array of floats, which need not be finite. Doubles are rounded to singles.
    pub fn f32s(&self, key: &str) -> Result<Cow<'_, [f32]>, Error> {
        self.typed(key, "an array of floats", |value| match value {
            Value::Array(Array::F32s(all)) => Some(Cow::Borrowed(&all[..])),
            Value::Array(Array::F64s(all)) => Some(all.iter().map(|x| *x as f32).collect()),
            _ => None,
        })
    }

    /// An array of floats of either width.
    pub fn f64s(&self, key: &str) -> Result<Vec<f64>, Error> {
        self.typed(key, "an array of floats", |value| match value {
            Value::Array(Array::F32s(all)) => Some(all.iter().map(|x| f64::from(*x)).collect()),
            Value::Array(Array::F64s(all)) => Some(all.clone()),
            _ => None,
        })
    }

    /// An array of integers of any width.
    pub fn ints(&self, key: &str) -> Result<Vec<i64>, Error> {
        self.typed(key, "an array of integers below 2^63", |value| match value {
            Value::Array(array) => array.to_ints(),
            _ => None,
        })
    }

    /// All that the file says but its weights, as it stands in it.
    pub fn head(&self) -> &[u8] {
        let first = self.tensors.iter().map(|tensor| tensor.offset as usize).min();
        &self.bytes[..first.unwrap_or(self.bytes.len()).min(self.bytes.len())]
    }

    /// What each tensor's weights are made of, as it is stored; nothing is made.
    pub fn stored(&self) -> impl Iterator<Item = Bytes> {
        (0..self.tensors.len()).flat_map(|i| match &self.held {
            Some(held) => held[i].stored().to_vec(),
            None => vec![self.slice(i)],
        })
    }

    fn slice(&self, i: usize) -> Bytes {
        let TensorInfo { offset, bytes, .. } = &self.tensors[i];
        let range = *offset as usize..(offset + bytes) as usize;
        self.bytes.slice(range).expect("checked when the file was opened")
    }

    /// Whether there is a tensor of that name.
    pub fn has(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// What the file says of its tensors, in its order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// A tensor's weights, without copying them.
    ///
    /// # Errors
    /// [`Error::Missing`] where there is none of that name ([`optional`] makes that `None`),
    /// [`Error::Unsupported`] where it is stored in a way that Ingle has no decoder for.
    pub fn tensor(&self, name: &str) -> Result<Tensor, Error> {
        let Some(i) = self.names.get(name) else {
            return Err(self.lacks(name));
        };
        let info = &self.tensors[*i];
        let Some(format) = info.format else {
            return Err(Error::Unsupported(format!(
                "tensor {name} is stored as {}, which Ingle cannot read; fetch the model in \
                 another quantisation, such as Q4_K_M",
                info.type_name()
            )));
        };
        let weights: u64 = info.shape.iter().product();
        Ok(Tensor {
            format,
            cols: info.shape[0] as usize,
            rows: (weights / info.shape[0]) as usize,
            bytes: self.held.as_ref().map_or_else(|| self.slice(*i), |held| held[*i].bytes()),
        })
    }

    fn lacks(&self, name: &str) -> Error {
        match self.uint("split.count") {
            Ok(parts @ 2..) => Error::Unsupported(format!(
                "tensor {name} is not in this file, which is one of {parts} parts of a model; \
                 Ingle cannot read split models: join the parts into one file first"
            )),
            _ => Error::Missing(format!("tensor {name}")),
        }
    }
}

/// Magic and version.
fn version(reader: &mut Reader<'_>) -> Result<u32, Error> {
    if reader.u32("the magic number")? != MAGIC {
        return Err(malformed(0, "not a GGUF file: it does not begin with \"GGUF\""));
    }
    let version = reader.u32("the version")?;
    match version {
        2 | 3 => Ok(version),
        _ if matches!(version.swap_bytes(), 1..=0xffff) => Err(Error::Unsupported(
            "this GGUF file is big-endian, and Ingle reads little-endian ones only; fetch the \
             model as others publish it"
                .to_owned(),
        )),
        _ => Err(Error::Unsupported(format!(
            "this GGUF file is of version {version}, and Ingle reads versions 2 and 3; fetch or \
             convert the model anew"
        ))),
    }
}

/// A key's or tensor's name.
fn name<'a>(reader: &mut Reader<'a>, what: &str) -> Result<&'a str, Error> {
    let at = reader.at();
    let name = reader.string(what)?;
    match name.len() as u64 {
        0..=MAX_NAME => Ok(name),
        length => Err(malformed(at, format!("{what} of {length} bytes"))),
    }
}

type Index = HashMap<String, usize>;

fn entries(reader: &mut Reader<'_>, count: usize) -> Result<(Vec<Entry>, Index), Error> {
    let (mut entries, mut keys) = (Vec::new(), Index::new());
    for i in 0..count {
        let at = reader.at();
        let key = name(reader, "a metadata key")?;
        if keys.insert(key.to_owned(), i).is_some() {
            return Err(malformed(at, format!("{key} is there twice")));
        }
        let kind = reader.u32("a metadata type")?;
        let at = reader.at();
        let value = Value::read(reader, kind, key)?;
        entries.push(Entry { key: key.to_owned(), value, at });
    }
    Ok((entries, keys))
}

fn alignment(entries: &[Entry], keys: &Index) -> Result<u64, Error> {
    let Some(Entry { value, at, .. }) = keys.get("general.alignment").map(|i| &entries[*i]) else {
        return Ok(DEFAULT_ALIGNMENT.into());
    };
    match *value {
        Value::U32(bytes) if bytes.is_power_of_two() && bytes <= MAX_ALIGNMENT => Ok(bytes.into()),
        _ => Err(malformed(
            *at,
            format!("general.alignment is not a u32 power of two up to {MAX_ALIGNMENT}"),
        )),
    }
}

fn tensors(reader: &mut Reader<'_>, count: usize) -> Result<(Vec<TensorInfo>, Index), Error> {
    let (mut tensors, mut names) = (Vec::new(), Index::new());
    for i in 0..count {
        let at = reader.at();
        let name = name(reader, "a tensor's name")?;
        if names.insert(name.to_owned(), i).is_some() {
            return Err(malformed(at, format!("tensor {name} is there twice")));
        }
        let at = reader.at();
        let dims = reader.u32("a tensor's dimensions")?;
        if !(1..=MAX_DIMS).contains(&dims) {
            return Err(malformed(at, format!("tensor {name} has {dims} dimensions, not 1 to 4")));
        }
        let shape = reader.scalars(dims as usize, "a tensor's shape")?;
        let ggml_type = reader.u32("a tensor's type")?;
        let offset = reader.u64("a tensor's offset")?;
        let (name, format) = (name.to_owned(), Format::from_ggml_id(ggml_type));
        tensors.push(TensorInfo { name, shape, format, ggml_type, offset, bytes: 0, at });
    }
    Ok((tensors, names))
}

/// Checks where a tensor lies, makes its offset (which the file counts from `data`) one from the
/// file's start, and fills in its length.
fn place(tensor: &mut TensorInfo, data: u64, alignment: u64, file: u64) -> Result<(), String> {
    let shape = &tensor.shape;
    let weights = shape.iter().try_fold(1u64, |product, dim| product.checked_mul(*dim));
    let Some(weights @ 1..) = weights.filter(|weights| usize::try_from(*weights).is_ok()) else {
        return Err(format!("the shape {shape:?} is empty or too large"));
    };
    if !tensor.offset.is_multiple_of(alignment) {
        return Err(format!("its offset {} is no multiple of {alignment}", tensor.offset));
    }
    if let Some(format) = tensor.format {
        let row_bytes = format.row_bytes(shape[0] as usize).ok_or_else(|| {
            format!("rows of {} are not whole blocks of {}, or too many", shape[0], format.name())
        })?;
        let bytes = (row_bytes as u64).checked_mul(weights / shape[0]);
        tensor.bytes = bytes.ok_or_else(|| format!("the shape {shape:?} is too large"))?;
    }
    let start = data.checked_add(tensor.offset);
    let end = start.and_then(|start| start.checked_add(tensor.bytes));
    match (start, end) {
        (Some(start), Some(end)) if end <= file => tensor.offset = start,
        _ => {
            return Err(format!(
                "{} bytes at offset {} of the weights reach past the end of the file (weights \
                 begin at {data}, the file has {file} bytes): is it cut off?",
                tensor.bytes, tensor.offset
            ));
        }
    }
    Ok(())
}

/// No two tensors lie on the same bytes: else a short file could claim weights without end, each of
/// which is repacked.
fn apart(tensors: &[TensorInfo]) -> Result<(), Error> {
    let mut placed: Vec<&TensorInfo> = tensors.iter().filter(|tensor| tensor.bytes > 0).collect();
    placed.sort_unstable_by_key(|tensor| tensor.offset);
    match placed.array_windows().find(|[a, b]| a.offset + a.bytes > b.offset) {
        Some([a, b]) => {
            let what = format!("tensors {} and {} lie on the same bytes", a.name, b.name);
            Err(malformed(a.at.max(b.at), what))
        }
        None => Ok(()),
    }
}
