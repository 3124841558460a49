//! Which files of a folder are seen.

use std::fs;

use super::*;

/// A folder that is gone after its test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ingle-walk-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("the system's folder for such can be written to");
        Self(path)
    }

    fn put(&self, path: &str, bytes: &[u8]) {
        let path = full(&self.0, path);
        fs::create_dir_all(path.parent().expect("is within the folder")).expect("is made");
        fs::write(path, bytes).expect("is written");
    }

    fn walk(&self, limits: Limits) -> Result<Walked> {
        walk(&self.0, &limits)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn paths(walked: &Walked) -> Vec<&str> {
    walked.found.iter().map(|found| found.path.as_str()).collect()
}

#[test]
fn documents_are_found_and_others_counted() {
    let folder = Folder::new("kinds");
    for (path, bytes) in [
        ("b.txt", "x"),
        ("a/c.md", "x"),
        ("a/photo.jpg", "x"),
        ("a/large.txt", "0123456789"),
        ("LICENSE", "x"),
        (".hidden.txt", "x"),
        (".git/config.txt", "x"),
        (".ingle/notes.txt", "x"),
        (".gitignore", "build/\n*.log\n"),
        ("build/out.txt", "x"),
        ("run.log", "x"),
        ("sub/.ignore", "left.txt\n"),
        ("sub/left.txt", "x"),
    ] {
        folder.put(path, bytes.as_bytes());
    }
    let walked = folder.walk(Limits { file_bytes: 9, ..Limits::default() }).expect("is walked");
    assert_eq!(paths(&walked), ["LICENSE", "a/c.md", "b.txt"]);
    assert_eq!(walked.skipped, BTreeMap::from([(Skip::Kind, 1), (Skip::Large, 1)]));
    let few = Limits { files: 2, ..Limits::default() };
    assert!(matches!(folder.walk(few), Err(Error::TooMany { most: 2, .. })));
    let (none, file) = (folder.0.join("none"), folder.0.join("b.txt"));
    assert!(matches!(walk(&none, &Limits::default()), Err(Error::Io { .. })));
    assert!(matches!(walk(&file, &Limits::default()), Err(Error::Walk { .. })));
}

#[cfg(unix)]
#[test]
fn links_and_special_files_are_not_followed() {
    use std::os::unix::fs::symlink;
    let folder = Folder::new("links");
    folder.put("a/b.txt", b"x");
    symlink(&folder.0, folder.0.join("a/loop")).expect("is linked");
    symlink("b.txt", folder.0.join("a/c.txt")).expect("is linked");
    symlink("nowhere", folder.0.join("broken.txt")).expect("is linked");
    let _socket = std::os::unix::net::UnixListener::bind(folder.0.join("s.txt")).expect("is bound");
    let walked = folder.walk(Limits::default()).expect("is walked");
    assert_eq!(paths(&walked), ["a/b.txt"]);
    assert_eq!(walked.skipped, BTreeMap::from([(Skip::Special, 4)]));
}

#[cfg(target_os = "linux")]
#[test]
fn a_name_may_be_any_bytes() {
    use std::os::unix::ffi::OsStrExt;
    let folder = Folder::new("names");
    let name = std::ffi::OsStr::from_bytes(b"br\xffken.txt");
    fs::write(folder.0.join(name), "x").expect("is written");
    let walked = folder.walk(Limits::default()).expect("is walked");
    assert_eq!(walked.skipped, BTreeMap::from([(Skip::Name, 1)]));
}
