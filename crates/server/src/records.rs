//! What the handlers that keep something share: the records, where the server has them, and what
//! becomes of their errors. Absent: the records themselves, a room of their own.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use ingle_protocol::Fault;
use ingle_protocol::wire::Kind;
use ingle_records::Records;

use crate::State;
use crate::refusal::Refusal;

/// The server's records.
pub(crate) fn records(state: &State) -> Result<Arc<Records>, Refusal> {
    state.config().records.clone().ok_or_else(|| {
        let message = "this server keeps nothing: its folder for records could not be opened when \
                       it started, and it said then why";
        Refusal::new(Kind::NotBuilt, message)
    })
}

/// What a caller is told of records that fail: not where they are.
pub(crate) fn failed(error: ingle_records::Error) -> Fault {
    tracing::error!(%error, "the records failed");
    match error {
        ingle_records::Error::Full { .. } => {
            Fault::ours("there is no room on this server's disk: delete files, or ask its owner")
        }
        _ => Fault::ours("this server's records failed; its owner finds the reason in its log"),
    }
}

/// Seconds since 1970.
pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
