//! Anthropic's routes: messages, and how many tokens one has.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State as Shared};
use axum::http::StatusCode;
use axum::routing::post;
use ingle_protocol::Format;
use ingle_protocol::wire::anthropic;

use super::{Outcome, blocking, body, card, passable, provider};
use crate::State;
use crate::keys::Owner;
use crate::refusal::json;

pub(super) fn routes() -> Router<Arc<State>> {
    let messages =
        |state, request| passable(Format::Messages, anthropic::read_request, state, request);
    Router::new()
        .route("/v1/messages", post(messages))
        .route("/v1/messages/count_tokens", post(count))
}

async fn count(Shared(state): Shared<Arc<State>>, request: Request) -> Outcome {
    let owner = Owner::of(&request)?;
    let (body, _room) = body(&state, request).await?;
    let (model, chat) = anthropic::read_count(&body)?;
    let provider = Arc::clone(provider(&state)?);
    let name = card(&owner, &provider, &model).await?.name;
    let tokens = blocking(move || {
        let text = provider.render(&name, &chat)?;
        provider.tokenize(&name, &text, true)
    });
    Ok(json(StatusCode::OK, anthropic::write_count(tokens.await?.len())))
}
