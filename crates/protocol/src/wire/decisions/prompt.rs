//! The words in which a question is put to a model. In a conversation:
//!
//! ```text
//! system     INSTRUCTIONS
//! …          the turns of the input
//! user       the input, or its last turn
//!
//!            QUESTION
//!            Answer with one of these and nothing else: LABEL, LABEL.
//! assistant  LABEL
//! ```
//!
//! and for a model without a chat template:
//!
//! ```text
//! INSTRUCTIONS
//!
//! the input
//!
//! Question: QUESTION
//! Answer with one of these and nothing else: LABEL, LABEL.
//! Answer: LABEL
//! ```
//!
//! Scores are asked for as a whole number from LOW to HIGH. All that questions of one request share
//! comes first, so that it is computed once.

use super::{Question, Sort};
use crate::{Chat, Input, Message, Reasoning, Request, Weighing};

/// What the prompts of a model are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Conversations.
    Chat,
    /// Texts: it has no chat template.
    Text,
}

/// The input by which a label's weight without any input is found ("content-free": Zhao et al.,
/// Calibrate Before Use, 2021).
pub(super) const CONTENT_FREE: &str = "N/A";

pub(super) fn content_free() -> Message {
    user(CONTENT_FREE.to_owned())
}

pub(super) fn user(content: String) -> Message {
    Message { role: "user".into(), content, ..Message::default() }
}

/// A question about an input, as a prompt and labels to be weighed behind it.
pub(in crate::wire) fn weighing(
    request: &Request,
    shape: Shape,
    instructions: &str,
    input: &[Message],
    question: &Question,
) -> Weighing {
    let labels = question.sort.labels();
    let asked = format!("{}\n{}", question.text, how(&question.sort));
    let (input, labels) = match shape {
        Shape::Chat => (Input::Chat(chat(instructions, input, &asked)), labels),
        Shape::Text => {
            let labels = labels.iter().map(|label| format!(" {label}")).collect();
            (Input::Text(text(instructions, input, &asked)), labels)
        }
    };
    Weighing { request: Request { input, ..request.clone() }, labels }
}

pub(super) fn how(sort: &Sort) -> String {
    match sort {
        Sort::Score(low, high) => {
            format!("Answer with a whole number from {low} to {high} and nothing else.")
        }
        sort => {
            format!("Answer with one of these and nothing else: {}.", sort.labels().join(", "))
        }
    }
}

fn chat(instructions: &str, input: &[Message], asked: &str) -> Chat {
    let mut messages = Vec::new();
    if !instructions.is_empty() {
        let role = "system".to_owned();
        messages.push(Message { role, content: instructions.into(), ..Message::default() });
    }
    messages.extend_from_slice(input);
    match messages.last_mut() {
        // Templates want turns to alternate.
        Some(last) if last.role == "user" => last.content = format!("{}\n\n{asked}", last.content),
        _ => messages.push(user(asked.to_owned())),
    }
    unthinking(messages)
}

/// A conversation whose answer comes at once.
pub(super) fn unthinking(messages: Vec<Message>) -> Chat {
    let reasoning = Reasoning { on: Some(false), ..Reasoning::default() };
    Chat { messages, reasoning, ..Chat::default() }
}

/// Turns of a conversation are told with their roles; one text stands as it is.
fn text(instructions: &str, input: &[Message], asked: &str) -> String {
    let turn = |turn: &Message| match input {
        [one] => one.content.clone(),
        _ => format!("{}: {}", turn.role, turn.content),
    };
    let instructions = Some(instructions.to_owned()).filter(|text| !text.is_empty());
    let question = format!("Question: {asked}\nAnswer:");
    let parts = instructions.into_iter().chain(input.iter().map(turn)).chain([question]);
    parts.collect::<Vec<_>>().join("\n\n")
}
