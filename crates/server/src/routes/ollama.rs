//! Ollama's routes: chat and generate, the models, and, where the server was told to allow it,
//! fetching and deleting them. Its embeddings are read with all others, in `reading.rs`.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Extension, Request, State as Shared};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{delete, get, post};
use futures_util::stream;
use ingle_gateway::{ModelCard, Provider, Standing};
use ingle_protocol::wire::ollama::{self, Format, Named, Shown};
use ingle_protocol::wire::{Dialect, Kind};
use ingle_protocol::{Fault, KeepAlive};
use tokio::sync::mpsc::{Sender, channel};
use tokio::sync::oneshot;

use super::{Outcome, answer, blocking, body, card, cards, may_manage, place, provider, taken};
use crate::answer::stamp;
use crate::keys::Owner;
use crate::refusal::{Refusal, json};
use crate::{Scope, State};

/// What a page of this server tells a person, and what Ollama's clients look for on it.
const ALIVE: &str = "Ingle is running. To Ollama's clients: Ollama is running\n";

pub(super) fn routes() -> Router<Arc<State>> {
    let chat = |state, request| ask(Format::Chat, state, request);
    let generate = |state, request| ask(Format::Generate, state, request);
    Router::new()
        .route("/", get(async || ALIVE))
        .route("/api/chat", post(chat))
        .route("/api/generate", post(generate))
        .route("/api/tags", get(tags))
        .route("/api/ps", get(running))
        .route("/api/show", post(show))
        .route("/api/pull", post(pull))
        .route("/api/delete", delete(remove))
        .route("/api/version", get(async || json(StatusCode::OK, ollama::write_version())))
}

async fn ask(format: Format, Shared(state): Shared<Arc<State>>, request: Request) -> Outcome {
    let read = |body: &[u8]| ollama::read_request(format, body);
    let (owner, asked) = taken(read, &state, request).await?;
    let provider = Arc::clone(provider(&state)?);
    let card = card(&owner, &provider, &asked.request.model).await?;
    if asked.idle {
        return idle(&owner, provider, card, asked).await;
    }
    if let Some(least) = asked.num_ctx.filter(|least| *least as usize > card.context_tokens) {
        let has = card.context_tokens;
        let message = format!(
            "{least} tokens of context are asked for and the model was given {has}: ask for no \
             more, or start the server with a larger --context"
        );
        return Err(Fault::caller(message).at("options.num_ctx").into());
    }
    // A model without a chat template is given the prompt as it stands, as Ollama does.
    let asked = if card.chat { asked } else { asked.without_template() };
    answer(state, owner, asked).await
}

/// Nothing is asked: the model is loaded, as for a question, or unloaded where it is to be kept
/// for no time.
async fn idle(
    owner: &Owner,
    provider: Arc<dyn Provider>,
    card: ModelCard,
    asked: ollama::Asked,
) -> Outcome {
    let keep = asked.request.keep_alive;
    let unload = keep == Some(KeepAlive::For(std::time::Duration::ZERO));
    if unload {
        owner.must(Scope::Models)?;
    }
    let stamp = stamp(&card.name);
    blocking(
        move || {
            if unload { provider.unload(&card.name) } else { provider.load(&card.name, keep) }
        },
    )
    .await?;
    Ok(json(StatusCode::OK, ollama::write_idle(&asked, stamp, unload)))
}

fn named(card: &ModelCard) -> Named<'_> {
    Named {
        name: &card.name,
        created_s: card.created_s,
        size_bytes: card.size_bytes,
        sha256: &card.sha256,
        architecture: &card.architecture,
        memory_bytes: card.memory_bytes,
        context_tokens: card.context_tokens,
    }
}

async fn tags(Shared(state): Shared<Arc<State>>, Extension(owner): Extension<Owner>) -> Outcome {
    let cards = cards(&owner, &**provider(&state)?);
    let here = cards.iter().filter(|card| card.standing != Standing::Fetching).map(named);
    Ok(json(StatusCode::OK, ollama::write_models(&here.collect::<Vec<_>>())))
}

async fn running(Shared(state): Shared<Arc<State>>, Extension(owner): Extension<Owner>) -> Outcome {
    let cards = cards(&owner, &**provider(&state)?);
    let loaded = cards.iter().filter(|card| card.standing == Standing::Ready).map(named);
    Ok(json(StatusCode::OK, ollama::write_running(&loaded.collect::<Vec<_>>())))
}

async fn show(Shared(state): Shared<Arc<State>>, request: Request) -> Outcome {
    let owner = Owner::of(&request)?;
    let (body, _room) = body(&state, request).await?;
    let (name, _) = ollama::read_named(&body)?;
    let provider = Arc::clone(provider(&state)?);
    let card = card(&owner, &provider, &name).await?;
    let name = card.name.clone();
    let sheet = blocking(move || provider.sheet(&name)).await?;
    let shown = Shown {
        template: &sheet.template,
        metadata: &sheet.metadata,
        tools: sheet.tools,
        thinking: sheet.thinking,
        reads: card.reads.as_ref(),
    };
    Ok(json(StatusCode::OK, ollama::write_model(&named(&card), &shown)))
}

async fn remove(Shared(state): Shared<Arc<State>>, request: Request) -> Outcome {
    let owner = Owner::of(&request)?;
    let (body, _room) = body(&state, request).await?;
    let (name, _) = ollama::read_named(&body)?;
    may_manage(&state)?;
    let provider = Arc::clone(provider(&state)?);
    let name = card(&owner, &provider, &name).await?.name;
    blocking(move || provider.remove(&name)).await?;
    Ok(json(StatusCode::OK, "{}".to_owned()))
}

/// Lines that wait for a client which reads slowly; progress that finds no room is left out.
const LINES: usize = 64;

/// Fetches a model; where the caller goes away, the fetch ends, and goes on there the next time.
async fn pull(Shared(state): Shared<Arc<State>>, request: Request) -> Outcome {
    let owner = Owner::of(&request)?;
    let (body, _room) = body(&state, request).await?;
    let (name, streamed) = ollama::read_named(&body)?;
    may_manage(&state)?;
    if !owner.sees(&name) {
        let message = "this key may ask some models alone, and this is none of them";
        return Err(Refusal::new(Kind::Forbidden, message).at("model"));
    }
    // A fetch takes a place among the answers for as long as it goes on.
    let permit = place(&state, 1)?;
    let provider = Arc::clone(provider(&state)?);
    let success = || ollama::write_progress("success", None, None);
    if !streamed {
        let (waits, _waiting) = oneshot::channel::<()>();
        blocking(move || {
            let _place = permit;
            provider.fetch(&name, &mut |_, _, _| going_on(waits.is_closed()))
        })
        .await?;
        return Ok(json(StatusCode::OK, success()));
    }
    let (sender, lines) = channel(LINES);
    tokio::task::spawn_blocking(move || {
        let outcome = provider.fetch(&name, &mut |status, done, total| {
            tell(&sender, ollama::write_progress(status, done, total))
        });
        let last = match outcome {
            Ok(()) => success(),
            Err(fault) => ollama::line(&Dialect::Ollama.write_error(Kind::of(&fault), &fault, "")),
        };
        drop(permit);
        // Who went away hears nothing.
        let _ = sender.blocking_send(last);
    });
    let frames = stream::unfold(lines, async |mut lines| {
        let line = lines.recv().await?;
        Some((Ok::<Bytes, Infallible>(Bytes::from(line)), lines))
    });
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::from_stream(frames)).into_response())
}

fn tell(sender: &Sender<String>, line: String) -> ControlFlow<()> {
    let _ = sender.try_send(line);
    going_on(sender.is_closed())
}

/// Who went away needs no more.
fn going_on(gone: bool) -> ControlFlow<()> {
    if gone { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}
