//! A cursor over a file's bytes that never leaves them: every read is checked, every failure names
//! its offset, and nothing is allocated that the bytes still to come could not fill.

use crate::Error;

/// "The file breaks a rule, here."
pub(super) fn malformed(offset: usize, what: impl Into<String>) -> Error {
    Error::Malformed { what: what.into(), offset: offset as u64 }
}

/// What is still to be read.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes from the start of the file.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next `count` bytes; `what` they are is for the error.
    pub(super) fn take(&mut self, count: u64, what: &str) -> Result<&'a [u8], Error> {
        let end = usize::try_from(count).ok().and_then(|count| self.at.checked_add(count));
        let Some(taken) = end.and_then(|end| self.bytes.get(self.at..end)) else {
            let left = self.left();
            return Err(malformed(
                self.at,
                format!("{what} needs {count} bytes where {left} are left: is the file cut off?"),
            ));
        };
        self.at += taken.len();
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Error> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64, what)?);
        Ok(array)
    }

    pub(super) fn scalar<T: Scalar>(&mut self, what: &str) -> Result<T, Error> {
        Ok(T::from_le(self.take(T::BYTES as u64, what)?))
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, Error> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64, Error> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// How many things follow, if they are `max` at most and the rest of the file has room for so
    /// many of at least `min_bytes` each.
    pub(super) fn count(
        &mut self,
        max: usize,
        min_bytes: usize,
        what: &str,
    ) -> Result<usize, Error> {
        let at = self.at;
        let count = self.u64(what)?;
        let room = max.min(self.left() / min_bytes);
        match usize::try_from(count) {
            Ok(count) if count <= room => Ok(count),
            _ => Err(malformed(
                at,
                format!("{what} is {count} where {room} is the most: is the file cut off?"),
            )),
        }
    }

    /// Length and UTF-8.
    pub(super) fn string(&mut self, what: &str) -> Result<&'a str, Error> {
        let length = self.u64(what)?;
        let at = self.at;
        let bytes = self.take(length, what)?;
        std::str::from_utf8(bytes)
            .map_err(|bad| malformed(at + bad.valid_up_to(), format!("{what} is not UTF-8")))
    }

    /// `count` numbers; the caller has had [`Reader::count`] check the room for them.
    pub(super) fn scalars<T: Scalar>(&mut self, count: usize, what: &str) -> Result<Vec<T>, Error> {
        let bytes = self.take(count as u64 * T::BYTES as u64, what)?;
        Ok(bytes.chunks_exact(T::BYTES).map(T::from_le).collect())
    }
}

/// A number as it stands in the file, little-endian.
pub(super) trait Scalar {
    const BYTES: usize;
    fn from_le(bytes: &[u8]) -> Self;
}

macro_rules! scalars {
    ($($scalar:ty),*) => {$(
        impl Scalar for $scalar {
            const BYTES: usize = size_of::<$scalar>();
            fn from_le(bytes: &[u8]) -> Self {
                Self::from_le_bytes(bytes.try_into().expect("the caller cut the right length"))
            }
        }
    )*};
}
scalars!(u8, i8, u16, i16, u32, i32, u64, i64, f32, f64);
