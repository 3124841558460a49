//! Where budgets are kept that several processes share: a Redis server, by its URL. It tells no
//! password, and nor does what is wrong with one. Absent: connections.

use std::fmt;
use std::str::FromStr;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

/// Schemes of URLs: how each begins, and what is said there.
const SCHEMES: &[(&str, &str)] = &[
    ("redis", "redis://user:password@host:port/number"),
    ("rediss", "rediss://user:password@host:port/number, which is encrypted"),
    ("redis+unix", "redis+unix:///path?db=number&user=name&pass=password"),
];
/// Bytes of a URL at most.
const URL_BYTES_MAX: usize = 4_096;

/// A Redis server and one of its numbered databases.
#[derive(Clone)]
pub struct Place {
    pub(super) info: ConnectionInfo,
}

/// A text that is no place. Tells nothing of the text but its scheme.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadPlace(String);

impl FromStr for Place {
    type Err = BadPlace;

    fn from_str(url: &str) -> Result<Self, BadPlace> {
        let forms: Vec<&str> = SCHEMES.iter().map(|row| row.1).collect();
        let wrong = |what: &str| {
            BadPlace(format!("{what}\nhint: shared budgets are at {}", forms.join("; ")))
        };
        if url.len() > URL_BYTES_MAX {
            return Err(wrong(&format!("a URL of budgets has at most {URL_BYTES_MAX} bytes")));
        }
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(wrong("this is no URL of a Redis server"));
        };
        if !SCHEMES.iter().any(|row| row.0 == scheme) {
            let scheme: String = scheme.chars().take(32).collect();
            return Err(wrong(&format!("no budgets are kept at {scheme:?}")));
        }
        if rest.contains('#') {
            return Err(wrong("a URL of budgets has no '#': in a password it is written %23"));
        }
        // What its own error adds may be a secret.
        let info = url.into_connection_info().map_err(|_| {
            wrong("the URL of the Redis server cannot be read: its host, port or number is none")
        })?;
        if info.redis_settings().db() < 0 {
            return Err(wrong("the number of a database is 0 or more"));
        }
        Ok(Self { info })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let db = self.info.redis_settings().db();
        let host = |host: &str| match host.contains(':') {
            true => format!("[{host}]"),
            false => host.to_owned(),
        };
        match self.info.addr() {
            ConnectionAddr::Tcp(name, port) => write!(f, "redis://{}:{port}/{db}", host(name)),
            ConnectionAddr::TcpTls { host: name, port, .. } => {
                write!(f, "rediss://{}:{port}/{db}", host(name))
            }
            ConnectionAddr::Unix(path) => write!(f, "redis+unix://{}?db={db}", path.display()),
            _ => f.write_str("redis://…"),
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::Place;

    #[test]
    fn places_are_told_without_passwords() {
        let check = |url: &str, expect: &str| {
            let place: Place = url.parse().expect("a place");
            assert_eq!(place.to_string(), expect);
            assert_eq!(format!("{place:?}"), format!("Place({expect})"));
        };
        check("redis://localhost", "redis://localhost:6379/0");
        check("redis://a:secret@db.example:6380/3", "redis://db.example:6380/3");
        check("redis://:se%23cret@[::1]/1", "redis://[::1]:6379/1");
        check("rediss://:secret@db.example", "rediss://db.example:6379/0");
        check("redis+unix:///run/redis.sock?db=2&pass=secret", "redis+unix:///run/redis.sock?db=2");
    }

    #[test]
    fn other_texts_are_no_places_and_are_not_repeated() {
        let check = |url: &str, why: &str| {
            let said = url.parse::<Place>().expect_err(url).to_string();
            assert!(said.contains(why), "{url}: {said}");
            assert!(!said.contains("secret"), "{said}");
            assert!(said.contains("hint: shared budgets are at redis://"), "{said}");
        };
        check("", "no URL of a Redis server");
        check("secret", "no URL of a Redis server");
        check("postgres://secret@a/b", "no budgets are kept at \"postgres\"");
        check("redis://a/secret", "cannot be read");
        check("redis://:secret@/1", "cannot be read");
        check("redis://:secret@a:port/1", "cannot be read");
        check("redis://a/-1", "the number of a database is 0 or more");
        check("rediss://:secret@a/#insecure", "has no '#'");
        check(&format!("redis://{}", "secret".repeat(1_000)), "at most 4096 bytes");
    }
}
