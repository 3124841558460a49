//! Reads a dialect in a stream of text: what is thought, what is said, what is called. Half a mark
//! is never passed on as text, and space around marks belongs to nobody. A call that is none ends
//! the listening with what is wrong with it; it is not passed on as text, which its reader would
//! take for an answer.

use super::body::{Body, Part, Step};
use super::{Dialect, Marks, Syntax};
use ingle_protocol::{CallPart, Chat};
use serde_json::Value;
use std::collections::BTreeSet;

/// What was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// More of the answer.
    Text(String),
    /// More of what the model thinks.
    Thought(String),
    /// A part of a call.
    Call {
        /// Which one, from 0.
        index: u32,
        /// What of it.
        part: CallPart,
    },
}

/// gpt-oss's marks.
pub(super) const CHANNELS: [&str; 7] = [
    "<|start|>",
    "<|channel|>",
    "<|message|>",
    "<|constrain|>",
    "<|end|>",
    "<|call|>",
    "<|return|>",
];

/// Without marks, an object is a call only if it begins like one, within so many bytes.
const BARE_MAX: usize = 512;

#[derive(Clone, Debug)]
enum State {
    /// Nothing was said yet: thoughts may begin, or a call without marks.
    Start,
    Thought,
    Text,
    /// Among calls.
    Section,
    Call(Box<Body>),
    /// gpt-oss: a message's header comes, and then its text.
    Header,
    Message(Kind),
}

/// What a channel's message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Thought,
    Text,
}

/// Listens to one answer.
#[derive(Clone, Debug)]
pub struct Listener {
    dialect: Dialect,
    /// Tools that may be called; none are heard where there is none.
    names: Vec<String>,
    /// Arguments that are texts: the tool's name and the key.
    strings: BTreeSet<(String, String)>,
    one_call: bool,
    state: State,
    held: String,
    /// Space that is passed on only if something follows it.
    space: String,
    /// Whether space is dropped until something else comes.
    lead: bool,
    calls: u32,
    ids: u64,
    notes: Vec<String>,
}

impl Listener {
    /// For the answer to this conversation. `thinking`: the prompt began a thought. `ids` makes the
    /// calls' ids, together with their number: nine letters and digits, which is the form that the
    /// strictest template takes.
    pub fn new(dialect: Dialect, chat: &Chat, thinking: bool, ids: u64) -> Self {
        let state = match (dialect.family.syntax, thinking) {
            (Syntax::Channels, _) => State::Header,
            (_, true) => State::Thought,
            (_, false) => State::Start,
        };
        let offered = chat.offered();
        Self {
            dialect,
            names: offered.iter().map(|tool| tool.name.clone()).collect(),
            strings: offered
                .iter()
                .flat_map(|tool| {
                    let keys = string_keys(&tool.parameters);
                    keys.into_iter().map(|key| (tool.name.clone(), key))
                })
                .collect(),
            one_call: chat.one_call,
            state,
            held: String::new(),
            space: String::new(),
            lead: thinking,
            calls: 0,
            ids,
            notes: Vec::new(),
        }
    }

    /// Whether a thought is under way.
    pub fn thinking(&self) -> bool {
        matches!(self.state, State::Thought | State::Message(Kind::Thought))
    }

    /// Calls that were begun.
    pub fn calls(&self) -> u32 {
        self.calls
    }

    /// Whether the answer has all the calls that it may have.
    pub fn enough(&self) -> bool {
        let single = self.one_call || !self.dialect.family.parallel;
        single && self.calls > 0 && !matches!(self.state, State::Call(_))
    }

    /// What was mended, and what else is odd.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Takes in more text.
    ///
    /// # Errors
    /// What is wrong with a call. Nothing more is heard then.
    pub fn push(&mut self, text: &str) -> Result<Vec<Said>, String> {
        self.held.push_str(text);
        let mut said = Vec::new();
        while self.step(&mut said)? {}
        Ok(said)
    }

    /// Nothing more comes. `complete`: because the model ended its answer, rather than at a limit.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn finish(&mut self, complete: bool) -> Result<Vec<Said>, String> {
        let mut said = Vec::new();
        let held = std::mem::take(&mut self.held);
        match std::mem::replace(&mut self.state, State::Text) {
            State::Start | State::Text => self.say(&held, false, &mut said),
            State::Thought | State::Message(Kind::Thought) => {
                self.say(&held, true, &mut said);
                self.notes.push("it ended before the thought was over".into());
            }
            State::Message(Kind::Text) => self.say(&held, false, &mut said),
            State::Section | State::Header => {}
            State::Call(mut body) => {
                let mut parts = Vec::new();
                let done = if complete { body.finish(&mut parts) } else { Ok(()) };
                self.tell(parts, &mut said);
                self.mended(&body.mended);
                done?;
                if !complete {
                    self.notes.push("it was cut short within a tool call".into());
                }
                return Ok(said);
            }
        }
        let space = std::mem::take(&mut self.space);
        if !space.is_empty() && self.calls == 0 && !self.lead {
            said.push(Said::Text(space));
        }
        Ok(said)
    }

    /// Does what can be done with what is held; whether there is more to do.
    fn step(&mut self, said: &mut Vec<Said>) -> Result<bool, String> {
        match &mut self.state {
            State::Start => Ok(self.start()),
            State::Thought => Ok(self.thought(said)),
            State::Text => Ok(self.text(said)),
            State::Section => self.section(),
            State::Call(_) => self.call(said),
            State::Header => self.header(said),
            State::Message(kind) => {
                let kind = *kind;
                Ok(self.message(kind, said))
            }
        }
    }

    fn start(&mut self) -> bool {
        let begun = self.held.trim_start();
        if begun.is_empty() {
            return false;
        }
        if let Some(marks) = self.dialect.thoughts {
            if let Some(rest) = begun.strip_prefix(marks.begin) {
                self.held = rest.to_owned();
                self.lead = true;
                self.state = State::Thought;
                return true;
            }
            if marks.begin.starts_with(begun) {
                return false;
            }
        }
        let bare = self.dialect.family.call.begin.is_empty() && !self.names.is_empty();
        self.state = match bare.then(|| self.bare()) {
            Some(None) => return false,
            Some(Some(true)) => {
                let body = Body::new(self.dialect.family.syntax, "");
                State::Call(Box::new(body))
            }
            _ => State::Text,
        };
        true
    }

    /// Whether what is held begins a call without marks; `None` where it is too early to tell.
    fn bare(&mut self) -> Option<bool> {
        const PYTHON: &str = "<|python_tag|>";
        let begun = self.held.trim_start();
        if let Some(rest) = begun.strip_prefix(PYTHON) {
            self.held = rest.to_owned();
            return self.bare();
        }
        if begun.is_empty() || PYTHON.starts_with(begun) {
            return None;
        }
        if !begun.starts_with('{') {
            return Some(false);
        }
        let mut trial = Body::new(self.dialect.family.syntax, "");
        let (mut held, mut parts) = (begun.to_owned(), Vec::new());
        let step = trial.push(&mut held, &mut parts, &|_, _| false);
        let offered = |name: &String| self.names.contains(name);
        let known = |part: &Part| matches!(part, Part::Begin { name, .. } if offered(name));
        match parts.first() {
            Some(part) => Some(known(part)),
            None if step == Step::More && begun.len() < BARE_MAX => None,
            None => Some(false),
        }
    }

    fn thought(&mut self, said: &mut Vec<Said>) -> bool {
        let Some(Marks { end, .. }) = self.dialect.thoughts else {
            self.state = State::Text;
            return true;
        };
        if let Some(at) = self.held.find(end) {
            let text: String = self.held.drain(..at + end.len()).collect();
            self.say(&text[..at], true, said);
            self.after_mark();
            self.state = State::Start;
            return true;
        }
        let safe = self.held.len() - partial(&self.held, &[end]);
        let text: String = self.held.drain(..safe).collect();
        self.say(&text, true, said);
        false
    }

    /// Space before a mark and after it is nobody's.
    fn after_mark(&mut self) {
        self.space.clear();
        self.lead = true;
    }

    fn text(&mut self, said: &mut Vec<Said>) -> bool {
        let family = self.dialect.family;
        let mark = family.section.map_or(family.call.begin, |section| section.begin);
        if self.names.is_empty() || mark.is_empty() {
            let text = std::mem::take(&mut self.held);
            self.say(&text, false, said);
            return false;
        }
        if let Some(at) = self.held.find(mark) {
            let text: String = self.held.drain(..at + mark.len()).collect();
            self.say(&text[..at], false, said);
            self.after_mark();
            self.state = match family.section {
                Some(_) => State::Section,
                None => State::Call(Box::new(Body::new(family.syntax, family.call.end))),
            };
            return true;
        }
        let safe = self.held.len() - partial(&self.held, &[mark]);
        let text: String = self.held.drain(..safe).collect();
        self.say(&text, false, said);
        false
    }

    fn section(&mut self) -> Result<bool, String> {
        let family = self.dialect.family;
        let begun = self.held.trim_start();
        let end = family.section.map_or("", |section| section.end);
        if let Some(rest) = begun.strip_prefix(family.call.begin) {
            self.held = rest.to_owned();
            self.state = State::Call(Box::new(Body::new(family.syntax, family.call.end)));
            return Ok(true);
        }
        if let Some(rest) = begun.strip_prefix(end) {
            self.held = rest.to_owned();
            self.after_mark();
            self.state = State::Text;
            return Ok(true);
        }
        if [family.call.begin, end].iter().any(|mark| mark.starts_with(begun)) {
            return Ok(false);
        }
        let found: String = begun.chars().take(20).collect();
        Err(format!("among tool calls there is {found:?}"))
    }

    fn call(&mut self, said: &mut Vec<Said>) -> Result<bool, String> {
        let State::Call(body) = &mut self.state else { return Ok(false) };
        let mut parts = Vec::new();
        let strings =
            |name: &str, key: &str| self.strings.contains(&(name.to_owned(), key.to_owned()));
        let step = body.push(&mut self.held, &mut parts, &strings);
        let mended = std::mem::take(&mut body.mended);
        self.tell(parts, said);
        self.mended(&mended);
        match step {
            Step::More => Ok(false),
            Step::Bad(why) => Err(why),
            Step::Done => {
                self.after_mark();
                self.state = match (self.dialect.family.syntax, self.dialect.family.section) {
                    (Syntax::Channels, _) => State::Header,
                    (_, Some(_)) => State::Section,
                    (_, None) => State::Text,
                };
                Ok(true)
            }
        }
    }

    fn mended(&mut self, mended: &[&str]) {
        let call = self.calls;
        self.notes.extend(mended.iter().map(|what| format!("tool call {call}: {what}")));
    }

    fn tell(&mut self, parts: Vec<Part>, said: &mut Vec<Said>) {
        for part in parts {
            let part = match part {
                Part::Begin { name, id } => {
                    if !self.names.contains(&name) {
                        self.notes.push(format!("it calls {name:?}, which is no tool of its"));
                    }
                    let id = id.unwrap_or_else(|| call_id(self.ids, self.calls));
                    self.calls += 1;
                    CallPart::Begin { id, name }
                }
                Part::Arguments(text) => CallPart::Arguments(text),
                Part::End => CallPart::End,
            };
            said.push(Said::Call { index: self.calls.saturating_sub(1), part });
        }
    }

    /// gpt-oss: all up to a message's text.
    fn header(&mut self, said: &mut Vec<Said>) -> Result<bool, String> {
        const MESSAGE: &str = "<|message|>";
        let Some(at) = self.held.find(MESSAGE) else { return Ok(false) };
        let header: String = self.held.drain(..at + MESSAGE.len()).collect();
        let header = &header[..at];
        self.lead = true;
        let to = header.split_once("to=functions.").map(|(_, rest)| rest);
        let name = to.map(|rest| rest.split([' ', '<']).next().unwrap_or_default());
        self.state = match name {
            Some(name) if !self.names.is_empty() => {
                let mut parts = Vec::new();
                let body = Body::named(Syntax::Channels, name.to_owned(), &mut parts);
                self.tell(parts, said);
                State::Call(Box::new(body))
            }
            _ if header.contains("<|channel|>analysis") => State::Message(Kind::Thought),
            _ => State::Message(Kind::Text),
        };
        Ok(true)
    }

    /// gpt-oss: a message's text, up to whatever mark ends it.
    fn message(&mut self, kind: Kind, said: &mut Vec<Said>) -> bool {
        let ends = CHANNELS.iter().filter_map(|mark| Some((self.held.find(mark)?, *mark)));
        let found = ends.min();
        let safe = match found {
            Some((at, _)) => at,
            None => self.held.len() - partial(&self.held, &CHANNELS),
        };
        let text: String = self.held.drain(..safe).collect();
        self.say(&text, kind == Kind::Thought, said);
        if found.is_some() {
            self.after_mark();
            self.state = State::Header;
        }
        found.is_some()
    }

    /// Passes text on, but for space at its edges that may belong to a mark.
    fn say(&mut self, text: &str, thought: bool, said: &mut Vec<Said>) {
        let text = if self.lead { text.trim_start() } else { text };
        if text.is_empty() {
            return;
        }
        self.lead = false;
        let marks = thought || !self.names.is_empty();
        let kept = if marks { text.trim_end() } else { text };
        let space = text[kept.len()..].to_owned();
        if kept.is_empty() {
            self.space.push_str(&space);
            return;
        }
        let text = std::mem::replace(&mut self.space, space) + kept;
        match (said.last_mut(), thought) {
            (Some(Said::Thought(before)), true) | (Some(Said::Text(before)), false) => {
                before.push_str(&text);
            }
            (_, true) => said.push(Said::Thought(text)),
            (_, false) => said.push(Said::Text(text)),
        }
    }
}

/// Bytes at the end of a text that may be the beginning of one of these marks.
fn partial(text: &str, marks: &[&str]) -> usize {
    let longest = marks.iter().map(|mark| mark.len()).max().unwrap_or(0);
    let first = (text.len() + 1).saturating_sub(longest);
    let mut starts = text.char_indices().map(|(at, _)| at).filter(|at| *at >= first);
    let begins = |at: &usize| marks.iter().any(|mark| mark.starts_with(&text[*at..]));
    starts.find(begins).map_or(0, |at| text.len() - at)
}

/// Nine letters and digits.
fn call_id(ids: u64, index: u32) -> String {
    const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    // SplitMix64's mixing (Steele, Lea and Flood, 2014).
    let mut x = ids.wrapping_add(u64::from(index).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^= x >> 31;
    let digit = |place: u32| char::from(LETTERS[(x / 36u64.pow(place) % 36) as usize]);
    (0..9).map(digit).collect()
}

/// Keys of a schema's properties that are texts.
fn string_keys(parameters: &str) -> Vec<String> {
    let schema: Value = serde_json::from_str(parameters).unwrap_or_default();
    let properties = schema["properties"].as_object().into_iter().flatten();
    let text = |property: &Value| property["type"] == "string";
    properties.filter(|(_, property)| text(property)).map(|(key, _)| key.clone()).collect()
}
