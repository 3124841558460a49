//! How a model writes what is no plain answer: its thoughts, and the calls of tools. A table has
//! a row for each family of models; which row it is, its chat template tells. A template that knows
//! no tools, or writes them as no row does, gets the plain row, and is told in words.
//!
//! `listen` reads a dialect in a stream of text, `body` and `json` what stands within a call;
//! `frame` says as a grammar what a forced call may be; `explain` tells a model of tools in words.
//! Absent: tokens, but for the marks that are tokens of their own, and what tools do.

mod body;
mod explain;
mod frame;
mod json;
mod listen;

pub use frame::Frame;
pub use listen::{Listener, Said};

use crate::tokenizer::{TokenKind, Tokenizer};
use ingle_protocol::{Chat, Token};

/// What stands before and after something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Marks {
    begin: &'static str,
    end: &'static str,
}

const fn marks(begin: &'static str, end: &'static str) -> Marks {
    Marks { begin, end }
}

/// How a call is written within its marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Syntax {
    /// A JSON object with `name` and, under this key, the arguments.
    Object(&'static str),
    /// A JSON array of those.
    Array(&'static str),
    /// A header that names the tool, up to this mark; then the arguments as JSON.
    Named(Naming, &'static str),
    /// The name, then keys and values in marks, values of type string as they are.
    Tagged(&'static Tags),
    /// `call:NAME{key:value}`, keys without quotes, texts within `<|"|>`.
    Braced,
    /// gpt-oss: messages on channels, each with a header.
    Channels,
}

/// What a header tells beside the tool's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Naming {
    /// Nothing.
    Plain,
    /// The call's type, which is `function`, before this mark.
    Typed(&'static str),
    /// `functions.NAME:INDEX`, which is the call's id.
    Indexed,
    /// The call's id, after this mark.
    Id(&'static str),
}

/// The marks of a [`Syntax::Tagged`] call.
#[derive(Debug, PartialEq, Eq)]
struct Tags {
    /// Around the name; an end of `""` is the next mark, or the line's end.
    name: Marks,
    key: Marks,
    value: Marks,
}

/// A row of the table.
#[derive(Debug, PartialEq, Eq)]
struct Family {
    name: &'static str,
    /// A template of this family has all of these texts, and none of the others.
    tells: &'static [&'static str],
    lacks: &'static [&'static str],
    /// Around all calls of an answer.
    section: Option<Marks>,
    /// Around each call; `""` where there is none.
    call: Marks,
    syntax: Syntax,
    /// Whether an answer may have more than one call.
    parallel: bool,
}

impl Family {
    /// What the first call of an answer begins with; `""` where there is no mark.
    fn call_begin(&self) -> &'static str {
        self.section.map_or(self.call.begin, |section| section.begin)
    }
}

static GLM: Tags = Tags {
    name: marks("", ""),
    key: marks("<arg_key>", "</arg_key>"),
    value: marks("<arg_value>", "</arg_value>"),
};

static QWEN_CODER: Tags = Tags {
    name: marks("<function=", ">"),
    key: marks("<parameter=", ">"),
    value: marks("", "</parameter>"),
};

const TOOL_CALL: Marks = marks("<tool_call>", "</tool_call>");
const DEEPSEEK: Marks = marks("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>");
const DEEPSEEK_CALL: Marks = marks("<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>");
const DEEPSEEK_NAME: &str = "<｜tool▁sep｜>";

/// Told in words: the form that most models were trained on.
static PLAIN: Family = Family {
    name: "plain",
    tells: &[],
    lacks: &[],
    section: None,
    call: TOOL_CALL,
    syntax: Syntax::Object("arguments"),
    parallel: true,
};

/// The first row that fits is it. Each row's form is that of the chat templates that its models
/// were published with.
#[rustfmt::skip]
static FAMILIES: &[Family] = &[
    Family {
        name: "harmony", tells: &["<|start|>assistant", "<|channel|>analysis"], lacks: &[],
        section: None, call: marks("", ""), syntax: Syntax::Channels, parallel: false,
    },
    Family {
        name: "deepseek-v3", tells: &[DEEPSEEK.begin, "```json"], lacks: &[],
        section: Some(DEEPSEEK), call: DEEPSEEK_CALL,
        syntax: Syntax::Named(Naming::Typed(DEEPSEEK_NAME), "\n"), parallel: true,
    },
    Family {
        name: "deepseek-v3.1", tells: &[DEEPSEEK.begin], lacks: &["```json"],
        section: Some(DEEPSEEK), call: DEEPSEEK_CALL,
        syntax: Syntax::Named(Naming::Plain, DEEPSEEK_NAME), parallel: true,
    },
    Family {
        name: "kimi", lacks: &[],
        tells: &["<|tool_calls_section_begin|>", "<|tool_call_argument_begin|>"],
        section: Some(marks("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>")),
        call: marks("<|tool_call_begin|>", "<|tool_call_end|>"),
        syntax: Syntax::Named(Naming::Indexed, "<|tool_call_argument_begin|>"), parallel: true,
    },
    Family {
        name: "glm", tells: &["<tool_call>", "<arg_key>"], lacks: &["<tools>\n<tool_call>"],
        section: None, call: TOOL_CALL, syntax: Syntax::Tagged(&GLM), parallel: true,
    },
    Family {
        name: "gemma", tells: &["<|tool_call>call:", "<tool_call|>"], lacks: &[],
        section: None, call: marks("<|tool_call>", "<tool_call|>"),
        syntax: Syntax::Braced, parallel: true,
    },
    Family {
        name: "mistral", tells: &["[TOOL_CALLS]", "[ARGS]"], lacks: &[],
        section: None, call: marks("[TOOL_CALLS]", ""),
        syntax: Syntax::Named(Naming::Id("[CALL_ID]"), "[ARGS]"), parallel: true,
    },
    Family {
        name: "mistral-nemo", tells: &["[TOOL_CALLS]"], lacks: &["[ARGS]"],
        section: None, call: marks("[TOOL_CALLS]", ""),
        syntax: Syntax::Array("arguments"), parallel: true,
    },
    Family {
        name: "qwen-coder", tells: &["<tool_call>", "<function=", "<parameter="], lacks: &[],
        section: None, call: TOOL_CALL, syntax: Syntax::Tagged(&QWEN_CODER), parallel: true,
    },
    Family {
        name: "hermes", lacks: &[],
        tells: &["<tool_call>", "</tool_call>", "\"name\"", "\"arguments\""],
        section: None, call: TOOL_CALL, syntax: Syntax::Object("arguments"), parallel: true,
    },
    Family {
        name: "llama-3", lacks: &["<function="],
        tells: &["<|start_header_id|>ipython", "\"parameters\": "],
        section: None, call: marks("", ""), syntax: Syntax::Object("parameters"), parallel: false,
    },
];

/// What stands around thoughts, wherever a template has both texts.
static THOUGHTS: &[Marks] = &[
    marks("<think>", "</think>"),
    marks("[THINK]", "[/THINK]"),
    marks("<seed:think>", "</seed:think>"),
    marks("<|channel>thought", "<channel|>"),
];

/// How one model writes. Copies are free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    family: &'static Family,
    thoughts: Option<Marks>,
}

impl Dialect {
    /// The dialect of a model with this chat template.
    pub fn of(template: &str) -> Self {
        let has = |text: &&&str| template.contains(**text);
        let fits = |family: &&Family| {
            family.tells.iter().all(|text| has(&text))
                && !family.lacks.iter().any(|text| has(&text))
        };
        // What a template never asks for it cannot show to its model.
        let knows_tools = template.contains("tools");
        let family = FAMILIES.iter().find(|family| knows_tools && fits(family)).unwrap_or(&PLAIN);
        let thoughts = THOUGHTS.iter().find(|marks| template.contains(marks.end)).copied();
        let thoughts = thoughts.filter(|_| family.syntax != Syntax::Channels);
        Self { family, thoughts }
    }

    /// The dialect that a conversation is held in: where a strict tool's schema asks for what this
    /// one's form cannot be held to, the plain one.
    #[must_use]
    pub fn in_use(self, chat: &Chat) -> Self {
        let syntax = self.family.syntax;
        let held = |parameters: &str| frame::Arguments::read(syntax, parameters).is_some();
        let alien = chat.offered().iter().any(|tool| tool.strict && !held(&tool.parameters));
        match syntax {
            Syntax::Tagged(_) | Syntax::Braced if alien => Self { family: &PLAIN, ..self },
            _ => self,
        }
    }

    /// The family's name.
    pub fn name(&self) -> &'static str {
        self.family.name
    }

    /// Whether the model thinks in marks that it writes itself.
    pub fn thinks(&self) -> bool {
        self.thoughts.is_some() || self.family.syntax == Syntax::Channels
    }

    /// What ends a thought, as the model writes it; `None` where it has none.
    pub fn thought_end(&self) -> Option<&'static str> {
        match self.family.syntax {
            Syntax::Channels => Some("<|end|><|start|>assistant<|channel|>final<|message|>"),
            _ => self.thoughts.map(|marks| marks.end),
        }
    }

    /// What has to stand behind a rendered prompt so that the answer itself comes next: the end of
    /// a thought that the prompt begins, the channel of answers; mostly nothing.
    pub fn before_answer(&self, prompt: &str) -> String {
        match (self.family.syntax, self.thoughts) {
            (Syntax::Channels, _) => "<|channel|>final<|message|>".to_owned(),
            (_, Some(marks)) if self.begins_thinking(prompt) => format!("{}\n\n", marks.end),
            _ => String::new(),
        }
    }

    /// Whether the model is told of its tools by Ingle's words rather than by its own template.
    pub fn is_plain(&self) -> bool {
        self.family == &PLAIN
    }

    /// The conversation as a template is to see it that knows no tools: they are told in words, and
    /// so are calls and what came back. `apart` puts the words into the first user's turn rather
    /// than a system's, which some templates refuse.
    pub fn explain(chat: &Chat, apart: bool) -> Chat {
        explain::explain(chat, apart)
    }

    /// The texts that mean something here beside what is answered.
    fn all_marks(&self) -> impl Iterator<Item = &'static str> {
        let family = self.family;
        let pairs = self.thoughts.into_iter().chain(family.section).chain([family.call]);
        let inner: &'static [&'static str] = match family.syntax {
            Syntax::Object(_) | Syntax::Array(_) => &["<|python_tag|>"],
            Syntax::Channels => &listen::CHANNELS,
            Syntax::Braced => &["<|\"|>"],
            Syntax::Tagged(_) => &[],
            Syntax::Named(..) => {
                &["<｜tool▁sep｜>", "<|tool_call_argument_begin|>", "[ARGS]", "[CALL_ID]"]
            }
        };
        pairs.flat_map(|pair| [pair.begin, pair.end]).chain(inner.iter().copied())
    }

    /// What a control token writes here, if it is a mark or a part of one: other control tokens
    /// write nothing.
    pub fn mark<'t>(&self, tokenizer: &'t Tokenizer, token: Token) -> Option<&'t str> {
        let text = tokenizer.token_text(token).filter(|text| !text.is_empty())?;
        let control = tokenizer.kind(token) == Some(TokenKind::Control);
        (control && self.all_marks().any(|mark| mark.contains(text))).then_some(text)
    }
}

#[cfg(test)]
mod tests;
