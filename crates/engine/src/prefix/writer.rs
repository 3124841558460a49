//! The thread that writes blocks, so that no step waits for a disk. Whoever has a block to write
//! asks first whether there is room in the queue, and leaves it where there is none.

use super::disk::Disk;
use super::file::{self, Identity, Key};
use ingle_protocol::Token;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Blocks on their way to the disk.
const QUEUE: usize = 8;

/// What there is to be done.
#[derive(Debug)]
pub(crate) enum Job {
    /// A block's file, its checksum yet to be added.
    Block { salt: Arc<str>, tokens: Vec<Token>, file: Vec<u8> },
    /// The blocks of a sequence were used.
    Used { salt: Arc<str>, tokens: Vec<Token> },
}

/// The way to the thread, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Queue {
    sender: Option<SyncSender<Job>>,
    under_way: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Queue {
    /// Starts the thread.
    pub(crate) fn start(
        disk: Arc<Disk>,
        identity: Identity,
        block_tokens: usize,
    ) -> io::Result<Self> {
        let (sender, jobs) = sync_channel::<Job>(QUEUE);
        let under_way = Arc::<AtomicUsize>::default();
        let left = Arc::clone(&under_way);
        let work = move || {
            for job in jobs {
                let (Job::Block { salt, tokens, .. } | Job::Used { salt, tokens }) = &job;
                let key = Key { identity: &identity, salt, tokens };
                let names: Vec<file::Name> = file::names(key, block_tokens).collect();
                match (job, names.last()) {
                    (Job::Block { mut file, .. }, Some(&name)) => {
                        file::seal(&mut file);
                        disk.write(name, names.len() - 1, &file);
                    }
                    (Job::Used { .. }, _) => disk.used(&names),
                    (Job::Block { .. }, None) => {}
                }
                left.fetch_sub(1, Ordering::AcqRel);
            }
        };
        let thread = std::thread::Builder::new().name("ingle-kv-write".into()).spawn(work)?;
        Ok(Self { sender: Some(sender), under_way, thread: Some(thread) })
    }

    /// Whether a job can be handed over without waiting.
    pub(crate) fn has_room(&self) -> bool {
        self.under_way.load(Ordering::Acquire) < QUEUE
    }

    /// Hands a job over; without room it is dropped.
    pub(crate) fn push(&self, job: Job) {
        self.under_way.fetch_add(1, Ordering::AcqRel);
        let sent = self.sender.as_ref().is_some_and(|sender| sender.try_send(job).is_ok());
        if !sent {
            self.under_way.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Drop for Queue {
    /// Waits until all that was handed over is written.
    fn drop(&mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
