//! Connections: a name becomes a socket, the socket perhaps a tunnel through a proxy, and that
//! perhaps TLS. Kept connections are in `net/pool.rs`, the proxy in `net/proxy.rs`. A test has
//! connections of its own behind [`Dial`]. Absent: HTTP/2, and any redirect.

pub(super) mod pool;
mod proxy;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::Uri;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

pub use proxy::Proxy;

/// How long one of several addresses of a host may take before the next is tried.
const ADDRESS: Duration = Duration::from_secs(3);

/// Whom to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Whether it is spoken to through TLS.
    pub tls: bool,
    /// A name, or an address (IPv6 without brackets).
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl Target {
    /// The target of an address, and the path in it.
    pub(super) fn of(url: &str) -> Result<(Self, String), String> {
        let uri: Uri = url.parse().map_err(|_| "it is no URL".to_owned())?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("it has to begin with https:// or http://".to_owned()),
        };
        let authority = uri.authority().ok_or("it names no host")?;
        if authority.as_str().contains('@') {
            return Err("it holds a name or password; a key is given as one".to_owned());
        }
        if uri.query().is_some() || url.contains('#') {
            return Err("it is an address alone, without `?` or `#`".to_owned());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_lowercase();
        if host.is_empty() {
            return Err("it names no host".to_owned());
        }
        let port = match authority.port_u16() {
            Some(port) => port,
            None if authority.as_str() == authority.host() => [80, 443][usize::from(tls)],
            None => return Err("its port is none".to_owned()),
        };
        Ok((Self { tls, host, port }, uri.path().trim_end_matches('/').to_owned()))
    }

    /// Whether it is this machine, as its name tells: what goes there does not leave.
    pub(super) fn is_here(&self) -> bool {
        let ip = self.host.parse::<std::net::IpAddr>();
        self.host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
    }

    /// What HTTP calls it: the port is left out where it is the usual one.
    pub fn authority(&self) -> String {
        let host = self.bracketed();
        if self.port == [80, 443][usize::from(self.tls)] {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }

    /// The host as addresses have it.
    fn bracketed(&self) -> String {
        if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() }
    }
}

/// Whether an address is this machine's own, as its text tells: what goes there does not leave.
/// Another name that leads here is known when it is asked, and not before.
pub fn is_here(url: &str) -> bool {
    Target::of(url).is_ok_and(|(target, _)| target.is_here())
}

/// Bytes both ways.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// An open connection.
pub struct Link {
    /// What is said, TLS taken off.
    pub stream: Box<dyn Stream>,
    /// Whether it ends on this machine, as far as can be told: it leads to a loopback address, and
    /// no proxy is between.
    pub local: bool,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("local", &self.local).finish_non_exhaustive()
    }
}

/// A connection on its way.
pub type Dialling = Pin<Box<dyn Future<Output = io::Result<Link>> + Send>>;

/// Opens connections. Dropping what it returns gives the connection up.
pub trait Dial: fmt::Debug + Send + Sync {
    /// A connection to a target, ready for HTTP.
    fn dial(&self, target: &Target) -> Dialling;
}

/// Connections over the network.
#[derive(Clone)]
pub struct Net {
    /// Made when the first connection wants it: reading whom a system trusts takes time.
    tls: Arc<OnceLock<Result<TlsConnector, String>>>,
    proxy: Option<Arc<Proxy>>,
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Net").field("proxy", &self.proxy).finish_non_exhaustive()
    }
}

impl Net {
    /// Connections whose TLS trusts whom this system trusts. That is read, and what is wrong with
    /// it told, when a connection first wants it.
    pub fn new(proxy: Option<Proxy>) -> Self {
        Self { tls: Arc::default(), proxy: proxy.map(Arc::new) }
    }

    /// Connections whose TLS trusts these certificates alone, as PEM.
    ///
    /// # Errors
    /// Where there is none in it, or one is none.
    pub fn trusting(pem: &[u8], proxy: Option<Proxy>) -> Result<Self, String> {
        let wrong =
            |error: &dyn fmt::Display| format!("these certificates cannot be used: {error}");
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| wrong(&error))?;
            roots.add(certificate).map_err(|error| wrong(&error))?;
        }
        if roots.is_empty() {
            return Err(wrong(&"there is none"));
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(&error))?;
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let tls = OnceLock::from(Ok(TlsConnector::from(Arc::new(config))));
        Ok(Self { tls: Arc::new(tls), proxy: proxy.map(Arc::new) })
    }

    /// What connections are encrypted with.
    async fn tls(&self) -> io::Result<TlsConnector> {
        let made = match self.tls.get() {
            Some(made) => made.clone(),
            None => {
                let tls = Arc::clone(&self.tls);
                let make = move || tls.get_or_init(as_the_system).clone();
                tokio::task::spawn_blocking(make).await.map_err(io::Error::other)?
            }
        };
        made.map_err(io::Error::other)
    }
}

/// TLS that trusts whom this system trusts.
fn as_the_system() -> Result<TlsConnector, String> {
    use rustls_platform_verifier::BuilderVerifierExt;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(BuilderVerifierExt::with_platform_verifier)
        .map(|builder| builder.with_no_client_auth());
    config.map(|config| TlsConnector::from(Arc::new(config))).map_err(|error| error.to_string())
}

impl Dial for Net {
    fn dial(&self, target: &Target) -> Dialling {
        let (net, target) = (self.clone(), target.clone());
        Box::pin(async move { net.open(&target).await })
    }
}

impl Net {
    async fn open(&self, target: &Target) -> io::Result<Link> {
        let proxy = self.proxy.as_ref().filter(|proxy| proxy.is_for(target));
        let (socket, local) = match proxy {
            Some(proxy) => (proxy.tunnel(target).await?, false),
            None => {
                let socket = connect(&target.host, target.port).await?;
                let local = socket.peer_addr().is_ok_and(|peer| peer.ip().is_loopback());
                (socket, local)
            }
        };
        if !target.tls {
            return Ok(Link { stream: Box::new(socket), local });
        }
        let tls = self.tls().await?;
        let name = ServerName::try_from(target.host.clone())
            .map_err(|_| io::Error::other("its host is no name that a certificate can have"))?;
        Ok(Link { stream: Box::new(tls.connect(name, socket).await?), local })
    }
}

/// A socket to the first of a host's addresses that takes it.
async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
    let mut failed = io::Error::other("the host has no address");
    for (at, address) in addresses.iter().enumerate() {
        let open = TcpStream::connect(address);
        let opened = if at + 1 < addresses.len() {
            let late = |_| io::Error::new(io::ErrorKind::TimedOut, "it took too long");
            tokio::time::timeout(ADDRESS, open).await.map_err(late).flatten()
        } else {
            open.await
        };
        match opened {
            Ok(socket) => {
                socket.set_nodelay(true)?;
                return Ok(socket);
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_this_machine() {
        let check = |url: &str, expect: bool| assert_eq!(is_here(url), expect, "{url}");
        check("http://127.0.0.1:8000/v1", true);
        check("http://127.9.9.9", true);
        check("https://[::1]:8443/", true);
        check("http://LOCALHOST:11434", true);
        check("https://api.example/v1", false);
        check("http://10.0.0.1:8000", false);
        check("https://127.0.0.1.example", false);
        check("https://localhost.example", false);
        check("", false);
    }

    #[test]
    fn addresses_are_read() {
        let check = |url: &str, expect: Result<(&str, u16, bool, &str), &str>| {
            let read = Target::of(url);
            let read =
                read.as_ref().map(|(to, path)| (to.host.as_str(), to.port, to.tls, path.as_str()));
            assert_eq!(read.map_err(String::as_str), expect, "{url}");
        };
        check("https://api.openai.com/v1", Ok(("api.openai.com", 443, true, "/v1")));
        check("https://API.example:8443/v1/", Ok(("api.example", 8443, true, "/v1")));
        check("http://localhost:11434", Ok(("localhost", 11434, false, "")));
        check("http://[::1]:80/a", Ok(("::1", 80, false, "/a")));
        check("localhost:8080", Err("it has to begin with https:// or http://"));
        check("ftp://a/", Err("it has to begin with https:// or http://"));
        check("https://key@a/", Err("it holds a name or password; a key is given as one"));
        check("https://a/?b", Err("it is an address alone, without `?` or `#`"));
        check("https://", Err("it is no URL"));
        check("https://a:99999/", Err("its port is none"));
        let authority = |url| Target::of(url).map(|(target, _)| target.authority());
        assert_eq!(authority("http://[::1]:80/a"), Ok("[::1]".to_owned()));
        assert_eq!(authority("http://[::1]:443/a"), Ok("[::1]:443".to_owned()));
    }
}
