//! Where a request comes from and as what: all that a policy may ask of it beside its content. The
//! server fills it in; it is part of no wire format.

use std::sync::Arc;

/// Where a request comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The request's id, which no other has.
    pub id: String,
    /// Milliseconds since 1970 when it came.
    pub at_ms: u64,
    /// The name of the key it came with; empty where the server wants none.
    pub key: String,
    /// The team that the key belongs to; empty where it belongs to none.
    pub team: String,
    /// The path it came by, such as `/v1/chat/completions`; of the command line, `ingle run`.
    pub path: String,
    /// The workspaces that it names, if it names any; all of them hold.
    pub workspaces: Vec<String>,
    /// The headers that a policy may ask of, names in lower case; one that has several values is
    /// here with each.
    pub headers: Vec<(String, String)>,
    /// Whether nobody knows any more where it comes from, or something in it: then it stays on
    /// this machine.
    pub unknown: bool,
    /// Where everything came from that was kept and that it builds on: what holds for that holds
    /// for it, too. None of these builds on another.
    pub before: Vec<Origin>,
    /// The data classes that its key carries.
    pub classes: Vec<String>,
    /// The only models that its key may use, by their names here or as `provider/model`; `None`
    /// for all. That the key may ask for the name that the request has is known already.
    pub models: Option<Arc<[String]>>,
    /// The request as it came, for who can send it on in the same format with nothing lost; `None`
    /// where it is more than one call.
    pub verbatim: Option<Arc<Verbatim>>,
}

/// A request's own bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verbatim {
    /// The format that they are in.
    pub format: Format,
    /// A JSON object's text.
    pub body: String,
}

/// A wire format that requests for text come in and go out in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// OpenAI's chat completions.
    #[default]
    Chat,
    /// OpenAI's responses.
    Responses,
    /// Anthropic's messages.
    Messages,
    /// Ollama's chat.
    Ollama,
    /// Gemini's `generateContent`.
    Gemini,
}
