//! An answer under way: events from the provider's threads in, what its writer makes of them out.
//!
//! Sinks must not block, so the channel between has room for all that can come: a choice gives a
//! few events a token at most, and its tokens are bounded by its limit and its context, whether or
//! not the client reads; a model elsewhere is bounded by its answer's bytes instead, and says how
//! many events these can be. Room is not memory: that is taken as events come, and what comes from
//! elsewhere is bounded for all answers together (`unread.rs`). A client that reads nothing is cut
//! off by its socket's stall limit.
//!
//! Dropping an [`Answer`], with its response, cancels whatever of it still runs.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use ingle_gateway::{ModelCard, Provider};
use ingle_protocol::wire::{Ask, Stamp, Writer};
use ingle_protocol::{Call, Event, Fault, Request, Sink};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::access::Told;
use crate::keys::Owner;
use crate::limits::{self, Reserved};
use crate::listen::reached;
use crate::origin::part;
use crate::places::Place;
use crate::refusal::Refusal;
use crate::tally::Tally;
use crate::traces::Traced;
use crate::unread::Unread;
use crate::{State, Stop};

/// A choice's event and when it was made.
struct Stamped {
    index: u32,
    event: Event,
    at: Instant,
    /// What it takes among those that nobody has read.
    waits: Option<Place>,
}

/// On what terms a request is answered.
pub(crate) struct Admitted {
    /// On whose account.
    pub(crate) owner: Owner,
    /// Among the answers under way.
    pub(crate) place: Place,
    /// Of the tokens that its key may use; nothing where they do not count.
    pub(crate) tokens: Option<Reserved>,
    /// Whether somebody waits for it: its times are told then.
    pub(crate) waited_for: bool,
}

/// All choices of one request.
pub(crate) struct Answer {
    state: Arc<State>,
    writer: Box<dyn Writer>,
    admitted: Admitted,
    tally: Tally,
    events: Receiver<Stamped>,
    stop: watch::Receiver<Stop>,
    began: Instant,
    /// When each choice's latest piece came.
    latest: Vec<Option<Instant>>,
    failed: bool,
    traced: Traced,
    unread: Unread,
    /// What was read of an answer that is told whole.
    held: Option<Place>,
    streamed: bool,
    _calls: Vec<Call>,
}

impl Drop for Answer {
    fn drop(&mut self) {
        if !self.writer.complete() && !self.failed {
            self.state.metrics.abandoned.fetch_add(1, Ordering::Relaxed);
            self.traced.abandoned();
        }
        let (prompt, completion) = self.tally.total();
        if let Some(tokens) = &mut self.admitted.tokens {
            tokens.used = prompt.saturating_add(completion);
        }
        self.tell(|told| {
            told.prompt_tokens += prompt;
            told.completion_tokens += completion;
        });
    }
}

impl Answer {
    /// Sends every choice to the provider; if one is refused, those before it are cancelled.
    /// Encodes prompts, perhaps, so it is not for an async task's thread.
    pub(crate) fn start(
        state: Arc<State>,
        provider: &dyn Provider,
        stamp: Stamp,
        asked: &dyn Ask,
        card: &ModelCard,
        admitted: Admitted,
    ) -> Result<Self, Fault> {
        let began = Instant::now();
        let model = stamp.model.clone();
        let writer = asked.writer(stamp, &mut |tokens| provider.detokenize(&model, tokens))?;
        let (sender, events) = channel(room(asked, card));
        let unread = Unread::new(&state, card.events > 0);
        let mut calls = Vec::new();
        for (request, index) in choices(asked, &model).zip(0..) {
            let sink = sink(sender.clone(), index, unread.clone());
            calls.push(provider.send(request, sink)?);
        }
        let latest = vec![None; calls.len()];
        let stop = state.stop.subscribe();
        let (failed, _calls, tally) = (false, calls, limits::tally(asked));
        let traced = Traced::default();
        let answer = Self {
            state,
            writer,
            admitted,
            tally,
            events,
            stop,
            began,
            latest,
            failed,
            traced,
            unread,
            held: None,
            streamed: asked.streamed(),
            _calls,
        };
        answer.tell(|told| told.model = Some(model));
        Ok(answer)
    }

    /// The same answer, traced.
    pub(crate) fn traced(mut self, traced: Traced) -> Self {
        self.traced = traced;
        self
    }

    /// What the next event adds; `None` after all choices have ended. Nothing is lost where the
    /// future is dropped before it is ready.
    async fn next(&mut self) -> Result<Option<String>, Refusal> {
        if self.writer.complete() {
            return Ok(None);
        }
        let event = tokio::select! {
            biased;
            event = self.events.recv() => event,
            () = reached(&mut self.stop, Stop::Now) => {
                let message = "the server is stopping; the answer was cut off";
                self.failed = true;
                let after = self.state.config().limits.retry_after;
                return Err(Fault::not_ready(after, message).into());
            }
        };
        let gone = || match self.unread.was_full() {
            true => self.unread.fault(self.state.config().limits.retry_after),
            false => Fault::ours("the engine stopped before the answer was complete"),
        };
        let text = event.ok_or_else(gone).and_then(|Stamped { index, event, at, waits }| {
            self.observe(index as usize, &event, at);
            if !self.streamed {
                self.hold(waits);
            }
            self.writer.take(index, event)
        });
        self.failed = text.is_err();
        Ok(Some(text?))
    }

    /// What was read is in memory still.
    fn hold(&mut self, waits: Option<Place>) {
        let Some(waits) = waits else { return };
        match &mut self.held {
            Some(held) => held.join(waits),
            none => *none = Some(waits),
        }
    }

    fn observe(&mut self, index: usize, event: &Event, at: Instant) {
        let metrics = &self.state.metrics;
        match event {
            Event::Text(_) | Event::Reasoning(_) | Event::ToolCall { .. } | Event::Passed(_) => {
                self.tally.piece(index);
                if !self.admitted.waited_for {
                    return;
                }
                match self.latest[index].replace(at) {
                    None => {
                        let time = at - self.began;
                        metrics.first_token.observe(time);
                        self.tell(|told| _ = told.first_token.get_or_insert(time));
                    }
                    Some(before) => metrics.inter_token.observe(at - before),
                }
            }
            Event::Done(receipt) => {
                self.tally.done(index, &receipt.usage);
                metrics.done(self.admitted.owner.name(), receipt, at - self.began);
                self.traced.done(index, receipt, at);
            }
            Event::Prompt(_) | Event::Beams(_) => {}
            Event::Failed(_) => self.tally.failed(index),
        }
    }

    /// Adds to the request's line of the log, if there is one.
    fn tell(&self, tell: impl FnOnce(&mut Told)) {
        if let Some(visit) = self.admitted.owner.visit() {
            visit.tell(tell);
        }
    }

    /// Whether all choices have ended.
    pub(crate) fn complete(&self) -> bool {
        self.writer.complete()
    }

    /// The end of a stream that fails by this.
    pub(crate) fn failure(&self, refusal: &Refusal) -> String {
        self.traced.failed(refusal.status());
        refusal.end(&*self.writer)
    }

    /// What comes next and is not empty.
    pub(crate) async fn text(&mut self) -> Result<Option<Bytes>, Refusal> {
        loop {
            match self.next().await? {
                Some(text) if text.is_empty() => {}
                next => return Ok(next.map(Bytes::from)),
            }
        }
    }

    /// The response: a stream or one body.
    pub(crate) async fn respond(self, streamed: bool) -> Result<Response, Refusal> {
        if streamed { self.stream().await } else { self.whole().await }
    }

    /// All of it, in one piece.
    pub(crate) async fn all(&mut self) -> Result<String, Refusal> {
        let mut body = String::new();
        while let Some(text) = self.next().await? {
            body.push_str(&text);
        }
        Ok(body)
    }

    async fn whole(mut self) -> Result<Response, Refusal> {
        let body = self.all().await?;
        Ok(([(header::CONTENT_TYPE, self.writer.content_type())], body).into_response())
    }

    async fn stream(mut self) -> Result<Response, Refusal> {
        let beat = self.state.config().limits.keep_alive;
        let first = match timeout(beat, self.text()).await {
            Ok(next) => next?,
            Err(_) => self.beat(),
        };
        let kind = self.writer.content_type();
        let frames = stream::unfold(Some((self, first)), move |answer| async move {
            let (mut answer, first) = answer?;
            if let Some(frame) = first {
                return Some((Ok::<Bytes, Infallible>(frame), Some((answer, None))));
            }
            let frame = answer.next_frame(beat).await?;
            Some((Ok(frame), (!answer.failed).then_some((answer, None))))
        });
        let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")];
        Ok((headers, Body::from_stream(frames)).into_response())
    }

    /// By what a silent stream is seen to live, if anything.
    fn beat(&self) -> Option<Bytes> {
        let beat = self.writer.beat();
        (!beat.is_empty()).then(|| Bytes::from_static(beat.as_bytes()))
    }

    /// The stream's next bytes; `None` after its end.
    async fn next_frame(&mut self, beat: Duration) -> Option<Bytes> {
        loop {
            match timeout(beat, self.text()).await {
                Err(_) => match self.beat() {
                    Some(beat) => return Some(beat),
                    None => continue,
                },
                Ok(Ok(next)) => return next,
                Ok(Err(refusal)) => {
                    self.state.metrics.stream_errors.fetch_add(1, Ordering::Relaxed);
                    return Some(self.failure(&refusal).into());
                }
            }
        }
    }
}

/// A request for each choice, a prompt's side by side: the `i`th draws with `seed + i`. Where no
/// choice is read alone, the first one's prompt is told of for all of them.
fn choices(asked: &dyn Ask, model: &str) -> impl Iterator<Item = Request> {
    let alone = asked.requests().len() == 1 && asked.choices() == 1;
    (0..).zip(asked.requests()).flat_map(move |(at, request)| {
        (0..asked.choices()).map(move |i| {
            let mut request = Request { model: model.to_owned(), ..request.clone() };
            let seed = request.sampling.seed;
            request.sampling.seed = seed.map(|seed| seed.wrapping_add(u64::from(i)));
            let tells = i == 0 || asked.streamed() || request.max_tokens == Some(0);
            request.prompt_logprobs = request.prompt_logprobs.filter(|_| tells);
            if !alone && let Some(origin) = &request.origin {
                request.origin = Some(part(origin, at * asked.choices() + i));
            }
            request
        })
    })
}

/// The most events of one token: some text, a call's end, the next one's beginning, its arguments.
const TOKEN_EVENTS: usize = 4;

/// Events that all choices can give: those of each token, and a few that carry what was held back,
/// the end, and a failure; or as many as an answer from elsewhere has.
fn room(asked: &dyn Ask, card: &ModelCard) -> usize {
    let most = asked.requests().iter().filter_map(|request| request.max_tokens).max();
    let most = most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
    let choices = asked.requests().len() * asked.choices() as usize;
    (most.min(card.context_tokens).min(1 << 32) * TOKEN_EVENTS + 8).max(card.events) * choices
}

fn sink(sender: Sender<Stamped>, index: u32, mut unread: Unread) -> Sink {
    let mut sender = Some(sender);
    Box::new(move |event| {
        let Some(open) = &sender else { return ControlFlow::Break(()) };
        let told = unread.add(&event).and_then(|waits| {
            let at = Instant::now();
            open.try_send(Stamped { index, event, at, waits }).map_err(drop)
        });
        match told {
            Ok(()) => ControlFlow::Continue(()),
            Err(()) => {
                // Gone, or more than was promised or there is room for: nothing more is told, so
                // that its end is missed, and that is an error.
                sender = None;
                ControlFlow::Break(())
            }
        }
    })
}

/// A stamp for a new answer of `model`.
pub(crate) fn stamp(model: &str) -> Stamp {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let created_ms = now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
    Stamp { id: crate::front::fresh_id(), created_ms, model: model.to_owned() }
}
