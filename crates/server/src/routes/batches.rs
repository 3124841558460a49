//! Batches, as OpenAI's API has them: begun, listed, told of and ended. Who works on them is in
//! `batches.rs`.

use std::iter::once;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, Request, State as Shared};
use axum::http::StatusCode;
use axum::routing::{get, post};
use ingle_protocol::Fault;
use ingle_protocol::wire::Kind;
use ingle_protocol::wire::openai::{self, BatchTold};
use ingle_records::{BatchRecord, Begun, Cancel, NewBatch};

use super::files::{Wanted, check_origin, listed};
use super::{Outcome, blocking, json_response, taken};
use crate::batches::batch_endpoints;
use crate::front::fresh_id;
use crate::keys::Owner;
use crate::origin::{before, kept_all};
use crate::records::{failed, now_s, records};
use crate::refusal::Refusal;
use crate::{Scope, State};

/// A list where nobody says how long.
const LIST: u32 = 20;
/// The longest list.
const LIST_MOST: u32 = 100;

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/v1/batches", get(list).post(create))
        .route("/v1/batches/{id}", get(retrieve))
        .route("/v1/batches/{id}/cancel", post(cancel))
}

fn told(batch: &BatchRecord) -> BatchTold<'_> {
    BatchTold {
        id: &batch.asked.id,
        endpoint: &batch.asked.endpoint,
        input_file: &batch.asked.input_file,
        completion_window: &batch.asked.completion_window,
        metadata: batch.asked.metadata.as_deref(),
        status: batch.status.name(),
        errors: batch.errors.as_deref(),
        output_file: batch.output_file.as_deref(),
        error_file: batch.error_file.as_deref(),
        counts: batch.counts,
        created_s: batch.asked.created_s,
        expires_s: batch.asked.expires_s,
        times: batch.times.iter().map(|(status, time)| (status.name(), *time)).collect(),
    }
}

fn tell(batch: &BatchRecord) -> axum::response::Response {
    json_response(StatusCode::OK, openai::write_batch(&told(batch)))
}

fn unknown(id: &str) -> Refusal {
    let id: String = id.chars().take(64).collect();
    Refusal::new(Kind::NoRecord, format!("there is no batch {id:?} of yours")).at("id")
}

async fn create(Shared(state): Shared<Arc<State>>, request: Request) -> Outcome {
    let read = |body: &[u8]| openai::read_batch(body, &batch_endpoints().collect::<Vec<_>>());
    let (owner, asked) = taken(read, &state, request).await?;
    owner.must(Scope::Infer)?;
    let (records, limits, now_s) = (records(&state)?, state.config().limits.batches, now_s());
    let file = asked.input_file.clone();
    let mut batch = NewBatch {
        id: format!("batch_{}", fresh_id()),
        owner: owner.home().to_owned(),
        endpoint: asked.endpoint,
        input_file: asked.input_file,
        completion_window: asked.completion_window,
        metadata: asked.metadata,
        origin: None,
        created_s: now_s,
        expires_s: now_s + asked.window_s,
    };
    let begin = blocking(move || {
        // A file's id is never given twice, so that one that is gone by now is not another's.
        if let Some(input) = records.file(&batch.owner, &batch.input_file).map_err(failed)? {
            let (before, unknown) = before(once(input.origin.as_deref()));
            batch.origin = Some(kept_all(&owner.building_on(before, unknown).origin()));
        }
        let begun = records.begin_batch(&batch, limits).map_err(failed)?;
        let record = records.batch(&batch.owner, &batch.id).map_err(failed)?;
        Ok((begun, record))
    });
    match begin.await? {
        (Begun::Yes, Some(batch)) => {
            state.batches.ring();
            Ok(tell(&batch))
        }
        (Begun::Yes, None) => Err(Fault::ours("a batch was lost; this is a bug").into()),
        (Begun::NoFile, _) => {
            let message = format!("there is no file {file:?} of yours");
            Err(Refusal::new(Kind::Invalid, message).at("input_file_id"))
        }
        (Begun::TooMany, _) => {
            let message = format!("you have {} batches that have not ended, the most", limits.open);
            Err(Refusal::new(Kind::Busy, message))
        }
    }
}

async fn list(
    Shared(state): Shared<Arc<State>>,
    query: Query<Vec<(String, String)>>,
    request: Request,
) -> Outcome {
    let wanted = Wanted::read(query, &[])?;
    let listed =
        listed(&state, Owner::of(&request)?, wanted, (LIST, LIST_MOST), |all, home, _, page| {
            all.batches(home, page)
        });
    let listed = listed.await?;
    let lines: Vec<BatchTold<'_>> = listed.rows.iter().map(told).collect();
    Ok(json_response(StatusCode::OK, openai::write_batches(&lines, listed.more)))
}

async fn retrieve(
    Shared(state): Shared<Arc<State>>,
    Path(id): Path<String>,
    request: Request,
) -> Outcome {
    let (owner, records, wanted) = (Owner::of(&request)?, records(&state)?, id.clone());
    let found = blocking(move || records.batch(owner.home(), &wanted).map_err(failed)).await?;
    Ok(tell(&found.ok_or_else(|| unknown(&id))?))
}

async fn cancel(
    Shared(state): Shared<Arc<State>>,
    Path(id): Path<String>,
    request: Request,
) -> Outcome {
    // It has no body whose type would keep a page from sending it.
    check_origin(&state, request.headers())?;
    let (owner, records, wanted) = (Owner::of(&request)?, records(&state)?, id.clone());
    let cancelled =
        blocking(move || records.cancel_batch(owner.home(), &wanted, now_s()).map_err(failed));
    match cancelled.await? {
        Cancel::Yes(batch) => {
            state.batches.ring();
            Ok(tell(&batch))
        }
        Cancel::Unknown => Err(unknown(&id)),
        Cancel::TooLate(status) => {
            let message = format!("a batch that is {} cannot be cancelled", status.name());
            Err(Refusal::new(Kind::Conflict, message).at("id"))
        }
    }
}
