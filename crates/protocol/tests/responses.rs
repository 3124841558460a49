//! OpenAI's responses: what is read and what is refused under which name, how items become turns,
//! that a stream and a whole answer say the same, and what is told of responses that were kept.

mod support;

use ingle_protocol::wire::responses::{
    Asked, Format, Listing, Open, Past, Retrieve, Snapshot, Status, end, fields, frames, gather,
    read_count, read_listing, read_open, read_request, read_retrieve, response_of, sequence,
    write_items,
};
use ingle_protocol::wire::{Ask, Kind, Stamp};
use ingle_protocol::{CallPart, Chat, Effort, Event, Fault, Finish, Grammar, Input};
use ingle_protocol::{Request, ToolChoice};
use proptest::prelude::*;
use serde_json::{Value, json};
use support::{call, chat, done, faults, means_what_it_says, scored, text, thought, turn, turns};

fn body(extra: &str) -> String {
    let comma = if extra.is_empty() { "" } else { "," };
    format!(r#"{{"model":"m","input":"hi"{comma}{extra}}}"#)
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
    let input = Input::Chat(Chat { messages: vec![turn("user", "hi")], ..Chat::default() });
    let request = Request { model: "m".into(), input, ..Request::default() };
    assert_eq!(asked.request, request);
    assert_eq!(
        (asked.stream, asked.background, asked.store),
        (false, false, Some(false)),
        "nothing is kept here"
    );
}

const TOOLS: &str = r#""tools":[{"type":"function","name":"f","description":"d",
    "parameters":{"type":"object"},"strict":true},{"type":"function","name":"g"}]"#;

#[test]
#[rustfmt::skip]
fn honoured_fields_reach_the_request() {
    type Check = fn(&Asked, &Chat) -> bool;
    let tool = |choice: &str| format!(r#"{TOOLS},"tool_choice":{choice}"#);
    let names = |c: &Chat| c.tools.iter().map(|tool| tool.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(chat(&read(&tool(r#"{"type":"allowed_tools","mode":"required","tools":[{"type":"function","name":"g"}]}"#)).request)), ["g"]);
    let rows: &[(&str, Check)] = &[
        (r#""temperature":0.5,"top_p":0.9,"top_k":5,"seed":7,"stop":"x""#,
            |a, _| a.request.sampling.temperature == 0.5 && a.request.sampling.top_k == 5
                && a.request.sampling.seed == Some(7) && a.request.stop == ["x"]),
        (r#""instructions":"be brief""#, |_, c| c.messages[0] == turn("system", "be brief")),
        (r#""max_output_tokens":5"#, |a, _| a.request.max_tokens == Some(5)),
        (r#""priority":3,"timeout_ms":9,"cache_salt":"s""#,
            |a, _| (a.request.priority, a.request.timeout_ms, a.request.cache_salt.as_str()) == (3, Some(9), "s")),
        (r#""stream":true,"stream_options":{"include_obfuscation":false}"#, |a, _| a.streamed()),
        (r#""store":false"#, |a, _| a.store == Some(false)),
        (r#""background":true"#, |a, _| a.background),
        (r#""top_logprobs":3"#, |a, _| a.request.logprobs == Some(3)),
        (r#""top_logprobs":0"#, |a, _| a.request.logprobs.is_none()),
        (r#""include":["message.output_text.logprobs","reasoning.encrypted_content"]"#,
            |a, _| a.request.logprobs == Some(0)),
        (r#""include":["message.output_text.logprobs"],"top_logprobs":2"#, |a, _| a.request.logprobs == Some(2)),
        (r#""reasoning":{"effort":"low","summary":"auto"}"#, |_, c| c.reasoning.effort == Some(Effort::Low)),
        (r#""reasoning":{"effort":"none","context":"auto","mode":"standard"}"#, |_, c| c.reasoning.on == Some(false)),
        (r#""chat_template_kwargs":{"enable_thinking":true}"#, |_, c| c.reasoning.on == Some(true)),
        (r#""thinking_token_budget":4"#, |_, c| c.reasoning.budget_tokens == Some(4)),
        (r#""text":{"format":{"type":"text"},"verbosity":"medium"}"#, |a, _| a.request.grammar.is_none()),
        (r#""text":{"format":{"type":"json_object"}}"#,
            |a, _| a.request.grammar == Some(Grammar::JsonSchema(r#"{"type":"object"}"#.into()))),
        (r#""text":{"format":{"type":"json_schema","name":"n","strict":true,"schema":{"const":1}}}"#,
            |a, _| a.request.grammar == Some(Grammar::JsonSchema(r#"{"const":1}"#.into()))),
        (r#""guided_choice":["a","b"]"#, |a, _| a.request.grammar == Some(Grammar::Choice(vec!["a".into(), "b".into()]))),
        (r#""metadata":{"a":"b"},"user":"u","max_tool_calls":3,"prompt_cache_key":"k""#, |a, _| a.request == read("").request),
        (TOOLS, |_, c| c.tools.len() == 2 && c.tools[0].strict && !c.tools[1].strict
            && c.tools[0].parameters == r#"{"type":"object"}"# && c.tools[0].description.as_deref() == Some("d")),
        (&tool(r#""none""#), |_, c| c.tool_choice == ToolChoice::None),
        (&tool(r#""required","parallel_tool_calls":false"#), |_, c| c.tool_choice == ToolChoice::Required && c.one_call),
        (&tool(r#"{"type":"function","name":"f"}"#), |_, c| c.tool_choice == ToolChoice::Named("f".into())),
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
        (r#""temperature":3"#, "temperature", "between 0 and 2"),
        (r#""tempratur":1"#, "tempratur", "did you mean temperature"),
        (r#""max_output_tokens":0"#, "max_output_tokens", "from 1"),
        (r#""max_tokens":5"#, "max_tokens", "max_output_tokens"),
        (r#""truncation":"auto""#, "truncation", "never cut"),
        (r#""conversation":"c""#, "conversation", "previous_response_id"),
        (r#""previous_response_id":"resp_1""#, "previous_response_id", "none is kept"),
        (r#""background":true,"store":false"#, "background", "needs 'store'"),
        (r#""stream_options":{"include_obfuscation":false}"#, "stream_options", "needs 'stream'"),
        (r#""stream":true,"stream_options":{"include_obfuscation":true}"#, "stream_options.include_obfuscation", "only as false"),
        (r#""include":["file_search_call.results"]"#, "include[0]", "only as"),
        (r#""reasoning":{"effort":"much"}"#, "reasoning.effort", "minimal"),
        (r#""reasoning":{"summary":"concise"}"#, "reasoning.summary", "nothing summarises"),
        (r#""reasoning":{"mode":"pro"}"#, "reasoning.mode", "standard"),
        (r#""text":{"format":{"type":"grammar"}}"#, "text.format.type", "json_schema"),
        (r#""text":{"format":{"type":"json_schema","name":"n"}}"#, "text.format.schema", "is missing"),
        (r#""text":{"verbosity":"low"}"#, "text.verbosity", "medium"),
        (r#""text":{"format":{"type":"json_object"}},"guided_regex":"a""#, "guided_regex", "too many"),
        (r#""tools":[{"type":"web_search"}]"#, "tools[0].type", "\"web_search\""),
        (r#""tools":[{"type":"custom","name":"x"}]"#, "tools[0].type", "\"function\""),
        (r#""tools":[{"type":"mcp","server_label":"x"}]"#, "tools[0].type", "\"mcp\""),
        (r#""tools":[{"type":"function"}]"#, "tools[0].name", "is missing"),
        (r#""tools":[{"type":"function","function":{"name":"f"}}]"#, "tools[0].function", "unknown"),
        (r#""tools":[{"type":"function","name":"f","defer_loading":true}]"#, "tools[0].defer_loading", "only as false"),
        (r#""tool_choice":"required""#, "tool_choice", "no tools"),
        (r#""tool_choice":{"type":"file_search"}"#, "tool_choice.type", "no tools run here"),
        (r#""tool_choice":{"type":"allowed_tools","mode":"auto","tools":[{"type":"function","name":"h"}]}"#, "tool_choice", "\"h\""),
        (r#""metadata":{"a":1}"#, "metadata.a", "a string"),
        (r#""prompt":{"id":"p"}"#, "prompt", "send the text"),
    ];
    for (extra, param, words) in rows {
        refused(&body(extra), param, words);
    }
    refused(r#"{"model":"m"}"#, "input", "missing");
    refused(r#"{"model":"m","input":[]}"#, "input", "empty");
    let many: Vec<String> = (0..17).map(|i| format!(r#""k{i}":"v""#)).collect();
    refused(&body(&format!(r#""metadata":{{{}}}"#, many.join(","))), "metadata", "16");
}

#[test]
fn the_table_means_what_it_says() {
    means_what_it_says(fields(Format::Create), &["model", "input"], "", |extra| {
        read_open(body(extra).as_bytes())
    });
    means_what_it_says(fields(Format::Count), &["model", "input"], "", |extra| {
        read_count(body(extra).as_bytes())
    });
    for format in [Format::Create, Format::Count] {
        for row in fields(format) {
            let rows = fields(format).filter(|other| other.name == row.name).count();
            assert_eq!(rows, 1, "{} has one row", row.name);
        }
    }
}

fn open(input: &Value) -> Result<Open, Fault> {
    read_open(json!({ "input": input }).to_string().as_bytes())
}

fn conversation(input: &Value) -> Result<Chat, Fault> {
    open(input)?.close(&[], &[]).map(|asked| chat(&asked.request).clone())
}

/// A whole loop of an agent that sends everything each time: text, thought, two calls, their
/// results.
#[test]
fn items_become_turns() {
    let input = json!([
        { "role": "developer", "content": "rule" },
        { "type": "message", "role": "user", "status": "completed", "id": "msg_9", "content": [
            { "type": "input_text", "text": "a" }, { "type": "input_text", "text": "b" },
        ] },
        { "type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": null,
          "content": [{ "type": "reasoning_text", "text": "hm" }] },
        { "type": "message", "role": "assistant", "content": [
            { "type": "output_text", "text": "I look.", "annotations": [], "logprobs": [] },
        ] },
        { "type": "function_call", "call_id": "1", "name": "f", "arguments": "{\"x\":1}" },
        { "type": "function_call", "id": "fc_2", "call_id": "2", "name": "g", "arguments": "{}",
          "parsed_arguments": null, "caller": { "type": "direct" } },
        { "type": "function_call_output", "call_id": "2",
          "output": [{ "type": "input_text", "text": "r2" }] },
        { "type": "function_call_output", "call_id": "1", "output": "r1" },
        { "role": "user", "content": "go on" },
        { "type": "reasoning", "summary": [{ "type": "summary_text", "text": "short" }] },
        { "role": "assistant", "content": [{ "type": "refusal", "refusal": "no" }] },
    ]);
    let expect = [
        "system|rule||||",
        "user|a\nb||||",
        r#"assistant|I look.|hm|1:f{"x":1},2:g{}||"#,
        "tool|r2|||2|g",
        "tool|r1|||1|f",
        "user|go on||||",
        "assistant|no|short|||",
    ];
    assert_eq!(turns(&conversation(&input).expect("right")), expect);
}

#[test]
#[rustfmt::skip]
fn wrong_items_are_refused_by_name() {
    let rows: &[(Value, &str, &str)] = &[
        (json!(7), "input", "an array"),
        (json!([{ "content": "x" }]), "input[0].type", "is missing"),
        (json!([{ "role": "robot", "content": "x" }]), "input[0].role", "developer"),
        (json!([{ "role": "user" }]), "input[0].content", "is missing"),
        (json!([{ "role": "user", "content": [{ "type": "input_image", "image_url": "x" }] }]), "input[0].content[0].image_url", "https://"),
        (json!([{ "role": "user", "content": [{ "text": "x" }] }]), "input[0].content[0].type", "is missing"),
        (json!([{ "role": "user", "content": "x", "name": "n" }]), "input[0].name", "unknown"),
        (json!([{ "type": "web_search_call", "id": "x" }]), "input[0].type", "\"web_search_call\""),
        (json!([{ "type": "reasoning", "summary": [], "encrypted_content": "xyz" }]), "input[0].encrypted_content", "another server"),
        (json!([{ "type": "function_call", "call_id": "1", "name": "f" }]), "input[0].arguments", "is missing"),
        (json!([{ "type": "function_call", "call_id": "1", "name": "f", "arguments": "{}", "namespace": "n" }]), "input[0].namespace", "names alone"),
        (json!([{ "type": "function_call_output", "call_id": "1", "output": "x" }]), "input[0].call_id", "previous_response_id"),
        (json!([{ "role": "user", "content": "x", "id": "" }]), "input[0].id", "1 to 64"),
        (json!([{ "type": "item_reference", "id": "msg_7_0" }]), "input[0].id", "not kept here"),
        (json!([{ "id": "msg_7_0" }]), "input[0].id", "not kept here"),
    ];
    for (input, param, words) in rows {
        faults(conversation(input), &input.to_string(), param, words);
    }
}

fn stamp(id: &str) -> Stamp {
    Stamp { id: id.into(), created_ms: 5_000, model: "m".into() }
}

/// All that is written of an answer.
fn write(asked: &Asked, events: &[Event]) -> String {
    let mut writer = asked.writer(stamp("1"), &mut |_| Ok(String::new())).expect("a writer");
    let out = events.iter().map(|event| writer.take(0, event.clone()).expect("no failure"));
    let out = out.collect();
    assert!(writer.complete());
    out
}

fn answered(asked: &Asked, events: &[Event]) -> Value {
    serde_json::from_str(&write(asked, events)).expect("JSON")
}

/// A response as it is kept.
fn past(asked: &Asked, id: &str, events: &[Event]) -> Past {
    let mut writer = asked.writer(stamp(id), &mut |_| Ok(String::new())).expect("a writer");
    let response = events.iter().map(|event| writer.take(0, event.clone()).expect("no failure"));
    Past { id: format!("resp_{id}"), input: asked.input_items(id), response: response.collect() }
}

/// Each request tells what is new; what was thought, said and called before comes from what was
/// kept, and the instructions of earlier requests do not.
#[test]
fn a_chain_is_the_whole_conversation() {
    let first = read(&format!(r#""instructions":"old",{TOOLS}"#));
    let mut events = vec![thought("hm"), text("I look.")];
    events.extend(call(0, &["{\"x\":", "1}"], true));
    events.push(done(Finish::ToolCalls, 9, None));
    let first = past(&first, "a", &events);
    let second = json!({ "previous_response_id": "resp_a", "instructions": "new", "input": [
        { "type": "function_call_output", "call_id": "call_0", "output": "r" },
    ] });
    let open = read_open(second.to_string().as_bytes()).expect("right");
    assert_eq!((open.previous(), open.references()), (Some("resp_a"), vec![]));
    let asked = open.close(std::slice::from_ref(&first), &[]).expect("closes");
    let expect = [
        "system|new||||",
        "user|hi||||",
        r#"assistant|I look.|hm|call_0:f{"x":1}||"#,
        "tool|r|||call_0|f",
    ];
    assert_eq!(turns(chat(&asked.request)), expect);
    let second = past(&asked, "b", &[text("so"), done(Finish::Stop, 1, None)]);
    let third = json!({ "previous_response_id": "resp_b", "input": "more" });
    let open = read_open(third.to_string().as_bytes()).expect("right");
    let asked = open.close(&[first, second], &[]).expect("closes");
    let expect = [&expect[1..], &["assistant|so||||", "user|more||||"]].concat();
    assert_eq!(turns(chat(&asked.request)), expect);
}

#[test]
fn an_item_is_referred_to_by_its_id() {
    let kept = past(&read(""), "a", &[text("said"), done(Finish::Stop, 1, None)]);
    let input = json!([{ "type": "item_reference", "id": "msg_a_0" }, { "id": "msg_a_i0" }]);
    let open = open(&input).expect("right");
    assert_eq!(open.references(), ["resp_a"]);
    let asked = open.close(&[], &[kept]).expect("closes");
    assert_eq!(turns(chat(&asked.request)), ["assistant|said||||", "user|hi||||"]);
    let items: Value = serde_json::from_str(&asked.input_items("b")).expect("JSON");
    assert_eq!((&items[0]["id"], &items[0]["type"]), (&json!("msg_a_0"), &json!("message")));
    for (item, response) in [("msg_a_0", "resp_a"), ("fc_b1_i3", "resp_b1"), ("x", "resp_")] {
        assert_eq!(response_of(item), response);
    }
}

/// The names of a stream's events, and their data.
fn events(stream: &str) -> Vec<(String, Value)> {
    let one = |(at, frame): (usize, &str)| {
        let (name, data) = frame.trim_end().split_once('\n').expect("two lines");
        let name = name.strip_prefix("event: ").expect("a name").to_owned();
        let data = data.strip_prefix("data: ").expect("data");
        let data: Value = serde_json::from_str(data).expect("JSON");
        assert_eq!((&data["type"], &data["sequence_number"]), (&json!(name), &json!(at)));
        assert_eq!(sequence(frame), Some(at as u64));
        (name, data)
    };
    frames(stream).enumerate().map(one).collect()
}

#[test]
fn a_stream_has_every_event_in_its_order() {
    let mut all = vec![thought("h"), thought("m"), text("He"), text(""), scored("llo", 3)];
    all.extend(call(0, &["{\"x\"", ":1}"], true));
    all.push(done(Finish::ToolCalls, 9, None));
    let stream = write(&read(r#""stream":true"#), &all);
    let events = events(&stream);
    let names: Vec<&str> =
        events.iter().map(|(name, _)| name.strip_prefix("response.").expect("one")).collect();
    let expect = [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ];
    assert_eq!(names, expect);
    let data = |at: usize| events[at].1.clone();
    let response = &data(0)["response"];
    assert_eq!(response["id"], "resp_1");
    assert_eq!((&response["status"], &response["output"]), (&json!("in_progress"), &json!([])));
    let place = json!({ "item_id": "rs_1_0", "output_index": 0, "content_index": 0, "delta": "h",
        "type": "response.reasoning_text.delta", "sequence_number": 4 });
    assert_eq!(data(4), place);
    assert_eq!(data(12)["logprobs"][0]["token"], "llo");
    let part = json!({ "type": "output_text", "text": "Hello", "annotations": [],
        "logprobs": data(12)["logprobs"] });
    assert_eq!(data(14)["part"], part);
    let item = json!({ "id": "fc_1_2", "type": "function_call", "status": "completed",
        "call_id": "call_0", "name": "f", "arguments": "{\"x\":1}" });
    assert_eq!(data(20)["item"], item);
    let last = &data(21)["response"];
    let usage = json!({
        "input_tokens": 7,
        "input_tokens_details": { "cached_tokens": 5, "cache_write_tokens": 0 },
        "output_tokens": 9, "output_tokens_details": { "reasoning_tokens": 0 },
        "total_tokens": 16,
    });
    assert_eq!((&last["usage"], &last["output"][2]), (&usage, &item));
    assert_eq!(last["ingle"]["left_machine"], false);
    assert_eq!((&last["created_at"], &last["completed_at"]), (&json!(5), &json!(5)));
}

#[test]
fn a_summary_is_what_was_thought() {
    let asked = read(r#""stream":true,"reasoning":{"summary":"auto"}"#);
    let said = [thought("hm"), text("so"), done(Finish::Stop, 2, None)];
    let events = events(&write(&asked, &said));
    let names: Vec<&str> = events[3..7].iter().map(|event| event.0.as_str()).collect();
    let expect = ["part.added", "text.delta", "text.done", "part.done"];
    assert_eq!(names, expect.map(|name| format!("response.reasoning_summary_{name}")));
    assert_eq!(events[4].1["summary_index"], 0);
    let item = json!({ "id": "rs_1_0", "type": "reasoning", "status": "completed", "content": [],
        "summary": [{ "type": "summary_text", "text": "hm" }] });
    assert_eq!(events[7].1["item"], item);
    let hidden = write(&read(r#""include_reasoning":false"#), &said);
    assert!(!hidden.contains("hm"), "{hidden}");
}

#[test]
fn a_response_says_what_was_asked_for() {
    let schema = r#"{"type":"json_schema","name":"n","schema":{"type":"object"}}"#;
    let extra = format!(
        r#""instructions":"i","metadata":{{"a":"b"}},"temperature":0.7,"top_logprobs":2,
        "reasoning":{{"effort":"low"}},"text":{{"format":{schema}}},"max_output_tokens":9,{TOOLS}"#
    );
    let told = answered(&read(&extra), &[text("a"), done(Finish::Length, 9, None)]);
    let format: Value = serde_json::from_str(schema).expect("JSON");
    let rows = [
        ("status", json!("incomplete")),
        ("incomplete_details", json!({ "reason": "max_output_tokens" })),
        ("instructions", json!("i")),
        ("metadata", json!({ "a": "b" })),
        ("temperature", json!(0.7)),
        ("top_p", json!(1.0)),
        ("top_logprobs", json!(2)),
        ("tool_choice", json!("auto")),
        ("parallel_tool_calls", json!(true)),
        ("previous_response_id", Value::Null),
        ("max_output_tokens", json!(9)),
        ("reasoning", json!({ "effort": "low", "summary": null })),
        ("text", json!({ "format": format, "verbosity": "medium" })),
        ("truncation", json!("disabled")),
        ("store", json!(false)),
        ("error", Value::Null),
        ("completed_at", Value::Null),
    ];
    for (name, value) in rows {
        assert_eq!(told[name], value, "{name}");
    }
    assert_eq!(told["tools"][1]["strict"], false, "what was not said is told");
    assert_eq!(told["output"][0]["status"], "incomplete");
}

/// What a client makes of a stream: items, each the sum of its deltas.
fn accumulate(events: &[(String, Value)]) -> Vec<Value> {
    let mut items: Vec<Value> = Vec::new();
    for (name, data) in events {
        let at = data["output_index"].as_u64().map(|at| at as usize);
        let more = |old: &Value| {
            json!(format!(
                "{}{}",
                old.as_str().unwrap_or(""),
                data["delta"].as_str().expect("a text")
            ))
        };
        match name.strip_prefix("response.").expect("one") {
            "output_item.added" => {
                assert_eq!(at, Some(items.len()));
                items.push(data["item"].clone());
            }
            "content_part.added" => {
                let item = &mut items[at.expect("an index")];
                item["content"].as_array_mut().expect("a list").push(data["part"].clone());
            }
            "output_text.delta" | "reasoning_text.delta" => {
                let part = &mut items[at.expect("an index")]["content"][0];
                part["text"] = more(&part["text"]);
                if let Some(Value::Array(scores)) = part.get_mut("logprobs") {
                    scores.extend(data["logprobs"].as_array().expect("a list").iter().cloned());
                }
            }
            "function_call_arguments.delta" => {
                let item = &mut items[at.expect("an index")];
                item["arguments"] = more(&item["arguments"]);
            }
            "output_item.done" => {
                let item = &mut items[at.expect("an index")];
                item["status"] = data["item"]["status"].clone();
                assert_eq!(item, &data["item"], "the sum of its deltas");
            }
            _ => {}
        }
    }
    items
}

/// Pieces of an answer in an order that a model may give them in.
fn any_answer() -> impl Strategy<Value = Vec<Event>> {
    let piece = (0..4u8, "[a-zä\n ]{0,6}");
    (prop::collection::vec(piece, 0..12), any::<bool>()).prop_map(|(pieces, whole)| {
        let mut calls = 0;
        let mut events = Vec::new();
        for (kind, words) in pieces {
            match kind {
                0 => events.push(text(&words)),
                1 => events.push(thought(&words)),
                2 => events.push(scored(&words, 7)),
                _ => {
                    events.extend(call(calls, &["{", &format!("{words:?}:1"), "}"], true));
                    calls += 1;
                }
            }
        }
        let finish = if whole { Finish::Stop } else { Finish::Length };
        events.push(done(finish, 9, None));
        events
    })
}

fn cases() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) }
}

proptest! {
    #![proptest_config(cases())]

    /// A whole answer, the sum of a stream, its last event, and what is gathered of it are one.
    #[test]
    fn a_whole_answer_is_the_sum_of_its_stream(said in any_answer()) {
        let whole = answered(&read(""), &said);
        let stream = write(&read(r#""stream":true"#), &said);
        let events = events(&stream);
        prop_assert_eq!(&json!(accumulate(&events)), &whole["output"]);
        prop_assert_eq!(&events.last().expect("one").1["response"], &whole);
        let snapshot = gather(frames(&stream)).expect("is told");
        prop_assert_eq!(snapshot.response, whole.to_string());
        for upto in 1..events.len() {
            let so_far = gather(frames(&stream).take(upto)).expect("is told");
            let so_far: Value = serde_json::from_str(&so_far.response).expect("JSON");
            let items = so_far["output"].as_array().expect("a list");
            let all = whole["output"].as_array().expect("a list");
            prop_assert_eq!(items.as_slice(), &all[..items.len()]);
        }
    }

    /// What an answer said is read again as it was said.
    #[test]
    fn what_was_said_is_read_again(said in any_answer()) {
        let kept = past(&read(""), "a", &said);
        let open = read_open(br#"{"previous_response_id":"resp_a","input":"on"}"#).expect("right");
        let asked = open.close(&[kept], &[]).expect("closes");
        let turns = &chat(&asked.request).messages;
        prop_assert!(turns.len() <= 3);
        let ends = |event: &&Event| matches!(event, Event::ToolCall { part: CallPart::End, .. });
        let calls = said.iter().filter(ends);
        let told: usize = turns.iter().map(|turn| turn.tool_calls.len()).sum();
        prop_assert_eq!(told, calls.count());
        let words = |text: &str| text.replace('\n', "");
        let text: String = said.iter().filter_map(|event| match event {
            Event::Text(piece) => Some(piece.text.as_str()),
            _ => None,
        }).collect();
        let answer = turns.iter().find(|turn| turn.role == "assistant");
        let answer = answer.map_or(String::new(), |turn| turn.content.clone());
        prop_assert_eq!(words(&answer), words(&text));
    }
}

/// In the background a response is told of before it is begun, and its events go on from there.
#[test]
fn in_the_background_two_events_come_first() {
    let asked = read(r#""background":true,"stream":true"#);
    let opening = asked.opening(&stamp("1"));
    let queued = gather(frames(&opening)).expect("is told");
    assert_eq!(queued.status, Status::Queued);
    let stream = opening + &write(&asked, &[text("a"), done(Finish::Stop, 1, None)]);
    let events = events(&stream);
    let names: Vec<&str> = events[..3].iter().map(|event| event.0.as_str()).collect();
    assert_eq!(names, ["response.created", "response.queued", "response.in_progress"]);
    assert_eq!(events[0].1["response"]["background"], true);
    let running = gather(frames(&stream).take(4)).expect("is told");
    assert_eq!(running.status, Status::InProgress);
    assert!(!running.status.ended() && gather(frames(&stream)).expect("is told").status.ended());
    assert_eq!(gather(std::iter::empty()), None);
}

#[test]
fn a_failure_is_the_streams_last_event() {
    let asked = read(r#""stream":true"#);
    let mut writer = asked.writer(stamp("1"), &mut |_| Ok(String::new())).expect("a writer");
    let begun = writer.take(0, text("a")).expect("no failure");
    let fault = writer.take(0, Event::Failed(Fault::ours("broke"))).expect_err("fails");
    let stream = begun + &writer.failure(Kind::of(&fault), &fault);
    let (name, data) = events(&stream).pop().expect("one");
    assert_eq!((name.as_str(), &data["response"]["status"]), ("response.failed", &json!("failed")));
    let error = json!({ "code": "server_error", "message": "broke", "param": null });
    assert_eq!(data["response"]["error"], error);
    assert_eq!(gather(frames(&stream)).expect("is told").status, Status::Failed);
    let kept = answered(&read(""), &[text("a"), done(Finish::Stop, 1, None)]).to_string();
    let cancelled = end(&kept, Status::Cancelled, None).expect("a response");
    assert!(cancelled.contains(r#""status":"cancelled""#), "{cancelled}");
    let failed = end(&kept, Status::Failed, Some((Kind::Ours, &fault))).expect("a response");
    assert!(failed.contains(r#""code":"server_error""#), "{failed}");
    assert!(end("7", Status::Failed, None).is_err());
}

#[test]
fn queries_are_read_or_refused_by_name() {
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|pair| (pair.0.into(), pair.1.into())).collect()
    };
    let retrieve = |query: &[(&str, &str)]| read_retrieve(&pairs(query));
    assert_eq!(retrieve(&[]), Ok(Retrieve::default()));
    let wanted = Retrieve { stream: true, starting_after: Some(7) };
    assert_eq!(retrieve(&[("stream", "true"), ("starting_after", "7")]), Ok(wanted));
    assert_eq!(retrieve(&[("include[]", "x"), ("stream", "false")]), Ok(Retrieve::default()));
    faults(retrieve(&[("starting_after", "7")]), "", "starting_after", "needs 'stream'");
    faults(retrieve(&[("stream", "1")]), "", "stream", "true or false");
    faults(retrieve(&[("strem", "true")]), "", "strem", "did you mean stream");
    faults(retrieve(&[("include_obfuscation", "true")]), "", "include_obfuscation", "false");
    let listing = |query: &[(&str, &str)]| read_listing(&pairs(query));
    assert_eq!(listing(&[]), Ok(Listing { limit: 20, after: None, descending: true }));
    let wanted = Listing { limit: 2, after: Some("x".into()), descending: false };
    assert_eq!(listing(&[("limit", "2"), ("after", "x"), ("order", "asc")]), Ok(wanted));
    for limit in ["0", "101", "x"] {
        faults(listing(&[("limit", limit)]), limit, "limit", "1 to 100");
    }
    faults(listing(&[("order", "up")]), "", "order", "asc or desc");
}

#[test]
fn input_items_come_in_pages() {
    let items = (0..5).map(|i| json!({ "role": "user", "content": i.to_string() }));
    let asked = open(&items.collect()).expect("right").close(&[], &[]).expect("closes");
    let input = asked.input_items("a");
    let page = |query: &[(&str, &str)]| {
        let query: Vec<_> = query.iter().map(|pair| (pair.0.into(), pair.1.into())).collect();
        let text = write_items(&input, &read_listing(&query).expect("right")).expect("a page");
        let page: Value = serde_json::from_str(&text).expect("JSON");
        let items = page["data"].as_array().expect("a list").iter();
        let texts =
            items.map(|item| item["content"][0]["text"].as_str().expect("a text").to_owned());
        (texts.collect::<String>(), page)
    };
    assert_eq!(page(&[]).0, "43210");
    assert_eq!(page(&[("order", "asc")]).0, "01234");
    let (texts, first) = page(&[("order", "asc"), ("limit", "2")]);
    assert_eq!((texts.as_str(), &first["has_more"]), ("01", &json!(true)));
    assert_eq!((&first["first_id"], &first["last_id"]), (&json!("msg_a_i0"), &json!("msg_a_i1")));
    let after = [("order", "asc"), ("limit", "3"), ("after", "msg_a_i1")];
    assert_eq!((page(&after).0.as_str(), &page(&after).1["has_more"]), ("234", &json!(false)));
    let unknown = Listing { after: Some("x".into()), ..Listing::default() };
    faults(write_items(&input, &unknown), "", "after", "no item");
    assert_eq!(write_items("[]", &Listing::default()).map(|page| page.contains("null")), Ok(true));
}

#[test]
fn every_status_has_a_name() {
    use Status::*;
    for status in [Queued, InProgress, Completed, Incomplete, Failed, Cancelled] {
        assert_eq!(Status::named(status.name()), Some(status));
    }
    assert_eq!(Status::named("other"), None);
    let snapshot = Snapshot { status: Queued, response: String::new() };
    assert!(!snapshot.status.ended());
}
