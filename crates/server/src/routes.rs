//! The routes. A handler reads bytes with the wire format's functions, asks the provider and
//! writes bytes; there is nothing else in it. OpenAI's and the server's own are here, those of
//! other protocols in files of their own.

mod adapters;
mod anthropic;
mod batches;
mod decisions;
mod files;
mod llama_cpp;
mod ollama;
pub(crate) mod reading;
mod responses;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Extension, Path, Request, State as Shared};
use axum::http::{Method, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use ingle_gateway::{ModelCard, Provider, Standing};
use ingle_protocol::wire::openai::{self, Format, ModelLine};
use ingle_protocol::wire::{self, Ask, Dialect, Kind};
use ingle_protocol::{Fault, Format as Spoken, Verbatim};
use serde_json::json;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::answer::{Admitted, Answer, stamp};
use crate::front::{self, REQUEST_ID};
use crate::keys::Owner;
use crate::places::Place;
use crate::refusal::{Refusal, json as json_response};
use crate::traces::Traced;
use crate::{Config, State, Stop};

type Outcome = Result<Response, Refusal>;

/// All routes of a server with this state.
pub fn router(state: Arc<State>) -> Router {
    let chat = |state, request| passable(Spoken::Chat, chat_request, state, request);
    let completions = |state, request| generate(completion_request, state, request);
    Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/v1/completions", post(completions))
        .route("/v1/models", get(models))
        .route("/v1/models/{*id}", get(model).post(manage))
        .route("/v1/tokenize", post(tokenize))
        .route("/v1/detokenize", post(detokenize))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(openapi))
        .merge(files::routes())
        .merge(batches::routes())
        .merge(adapters::routes())
        .merge(anthropic::routes())
        .merge(decisions::routes())
        .merge(llama_cpp::routes())
        .merge(ollama::routes())
        .merge(reading::routes())
        .merge(responses::routes())
        .fallback(async || Refusal::new(Kind::NoRoute, "there is no such path; see /v1/models"))
        .method_not_allowed_fallback(async || {
            Refusal::new(Kind::Method, "this path does not know this method")
        })
        .layer(middleware::from_fn_with_state(Arc::clone(&state), front::pass))
        // Outside of the keys' check: a browser sends none with its preflight.
        .layer(cors(Arc::clone(&state)))
        .with_state(state)
}

/// A page may call that comes from one of the origins that hold now.
fn cors(state: Arc<State>) -> CorsLayer {
    let known = AllowOrigin::predicate(move |origin, _| {
        state.config().cors_origins.iter().any(|known| known.as_bytes() == origin.as_bytes())
    });
    CorsLayer::new()
        .allow_origin(known)
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([REQUEST_ID.clone(), header::RETRY_AFTER, reading::RECEIPT.clone()])
}

pub(crate) fn chat_request(body: &[u8]) -> Result<openai::Asked, Fault> {
    openai::read_request(Format::Chat, body)
}

pub(crate) use reading::embeddings_request;

pub(crate) fn completion_request(body: &[u8]) -> Result<openai::Asked, Fault> {
    openai::read_request(Format::Completions, body)
}

/// Answers a request, in whatever format `read` reads.
async fn generate<A: Ask>(
    read: fn(&[u8]) -> Result<A, Fault>,
    Shared(state): Shared<Arc<State>>,
    request: Request,
) -> Outcome {
    let (owner, asked) = taken(read, &state, request).await?;
    answer(state, owner, asked).await
}

/// The same, for a format that providers elsewhere speak too: one of them may get the request as
/// it came.
async fn passable<A: Ask>(
    format: Spoken,
    read: fn(&[u8]) -> Result<A, Fault>,
    Shared(state): Shared<Arc<State>>,
    request: Request,
) -> Outcome {
    let owner = Owner::of(&request)?;
    let (body, _room) = body(&state, request).await?;
    let asked = read(&body)?;
    let alone = asked.requests().len() == 1 && asked.choices() == 1;
    let owner = if alone { passing(&state, &owner, format, body) } else { None }.unwrap_or(owner);
    answer(state, owner, asked).await
}

/// Who asks, with the request's own bytes, where a provider may want them.
fn passing(state: &State, owner: &Owner, format: Spoken, body: Bytes) -> Option<Owner> {
    state.slot.provider().filter(|provider| provider.wanted().verbatim)?;
    let body = String::from_utf8(body.into()).ok()?;
    Some(owner.passing(Verbatim { format, body }))
}

/// Who asks, and what.
async fn taken<A>(
    read: impl FnOnce(&[u8]) -> Result<A, Fault>,
    state: &State,
    request: Request,
) -> Result<(Owner, A), Refusal> {
    let owner = Owner::of(&request)?;
    let (body, _room) = body(state, request).await?;
    Ok((owner, read(&body)?))
}

/// Answers what was read.
async fn answer(state: Arc<State>, owner: Owner, asked: impl Ask) -> Outcome {
    let streamed = asked.streamed();
    let admit = |asked: &dyn Ask, context| admit(&state, &owner, asked, context);
    let answer = begin(&state, &owner, Box::new(asked), admit).await?;
    answer.respond(streamed).await
}

/// What somebody who waits for it needs: places for its choices, and tokens that its key may use.
fn admit(
    state: &State,
    owner: &Owner,
    asked: &dyn Ask,
    context: usize,
) -> Result<Admitted, Refusal> {
    let place = place(state, choices(state, asked)?)?;
    let tokens = Some(owner.reserve(asked, context)?);
    Ok(Admitted { place, tokens, owner: owner.clone(), waited_for: true })
}

/// Begins to answer what was read; `admit` takes what it needs once it is known whose it is and
/// what model, of how much context, is to answer.
pub(crate) async fn begin(
    state: &Arc<State>,
    owner: &Owner,
    mut asked: Box<dyn Ask>,
    admit: impl FnOnce(&dyn Ask, usize) -> Result<Admitted, Refusal>,
) -> Result<Answer, Refusal> {
    own(&state.config(), asked.requests_mut(), owner)?;
    let provider = Arc::clone(provider(state)?);
    let card = writer(card(owner, &provider, &asked.requests()[0].model).await?)?;
    let admitted = admit(&*asked, card.context_tokens)?;
    let state = Arc::clone(state);
    let (stamp, traced) = (stamp(&card.name), Traced::served());
    traced.asked(asked.requests(), asked.choices(), &card.name, &stamp.id);
    let here = begins_at_once(&*provider, &card, &*asked);
    let start = move || Answer::start(state, &*provider, stamp, &*asked, &card, admitted);
    Ok(starting(here, start).await?.traced(traced))
}

/// Choices that are begun on the thread which asks for them, at most.
const AT_ONCE: usize = 4;

/// Whether a request begins so soon that it need not leave its thread.
pub(crate) fn begins_at_once(provider: &dyn Provider, card: &ModelCard, asked: &dyn Ask) -> bool {
    let requests = asked.requests();
    requests.len() * asked.choices() as usize <= AT_ONCE
        && !requests.iter().any(|request| provider.lingers(&card.name, request))
}

/// Begins an answer: here, where that is soon done, and else off the async threads, since encoding
/// a long prompt takes milliseconds. If the caller goes away meanwhile, the answer is dropped as
/// soon as it is there.
pub(crate) async fn starting<T: Send + 'static>(
    here: bool,
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Refusal> {
    if !here {
        return blocking(work).await;
    }
    // What the work holds is dropped as it unwinds, and is nobody else's.
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(outcome) => Ok(outcome?),
        Err(_) => Err(bug()),
    }
}

fn bug() -> Refusal {
    Fault::ours("a bug stopped this request; the server goes on").into()
}

/// Runs what may take a while off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Refusal> {
    match spawn_blocking(work).await {
        Ok(outcome) => Ok(outcome?),
        Err(_) => Err(bug()),
    }
}

/// Refuses a model that reads and does not write.
pub(crate) fn writer(card: ModelCard) -> Result<ModelCard, Refusal> {
    if card.reads.is_none() {
        return Ok(card);
    }
    let message = format!(
        "`{}` reads texts and writes none: ask it at /v1/embeddings, /v1/rerank or /classify, or \
         ask a model that writes",
        card.name
    );
    Err(Fault::caller(message).at("model").into())
}

/// Puts a request on its owner's account.
fn own(
    config: &Config,
    requests: &mut [ingle_protocol::Request],
    owner: &Owner,
) -> Result<(), Fault> {
    for request in requests {
        may_pass(config, owner, request.priority)?;
        request.owner = owner.number();
        request.origin = Some(owner.origin());
        if config.isolate_keys {
            // Cached prefixes may outlive the process, and then their owner must find them again.
            owner.home().clone_into(&mut request.home);
        }
    }
    Ok(())
}

/// Refuses a priority that an owner may not give. Those who share a server by keys may let others
/// pass, but not pass others, unless one's key says so: priority goes before fairness.
fn may_pass(config: &Config, owner: &Owner, priority: i32) -> Result<(), Fault> {
    let usual = if config.keys.len() > 1 { 0 } else { i32::MIN };
    let least = owner.key().and_then(|key| key.min_priority).unwrap_or(usual);
    if priority >= least {
        return Ok(());
    }
    let message = format!(
        "below {least} a request would pass those of other keys: give {least}, or more to let \
         others pass"
    );
    Err(Fault::caller(message).at("priority"))
}

/// What is left of the time that was given for several computations one after another.
fn left(given: Option<u32>, passed: Duration) -> Result<Option<u32>, Fault> {
    let Some(given) = given else { return Ok(None) };
    let passed = u32::try_from(passed.as_millis()).unwrap_or(u32::MAX);
    let message = "the time given passed before all was computed: allow more of it, or ask less";
    let late = || Fault::late(Duration::from_secs(1), message).at("timeout_ms");
    given.checked_sub(passed).filter(|left| *left > 0).map(Some).ok_or_else(late)
}

/// How many answers a request asks for, where they are not too many.
pub(crate) fn choices(state: &State, asked: &dyn Ask) -> Result<usize, Refusal> {
    let limits = &state.config().limits;
    let choices = asked.requests().len() * asked.choices() as usize;
    let most = limits.choices.min(limits.answers);
    if choices > most {
        let message = format!("prompts times 'n' are {choices} answers; at most {most} at once");
        return Err(Fault::caller(message).at("n").into());
    }
    Ok(choices)
}

/// So many of the places of all that is under way, or 429.
fn place(state: &State, count: usize) -> Result<Place, Refusal> {
    let limits = &state.config().limits;
    state.answers.take(count, limits.answers).ok_or_else(|| {
        let message = format!("{} answers are under way, the most allowed", limits.answers);
        Fault::busy(limits.retry_after, message).into()
    })
}

pub(crate) fn provider(state: &State) -> Result<&Arc<dyn Provider>, Refusal> {
    state.slot.provider().ok_or_else(|| {
        let message = "the model is still loading; /health tells how far it is";
        Fault::not_ready(state.config().limits.retry_after, message).into()
    })
}

/// Names that a refusal tells of.
const NAMES: usize = 20;

/// Whether an owner may ask a model; who may ask one may ask its adapters.
fn sees(owner: &Owner, card: &ModelCard) -> bool {
    owner.sees(&card.name) || card.parent.as_deref().is_some_and(|parent| owner.sees(parent))
}

/// The models that an owner may ask.
fn cards(owner: &Owner, provider: &dyn Provider) -> Vec<ModelCard> {
    let mut cards = provider.models();
    cards.retain(|card| sees(owner, card));
    cards
}

/// The model of that name; where none is named, the default, or the first that the owner may ask.
pub(crate) async fn card(
    owner: &Owner,
    provider: &Arc<dyn Provider>,
    name: &str,
) -> Result<ModelCard, Refusal> {
    let (asked, mut wanted) = (Arc::clone(provider), name.to_owned());
    if wanted.is_empty() {
        wanted =
            cards(owner, &**provider).first().map(|card| card.name.clone()).unwrap_or_default();
    }
    let found = match provider.known(&wanted) {
        Some(found) => found,
        None => blocking(move || asked.find(&wanted)).await?,
    };
    found.filter(|card| sees(owner, card)).ok_or_else(|| {
        let cards = cards(owner, &**provider);
        let mut known: Vec<&str> =
            cards.iter().take(NAMES).map(|card| card.name.as_str()).collect();
        if cards.len() > NAMES {
            known.push("and more at /v1/models");
        }
        let message = format!("there is no model {name:?} here; there is: {}", known.join(", "));
        Refusal::new(Kind::NoModel, message).at("model")
    })
}

/// A JSON request's body, within its bounds of size and time, and the room that it takes until it
/// has been read.
async fn body(state: &State, request: Request<Body>) -> Result<(Bytes, Place), Refusal> {
    let kind = request.headers().get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    // Also what keeps a web page from calling without a preflight.
    if !kind.eq_ignore_ascii_case("application/json") {
        let message = "the body must be JSON; send 'Content-Type: application/json'";
        return Err(Refusal::new(Kind::MediaType, message));
    }
    let limits = &state.config().limits;
    let room = room(state, request.body().size_hint().upper())?;
    let body = Limited::new(request.into_body(), limits.body_bytes);
    match timeout(limits.body_read, body.collect()).await {
        Ok(Ok(body)) => Ok((body.to_bytes(), room)),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let message = format!("the body is longer than {} bytes", limits.body_bytes);
            Err(Refusal::new(Kind::TooLarge, message))
        }
        Ok(Err(error)) => {
            Err(Refusal::new(Kind::Invalid, format!("the body did not arrive whole: {error}")))
        }
        Err(_) => Err(Refusal::new(Kind::Slow, "the body did not arrive in time")),
    }
}

/// Room for a body among all that are being received; who does not tell its size takes the most.
fn room(state: &State, size: Option<u64>) -> Result<Place, Refusal> {
    let limits = &state.config().limits;
    let most = limits.body_bytes;
    let size = size.and_then(|size| usize::try_from(size).ok()).unwrap_or(most).min(most);
    state.bodies.take(size, limits.all_bodies_bytes).ok_or_else(|| {
        let message = "too many large requests are arriving at once: try again later";
        Fault::busy(limits.retry_after, message).into()
    })
}

fn line(card: &ModelCard) -> ModelLine<'_> {
    ModelLine {
        name: &card.name,
        created_s: card.created_s,
        context_tokens: card.context_tokens,
        architecture: &card.architecture,
        chat: card.chat,
        reads: card.reads.as_ref(),
        status: card.standing.name(),
        progress: card.progress,
        memory_bytes: card.memory_bytes,
        requests: card.requests,
        error: card.error.as_deref(),
        parent: card.parent.as_deref(),
    }
}

/// Two protocols have their models here; which one is asked in is told by a header.
async fn models(
    Shared(state): Shared<Arc<State>>,
    Extension(owner): Extension<Owner>,
    dialect: Extension<Dialect>,
) -> Outcome {
    let cards = cards(&owner, &**provider(&state)?);
    let lines: Vec<ModelLine<'_>> = cards.iter().map(line).collect();
    let text = match *dialect {
        Dialect::Anthropic => wire::anthropic::write_models(&lines),
        _ => openai::write_models(&lines),
    };
    Ok(json_response(StatusCode::OK, text))
}

async fn model(
    Shared(state): Shared<Arc<State>>,
    Extension(owner): Extension<Owner>,
    dialect: Extension<Dialect>,
    Path(id): Path<String>,
) -> Outcome {
    let card = card(&owner, provider(&state)?, &id).await?;
    let text = match *dialect {
        Dialect::Anthropic => wire::anthropic::write_model(&line(&card)),
        _ => openai::write_model(&line(&card)),
    };
    Ok(json_response(StatusCode::OK, text))
}

/// `NAME/load` and `NAME/unload`: begins what is asked and tells where the model stands then. A
/// name may hold slashes, so the router cannot part them.
async fn manage(
    Shared(state): Shared<Arc<State>>,
    Extension(owner): Extension<Owner>,
    Path(id): Path<String>,
    request: Request,
) -> Outcome {
    let act: fn(&dyn Provider, &str) -> Result<(), Fault>;
    let name = match id.rsplit_once('/') {
        Some((name, "load")) => {
            act = |provider, name| provider.load(name, None);
            name
        }
        Some((name, "unload")) => {
            act = |provider, name| provider.unload(name);
            name
        }
        _ => {
            let message = "a model is loaded at /v1/models/NAME/load and unloaded at …/unload";
            let allow = [(header::ALLOW, "GET, HEAD")];
            return Ok((allow, Refusal::new(Kind::Method, message)).into_response());
        }
    };
    // Nothing is told in it, but a page that may not call could send a POST without its type.
    let (body, _room) = body(&state, request).await?;
    if !body.is_empty() && body.trim_ascii() != b"{}" {
        return Err(Refusal::new(Kind::Invalid, "nothing is to be told here: send no body, or {}"));
    }
    let provider = provider(&state)?;
    let name = card(&owner, provider, name).await?.name;
    act(&**provider, &name)?;
    let card = card(&owner, provider, &name).await?;
    Ok(json_response(StatusCode::ACCEPTED, openai::write_model(&line(&card))))
}

async fn tokenize(Shared(state): Shared<Arc<State>>, request: Request) -> Outcome {
    let owner = Owner::of(&request)?;
    let (body, _room) = body(&state, request).await?;
    tokens_of(&state, &owner, &body).await
}

async fn tokens_of(state: &State, owner: &Owner, body: &[u8]) -> Outcome {
    let ask = openai::read_tokenize(body)?;
    let provider = Arc::clone(provider(state)?);
    let card = card(owner, &provider, &ask.model).await?;
    let name = card.name;
    let tokens = blocking(move || provider.tokenize(&name, &ask.text, ask.special)).await?;
    Ok(json_response(StatusCode::OK, openai::write_tokens(&tokens, card.context_tokens)))
}

async fn detokenize(Shared(state): Shared<Arc<State>>, request: Request) -> Outcome {
    let owner = Owner::of(&request)?;
    let (body, _room) = body(&state, request).await?;
    let text = text_of(&state, &owner, &body).await?;
    Ok(json_response(StatusCode::OK, openai::write_text(&text)))
}

async fn text_of(state: &State, owner: &Owner, body: &[u8]) -> Result<String, Refusal> {
    let ask = openai::read_detokenize(body)?;
    let provider = Arc::clone(provider(state)?);
    let name = card(owner, &provider, &ask.model).await?.name;
    blocking(move || provider.detokenize(&name, &ask.tokens)).await
}

/// A model for those who hold no key: its name, and how far it is where something is under way.
fn stand(card: &ModelCard) -> serde_json::Value {
    let mut out = json!({ "id": card.name, "status": card.standing.name() });
    if matches!(card.standing, Standing::Fetching | Standing::Loading) {
        out["progress"] = json!(card.progress.map(|share| f64::from((share * 1e3).round()) / 1e3));
    }
    out
}

async fn health(Shared(state): Shared<Arc<State>>) -> Response {
    let (status, text) = match state.slot.provider() {
        _ if *state.stop.borrow() != Stop::Run => {
            (StatusCode::SERVICE_UNAVAILABLE, json!({ "status": "stopping" }))
        }
        Some(provider) => {
            let models: Vec<_> = provider.models().iter().map(stand).collect();
            (StatusCode::OK, json!({ "status": "ok", "models": models }))
        }
        None => {
            let progress = state.slot.progress();
            let text = json!({
                "status": "loading",
                "phase": progress.phase,
                "done": progress.done,
                "total": progress.total,
            });
            (StatusCode::SERVICE_UNAVAILABLE, text)
        }
    };
    json_response(status, state.with_reloads(text).to_string())
}

async fn openapi() -> Response {
    json_response(StatusCode::OK, wire::openapi::document().to_owned())
}

async fn metrics(Shared(state): Shared<Arc<State>>) -> Response {
    let mut rows = crate::vitals::rows(&state);
    rows.extend(state.slot.provider().iter().flat_map(|provider| provider.metrics()));
    rows.extend(crate::batches::metrics(&state).await);
    let text = state.metrics.write(state.answers.taken(), &rows);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// Refuses what changes the models of this machine, unless the server was told to allow it.
fn may_manage(state: &State) -> Result<(), Refusal> {
    if state.config().manage_models {
        return Ok(());
    }
    let message = "this server's models are chosen on its command line; 'ingle serve --allow-pull' lets \
                   clients fetch, delete and load them";
    Err(Refusal::new(Kind::Forbidden, message))
}
