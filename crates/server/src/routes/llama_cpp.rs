//! llama.cpp's own routes. Two of them are vLLM's too, and take what both send.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, Request, State as Shared};
use axum::http::StatusCode;
use axum::routing::{get, post};
use ingle_gateway::Provider;
use ingle_protocol::wire::Kind;
use ingle_protocol::wire::llama_cpp::{self, Format, Gap, Props};
use ingle_protocol::wire::openai;
use ingle_protocol::{Fault, Input, Token};

use super::{Outcome, answer, blocking, body, card, cards, generate, provider, taken};
use crate::State;
use crate::keys::Owner;
use crate::refusal::{Refusal, json};

pub(super) fn routes() -> Router<Arc<State>> {
    let completion = |state, request| generate(completion_request, state, request);
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

async fn infill(Shared(state): Shared<Arc<State>>, request: Request) -> Outcome {
    let read = |body: &[u8]| llama_cpp::read_request(Format::Infill, body);
    let (owner, mut asked) = taken(read, &state, request).await?;
    let gap = asked.gap.take().unwrap_or_default();
    let provider = Arc::clone(provider(&state)?);
    let name = card(&owner, &provider, &asked.request.model).await?.name;
    let tokens = blocking(move || fill(&*provider, &name, &gap)).await?;
    let Some(tokens) = tokens else {
        let message = "this model has no tokens for filling in the middle; ask a model that was \
                       taught it";
        return Err(Refusal::new(Kind::NotBuilt, message));
    };
    asked.request.input = Input::Tokens(tokens);
    answer(state, owner, asked).await
}

/// The tokens by which models are asked to fill a gap: as their files name them, and, for files
/// that do not, as they are written.
const MARKS: [(&str, &[&str]); 3] = [
    ("tokenizer.ggml.fim_pre_token_id", &["<|fim_prefix|>", "<fim_prefix>"]),
    ("tokenizer.ggml.fim_suf_token_id", &["<|fim_suffix|>", "<fim_suffix>"]),
    ("tokenizer.ggml.fim_mid_token_id", &["<|fim_middle|>", "<fim_middle>"]),
];

/// A gap's prompt, prefix first; `None` where the model knows no gaps.
fn fill(provider: &dyn Provider, model: &str, gap: &Gap) -> Result<Option<Vec<Token>>, Fault> {
    let sheet = provider.sheet(model)?;
    let mut tokens = Vec::new();
    for ((key, spellings), text) in MARKS.iter().zip([&gap.prefix, &gap.suffix, &gap.begun]) {
        let named = sheet.metadata.iter().find(|row| row.0 == *key);
        let mut mark = named.and_then(|row| row.1.parse::<Token>().ok());
        for spelling in *spellings {
            if mark.is_none()
                && let [one] = *provider.tokenize(model, spelling, true)?
            {
                mark = Some(one);
            }
        }
        let Some(mark) = mark else { return Ok(None) };
        tokens.push(mark);
        tokens.extend(provider.tokenize(model, text, false)?);
    }
    Ok(Some(tokens))
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
