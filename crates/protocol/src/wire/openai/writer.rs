//! An answer's events as bytes: chunks of an event stream, or one body.

use super::{Asked, DONE, Format, Head, Tally, Whole, write_chunk};
use crate::wire::ask::{COMMENT, JSON, SSE, sse};
use crate::wire::relay::{self, Relay, Taken};
use crate::wire::{Ask, Dialect, Kind, Stamp, Writer};
use crate::{Event, Fault, Input, Request, Token};

impl Ask for Asked {
    fn requests(&self) -> &[Request] {
        &self.requests
    }

    fn requests_mut(&mut self) -> &mut [Request] {
        &mut self.requests
    }

    fn choices(&self) -> u32 {
        let searched = self.requests.iter().any(|request| request.beams.is_some());
        if searched { 1 } else { self.options.drawn() }
    }

    fn streamed(&self) -> bool {
        self.options.stream
    }

    fn writer(
        &self,
        stamp: Stamp,
        decode: &mut dyn FnMut(&[Token]) -> Result<String, Fault>,
    ) -> Result<Box<dyn Writer>, Fault> {
        let format = match self.requests.first().map(|request| &request.input) {
            Some(Input::Chat(_)) => Format::Chat,
            _ => Format::Completions,
        };
        let prefix = match format {
            Format::Chat => "chatcmpl",
            Format::Completions => "cmpl",
        };
        let head = Head {
            format,
            id: format!("{prefix}-{}", stamp.id),
            created_s: stamp.created_ms / 1000,
            model: stamp.model,
            include_usage: self.options.include_usage,
            tokens_as_ids: self.options.tokens_as_ids,
        };
        let relay = Relay::new(&relay::CHAT, &head.model, self.options.stream)
            .with_usage(self.options.include_usage);
        let tally = Tally::new(format, self, decode)?;
        let whole = (!self.options.stream).then(|| Whole::new(&tally));
        Ok(Box::new(Answer { head, tally, whole, relay, passed: false }))
    }
}

struct Answer {
    head: Head,
    tally: Tally,
    /// The sum so far, where the answer is not streamed.
    whole: Option<Whole>,
    relay: Relay,
    /// Another server's answer was handed on, to its end.
    passed: bool,
}

impl Writer for Answer {
    fn take(&mut self, index: u32, event: Event) -> Result<String, Fault> {
        let event = match self.relay.take(event)? {
            Taken::Written(text) => return Ok(text),
            Taken::Ended(text) => {
                self.passed = true;
                return Ok(text);
            }
            Taken::Own(event) => event,
        };
        let deltas = self.tally.take(index, event)?;
        let complete = self.tally.complete();
        let Some(whole) = &mut self.whole else {
            let chunks = deltas.iter().map(|delta| sse(None, &write_chunk(&self.head, delta)));
            return Ok(chunks.chain(complete.then(|| sse(None, DONE))).collect());
        };
        deltas.into_iter().for_each(|delta| whole.add(delta));
        if complete { whole.write(&self.head) } else { Ok(String::new()) }
    }

    fn complete(&self) -> bool {
        self.passed || self.tally.complete()
    }

    fn failure(&self, kind: Kind, fault: &Fault) -> String {
        sse(None, &Dialect::OpenAi.write_error(kind, fault, ""))
    }

    fn beat(&self) -> &'static str {
        COMMENT
    }

    fn content_type(&self) -> &'static str {
        if self.whole.is_some() { JSON } else { SSE }
    }
}
