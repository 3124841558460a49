//! A file that was never written: what its head would say, and where the weights are, each tensor's
//! by themselves. So whatever holds a model is read by those who read GGUF files. The head is made
//! and read back like any other, so that all of its rules hold.

use ingle_backend::{Bytes, Make};

use std::sync::{Arc, OnceLock};

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
        Self { parts, length, make: Some(Arc::new(move || make(&from))) }
    }

    /// The weights; what is made is made when it is read.
    pub(super) fn bytes(&self) -> Bytes {
        match &self.make {
            Some(make) => Bytes::made(self.length, make.clone()),
            None => self.parts[0].clone(),
        }
    }

    /// Weights that are made of these ones.
    fn remade(
        self,
        length: usize,
        make: impl Fn(Bytes) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let parts = self.parts.clone();
        Self { parts, length, make: Some(Arc::new(move || make(self.bytes()))) }
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
    /// [`Error::Unsupported`] where the head breaks a rule of the format, as a shape that cannot
    /// be; else those of [`Gguf::from_bytes`].
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

    /// The same model with another head, in which tensors are the same ones in the same order, but
    /// stored otherwise: `make` is given the place of a tensor that differs, and its bytes, when
    /// its weights are first read. What it cannot make is zeros, and told by [`Gguf::fault`].
    pub(crate) fn remade(
        self,
        outline: &Outline,
        make: impl Fn(usize, &[u8]) -> Result<Vec<u8>, Error> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let make = Arc::new(make);
        let fault = Arc::new(OnceLock::new());
        let held = outline.tensors().iter().enumerate().map(|(i, planned)| {
            let held = match &self.held {
                Some(held) => held[i].clone(),
                None => Held::stored_as(self.slice(i)),
            };
            if self.tensors[i].format == Some(planned.format) {
                return held;
            }
            let length = planned.bytes().expect("planned by those who could");
            let (make, fault) = (Arc::clone(&make), Arc::clone(&fault));
            held.remade(length, move |bytes| match make(i, &bytes) {
                Ok(made) => made,
                Err(error) => {
                    let _ = fault.set(error.to_string()); // the first one is told
                    vec![0; length]
                }
            })
        });
        let held = held.collect();
        let mut file = Self::assemble(outline, held)?;
        file.fault = Some(fault);
        Ok(file)
    }

    /// What went wrong when weights were made, of those that were read so far: such a model is not
    /// to be run.
    ///
    /// # Errors
    /// [`Error::Unsupported`], with what it was.
    pub fn fault(&self) -> Result<(), Error> {
        match self.fault.as_ref().and_then(|fault| fault.get()) {
            Some(what) => Err(Error::Unsupported(what.clone())),
            None => Ok(()),
        }
    }
}
