//! Several texts under way at once, so that the model computes them together; what comes of them is
//! told in their order, as soon as all before are. Absent: where they come from, and where it is
//! written.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use ingle_engine::Local;
use ingle_protocol::{Call, Event, Fault, Finish, Input, Receipt, Request};
use serde_json::Value;

use super::Schema;
use crate::ui::{Interrupted, interrupted};

/// Events on their way from all texts. Where they are taken slowly the model waits.
const EVENTS_MOST: usize = 4096;
/// For each text under way so many are started, done or not, ahead of the one that is told next.
const AHEAD: usize = 4;

/// What came of a text.
#[derive(Debug)]
pub(super) struct Outcome {
    /// The value, or why there is none.
    pub(super) value: Result<Value, String>,
    pub(super) receipt: Option<Receipt>,
}

impl Outcome {
    fn failed(why: impl Into<String>) -> Self {
        Self { value: Err(why.into()), receipt: None }
    }
}

/// Texts, and what hears of them.
pub(super) trait Texts {
    /// The next text, or why there is none of it; `None` behind the last.
    fn next(&mut self) -> anyhow::Result<Option<Result<String, String>>>;

    /// Hears what came of the oldest that it was not told of.
    fn tell(&mut self, outcome: Outcome) -> anyhow::Result<()>;
}

/// The texts that are worked on.
pub(super) struct Work<'a> {
    model: &'a Local,
    schema: &'a Schema,
    request: Request,
    most: usize,
    /// Whether all were started.
    all: bool,
    /// The next to be started, and the next to be told.
    next: usize,
    told: usize,
    under_way: BTreeMap<usize, (Call, String)>,
    /// Done, and waiting for those before.
    done: BTreeMap<usize, Outcome>,
    sender: SyncSender<(usize, Event)>,
    events: Receiver<(usize, Event)>,
}

impl<'a> Work<'a> {
    /// At most so many at a time.
    pub(super) fn new(model: &'a Local, schema: &'a Schema, request: Request, most: usize) -> Self {
        let (sender, events) = sync_channel(EVENTS_MOST);
        let (under_way, done) = (BTreeMap::new(), BTreeMap::new());
        let most = most.max(1);
        Self {
            model,
            schema,
            request,
            most,
            all: false,
            next: 0,
            told: 0,
            under_way,
            done,
            sender,
            events,
        }
    }

    /// Works on all of them. Ctrl-C ends what is under way; what was done before is told.
    pub(super) fn run(&mut self, texts: &mut dyn Texts) -> anyhow::Result<()> {
        let stop = interrupted();
        while !self.all || self.told < self.next {
            if stop.load(Ordering::Relaxed) {
                self.under_way.clear(); // dropping the calls cancels them
                return Err(Interrupted.into());
            }
            while !self.all
                && self.under_way.len() < self.most
                && self.next - self.told < self.most * AHEAD
            {
                match texts.next()? {
                    Some(text) => self.start(text)?,
                    None => self.all = true,
                }
            }
            while let Some(outcome) = self.done.remove(&self.told) {
                texts.tell(outcome)?;
                self.told += 1;
            }
            if !self.under_way.is_empty() {
                self.hear()?;
            }
        }
        Ok(())
    }

    /// Starts the next one. A schema that cannot be followed ends all.
    fn start(&mut self, text: Result<String, String>) -> anyhow::Result<()> {
        let at = self.next;
        self.next += 1;
        let empty = |text: &String| text.trim().is_empty();
        let text = match text {
            Ok(text) if empty(&text) => Err("it is empty".to_owned()),
            text => text,
        };
        let text = match text {
            Ok(text) => text,
            Err(why) => {
                self.done.insert(at, Outcome::failed(why));
                return Ok(());
            }
        };
        let sender = self.sender.clone();
        let sink = Box::new(move |event| match sender.send((at, event)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        });
        match self.model.send(&with(&self.request, &text), sink) {
            Ok(call) => drop(self.under_way.insert(at, (call, String::new()))),
            Err(fault) if fault.param.as_deref() == Some("grammar") => return Err(fault.into()),
            Err(fault) => drop(self.done.insert(at, Outcome::failed(said(&fault)))),
        }
        Ok(())
    }

    /// Waits for an event, a while, and takes all that came.
    fn hear(&mut self) -> anyhow::Result<()> {
        let first = match self.events.recv_timeout(Duration::from_millis(50)) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => return Ok(()),
            Err(RecvTimeoutError::Disconnected) => {
                anyhow::bail!("the engine stopped unexpectedly")
            }
        };
        self.take(first);
        while let Ok(event) = self.events.try_recv() {
            self.take(event);
        }
        Ok(())
    }

    fn take(&mut self, (at, event): (usize, Event)) {
        let Some((_, text)) = self.under_way.get_mut(&at) else { return };
        let outcome = match event {
            Event::Text(piece) => return text.push_str(&piece.text),
            Event::Prompt(_) | Event::Beams(_) | Event::Passed(_) => return,
            Event::Reasoning(_) | Event::ToolCall { .. } => return,
            Event::Failed(fault) => Outcome::failed(said(&fault)),
            Event::Done(receipt) => {
                let value = match receipt.finish {
                    Finish::Length => Err("it was cut short inside the value by the limit on its \
                                           tokens: allow more with --max-tokens, or ask for less"
                        .to_owned()),
                    _ => self.schema.check(text),
                };
                Outcome { value, receipt: Some(*receipt) }
            }
        };
        self.under_way.remove(&at);
        self.done.insert(at, outcome);
    }
}

/// The request with a text behind its words.
fn with(request: &Request, text: &str) -> Request {
    let mut request = request.clone();
    match &mut request.input {
        Input::Chat(chat) => {
            if let Some(last) = chat.messages.last_mut() {
                last.content.push_str(text);
            }
        }
        Input::Text(words) => words.push_str(&format!("{}\n\nJSON:\n", text.trim_end())),
        Input::Tokens(_) | Input::Gap(_) => {}
    }
    request
}

fn said(fault: &Fault) -> String {
    fault.message.clone()
}
