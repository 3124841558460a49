//! A model file and what is in it: weights, tokenizer, chat template, architecture. And where
//! model files come from.
#![forbid(unsafe_code)]

pub mod archs;
pub mod catalogue;
pub mod dialect;
pub mod gguf;
pub mod huggingface;
pub mod lora;
pub mod pull;
pub mod quantize;
pub mod reading;
pub mod safetensors;
pub mod schema;
pub mod template;
pub mod tokenizer;

/// One token's id in its model's vocabulary.
pub type Token = u32;

/// Why a model could not be read or fetched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file breaks its format's rules.
    #[error("malformed model file: {what} (at byte {offset})")]
    Malformed {
        /// The rule that is broken.
        what: String,
        /// Where in the file, in bytes from its start.
        offset: u64,
    },
    /// The file lacks something its kind of model needs.
    #[error("the model file lacks {0}")]
    Missing(String),
    /// The file is sound, but this version of Ingle cannot run it.
    #[error("{0}")]
    Unsupported(String),
    /// The request to the model is wrong: a template refused it, a token does not exist.
    #[error("{0}")]
    Refused(String),
    /// The model could not be fetched; says what to do next.
    #[error("{0}")]
    Fetch(String),
    /// The caller asked to stop (Ctrl-C); what was fetched so far is kept for the next time.
    #[error("interrupted")]
    Interrupted,
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}
