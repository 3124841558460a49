//! OpenAI answers: a stream and a whole answer are one state machine's, and reading undoes writing.

use std::time::Duration;

use ingle_protocol::wire::openai::{Asked, DONE, Format, Head, Options, Reader, Tally, Whole};
use ingle_protocol::wire::openai::{read_request, write_chunk};
use ingle_protocol::wire::receipt;
use ingle_protocol::{Beam, CallPart, Event, Fault, Finish, Piece, Receipt, Scored, Step, Timings};
use ingle_protocol::{PromptScore, PromptToken, TokenScore, Usage};
use proptest::prelude::*;
use serde_json::{Value, json};

fn head(format: Format, options: &Options) -> Head {
    Head {
        format,
        id: "id-1".into(),
        created_s: 7,
        model: "m".into(),
        include_usage: options.include_usage,
        tokens_as_ids: options.tokens_as_ids,
    }
}

fn ask(format: Format, extra: &str) -> Asked {
    let input = match format {
        Format::Chat => r#""messages":[{"role":"user","content":"hi"}]"#,
        Format::Completions => r#""prompt":["pé","q"]"#,
    };
    read_request(format, format!("{{{input}{extra}}}").as_bytes()).expect("a right request")
}

fn text(text: &str) -> Event {
    Event::Text(Piece { text: text.into(), ..Piece::default() })
}

fn done(prompt_tokens: u32, completion_tokens: u32, finish: Finish) -> Event {
    Event::Done(Box::new(Receipt {
        model: "m".into(),
        route: vec![Step { candidate: "m".into(), taken: true, reason: "local".into() }],
        left_machine: false,
        cost_micros: 3,
        finish,
        stop: None,
        notes: vec![],
        usage: Usage {
            prompt_tokens,
            cached_tokens: 2,
            written_tokens: 0,
            completion_tokens,
            reasoning_tokens: 0,
            accepted_tokens: 1,
            rejected_tokens: 3,
        },
        timings: Timings {
            load: Duration::from_micros(500),
            queued: Duration::from_micros(1500),
            first_token: Duration::from_millis(20),
            total: Duration::from_millis(120),
        },
    }))
}

/// The chunks and the whole of the same events.
fn write(format: Format, asked: &Asked, events: &[(u32, Event)]) -> (Vec<Value>, Value) {
    let head = head(format, &asked.options);
    let mut tally = Tally::new(format, asked, |_| Ok("tokens".into())).expect("decodes");
    let mut whole = Whole::new(&tally);
    let mut chunks = Vec::new();
    for (index, event) in events {
        for delta in tally.take(*index, event.clone()).expect("no failure") {
            chunks.push(serde_json::from_str(&write_chunk(&head, &delta)).expect("JSON"));
            whole.add(delta);
        }
    }
    assert!(tally.complete());
    let whole = whole.write(&head).expect("complete");
    (chunks, serde_json::from_str(&whole).expect("JSON"))
}

#[test]
fn a_streamed_chat() {
    let asked = ask(Format::Chat, r#","stream":true,"stream_options":{"include_usage":true}"#);
    let events = [(0, text("Hel")), (0, text("lo")), (0, done(5, 2, Finish::Stop))];
    let (chunks, _) = write(Format::Chat, &asked, &events);
    let choices: Vec<String> = chunks.iter().map(|chunk| chunk["choices"].to_string()).collect();
    let choice = |delta: &str, finish: &str| {
        format!(r#"[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish}}}]"#)
    };
    let expect = [
        choice(r#"{"role":"assistant","content":"","refusal":null}"#, "null"),
        choice(r#"{"content":"Hel"}"#, "null"),
        choice(r#"{"content":"lo"}"#, "null"),
        choice("{}", "\"stop\""),
        "[]".to_owned(),
    ];
    assert_eq!(choices, expect);
    let (last, rest) = chunks.split_last().expect("five");
    assert!(rest.iter().all(|chunk| chunk["usage"].is_null() && chunk.get("ingle").is_none()));
    assert_eq!(last["usage"]["total_tokens"], 7);
    assert_eq!(last["ingle"]["left_machine"], false);
    assert_eq!(last["object"], "chat.completion.chunk");
}

#[test]
fn a_stream_without_usage_has_no_chunk_without_a_choice() {
    let asked = ask(Format::Chat, r#","stream":true"#);
    let (chunks, _) = write(Format::Chat, &asked, &[(0, done(5, 0, Finish::Length))]);
    assert!(chunks.iter().all(|chunk| !chunk["choices"].as_array().expect("list").is_empty()));
    let last = chunks.last().expect("a finish");
    assert_eq!(last["choices"][0]["finish_reason"], "length");
    assert_eq!(last["ingle"]["cost_micros"], 3);
    assert!(last.get("usage").is_none());
}

fn call(part: CallPart) -> Event {
    Event::ToolCall { index: 0, part }
}

/// What a model with tools says: it thinks, it calls.
fn a_call() -> Vec<(u32, Event)> {
    let begin = CallPart::Begin { id: "call-1".into(), name: "f".into() };
    let part = |text: &str| call(CallPart::Arguments(text.into()));
    let thought = Event::Reasoning(Piece { text: "Hm.".into(), ..Piece::default() });
    let calls = [call(begin), part("{\"a\":"), part("1}"), call(CallPart::End)];
    let events = [thought].into_iter().chain(calls).chain([done(5, 9, Finish::ToolCalls)]);
    events.map(|event| (0, event)).collect()
}

#[test]
fn a_tool_call_streamed_and_whole() {
    let asked = ask(Format::Chat, r#","stream":true"#);
    let (chunks, whole) = write(Format::Chat, &asked, &a_call());
    let deltas: Vec<&Value> = chunks.iter().map(|chunk| &chunk["choices"][0]["delta"]).collect();
    let begun = json!({ "id": "call-1", "type": "function", "index": 0,
                        "function": { "name": "f", "arguments": "" } });
    let more =
        |text: &str| json!({ "tool_calls": [{ "index": 0, "function": { "arguments": text } }] });
    let expect = [
        json!({ "role": "assistant", "content": "", "refusal": null }),
        json!({ "reasoning_content": "Hm." }),
        json!({ "tool_calls": [begun] }),
        more("{\"a\":"),
        more("1}"),
        json!({}),
    ];
    assert_eq!(deltas, expect.iter().collect::<Vec<_>>());
    assert_eq!(chunks[5]["choices"][0]["finish_reason"], "tool_calls");
    let call = json!({ "id": "call-1", "type": "function",
                       "function": { "name": "f", "arguments": "{\"a\":1}" } });
    let message = json!({ "role": "assistant", "content": null, "refusal": null,
                          "reasoning_content": "Hm.", "tool_calls": [call] });
    assert_eq!(whole["choices"][0]["message"], message);
}

#[test]
fn reasoning_may_be_left_out_but_is_counted() {
    let asked = ask(Format::Chat, r#","include_reasoning":false"#);
    let mut events = a_call();
    let Some((_, Event::Done(receipt))) = events.last_mut() else { panic!("it ends") };
    receipt.usage.reasoning_tokens = 4;
    let (chunks, whole) = write(Format::Chat, &asked, &events);
    assert!(chunks.iter().all(|chunk| !chunk.to_string().contains("Hm.")), "{chunks:?}");
    assert!(whole["choices"][0]["message"].get("reasoning_content").is_none());
    assert_eq!(whole["usage"]["completion_tokens_details"]["reasoning_tokens"], 4);
}

#[test]
fn a_whole_chat() {
    let asked = ask(Format::Chat, "");
    let events = [(0, text("Hel")), (0, text("lo")), (0, done(5, 2, Finish::Stop))];
    let (_, whole) = write(Format::Chat, &asked, &events);
    let message = json!({ "role": "assistant", "content": "Hello", "refusal": null });
    let choice =
        json!({ "index": 0, "message": message, "logprobs": null, "finish_reason": "stop" });
    let usage = json!({
        "prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7,
        "prompt_tokens_details": { "cached_tokens": 2 },
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "accepted_prediction_tokens": 1, "rejected_prediction_tokens": 3,
        },
    });
    let expect = [
        ("id", json!("id-1")),
        ("object", json!("chat.completion")),
        ("created", json!(7)),
        ("model", json!("m")),
        ("choices", json!([choice])),
        ("usage", usage),
    ];
    for (key, value) in expect {
        assert_eq!(whole[key], value, "{key}");
    }
    let timings =
        json!({ "load_ms": 0.5, "queued_ms": 1.5, "first_token_ms": 20.0, "total_ms": 120.0 });
    assert_eq!(whole["ingle"]["timings"], timings);
    assert_eq!(whole["ingle"]["route"][0]["candidate"], "m");
}

/// Two prompts, two choices each: prompts count once, completions and costs add up.
#[test]
fn choices_of_several_prompts() {
    let asked = ask(Format::Completions, r#","n":2,"echo":true"#);
    let events = [
        (3, text("d")),
        (0, text("a")),
        (3, done(9, 1, Finish::Stop)),
        (1, done(5, 0, Finish::Length)),
        (0, done(5, 1, Finish::Stop)),
        (2, done(9, 4, Finish::Stop)),
    ];
    let (chunks, whole) = write(Format::Completions, &asked, &events);
    let texts: Vec<&str> = (0..4).filter_map(|i| whole["choices"][i]["text"].as_str()).collect();
    assert_eq!(texts, ["péa", "pé", "q", "qd"]);
    assert_eq!(whole["object"], "text_completion");
    assert_eq!(whole["usage"]["prompt_tokens"], 14);
    assert_eq!(whole["usage"]["completion_tokens"], 6);
    assert_eq!(whole["ingle"]["cost_micros"], 12);
    assert_eq!(whole["ingle"]["choices"][1]["finish"], "length");
    assert_eq!(chunks.iter().filter(|chunk| chunk.get("ingle").is_some()).count(), 1);
}

fn scored(token: u32, bytes: &[u8], logprob: f32) -> Scored {
    Scored { token, bytes: bytes.to_vec(), logprob }
}

#[test]
fn scores_in_both_shapes() {
    let score = |token, bytes: &[u8]| TokenScore {
        chosen: scored(token, bytes, -0.5),
        top: vec![scored(9, b"z", -0.25), scored(token, bytes, f32::NEG_INFINITY)],
    };
    let events = [
        (
            0,
            Event::Text(Piece {
                text: "é".into(),
                scores: vec![score(1, "é".as_bytes())],
                ..Piece::default()
            }),
        ),
        (
            0,
            Event::Text(Piece {
                text: "ab".into(),
                scores: vec![score(2, b"a"), score(3, b"b")],
                ..Piece::default()
            }),
        ),
        (0, done(1, 3, Finish::Stop)),
        (1, done(1, 0, Finish::Stop)),
    ];
    let asked = ask(Format::Completions, r#","logprobs":2"#);
    let (_, whole) = write(Format::Completions, &asked, &events);
    let legacy = &whole["choices"][0]["logprobs"];
    assert_eq!(legacy["tokens"], json!(["é", "a", "b"]));
    assert_eq!(legacy["text_offset"], json!([0, 1, 2]));
    assert_eq!(legacy["token_logprobs"], json!([-0.5, -0.5, -0.5]));
    assert_eq!(legacy["top_logprobs"][1], json!({ "z": -0.25, "a": -9999.0 }));
    let asked = ask(Format::Chat, r#","logprobs":true,"top_logprobs":2"#);
    let (_, whole) = write(Format::Chat, &asked, &events[..3]);
    let first = &whole["choices"][0]["logprobs"]["content"][0];
    assert_eq!(first["token"], "é");
    assert_eq!(first["bytes"], json!([0xc3, 0xa9]));
    assert_eq!(first["top_logprobs"].as_array().map(Vec::len), Some(2));
}

/// `pé` in two tokens behind a mark that begins it.
fn told_prompt(scored_too: bool) -> Event {
    let token = |token, bytes: &[u8], score: Option<(f32, u32)>| PromptToken {
        token,
        bytes: bytes.into(),
        score: score.filter(|_| scored_too).map(|(logprob, rank)| PromptScore {
            logprob,
            rank,
            top: vec![scored(2, b"p", -0.25)],
        }),
    };
    let (p, e) = (token(2, b"p", Some((-0.25, 1))), token(3, "é".as_bytes(), Some((-2.5, 7))));
    Event::Prompt(vec![token(1, b"<s>", None), p, e])
}

/// One letter a token, with these log-probabilities.
fn answered(logprobs: &[f32]) -> Event {
    let score = |&logprob: &f32| TokenScore { chosen: scored(9, b"x", logprob), top: vec![] };
    let (text, scores) = ("x".repeat(logprobs.len()), logprobs.iter().map(score).collect());
    Event::Text(Piece { text, scores, tokens: vec![9; logprobs.len()] })
}

#[test]
fn a_prompt_is_told_of_in_both_formats() {
    let expect = json!([
        null,
        { "2": { "logprob": -0.25, "rank": 1, "decoded_token": "p" } },
        {
            "2": { "logprob": -0.25, "rank": 1, "decoded_token": "p" },
            "3": { "logprob": -2.5, "rank": 7, "decoded_token": "é" },
        },
    ]);
    for format in [Format::Chat, Format::Completions] {
        let choices = [(0, told_prompt(true)), (1, told_prompt(false))];
        let ids = Piece { tokens: vec![9, 8], ..Piece::default() };
        let said = (0..2).map(|i| (i, Event::Text(ids.clone())));
        let ends = (0..2).map(|i| (i, done(3, 2, Finish::Stop)));
        let events: Vec<(u32, Event)> = choices.into_iter().chain(said).chain(ends).collect();
        let mut asked = ask(format, r#","n":2,"prompt_logprobs":1,"return_token_ids":true"#);
        asked.requests.truncate(1);
        let (chunks, whole) = write(format, &asked, &events);
        let place = |answer: &Value, i: usize| match format {
            Format::Chat => answer.clone(),
            Format::Completions => answer["choices"][i].clone(),
        };
        for i in 0..2 {
            assert_eq!(place(&whole, i)["prompt_logprobs"], expect, "{format:?}");
            assert_eq!(place(&whole, i)["prompt_token_ids"], json!([1, 2, 3]));
            assert_eq!(whole["choices"][i]["token_ids"], json!([9, 8]));
            assert_eq!(whole["choices"][i]["logprobs"], Value::Null);
        }
        let first = place(&chunks[0], 0);
        assert_eq!(first["prompt_logprobs"], expect, "{format:?}");
        assert_eq!(first["prompt_token_ids"], json!([1, 2, 3]));
        let has =
            |name: &str| chunks.iter().filter(|chunk| place(chunk, 0).get(name).is_some()).count();
        assert_eq!(has("prompt_logprobs"), 2, "at each choice's beginning");
        let ids = |chunk: &&Value| chunk["choices"][0]["token_ids"] == json!([9, 8]);
        assert_eq!(chunks.iter().filter(ids).count(), 2, "once a choice: {chunks:?}");
    }
}

#[test]
fn an_echo_has_the_prompts_scores() {
    let events = [
        (0, told_prompt(true)),
        (0, answered(&[-0.5])),
        (0, done(3, 1, Finish::Length)),
        (1, told_prompt(true)),
        (1, done(3, 0, Finish::Length)),
    ];
    let asked = ask(Format::Completions, r#","echo":true,"logprobs":1"#);
    let (chunks, whole) = write(Format::Completions, &asked, &events);
    let choice = &whole["choices"][0];
    assert_eq!((&choice["text"], choice.get("prompt_logprobs")), (&json!("péx"), None));
    let scores = &choice["logprobs"];
    assert_eq!(scores["tokens"], json!(["<s>", "p", "é", "x"]));
    assert_eq!(scores["token_logprobs"], json!([null, -0.25, -2.5, -0.5]));
    assert_eq!(scores["top_logprobs"], json!([null, { "p": -0.25 }, { "p": -0.25 }, {}]));
    assert_eq!(scores["text_offset"], json!([0, 0, 1, 2]));
    let list = |name: &str| -> Vec<Value> {
        let own = chunks.iter().map(|chunk| &chunk["choices"][0]).filter(|one| one["index"] == 0);
        own.filter_map(|one| one["logprobs"][name].as_array()).flatten().cloned().collect()
    };
    for name in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
        assert_eq!(json!(list(name)), scores[name], "streamed");
    }
    let by_id = r#","echo":true,"logprobs":1,"return_tokens_as_token_ids":true"#;
    let (_, whole) = write(Format::Completions, &ask(Format::Completions, by_id), &events);
    let scores = &whole["choices"][0]["logprobs"];
    let names = ["token_id:1", "token_id:2", "token_id:3", "token_id:9"];
    assert_eq!(scores["tokens"], json!(names));
    assert_eq!(scores["top_logprobs"][1], json!({ "token_id:2": -0.25 }));
}

/// Three are drawn to each of two prompts; the two with the highest means are returned.
#[test]
fn the_best_are_returned() {
    let drawn: [&[f32]; 6] = [&[-3.0, -3.0], &[-1.0], &[-1.0, -3.0], &[], &[-0.5], &[-0.5, -0.5]];
    let said = drawn.iter().zip(0..).map(|(logprobs, i)| (i, answered(logprobs)));
    let ends = (0..6).map(|i| (i, done(3, 2, Finish::Stop)));
    let events: Vec<(u32, Event)> = said.chain(ends).collect();
    let asked = ask(Format::Completions, r#","n":2,"best_of":3"#);
    let (_, whole) = write(Format::Completions, &asked, &events);
    let choices = whole["choices"].as_array().expect("a list");
    let found: Vec<Value> = choices.iter().map(|one| json!([one["index"], one["text"]])).collect();
    assert_eq!(json!(found), json!([[0, "x"], [1, "xx"], [2, "x"], [3, "xx"]]));
    assert!(choices.iter().all(|one| one["logprobs"].is_null()), "nobody asked for them");
    assert_eq!(whole["usage"]["completion_tokens"], 12, "all that were drawn");
    assert_eq!(whole["usage"]["prompt_tokens"], 6);
    assert_eq!(whole["ingle"]["choices"].as_array().map(Vec::len), Some(4));
    let asked = ask(Format::Completions, r#","n":2,"best_of":3,"logprobs":0"#);
    let (_, whole) = write(Format::Completions, &asked, &events);
    assert_eq!(whole["choices"][0]["logprobs"]["token_logprobs"], json!([-1.0]));
}

/// A search finds three for each of two prompts; two of each are returned.
#[test]
fn what_a_search_found_is_all_choices() {
    let beam = |text: &str, tokens: usize, finish| Beam {
        text: text.into(),
        tokens: vec![9; tokens],
        finish,
        logprob: -1.0,
    };
    let (stop, length) = (Finish::Stop, Finish::Length);
    let events: Vec<(u32, Event)> = (0..2)
        .flat_map(|i| {
            let found = vec![beam("a", 1, stop), beam("bb", 4, length), beam("c", 5, stop)];
            [(i, Event::Beams(found)), (i, done(3, 10, stop))]
        })
        .collect();
    let fields = r#","use_beam_search":true,"n":2,"best_of":3,"echo":true,"return_token_ids":true"#;
    let asked = ask(Format::Completions, fields);
    assert_eq!(asked.requests[0].beams.map(|beams| beams.width), Some(3));
    let (_, whole) = write(Format::Completions, &asked, &events);
    let choices = whole["choices"].as_array().expect("a list");
    let told = choices.iter().map(|one| json!([one["index"], one["text"], one["finish_reason"]]));
    let expect =
        [(0, "péa", "stop"), (1, "pébb", "length"), (2, "qa", "stop"), (3, "qbb", "length")];
    assert_eq!(json!(told.collect::<Vec<_>>()), json!(expect));
    assert_eq!(whole["usage"]["completion_tokens"], 10, "those that are returned");
    assert_eq!(whole["usage"]["prompt_tokens"], 6);
}

#[test]
fn a_failure_is_the_whole_answers() {
    let asked = ask(Format::Chat, r#","n":2"#);
    let mut tally = Tally::new(Format::Chat, &asked, |_| Ok(String::new())).expect("decodes");
    tally.take(0, text("x")).expect("no failure");
    let fault = tally.take(1, Event::Failed(Fault::ours("broke"))).expect_err("fails");
    assert_eq!(fault, Fault::ours("broke"));
    assert!(!tally.complete());
    assert!(Whole::new(&tally).write(&head(Format::Chat, &asked.options)).is_err());
}

#[test]
fn another_servers_answer_is_read() {
    let mut reader = Reader::new(Format::Chat);
    let chunks = [
        r#"{"model":"x","choices":[{"index":0,"delta":{"role":"assistant"}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}"#,
        r#"{"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}"#,
        r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#,
        DONE,
    ];
    let events: Vec<(u32, Event)> =
        chunks.iter().flat_map(|chunk| reader.read(chunk).expect("right")).collect();
    assert_eq!(events[0], (0, text("a")));
    let Event::Done(receipt) = &events[1].1 else { panic!("no end: {events:?}") };
    assert!(receipt.left_machine && receipt.finish == Finish::Length && receipt.model == "x");
    assert_eq!(receipt.usage.prompt_tokens, 3);
}

#[test]
fn broken_answers_are_faults() {
    let rows: &[(&[&str], &str)] = &[
        (&["{"], "no JSON"),
        (&[r#"{"error":{"message":"too hot","type":"server_error"}}"#], "too hot"),
        (&[r#"{"choices":[{"index":99999999}]}"#], "index"),
        (&[DONE], "no choices"),
        (&[r#"{"choices":[{"index":0,"delta":{"content":"a"}}]}"#, DONE], "complete"),
        (&[r#"{"choices":[{"index":0}],"ingle":{}}"#], "receipt"),
    ];
    for (chunks, words) in rows {
        let mut reader = Reader::new(Format::Chat);
        let read: Result<Vec<_>, Fault> = chunks.iter().map(|chunk| reader.read(chunk)).collect();
        let fault = read.expect_err(words);
        assert!(fault.message.contains(words), "{fault}");
    }
}

fn any_scored() -> impl Strategy<Value = Scored> {
    (any::<u32>(), prop::collection::vec(any::<u8>(), 0..5), -50.0..0.0f32)
        .prop_map(|(token, bytes, logprob)| Scored { token, bytes, logprob })
}

/// Scores only where the format keeps all of them: the legacy shape knows no ids.
fn any_piece(format: Format) -> impl Strategy<Value = Piece> {
    let score = (any_scored(), prop::collection::vec(any_scored(), 0..3))
        .prop_map(|(chosen, top)| TokenScore { chosen, top });
    let most = if format == Format::Chat { 3 } else { 1 };
    (".+", prop::collection::vec(score, 0..most)).prop_map(|(text, scores)| Piece {
        text,
        scores,
        ..Piece::default()
    })
}

fn any_receipt() -> impl Strategy<Value = Receipt> {
    let step = (".*", any::<bool>(), ".*").prop_map(|(candidate, taken, reason)| Step {
        candidate,
        taken,
        reason,
    });
    let route = prop::collection::vec(step, 0..3);
    let finishes = [Finish::Stop, Finish::Length, Finish::Cancelled, Finish::ToolCalls];
    let finish = prop::sample::select(finishes.to_vec());
    let count = 0..1u32 << 24;
    let usage = prop::array::uniform7(count).prop_map(|counts| Usage {
        prompt_tokens: counts[0],
        cached_tokens: counts[1],
        completion_tokens: counts[2],
        accepted_tokens: counts[3],
        rejected_tokens: counts[4],
        reasoning_tokens: counts[5],
        written_tokens: counts[6],
    });
    let time = (0..1u64 << 50).prop_map(Duration::from_nanos);
    let timings = (time.clone(), time.clone(), time.clone(), time).prop_map(|times| Timings {
        load: times.0,
        queued: times.1,
        first_token: times.2,
        total: times.3,
    });
    let told = (prop::option::of(".+"), prop::collection::vec(".*", 0..3));
    (".*", route, any::<(bool, u32)>(), finish, told, usage, timings).prop_map(
        |(model, route, (left_machine, cost), finish, (stop, notes), usage, timings)| Receipt {
            model,
            route,
            left_machine,
            cost_micros: u64::from(cost),
            finish,
            stop,
            notes,
            usage,
            timings,
        },
    )
}

/// A call's name and the parts of its arguments.
type Called = (String, Vec<String>);

fn call_events(calls: &[Called], finish: Finish) -> Vec<Event> {
    let mut events = Vec::new();
    for ((name, parts), index) in calls.iter().zip(0..) {
        let mut say = |part| events.push(Event::ToolCall { index, part });
        say(CallPart::Begin { id: format!("call-{index}"), name: name.clone() });
        parts.iter().for_each(|text| say(CallPart::Arguments(text.clone())));
        // What is cut short does not end.
        if index as usize + 1 < calls.len() || finish != Finish::Length {
            say(CallPart::End);
        }
    }
    events
}

/// What each choice thinks, says and calls, then, in the choices' order, their receipts.
fn any_events(format: Format) -> impl Strategy<Value = Vec<(u32, Event)>> {
    let most = if format == Format::Chat { 3 } else { 1 };
    let thoughts = prop::collection::vec(".+", 0..most);
    let calls = prop::collection::vec((".+", prop::collection::vec(".+", 0..3)), 0..most);
    let pieces = prop::collection::vec(any_piece(format), 0..4);
    let choice = (thoughts, pieces, calls, any_receipt());
    prop::collection::vec(choice, 1..4).prop_map(|choices| {
        let mut events = Vec::new();
        for ((thoughts, pieces, calls, receipt), index) in choices.iter().zip(0..) {
            let thought =
                |text: &String| Event::Reasoning(Piece { text: text.clone(), ..Piece::default() });
            events.extend(thoughts.iter().map(|text| (index, thought(text))));
            events.extend(pieces.iter().map(|piece| (index, Event::Text(piece.clone()))));
            let calls = call_events(calls, receipt.finish);
            events.extend(calls.into_iter().map(|event| (index, event)));
        }
        for ((_, _, _, receipt), index) in choices.into_iter().zip(0..) {
            events.push((index, Event::Done(Box::new(receipt))));
        }
        events
    })
}

/// Each choice's own events in their order; how choices interleave is nobody's.
fn by_choice(mut events: Vec<(u32, Event)>) -> Vec<(u32, Event)> {
    events.sort_by_key(|event| event.0);
    events
}

fn round_trip(format: Format, usage: bool, events: &[(u32, Event)]) -> Vec<(u32, Event)> {
    let choices = events.iter().map(|event| event.0 + 1).max().unwrap_or(1);
    let mut asked = ask(format, "");
    asked.requests.truncate(1);
    asked.options =
        Options { stream: true, include_usage: usage, n: choices, ..Options::default() };
    let (chunks, whole) = write(format, &asked, events);
    let mut reader = Reader::new(format);
    let mut read = Vec::new();
    for chunk in chunks {
        read.extend(reader.read(&chunk.to_string()).expect("own words"));
    }
    assert_eq!(reader.read(DONE).expect("ended"), []);
    same_text(format, &whole, events);
    read
}

/// The whole answer, read back, says what the stream says.
fn same_text(format: Format, whole: &Value, events: &[(u32, Event)]) {
    let read = Reader::new(format).read(&whole.to_string()).expect("own words");
    let said = |events: &[(u32, Event)]| {
        let mut said = vec![(String::new(), Vec::new(), String::new(), Vec::new()); 4];
        for (index, event) in events {
            let (text, scores, thought, calls) = &mut said[*index as usize];
            match event {
                Event::Text(piece) => {
                    text.push_str(&piece.text);
                    scores.extend(piece.scores.clone());
                }
                Event::Reasoning(piece) => {
                    thought.push_str(&piece.text);
                    scores.extend(piece.scores.clone());
                }
                Event::ToolCall { part: CallPart::Begin { id, name }, .. } => {
                    calls.push((id.clone(), name.clone(), String::new()));
                }
                Event::ToolCall { part: CallPart::Arguments(text), .. } => {
                    calls.last_mut().expect("has begun").2.push_str(text);
                }
                _ => {}
            }
        }
        said
    };
    assert_eq!(said(&read), said(events));
}

proptest! {
    #[test]
    fn reading_undoes_writing(events in any_events(Format::Chat), usage in any::<bool>()) {
        let read = round_trip(Format::Chat, usage, &events);
        prop_assert_eq!(by_choice(read), by_choice(events));
    }

    #[test]
    fn reading_undoes_writing_completions(
        events in any_events(Format::Completions),
        usage in any::<bool>(),
    ) {
        prop_assert_eq!(round_trip(Format::Completions, usage, &events), events);
    }

    #[test]
    fn reading_undoes_writing_a_receipt(receipt in any_receipt()) {
        prop_assert_eq!(receipt::read(&receipt::write(&receipt)).expect("own words"), receipt);
    }

    #[test]
    fn no_answer_panics(text in r#"\{"(choices|usage|ingle|error)":[\[\]{}0-9a-z":,]{0,40}\}"#) {
        let _ = Reader::new(Format::Chat).read(&text);
    }
}
