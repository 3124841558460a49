//! All texts of a request, each with the name of its place and what may be done with it. Absent:
//! what is done.

use std::sync::Arc;

use ingle_protocol::{Chat, Gap, Grammar, Input, Message, Request};

use super::Unsure;

/// What a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// Words, which can be exchanged.
    Words,
    /// JSON, whose strings can be.
    Json,
    /// The request as it came: JSON, with names and numbers of the protocol's own.
    Body,
    /// What has to stay as it is.
    Fixed,
}

/// A text's place, as a caller knows it.
pub(super) type Place<'a> = &'a dyn Fn() -> String;

/// Reads or exchanges one text.
pub(super) type Visit<'a> = &'a mut dyn FnMut(Place<'_>, Sort, &mut String) -> Result<(), Unsure>;

/// Visits all texts of a request that may leave with it, its own bytes last.
pub(super) fn each(request: &mut Request, visit: Visit<'_>) -> Result<(), Unsure> {
    match &mut request.input {
        Input::Chat(chat) => conversation(chat, visit)?,
        Input::Text(text) => visit(&|| "prompt".into(), Sort::Words, text)?,
        Input::Tokens(tokens) if tokens.is_empty() => {}
        Input::Tokens(_) => return Err(Unsure::Tokens),
        Input::Gap(Gap { prefix, suffix, begun }) => {
            visit(&|| "prefix".into(), Sort::Words, prefix)?;
            visit(&|| "suffix".into(), Sort::Words, suffix)?;
            visit(&|| "prompt".into(), Sort::Words, begun)?;
        }
    }
    for (at, stop) in request.stop.iter_mut().enumerate() {
        visit(&|| format!("stop[{at}]"), Sort::Words, stop)?;
    }
    if let Some(grammar) = &mut request.grammar {
        let place = || "the answer's format".to_owned();
        match grammar {
            Grammar::JsonSchema(schema) => visit(&place, Sort::Json, schema)?,
            Grammar::Choice(choices) => {
                choices.iter_mut().try_for_each(|choice| visit(&place, Sort::Words, choice))?;
            }
            Grammar::Regex(text) | Grammar::Lark(text) | Grammar::Gbnf(text) => {
                visit(&place, Sort::Fixed, text)?;
            }
        }
    }
    visit(&|| "model".into(), Sort::Fixed, &mut request.model)?;
    visit(&|| "cache_salt".into(), Sort::Fixed, &mut request.cache_salt)?;
    let body = request.origin.as_ref().and_then(|origin| origin.verbatim.as_ref());
    if let Some(mut body) = body.map(|verbatim| verbatim.body.clone()) {
        visit(&|| "the request's body".into(), Sort::Body, &mut body)?;
        exchange(request, body);
    }
    Ok(())
}

/// Puts another text in the place of the request's own bytes.
fn exchange(request: &mut Request, body: String) {
    let Some(origin) = &mut request.origin else { return };
    let Some(verbatim) = &origin.verbatim else { return };
    if verbatim.body != body {
        let mut changed = (**verbatim).clone();
        changed.body = body;
        Arc::make_mut(origin).verbatim = Some(Arc::new(changed));
    }
}

fn conversation(chat: &mut Chat, visit: Visit<'_>) -> Result<(), Unsure> {
    for (at, turn) in chat.messages.iter_mut().enumerate() {
        message(at, turn, visit)?;
    }
    for (at, tool) in chat.tools.iter_mut().enumerate() {
        visit(&|| format!("tools[{at}].name"), Sort::Fixed, &mut tool.name)?;
        if let Some(text) = &mut tool.description {
            visit(&|| format!("tools[{at}].description"), Sort::Words, text)?;
        }
        if !tool.parameters.is_empty() {
            visit(&|| format!("tools[{at}].parameters"), Sort::Json, &mut tool.parameters)?;
        }
    }
    if chat.template_kwargs.is_empty() {
        return Ok(());
    }
    visit(&|| "chat_template_kwargs".into(), Sort::Json, &mut chat.template_kwargs)
}

fn message(at: usize, message: &mut Message, visit: Visit<'_>) -> Result<(), Unsure> {
    let Message { role, content, reasoning, name, tool_calls, tool_call_id, pictures } = message;
    if !pictures.is_empty() {
        return Err(Unsure::Opaque { place: format!("messages[{at}]") });
    }
    visit(&|| format!("messages[{at}].role"), Sort::Fixed, role)?;
    visit(&|| format!("messages[{at}].content"), Sort::Words, content)?;
    if let Some(text) = reasoning {
        visit(&|| format!("messages[{at}].reasoning"), Sort::Words, text)?;
    }
    if let Some(text) = name {
        visit(&|| format!("messages[{at}].name"), Sort::Words, text)?;
    }
    for call in tool_calls {
        visit(&|| format!("messages[{at}].tool_calls"), Sort::Fixed, &mut call.id)?;
        visit(&|| format!("messages[{at}].tool_calls"), Sort::Fixed, &mut call.name)?;
        visit(&|| format!("messages[{at}].tool_calls"), Sort::Json, &mut call.arguments)?;
    }
    match tool_call_id {
        Some(id) => visit(&|| format!("messages[{at}].tool_call_id"), Sort::Fixed, id),
        None => Ok(()),
    }
}
