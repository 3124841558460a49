//! llama.cpp's own routes. Two of them are vLLM's too, and take what both send.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, Request, State as Shared};
use axum::http::StatusCode;
use axum::routing::{get, post};
use ingle_protocol::wire::llama_cpp::{self, Format, Props};
use ingle_protocol::wire::openai;
use ingle_protocol::{Fault, Input};

use super::{Outcome, blocking, body, card, cards, generate, provider};
use crate::State;
use crate::keys::Owner;
use crate::refusal::json;

pub(super) fn routes() -> Router<Arc<State>> {
    let completion = |state, request| generate(completion_request, state, request);
    let infill = |state, request| generate(infill_request, state, request);
    Router::new()
        .route("/completion", post(completion))
        .route("/infill", post(infill))
        .route("/tokenize", post(tokenize))
        .route("/detokenize", post(detokenize))
        .route("/apply-template", post(apply_template))
        .route("/props", get(props))
        .route("/slots", get(slots))
}

fn completion_request(body: &[u8]) -> Result<llama_cpp::Asked, Fault> {
    llama_cpp::read_request(Format::Completion, body)
}

fn infill_request(body: &[u8]) -> Result<llama_cpp::Asked, Fault> {
    llama_cpp::read_request(Format::Infill, body)
}

async fn tokenize(Shared(state): Shared<Arc<State>>, request: Request) -> Outcome {
    let owner = Owner::of(&request)?;
    let (body, _room) = body(&state, request).await?;
    let Some(ask) = llama_cpp::read_tokenize(&body)? else {
        return super::tokens_of(&state, &owner, &body).await;
    };
    let provider = Arc::clone(provider(&state)?);
    let name = card(&owner, &provider, &ask.model).await?.name;
    let text = blocking(move || {
        let tokens = provider.tokenize(&name, &ask.text, ask.special)?;
        if !ask.pieces {
            return Ok(llama_cpp::write_tokens(&tokens));
        }
        let piece = |token| Ok((token, provider.detokenize(&name, &[token])?));
        let pieces: Result<Vec<_>, Fault> = tokens.into_iter().map(piece).collect();
        Ok(llama_cpp::write_pieces(&pieces?))
    });
    Ok(json(StatusCode::OK, text.await?))
}

async fn detokenize(Shared(state): Shared<Arc<State>>, request: Request) -> Outcome {
    let owner = Owner::of(&request)?;
    let (body, _room) = body(&state, request).await?;
    let text = super::text_of(&state, &owner, &body).await?;
    Ok(json(StatusCode::OK, llama_cpp::write_text(&text)))
}

/// The body is a chat's.
async fn apply_template(Shared(state): Shared<Arc<State>>, request: Request) -> Outcome {
    let owner = Owner::of(&request)?;
    let (body, _room) = body(&state, request).await?;
    let mut asked = openai::read_request(openai::Format::Chat, &body)?;
    let request = asked.requests.remove(0);
    let provider = Arc::clone(provider(&state)?);
    let name = card(&owner, &provider, &request.model).await?.name;
    let text = blocking(move || match &request.input {
        Input::Chat(chat) => provider.render(&name, chat),
        _ => Err(Fault::caller("there is no conversation").at("messages")),
    });
    Ok(json(StatusCode::OK, llama_cpp::write_prompt(&text.await?)))
}

async fn props(Shared(state): Shared<Arc<State>>, Extension(owner): Extension<Owner>) -> Outcome {
    let provider = Arc::clone(provider(&state)?);
    let card = card(&owner, &provider, "").await?;
    let name = card.name.clone();
    let sheet = blocking(move || provider.sheet(&name)).await?;
    let props = Props {
        model: &card.name,
        context_tokens: card.context_tokens,
        answers: state.config().limits.answers,
        template: &sheet.template,
    };
    Ok(json(StatusCode::OK, llama_cpp::write_props(&props)))
}

async fn slots(Shared(state): Shared<Arc<State>>, Extension(owner): Extension<Owner>) -> Outcome {
    let cards = cards(&owner, &**provider(&state)?);
    let models: Vec<_> =
        cards.iter().map(|card| (card.name.as_str(), card.context_tokens, card.requests)).collect();
    Ok(json(StatusCode::OK, llama_cpp::write_slots(&models)))
}
