//! Answers of other servers: what our own writers write is heard as it was, what other servers
//! write is understood, and one that is cut, broken or lies ends in an error, never in a receipt.

mod support;

use ingle_protocol::wire::speak::{Frames, hear};
use ingle_protocol::wire::{Ask, Stamp, anthropic, ollama, openai, responses};
use ingle_protocol::{
    Blame, CallPart, Event, Fault, Finish, Format, Piece, Receipt, Retry, Timings, Usage,
};
use proptest::prelude::*;
use serde_json::{Value, json};

const OURS: [Format; 4] = [Format::Chat, Format::Responses, Format::Messages, Format::Ollama];
const EACH: [Format; 5] =
    [Format::Chat, Format::Responses, Format::Messages, Format::Ollama, Format::Gemini];

/// What an answer says, joined: a line each for what was thought, said and called.
fn joined(events: &[Event]) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut say = |kind: &str, text: &str| match out.last_mut() {
        Some(last) if last.starts_with(kind) => last.push_str(text),
        _ => out.push(format!("{kind}{text}")),
    };
    for event in events {
        match event {
            Event::Text(piece) => say("says ", &piece.text),
            Event::Reasoning(piece) => say("thinks ", &piece.text),
            Event::ToolCall { index, part: CallPart::Begin { id, name } } => {
                say(&format!("calls {index} "), &format!("{id} {name} "));
            }
            Event::ToolCall { index, part: CallPart::Arguments(text) } => {
                say(&format!("calls {index} "), text);
            }
            Event::ToolCall { index, part: CallPart::End } => say(&format!("calls {index} "), "!"),
            _ => {}
        }
    }
    out
}

fn receipt(events: &[Event]) -> &Receipt {
    let ends = events.iter().filter(|event| matches!(event, Event::Done(_))).count();
    assert_eq!(ends, 1, "one end: {events:?}");
    let Some(Event::Done(receipt)) = events.last() else { panic!("the end is last: {events:?}") };
    receipt
}

/// Hears a stream's bytes, and the end of the connection.
fn stream(format: Format, bytes: &str) -> Result<Vec<Event>, Fault> {
    let (mut frames, mut ear, mut out) = (Frames::new(format), hear(format, true), Vec::new());
    for (name, data) in frames.take(bytes.as_bytes())? {
        out.extend(ear.read(name.as_deref(), &data)?);
    }
    for (name, data) in frames.end()? {
        out.extend(ear.read(name.as_deref(), &data)?);
    }
    out.extend(ear.end()?);
    Ok(out)
}

fn whole(format: Format, body: &str) -> Result<Vec<Event>, Fault> {
    hear(format, false).whole(body)
}

/// What our own server writes of these events.
fn written(format: Format, streamed: bool, events: &[Event]) -> String {
    let turn = json!([{ "role": "user", "content": "hi" }]);
    let body = match format {
        Format::Chat if streamed => {
            let usage = json!({ "include_usage": true });
            json!({ "model": "m", "messages": turn, "stream": true, "stream_options": usage })
        }
        Format::Responses => json!({ "model": "m", "input": turn, "stream": streamed }),
        Format::Messages => {
            json!({ "model": "m", "messages": turn, "stream": streamed, "max_tokens": 99 })
        }
        _ => json!({ "model": "m", "messages": turn, "stream": streamed }),
    };
    let body = body.to_string();
    let asked: Box<dyn Ask> = match format {
        Format::Chat => {
            Box::new(openai::read_request(openai::Format::Chat, body.as_bytes()).expect("right"))
        }
        Format::Responses => Box::new(responses::read_request(body.as_bytes()).expect("right")),
        Format::Messages => Box::new(anthropic::read_request(body.as_bytes()).expect("right")),
        Format::Ollama => {
            Box::new(ollama::read_request(ollama::Format::Chat, body.as_bytes()).expect("right"))
        }
        Format::Gemini => panic!("nobody here writes it"),
    };
    let stamp = Stamp { id: "1".into(), created_ms: 0, model: "m".into() };
    let mut writer = asked.writer(stamp, &mut |_| Ok(String::new())).expect("a writer");
    let out = events.iter().map(|event| writer.take(0, event.clone()).expect("no failure"));
    let out = out.collect();
    assert!(writer.complete());
    out
}

fn any_answer() -> impl Strategy<Value = Vec<Event>> {
    let pieces = || prop::collection::vec("[a-zé\"\\n:{ ]{1,6}", 0..4);
    let call = ("[a-z]{1,6}", prop::collection::vec("[a-z ]{1,3}", 1..4));
    let calls = prop::collection::vec(call, 0..3);
    let counts = prop::array::uniform5(0..1000u32);
    (pieces(), pieces(), calls, counts, any::<bool>(), any::<bool>()).prop_map(
        |(thoughts, texts, calls, counts, long, stopped)| {
            let piece = |text: &String| Piece { text: text.clone(), ..Piece::default() };
            let mut out: Vec<Event> =
                thoughts.iter().map(|it| Event::Reasoning(piece(it))).collect();
            out.extend(texts.iter().map(|it| Event::Text(piece(it))));
            for (index, (name, parts)) in (0..).zip(&calls) {
                let event = |part| Event::ToolCall { index, part };
                let id = format!("call_{index}");
                out.push(event(CallPart::Begin { id, name: name.clone() }));
                out.push(event(CallPart::Arguments("{\"x\":\"".into())));
                let parts = parts.iter().map(|it| event(CallPart::Arguments(it.clone())));
                out.extend(parts);
                out.push(event(CallPart::Arguments("\"}".into())));
                if !long || index as usize + 1 < calls.len() {
                    out.push(event(CallPart::End));
                }
            }
            let finish = match (long, calls.is_empty()) {
                (true, _) => Finish::Length,
                (false, true) => Finish::Stop,
                (false, false) => Finish::ToolCalls,
            };
            out.push(Event::Done(Box::new(Receipt {
                model: "m".into(),
                route: vec![],
                left_machine: false,
                cost_micros: 7,
                finish,
                stop: (stopped && finish == Finish::Stop).then(|| "end".to_owned()),
                notes: vec![],
                usage: Usage {
                    prompt_tokens: counts[0] + counts[1] + counts[2],
                    cached_tokens: counts[1],
                    written_tokens: counts[2],
                    completion_tokens: counts[3] + counts[4],
                    reasoning_tokens: counts[4],
                    ..Usage::default()
                },
                timings: Timings::default(),
            })));
            out
        },
    )
}

proptest! {
    #[test]
    fn what_was_written_is_heard(events in any_answer(), streamed: bool) {
        for format in OURS {
            let text = written(format, streamed, &events);
            let heard = if streamed { stream(format, &text) } else { whole(format, &text) };
            let heard = heard.unwrap_or_else(|fault| panic!("{format:?}: {fault}\n{text}"));
            let mut expect = joined(&events);
            let told = receipt(&events);
            if format == Format::Ollama && told.finish == Finish::Length {
                // Its calls come whole.
                if let Some(last) = expect.last_mut().filter(|it| it.starts_with("calls")) {
                    last.push('!');
                }
            }
            prop_assert_eq!(joined(&heard), expect, "{:?}: {}", format, text);
            let heard = receipt(&heard);
            let usage = match format {
                Format::Ollama => Usage {
                    prompt_tokens: told.usage.prompt_tokens,
                    completion_tokens: told.usage.completion_tokens,
                    ..Usage::default()
                },
                _ => told.usage,
            };
            prop_assert_eq!(heard.usage, usage, "{:?}: {}", format, text);
            prop_assert_eq!(heard.finish, told.finish, "{:?}: {}", format, text);
            if format == Format::Messages {
                prop_assert_eq!(&heard.stop, &told.stop);
            }
            // A server is not believed to have kept what it was sent, nor what it cost.
            let believed = (heard.left_machine, heard.cost_micros, heard.route.len());
            prop_assert_eq!(believed, (true, 0, 0));
            prop_assert_eq!(&heard.model, "m");
        }
    }

    /// A stream that is cut anywhere before its end has an error and no receipt, and gives its
    /// events in the order in which they were.
    #[test]
    fn a_cut_stream_is_an_error(events in any_answer(), share in 0.0..1.0f64) {
        for format in OURS {
            let text = written(format, true, &events);
            let body = text.trim_end();
            let mut cut = (body.len() as f64 * share) as usize;
            while !body.is_char_boundary(cut) {
                cut -= 1;
            }
            // Ollama's last line needs no line end.
            let heard = stream(format, &body[..cut]);
            prop_assert!(heard.is_err(), "{:?} at {}: {:?}", format, cut, heard);
        }
    }

    /// Events out of order, again, or with something else in their place: no panic, and at most one
    /// end.
    #[test]
    fn a_lying_server_breaks_nothing(
        events in any_answer(),
        picks in prop::collection::vec((any::<prop::sample::Index>(), 0..9u8), 0..30),
    ) {
        for format in OURS {
            let text = written(format, true, &events);
            let mut frames = Frames::new(format);
            let mut all = frames.take(text.as_bytes()).expect("right");
            all.extend(frames.end().expect("right"));
            let mut ear = hear(format, true);
            let mut ends = 0;
            for (pick, change) in &picks {
                let (name, data) = pick.get(&all);
                let data = match change {
                    0 => data.replace("\"index\":0", "\"index\":7"),
                    1 => data.replace(['{', '}'], ""),
                    2 => data.replace("\":\"", "\":null,\"z\":\""),
                    3 => data.replace(":0", ":-1").replace(":1", ":1e300"),
                    4 => "[]".to_owned(),
                    5 => "null".to_owned(),
                    _ => data.clone(),
                };
                let Ok(heard) = ear.read(name.as_deref(), &data) else { break };
                ends += heard.iter().filter(|event| matches!(event, Event::Done(_))).count();
            }
            prop_assert!(ends <= 1);
        }
    }

    #[test]
    fn any_json_may_come(values in prop::collection::vec("[\\[\\]{}\",:a-z0-9]{0,20}", 0..6)) {
        for format in EACH {
            let mut ear = hear(format, true);
            for value in &values {
                let _ = ear.read(None, value);
                let _ = hear(format, false).whole(value);
            }
        }
    }
}

/// Events of a stream as servers send them.
fn sse(events: &[Value]) -> String {
    let named = |event: &Value| match event["type"].as_str() {
        Some(name) => format!("event: {name}\ndata: {event}\n\n"),
        None => format!("data: {event}\n\n"),
    };
    events.iter().map(named).collect()
}

fn check(heard: Result<Vec<Event>, Fault>, says: &[&str], finish: Finish, usage: [u32; 5]) {
    let heard = heard.unwrap_or_else(|fault| panic!("{says:?}: {fault}"));
    assert_eq!(joined(&heard), says);
    let told = receipt(&heard);
    let Usage { prompt_tokens, cached_tokens, written_tokens, .. } = told.usage;
    let Usage { completion_tokens, reasoning_tokens, .. } = told.usage;
    let counts =
        [prompt_tokens, cached_tokens, written_tokens, completion_tokens, reasoning_tokens];
    assert_eq!((told.finish, counts), (finish, usage), "{says:?}: {told:?}");
}

#[test]
fn chats_of_other_servers_are_understood() {
    let chunk = |delta: Value, finish: Value| json!({ "id": "x", "model": "gpt", "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }] });
    let call = |more: Value| chunk(json!({ "tool_calls": [more] }), Value::Null);
    let usage = json!({
        "prompt_tokens": 9, "completion_tokens": 5,
        "prompt_tokens_details": { "cached_tokens": 4 },
        "completion_tokens_details": { "reasoning_tokens": 2 },
    });
    let events = [
        // Azure tells of its filters first.
        json!({ "choices": [], "prompt_filter_results": [] }),
        chunk(json!({ "role": "assistant", "content": "" }), Value::Null),
        chunk(json!({ "reasoning": "Hm." }), Value::Null),
        chunk(json!({ "content": "Hi" }), Value::Null),
        call(json!({ "index": 0, "id": "c1", "function": { "name": "f", "arguments": "" } })),
        call(json!({ "index": 0, "function": { "arguments": "{}" } })),
        chunk(json!({}), json!("tool_calls")),
        json!({ "model": "gpt", "choices": [], "usage": usage }),
    ];
    let text = sse(&events) + "data: [DONE]\n\n";
    let says = ["thinks Hm.", "says Hi", "calls 0 c1 f {}!"];
    check(stream(Format::Chat, &text), &says, Finish::ToolCalls, [9, 4, 0, 5, 2]);
    let filtered = [chunk(json!({ "refusal": "No." }), json!("content_filter"))];
    let heard = stream(Format::Chat, &(sse(&filtered) + "data: [DONE]\n\n")).expect("heard");
    assert_eq!(joined(&heard), ["says No."]);
    assert_eq!(receipt(&heard).notes, ["the provider ended the answer: content_filter"]);
    let stopped = json!({ "model": "v", "choices": [{
        "index": 0, "message": { "content": "Hi" }, "finish_reason": "stop", "stop_reason": "end",
    }] });
    let heard = whole(Format::Chat, &stopped.to_string()).expect("heard");
    assert_eq!(receipt(&heard).stop.as_deref(), Some("end"));
}

#[test]
fn messages_of_other_servers_are_understood() {
    let start = |index: u32, block: Value| json!({ "type": "content_block_start", "index": index, "content_block": block });
    let delta = |index: u32, delta: Value| json!({ "type": "content_block_delta", "index": index, "delta": delta });
    let stop = |index: u32| json!({ "type": "content_block_stop", "index": index });
    let usage = json!({
        "input_tokens": 3, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 7,
        "output_tokens": 1,
    });
    let head = json!({ "type": "message_start", "message": { "model": "claude", "usage": usage } });
    let end = |reason: &str| {
        let delta = json!({ "stop_reason": reason, "stop_sequence": null });
        json!({ "type": "message_delta", "delta": delta, "usage": { "output_tokens": 8 } })
    };
    let over = json!({ "type": "message_stop" });
    let events = [
        head.clone(),
        start(0, json!({ "type": "thinking", "thinking": "", "signature": "" })),
        json!({ "type": "ping" }),
        delta(0, json!({ "type": "thinking_delta", "thinking": "Hm." })),
        delta(0, json!({ "type": "signature_delta", "signature": "EqQ" })),
        stop(0),
        start(1, json!({ "type": "redacted_thinking", "data": "x" })),
        stop(1),
        start(2, json!({ "type": "text", "text": "" })),
        delta(2, json!({ "type": "text_delta", "text": "Hi" })),
        delta(2, json!({ "type": "citations_delta", "citation": {} })),
        stop(2),
        start(3, json!({ "type": "tool_use", "id": "t", "name": "f", "input": {} })),
        delta(3, json!({ "type": "input_json_delta", "partial_json": "" })),
        delta(3, json!({ "type": "input_json_delta", "partial_json": "{\"a\":" })),
        delta(3, json!({ "type": "input_json_delta", "partial_json": "1}" })),
        stop(3),
        start(4, json!({ "type": "tool_use", "id": "u", "name": "g", "input": {} })),
        stop(4),
        end("tool_use"),
        over.clone(),
    ];
    let says = ["thinks Hm.", "says Hi", "calls 0 t f {\"a\":1}!", "calls 1 u g {}!"];
    check(stream(Format::Messages, &sse(&events)), &says, Finish::ToolCalls, [30, 7, 20, 8, 0]);
    let cut = [&events[..17], &[end("max_tokens"), over.clone()]].concat();
    let says = ["thinks Hm.", "says Hi", "calls 0 t f {\"a\":1}"];
    check(stream(Format::Messages, &sse(&cut)), &says, Finish::Length, [30, 7, 20, 8, 0]);
    let refused = [head, end("refusal"), over];
    let heard = stream(Format::Messages, &sse(&refused)).expect("heard");
    assert_eq!(receipt(&heard).notes, ["the provider ended the answer: refusal"]);
}

#[test]
fn responses_of_other_servers_are_understood() {
    let item = |name: &str, at: u32, item: Value| json!({ "type": format!("response.output_item.{name}"), "output_index": at, "item": item });
    let delta = |name: &str, at: u32, delta: &str| json!({ "type": format!("response.{name}.delta"), "output_index": at, "delta": delta });
    let usage = json!({
        "input_tokens": 9, "input_tokens_details": { "cached_tokens": 4 },
        "output_tokens": 5, "output_tokens_details": { "reasoning_tokens": 2 },
    });
    let call = |id: &str, arguments: &str| json!({ "type": "function_call", "status": "completed", "call_id": id, "name": "f", "arguments": arguments });
    let part = json!({ "type": "response.reasoning_summary_part.added", "output_index": 0 });
    let completed = json!({ "status": "completed", "model": "gpt", "usage": usage, "error": null });
    let events = [
        json!({ "type": "response.created", "response": { "status": "in_progress" } }),
        item("added", 0, json!({ "type": "reasoning" })),
        part.clone(),
        delta("reasoning_summary_text", 0, "Hm."),
        part,
        delta("reasoning_summary_text", 0, "Ah."),
        item("done", 0, json!({ "type": "reasoning" })),
        item("added", 1, json!({ "type": "message" })),
        delta("output_text", 1, "Hi"),
        item("done", 1, json!({ "type": "message" })),
        item("added", 2, call("a", "")),
        delta("function_call_arguments", 2, "{}"),
        item("done", 2, call("a", "{}")),
        item("added", 3, call("b", "")),
        item("done", 3, call("b", "{\"x\":1}")),
        json!({ "type": "response.completed", "response": completed }),
    ];
    let says = ["thinks Hm.\nAh.", "says Hi", "calls 0 a f {}!", "calls 1 b f {\"x\":1}!"];
    check(stream(Format::Responses, &sse(&events)), &says, Finish::ToolCalls, [9, 4, 0, 5, 2]);
    let output = json!([
        { "type": "reasoning", "summary": [{ "type": "summary_text", "text": "Hm." }] },
        { "type": "web_search_call" },
        { "type": "message", "content": [{ "type": "output_text", "text": "Hi" }] },
        call("a", "{}"),
    ]);
    let body = json!({ "status": "completed", "output": output, "usage": usage });
    let says = ["thinks Hm.", "says Hi", "calls 0 a f {}!"];
    check(whole(Format::Responses, &body.to_string()), &says, Finish::ToolCalls, [9, 4, 0, 5, 2]);
    let filtered = json!({ "reason": "content_filter" });
    let body = json!({ "status": "incomplete", "incomplete_details": filtered, "output": [] });
    let heard = whole(Format::Responses, &body.to_string()).expect("heard");
    assert_eq!(receipt(&heard).notes, ["the provider ended the answer: content_filter"]);
}

fn gemini(parts: Value, finish: Value) -> Value {
    let content = json!({ "role": "model", "parts": parts });
    let usage = json!({
        "promptTokenCount": 9, "cachedContentTokenCount": 4, "candidatesTokenCount": 3,
        "thoughtsTokenCount": 2,
    });
    json!({
        "candidates": [{ "content": content, "finishReason": finish }],
        "usageMetadata": usage, "modelVersion": "gemini", "responseId": "ab-C",
    })
}

#[test]
fn geminis_answers_are_understood() {
    let thought = json!([{ "text": "Hm.", "thought": true }]);
    let text = json!([{ "text": "Hi", "thoughtSignature": "x" }]);
    let calls = json!([
        { "functionCall": { "name": "f", "args": { "a": 1 } } },
        { "functionCall": { "id": "own", "name": "g" } },
    ]);
    let events =
        [gemini(thought, Value::Null), gemini(text, Value::Null), gemini(calls, json!("STOP"))];
    let says = ["thinks Hm.", "says Hi", "calls 0 call_abC_0 f {\"a\":1}!", "calls 1 own g {}!"];
    check(stream(Format::Gemini, &sse(&events)), &says, Finish::ToolCalls, [9, 4, 0, 5, 2]);
    let long = gemini(json!([{ "text": "Hi" }]), json!("MAX_TOKENS"));
    let heard = whole(Format::Gemini, &long.to_string());
    check(heard, &["says Hi"], Finish::Length, [9, 4, 0, 5, 2]);
    let unsafe_ = gemini(json!([{ "text": "Hi" }]), json!("SAFETY"));
    let heard = whole(Format::Gemini, &unsafe_.to_string()).expect("heard");
    assert_eq!(receipt(&heard).notes, ["the provider ended the answer: SAFETY"]);
}

#[test]
fn ollamas_answers_are_understood() {
    let line = |message: Value| json!({ "model": "q", "message": message, "done": false });
    let call = json!({ "function": { "name": "f", "arguments": { "a": 1 } } });
    let lines = [
        line(json!({ "role": "assistant", "content": "", "thinking": "Hm." })),
        line(json!({ "role": "assistant", "content": "Hi" })),
        line(json!({ "role": "assistant", "content": "", "tool_calls": [call] })),
        json!({
            "model": "q", "message": { "role": "assistant", "content": "" }, "done": true,
            "done_reason": "stop", "prompt_eval_count": 9, "eval_count": 5,
        }),
    ];
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let says = ["thinks Hm.", "says Hi", "calls 0 call_0 f {\"a\":1}!"];
    check(stream(Format::Ollama, &text), &says, Finish::ToolCalls, [9, 0, 0, 5, 0]);
}

#[test]
#[rustfmt::skip]
fn what_fails_within_an_answer_is_a_fault() {
    use Format::{Chat, Gemini, Messages, Ollama, Responses};
    let after = Retry::After(std::time::Duration::from_secs(1));
    let blocked = json!({ "promptFeedback": { "blockReason": "SAFETY" } });
    let rows: Vec<(Format, Value, Retry, &str)> = vec![
        (Chat, json!({ "error": { "message": "oops", "type": "server_error" } }), Retry::Elsewhere, "oops"),
        (Chat, json!({ "choices": [{ "index": 1, "delta": { "content": "x" } }] }), Retry::Elsewhere, "more choices"),
        (Chat, json!({ "choices": [{ "index": 0, "delta": { "tool_calls": [{ "index": 0 }] } }] }), Retry::Elsewhere, "did not begin"),
        (Messages, json!({ "type": "error", "error": { "type": "overloaded_error", "message": "Overloaded" } }), after, "Overloaded"),
        (Messages, json!({ "type": "content_block_delta", "index": 0, "delta": {} }), Retry::Elsewhere, "did not begin"),
        (Messages, json!({}), Retry::Elsewhere, "no type"),
        (Messages, json!({ "type": "message_stop" }), Retry::Elsewhere, "before it was complete"),
        (Responses, json!({ "type": "error", "code": "server_error", "message": "oops" }), Retry::Elsewhere, "oops"),
        (Responses, json!({ "type": "response.failed", "response": { "status": "failed", "error": { "code": "rate_limit_exceeded", "message": "slow" } } }), after, "slow"),
        (Responses, json!({ "type": "response.completed", "response": {} }), Retry::Elsewhere, "not complete"),
        (Responses, json!({ "type": "response.function_call_arguments.delta", "output_index": 3, "delta": "x" }), Retry::Elsewhere, "side by side"),
        (Ollama, json!({ "error": "oops" }), Retry::Elsewhere, "oops"),
        (Ollama, json!({ "message": { "tool_calls": [{ "function": {} }] } }), Retry::Elsewhere, "without a name"),
        (Gemini, blocked, Retry::Elsewhere, "does not take the prompt"),
        (Gemini, gemini(json!([]), json!("SAFETY")), Retry::Elsewhere, "before it said anything"),
        (Gemini, gemini(json!([{ "text": "x" }]), json!("MALFORMED_FUNCTION_CALL")), Retry::Elsewhere, "MALFORMED"),
        (Gemini, json!([{ "error": { "message": "q", "status": "UNAVAILABLE" } }]), after, "q"),
    ];
    for (format, event, retry, words) in rows {
        let fault = hear(format, true).read(None, &event.to_string()).expect_err(words);
        assert_eq!((fault.blame, fault.retry), (Blame::Provider, retry), "{event}: {fault}");
        assert!(fault.message.contains(words), "{event}: {fault}");
    }
    for format in EACH {
        for body in ["", "<html>", "{", "[]", "{}"] {
            assert!(whole(format, body).is_err(), "{format:?}: {body}");
        }
        let mut ear = hear(format, true);
        assert!(ear.end().is_err(), "{format:?}: nothing came");
    }
}

#[test]
fn scores_are_heard() {
    let events = [support::scored("Hi", 7), support::done(Finish::Stop, 1, None)];
    let body = json!({
        "model": "m", "messages": [{ "role": "user", "content": "hi" }], "logprobs": true,
        "stream": true,
    });
    let body = body.to_string();
    let chats = openai::read_request(openai::Format::Chat, body.as_bytes()).expect("right");
    let lines = ollama::read_request(ollama::Format::Chat, body.as_bytes()).expect("right");
    let include = json!(["message.output_text.logprobs"]);
    let body = json!({ "model": "m", "input": "hi", "include": include, "stream": true });
    let items = responses::read_request(body.to_string().as_bytes()).expect("right");
    let texts = [
        (Format::Chat, support::write(&chats, &events)),
        (Format::Ollama, support::write(&lines, &events)),
        (Format::Responses, support::write(&items, &events)),
    ];
    for (format, text) in texts {
        let heard = stream(format, &text).expect("heard");
        let Some(Event::Text(piece)) = heard.first() else { panic!("{format:?}: {heard:?}") };
        assert_eq!(piece.scores.len(), 1, "{format:?}: {text}");
        assert_eq!(piece.scores[0].chosen.bytes, b"Hi", "{format:?}");
        assert_eq!(piece.scores[0].chosen.logprob, -0.5, "{format:?}");
    }
}
