//! Who is alive: each process that computes what is kept here holds a lock under its own name, which
//! the system takes back when the process is gone, however it went.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::PathBuf;

use crate::{Error, Records, Result, disk};

/// The folder of locks.
const FOLDER: &str = "serving";

/// A sign of life, until it is dropped.
#[derive(Debug)]
pub struct Serving {
    name: String,
    path: PathBuf,
    _file: File,
}

impl Serving {
    /// The name under which it is given.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // One that is left lies there unlocked, which says the same.
        let _ = disk::remove(&self.path);
    }
}

impl Records {
    /// Gives a sign of life under a name of letters and digits that nobody else has.
    ///
    /// # Errors
    /// Where the system cannot lock files there.
    pub fn serving(&self, name: &str) -> Result<Serving> {
        let path = self.sign(name);
        disk::make_folder(&self.folder().join(FOLDER))?;
        let file = disk::open_private(&path, OpenOptions::new().create(true).append(true))?;
        match file.try_lock() {
            Ok(()) => Ok(Serving { name: name.to_owned(), path, _file: file }),
            Err(TryLockError::WouldBlock) => Err(Error::Held { path }),
            Err(TryLockError::Error(error)) => Err(Error::io(path, error)),
        }
    }

    /// Whether whoever has that name lives.
    ///
    /// # Errors
    /// Where that cannot be told.
    pub fn serves(&self, name: &str) -> Result<bool> {
        let path = self.sign(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(Error::io(path, error)),
        };
        match file.try_lock_shared() {
            Ok(()) => {
                let _ = disk::remove(&path);
                Ok(false)
            }
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(Error::io(path, error)),
        }
    }

    fn sign(&self, name: &str) -> PathBuf {
        let name: String = name.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
        self.folder().join(FOLDER).join(name)
    }
}

#[cfg(test)]
mod tests {
    use crate::Records;
    use crate::testing::Folder;

    #[test]
    fn a_sign_of_life_ends_with_its_holder() {
        let folder = Folder::new("serving");
        let open = || Records::open(folder.path()).expect("opens");
        let (one, other) = (open(), open());
        assert!(!other.serves("a").expect("asks"), "nobody yet");
        let alive = one.serving("a").expect("is given");
        assert!(other.serves("a").expect("asks") && one.serves("a").expect("asks"));
        assert!(other.serving("a").is_err(), "a name is one's own");
        drop(alive);
        assert!(!other.serves("a").expect("asks"));
        std::fs::write(folder.path().join("serving/b"), "").expect("writes");
        assert!(!one.serves("b").expect("asks"), "left by one that was killed");
        assert!(!folder.path().join("serving/b").exists(), "and swept away");
    }
}
