//! A shared, read-only run of bytes, usually part of a mapped model file. Cloning copies no data.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// What keeps a run of bytes alive: a memory map, a vector.
pub type Owner = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// A part of an [`Owner`]'s bytes.
#[derive(Clone)]
pub struct Bytes {
    owner: Owner,
    range: Range<usize>,
}

impl Bytes {
    /// All bytes of `owner`.
    pub fn new(owner: Owner) -> Self {
        let range = 0..(*owner).as_ref().len();
        Self { owner, range }
    }

    /// All bytes of a file, mapped rather than read.
    ///
    /// The file must not be changed or cut while it is mapped; replacing it by renaming another
    /// over it is safe.
    ///
    /// # Errors
    /// Whatever the system says against mapping it.
    pub fn map(file: &std::fs::File) -> std::io::Result<Self> {
        // SAFETY: A map is unsound if the file changes beneath it. Model files are written once,
        // under another name, and renamed into place. Whoever checks what is in the map copies it
        // out first: no decision rests on reading it a second time.
        let map = unsafe { memmap2::Mmap::map(file) }?;
        Ok(Self::new(Arc::new(map)))
    }

    /// A part of these bytes; `None` where it does not lie within them.
    pub fn slice(&self, range: Range<usize>) -> Option<Self> {
        self.get(range.clone())?;
        let start = self.range.start;
        Some(Self { owner: Arc::clone(&self.owner), range: start + range.start..start + range.end })
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(Arc::new(bytes))
    }
}

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &(*self.owner).as_ref()[self.range.clone()]
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({} bytes)", self.range.len())
    }
}
