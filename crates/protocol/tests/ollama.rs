//! Ollama's chat and generate: what is read and what is refused under which name, and that lines
//! and a whole answer say the same.

mod support;

use ingle_protocol::wire::ollama::{Asked, Format, fields, options, read_named, read_request};
use ingle_protocol::wire::ollama::{Named as Line, Shown, write_idle, write_model, write_models};
use ingle_protocol::wire::{Ask, Kind, Stamp};
use ingle_protocol::{
    Chat, Effort, Event, Fault, Finish, Grammar, Input, KeepAlive, Reads, Sampling, ToolChoice,
};
use serde_json::{Value, json};
use support::write;
use support::{call, chat, done, faults, means_what_it_says, scored, text, thought, turn, turns};

fn body(format: Format, extra: &str) -> String {
    let input = match format {
        Format::Chat => r#""messages":[{"role":"user","content":"hi"}]"#,
        Format::Generate => r#""prompt":"hi""#,
    };
    let comma = if extra.is_empty() { "" } else { "," };
    format!(r#"{{"model":"m",{input}{comma}{extra}}}"#)
}

fn try_read(format: Format, extra: &str) -> Result<Asked, Fault> {
    read_request(format, body(format, extra).as_bytes())
}

fn read(format: Format, extra: &str) -> Asked {
    try_read(format, extra).unwrap_or_else(|fault| panic!("{extra}: {fault}"))
}

#[test]
fn a_plain_request_has_ollamas_defaults() {
    for format in [Format::Chat, Format::Generate] {
        let asked = read(format, "");
        assert!(asked.stream && !asked.idle && asked.request.max_tokens.is_none());
        let sampling = Sampling { temperature: 0.8, top_k: 40, top_p: 0.9, ..Sampling::default() };
        assert_eq!(asked.request.sampling, sampling);
        assert_eq!(chat(&asked.request).messages, [turn("user", "hi")]);
    }
    let asked = read_request(Format::Chat, br#"{"model":"m:latest"}"#).expect("right");
    assert!(asked.idle && asked.request.model == "m", "the tag that clients add");
}

#[test]
#[rustfmt::skip]
fn honoured_fields_reach_the_request() {
    type Check = fn(&Asked) -> bool;
    let (chats, generate) = (Format::Chat, Format::Generate);
    let rows: &[(Format, &str, Check)] = &[
        (chats, r#""stream":false"#, |a| !a.streamed()),
        (chats, r#""format":"json""#, |a| a.request.grammar == Some(Grammar::JsonSchema(r#"{"type":"object"}"#.into()))),
        (chats, r#""format":{"type":"array"}"#, |a| a.request.grammar == Some(Grammar::JsonSchema(r#"{"type":"array"}"#.into()))),
        (chats, r#""format":"""#, |a| a.request.grammar.is_none()),
        (chats, r#""think":true"#, |a| chat(&a.request).reasoning.on == Some(true)),
        (chats, r#""think":"high""#, |a| chat(&a.request).reasoning.effort == Some(Effort::High)),
        (chats, r#""keep_alive":-1"#, |a| a.request.keep_alive == Some(KeepAlive::Forever)),
        (chats, r#""logprobs":true,"top_logprobs":3"#, |a| a.request.logprobs == Some(3)),
        (chats, r#""logprobs":true"#, |a| a.request.logprobs == Some(0)),
        (chats, r#""tools":[{"type":"function","function":{"name":"f"}}]"#, |a| chat(&a.request).tools[0].name == "f"),
        (chats, r#""tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":"required""#,
            |a| chat(&a.request).tool_choice == ToolChoice::Required),
        (chats, r#""options":{"num_predict":5,"num_ctx":99,"num_gpu":3}"#,
            |a| a.request.max_tokens == Some(5) && a.num_ctx == Some(99)),
        (chats, r#""options":{"num_predict":-1,"seed":-1,"stop":["x"],"repeat_last_n":64}"#,
            |a| a.request.max_tokens.is_none() && a.request.sampling.seed.is_none() && a.request.stop == ["x"]),
        (chats, r#""options":{"temperature":0,"top_k":-1,"top_p":1,"min_p":0.5,"typical_p":0.5,"seed":7}"#,
            |a| {
                let usual = Sampling { temperature: 0.0, seed: Some(7), ..Sampling::default() };
                a.request.sampling == Sampling { min_p: 0.5, typical_p: 0.5, ..usual }
            }),
        (chats, r#""options":{"repeat_penalty":1.5,"repeat_last_n":-1,"presence_penalty":1,"frequency_penalty":-1}"#,
            |a| {
                let s = &a.request.sampling;
                [s.repetition_penalty, s.presence_penalty, s.frequency_penalty] == [1.5, 1.0, -1.0]
            }),
        (chats, r#""options":{"repeat_penalty":1.5,"repeat_last_n":0}"#, |a| a.request.sampling.repetition_penalty == 1.0),
        (generate, r#""system":"s""#, |a| chat(&a.request).messages == [turn("system", "s"), turn("user", "hi")]),
        (generate, r#""suffix":"x""#, |a| matches!(&a.request.input, Input::Gap(gap) if gap.prefix == "hi" && gap.suffix == "x")),
        (generate, r#""raw":true"#, |a| a.request.input == Input::Text("hi".into())),
        (generate, r#""images":[],"context":[],"suffix":"","template":"""#, |a| *a == read(Format::Generate, "")),
    ];
    for (format, extra, check) in rows {
        let asked = read(*format, extra);
        assert!(check(&asked), "{extra}: {asked:?}");
    }
}

#[test]
#[rustfmt::skip]
fn what_cannot_be_honoured_is_refused_by_name() {
    let (chats, generate) = (Format::Chat, Format::Generate);
    let message = |rest: &str| format!(r#""messages":[{{{rest}}}]"#);
    let rows: &[(Format, &str, &str, &str)] = &[
        (chats, r#""options":{"top_q":1}"#, "options.top_q", "top_p or top_k"),
        (chats, r#""options":{"temperature":9}"#, "options.temperature", "between 0 and 5"),
        (chats, r#""options":{"num_predict":0}"#, "options.num_predict", "-1"),
        (chats, r#""options":{"mirostat":3}"#, "options.mirostat", "from 0 to 2"),
        (chats, r#""options":{"repeat_penalty":1.1,"repeat_last_n":64}"#, "options.repeat_last_n", "only as -1"),
        (chats, r#""options":[]"#, "options", "an object"),
        (chats, r#""format":"yaml""#, "format", "JSON schema"),
        (chats, r#""think":"loud""#, "think", "medium"),
        (chats, r#""truncate":true"#, "truncate", "never cut"),
        (chats, r#""top_logprobs":3"#, "top_logprobs", "needs 'logprobs'"),
        (chats, r#""tools":[{"type":"function","function":{"name":"f"}}],"format":"json""#, "tools", "whole answer"),
        (chats, &message(r#""role":"robot","content":"x""#), "messages[0].role", "one of"),
        (chats, &message(r#""role":"user","content":"x","images":["aa"]"#), "messages[0].images[0]", "no base64"),
        (chats, &message(r#""role":"system","content":"x","images":["aGk="]"#), "messages[0].images", "alone"),
        (generate, r#""raw":true,"images":["aGk="]"#, "images", "a conversation"),
        (chats, &message(r#""role":"user","tool_calls":[]"#), "messages[0].tool_calls", "assistant"),
        (chats, &message(r#""role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"x"}}]"#),
            "messages[0].tool_calls[0].function.arguments", "an object"),
        (generate, r#""suffix":"x","system":"y""#, "system", "around a gap"),
        (generate, r#""context":[1]"#, "context", "/api/chat"),
        (generate, r#""template":"x""#, "template", "chat template"),
        (generate, r#""raw":true,"system":"x""#, "system", "raw"),
    ];
    for (format, extra, param, words) in rows {
        let body = match extra.starts_with(r#""messages""#) {
            true => format!(r#"{{"model":"m",{extra}}}"#),
            false => body(*format, extra),
        };
        faults(read_request(*format, body.as_bytes()), &body, param, words);
    }
    faults(read_request(chats, b"{}"), "{}", "model", "missing");
}

#[test]
fn the_tables_mean_what_they_say() {
    for format in [Format::Chat, Format::Generate] {
        let needed = ["model", "messages", "prompt"];
        means_what_it_says(fields(format), &needed, "", |extra| try_read(format, extra));
    }
    means_what_it_says(options(), &[], "options.", |extra| {
        try_read(Format::Chat, &format!(r#""options":{{{extra}}}"#))
    });
}

/// Calls without ids get some, and results find their calls by id, by name, or in turn.
#[test]
fn results_find_their_calls() {
    let call = |name: &str| json!({ "function": { "name": name, "arguments": { "x": 1 } } });
    let messages = json!([
        { "role": "user", "content": "go" },
        { "role": "assistant", "thinking": "hm", "tool_calls": [call("f"), call("g"), call("f")] },
        { "role": "tool", "tool_name": "g", "content": "1" },
        { "role": "tool", "content": "2" },
        { "role": "tool", "tool_call_id": "call_2", "content": "3" },
        { "role": "assistant", "content": "", "tool_calls": [{ "id": "mine", "function": { "name": "h" } }] },
        { "role": "tool", "content": "4" },
    ]);
    let body = json!({ "model": "m", "messages": messages }).to_string();
    let asked = read_request(Format::Chat, body.as_bytes()).expect("right");
    let expect = [
        "user|go||||",
        r#"assistant||hm|call_0:f{"x":1},call_1:g{"x":1},call_2:f{"x":1}||"#,
        "tool|1|||call_1|g",
        "tool|2|||call_0|f",
        "tool|3|||call_2|f",
        "assistant|||mine:h{}||",
        "tool|4|||mine|h",
    ];
    assert_eq!(turns(chat(&asked.request)), expect);
}

#[test]
fn a_base_model_is_given_a_prompt_as_it_stands() {
    let plain = read(Format::Generate, "").without_template();
    assert_eq!(plain.request.input, Input::Text("hi".into()));
    let ruled = read(Format::Generate, r#""system":"s""#).without_template();
    assert!(matches!(ruled.request.input, Input::Chat(Chat { .. })), "left to be refused");
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn a_whole_answer_is_the_sum_of_its_lines() {
    let mut called = vec![text("x")];
    called.extend(call(0, &["{\"a\":", "[1]}"], true));
    called.extend(call(1, &[], true));
    called.push(done(Finish::ToolCalls, 5, None));
    let mut cut = call(0, &["{\"a"], false);
    cut.push(done(Finish::Length, 9, None));
    let rows: &[(&[Event], &str)] = &[
        (&[text("a"), text("b"), done(Finish::Stop, 2, None)], "stop"),
        (&[thought("t"), thought("u"), text("a"), done(Finish::Length, 3, None)], "length"),
        (&[scored("a", 1), scored("b", 2), done(Finish::Stop, 2, None)], "stop"),
        (&[done(Finish::Stop, 0, None)], "stop"),
        (&called, "stop"),
        (&cut, "length"),
    ];
    for (format, (events, reason)) in
        [Format::Chat, Format::Generate].into_iter().flat_map(|f| rows.iter().map(move |r| (f, r)))
    {
        let whole = lines(&write(&read(format, r#""stream":false"#), events)).remove(0);
        let streamed = lines(&write(&read(format, ""), events));
        let place = |line: &Value| match format {
            Format::Chat => line["message"].clone(),
            Format::Generate => line.clone(),
        };
        let word = if format == Format::Chat { "content" } else { "response" };
        for key in [word, "thinking"] {
            let sum: String = streamed
                .iter()
                .filter_map(|line| place(line)[key].as_str().map(str::to_owned))
                .collect();
            assert_eq!(place(&whole)[key].as_str().unwrap_or(""), sum);
        }
        let list = |line: &Value, key: &str| line[key].as_array().cloned().unwrap_or_default();
        let calls: Vec<Value> =
            streamed.iter().flat_map(|line| list(&place(line), "tool_calls")).collect();
        assert_eq!(list(&place(&whole), "tool_calls"), calls);
        let scores: Vec<Value> = streamed.iter().flat_map(|line| list(line, "logprobs")).collect();
        assert_eq!(list(&whole, "logprobs"), scores);
        let (last, rest) = streamed.split_last().expect("a last line");
        assert!(rest.iter().all(|line| line["done"] == false && line.get("done_reason").is_none()));
        for key in ["done", "done_reason", "eval_count", "total_duration", "ingle", "created_at"] {
            assert_eq!(whole[key], last[key], "{key}");
        }
        assert_eq!((&last["done"], &last["done_reason"]), (&json!(true), &json!(reason)));
    }
}

#[test]
fn the_last_line_counts_and_clocks() {
    let out = write(&read(Format::Chat, ""), &[text("a"), done(Finish::Stop, 3, None)]);
    let last = lines(&out).pop().expect("a line");
    let rows = [
        ("model", json!("m")),
        ("created_at", json!("1970-01-01T00:00:00Z")),
        ("prompt_eval_count", json!(7)),
        ("eval_count", json!(3)),
        ("total_duration", json!(9_000_000)),
        ("load_duration", json!(1_000_000)),
        ("prompt_eval_duration", json!(3_000_000)),
        ("eval_duration", json!(4_000_000)),
    ];
    for (name, value) in rows {
        assert_eq!(last[name], value, "{name}");
    }
}

#[test]
fn calls_are_told_whole() {
    let mut events = call(0, &["{\"x\"", ":1}"], true);
    events.push(done(Finish::ToolCalls, 5, None));
    let first = lines(&write(&read(Format::Chat, ""), &events)).remove(0);
    let function = json!({ "index": 0, "name": "f", "arguments": { "x": 1 } });
    assert_eq!(first["message"]["tool_calls"], json!([{ "id": "call_0", "function": function }]));
    assert_eq!(first["done"], false);
}

#[test]
fn a_failure_is_a_line() {
    let mut writer =
        read(Format::Chat, "").writer(Stamp::default(), &mut |_| Ok(String::new())).expect("one");
    let fault = writer.take(0, Event::Failed(Fault::ours("broke"))).expect_err("fails");
    assert_eq!(writer.failure(Kind::of(&fault), &fault), "{\"error\":\"broke\"}\n");
    assert_eq!(writer.beat(), "", "every line is a part of the answer");
}

#[test]
fn the_small_formats() {
    type Named = Result<(&'static str, bool), &'static str>;
    let rows: &[(&str, Named)] = &[
        (r#"{"model":"m"}"#, Ok(("m", true))),
        (r#"{"name":"m:latest","stream":false}"#, Ok(("m", false))),
        (r#"{"model":"m","insecure":true}"#, Err("TLS")),
        (r#"{"modell":"m"}"#, Err("did you mean model")),
        ("{}", Err("missing")),
    ];
    for (body, expect) in rows {
        match (read_named(body.as_bytes()), expect) {
            (Ok((name, stream)), Ok(expect)) => assert_eq!((name.as_str(), stream), *expect),
            (Err(fault), Err(words)) => assert!(fault.message.contains(words), "{fault}"),
            (other, _) => panic!("{body}: {other:?}"),
        }
    }
    let named = Line { name: "m", size_bytes: 5, architecture: "llama", ..Line::default() };
    let list: Value =
        serde_json::from_str(&write_models(std::slice::from_ref(&named))).expect("JSON");
    assert_eq!(list["models"][0]["details"]["family"], "llama");
    let metadata = vec![("a".to_owned(), "[1]".to_owned()), ("b".to_owned(), "no JSON".to_owned())];
    let mut shown = Shown { template: "t", metadata: &metadata, tools: true, ..Shown::default() };
    let told = |shown: &Shown<'_>| {
        serde_json::from_str::<Value>(&write_model(&named, shown)).expect("JSON")
    };
    assert_eq!(told(&shown)["model_info"], json!({ "a": [1], "b": "no JSON" }));
    assert_eq!(told(&shown)["capabilities"], json!(["completion", "tools"]));
    let reads = Reads { dimensions: 4, ..Reads::default() };
    (shown.reads, shown.tools) = (Some(&reads), false);
    assert_eq!(told(&shown)["capabilities"], json!(["embedding"]));
    let idle = read_request(Format::Generate, br#"{"model":"m"}"#).expect("right");
    let told = lines(&write_idle(&idle, Stamp::default(), true)).remove(0);
    assert_eq!((&told["done_reason"], &told["response"]), (&json!("unload"), &json!("")));
}
