//! What attributes of spans are called: OpenTelemetry's semantic conventions for generative AI
//! (version 1.41 of the conventions; `gen_ai.system` is what versions to 1.36 called the provider),
//! for HTTP servers, and our own below `ingle.`. Absent: any that would hold what was asked or
//! answered.

pub(super) const OPERATION: &str = "gen_ai.operation.name";
pub(super) const PROVIDER: &str = "gen_ai.provider.name";
pub(super) const SYSTEM: &str = "gen_ai.system";
pub(super) const REQUEST_MODEL: &str = "gen_ai.request.model";
pub(super) const MAX_TOKENS: &str = "gen_ai.request.max_tokens";
pub(super) const TEMPERATURE: &str = "gen_ai.request.temperature";
pub(super) const TOP_P: &str = "gen_ai.request.top_p";
pub(super) const TOP_K: &str = "gen_ai.request.top_k";
pub(super) const SEED: &str = "gen_ai.request.seed";
pub(super) const DIMENSIONS: &str = "gen_ai.embeddings.dimension.count";
pub(super) const CHOICES: &str = "gen_ai.request.choice.count";
pub(super) const FREQUENCY_PENALTY: &str = "gen_ai.request.frequency_penalty";
pub(super) const PRESENCE_PENALTY: &str = "gen_ai.request.presence_penalty";
pub(super) const RESPONSE_ID: &str = "gen_ai.response.id";
pub(super) const RESPONSE_MODEL: &str = "gen_ai.response.model";
pub(super) const FINISH_REASONS: &str = "gen_ai.response.finish_reasons";
pub(super) const INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
pub(super) const OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";
pub(super) const CACHED_TOKENS: &str = "gen_ai.usage.cache_read.input_tokens";
pub(super) const REASONING_TOKENS: &str = "gen_ai.usage.reasoning.output_tokens";

pub(super) const ERROR_TYPE: &str = "error.type";
pub(super) const SERVER_ADDRESS: &str = "server.address";
pub(super) const SERVER_PORT: &str = "server.port";
pub(super) const METHOD: &str = "http.request.method";
pub(super) const ROUTE: &str = "http.route";
pub(super) const STATUS: &str = "http.response.status_code";

pub(super) const SERVICE: &str = "service.name";
pub(super) const VERSION: &str = "service.version";

pub(super) const REQUEST_ID: &str = "ingle.request.id";
pub(super) const CHOICE: &str = "ingle.choice.index";
pub(super) const LEFT_MACHINE: &str = "ingle.left_machine";
pub(super) const COST: &str = "ingle.cost.usd_micros";
pub(super) const ACCEPTED_TOKENS: &str = "ingle.usage.accepted_tokens";

/// Who answers.
pub(super) const INGLE: &str = "ingle";
pub(super) const CHAT: &str = "chat";
pub(super) const COMPLETION: &str = "text_completion";
/// The conventions know no other operation of models that read.
pub(super) const EMBEDDINGS: &str = "embeddings";

/// Routes whose refusals are traced too, and what is asked there. Whatever is answered is traced,
/// wherever it was asked.
pub(super) const ROUTES: &[(&str, &str)] = &[
    ("/v1/chat/completions", CHAT),
    ("/v1/completions", COMPLETION),
    ("/v1/responses", CHAT),
    ("/v1/messages", CHAT),
    ("/api/chat", CHAT),
    ("/api/generate", COMPLETION),
    ("/completion", COMPLETION),
    ("/completions", COMPLETION),
    ("/infill", COMPLETION),
    ("/v1/embeddings", EMBEDDINGS),
    ("/v1/rerank", EMBEDDINGS),
    ("/v1/score", EMBEDDINGS),
    ("/score", EMBEDDINGS),
    ("/classify", EMBEDDINGS),
    ("/pooling", EMBEDDINGS),
    ("/v2/embed", EMBEDDINGS),
    ("/v2/rerank", EMBEDDINGS),
    ("/embed", EMBEDDINGS),
    ("/embed_all", EMBEDDINGS),
    ("/embed_sparse", EMBEDDINGS),
    ("/rerank", EMBEDDINGS),
    ("/predict", EMBEDDINGS),
    ("/similarity", EMBEDDINGS),
    ("/embedding", EMBEDDINGS),
    ("/embeddings", EMBEDDINGS),
    ("/reranking", EMBEDDINGS),
    ("/api/embed", EMBEDDINGS),
    ("/api/embeddings", EMBEDDINGS),
];
