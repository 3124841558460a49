//! What is answered by models that read: embeddings, reranking, scores, classification, in all
//! protocols that have them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use axum::Router;
use axum::extract::{Extension, Request, State as Shared};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::routing::{MethodRouter, get, post};
use ingle_gateway::{ModelCard, Provider};
use ingle_protocol::wire::Stamp;
use ingle_protocol::wire::reading::{self, Asked, Format, Info};
use ingle_protocol::{Call, Encoded, Encoding, Fault, Reads, Receipt};

use super::{Outcome, blocking, card, cards, left, may_pass, place, provider, taken};
use crate::answer::{Admitted, stamp};
use crate::keys::Owner;
use crate::limits::{self, Reserved};
use crate::listen::reached;
use crate::origin::part;
use crate::places::Place;
use crate::refusal::{Refusal, json};
use crate::traces::Traced;
use crate::{State, Stop};

/// The receipt of an answer whose body is a list.
pub(super) static RECEIPT: HeaderName = HeaderName::from_static("x-ingle-receipt");

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/v1/embeddings", at(Format::Embeddings))
        .route("/v1/rerank", either())
        .route("/v1/score", at(Format::Score))
        .route("/score", at(Format::Score))
        .route("/classify", at(Format::Classify))
        .route("/pooling", at(Format::Pooling))
        .route("/v2/embed", at(Format::CohereEmbed))
        .route("/v2/rerank", at(Format::CohereRerank))
        .route("/embed", at(Format::TeiEmbed))
        .route("/embed_all", at(Format::TeiEmbedAll))
        .route("/embed_sparse", at(Format::TeiEmbedSparse))
        .route("/rerank", either())
        .route("/predict", at(Format::TeiPredict))
        .route("/similarity", at(Format::TeiSimilarity))
        .route("/info", get(info))
        .route("/embedding", at(Format::LlamaEmbedding))
        .route("/embeddings", at(Format::LlamaEmbedding))
        .route("/reranking", either())
        .route("/api/embed", at(Format::OllamaEmbed))
        .route("/api/embeddings", at(Format::OllamaEmbeddings))
}

/// A path that has one format.
fn at(format: Format) -> MethodRouter<Arc<State>> {
    post(move |state, request| {
        answer(move |body| reading::read_request(format, body), state, request)
    })
}

/// A path that two protocols have.
fn either() -> MethodRouter<Arc<State>> {
    post(move |state, request| answer(reading::read_rerank, state, request))
}

pub(crate) fn embeddings_request(body: &[u8]) -> Result<Asked, Fault> {
    reading::read_request(Format::Embeddings, body)
}

async fn answer(
    read: impl FnOnce(&[u8]) -> Result<Asked, Fault>,
    Shared(state): Shared<Arc<State>>,
    request: Request,
) -> Outcome {
    let (owner, asked) = taken(read, &state, request).await?;
    let admit = |encodings: &[Encoding]| {
        let place = place(&state, 1)?;
        let tokens = Some(owner.reserve_texts(encodings)?);
        Ok(Admitted { place, tokens, owner: owner.clone(), waited_for: true })
    };
    let answer = begin(&state, &owner, asked, admit).await?;
    let mut response = json(StatusCode::OK, answer.body);
    if let Some(receipt) = answer.receipt.and_then(|text| HeaderValue::try_from(text).ok()) {
        response.headers_mut().insert(RECEIPT.clone(), receipt);
    }
    Ok(response)
}

/// Reads what is asked for, and gives the answer; `admit` takes what it needs once it is known what
/// is to be read.
pub(crate) async fn begin(
    state: &Arc<State>,
    owner: &Owner,
    mut asked: Asked,
    admit: impl FnOnce(&[Encoding]) -> Result<Admitted, Refusal>,
) -> Result<reading::Answer, Refusal> {
    may_pass(&state.config(), owner, asked.terms.priority)?;
    asked.terms.owner = owner.number();
    asked.terms.origin = Some(owner.origin());
    let provider = Arc::clone(provider(state)?);
    let card = reader(owner, &provider, &asked.terms.model).await?;
    let reads = reads(&card)?;
    let encodings = asked.encodings(&card.name, reads)?;
    let admitted = admit(&encodings)?;
    let (stamp, traced) = (stamp(&card.name), Traced::served());
    traced.reading(&encodings, &card.name, &stamp.id);
    let under_way = UnderWay::new(state, admitted, &encodings, &stamp, traced);
    under_way.run(provider, encodings, asked, stamp).await
}

/// The model of that name; where none is named the first that reads, if any does.
async fn reader(
    owner: &Owner,
    provider: &Arc<dyn Provider>,
    name: &str,
) -> Result<ModelCard, Refusal> {
    let known = if name.is_empty() { cards(owner, &**provider) } else { Vec::new() };
    for known in known {
        // What it is stands in its file, which may not have been looked at yet.
        let unread = known.architecture.is_empty();
        let known = if unread { card(owner, provider, &known.name).await } else { Ok(known) };
        if let Ok(known) = known
            && known.reads.is_some()
        {
            return Ok(known);
        }
    }
    card(owner, provider, name).await
}

fn reads(card: &ModelCard) -> Result<&Reads, Refusal> {
    let writes = || {
        let message = format!(
            "`{}` writes texts and does not read them so: ask a model that makes vectors or scores; \
             /v1/models tells which do",
            card.name
        );
        Fault::caller(message).at("model").into()
    };
    card.reads.as_ref().ok_or_else(writes)
}

/// Texts that are being read. Dropped before their end, with whoever waits for them, they are read
/// no further.
struct UnderWay {
    state: Arc<State>,
    owner: Owner,
    /// Kept by the work itself, for as long as it goes on.
    place: Option<Place>,
    tokens: Option<Reserved>,
    /// About how many tokens there are.
    guess: u64,
    traced: Traced,
    began: Instant,
    ended: bool,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if !self.ended {
            self.state.metrics.abandoned.fetch_add(1, Ordering::Relaxed);
            self.traced.abandoned();
            self.used(self.guess);
        }
    }
}

impl UnderWay {
    fn new(
        state: &Arc<State>,
        admitted: Admitted,
        encodings: &[Encoding],
        stamp: &Stamp,
        traced: Traced,
    ) -> Self {
        let Admitted { owner, place, tokens, .. } = admitted;
        if let Some(visit) = owner.visit() {
            visit.tell(|told| told.model = Some(stamp.model.clone()));
        }
        let (state, place, guess) = (Arc::clone(state), Some(place), limits::texts(encodings));
        let (began, ended) = (Instant::now(), false);
        Self { state, owner, place, tokens, guess, traced, began, ended }
    }

    /// So many tokens were read.
    fn used(&mut self, prompt: u64) {
        if let Some(tokens) = &mut self.tokens {
            tokens.used = prompt;
        }
        if let Some(visit) = self.owner.visit() {
            visit.tell(|told| told.prompt_tokens += prompt);
        }
    }

    async fn run(
        mut self,
        provider: Arc<dyn Provider>,
        encodings: Vec<Encoding>,
        asked: Asked,
        stamp: Stamp,
    ) -> Result<reading::Answer, Refusal> {
        let (call, cancelled) = Call::new();
        let (began, place) = (self.began, self.place.take());
        let work = move || {
            let _place = place;
            let read = |(at, mut encoding): (u32, Encoding)| {
                encoding.origin = encoding.origin.map(|origin| part(&origin, at));
                encoding.timeout_ms = left(encoding.timeout_ms, began.elapsed())?;
                provider.encode(&encoding, Arc::clone(&cancelled))
            };
            let read = (0..).zip(encodings).map(read).collect::<Result<Vec<Encoded>, Fault>>()?;
            let total = Receipt::total(read.iter().map(|encoded| &encoded.receipt));
            Ok((asked.write_answer(&stamp, &read)?, total))
        };
        let mut stop = self.state.stop.subscribe();
        let outcome = tokio::select! {
            biased;
            outcome = blocking(work) => outcome,
            () = reached(&mut stop, Stop::Now) => {
                let after = self.state.config().limits.retry_after;
                let message = "the server is stopping; the answer was cut off";
                Err(Fault::not_ready(after, message).into())
            }
        };
        drop(call);
        self.ended = true;
        let (answer, total) = outcome?;
        if let Some(total) = total {
            self.used(total.usage.prompt_tokens.into());
            let owner = self.owner.name();
            self.state.metrics.done(owner, &total, self.began.elapsed());
            self.traced.done(0, &total, Instant::now());
        }
        Ok(answer)
    }
}

async fn info(Shared(state): Shared<Arc<State>>, Extension(owner): Extension<Owner>) -> Outcome {
    let card = reader(&owner, provider(&state)?, "").await?;
    let info = Info {
        model: &card.name,
        sha256: &card.sha256,
        reads: card.reads.as_ref(),
        requests: state.config().limits.answers,
    };
    Ok(json(StatusCode::OK, reading::write_info(&info)))
}
