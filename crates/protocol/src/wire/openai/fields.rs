//! The table of request fields: one row a field, read by the reader, by the unknown-field check
//! and by the documentation. A field is honoured, means nothing at the values named, or is refused
//! with a reason; `null` is the same as not given. Absent: defaults, which are
//! [`crate::Sampling::default`]'s, and 16 for a completion's `max_tokens`.

use serde_json::{Map, Value, json};

use super::adapters;
use super::check::{self, Read};
use super::table::{self, Row, honoured, inert, neutral, refused};
use super::values::truncation;
use super::values::{bias, keep_alive, model, more, order, seed, set, short, stop, tokens, top};
use super::{Format, Options, constraint, messages, tools};
use crate::{Adapter, Beams, Chat, Effort, Grammar, Input, KeepAlive, Sampling, Truncation};

type Field = table::Field<Draft, Format>;

/// A request while its fields are being read.
#[derive(Default)]
pub(in crate::wire) struct Draft {
    pub(in crate::wire) model: String,
    pub(in crate::wire) chat: Chat,
    pub(super) prompts: Vec<Input>,
    pub(in crate::wire) sampling: Sampling,
    pub(in crate::wire) options: Options,
    pub(super) stop: Vec<String>,
    pub(in crate::wire) max_tokens: Option<u32>,
    pub(super) max_completion_tokens: Option<u32>,
    pub(super) logprobs: Option<u8>,
    pub(in crate::wire) top_logprobs: Option<u8>,
    pub(super) prompt_logprobs: Option<u8>,
    pub(super) token_ids: bool,
    pub(super) truncation: Option<Truncation>,
    pub(super) suffix: Option<String>,
    pub(super) beam_search: bool,
    pub(super) beams: Option<Beams>,
    pub(super) length_penalty: Option<f32>,
    pub(super) early_stopping: bool,
    pub(super) priority: i32,
    pub(super) timeout_ms: Option<u32>,
    pub(super) cache_salt: String,
    pub(super) keep_alive: Option<KeepAlive>,
    pub(super) adapters: Option<Vec<Adapter>>,
    pub(in crate::wire) grammar: Option<Grammar>,
    pub(super) stream_options: bool,
}

/// Every field that `format` knows.
pub fn fields(format: Format) -> impl Iterator<Item = Row> {
    table::rows(FIELDS, format)
}

/// Reads every field of `body` into a draft; the first one at fault fails it.
pub(super) fn read_fields(format: Format, body: &Map<String, Value>) -> Read<Draft> {
    let mut draft = Draft::default();
    table::read_fields(FIELDS, format, "", body, &mut draft)?;
    Ok(draft)
}

/// The chat's rows of these names: what other formats share with it.
pub(in crate::wire) fn shared(names: &'static [&'static str]) -> impl Iterator<Item = Row> {
    fields(Format::Chat).filter(|row| names.contains(&row.name))
}

/// Reads fields that a format shares with the chat.
pub(in crate::wire) fn read_shared(body: &Map<String, Value>, draft: &mut Draft) -> Read<()> {
    table::read_fields(FIELDS, Format::Chat, "", body, draft)
}

const BOTH: &[Format] = &[Format::Chat, Format::Completions];
const CHAT: &[Format] = &[Format::Chat];
const COMPLETIONS: &[Format] = &[Format::Completions];

const TOOLS: &str = "an old name; give 'tools' and 'tool_choice'";
const MEDIA: &str = "this server reads and writes text alone";
const HOSTED: &str = "a feature of OpenAI's hosted service";
const SAMPLER: &str = "no code of the caller's is run; the samplers' own numbers are fields";
const TEMPLATE: &str = "the model's own chat template is used; chat_template_kwargs sets its \
                        variables";
const SHAPE: &str = "the answer has one shape";
const UNBUILT: &str = "adaptive-p is not built";
const ZERO: &[&str] = &["0"];
const FALSE: &[&str] = &["false"];
const TRUE: &[&str] = &["true"];
const ONE: &[&str] = &["1"];
const EMPTY: &[&str] = &["[]"];

#[rustfmt::skip]
static FIELDS: &[Field] = &[
    // What to continue.
    honoured(BOTH, "model", |d, at, v| { d.model = model(at, v)?; Ok(()) }),
    honoured(CHAT, "messages", |d, at, v| { d.chat.messages = messages::read(at, v)?; Ok(()) }),
    honoured(COMPLETIONS, "prompt", |d, at, v| { d.prompts = prompts(at, v)?; Ok(()) }),
    honoured(COMPLETIONS, "suffix", |d, at, v| {
        d.suffix = Some(check::string(at, v)?.to_owned());
        Ok(())
    }),
    honoured(COMPLETIONS, "echo", |d, at, v| { d.options.echo = check::boolean(at, v)?; Ok(()) }),
    honoured(BOTH, "truncate_prompt_tokens", |d, at, v| {
        d.truncation = Some(truncation(at, v)?);
        Ok(())
    }),
    honoured(CHAT, "chat_template_kwargs", |d, at, v| {
        check::object(at, v)?;
        d.chat.template_kwargs = v.to_string();
        Ok(())
    }),
    honoured(CHAT, "continue_final_message", |d, at, v| {
        d.chat.continue_final = check::boolean(at, v)?;
        Ok(())
    }),
    // Tools and reasoning.
    honoured(CHAT, "tools", |d, at, v| { d.chat.tools = tools::read(at, v)?; Ok(()) }),
    honoured(CHAT, "tool_choice", |d, at, v| {
        d.chat.tool_choice = tools::read_choice(at, v)?;
        Ok(())
    }),
    honoured(CHAT, "parallel_tool_calls", |d, at, v| {
        d.chat.one_call = !check::boolean(at, v)?;
        Ok(())
    }),
    honoured(CHAT, "reasoning_effort", reasoning_effort),
    honoured(CHAT, "thinking_token_budget", |d, at, v| {
        d.chat.reasoning.budget_tokens = Some(check::count(at, v, 0, u32::MAX)?);
        Ok(())
    }),
    honoured(CHAT, "include_reasoning", |d, at, v| {
        d.options.hide_reasoning = !check::boolean(at, v)?;
        Ok(())
    }),
    // What the answer has to match.
    honoured(BOTH, "response_format", |d, at, v| {
        constrain(d, at, constraint::response_format(at, v)?)
    }),
    honoured(BOTH, "structured_outputs", |d, at, v| {
        constrain(d, at, constraint::structured_outputs(at, v)?)
    }),
    honoured(BOTH, "guided_json", |d, at, v| {
        constrain(d, at, Some(constraint::json_schema(at, v)?))
    }),
    honoured(BOTH, "guided_regex", |d, at, v| {
        constrain(d, at, Some(constraint::regex(at, v)?))
    }),
    honoured(BOTH, "guided_choice", |d, at, v| {
        constrain(d, at, Some(constraint::choice(at, v)?))
    }),
    honoured(BOTH, "guided_grammar", |d, at, v| {
        constrain(d, at, Some(constraint::grammar(at, v)?))
    }),
    honoured(BOTH, "grammar", |d, at, v| {
        constrain(d, at, Some(constraint::grammar(at, v)?))
    }),
    honoured(BOTH, "json_schema", |d, at, v| {
        constrain(d, at, Some(constraint::json_schema(at, v)?))
    }),
    // How the next token is chosen.
    honoured(BOTH, "temperature", |d, at, v| set(&mut d.sampling.temperature, at, v, 0.0, 2.0)),
    honoured(BOTH, "top_p", |d, at, v| set(&mut d.sampling.top_p, at, v, 0.0, 1.0)),
    honoured(BOTH, "top_k", |d, at, v| {
        // -1 is how vLLM's clients say "all".
        let k = check::whole(at, v, -1, i64::from(u32::MAX))?;
        d.sampling.top_k = u32::try_from(k).unwrap_or(0);
        Ok(())
    }),
    honoured(BOTH, "min_p", |d, at, v| set(&mut d.sampling.min_p, at, v, 0.0, 1.0)),
    honoured(BOTH, "typical_p", |d, at, v| set(&mut d.sampling.typical_p, at, v, 0.0, 1.0)),
    honoured(BOTH, "repetition_penalty", |d, at, v| {
        set(&mut d.sampling.repetition_penalty, at, v, 0.01, 100.0)
    }),
    honoured(BOTH, "frequency_penalty", |d, at, v| {
        set(&mut d.sampling.frequency_penalty, at, v, -2.0, 2.0)
    }),
    honoured(BOTH, "presence_penalty", |d, at, v| {
        set(&mut d.sampling.presence_penalty, at, v, -2.0, 2.0)
    }),
    honoured(BOTH, "logit_bias", |d, at, v| { d.sampling.logit_bias = bias(at, v)?; Ok(()) }),
    honoured(BOTH, "top_n_sigma", |d, at, v| more(&mut d.sampling, at, v)),
    honoured(BOTH, "dynatemp_range", |d, at, v| more(&mut d.sampling, at, v)),
    honoured(BOTH, "dynatemp_exponent", |d, at, v| more(&mut d.sampling, at, v)),
    honoured(BOTH, "xtc_probability", |d, at, v| more(&mut d.sampling, at, v)),
    honoured(BOTH, "xtc_threshold", |d, at, v| more(&mut d.sampling, at, v)),
    honoured(BOTH, "mirostat", |d, at, v| more(&mut d.sampling, at, v)),
    honoured(BOTH, "mirostat_tau", |d, at, v| more(&mut d.sampling, at, v)),
    honoured(BOTH, "mirostat_eta", |d, at, v| more(&mut d.sampling, at, v)),
    honoured(BOTH, "dry_multiplier", |d, at, v| more(&mut d.sampling, at, v)),
    honoured(BOTH, "dry_base", |d, at, v| more(&mut d.sampling, at, v)),
    honoured(BOTH, "dry_allowed_length", |d, at, v| more(&mut d.sampling, at, v)),
    honoured(BOTH, "dry_penalty_last_n", |d, at, v| more(&mut d.sampling, at, v)),
    honoured(BOTH, "dry_sequence_breakers", |d, at, v| more(&mut d.sampling, at, v)),
    honoured(BOTH, "allowed_token_ids", |d, at, v| more(&mut d.sampling, at, v)),
    honoured(BOTH, "bad_words", |d, at, v| more(&mut d.sampling, at, v)),
    honoured(BOTH, "stop_token_ids", |d, at, v| more(&mut d.sampling, at, v)),
    honoured(BOTH, "min_tokens", |d, at, v| more(&mut d.sampling, at, v)),
    honoured(BOTH, "samplers", |d, at, v| { d.sampling.order = order(at, v)?; Ok(()) }),
    honoured(BOTH, "seed", |d, at, v| { d.sampling.seed = Some(seed(at, v)?); Ok(()) }),
    honoured(BOTH, "ignore_eos", |d, at, v| {
        d.sampling.ignore_eos = check::boolean(at, v)?;
        Ok(())
    }),
    // When to end.
    honoured(BOTH, "stop", |d, at, v| { d.stop = stop(at, v)?; Ok(()) }),
    honoured(BOTH, "max_tokens", |d, at, v| {
        d.max_tokens = Some(check::count(at, v, 0, u32::MAX)?);
        Ok(())
    }),
    honoured(CHAT, "max_completion_tokens", |d, at, v| {
        d.max_completion_tokens = Some(check::count(at, v, 1, u32::MAX)?);
        Ok(())
    }),
    // When it is computed.
    honoured(BOTH, "priority", |d, at, v| {
        d.priority = i32::try_from(check::whole(at, v, i32::MIN.into(), i32::MAX.into())?)
            .expect("the range was checked");
        Ok(())
    }),
    honoured(BOTH, "timeout_ms", |d, at, v| {
        d.timeout_ms = Some(check::count(at, v, 1, u32::MAX)?);
        Ok(())
    }),
    honoured(BOTH, "cache_salt", |d, at, v| { d.cache_salt = salt(at, v)?; Ok(()) }),
    honoured(BOTH, "keep_alive", |d, at, v| {
        d.keep_alive = Some(keep_alive(at, v)?);
        Ok(())
    }),
    // What the answer looks like.
    honoured(BOTH, "n", |d, at, v| { d.options.n = check::count(at, v, 1, 16)?; Ok(()) }),
    honoured(COMPLETIONS, "best_of", |d, at, v| {
        d.options.best_of = Some(check::count(at, v, 1, 16)?);
        Ok(())
    }),
    honoured(BOTH, "stream", |d, at, v| { d.options.stream = check::boolean(at, v)?; Ok(()) }),
    honoured(BOTH, "stream_options", stream_options),
    honoured(CHAT, "logprobs", |d, at, v| {
        d.logprobs = check::boolean(at, v)?.then_some(0);
        Ok(())
    }),
    honoured(CHAT, "top_logprobs", |d, at, v| { d.top_logprobs = Some(top(at, v)?); Ok(()) }),
    honoured(COMPLETIONS, "logprobs", |d, at, v| { d.logprobs = Some(top(at, v)?); Ok(()) }),
    // As many are searched for as 'best_of' says, or 'n'.
    honoured(BOTH, "use_beam_search", |d, at, v| { d.beam_search = check::boolean(at, v)?; Ok(()) }),
    honoured(BOTH, "length_penalty", |d, at, v| {
        d.length_penalty = Some(check::number(at, v, -10.0, 10.0)?);
        Ok(())
    }),
    honoured(BOTH, "early_stopping", |d, at, v| {
        // Transformers' third value: not before nothing better can come, which is so here anyway.
        d.early_stopping = *v != json!("never") && check::boolean(at, v)?;
        Ok(())
    }),
    honoured(BOTH, "prompt_logprobs", |d, at, v| {
        d.prompt_logprobs = Some(top(at, v)?);
        d.options.prompt_scores = true;
        Ok(())
    }),
    honoured(BOTH, "return_token_ids", |d, at, v| { d.token_ids = check::boolean(at, v)?; Ok(()) }),
    honoured(BOTH, "return_tokens_as_token_ids", |d, at, v| {
        d.options.tokens_as_ids = check::boolean(at, v)?;
        Ok(())
    }),
    // About the caller.
    inert(BOTH, "user"),
    inert(CHAT, "metadata"),
    inert(CHAT, "safety_identifier"),
    inert(CHAT, "prompt_cache_key"),
    inert(BOTH, "request_id"),
    // OpenAI's, at their neutral values.
    neutral(CHAT, "store", FALSE, "answers are not kept"),
    neutral(CHAT, "service_tier", &["\"auto\"", "\"default\""], HOSTED),
    neutral(CHAT, "modalities", &["[\"text\"]"], MEDIA),
    neutral(CHAT, "verbosity", &["\"medium\""], "no model here knows it; say it in a message"),
    neutral(CHAT, "functions", EMPTY, TOOLS),
    neutral(CHAT, "function_call", &["\"none\""], TOOLS),
    neutral(CHAT, "prompt_cache_retention", &["\"in_memory\""], HOSTED),
    refused(CHAT, "audio", MEDIA),
    refused(CHAT, "prediction", "predicted outputs are not built"),
    refused(CHAT, "web_search_options", "nothing is looked up on the web"),
    // vLLM's.
    neutral(BOTH, "include_stop_str_in_output", FALSE, "stop texts are never returned"),
    neutral(BOTH, "skip_special_tokens", TRUE, "control tokens are not written as text"),
    neutral(BOTH, "spaces_between_special_tokens", &["true", "false"], SHAPE),
    neutral(CHAT, "echo", FALSE, "a conversation is not returned"),
    neutral(CHAT, "add_generation_prompt", &["true", "false"], "'continue_final_message' says it"),
    neutral(CHAT, "add_special_tokens", FALSE, TEMPLATE),
    neutral(COMPLETIONS, "add_special_tokens", TRUE, "send tokens in 'prompt' to leave them out"),
    neutral(CHAT, "documents", EMPTY, TEMPLATE),
    refused(CHAT, "chat_template", TEMPLATE),
    neutral(CHAT, "best_of", ONE, "/v1/completions has it"),
    neutral(BOTH, "flat_logprobs", FALSE, SHAPE),
    neutral(BOTH, "logprob_token_ids", EMPTY, "the likeliest tokens have them: 'top_logprobs'"),
    neutral(BOTH, "return_prompt_text", FALSE, "/apply-template gives it"),
    neutral(BOTH, "return_token_offsets", FALSE, SHAPE),
    neutral(BOTH, "stream_interval", ONE, "a piece is sent when it comes"),
    neutral(BOTH, "vllm_xargs", &["{}"], "there are no plugins to give them to"),
    neutral(CHAT, "media_io_kwargs", &["{}"], MEDIA),
    neutral(CHAT, "mm_processor_kwargs", &["{}"], MEDIA),
    neutral(BOTH, "guided_decoding_backend", &["\"auto\"", "\"guidance\""], "llguidance it is"),
    inert(BOTH, "session_id"),
    refused(BOTH, "guided_whitespace_pattern", "a schema's white space is as JSON has it"),
    refused(BOTH, "repetition_detection", "the penalties and 'dry_multiplier' are against it"),
    refused(BOTH, "watermarking", "answers bear no marks"),
    refused(BOTH, "kv_transfer_params", "keys and values stay in this process"),
    refused(COMPLETIONS, "prompt_embeds", "prompts are texts or tokens"),
    neutral(BOTH, "truncation_side", &["\"left\""], "the end of a prompt is what is kept"),
    refused(BOTH, "logits_processors", SAMPLER),
    // llama.cpp's.
    neutral(BOTH, "cache_prompt", TRUE, "prompts always share their prefixes' cache"),
    neutral(BOTH, "timings_per_token", FALSE, "the receipt holds the timings"),
    neutral(BOTH, "id_slot", &["-1"], "there are no slots to choose"),
    refused(BOTH, "n_predict", "its name here is 'max_tokens'"),
    refused(BOTH, "repeat_penalty", "its name here is 'repetition_penalty'"),
    refused(BOTH, "n_probs", "its name here is 'logprobs'"),
    refused(BOTH, "return_tokens", "its name here is 'return_token_ids'"),
    refused(BOTH, "response_fields", SHAPE),
    // Nothing of a prompt is left out but what 'truncate_prompt_tokens' says.
    inert(BOTH, "n_keep"),
    inert(BOTH, "n_discard"),
    inert(BOTH, "sse_ping_interval"),
    neutral(BOTH, "n_cmpl", ONE, "its name here is 'n'"),
    neutral(BOTH, "n_indent", ZERO, "a line's indent is the model's own"),
    neutral(BOTH, "n_cache_reuse", ZERO, "only prompts that begin alike share their cache"),
    neutral(BOTH, "min_keep", ZERO, "each sampler keeps one token at least"),
    neutral(BOTH, "repeat_last_n", &["-1"], "a penalty counts all tokens"),
    neutral(BOTH, "t_max_predict_ms", &["0", "-1"], "its name here is 'timeout_ms'"),
    neutral(BOTH, "adaptive_target", &["-1"], UNBUILT),
    neutral(BOTH, "adaptive_decay", &["0.9"], UNBUILT),
    neutral(BOTH, "post_sampling_probs", FALSE, "probabilities are the model's own"),
    neutral(BOTH, "return_progress", FALSE, SHAPE),
    honoured(BOTH, "lora", |d, at, v| { d.adapters = Some(adapters::wanted(at, v)?); Ok(()) }),
    neutral(CHAT, "parse_tool_calls", TRUE, "calls are never passed on as text"),
    neutral(CHAT, "reasoning_format", &["\"auto\"", "\"deepseek\""], "'reasoning_content' has it"),
    neutral(CHAT, "reasoning_control", FALSE, "'thinking_token_budget' ends thoughts"),
];

fn salt(at: &str, value: &Value) -> Read<String> {
    match check::string(at, value)? {
        "" => check::bad(at, "is empty; leave it out to share with all who do"),
        text => short(at, text),
    }
}

fn prompts(at: &str, value: &Value) -> Read<Vec<Input>> {
    let items = match value {
        Value::String(text) => return Ok(vec![Input::Text(text.clone())]),
        Value::Array(items) if items.first().is_some_and(Value::is_number) => {
            return Ok(vec![Input::Tokens(tokens(at, value)?)]);
        }
        other => check::array(at, other, 64)?,
    };
    if items.is_empty() {
        return check::bad(at, "is empty");
    }
    let read = |(i, item): (usize, &Value)| match item {
        Value::String(text) => Ok(Input::Text(text.clone())),
        other => Ok(Input::Tokens(tokens(&format!("{at}[{i}]"), other)?)),
    };
    items.iter().enumerate().map(read).collect()
}

pub(in crate::wire) fn constrain(
    draft: &mut Draft,
    at: &str,
    grammar: Option<Grammar>,
) -> Read<()> {
    grammar.map_or(Ok(()), |grammar| constraint::one(at, &mut draft.grammar, grammar))
}

/// `none` switches reasoning off; any other effort leaves it to the template whether there is any.
pub(in crate::wire) fn reasoning_effort(draft: &mut Draft, at: &str, value: &Value) -> Read<()> {
    let reasoning = &mut draft.chat.reasoning;
    match check::string(at, value)? {
        "none" => reasoning.on = Some(false),
        name => match Effort::named(name) {
            Some(effort) => reasoning.effort = Some(effort),
            None => {
                let known = Effort::ALL.map(Effort::name).join(", ");
                return check::bad(at, format!("must be one of none, {known}"));
            }
        },
    }
    Ok(())
}

fn stream_options(draft: &mut Draft, at: &str, value: &Value) -> Read<()> {
    const KNOWN: [&str; 3] = ["include_usage", "include_obfuscation", "continuous_usage_stats"];
    let map = check::object(at, value)?;
    check::only(at, map, KNOWN.into_iter())?;
    for (name, value) in map.iter().filter(|pair| !pair.1.is_null()) {
        let at = format!("{at}.{name}");
        match (name.as_str(), check::boolean(&at, value)?) {
            ("include_usage", wanted) => draft.options.include_usage = wanted,
            (_, false) => {}
            (_, true) => return check::bad(&at, "is supported only as false"),
        }
    }
    draft.stream_options = true;
    Ok(())
}
