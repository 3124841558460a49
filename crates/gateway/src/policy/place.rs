//! Where in a policy's text something is: line, column, and the keys that lead to it.

/// What is wrong with a policy, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {}{message}", key_shown(.key))]
pub struct Wrong {
    /// The file's name, as it was given.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// The keys that lead there, `providers.openai.kind`; empty where none does.
    pub key: String,
    /// What is wrong and what to do.
    pub message: String,
}

fn key_shown(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!("`{key}`: ") }
}
