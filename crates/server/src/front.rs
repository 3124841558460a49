//! What every request passes on its way in: its id, its host, its key and what that may do; and on
//! its way out: its count, its key's limits, its line of the log.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use crate::access::{Logged, Visit};
use crate::keys::{Accounts, Owner};
use crate::refusal::Refusal;
use crate::traces::Traced;
use crate::{Config, Scope, State, Stop, origin, scopes};
use axum::extract::{MatchedPath, Request, State as Shared};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use ingle_protocol::Fault;
use ingle_protocol::wire::{Dialect, Kind};

pub(crate) static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Where Anthropic's clients look for the same.
static ANTHROPIC_ID: HeaderName = HeaderName::from_static("request-id");
/// What every request of Anthropic's clients carries.
static ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");
/// Where they send their key.
static X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// What a path begins with, and in whose words its errors are: the first row's that fits, OpenAI's
/// elsewhere.
#[rustfmt::skip]
const DIALECTS: &[(&str, Dialect)] = &[
    ("/v1/messages", Dialect::Anthropic),
    ("/api/", Dialect::Ollama),
    ("/v2/", Dialect::Cohere),
    ("/embedding", Dialect::LlamaCpp),
    ("/reranking", Dialect::LlamaCpp),
    ("/embed", Dialect::Tei),
    ("/rerank", Dialect::Tei),
    ("/predict", Dialect::Tei),
    ("/similarity", Dialect::Tei),
    ("/info", Dialect::Tei),
    ("/completion", Dialect::LlamaCpp),
    ("/infill", Dialect::LlamaCpp),
    ("/apply-template", Dialect::LlamaCpp),
    ("/lora-adapters", Dialect::LlamaCpp),
    ("/props", Dialect::LlamaCpp),
    ("/slots", Dialect::LlamaCpp),
];

impl Owner {
    /// Whose request it is; every one that needs a key, or could need one, has an owner.
    pub(crate) fn of(request: &Request) -> Result<Self, Refusal> {
        let owner = request.extensions().get::<Self>().cloned();
        owner.ok_or_else(|| Fault::ours("a bug: a request came in without its owner").into())
    }

    /// Refuses what its key may not do.
    pub(crate) fn must(&self, scope: Scope) -> Result<(), Refusal> {
        if self.may(scope) {
            return Ok(());
        }
        let has = self.key().into_iter().flat_map(|key| &key.scopes).map(|has| has.name());
        let has = has.collect::<Vec<_>>().join(", ");
        let message = format!(
            "this needs the scope `{}` and the key has: {has}; whoever runs this server can give \
             it more",
            scope.name()
        );
        Err(Refusal::new(Kind::Forbidden, message))
    }
}

pub(crate) async fn pass(
    Shared(state): Shared<Arc<State>>,
    mut request: Request,
    next: Next,
) -> Response {
    let id = request_id(request.headers());
    let matched = request.extensions().get::<MatchedPath>();
    let route = matched.map(|path| path.as_str().to_owned());
    let dialect = dialect(request.uri().path(), request.headers());
    let traced = Traced::begin(state.tracer.as_ref(), route.as_deref(), &request, &id);
    let wanted = state.slot.provider().map(|provider| provider.wanted());
    let log = state.live().log.clone();
    let visit = log.map(|log| Visit::new(log, &id, &request));
    let mut owner = None;
    let admitted = admit(&state, route.as_deref(), &request).and_then(|who| {
        let Some(who) = who else { return Ok(()) };
        let origin = origin::of(&who, &request, wanted.as_ref(), called(&request, &id))?;
        let who = owner.insert(who.on(visit.clone(), origin));
        allow(who, route.as_deref(), request.method())
    });
    let mut response = match admitted {
        Ok(()) => {
            owner.clone().and_then(|owner| request.extensions_mut().insert(owner));
            request.extensions_mut().insert(dialect);
            traced.serve(next.run(request)).await
        }
        Err(refusal) => refusal.into_response(),
    };
    if let Some(owner) = &owner {
        let refusal = response.extensions().get::<Refusal>();
        let limited = refusal.is_some_and(|refusal| refusal.kind() == Kind::Limit);
        state.metrics.owners.asked(owner.name(), limited);
        owner.tell(dialect, response.headers_mut());
    }
    let route = route.as_deref().unwrap_or("other");
    state.metrics.answered(route, response.status().as_u16());
    tracing::debug!(route, status = response.status().as_u16(), id = ?id, "answered");
    let mut response = Refusal::render(response, dialect, id.to_str().unwrap_or_default());
    if dialect == Dialect::Anthropic {
        response.headers_mut().insert(ANTHROPIC_ID.clone(), id.clone());
    }
    response.headers_mut().insert(REQUEST_ID.clone(), id);
    traced.answered(&mut response);
    match visit {
        Some(visit) => logged(response, owner.as_ref(), visit),
        None => response,
    }
}

/// The response, whose end writes its line of the log.
fn logged(response: Response, owner: Option<&Owner>, visit: Arc<Visit>) -> Response {
    visit.tell(|told| {
        told.status = Some(response.status().as_u16());
        told.key = owner.map(|owner| owner.name().to_owned());
    });
    response.map(|body| Logged::body(body, visit))
}

/// Whose words the caller of a path knows.
fn dialect(path: &str, headers: &HeaderMap) -> Dialect {
    if headers.contains_key(&ANTHROPIC_VERSION) {
        return Dialect::Anthropic;
    }
    let row = DIALECTS.iter().find(|row| path.starts_with(row.0));
    row.map_or(Dialect::OpenAi, |row| row.1)
}

/// Who asks, where that matters. `route` is the router's own path, if it knows one.
fn admit(state: &State, route: Option<&str>, request: &Request) -> Result<Option<Owner>, Refusal> {
    if route.is_some_and(scopes::is_open) {
        return Ok(None);
    }
    let live = state.live();
    let owner = match live.accounts.everyone() {
        // Open to whoever reaches it, by its user's word.
        Some(everyone) if live.config.insecure_no_auth => everyone,
        Some(everyone) => check_host(&live.config, request.headers()).map(|()| everyone)?,
        None => check_key(&live.accounts, request.headers())?,
    };
    if *state.stop.borrow() != Stop::Run {
        let message = "the server is stopping and takes no new requests";
        return Err(Fault::not_ready(live.config.limits.retry_after, message).into());
    }
    Ok(Some(owner.clone()))
}

/// Whether an owner may do this at all, and now.
fn allow(owner: &Owner, route: Option<&str>, method: &Method) -> Result<(), Refusal> {
    if let Some(route) = route
        && let Some(scope) = scopes::needed(route, method)?
    {
        owner.must(scope)?;
    }
    owner.take_request()
}

/// Whose key a request carries.
fn check_key<'a>(accounts: &'a Accounts, headers: &HeaderMap) -> Result<&'a Owner, Refusal> {
    let Some(given) = given_key(headers) else {
        let message = "no API key; send it as 'Authorization: Bearer KEY' or 'x-api-key: KEY'";
        return Err(Refusal::new(Kind::Key, message));
    };
    let unknown = || Refusal::new(Kind::Key, "the API key is not one of this server's");
    accounts.find(given).ok_or_else(unknown)
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
pub(crate) fn host_name(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

/// What a call is known as in the ledger: as its answer's id says, unless its caller chose that,
/// who may choose the same one twice.
fn called(request: &Request, id: &HeaderValue) -> String {
    let chosen = request.headers().get(&REQUEST_ID) == Some(id);
    let own = id.to_str().ok().filter(|_| !chosen);
    own.map_or_else(fresh_id, str::to_owned)
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
    use crate::Key;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let value = HeaderValue::from_str(value).expect("a header");
        HeaderMap::from_iter([(HeaderName::from_static(name), value)])
    }

    #[test]
    fn keys() {
        let keys = ["first-key", "second-key"].map(|key| Key::chosen(key).expect("long enough"));
        let accounts = Accounts::new(&keys, None);
        let check = |name, value: &str, expect: Option<u32>| {
            let headers = headers(name, value);
            let owner = check_key(&accounts, &headers).ok();
            assert_eq!(owner.map(Owner::number), expect, "{value}");
        };
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
            check("authorization", value, owner);
        }
        for (value, owner) in [("second-key", Some(1)), ("second-ke", None), ("", None)] {
            check("x-api-key", value, owner);
        }
        assert!(check_key(&accounts, &HeaderMap::new()).is_err());
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
