//! What is answered by weighing labels: decisions, and OpenAI's moderations.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State as Shared};
use axum::http::StatusCode;
use axum::routing::post;
use ingle_protocol::wire::decisions::{self, Shape};
use ingle_protocol::wire::openai::moderations;
use ingle_protocol::{Call, Fault, Receipt, Weighed, Weighing};

use super::{Outcome, blocking, card, left, own, place, provider, taken, writer};
use crate::State;
use crate::answer::stamp;
use crate::keys::Owner;
use crate::origin::part;
use crate::refusal::{Refusal, json};

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new().route("/v1/decisions", post(decide)).route("/v1/moderations", post(moderate))
}

async fn decide(Shared(state): Shared<Arc<State>>, request: Request) -> Outcome {
    let (owner, mut asked) = taken(decisions::read_request, &state, request).await?;
    let (name, shape) = prepare(&state, &mut asked.request, &owner).await?;
    let (weighed, total) = weigh(&state, &owner, asked.weighings(shape)).await?;
    let text = decisions::write_answer(&asked, &stamp(&name), &weighed, &total)?;
    Ok(json(StatusCode::OK, text))
}

async fn moderate(Shared(state): Shared<Arc<State>>, request: Request) -> Outcome {
    let (owner, mut asked) = taken(moderations::read_request, &state, request).await?;
    let (name, shape) = prepare(&state, &mut asked.request, &owner).await?;
    let (weighed, total) = weigh(&state, &owner, asked.weighings(shape)).await?;
    Ok(json(StatusCode::OK, moderations::write_answer(&stamp(&name), &weighed, &total)))
}

/// Puts a request on its owner's account and gives it its model.
async fn prepare(
    state: &State,
    request: &mut ingle_protocol::Request,
    owner: &Owner,
) -> Result<(String, Shape), Refusal> {
    own(&state.config(), std::slice::from_mut(request), owner)?;
    let card = writer(card(owner, provider(state)?, &request.model).await?)?;
    request.model.clone_from(&card.name);
    Ok((card.name, if card.chat { Shape::Chat } else { Shape::Text }))
}

/// Weighs one after another, so that each finds what it shares with those before in the cache. Ends
/// early where the caller goes away.
async fn weigh(
    state: &State,
    owner: &Owner,
    all: Vec<Weighing>,
) -> Result<(Vec<Weighed>, Receipt), Refusal> {
    let place = place(state, 1)?;
    let provider = Arc::clone(provider(state)?);
    let (call, cancelled) = Call::new();
    let began = Instant::now();
    let work = move || {
        let _place = place;
        let one = |(at, mut weighing): (u32, Weighing)| {
            weighing.request.origin = weighing.request.origin.map(|origin| part(&origin, at));
            weighing.request.timeout_ms = left(weighing.request.timeout_ms, began.elapsed())?;
            provider.weigh(&weighing, Arc::clone(&cancelled))
        };
        (0..).zip(all).map(one).collect::<Result<Vec<Weighed>, Fault>>()
    };
    let weighed = blocking(work).await?;
    drop(call);
    let total = Weighed::total(&weighed).ok_or_else(|| Fault::ours("nothing was weighed"))?;
    state.metrics.done(owner.name(), &total, began.elapsed());
    Ok((weighed, total))
}
