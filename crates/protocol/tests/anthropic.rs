//! Anthropic's messages: what is read and what is refused under which name, and that a stream and a
//! whole answer say the same.

mod support;

use ingle_protocol::ToolChoice;
use ingle_protocol::wire::anthropic::{Asked, Format, fields, read_count, read_request};
use ingle_protocol::wire::{Ask, Kind, Stamp};
use ingle_protocol::{Chat, Effort, Event, Fault, Finish, Grammar, Input, Request, Sampling};
use serde_json::{Value, json};
use support::{call, chat, done, faults, means_what_it_says, text, thought, turn, turns, write};

fn body(extra: &str) -> String {
    let comma = if extra.is_empty() { "" } else { "," };
    format!(
        r#"{{"model":"m","max_tokens":9,"messages":[{{"role":"user","content":"hi"}}]{comma}{extra}}}"#
    )
}

fn read(extra: &str) -> Asked {
    let body = body(extra);
    read_request(body.as_bytes()).unwrap_or_else(|fault| panic!("{body}: {fault}"))
}

fn refused(body: &str, param: &str, words: &str) {
    faults(read_request(body.as_bytes()), body, param, words);
}

#[test]
fn a_plain_request_is_all_defaults() {
    let asked = read("");
    let mut expect = Chat { messages: vec![turn("user", "hi")], ..Chat::default() };
    expect.reasoning.on = Some(false);
    let request = Request {
        model: "m".into(),
        input: Input::Chat(expect),
        max_tokens: Some(9),
        sampling: Sampling::default(),
        ..Request::default()
    };
    assert_eq!(asked, Asked { request, stream: false, omit_thinking: false });
}

const TOOL: &str =
    r#""tools":[{"name":"f","description":"d","input_schema":{"type":"object"},"strict":true}]"#;

#[test]
#[rustfmt::skip]
fn honoured_fields_reach_the_request() {
    type Check = fn(&Asked, &Chat) -> bool;
    let tool = |choice: &str| format!(r#"{TOOL},"tool_choice":{choice}"#);
    let rows: &[(&str, Check)] = &[
        (r#""temperature":0.5,"top_p":0.9,"top_k":5"#,
            |a, _| {
                let usual = Sampling::default();
                a.request.sampling == Sampling { temperature: 0.5, top_p: 0.9, top_k: 5, ..usual }
            }),
        (r#""stop_sequences":["x","y"]"#, |a, _| a.request.stop == ["x", "y"]),
        (r#""stream":true"#, |a, _| a.stream && a.streamed()),
        (r#""system":"be brief""#, |_, c| c.messages[0] == turn("system", "be brief")),
        (r#""system":[{"type":"text","text":"a","cache_control":{"type":"ephemeral"}},{"type":"text","text":"b"}]"#,
            |_, c| c.messages[0] == turn("system", "a\nb") && c.messages.len() == 2),
        (r#""metadata":{"user_id":"u"},"cache_control":{"type":"ephemeral"},"service_tier":"auto""#,
            |a, _| a.request == read("").request),
        (r#""thinking":{"type":"disabled"}"#, |_, c| c.reasoning.on == Some(false)),
        (r#""thinking":{"type":"adaptive"}"#, |_, c| c.reasoning.on.is_none()),
        (r#""thinking":{"type":"enabled","budget_tokens":5}"#,
            |a, c| {
                let reasoning = &c.reasoning;
                let told = (reasoning.on, reasoning.budget_tokens, a.omit_thinking);
                told == (Some(true), Some(5), false)
            }),
        (r#""thinking":{"type":"adaptive","display":"omitted"}"#, |a, _| a.omit_thinking),
        (r#""output_config":{"effort":"low"}"#, |_, c| c.reasoning.effort == Some(Effort::Low)),
        (r#""output_config":{"format":{"type":"json_schema","schema":{"type":"object"}}}"#,
            |a, _| a.request.grammar == Some(Grammar::JsonSchema(r#"{"type":"object"}"#.into()))),
        (r#""output_format":{"type":"json_schema","schema":{"type":"object"}}"#, |a, _| a.request.grammar.is_some()),
        (r#""context_management":{"edits":[{"type":"clear_thinking_20251015","keep":"all"}]}"#,
            |a, _| a.request == read("").request),
        (TOOL, |_, c| c.tools.len() == 1 && c.tools[0].name == "f" && c.tools[0].strict
            && c.tools[0].parameters == r#"{"type":"object"}"# && c.tools[0].description.as_deref() == Some("d")),
        (&tool(r#"{"type":"auto"}"#), |_, c| c.tool_choice == ToolChoice::Auto && !c.one_call),
        (&tool(r#"{"type":"any","disable_parallel_tool_use":true}"#), |_, c| c.tool_choice == ToolChoice::Required && c.one_call),
        (&tool(r#"{"type":"tool","name":"f"}"#), |_, c| c.tool_choice == ToolChoice::Named("f".into())),
        (&tool(r#"{"type":"none"}"#), |_, c| c.tool_choice == ToolChoice::None),
    ];
    for (extra, check) in rows {
        let asked = read(extra);
        assert!(check(&asked, chat(&asked.request)), "{extra}: {asked:?}");
    }
}

#[test]
#[rustfmt::skip]
fn what_cannot_be_honoured_is_refused_by_name() {
    let rows: &[(&str, &str, &str)] = &[
        (r#""temperature":1.5"#, "temperature", "between 0 and 1"),
        (r#""tempratur":1"#, "tempratur", "did you mean temperature"),
        (r#""stop_sequences":"x""#, "stop_sequences", "an array"),
        (r#""system":[{"type":"image"}]"#, "system[0].type", "only text"),
        (r#""thinking":{"type":"enabled"}"#, "thinking.budget_tokens", "is missing"),
        (r#""thinking":{"type":"enabled","budget_tokens":9}"#, "thinking.budget_tokens", "less than 'max_tokens'"),
        (r#""thinking":{"type":"disabled","budget_tokens":5}"#, "thinking.budget_tokens", "enabled"),
        (r#""thinking":{"type":"loud"}"#, "thinking.type", "adaptive"),
        (r#""output_config":{"effort":"huge"}"#, "output_config.effort", "xhigh"),
        (r#""output_format":{"type":"json_schema"}"#, "output_format.schema", "is missing"),
        (r#""context_management":{"edits":[{"type":"clear_tool_uses_20250919"}]}"#, "context_management.edits[0].type", "never shortened"),
        (r#""mcp_servers":[{"url":"x"}]"#, "mcp_servers", "nothing is run here"),
        (r#""container":"c""#, "container", "nothing is run here"),
        (r#""tools":[{"type":"web_search_20250305","name":"web_search"}]"#, "tools[0].type", "custom"),
        (r#""tools":[{"name":"f"}]"#, "tools[0].input_schema", "is missing"),
        (r#""tools":[{"name":"f","input_schema":{},"input_examples":[]}]"#, "tools[0].input_examples", "unknown"),
        (r#""tools":[{"name":"a b","input_schema":{}}]"#, "tools", "tools[0]"),
        (r#""tool_choice":{"type":"any"}"#, "tool_choice", "no tools"),
        (r#""tool_choice":{"type":"tool","name":"g"}"#, "tool_choice", "no tool"),
        (r#""tool_choice":"auto""#, "tool_choice", "an object"),
    ];
    for (extra, param, words) in rows {
        refused(&body(extra), param, words);
    }
    refused(r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#, "max_tokens", "missing");
    refused(r#"{"model":"m","max_tokens":1}"#, "messages", "missing");
    let format = r#""output_format":{"type":"json_schema","schema":{}}"#;
    refused(&body(&format!("{TOOL},{format}")), "tools", "whole answer");
}

fn conversation(messages: &str) -> Result<Chat, Fault> {
    read_count(format!(r#"{{"model":"m","messages":{messages}}}"#).as_bytes()).map(|read| read.1)
}

/// A whole loop of an agent: text, thought, two calls, their results, one of which failed, and text
/// beside them.
#[test]
fn blocks_become_turns() {
    let messages = json!([
        { "role": "user", "content": [{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }] },
        { "role": "user", "content": "c" },
        { "role": "assistant", "content": [
            { "type": "thinking", "thinking": "hm", "signature": "" },
            { "type": "text", "text": "I look." },
            { "type": "tool_use", "id": "1", "name": "f", "input": { "x": 1 } },
            { "type": "tool_use", "id": "2", "name": "g", "input": {}, "caller": { "type": "direct" } },
        ] },
        { "role": "user", "content": [
            { "type": "tool_result", "tool_use_id": "2", "content": [{ "type": "text", "text": "r2" }] },
            { "type": "tool_result", "tool_use_id": "1", "content": "no", "is_error": true },
            { "type": "text", "text": "go on" },
        ] },
    ]);
    let chat = conversation(&messages.to_string()).expect("right");
    let expect = [
        "user|a\nb\nc||||",
        r#"assistant|I look.|hm|1:f{"x":1},2:g{}||"#,
        "tool|r2|||2|g",
        "tool|Error: no|||1|f",
        "user|go on||||",
    ];
    assert_eq!(turns(&chat), expect);
    assert!(!chat.continue_final);
}

#[test]
fn an_assistants_last_turn_is_continued() {
    let messages = r#"[{"role":"user","content":"x"},{"role":"assistant","content":"Sure: "}]"#;
    assert!(conversation(messages).expect("right").continue_final);
}

#[test]
#[rustfmt::skip]
fn wrong_messages_are_refused_by_name() {
    let rows: &[(&str, &str, &str)] = &[
        (r#"[{"role":"system","content":"x"}]"#, "messages[0].role", "'system'"),
        (r#"[{"role":"user","content":[]}]"#, "messages[0].content", "is empty"),
        (r#"[{"role":"user"}]"#, "messages[0].content", "is missing"),
        (r#"[{"role":"user","content":[{"type":"image","source":{}}]}]"#, "messages[0].content[0].source.type", "base64"),
        (r#"[{"role":"user","content":[{"type":"document"}]}]"#, "messages[0].content[0].type", "\"document\""),
        (r#"[{"role":"user","content":[{"text":"x"}]}]"#, "messages[0].content[0].type", "is missing"),
        (r#"[{"role":"user","content":[{"type":"text","text":"x","size":1}]}]"#, "messages[0].content[0].size", "unknown"),
        (r#"[{"role":"user","content":[{"type":"tool_result","tool_use_id":"1"}]}]"#, "messages[0].content[0].tool_use_id", "no call"),
        (r#"[{"role":"assistant","content":[{"type":"redacted_thinking","data":"x"}]}]"#, "messages[0].content[0].type", "thinking"),
        (r#"[{"role":"assistant","content":[{"type":"tool_use","id":"1","name":"f","input":"x"}]}]"#, "messages[0].content[0].input", "an object"),
    ];
    for (messages, param, words) in rows {
        faults(conversation(messages), messages, param, words);
    }
}

#[test]
fn the_table_means_what_it_says() {
    let needed = ["model", "messages", "max_tokens"];
    means_what_it_says(fields(Format::Messages), &needed, "", |extra| {
        read_request(body(extra).as_bytes())
    });
    means_what_it_says(fields(Format::Count), &["messages"], "", |extra| {
        let comma = if extra.is_empty() { "" } else { "," };
        let messages = r#""messages":[{"role":"user","content":"hi"}]"#;
        read_count(format!("{{{messages}{comma}{extra}}}").as_bytes())
    });
}

/// The names of a stream's events, and their data.
fn events(stream: &str) -> Vec<(String, Value)> {
    let one = |event: &str| {
        let (name, data) = event.split_once('\n').expect("two lines");
        let name = name.strip_prefix("event: ").expect("a name").to_owned();
        let data = data.strip_prefix("data: ").expect("data");
        (name, serde_json::from_str(data).expect("JSON"))
    };
    stream.split_terminator("\n\n").map(one).collect()
}

/// What a client makes of a stream: blocks, each the sum of its deltas.
fn accumulate(stream: &str) -> (Vec<Value>, Value) {
    let (mut blocks, mut end) = (Vec::<Value>::new(), Value::Null);
    let mut json = String::new();
    for (name, data) in events(stream) {
        assert_eq!(data["type"], name.as_str());
        let index = data["index"].as_u64().map(|index| index as usize);
        match name.as_str() {
            "content_block_start" => {
                assert_eq!(index, Some(blocks.len()));
                blocks.push(data["content_block"].clone());
                json.clear();
            }
            "content_block_delta" => {
                let block = &mut blocks[index.expect("an index")];
                let delta = data["delta"].as_object().expect("an object");
                for (key, value) in delta.iter().filter(|pair| pair.0 != "type") {
                    let more = value.as_str().expect("a text");
                    if key == "partial_json" {
                        json.push_str(more);
                        continue;
                    }
                    let old = block[key].as_str().expect("begun").to_owned();
                    block[key] = json!(old + more);
                }
            }
            "content_block_stop" if !json.is_empty() => {
                let input = serde_json::from_str(&json);
                blocks[index.expect("an index")]["input"] =
                    input.unwrap_or_else(|_| json!({ "INVALID_JSON": json }));
            }
            "message_delta" => end = data,
            _ => {}
        }
    }
    (blocks, end)
}

#[test]
fn a_stream_has_every_event_in_its_order() {
    let mut all = vec![thought("h"), thought("m"), text("He"), text(""), text("llo")];
    all.extend(call(0, &["{\"x\"", ":1}"], true));
    all.push(done(Finish::ToolCalls, 9, None));
    let stream = write(&read(r#""stream":true"#), &all);
    let events = events(&stream);
    let shown: Vec<String> = events
        .iter()
        .map(|(name, data)| {
            let inner = [&data["content_block"]["type"], &data["delta"]["type"]];
            let inner = inner.into_iter().find_map(Value::as_str).unwrap_or("");
            format!("{name} {inner}").trim_end().to_owned()
        })
        .collect();
    let expect = [
        "message_start",
        "content_block_start thinking",
        "content_block_delta thinking_delta",
        "content_block_delta thinking_delta",
        "content_block_delta signature_delta",
        "content_block_stop",
        "content_block_start text",
        "content_block_delta text_delta",
        "content_block_delta text_delta",
        "content_block_stop",
        "content_block_start tool_use",
        "content_block_delta input_json_delta",
        "content_block_delta input_json_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ];
    assert_eq!(shown, expect);
    assert_eq!(events[0].1["message"]["id"], "msg_1");
    assert_eq!(events[0].1["message"]["content"], json!([]));
    let end = &events[events.len() - 2].1;
    assert_eq!(end["delta"], json!({ "stop_reason": "tool_use", "stop_sequence": null }));
    let usage = json!({
        "input_tokens": 2, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 5,
        "output_tokens": 9, "output_tokens_details": { "thinking_tokens": 0 },
    });
    assert_eq!(end["usage"], usage);
    assert_eq!(end["ingle"]["left_machine"], false);
}

#[test]
fn a_whole_answer_is_the_sum_of_its_stream() {
    let mut called = vec![text("x")];
    called.extend(call(0, &["{\"a\":", "[1]}"], true));
    called.extend(call(1, &[], true));
    called.push(done(Finish::ToolCalls, 5, None));
    let mut cut = call(0, &["{\"a"], false);
    cut.push(done(Finish::Length, 9, None));
    let rows: &[(&[Event], &str)] = &[
        (&[text("a"), text("b"), done(Finish::Stop, 2, None)], "end_turn"),
        (&[done(Finish::Stop, 0, None)], "end_turn"),
        (&[text("a"), done(Finish::Stop, 1, Some("END"))], "stop_sequence"),
        (&[text("a"), done(Finish::Length, 9, None)], "max_tokens"),
        (&[text("a"), done(Finish::Length, 8, None)], "model_context_window_exceeded"),
        (&[thought("t"), text("a"), thought("u"), done(Finish::Stop, 3, None)], "end_turn"),
        (&called, "tool_use"),
        (&cut, "max_tokens"),
    ];
    for (events, reason) in rows {
        let whole: Value = serde_json::from_str(&write(&read(""), events)).expect("JSON");
        let (blocks, end) = accumulate(&write(&read(r#""stream":true"#), events));
        assert_eq!(whole["content"], json!(blocks));
        assert_eq!(whole["stop_reason"], *reason);
        for key in ["stop_reason", "stop_sequence"] {
            assert_eq!(whole[key], end["delta"][key]);
        }
        assert_eq!(whole["usage"], end["usage"]);
        assert_eq!(whole["ingle"], end["ingle"]);
        assert_eq!((&whole["type"], &whole["role"]), (&json!("message"), &json!("assistant")));
    }
}

#[test]
fn omitted_thoughts_are_told_of_and_not_told() {
    let extra = r#""thinking":{"type":"adaptive","display":"omitted"}"#;
    let events = [thought("secret"), text("a"), done(Finish::Stop, 2, None)];
    for extra in [extra.to_owned(), format!(r#"{extra},"stream":true"#)] {
        let out = write(&read(&extra), &events);
        assert!(out.contains("\"thinking\"") && !out.contains("secret"), "{out}");
    }
}

#[test]
fn a_failure_is_the_streams_last_event() {
    let stamp = Stamp::default();
    let asked = read(r#""stream":true"#);
    let mut writer = asked.writer(stamp, &mut |_| Ok(String::new())).expect("a writer");
    writer.take(0, text("a")).expect("no failure");
    let fault = writer.take(0, Event::Failed(Fault::ours("broke"))).expect_err("fails");
    let last = writer.failure(Kind::of(&fault), &fault);
    let error = json!({ "type": "error", "error": { "type": "api_error", "message": "broke" } });
    assert_eq!(events(&last), [("error".to_owned(), error)]);
    assert_eq!(events(writer.beat())[0].0, "ping");
}
