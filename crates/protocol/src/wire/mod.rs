//! Wire formats: pure functions between a protocol's bytes and this crate's types, used by a server
//! to listen and by a provider's client to speak.
//!
//! A format is four functions: read and write a request, read and write what is answered, and
//! `read(write(x)) == x` is the test. Absent: sockets, clocks, ids made here. serde stays inside.

pub mod openai;
pub mod receipt;
