//! What a key may be allowed, and which of it each route needs: one table of scopes, one of
//! routes. A route without a row is not served, so none can be forgotten.

use axum::http::Method;
use ingle_protocol::wire::Kind;

use crate::refusal::Refusal;

/// What a key may be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Asking models, and what belongs to it.
    Infer,
    /// Files that are uploaded and read.
    Files,
    /// Batches of requests.
    Batch,
    /// Loading, unloading, fetching and deleting models.
    Models,
    /// Which models there are, and what they are.
    Read,
    /// The server's numbers.
    Metrics,
}

impl Scope {
    /// Each scope, its name and what it allows.
    pub const ALL: &[(Self, &str, &str)] = &[
        (
            Self::Infer,
            "infer",
            "asking models: chat, completions, messages, embeddings, scores, tokens",
        ),
        (Self::Files, "files", "uploading, reading and deleting files"),
        (Self::Batch, "batch", "making, reading and cancelling batches"),
        (Self::Models, "models", "loading, unloading, fetching and deleting models"),
        (Self::Read, "read", "listing models and reading what they are"),
        (Self::Metrics, "metrics", "the server's numbers at /metrics"),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|row| row.0 == self).map_or("", |row| row.1)
    }

    /// All names, for people.
    pub fn names() -> String {
        Self::ALL.iter().map(|row| row.1).collect::<Vec<_>>().join(", ")
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Scope {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let row = Self::ALL.iter().find(|row| row.1 == name);
        let wrong = || format!("there is no scope {name:?}; there are: {}", Self::names());
        row.map(|row| row.0).ok_or_else(wrong)
    }
}

/// Every route: method, path, and the scope that it needs. None: open to who holds no key, who
/// restarts servers or looks for one.
#[rustfmt::skip]
pub(crate) const ROUTES: &[(Method, &str, Option<Scope>)] = &[
    (Method::GET, "/", None),
    (Method::GET, "/health", None),
    (Method::GET, "/openapi.json", None),
    (Method::GET, "/metrics", Some(Scope::Metrics)),
    (Method::POST, "/v1/chat/completions", Some(Scope::Infer)),
    (Method::POST, "/v1/completions", Some(Scope::Infer)),
    (Method::POST, "/v1/responses", Some(Scope::Infer)),
    (Method::POST, "/v1/responses/input_tokens", Some(Scope::Infer)),
    (Method::POST, "/v1/responses/compact", Some(Scope::Infer)),
    (Method::GET, "/v1/responses/{id}", Some(Scope::Infer)),
    (Method::DELETE, "/v1/responses/{id}", Some(Scope::Infer)),
    (Method::POST, "/v1/responses/{id}/cancel", Some(Scope::Infer)),
    (Method::GET, "/v1/responses/{id}/input_items", Some(Scope::Infer)),
    (Method::GET, "/v1/models", Some(Scope::Read)),
    (Method::GET, "/v1/models/{*id}", Some(Scope::Read)),
    (Method::POST, "/v1/models/{*id}", Some(Scope::Models)),
    (Method::POST, "/v1/decisions", Some(Scope::Infer)),
    (Method::POST, "/v1/moderations", Some(Scope::Infer)),
    (Method::POST, "/v1/embeddings", Some(Scope::Infer)),
    (Method::POST, "/v1/rerank", Some(Scope::Infer)),
    (Method::POST, "/v1/score", Some(Scope::Infer)),
    (Method::POST, "/score", Some(Scope::Infer)),
    (Method::POST, "/classify", Some(Scope::Infer)),
    (Method::POST, "/pooling", Some(Scope::Infer)),
    (Method::POST, "/v2/embed", Some(Scope::Infer)),
    (Method::POST, "/v2/rerank", Some(Scope::Infer)),
    (Method::POST, "/embed", Some(Scope::Infer)),
    (Method::POST, "/embed_all", Some(Scope::Infer)),
    (Method::POST, "/embed_sparse", Some(Scope::Infer)),
    (Method::POST, "/rerank", Some(Scope::Infer)),
    (Method::POST, "/predict", Some(Scope::Infer)),
    (Method::POST, "/similarity", Some(Scope::Infer)),
    (Method::GET, "/info", Some(Scope::Read)),
    (Method::POST, "/embedding", Some(Scope::Infer)),
    (Method::POST, "/embeddings", Some(Scope::Infer)),
    (Method::POST, "/reranking", Some(Scope::Infer)),
    (Method::POST, "/v1/tokenize", Some(Scope::Infer)),
    (Method::POST, "/v1/detokenize", Some(Scope::Infer)),
    (Method::GET, "/v1/files", Some(Scope::Files)),
    (Method::POST, "/v1/files", Some(Scope::Files)),
    (Method::GET, "/v1/files/{id}", Some(Scope::Files)),
    (Method::DELETE, "/v1/files/{id}", Some(Scope::Files)),
    (Method::GET, "/v1/files/{id}/content", Some(Scope::Files)),
    (Method::GET, "/v1/batches", Some(Scope::Batch)),
    (Method::POST, "/v1/batches", Some(Scope::Batch)),
    (Method::GET, "/v1/batches/{id}", Some(Scope::Batch)),
    (Method::POST, "/v1/batches/{id}/cancel", Some(Scope::Batch)),
    (Method::POST, "/v1/messages", Some(Scope::Infer)),
    (Method::POST, "/v1/messages/count_tokens", Some(Scope::Infer)),
    (Method::POST, "/completion", Some(Scope::Infer)),
    (Method::POST, "/infill", Some(Scope::Infer)),
    (Method::POST, "/tokenize", Some(Scope::Infer)),
    (Method::POST, "/detokenize", Some(Scope::Infer)),
    (Method::POST, "/apply-template", Some(Scope::Infer)),
    (Method::GET, "/lora-adapters", Some(Scope::Read)),
    (Method::POST, "/lora-adapters", Some(Scope::Models)),
    (Method::POST, "/v1/load_lora_adapter", Some(Scope::Models)),
    (Method::POST, "/v1/unload_lora_adapter", Some(Scope::Models)),
    (Method::GET, "/props", Some(Scope::Read)),
    (Method::GET, "/slots", Some(Scope::Read)),
    (Method::POST, "/api/chat", Some(Scope::Infer)),
    (Method::POST, "/api/generate", Some(Scope::Infer)),
    (Method::POST, "/api/embed", Some(Scope::Infer)),
    (Method::POST, "/api/embeddings", Some(Scope::Infer)),
    (Method::GET, "/api/tags", Some(Scope::Read)),
    (Method::GET, "/api/ps", Some(Scope::Read)),
    (Method::POST, "/api/show", Some(Scope::Read)),
    (Method::POST, "/api/pull", Some(Scope::Models)),
    (Method::DELETE, "/api/delete", Some(Scope::Models)),
    (Method::GET, "/api/version", Some(Scope::Read)),
];

/// Whether a route is for everyone, whatever the method.
pub(crate) fn is_open(route: &str) -> bool {
    ROUTES.iter().any(|row| row.1 == route && row.2.is_none())
}

/// What a request to a route of the router needs. The table decides what is served.
pub(crate) fn needed(route: &str, method: &Method) -> Result<Option<Scope>, Refusal> {
    let method = if method == Method::HEAD { &Method::GET } else { method };
    let row = ROUTES.iter().find(|row| row.1 == route && row.0 == method);
    let wrong = || Refusal::new(Kind::Method, "this path does not know this method");
    row.map(|row| row.2).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use ingle_protocol::wire::openapi::operations;

    use super::*;

    /// The paths of all `.route(` calls in the sources.
    fn routed() -> BTreeSet<String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let more = std::fs::read_dir(folder.join("routes")).expect("is there");
        let more = more.map(|file| file.expect("is there").path());
        let mut paths = BTreeSet::new();
        for file in more.chain([folder.join("routes.rs")]).filter(|file| file.is_file()) {
            let text = std::fs::read_to_string(file).expect("UTF-8");
            let calls = text.split(".route(").skip(1);
            paths.extend(calls.filter_map(|call| call.split('"').nth(1)).map(str::to_owned));
        }
        paths
    }

    #[test]
    fn every_route_has_a_row_and_every_row_a_route() {
        let rows: BTreeSet<String> = ROUTES.iter().map(|row| row.1.to_owned()).collect();
        assert_eq!(rows, routed());
        for (at, row) in ROUTES.iter().enumerate() {
            assert!(!ROUTES[..at].iter().any(|other| (&other.0, other.1) == (&row.0, row.1)));
        }
    }

    #[test]
    fn every_route_is_in_the_document_that_is_served() {
        // A model's name may hold slashes: one route takes what the document tells apart.
        let served = |path: &str| match path.strip_prefix("/v1/models/{") {
            Some(_) => "/v1/models/{*id}".to_owned(),
            None => path.to_owned(),
        };
        let told: BTreeSet<(String, String)> =
            operations().map(|it| (it.method.to_owned(), served(it.path))).collect();
        let rows = ROUTES.iter().map(|row| (row.0.to_string(), row.1.to_owned()));
        assert_eq!(told, rows.collect());
        for operation in operations() {
            assert_eq!(operation.open, is_open(&served(operation.path)), "{}", operation.path);
        }
    }

    #[test]
    fn every_scope_has_a_name() {
        for (scope, name, _) in Scope::ALL {
            assert_eq!((scope.name(), name.parse()), (*name, Ok(*scope)));
        }
        let told = "all".parse::<Scope>().expect_err("none");
        assert!(told.contains("infer, files, batch, models, read, metrics"), "{told}");
    }

    #[test]
    fn the_table_decides() {
        let rows = [
            (Method::GET, "/v1/models/{*id}", Some(Some(Scope::Read))),
            (Method::HEAD, "/v1/models/{*id}", Some(Some(Scope::Read))),
            (Method::POST, "/v1/models/{*id}", Some(Some(Scope::Models))),
            (Method::DELETE, "/v1/models/{*id}", None),
            (Method::GET, "/health", Some(None)),
            (Method::GET, "/new", None),
        ];
        for (method, path, expect) in rows {
            assert_eq!(needed(path, &method).ok(), expect, "{method} {path}");
        }
    }
}
