//! Connections that are kept for the next request: a few a host, each for a while. A connection is
//! driven by a task that ends with it, so that dropping one closes it. Absent: pipelining; a
//! connection has one request at a time.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
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

/// Connections that wait for a request, by whom they lead to; newest last.
#[derive(Debug, Default)]
pub(in crate::remote) struct Pool {
    kept: Mutex<HashMap<Target, Vec<(Instant, Conn)>>>,
}

impl Pool {
    /// A kept connection that is open, if there is one.
    pub(in crate::remote) async fn kept(&self, target: &Target) -> Option<Conn> {
        loop {
            let (since, mut conn) = {
                let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.get_mut(target)?.pop()?
            };
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

    /// Keeps a connection whose answer was read to its end.
    pub(in crate::remote) fn keep(&self, target: &Target, mut conn: Conn) {
        if conn.sender.is_closed() {
            return;
        }
        conn.used = true;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let of = kept.entry(target.clone()).or_default();
        of.retain(|(since, conn)| since.elapsed() < KEPT_FOR && !conn.sender.is_closed());
        if of.len() >= KEPT {
            of.remove(0);
        }
        of.push((Instant::now(), conn));
    }
}
