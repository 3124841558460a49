//! Metadata values: numbers, strings, and arrays of them, stored compactly by element type.
//! Arrays of arrays, which the format allows and no known file has, are refused.

use super::read::{Reader, malformed};
use crate::Error;

/// One metadata value.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the variants are the format's own types")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    U64(u64),
    I64(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    Str(String),
    Array(Array),
}

/// An array of values of one type.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the variants are the format's own types")]
pub enum Array {
    U8s(Vec<u8>),
    I8s(Vec<i8>),
    U16s(Vec<u16>),
    I16s(Vec<i16>),
    U32s(Vec<u32>),
    I32s(Vec<i32>),
    U64s(Vec<u64>),
    I64s(Vec<i64>),
    F32s(Vec<f32>),
    F64s(Vec<f64>),
    Bools(Vec<bool>),
    Strs(Strs),
}

/// Many strings end to end: a vocabulary of a quarter million tokens is two allocations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strs {
    text: String,
    ends: Vec<usize>,
}

impl Strs {
    /// How many strings there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The string at `index`.
    pub fn get(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)?;
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        self.text.get(start..end)
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let string = &self.text[start..end];
            start = end;
            string
        })
    }

    fn push(&mut self, string: &str) {
        self.text.push_str(string);
        self.ends.push(self.text.len());
    }
}

impl<'a> FromIterator<&'a str> for Strs {
    fn from_iter<I: IntoIterator<Item = &'a str>>(strings: I) -> Self {
        let mut all = Self::default();
        strings.into_iter().for_each(|string| all.push(string));
        all
    }
}

impl Value {
    /// The type, for people.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::U8(_) => "u8",
            Self::I8(_) => "i8",
            Self::U16(_) => "u16",
            Self::I16(_) => "i16",
            Self::U32(_) => "u32",
            Self::I32(_) => "i32",
            Self::U64(_) => "u64",
            Self::I64(_) => "i64",
            Self::F32(_) => "f32",
            Self::F64(_) => "f64",
            Self::Bool(_) => "bool",
            Self::Str(_) => "string",
            Self::Array(array) => array.type_name(),
        }
    }

    /// An integer of whatever width; `None` for every other type.
    pub fn as_integer(&self) -> Option<i128> {
        Some(match *self {
            Self::U8(x) => x.into(),
            Self::I8(x) => x.into(),
            Self::U16(x) => x.into(),
            Self::I16(x) => x.into(),
            Self::U32(x) => x.into(),
            Self::I32(x) => x.into(),
            Self::U64(x) => x.into(),
            Self::I64(x) => x.into(),
            _ => return None,
        })
    }

    /// Reads a value of the type with the number `kind`.
    pub(super) fn read(reader: &mut Reader<'_>, kind: u32, key: &str) -> Result<Self, Error> {
        Ok(match kind {
            0 => Self::U8(reader.scalar(key)?),
            1 => Self::I8(reader.scalar(key)?),
            2 => Self::U16(reader.scalar(key)?),
            3 => Self::I16(reader.scalar(key)?),
            4 => Self::U32(reader.scalar(key)?),
            5 => Self::I32(reader.scalar(key)?),
            6 => Self::F32(reader.scalar(key)?),
            7 => Self::Bool(boolean(reader.at(), reader.scalar(key)?, key)?),
            8 => Self::Str(reader.string(key)?.to_owned()),
            9 => Self::Array(Array::read(reader, key)?),
            10 => Self::U64(reader.scalar(key)?),
            11 => Self::I64(reader.scalar(key)?),
            12 => Self::F64(reader.scalar(key)?),
            _ => {
                return Err(malformed(reader.at(), format!("{key} has the unknown type {kind}")));
            }
        })
    }
}

impl Array {
    /// How many elements there are.
    pub fn len(&self) -> usize {
        match self {
            Self::U8s(all) => all.len(),
            Self::I8s(all) => all.len(),
            Self::U16s(all) => all.len(),
            Self::I16s(all) => all.len(),
            Self::U32s(all) => all.len(),
            Self::I32s(all) => all.len(),
            Self::U64s(all) => all.len(),
            Self::I64s(all) => all.len(),
            Self::F32s(all) => all.len(),
            Self::F64s(all) => all.len(),
            Self::Bools(all) => all.len(),
            Self::Strs(all) => all.len(),
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The type, for people.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::U8s(_) => "array of u8",
            Self::I8s(_) => "array of i8",
            Self::U16s(_) => "array of u16",
            Self::I16s(_) => "array of i16",
            Self::U32s(_) => "array of u32",
            Self::I32s(_) => "array of i32",
            Self::U64s(_) => "array of u64",
            Self::I64s(_) => "array of i64",
            Self::F32s(_) => "array of f32",
            Self::F64s(_) => "array of f64",
            Self::Bools(_) => "array of bool",
            Self::Strs(_) => "array of strings",
        }
    }

    /// All elements, where they are integers that an `i64` holds.
    pub fn to_ints(&self) -> Option<Vec<i64>> {
        Some(match self {
            Self::U8s(all) => all.iter().map(|x| i64::from(*x)).collect(),
            Self::I8s(all) => all.iter().map(|x| i64::from(*x)).collect(),
            Self::U16s(all) => all.iter().map(|x| i64::from(*x)).collect(),
            Self::I16s(all) => all.iter().map(|x| i64::from(*x)).collect(),
            Self::U32s(all) => all.iter().map(|x| i64::from(*x)).collect(),
            Self::I32s(all) => all.iter().map(|x| i64::from(*x)).collect(),
            Self::U64s(all) => {
                all.iter().map(|x| i64::try_from(*x)).collect::<Result<_, _>>().ok()?
            }
            Self::I64s(all) => all.clone(),
            Self::F32s(_) | Self::F64s(_) | Self::Bools(_) | Self::Strs(_) => return None,
        })
    }

    fn read(reader: &mut Reader<'_>, key: &str) -> Result<Self, Error> {
        let at = reader.at();
        let kind = reader.u32(key)?;
        // The least that an element takes; a string's is its length.
        let min_bytes = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            9 => return Err(malformed(at, format!("{key} is an array of arrays"))),
            _ => {
                return Err(malformed(at, format!("{key} has elements of unknown type {kind}")));
            }
        };
        let count = reader.count(usize::MAX, min_bytes, key)?;
        Ok(match kind {
            0 => Self::U8s(reader.scalars(count, key)?),
            1 => Self::I8s(reader.scalars(count, key)?),
            2 => Self::U16s(reader.scalars(count, key)?),
            3 => Self::I16s(reader.scalars(count, key)?),
            4 => Self::U32s(reader.scalars(count, key)?),
            5 => Self::I32s(reader.scalars(count, key)?),
            6 => Self::F32s(reader.scalars(count, key)?),
            7 => Self::Bools(booleans(reader, count, key)?),
            10 => Self::U64s(reader.scalars(count, key)?),
            11 => Self::I64s(reader.scalars(count, key)?),
            12 => Self::F64s(reader.scalars(count, key)?),
            _ => Self::Strs(strings(reader, count, key)?),
        })
    }
}

fn boolean(at: usize, byte: u8, key: &str) -> Result<bool, Error> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(malformed(at, format!("{key} is a bool and holds {byte}"))),
    }
}

fn booleans(reader: &mut Reader<'_>, count: usize, key: &str) -> Result<Vec<bool>, Error> {
    let at = reader.at();
    let bytes = reader.take(count as u64, key)?;
    bytes.iter().enumerate().map(|(i, byte)| boolean(at + i, *byte, key)).collect()
}

fn strings(reader: &mut Reader<'_>, count: usize, key: &str) -> Result<Strs, Error> {
    let mut all = Strs { text: String::new(), ends: Vec::with_capacity(count) };
    for _ in 0..count {
        all.push(reader.string(key)?);
    }
    Ok(all)
}
