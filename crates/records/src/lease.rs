//! Who works on a folder's batches: one process at a time, however many have the folder open. The
//! lease is a lock that the system takes back when its holder is gone, however it went.

use std::fs::{File, OpenOptions, TryLockError};

use crate::{Error, Records, Result, disk};

/// The file that is locked.
pub(crate) const NAME: &str = "batches.lock";

/// The right to work on a folder's batches, until it is dropped.
#[derive(Debug)]
pub struct Lease {
    _file: File,
}

impl Records {
    /// Takes the lease; `None` where another process has it.
    ///
    /// # Errors
    /// Where the system cannot lock files there.
    pub fn lease(&self) -> Result<Option<Lease>> {
        let path = self.folder().join(NAME);
        let mut options = OpenOptions::new();
        let file = disk::open_private(&path, options.create(true).append(true))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lease { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(Error::io(path, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Records;
    use crate::testing::Folder;

    #[test]
    fn one_at_a_time() {
        let folder = Folder::new("lease");
        let open = || Records::open(folder.path()).expect("opens");
        let (one, other) = (open(), open());
        let lease = one.lease().expect("locks").expect("is free");
        assert!(other.lease().expect("asks").is_none());
        drop(lease);
        assert!(other.lease().expect("asks").is_some());
    }
}
