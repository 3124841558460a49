//! The table of request fields, and what no row can check alone.

use serde_json::{Value, json};

use super::{Asked, Format, Gap};
use crate::wire::check::{self, Read};
use crate::wire::constraint;
use crate::wire::table::{self, Row, honoured, inert, neutral, refused};
use crate::wire::values::{
    bias, keep_alive, model, more, penalty_window, read_object, seed, set, stop, tokens, top,
};
use crate::{Fault, Grammar, Input, KeepAlive, Request, Sampling};

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
    repeat_last_n: Option<i64>,
    grammar: Option<Grammar>,
    keep_alive: Option<KeepAlive>,
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
    let (input, gap) = match (format, draft.prompt) {
        (Format::Completion, Some(input)) => (input, None),
        (Format::Completion, None) => return check::bad("prompt", "is missing"),
        (Format::Infill, Some(Input::Text(begun))) => {
            (Input::default(), Some(Gap { begun, ..draft.gap }))
        }
        (Format::Infill, None) => (Input::default(), Some(draft.gap)),
        (Format::Infill, Some(_)) => return check::bad("prompt", "must be a string here"),
    };
    let request = Request {
        model: draft.model,
        input,
        sampling: draft.sampling,
        stop: draft.stop,
        max_tokens: draft.n_predict,
        logprobs: Some(draft.n_probs).filter(|count| *count > 0),
        grammar: draft.grammar,
        keep_alive: draft.keep_alive,
        ..Request::default()
    };
    Ok(Asked { request, gap, stream: draft.stream })
}

const BOTH: &[Format] = &[Format::Completion, Format::Infill];
const INFILL: &[Format] = &[Format::Infill];
const FALSE: &[&str] = &["false"];
const ZERO: &[&str] = &["0"];
const SAMPLER: &str = "samplers go in one order, and each is set by its own numbers";
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
    honoured(BOTH, "logit_bias", |d, at, v| { d.sampling.logit_bias = biases(at, v)?; Ok(()) }),
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
    neutral(BOTH, "n_indent", ZERO, SAMPLER),
    neutral(BOTH, "min_keep", ZERO, SAMPLER),
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
    neutral(BOTH, "return_tokens", FALSE, SHAPE),
    neutral(BOTH, "return_progress", FALSE, SHAPE),
    neutral(BOTH, "timings_per_token", FALSE, "the last event holds the timings"),
    neutral(BOTH, "post_sampling_probs", FALSE, "probabilities are the model's own"),
    neutral(BOTH, "lora", &["[]"], "no adapters are loaded"),
    refused(BOTH, "samplers", SAMPLER),
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

/// OpenAI's object, or llama.cpp's pairs: `[[15043, 1.0], [29991, false]]`, where `false` forbids.
fn biases(at: &str, value: &Value) -> Read<Vec<(u32, f32)>> {
    let Value::Array(pairs) = value else { return bias(at, value) };
    if pairs.len() > 1024 {
        return check::bad(at, "names more than 1024 tokens");
    }
    let read = |(i, pair): (usize, &Value)| {
        let at = format!("{at}[{i}]");
        let [token, bias] = check::array(&at, pair, 2)? else {
            return check::bad(&at, "must be a token's id and its bias");
        };
        let token = check::count(&at, token, 0, u32::MAX)?;
        match bias {
            Value::Bool(false) => Ok((token, -100.0)),
            other => Ok((token, check::number(&at, other, -100.0, 100.0)?)),
        }
    };
    pairs.iter().enumerate().map(read).collect()
}
