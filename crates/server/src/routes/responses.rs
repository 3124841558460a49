//! OpenAI's responses: asked for, fetched again, cancelled, deleted. What a request builds on is
//! looked up here; how responses are computed and kept is `crate::responses`'.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State as Shared};
use axum::http::{StatusCode, Uri};
use axum::routing::{get, post};
use ingle_protocol::wire::responses::{self, Asked, Open};
use ingle_protocol::wire::{Ask, Kind};
use ingle_protocol::{Fault, Format, Input, Origin};
use ingle_records::ResponseRecord;

use super::{
    Outcome, admit, answer, begins_at_once, blocking, body, card, own, passing, provider, starting,
    taken, writer,
};
use crate::State;
use crate::answer::{Answer, stamp};
use crate::keys::Owner;
use crate::origin::{before, kept_all};
use crate::refusal::{Refusal, json};
use crate::responses::{Live, Reader, events, no_previous, past, spawn};
use crate::traces::Traced;

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/v1/responses", post(create))
        .route("/v1/responses/input_tokens", post(count))
        .route("/v1/responses/compact", post(compact))
        .route("/v1/responses/{id}", get(retrieve).delete(remove))
        .route("/v1/responses/{id}/cancel", post(cancel))
        .route("/v1/responses/{id}/input_items", get(input_items))
}

/// The account of who asks, and what the URL asks for.
fn asks(request: &Request) -> Result<(String, Vec<(String, String)>), Refusal> {
    Ok((Owner::of(request)?.home().to_owned(), query(request.uri())?))
}

fn query(uri: &Uri) -> Result<Vec<(String, String)>, Refusal> {
    let wrong = |error| Fault::caller(format!("the URL's query cannot be read: {error}"));
    let Query(pairs) = Query::try_from_uri(uri).map_err(wrong)?;
    Ok(pairs)
}

async fn create(Shared(state): Shared<Arc<State>>, request: Request) -> Outcome {
    let owner = Owner::of(&request)?;
    let (body, room) = body(&state, request).await?;
    let open = responses::read_open(&body)?;
    let account = owner.home().to_owned();
    let alone = stands_alone(&open);
    let (mut asked, (before, unknown)) = close(&state, &account, open).await?;
    asked.set_store(keeps(&state, &asked)?);
    if alone
        && asked.store == Some(false)
        && !asked.background
        && let Some(owner) = passing(&state, &owner, Format::Responses, body)
    {
        return answer(state, owner, asked).await;
    }
    drop(room);
    let owner = owner.building_on(before, unknown);
    own(&state.config(), asked.requests_mut(), &owner)?;
    let provider = Arc::clone(provider(&state)?);
    let card = writer(card(&owner, &provider, &asked.request.model).await?)?;
    let admitted = admit(&state, &owner, &asked, card.context_tokens)?;
    let (stamp, traced) = (stamp(&card.name), Traced::served());
    traced.asked(asked.requests(), asked.choices(), &card.name, &stamp.id);
    let record = ResponseRecord {
        id: responses::id_of(&stamp),
        owner: account.clone(),
        previous: asked.previous.clone(),
        created_s: stamp.created_ms / 1000,
        input: asked.input_items(&stamp.id),
        origin: Some(kept_all(&owner.origin())),
        ..ResponseRecord::default()
    };
    let live = Live::new(account, record.id.clone(), record.input.clone());
    let (streamed, background) = (asked.stream, asked.background);
    if background {
        live.tell(&asked.opening(&stamp));
    }
    let record = (asked.store == Some(true)).then_some(record);
    // One way for both: a whole response is its last event's.
    asked.stream = true;
    let begun = record.clone().filter(|_| background).map(|record| live.begun(record));
    let (begun, here) = (begun.transpose()?, Arc::clone(&state));
    let at_once = begun.is_none() && begins_at_once(&*provider, &card, &asked);
    let start = move || {
        let answer = Answer::start(Arc::clone(&here), &*provider, stamp, &asked, &card, admitted)?;
        begun.map_or(Ok(()), |record| here.responses.begin(record))?;
        Ok(answer)
    };
    let answer = starting(at_once, start).await?.traced(traced);
    let task = spawn(Arc::clone(&state), answer, Arc::clone(&live), record, background);
    let reader = Reader::new(Arc::clone(&live), 0, (!background).then_some(task));
    match (streamed, background) {
        (true, _) => reader.stream(state.config().limits.keep_alive).await,
        (false, false) => reader.whole().await,
        (false, true) => Ok(json(StatusCode::OK, live.snapshot()?.response)),
    }
}

/// Whether a request builds on nothing that this server keeps. If nothing of it is to be kept
/// either, a provider that speaks the format may get it as it came.
fn stands_alone(open: &Open) -> bool {
    open.previous().is_none() && open.references().is_empty()
}

/// Where what a request builds on came from, and whether of some of it nobody knows.
type Before = (Vec<Origin>, bool);

/// The request with what it builds on.
async fn close(state: &Arc<State>, account: &str, open: Open) -> Result<(Asked, Before), Refusal> {
    if stands_alone(&open) {
        return Ok((open.close(&[], &[])?, Before::default()));
    }
    let (state, account) = (Arc::clone(state), account.to_owned());
    let work = move || Ok(close_blocking(&state, &account, open));
    blocking(work).await?
}

fn close_blocking(state: &State, account: &str, open: Open) -> Result<(Asked, Before), Refusal> {
    let store = state.responses.store();
    let chain = match (open.previous(), store) {
        (None, _) => Vec::new(),
        (Some(id), Some(store)) => store.chain(account, id)?,
        (Some(id), None) => return Err(no_previous(id)),
    };
    let named = state.responses.named(account, &open.references())?;
    let from = before(chain.iter().chain(&named).map(|record| record.origin.as_deref()));
    let pasts = |all: Vec<ResponseRecord>| all.into_iter().map(past).collect::<Vec<_>>();
    Ok((open.close(&pasts(chain), &pasts(named))?, from))
}

/// Whether the response is to be kept. Who asks for it where nothing is kept is told so.
fn keeps(state: &State, asked: &Asked) -> Result<bool, Refusal> {
    let wanted = asked.store.unwrap_or(true);
    if !wanted || state.responses.store().is_some() {
        return Ok(wanted);
    }
    let message = "this server keeps no responses: whoever runs it can allow that";
    match (asked.background, asked.store) {
        (true, _) => Err(Fault::caller(message).at("background").into()),
        (_, Some(true)) => Err(Fault::caller(message).at("store").into()),
        _ => Ok(false),
    }
}

async fn count(Shared(state): Shared<Arc<State>>, request: Request) -> Outcome {
    let (owner, open) = taken(responses::read_count, &state, request).await?;
    let (asked, _) = close(&state, owner.home(), open).await?;
    let provider = Arc::clone(provider(&state)?);
    let name = card(&owner, &provider, &asked.request.model).await?.name;
    let tokens = blocking(move || {
        let Input::Chat(chat) = &asked.request.input else {
            return Err(Fault::ours("a response's request is no conversation; this is a bug"));
        };
        let text = provider.render(&name, chat)?;
        provider.tokenize(&name, &text, true)
    });
    Ok(json(StatusCode::OK, responses::write_count(tokens.await?.len())))
}

async fn compact() -> Outcome {
    let message = "nothing is summarised here; begin a new conversation with what matters";
    Err(Refusal::new(Kind::NotBuilt, message))
}

/// A response that was kept and that nobody computes here.
async fn kept(state: &Arc<State>, account: &str, id: &str) -> Result<ResponseRecord, Refusal> {
    let (here, of, wanted) = (Arc::clone(state), account.to_owned(), id.to_owned());
    blocking(move || here.responses.find(&of, &wanted)).await?.ok_or_else(|| unknown(id))
}

fn unknown(id: &str) -> Refusal {
    let id: String = id.chars().take(80).collect();
    let message = format!(
        "there is no response {id:?}: it was deleted, never kept, or is another key's, or newer \
         ones took its room"
    );
    Refusal::new(Kind::NoRecord, message).at("id")
}

async fn retrieve(
    Shared(state): Shared<Arc<State>>,
    Path(id): Path<String>,
    request: Request,
) -> Outcome {
    let (account, query) = asks(&request)?;
    let wanted = responses::read_retrieve(&query)?;
    let after = wanted.starting_after.map_or(0, |number| number.saturating_add(1));
    let after = usize::try_from(after).unwrap_or(usize::MAX);
    if let Some(live) = state.responses.live(&account, &id) {
        if wanted.stream {
            return Reader::new(live, after, None).stream(state.config().limits.keep_alive).await;
        }
        return Ok(json(StatusCode::OK, live.snapshot()?.response));
    }
    let record = kept(&state, &account, &id).await?;
    if !wanted.stream {
        return Ok(json(StatusCode::OK, record.response));
    }
    if record.events.is_empty() {
        let message = "only a response that was asked for in the background, and has ended or \
                       runs in this server, can be streamed again";
        return Err(Fault::caller(message).at("stream").into());
    }
    let rest: String = responses::frames(&record.events).skip(after).collect();
    Ok(events(Body::from(rest)))
}

async fn remove(
    Shared(state): Shared<Arc<State>>,
    Path(id): Path<String>,
    request: Request,
) -> Outcome {
    let (account, _) = asks(&request)?;
    if let Some(live) = state.responses.live(&account, &id) {
        live.cancel();
        // Whatever became of it: it goes.
        let _ = live.ended().await;
    }
    let (here, wanted) = (Arc::clone(&state), id.clone());
    let delete =
        move || here.responses.store().map_or(Ok(false), |store| store.delete(&account, &wanted));
    if !blocking(delete).await? {
        return Err(unknown(&id));
    }
    Ok(json(StatusCode::OK, responses::write_deleted(&id)))
}

/// Ends what runs in the background. What has ended stays as it is.
async fn cancel(
    Shared(state): Shared<Arc<State>>,
    Path(id): Path<String>,
    request: Request,
) -> Outcome {
    let (account, _) = asks(&request)?;
    if let Some(live) = state.responses.live(&account, &id) {
        live.cancel();
        return Ok(json(StatusCode::OK, live.ended().await?.response));
    }
    let record = kept(&state, &account, &id).await?;
    if record.server.is_some() {
        let message = "another server on this machine computes it; cancel it there";
        return Err(Fault::caller(message).at("id").into());
    }
    if record.events.is_empty() {
        let message = "only a response that was asked for in the background can be cancelled; \
                       close the connection of any other";
        return Err(Fault::caller(message).at("id").into());
    }
    Ok(json(StatusCode::OK, record.response))
}

async fn input_items(
    Shared(state): Shared<Arc<State>>,
    Path(id): Path<String>,
    request: Request,
) -> Outcome {
    let (account, query) = asks(&request)?;
    let listing = responses::read_listing(&query)?;
    let input = match state.responses.live(&account, &id) {
        Some(live) => live.input.clone(),
        None => kept(&state, &account, &id).await?.input,
    };
    Ok(json(StatusCode::OK, responses::write_items(&input, &listing)?))
}
