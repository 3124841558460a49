//! What every request passes on its way in: its id, its host, its key; and on its way out: its
//! count.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State as Shared};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use ingle_protocol::Fault;
use ingle_protocol::wire::{Dialect, Kind};
use subtle::{ConditionallySelectable, ConstantTimeEq};

use crate::refusal::Refusal;
use crate::{Config, State, Stop};

pub(crate) static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Where Anthropic's clients look for the same.
static ANTHROPIC_ID: HeaderName = HeaderName::from_static("request-id");
/// What every request of Anthropic's clients carries.
static ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");
/// Where they send their key.
static X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// What a path begins with, and in whose words its errors are; OpenAI's elsewhere.
#[rustfmt::skip]
const DIALECTS: &[(&str, Dialect)] = &[
    ("/v1/messages", Dialect::Anthropic),
    ("/api/", Dialect::Ollama),
    ("/completion", Dialect::LlamaCpp),
    ("/infill", Dialect::LlamaCpp),
    ("/apply-template", Dialect::LlamaCpp),
    ("/props", Dialect::LlamaCpp),
    ("/slots", Dialect::LlamaCpp),
];

/// Paths that need no key: whoever restarts servers, or looks for one, holds none.
const OPEN: &[&str] = &["/health", "/"];

/// Whose key opened the server: its place among the keys, from 0; 0 where there are none. Never
/// the key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Owner(pub(crate) u32);

pub(crate) async fn pass(
    Shared(state): Shared<Arc<State>>,
    mut request: Request,
    next: Next,
) -> Response {
    let id = request_id(request.headers());
    let matched = request.extensions().get::<MatchedPath>();
    let route = matched.map_or("other", MatchedPath::as_str).to_owned();
    let dialect = dialect(request.uri().path(), request.headers());
    let response = match admit(&state, &route, &request) {
        Ok(owner) => {
            request.extensions_mut().insert(owner);
            request.extensions_mut().insert(dialect);
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    };
    state.metrics.answered(&route, response.status().as_u16());
    tracing::debug!(route, status = response.status().as_u16(), id = ?id, "answered");
    let mut response = Refusal::render(response, dialect, id.to_str().unwrap_or_default());
    if dialect == Dialect::Anthropic {
        response.headers_mut().insert(ANTHROPIC_ID.clone(), id.clone());
    }
    response.headers_mut().insert(REQUEST_ID.clone(), id);
    response
}

/// Whose words the caller of a path knows.
fn dialect(path: &str, headers: &HeaderMap) -> Dialect {
    if headers.contains_key(&ANTHROPIC_VERSION) {
        return Dialect::Anthropic;
    }
    let row = DIALECTS.iter().find(|row| path.starts_with(row.0));
    row.map_or(Dialect::OpenAi, |row| row.1)
}

fn admit(state: &State, route: &str, request: &Request) -> Result<Owner, Refusal> {
    if OPEN.contains(&route) {
        return Ok(Owner::default());
    }
    let headers = request.headers();
    let owner = match state.config.keys.as_slice() {
        // Open to whoever reaches it, by its user's word.
        [] if state.config.insecure_no_auth => Owner::default(),
        [] => check_host(&state.config, headers).map(|()| Owner::default())?,
        keys => check_key(keys, headers)?,
    };
    if *state.stop.borrow() != Stop::Run {
        let message = "the server is stopping and takes no new requests";
        return Err(Fault::not_ready(state.config.limits.retry_after, message).into());
    }
    Ok(owner)
}

/// Compares with every key, each in time that depends on lengths alone.
fn check_key(keys: &[String], headers: &HeaderMap) -> Result<Owner, Refusal> {
    let Some(given) = given_key(headers) else {
        let message = "no API key; send it as 'Authorization: Bearer KEY' or 'x-api-key: KEY'";
        return Err(Refusal::new(Kind::Key, message));
    };
    let none = u32::MAX;
    let place = (0..none).zip(keys).fold(none, |found, (at, key)| {
        u32::conditional_select(&found, &at, key.as_bytes().ct_eq(given))
    });
    if place != none {
        return Ok(Owner(place));
    }
    Err(Refusal::new(Kind::Key, "the API key is not one of this server's"))
}

/// The key that a request carries, in OpenAI's way or in Anthropic's.
fn given_key(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    let bearer = value.and_then(|value| value.split_at_checked(7));
    let bearer = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"Bearer "));
    bearer.map(|bearer| bearer.1).or_else(|| headers.get(&X_API_KEY).map(HeaderValue::as_bytes))
}

/// A page anywhere on the web can give its own host name this machine's address and so read an
/// open server's answers; it cannot make the browser say another name than its own.
fn check_host(config: &Config, headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(host) = headers.get(header::HOST) else { return Ok(()) };
    let host = host.to_str().unwrap_or_default();
    let name = host_name(host);
    let address = name.trim_start_matches('[').trim_end_matches(']');
    let local = name.eq_ignore_ascii_case("localhost")
        || address.parse::<std::net::IpAddr>().is_ok()
        || config.hosts.iter().any(|known| known.eq_ignore_ascii_case(name));
    if local {
        return Ok(());
    }
    let message = "a server without API keys is called by an address, as localhost, or by a host \
                   name that it was told to allow";
    Err(Refusal::new(Kind::Forbidden, message))
}

/// A host without its port.
fn host_name(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

/// The caller's id where it is a sensible one, a fresh one elsewhere.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let sensible = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        let right = |b: &u8| b.is_ascii_alphanumeric() || b"-_.:".contains(b);
        (1..=128).contains(&bytes.len()) && bytes.iter().all(right)
    };
    match headers.get(&REQUEST_ID).filter(sensible) {
        Some(id) => id.clone(),
        None => HeaderValue::from_str(&fresh_id()).expect("hexadecimal digits"),
    }
}

/// 32 hexadecimal digits that do not come twice. No secret: the standard library's hash keys.
pub(crate) fn fresh_id() -> String {
    let half = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", half(), half())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let value = HeaderValue::from_str(value).expect("a header");
        HeaderMap::from_iter([(HeaderName::from_static(name), value)])
    }

    #[test]
    fn keys() {
        let keys = ["first-key".to_owned(), "second-key".to_owned()];
        let rows = [
            ("Bearer first-key", Some(0)),
            ("bearer second-key", Some(1)),
            ("Bearer first-key ", None),
            ("Bearer first-ke", None),
            ("Bearer ", None),
            ("Bearer", None),
            ("Basic first-key", None),
            ("first-key", None),
        ];
        for (value, owner) in rows {
            let outcome = check_key(&keys, &headers("authorization", value));
            assert_eq!(outcome.ok(), owner.map(Owner), "{value}");
        }
        for (value, owner) in [("second-key", Some(1)), ("second-ke", None), ("", None)] {
            let outcome = check_key(&keys, &headers("x-api-key", value));
            assert_eq!(outcome.ok(), owner.map(Owner), "{value}");
        }
        assert!(check_key(&keys, &HeaderMap::new()).is_err());
    }

    #[test]
    fn hosts() {
        let config = Config { hosts: vec!["box.lan".to_owned()], ..Config::default() };
        let rows = [
            ("localhost", true),
            ("LOCALHOST:8080", true),
            ("127.0.0.1:8080", true),
            ("[::1]:8080", true),
            ("[::1]", true),
            ("box.lan:80", true),
            ("evil.example", false),
            ("localhost.evil.example:8080", false),
            ("", false),
        ];
        for (host, right) in rows {
            assert_eq!(check_host(&config, &headers("host", host)).is_ok(), right, "{host}");
        }
    }

    #[test]
    fn ids() {
        let long = "a".repeat(129);
        let rows = [("a-B_9.:", true), ("", false), ("a b", false), ("ä", false), (&long, false)];
        for (id, kept) in rows {
            assert_eq!(request_id(&headers("x-request-id", id)) == id, kept, "{id}");
        }
        assert_ne!(fresh_id(), fresh_id());
    }
}
