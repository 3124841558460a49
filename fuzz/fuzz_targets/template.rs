//! Any text as a chat template, and what follows a NUL as the request that it renders: a prompt, or
//! a refusal in a sentence, within bounds.

#![no_main]

use ingle_model::template::Template;
use ingle_protocol::wire::openai::{Format, read_request};
use ingle_protocol::{Chat, Input, Message};
use libfuzzer_sys::fuzz_target;

fn chat(body: &[u8]) -> Chat {
    let asked =
        read_request(Format::Chat, body).ok().and_then(|asked| asked.requests.into_iter().next());
    match asked.map(|request| request.input) {
        Some(Input::Chat(chat)) => chat,
        _ => {
            let turn = |role: &str, text: &str| Message {
                role: role.to_owned(),
                content: text.to_owned(),
                ..Message::default()
            };
            Chat {
                messages: vec![turn("system", "Be brief."), turn("user", "Hi")],
                ..Chat::default()
            }
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let Ok(source) = std::str::from_utf8(parts.next().unwrap_or_default()) else { return };
    let chat = chat(parts.next().unwrap_or_default());
    let outcome =
        Template::new(source, "<s>", "</s>").and_then(|it| it.prompt(&chat, 1_700_000_000));
    if let Err(error) = outcome {
        assert!(!error.to_string().is_empty(), "a refusal says why");
    }
});
