//! What a forced answer may be, as a grammar in llguidance's Lark: thoughts first, if the model has
//! any, then calls of the tools that may be called, in the form of the model's own family. An
//! answer that has a grammar of its own stands in it as `@answer`.
//!
//! Marks that are control tokens are written as tokens, since no text writes them. `marked` writes
//! the forms that are no JSON.

mod marked;

pub(super) use marked::Arguments;

use self::marked::Rules;
use super::{Dialect, Naming, Syntax};
use crate::schema;
use crate::tokenizer::{Special, TokenKind, Tokenizer};
use ingle_protocol::{Chat, Tool, ToolChoice};
use serde_json::{Value, json};

/// Any arguments.
const ANY: &str = r#"{"type":"object"}"#;

/// A grammar around an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// With every tool's schema.
    pub lark: String,
    /// Without the schemas of tools that are not strict, for where those cannot be enforced; the
    /// same where all are strict.
    pub lax: String,
    /// Whether there is no answer without it.
    pub needed: bool,
}

/// How a prompt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Thinking {
    /// A thought is under way.
    Open,
    /// One may begin.
    Possible,
    /// There is none.
    None,
}

struct Writer<'a> {
    dialect: Dialect,
    tokenizer: &'a Tokenizer,
    chat: &'a Chat,
    thinking: Thinking,
}

impl Dialect {
    /// The grammar that an answer needs, if it needs one: a call is forced, a tool is strict, or
    /// the answer has a grammar, which thoughts and calls are no part of; and the one that holds a
    /// free answer to be a call once it has begun one. `prompt` is the rendered conversation.
    pub fn frame(
        &self,
        chat: &Chat,
        tokenizer: &Tokenizer,
        prompt: &str,
        answer: bool,
    ) -> Option<Frame> {
        let forced = matches!(chat.tool_choice, ToolChoice::Required | ToolChoice::Named(_));
        let tools = chat.offered();
        let exact = tools.iter().any(|tool| tool.strict);
        let thinking = match (self.begins_thinking(prompt), self.thinks()) {
            (true, _) => Thinking::Open,
            (false, true) if !self.thought_is_over(prompt) => Thinking::Possible,
            _ => Thinking::None,
        };
        let beside = thinking != Thinking::None || !tools.is_empty();
        let needed = forced || exact || answer && beside;
        // Without a mark nothing tells where a call begins.
        let marked = !tools.is_empty() && !self.family.call_begin().is_empty();
        if !(needed || marked) {
            return None;
        }
        let writer = Writer { dialect: *self, tokenizer, chat, thinking };
        let (lark, lax) = (writer.write(answer, true), writer.write(answer, false));
        Some(Frame { lark, lax, needed })
    }

    /// Whether a prompt ends within a thought.
    pub fn begins_thinking(&self, prompt: &str) -> bool {
        self.thoughts.is_some_and(|marks| prompt.trim_end().ends_with(marks.begin))
    }

    /// Whether a prompt ends with a thought that is over.
    fn thought_is_over(&self, prompt: &str) -> bool {
        self.thoughts.is_some_and(|marks| prompt.trim_end().ends_with(marks.end))
    }
}

impl Writer<'_> {
    fn write(&self, answer: bool, schemas: bool) -> String {
        let forced = matches!(self.chat.tool_choice, ToolChoice::Required | ToolChoice::Named(_));
        let tools = self.tools();
        let mut rules = Vec::new();
        let body = match (tools.is_empty(), forced, answer) {
            (true, ..) => "@answer".to_owned(),
            (false, true, _) => "calls".to_owned(),
            (false, false, true) => "(calls | @answer)".to_owned(),
            (false, false, false) => self.mixed(&mut rules),
        };
        let start = match self.thinking {
            _ if self.dialect.family.syntax == Syntax::Channels => self.channels(&body, &mut rules),
            Thinking::None => body,
            Thinking::Open => format!("thought {body}"),
            Thinking::Possible => {
                let begin = self.dialect.thoughts.map_or("", |marks| marks.begin);
                format!("({} thought)? {body}", self.mark(begin))
            }
        };
        rules.insert(0, format!("start: {start}"));
        if self.thinking != Thinking::None && self.dialect.thoughts.is_some() {
            let end = self.dialect.thoughts.map_or("", |marks| marks.end);
            self.until("thought_end", end, &mut rules);
            rules.push(r#"thought: thought_end ("\n" | "\n\n")?"#.to_owned());
        }
        if !tools.is_empty() {
            self.calls(&tools, schemas, &mut rules);
        }
        rules.join("\n") + "\n"
    }

    /// The tools that this answer may call.
    fn tools(&self) -> Vec<&Tool> {
        let named = |tool: &&Tool| match &self.chat.tool_choice {
            ToolChoice::Named(name) => tool.name == *name,
            _ => true,
        };
        self.chat.offered().iter().filter(named).collect()
    }

    /// A rule of any text up to a mark.
    fn until(&self, name: &str, mark: &str, rules: &mut Vec<String>) {
        match self.tokens(mark).as_slice() {
            [Atom::Text(text)] => {
                let pattern = pattern(text);
                rules.push(format!("{name}[lazy]: /(.|\\n)*{pattern}/"));
            }
            _ => {
                rules.push(format!("{name}: ANYTHING? {}", self.mark(mark)));
                if !rules.iter().any(|rule| rule.starts_with("ANYTHING:")) {
                    rules.push("ANYTHING: /(.|\\n)+/".to_owned());
                }
            }
        }
    }

    /// Text and calls in turn, as the model likes.
    fn mixed(&self, rules: &mut Vec<String>) -> String {
        let family = self.dialect.family;
        let begin = family.call_begin();
        if begin.is_empty() {
            // Without marks an object is the whole answer, or there is none.
            rules.push("plain: /[^{](.|\\n)*/".to_owned());
            return "(calls | plain)".to_owned();
        }
        self.until("before", begin, rules);
        if !rules.iter().any(|rule| rule.starts_with("ANYTHING:")) {
            rules.push("ANYTHING: /(.|\\n)+/".to_owned());
        }
        let often = if self.chat.one_call { "?" } else { "*" };
        format!("(before calls_after){often} ANYTHING?")
    }

    /// `calls`, and `calls_after` the mark that begins them.
    fn calls(&self, tools: &[&Tool], schemas: bool, rules: &mut Vec<String>) {
        let family = self.dialect.family;
        let named = matches!(self.chat.tool_choice, ToolChoice::Named(_));
        let one = named || self.chat.one_call || !family.parallel;
        let (begin, end) = (self.mark(family.call.begin), self.mark(family.call.end));
        let more = |item: &str, between: &str| match one {
            true => item.to_owned(),
            false => format!("{item} ({between} {item})*"),
        };
        match (family.section, family.syntax) {
            (Some(section), _) => {
                let all = more(&format!("{begin} call {end}"), "");
                rules.push(format!("calls: {} calls_after", self.mark(section.begin)));
                rules.push(format!("calls_after: {all} {}", self.mark(section.end)));
            }
            (None, Syntax::Array(_)) => {
                rules.push(format!("calls: {begin} calls_after"));
                rules.push(format!("calls_after: \"[\" {} \"]\"", more("call", "\", \"")));
            }
            (None, syntax) => {
                let close = family.call.end.is_empty() || syntax == Syntax::Braced;
                let line = if close { "" } else { "\"\\n\"" };
                rules.push(format!("calls: {}", more(&format!("{begin} calls_after"), line)));
                rules.push(format!("calls_after: call {end}"));
            }
        }
        let names: Vec<String> = (0..tools.len()).map(|at| format!("call_{at}")).collect();
        rules.push(format!("call: {}", names.join(" | ")));
        for (at, tool) in tools.iter().enumerate() {
            if matches!(family.syntax, Syntax::Tagged(_) | Syntax::Braced) {
                let held = Some(&tool.parameters).filter(|_| schemas || tool.strict);
                let held = held.and_then(|schema| Arguments::read(family.syntax, schema));
                let call = Rules::new(self, &at.to_string(), rules).call(&tool.name, held.as_ref());
                rules.push(format!("call_{at}: {call}"));
                continue;
            }
            let schema = match tool.parameters.as_str() {
                text if !text.is_empty() && (schemas || tool.strict) => text,
                _ => ANY,
            };
            rules.push(format!("call_{at}: {}", self.call(&tool.name, schema)));
        }
    }

    /// One tool's call, within its marks.
    fn call(&self, name: &str, schema: &str) -> String {
        let arguments = format!("%json {}", object(schema));
        let quoted = literal(name);
        let quoted = &quoted[1..quoted.len() - 1];
        match self.dialect.family.syntax {
            Syntax::Array(key) => format!(
                "\"{{\\\"name\\\": \\\"{quoted}\\\", \\\"{key}\\\": \" {arguments} \
                 \", \\\"id\\\": \\\"\" /[a-zA-Z0-9]{{9}}/ \"\\\"}}\""
            ),
            Syntax::Object(key) => {
                let line = if self.dialect.family.call.end.is_empty() { "" } else { "\\n" };
                format!(
                    "\"{line}{{\\\"name\\\": \\\"{quoted}\\\", \\\"{key}\\\": \" {arguments} \
                     \"}}{line}\""
                )
            }
            Syntax::Named(naming, mark) => {
                let (before, after) = match naming {
                    Naming::Typed(mark) => (self.mark(&format!("function{mark}{name}")), ""),
                    Naming::Indexed => (self.mark(&format!("functions.{name}:")), "/[0-9]{1,3}/"),
                    Naming::Plain | Naming::Id(_) => (literal(name), ""),
                };
                match naming {
                    Naming::Typed(_) => {
                        format!("{before} \"\\n```json\\n\" {arguments} \"\\n```\"")
                    }
                    _ => format!("{before} {after} {} {arguments}", self.mark(mark)),
                }
            }
            // gpt-oss; the others speak plainly.
            _ => {
                let head = format!("<|channel|>commentary to=functions.{name} ");
                let head = self.mark(&(head + "<|constrain|>json<|message|>"));
                format!("{head} {arguments}")
            }
        }
    }

    /// gpt-oss: thoughts on their channel, then calls or the last message on theirs.
    fn channels(&self, body: &str, rules: &mut Vec<String>) -> String {
        self.until("analysis", "<|end|><|start|>assistant", rules);
        let thought = format!("({} analysis)?", self.mark("<|channel|>analysis<|message|>"));
        let last = self.mark("<|channel|>final<|message|>");
        let body = match body {
            "calls" => "calls".to_owned(),
            "(calls | @answer)" => format!("(calls | {last} @answer)"),
            "@answer" => format!("{last} @answer"),
            _ => {
                if !rules.iter().any(|rule| rule.starts_with("ANYTHING:")) {
                    rules.push("ANYTHING: /(.|\\n)+/".to_owned());
                }
                format!("(calls | {last} ANYTHING?)")
            }
        };
        format!("{thought} {body}")
    }

    /// A text with marks in it, control tokens among it as tokens.
    fn mark(&self, text: &str) -> String {
        let atoms = self.tokens(text);
        let written = atoms.iter().map(|atom| match atom {
            Atom::Text(text) => literal(text),
            Atom::Token(token) => format!("<[{token}]>"),
        });
        written.collect::<Vec<_>>().join(" ")
    }

    fn tokens(&self, text: &str) -> Vec<Atom> {
        let mut atoms = Vec::new();
        for token in self.tokenizer.encode(text, Special::Parse) {
            let control = self.tokenizer.kind(token) == Some(TokenKind::Control);
            let written = self.tokenizer.bytes_with_markup(token).unwrap_or_default();
            if control {
                atoms.push(Atom::Token(token));
                continue;
            }
            match atoms.last_mut() {
                Some(Atom::Text(before)) => before.extend_from_slice(written),
                _ => atoms.push(Atom::Text(written.to_vec())),
            }
        }
        // Without any control token a text is itself, whatever its tokens write before it.
        if atoms.iter().all(|atom| matches!(atom, Atom::Text(_))) && !text.is_empty() {
            return vec![Atom::Text(text.as_bytes().to_vec())];
        }
        atoms
    }
}

enum Atom {
    Text(Vec<u8>),
    Token(u32),
}

/// The arguments' schema: that of an object, whatever else it says.
fn object(schema: &str) -> String {
    match serde_json::from_str::<Value>(schema) {
        Ok(Value::Object(mut map)) => {
            if !map.contains_key("type") {
                map.insert("type".into(), json!("object"));
            }
            schema::prepared(&Value::Object(map).to_string())
        }
        _ => schema::prepared(ANY),
    }
}

/// A text as a Lark string, which is a JSON string.
fn literal(text: impl AsRef<[u8]>) -> String {
    Value::String(String::from_utf8_lossy(text.as_ref()).into_owned()).to_string()
}

/// A text as a pattern that matches just it.
fn pattern(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let escape = |c: char| match c {
        c if c.is_alphanumeric() || c == '_' => c.to_string(),
        c => format!("\\x{{{:X}}}", u32::from(c)),
    };
    text.chars().map(escape).collect()
}
