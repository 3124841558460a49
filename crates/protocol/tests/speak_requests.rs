//! Requests written for other servers: reading undoes writing, and what a format has no words for
//! is refused by its name.

mod support;

use ingle_protocol::wire::speak::{Manner, Otherwise, Target, losses, write, write_as};
use ingle_protocol::wire::{anthropic, ollama, openai, responses};
use ingle_protocol::{
    Adapter, Chat, Effort, Fault, Format, Grammar, Input, KeepAlive, Message, Origin, Picture,
    Reasoning, Request, Sampling, Source, Tool, ToolCall, ToolChoice, Truncation, Verbatim,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::Arc;
use support::{chat, faults, turn};

const PNG: &str = "iVBORw0KGgo=";

/// What a turn's parts may be: a text, or a picture.
type Part = Result<String, Picture>;

/// A round of a conversation: what the user says, and what the assistant thinks, says and calls.
type Round = (Vec<Part>, Option<String>, String, Vec<(String, i32, String)>);

fn any_picture() -> impl Strategy<Value = Picture> {
    let own = prop::sample::select(vec!["image/png", "image/webp"]).prop_map(|media| {
        let data = if media == "image/png" { PNG } else { "UklGRg==" };
        (media.to_owned(), Source::Base64(data.to_owned()))
    });
    let far =
        "[a-z]{1,8}".prop_map(|it| (String::new(), Source::Url(format!("https://{it}.example"))));
    let detail = prop::option::of(prop::sample::select(vec!["low", "high", "auto"]));
    (prop_oneof![own, far], detail).prop_map(|((media, source), detail)| Picture {
        media,
        source,
        detail: detail.map(str::to_owned),
        at: 0,
    })
}

fn any_round() -> impl Strategy<Value = Round> {
    let part = prop_oneof![3 => "[a-zé ]{1,8}".prop_map(Ok), 1 => any_picture().prop_map(Err)];
    let call = ("[a-z]{1,6}", any::<i32>(), "[a-z\\n]{1,8}");
    let calls = prop::collection::vec(call, 0..3);
    let parts = prop::collection::vec(part, 1..4);
    (parts, prop::option::of("[a-z]{1,8}"), "[a-z\"\\n]{1,9}", calls)
}

/// A turn of parts, as all readers join them.
fn mixed(parts: &[Part]) -> Message {
    let mut out = turn("user", "");
    let mut begun = false;
    for part in parts {
        match part {
            Ok(text) => {
                if std::mem::replace(&mut begun, true) {
                    out.content.push('\n');
                }
                out.content.push_str(text);
            }
            Err(picture) => {
                out.pictures.push(Picture { at: out.content.len(), ..picture.clone() });
            }
        }
    }
    out
}

fn any_turns() -> impl Strategy<Value = Vec<Message>> {
    let system = prop::option::of("[a-z]{1,8}");
    let rounds = prop::collection::vec(any_round(), 0..3);
    let last = prop::collection::vec("[a-z]{1,8}".prop_map(Ok), 1..3);
    (system, rounds, last).prop_map(|(system, rounds, last)| {
        let mut out: Vec<Message> = system.iter().map(|text| turn("system", text)).collect();
        for (i, (parts, reasoning, content, calls)) in rounds.iter().enumerate() {
            out.push(mixed(parts));
            let id = |j: usize| format!("call_{i}_{j}");
            let call = |(j, (name, x, _)): (usize, &(String, i32, String))| ToolCall {
                id: id(j),
                name: name.clone(),
                arguments: json!({ "x": x }).to_string(),
            };
            let tool_calls = calls.iter().enumerate().map(call).collect();
            let reasoning = reasoning.clone();
            out.push(Message { reasoning, tool_calls, ..turn("assistant", content) });
            for (j, (name, _, result)) in calls.iter().enumerate() {
                let (name, tool_call_id) = (Some(name.clone()), Some(id(j)));
                out.push(Message { name, tool_call_id, ..turn("tool", result) });
            }
        }
        out.push(mixed(&last));
        out
    })
}

fn any_tools() -> impl Strategy<Value = Vec<Tool>> {
    let tool = (prop::option::of("[a-z]{1,9}"), any::<i32>(), any::<bool>());
    let named = |(i, (description, x, strict)): (usize, (_, i32, bool))| Tool {
        name: format!("tool-{i}"),
        description,
        parameters: json!({ "type": "object", "x": x }).to_string(),
        strict,
    };
    prop::collection::vec(tool, 0..3)
        .prop_map(move |tools| tools.into_iter().enumerate().map(named).collect())
}

fn any_chat() -> impl Strategy<Value = Chat> {
    let effort = prop::option::of(prop::sample::select(Effort::ALL.to_vec()));
    let reasoning = (any::<Option<bool>>(), effort, prop::option::of(1..100u32));
    let rest = (0..4u8, any::<bool>(), any::<bool>(), any::<bool>());
    (any_turns(), any_tools(), reasoning, rest).prop_map(|(turns, tools, thinks, rest)| {
        let (choice, one_call, continue_final, kwargs) = rest;
        let tool_choice = match (choice, tools.last()) {
            (1, _) => ToolChoice::None,
            (2, Some(_)) => ToolChoice::Required,
            (3, Some(tool)) => ToolChoice::Named(tool.name.clone()),
            _ => ToolChoice::Auto,
        };
        let mut chat = Chat { messages: turns, tools, tool_choice, one_call, ..Chat::default() };
        if continue_final {
            chat.messages.push(turn("assistant", "begun"));
            chat.continue_final = true;
        }
        let (on, effort, budget_tokens) = thinks;
        chat.reasoning = Reasoning { on, effort, budget_tokens };
        chat.template_kwargs = if kwargs { r#"{"k":1}"#.to_owned() } else { String::new() };
        chat
    })
}

fn any_sampling() -> impl Strategy<Value = Sampling> {
    let steps = || (0..=4u8).prop_map(|it| f32::from(it) / 4.0);
    let numbers = (steps(), steps(), steps(), steps(), steps(), 0..9u32);
    let more = (steps(), steps(), 0..=2u8, any::<Option<u16>>(), any::<bool>());
    let lists = (prop::collection::vec(any::<u32>(), 0..3), 0..9u32);
    (numbers, more, lists).prop_map(|(numbers, more, lists)| {
        let mut sampling = Sampling {
            temperature: numbers.0,
            top_p: numbers.1,
            min_p: numbers.2,
            typical_p: numbers.3,
            frequency_penalty: numbers.4,
            presence_penalty: more.0,
            repetition_penalty: more.1 + 0.5,
            top_k: numbers.5,
            seed: more.3.map(u64::from),
            ignore_eos: more.4,
            stop_tokens: lists.0.clone(),
            logit_bias: lists.0.iter().map(|token| (*token, 1.5)).collect(),
            min_tokens: lists.1,
            ..Sampling::default()
        };
        let mut seen = std::collections::BTreeSet::new();
        sampling.logit_bias.retain(|(token, _)| seen.insert(*token));
        sampling.mirostat.version = more.2;
        sampling
    })
}

fn any_request() -> impl Strategy<Value = Request> {
    let grammar = prop_oneof![
        2 => Just(None),
        1 => any::<i32>().prop_map(|x| Some(Grammar::JsonSchema(json!({ "const": x }).to_string()))),
        1 => Just(Some(Grammar::JsonSchema(r#"{"type":"object"}"#.to_owned()))),
        1 => Just(Some(Grammar::Regex("a+".to_owned()))),
    ];
    let stop = prop::collection::vec("[a-z]{1,4}", 0..3);
    let here = (any::<Option<bool>>(), any::<bool>(), prop::option::of(0..20u8), 200..9000u32);
    (any_chat(), any_sampling(), grammar, stop, here).prop_map(
        |(chat, sampling, grammar, stop, (here, more, logprobs, most))| Request {
            model: "m".to_owned(),
            input: Input::Chat(chat),
            sampling,
            stop,
            max_tokens: Some(most),
            logprobs,
            grammar,
            token_ids: more,
            truncation: more.then_some(Truncation::Last(7)),
            adapters: more
                .then(|| vec![Adapter { which: ingle_protocol::Which::Number(0), scale: 0.5 }]),
            priority: if here.is_some() { 3 } else { 0 },
            timeout_ms: here.map(|_| 500),
            cache_salt: if here == Some(true) { "salt".to_owned() } else { String::new() },
            keep_alive: here.map(|forever| match forever {
                true => KeepAlive::Forever,
                false => KeepAlive::For(std::time::Duration::from_secs(90)),
            }),
            ..Request::default()
        },
    )
}

fn input(request: &mut Request) -> &mut Chat {
    let Input::Chat(chat) = &mut request.input else { panic!("a conversation") };
    chat
}

/// The same request, as far as `target` has words for it: what would be refused is taken back, row
/// by row of the table, and what is left out as the table says is gone.
fn sayable(target: Target, mut request: Request) -> Request {
    let said = |name: &str| {
        let row = losses().iter().find(|row| row.name == name);
        row.unwrap_or_else(|| panic!("{name} is no row")).said.contains(&target)
    };
    let usual = Request::default();
    let (sampling, plain) = (&mut request.sampling, Sampling::default());
    for (name, reset) in [
        ("top_k", (|s, p| s.top_k = p.top_k) as fn(&mut Sampling, &Sampling)),
        ("min_p", |s, p| s.min_p = p.min_p),
        ("typical_p", |s, p| s.typical_p = p.typical_p),
        ("frequency_penalty", |s, p| s.frequency_penalty = p.frequency_penalty),
        ("presence_penalty", |s, p| s.presence_penalty = p.presence_penalty),
        ("repetition_penalty", |s, p| s.repetition_penalty = p.repetition_penalty),
        ("mirostat", |s, p| s.mirostat = p.mirostat),
        ("seed", |s, p| s.seed = p.seed),
        ("ignore_eos", |s, p| s.ignore_eos = p.ignore_eos),
        ("stop_token_ids", |s, p| s.stop_tokens = p.stop_tokens.clone()),
        ("logit_bias", |s, p| s.logit_bias = p.logit_bias.clone()),
        ("min_tokens", |s, p| s.min_tokens = p.min_tokens),
    ] {
        if !said(name) {
            reset(sampling, &plain);
        }
    }
    for (name, reset) in [
        ("stop", (|r, u| r.stop = u.stop.clone()) as fn(&mut Request, &Request)),
        ("logprobs", |r, u| r.logprobs = u.logprobs),
        ("return_token_ids", |r, u| r.token_ids = u.token_ids),
        ("truncate_prompt_tokens", |r, u| r.truncation = u.truncation),
        ("lora", |r, u| r.adapters = u.adapters.clone()),
        ("priority", |r, u| r.priority = u.priority),
        ("timeout_ms", |r, u| r.timeout_ms = u.timeout_ms),
        ("keep_alive", |r, u| r.keep_alive = u.keep_alive),
        ("cache_salt", |r, u| r.cache_salt = u.cache_salt.clone()),
    ] {
        if !said(name) {
            reset(&mut request, &usual);
        }
    }
    if !said("structured_outputs") && matches!(request.grammar, Some(Grammar::Regex(_))) {
        request.grammar = None;
    }
    sayable_chat(target, input(&mut request), &said);
    request
}

fn sayable_chat(target: Target, chat: &mut Chat, said: &dyn Fn(&str) -> bool) {
    if !said("tool_choice") {
        chat.tool_choice = ToolChoice::Auto;
    }
    if !said("parallel_tool_calls") {
        chat.one_call = false;
    }
    if !said("tools[].function.strict") {
        chat.tools.iter_mut().for_each(|tool| tool.strict = false);
    }
    if !said("thinking_token_budget") {
        chat.reasoning.budget_tokens = None;
    }
    let effort = chat.reasoning.effort;
    chat.reasoning.effort =
        effort.filter(|it| !matches!(it, Effort::Minimal | Effort::XHigh | Effort::Max));
    if !said("chat_template_kwargs.enable_thinking") {
        chat.reasoning.on = None;
    }
    if !said("chat_template_kwargs") {
        chat.template_kwargs.clear();
    }
    if chat.continue_final && !said("continue_final_message") {
        chat.continue_final = false;
        chat.messages.pop();
    }
    for turn in &mut chat.messages {
        if !said("messages[].reasoning_content") {
            turn.reasoning = None;
        }
        if !said("messages[].content[].image_url.url") {
            turn.pictures.retain(|picture| matches!(picture.source, Source::Base64(_)));
        }
        for picture in &mut turn.pictures {
            if !said("messages[].content[].image_url.detail") {
                picture.detail = None;
            }
            if !said("where a picture stands in its text") {
                picture.at = 0;
            }
        }
        if target == Target::OpenAiChat && turn.role == "tool" {
            turn.name = None;
        }
    }
}

/// What is the same to a format whichever way it is said.
fn canonical(target: Target, mut request: Request) -> Request {
    let grammar = request.grammar.is_some();
    let chat = input(&mut request);
    match target {
        Target::Messages => {
            let reasoning = &mut chat.reasoning;
            // A budget is what says that it thinks, and without a word it does not.
            reasoning.on = Some(reasoning.on != Some(false) && reasoning.budget_tokens.is_some());
            reasoning.budget_tokens =
                reasoning.budget_tokens.filter(|_| reasoning.on == Some(true));
            // Our own server has either.
            if grammar {
                chat.tools.clear();
            }
            if chat.tools.is_empty() {
                (chat.tool_choice, chat.one_call) = (ToolChoice::Auto, false);
            }
            if chat.tool_choice == ToolChoice::None {
                chat.one_call = false;
            }
        }
        Target::Ollama => {
            let reasoning = &mut chat.reasoning;
            reasoning.on = reasoning.on.or(reasoning.effort.map(|_| true));
            reasoning.effort = reasoning.effort.filter(|_| reasoning.on == Some(true));
            if grammar {
                chat.tools.clear();
            }
        }
        _ => {}
    }
    if chat.tools.is_empty() {
        let forced = matches!(chat.tool_choice, ToolChoice::Required | ToolChoice::Named(_));
        chat.tool_choice = if forced { ToolChoice::Auto } else { chat.tool_choice.clone() };
    }
    request
}

/// Reads a body as our own server does.
fn read(format: Format, body: &str) -> Result<(Request, bool), Fault> {
    let body = body.as_bytes();
    match format {
        Format::Chat => openai::read_request(openai::Format::Chat, body)
            .map(|mut asked| (asked.requests.remove(0), asked.options.stream)),
        Format::Responses => {
            responses::read_request(body).map(|asked| (asked.request, asked.stream))
        }
        Format::Messages => {
            anthropic::read_request(body).map(|asked| (asked.request, asked.stream))
        }
        Format::Ollama => ollama::read_request(ollama::Format::Chat, body)
            .map(|asked| (asked.request, asked.stream)),
        Format::Gemini => panic!("nobody here listens to it"),
    }
}

const READ: [(Target, Format, bool); 6] = [
    (Target::Chat, Format::Chat, false),
    (Target::OpenAiChat, Format::Chat, true),
    (Target::Responses, Format::Responses, false),
    (Target::OpenAiResponses, Format::Responses, true),
    (Target::Messages, Format::Messages, false),
    (Target::Ollama, Format::Ollama, false),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn reading_undoes_writing(request in any_request(), stream: bool) {
        for (target, format, hosted) in READ {
            let request = canonical(target, sayable(target, request.clone()));
            let manner = Manner { stream, hosted };
            let body = write_as(format, &request, "m", manner);
            let body = body.unwrap_or_else(|fault| panic!("{target:?}: {fault}\n{request:?}"));
            let (told, streamed) = read(format, &body)
                .unwrap_or_else(|fault| panic!("{target:?}: {fault}\n{body}"));
            prop_assert_eq!(&told, &request, "{:?}: {}", target, body);
            prop_assert_eq!(streamed, stream);
        }
    }

    /// Whatever is asked for, it is written whole or refused by a name: nothing panics.
    #[test]
    fn anything_is_written_or_refused(request in any_request(), stream: bool) {
        use Format::{Chat, Gemini, Messages, Ollama, Responses};
        for format in [Chat, Responses, Messages, Ollama, Gemini] {
            if let Err(fault) = write(format, &request, "m", stream) {
                prop_assert!(fault.param.is_some(), "{fault}");
            }
        }
    }

    #[test]
    fn gemini_gets_every_turn(request in any_request()) {
        let request = sayable(Target::Gemini, request);
        let body = write(Format::Gemini, &request, "m", true);
        let body = body.unwrap_or_else(|fault| panic!("{fault}\n{request:?}"));
        let body: Value = serde_json::from_str(&body).expect("JSON");
        prop_assert_eq!(gemini_turns(&body), expected(chat(&request)), "{}", body);
    }
}

/// A Gemini body's turns, a line each.
fn gemini_turns(body: &Value) -> Vec<String> {
    let texts = |parts: &Value| {
        let parts = parts.as_array().into_iter().flatten();
        parts.map(|part| part["text"].as_str().unwrap_or("?").to_owned()).collect::<Vec<_>>()
    };
    let mut out: Vec<String> = texts(&body["systemInstruction"]["parts"])
        .iter()
        .map(|it| format!("system|{it}"))
        .collect();
    for content in body["contents"].as_array().expect("contents") {
        let role = content["role"].as_str().expect("a role");
        let mut line = role.to_owned();
        for part in content["parts"].as_array().expect("parts") {
            if let Some(text) = part["text"].as_str() {
                line += &format!("|{text}");
            } else if let Some(call) = part.get("functionCall") {
                line += &format!("|{}{}", call["name"].as_str().expect("a name"), call["args"]);
            } else if let Some(result) = part.get("functionResponse") {
                let said = result["response"]["output"].as_str().expect("a text");
                line += &format!("|{}={said}", result["name"].as_str().expect("a name"));
            } else if let Some(data) = part.get("inlineData") {
                line += &format!("|{}#{}", data["mimeType"], data["data"]);
            } else {
                line += &format!("|{}", part["fileData"]["fileUri"]);
            }
        }
        out.push(line);
    }
    out
}

/// The same lines, of the conversation.
fn expected(chat: &Chat) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut results = false;
    for turn in &chat.messages {
        let (mut line, mut from) = (String::new(), 0);
        for picture in &turn.pictures {
            if picture.at > from {
                line += &format!("|{}", turn.content[from..picture.at].trim_start_matches('\n'));
                from = picture.at;
            }
            line += &match &picture.source {
                Source::Base64(data) => format!("|{:?}#{data:?}", picture.media),
                Source::Url(url) => format!("|{url:?}"),
            };
        }
        if from < turn.content.len() {
            let rest = &turn.content[from..];
            line += &format!("|{}", if from > 0 { rest.trim_start_matches('\n') } else { rest });
        }
        for call in &turn.tool_calls {
            line += &format!("|{}{}", call.name, call.arguments);
        }
        let result = turn.role == "tool";
        if let (true, Some(name)) = (result, &turn.name) {
            line = format!("|{name}={}", turn.content);
        }
        match (turn.role.as_str(), out.last_mut()) {
            ("tool", Some(before)) if results => before.push_str(&line),
            ("assistant", _) => out.push(format!("model{line}")),
            ("system", _) => out.push(format!("system{line}")),
            _ => out.push(format!("user{line}")),
        }
        results = result;
    }
    out
}

fn plain() -> Request {
    let messages = vec![turn("user", "hi")];
    let input = Input::Chat(Chat { messages, ..Chat::default() });
    Request { input, max_tokens: Some(9), ..Request::default() }
}

#[test]
#[rustfmt::skip]
fn plain_requests_are_these_bytes() {
    let check = |format, hosted, stream, expect: Value| {
        let body = write_as(format, &plain(), "m", Manner { stream, hosted }).expect("written");
        assert_eq!(serde_json::from_str::<Value>(&body).expect("JSON"), expect);
    };
    let messages = json!([{ "role": "user", "content": "hi" }]);
    check(Format::Chat, false, true, json!({
        "model": "m", "messages": messages, "max_tokens": 9, "stream": true,
        "stream_options": { "include_usage": true },
    }));
    check(Format::Chat, true, false, json!({
        "model": "m", "messages": messages, "max_completion_tokens": 9,
    }));
    let item = json!({ "type": "message", "role": "user", "content": "hi" });
    check(Format::Responses, true, true, json!({
        "model": "m", "input": [item], "max_output_tokens": 9, "store": false, "stream": true,
    }));
    check(Format::Messages, false, true, json!({
        "model": "m", "messages": messages, "max_tokens": 9, "stream": true,
    }));
    let options = json!({
        "temperature": 1.0, "top_p": 1.0, "min_p": 0.0, "repeat_penalty": 1.0, "top_k": 0,
        "num_predict": 9,
    });
    check(Format::Ollama, false, false, json!({
        "model": "m", "messages": messages, "options": options, "stream": false,
    }));
    check(Format::Gemini, false, false, json!({
        "contents": [{ "role": "user", "parts": [{ "text": "hi" }] }],
        "generationConfig": { "maxOutputTokens": 9 },
    }));
}

#[test]
fn gemini_has_its_own_words() {
    let mut request = plain();
    let call = ToolCall { id: "1".into(), name: "f".into(), arguments: r#"{"a":1}"#.into() };
    let calls = vec![call.clone(), ToolCall { id: "2".into(), ..call }];
    let chat = input(&mut request);
    chat.messages.push(Message { tool_calls: calls, ..turn("assistant", "") });
    chat.messages.push(Message { tool_call_id: Some("1".into()), ..turn("tool", "x") });
    chat.messages.push(Message { tool_call_id: Some("2".into()), ..turn("tool", "y") });
    let parameters = r#"{"type":"object"}"#.to_owned();
    chat.tools = vec![Tool { name: "f".into(), parameters, strict: true, ..Tool::default() }];
    chat.reasoning = Reasoning { on: Some(true), effort: Some(Effort::Low), budget_tokens: None };
    request.grammar = Some(Grammar::JsonSchema(r#"{"type":"array"}"#.into()));
    request.stop = vec!["end".into()];
    request.sampling = Sampling { top_k: 4, seed: Some(7), ..Sampling::default() };
    let body = write(Format::Gemini, &request, "m", true).expect("written");
    let body: Value = serde_json::from_str(&body).expect("JSON");
    let args = json!({ "a": 1 });
    let result =
        |text: &str| json!({ "functionResponse": { "name": "f", "response": { "output": text } } });
    let expect = json!({
        "contents": [
            { "role": "user", "parts": [{ "text": "hi" }] },
            { "role": "model", "parts": [
                {
                    "functionCall": { "name": "f", "args": args },
                    "thoughtSignature": "skip_thought_signature_validator",
                },
                { "functionCall": { "name": "f", "args": args } },
            ] },
            { "role": "user", "parts": [result("x"), result("y")] },
        ],
        "tools": [{ "functionDeclarations": [
            { "name": "f", "parametersJsonSchema": { "type": "object" } },
        ] }],
        "toolConfig": { "functionCallingConfig": { "mode": "VALIDATED" } },
        "generationConfig": {
            "topK": 4,
            "seed": 7,
            "maxOutputTokens": 9,
            "stopSequences": ["end"],
            "responseMimeType": "application/json",
            "responseJsonSchema": { "type": "array" },
            "thinkingConfig": { "includeThoughts": true, "thinkingLevel": "low" },
        },
    });
    assert_eq!(body, expect);
}

type Change = fn(&mut Request);

#[test]
#[rustfmt::skip]
fn what_cannot_be_said_is_refused_by_name() {
    use Format::{Chat as C, Gemini, Messages, Ollama, Responses};
    let rows: &[(Format, bool, Change, &str, &str)] = &[
        (Messages, false, |r| r.sampling.seed = Some(1), "seed", "no words"),
        (Messages, false, |r| r.sampling.temperature = 1.5, "temperature", "at most 1"),
        (Messages, false, |r| r.max_tokens = None, "max_tokens", "is needed"),
        (Messages, false, |r| r.grammar = Some(Grammar::Regex("a".into())), "structured_outputs", "no words"),
        (Messages, false, |r| input(r).messages.push(turn("system", "x")), "messages[1]", "behind others"),
        (Messages, false, |r| input(r).messages.push(turn("assistant", "x")), "messages", "go on with"),
        (Messages, false, |r| input(r).messages.push(turn("tool", "x")), "messages[1].tool_call_id", "is missing"),
        (Messages, false, |r| input(r).messages[0].name = Some("Eve".into()), "messages[].name", "no words"),
        (Messages, false, |r| input(r).template_kwargs = "{\"a\":1}".into(), "chat_template_kwargs", "no words"),
        (Messages, false, |r| r.logprobs = Some(1), "logprobs", "no words"),
        (Gemini, false, |r| r.sampling.min_p = 0.5, "min_p", "(Gemini)"),
        (Gemini, false, |r| r.sampling.seed = Some(1 << 40), "seed", "32 bits"),
        (Gemini, false, |r| input(r).one_call = true, "", ""),
        (Gemini, false, |r| { input(r).one_call = true; input(r).tools = vec![tool()]; }, "parallel_tool_calls", "no words"),
        (Gemini, false, |r| input(r).messages.push(turn("tool", "x")), "messages[1].tool_call_id", "no call"),
        (Gemini, false, |r| input(r).reasoning.effort = Some(Effort::Max), "reasoning_effort", "\"max\""),
        (Ollama, false, |r| { input(r).tools = vec![tool()]; input(r).tool_choice = ToolChoice::Required; }, "tool_choice", "no words"),
        (Ollama, false, |r| input(r).messages[0].pictures = vec![far()], "messages[].content[].image_url.url", "no words"),
        (C, true, |r| r.sampling.top_k = 3, "top_k", "chat at OpenAI"),
        (C, true, |r| input(r).reasoning.budget_tokens = Some(9), "thinking_token_budget", "no words"),
        (C, false, |r| r.prompt_logprobs = Some(1), "prompt_logprobs", "no words"),
        (C, false, |r| input(r).messages.push(Message { pictures: vec![far()], ..turn("tool", "x") }), "pictures in tools' results", "no words"),
        (C, false, |r| r.input = Input::Text("x".into()), "messages", "a conversation"),
        (Responses, true, |r| r.stop = vec!["x".into()], "stop", "responses at OpenAI"),
        (Responses, false, |r| input(r).continue_final = true, "continue_final_message", "no words"),
        (Responses, false, |r| input(r).messages.push(turn("robot", "x")), "messages[1]", "role"),
    ];
    for (format, hosted, change, param, words) in rows {
        let mut request = plain();
        change(&mut request);
        let manner = Manner { stream: false, hosted: *hosted };
        let body = write_as(*format, &request, "m", manner);
        if param.is_empty() {
            assert!(body.is_ok(), "{body:?}");
        } else {
            faults(body, &format!("{format:?} {request:?}"), param, words);
        }
    }
}

#[test]
fn ollamas_defaults_are_not_asked_for_elsewhere() {
    let check = |options: &str, format, hosted, expect: Option<Value>| {
        let body = format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}],"options":{options}}}"#
        );
        let asked = ollama::read_request(ollama::Format::Chat, body.as_bytes()).expect("right");
        let verbatim = Verbatim { format: Format::Ollama, body };
        let origin = Origin { verbatim: Some(Arc::new(verbatim)), ..Origin::default() };
        let request = Request { origin: Some(Arc::new(origin)), ..asked.request };
        let written = write_as(format, &request, "m", Manner { stream: false, hosted });
        let Some(expect) = expect else {
            return faults(written, options, "top_k", "no words");
        };
        let written: Value = serde_json::from_str(&written.expect("written")).expect("JSON");
        let told = ["temperature", "top_p", "top_k"].map(|name| written[name].clone());
        assert_eq!(json!(told), expect, "{options}: {written}");
    };
    check("{}", Format::Chat, true, Some(json!([null, null, null])));
    check(r#"{"temperature":0.8}"#, Format::Chat, true, Some(json!([0.8, null, null])));
    check(r#"{"top_k":40}"#, Format::Chat, false, Some(json!([null, null, 40])));
    check(r#"{"top_k":40}"#, Format::Chat, true, None);
}

fn tool() -> Tool {
    Tool { name: "f".into(), ..Tool::default() }
}

fn far() -> Picture {
    Picture { source: Source::Url("https://a.example".into()), ..Picture::default() }
}

#[test]
fn a_row_has_one_name() {
    let names: std::collections::BTreeSet<&str> = losses().iter().map(|row| row.name).collect();
    assert_eq!(names.len(), losses().len());
    for row in losses().iter().filter(|row| row.said.len() == Target::ALL.len()) {
        assert_eq!(row.otherwise, Otherwise::Refused, "{}: nothing is left out", row.name);
    }
}
