//! The tables of request fields and of their `options`, and what no row can check alone.

use serde_json::{Value, json};

use super::lists::untagged;
use super::{Asked, Format, messages};
use crate::wire::check::{self, Read};
use crate::wire::table::{self, Row, honoured, inert, neutral};
use crate::wire::values::{
    keep_alive, model, more, penalty_window, read_object, seed, set, stop, top,
};
use crate::wire::{constraint, tools};
use crate::{
    Chat, Effort, Fault, Gap, Grammar, Input, KeepAlive, Message, Picture, Request, Sampling,
};

type Field = table::Field<Draft, Format>;

/// Ollama's defaults, where a model file gives none of its own.
const TEMPERATURE: f32 = 0.8;
const TOP_K: u32 = 40;
const TOP_P: f32 = 0.9;

/// A request while its fields are being read.
#[derive(Default)]
struct Draft {
    model: String,
    chat: Chat,
    prompt: String,
    system: String,
    suffix: String,
    images: Vec<Picture>,
    raw: bool,
    sampling: Sampling,
    stop: Vec<String>,
    num_predict: Option<u32>,
    num_ctx: Option<u32>,
    repeat_last_n: Option<i64>,
    stream: Option<bool>,
    keep_alive: Option<KeepAlive>,
    grammar: Option<Grammar>,
    logprobs: bool,
    top_logprobs: Option<u8>,
}

/// Every field that `format` knows.
pub fn fields(format: Format) -> impl Iterator<Item = Row> {
    table::rows(FIELDS, format)
}

/// Every entry of the field `options`.
pub fn options() -> impl Iterator<Item = Row> {
    table::rows(OPTIONS, Format::Chat)
}

/// Reads a request's body. A fault names the field and what is allowed.
pub fn read_request(format: Format, body: &[u8]) -> Result<Asked, Fault> {
    let body = read_object(body)?;
    let sampling =
        Sampling { temperature: TEMPERATURE, top_k: TOP_K, top_p: TOP_P, ..Sampling::default() };
    let mut draft = Draft { sampling, ..Draft::default() };
    table::read_fields(FIELDS, format, "", &body, &mut draft)?;
    fits(&mut draft)?;
    let idle = match format {
        Format::Chat => draft.chat.messages.is_empty(),
        Format::Generate => draft.prompt.is_empty() && draft.suffix.is_empty(),
    };
    let input = match format {
        Format::Generate if !draft.suffix.is_empty() => {
            let (prefix, suffix) = (draft.prompt, draft.suffix);
            Input::Gap(Gap { prefix, suffix, begun: String::new() })
        }
        Format::Generate if draft.raw => Input::Text(draft.prompt),
        Format::Generate => {
            let turn = |role: &str, content: String| Message {
                role: role.to_owned(),
                content,
                ..Message::default()
            };
            let system = Some(draft.system).filter(|text| !text.is_empty());
            let system = system.map(|text| turn("system", text));
            let prompt = Message { pictures: draft.images, ..turn("user", draft.prompt) };
            draft.chat.messages = system.into_iter().chain([prompt]).collect();
            Input::Chat(draft.chat)
        }
        Format::Chat => Input::Chat(draft.chat),
    };
    let request = Request {
        model: draft.model,
        input,
        sampling: draft.sampling,
        stop: draft.stop,
        max_tokens: draft.num_predict,
        logprobs: draft.logprobs.then(|| draft.top_logprobs.unwrap_or(0)),
        grammar: draft.grammar,
        keep_alive: draft.keep_alive,
        ..Request::default()
    };
    let stream = draft.stream.unwrap_or(true);
    Ok(Asked { format, request, stream, num_ctx: draft.num_ctx, idle })
}

/// What no row can check alone.
fn fits(draft: &mut Draft) -> Read<()> {
    if draft.model.is_empty() {
        return check::bad("model", "is missing");
    }
    if draft.raw && !draft.system.is_empty() {
        return check::bad("system", "is no part of a raw prompt; write it into the prompt");
    }
    if !draft.suffix.is_empty() && !draft.system.is_empty() {
        return check::bad("system", "is no part of what stands around a gap; leave it out");
    }
    if !draft.images.is_empty() && (draft.raw || !draft.suffix.is_empty()) {
        return check::bad("images", "belong to a conversation: leave out 'raw' and 'suffix'");
    }
    if draft.top_logprobs.is_some() && !draft.logprobs {
        return check::bad("top_logprobs", "needs 'logprobs' to be true");
    }
    penalty_window("options.repeat_last_n", draft.repeat_last_n, &mut draft.sampling)?;
    if draft.grammar.is_some() && !draft.chat.offered().is_empty() {
        let why = "cannot be had with 'format', which is about the whole answer";
        return check::bad("tools", why);
    }
    draft.chat.validate()
}

const BOTH: &[Format] = &[Format::Chat, Format::Generate];
const CHAT: &[Format] = &[Format::Chat];
const GENERATE: &[Format] = &[Format::Generate];
const FALSE: &[&str] = &["false"];
const WHOLE: &str = "a prompt is never cut; shorten it before sending";
const SAMPLER: &str = "tail-free sampling is not built; min_p and typical_p are";

#[rustfmt::skip]
static FIELDS: &[Field] = &[
    honoured(BOTH, "model", |d, at, v| { d.model = untagged(model(at, v)?); Ok(()) }),
    honoured(CHAT, "messages", |d, at, v| { d.chat.messages = messages::read(at, v)?; Ok(()) }),
    honoured(GENERATE, "prompt", |d, at, v| { d.prompt = check::string(at, v)?.to_owned(); Ok(()) }),
    honoured(GENERATE, "system", |d, at, v| { d.system = check::string(at, v)?.to_owned(); Ok(()) }),
    honoured(GENERATE, "suffix", |d, at, v| { d.suffix = check::string(at, v)?.to_owned(); Ok(()) }),
    honoured(GENERATE, "raw", |d, at, v| { d.raw = check::boolean(at, v)?; Ok(()) }),
    honoured(GENERATE, "images", |d, at, v| { d.images = messages::read_images(at, v)?; Ok(()) }),
    honoured(CHAT, "tools", |d, at, v| { d.chat.tools = tools::read(at, v)?; Ok(()) }),
    // OpenAI's: Ollama's clients leave the choice to the model.
    honoured(CHAT, "tool_choice", |d, at, v| { d.chat.tool_choice = tools::read_choice(at, v)?; Ok(()) }),
    honoured(BOTH, "think", think),
    honoured(BOTH, "format", |d, at, v| { d.grammar = format(at, v)?; Ok(()) }),
    honoured(BOTH, "options", |d, at, v| {
        table::read_fields(OPTIONS, Format::Chat, at, check::object(at, v)?, d)
    }),
    honoured(BOTH, "stream", |d, at, v| { d.stream = Some(check::boolean(at, v)?); Ok(()) }),
    honoured(BOTH, "keep_alive", |d, at, v| { d.keep_alive = Some(keep_alive(at, v)?); Ok(()) }),
    honoured(BOTH, "logprobs", |d, at, v| { d.logprobs = check::boolean(at, v)?; Ok(()) }),
    honoured(BOTH, "top_logprobs", |d, at, v| { d.top_logprobs = Some(top(at, v)?); Ok(()) }),
    neutral(GENERATE, "context", &["[]"], "send the conversation to /api/chat"),
    neutral(GENERATE, "template", &["\"\""], "the model's own chat template is used; raw leaves it out"),
    neutral(BOTH, "truncate", FALSE, WHOLE),
    neutral(BOTH, "shift", FALSE, WHOLE),
];

#[rustfmt::skip]
static OPTIONS: &[Field] = &[
    honoured(CHAT, "temperature", |d, at, v| set(&mut d.sampling.temperature, at, v, 0.0, 5.0)),
    honoured(CHAT, "top_p", |d, at, v| set(&mut d.sampling.top_p, at, v, 0.0, 1.0)),
    honoured(CHAT, "top_k", |d, at, v| {
        d.sampling.top_k = u32::try_from(check::whole(at, v, -1, u32::MAX.into())?).unwrap_or(0);
        Ok(())
    }),
    honoured(CHAT, "min_p", |d, at, v| set(&mut d.sampling.min_p, at, v, 0.0, 1.0)),
    honoured(CHAT, "typical_p", |d, at, v| set(&mut d.sampling.typical_p, at, v, 0.0, 1.0)),
    honoured(CHAT, "repeat_penalty", |d, at, v| set(&mut d.sampling.repetition_penalty, at, v, 0.01, 100.0)),
    honoured(CHAT, "presence_penalty", |d, at, v| set(&mut d.sampling.presence_penalty, at, v, -2.0, 2.0)),
    honoured(CHAT, "frequency_penalty", |d, at, v| set(&mut d.sampling.frequency_penalty, at, v, -2.0, 2.0)),
    honoured(CHAT, "repeat_last_n", |d, at, v| {
        d.repeat_last_n = Some(check::whole(at, v, -1, i32::MAX.into())?);
        Ok(())
    }),
    honoured(CHAT, "seed", |d, at, v| {
        // -1 draws afresh.
        d.sampling.seed = if *v == json!(-1) { None } else { Some(seed(at, v)?) };
        Ok(())
    }),
    honoured(CHAT, "stop", |d, at, v| { d.stop = stop(at, v)?; Ok(()) }),
    honoured(CHAT, "num_predict", |d, at, v| {
        // -1 and -2: as many as the context holds.
        let most = check::whole(at, v, -2, u32::MAX.into())?;
        d.num_predict = u32::try_from(most).ok();
        if d.num_predict == Some(0) { check::bad(at, "must be at least 1, or -1") } else { Ok(()) }
    }),
    honoured(CHAT, "num_ctx", |d, at, v| {
        d.num_ctx = Some(check::count(at, v, 1, u32::MAX)?);
        Ok(())
    }),
    // How it is computed, which is the server's to say and changes no answer.
    inert(CHAT, "num_keep"),
    inert(CHAT, "num_batch"),
    inert(CHAT, "num_gpu"),
    inert(CHAT, "main_gpu"),
    inert(CHAT, "num_thread"),
    inert(CHAT, "use_mmap"),
    inert(CHAT, "use_mlock"),
    inert(CHAT, "low_vram"),
    inert(CHAT, "numa"),
    inert(CHAT, "f16_kv"),
    honoured(CHAT, "mirostat", |d, at, v| more(&mut d.sampling, at, v)),
    honoured(CHAT, "mirostat_tau", |d, at, v| more(&mut d.sampling, at, v)),
    honoured(CHAT, "mirostat_eta", |d, at, v| more(&mut d.sampling, at, v)),
    neutral(CHAT, "tfs_z", &["1"], SAMPLER),
    neutral(CHAT, "penalize_newline", &["true"], "a penalty counts all tokens"),
];

/// Whether to think, or how hard.
fn think(draft: &mut Draft, at: &str, value: &Value) -> Read<()> {
    let reasoning = &mut draft.chat.reasoning;
    if let Value::Bool(on) = value {
        reasoning.on = Some(*on);
        return Ok(());
    }
    let effort = value.as_str().and_then(Effort::named);
    if effort.is_none() {
        let known = Effort::ALL.map(Effort::name).join(", ");
        return check::bad(at, format!("must be a boolean or one of {known}"));
    }
    (reasoning.on, reasoning.effort) = (Some(true), effort);
    Ok(())
}

/// `"json"` for any object, or a schema.
fn format(at: &str, value: &Value) -> Read<Option<Grammar>> {
    match value {
        Value::String(text) if text.is_empty() => Ok(None),
        Value::String(text) if text == "json" => Ok(Some(constraint::object())),
        Value::Object(_) => constraint::json_schema(at, value).map(Some),
        _ => check::bad(at, "must be \"json\" or a JSON schema"),
    }
}
