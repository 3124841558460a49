//! Where numbers live and how they are computed.

pub mod bytes;
pub mod formats;

pub use bytes::Bytes;
pub use formats::Format;
