//! The Hugging Face hub as far as fetching files goes: its addresses, its token, its offline
//! switch. The names of the environment variables are those of the `huggingface_hub` package. There
//! is no search, no listing of anything but one repository's files, and no writing.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use super::reference::{Hub, Reference, Repository};
use crate::Error;

const PUBLIC_HUB: &str = "https://huggingface.co";

/// How the outside is reached.
#[derive(Clone)]
pub struct Settings {
    /// The hub's address: `HF_ENDPOINT`, else the public one.
    pub endpoint: String,
    /// The hub's token: `HF_TOKEN`, `HUGGING_FACE_HUB_TOKEN` or the token file.
    pub token: Option<String>,
    /// Nothing is fetched at all: `INGLE_OFFLINE`.
    pub offline: bool,
    /// Nothing is fetched from the hub: `HF_HUB_OFFLINE`.
    pub hub_offline: bool,
    /// Proxies are read from the environment (`HTTPS_PROXY`, `NO_PROXY`, ...).
    pub use_proxy: bool,
    /// How long to wait before each new attempt after a failure that may pass; the count of
    /// these is the count of attempts in a row that may bring nothing.
    pub pauses: Vec<Duration>,
    /// How long a connection may bring nothing before it is given up.
    pub idle: Duration,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = self.token.as_ref().map(|_| "(hidden)");
        f.debug_struct("Settings")
            .field("endpoint", &self.endpoint)
            .field("token", &token)
            .field("offline", &self.offline)
            .field("hub_offline", &self.hub_offline)
            .finish_non_exhaustive()
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            endpoint: PUBLIC_HUB.into(),
            token: None,
            offline: false,
            hub_offline: false,
            use_proxy: true,
            pauses: [500, 1000, 2000, 4000, 8000].map(Duration::from_millis).to_vec(),
            idle: Duration::from_secs(30),
        }
    }
}

impl Settings {
    /// What the environment says.
    pub fn from_env() -> Self {
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| PUBLIC_HUB.into());
        Self {
            endpoint: endpoint.trim_end_matches('/').into(),
            token: token(),
            offline: is_set("INGLE_OFFLINE"),
            hub_offline: is_set("HF_HUB_OFFLINE"),
            ..Self::default()
        }
    }

    /// Whether a reference may be fetched at all.
    pub(crate) fn online(&self, reference: &Reference) -> Result<(), Error> {
        let switch = match reference {
            Reference::Path(_) => return Ok(()),
            _ if self.offline => "INGLE_OFFLINE",
            Reference::Hub(_) | Reference::Repository(_) if self.hub_offline => "HF_HUB_OFFLINE",
            _ => return Ok(()),
        };
        Err(Error::Fetch(format!("not fetched: {switch} is set")))
    }

    /// The address of a file on the hub.
    pub(crate) fn hub_url(&self, hub: &Hub) -> String {
        let revision = hub.revision.as_deref().unwrap_or("main");
        format!(
            "{}/{}/{}/resolve/{}/{}",
            self.endpoint,
            hub.owner,
            hub.repo,
            escape(revision, b""),
            escape(&hub.file, b"/")
        )
    }
}

impl Settings {
    /// The address of what the hub tells of a repository: its files at a revision.
    pub(crate) fn listing_url(&self, repository: &Repository) -> String {
        let Repository { owner, repo, revision } = repository;
        let revision = escape(revision.as_deref().unwrap_or("main"), b"");
        format!("{}/api/models/{owner}/{repo}/revision/{revision}?blobs=true", self.endpoint)
    }
}

/// Percent-encodes all but the unreserved characters of RFC 3986 and those in `keep`.
fn escape(text: &str, keep: &[u8]) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b) || keep.contains(&b);
    text.bytes().fold(String::new(), |mut escaped, b| {
        if plain(b) {
            escaped.push(char::from(b));
        } else {
            escaped.push_str(&format!("%{b:02X}"));
        }
        escaped
    })
}

fn text(name: &str) -> Option<String> {
    std::env::var(name).ok().map(|text| text.trim().to_string()).filter(|text| !text.is_empty())
}

/// A switch is on unless it is unset, empty or says no.
fn is_set(name: &str) -> bool {
    text(name).is_some_and(|text| {
        !["0", "false", "no", "off"].contains(&text.to_ascii_lowercase().as_str())
    })
}

fn token() -> Option<String> {
    let named = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"].into_iter().find_map(text);
    let token = named.or_else(|| {
        let file = File::open(token_file()?).ok()?;
        let mut text = String::new();
        file.take(4096).read_to_string(&mut text).ok()?;
        Some(text.trim().to_string())
    });
    // It goes into a header, so nothing but printable characters may be in it.
    token.filter(|token| !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()))
}

fn token_file() -> Option<PathBuf> {
    if let Some(path) = text("HF_TOKEN_PATH") {
        return Some(path.into());
    }
    let home = text("HF_HOME").map(PathBuf::from).or_else(|| {
        let cache = text("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| std::env::home_dir().map(|home| home.join(".cache")))?;
        Some(cache.join("huggingface"))
    })?;
    Some(home.join("token"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_escaped() {
        let settings = Settings::default();
        let check = |reference: &str, expect: &str| {
            let Ok(Reference::Hub(hub)) = reference.parse() else { panic!("{reference}") };
            assert_eq!(settings.hub_url(&hub), format!("https://huggingface.co/{expect}"));
        };
        check("hf:a/b/c.gguf", "a/b/resolve/main/c.gguf");
        check("hf:a/b/q 4/c&d.gguf@refs/pr/1", "a/b/resolve/refs%2Fpr%2F1/q%204/c%26d.gguf");
        check("hf:a/b@v1.0/c.gguf", "a/b/resolve/v1.0/c.gguf");
    }

    #[test]
    fn the_token_is_not_shown() {
        let settings = Settings { token: Some("hf_secret".into()), ..Settings::default() };
        assert!(!format!("{settings:?}").contains("secret"));
    }

    #[test]
    fn offline_is_said_by_name() {
        let check = |offline, hub_offline, reference: &str, expect: Option<&str>| {
            let settings = Settings { offline, hub_offline, ..Settings::default() };
            let said = settings.online(&reference.parse().expect("sound"));
            let said = said.err().map(|error| error.to_string());
            let named = said.as_deref().and_then(|said| said.split(' ').nth(2));
            assert_eq!(named, expect);
        };
        check(false, false, "hf:a/b/c", None);
        check(false, true, "hf:a/b/c", Some("HF_HUB_OFFLINE"));
        check(false, true, "pypi:a==1/c", None);
        check(true, false, "pypi:a==1/c", Some("INGLE_OFFLINE"));
        check(true, true, "hf:a/b/c", Some("INGLE_OFFLINE"));
    }
}
