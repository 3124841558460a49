//! Where a request comes from, as a policy may ask: its key, its path, its workspace, and those of
//! its headers that the provider wants. Absent: what follows from it.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::Request;
use axum::http::HeaderName;
use ingle_gateway::Wanted;
use ingle_protocol::Origin;

use crate::keys::Owner;

/// Names the workspace that a request belongs to.
static WORKSPACE: HeaderName = HeaderName::from_static("x-ingle-workspace");
/// The longest value of a header that is told of, in bytes; a longer one is told up to there.
const VALUE_MAX: usize = 256;

/// Where this request, known by this id, comes from.
pub(crate) fn of(owner: &Owner, request: &Request, wanted: &Wanted, id: String) -> Origin {
    let header = |name: &str| {
        let values = request.headers().get_all(name).iter();
        let values = values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let text = values.collect::<Vec<_>>().join(", ");
        text[..text.floor_char_boundary(VALUE_MAX)].to_owned()
    };
    let headers = wanted.headers.iter().filter(|name| request.headers().contains_key(*name));
    Origin {
        id,
        at_ms: now_ms(),
        path: request.uri().path().to_owned(),
        workspace: header(WORKSPACE.as_str()),
        headers: headers.map(|name| (name.clone(), header(name))).collect(),
        ..owner.whose()
    }
}

/// The same, of one of several calls that it is.
pub(crate) fn part(origin: &Arc<Origin>, at: u32) -> Arc<Origin> {
    Arc::new(Origin { id: format!("{}#{at}", origin.id), ..Origin::clone(origin) })
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
