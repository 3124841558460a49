//! Connections that are kept for the next request: a few a host, each for a while, as long as there
//! is a provider that is to be found there. A connection is driven by a task that ends with it, so
//! that dropping one closes it. Absent: pipelining; a connection has one request at a time.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Dial, Target};

/// Connections that are kept for one host.
const KEPT: usize = 32;
/// For how long.
const KEPT_FOR: Duration = Duration::from_secs(55);
/// Bytes of a request's body that are handed on at a time.
const PART: usize = 16 << 10;
/// Bytes of an answer's head, and of what is read at a time.
const HEAD_MAX: usize = 64 << 10;
/// Fields of an answer's head.
const FIELDS_MAX: usize = 128;

/// A request's body, which counts what of it was taken to be sent.
#[derive(Debug)]
pub(in crate::remote) struct Counted {
    rest: Bytes,
    taken: Arc<AtomicU64>,
}

impl Counted {
    pub(in crate::remote) fn new(body: Bytes, taken: Arc<AtomicU64>) -> Self {
        Self { rest: body, taken }
    }
}

impl Body for Counted {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let most = self.rest.len().min(PART);
        let part = self.rest.split_to(most);
        self.taken.fetch_add(most as u64, Ordering::Relaxed);
        Poll::Ready((most > 0).then(|| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

/// The task that moves a connection's bytes; it ends with this.
#[derive(Debug)]
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A connection that speaks HTTP. Dropping it closes it.
#[derive(Debug)]
pub(in crate::remote) struct Conn {
    pub(in crate::remote) sender: SendRequest<Counted>,
    _driver: Driver,
    pub(in crate::remote) local: bool,
    /// Whether it was used before: then it may have been closed meanwhile.
    pub(in crate::remote) used: bool,
}

/// Connections that wait for a request, by whom they lead to.
#[derive(Debug, Default)]
pub(in crate::remote) struct Pool {
    kept: Mutex<HashMap<Target, Kept>>,
}

/// Those that lead to one host.
#[derive(Debug, Default)]
struct Kept {
    /// Who wants them kept.
    wanted: usize,
    /// Newest last.
    conns: Vec<(Instant, Conn)>,
}

/// Somebody who wants connections kept; dropped by the last one, they are closed.
#[derive(Debug)]
pub(in crate::remote) struct Wish {
    pool: Arc<Pool>,
    target: Target,
}

impl Drop for Wish {
    fn drop(&mut self) {
        let mut kept = self.pool.lock();
        let Some(of) = kept.get_mut(&self.target) else { return };
        of.wanted = of.wanted.saturating_sub(1);
        let closed = if of.wanted == 0 { kept.remove(&self.target) } else { None };
        drop(kept);
        drop(closed);
    }
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, HashMap<Target, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has connections to a target kept until what is returned is dropped.
    pub(in crate::remote) fn want(self: &Arc<Self>, target: &Target) -> Wish {
        self.lock().entry(target.clone()).or_default().wanted += 1;
        Wish { pool: Arc::clone(self), target: target.clone() }
    }

    /// A kept connection that is open, if there is one.
    pub(in crate::remote) async fn kept(&self, target: &Target) -> Option<Conn> {
        loop {
            let (since, mut conn) = self.lock().get_mut(target)?.conns.pop()?;
            let fresh = since.elapsed() < KEPT_FOR && !conn.sender.is_closed();
            // It becomes ready, or tells that it was closed, as soon as its driver has had a turn.
            if fresh && conn.sender.ready().await.is_ok() {
                return Some(conn);
            }
        }
    }

    /// A new connection.
    pub(in crate::remote) async fn open(
        &self,
        dial: &dyn Dial,
        target: &Target,
    ) -> io::Result<Conn> {
        let link = dial.dial(target).await?;
        let shaken = http1::Builder::new()
            .max_buf_size(HEAD_MAX)
            .max_headers(FIELDS_MAX)
            .handshake(TokioIo::new(link.stream))
            .await;
        let (sender, connection) = shaken.map_err(io::Error::other)?;
        // Why it ended is told to whoever waits for an answer.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Conn { sender, _driver: Driver(driver), local: link.local, used: false })
    }

    /// Keeps a connection whose answer was read to its end, where somebody wants that.
    pub(in crate::remote) fn keep(&self, target: &Target, mut conn: Conn) {
        if conn.sender.is_closed() {
            return;
        }
        conn.used = true;
        let mut kept = self.lock();
        let Some(Kept { conns, .. }) = kept.get_mut(target) else { return };
        conns.retain(|(since, conn)| since.elapsed() < KEPT_FOR && !conn.sender.is_closed());
        if conns.len() >= KEPT {
            conns.remove(0);
        }
        conns.push((Instant::now(), conn));
    }
}
