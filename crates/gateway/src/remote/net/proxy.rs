//! A proxy that HTTPS goes through, as `HTTPS_PROXY` and `NO_PROXY` name it: it is asked for a
//! tunnel, and sees the host's name and nothing else. Absent: proxies for plain HTTP, which would
//! read along, those that want TLS themselves, and SOCKS.

use std::fmt;
use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Uri;
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use super::Target;

/// A proxy's answer is no longer than this, in bytes.
const ANSWER_MAX: usize = 8 << 10;

/// A proxy for HTTPS.
#[derive(Clone)]
pub struct Proxy {
    host: String,
    port: u16,
    /// The `Proxy-Authorization` that it wants.
    authorization: Option<Zeroizing<String>>,
    /// Hosts that are reached without it, and what they end with.
    except: Vec<String>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({}:{})", self.host, self.port)
    }
}

impl Proxy {
    /// The proxy that the environment names, if it names one: `HTTPS_PROXY`, `ALL_PROXY` and
    /// `NO_PROXY`, in capitals or not.
    ///
    /// # Errors
    /// Where it names one that cannot be used, and why; never its password.
    pub fn from_env(variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<Self>, String> {
        let either = |name: &str| {
            let value = variable(name).or_else(|| variable(&name.to_lowercase()));
            value.filter(|value| !value.is_empty())
        };
        let named = ["HTTPS_PROXY", "ALL_PROXY"]
            .into_iter()
            .find_map(|name| either(name).map(|url| (name, url)));
        let Some((name, url)) = named else { return Ok(None) };
        let except = either("NO_PROXY").unwrap_or_default();
        Self::new(&url, &except).map(Some).map_err(|why| format!("{name}: {why}"))
    }

    /// A proxy at `http://[user:password@]host:port`, and the hosts that are reached without it,
    /// separated by commas: names, of which their subdomains are part, or `*`.
    ///
    /// # Errors
    /// Where it is no such address; never with its password.
    pub fn new(url: &str, except: &str) -> Result<Self, String> {
        let whole = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let uri: Uri = whole.parse().map_err(|_| "the proxy's address is no URL".to_owned())?;
        if uri.scheme_str() != Some("http") {
            return Err("a proxy is reached by http:// here, whatever goes through it".to_owned());
        }
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let (user, _) = authority.rsplit_once('@').unwrap_or(("", authority));
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            return Err("the proxy's address names no host".to_owned());
        }
        let plain = percent_decode_str(user).collect::<Vec<u8>>();
        let authorization = (!user.is_empty())
            .then(|| Zeroizing::new(format!("Basic {}", STANDARD.encode(Zeroizing::new(plain)))));
        let except = except.split(',').map(|name| name.trim().trim_start_matches('.'));
        let except = except.filter(|name| !name.is_empty()).map(str::to_lowercase).collect();
        Ok(Self { host, port: uri.port_u16().unwrap_or(80), authorization, except })
    }

    /// Whether a target is reached through it: over TLS alone, not on this machine, and not where
    /// it is excepted.
    pub(super) fn is_for(&self, target: &Target) -> bool {
        let host = target.host.as_str();
        let under = |name: &String| {
            let rest = host.strip_suffix(name.as_str());
            name == "*" || rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        target.tls && !target.is_here() && !self.except.iter().any(under)
    }

    /// A tunnel to a target.
    pub(super) async fn tunnel(&self, target: &Target) -> io::Result<TcpStream> {
        let mut socket = super::connect(&self.host, self.port).await?;
        let to = format!("{}:{}", target.bracketed(), target.port);
        let mut ask = Zeroizing::new(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n"));
        if let Some(authorization) = &self.authorization {
            ask.push_str("Proxy-Authorization: ");
            ask.push_str(authorization);
            ask.push_str("\r\n");
        }
        ask.push_str("\r\n");
        socket.write_all(ask.as_bytes()).await?;
        let mut answer = Vec::with_capacity(512);
        while !answer.ends_with(b"\r\n\r\n") {
            // Nothing is said behind the answer before we speak, so that no byte is lost by this.
            let byte = socket.read_u8().await?;
            answer.push(byte);
            if answer.len() > ANSWER_MAX {
                return Err(io::Error::other("the proxy's answer has no end"));
            }
        }
        let line = String::from_utf8_lossy(&answer);
        let status = line.split(' ').nth(1).unwrap_or_default();
        match (line.starts_with("HTTP/1."), status) {
            (true, "200") => Ok(socket),
            (true, status) => {
                let status: String = status.chars().take(3).collect();
                Err(io::Error::other(format!("the proxy refused a tunnel: {status}")))
            }
            _ => Err(io::Error::other("the proxy does not speak HTTP/1")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_names_a_proxy() {
        let variable = |name: &str| match name {
            "https_proxy" => Some("http://me:p%40ss@proxy.example:3128".to_owned()),
            "NO_PROXY" => Some("localhost, .corp.example,api.example".to_owned()),
            _ => None,
        };
        let proxy = Proxy::from_env(&variable).expect("it is one").expect("there is one");
        assert_eq!(format!("{proxy:?}"), "Proxy(proxy.example:3128)");
        // me:p@ss
        assert_eq!(
            proxy.authorization.as_ref().map(|text| text.as_str()),
            Some("Basic bWU6cEBzcw==")
        );
        let check = |url: &str, expect| {
            let (target, _) = Target::of(url).expect("an address");
            assert_eq!(proxy.is_for(&target), expect, "{url}");
        };
        check("https://api.openai.com", true);
        check("http://api.openai.com", false);
        check("https://corp.example", false);
        check("https://llm.corp.example", false);
        check("https://notcorp.example", true);
        check("https://api.example:8443", false);
        check("https://127.0.0.1", false);
        check("https://[::1]", false);
        assert!(Proxy::from_env(&|_| None).expect("fine").is_none());
        let refused = Proxy::new("https://u:secret@a", "").expect_err("TLS to a proxy");
        assert!(!refused.contains("secret"), "{refused}");
        assert!(Proxy::new("socks5://a", "").is_err());
    }
}
