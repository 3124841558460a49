//! A batch without a server: the same task works on it, and nothing listens.

use std::sync::Arc;
use std::time::Duration;

use ingle_records::{BatchRecord, Records};
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::sleep;

use super::work;
use crate::keys::OPEN_HOME;
use crate::listen::{reached, spawn_load};
use crate::{Config, Error, Slot, State, Stop};

/// Whose batches and files these are: anyone's, as on a server without keys.
pub const OFFLINE_OWNER: &str = OPEN_HOME;

/// Where these come from, as [`ingle_records::NewBatch::origin`] and
/// [`ingle_records::FileRecord::origin`] have it.
pub const OFFLINE_ORIGIN: &str = r#"[{"path":"ingle batch"}]"#;

/// How often the batch is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Works on a batch of [`OFFLINE_OWNER`]'s until it has ended, or `stop` says to stop, or its
/// sender is gone: then `None`, and whoever works on it next goes on. `load` runs on a thread of
/// its own and fills the slot; `tell` hears how far the batch is.
///
/// # Errors
/// Where the model cannot be loaded, or the records fail.
pub async fn offline<E: std::fmt::Display>(
    records: Arc<Records>,
    id: &str,
    load: impl FnOnce(&Slot) -> Result<(), E> + Send + 'static,
    mut tell: impl FnMut(&BatchRecord),
    mut stop: watch::Receiver<Stop>,
) -> Result<Option<BatchRecord>, Error> {
    let config = Config { records: Some(Arc::clone(&records)), ..Config::default() };
    let state = Arc::new(State::new(config)?);
    let failed = spawn_load(Arc::clone(&state), load)?;
    let mut failed = std::pin::pin!(failed);
    let mut worker = JoinSet::new();
    worker.spawn(work(Arc::clone(&state)));
    loop {
        tokio::select! {
            biased;
            error = &mut failed => return Err(Error::Load(error)),
            () = reached(&mut stop, Stop::Drain) => {
                worker.shutdown().await;
                return Ok(None);
            }
            () = sleep(LOOK) => {}
        }
        let (records, id) = (Arc::clone(&records), id.to_owned());
        let found = spawn_blocking(move || records.batch(OFFLINE_OWNER, &id)).await;
        let found = found.map_err(|_| Error::Records("a bug stopped the work".to_owned()))?;
        let found = found.map_err(|error| Error::Records(error.to_string()))?;
        let Some(batch) = found else {
            return Err(Error::Records("the batch is gone from its records".to_owned()));
        };
        tell(&batch);
        if batch.status.ended() {
            worker.shutdown().await;
            return Ok(Some(batch));
        }
    }
}
