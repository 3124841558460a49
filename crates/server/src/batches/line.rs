//! One line of a batch: read from the input, answered the way every request is, written as a line
//! of the output. What the engine is too busy for, or not ready for, is tried again, so often.

use std::io::{Read, Seek, SeekFrom};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use ingle_gateway::Standing;
use ingle_protocol::wire::{Ask, openai, reading};
use ingle_protocol::{Encoding, Fault, Origin};
use ingle_records::{BatchRecord, LineSpan, Outcome, Records};
use tokio::time::sleep;

use super::{Asked, ENDPOINTS};
use crate::answer::Admitted;
use crate::front::fresh_id;
use crate::keys::Owner;
use crate::origin::now_ms;
use crate::places::Place;
use crate::records::failed;
use crate::refusal::Refusal;
use crate::routes::{begin, blocking, card, choices, provider};
use crate::{State, Stop, routes};

/// Lines of batches let all others pass; among themselves their own priorities count.
const PRIORITY: i32 = 1000;
/// How often a line is tried that the engine has no room for: some minutes, all in all.
const TRIES: u32 = 16;
/// The longest wait between two tries.
const WAIT_MOST: Duration = Duration::from_secs(30);
/// How often a line that waits looks again.
const LOOK: Duration = Duration::from_millis(20);
/// How long a line whose model is not in memory waits for others to be quiet, in looks.
const QUIET_LOOKS: u32 = 3000;

/// A line's outcome, and its line of the output.
pub(super) async fn answer(
    state: &Arc<State>,
    records: &Arc<Records>,
    batch: &BatchRecord,
    span: &LineSpan,
) -> (Outcome, String) {
    let (id, request_id) = (fresh_id(), fresh_id());
    let asked = AssertUnwindSafe(try_often(state, records, batch, span)).catch_unwind().await;
    let bug = || Fault::ours("a bug stopped this line; the others go on").into();
    let (outcome, status, body) = match asked.unwrap_or_else(|_| Err(bug())) {
        Ok(body) => (Outcome::Answered, 200, body),
        Err(refusal) => {
            // Whoever ends this process ends no line: it is answered by the next one.
            if *state.stop.borrow() != Stop::Run {
                std::future::pending::<()>().await;
            }
            (Outcome::Failed, refusal.status(), refusal.text(&request_id))
        }
    };
    let line = openai::write_batch_response(&id, &span.custom_id, &request_id, status, &body);
    (outcome, line)
}

async fn try_often(
    state: &Arc<State>,
    records: &Arc<Records>,
    batch: &BatchRecord,
    span: &LineSpan,
) -> Result<String, Refusal> {
    while provider(state).is_err() {
        sleep(LOOK).await;
    }
    let body = read(records, batch, span).await?;
    for tried in 1.. {
        let refusal = match once(state, batch, &body).await {
            Ok(body) => return Ok(body),
            Err(refusal) => refusal,
        };
        match refusal.wait() {
            Some(after) if tried < TRIES && *state.stop.borrow() == Stop::Run => {
                let doubled = Duration::from_millis(100) * (1 << tried.min(10));
                sleep(after.max(doubled).min(WAIT_MOST)).await;
            }
            _ => return Err(refusal),
        }
    }
    Err(Fault::ours("a line was tried too often; this is a bug").into())
}

/// The request of a line, as JSON.
async fn read(
    records: &Arc<Records>,
    batch: &BatchRecord,
    span: &LineSpan,
) -> Result<String, Refusal> {
    let (records, asked, span) = (Arc::clone(records), batch.asked.clone(), span.clone());
    blocking(move || {
        let mut file = records.open_file(&asked.input_file).map_err(failed)?;
        let mut text = Vec::new();
        let read = file
            .seek(SeekFrom::Start(span.start))
            .and_then(|_| file.take(span.bytes).read_to_end(&mut text));
        read.map_err(|_| Fault::ours("the input file cannot be read on this server"))?;
        let line = openai::read_batch_line(text.trim_ascii(), &asked.endpoint);
        let line = line.ok().filter(|line| line.custom_id == span.custom_id);
        let changed = || Fault::ours("the input file has changed since the batch was begun");
        line.map(|line| line.body).ok_or_else(changed)
    })
    .await
}

/// Asks once.
async fn once(state: &Arc<State>, batch: &BatchRecord, body: &str) -> Result<String, Refusal> {
    let owner = owner(state, batch).await;
    let row = ENDPOINTS.iter().find(|row| row.0 == batch.asked.endpoint);
    let read = row.ok_or_else(|| Fault::caller("this server knows no such endpoint"))?.1;
    match read(body.as_bytes())? {
        Asked::Write(asked) => write(state, owner, asked).await,
        Asked::Read(asked) => read_texts(state, owner, *asked).await,
    }
}

async fn write(
    state: &Arc<State>,
    owner: Owner,
    mut asked: Box<dyn Ask>,
) -> Result<String, Refusal> {
    if asked.streamed() {
        return Err(Fault::caller("a batch's answers are whole: leave 'stream' out")
            .at("stream")
            .into());
    }
    for request in asked.requests_mut() {
        request.priority = behind(request.priority);
    }
    let place = place(state, choices(state, &*asked)?).await;
    let model = asked.requests().first().map(|request| request.model.clone()).unwrap_or_default();
    be_quiet(state, &owner, &model).await?;
    let admit = |_: &dyn Ask, _| Ok(admitted(place, &owner));
    begin(state, &owner, asked, admit).await?.all().await
}

async fn read_texts(
    state: &Arc<State>,
    owner: Owner,
    mut asked: reading::Asked,
) -> Result<String, Refusal> {
    asked.terms.priority = behind(asked.terms.priority);
    let place = place(state, 1).await;
    be_quiet(state, &owner, &asked.terms.model).await?;
    let admit = |_: &[Encoding]| Ok(admitted(place, &owner));
    Ok(routes::reading::begin(state, &owner, asked, admit).await?.body)
}

/// A priority that lets all others pass.
fn behind(priority: i32) -> i32 {
    priority.saturating_add(PRIORITY).max(1)
}

/// Nobody waits for a line, and no key's tokens count.
fn admitted(place: Place, owner: &Owner) -> Admitted {
    Admitted { place, tokens: None, owner: owner.clone(), waited_for: false }
}

/// On whose account, and from where: a key that began a batch and is gone may come back, until its
/// time is over. Each try is a call of its own.
async fn owner(state: &State, batch: &BatchRecord) -> Owner {
    loop {
        match super::owner(state, batch) {
            Some(owner) => {
                let (id, at_ms) = (fresh_id(), now_ms());
                let origin = Origin { id, at_ms, ..Origin::clone(&owner.origin()) };
                return owner.on(None, origin);
            }
            None => sleep(super::TICK).await,
        }
    }
}

/// Places among the choices of batches: fewer where others are under way.
async fn place(state: &State, choices: usize) -> Place {
    loop {
        let limits = state.config().limits.clone();
        let most = match state.answers.taken() {
            0 => limits.batch_answers,
            _ => limits.batch_answers_beside,
        };
        // One request of many choices waits until it is alone.
        let places = &state.batches.places;
        let taken = places
            .take(choices, most)
            .or_else(|| (choices > most).then(|| places.take(choices, choices)).flatten());
        match taken {
            Some(place) => return place,
            None => sleep(LOOK).await,
        }
    }
}

/// Waits, for a while, as long as loading this model could make others wait.
async fn be_quiet(state: &State, owner: &Owner, model: &str) -> Result<(), Refusal> {
    let provider = provider(state)?;
    for _ in 0..QUIET_LOOKS {
        let card = card(owner, provider, model).await?;
        if card.standing == Standing::Ready || state.answers.taken() == 0 {
            break;
        }
        sleep(LOOK).await;
    }
    Ok(())
}
