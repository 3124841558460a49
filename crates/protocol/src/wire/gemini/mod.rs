//! Gemini's `generateContent`, at Google's and at Vertex: requests written, answers heard. A stream
//! is an event stream (`alt=sse`) whose events are answers with a part of the text each; it has no
//! end mark but the reason why it ended.
//!
//! Calls and their results have no ids here: names and their order tell them apart, so that ids are
//! made of the answer's own id and the call's number.
//!
//! Absent: listening, since no server of ours speaks it; caches, files and tools that run there.

mod reader;
mod request;

pub(super) use reader::Heard;
pub(super) use request::write_request;
