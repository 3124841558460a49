//! A conversation: its turns, the tools that its assistant may call, and how it is to reason. Texts
//! and pictures: who reads a protocol refuses sound and files by name, and who cannot see refuses
//! pictures, by [`Chat::texts_only`]. Absent: how any of it is written for a model, which is the
//! model's own business.

use crate::Fault;

/// A tool's name is no longer, in bytes.
const NAME_MAX: usize = 128;

/// A conversation, the tools its assistant may call, and how.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chat {
    /// Oldest first.
    pub messages: Vec<Message>,
    /// Tools that may be called. No two have the same name.
    pub tools: Vec<Tool>,
    /// Which of them is called.
    pub tool_choice: ToolChoice,
    /// At most one call an answer; otherwise as many as the model likes.
    pub one_call: bool,
    /// Whether and how much the model thinks before it answers.
    pub reasoning: Reasoning,
    /// Whether the last turn, an assistant's, is continued rather than a new one begun.
    pub continue_final: bool,
    /// More variables for the chat template, as a JSON object's text; empty for none.
    pub template_kwargs: String,
}

impl Chat {
    /// What no field of it can tell alone: that names are names and none is given twice, that
    /// there is what is to be called, and what is to be continued.
    ///
    /// # Errors
    /// A fault of the caller's that names `tools`, `tool_choice` or `messages`.
    pub fn validate(&self) -> Result<(), Fault> {
        let wrong = |param: &str, message: String| Err(Fault::caller(message).at(param));
        let letter = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        for (i, tool) in self.tools.iter().enumerate() {
            let name = &tool.name;
            if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(letter) {
                let allowed = format!("1 to {NAME_MAX} letters, digits, '_', '-' or '.'");
                return wrong("tools", format!("the name of tools[{i}] has to be {allowed}"));
            }
            if self.tools[..i].iter().any(|other| other.name == *name) {
                return wrong("tools", format!("two tools are called {name:?}"));
            }
        }
        match &self.tool_choice {
            ToolChoice::Required if self.tools.is_empty() => {
                wrong("tool_choice", "a call is required and there are no tools to call".into())
            }
            ToolChoice::Named(name) if self.tools.iter().all(|tool| tool.name != *name) => {
                let name: String = name.chars().take(NAME_MAX).collect();
                wrong("tool_choice", format!("there is no tool {name:?} to call"))
            }
            _ if self.continue_final
                && self.messages.last().is_none_or(|last| last.role != "assistant") =>
            {
                wrong("messages", "only an assistant's message can be continued".into())
            }
            _ => Ok(()),
        }
    }

    /// What a model that reads text alone says of pictures.
    ///
    /// # Errors
    /// A fault of the caller's that names `messages`, where there is a picture in any of them.
    pub fn texts_only(&self) -> Result<(), Fault> {
        let seen = self.messages.iter().find(|turn| !turn.pictures.is_empty());
        let Some(turn) = seen else { return Ok(()) };
        let message = format!(
            "'messages' has a picture in a turn of role {:?}, and this model reads text alone: \
             leave images out, or ask a model that can see",
            turn.role.chars().take(32).collect::<String>()
        );
        Err(Fault::caller(message).at("messages"))
    }

    /// The tools that the model is told of: none where none may be called.
    pub fn offered(&self) -> &[Tool] {
        if self.tool_choice == ToolChoice::None { &[] } else { &self.tools }
    }
}

/// One turn of a conversation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// `system`, `user`, `assistant`, `tool`, or whatever else the template knows.
    pub role: String,
    /// The turn's text.
    pub content: String,
    /// What the assistant thought before this turn's text, if that is to be told again.
    pub reasoning: Option<String>,
    /// The author's name, if one was given; of a tool's turn, the tool's.
    pub name: Option<String>,
    /// Calls that this (assistant) turn made.
    pub tool_calls: Vec<ToolCall>,
    /// The call that this (tool) turn answers.
    pub tool_call_id: Option<String>,
    /// Pictures in the turn's text, in their order.
    pub pictures: Vec<Picture>,
}

/// A picture that is shown to a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    /// Its media type, such as `image/png`; empty where it was not told.
    pub media: String,
    /// Where its bytes are.
    pub source: Source,
    /// How closely it is looked at, as `auto`, `low`, `high` or `original`, where that was said.
    pub detail: Option<String>,
    /// Where in [`Message::content`] it stands: before the character that begins at this byte.
    pub at: usize,
}

/// Where a picture's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Here, in base64 (the standard alphabet, padded). Nobody has decoded it yet.
    Base64(String),
    /// Behind this address. Nobody here fetches it.
    Url(String),
}

impl Default for Source {
    fn default() -> Self {
        Self::Base64(String::new())
    }
}

/// A tool: a function that the caller runs when the model asks for it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tool {
    /// Letters, digits, `_`, `-` and `.`, at most 128 of them.
    pub name: String,
    /// What it does, for the model.
    pub description: Option<String>,
    /// The JSON schema of its arguments, an object's, as a JSON text; empty where none was given.
    pub parameters: String,
    /// Whether every call's arguments have to match the schema. Where a call is forced they do
    /// anyway, as far as the schema can be enforced.
    pub strict: bool,
}

/// Which tool an answer calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// Any, or none, as the model likes.
    #[default]
    Auto,
    /// None. The model is not told of any.
    None,
    /// At least one.
    Required,
    /// This one.
    Named(String),
}

/// A function call that a model asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ToolCall {
    /// The call's id.
    pub id: String,
    /// The function's name.
    pub name: String,
    /// The arguments, as a JSON text.
    pub arguments: String,
}

/// How a model thinks before it answers. What is not said is left to its chat template.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reasoning {
    /// Whether it does.
    pub on: Option<bool>,
    /// How hard it tries, for templates that know of it.
    pub effort: Option<Effort>,
    /// The most tokens that it thinks with; then its thoughts are ended and it answers.
    pub budget_tokens: Option<u32>,
}

/// How hard a model tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// `minimal`
    Minimal,
    /// `low`
    Low,
    /// `medium`
    Medium,
    /// `high`
    High,
    /// `xhigh`
    XHigh,
    /// `max`
    Max,
}

impl Effort {
    /// All of them, least first.
    pub const ALL: [Self; 6] =
        [Self::Minimal, Self::Low, Self::Medium, Self::High, Self::XHigh, Self::Max];

    /// Its name in requests and templates.
    pub fn name(self) -> &'static str {
        match self {
            Self::Minimal => "minimal",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::XHigh => "xhigh",
            Self::Max => "max",
        }
    }

    /// The effort of that name, if there is one.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|effort| effort.name() == name)
    }
}
