//! GGUF model files, written from front to back: an [`Outline`] says all that the head does, then a
//! [`Writer`] takes the weights in the same order and puts each tensor where the head says it is.
//! What is written is version 3, little-endian, and [`Gguf::open`] reads it; nothing is changed
//! afterwards, so a pipe will do. There are no files here: where the bytes go is the caller's.

use std::collections::HashSet;
use std::io::{self, Write};

use ingle_backend::Format;

use super::{
    Array, DEFAULT_ALIGNMENT, Gguf, MAGIC, MAX_ALIGNMENT, MAX_DIMS, MAX_ENTRIES, MAX_HEAD,
    MAX_NAME, MAX_TENSORS, Value,
};
use crate::Error;

/// The version that is written.
const VERSION: u32 = 3;

/// All that a file's head says.
#[derive(Clone, Debug, Default)]
pub struct Outline {
    entries: Vec<(String, Value)>,
    tensors: Vec<Planned>,
}

/// A tensor to come.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// Its name, unique in the file.
    pub name: String,
    /// Its dimensions, the fastest-running first.
    pub shape: Vec<u64>,
    /// How its weights will be stored.
    pub format: Format,
}

impl Planned {
    /// How many weights it has; `None` where there is none, or more than can be counted.
    pub fn weights(&self) -> Option<usize> {
        let weights =
            self.shape.iter().try_fold(1_u64, |product, dim| product.checked_mul(*dim))?;
        usize::try_from(weights).ok().filter(|weights| *weights > 0)
    }

    /// How many bytes they take; `None` where rows are not whole blocks too.
    pub fn bytes(&self) -> Option<usize> {
        let cols = usize::try_from(*self.shape.first()?).ok()?;
        let rows = self.weights()? / cols;
        self.format.row_bytes(cols)?.checked_mul(rows)
    }
}

impl Outline {
    /// The same metadata as another file's, and no tensor yet.
    pub fn like(file: &Gguf) -> Self {
        let entries = file.metadata().map(|(key, value)| (key.to_owned(), value.clone()));
        Self { entries: entries.collect(), tensors: Vec::new() }
    }

    /// Adds a metadata entry, or changes the one of that key.
    pub fn set(&mut self, key: &str, value: Value) {
        match self.entries.iter_mut().find(|(known, _)| known == key) {
            Some((_, old)) => *old = value,
            None => self.entries.push((key.to_owned(), value)),
        }
    }

    /// A metadata entry that is a non-negative integer.
    pub(crate) fn uint(&self, key: &str) -> Option<u64> {
        let (_, value) = self.entries.iter().find(|(known, _)| known == key)?;
        value.as_integer()?.try_into().ok()
    }

    /// Adds a tensor behind the last.
    pub fn push(&mut self, tensor: Planned) {
        self.tensors.push(tensor);
    }

    /// The tensors, in the order in which a [`Writer`] takes their weights.
    pub fn tensors(&self) -> &[Planned] {
        &self.tensors
    }

    pub(super) fn alignment(&self) -> Result<u64, Error> {
        match self.entries.iter().find(|(key, _)| key == "general.alignment") {
            None => Ok(DEFAULT_ALIGNMENT.into()),
            Some((_, Value::U32(to))) if to.is_power_of_two() && *to <= MAX_ALIGNMENT => {
                Ok((*to).into())
            }
            Some(_) => Err(Error::Unsupported(format!(
                "general.alignment is not a u32 power of two up to {MAX_ALIGNMENT}"
            ))),
        }
    }

    /// The head, padded, and each tensor's length in bytes.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the file would break the format's rules or Ingle's bounds: a
    /// name that is there twice or too long, a shape that cannot be, too many of anything.
    pub(super) fn head(&self) -> Result<(Vec<u8>, Vec<u64>), Error> {
        let refuse = |what: String| Err(Error::Unsupported(what));
        if self.entries.len() > MAX_ENTRIES || self.tensors.len() > MAX_TENSORS {
            return refuse("too many metadata entries or tensors for one file".to_owned());
        }
        let keys = self.entries.iter().map(|(key, _)| key.as_str());
        names(keys, "metadata key")?;
        names(self.tensors.iter().map(|tensor| tensor.name.as_str()), "tensor")?;
        let alignment = self.alignment()?;

        let mut head = Vec::new();
        head.extend(MAGIC.to_le_bytes());
        head.extend(VERSION.to_le_bytes());
        head.extend((self.tensors.len() as u64).to_le_bytes());
        head.extend((self.entries.len() as u64).to_le_bytes());
        for (key, value) in &self.entries {
            string(key, &mut head);
            head.extend(value.kind().to_le_bytes());
            value.write(&mut head);
        }
        let (mut sizes, mut offset) = (Vec::new(), 0_u64);
        for tensor in &self.tensors {
            let Planned { name, shape, format } = tensor;
            let Some(bytes) = tensor.bytes().filter(|_| shape.len() <= MAX_DIMS as usize) else {
                let format = format.name();
                return refuse(format!("tensor {name}: {shape:?} in {format} cannot be written"));
            };
            string(name, &mut head);
            head.extend((shape.len() as u32).to_le_bytes());
            shape.iter().for_each(|dim| head.extend(dim.to_le_bytes()));
            head.extend(format.ggml_id().to_le_bytes());
            head.extend(offset.to_le_bytes());
            sizes.push(bytes as u64);
            let end = offset.checked_add(bytes as u64);
            let Some(next) = end.and_then(|end| end.checked_next_multiple_of(alignment)) else {
                return refuse("the weights are too many for one file".to_owned());
            };
            offset = next;
        }
        if head.len() > MAX_HEAD {
            return refuse(format!("the metadata would take {} bytes", head.len()));
        }
        head.resize(head.len().next_multiple_of(alignment as usize), 0);
        Ok((head, sizes))
    }
}

/// Names must be unique and no longer than the format allows.
fn names<'a>(names: impl Iterator<Item = &'a str>, what: &str) -> Result<(), Error> {
    let mut seen = HashSet::new();
    for name in names {
        if name.len() as u64 > MAX_NAME {
            return Err(Error::Unsupported(format!("a {what} of {} bytes", name.len())));
        }
        if !seen.insert(name) {
            return Err(Error::Unsupported(format!("the {what} {name} is there twice")));
        }
    }
    Ok(())
}

/// Length and UTF-8.
pub(super) fn string(text: &str, out: &mut Vec<u8>) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// Takes the weights that an [`Outline`] has announced.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    alignment: u64,
    /// Lengths of the tensors, and which of them is being written.
    sizes: Vec<u64>,
    tensor: usize,
    /// How much of it is there.
    done: u64,
}

impl<W: Write> Writer<W> {
    /// Writes the head.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the outline breaks a rule; what `out` says, made an error by
    /// `io`.
    pub fn begin(
        outline: &Outline,
        mut out: W,
        io: impl Fn(io::Error) -> Error,
    ) -> Result<Self, Error> {
        let (head, sizes) = outline.head()?;
        out.write_all(&head).map_err(io)?;
        Ok(Self { out, alignment: outline.alignment()?, sizes, tensor: 0, done: 0 })
    }

    /// Adds weights to the tensor that is not yet whole.
    ///
    /// # Errors
    /// What the output says.
    ///
    /// # Panics
    /// If they are more than the tensor was to have.
    pub fn weights(&mut self, bytes: &[u8]) -> io::Result<()> {
        let left = self.sizes.get(self.tensor).map_or(0, |size| size - self.done);
        assert!(bytes.len() as u64 <= left, "more weights than announced; this is a bug");
        self.out.write_all(bytes)?;
        self.done += bytes.len() as u64;
        if bytes.len() as u64 == left && left > 0 {
            let padding = self.done.next_multiple_of(self.alignment) - self.done;
            self.out.write_all(&vec![0; padding as usize])?;
            (self.tensor, self.done) = (self.tensor + 1, 0);
        }
        Ok(())
    }

    /// Hands the output back.
    ///
    /// # Panics
    /// If weights that were announced never came.
    pub fn finish(self) -> W {
        assert_eq!(self.tensor, self.sizes.len(), "weights are missing; this is a bug");
        self.out
    }
}

impl Value {
    /// The number that stands for the type in a file.
    fn kind(&self) -> u32 {
        match self {
            Self::U8(_) => 0,
            Self::I8(_) => 1,
            Self::U16(_) => 2,
            Self::I16(_) => 3,
            Self::U32(_) => 4,
            Self::I32(_) => 5,
            Self::F32(_) => 6,
            Self::Bool(_) => 7,
            Self::Str(_) => 8,
            Self::Array(_) => 9,
            Self::U64(_) => 10,
            Self::I64(_) => 11,
            Self::F64(_) => 12,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::U8(x) => out.extend(x.to_le_bytes()),
            Self::I8(x) => out.extend(x.to_le_bytes()),
            Self::U16(x) => out.extend(x.to_le_bytes()),
            Self::I16(x) => out.extend(x.to_le_bytes()),
            Self::U32(x) => out.extend(x.to_le_bytes()),
            Self::I32(x) => out.extend(x.to_le_bytes()),
            Self::U64(x) => out.extend(x.to_le_bytes()),
            Self::I64(x) => out.extend(x.to_le_bytes()),
            Self::F32(x) => out.extend(x.to_le_bytes()),
            Self::F64(x) => out.extend(x.to_le_bytes()),
            Self::Bool(x) => out.push(u8::from(*x)),
            Self::Str(x) => string(x, out),
            Self::Array(array) => array.write(out),
        }
    }
}

impl Array {
    /// Element type, count, elements.
    fn write(&self, out: &mut Vec<u8>) {
        /// As [`Array::write`], of elements that have a fixed length.
        fn numbers<T: Copy, const N: usize>(
            kind: u32,
            all: &[T],
            bytes: fn(T) -> [u8; N],
            out: &mut Vec<u8>,
        ) {
            out.extend(kind.to_le_bytes());
            out.extend((all.len() as u64).to_le_bytes());
            all.iter().for_each(|x| out.extend(bytes(*x)));
        }
        match self {
            Self::U8s(all) => numbers(0, all, u8::to_le_bytes, out),
            Self::I8s(all) => numbers(1, all, i8::to_le_bytes, out),
            Self::U16s(all) => numbers(2, all, u16::to_le_bytes, out),
            Self::I16s(all) => numbers(3, all, i16::to_le_bytes, out),
            Self::U32s(all) => numbers(4, all, u32::to_le_bytes, out),
            Self::I32s(all) => numbers(5, all, i32::to_le_bytes, out),
            Self::F32s(all) => numbers(6, all, f32::to_le_bytes, out),
            Self::Bools(all) => numbers(7, all, |x| [u8::from(x)], out),
            Self::U64s(all) => numbers(10, all, u64::to_le_bytes, out),
            Self::I64s(all) => numbers(11, all, i64::to_le_bytes, out),
            Self::F64s(all) => numbers(12, all, f64::to_le_bytes, out),
            Self::Strs(all) => {
                out.extend(8_u32.to_le_bytes());
                out.extend((all.len() as u64).to_le_bytes());
                all.iter().for_each(|text| string(text, out));
            }
        }
    }
}
