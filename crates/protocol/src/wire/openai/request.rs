//! Requests, read through the table of fields and written back. What the table reads alone is
//! checked here against each other: limits given twice, scores that need one another.

use serde_json::{Map, Value, json};

use super::adapters;
use super::check::{self, Read};
use super::fields::{Draft, read_fields};
use super::values::{ordered, read_object};
use super::{Asked, Format, Options, constraint, messages, tools};
use crate::{Beams, Chat, Fault, Gap, Input, KeepAlive, Request, Sampling, Truncation};

/// OpenAI's default of a completion's `max_tokens`.
const COMPLETION_TOKENS: u32 = 16;

/// Reads a request's body. A fault names the field and what is allowed.
pub fn read_request(format: Format, body: &[u8]) -> Result<Asked, Fault> {
    let body = read_object(body)?;
    let mut draft = read_fields(format, &body)?;
    lift_thinking(&mut draft.chat)?;
    draft.options.best_of = draft.options.best_of.filter(|best| *best != draft.options.n);
    let given = draft.top_logprobs.or(draft.logprobs);
    let echoed = given.filter(|_| draft.options.echo);
    fits(format, &draft, echoed)?;
    let ranked = draft.options.best_of.is_some() && !draft.beam_search;
    draft.options.hide_scores = ranked && given.is_none();
    draft.top_logprobs = given.or(draft.options.hide_scores.then_some(0));
    draft.prompt_logprobs = draft.prompt_logprobs.or(echoed);
    draft.beams = beams(&draft)?;
    let default = (format == Format::Completions).then_some(COMPLETION_TOKENS);
    draft.max_tokens = draft.max_completion_tokens.or(draft.max_tokens).or(default);
    let inputs = match format {
        Format::Chat => vec![Input::Chat(std::mem::take(&mut draft.chat))],
        Format::Completions => gaps(std::mem::take(&mut draft.prompts), draft.suffix.as_deref())?,
    };
    let requests: Vec<Request> = inputs.into_iter().map(|input| draft.request(input)).collect();
    if let (Some(beams), Some(request)) = (draft.beams, requests.first()) {
        beams.check(request)?;
    }
    Ok(Asked { requests, options: draft.options })
}

impl Draft {
    /// What all prompts of a draft have in common, for one of them.
    pub(in crate::wire) fn request(&self, input: Input) -> Request {
        Request {
            model: self.model.clone(),
            input,
            sampling: self.sampling.clone(),
            stop: self.stop.clone(),
            max_tokens: self.max_tokens,
            logprobs: self.top_logprobs.or(self.logprobs),
            prompt_logprobs: self.prompt_logprobs,
            token_ids: self.token_ids,
            truncation: self.truncation,
            beams: self.beams,
            grammar: self.grammar.clone(),
            priority: self.priority,
            timeout_ms: self.timeout_ms,
            cache_salt: self.cache_salt.clone(),
            keep_alive: self.keep_alive,
            adapters: self.adapters.clone(),
            ..Request::default()
        }
    }
}

/// The search that is asked for, if one is.
fn beams(draft: &Draft) -> Read<Option<Beams>> {
    let penalty = draft.length_penalty.unwrap_or(1.0);
    if !draft.beam_search {
        let misfits =
            [("length_penalty", penalty != 1.0), ("early_stopping", draft.early_stopping)];
        return match misfits.into_iter().find(|misfit| misfit.1) {
            Some((name, _)) => check::bad(name, "needs 'use_beam_search' to be true"),
            None => Ok(None),
        };
    }
    if draft.options.stream {
        return check::bad("use_beam_search", "cannot be streamed: it is known at the end");
    }
    Ok(Some(Beams {
        width: u8::try_from(draft.options.drawn()).expect("at most 16"),
        length_penalty: penalty,
        early_stopping: draft.early_stopping,
    }))
}

/// The one variable of templates that is more than that: whether the model reasons is asked for
/// this way by most of its servers' clients.
pub(in crate::wire) fn lift_thinking(chat: &mut Chat) -> Read<()> {
    const AT: &str = "chat_template_kwargs";
    const NAME: &str = "enable_thinking";
    if chat.template_kwargs.is_empty() {
        return Ok(());
    }
    let Value::Object(mut kwargs) = tools::parse(AT, &chat.template_kwargs)? else { return Ok(()) };
    let Some(Value::Bool(on)) = kwargs.get(NAME).cloned() else { return Ok(()) };
    if chat.reasoning.on.is_some_and(|other| other != on) {
        return check::bad(&format!("{AT}.{NAME}"), "contradicts 'reasoning_effort'");
    }
    kwargs.shift_remove(NAME);
    chat.reasoning.on = Some(on);
    chat.template_kwargs =
        if kwargs.is_empty() { String::new() } else { Value::Object(kwargs).to_string() };
    Ok(())
}

/// Prompts that are what stands before a gap, where there is something after it.
fn gaps(prompts: Vec<Input>, suffix: Option<&str>) -> Read<Vec<Input>> {
    let Some(suffix) = suffix.filter(|suffix| !suffix.is_empty()) else { return Ok(prompts) };
    let gap = |prompt| match prompt {
        Input::Text(prefix) => {
            Ok(Input::Gap(Gap { prefix, suffix: suffix.to_owned(), begun: String::new() }))
        }
        _ => check::bad("suffix", "needs the prompt to be a text"),
    };
    prompts.into_iter().map(gap).collect()
}

/// What no field's row can check alone. `echoed`: log-probabilities of the prompt, since it is
/// returned with those of its completion.
fn fits(format: Format, draft: &Draft, echoed: Option<u8>) -> Read<()> {
    match (draft.max_tokens, draft.max_completion_tokens) {
        (Some(old), Some(new)) if old != new => {
            return check::bad("max_tokens", "differs from 'max_completion_tokens'; give one");
        }
        _ => {}
    }
    if draft.top_logprobs.is_some() && draft.logprobs.is_none() {
        return check::bad("top_logprobs", "needs 'logprobs' to be true");
    }
    if draft.options.best_of.is_some_and(|best| best < draft.options.n) {
        return check::bad("best_of", "must be at least 'n'");
    }
    if draft.options.best_of.is_some() && draft.options.stream {
        return check::bad("best_of", "cannot be streamed: the best are known at the end");
    }
    if draft.prompt_logprobs.is_some_and(|top| echoed.is_some_and(|other| other != top)) {
        let why = "differs from 'logprobs', which 'echo' has for the prompt, too";
        return check::bad("prompt_logprobs", why);
    }
    let scored = draft.prompt_logprobs.or(echoed).is_some();
    if !scored && (draft.max_tokens, draft.max_completion_tokens) == (Some(0), None) {
        let why = "must be at least 1 where the prompt's log-probabilities are not asked for";
        return check::bad("max_tokens", why);
    }
    ordered("samplers", &draft.sampling)?;
    if draft.stream_options && !draft.options.stream {
        return check::bad("stream_options", "needs 'stream' to be true");
    }
    draft.chat.validate()?;
    let gap = draft.suffix.as_ref().is_some_and(|suffix| !suffix.is_empty());
    if draft.options.echo && gap {
        return check::bad("echo", "cannot be had with 'suffix': the text is around the answer");
    }
    match format {
        Format::Chat if draft.chat.messages.is_empty() => check::bad("messages", "is missing"),
        Format::Completions if draft.prompts.is_empty() => check::bad("prompt", "is missing"),
        _ => Ok(()),
    }
}

/// Writes a request's body. Fails where the format has no words for it: text for a chat, a
/// conversation or no limit on the tokens for a completion.
pub fn write_request(format: Format, asked: &Asked) -> Result<String, Fault> {
    Ok(Value::Object(write_body(format, asked)?).to_string())
}

/// The same, as an object.
pub(in crate::wire) fn write_body(format: Format, asked: &Asked) -> Read<Map<String, Value>> {
    let Some(request) = asked.requests.first() else {
        return Err(Fault::caller("there is no request to write"));
    };
    let mut body = Map::new();
    body.insert("model".into(), json!(request.model));
    match format {
        Format::Chat => write_chat(&mut body, request, &asked.options)?,
        Format::Completions => write_completion(&mut body, asked)?,
    }
    write_sampling(&mut body, &request.sampling);
    write_told(&mut body, request, &asked.options);
    if !request.stop.is_empty() {
        body.insert("stop".into(), json!(request.stop));
    }
    if request.priority != 0 {
        body.insert("priority".into(), json!(request.priority));
    }
    if let Some(most) = request.timeout_ms {
        body.insert("timeout_ms".into(), json!(most));
    }
    if !request.cache_salt.is_empty() {
        body.insert("cache_salt".into(), json!(request.cache_salt));
    }
    match request.keep_alive {
        Some(KeepAlive::Forever) => drop(body.insert("keep_alive".into(), json!(-1))),
        Some(time) => drop(body.insert("keep_alive".into(), json!(time.to_string()))),
        None => {}
    }
    if let Some(adapters) = &request.adapters {
        body.insert("lora".into(), adapters::write_wanted(adapters));
    }
    if let Some(grammar) = &request.grammar {
        constraint::write(&mut body, grammar)?;
    }
    write_options(&mut body, &asked.options);
    Ok(body)
}

fn write_chat(body: &mut Map<String, Value>, request: &Request, options: &Options) -> Read<()> {
    let Input::Chat(chat) = &request.input else {
        return Err(Fault::caller("a chat request needs a conversation").at("messages"));
    };
    body.insert("messages".into(), messages::write(&chat.messages));
    write_template(body, chat)?;
    if let Some(most) = request.max_tokens {
        body.insert("max_tokens".into(), json!(most));
    }
    if let Some(top) = request.logprobs.filter(|_| !options.hide_scores) {
        body.insert("logprobs".into(), json!(true));
        body.insert("top_logprobs".into(), json!(top));
    }
    Ok(())
}

fn write_template(body: &mut Map<String, Value>, chat: &Chat) -> Read<()> {
    if !chat.tools.is_empty() {
        body.insert("tools".into(), tools::write(&chat.tools)?);
    }
    if let Some(choice) = tools::write_choice(&chat.tool_choice) {
        body.insert("tool_choice".into(), choice);
    }
    if chat.one_call {
        body.insert("parallel_tool_calls".into(), json!(false));
    }
    if chat.continue_final {
        body.insert("continue_final_message".into(), json!(true));
    }
    if let Some(budget) = chat.reasoning.budget_tokens {
        body.insert("thinking_token_budget".into(), json!(budget));
    }
    let mut kwargs = match chat.template_kwargs.as_str() {
        "" => Map::new(),
        text => match tools::parse("chat_template_kwargs", text)? {
            Value::Object(map) => map,
            _ => return check::bad("chat_template_kwargs", "must be an object"),
        },
    };
    match (chat.reasoning.on, chat.reasoning.effort) {
        (None, None) => {}
        (None, Some(effort)) => drop(body.insert("reasoning_effort".into(), json!(effort.name()))),
        (Some(false), None) => drop(body.insert("reasoning_effort".into(), json!("none"))),
        // The format has one field for both; what is over goes where templates look.
        (Some(on), effort) => {
            kwargs.insert("enable_thinking".into(), json!(on));
            if let Some(effort) = effort {
                body.insert("reasoning_effort".into(), json!(effort.name()));
            }
        }
    }
    if !kwargs.is_empty() {
        body.insert("chat_template_kwargs".into(), Value::Object(kwargs));
    }
    Ok(())
}

fn write_completion(body: &mut Map<String, Value>, asked: &Asked) -> Read<()> {
    let Asked { requests, options } = asked;
    let prompt = |request: &Request| match &request.input {
        Input::Text(text) => Ok(json!(text)),
        Input::Tokens(tokens) => Ok(json!(tokens)),
        Input::Gap(gap) if gap.begun.is_empty() => Ok(json!(gap.prefix)),
        Input::Gap(_) => Err(Fault::caller("what fills a gap cannot be begun").at("suffix")),
        Input::Chat(_) => Err(Fault::caller("a completion needs a text or tokens").at("prompt")),
    };
    let prompts: Read<Vec<Value>> = requests.iter().map(prompt).collect();
    body.insert("prompt".into(), json!(prompts?));
    let request = &requests[0];
    if let Input::Gap(gap) = &request.input {
        body.insert("suffix".into(), json!(gap.suffix));
    }
    let Some(most) = request.max_tokens else {
        return Err(Fault::caller("a completion needs a limit").at("max_tokens"));
    };
    body.insert("max_tokens".into(), json!(most));
    if let Some(top) = request.logprobs.filter(|_| !options.hide_scores) {
        body.insert("logprobs".into(), json!(top));
    }
    Ok(())
}

/// What is to be told of the tokens.
fn write_told(body: &mut Map<String, Value>, request: &Request, options: &Options) {
    if let Some(top) = request.prompt_logprobs.filter(|_| options.prompt_scores) {
        body.insert("prompt_logprobs".into(), json!(top));
    }
    if request.token_ids {
        body.insert("return_token_ids".into(), json!(true));
    }
    if let Some(beams) = request.beams {
        body.insert("use_beam_search".into(), json!(true));
        body.insert("length_penalty".into(), short(beams.length_penalty));
        body.insert("early_stopping".into(), json!(beams.early_stopping));
    }
    match request.truncation {
        Some(Truncation::Last(most)) => {
            drop(body.insert("truncate_prompt_tokens".into(), json!(most)))
        }
        Some(Truncation::Fitting) => drop(body.insert("truncate_prompt_tokens".into(), json!(-1))),
        None => {}
    }
}

fn write_sampling(body: &mut Map<String, Value>, sampling: &Sampling) {
    let usual = Sampling::default();
    let numbers = [
        ("temperature", sampling.temperature, usual.temperature),
        ("top_p", sampling.top_p, usual.top_p),
        ("min_p", sampling.min_p, usual.min_p),
        ("typical_p", sampling.typical_p, usual.typical_p),
        ("repetition_penalty", sampling.repetition_penalty, usual.repetition_penalty),
        ("frequency_penalty", sampling.frequency_penalty, usual.frequency_penalty),
        ("presence_penalty", sampling.presence_penalty, usual.presence_penalty),
        ("top_n_sigma", sampling.top_n_sigma, usual.top_n_sigma),
        ("dynatemp_range", sampling.dynamic_temperature.range, 0.0),
        ("dynatemp_exponent", sampling.dynamic_temperature.exponent, 1.0),
        ("xtc_probability", sampling.xtc.probability, usual.xtc.probability),
        ("xtc_threshold", sampling.xtc.threshold, usual.xtc.threshold),
        ("mirostat_tau", sampling.mirostat.tau, usual.mirostat.tau),
        ("mirostat_eta", sampling.mirostat.eta, usual.mirostat.eta),
        ("dry_multiplier", sampling.dry.multiplier, usual.dry.multiplier),
        ("dry_base", sampling.dry.base, usual.dry.base),
    ];
    for (name, value, usual) in numbers {
        if value != usual {
            body.insert(name.into(), short(value));
        }
    }
    if sampling.top_k != usual.top_k {
        body.insert("top_k".into(), json!(sampling.top_k));
    }
    if !sampling.logit_bias.is_empty() {
        let pair = |(token, bias): &(u32, f32)| (token.to_string(), short(*bias));
        let map: Map<String, Value> = sampling.logit_bias.iter().map(pair).collect();
        body.insert("logit_bias".into(), Value::Object(map));
    }
    if sampling.order != usual.order {
        let names = sampling.order.iter().map(|stage| json!(stage.name()));
        body.insert("samplers".into(), names.collect());
    }
    let counts = [
        ("dry_allowed_length", sampling.dry.allowed_length, usual.dry.allowed_length),
        ("dry_penalty_last_n", sampling.dry.last_n, usual.dry.last_n),
        ("min_tokens", sampling.min_tokens, usual.min_tokens),
        ("mirostat", sampling.mirostat.version.into(), usual.mirostat.version.into()),
    ];
    let lists = [
        ("dry_sequence_breakers", json!(sampling.dry.breakers), json!(usual.dry.breakers)),
        ("allowed_token_ids", json!(sampling.allowed_tokens), json!([])),
        ("bad_words", json!(sampling.bad_words), json!([])),
        ("stop_token_ids", json!(sampling.stop_tokens), json!([])),
    ];
    let counts = counts.map(|(name, value, usual)| (name, json!(value), json!(usual)));
    for (name, value, usual) in counts.into_iter().chain(lists) {
        if value != usual {
            body.insert(name.into(), value);
        }
    }
    if let Some(seed) = sampling.seed {
        body.insert("seed".into(), json!(seed));
    }
    if sampling.ignore_eos {
        body.insert("ignore_eos".into(), json!(true));
    }
}

/// An `f32` in its own shortest digits: 0.7, not 0.699999988079071.
pub(in crate::wire) fn short(value: f32) -> Value {
    json!(value.to_string().parse::<f64>().unwrap_or(f64::from(value)))
}

fn write_options(body: &mut Map<String, Value>, options: &Options) {
    if options.n != 1 {
        body.insert("n".into(), json!(options.n));
    }
    if let Some(best) = options.best_of {
        body.insert("best_of".into(), json!(best));
    }
    let flags = [("echo", options.echo), ("return_tokens_as_token_ids", options.tokens_as_ids)];
    for (name, _) in flags.into_iter().filter(|flag| flag.1) {
        body.insert(name.into(), json!(true));
    }
    if options.hide_reasoning {
        body.insert("include_reasoning".into(), json!(false));
    }
    if options.stream {
        body.insert("stream".into(), json!(true));
    }
    if options.include_usage {
        body.insert("stream_options".into(), json!({ "include_usage": true }));
    }
}
