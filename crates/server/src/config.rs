//! What a server is told at its start, and the one struct that holds all of its bounds.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ingle_gateway::budget::Rates;
use ingle_records::{BatchLimits, ChainLimits, FileLimits, Records, ResponseLimits};

use crate::access::AccessLog;
use crate::keys::{self, Key};
use crate::{Collector, Manager, TlsFiles};

/// 8080 is where clients of local models look first: it is llama.cpp's default too, while 11434 is
/// Ollama's, whose own protocol would be expected there.
pub const DEFAULT_PORT: u16 = 8080;

/// A server's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Keys, each of which opens what its scopes say. None: open, and bound to loopback alone.
    pub keys: Vec<Key>,
    /// Share no cached prefix between keys: how soon an answer begins tells whether its prompt was
    /// cached, and so what others asked.
    pub isolate_keys: bool,
    /// Allow a public address without keys.
    pub insecure_no_auth: bool,
    /// Origins whose pages may call; none by default.
    pub cors_origins: Vec<String>,
    /// More host names by which a server without keys may be called. `localhost` and addresses
    /// always may; other names are refused, since any web page can point a name at this machine.
    pub hosts: Vec<String>,
    /// Let clients fetch and delete models (Ollama's `/api/pull` and `/api/delete`), and load and
    /// unload adapters from files of this machine (vLLM's `/v1/load_lora_adapter`).
    pub manage_models: bool,
    /// Where files, batches and stored responses are kept; without, none are taken.
    pub records: Option<Arc<Records>>,
    /// Speak TLS alone, with this certificate; plain HTTP without.
    pub tls: Option<TlsFiles>,
    /// Who is sent a trace of each request for answers; nobody, if nobody is named.
    pub traces: Option<Collector>,
    /// Who is told how the server is.
    pub manager: Manager,
    /// Keep responses, as OpenAI does, where there are records to keep them in.
    pub store: bool,
    /// Where each request is logged, if anywhere.
    pub access_log: Option<AccessLog>,
    /// Who keeps what keys use in a minute, where several servers share that; else this one does.
    pub rates: Option<Arc<dyn Rates>>,
    /// The bounds.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), DEFAULT_PORT),
            keys: Vec::new(),
            isolate_keys: false,
            insecure_no_auth: false,
            cors_origins: Vec::new(),
            hosts: Vec::new(),
            manage_models: false,
            records: None,
            tls: None,
            traces: None,
            manager: Manager::default(),
            store: true,
            access_log: None,
            rates: None,
            limits: Limits::default(),
        }
    }
}

/// Every bound of the server. The engine has its own.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections; more wait in the kernel's backlog.
    pub connections: usize,
    /// Choices under way; a request beyond gets 429.
    pub answers: usize,
    /// Choices of one request: its prompts times its `n`.
    pub choices: usize,
    /// A request's body, in bytes.
    pub body_bytes: usize,
    /// All bodies that are being received and read, together, in bytes; a request beyond gets 429.
    pub all_bodies_bytes: usize,
    /// What all answers from elsewhere that nobody has read yet take, together, in bytes, but for
    /// the first MiB of each choice; an answer beyond ends with 503.
    pub all_unread_bytes: usize,
    /// For a TLS handshake.
    pub handshake: Duration,
    /// How often the files of the certificate are looked at for changes.
    pub certificate_look: Duration,
    /// The bytes of an uploaded file.
    pub file_bytes: u64,
    /// What one owner may keep.
    pub files: FileLimits,
    /// How many batches one owner may have.
    pub batches: BatchLimits,
    /// Lines of one batch.
    pub batch_lines: usize,
    /// Choices of batches under way, beside all other ones.
    pub batch_answers: usize,
    /// The same while anything else is under way.
    pub batch_answers_beside: usize,
    /// For a request's head, counted from the connection's start or the last answer's end.
    pub head_read: Duration,
    /// For a request's body.
    pub body_read: Duration,
    /// A client that takes none of its answer for this long is gone.
    pub stall: Duration,
    /// A silent stream gets a comment this often. A streamed answer's status waits for its first
    /// event as long, so that a refusal by the engine still gets a status of its own.
    pub keep_alive: Duration,
    /// How long running answers may go on once the server is told to stop.
    pub drain: Duration,
    /// Responses that are kept, of each key.
    pub responses: ResponseLimits,
    /// Responses before one, that it builds on.
    pub chain: ChainLimits,
    /// What `Retry-After` says where the fault does not.
    pub retry_after: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            answers: 256,
            choices: 64,
            body_bytes: 16 << 20,
            all_bodies_bytes: 64 << 20,
            all_unread_bytes: 256 << 20,
            handshake: Duration::from_secs(10),
            certificate_look: Duration::from_secs(1),
            file_bytes: 512 << 20,
            files: FileLimits { count: 10_000, bytes: 20 << 30 },
            batches: BatchLimits { open: 100, ended: 1000 },
            batch_lines: 50_000,
            batch_answers: 16,
            batch_answers_beside: 4,
            head_read: Duration::from_secs(30),
            body_read: Duration::from_secs(30),
            stall: Duration::from_secs(60),
            keep_alive: Duration::from_secs(10),
            drain: Duration::from_secs(30),
            responses: ResponseLimits { count: 10_000, bytes: 256 << 20, age_s: 30 * 86_400 },
            chain: ChainLimits { count: 1024, bytes: 16 << 20 },
            retry_after: Duration::from_secs(1),
        }
    }
}

/// Why a server did not start, or ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration contradicts itself.
    #[error("{0}")]
    Config(String),
    /// The address cannot be had.
    #[error("cannot listen on {address}: {error}; choose another port or stop who holds it")]
    Bind {
        /// What was asked for.
        address: SocketAddr,
        /// What the system says.
        error: std::io::Error,
    },
    /// The certificate cannot be used.
    #[error("{0}")]
    Tls(String),
    /// What was begun cannot be read or kept.
    #[error("{0}")]
    Records(String),
    /// The model could not be loaded.
    #[error("the model could not be loaded: {0}")]
    Load(String),
}

impl Config {
    /// Fails where the configuration would open the server to more than its user can have meant.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let open = self.keys.is_empty() && !self.insecure_no_auth;
        if open && !self.listen.ip().is_loopback() {
            return Err(Error::Config(format!(
                "{} can be reached from other machines and no API key is set\nhint: set a key, \
                 listen on 127.0.0.1, or allow it by name (insecure-no-auth)",
                self.listen
            )));
        }
        keys::check(&self.keys).map_err(Error::Config)?;
        if self.isolate_keys && self.keys.is_empty() {
            let message = "there are no API keys to isolate: set some, or leave out isolate-keys";
            return Err(Error::Config(message.to_owned()));
        }
        let wrong = self.cors_origins.iter().find(|origin| !is_origin(origin));
        if let Some(origin) = wrong {
            let message = format!("{origin:?} is no origin; write it as https://example.org");
            return Err(Error::Config(message));
        }
        Ok(())
    }
}

fn is_origin(origin: &str) -> bool {
    let rest = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    rest.is_some_and(|rest| {
        !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_graphic() && b != b'/' && b != b'*')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_server_stays_on_loopback() {
        let key = || vec![Key::chosen("a-long-key").expect("long enough")];
        let rows: &[(&str, Vec<Key>, bool, bool)] = &[
            ("127.0.0.1:1", vec![], false, true),
            ("[::1]:1", vec![], false, true),
            ("0.0.0.0:1", vec![], false, false),
            ("192.168.0.1:1", vec![], false, false),
            ("[::]:1", vec![], false, false),
            ("0.0.0.0:1", vec![], true, true),
            ("0.0.0.0:1", key(), false, true),
            ("127.0.0.1:1", [key(), key()].concat(), false, false),
        ];
        for (listen, keys, insecure, right) in rows {
            let config = Config {
                listen: listen.parse().expect("an address"),
                keys: keys.clone(),
                insecure_no_auth: *insecure,
                ..Config::default()
            };
            assert_eq!(config.check().is_ok(), *right, "{listen} {keys:?} {insecure}");
        }
    }

    #[test]
    fn only_keys_are_isolated() {
        let rows = [(true, true, true), (true, false, false), (false, false, true)];
        for (isolate_keys, keyed, right) in rows {
            let keys =
                Vec::from_iter(keyed.then(|| Key::chosen("a-long-key").expect("long enough")));
            let config = Config { keys, isolate_keys, ..Config::default() };
            assert_eq!(config.check().is_ok(), right, "{isolate_keys} {keyed}");
        }
    }

    #[test]
    fn origins_are_checked() {
        let rows = [
            ("https://a.example", true),
            ("http://localhost:3000", true),
            ("*", false),
            ("https://", false),
            ("https://a.example/", false),
            ("a.example", false),
        ];
        for (origin, right) in rows {
            let config = Config { cors_origins: vec![origin.to_owned()], ..Config::default() };
            assert_eq!(config.check().is_ok(), right, "{origin}");
        }
    }
}
