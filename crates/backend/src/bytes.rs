//! A shared, read-only run of bytes, usually part of a mapped model file. Cloning copies no data.

use memmap2::Mmap;
use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// What keeps a run of bytes alive: a memory map, a vector.
pub type Owner = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// A part of an [`Owner`]'s bytes.
#[derive(Clone)]
pub struct Bytes {
    owner: Owner,
    /// The owner, where that is a file's map.
    map: Option<Arc<Mmap>>,
    range: Range<usize>,
}

impl Bytes {
    /// All bytes of `owner`.
    pub fn new(owner: Owner) -> Self {
        let range = 0..(*owner).as_ref().len();
        Self { owner, map: None, range }
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
        let map = Arc::new(unsafe { Mmap::map(file) }?);
        Ok(Self { map: Some(Arc::clone(&map)), ..Self::new(map) })
    }

    /// Says that these bytes will hardly be read again: the pages of a mapped file need stay in
    /// this process's memory no longer. Whoever reads them after all gets them, later.
    pub fn release(&self) {
        #[cfg(unix)]
        if let Some(map) = &self.map {
            let (from, len) = (self.range.start, self.range.len());
            // SAFETY: the map is a file's and is never written to, so a page that was dropped has
            // the same bytes when it is read anew.
            let advised = unsafe {
                map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, from, len)
            };
            let _ = advised; // advice that is not taken changes nothing
        }
    }

    /// A part of these bytes; `None` where it does not lie within them.
    pub fn slice(&self, range: Range<usize>) -> Option<Self> {
        self.get(range.clone())?;
        let start = self.range.start;
        let range = start + range.start..start + range.end;
        Some(Self { owner: Arc::clone(&self.owner), map: self.map.clone(), range })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn released_bytes_are_still_there() {
        let path = std::env::temp_dir().join(format!("ingle-bytes-{}", std::process::id()));
        let content: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, &content).expect("a file is written");
        let file = std::fs::File::open(&path).expect("it is there");
        let all = Bytes::map(&file).expect("it can be mapped");
        for range in [0..100_000, 5000..5001, 4096..9000, 7..7] {
            let part = all.slice(range.clone()).expect("within");
            part.release();
            assert_eq!(&*part, &content[range]);
        }
        Bytes::from(content.clone()).release();
        assert_eq!(&*all, &content[..]);
        std::fs::remove_file(&path).expect("it is removed");
    }
}
