//! The table of request fields, and what no row can check alone.

use serde_json::{Value, json};

use super::{Asked, Format};
use crate::wire::adapters;
use crate::wire::check::{self, Read};
use crate::wire::constraint;
use crate::wire::table::{self, Row, honoured, inert, neutral, refused};
use crate::wire::values::{
    bias, keep_alive, model, more, order, ordered, penalty_window, read_object, seed, set, short,
    stop, tokens, top,
};
use crate::{Adapter, Fault, Gap, Grammar, Input, KeepAlive, Request, Sampling, Token};

type Field = table::Field<Draft, Format>;

/// llama.cpp's defaults.
const TEMPERATURE: f32 = 0.8;
const TOP_K: u32 = 40;
const TOP_P: f32 = 0.95;
const MIN_P: f32 = 0.05;

/// A request while its fields are being read.
#[derive(Default)]
struct Draft {
    model: String,
    prompt: Option<Input>,
    gap: Gap,
    sampling: Sampling,
    stop: Vec<String>,
    n_predict: Option<u32>,
    n_probs: u8,
    return_tokens: bool,
    repeat_last_n: Option<i64>,
    grammar: Option<Grammar>,
    keep_alive: Option<KeepAlive>,
    adapters: Option<Vec<Adapter>>,
    stream: bool,
}

/// Every field that `format` knows.
pub fn fields(format: Format) -> impl Iterator<Item = Row> {
    table::rows(FIELDS, format)
}

/// Reads a request's body. A fault names the field and what is allowed.
pub fn read_request(format: Format, body: &[u8]) -> Result<Asked, Fault> {
    let body = read_object(body)?;
    let sampling = Sampling {
        temperature: TEMPERATURE,
        top_k: TOP_K,
        top_p: TOP_P,
        min_p: MIN_P,
        ..Sampling::default()
    };
    let mut draft = Draft { sampling, ..Draft::default() };
    table::read_fields(FIELDS, format, "", &body, &mut draft)?;
    penalty_window("repeat_last_n", draft.repeat_last_n, &mut draft.sampling)?;
    ordered("samplers", &draft.sampling)?;
    let input = match (format, draft.prompt) {
        (Format::Completion, Some(input)) => input,
        (Format::Completion, None) => return check::bad("prompt", "is missing"),
        (Format::Infill, Some(Input::Text(begun))) => Input::Gap(Gap { begun, ..draft.gap }),
        (Format::Infill, None) => Input::Gap(draft.gap),
        (Format::Infill, Some(_)) => return check::bad("prompt", "must be a string here"),
    };
    let request = Request {
        model: draft.model,
        input,
        sampling: draft.sampling,
        stop: draft.stop,
        max_tokens: draft.n_predict,
        logprobs: Some(draft.n_probs).filter(|count| *count > 0),
        // A stream has them always, as llama.cpp's has.
        token_ids: draft.return_tokens || draft.stream,
        grammar: draft.grammar,
        keep_alive: draft.keep_alive,
        adapters: draft.adapters,
        ..Request::default()
    };
    Ok(Asked { request, stream: draft.stream })
}

const BOTH: &[Format] = &[Format::Completion, Format::Infill];
const INFILL: &[Format] = &[Format::Infill];
const FALSE: &[&str] = &["false"];
const ZERO: &[&str] = &["0"];
const SAMPLER: &str = "adaptive-p is not built";
const SHAPE: &str = "the answer has one shape";
const SLOTS: &str = "there are no slots to choose";

#[rustfmt::skip]
static FIELDS: &[Field] = &[
    honoured(BOTH, "model", |d, at, v| { d.model = model(at, v)?; Ok(()) }),
    honoured(BOTH, "prompt", |d, at, v| { d.prompt = Some(prompt(at, v)?); Ok(()) }),
    honoured(INFILL, "input_prefix", |d, at, v| { d.gap.prefix = check::string(at, v)?.to_owned(); Ok(()) }),
    honoured(INFILL, "input_suffix", |d, at, v| { d.gap.suffix = check::string(at, v)?.to_owned(); Ok(()) }),
    neutral(INFILL, "input_extra", &["[]"], "no model here was taught how other files are told"),
    honoured(BOTH, "temperature", |d, at, v| set(&mut d.sampling.temperature, at, v, 0.0, 5.0)),
    honoured(BOTH, "top_k", |d, at, v| {
        d.sampling.top_k = u32::try_from(check::whole(at, v, -1, u32::MAX.into())?).unwrap_or(0);
        Ok(())
    }),
    honoured(BOTH, "top_p", |d, at, v| set(&mut d.sampling.top_p, at, v, 0.0, 1.0)),
    honoured(BOTH, "min_p", |d, at, v| set(&mut d.sampling.min_p, at, v, 0.0, 1.0)),
    honoured(BOTH, "typical_p", |d, at, v| set(&mut d.sampling.typical_p, at, v, 0.0, 1.0)),
    honoured(BOTH, "repeat_penalty", |d, at, v| set(&mut d.sampling.repetition_penalty, at, v, 0.01, 100.0)),
    honoured(BOTH, "repeat_last_n", |d, at, v| {
        d.repeat_last_n = Some(check::whole(at, v, -1, i32::MAX.into())?);
        Ok(())
    }),
    honoured(BOTH, "presence_penalty", |d, at, v| set(&mut d.sampling.presence_penalty, at, v, -2.0, 2.0)),
    honoured(BOTH, "frequency_penalty", |d, at, v| set(&mut d.sampling.frequency_penalty, at, v, -2.0, 2.0)),
    honoured(BOTH, "seed", |d, at, v| {
        // -1 draws afresh.
        d.sampling.seed = if *v == json!(-1) { None } else { Some(seed(at, v)?) };
        Ok(())
    }),
    honoured(BOTH, "logit_bias", |d, at, v| biases(&mut d.sampling, at, v)),
    honoured(BOTH, "samplers", |d, at, v| { d.sampling.order = order(at, v)?; Ok(()) }),
    honoured(BOTH, "sampler_seq", |d, at, v| {
        check::string(at, v)?;
        d.sampling.order = order(at, v)?;
        Ok(())
    }),
    honoured(BOTH, "ignore_eos", |d, at, v| { d.sampling.ignore_eos = check::boolean(at, v)?; Ok(()) }),
    honoured(BOTH, "stop", |d, at, v| { d.stop = stop(at, v)?; Ok(()) }),
    honoured(BOTH, "n_predict", |d, at, v| {
        // -1 and -2: as many as the context holds.
        let most = check::whole(at, v, -2, u32::MAX.into())?;
        d.n_predict = u32::try_from(most).ok();
        if most == 0 { check::bad(at, "must be at least 1, or -1") } else { Ok(()) }
    }),
    honoured(BOTH, "grammar", |d, at, v| match v.as_str() {
        Some("") => Ok(()),
        _ => constraint::one(at, &mut d.grammar, constraint::grammar(at, v)?),
    }),
    honoured(BOTH, "json_schema", |d, at, v| constraint::one(at, &mut d.grammar, constraint::json_schema(at, v)?)),
    honoured(BOTH, "n_probs", |d, at, v| { d.n_probs = top(at, v)?; Ok(()) }),
    honoured(BOTH, "stream", |d, at, v| { d.stream = check::boolean(at, v)?; Ok(()) }),
    honoured(BOTH, "keep_alive", |d, at, v| { d.keep_alive = Some(keep_alive(at, v)?); Ok(()) }),
    // Nothing of a prompt is ever left out, so nothing has to be kept.
    inert(BOTH, "n_keep"),
    inert(BOTH, "n_discard"),
    neutral(BOTH, "cache_prompt", &["true"], "prompts always share their prefixes' cache"),
    neutral(BOTH, "id_slot", &["-1"], SLOTS),
    neutral(BOTH, "slot_id", &["-1"], SLOTS),
    neutral(BOTH, "n_cmpl", &["1"], "ask /v1/completions for several answers"),
    neutral(BOTH, "n_indent", ZERO, "a line's indent is the model's own"),
    neutral(BOTH, "min_keep", ZERO, "each sampler keeps one token at least"),
    neutral(BOTH, "n_cache_reuse", ZERO, "only prompts that begin alike share their cache"),
    neutral(BOTH, "adaptive_target", &["-1"], SAMPLER),
    neutral(BOTH, "adaptive_decay", &["0.9"], SAMPLER),
    inert(BOTH, "sse_ping_interval"),
    // What is guessed beforehand changes no answer.
    inert(BOTH, "speculative.n_max"),
    inert(BOTH, "speculative.n_min"),
    inert(BOTH, "speculative.p_min"),
    neutral(BOTH, "grammar_lazy", FALSE, "a grammar holds from the answer's beginning"),
    neutral(BOTH, "grammar_triggers", &["[]"], "a grammar holds from the answer's beginning"),
    neutral(BOTH, "preserved_tokens", &["[]"], "control tokens are not written as text"),
    neutral(BOTH, "image_data", &["[]"], "models here read and write text alone"),
    neutral(BOTH, "tfs_z", &["1"], "tail-free sampling is not built"),
    neutral(BOTH, "penalize_nl", &["true"], "a penalty counts all tokens"),
    honoured(BOTH, "mirostat", |d, at, v| more(&mut d.sampling, at, v)),
    honoured(BOTH, "dynatemp_range", |d, at, v| more(&mut d.sampling, at, v)),
    honoured(BOTH, "xtc_probability", |d, at, v| more(&mut d.sampling, at, v)),
    honoured(BOTH, "dry_multiplier", |d, at, v| more(&mut d.sampling, at, v)),
    honoured(BOTH, "top_n_sigma", |d, at, v| more(&mut d.sampling, at, v)),
    honoured(BOTH, "mirostat_tau", |d, at, v| more(&mut d.sampling, at, v)),
    honoured(BOTH, "mirostat_eta", |d, at, v| more(&mut d.sampling, at, v)),
    honoured(BOTH, "dynatemp_exponent", |d, at, v| more(&mut d.sampling, at, v)),
    honoured(BOTH, "xtc_threshold", |d, at, v| more(&mut d.sampling, at, v)),
    honoured(BOTH, "dry_base", |d, at, v| more(&mut d.sampling, at, v)),
    honoured(BOTH, "dry_allowed_length", |d, at, v| more(&mut d.sampling, at, v)),
    honoured(BOTH, "dry_penalty_last_n", |d, at, v| more(&mut d.sampling, at, v)),
    honoured(BOTH, "dry_sequence_breakers", |d, at, v| more(&mut d.sampling, at, v)),
    neutral(BOTH, "t_max_predict_ms", &["0", "-1"], "there is 'timeout_ms' on /v1/completions"),
    honoured(BOTH, "return_tokens", |d, at, v| { d.return_tokens = check::boolean(at, v)?; Ok(()) }),
    neutral(BOTH, "return_progress", FALSE, SHAPE),
    neutral(BOTH, "timings_per_token", FALSE, "the last event holds the timings"),
    neutral(BOTH, "post_sampling_probs", FALSE, "probabilities are the model's own"),
    honoured(BOTH, "lora", |d, at, v| { d.adapters = Some(adapters::wanted(at, v)?); Ok(()) }),
    refused(BOTH, "response_fields", SHAPE),
];

/// A text or tokens; several prompts are `/v1/completions`'.
fn prompt(at: &str, value: &Value) -> Read<Input> {
    match value {
        Value::String(text) => Ok(Input::Text(text.clone())),
        Value::Array(items) if items.iter().all(Value::is_number) && !items.is_empty() => {
            tokens(at, value).map(Input::Tokens)
        }
        _ => check::bad(at, "must be a string or an array of tokens; /v1/completions takes more"),
    }
}

/// OpenAI's object, or llama.cpp's pairs: `[[15043, 1.0], [29991, false], [" a text", -0.5]]`,
/// where `false` forbids, and a text is all of its tokens.
fn biases(sampling: &mut Sampling, at: &str, value: &Value) -> Read<()> {
    let Value::Array(pairs) = value else {
        sampling.logit_bias = bias(at, value)?;
        return Ok(());
    };
    if pairs.len() > 1024 {
        return check::bad(at, "names more than 1024 tokens");
    }
    for (i, pair) in pairs.iter().enumerate() {
        let at = format!("{at}[{i}]");
        let [named, bias] = check::array(&at, pair, 2)? else {
            return check::bad(&at, "must be a token's id or a text, and its bias");
        };
        let bias = match bias {
            Value::Bool(false) => f32::NEG_INFINITY,
            other => check::number(&at, other, -100.0, 100.0)?,
        };
        match named {
            Value::String(text) => sampling.text_bias.push((short(&at, text)?, bias)),
            token => {
                let token: Token = check::count(&at, token, 0, u32::MAX)?;
                sampling.logit_bias.push((token, bias));
            }
        }
    }
    Ok(())
}
