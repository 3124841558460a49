//! The small formats beside the completions: tokens and texts, templates, and what the server is.

use serde_json::{Value, json};

use crate::wire::check;
use crate::wire::values::{model, read_object};
use crate::{Fault, Token};

/// A text to be encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokenize {
    /// Empty for the server's default.
    pub model: String,
    /// The text.
    pub text: String,
    /// Whether control tokens written out in the text are read as such.
    pub special: bool,
    /// Whether each token's text is wanted beside its id.
    pub pieces: bool,
}

/// Reads `{"content", "model"?, "parse_special"?, "add_special"?, "with_pieces"?}`; `None` where
/// there is no `content`, which another protocol's body on the same path has not.
pub fn read_tokenize(body: &[u8]) -> Result<Option<Tokenize>, Fault> {
    let body = read_object(body)?;
    let given = |name: &str| body.get(name).filter(|value| !value.is_null());
    let Some(text) = given("content") else { return Ok(None) };
    let known = ["content", "model", "parse_special", "add_special", "with_pieces"];
    check::only("", &body, known.into_iter())?;
    let flag = |name: &str, usual: bool| {
        given(name).map_or(Ok(usual), |value| check::boolean(name, value))
    };
    if flag("add_special", false)? {
        let why = "is supported only as false: a text's own tokens are given";
        return check::bad("add_special", why);
    }
    Ok(Some(Tokenize {
        model: given("model").map_or(Ok(String::new()), |value| model("model", value))?,
        text: check::string("content", text)?.to_owned(),
        special: flag("parse_special", true)?,
        pieces: flag("with_pieces", false)?,
    }))
}

/// The tokens of a text.
pub fn write_tokens(tokens: &[Token]) -> String {
    json!({ "tokens": tokens }).to_string()
}

/// The tokens of a text and what each writes.
pub fn write_pieces(tokens: &[(Token, String)]) -> String {
    let pair = |(id, piece): &(Token, String)| json!({ "id": id, "piece": piece });
    json!({ "tokens": tokens.iter().map(pair).collect::<Vec<Value>>() }).to_string()
}

/// The text of tokens, under this protocol's name and under vLLM's, which has the same path.
pub fn write_text(text: &str) -> String {
    json!({ "content": text, "prompt": text }).to_string()
}

/// A conversation as a template writes it.
pub fn write_prompt(text: &str) -> String {
    json!({ "prompt": text }).to_string()
}

/// What `/props` tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Props<'a> {
    /// The default model's name.
    pub model: &'a str,
    /// The longest prompt and answer together, in tokens.
    pub context_tokens: usize,
    /// Answers that may be under way.
    pub answers: usize,
    /// Its chat template; empty where it has none.
    pub template: &'a str,
}

/// What the server is.
pub fn write_props(props: &Props<'_>) -> String {
    json!({
        "default_generation_settings": { "n_ctx": props.context_tokens },
        "total_slots": props.answers,
        "model_alias": props.model,
        "model_path": props.model,
        "chat_template": props.template,
        "modalities": { "vision": false, "audio": false },
        "build_info": concat!("ingle-", env!("CARGO_PKG_VERSION")),
    })
    .to_string()
}

/// Requests under way, each as a slot that is busy, and one that is idle: there is always room for
/// one more, or a request is told that there is none. `models` are names, contexts and requests.
pub fn write_slots(models: &[(&str, usize, usize)]) -> String {
    let slots = models.iter().flat_map(|(name, context, requests)| {
        let slot = move |busy| json!({ "n_ctx": context, "is_processing": busy, "model": name });
        std::iter::repeat_n(true, *requests).chain([false]).map(slot)
    });
    let numbered = slots.enumerate().map(|(id, mut slot)| {
        slot["id"] = json!(id);
        slot
    });
    Value::Array(numbered.collect()).to_string()
}
