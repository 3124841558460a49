//! What of a request each format has words for: one table, by which what cannot be said is refused,
//! and of which the documentation shows what does not survive from one format to another. A few
//! things are left out without a word, each with the reason why that does no harm. Absent: how
//! anything is said.

use crate::wire::check::{self, Read};
use crate::wire::splice;
use crate::{Chat, Effort, Format, Grammar, Input, Message, Request, Sampling, Source, ToolChoice};

/// Whom a request is written for: a format, and of OpenAI's two whether their own servers, which
/// know fewer fields than others that speak them, are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The chat format, as vLLM, llama.cpp and others extend it.
    Chat,
    /// OpenAI's own servers.
    OpenAiChat,
    /// The responses, as Ingle extends them.
    Responses,
    /// OpenAI's own servers.
    OpenAiResponses,
    /// Anthropic's messages.
    Messages,
    /// Ollama's chat.
    Ollama,
    /// Gemini's `generateContent`.
    Gemini,
}

use Target::{Messages, Ollama, OpenAiChat, OpenAiResponses, Responses};

/// A set of targets.
type Set = &'static [Target];

const ALL: Set = &Target::ALL;
const NONE: Set = &[];
/// Those that have all fields of an engine's.
const ENGINES: Set = &[Target::Chat, Responses];
const CHAT: Set = &[Target::Chat];
const WITH_OLLAMA: Set = &[Target::Chat, Responses, Ollama];
const OPENAIS: Set = &[Target::Chat, OpenAiChat, Responses, OpenAiResponses];
const PENALTIES: Set = &[Target::Chat, OpenAiChat, Responses, Ollama, Target::Gemini];
const BUDGET: Set = &[Target::Chat, Responses, Messages, Target::Gemini];
const TOP_K: Set = &[Target::Chat, Responses, Messages, Ollama, Target::Gemini];
const STOP: Set = &[Target::Chat, OpenAiChat, Responses, Messages, Ollama, Target::Gemini];
const SCORES: Set = &[Target::Chat, OpenAiChat, Responses, OpenAiResponses, Ollama];
const ONE_CALL: Set = &[Target::Chat, OpenAiChat, Responses, OpenAiResponses, Messages];
const CHOICE: Set =
    &[Target::Chat, OpenAiChat, Responses, OpenAiResponses, Messages, Target::Gemini];

impl Target {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Chat,
        Self::OpenAiChat,
        Self::Responses,
        Self::OpenAiResponses,
        Self::Messages,
        Self::Ollama,
        Self::Gemini,
    ];

    /// Who is meant by a format, on OpenAI's own servers or elsewhere.
    pub fn of(format: Format, hosted: bool) -> Self {
        match format {
            Format::Chat if hosted => Self::OpenAiChat,
            Format::Chat => Self::Chat,
            Format::Responses if hosted => Self::OpenAiResponses,
            Format::Responses => Self::Responses,
            Format::Messages => Self::Messages,
            Format::Ollama => Self::Ollama,
            Format::Gemini => Self::Gemini,
        }
    }

    /// Its name in messages and in the documentation.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::OpenAiChat => "chat at OpenAI",
            Self::Responses => "responses",
            Self::OpenAiResponses => "responses at OpenAI",
            Self::Messages => "messages",
            Self::Ollama => "Ollama",
            Self::Gemini => "Gemini",
        }
    }
}

/// What becomes of something that a format has no words for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Otherwise {
    /// The request is refused, by this name.
    Refused,
    /// It is left out, which does no harm for this reason.
    Left(&'static str),
}

/// Something that a request may ask for.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// Its name, as OpenAI or vLLM spell it.
    pub name: &'static str,
    /// Who has words for it.
    pub said: &'static [Target],
    /// In whose words a caller can ask for it.
    pub asked: &'static [Target],
    /// What becomes of it elsewhere.
    pub otherwise: Otherwise,
    given: fn(&Request) -> bool,
}

/// What is refused where it is given and cannot be said.
const fn row(name: &'static str, said: Set, given: fn(&Request) -> bool) -> Loss {
    Loss { name, said, asked: said, otherwise: Otherwise::Refused, given }
}

/// What is left out where it cannot be said.
const fn left(name: &'static str, said: Set, why: &'static str) -> Loss {
    Loss { name, said, asked: said, otherwise: Otherwise::Left(why), given: |_| false }
}

const fn kept(name: &'static str) -> Loss {
    Loss { name, said: ALL, asked: ALL, otherwise: Otherwise::Refused, given: |_| false }
}

impl Loss {
    /// The same, which callers can ask for in these words.
    const fn asked(self, asked: Set) -> Self {
        Self { asked, ..self }
    }
}

const HERE: &str = "about computing here";
const SIGNED: &str = "there only a model's own thoughts, signed, are taken back";
const UNSAID: &str = "whether a model thinks is its own business there";
const LOOKS: &str = "a hint; there pictures are looked at one way";
const BEFORE: &str = "there pictures stand before their turn's text";
const OLD: &str = "there calls of earlier turns have no ids: names and order tell them apart";

/// All rows.
#[rustfmt::skip]
static LOSSES: &[Loss] = &[
    kept("messages"),
    kept("model"),
    kept("max_tokens"),
    kept("temperature"),
    kept("top_p"),
    row("top_k", TOP_K, |r| r.sampling.top_k != 0),
    row("stop", STOP, |r| !r.stop.is_empty()),
    row("seed", PENALTIES, |r| r.sampling.seed.is_some()),
    row("frequency_penalty", PENALTIES, |r| r.sampling.frequency_penalty != 0.0),
    row("presence_penalty", PENALTIES, |r| r.sampling.presence_penalty != 0.0),
    row("logit_bias", &[Target::Chat, OpenAiChat, Responses], |r| !r.sampling.logit_bias.is_empty()),
    row("min_p", WITH_OLLAMA, |r| r.sampling.min_p != 0.0),
    row("typical_p", WITH_OLLAMA, |r| r.sampling.typical_p != 1.0),
    row("repetition_penalty", WITH_OLLAMA, |r| r.sampling.repetition_penalty != 1.0),
    row("mirostat", WITH_OLLAMA, |r| r.sampling.mirostat != Sampling::default().mirostat),
    row("top_n_sigma", ENGINES, |r| r.sampling.top_n_sigma != 0.0),
    row("dynatemp_range", ENGINES, |r| r.sampling.dynamic_temperature != Sampling::default().dynamic_temperature),
    row("xtc_probability", ENGINES, |r| r.sampling.xtc != Sampling::default().xtc),
    row("dry_multiplier", ENGINES, |r| r.sampling.dry != Sampling::default().dry),
    row("allowed_token_ids", ENGINES, |r| !r.sampling.allowed_tokens.is_empty()),
    row("bad_words", ENGINES, |r| !r.sampling.bad_words.is_empty()),
    row("stop_token_ids", ENGINES, |r| !r.sampling.stop_tokens.is_empty()),
    row("min_tokens", ENGINES, |r| r.sampling.min_tokens != 0),
    row("ignore_eos", ENGINES, |r| r.sampling.ignore_eos),
    row("samplers", CHAT, |r| r.sampling.order != Sampling::default().order),
    row("logit_bias of texts", NONE, |r| !r.sampling.text_bias.is_empty()),
    row("response_format", ALL, |_| false),
    row("structured_outputs", ENGINES, |r| matches!(&r.grammar, Some(it) if !matches!(it, Grammar::JsonSchema(_)))),
    row("tools", ALL, |_| false),
    row("tool_choice", CHOICE, |r| {
        chat(r).is_some_and(|it| !matches!(it.tool_choice, ToolChoice::Auto | ToolChoice::None))
    }),
    row("parallel_tool_calls", ONE_CALL, |r| chat(r).is_some_and(|it| it.one_call && !it.offered().is_empty())),
    row("tools[].function.strict", CHOICE, |r| chat(r).is_some_and(|it| it.offered().iter().any(|tool| tool.strict))),
    left("messages[].tool_calls[].id", &[Target::Chat, OpenAiChat, Responses, OpenAiResponses, Messages, Ollama], OLD),
    row("reasoning_effort", ALL, |_| false),
    row("thinking_token_budget", BUDGET, |r| chat(r).is_some_and(|it| it.reasoning.budget_tokens.is_some())),
    left("chat_template_kwargs.enable_thinking", &[Target::Chat, Responses, Messages, Ollama], UNSAID),
    row("chat_template_kwargs", ENGINES, |r| chat(r).is_some_and(|it| !it.template_kwargs.is_empty())),
    row("continue_final_message", &[Target::Chat, Messages], |r| chat(r).is_some_and(|it| it.continue_final)),
    left("messages[].reasoning_content", &[Target::Chat, Responses, Ollama], SIGNED).asked(TOP_K),
    row("messages[].name", &[Target::Chat, OpenAiChat], |r| turns(r, |it| it.name.is_some() && it.role != "tool")),
    row("messages[].content[].image_url", ALL, |_| false),
    row("messages[].content[].image_url.url", &[Target::Chat, OpenAiChat, Responses, OpenAiResponses, Messages, Target::Gemini], |r| {
        turns(r, |it| it.pictures.iter().any(|picture| matches!(picture.source, Source::Url(_))))
    }),
    left("where a picture stands in its text", &[Target::Chat, OpenAiChat, Responses, OpenAiResponses, Messages, Target::Gemini], BEFORE),
    left("messages[].content[].image_url.detail", OPENAIS, LOOKS),
    row("pictures in tools' results", &[Responses, OpenAiResponses, Messages], |r| {
        turns(r, |it| it.role != "user" && !it.pictures.is_empty())
    }),
    row("logprobs", SCORES, |r| r.logprobs.is_some()),
    row("return_token_ids", CHAT, |r| r.token_ids),
    row("prompt_logprobs", NONE, |r| r.prompt_logprobs.is_some()).asked(CHAT),
    row("use_beam_search", NONE, |r| r.beams.is_some()).asked(CHAT),
    row("truncate_prompt_tokens", CHAT, |r| r.truncation.is_some()),
    row("lora", CHAT, |r| r.adapters.is_some()),
    left("priority", ENGINES, HERE),
    left("timeout_ms", ENGINES, HERE),
    left("keep_alive", WITH_OLLAMA, HERE),
    left("cache_salt", ENGINES, HERE),
];

fn chat(request: &Request) -> Option<&Chat> {
    match &request.input {
        Input::Chat(chat) => Some(chat),
        _ => None,
    }
}

fn turns(request: &Request, has: fn(&Message) -> bool) -> bool {
    chat(request).is_some_and(|chat| chat.messages.iter().any(has))
}

/// What a request may ask for, and who has words for it.
pub fn losses() -> &'static [Loss] {
    LOSSES
}

/// The conversation that a request is, where all of it can be said to `target`.
pub(in crate::wire) fn said(target: Target, request: &Request) -> Read<&Chat> {
    let Some(chat) = chat(request) else {
        let why = "must be a conversation: other servers are asked in formats of conversations, \
                   and none of text alone";
        return check::bad("messages", why);
    };
    let unsaid = LOSSES.iter().filter(|row| !row.said.contains(&target));
    let mut refused = unsaid.filter(|row| row.otherwise == Otherwise::Refused);
    if let Some(row) = refused.find(|row| (row.given)(request)) {
        return check::bad(row.name, unsayable(target));
    }
    let efforts = chat.reasoning.effort.filter(|effort| !target.knows(*effort));
    if let Some(effort) = efforts {
        return check::bad(
            "reasoning_effort",
            format!("{:?} {}", effort.name(), unsayable(target)),
        );
    }
    Ok(chat)
}

/// The same request without numbers that nobody asked for: Ollama's sampling has defaults that no
/// other format has, so that a body of Ollama's that gives none would be refused elsewhere for one
/// of them. `None` where there is nothing to take back.
pub(in crate::wire) fn as_asked(request: &Request) -> Option<Request> {
    let verbatim = request.origin.as_ref()?.verbatim.as_ref()?;
    if verbatim.format != Format::Ollama {
        return None;
    }
    let absent = |name: &str| splice::get(&verbatim.body, &["options", name]).is_none();
    let (mut request, usual) = (request.clone(), Sampling::default());
    let sampling = &mut request.sampling;
    if absent("temperature") {
        sampling.temperature = usual.temperature;
    }
    if absent("top_k") {
        sampling.top_k = usual.top_k;
    }
    if absent("top_p") {
        sampling.top_p = usual.top_p;
    }
    Some(request)
}

/// Why something is refused.
pub(in crate::wire) fn unsayable(target: Target) -> String {
    format!(
        "cannot be said to this model's server, whose format ({}) has no words for it: leave it \
         out, or ask another model",
        target.name()
    )
}

impl Target {
    fn knows(self, effort: Effort) -> bool {
        use Effort::{High, Low, Max, Medium, Minimal, XHigh};
        match self {
            Self::Gemini => matches!(effort, Minimal | Low | Medium | High),
            Self::OpenAiChat | Self::OpenAiResponses => !matches!(effort, Max),
            Self::Messages => matches!(effort, Low | Medium | High | XHigh | Max),
            Self::Chat | Self::Responses | Self::Ollama => true,
        }
    }
}

/// Something that an answer tells.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// What.
    pub name: &'static str,
    /// Whose answers tell it.
    pub heard: &'static [Format],
    /// Whose answers of ours tell it on, beside the receipt.
    pub written: &'static [Format],
}

const EACH: &[Format] =
    &[Format::Chat, Format::Responses, Format::Messages, Format::Ollama, Format::Gemini];
const OURS: &[Format] = &[Format::Chat, Format::Responses, Format::Messages, Format::Ollama];

#[rustfmt::skip]
static TOLD: &[Told] = &[
    Told { name: "text", heard: EACH, written: OURS },
    Told { name: "what the model thought", heard: EACH, written: OURS },
    Told { name: "calls of tools, their ids and arguments", heard: EACH, written: OURS },
    Told { name: "arguments in pieces", heard: &[Format::Chat, Format::Responses, Format::Messages], written: &[Format::Chat, Format::Responses, Format::Messages] },
    Told { name: "why it ended", heard: EACH, written: OURS },
    Told { name: "which stop text ended it", heard: &[Format::Chat, Format::Messages], written: &[Format::Messages] },
    Told { name: "log-probabilities", heard: &[Format::Chat, Format::Responses, Format::Ollama], written: &[Format::Chat, Format::Responses, Format::Ollama] },
    Told { name: "ids of tokens", heard: &[Format::Chat], written: &[Format::Chat] },
    Told { name: "tokens of the prompt and the answer", heard: EACH, written: OURS },
    Told { name: "tokens that a cache had", heard: &[Format::Chat, Format::Responses, Format::Messages, Format::Gemini], written: &[Format::Chat, Format::Responses, Format::Messages] },
    Told { name: "tokens that were put into a cache", heard: &[Format::Chat, Format::Responses, Format::Messages], written: &[Format::Chat, Format::Responses, Format::Messages] },
    Told { name: "tokens of thoughts", heard: &[Format::Chat, Format::Responses, Format::Messages, Format::Gemini], written: &[Format::Chat, Format::Responses, Format::Messages] },
    Told { name: "tokens that were predicted", heard: &[Format::Chat], written: &[Format::Chat] },
    Told { name: "signatures of thoughts, citations", heard: &[], written: &[] },
    Told { name: "more than one choice", heard: &[], written: &[Format::Chat] },
];

/// What answers tell, and which of them.
pub fn told_by() -> &'static [Told] {
    TOLD
}
