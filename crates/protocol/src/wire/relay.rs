//! Answers of other servers in the caller's own format, handed on by its writer as they came: only
//! the model's name becomes the one that was asked for, and the last event gets a receipt. What a
//! format's events look like, as far as that takes it, is a row. Absent: understanding them, which
//! is for who heard them on the way.

use super::ask::sse;
use super::{receipt, splice};
use crate::{Event, Fault, Receipt};

/// So many events may come behind the last one that has words in it.
const BEHIND_MAX: usize = 16;

/// What has to be known of a format's answers to hand them on.
pub(super) struct Passing {
    /// Where the model's name may stand.
    models: &'static [&'static [&'static str]],
    /// Where a receipt stands in a stream's last event.
    receipt: &'static [&'static str],
    /// What an event of a stream is.
    what: fn(&str) -> What,
    /// An event of the stream as it is sent.
    frame: fn(&str) -> String,
}

/// What an event of a stream is to who hands it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// It goes on at once.
    Plain,
    /// A choice ends: nothing but marks may come behind it.
    Finish,
    /// What the answer took, in an event of its own.
    Usage,
    /// Only marks come behind it: it waits for the receipt.
    Last,
}

pub(super) static CHAT: Passing = Passing {
    models: &[&["model"]],
    receipt: &["ingle"],
    what: |data| match (splice::get(data, &["choices"]), splice::get(data, &["usage"])) {
        _ if data.trim() == "[DONE]" => What::Last,
        (Some("[]"), Some(usage)) if usage != "null" => What::Usage,
        (Some(choices), _) if finishes(choices) => What::Finish,
        _ => What::Plain,
    },
    frame: |data| sse(None, &line(data)),
};

pub(super) static MESSAGES: Passing = Passing {
    models: &[&["model"], &["message", "model"]],
    receipt: &["ingle"],
    what: |data| match splice::get(data, &["type"]) {
        Some("\"message_delta\"") => What::Last,
        _ => What::Plain,
    },
    frame: named,
};

pub(super) static RESPONSES: Passing = Passing {
    models: &[&["model"], &["response", "model"]],
    receipt: &["response", "ingle"],
    what: |data| match splice::get(data, &["type"]) {
        Some("\"response.completed\"" | "\"response.incomplete\"") => What::Last,
        _ => What::Plain,
    },
    frame: named,
};

pub(super) static OLLAMA: Passing = Passing {
    models: &[&["model"]],
    receipt: &["ingle"],
    what: |data| match splice::get(data, &["done"]) {
        Some("true") => What::Last,
        _ => What::Plain,
    },
    frame: |data| format!("{}\n", line(data)),
};

/// Whether one of a chunk's choices ends with it.
fn finishes(choices: &str) -> bool {
    // Nothing is read that cannot be meant: most chunks have `null` there, or nothing.
    choices.contains("finish_reason")
        && serde_json::from_str::<Vec<serde_json::Value>>(choices)
            .is_ok_and(|all| all.iter().any(|choice| choice["finish_reason"].is_string()))
}

/// An event named as its type.
fn named(data: &str) -> String {
    let name = splice::get(data, &["type"]).and_then(|text| serde_json::from_str(text).ok());
    let name = name.filter(|name: &String| !name.contains(char::is_control));
    sse(name.as_deref(), &line(data))
}

/// On one line: JSON has line feeds between its tokens alone.
fn line(data: &str) -> String {
    data.trim().replace(['\r', '\n'], " ")
}

/// Hands one answer on.
#[derive(Clone)]
pub(super) struct Relay {
    passing: &'static Passing,
    model: String,
    streamed: bool,
    /// Whether a stream's caller asked to be told what the answer took.
    usage: bool,
    on: bool,
    held: Vec<String>,
    /// Whether all that is held back might have been the last.
    perhaps: bool,
}

/// What became of an event.
pub(super) enum Taken {
    /// It was written, or held back.
    Written(String),
    /// It was the end.
    Ended(String),
    /// It is for the writer itself.
    Own(Event),
}

impl Relay {
    /// For an answer by `model`, as its caller knows it.
    pub(super) fn new(passing: &'static Passing, model: &str, streamed: bool) -> Self {
        let (model, held) = (model.to_owned(), Vec::new());
        Self { passing, model, streamed, usage: true, on: false, held, perhaps: false }
    }

    /// The same for a stream whose caller asked for its usage, or not.
    pub(super) fn with_usage(self, usage: bool) -> Self {
        Self { usage, ..self }
    }

    /// Takes the next event where the answer is handed on.
    pub(super) fn take(&mut self, event: Event) -> Result<Taken, Fault> {
        match event {
            Event::Passed(data) => {
                self.on = true;
                Ok(Taken::Written(self.pass(&data)))
            }
            Event::Failed(fault) => Err(fault),
            Event::Done(receipt) if self.on => Ok(Taken::Ended(self.end(&receipt))),
            _ if self.on => Ok(Taken::Written(String::new())),
            other => Ok(Taken::Own(other)),
        }
    }

    fn pass(&mut self, data: &str) -> String {
        let data = self.renamed(data);
        if !self.streamed {
            self.held = vec![data];
            return String::new();
        }
        let what = (self.passing.what)(&data);
        if what == What::Usage && !self.usage {
            return String::new();
        }
        // Other choices go on, or end later.
        let was_not = self.perhaps && matches!(what, What::Plain | What::Finish);
        let mut out = if was_not { self.flush() } else { String::new() };
        if what == What::Plain && self.held.is_empty() {
            out += &(self.passing.frame)(&data);
            return out;
        }
        self.perhaps = what == What::Finish;
        self.held.push(data);
        if self.held.len() > BEHIND_MAX {
            out += &self.flush();
        }
        out
    }

    fn renamed(&self, data: &str) -> String {
        let mut out = data.to_owned();
        for path in self.passing.models {
            if splice::get(&out, path).is_some_and(|value| value.starts_with('"')) {
                out = splice::set(&out, path, &splice::quoted(&self.model)).unwrap_or(out);
            }
        }
        out
    }

    fn flush(&mut self) -> String {
        let held = std::mem::take(&mut self.held);
        self.perhaps = false;
        if !self.streamed {
            return held.concat();
        }
        held.iter().map(|data| (self.passing.frame)(data)).collect()
    }

    /// What was held back, with a receipt where there is room for it.
    fn end(&mut self, receipt: &Receipt) -> String {
        let place = if self.streamed { self.passing.receipt } else { &["ingle"] };
        let usage = self.held.iter().position(|data| (self.passing.what)(data) == What::Usage);
        if let Some(last) = self.held.get_mut(usage.unwrap_or(0)) {
            let told = splice::set(last, place, &receipt::write(receipt));
            *last = told.unwrap_or_else(|| std::mem::take(last));
        }
        self.flush()
    }
}
