//! Where a request comes from, as a policy may ask: its key, its path, its workspaces, and those of
//! its headers that the provider wants; and the same as it is kept with what outlives its request.
//! Absent: what follows from it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName};
use ingle_gateway::Wanted;
use ingle_protocol::Origin;
use ingle_protocol::wire::Kind;
use serde_json::{Value, json};

use crate::keys::Owner;
use crate::refusal::Refusal;

/// Names the workspace that a request belongs to.
static WORKSPACE: HeaderName = HeaderName::from_static("x-ingle-workspace");
/// The longest value of a header that is told of, in bytes; a longer one is told up to there.
const VALUE_MAX: usize = 256;
/// The most values of a header that is told of.
const VALUES_MAX: usize = 32;
/// The most places that are told of which something builds on; of more it is not known.
const PLACES_MAX: usize = 32;

/// Where this request, known by this id, comes from. As long as nobody can say what is wanted of
/// it, since what answers is not there yet, a header may be missing in that: it is not known then.
///
/// # Errors
/// Where a header that a policy may ask of has too many values to be told.
pub(crate) fn of(
    owner: &Owner,
    request: &Request,
    wanted: Option<&Wanted>,
    id: String,
) -> Result<Origin, Refusal> {
    let mut headers = Vec::new();
    for name in wanted.into_iter().flat_map(|wanted| &wanted.headers) {
        let all = values(request.headers(), name)?;
        headers.extend(all.into_iter().map(|value| (name.clone(), value)));
    }
    Ok(Origin {
        id,
        at_ms: now_ms(),
        path: request.uri().path().to_owned(),
        workspaces: values(request.headers(), WORKSPACE.as_str())?,
        headers,
        unknown: wanted.is_none(),
        ..owner.whose()
    })
}

/// What a header says, each value once. A line with commas is each of its parts beside the whole,
/// since whoever hands a request on may make one line of several (RFC 9110, section 5.3).
fn values(headers: &HeaderMap, name: &str) -> Result<Vec<String>, Refusal> {
    let mut values: Vec<String> = Vec::new();
    for line in headers.get_all(name) {
        let line = String::from_utf8_lossy(line.as_bytes());
        let parts = line.split(',').filter(|part| part.len() < line.len());
        for value in std::iter::once(&*line).chain(parts) {
            let value = value.trim();
            let value = &value[..value.floor_char_boundary(VALUE_MAX)];
            if values.iter().any(|known| known == value) {
                continue;
            }
            if values.len() == VALUES_MAX {
                let message = format!("the header {name:?} has more than {VALUES_MAX} values");
                return Err(Refusal::new(Kind::Invalid, message));
            }
            values.push(value.to_owned());
        }
    }
    Ok(values)
}

/// The same, of one of several calls that it is.
pub(crate) fn part(origin: &Arc<Origin>, at: u32) -> Arc<Origin> {
    Arc::new(Origin { id: format!("{}#{at}", origin.id), ..Origin::clone(origin) })
}

/// What is kept of it: all that a policy may ask, and neither its id nor its own bytes.
pub(crate) fn kept(origin: &Origin) -> Value {
    json!({
        "key": origin.key,
        "team": origin.team,
        "path": origin.path,
        "workspaces": origin.workspaces,
        "headers": origin.headers,
        "classes": origin.classes,
        "models": origin.models.as_deref(),
        "unknown": origin.unknown,
    })
}

/// Where something came from that was kept; `None` where that is not what [`kept`] writes. What is
/// left out in it was not there.
pub(crate) fn again(kept: &Value) -> Option<Origin> {
    kept.as_object()?;
    let text = |name: &str| match kept.get(name) {
        None => Some(String::new()),
        Some(it) => it.as_str().map(str::to_owned),
    };
    let list = |name: &str| match kept.get(name) {
        None => Some(Vec::new()),
        Some(it) => serde_json::from_value::<Vec<String>>(it.clone()).ok(),
    };
    let headers = match kept.get("headers") {
        None => Vec::new(),
        Some(it) => serde_json::from_value::<Vec<(String, String)>>(it.clone()).ok()?,
    };
    let models = match kept.get("models") {
        None | Some(Value::Null) => None,
        Some(_) => Some(Arc::from(list("models")?)),
    };
    let unknown = match kept.get("unknown") {
        None => false,
        Some(it) => it.as_bool()?,
    };
    Some(Origin {
        key: text("key")?,
        team: text("team")?,
        path: text("path")?,
        workspaces: list("workspaces")?,
        headers,
        classes: list("classes")?,
        models,
        unknown,
        ..Origin::default()
    })
}

/// The same, of what [`kept_all`] wrote. One place that stands alone was written when nobody kept
/// on what it builds, so that nobody knows.
pub(crate) fn read_all(text: &str) -> Option<Origin> {
    match serde_json::from_str::<Value>(text).ok()? {
        Value::Array(all) => {
            let mut all = all.iter().map(again);
            let own = all.next()??;
            Some(Origin { before: all.collect::<Option<_>>()?, ..own })
        }
        own => Some(Origin { unknown: true, ..again(&own)? }),
    }
}

/// What is kept of it and of all that it builds on.
pub(crate) fn kept_all(origin: &Origin) -> String {
    std::iter::once(origin).chain(&origin.before).map(kept).collect::<Value>().to_string()
}

/// Where all of this came from that was kept, each place once; and whether more was kept of which
/// nobody knows where it came from.
pub(crate) fn before<'a>(kept: impl Iterator<Item = Option<&'a str>>) -> (Vec<Origin>, bool) {
    let (mut seen, mut all, mut unknown) = (BTreeSet::new(), Vec::new(), false);
    for text in kept.filter(|text| seen.insert(*text)) {
        let list = text.and_then(|text| serde_json::from_str::<Vec<Value>>(text).ok());
        unknown |= list.as_ref().is_none_or(Vec::is_empty);
        for one in list.iter().flatten() {
            match again(one) {
                Some(origin) if all.contains(&origin) => {}
                Some(origin) if all.len() < PLACES_MAX => all.push(origin),
                _ => unknown = true,
            }
        }
    }
    (all, unknown)
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn what_is_kept_is_read_again() {
        let texts = |all: &[&str]| all.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        let whole = Origin {
            key: "k".into(),
            team: "t".into(),
            path: "/v1/batches".into(),
            workspaces: texts(&["vault", "other"]),
            headers: vec![("x-data".into(), "a".into()), ("x-data".into(), "b".into())],
            classes: texts(&["secret"]),
            models: Some(Arc::from(texts(&["m", "far/n"]))),
            unknown: true,
            ..Origin::default()
        };
        for origin in [whole, Origin::default()] {
            assert_eq!(again(&kept(&origin)), Some(origin));
        }
        let read = |text: &str| again(&serde_json::from_str(text).ok()?);
        let path = Origin { path: "p".into(), ..Origin::default() };
        assert_eq!(read(r#"{"path":"p"}"#), Some(path), "what is left out was not there");
        let wrong = ["", "[]", "1", r#"{"path":1}"#, r#"{"classes":"a"}"#, r#"{"models":7}"#];
        for text in wrong.into_iter().chain([r#"{"headers":["a"]}"#, r#"{"unknown":"no"}"#]) {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_kept_of_all_is_read_again() {
        let at = |path: &str| Origin { path: path.into(), ..Origin::default() };
        let whole = Origin { before: vec![at("two"), at("three")], ..at("one") };
        for origin in [whole, at("one")] {
            assert_eq!(read_all(&kept_all(&origin)), Some(origin));
        }
        let alone = Origin { unknown: true, ..at("p") };
        assert_eq!(read_all(r#"{"path":"p"}"#), Some(alone), "its input is unknown");
        for text in ["", "1", "[]", "[1]", r#"[{"path":"p"},1]"#, r#"[[{"path":"p"}]]"#] {
            assert_eq!(read_all(text), None, "{text}");
        }
    }

    #[test]
    fn a_header_is_all_of_its_values() {
        let check = |lines: &[&str], expect: &[&str]| {
            let name = HeaderName::from_static("x-data");
            let lines = lines.iter().map(|line| line.parse::<HeaderValue>().expect("a header"));
            let headers: HeaderMap = lines.map(|line| (name.clone(), line)).collect();
            assert_eq!(values(&headers, "x-data").expect("few"), expect, "{headers:?}");
        };
        check(&[], &[]);
        check(&[""], &[""]);
        check(&["a b"], &["a b"]);
        check(&["x", "secret", "x"], &["x", "secret"]);
        check(&["x, secret"], &["x, secret", "x", "secret"]);
        check(&["x,,secret", "secret"], &["x,,secret", "x", "", "secret"]);
        let long = "x".repeat(300);
        check(&[&long], &[&long[..VALUE_MAX]]);
        check(&[&format!("{long},secret")], &[&long[..VALUE_MAX], "secret"]);
        let many = (0..40).map(|number| number.to_string()).collect::<Vec<_>>().join(",");
        let name = HeaderName::from_static("x-data");
        let headers =
            HeaderMap::from_iter([(name, many.parse::<HeaderValue>().expect("a header"))]);
        assert!(values(&headers, "x-data").is_err(), "none of them is forgotten");
    }

    #[test]
    fn places_of_before_are_gathered_once() {
        let at = |path: String| Origin { path, ..Origin::default() };
        let one = Origin { before: vec![at("two".into())], ..at("one".into()) };
        let (one, three) = (kept_all(&one), kept_all(&at("three".into())));
        let check = |kept: &[Option<&str>], expect: &[&str], unknown: bool| {
            let (all, lost) = before(kept.iter().copied());
            let paths: Vec<&str> = all.iter().map(|it| it.path.as_str()).collect();
            assert_eq!((paths.as_slice(), lost), (expect, unknown), "{kept:?}");
        };
        check(&[], &[], false);
        check(&[Some(&one), Some(&three), Some(&one)], &["one", "two", "three"], false);
        check(&[Some(&one), None], &["one", "two"], true);
        check(&[Some("[]")], &[], true);
        check(&[Some("{}"), Some(&three)], &["three"], true);
        check(&[Some("[1]")], &[], true);
        let many: Vec<String> = (0..40).map(|number| kept_all(&at(number.to_string()))).collect();
        let (all, lost) = before(many.iter().map(|text| Some(text.as_str())));
        assert_eq!((all.len(), lost), (PLACES_MAX, true));
    }
}
