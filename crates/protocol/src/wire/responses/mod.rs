//! OpenAI's responses: requests read and written, answers written as typed events or whole, and
//! what is kept of them between requests.
//!
//! A request may build on earlier responses: it names the one before it, or items of any. So it is
//! read in two steps: [`read_open`] gives an [`Open`] request that tells what it needs, and
//! [`Open::close`] takes that and gives an [`Asked`]. What was kept is texts of JSON, as [`Past`]
//! holds them; where they are kept is not known here. An item's id holds its response's, so that no
//! index is needed to find it.
//!
//! Every field of a request is a row of one table (`fields`), or a row of the chat's that means the
//! same here. An answer is a list of output items; a stream's events open, fill and close them, and
//! its last one carries the response: the same that a whole answer is.
//!
//! Absent: tools that run here, files in turns, summaries of what a model thinks, and conversations
//! as objects of their own.

mod answer;
mod fields;
mod items;
mod kept;
mod reader;
mod request;
mod tools;

pub use fields::{fields, read_count, read_open, read_request};
pub use kept::{
    Listing, Retrieve, Snapshot, Status, end, frames, gather, id_of, read_listing, read_retrieve,
    response_of, sequence, write_count, write_deleted, write_failed, write_items, write_unkept,
};

use serde_json::{Map, Value};

pub(super) use reader::Heard;
pub(super) use request::write_request;

use super::Stamp;
use super::ask::ask_one;
use super::check::Read;
use crate::{Fault, Input, Message, Request};
use items::Given;

/// Which of the two request formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `/v1/responses`
    Create,
    /// `/v1/responses/input_tokens`
    Count,
}

/// A request as it was read, before what it builds on is known.
#[derive(Clone, Debug, PartialEq)]
pub struct Open {
    asked: Asked,
    instructions: Option<String>,
    given: Vec<Given>,
}

/// A response as it was kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// Its id.
    pub id: String,
    /// Its input items, a JSON array's text.
    pub input: String,
    /// The response itself, a JSON object's text.
    pub response: String,
}

/// A request that can be answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// What is asked of the model.
    pub request: Request,
    /// Answer in server-sent events.
    pub stream: bool,
    /// Answer whether or not the caller waits for it.
    pub background: bool,
    /// Whether the response is to be kept, where that was said.
    pub store: Option<bool>,
    /// The response before this one.
    pub previous: Option<String>,
    /// Tell thoughts as their own summary.
    summary: bool,
    /// Leave thoughts out.
    hide_reasoning: bool,
    /// Fields of a response that say what was asked for.
    frame: Map<String, Value>,
    /// Input items.
    items: Vec<Value>,
}

impl Open {
    /// The responses whose items the input refers to, each once.
    pub fn references(&self) -> Vec<String> {
        let mut ids: Vec<String> = Vec::new();
        for given in &self.given {
            let id = given.reference().map(kept::response_of);
            ids.extend(id.filter(|id| !ids.contains(id)));
        }
        ids
    }

    /// The response before this one.
    pub fn previous(&self) -> Option<&str> {
        self.asked.previous.as_deref()
    }

    /// The request as it can be answered. `chain` is the response before this one and all before
    /// that, oldest first; `named` those that [`Open::references`] names, as far as they are there.
    ///
    /// # Errors
    /// Where an item is not there, or is the result of a call that nobody made.
    pub fn close(self, chain: &[Past], named: &[Past]) -> Result<Asked, Fault> {
        let Self { mut asked, instructions, given } = self;
        let system = instructions.map(|content| Message {
            role: "system".into(),
            content,
            ..Message::default()
        });
        let mut before = Vec::new();
        for past in chain {
            before.extend(kept::items_of(past)?);
        }
        let find = |given: Given| given.resolved(named);
        let own: Vec<Given> = given.into_iter().map(find).collect::<Read<_>>()?;
        asked.items = own.iter().map(Given::value).collect();
        let turns = items::turns(before.into_iter().chain(own))?;
        let Input::Chat(chat) = &mut asked.request.input else {
            return Err(Fault::ours("a response's request is no conversation; this is a bug"));
        };
        chat.messages = system.into_iter().chain(turns).collect();
        Ok(asked)
    }
}

impl Asked {
    /// The input's items with their ids, a JSON array's text; `id` is the stamp's.
    pub fn input_items(&self, id: &str) -> String {
        items::with_ids(&self.items, id).to_string()
    }

    /// The answer's beginning where it is computed in the background: two events that say so,
    /// before anything is computed. Its writer goes on behind them.
    pub fn opening(&self, stamp: &Stamp) -> String {
        answer::Answer::new(self, stamp.clone()).opening()
    }

    /// Says in the response whether it is kept.
    pub fn set_store(&mut self, store: bool) {
        self.store = Some(store);
        self.frame.insert("store".into(), store.into());
    }
}

ask_one!(Asked, answer::Answer);
