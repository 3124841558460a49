//! What a call asked and got, as one line of JSON, encrypted before it reaches the ledger. Absent:
//! the keys that open it: a server never has one.

use ingle_gateway::route::{Part, Said};
use ingle_ledger::{Place, Recipients, Sealed};
use ingle_protocol::{Entry, Input, Message, Request};
use serde_json::{Map, Value, json};

use crate::ui::Usage;

/// The most bytes of what was asked that are kept.
const ASKED_BYTES: usize = 512 << 10;
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
    /// As much of a text as there is room for.
    fn take(&mut self, text: &str) -> Value {
        let most = text.len().min(self.left);
        let fits = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        self.cut |= fits < text.len();
        self.left -= fits;
        Value::from(&text[..fits])
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
            let calls = message.tool_calls.iter();
            let calls = calls.map(|call| {
                json!({ "name": self.take(&call.name), "arguments": self.take(&call.arguments) })
            });
            all.insert("tool_calls".into(), calls.collect());
        }
        if !message.pictures.is_empty() {
            all.insert("pictures_not_kept".into(), message.pictures.len().into());
        }
        Value::Object(all)
    }

    fn input(&mut self, input: &Input) -> Value {
        match input {
            Input::Chat(chat) => {
                // The newest turns say most, so they have the room first.
                let newest = chat.messages.iter().rev();
                let mut kept: Vec<Value> = Vec::new();
                for message in newest {
                    if self.left == 0 {
                        self.cut = true;
                        break;
                    }
                    // A turn has bytes of its own besides its words.
                    self.left = self.left.saturating_sub(32);
                    kept.push(self.message(message));
                }
                kept.reverse();
                json!({ "messages": kept })
            }
            Input::Text(text) => json!({ "text": self.take(text) }),
            Input::Gap(gap) => {
                json!({ "prefix": self.take(&gap.prefix), "suffix": self.take(&gap.suffix) })
            }
            Input::Tokens(tokens) => {
                let kept = &tokens[..tokens.len().min(self.left / 8)];
                self.cut |= kept.len() < tokens.len();
                let ids: Vec<Value> = kept.iter().map(|token| json!(token)).collect();
                json!({ "tokens": ids })
            }
        }
    }
}

/// One line of JSON: the call, what it asked, and what it got.
fn line(entry: &Entry, request: &Request, said: &Said) -> String {
    let mut room = Room { left: ASKED_BYTES, cut: false };
    let asked = room.input(&request.input);
    let part = |(part, text): &(Part, String)| {
        let name = match part {
            Part::Text => "text",
            Part::Reasoning => "reasoning",
            Part::Tool => "tool",
            Part::Arguments => "arguments",
            Part::Passed => "passed",
        };
        json!({ name: text })
    };
    let answer: Vec<Value> = said.parts().iter().map(part).collect();
    let call = &entry.id;
    let cut = room.cut || said.is_cut();
    json!({ "call": call, "at_ms": entry.at_ms, "asked": asked, "answer": answer, "cut": cut })
        .to_string()
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
    use ingle_protocol::Chat;

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
    fn what_is_too_long_keeps_its_newest_turns() {
        let long = "é".repeat(ASKED_BYTES);
        let said = told(&chat(&["first", &long, "last"]));
        assert_eq!(said["cut"], true);
        let turns = said["asked"]["messages"].as_array().expect("a list");
        assert_eq!((turns.len(), &turns[1]["content"]), (2, &json!("last")));
        let kept = turns[0]["content"].as_str().expect("a text");
        assert!(kept.len() > ASKED_BYTES - 200 && kept.len() <= ASKED_BYTES);
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
