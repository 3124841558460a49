//! All texts of a request, each with the name of its place and what may be done with it. Absent:
//! what is done.

use std::sync::Arc;

use ingle_protocol::{
    Adapter, Chat, Dry, Gap, Grammar, Input, Message, Origin, Request, Sampling, Tool, ToolCall,
    ToolChoice, Which,
};

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

/// Visits all texts of a request that may leave with it, its own bytes last. What a request is made
/// of is named whole, here and below, so that no new text of it is forgotten.
pub(super) fn each(request: &mut Request, visit: Visit<'_>) -> Result<(), Unsure> {
    let Request {
        model,
        input,
        sampling,
        stop,
        max_tokens: _,
        logprobs: _,
        prompt_logprobs: _,
        token_ids: _,
        truncation: _,
        beams: _,
        grammar,
        cache_salt,
        adapters,
        priority: _,
        timeout_ms: _,
        keep_alive: _,
        owner: _,
        // No writer of requests has it.
        home: _,
        origin,
    } = request;
    match input {
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
    sampled(sampling, visit)?;
    list("stop", stop, visit)?;
    if let Some(grammar) = grammar {
        answer(grammar, visit)?;
    }
    visit(&|| "model".into(), Sort::Fixed, model)?;
    visit(&|| "cache_salt".into(), Sort::Fixed, cache_salt)?;
    for Adapter { which, scale: _ } in adapters.iter_mut().flatten() {
        match which {
            Which::Name(name) => visit(&|| "lora".into(), Sort::Fixed, name)?,
            Which::Number(_) => {}
        }
    }
    let body = origin.as_ref().and_then(|origin| origin.verbatim.as_ref());
    if let Some(mut body) = body.map(|verbatim| verbatim.body.clone()) {
        visit(&|| "the request's body".into(), Sort::Body, &mut body)?;
        exchange(origin, body);
    }
    Ok(())
}

/// Texts that stand in a list.
fn list(name: &str, texts: &mut [String], visit: Visit<'_>) -> Result<(), Unsure> {
    for (at, text) in texts.iter_mut().enumerate() {
        visit(&|| format!("{name}[{at}]"), Sort::Words, text)?;
    }
    Ok(())
}

/// How tokens are chosen has texts, too.
fn sampled(sampling: &mut Sampling, visit: Visit<'_>) -> Result<(), Unsure> {
    let Sampling {
        temperature: _,
        top_k: _,
        top_p: _,
        min_p: _,
        typical_p: _,
        repetition_penalty: _,
        frequency_penalty: _,
        presence_penalty: _,
        logit_bias: _,
        text_bias,
        order: _,
        top_n_sigma: _,
        dynamic_temperature: _,
        xtc: _,
        mirostat: _,
        dry: Dry { multiplier: _, base: _, allowed_length: _, last_n: _, breakers },
        allowed_tokens: _,
        bad_words,
        stop_tokens: _,
        min_tokens: _,
        seed: _,
        ignore_eos: _,
    } = sampling;
    for (at, (text, _)) in text_bias.iter_mut().enumerate() {
        visit(&|| format!("logit_bias[{at}]"), Sort::Words, text)?;
    }
    list("bad_words", bad_words, visit)?;
    list("dry_sequence_breakers", breakers, visit)
}

fn answer(grammar: &mut Grammar, visit: Visit<'_>) -> Result<(), Unsure> {
    let place = || "the answer's format".to_owned();
    match grammar {
        Grammar::JsonSchema(schema) => visit(&place, Sort::Json, schema),
        Grammar::Choice(choices) => {
            choices.iter_mut().try_for_each(|choice| visit(&place, Sort::Words, choice))
        }
        Grammar::Regex(text) | Grammar::Lark(text) | Grammar::Gbnf(text) => {
            visit(&place, Sort::Fixed, text)
        }
    }
}

/// Puts another text in the place of the request's own bytes.
fn exchange(origin: &mut Option<Arc<Origin>>, body: String) {
    let Some(origin) = origin else { return };
    let Some(verbatim) = &origin.verbatim else { return };
    if verbatim.body != body {
        let mut changed = (**verbatim).clone();
        changed.body = body;
        Arc::make_mut(origin).verbatim = Some(Arc::new(changed));
    }
}

fn conversation(chat: &mut Chat, visit: Visit<'_>) -> Result<(), Unsure> {
    let Chat {
        messages,
        tools,
        tool_choice,
        one_call: _,
        reasoning: _,
        continue_final: _,
        template_kwargs,
    } = chat;
    for (at, turn) in messages.iter_mut().enumerate() {
        message(at, turn, visit)?;
    }
    for (at, Tool { name, description, parameters, strict: _ }) in tools.iter_mut().enumerate() {
        visit(&|| format!("tools[{at}].name"), Sort::Fixed, name)?;
        if let Some(text) = description {
            visit(&|| format!("tools[{at}].description"), Sort::Words, text)?;
        }
        if !parameters.is_empty() {
            visit(&|| format!("tools[{at}].parameters"), Sort::Json, parameters)?;
        }
    }
    if let ToolChoice::Named(name) = tool_choice {
        visit(&|| "tool_choice".into(), Sort::Fixed, name)?;
    }
    if template_kwargs.is_empty() {
        return Ok(());
    }
    visit(&|| "chat_template_kwargs".into(), Sort::Json, template_kwargs)
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
    for ToolCall { id, name, arguments } in tool_calls {
        visit(&|| format!("messages[{at}].tool_calls"), Sort::Fixed, id)?;
        visit(&|| format!("messages[{at}].tool_calls"), Sort::Fixed, name)?;
        visit(&|| format!("messages[{at}].tool_calls"), Sort::Json, arguments)?;
    }
    match tool_call_id {
        Some(id) => visit(&|| format!("messages[{at}].tool_call_id"), Sort::Fixed, id),
        None => Ok(()),
    }
}
