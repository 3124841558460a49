//! Who is alive: each process that computes what is kept here holds a lock under its own name,
//! which the system takes back when the process is gone, however it went.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::{Error, Records, Result, disk};

/// The folder of locks.
pub(crate) const FOLDER: &str = "serving";

/// A sign without a lock is one that is just being given, unless it is as old as this.
const STRAY: Duration = Duration::from_secs(3600);

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
        self.sweep_signs();
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
        is_held(&path).map_err(|error| Error::io(path, error))
    }

    /// Removes the signs of those who were killed. One that cannot be removed is in nobody's way.
    fn sweep_signs(&self) {
        let entries = fs::read_dir(self.folder().join(FOLDER)).into_iter().flatten();
        for entry in entries.filter_map(std::io::Result::ok) {
            let given = entry.metadata().and_then(|known| known.modified());
            let age = given.ok().and_then(|at| SystemTime::now().duration_since(at).ok());
            let path = entry.path();
            if age.is_some_and(|age| age >= STRAY) && is_held(&path).is_ok_and(|held| !held) {
                let _ = disk::remove(&path);
            }
        }
    }

    fn sign(&self, name: &str) -> PathBuf {
        let name: String = name.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
        self.folder().join(FOLDER).join(name)
    }
}

/// Whether somebody holds the lock of this file.
fn is_held(path: &Path) -> std::io::Result<bool> {
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        file => file?,
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

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
        for (name, hours) in [("new", 0), ("old", 2)] {
            let file = std::fs::File::create(folder.path().join("serving").join(name));
            let given = SystemTime::now() - Duration::from_secs(hours * 3600);
            file.and_then(|file| file.set_modified(given)).expect("is written");
            assert!(!one.serves(name).expect("asks"), "left by one that was killed");
        }
        let alive = one.serving("b").expect("is given");
        let left = |name: &str| folder.path().join("serving").join(name).exists();
        assert_eq!((left("new"), left("old"), left(alive.name())), (true, false, true));
    }
}
