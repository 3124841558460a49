//! Golden answers of each family, cut into pieces in every way, and the grammars of forced ones.

use super::*;
use crate::gguf::Gguf;
use ingle_protocol::{CallPart, Message, Tool, ToolChoice};
use serde_json::Value;

const GOLDEN: &str = include_str!("../../tests/fixtures/dialects.json");

fn chat() -> Chat {
    let tool = |name: &str, parameters: &str| Tool {
        name: name.into(),
        parameters: parameters.into(),
        ..Tool::default()
    };
    let place =
        r#"{"type":"object","properties":{"place":{"type":"string"},"days":{"type":"integer"}}}"#;
    Chat { tools: vec![tool("weather", place), tool("add", "")], ..Chat::default() }
}

#[derive(Debug, Default, PartialEq)]
struct Heard {
    thought: String,
    text: String,
    calls: Vec<(String, String)>,
    ids: Vec<String>,
    ended: usize,
}

impl Heard {
    fn take(&mut self, said: Vec<Said>) {
        for one in said {
            match one {
                Said::Text(text) => self.text += &text,
                Said::Thought(text) => self.thought += &text,
                Said::Call { index, part } => {
                    match part {
                        CallPart::Begin { id, name } => {
                            self.calls.push((name, String::new()));
                            self.ids.push(id);
                        }
                        CallPart::Arguments(text) => {
                            self.calls.last_mut().expect("has begun").1 += &text;
                        }
                        CallPart::End => self.ended += 1,
                    }
                    assert_eq!(index as usize + 1, self.calls.len(), "calls are counted");
                }
            }
        }
    }
}

/// What is heard, or what is wrong; and the notes.
fn hear<'a>(
    dialect: Dialect,
    prompt: &str,
    pieces: impl IntoIterator<Item = &'a str>,
    complete: bool,
) -> (Result<Heard, String>, Vec<String>) {
    let chat = chat();
    let mut listener = Listener::new(dialect, &chat, dialect.begins_thinking(prompt), 7);
    let mut heard = Heard::default();
    let all = || {
        for piece in pieces {
            heard.take(listener.push(piece)?);
        }
        heard.take(listener.finish(complete)?);
        Ok(())
    };
    let outcome: Result<(), String> = all();
    let notes = listener.notes().to_vec();
    (outcome.map(|()| heard), notes)
}

/// The text in pieces of so many characters.
fn pieces(text: &str, size: usize) -> Vec<&str> {
    let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).step_by(size).collect();
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    starts.iter().zip(ends).map(|(from, to)| &text[*from..to]).collect()
}

fn check(family: &Value, case: &Value) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let dialect = Dialect::of(&text(&family["template"]));
    let (said, prompt) = (text(&case["said"]), text(&family["prompt"]));
    let complete = case["cut"] != true;
    for size in [1, 2, 3, 5, 8, 13, 10_000] {
        let (heard, notes) = hear(dialect, &prompt, pieces(&said, size), complete);
        let place =
            format!("{}: {said:?} in pieces of {size}: {heard:?} {notes:?}", dialect.name());
        if let Some(error) = case["error"].as_str() {
            assert!(heard.expect_err(&place).contains(error), "{place}");
            continue;
        }
        let heard = heard.unwrap_or_else(|error| panic!("{place}: {error}"));
        let calls: Vec<(String, String)> = case["calls"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|call| (text(&call[0]), text(&call[1])))
            .collect();
        assert_eq!(
            (&heard.thought, &heard.text),
            (&text(&case["thought"]), &text(&case["text"])),
            "{place}"
        );
        assert_eq!(heard.calls, calls, "{place}");
        assert_eq!(heard.ended, if complete { calls.len() } else { 0 }, "{place}");
        for (id, wanted) in heard.ids.iter().zip(case["ids"].as_array().into_iter().flatten()) {
            assert!(wanted.as_str().map_or(id.len() == 9, |wanted| wanted == id), "{place}");
        }
        let wanted: Vec<&Value> = case["notes"].as_array().into_iter().flatten().collect();
        assert_eq!(notes.is_empty(), wanted.is_empty(), "{place}");
        for note in wanted {
            assert!(notes.iter().any(|said| said.contains(&text(note))), "{place}");
        }
    }
}

#[test]
fn golden_answers_are_heard() {
    let golden: Vec<Value> = serde_json::from_str(GOLDEN).expect("the fixture is JSON");
    let mut heard: Vec<&str> = Vec::new();
    for family in &golden {
        let dialect = Dialect::of(family["template"].as_str().expect("a text"));
        assert_eq!(dialect.name(), family["family"], "the template tells the family");
        heard.push(dialect.name());
        family["cases"].as_array().expect("a list").iter().for_each(|case| check(family, case));
    }
    for family in FAMILIES {
        assert!(heard.contains(&family.name), "{} has golden answers", family.name);
    }
}

#[test]
fn ids_are_nine_letters_and_no_two_alike() {
    let mut seen = std::collections::BTreeSet::new();
    for ids in 0..100 {
        let dialect = Dialect::of("");
        let mut listener = Listener::new(dialect, &chat(), false, ids);
        let call = "<tool_call>{\"name\":\"add\"}</tool_call>".repeat(3);
        let mut heard = Heard::default();
        heard.take(listener.push(&call).expect("calls"));
        assert!(heard.ids.iter().all(|id| id.len() == 9 && id.chars().all(char::is_alphanumeric)));
        seen.extend(heard.ids);
    }
    assert_eq!(seen.len(), 300);
}

#[test]
fn without_tools_their_marks_are_text() {
    let chat = Chat::default();
    let dialect = Dialect::of("");
    let mut listener = Listener::new(dialect, &chat, false, 0);
    let text = "Like <tool_call>this</tool_call> \n";
    let mut heard = Heard::default();
    heard.take(listener.push(text).expect("text"));
    heard.take(listener.finish(true).expect("text"));
    assert_eq!(heard.text, text, "to the last space");
}

#[test]
fn one_call_is_enough_where_one_was_asked_for() {
    let mut listener = Listener::new(Dialect::of(""), &Chat { one_call: true, ..chat() }, false, 0);
    listener.push("<tool_call>{\"name\":\"add\"}").expect("a call");
    assert!(!listener.enough());
    listener.push("</tool_call>").expect("a call");
    assert!(listener.enough());
}

#[test]
fn tools_are_told_in_words() {
    let turn = |role: &str, content: &str| Message {
        role: role.into(),
        content: content.into(),
        ..Message::default()
    };
    let call = ingle_protocol::ToolCall {
        id: "1".into(),
        name: "add".into(),
        arguments: r#"{"a":1}"#.into(),
    };
    let calls = Message { tool_calls: vec![call], ..turn("assistant", "I add.") };
    let messages = vec![turn("user", "Add."), calls, turn("tool", "3"), turn("tool", "4")];
    let told = Dialect::explain(&Chat { messages, ..chat() }, false);
    let roles: Vec<&str> = told.messages.iter().map(|message| message.role.as_str()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "user"]);
    assert!(told.messages[0].content.contains(r#"{"name":"weather","parameters":"#));
    let said = "I add.\n<tool_call>\n{\"name\":\"add\",\"arguments\":{\"a\":1}}\n</tool_call>";
    assert_eq!(told.messages[2].content, said);
    let results = "<tool_response>\n3\n</tool_response>\n<tool_response>\n4\n</tool_response>";
    assert_eq!(told.messages[3].content, results);
    assert!(told.tools.is_empty() && told.messages.iter().all(|m| m.tool_calls.is_empty()));
    let apart = Dialect::explain(&Chat { messages: vec![turn("user", "Add.")], ..chat() }, true);
    assert!(apart.messages.len() == 1 && apart.messages[0].content.ends_with("\n\nAdd."));
}

/// Frames are compiled by the engine's tests; here it is what they are asked for.
#[test]
fn frames_are_for_what_is_forced() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../engine/tests/golden/archs/qwen2.gguf");
    let file = Gguf::open(std::path::Path::new(path)).expect("a sound file");
    let tokenizer = Tokenizer::from_gguf(&file).expect("a vocabulary");
    let plain = Dialect::of("");
    let thinking = Dialect::of("</think>");
    let required = Chat { tool_choice: ToolChoice::Required, ..chat() };
    let frame = |dialect: Dialect, chat: &Chat, prompt: &str, answer| {
        dialect.frame(chat, &tokenizer, prompt, answer).map(|frame| frame.lark)
    };
    let none = Chat { tool_choice: ToolChoice::None, ..chat() };
    assert_eq!(frame(plain, &none, "", false), None, "nothing may be called");
    let free = plain.frame(&chat(), &tokenizer, "", false).expect("a call is one once it began");
    assert!(!free.needed && free.lark.starts_with("start: (before calls_after)* ANYTHING?"));
    let unmarked = Dialect::of("tools <|start_header_id|>ipython \"parameters\": ");
    assert_eq!(frame(unmarked, &chat(), "", false), None, "where a call begins nothing tells");
    assert_eq!(frame(plain, &Chat::default(), "", true), None, "its own grammar is all");
    let start = |lark: Option<String>| lark.expect("a frame").lines().next().map(str::to_owned);
    let check =
        |lark: Option<String>, expect: &str| assert_eq!(start(lark).as_deref(), Some(expect));
    check(frame(plain, &required, "", false), "start: calls");
    check(frame(plain, &chat(), "", true), "start: (calls | @answer)");
    check(frame(thinking, &Chat::default(), "<think>\n", true), "start: thought @answer");
    check(frame(thinking, &required, "", false), "start: (\"<think>\" thought)? calls");
    check(frame(thinking, &required, "</think>\n\n", false), "start: calls");
    let lark = frame(plain, &required, "", false).expect("a frame");
    assert!(lark.contains("call: call_0 | call_1\n"), "{lark}");
    let named = Chat { tool_choice: ToolChoice::Named("add".into()), ..chat() };
    let lark = frame(plain, &named, "", false).expect("a frame");
    assert!(lark.contains("call: call_0\n") && !lark.contains("weather"), "{lark}");
    let glm = Dialect::of("tools <tool_call> <arg_key>");
    let strict = |schema: &str| {
        let tool =
            Tool { name: "f".into(), parameters: schema.into(), strict: true, ..Tool::default() };
        glm.in_use(&Chat { tools: vec![tool], ..required.clone() }).name()
    };
    assert_eq!(glm.in_use(&required).name(), "glm");
    assert_eq!(strict(&chat().tools[0].parameters), "glm");
    for alien in [
        r#"{"properties":{"a":{"type":"string","format":"date"}}}"#,
        r#"{"properties":{"a":{}}}"#,
        r#"{"properties":{"a":{"type":"array"}}}"#,
        r#"{"properties":{"a b":{"type":"string"}}}"#,
        r#"{"required":["a"]}"#,
        r#"{"anyOf":[{}]}"#,
        "",
    ] {
        assert_eq!(strict(alien), "plain", "{alien}");
    }
}
