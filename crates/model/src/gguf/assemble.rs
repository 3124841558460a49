//! A file that was never written: what its head would say, and where the weights are, each tensor's
//! by themselves. So whatever holds a model is read by those who read GGUF files. The head is made
//! and read back like any other, so that all of its rules hold.

use ingle_backend::{Bytes, Make};

use super::{Gguf, Outline};
use crate::Error;

/// One tensor's weights.
#[derive(Clone)]
pub struct Held {
    parts: Vec<Bytes>,
    make: Option<Make>,
    length: usize,
}

impl Held {
    /// Weights that are stored as they are needed.
    pub fn stored_as(bytes: Bytes) -> Self {
        Self { length: bytes.len(), parts: vec![bytes], make: None }
    }

    /// `length` bytes that `make` makes of `parts`, the same ones each time.
    pub fn made_of(
        parts: Vec<Bytes>,
        length: usize,
        make: impl Fn(&[Bytes]) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let from = parts.clone();
        Self { parts, length, make: Some(std::sync::Arc::new(move || make(&from))) }
    }

    /// The weights; what is made is made when it is read.
    pub(super) fn bytes(&self) -> Bytes {
        match &self.make {
            Some(make) => Bytes::made(self.length, make.clone()),
            None => self.parts[0].clone(),
        }
    }

    /// What they are made of.
    pub(super) fn stored(&self) -> &[Bytes] {
        &self.parts
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let how = if self.make.is_some() { "made of" } else { "stored in" };
        write!(f, "{} bytes, {how} {} parts", self.length, self.parts.len())
    }
}

impl Gguf {
    /// A file with this head, and these weights in the order of its tensors.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the head breaks a rule of the format, as a shape that cannot be;
    /// else those of [`Gguf::from_bytes`].
    ///
    /// # Panics
    /// If weights are not as many, or as long, as the head says.
    pub fn assemble(outline: &Outline, held: Vec<Held>) -> Result<Self, Error> {
        let (head, sizes) = outline.head()?;
        let lengths = held.iter().map(|held| held.length as u64);
        assert!(lengths.eq(sizes.iter().copied()), "weights of other lengths; this is a bug");
        let alignment = outline.alignment()?;
        let length = sizes.iter().fold(head.len() as u64, |end, size| {
            end.saturating_add(*size).next_multiple_of(alignment)
        });
        let mut file = Self::read(Bytes::from(head), length)?;
        file.held = Some(held);
        Ok(file)
    }
}
