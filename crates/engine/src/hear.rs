//! From an answer's tokens to its events: text, thoughts and tool calls, as the model's dialect has
//! them. Stop texts are looked for in what is answered alone, thoughts end where their budget does.
//! Absent: sampling, grammars, and how a dialect is written, which the model's room knows.

use crate::core::Reply;
use crate::stop::{Pushed, StopText};
use ingle_model::dialect::{Dialect, Listener, Said};
use ingle_model::tokenizer::{Decoder, Special, Tokenizer};
use ingle_protocol::{Chat, Event, Piece, Token};
use std::collections::VecDeque;

/// What is listened for.
pub(crate) struct Plan {
    dialect: Dialect,
    listener: Listener,
    /// The most tokens of thoughts.
    budget: Option<u32>,
}

impl Plan {
    /// For the answer to a conversation whose prompt was rendered to this text; `None` where the
    /// model can say nothing but text. `ids` makes the ids of calls.
    pub(crate) fn of(dialect: Dialect, chat: &Chat, prompt: &str, ids: u64) -> Option<Self> {
        if chat.offered().is_empty() && !dialect.thinks() {
            return None;
        }
        let off = (chat.reasoning.on == Some(false)).then_some(0);
        let budget = off.or(chat.reasoning.budget_tokens);
        let listener = Listener::new(dialect, chat, dialect.begins_thinking(prompt), ids);
        Some(Self { dialect, listener, budget })
    }
}

/// Hears one answer.
pub(crate) struct Hearing {
    tokenizer: Tokenizer,
    decoder: Decoder,
    stop: StopText,
    plan: Option<Plan>,
    thought: u32,
    /// Tokens that come next, whatever the model thinks.
    forced: VecDeque<Token>,
    malformed: Option<String>,
}

impl Hearing {
    pub(crate) fn new(tokenizer: &Tokenizer, stop: &[String], plan: Option<Plan>) -> Self {
        let mut hearing = Self {
            tokenizer: tokenizer.clone(),
            decoder: tokenizer.decoder(),
            stop: StopText::new(stop),
            plan,
            thought: 0,
            forced: VecDeque::new(),
            malformed: None,
        };
        hearing.bound();
        hearing
    }

    /// The token that comes next, where that is settled.
    pub(crate) fn forced(&self) -> Option<Token> {
        self.forced.front().copied()
    }

    /// Tokens that the model thought with.
    pub(crate) fn thought(&self) -> u32 {
        self.thought
    }

    /// The stop text that was met.
    pub(crate) fn met(&self) -> Option<&str> {
        self.stop.met()
    }

    /// Whether tools were called.
    pub(crate) fn called(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.listener.calls() > 0)
    }

    /// What was odd.
    pub(crate) fn notes(&self) -> Vec<String> {
        self.plan.as_ref().map_or_else(Vec::new, |plan| plan.listener.notes().to_vec())
    }

    /// What is wrong with a call, if it ended the answer.
    pub(crate) fn malformed(&self) -> Option<&str> {
        self.malformed.as_deref()
    }

    /// Takes a token, and what is told of it beside its text: that goes with the first event that
    /// can carry it.
    pub(crate) fn token(&mut self, token: Token, beside: Piece) -> (Vec<Event>, Reply) {
        match self.forced.pop_front() {
            Some(forced) if forced != token => self.forced.clear(), // a grammar would not have it
            _ => {}
        }
        let text = self.written(token);
        let before = self.thinking();
        let said = match &mut self.plan {
            None => Ok(vec![Said::Text(text)]),
            Some(plan) => plan.listener.push(&text),
        };
        self.thought += u32::from(before || self.thinking());
        self.bound();
        let (events, reply) = self.events(said);
        (with(events, beside), reply)
    }

    /// Nothing more comes; `complete`: because the model ended it.
    pub(crate) fn finish(&mut self, complete: bool) -> Vec<Event> {
        let rest = self.decoder.flush();
        let said = match &mut self.plan {
            None => Ok(vec![Said::Text(rest)]),
            // After an end that is the caller's or a call's nothing is to be looked into.
            Some(_) if self.malformed.is_some() || self.stop.met().is_some() => Ok(Vec::new()),
            Some(plan) => plan.listener.push(&rest).and_then(|mut said| {
                said.extend(plan.listener.finish(complete)?);
                Ok(said)
            }),
        };
        let (mut events, _) = self.events(said);
        let rest = self.stop.rest();
        if !rest.is_empty() && self.stop.met().is_none() {
            events.push(text(rest));
        }
        events
    }

    fn thinking(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.listener.thinking())
    }

    /// Ends a thought whose budget is used up.
    fn bound(&mut self) {
        let Some(plan) = &self.plan else { return };
        let over = plan.budget.is_some_and(|most| self.thought >= most);
        if over && plan.listener.thinking() && self.forced.is_empty() {
            let end = plan.dialect.thought_end().unwrap_or_default();
            self.forced = self.tokenizer.encode(end, Special::Parse).into();
        }
    }

    /// What a token writes: control tokens only where the dialect has a mark of it.
    fn written(&mut self, token: Token) -> String {
        let mark = self.plan.as_ref().and_then(|plan| plan.dialect.mark(&self.tokenizer, token));
        match mark {
            Some(mark) => self.decoder.flush() + mark,
            None => self.decoder.push(token),
        }
    }

    fn events(&mut self, said: Result<Vec<Said>, String>) -> (Vec<Event>, Reply) {
        let said = match said {
            Ok(said) => said,
            Err(why) => {
                self.malformed = Some(why);
                return (Vec::new(), Reply::Stop);
            }
        };
        let mut events = Vec::new();
        for one in said {
            match one {
                Said::Text(more) => match self.stop.push(&more) {
                    Pushed::Safe(more) => events.push(text(more)),
                    Pushed::Found(more) => {
                        events.push(text(more));
                        return (events, Reply::Stop);
                    }
                },
                Said::Thought(text) => {
                    events.push(Event::Reasoning(Piece { text, ..Piece::default() }));
                }
                Said::Call { index, part } => events.push(Event::ToolCall { index, part }),
            }
        }
        let enough = self.plan.as_ref().is_some_and(|plan| plan.listener.enough());
        (events, if enough { Reply::Stop } else { Reply::Continue })
    }
}

fn text(text: String) -> Event {
    Event::Text(Piece { text, ..Piece::default() })
}

/// The same events, without empty ones, and with what is told beside text.
fn with(mut events: Vec<Event>, beside: Piece) -> Vec<Event> {
    if !beside.is_empty() {
        let carrier = events.iter_mut().find_map(|event| match event {
            Event::Text(piece) | Event::Reasoning(piece) => Some(piece),
            _ => None,
        });
        match carrier {
            Some(piece) => (piece.scores, piece.tokens) = (beside.scores, beside.tokens),
            None => events.push(Event::Text(beside)),
        }
    }
    events.retain(|event| match event {
        Event::Text(piece) | Event::Reasoning(piece) => !piece.is_empty(),
        _ => true,
    });
    events
}
