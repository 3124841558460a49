//! Fetches a package's archive with the user's own pip or npm, so that their mirrors, proxies,
//! certificates and credentials apply. Only an archive is asked for: pip takes wheels alone and
//! npm ignores scripts, so nothing of the package is run.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::Progress;
use super::reference::{Package, Registry};
use super::sink::io_error;
use crate::Error;

/// How often the child and the growing file are looked at.
const POLL: Duration = Duration::from_millis(100);
/// How much of what the client said is read, in bytes from its end.
const MAX_LOG: u64 = 16 * 1024;
/// How many lines of that an error message repeats.
const LOG_LINES: usize = 6;

/// Commands that may be pip, the likeliest first.
const PIPS: &[&[&str]] = &[
    &["python3", "-m", "pip"],
    &["python", "-m", "pip"],
    &["pip3"],
    &["pip"],
    #[cfg(windows)]
    &["py", "-m", "pip"],
];

/// Commands that may be npm.
const NPMS: &[&[&str]] = &[
    &["npm"],
    #[cfg(windows)]
    &["npm.cmd"],
];

/// Fetches the package's archive into the empty folder `work` and returns its path. `download`
/// is about how many bytes will travel, for the progress bar.
///
/// # Errors
/// [`Error::Fetch`] where there is no client, or it fails; repeats what it said.
pub(crate) fn fetch(
    package: &Package,
    work: &Path,
    download: Option<u64>,
    progress: &mut dyn Progress,
) -> Result<PathBuf, Error> {
    let (client, candidates, ending) = match package.registry {
        Registry::Pypi => ("pip", PIPS, "whl"),
        Registry::Npm => ("npm", NPMS, "tgz"),
    };
    let Some(program) = candidates.iter().find(|words| answers(words, work)) else {
        let hint = match package.registry {
            Registry::Pypi => "install Python's pip (`python3 -m ensurepip`, or your system's)",
            Registry::Npm => "install Node's npm",
        };
        return Err(Error::Fetch(format!("{client} is not on this machine\nhint: {hint}")));
    };
    let target = work.join("archive");
    fs::create_dir(&target).map_err(|source| io_error(&target, source))?;
    progress.begin(&format!("downloading with {client}"), download);
    let status = watch(&mut command(program, package, &target, work), work, progress)?;
    progress.done();
    if !status.success() {
        return Err(Error::Fetch(format!("{client} failed ({status}){}", last_words(work))));
    }
    find_archive(&target, ending).ok_or_else(|| {
        Error::Fetch(format!("{client} succeeded, but left no .{ending} file{}", last_words(work)))
    })
}

/// Whether the command is there and works.
fn answers(words: &[&str], work: &Path) -> bool {
    let mut command = start(words, work);
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// A command that runs in the work folder: with `-m`, Python would otherwise import modules from
/// whatever folder the user stands in.
fn start(words: &[&str], work: &Path) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).current_dir(work).stdin(Stdio::null());
    for name in ["TMPDIR", "TEMP", "TMP"] {
        command.env(name, work);
    }
    command
}

fn command(words: &[&str], package: &Package, target: &Path, work: &Path) -> Command {
    let Package { registry, name, version, .. } = package;
    let mut command = start(words, work);
    match registry {
        Registry::Pypi => command
            .args(["download", "--no-deps", "--only-binary=:all:", "--no-input"])
            .args(["--no-cache-dir", "--ignore-requires-python", "--progress-bar=off"])
            .args(["--disable-pip-version-check", "--dest"])
            .arg(target)
            .arg(format!("{name}=={version}")),
        Registry::Npm => command
            .args(["pack", "--ignore-scripts", "--json", "--pack-destination"])
            .arg(target)
            .arg(format!("{name}@{version}")),
    };
    command
}

/// Runs the command to its end, reporting how much its folder holds; kills it where the caller
/// asks to stop.
fn watch(
    command: &mut Command,
    work: &Path,
    progress: &mut dyn Progress,
) -> Result<ExitStatus, Error> {
    let log = |name: &str| {
        let path = work.join(name);
        File::create(&path).map_err(|source| io_error(&path, source))
    };
    command.stdout(log("stdout")?).stderr(log("stderr")?);
    let named = PathBuf::from(command.get_program());
    let child = command.spawn().map_err(|source| io_error(&named, source))?;
    let mut child = Kill(child);
    loop {
        if progress.cancelled() {
            return Err(Error::Interrupted);
        }
        match child.0.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) => {}
            Err(source) => return Err(io_error(&named, source)),
        }
        std::thread::sleep(POLL);
        progress.advance(bytes_under(work, 4));
    }
}

/// A child that does not outlive its guard.
struct Kill(Child);

impl Drop for Kill {
    fn drop(&mut self) {
        // Both fail only where the child is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How many bytes the files under a folder have; what vanishes meanwhile counts nothing.
fn bytes_under(folder: &Path, depth: usize) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() && depth > 0 => bytes_under(&entry.path(), depth - 1),
        Ok(metadata) if metadata.is_file() => metadata.len(),
        _ => 0,
    });
    sizes.sum()
}

fn find_archive(folder: &Path, ending: &str) -> Option<PathBuf> {
    let mut paths = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    paths.find(|path| path.extension() == Some(OsStr::new(ending)) && path.is_file())
}

/// The last lines that the client wrote, indented, for an error message.
fn last_words(work: &Path) -> String {
    let tail = |name: &str| {
        let mut file = File::open(work.join(name)).ok()?;
        let len = file.metadata().ok()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(MAX_LOG))).ok()?;
        let mut bytes = Vec::new();
        file.take(MAX_LOG).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    let said =
        ["stderr", "stdout"].into_iter().filter_map(tail).find(|text| !text.trim().is_empty());
    let said = said.unwrap_or_default();
    let lines: Vec<&str> =
        said.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
    last.iter().fold(String::new(), |mut text, line| {
        // What a child says may hold escapes that repaint the terminal.
        let clean = line.chars().filter(|c| !c.is_control()).take(300);
        text.push_str("\n    | ");
        text.extend(clean);
        text
    })
}
