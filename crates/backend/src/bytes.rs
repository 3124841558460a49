//! A shared, read-only run of bytes, usually part of a mapped model file, or made of one when it is
//! first read. Cloning copies no data.

use memmap2::Mmap;
use std::fmt;
use std::ops::{Deref, Range};
use std::sync::{Arc, OnceLock};

/// What keeps a run of bytes alive: a memory map, a vector.
pub type Owner = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// Makes bytes, the same ones every time.
pub type Make = Arc<dyn Fn() -> Vec<u8> + Send + Sync>;

/// A part of an [`Owner`]'s bytes.
#[derive(Clone)]
pub struct Bytes {
    owner: Owner,
    /// The owner, where that is a file's map.
    map: Option<Arc<Mmap>>,
    /// What makes them, where they are made when they are first read.
    make: Option<Make>,
    range: Range<usize>,
}

/// Bytes that are there once they were asked for.
struct Made {
    bytes: OnceLock<Vec<u8>>,
    make: Make,
}

impl AsRef<[u8]> for Made {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get_or_init(|| (self.make)())
    }
}

impl Bytes {
    /// All bytes of `owner`.
    pub fn new(owner: Owner) -> Self {
        let range = 0..(*owner).as_ref().len();
        Self { owner, map: None, make: None, range }
    }

    /// `len` bytes that `make` makes when they are first read, and again when they are read after
    /// [`Self::release`]. Reading panics where they are fewer.
    pub fn made(len: usize, make: Make) -> Self {
        Self { owner: Self::unmade(&make), map: None, make: Some(make), range: 0..len }
    }

    fn unmade(make: &Make) -> Owner {
        Arc::new(Made { bytes: OnceLock::new(), make: Arc::clone(make) })
    }

    /// How many there are; makes none.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
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

    /// Whether they are made, and not a file's.
    pub fn is_made(&self) -> bool {
        self.make.is_some()
    }

    /// Says that these bytes will hardly be read again: the pages of a mapped file need stay in
    /// this process's memory no longer, nor what was made. Whoever reads them after all gets them,
    /// later.
    pub fn release(&mut self) {
        if let Some(make) = &self.make {
            self.owner = Self::unmade(make);
        }
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
        if range.start > range.end || range.end > self.len() {
            return None;
        }
        let start = self.range.start;
        Some(Self { range: start + range.start..start + range.end, ..self.clone() })
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

    /// Bytes are made when they are read, once for all clones and parts, until they are released.
    #[test]
    fn made_bytes_are_made_when_they_are_read() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let mut all = Bytes::made(
            4,
            Arc::new(move || {
                counted.fetch_add(1, Ordering::Relaxed);
                vec![1, 2, 3, 4]
            }),
        );
        let mut part = all.slice(1..3).expect("within");
        assert!(all.slice(2..5).is_none());
        assert_eq!((part.len(), all.len(), all.is_empty()), (2, 4, false));
        assert_eq!(count.load(Ordering::Relaxed), 0, "lengths make nothing");
        assert_eq!((&*part, &*all.clone()), (&[2, 3][..], &[1, 2, 3, 4][..]));
        assert_eq!(count.load(Ordering::Relaxed), 1);
        part.release();
        all.release();
        assert_eq!(&*part, &[2, 3]);
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn released_bytes_are_still_there() {
        let path = std::env::temp_dir().join(format!("ingle-bytes-{}", std::process::id()));
        let content: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, &content).expect("a file is written");
        let file = std::fs::File::open(&path).expect("it is there");
        let all = Bytes::map(&file).expect("it can be mapped");
        for range in [0..100_000, 5000..5001, 4096..9000, 7..7] {
            let mut part = all.slice(range.clone()).expect("within");
            part.release();
            assert_eq!(&*part, &content[range]);
        }
        Bytes::from(content.clone()).release();
        assert_eq!(&*all, &content[..]);
        std::fs::remove_file(&path).expect("it is removed");
    }
}
