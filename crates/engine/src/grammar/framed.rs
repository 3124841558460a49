//! Whatever a forced answer's grammar allows is heard as calls of the right tools, with arguments
//! that their schemas allow: answers drawn at random from the masks, for every family.

use super::tests::tokenizer;
use super::*;
use ingle_model::dialect::{Dialect, Listener, Said};
use ingle_protocol::{CallPart, Chat, Grammar, Tool, ToolChoice};
use serde_json::{Value, json};

/// What templates of each family have in them.
const TEMPLATES: &[&str] = &[
    "tools <tool_call> </tool_call> \"name\" \"arguments\"",
    "tools <|start_header_id|>ipython \"parameters\": ",
    "tools [TOOL_CALLS]",
    "tools [TOOL_CALLS] [ARGS]",
    "tools <｜tool▁calls▁begin｜> ```json",
    "tools <｜tool▁calls▁begin｜>",
    "tools <|tool_calls_section_begin|> <|tool_call_argument_begin|>",
    "tools <tool_call> <arg_key>",
    "tools <|tool_call>call: <tool_call|>",
    "tools <tool_call> <function= <parameter=",
    "tools <|start|>assistant <|channel|>analysis",
    "no word of them",
];

fn weather() -> Value {
    json!({
        "type": "object",
        "properties": {
            "place": { "enum": ["Bern", "Zürich"] },
            "days": { "type": "integer", "minimum": 0, "maximum": 20 },
        },
        "required": ["place"],
        "additionalProperties": false,
    })
}

fn chat(tool_choice: ToolChoice) -> Chat {
    let tool = |name: &str, schema: Value, strict| Tool {
        name: name.into(),
        parameters: schema.to_string(),
        strict,
        ..Tool::default()
    };
    let none = json!({ "type": "object", "additionalProperties": false });
    let tools = vec![tool("weather", weather(), true), tool("rest", none, false)];
    Chat { tools, tool_choice, ..Chat::default() }
}

/// An answer drawn from what the guide allows, after `begin`; `None` where it gets too long.
fn draw(mut guide: Guide, begin: &str, seed: u64) -> Option<String> {
    let tokenizer = tokenizer();
    let (mut decoder, mut text) = (tokenizer.decoder(), String::new());
    let mut begin = tokenizer.encode_continuation(begin).into_iter();
    let mut state = seed;
    for _ in 0..600 {
        let token = match guide.allowed(&[]).expect("a mask").remove(0) {
            Allowed::Nothing => return Some(text),
            Allowed::One(token) => token,
            Allowed::Some(set) => {
                let all = (0..tokenizer.vocab_len() as Token).filter(|token| set.contains(*token));
                let all: Vec<Token> = all.collect();
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_041);
                all[(state >> 33) as usize % all.len()]
            }
        };
        let token = begin.next().unwrap_or(token);
        if tokenizer.is_end(token) {
            return Some(text);
        }
        text += &decoder.push(token);
        guide.accept(token).expect("is allowed");
    }
    None
}

/// The calls in an answer, their arguments read.
fn calls(dialect: Dialect, chat: &Chat, text: &str) -> Result<Vec<(String, Value)>, String> {
    let mut listener = Listener::new(dialect, chat, false, 1);
    let mut said = listener.push(text)?;
    said.extend(listener.finish(true)?);
    assert_eq!(listener.notes(), [""; 0], "nothing is mended in {text:?}");
    let mut calls: Vec<(String, String)> = Vec::new();
    for one in said {
        match one {
            Said::Call { part: CallPart::Begin { name, .. }, .. } => {
                calls.push((name, String::new()));
            }
            Said::Call { part: CallPart::Arguments(text), .. } => {
                calls.iter_mut().last().expect("has begun").1 += &text;
            }
            _ => {}
        }
    }
    let read = |text: &String| serde_json::from_str(text).map_err(|error| error.to_string());
    calls.iter().map(|(name, text)| Ok((name.clone(), read(text)?))).collect()
}

fn check(template: &str, choice: &ToolChoice, one_call: bool) {
    let chat = Chat { one_call, ..chat(choice.clone()) };
    let dialect = Dialect::of(template).in_use(&chat);
    let tokenizer = tokenizer();
    let grammars = Grammars::new(tokenizer.clone());
    let frame = dialect.frame(&chat, &tokenizer, "", false).expect("a call is forced");
    let (mut several, mut drawn) = (0, 0);
    for seed in 0..12 {
        let guide = grammars.guide_within(&frame, None).expect("compiles");
        let begin = if dialect.name() == "harmony" { "<|channel|>commentary" } else { "" };
        let Some(text) = draw(guide, begin, seed) else { continue };
        let place = format!("{template:?} {choice:?}: {text:?}");
        let calls = calls(dialect, &chat, &text).unwrap_or_else(|why| panic!("{place}: {why}"));
        assert!(!calls.is_empty(), "{place}");
        assert!(calls.len() == 1 || !one_call, "{place}");
        for (name, arguments) in &calls {
            let schema = if name == "weather" { weather() } else { json!({ "maxProperties": 0 }) };
            assert!(jsonschema::is_valid(&schema, arguments), "{place}");
            assert!(*choice == ToolChoice::Required || name == "rest", "{place}");
        }
        several += usize::from(calls.len() > 1);
        drawn += 1;
    }
    assert!(drawn > 6, "{template:?}: most answers end");
    let parallel = *choice == ToolChoice::Required && !one_call;
    let single = ["llama-3", "harmony"].contains(&dialect.name());
    assert_eq!(several > 0, parallel && !single, "{template:?}");
}

#[test]
fn forced_answers_are_calls() {
    for template in TEMPLATES {
        check(template, &ToolChoice::Required, false);
        check(template, &ToolChoice::Required, true);
        check(template, &ToolChoice::Named("rest".into()), false);
    }
}

/// Values of every kind that the forms without quotes have, some of them bare.
#[test]
fn forms_without_quotes_are_held_to_schemas() {
    let text = json!({ "type": "string", "minLength": 2, "maxLength": 5 });
    let more = json!({ "type": "object", "properties": { "on": { "type": "boolean" } },
        "required": ["on"], "additionalProperties": false });
    let properties = json!({
        "a": text, "kind": { "type": "string", "enum": ["red", "dark blue"] },
        "count": { "type": "integer", "minimum": 0, "maximum": 99 }, "more": more,
        "list": { "type": "array", "items": { "type": "string", "maxLength": 4 }, "maxItems": 2 },
        "one": { "anyOf": [{ "type": "null" }, { "type": "integer", "minimum": 7, "maximum": 8 }] },
        "flag": { "type": ["boolean", "null"] },
    });
    let schema = json!({ "type": "object", "properties": properties, "required": ["a", "more"],
        "additionalProperties": false });
    let parameters = schema.to_string();
    let tool = Tool { name: "note".into(), parameters, strict: true, ..Tool::default() };
    let chat = Chat {
        tools: vec![tool],
        tool_choice: ToolChoice::Required,
        one_call: true,
        ..Chat::default()
    };
    let (tokenizer, mut seen) = (tokenizer(), std::collections::BTreeSet::new());
    for family in ["glm", "gemma", "qwen-coder"] {
        let mut all = TEMPLATES.iter().map(|template| Dialect::of(template));
        let dialect = all.find(|dialect| dialect.name() == family).expect("a template");
        assert_eq!(dialect.in_use(&chat).name(), family, "its own form will do");
        let frame = dialect.frame(&chat, &tokenizer, "", false).expect("a call is forced");
        let grammars = Grammars::new(tokenizer.clone());
        let mut drawn = 0;
        for seed in 0..40 {
            let guide = grammars.guide_within(&frame, None).expect("compiles");
            let Some(text) = draw(guide, "", seed) else { continue };
            let calls = calls(dialect, &chat, &text).unwrap_or_else(|why| panic!("{text}: {why}"));
            let [(name, arguments)] = calls.as_slice() else { panic!("one call: {text}") };
            assert_eq!(name, "note");
            if let Err(error) = jsonschema::validate(&schema, arguments) {
                panic!("{family}: {error} in {text:?}");
            }
            seen.extend(arguments.as_object().into_iter().flat_map(|map| map.keys().cloned()));
            drawn += 1;
        }
        assert!(drawn > 10, "{family}: {drawn} answers end");
    }
    assert_eq!(seen.len(), 7, "each is there some time: {seen:?}");
}

/// Text first, then the mark: what follows it is a call, or the answer is no longer.
#[test]
fn a_free_answer_of_strict_tools_calls_them_rightly() {
    let tokenizer = tokenizer();
    let grammars = Grammars::new(tokenizer.clone());
    for (template, begin) in [
        (TEMPLATES[0], "I look. <tool_call>"),
        (TEMPLATES[2], "I look. [TOOL_CALLS]"),
        (TEMPLATES[3], "[TOOL_CALLS]"),
        (TEMPLATES[5], "So: <｜tool▁calls▁begin｜>"),
        (TEMPLATES[1], "{"),
    ] {
        let chat = Chat { one_call: true, ..chat(ToolChoice::Auto) };
        let dialect = Dialect::of(template);
        let frame = dialect.frame(&chat, &tokenizer, "", false).expect("a tool is strict");
        let mut guide = grammars.guide_within(&frame, None).expect("compiles");
        for token in tokenizer.encode_continuation(begin) {
            let allowed = guide.allowed(&[]).expect("a mask").remove(0);
            assert!(allowed.contains(token), "{template:?}: {begin:?}");
            guide.accept(token).expect("is allowed");
        }
        let allowed = guide.allowed(&[]).expect("a mask").remove(0);
        let first = |text: &str| tokenizer.encode_continuation(text)[0];
        assert!(!allowed.contains(first("x")), "{template:?}: no text comes after the mark");
        let plain = grammars.guide_within(&frame, None).expect("compiles");
        let text = "No tool is wanted here.";
        let spoken = tokenizer
            .encode_continuation(text)
            .into_iter()
            .try_fold(plain, |mut g, t| g.accept(t).map(|()| g));
        let ends = spoken.expect("text").allowed(&[]).expect("a mask").remove(0);
        assert!(ends.contains(tokenizer.ends()[0]), "{template:?}: an answer without calls ends");
    }
}

/// What is thought is free, what is answered is not.
#[test]
fn an_answers_grammar_begins_after_the_thought() {
    let tokenizer = tokenizer();
    let grammars = Grammars::new(tokenizer.clone());
    let dialect = Dialect::of("</think>");
    let own = [
        Grammar::Regex("yes|no".into()),
        Grammar::Choice(vec!["yes".into(), "no".into()]),
        Grammar::JsonSchema(r#"{"enum":["yes"]}"#.into()),
        Grammar::Lark("start: \"yes\" | \"no\"".into()),
        Grammar::Gbnf("root ::= \"yes\" | \"no\"".into()),
    ];
    for (prompt, begin) in [("<think>\n", "Well.</think>"), ("", "<think>Well.</think>")] {
        let frame = dialect.frame(&Chat::default(), &tokenizer, prompt, true).expect("it thinks");
        for grammar in &own {
            let guide = grammars.guide_within(&frame, Some(grammar)).expect("compiles");
            let text = draw(guide, begin, 5);
            let Some(text) = text else { panic!("{grammar:?} ends after {begin:?}") };
            let answer = text.rsplit("</think>").next().unwrap_or_default().trim();
            assert!(["yes", "no", "\"yes\""].contains(&answer), "{grammar:?}: {text:?}");
        }
    }
}

#[test]
fn a_schema_that_cannot_be_followed_is_refused_only_where_it_has_to_be() {
    let tokenizer = tokenizer();
    let grammars = Grammars::new(tokenizer.clone());
    let mut chat = chat(ToolChoice::Required);
    let alien = json!({ "type": "object", "if": {}, "then": {} });
    chat.tools[1].parameters = alien.to_string();
    let frame = |chat: &Chat| {
        let frame = Dialect::of("").frame(chat, &tokenizer, "", false).expect("a frame");
        grammars.guide_within(&frame, None).map(drop)
    };
    frame(&chat).expect("it is not strict");
    chat.tools[1].strict = true;
    let fault = frame(&chat).expect_err("it is strict");
    assert_eq!(fault.param.as_deref(), Some("tools"));
    assert!(fault.message.contains("if"), "the keyword is named: {fault}");
    chat.tools[1].parameters = json!({ "x-guidance": {} }).to_string();
    assert!(frame(&chat).expect_err("a switch").message.contains("x-guidance"));
}
