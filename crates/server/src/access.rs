//! The access log: a line of JSON for each request, once all of its answer is sent or given up.
//! What was asked and answered is not in it, nor is the query of an address, which may hold
//! secrets.
//!
//! Lines go through a bounded queue to a thread of the log's own, so that no answer waits for a
//! disk; what finds no room there is counted and left out.

mod visit;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

pub(crate) use visit::{Logged, Told, Visit};

/// Lines that wait for the disk.
const LINES: usize = 4096;
/// How long the server's end waits for them.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// Standard error.
    Stderr,
    /// A file, to whose end it is written; opened anew whenever the server is told to.
    File(PathBuf),
}

enum Entry {
    Line(String),
    Reopen,
    /// Whatever came before is written; then whoever waits is told.
    Flush(SyncSender<()>),
}

/// A log that is open.
#[derive(Debug)]
pub(crate) struct Log {
    to: AccessLog,
    entries: SyncSender<Entry>,
    lost: Arc<AtomicU64>,
}

impl Log {
    /// Fails where nothing can be written there.
    pub(crate) fn open(to: &AccessLog, lost: &Arc<AtomicU64>) -> io::Result<Self> {
        let out = open(to)?;
        let (entries, lines) = sync_channel(LINES);
        let writer = Writer { to: to.clone(), out, lost: Arc::clone(lost) };
        let thread = std::thread::Builder::new().name("access-log".to_owned());
        thread.spawn(move || writer.run(&lines))?;
        Ok(Self { to: to.clone(), entries, lost: Arc::clone(lost) })
    }

    pub(crate) fn to(&self) -> &AccessLog {
        &self.to
    }

    fn write(&self, line: String) {
        if self.entries.try_send(Entry::Line(line)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Opens the file anew, where it may be another one by now. Lines that came before go to the
    /// old one.
    pub(crate) fn reopen(&self) {
        // A full queue is a log that is behind; it is told again the next time.
        let _ = self.entries.try_send(Entry::Reopen);
    }

    /// Waits, for a bounded time, until what was logged is written.
    pub(crate) fn flush(&self) {
        let (done, waits) = sync_channel(1);
        if self.entries.try_send(Entry::Flush(done)).is_ok() {
            let _ = waits.recv_timeout(PATIENCE);
        }
    }
}

type Out = Box<dyn Write + Send>;

fn open(to: &AccessLog) -> io::Result<Out> {
    match to {
        AccessLog::Stderr => Ok(Box::new(io::stderr())),
        AccessLog::File(path) => open_file(path),
    }
}

/// For its owner and group alone: who asks when is nobody else's business.
fn open_file(path: &Path) -> io::Result<Out> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o640);
    Ok(Box::new(options.open(path)?))
}

struct Writer {
    to: AccessLog,
    out: Out,
    lost: Arc<AtomicU64>,
}

impl Writer {
    /// Until nobody can log any more.
    fn run(mut self, entries: &Receiver<Entry>) {
        while let Ok(entry) = entries.recv() {
            match entry {
                Entry::Line(line) => self.line(&line),
                Entry::Reopen => match open(&self.to) {
                    Ok(out) => self.out = out,
                    Err(error) => tracing::warn!(%error, "the access log goes on where it was"),
                },
                Entry::Flush(done) => drop(done.try_send(())),
            }
        }
    }

    fn line(&mut self, line: &str) {
        // In one piece, so that lines of several writers do not mix.
        if let Err(error) = self.out.write_all(line.as_bytes()) {
            self.lost.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%error, "a line of the access log is lost");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that is moved away keeps what came before; what comes after is in a new one.
    #[test]
    fn a_log_is_opened_anew() {
        let folder = std::env::temp_dir().join(format!("ingle-access-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("may be");
        let (path, moved) = (folder.join("log"), folder.join("log.1"));
        let lost = Arc::default();
        let log = Log::open(&AccessLog::File(path.clone()), &lost).expect("may be");
        log.write("one\n".to_owned());
        log.flush();
        std::fs::rename(&path, &moved).expect("is there");
        log.write("two\n".to_owned());
        log.reopen();
        log.write("three\n".to_owned());
        log.flush();
        let text = |path: &Path| std::fs::read_to_string(path).expect("is there");
        assert_eq!((text(&moved).as_str(), text(&path).as_str()), ("one\ntwo\n", "three\n"));
        assert_eq!(lost.load(Ordering::Relaxed), 0);
        std::fs::remove_dir_all(&folder).expect("is there");
        assert!(Log::open(&AccessLog::File(folder.join("log")), &lost).is_err(), "no folder");
    }
}
