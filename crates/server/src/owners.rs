//! What each key has had, for `/metrics`. Keys come and go as long as the server runs; names
//! beyond a bound are counted together.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ingle_protocol::Usage;

/// The most names that are told apart in a server's life, and what the rest are called.
const MOST: usize = 4096;
const OTHERS: &str = "others";

/// Counts by the name of the key.
#[derive(Debug, Default)]
pub(crate) struct Owners(Mutex<BTreeMap<String, Counts>>);

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    requests: u64,
    limited: u64,
    prompt: u64,
    completion: u64,
}

type Of = fn(&Counts) -> u64;
/// Metric, help, and for each further label what is counted under it.
type Row = (&'static str, &'static str, &'static [(&'static str, Of)]);

const ROWS: &[Row] = &[
    (
        "ingle_server_owner_requests_total",
        "Requests of each key, by its name.",
        &[("", |counts| counts.requests)],
    ),
    (
        "ingle_server_owner_limited_total",
        "Requests that a limit of their key refused.",
        &[("", |counts| counts.limited)],
    ),
    (
        "ingle_server_owner_tokens_total",
        "Tokens computed for each key, by its name.",
        &[
            (",kind=\"prompt\"", |counts| counts.prompt),
            (",kind=\"completion\"", |counts| counts.completion),
        ],
    ),
];

impl Owners {
    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Counts>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, owner: &str, count: impl FnOnce(&mut Counts)) {
        let mut all = self.all();
        let known = all.len() < MOST || all.contains_key(owner);
        let owner = if known { owner } else { OTHERS };
        count(all.entry(owner.to_owned()).or_default());
    }

    /// A request came, and whether a limit refused it.
    pub(crate) fn asked(&self, owner: &str, limited: bool) {
        self.count(owner, |counts| {
            counts.requests += 1;
            counts.limited += u64::from(limited);
        });
    }

    /// A choice was computed.
    pub(crate) fn done(&self, owner: &str, usage: &Usage) {
        self.count(owner, |counts| {
            counts.prompt += u64::from(usage.prompt_tokens.saturating_sub(usage.cached_tokens));
            counts.completion += u64::from(usage.completion_tokens);
        });
    }

    /// Calls `head` for each metric, and `line` for each of its numbers.
    pub(crate) fn write(&self, out: &mut String, head: fn(&mut String, &str, &str, &str)) {
        use std::fmt::Write;
        for (name, help, kinds) in ROWS {
            head(out, name, help, "counter");
            for (owner, counts) in &*self.all() {
                for (label, of) in *kinds {
                    writeln!(out, "{name}{{owner=\"{owner}\"{label}}} {}", of(counts))
                        .expect("writing to a string cannot fail");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beyond_the_bound_are_counted_together() {
        let owners = Owners::default();
        for at in 0..MOST + 5 {
            owners.asked(&format!("key-{at}"), at % 2 == 0);
        }
        owners.asked("key-0", false);
        let mut text = String::new();
        owners.write(&mut text, |_, _, _, _| ());
        assert!(text.contains("ingle_server_owner_requests_total{owner=\"key-0\"} 2\n"));
        assert!(text.contains("ingle_server_owner_limited_total{owner=\"key-0\"} 1\n"));
        assert!(text.contains("ingle_server_owner_requests_total{owner=\"others\"} 5\n"));
        assert!(!text.contains(&format!("key-{MOST}")), "{text}");
    }
}
