//! Schemas with prompts and documents, and an oracle for answers that is not the engine's own: a
//! JSON schema validator, and the rule that what was cut short is the beginning of a JSON text.

use ingle_protocol::{Chat, Finish, Grammar, Input, Message, Request, Sampling};

/// A schema, a prompt that asks for such a document, and one such document.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) schema: serde_json::Value,
    pub(crate) prompt: String,
    pub(crate) instance: String,
}

static FILES: &[(&str, &str)] = &[
    ("person", include_str!("../grammars/person.json")),
    ("invoice", include_str!("../grammars/invoice.json")),
    ("call", include_str!("../grammars/call.json")),
    ("tree", include_str!("../grammars/tree.json")),
    ("free", include_str!("../grammars/free.json")),
];

pub(crate) fn cases() -> Vec<Case> {
    let case = |&(name, text): &(&'static str, &str)| {
        let mut parsed: serde_json::Value = serde_json::from_str(text).expect("JSON");
        let prompt = parsed["prompt"].as_str().expect("a text").to_owned();
        let instance = parsed["instance"].to_string();
        Case { name, schema: parsed["schema"].take(), prompt, instance }
    };
    FILES.iter().map(case).collect()
}

impl Case {
    pub(crate) fn grammar(&self) -> Grammar {
        Grammar::JsonSchema(self.schema.to_string())
    }

    /// Asks a chat model for such a document.
    pub(crate) fn chat(&self, tokens: u32, temperature: f32, seed: u64) -> Request {
        let (role, content) = ("user".to_owned(), self.prompt.clone());
        let messages = vec![Message { role, content, ..Message::default() }];
        let input = Input::Chat(Chat { messages, ..Chat::default() });
        Request { input, ..self.plain(tokens, temperature, seed) }
    }

    /// Lets any model write such a document.
    pub(crate) fn plain(&self, tokens: u32, temperature: f32, seed: u64) -> Request {
        Request {
            input: Input::Text(self.prompt.clone()),
            sampling: Sampling { temperature, seed: Some(seed), ..Sampling::default() },
            max_tokens: Some(tokens),
            grammar: Some(self.grammar()),
            ..Request::default()
        }
    }

    /// What is wrong with an answer, if anything is.
    pub(crate) fn complaint(&self, text: &str, finish: Finish) -> Option<String> {
        let parsed: Result<serde_json::Value, _> = serde_json::from_str(text);
        match (finish, parsed) {
            (Finish::Stop, Ok(document)) => {
                let found = jsonschema::validate(&self.schema, &document);
                found.err().map(|error| format!("{}: {error} in {text:?}", self.name))
            }
            // A number may be cut where it could have ended.
            (Finish::Length, Ok(_)) => None,
            (Finish::Length, Err(error)) if error.is_eof() => None,
            // No bound is set to JSON's numbers but the reader's own.
            (_, Err(error)) if error.to_string().contains("number out of range") => None,
            (_, parsed) => {
                Some(format!("{}: {finish:?} with {text:?}: {:?}", self.name, parsed.err()))
            }
        }
    }
}
