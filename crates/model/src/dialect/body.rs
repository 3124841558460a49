//! What stands within a call's marks, read as it comes: the tool's name, and arguments that are
//! passed on as soon as it is known whose they are. Absent: the marks themselves.

use super::json::{self, Progress};
use super::{Naming, Syntax, Tags};
use serde_json::{Map, Value};

/// A part of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Begin { name: String, id: Option<String> },
    Arguments(String),
    End,
}

/// How far a call is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// More of it has to come.
    More,
    /// It is complete, and what follows is none of it.
    Done,
    /// It is no call: what is wrong with it.
    Bad(String),
}

/// The longest name, header, or value outside of the arguments, in bytes.
const ASIDE_MAX: usize = 4096;

/// One call under way; with [`Syntax::Array`], all of an answer's.
#[derive(Clone, Debug)]
pub(super) struct Body {
    syntax: Syntax,
    /// What ends it; `""` where its own form does.
    end: &'static str,
    phase: Phase,
    aside: String,
    name: Option<String>,
    id: Option<String>,
    /// The key whose value comes.
    key: String,
    value: json::Value,
    /// All of the arguments, or those that came before the name.
    arguments: String,
    told: bool,
    pub(super) mended: Vec<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Before the array or the object.
    Open,
    Key,
    Colon,
    /// The value of a key that says something else.
    Other,
    /// The arguments, to be passed on.
    Arguments,
    /// After a value.
    Comma,
    /// After an array's object.
    Between,
    /// The header of a named call.
    Header,
    /// Between it and the arguments.
    Fence,
    /// All that is not read on the way.
    Whole,
    /// After all of it.
    Tail,
}

impl Body {
    pub(super) fn new(syntax: Syntax, end: &'static str) -> Self {
        let phase = match syntax {
            Syntax::Object(_) | Syntax::Array(_) => Phase::Open,
            Syntax::Named(..) => Phase::Header,
            Syntax::Tagged(_) | Syntax::Braced => Phase::Whole,
            Syntax::Channels => Phase::Arguments,
        };
        Self {
            syntax,
            end,
            phase,
            aside: String::new(),
            name: None,
            id: None,
            key: String::new(),
            value: json::Value::default(),
            arguments: String::new(),
            told: false,
            mended: Vec::new(),
        }
    }

    /// A call whose name the header told already.
    pub(super) fn named(syntax: Syntax, name: String, out: &mut Vec<Part>) -> Self {
        let mut body = Self::new(syntax, "");
        body.name = Some(name);
        body.begin(out);
        body
    }

    /// Reads from the front of `held` what it can.
    pub(super) fn push(
        &mut self,
        held: &mut String,
        out: &mut Vec<Part>,
        strings: &dyn Fn(&str, &str) -> bool,
    ) -> Step {
        loop {
            match self.phase {
                Phase::Tail => break self.tail(held),
                Phase::Header => match self.header(held, out) {
                    Step::Done => {}
                    other => break other,
                },
                Phase::Fence => match self.fence(held) {
                    Step::Done => self.phase = Phase::Arguments,
                    other => break other,
                },
                Phase::Whole => match self.whole(held, out, strings) {
                    Step::Done => self.phase = Phase::Tail,
                    other => break other,
                },
                _ => {
                    if let Some(step) = self.character(held, out) {
                        break step;
                    }
                }
            }
        }
    }

    /// One character; a step where there is none, or no more is wanted.
    fn character(&mut self, held: &mut String, out: &mut Vec<Part>) -> Option<Step> {
        let in_key = self.phase == Phase::Key && !self.aside.is_empty();
        if !self.end.is_empty() && !self.value.in_text() && !in_key {
            if held.starts_with(self.end) {
                return self.finish(out).err().map(Step::Bad); // it came early
            }
            if !held.is_empty() && self.end.starts_with(held.as_str()) {
                return Some(Step::More); // perhaps the mark
            }
        }
        let Some(c) = held.chars().next() else { return Some(Step::More) };
        let wrong = |what: &'static str| Some(Step::Bad(format!("{what}, not {c:?}")));
        let verdict = match self.phase {
            Phase::Open if c.is_whitespace() => None,
            Phase::Open => self.open(c).and_then(wrong),
            Phase::Key => self.key(c, out),
            Phase::Colon if c.is_whitespace() => None,
            Phase::Colon if c == ':' => {
                self.value = json::Value::default();
                let arguments = self.is_arguments();
                self.phase = if arguments { Phase::Arguments } else { Phase::Other };
                None
            }
            Phase::Colon => wrong("a colon should come"),
            Phase::Other | Phase::Arguments => return self.in_value(c, held, out),
            Phase::Comma if c.is_whitespace() => None,
            Phase::Comma if c == ',' => {
                self.phase = Phase::Key;
                None
            }
            Phase::Comma if c == '}' => self.close(out),
            Phase::Comma => wrong("a comma or the end should come"),
            Phase::Between if c.is_whitespace() || c == ',' => None,
            Phase::Between if c == ']' => {
                self.phase = Phase::Tail;
                None
            }
            Phase::Between if c == '{' => {
                let fresh = Self::new(self.syntax, self.end);
                let mended = std::mem::take(&mut self.mended);
                *self = Self { phase: Phase::Key, mended, ..fresh };
                None
            }
            Phase::Between => wrong("another call or the end should come"),
            Phase::Header | Phase::Fence | Phase::Whole | Phase::Tail => {
                wrong("nothing should come")
            }
        };
        held.remove(0);
        verdict
    }

    /// A character of a key, or in its place.
    fn key(&mut self, c: char, out: &mut Vec<Part>) -> Option<Step> {
        if self.aside.is_empty() {
            return match c {
                c if c.is_whitespace() => None,
                '"' => {
                    self.aside.push(c);
                    None
                }
                '}' => self.close(out),
                _ => Some(Step::Bad(format!("a key should come, not {c:?}"))),
            };
        }
        self.aside.push(c);
        if c == '"'
            && let Ok(key) = serde_json::from_str(&self.aside)
        {
            self.key = key;
            self.aside.clear();
            self.phase = Phase::Colon;
        }
        (self.aside.len() > ASIDE_MAX).then(|| Step::Bad("a key is too long".into()))
    }

    fn open(&mut self, c: char) -> Option<&'static str> {
        match (self.syntax, c) {
            (Syntax::Array(_), '[') => self.phase = Phase::Between,
            // One call is written without its array, by some.
            (Syntax::Object(_) | Syntax::Array(_), '{') => self.phase = Phase::Key,
            _ => return Some("a JSON object should come"),
        }
        None
    }

    fn is_arguments(&self) -> bool {
        match self.syntax {
            Syntax::Object(key) | Syntax::Array(key) => {
                self.key == key || self.key == "arguments" || self.key == "parameters"
            }
            _ => true,
        }
    }

    fn in_value(&mut self, c: char, held: &mut String, out: &mut Vec<Part>) -> Option<Step> {
        let mut text = String::new();
        let progress = self.value.push(c, &mut text);
        if progress == Progress::Bad {
            return Some(Step::Bad(format!("{c:?} cannot stand there in JSON")));
        }
        if progress != Progress::DoneBefore {
            held.remove(0);
        }
        if self.phase == Phase::Other {
            self.aside.push_str(&text);
            if self.aside.len() > ASIDE_MAX {
                return Some(Step::Bad("a value beside the arguments is too long".into()));
            }
        } else {
            self.arguments.push_str(&text);
            // A text in the place of an object is looked into when it is complete.
            if self.told && self.arguments.starts_with('{') {
                match out.last_mut() {
                    Some(Part::Arguments(before)) => before.push_str(&text),
                    _ if text.is_empty() => {}
                    _ => out.push(Part::Arguments(text)),
                }
            }
        }
        if progress == Progress::More {
            return None;
        }
        self.value_ended(out)
    }

    fn value_ended(&mut self, out: &mut Vec<Part>) -> Option<Step> {
        self.mended.extend(self.value.mended());
        self.value = json::Value::default();
        if self.phase == Phase::Other {
            let value = std::mem::take(&mut self.aside);
            let text = serde_json::from_str::<String>(&value);
            match (self.key.as_str(), text) {
                ("name", Ok(name)) => {
                    self.name = Some(name);
                    self.begin(out);
                }
                ("name", Err(_)) => return Some(Step::Bad("the name is no text".into())),
                ("id", Ok(id)) => self.id = Some(id),
                _ => {}
            }
            self.phase = Phase::Comma;
            return None;
        }
        if let Err(step) = self.check_arguments(out) {
            return Some(step);
        }
        match self.syntax {
            Syntax::Object(_) | Syntax::Array(_) => self.phase = Phase::Comma,
            _ => {
                out.push(Part::End);
                self.phase = Phase::Tail;
            }
        }
        None
    }

    /// The name is known: the call begins, with the arguments that came before it.
    fn begin(&mut self, out: &mut Vec<Part>) {
        if self.told {
            return;
        }
        let name = self.name.clone().unwrap_or_default();
        out.push(Part::Begin { name, id: self.id.take() });
        self.told = true;
        if self.arguments.starts_with('{') {
            out.push(Part::Arguments(self.arguments.clone()));
        }
    }

    /// The arguments are complete: whether they are an object. A text that holds one is taken for
    /// it, and nothing at all for an empty one.
    fn check_arguments(&mut self, out: &mut Vec<Part>) -> Result<(), Step> {
        let read: Result<Value, _> = serde_json::from_str(&self.arguments);
        let object = match read {
            Ok(Value::Object(_)) => return Ok(()),
            Ok(Value::String(text)) => {
                serde_json::from_str::<Map<String, Value>>(&text).ok().map(|_| text)
            }
            Ok(Value::Null) => Some("{}".to_owned()),
            _ => None,
        };
        let Some(object) = object else {
            return Err(Step::Bad("the arguments are no JSON object".into()));
        };
        self.mended.push("arguments that were written as a text were read as an object");
        self.arguments.clone_from(&object);
        if self.told {
            out.push(Part::Arguments(object));
        }
        Ok(())
    }

    /// The object's closing bracket came.
    fn close(&mut self, out: &mut Vec<Part>) -> Option<Step> {
        if self.name.is_none() {
            return Some(Step::Bad("it names no tool".into()));
        }
        if self.arguments.is_empty() {
            self.arguments.push_str("{}");
            out.push(Part::Arguments("{}".into()));
        }
        out.push(Part::End);
        self.phase =
            if matches!(self.syntax, Syntax::Array(_)) { Phase::Between } else { Phase::Tail };
        None
    }

    /// Nothing more comes: closes what is left open, where it is plain how.
    pub(super) fn finish(&mut self, out: &mut Vec<Part>) -> Result<(), String> {
        let open = || "it ended in the middle".to_owned();
        match self.phase {
            Phase::Tail | Phase::Between => return Ok(()),
            Phase::Arguments => {
                let rest = self.value.close().ok_or_else(open)?;
                self.arguments.push_str(&rest);
                if self.told && self.arguments.starts_with('{') && !rest.is_empty() {
                    out.push(Part::Arguments(rest));
                }
                if let Some(Step::Bad(why)) = self.value_ended(out) {
                    return Err(why);
                }
            }
            Phase::Comma => {}
            Phase::Key if self.aside.is_empty() && !self.arguments.is_empty() => {}
            _ => return Err(open()),
        }
        if self.phase == Phase::Tail {
            return Ok(()); // the arguments were all of it
        }
        self.mended.push("brackets that were left open were closed");
        match self.close(out) {
            Some(Step::Bad(why)) => Err(why),
            _ => {
                self.phase = Phase::Tail;
                Ok(())
            }
        }
    }

    fn header(&mut self, held: &mut String, out: &mut Vec<Part>) -> Step {
        let Syntax::Named(naming, mark) = self.syntax else { return Step::Done };
        let Some(at) = held.find(mark) else {
            let long = held.len() > ASIDE_MAX;
            return if long { Step::Bad("it names no tool".into()) } else { Step::More };
        };
        let header: String = held.drain(..at + mark.len()).collect();
        let header = header[..at].trim();
        let (name, id) = match naming {
            Naming::Plain => (header, None),
            Naming::Typed(mark) => (header.rsplit(mark).next().unwrap_or(header), None),
            Naming::Indexed => {
                let name = header.rsplit_once(':').map_or(header, |(name, _)| name);
                (name.strip_prefix("functions.").unwrap_or(name), Some(header))
            }
            Naming::Id(mark) => match header.split_once(mark) {
                Some((name, id)) => (name, Some(id)),
                None => (header, None),
            },
        };
        if name.trim().is_empty() {
            return Step::Bad("it names no tool".into());
        }
        self.name = Some(name.trim().to_owned());
        self.id = id.map(|id| id.trim().to_owned());
        self.begin(out);
        self.phase = Phase::Fence;
        Step::Done
    }

    /// DeepSeek writes its arguments within a fence.
    fn fence(&self, held: &mut String) -> Step {
        const FENCE: &str = "```json";
        let begun = held.trim_start();
        if let Some(rest) = begun.strip_prefix(FENCE) {
            *held = rest.to_owned();
            return Step::Done;
        }
        if FENCE.starts_with(begun) { Step::More } else { Step::Done }
    }

    fn tail(&mut self, held: &mut String) -> Step {
        if self.end.is_empty() {
            return Step::Done;
        }
        let rest = held.trim_start().trim_start_matches('`').trim_start();
        let cut = held.len() - rest.len();
        held.drain(..cut);
        if held.starts_with(self.end) {
            held.drain(..self.end.len());
            return Step::Done;
        }
        if held.is_empty() || self.end.starts_with(held.as_str()) {
            return Step::More;
        }
        Step::Bad(format!("{:?} follows its arguments", held.chars().take(20).collect::<String>()))
    }

    /// Reads what is complete only at its end.
    fn whole(
        &mut self,
        held: &mut String,
        out: &mut Vec<Part>,
        strings: &dyn Fn(&str, &str) -> bool,
    ) -> Step {
        let Some(at) = held.find(self.end) else { return Step::More };
        let text: String = held.drain(..at).collect();
        let read = match self.syntax {
            Syntax::Tagged(tags) => tagged(&text, tags, strings),
            _ => braced(&text),
        };
        match read {
            Ok((name, arguments)) => {
                out.push(Part::Begin { name, id: None });
                out.push(Part::Arguments(arguments));
                out.push(Part::End);
                self.told = true;
                Step::Done
            }
            Err(why) => Step::Bad(why),
        }
    }
}

/// The text between two marks, and what comes after.
fn between<'a>(text: &'a str, begin: &str, end: &str) -> Option<(&'a str, &'a str)> {
    let (inner, rest) = text.trim_start().strip_prefix(begin)?.split_once(end)?;
    Some((inner, rest))
}

/// A name, then keys and values in marks. A value whose schema says that it is a text is one as it
/// stands; others are JSON, or else texts.
fn tagged(
    text: &str,
    tags: &Tags,
    strings: &dyn Fn(&str, &str) -> bool,
) -> Result<(String, String), String> {
    let wrong = || "its marks are not in order".to_owned();
    let (name, mut rest) = if tags.name.end.is_empty() {
        let at = text.find(tags.key.begin).unwrap_or(text.len());
        (&text[..at], &text[at..])
    } else {
        between(text, tags.name.begin, tags.name.end).ok_or_else(wrong)?
    };
    let name = name.trim();
    if name.is_empty() {
        return Err("it names no tool".into());
    }
    let mut arguments = Map::new();
    while rest.trim_start().starts_with(tags.key.begin) {
        let (key, after) = between(rest, tags.key.begin, tags.key.end).ok_or_else(wrong)?;
        let inner = if tags.value.begin.is_empty() {
            after.split_once(tags.value.end)
        } else {
            between(after, tags.value.begin, tags.value.end)
        };
        let (value, after) = inner.ok_or_else(wrong)?;
        // One line feed on either side is the form's, not the value's.
        let value = value.strip_prefix('\n').unwrap_or(value);
        let value = value.strip_suffix('\n').unwrap_or(value);
        let text = || Value::String(value.to_owned());
        let key = key.trim();
        let read = if strings(name, key) {
            text()
        } else {
            serde_json::from_str(value).unwrap_or_else(|_| text())
        };
        arguments.insert(key.to_owned(), read);
        rest = after;
    }
    match rest.trim() {
        "" | "</function>" => Ok((name.to_owned(), Value::Object(arguments).to_string())),
        _ => Err(wrong()),
    }
}

pub(super) const QUOTE: &str = "<|\"|>";

/// `call:NAME{key:value}` as Gemma writes it.
fn braced(text: &str) -> Result<(String, String), String> {
    let wrong = || "its brackets are not in order".to_owned();
    let call = text.trim().strip_prefix("call:").ok_or_else(wrong)?;
    let at = call.find('{').ok_or_else(wrong)?;
    let (value, rest) = braced_value(&call[at..], 0).ok_or_else(wrong)?;
    if !rest.trim().is_empty() || call[..at].trim().is_empty() {
        return Err(wrong());
    }
    Ok((call[..at].trim().to_owned(), value.to_string()))
}

/// A value, and what comes after it.
fn braced_value(text: &str, depth: usize) -> Option<(Value, &str)> {
    let text = text.trim_start();
    if depth > 64 {
        return None;
    }
    if let Some(rest) = text.strip_prefix(QUOTE) {
        let (value, rest) = rest.split_once(QUOTE)?;
        return Some((Value::String(value.to_owned()), rest));
    }
    if let Some(mut rest) = text.strip_prefix('{') {
        let mut map = Map::new();
        loop {
            rest = rest.trim_start().trim_start_matches(',').trim_start();
            if let Some(rest) = rest.strip_prefix('}') {
                return Some((Value::Object(map), rest));
            }
            let (key, after) = rest.split_once(':')?;
            let key = key.trim().trim_start_matches(QUOTE).trim_end_matches(QUOTE);
            let (value, after) = braced_value(after, depth + 1)?;
            map.insert(key.trim_matches('"').to_owned(), value);
            rest = after;
        }
    }
    if let Some(mut rest) = text.strip_prefix('[') {
        let mut list = Vec::new();
        loop {
            rest = rest.trim_start().trim_start_matches(',').trim_start();
            if let Some(rest) = rest.strip_prefix(']') {
                return Some((Value::Array(list), rest));
            }
            let (value, after) = braced_value(rest, depth + 1)?;
            list.push(value);
            rest = after;
        }
    }
    let end = text.find([',', '}', ']']).unwrap_or(text.len());
    let value = serde_json::from_str(text[..end].trim()).ok()?;
    Some((value, &text[end..]))
}
