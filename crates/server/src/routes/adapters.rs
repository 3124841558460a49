//! Adapters: llama.cpp's list and scales of the default model's, and vLLM's loading and unloading
//! while the server runs. Choosing one is a matter of each request: by its `model`, or by `lora`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, Request, State as Shared};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use ingle_gateway::AdapterCard;
use ingle_protocol::wire::adapters::{self, AdapterLine};

use super::{Outcome, blocking, body, card, may_manage, provider, taken};
use crate::State;
use crate::keys::Owner;
use crate::refusal::json;

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/lora-adapters", get(list).post(scale))
        .route("/v1/load_lora_adapter", post(load))
        .route("/v1/unload_lora_adapter", post(unload))
}

async fn list(Shared(state): Shared<Arc<State>>, Extension(owner): Extension<Owner>) -> Outcome {
    let provider = Arc::clone(provider(&state)?);
    let model = card(&owner, &provider, "").await?.name;
    let listed = provider.adapters(&model);
    let line = |card: &AdapterCard| AdapterLine {
        name: card.name.clone(),
        file: card.file.clone(),
        scale: card.scale,
    };
    let lines: Vec<AdapterLine> = listed.iter().map(line).collect();
    Ok(json(StatusCode::OK, adapters::write_list(&lines)))
}

async fn scale(Shared(state): Shared<Arc<State>>, request: Request) -> Outcome {
    let (owner, scales) = taken(adapters::read_scales, &state, request).await?;
    let provider = Arc::clone(provider(&state)?);
    let model = card(&owner, &provider, "").await?.name;
    provider.scale_adapters(&model, &scales)?;
    Ok(json(StatusCode::OK, adapters::write_success()))
}

/// vLLM's answers are a sentence.
fn said(what: String) -> Outcome {
    let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    Ok((StatusCode::OK, kind, what).into_response())
}

async fn load(Shared(state): Shared<Arc<State>>, request: Request) -> Outcome {
    let (owner, asked) = taken(adapters::read_load, &state, request).await?;
    may_manage(&state)?;
    let provider = Arc::clone(provider(&state)?);
    let model = card(&owner, &provider, &asked.model).await?.name;
    let name = asked.name.clone();
    blocking(move || provider.load_adapter(&model, &asked.name, asked.path.as_ref())).await?;
    said(format!("Success: LoRA adapter '{name}' added successfully."))
}

async fn unload(Shared(state): Shared<Arc<State>>, request: Request) -> Outcome {
    let owner = Owner::of(&request)?;
    let (body, _room) = body(&state, request).await?;
    let name = adapters::read_unload(&body)?;
    may_manage(&state)?;
    let provider = Arc::clone(provider(&state)?);
    // A key that may not see it may not end it either.
    let name = card(&owner, &provider, &name).await?.name;
    let gone = name.clone();
    blocking(move || provider.unload_adapter(&gone)).await?;
    said(format!("Success: LoRA adapter '{name}' removed successfully."))
}
