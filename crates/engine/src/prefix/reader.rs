//! The thread that reads blocks, so that no step waits for a disk. It is a few blocks ahead of the
//! engine at most.

use super::disk::{Disk, Payload};
use super::file::{self, Identity, Key, Name};
use ingle_protocol::Token;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Blocks that were read and wait to be taken in.
const AHEAD: usize = 4;

/// Blocks to be read, in their order, until one is not there.
#[derive(Debug)]
pub(crate) struct Fetch {
    pub(crate) ticket: u64,
    pub(crate) salt: Arc<str>,
    pub(crate) tokens: Vec<Token>,
    /// Which of the sequence's blocks is the first.
    pub(crate) first: usize,
    /// Its name, and those of the ones after it.
    pub(crate) names: Vec<Name>,
    /// Cleared when nobody wants them any more.
    pub(crate) wanted: Arc<AtomicBool>,
}

/// What became of a fetch.
#[derive(Debug)]
pub(crate) enum Loaded {
    /// The next block of a sequence.
    Block { ticket: u64, at: usize, payload: Payload },
    /// No more of it comes.
    End { ticket: u64 },
}

/// Starts the thread. It ends when it is asked no more.
pub(crate) fn start(
    disk: Arc<Disk>,
    identity: Identity,
    block_tokens: usize,
    block_bytes: usize,
) -> io::Result<(SyncSender<Fetch>, Receiver<Loaded>)> {
    let (asking, asked) = sync_channel::<Fetch>(1);
    let (telling, told) = sync_channel(AHEAD);
    let read = move |fetch: &Fetch, nth: usize| {
        let at = fetch.first + nth;
        let tokens = fetch.tokens.get(..(at + 1) * block_tokens)?;
        let head = file::head(Key { identity: &identity, salt: &fetch.salt, tokens }, block_bytes);
        let Some(payload) = disk.read(fetch.names[nth], &head, block_bytes) else {
            // What comes after it may be no better.
            disk.forget(&fetch.names[nth..]);
            return None;
        };
        Some(Loaded::Block { ticket: fetch.ticket, at, payload })
    };
    let work = move || {
        for fetch in asked {
            let wanted = |_: &usize| fetch.wanted.load(Ordering::Acquire);
            let nths = (0..fetch.names.len()).take_while(wanted);
            let mut blocks = nths.map_while(|nth| read(&fetch, nth));
            let sent = blocks.try_for_each(|block| telling.send(block));
            if sent.and_then(|()| telling.send(Loaded::End { ticket: fetch.ticket })).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("ingle-kv-read".into()).spawn(work)?;
    Ok((asking, told))
}
