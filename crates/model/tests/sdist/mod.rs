//! llama.cpp's own vocabularies, their golden tokens, and chat templates of many models, out of the
//! source distribution of the Python package `llama-cpp-python`, fetched once with the user's pip.
//! Nothing of the package is run: pip wants a source package's metadata, and gets it from a stub in
//! the place of the package's build backend.

#![allow(clippy::print_stderr, reason = "a skipped test says so")]

use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const VERSION: &str = "0.3.36";
const SHA256: &str = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e";
/// What pip asks of a build backend, answered without building.
const STUB: &str = r#"
import os
def get_requires_for_build_wheel(config_settings=None):
    return []
def prepare_metadata_for_build_wheel(folder, config_settings=None):
    name = "llama_cpp_python-VERSION.dist-info"
    os.makedirs(os.path.join(folder, name))
    with open(os.path.join(folder, name, "METADATA"), "w") as out:
        out.write("Metadata-Version: 2.1\nName: llama_cpp_python\nVersion: VERSION\n")
    return name
"#;
const PIPS: &[&[&str]] =
    &[&["python3", "-m", "pip"], &["pip3"], &["python", "-m", "pip"], &["pip"]];

/// A folder with the vocabularies (`ggml-vocab-*.gguf`, `.inp`, `.out`) and the templates
/// (`*.jinja`), or `None`, having said why, where the package cannot be had.
pub(crate) fn folder() -> Option<PathBuf> {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let done = cache.join(format!("llama-cpp-python-{VERSION}"));
    if done.is_dir() {
        return Some(done);
    }
    let placed = fetch_once(cache, &done);
    placed.inspect_err(|why| eprintln!("SKIPPED: cannot fetch llama-cpp-python: {why}")).ok()?;
    Some(done)
}

/// Tests are processes of their own: the first one fetches, the others wait for it.
fn fetch_once(cache: &Path, done: &Path) -> io::Result<()> {
    let lock = File::create(cache.join("llama-cpp-python.lock"))?;
    lock.lock()?;
    if done.is_dir() {
        return Ok(());
    }
    let work = cache.join("llama-cpp-python.work");
    let made = fetch(&work).and_then(|archive| unpack(&archive, &work.join("out")));
    let placed = made.and_then(|()| fs::rename(work.join("out"), done));
    let _ = fs::remove_dir_all(&work);
    placed
}

fn fetch(work: &Path) -> io::Result<PathBuf> {
    let backend = work.join("stub/scikit_build_core");
    fs::create_dir_all(&backend)?;
    fs::write(backend.join("__init__.py"), "")?;
    fs::write(backend.join("build.py"), STUB.replace("VERSION", VERSION))?;
    let mut why = io::Error::other("there is no pip");
    for pip in PIPS {
        let run = Command::new(pip[0])
            .args(&pip[1..])
            .args(["download", "--quiet", "--disable-pip-version-check", "--no-deps"])
            .args(["--no-build-isolation", "--no-binary", ":all:", "--dest"])
            .arg(work)
            .arg(format!("llama-cpp-python=={VERSION}"))
            .env("PYTHONPATH", work.join("stub"))
            .stdin(Stdio::null())
            .output();
        match run {
            Ok(run) if run.status.success() => return verified(work),
            Ok(run) => why = io::Error::other(String::from_utf8_lossy(&run.stderr).into_owned()),
            Err(_) => {} // not on this machine
        }
    }
    Err(why)
}

fn verified(work: &Path) -> io::Result<PathBuf> {
    let archive = work.join(format!("llama_cpp_python-{VERSION}.tar.gz"));
    let mut hash = Sha256::new();
    io::copy(&mut File::open(&archive)?, &mut HashWriter(&mut hash))?;
    let found: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(found, SHA256, "the package index serves another file");
    Ok(archive)
}

struct HashWriter<'a>(&'a mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn unpack(archive: &Path, out: &Path) -> io::Result<()> {
    fs::create_dir_all(out)?;
    let stream = flate2::read::GzDecoder::new(File::open(archive)?);
    let mut tar = tar::Archive::new(stream);
    for entry in tar.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let wanted = path.components().any(|part| part.as_os_str() == "models");
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if wanted && (name.starts_with("ggml-vocab-") || name.ends_with(".jinja")) {
            io::copy(&mut entry, &mut File::create(out.join(name))?)?;
        }
    }
    Ok(())
}
