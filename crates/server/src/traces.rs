//! Traces, where the operator names a collector: a span for each request for answers, with what was
//! asked of the model and what that took, and below it one for each part of each choice's time. A
//! caller's `traceparent` (W3C Trace Context) is continued, and what it said of sampling is kept.
//!
//! Absent: prompts, answers, messages of errors, anything else that was said; and any sending while
//! an answer waits (`send.rs` has a thread).

mod names;
mod otlp;
mod send;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::extract::Request as HttpRequest;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::Response;
use ingle_protocol::wire::receipt::finish_name;
use ingle_protocol::{Encoding, Input, Receipt, Request, Want};

use crate::front::{fresh_id, host_name};
use otlp::{Attributes, Span, Value};

pub use send::Collector;
pub(crate) use send::Tracer;

static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The most bytes of an attribute that a caller chose.
const TEXT_MAX: usize = 256;

tokio::task_local! {
    /// The request that this task serves. It is asked for where an answer begins, so that no
    /// handler between has to pass it on.
    static SERVED: Traced;
}

/// A request that is traced; or one that is not, of which everything is forgotten at once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traced(Option<Arc<Begun>>);

/// A span that is not over: it is when the last who holds it lets go, the answer's stream or
/// whoever refused it.
#[derive(Debug)]
struct Begun {
    tracer: Arc<Tracer>,
    span: Mutex<Draft>,
    began: Instant,
}

#[derive(Debug)]
struct Draft {
    span: Span,
    parts: Vec<Span>,
    operation: Option<&'static str>,
    /// Answers to each prompt.
    choices: usize,
    finishes: Vec<String>,
    input_tokens: u32,
    output_tokens: u32,
    cached_tokens: u32,
    reasoning_tokens: u32,
}

/// Where in a trace a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parent {
    trace: u128,
    span: Option<u64>,
    sampled: bool,
}

impl Parent {
    /// What a caller's header says; a trace of its own where it says nothing sound.
    fn of(headers: &HeaderMap) -> Self {
        let text = headers.get(&TRACEPARENT).and_then(|value| value.to_str().ok());
        text.and_then(Self::read).unwrap_or_else(|| {
            let trace = u128::from_str_radix(&fresh_id(), 16).unwrap_or(1).max(1);
            Self { trace, span: None, sampled: true }
        })
    }

    /// `00-TRACE-SPAN-FLAGS`; later versions may have more behind it.
    fn read(text: &str) -> Option<Self> {
        let mut fields = text.split('-');
        let mut field = |digits: usize| {
            let field = fields.next()?;
            let right = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
            (field.len() == digits && field.bytes().all(right)).then_some(field)
        };
        let (version, trace, span, flags) = (field(2)?, field(32)?, field(16)?, field(2)?);
        if version == "ff" || (version == "00" && fields.next().is_some()) {
            return None;
        }
        let trace = u128::from_str_radix(trace, 16).ok().filter(|id| *id != 0)?;
        let span = u64::from_str_radix(span, 16).ok().filter(|id| *id != 0)?;
        let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        Some(Self { trace, span: Some(span), sampled })
    }
}

fn fresh_span() -> u64 {
    u64::from_str_radix(&fresh_id()[..16], 16).unwrap_or(1).max(1)
}

/// What a caller chose, as much of it as an attribute may hold.
fn bounded(text: &str) -> Value {
    Value::Text(text.chars().take(TEXT_MAX).collect())
}

impl Traced {
    /// The request that arrives now; traced where there is a collector and its caller lets it be.
    pub(crate) fn begin(
        tracer: Option<&Arc<Tracer>>,
        route: Option<&str>,
        request: &HttpRequest,
        id: &HeaderValue,
    ) -> Self {
        let Some(tracer) = tracer else { return Self::default() };
        let parent = Parent::of(request.headers());
        if !parent.sampled {
            return Self::default();
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let start_ns = nanos(now);
        let mut attributes: Attributes = vec![
            (names::METHOD, request.method().as_str().into()),
            (names::ROUTE, bounded(route.unwrap_or("other"))),
            (names::REQUEST_ID, bounded(id.to_str().unwrap_or_default())),
        ];
        attributes.extend(server(request.headers()));
        let span = Span {
            trace: parent.trace,
            id: fresh_span(),
            parent: parent.span,
            name: String::new(),
            serves: true,
            start_ns,
            end_ns: start_ns,
            attributes,
            failed: false,
        };
        let row = names::ROUTES.iter().find(|row| Some(row.0) == route);
        let draft = Draft {
            span,
            parts: Vec::new(),
            operation: row.map(|row| row.1),
            choices: 1,
            finishes: Vec::new(),
            input_tokens: 0,
            output_tokens: 0,
            cached_tokens: 0,
            reasoning_tokens: 0,
        };
        let (tracer, span) = (Arc::clone(tracer), Mutex::new(draft));
        Self(Some(Arc::new(Begun { tracer, span, began: Instant::now() })))
    }

    /// Serves the request, so that [`Traced::served`] finds it.
    pub(crate) async fn serve<T>(&self, work: impl Future<Output = T>) -> T {
        SERVED.scope(self.clone(), work).await
    }

    /// The request that this task serves.
    pub(crate) fn served() -> Self {
        SERVED.try_with(Self::clone).unwrap_or_default()
    }

    fn draft(&self) -> Option<MutexGuard<'_, Draft>> {
        let begun = self.0.as_ref()?;
        Some(begun.span.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is asked of which model, and the answer's id.
    pub(crate) fn asked(&self, requests: &[Request], choices: u32, model: &str, id: &str) {
        let (Some(mut draft), Some(first)) = (self.draft(), requests.first()) else { return };
        let operation = match first.input {
            Input::Chat(_) => names::CHAT,
            Input::Text(_) | Input::Tokens(_) | Input::Gap(_) => names::COMPLETION,
        };
        draft.operation = Some(operation);
        draft.choices = choices.max(1) as usize;
        draft.span.name = format!("{operation} {model}");
        let asked = if first.model.is_empty() { model } else { &first.model };
        let sampling = &first.sampling;
        let rows = [
            (names::REQUEST_MODEL, Some(bounded(asked))),
            (names::RESPONSE_MODEL, Some(bounded(model))),
            (names::RESPONSE_ID, Some(bounded(id))),
            (names::MAX_TOKENS, first.max_tokens.map(Value::from)),
            (names::TEMPERATURE, Some(sampling.temperature.into())),
            (names::TOP_P, Some(sampling.top_p.into())),
            (names::TOP_K, (sampling.top_k > 0).then(|| sampling.top_k.into())),
            (names::FREQUENCY_PENALTY, fraction(sampling.frequency_penalty)),
            (names::PRESENCE_PENALTY, fraction(sampling.presence_penalty)),
            (names::SEED, sampling.seed.and_then(|it| i64::try_from(it).ok()).map(Value::Number)),
            (names::CHOICES, (choices > 1).then(|| choices.into())),
        ];
        let known = rows.into_iter().filter_map(|(name, value)| Some((name, value?)));
        draft.span.attributes.extend(known);
    }

    /// What is to be read by which model, and the answer's id.
    pub(crate) fn reading(&self, encodings: &[Encoding], model: &str, id: &str) {
        let (Some(mut draft), Some(first)) = (self.draft(), encodings.first()) else { return };
        draft.operation = Some(names::EMBEDDINGS);
        draft.span.name = format!("{} {model}", names::EMBEDDINGS);
        let dimensions = match &first.want {
            Want::Vector(vectors) | Want::TokenVectors(vectors) => vectors.dimensions,
            Want::Sparse | Want::Scores { .. } | Want::Tags => None,
        };
        let rows = [
            (names::REQUEST_MODEL, Some(bounded(model))),
            (names::RESPONSE_MODEL, Some(bounded(model))),
            (names::RESPONSE_ID, Some(bounded(id))),
            (names::DIMENSIONS, dimensions.map(Value::from)),
        ];
        let known = rows.into_iter().filter_map(|(name, value)| Some((name, value?)));
        draft.span.attributes.extend(known);
    }

    /// A choice came to its end at that moment.
    pub(crate) fn done(&self, choice: usize, receipt: &Receipt, at: Instant) {
        let (Some(begun), Some(mut draft)) = (&self.0, self.draft()) else { return };
        draft.finishes.push(finish_name(receipt.finish).to_owned());
        let usage = &receipt.usage;
        // Choices of one prompt stand side by side, and share it.
        if choice.is_multiple_of(draft.choices) {
            draft.input_tokens = draft.input_tokens.saturating_add(usage.prompt_tokens);
            draft.cached_tokens = draft.cached_tokens.saturating_add(usage.cached_tokens);
        }
        draft.output_tokens = draft.output_tokens.saturating_add(usage.completion_tokens);
        draft.reasoning_tokens = draft.reasoning_tokens.saturating_add(usage.reasoning_tokens);
        let left = (names::LEFT_MACHINE, Value::Bool(receipt.left_machine));
        let cost = i64::try_from(receipt.cost_micros).unwrap_or(i64::MAX);
        if choice == 0 {
            draft.span.attributes.extend([left, (names::COST, Value::Number(cost))]);
        }
        let end = nanos(at.saturating_duration_since(begun.began));
        let arrival = (draft.span.start_ns + end).saturating_sub(nanos(receipt.timings.total));
        let parts = parts(&draft.span, arrival, choice, receipt);
        draft.parts.extend(parts);
    }

    /// It failed: with a status, as HTTP has them, whether that was sent or not.
    pub(crate) fn failed(&self, status: u16) {
        let Some(mut draft) = self.draft() else { return };
        // A refusal is the caller's failure and no less one for who looks at the trace.
        if !draft.span.failed {
            draft.span.failed = true;
            draft.span.attributes.push((names::ERROR_TYPE, Value::Text(status.to_string())));
        }
    }

    /// The caller went away before the end.
    pub(crate) fn abandoned(&self) {
        if let Some(mut draft) = self.draft() {
            draft.finishes.push("cancelled".to_owned());
        }
    }

    /// What the response says of it, and is told by it.
    pub(crate) fn answered(&self, response: &mut Response) {
        let Some(mut draft) = self.draft().filter(|draft| draft.operation.is_some()) else {
            return;
        };
        let status = response.status().as_u16();
        draft.span.attributes.push((names::STATUS, u32::from(status).into()));
        let place = format!("00-{:032x}-{:016x}-01", draft.span.trace, draft.span.id);
        drop(draft);
        if let Ok(place) = HeaderValue::from_str(&place) {
            response.headers_mut().insert(TRACEPARENT.clone(), place);
        }
        if status >= 400 {
            self.failed(status);
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let draft = self.span.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Some(operation) = draft.operation else { return };
        draft.span.end_ns = draft.span.start_ns + nanos(self.began.elapsed());
        if draft.span.name.is_empty() {
            draft.span.name = operation.to_owned();
        }
        draft.span.attributes.extend([
            (names::OPERATION, operation.into()),
            (names::PROVIDER, names::INGLE.into()),
            (names::SYSTEM, names::INGLE.into()),
        ]);
        if !draft.finishes.is_empty() {
            draft.span.attributes.extend([
                (names::FINISH_REASONS, Value::Texts(std::mem::take(&mut draft.finishes))),
                (names::INPUT_TOKENS, draft.input_tokens.into()),
                (names::CACHED_TOKENS, draft.cached_tokens.into()),
                (names::OUTPUT_TOKENS, draft.output_tokens.into()),
                (names::REASONING_TOKENS, draft.reasoning_tokens.into()),
            ]);
        }
        let mut spans = vec![draft.span.clone()];
        spans.append(&mut draft.parts);
        self.tracer.take(spans);
    }
}

/// Where a choice's time went, from its arrival on: each part begins where the one before ends.
fn parts(whole: &Span, arrival: u64, choice: usize, receipt: &Receipt) -> Vec<Span> {
    let (times, usage) = (&receipt.timings, &receipt.usage);
    let index = u32::try_from(choice).unwrap_or(u32::MAX);
    // What a cancelled choice did not reach has no time: the part before lasted to its end.
    let reached = |time: Duration| if time.is_zero() { times.total } else { time };
    let rows: [(&str, Duration, Attributes); 4] = [
        ("load", times.load, vec![]),
        ("queue", reached(times.queued), vec![]),
        (
            "prefill",
            reached(times.first_token),
            vec![
                (names::INPUT_TOKENS, usage.prompt_tokens.into()),
                (names::CACHED_TOKENS, usage.cached_tokens.into()),
            ],
        ),
        (
            "decode",
            times.total,
            vec![
                (names::OUTPUT_TOKENS, usage.completion_tokens.into()),
                (names::ACCEPTED_TOKENS, usage.accepted_tokens.into()),
            ],
        ),
    ];
    let mut start = arrival;
    let part = |(name, until, mut attributes): (&str, Duration, Attributes)| {
        let end = (arrival + nanos(until)).max(start);
        let began = std::mem::replace(&mut start, end);
        attributes.push((names::CHOICE, index.into()));
        (end > began).then(|| Span {
            trace: whole.trace,
            id: fresh_span(),
            parent: Some(whole.id),
            name: name.to_owned(),
            serves: false,
            start_ns: began,
            end_ns: end,
            attributes,
            failed: false,
        })
    };
    rows.into_iter().filter_map(part).collect()
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A penalty that was asked for.
fn fraction(penalty: f32) -> Option<Value> {
    (penalty != 0.0).then(|| penalty.into())
}

/// By which name and port the server was called.
fn server(headers: &HeaderMap) -> Attributes {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host_name(host);
    let port = host.get(name.len() + 1..).and_then(|port| port.parse::<u16>().ok());
    let port = port.map(|port| (names::SERVER_PORT, u32::from(port).into()));
    let address = (!name.is_empty()).then(|| (names::SERVER_ADDRESS, bounded(name)));
    address.into_iter().chain(port).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_a_trace() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let id = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;
        let at = |sampled| Some(Parent { trace: id, span: Some(0xf0_67aa_0ba9_02b7), sampled });
        let rows = [
            (format!("00-{trace}-00f067aa0ba902b7-01"), at(true)),
            (format!("00-{trace}-00f067aa0ba902b7-00"), at(false)),
            (format!("00-{trace}-00f067aa0ba902b7-03"), at(true)),
            (format!("01-{trace}-00f067aa0ba902b7-01-more"), at(true)),
            (format!("00-{trace}-00f067aa0ba902b7-01-more"), None),
            (format!("ff-{trace}-00f067aa0ba902b7-01"), None),
            (format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()), None),
            (format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)), None),
            (format!("00-{trace}-0000000000000000-01"), None),
            (format!("00-{trace}-00f067aa0ba902b7"), None),
            (format!("00-{trace}+00f067aa0ba902b7-01"), None),
            (String::new(), None),
        ];
        for (text, expect) in rows {
            assert_eq!(Parent::read(&text), expect, "{text}");
        }
        let own = Parent::of(&HeaderMap::new());
        assert!(own.trace != 0 && own.span.is_none() && own.sampled, "{own:?}");
    }

    #[test]
    fn parts_follow_one_another() {
        let receipt = |load, queued, first_token, total| Receipt {
            model: String::new(),
            route: vec![],
            left_machine: false,
            cost_micros: 0,
            finish: ingle_protocol::Finish::Stop,
            stop: None,
            notes: vec![],
            usage: ingle_protocol::Usage::default(),
            timings: ingle_protocol::Timings {
                load: Duration::from_nanos(load),
                queued: Duration::from_nanos(queued),
                first_token: Duration::from_nanos(first_token),
                total: Duration::from_nanos(total),
            },
        };
        let whole = Span {
            trace: 1,
            id: 2,
            parent: None,
            name: String::new(),
            serves: true,
            start_ns: 90,
            end_ns: 190,
            attributes: vec![],
            failed: false,
        };
        type Row<'a> = (Receipt, &'a [(&'a str, u64, u64)]);
        let rows: [Row<'_>; 3] = [
            (
                receipt(5, 10, 30, 60),
                &[
                    ("load", 100, 105),
                    ("queue", 105, 110),
                    ("prefill", 110, 130),
                    ("decode", 130, 160),
                ],
            ),
            (receipt(0, 10, 0, 60), &[("queue", 100, 110), ("prefill", 110, 160)]),
            (receipt(0, 0, 0, 60), &[("queue", 100, 160)]),
        ];
        for (receipt, expect) in rows {
            let parts = parts(&whole, 100, 0, &receipt);
            let told: Vec<_> =
                parts.iter().map(|it| (it.name.as_str(), it.start_ns, it.end_ns)).collect();
            assert_eq!(told, expect);
            assert!(parts.iter().all(|it| it.trace == 1 && it.parent == Some(2)));
        }
    }

    #[test]
    fn servers_are_told_as_they_were_called() {
        let rows: [(&str, Attributes); 4] = [
            (
                "a.example:80",
                vec![
                    (names::SERVER_ADDRESS, "a.example".into()),
                    (names::SERVER_PORT, 80_u32.into()),
                ],
            ),
            ("a.example", vec![(names::SERVER_ADDRESS, "a.example".into())]),
            (
                "[::1]:9",
                vec![(names::SERVER_ADDRESS, "[::1]".into()), (names::SERVER_PORT, 9_u32.into())],
            ),
            ("", vec![]),
        ];
        for (host, expect) in rows {
            let value = HeaderValue::from_str(host).expect("a header");
            assert_eq!(server(&HeaderMap::from_iter([(header::HOST, value)])), expect, "{host}");
        }
    }
}
