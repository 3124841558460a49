//! Chat templates of many models, rendered and held against what Jinja2 makes of them as the
//! `transformers` library sets it up (`tools/golden-templates.py`).

#![allow(clippy::print_stderr, reason = "failures are listed before the test panics")]

mod sdist;

use ingle_model::Error;
use ingle_model::dialect::{Dialect, Listener, Said};
use ingle_model::gguf::Gguf;
use ingle_model::pull;
use ingle_model::template::Template;
use ingle_model::tokenizer::{Special, Tokenizer};
use ingle_protocol::{CallPart, Chat, Message, Tool, ToolCall};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

const CONVERSATIONS: &str = include_str!("fixtures/conversations.json");
const GOLDEN: &str = include_str!("fixtures/templates.golden.json");
/// 2025-07-04 09:05:06 UTC, the script's date.
const NOW: i64 = 1_751_619_906;

/// Templates and conversations that come out otherwise, and why.
static EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("meetkai-functionary-medium-v3.1.jinja", "tools offered", ESCAPED),
    ("meetkai-functionary-medium-v3.1.jinja", "tool called and answered", ESCAPED),
    ("meetkai-functionary-medium-v3.1.jinja", "tool called, answered, told", ESCAPED),
];
const ESCAPED: &str =
    "adds text to `\"..\"|safe`, by which Python escapes the tools' quotes for HTML";

fn conversations() -> BTreeMap<String, Json> {
    serde_json::from_str(CONVERSATIONS).expect("the fixture is JSON")
}

fn text(value: &Json) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn chat(conversation: &Json) -> Chat {
    let call = |call: &Json| ToolCall {
        id: text(&call["id"]),
        name: text(&call["function"]["name"]),
        arguments: call["function"]["arguments"].to_string(),
    };
    let message = |message: &Json| Message {
        role: text(&message["role"]),
        content: text(&message["content"]),
        reasoning: None,
        name: message["name"].as_str().map(str::to_owned),
        tool_calls: message["tool_calls"].as_array().into_iter().flatten().map(call).collect(),
        tool_call_id: message["tool_call_id"].as_str().map(str::to_owned),
        ..Message::default()
    };
    let tool = |tool: &Json| Tool {
        name: text(&tool["function"]["name"]),
        description: tool["function"]["description"].as_str().map(str::to_owned),
        parameters: tool["function"]["parameters"].to_string(),
        strict: false,
    };
    let list = |key: &str| conversation[key].as_array().into_iter().flatten();
    Chat {
        messages: list("messages").map(message).collect(),
        tools: list("tools").map(tool).collect(),
        template_kwargs: conversation
            .get("template_kwargs")
            .map(Json::to_string)
            .unwrap_or_default(),
        ..Chat::default()
    }
}

fn render(source: &str, conversation: &Json) -> Result<String, Error> {
    let prompt = conversation["add_generation_prompt"].as_bool().unwrap_or(true);
    Template::new(source, "<s>", "</s>")?.render(&chat(conversation), prompt, NOW)
}

/// Whether a rendering is what the golden file has: SHA-256 and length in bytes; a refusal; or,
/// where Python meets an error, anything, since nothing is right.
fn agrees(rendered: &Result<String, Error>, golden: &Json) -> bool {
    match (golden.as_str(), rendered) {
        (Some("failed"), _) => true,
        (Some("refused"), Err(error)) => error.to_string().contains("refuses: "),
        (None, Ok(text)) => {
            let hash: String =
                Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
            golden[0] == hash && golden[1] == text.len()
        }
        _ => false,
    }
}

#[test]
fn published_templates_render_as_with_jinja2() {
    let Some(folder) = sdist::folder() else { return };
    let golden: BTreeMap<String, BTreeMap<String, Json>> =
        serde_json::from_str(GOLDEN).expect("the golden file is JSON");
    let conversations = conversations();
    let mut bad = Vec::new();
    let mut same = 0;
    for (name, expected) in &golden {
        let source = std::fs::read_to_string(folder.join(name)).expect("the package has it");
        for (title, conversation) in &conversations {
            let found = render(&source, conversation);
            let excepted = EXCEPTIONS.iter().any(|(n, t, _)| n == name && t == title);
            let equal = agrees(&found, &expected[title]);
            if equal == excepted {
                let why = found.err().map(|error| error.to_string()).unwrap_or_default();
                bad.push(format!("{name} · {title}: golden {} {why}", expected[title]));
            }
            same += usize::from(equal);
        }
    }
    bad.iter().for_each(|line| eprintln!("{line}"));
    assert!(bad.is_empty(), "{} differ from what is expected, {same} are the same", bad.len());
}

/// Templates, and the families that they are told to be of.
#[rustfmt::skip]
static FAMILIES: &[(&str, &str)] = &[
    ("Qwen-Qwen2.5-7B-Instruct.jinja", "hermes"),
    ("Qwen-Qwen3-0.6B.jinja", "hermes"),
    ("Qwen-QwQ-32B.jinja", "hermes"),
    ("NousResearch-Hermes-3-Llama-3.1-8B-tool_use.jinja", "hermes"),
    ("NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use.jinja", "hermes"),
    ("meta-llama-Llama-3.1-8B-Instruct.jinja", "llama-3"),
    ("meta-llama-Llama-3.2-3B-Instruct.jinja", "llama-3"),
    ("meta-llama-Llama-3.3-70B-Instruct.jinja", "llama-3"),
    ("mistralai-Mistral-Nemo-Instruct-2407.jinja", "mistral-nemo"),
    ("Mistral-Small-3.2-24B-Instruct-2506.jinja", "mistral"),
    ("unsloth-mistral-Devstral-Small-2507.jinja", "mistral"),
    ("mistralai-Ministral-3-14B-Reasoning-2512.jinja", "mistral"),
    ("llama-cpp-deepseek-r1.jinja", "deepseek-v3"),
    ("GLM-4.6.jinja", "glm"),
    ("GLM-4.7-Flash.jinja", "glm"),
    ("moonshotai-Kimi-K2.jinja", "kimi"),
    ("Kimi-K2-Instruct.jinja", "kimi"),
    ("Kimi-K2-Thinking.jinja", "kimi"),
    ("openai-gpt-oss-120b.jinja", "harmony"),
    ("google-gemma-4-31B-it.jinja", "gemma"),
    ("Qwen3-Coder.jinja", "qwen-coder"),
    ("Qwen3.5-4B.jinja", "qwen-coder"),
    // These tell of no tools, or nobody reads how they write calls: their models are told in words.
    ("HuggingFaceTB-SmolLM3-3B.jinja", "plain"),
    ("deepseek-ai-DeepSeek-V3.1.jinja", "plain"),
    ("google-gemma-2-2b-it.jinja", "plain"),
    ("microsoft-Phi-3.5-mini-instruct.jinja", "plain"),
    ("llama-cpp-rwkv-world.jinja", "plain"),
    ("CohereForAI-c4ai-command-r-plus-tool_use.jinja", "plain"),
    ("meetkai-functionary-medium-v3.1.jinja", "plain"),
];

/// What a template writes for a turn that calls a tool is heard as that call.
fn heard_again(source: &str, id: &str) -> Result<Option<(String, Json)>, String> {
    let template = Template::new(source, "<s>", "</s>").expect("a sound template");
    let arguments = serde_json::json!({ "place": "Bern", "days": 2, "list": [1, "é"] });
    let call = ToolCall { id: id.into(), name: "weather".into(), arguments: arguments.to_string() };
    let user = Message { role: "user".into(), content: "Hi".into(), ..Message::default() };
    let turn = Message { role: "assistant".into(), tool_calls: vec![call], ..Message::default() };
    let schema =
        r#"{"type": "object", "properties": {"place": {"type": "string", "description": "p"}}}"#;
    let tool = Tool {
        name: "weather".into(),
        description: Some("w".into()),
        parameters: schema.into(),
        ..Tool::default()
    };
    let chat = Chat { messages: vec![user.clone()], tools: vec![tool], ..Chat::default() };
    let (prompt, dialect) = template.prompt(&chat, NOW).map_err(|error| error.to_string())?;
    let both = Chat { messages: vec![user, turn], ..chat.clone() };
    let whole = match dialect.is_plain() {
        true => template.prompt(&both, NOW).map(|(text, _)| text),
        false => template.render(&both, false, NOW),
    };
    let whole = whole.map_err(|error| error.to_string())?;
    // Thoughts are begun, or over, in the one and not told in the other.
    let mut prompt = prompt.trim_end();
    for mark in ["</think>", "<channel|>", "thought", "<|channel>", "<think>"] {
        prompt = prompt.strip_suffix(mark).unwrap_or(prompt).trim_end();
    }
    let same = prompt.bytes().zip(whole.bytes()).take_while(|(a, b)| a == b).count();
    let said = whole.get(same..).ok_or("cut within a character")?;
    let mut listener = Listener::new(dialect, &chat, false, 1);
    let mut told = listener.push(said).or_else(|error| {
        // What ends the turn is a token of its own, which ends the answer.
        if listener.calls() > 0 { Ok(Vec::new()) } else { Err(error) }
    })?;
    told.extend(listener.finish(false)?);
    let mut call: Option<(String, String)> = None;
    for one in told {
        match one {
            Said::Call { part: CallPart::Begin { name, .. }, .. } => {
                call = Some((name, String::new()))
            }
            Said::Call { part: CallPart::Arguments(text), .. } => {
                call.iter_mut().for_each(|call| call.1 += &text);
            }
            _ => {}
        }
    }
    let Some((name, text)) = call else { return Ok(None) };
    let read: Json = serde_json::from_str(&text).map_err(|error| format!("{text}: {error}"))?;
    Ok(Some((name, read)).filter(|call| call.1 == arguments))
}

#[test]
fn published_templates_tell_their_dialects() {
    let Some(folder) = sdist::folder() else { return };
    let mut bad = Vec::new();
    for (name, family) in FAMILIES {
        let source = std::fs::read_to_string(folder.join(name)).expect("the package has it");
        let found = Dialect::of(&source).name();
        if found != *family {
            bad.push(format!("{name}: {found}, not {family}"));
        }
        if *family != "plain" {
            match heard_again(&source, "abcdefghi") {
                Ok(Some(_)) => {}
                other => bad.push(format!("{name}: {other:?}")),
            }
        }
    }
    bad.iter().for_each(|line| eprintln!("{line}"));
    assert!(bad.is_empty(), "{} templates are not understood", bad.len());
}

#[test]
fn a_model_brings_its_template_and_a_base_model_none() {
    let open = |name: &str| {
        let path = pull::resolve(name).expect("the model can be fetched");
        let file = Gguf::open(&path).expect("a sound file");
        let tokenizer = Tokenizer::from_gguf(&file).expect("a known vocabulary");
        (Template::from_gguf(&file, &tokenizer).expect("a sound template"), tokenizer)
    };
    let (template, tokenizer) = open("smollm2");
    let conversation = &conversations()["one turn"];
    let template = template.expect("an instruct model has one");
    let prompt = template.render(&chat(conversation), true, NOW).expect("it renders");
    let expected = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by \
                    Hugging Face<|im_end|>\n<|im_start|>user\nWhy is the sky blue?<|im_end|>\n\
                    <|im_start|>assistant\n";
    assert_eq!(prompt, expected);
    let tokens = tokenizer.encode_prompt(&prompt, Special::Parse);
    let marks = |text: &str| {
        tokens.iter().filter(|&&token| tokenizer.token_text(token) == Some(text)).count()
    };
    assert_eq!((marks("<|im_start|>"), marks("<|im_end|>")), (3, 2));
    assert!(open("gemma3").0.is_none());
}
