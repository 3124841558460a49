//! Thoughts and tool calls through a whole engine. The model is a random checkpoint of bytes, with
//! the template of a family put into its file: it has no idea of tools, so that whatever comes out
//! right is the engine's doing.

mod support;

use ingle_engine::{Local, Options};
use ingle_model::gguf::{Gguf, Outline, Planned, Value, Writer};
use ingle_model::tokenizer::Special;
use ingle_protocol::{
    CallPart, Chat, Event, Finish, Grammar, Input, Message, Picture, Reasoning, Receipt, Request,
    Sampling, Tool, ToolChoice,
};
use std::fs::File;
use std::sync::LazyLock;
use support::{ask, tiny};

/// Hermes's marks, and thoughts: `<think>` begins every answer.
const THINKING: &str = "{{ tools | tojson }}{% for m in messages %}{{ m.role }}: {{ m.content }}\n\
    {% endfor %}<tool_call></tool_call>\"name\"\"arguments\"</think> assistant: <think>\n";
/// No word of either.
const PLAIN: &str = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: ";

fn open(name: &str, template: &str) -> Local {
    let source = Gguf::open(&tiny("qwen2")).expect("a sound file");
    let mut outline = Outline::like(&source);
    outline.set("qwen2.context_length", Value::U32(2048));
    outline.set("tokenizer.chat_template", Value::Str(template.to_owned()));
    for tensor in source.tensors() {
        let format = source.tensor(&tensor.name).expect("is there").format;
        let (name, shape) = (tensor.name.clone(), tensor.shape.clone());
        outline.push(Planned { name, shape, format });
    }
    let path = std::env::temp_dir().join(format!("ingle-speech-{}-{name}", std::process::id()));
    let out = File::create(&path).expect("a file");
    let io = |error| panic!("{error}");
    let mut writer = Writer::begin(&outline, out, io).expect("an outline");
    for tensor in source.tensors() {
        let weights = source.tensor(&tensor.name).expect("is there").bytes;
        writer.weights(&weights).expect("is written");
    }
    drop(writer.finish());
    let options = Options { threads: Some(1), ..Options::default() };
    let model = support::open(&path, &options);
    std::fs::remove_file(&path).expect("was written");
    model
}

static MODEL: LazyLock<Local> = LazyLock::new(|| open("thinks", THINKING));
static SIMPLE: LazyLock<Local> = LazyLock::new(|| open("plain", PLAIN));

#[derive(Debug, Default)]
struct Heard {
    text: String,
    thought: String,
    calls: Vec<(String, String)>,
    ended: usize,
    receipt: Option<Receipt>,
}

fn hear(model: &Local, request: &Request) -> Heard {
    let asked = ask(model, request).unwrap_or_else(|fault| panic!("{fault}"));
    let mut heard = Heard::default();
    loop {
        match asked.next() {
            Event::Prompt(_) | Event::Beams(_) | Event::Passed(_) => panic!("nobody asked for it"),
            Event::Text(piece) => heard.text += &piece.text,
            Event::Reasoning(piece) => heard.thought += &piece.text,
            Event::ToolCall { part: CallPart::Begin { name, .. }, .. } => {
                heard.calls.push((name, String::new()));
            }
            Event::ToolCall { part: CallPart::Arguments(text), .. } => {
                heard.calls.last_mut().expect("has begun").1 += &text;
            }
            Event::ToolCall { part: CallPart::End, .. } => heard.ended += 1,
            Event::Done(receipt) => heard.receipt = Some(*receipt),
            Event::Failed(fault) => panic!("{fault}"),
        }
        if heard.receipt.is_some() {
            return heard;
        }
    }
}

const SCHEMA: &str = r#"{"type":"object","properties":{"n":{"type":"integer","minimum":0,
    "maximum":99}},"required":["n"],"additionalProperties":false}"#;

fn request(change: impl FnOnce(&mut Chat), tokens: u32, seed: u64) -> Request {
    let user = Message { role: "user".into(), content: "Hi".into(), ..Message::default() };
    let mut chat = Chat { messages: vec![user], ..Chat::default() };
    change(&mut chat);
    Request {
        input: Input::Chat(chat),
        // A random model would put space between the parts of a JSON text without end.
        sampling: Sampling {
            seed: Some(seed),
            logit_bias: b" \n\r\t".iter().map(|&c| (c.into(), -100.0)).collect(),
            ..Sampling::default()
        },
        max_tokens: Some(tokens),
        ..Request::default()
    }
}

#[test]
fn a_model_that_cannot_see_refuses_pictures() {
    let request = request(|chat| chat.messages[0].pictures = vec![Picture::default()], 4, 1);
    let fault = ask(&SIMPLE, &request).map(drop).expect_err("is refused");
    assert_eq!(fault.param.as_deref(), Some("messages"));
    assert!(fault.message.contains("reads text alone"), "{fault}");
}

fn with_tools(chat: &mut Chat, choice: ToolChoice) {
    let tool =
        |name: &str| Tool { name: name.into(), parameters: SCHEMA.into(), ..Tool::default() };
    chat.tools = vec![tool("count"), tool("wait")];
    chat.tool_choice = choice;
    chat.one_call = true;
}

/// With a budget, since a random model's thoughts have no end.
fn briefly(chat: &mut Chat, budget: u32) {
    chat.reasoning = Reasoning { budget_tokens: Some(budget), ..Reasoning::default() };
}

#[test]
fn forced_calls_come_whatever_the_model_thinks() {
    for seed in 0..6 {
        for (choice, name) in
            [(ToolChoice::Named("wait".into()), Some("wait")), (ToolChoice::Required, None)]
        {
            let change = |chat: &mut Chat| {
                with_tools(chat, choice.clone());
                briefly(chat, 5);
            };
            for model in [&*MODEL, &*SIMPLE] {
                let heard = hear(model, &request(change, 400, seed));
                let receipt = heard.receipt.as_ref().expect("ended");
                assert_eq!(receipt.finish, Finish::ToolCalls, "{heard:?}");
                assert_eq!((heard.calls.len(), heard.ended, &*heard.text), (1, 1, ""), "{heard:?}");
                let (called, arguments) = &heard.calls[0];
                assert!(name.is_none_or(|name| name == called), "{heard:?}");
                let arguments: serde_json::Value = serde_json::from_str(arguments).expect("JSON");
                let schema = serde_json::from_str(SCHEMA).expect("JSON");
                assert!(jsonschema::is_valid(&schema, &arguments), "{heard:?}");
            }
        }
    }
}

#[test]
fn a_thought_ends_with_its_budget() {
    // A random model may end its answer at any token; here it may not.
    let told = |change: &dyn Fn(&mut Chat)| {
        let mut request = request(change, 60, 3);
        request.sampling.min_tokens = 60;
        hear(&MODEL, &request)
    };
    for budget in [0, 1, 9, 30] {
        let heard = told(&|chat| briefly(chat, budget));
        let usage = heard.receipt.as_ref().expect("ended").usage;
        let mark = MODEL.tokenizer().encode("</think>", Special::Parse).len() as u32;
        assert_eq!(usage.reasoning_tokens, budget + mark, "{heard:?}");
        assert!(!heard.text.is_empty() && !heard.text.contains("</think>"), "{heard:?}");
        assert!(!heard.thought.contains("</"), "{heard:?}");
    }
    let heard = told(&|chat| chat.reasoning.on = Some(false));
    assert_eq!(heard.thought, "", "{heard:?}");
    let free = told(&|_| {});
    let receipt = free.receipt.as_ref().expect("ended");
    assert_eq!((receipt.finish, receipt.usage.reasoning_tokens), (Finish::Length, 60), "{free:?}");
    assert!(free.text.is_empty() && !receipt.notes.is_empty(), "{free:?}");
}

#[test]
fn an_answers_grammar_begins_behind_the_thought() {
    for seed in 0..4 {
        let constrained = Request {
            grammar: Some(Grammar::Regex("(yes|no)!".into())),
            ..request(|chat| briefly(chat, 6), 80, seed)
        };
        let heard = hear(&MODEL, &constrained);
        assert!(["yes!", "no!"].contains(&&*heard.text), "{heard:?}");
        assert!(heard.receipt.expect("ended").usage.reasoning_tokens > 6);
    }
}

#[test]
fn a_call_that_is_cut_says_so() {
    let change = |chat: &mut Chat| with_tools(chat, ToolChoice::Named("count".into()));
    let heard = hear(&SIMPLE, &request(change, 50, 1));
    let receipt = heard.receipt.expect("ended");
    assert_eq!((receipt.finish, heard.ended), (Finish::Length, 0));
    assert!(receipt.notes.iter().any(|note| note.contains("within a tool call")), "{receipt:?}");
}

#[test]
fn other_samplers_rules_hold() {
    let plain = |sampling: Sampling| Request {
        input: Input::Text("abc".into()),
        // So hot that a random model has no favourites.
        sampling: Sampling { seed: Some(1), temperature: 5.0, ..sampling },
        max_tokens: Some(40),
        ..Request::default()
    };
    let tokens = |text: &str| -> Vec<u32> { text.bytes().map(u32::from).collect() };
    let said = |sampling: Sampling| hear(&SIMPLE, &plain(sampling));
    let allowed_tokens = tokens("xyz");
    let rules = Sampling { allowed_tokens: allowed_tokens.clone(), ..Sampling::default() };
    let only = said(rules.clone());
    assert!(only.text.len() == 40 && only.text.chars().all(|c| "xyz".contains(c)), "{only:?}");
    let bad = said(Sampling { bad_words: vec!["xy".into(), "z".into()], ..rules.clone() });
    assert!(!bad.text.contains("xy") && !bad.text.contains('z'), "{bad:?}");
    assert!(bad.text.contains("yx"), "{bad:?}");
    let stopped = said(Sampling { stop_tokens: tokens("z"), ..rules.clone() });
    assert_eq!(stopped.receipt.as_ref().expect("ended").finish, Finish::Stop);
    assert!(!stopped.text.contains('z') && stopped.text.len() < 20, "{stopped:?}");
    let late = said(Sampling { stop_tokens: tokens("z"), min_tokens: 20, ..rules });
    assert!(late.text.len() >= 20 && !late.text.contains('z'), "{late:?}");
}
