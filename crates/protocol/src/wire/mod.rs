//! Wire formats: pure functions between a protocol's bytes and this crate's types, used by a server
//! to listen and by a provider's client to speak.
//!
//! To listen, a format reads a request into an [`Ask`], and the [`Writer`] that this makes writes
//! the answer's events; errors are written by [`Dialect`]. A server knows these three and no
//! format. To speak, a format also writes requests and hears answers, and `read(write(x)) == x` is
//! the test; [`speak`] is the door to all that do. What becomes of each field of a request stands
//! in tables, whose rows [`Row`] shows.
//!
//! Absent: sockets, clocks, ids made here. serde stays inside.

pub mod adapters;
pub mod anthropic;
mod ask;
mod check;
mod constraint;
pub mod decisions;
mod errors;
pub mod gemini;
pub mod llama_cpp;
pub mod ollama;
pub mod openai;
pub mod openapi;
mod pictures;
pub mod reading;
pub mod receipt;
mod relay;
pub mod responses;
pub mod speak;
mod splice;
mod strict;
mod table;
mod time;
mod tools;
mod values;

pub use ask::{Ask, Stamp, Writer};
pub use errors::{Dialect, Kind};
pub use table::{Row, Rule};
pub use time::rfc3339;
