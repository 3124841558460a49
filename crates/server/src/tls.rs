//! TLS: a certificate and its key out of two PEM files, read again when these change. A change
//! that is not whole leaves the old ones in force. A handshake has a bound of its own and a task
//! of its own, so that a slow one holds up nobody.
//!
//! Absent: TLS before 1.2, client certificates, HTTP/2, keys with passwords, and fetching a
//! certificate from anywhere.

mod pem;
mod validity;

use std::fs::Metadata;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;

use crate::stalling::Stalling;
use crate::{Error, Limits};

/// Where a server's certificate is, and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM: the server's own certificate first, then those that lead to one which clients know.
    pub cert: PathBuf,
    /// PEM: the private key of the first, without a password.
    pub key: PathBuf,
}

/// A certificate in force, and until when.
#[derive(Debug)]
struct Current {
    config: Arc<ServerConfig>,
    not_after_s: u64,
}

/// What a server that speaks TLS knows.
#[derive(Debug)]
pub(crate) struct Tls {
    files: TlsFiles,
    current: RwLock<Current>,
    failed_handshakes: AtomicU64,
    reloads: AtomicU64,
    failed_reloads: AtomicU64,
}

/// What tells that a file changed: when it was written, its length, which file it is.
type Stamp = (Option<SystemTime>, u64, u64);

impl Tls {
    pub(crate) fn open(files: &TlsFiles) -> Result<Self, Error> {
        Ok(Self {
            current: RwLock::new(read(files)?),
            files: files.clone(),
            failed_handshakes: AtomicU64::new(0),
            reloads: AtomicU64::new(0),
            failed_reloads: AtomicU64::new(0),
        })
    }

    fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).config)
    }

    /// Failed handshakes, reloads, failed reloads, and until when the certificate is valid, in
    /// seconds since 1970.
    pub(crate) fn counts(&self) -> [u64; 4] {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let not_after_s = self.current.read().unwrap_or_else(PoisonError::into_inner).not_after_s;
        [
            count(&self.failed_handshakes),
            count(&self.reloads),
            count(&self.failed_reloads),
            not_after_s,
        ]
    }

    /// Shakes hands, within the bound.
    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
        limits: &Limits,
    ) -> io::Result<TlsStream<Stalling>> {
        let shake = async {
            if speaks_http(&stream).await? {
                return Err(tell_https(stream).await);
            }
            TlsAcceptor::from(self.config()).accept(Stalling::new(stream, limits.stall)).await
        };
        let outcome = timeout(limits.handshake, shake).await.unwrap_or_else(|_| {
            Err(io::Error::new(io::ErrorKind::TimedOut, "the handshake takes too long"))
        });
        if outcome.is_err() {
            self.failed_handshakes.fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }

    /// Looks at the files again and again, and takes in what changed. A chain and its key are two
    /// files, so that between their changes they do not fit; the next change is another try.
    pub(crate) async fn watch(self: Arc<Self>, every: Duration) {
        let mut seen = self.stamps();
        loop {
            sleep(every).await;
            // A file may be far away, and its server slow.
            let (tls, before) = (Arc::clone(&self), seen);
            let look = move || {
                let now = tls.stamps();
                if now != before {
                    tls.reload();
                }
                now
            };
            seen = spawn_blocking(look).await.unwrap_or(before);
        }
    }

    fn reload(&self) {
        match read(&self.files) {
            Ok(fresh) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
                self.reloads.fetch_add(1, Ordering::Relaxed);
                tracing::info!("a new certificate is in force");
            }
            Err(error) => {
                self.failed_reloads.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%error, "the certificate changed; the old one stays in force");
            }
        }
    }

    fn stamps(&self) -> [Option<Stamp>; 2] {
        [&self.files.cert, &self.files.key].map(|path| std::fs::metadata(path).ok().map(stamp))
    }
}

fn stamp(file: Metadata) -> Stamp {
    #[cfg(unix)]
    let which = std::os::unix::fs::MetadataExt::ino(&file);
    #[cfg(not(unix))]
    let which = 0;
    (file.modified().ok(), file.len(), which)
}

fn read(files: &TlsFiles) -> Result<Current, Error> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (config, not_after_s) = pem::read(files, now.as_secs()).map_err(Error::Tls)?;
    Ok(Current { config: Arc::new(config), not_after_s })
}

/// Whether what comes first is HTTP's: a method's letter, while a handshake begins with byte 22.
async fn speaks_http(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    Ok(stream.peek(&mut first).await? == 1 && first[0].is_ascii_uppercase())
}

/// The most bytes of a request that is not answered.
const PLAIN_MAX: u64 = 64 << 10;

/// Says what to do instead, in the words that the other side speaks.
async fn tell_https(mut stream: TcpStream) -> io::Error {
    let text = "this port speaks TLS: call it by https://\n";
    let head = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: text/plain";
    let reply = format!("{head}\r\ncontent-length: {}\r\n\r\n{text}", text.len());
    // Closing while something is unread would reset the connection, and the words with it.
    let mut head = [0; 4096];
    let told = async {
        let _length = stream.read(&mut head).await?;
        stream.write_all(reply.as_bytes()).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(PLAIN_MAX), &mut tokio::io::sink()).await
    };
    told.await.err().unwrap_or_else(|| io::Error::other("HTTP without TLS"))
}
