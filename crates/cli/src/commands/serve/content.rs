//! What a call asked and got, as one line of JSON, encrypted before it reaches the ledger; and how
//! much of that waits for the ledger. Absent: the keys that open it: a server never has one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ingle_gateway::route::{Part, Said};
use ingle_ledger::{Place, Recipients, Sealed};
use ingle_protocol::{Entry, Grammar, Input, Message, Request, Sampling, Tool};
use serde_json::{Map, Value, json};

use crate::ui::Usage;

/// The most bytes of what was asked that are kept, and of what was got, as JSON writes them.
const WORDS_BYTES: usize = 512 << 10;
/// What each turn, call and part counts beside its words.
const AROUND_BYTES: usize = 64;
/// What each token id counts.
const TOKEN_BYTES: usize = 12;
/// The most bytes of encrypted content that wait for the ledger, all together.
const WAITING_BYTES: usize = 64 << 20;
/// The most bytes of a file of recipients.
const FILE_BYTES: u64 = 64 << 10;

/// Recipients as they are given: each a key, or a file of keys.
pub(super) fn recipients(given: &[String]) -> anyhow::Result<Option<Recipients>> {
    if given.is_empty() {
        return Ok(None);
    }
    let mut all = String::new();
    for one in given {
        // A secret key, given by mistake, is no file's name: it would be in an error.
        let is_key = one.starts_with("age1") || one.starts_with("AGE-SECRET-KEY-");
        let (from, text) = match is_key {
            true => ("--ledger-content", one.clone()),
            false => (one.as_str(), super::super::model::read_text(one, FILE_BYTES)?),
        };
        Recipients::read(from, &text).map_err(|error| Usage(error.to_string()))?;
        all.push_str(&text);
        all.push('\n');
    }
    let all = Recipients::read("--ledger-content", &all);
    Ok(Some(all.map_err(|error| Usage(error.to_string()))?))
}

/// How many bytes of content wait for the ledger.
#[derive(Debug, Default)]
pub(super) struct Waiting(Arc<AtomicUsize>);

/// A part of what waits; dropped, it waits no more.
#[derive(Debug)]
pub(super) struct Waits {
    all: Arc<AtomicUsize>,
    bytes: usize,
}

impl Waiting {
    /// Has so many bytes more wait, where there is room for them.
    pub(super) fn add(&self, bytes: usize) -> Option<Waits> {
        let fits = |all: usize| all.checked_add(bytes).filter(|all| *all <= WAITING_BYTES);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(Waits { all: Arc::clone(&self.0), bytes })
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Whether words may be kept in a place: those that may be nowhere but on this machine in a file
/// alone, however well they are encrypted.
pub(super) fn may_be_kept(place: &Place, stays: bool) -> bool {
    !stays || matches!(place, Place::File(_))
}

/// Texts up to a bound.
struct Room {
    left: usize,
    cut: bool,
}

impl Room {
    fn new() -> Self {
        Self { left: WORDS_BYTES, cut: false }
    }

    /// As much of a text as there is room for.
    fn take(&mut self, text: &str) -> Value {
        let mut fits = 0;
        for (at, c) in text.char_indices() {
            let Some(left) = self.left.checked_sub(written(c)) else { break };
            (self.left, fits) = (left, at + c.len_utf8());
        }
        self.cut |= fits < text.len();
        Value::from(&text[..fits])
    }

    /// Whether there is room for one more of a list, which has bytes of its own besides its words.
    fn one_more(&mut self) -> bool {
        self.cut |= self.left == 0;
        let fits = self.left > 0;
        self.left = self.left.saturating_sub(AROUND_BYTES);
        fits
    }

    fn message(&mut self, message: &Message) -> Value {
        let mut all = Map::new();
        all.insert("role".into(), self.take(&message.role));
        all.insert("content".into(), self.take(&message.content));
        let optional = [
            ("reasoning", &message.reasoning),
            ("name", &message.name),
            ("tool_call_id", &message.tool_call_id),
        ];
        for (name, text) in optional {
            if let Some(text) = text {
                all.insert(name.into(), self.take(text));
            }
        }
        if !message.tool_calls.is_empty() {
            let mut calls: Vec<Value> = Vec::new();
            for call in &message.tool_calls {
                if !self.one_more() {
                    break;
                }
                let [id, name, arguments] =
                    [&call.id, &call.name, &call.arguments].map(|text| self.take(text));
                calls.push(json!({ "id": id, "name": name, "arguments": arguments }));
            }
            all.insert("tool_calls".into(), calls.into());
        }
        if !message.pictures.is_empty() {
            all.insert("pictures_not_kept".into(), message.pictures.len().into());
        }
        Value::Object(all)
    }

    fn asked(&mut self, request: &Request) -> Value {
        let mut all = Map::new();
        match &request.input {
            Input::Chat(chat) => {
                // The newest turns say most, so they have the room first.
                let newest = chat.messages.iter().rev();
                let mut kept: Vec<Value> = Vec::new();
                for message in newest {
                    if !self.one_more() {
                        break;
                    }
                    kept.push(self.message(message));
                }
                kept.reverse();
                all.insert("messages".into(), kept.into());
                self.tools(&mut all, &chat.tools);
                self.text(&mut all, "template_kwargs", &chat.template_kwargs);
            }
            Input::Text(text) => _ = all.insert("text".into(), self.take(text)),
            Input::Gap(gap) => {
                all.insert("prefix".into(), self.take(&gap.prefix));
                all.insert("suffix".into(), self.take(&gap.suffix));
                self.text(&mut all, "begun", &gap.begun);
            }
            Input::Tokens(tokens) => {
                let kept = &tokens[..tokens.len().min(self.left / TOKEN_BYTES)];
                self.cut |= kept.len() < tokens.len();
                let ids: Vec<Value> = kept.iter().map(|token| json!(token)).collect();
                all.insert("tokens".into(), ids.into());
            }
        }
        self.terms(&mut all, request);
        Value::Object(all)
    }

    /// A text, where there is one.
    fn text(&mut self, all: &mut Map<String, Value>, name: &str, text: &str) {
        if !text.is_empty() {
            all.insert(name.into(), self.take(text));
        }
    }

    /// Texts, where there are any.
    fn texts(&mut self, all: &mut Map<String, Value>, name: &str, texts: &[String]) {
        let mut kept: Vec<Value> = Vec::new();
        for text in texts {
            if !self.one_more() {
                break;
            }
            kept.push(self.take(text));
        }
        if !texts.is_empty() {
            all.insert(name.into(), kept.into());
        }
    }

    fn tools(&mut self, all: &mut Map<String, Value>, tools: &[Tool]) {
        let mut kept: Vec<Value> = Vec::new();
        for tool in tools {
            if !self.one_more() {
                break;
            }
            let mut one = Map::new();
            one.insert("name".into(), self.take(&tool.name));
            self.text(&mut one, "description", tool.description.as_deref().unwrap_or_default());
            self.text(&mut one, "parameters", &tool.parameters);
            kept.push(one.into());
        }
        if !tools.is_empty() {
            all.insert("tools".into(), kept.into());
        }
    }

    /// The words of what an answer has to be like.
    fn terms(&mut self, all: &mut Map<String, Value>, request: &Request) {
        match &request.grammar {
            None => {}
            Some(Grammar::JsonSchema(text)) => self.text(all, "json_schema", text),
            Some(Grammar::Regex(text)) => self.text(all, "regex", text),
            Some(Grammar::Lark(text)) => self.text(all, "lark", text),
            Some(Grammar::Gbnf(text)) => self.text(all, "gbnf", text),
            Some(Grammar::Choice(texts)) => self.texts(all, "choice", texts),
        }
        self.texts(all, "stop", &request.stop);
        let sampling = &request.sampling;
        self.texts(all, "bad_words", &sampling.bad_words);
        let bias = sampling.text_bias.iter().map(|(text, _)| text.clone());
        self.texts(all, "text_bias", &bias.collect::<Vec<_>>());
        let breakers = &sampling.dry.breakers;
        if *breakers != Sampling::default().dry.breakers {
            self.texts(all, "dry_sequence_breakers", breakers);
        }
    }
}

/// What a call got, in its parts.
fn answer(room: &mut Room, said: &Said) -> Value {
    let mut parts: Vec<Value> = Vec::new();
    for (part, text) in said.parts() {
        if !room.one_more() {
            break;
        }
        let name = match part {
            Part::Text => "text",
            Part::Reasoning => "reasoning",
            Part::Tool => "tool",
            Part::Arguments => "arguments",
            Part::Passed => "passed",
        };
        parts.push(json!({ name: room.take(text) }));
    }
    parts.into()
}

/// One line of JSON: the call, what it asked, and what it got. It is never longer than some MiB.
fn line(entry: &Entry, request: &Request, said: &Said) -> String {
    let (mut of_asked, mut of_answer) = (Room::new(), Room::new());
    let asked = of_asked.asked(request);
    let answer = answer(&mut of_answer, said);
    let call = &entry.id;
    let cut = of_asked.cut || of_answer.cut || said.is_cut();
    json!({ "call": call, "at_ms": entry.at_ms, "asked": asked, "answer": answer, "cut": cut })
        .to_string()
}

/// The bytes of a character in a JSON text.
fn written(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        c if c < ' ' => 6,
        c => c.len_utf8(),
    }
}

/// The same, encrypted.
pub(super) fn seal(
    recipients: &Recipients,
    entry: &Entry,
    request: &Request,
    said: &Said,
) -> ingle_ledger::Result<Sealed> {
    recipients.seal(line(entry, request, said).as_bytes())
}

#[cfg(test)]
mod tests {
    use ingle_protocol::{Chat, Gap, Picture, ToolCall};

    use super::*;

    fn chat(texts: &[&str]) -> Request {
        let message = |text: &&str| Message {
            role: "user".into(),
            content: (*text).into(),
            ..Message::default()
        };
        let messages = texts.iter().map(message).collect();
        Request { input: Input::Chat(Chat { messages, ..Chat::default() }), ..Request::default() }
    }

    fn told(request: &Request) -> Value {
        let entry = Entry { id: "a".into(), at_ms: 5, ..Entry::default() };
        let line = line(&entry, request, &Said::default());
        assert!(!line.contains('\n'), "one line");
        serde_json::from_str(&line).expect("JSON")
    }

    #[test]
    fn what_was_asked_is_a_line() {
        let said = told(&chat(&["one\n", "two"]));
        assert_eq!(
            (&said["call"], &said["at_ms"], &said["cut"]),
            (&json!("a"), &json!(5), &json!(false))
        );
        let turn = |text: &str| json!({ "role": "user", "content": text });
        assert_eq!(said["asked"]["messages"], json!([turn("one\n"), turn("two")]));
        let text = Request { input: Input::Text("x".into()), ..Request::default() };
        assert_eq!(told(&text)["asked"], json!({ "text": "x" }));
        let tokens = Request { input: Input::Tokens(vec![1, 2]), ..Request::default() };
        assert_eq!(told(&tokens)["asked"], json!({ "tokens": [1, 2] }));
    }

    #[test]
    fn what_is_asked_beside_the_turns_is_kept_too() {
        let check = |request: Request, expect: Value| {
            let told = told(&request);
            assert_eq!((&told["asked"], &told["cut"]), (&expect, &json!(false)));
        };
        let gap = Gap { prefix: "a".into(), suffix: "b".into(), begun: "c".into() };
        check(
            Request { input: Input::Gap(gap), stop: vec!["d".into()], ..Request::default() },
            json!({ "prefix": "a", "suffix": "b", "begun": "c", "stop": ["d"] }),
        );
        let call = ToolCall { id: "1".into(), name: "look".into(), arguments: "{}".into() };
        let turn = Message { tool_calls: vec![call], ..Message::default() };
        let tool = Tool {
            name: "look".into(),
            description: Some("looks".into()),
            parameters: "{\"a\":1}".into(),
            ..Tool::default()
        };
        let plain = Tool { name: "plain".into(), ..Tool::default() };
        let chat = Chat {
            messages: vec![turn],
            tools: vec![tool, plain],
            template_kwargs: "{\"b\":2}".into(),
            ..Chat::default()
        };
        let mut request = Request {
            input: Input::Chat(chat),
            grammar: Some(Grammar::JsonSchema("{}".into())),
            ..Request::default()
        };
        request.sampling.bad_words = vec!["heron".into()];
        request.sampling.text_bias = vec![("crane".into(), 0.5)];
        request.sampling.dry.breakers = vec!["e".into()];
        let looks = json!({ "name": "look", "description": "looks", "parameters": "{\"a\":1}" });
        let calls = json!([{ "id": "1", "name": "look", "arguments": "{}" }]);
        check(
            request,
            json!({
                "messages": [{ "role": "", "content": "", "tool_calls": calls }],
                "tools": [looks, { "name": "plain" }],
                "template_kwargs": "{\"b\":2}",
                "json_schema": "{}",
                "bad_words": ["heron"],
                "text_bias": ["crane"],
                "dry_sequence_breakers": ["e"],
            }),
        );
        let choice = Grammar::Choice(vec!["x".into(), "y".into()]);
        let request = Request { grammar: Some(choice), ..Request::default() };
        check(request, json!({ "text": "", "choice": ["x", "y"] }));
        // What has no room is told.
        let long = Grammar::Regex("a".repeat(WORDS_BYTES + 1));
        let request = Request { grammar: Some(long), ..Request::default() };
        assert_eq!(told(&request)["cut"], true);
    }

    #[test]
    fn what_is_too_long_keeps_its_newest_turns() {
        let long = "é".repeat(WORDS_BYTES);
        let said = told(&chat(&["first", &long, "last"]));
        assert_eq!(said["cut"], true);
        let turns = said["asked"]["messages"].as_array().expect("a list");
        assert_eq!((turns.len(), &turns[1]["content"]), (2, &json!("last")));
        let kept = turns[0]["content"].as_str().expect("a text");
        assert!(kept.len() > WORDS_BYTES - 200 && kept.len() <= WORDS_BYTES);
    }

    /// A line is bounded whatever is in it: words, what JSON makes of them, what is around them.
    #[test]
    fn no_line_is_long() {
        let check = |messages: Vec<Message>| {
            let chat = Chat { messages, ..Chat::default() };
            let request = Request { input: Input::Chat(chat), ..Request::default() };
            let entry = Entry::default();
            let line = line(&entry, &request, &Said::default());
            let told: Value = serde_json::from_str(&line).expect("JSON");
            assert_eq!(told["cut"], true);
            assert!(line.len() <= 1 << 20, "{} bytes", line.len());
        };
        let empty = || Some(String::new());
        let call = ToolCall { id: "1".into(), name: String::new(), arguments: String::new() };
        let turn = Message {
            reasoning: empty(),
            name: empty(),
            tool_call_id: empty(),
            tool_calls: vec![call.clone()],
            pictures: vec![Picture::default()],
            ..Message::default()
        };
        check(vec![Message { tool_calls: vec![call; 100_000], ..Message::default() }]);
        check(vec![turn; 100_000]);
        check(vec![Message { content: "\u{1}\"".repeat(WORDS_BYTES), ..Message::default() }]);
    }

    #[test]
    fn so_many_bytes_wait_and_no_more() {
        let waiting = Waiting::default();
        let most = waiting.add(WAITING_BYTES - 10).expect("there is room");
        let rest = waiting.add(10).expect("there is room");
        assert!(waiting.add(1).is_none() && waiting.add(usize::MAX).is_none());
        drop(rest);
        assert!(waiting.add(11).is_none(), "what was refused takes nothing");
        drop((waiting.add(10).expect("there is room"), most));
        assert!(waiting.add(WAITING_BYTES).is_some());
    }

    #[test]
    fn what_stays_on_this_machine_is_kept_in_a_file_alone() {
        let check = |place: &str, expect: [bool; 2]| {
            let place: Place = place.parse().expect("a place");
            assert_eq!([false, true].map(|stays| may_be_kept(&place, stays)), expect, "{place}");
        };
        check("ledger.sqlite", [true, true]);
        check("postgres://db.example/x", [true, false]);
        check("postgres://localhost/x", [true, false]);
    }

    #[test]
    fn recipients_are_keys_or_files() {
        let wrong = |given: &str| recipients(&[given.to_owned()]).expect_err(given).to_string();
        assert!(wrong("age1nonsense").contains("--ledger-content"));
        assert!(!wrong("AGE-SECRET-KEY-1X").contains("AGE-SECRET-KEY-1X"));
        assert!(wrong("/nowhere/keys.txt").contains("/nowhere/keys.txt"));
        assert!(recipients(&[]).expect("is nothing").is_none());
    }
}
