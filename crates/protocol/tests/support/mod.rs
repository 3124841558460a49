//! Events of answers, what a writer makes of them, and that a table means what it says.
#![allow(dead_code, reason = "each test uses some of it")]

use ingle_protocol::wire::{Ask, Row, Rule, Stamp};
use ingle_protocol::{CallPart, Chat, Event, Fault, Finish, Input, Message, Piece, Receipt};
use ingle_protocol::{Request, Scored, Timings, TokenScore, Usage};
use std::collections::BTreeSet;
use std::time::Duration;

pub(crate) fn text(text: &str) -> Event {
    Event::Text(Piece { text: text.into(), ..Piece::default() })
}

pub(crate) fn thought(text: &str) -> Event {
    Event::Reasoning(Piece { text: text.into(), ..Piece::default() })
}

pub(crate) fn scored(text: &str, token: u32) -> Event {
    let chosen = Scored { token, bytes: text.as_bytes().to_vec(), logprob: -0.5 };
    let scores = vec![TokenScore { top: vec![chosen.clone()], chosen }];
    Event::Text(Piece { text: text.into(), scores, ..Piece::default() })
}

/// A call of `f` in parts; one that does not end was cut off.
pub(crate) fn call(index: u32, arguments: &[&str], ends: bool) -> Vec<Event> {
    let event = |part| Event::ToolCall { index, part };
    let begin = CallPart::Begin { id: format!("call_{index}"), name: "f".into() };
    let parts = arguments.iter().map(|text| CallPart::Arguments((*text).into()));
    let end = ends.then_some(CallPart::End);
    std::iter::once(begin).chain(parts).chain(end).map(event).collect()
}

pub(crate) fn done(finish: Finish, completion_tokens: u32, stop: Option<&str>) -> Event {
    Event::Done(Box::new(Receipt {
        model: "m".into(),
        route: vec![],
        left_machine: false,
        cost_micros: 0,
        finish,
        stop: stop.map(str::to_owned),
        notes: vec![],
        usage: Usage { prompt_tokens: 7, cached_tokens: 5, completion_tokens, ..Usage::default() },
        timings: Timings {
            load: Duration::from_millis(1),
            queued: Duration::from_millis(2),
            first_token: Duration::from_millis(5),
            total: Duration::from_millis(9),
        },
    }))
}

/// All that is written of an answer.
pub(crate) fn write(asked: &impl Ask, events: &[Event]) -> String {
    let stamp = Stamp { id: "1".into(), created_ms: 0, model: "m".into() };
    let mut writer = asked.writer(stamp, &mut |_| Ok(String::new())).expect("a writer");
    let out = events.iter().map(|event| writer.take(0, event.clone()).expect("no failure"));
    let out = out.collect();
    assert!(writer.complete());
    out
}

pub(crate) fn chat(request: &Request) -> &Chat {
    let Input::Chat(chat) = &request.input else { panic!("no conversation: {request:?}") };
    chat
}

pub(crate) fn turn(role: &str, content: &str) -> Message {
    Message { role: role.into(), content: content.into(), ..Message::default() }
}

/// A conversation's turns on a line each, all that is in them.
pub(crate) fn turns(chat: &Chat) -> Vec<String> {
    let line = |turn: &Message| {
        let calls = turn.tool_calls.iter();
        let calls = calls.map(|call| format!("{}:{}{}", call.id, call.name, call.arguments));
        let text = |option: &Option<String>| option.clone().unwrap_or_default();
        let calls: Vec<String> = calls.collect();
        let (thought, id, name) =
            (text(&turn.reasoning), text(&turn.tool_call_id), text(&turn.name));
        format!("{}|{}|{thought}|{}|{id}|{name}", turn.role, turn.content, calls.join(","))
    };
    chat.messages.iter().map(line).collect()
}

/// `outcome` is a fault that names `param` and says `words`.
pub(crate) fn faults<T>(outcome: Result<T, Fault>, body: &str, param: &str, words: &str) {
    let Err(fault) = outcome else { panic!("{body} is taken") };
    assert_eq!(fault.param.as_deref().unwrap_or(""), param, "{body}: {fault}");
    assert!(fault.message.contains(words), "{body}: {fault}");
}

/// Every row's rule holds: neutral values pass, one that is none of them is refused by name and
/// with the reason, null is not given. `read` reads a request with a field more; `at` is where the
/// table's fields stand.
pub(crate) fn means_what_it_says<T: PartialEq + std::fmt::Debug>(
    rows: impl Iterator<Item = Row>,
    needed: &[&str],
    at: &str,
    read: impl Fn(&str) -> Result<T, Fault>,
) {
    let plain = read("").expect("a right request");
    for row in rows {
        let odd = format!(r#""{}":{{"odd":[1]}}"#, row.name);
        let name = format!("{at}{}", row.name);
        match row.rule {
            Rule::Honoured => {}
            Rule::Inert => assert_eq!(read(&odd).as_ref(), Ok(&plain)),
            Rule::Neutral(values, why) => {
                for value in values {
                    let extra = format!(r#""{}":{value}"#, row.name);
                    assert_eq!(read(&extra).as_ref(), Ok(&plain), "{extra}");
                }
                faults(read(&odd), &odd, &name, why);
            }
            Rule::Refused(why) => faults(read(&odd), &odd, &name, why),
        }
        if !needed.contains(&row.name) {
            let null = format!(r#""{}":null"#, row.name);
            assert_eq!(read(&null).as_ref(), Ok(&plain), "null is not given: {null}");
        }
    }
}

/// A table of documentation: a row a field, a column a format.
pub(crate) fn table(columns: &[(&str, Vec<Row>)]) -> String {
    let mut names: Vec<&str> = columns.iter().flat_map(|it| &it.1).map(|row| row.name).collect();
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(*name));
    let cell = |rows: &Vec<Row>, name: &str| {
        let row = rows.iter().find(|row| row.name == name);
        row.map_or("unknown, refused".to_owned(), |row| row.rule.words())
    };
    let line = |name: &str| {
        let cells: Vec<String> = columns.iter().map(|column| cell(&column.1, name)).collect();
        format!("| `{name}` | {} |\n", cells.join(" | "))
    };
    let heads: Vec<&str> = columns.iter().map(|column| column.0).collect();
    let rows: String = names.into_iter().map(line).collect();
    format!("| field | {} |\n|---|{}\n{rows}", heads.join(" | "), "---|".repeat(heads.len()))
}

/// The page ends, from `mark` on, with `text`. Run with `UPDATE_PAGES=1` to write it anew.
pub(crate) fn ends_with(page: &str, mark: &str, text: &str) {
    let path = format!("{}/../../docs/{page}", env!("CARGO_MANIFEST_DIR"));
    let old = std::fs::read_to_string(&path).expect("the page is there");
    let (head, _) = old.split_once(mark).expect("the page holds the mark");
    let new = format!("{head}{text}");
    if std::env::var_os("UPDATE_PAGES").is_some() {
        std::fs::write(&path, &new).expect("the page can be written");
    }
    let shown = std::fs::read_to_string(&path).expect("the page is there");
    assert_eq!(shown, new, "UPDATE_PAGES=1 cargo test -p ingle-protocol writes docs/{page}");
}
