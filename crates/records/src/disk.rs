//! Files beside the database: written under a temporary name, brought to the disk, then given
//! their name, so that a name is never seen with half a file under it.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// What the name of a file that is still being written ends with.
pub(crate) const PART: &str = ".part";

/// Makes a folder that only its user can enter; one that is there stays as it is.
pub(crate) fn make_folder(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(|error| Error::io(folder, error))
}

/// Opens a file for writing that only its user can read.
pub(crate) fn open_private(path: &Path, options: &mut OpenOptions) -> Result<File> {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options.open(path).map_err(|error| Error::io(path, error))
}

/// Removes a file; that it is gone already is as good.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path, error)),
        _ => Ok(()),
    }
}

/// A file that is being written. Dropped before [`Draft::name`], it is removed.
#[derive(Debug)]
pub(crate) struct Draft {
    file: File,
    part: PathBuf,
    path: PathBuf,
    named: bool,
}

impl Draft {
    /// Begins a file that will be called `path`; one that was begun before is begun anew.
    pub(crate) fn new(path: PathBuf) -> Result<Self> {
        let mut part = path.clone().into_os_string();
        part.push(PART);
        let part = PathBuf::from(part);
        let file = open_private(&part, OpenOptions::new().write(true).create(true).truncate(true))?;
        Ok(Self { file, part, path, named: false })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|error| Error::io(&self.part, error))
    }

    /// Gives the file its name, once all of it is on the disk.
    pub(crate) fn name(mut self) -> Result<()> {
        self.file.sync_all().map_err(|error| Error::io(&self.part, error))?;
        fs::rename(&self.part, &self.path).map_err(|error| Error::io(&self.path, error))?;
        self.named = true;
        sync_folder(&self.path)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.named {
            let _ = fs::remove_file(&self.part);
        }
    }
}

/// Brings the names of a file's folder to the disk, where the system has a way to.
pub(crate) fn sync_folder(path: &Path) -> Result<()> {
    #[cfg(unix)]
    if let Some(folder) = path.parent() {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(|error| Error::io(folder, error))?;
    }
    Ok(())
}
