//! Waits until something in a folder changes. What it was does not matter: the index is then made
//! to agree with the folder as always, by a walk. Absent: lists of changes, which no system keeps
//! whole.

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use crate::{Error, Result, store};

/// Tells when something in a folder has changed.
#[derive(Debug)]
pub struct Watch {
    /// Ends its thread when dropped.
    _watcher: RecommendedWatcher,
    /// Holds one: that something changed.
    changes: Receiver<()>,
}

impl Watch {
    /// Watches a folder and all in it.
    ///
    /// # Errors
    /// Where the system does not watch it, as where there are more folders than it allows.
    pub fn new(folder: &Path) -> Result<Self> {
        let (sender, changes) = sync_channel(1);
        let failed = |source| Error::Watch { folder: folder.to_owned(), source };
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // What is lost in an error may have been a change.
            if event.map_or(true, |event| matters(&event)) {
                // Full: it is known already that something changed.
                let _ = sender.try_send(());
            }
        })
        .map_err(failed)?;
        watcher.watch(folder, RecursiveMode::Recursive).map_err(failed)?;
        Ok(Self { _watcher: watcher, changes })
    }

    /// Waits for a change, at most so long; says whether there was one.
    pub fn wait(&self, most: Duration) -> bool {
        match self.changes.recv_timeout(most) {
            Ok(()) => true,
            Err(RecvTimeoutError::Timeout) => false,
            // The watcher's thread is gone, which it should not be: look at the folder instead.
            Err(RecvTimeoutError::Disconnected) => {
                std::thread::sleep(most);
                true
            }
        }
    }
}

/// Whether an event can mean that a document changed. Reading is none, nor is what the index does.
fn matters(event: &Event) -> bool {
    let read = matches!(event.kind, EventKind::Access(kind)
        if kind != AccessKind::Close(AccessMode::Write));
    let ours = |path: &Path| path.iter().any(|part| part == store::FOLDER);
    let all_ours = !event.paths.is_empty() && event.paths.iter().all(|path| ours(path));
    event.need_rescan() || !(read || all_ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_matter() {
        let check = |kind, path: &str, expect| {
            let event = Event::new(kind).add_path(path.into());
            assert_eq!(matters(&event), expect, "{event:?}");
        };
        let written = AccessKind::Close(AccessMode::Write);
        check(EventKind::Any, "/a/b.md", true);
        check(EventKind::Access(written), "/a/b.md", true);
        check(EventKind::Access(AccessKind::Open(AccessMode::Any)), "/a/b.md", false);
        check(EventKind::Any, "/a/.ingle/search.sqlite-wal", false);
        check(EventKind::Access(written), "/a/.ingle/search.sqlite", false);
    }
}
