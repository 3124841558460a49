//! A request to one provider, ready to be sent: where, with which headers, and how it shows its
//! key. What can be wrong with a provider's settings is found when they are read. Absent: sending
//! it.

use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request};
use percent_encoding::percent_encode;

use super::Upstream;
use super::keys::Secret;
use super::kinds::Auth;
use super::net::Target;
use super::sigv4::{self, ESCAPED, Signing};
use super::state::Place;
use super::wires::Spoken;

/// A model's name is no longer than this, in bytes.
const MODEL_MAX: usize = 512;
/// Who asks.
const AGENT: &str = concat!("ingle/", env!("CARGO_PKG_VERSION"));
/// Headers that are not a user's to set: they belong to the connection, or to the key.
const RESERVED: &[&str] =
    &["connection", "content-length", "content-type", "host", "transfer-encoding", "upgrade"];

/// Whom a provider's settings lead to, and the path of its address.
pub(super) fn address(upstream: &Upstream) -> Result<(Target, String), String> {
    let kind = upstream.kind;
    let url = if upstream.url.is_empty() { kind.url } else { &upstream.url };
    if url.is_empty() {
        return Err(format!("the kind `{}` has no address of its own: set `url`", kind.name));
    }
    if url.contains("{region}") || kind.path.contains("{region}") {
        name("region", &upstream.region)?;
    }
    // Google's own name for everywhere is part of no host.
    let prefix = if upstream.region == "global" { "" } else { upstream.region.as_str() };
    let dash = if prefix.is_empty() { "" } else { "-" };
    let url = url.replace("{region}-", &format!("{prefix}{dash}"));
    let url = url.replace("{region}", &upstream.region);
    Target::of(&url).map_err(|why| format!("its `url`: {why}"))
}

/// What else can be wrong with a provider's settings.
pub(super) fn check(upstream: &Upstream) -> Result<(), String> {
    let kind = upstream.kind;
    if upstream.key.is_none() && !kind.keyless {
        return Err(format!("the kind `{}` is asked with a key: set `key`", kind.name));
    }
    if let Some(key) = &upstream.key {
        let plain = kind.auth != Auth::Google;
        if plain && !key.text().bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("its key has characters that no key has".to_owned());
        }
    }
    for (name, value) in &upstream.headers {
        header_of(name, value)?;
    }
    Ok(())
}

/// A name that becomes part of an address: letters, digits and a few signs.
pub(super) fn name(what: &str, text: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    if text.is_empty() || text.len() > 128 || !text.chars().all(plain) || text.contains("..") {
        return Err(format!("`{what}` has to be set, to a name of letters, digits and `-`"));
    }
    Ok(())
}

fn header_of(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let wrong =
        |why: &str| format!("the header {:?}: {why}", name.chars().take(64).collect::<String>());
    let parsed: HeaderName = name.parse().map_err(|_| wrong("it is no header's name"))?;
    if RESERVED.contains(&parsed.as_str()) {
        return Err(wrong("it is not one that can be set"));
    }
    let mut value = HeaderValue::from_str(value).map_err(|_| wrong("its value is no text"))?;
    value.set_sensitive(true);
    Ok((parsed, value))
}

/// The path of a request for a model, escaped.
fn path(place: &Place, model: &str, spoken: &Spoken) -> Result<String, String> {
    if model.is_empty() || model.len() > MODEL_MAX {
        return Err(format!("a model's name has 1 to {MODEL_MAX} bytes"));
    }
    let Upstream { kind, project, region, .. } = &place.upstream;
    let escape = |text: &str| percent_encode(text.as_bytes(), ESCAPED).to_string();
    let usual = if spoken.stream { kind.stream_path } else { kind.path };
    let path = spoken.path.unwrap_or(usual);
    let filled = path
        .replace("{project}", &escape(project))
        .replace("{region}", &escape(region))
        .replace("{model}", &escape(model));
    Ok(format!("{}{filled}", place.base))
}

/// A request for a model, with its body beside it. `token` is what Google gave, where it is
/// Google's.
pub(super) fn request(
    place: &Place,
    model: &str,
    spoken: &Spoken,
    token: Option<&Secret>,
    now_ms: u64,
) -> Result<Request<Bytes>, String> {
    let path = path(place, model, spoken)?;
    let body = Bytes::copy_from_slice(spoken.body.as_bytes());
    let mut headers = HeaderMap::new();
    let kind = place.upstream.kind;
    let accept = if spoken.stream { kind.cut.media()[0] } else { "application/json" };
    let authority = place.target.authority();
    let usual = [
        (header::HOST, authority.as_str()),
        (header::CONTENT_TYPE, "application/json"),
        (header::ACCEPT, accept),
        (header::USER_AGENT, AGENT),
    ];
    for (name, value) in usual {
        headers.insert(name, HeaderValue::from_str(value).map_err(|_| "its host is none")?);
    }
    for (name, value) in kind.headers {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    for (name, value) in &place.upstream.headers {
        let (name, value) = header_of(name, value)?;
        headers.insert(name, value);
    }
    for (name, text) in authorise(place, &path, &authority, &body, token, now_ms)? {
        let mut value = HeaderValue::from_str(&text).map_err(|_| "its key is no text")?;
        value.set_sensitive(true);
        headers.insert(HeaderName::from_static(name), value);
    }
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = path.parse().map_err(|_| "its path is none")?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// The headers that show a key.
fn authorise(
    place: &Place,
    path: &str,
    authority: &str,
    body: &[u8],
    token: Option<&Secret>,
    now_ms: u64,
) -> Result<Vec<(&'static str, String)>, String> {
    let Some(key) = &place.upstream.key else { return Ok(Vec::new()) };
    let bearer = |key: &Secret| vec![("authorization", format!("Bearer {}", key.text()))];
    Ok(match place.upstream.kind.auth {
        Auth::Bearer => bearer(key),
        Auth::Header(name) => vec![(name, key.text().to_owned())],
        Auth::Google => token.map(bearer).ok_or("it has no token")?,
        Auth::Amazon(_) if !key.text().contains(':') => bearer(key),
        Auth::Amazon(service) => {
            let signing = Signing {
                method: "POST",
                path,
                query: &[],
                headers: &[("content-type", "application/json"), ("host", authority)],
                body,
                region: &place.upstream.region,
                service,
                now_ms,
            };
            sigv4::sign(&signing, key)?
        }
    })
}
