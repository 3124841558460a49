//! The table of operations, and that of the requests whose fields stand in tables.

use super::{Content, Form, JSON, Operation, Takes};
use crate::wire::errors::Dialect;
use crate::wire::openai::moderations;
use crate::wire::{anthropic, decisions, llama_cpp, ollama, openai, responses};

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
        name: "ResponseRequest",
        places: &["responses", "openai", "shared"],
        rows: || responses::fields(responses::Format::Create).collect(),
        required: &[],
    },
    Form {
        name: "ResponseCountRequest",
        places: &["responses", "openai", "shared"],
        rows: || responses::fields(responses::Format::Count).collect(),
        required: &[],
    },
    Form {
        name: "BatchRequest",
        places: &["openai/batches"],
        rows: || openai::batch_fields().collect(),
        required: &["input_file_id", "endpoint", "completion_window"],
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

/// What the URLs of some paths may ask for by their queries: a name, and its value's schema.
type Query = (&'static str, &'static str);

pub(super) static QUERIES: &[(&str, &[Query])] = &[
    (
        "GET /v1/files",
        &[
            ("purpose", r#"{"type":"string"}"#),
            ("limit", r#"{"type":"integer","minimum":1,"maximum":10000}"#),
            ("after", r#"{"type":"string"}"#),
            ("order", ORDER),
        ],
    ),
    (
        "GET /v1/batches",
        &[
            ("limit", r#"{"type":"integer","minimum":1,"maximum":100}"#),
            ("after", r#"{"type":"string"}"#),
            ("order", ORDER),
        ],
    ),
    (
        "GET /v1/responses/{id}",
        &[
            ("stream", r#"{"type":"boolean"}"#),
            ("starting_after", r#"{"type":"integer","minimum":0,"maximum":9007199254740991}"#),
        ],
    ),
    (
        "GET /v1/responses/{id}/input_items",
        &[
            ("limit", r#"{"type":"integer","minimum":1,"maximum":100}"#),
            ("after", r#"{"type":"string","minLength":1}"#),
            ("order", ORDER),
        ],
    ),
];

const ORDER: &str = r#"{"enum":["asc","desc"]}"#;

type Gives = &'static [(u16, &'static [Content])];

pub(super) const fn operation(
    (method, path): (&'static str, &'static str),
    id: &'static str,
    dialect: Dialect,
    takes: Takes,
    gives: Gives,
    summary: &'static str,
) -> Operation {
    Operation { method, path, id, summary, dialect, takes, gives, more: &[], open: false }
}

/// One about what is kept for its owner.
const fn kept(
    at: (&'static str, &'static str),
    id: &'static str,
    takes: Takes,
    gives: Gives,
    summary: &'static str,
) -> Operation {
    let more = &[400, 404, 409, 413, 415, 501];
    Operation { more, ..operation(at, id, Dialect::OpenAi, takes, gives, summary) }
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
use Takes::{Form as Fields, Nothing, Shape, Upload};

/// Those of models that write, and of what is around them.
pub(super) static OPERATIONS: &[Operation] = &[
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
        ("POST", "/v1/responses"),
        "respond",
        OpenAi,
        Fields("ResponseRequest"),
        &[(200, &[(JSON, "Response"), EVENTS])],
        "Answers items, and keeps the response.",
    ),
    operation(
        ("POST", "/v1/responses/input_tokens"),
        "count_input_tokens",
        OpenAi,
        Fields("ResponseCountRequest"),
        &[(200, &[(JSON, "InputTokens")])],
        "How many tokens an input has.",
    ),
    operation(
        ("POST", "/v1/responses/compact"),
        "compact_response",
        OpenAi,
        Shape("Document", false),
        &[],
        "Not built: nothing is summarised here.",
    ),
    operation(
        ("GET", "/v1/responses/{id}"),
        "retrieve_response",
        OpenAi,
        Nothing,
        &[(200, &[(JSON, "Response"), EVENTS])],
        "A response that was kept, or its events.",
    ),
    operation(
        ("DELETE", "/v1/responses/{id}"),
        "delete_response",
        OpenAi,
        Nothing,
        &[(200, &[(JSON, "Deleted")])],
        "Deletes a response; one that is computed is cancelled.",
    ),
    operation(
        ("POST", "/v1/responses/{id}/cancel"),
        "cancel_response",
        OpenAi,
        Nothing,
        &[(200, &[(JSON, "Response")])],
        "Cancels a response in the background.",
    ),
    operation(
        ("GET", "/v1/responses/{id}/input_items"),
        "list_input_items",
        OpenAi,
        Nothing,
        &[(200, &[(JSON, "Items")])],
        "What a response was given.",
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
    kept(
        ("POST", "/v1/files"),
        "upload_file",
        Upload("FileUpload"),
        &[(200, &[(JSON, "File")])],
        "Takes a file in.",
    ),
    kept(("GET", "/v1/files"), "list_files", Nothing, &[(200, &[(JSON, "Files")])], "One's files."),
    kept(
        ("GET", "/v1/files/{id}"),
        "retrieve_file",
        Nothing,
        &[(200, &[(JSON, "File")])],
        "What is known of a file.",
    ),
    kept(
        ("DELETE", "/v1/files/{id}"),
        "delete_file",
        Nothing,
        &[(200, &[(JSON, "FileDeleted")])],
        "Deletes a file that no batch reads.",
    ),
    kept(
        ("GET", "/v1/files/{id}/content"),
        "read_file",
        Nothing,
        &[(200, &[("application/octet-stream", "Text")])],
        "A file's contents.",
    ),
    kept(
        ("POST", "/v1/batches"),
        "begin_batch",
        Fields("BatchRequest"),
        &[(200, &[(JSON, "Batch")])],
        "Begins to answer the requests of a file.",
    ),
    kept(
        ("GET", "/v1/batches"),
        "list_batches",
        Nothing,
        &[(200, &[(JSON, "Batches")])],
        "One's batches.",
    ),
    kept(
        ("GET", "/v1/batches/{id}"),
        "retrieve_batch",
        Nothing,
        &[(200, &[(JSON, "Batch")])],
        "How far a batch is.",
    ),
    kept(
        ("POST", "/v1/batches/{id}/cancel"),
        "cancel_batch",
        Nothing,
        &[(200, &[(JSON, "Batch")])],
        "Ends a batch.",
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
    operation(
        ("GET", "/lora-adapters"),
        "lora_adapters",
        LlamaCpp,
        Nothing,
        &[(200, &[(JSON, "LoraAdapters")])],
        "The default model's adapters.",
    ),
    operation(
        ("POST", "/lora-adapters"),
        "scale_lora_adapters",
        LlamaCpp,
        Shape("LoraScales", true),
        &[(200, &[(JSON, "LoraSuccess")])],
        "How much of which adapters requests get that say nothing of it.",
    ),
    operation(
        ("POST", "/v1/load_lora_adapter"),
        "load_lora_adapter",
        OpenAi,
        Shape("LoraLoading", true),
        &[(200, &[(PLAIN, "Text")])],
        "Loads an adapter beside a model.",
    ),
    operation(
        ("POST", "/v1/unload_lora_adapter"),
        "unload_lora_adapter",
        OpenAi,
        Shape("LoraUnloading", true),
        &[(200, &[(PLAIN, "Text")])],
        "Unloads an adapter; answers under way go on with it.",
    ),
];
