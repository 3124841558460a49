//! The table of operations, and that of the requests whose fields stand in tables.

use super::{Content, Form, JSON, Operation, Takes};
use crate::wire::errors::Dialect;
use crate::wire::openai::moderations;
use crate::wire::{anthropic, decisions, llama_cpp, ollama, openai};

pub(super) static FORMS: &[Form] = &[
    Form {
        name: "ChatCompletionRequest",
        places: &["openai", "shared"],
        rows: || openai::fields(openai::Format::Chat).collect(),
        required: &["messages"],
    },
    Form {
        name: "CompletionRequest",
        places: &["openai/completions", "openai", "shared"],
        rows: || openai::fields(openai::Format::Completions).collect(),
        required: &["prompt"],
    },
    Form {
        name: "DecisionRequest",
        places: &["decisions", "openai", "shared"],
        rows: || decisions::fields(decisions::Format::Decisions).collect(),
        required: &["input", "questions"],
    },
    Form {
        name: "ModerationRequest",
        places: &["moderations", "openai", "shared"],
        rows: || moderations::fields(moderations::Format::Moderations).collect(),
        required: &["input"],
    },
    Form {
        name: "AnthropicRequest",
        places: &["anthropic", "shared"],
        rows: || anthropic::fields(anthropic::Format::Messages).collect(),
        required: &["messages", "max_tokens"],
    },
    Form {
        name: "AnthropicCountRequest",
        places: &["anthropic", "shared"],
        rows: || anthropic::fields(anthropic::Format::Count).collect(),
        required: &["messages"],
    },
    Form {
        name: "OllamaChatRequest",
        places: &["ollama", "shared"],
        rows: || ollama::fields(ollama::Format::Chat).collect(),
        required: &["model"],
    },
    Form {
        name: "OllamaGenerateRequest",
        places: &["ollama", "shared"],
        rows: || ollama::fields(ollama::Format::Generate).collect(),
        required: &["model"],
    },
    Form {
        name: "OllamaOptions",
        places: &["ollama/options", "shared"],
        rows: || ollama::options().collect(),
        required: &[],
    },
    Form {
        name: "LlamaCompletionRequest",
        places: &["llama_cpp", "shared"],
        rows: || llama_cpp::fields(llama_cpp::Format::Completion).collect(),
        required: &["prompt"],
    },
    Form {
        name: "LlamaInfillRequest",
        places: &["llama_cpp/infill", "llama_cpp", "shared"],
        rows: || llama_cpp::fields(llama_cpp::Format::Infill).collect(),
        required: &[],
    },
];

type Gives = &'static [(u16, &'static [Content])];

const fn operation(
    (method, path): (&'static str, &'static str),
    id: &'static str,
    dialect: Dialect,
    takes: Takes,
    gives: Gives,
    summary: &'static str,
) -> Operation {
    Operation { method, path, id, summary, dialect, takes, gives, open: false }
}

/// One that needs no key.
const fn open(
    path: &'static str,
    id: &'static str,
    gives: Gives,
    summary: &'static str,
) -> Operation {
    let at = ("GET", path);
    Operation { open: true, ..operation(at, id, Dialect::OpenAi, Takes::Nothing, gives, summary) }
}

const EVENTS: Content = ("text/event-stream", "Events");
const LINES: Content = ("application/x-ndjson", "Lines");
const PLAIN: &str = "text/plain";

use Dialect::{Anthropic, LlamaCpp, Ollama, OpenAi};
use Takes::{Form as Fields, Nothing, Shape};

/// Every operation that is served.
pub static OPERATIONS: &[Operation] = &[
    operation(
        ("POST", "/v1/chat/completions"),
        "chat",
        OpenAi,
        Fields("ChatCompletionRequest"),
        &[(200, &[(JSON, "ChatCompletion"), EVENTS])],
        "Answers a conversation.",
    ),
    operation(
        ("POST", "/v1/completions"),
        "complete",
        OpenAi,
        Fields("CompletionRequest"),
        &[(200, &[(JSON, "Completion"), EVENTS])],
        "Continues prompts.",
    ),
    operation(
        ("POST", "/v1/decisions"),
        "decide",
        OpenAi,
        Fields("DecisionRequest"),
        &[(200, &[(JSON, "Decision")])],
        "Answers questions by the probabilities of their labels.",
    ),
    operation(
        ("POST", "/v1/moderations"),
        "moderate",
        OpenAi,
        Fields("ModerationRequest"),
        &[(200, &[(JSON, "Moderation")])],
        "Judges texts by OpenAI's categories, by a model that is asked.",
    ),
    operation(
        ("GET", "/v1/models"),
        "list_models",
        OpenAi,
        Nothing,
        &[(200, &[(JSON, "Models")])],
        "The models that can be asked for.",
    ),
    operation(
        ("GET", "/v1/models/{name}"),
        "retrieve_model",
        OpenAi,
        Nothing,
        &[(200, &[(JSON, "ModelInEitherShape")])],
        "One model, and where it stands.",
    ),
    operation(
        ("POST", "/v1/models/{name}/load"),
        "load_model",
        OpenAi,
        Shape("Nothing", false),
        &[(202, &[(JSON, "Model")])],
        "Begins to load a model.",
    ),
    operation(
        ("POST", "/v1/models/{name}/unload"),
        "unload_model",
        OpenAi,
        Shape("Nothing", false),
        &[(202, &[(JSON, "Model")])],
        "Begins to unload a model.",
    ),
    operation(
        ("POST", "/v1/tokenize"),
        "tokenize_prompt",
        OpenAi,
        Shape("TokenizeRequest", true),
        &[(200, &[(JSON, "TokenCount")])],
        "The tokens of a text.",
    ),
    operation(
        ("POST", "/v1/detokenize"),
        "detokenize_prompt",
        OpenAi,
        Shape("DetokenizeRequest", true),
        &[(200, &[(JSON, "Prompt")])],
        "The text of tokens.",
    ),
    open(
        "/health",
        "health",
        &[(200, &[(JSON, "Health")]), (503, &[(JSON, "Health")])],
        "Whether it is ready, and how far it is.",
    ),
    operation(
        ("GET", "/metrics"),
        "metrics",
        OpenAi,
        Nothing,
        &[(200, &[(PLAIN, "Text")])],
        "What was counted and measured, for Prometheus.",
    ),
    open("/openapi.json", "openapi", &[(200, &[(JSON, "Document")])], "This document."),
    operation(
        ("POST", "/v1/messages"),
        "message",
        Anthropic,
        Fields("AnthropicRequest"),
        &[(200, &[(JSON, "AnthropicAnswer"), EVENTS])],
        "Answers a conversation.",
    ),
    operation(
        ("POST", "/v1/messages/count_tokens"),
        "count_tokens",
        Anthropic,
        Fields("AnthropicCountRequest"),
        &[(200, &[(JSON, "AnthropicCount")])],
        "How many tokens a conversation has.",
    ),
    open("/", "alive", &[(200, &[(PLAIN, "Text")])], "That it runs, as Ollama's clients ask."),
    operation(
        ("POST", "/api/chat"),
        "ollama_chat",
        Ollama,
        Fields("OllamaChatRequest"),
        &[(200, &[(JSON, "OllamaChat"), LINES])],
        "Answers a conversation.",
    ),
    operation(
        ("POST", "/api/generate"),
        "ollama_generate",
        Ollama,
        Fields("OllamaGenerateRequest"),
        &[(200, &[(JSON, "OllamaGenerate"), LINES])],
        "Answers a prompt.",
    ),
    operation(
        ("POST", "/api/embed"),
        "ollama_embed",
        Ollama,
        Shape("Document", false),
        &[],
        "Not built yet.",
    ),
    operation(
        ("POST", "/api/embeddings"),
        "ollama_embeddings",
        Ollama,
        Shape("Document", false),
        &[],
        "Not built yet.",
    ),
    operation(
        ("GET", "/api/tags"),
        "ollama_models",
        Ollama,
        Nothing,
        &[(200, &[(JSON, "OllamaModels")])],
        "The models that are here.",
    ),
    operation(
        ("GET", "/api/ps"),
        "ollama_running",
        Ollama,
        Nothing,
        &[(200, &[(JSON, "OllamaModels")])],
        "The models that are in memory.",
    ),
    operation(
        ("POST", "/api/show"),
        "ollama_show",
        Ollama,
        Shape("Named", true),
        &[(200, &[(JSON, "OllamaShown")])],
        "What a model's file says.",
    ),
    operation(
        ("POST", "/api/pull"),
        "ollama_pull",
        Ollama,
        Shape("Named", true),
        &[(200, &[(JSON, "OllamaStatus"), LINES])],
        "Fetches a model, where the server allows it.",
    ),
    operation(
        ("DELETE", "/api/delete"),
        "ollama_delete",
        Ollama,
        Shape("Named", true),
        &[(200, &[(JSON, "Empty")])],
        "Deletes a model, where the server allows it.",
    ),
    operation(
        ("GET", "/api/version"),
        "ollama_version",
        Ollama,
        Nothing,
        &[(200, &[(JSON, "OllamaVersion")])],
        "Whose API this is, and Ingle's own version.",
    ),
    operation(
        ("POST", "/completion"),
        "llama_complete",
        LlamaCpp,
        Fields("LlamaCompletionRequest"),
        &[(200, &[(JSON, "LlamaCompletion"), EVENTS])],
        "Continues a prompt.",
    ),
    operation(
        ("POST", "/infill"),
        "llama_infill",
        LlamaCpp,
        Fields("LlamaInfillRequest"),
        &[(200, &[(JSON, "LlamaCompletion"), EVENTS])],
        "Fills the gap between two texts.",
    ),
    operation(
        ("POST", "/tokenize"),
        "llama_tokenize",
        OpenAi,
        Shape("LlamaTokenizeRequest", true),
        &[(200, &[(JSON, "LlamaTokens")])],
        "The tokens of a text.",
    ),
    operation(
        ("POST", "/detokenize"),
        "llama_detokenize",
        OpenAi,
        Shape("DetokenizeRequest", true),
        &[(200, &[(JSON, "LlamaText")])],
        "The text of tokens.",
    ),
    operation(
        ("POST", "/apply-template"),
        "llama_template",
        LlamaCpp,
        Fields("ChatCompletionRequest"),
        &[(200, &[(JSON, "Prompt")])],
        "A conversation as the model's template writes it.",
    ),
    operation(
        ("GET", "/props"),
        "llama_props",
        LlamaCpp,
        Nothing,
        &[(200, &[(JSON, "LlamaProps")])],
        "What the server is.",
    ),
    operation(
        ("GET", "/slots"),
        "llama_slots",
        LlamaCpp,
        Nothing,
        &[(200, &[(JSON, "LlamaSlots")])],
        "The requests under way.",
    ),
];
