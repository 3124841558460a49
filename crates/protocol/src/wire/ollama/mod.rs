//! Ollama's own protocol: chat and generate, read and answered in lines of JSON, and what stands
//! around them.
//!
//! Every field of a request is a row of a table (`fields`), its `options` of a second one. An
//! answer is streamed unless the caller says otherwise; its lines and a whole answer are one state
//! machine's. Sampling has Ollama's defaults. What it asks for and models here cannot do is refused
//! by name: templates of the caller's, and prompts cut to fit.
//!
//! Chats are written and their answers heard, too. Absent: everything that makes or publishes
//! models.

mod answer;
mod fields;
mod lists;
mod messages;
mod reader;
mod request;

pub use fields::{fields, options, read_request};
pub use lists::{
    Named, Shown, line, read_named, write_model, write_models, write_progress, write_running,
    write_version,
};

pub(super) use lists::untagged;
pub(super) use reader::Heard;
pub(super) use request::write_request;

use super::Stamp;
use super::ask::ask_one;
use crate::{Input, Request};

/// Which of the two request formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `/api/chat`
    Chat,
    /// `/api/generate`
    Generate,
}

/// A request as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// Which format it has, and so its answer.
    pub format: Format,
    /// What is asked of the model.
    pub request: Request,
    /// Answer in lines, as it is made.
    pub stream: bool,
    /// The context has to hold at least so many tokens.
    pub num_ctx: Option<u32>,
    /// There is nothing to answer: the model is to be loaded, or, where it is to be kept for no
    /// time at all, unloaded.
    pub idle: bool,
}

impl Asked {
    /// The same for a model without a chat template: a prompt that stands alone is given to it as
    /// it is. What else needs a template is left for the model to refuse.
    #[must_use]
    pub fn without_template(mut self) -> Self {
        if let (Format::Generate, Input::Chat(chat)) = (self.format, &self.request.input)
            && let [prompt] = chat.messages.as_slice()
            && prompt.pictures.is_empty()
        {
            self.request.input = Input::Text(prompt.content.clone());
        }
        self
    }
}

ask_one!(Asked, answer::Answer);

/// The answer where there is nothing to answer.
pub fn write_idle(asked: &Asked, stamp: Stamp, unloaded: bool) -> String {
    answer::Answer::new(asked, stamp).idle(if unloaded { "unload" } else { "load" })
}
