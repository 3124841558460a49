//! The kinds of providers, a row each: which format they speak, where, and how they want their key.
//! Adding one that differs in nothing else is one row. Absent: how keys become headers
//! (`prepare.rs`), and how formats are written, which `ingle_protocol::wire` knows.

use ingle_protocol::Format;

/// A kind of provider.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// What a configuration calls it by.
    pub name: &'static str,
    /// What it is.
    pub title: &'static str,
    /// What it speaks.
    pub format: Format,
    /// Its usual address, in which `{region}` is filled in; empty where each has its own.
    pub url: &'static str,
    /// The path behind the address for a whole answer; `{model}`, `{project}` and `{region}` are
    /// filled in.
    pub path: &'static str,
    /// The path for an answer in pieces.
    pub stream_path: &'static str,
    /// What else it speaks, and where: a caller's own body in such a format is passed on, and
    /// nothing is written in it here.
    pub also: &'static [(Format, &'static str)],
    /// How it wants its key.
    pub auth: Auth,
    /// Whether it can be asked without one.
    pub keyless: bool,
    /// What is sent with each request.
    pub headers: &'static [(&'static str, &'static str)],
    /// What its body differs in from its format.
    pub body: Body,
    /// How its stream is cut into events.
    pub cut: Cut,
}

/// How a provider wants its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// `Authorization: Bearer …`
    Bearer,
    /// In a header of this name.
    Header(&'static str),
    /// Amazon's signature (SigV4) for this service, with a key
    /// `ACCESS_KEY_ID:SECRET_ACCESS_KEY[:SESSION_TOKEN]`; a key without `:` is sent as a bearer's.
    Amazon(&'static str),
    /// A token that Google gives for a service account, whose JSON file is the key.
    Google,
}

/// What a body differs in from its format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Nothing.
    Plain,
    /// It is OpenAI's own server, which refuses fields that are not its own.
    Hosted,
    /// The path tells the model, and the body an `anthropic_version`.
    Anthropic {
        /// Which.
        version: &'static str,
        /// Whether the body tells `stream`, too, or the path alone.
        streams: bool,
    },
}

/// How a stream is cut into events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Server-sent events.
    Events,
    /// Lines of JSON.
    Lines,
    /// Amazon's binary event stream, each of whose events holds one of the format's.
    Amazon,
}

impl Cut {
    /// The media types that such a stream comes as.
    pub(super) fn media(self) -> &'static [&'static str] {
        match self {
            Self::Events => &["text/event-stream"],
            Self::Lines => &["application/x-ndjson", "application/ndjson", "application/jsonl"],
            Self::Amazon => &["application/vnd.amazon.eventstream"],
        }
    }
}

const CHAT: &str = "/chat/completions";
const GEMINI: &str = "/v1beta/models/{model}:generateContent";
const GEMINI_STREAM: &str = "/v1beta/models/{model}:streamGenerateContent?alt=sse";
const VERTEX: &str = "/v1/projects/{project}/locations/{region}/publishers/google/models/\
                      {model}:generateContent";
const VERTEX_STREAM: &str = "/v1/projects/{project}/locations/{region}/publishers/google/models/\
                             {model}:streamGenerateContent?alt=sse";
const VERTEX_CLAUDE: &str = "/v1/projects/{project}/locations/{region}/publishers/anthropic/\
                             models/{model}:rawPredict";
const VERTEX_CLAUDE_STREAM: &str = "/v1/projects/{project}/locations/{region}/publishers/\
                                    anthropic/models/{model}:streamRawPredict";

/// An OpenAI-compatible server: what most rows differ little from.
const COMPATIBLE: Kind = Kind {
    name: "compatible",
    title: "any server that speaks OpenAI's chat: vLLM, SGLang, llama.cpp, Ollama, Ingle",
    format: Format::Chat,
    url: "",
    path: CHAT,
    stream_path: CHAT,
    also: &[],
    auth: Auth::Bearer,
    keyless: true,
    headers: &[],
    body: Body::Plain,
    cut: Cut::Events,
};

/// All kinds.
pub const KINDS: &[Kind] = &[
    Kind {
        name: "openai",
        title: "OpenAI",
        url: "https://api.openai.com/v1",
        also: &[(Format::Responses, "/responses")],
        keyless: false,
        body: Body::Hosted,
        ..COMPATIBLE
    },
    Kind {
        name: "anthropic",
        title: "Anthropic",
        format: Format::Messages,
        url: "https://api.anthropic.com",
        path: "/v1/messages",
        stream_path: "/v1/messages",
        auth: Auth::Header("x-api-key"),
        keyless: false,
        headers: &[("anthropic-version", "2023-06-01")],
        ..COMPATIBLE
    },
    Kind {
        name: "gemini",
        title: "Google's Gemini",
        format: Format::Gemini,
        url: "https://generativelanguage.googleapis.com",
        path: GEMINI,
        stream_path: GEMINI_STREAM,
        auth: Auth::Header("x-goog-api-key"),
        keyless: false,
        ..COMPATIBLE
    },
    Kind {
        name: "azure",
        title: "Azure OpenAI, by its v1 paths; the model is the deployment's name",
        path: "/openai/v1/chat/completions",
        stream_path: "/openai/v1/chat/completions",
        auth: Auth::Header("api-key"),
        keyless: false,
        body: Body::Hosted,
        ..COMPATIBLE
    },
    Kind {
        name: "bedrock",
        title: "Anthropic's models on Amazon Bedrock",
        format: Format::Messages,
        url: "https://bedrock-runtime.{region}.amazonaws.com",
        path: "/model/{model}/invoke",
        stream_path: "/model/{model}/invoke-with-response-stream",
        auth: Auth::Amazon("bedrock"),
        keyless: false,
        body: Body::Anthropic { version: "bedrock-2023-05-31", streams: false },
        cut: Cut::Amazon,
        ..COMPATIBLE
    },
    Kind {
        name: "vertex",
        title: "Gemini on Google's Vertex AI",
        format: Format::Gemini,
        url: "https://{region}-aiplatform.googleapis.com",
        path: VERTEX,
        stream_path: VERTEX_STREAM,
        auth: Auth::Google,
        keyless: false,
        ..COMPATIBLE
    },
    Kind {
        name: "vertex-anthropic",
        title: "Anthropic's models on Google's Vertex AI",
        format: Format::Messages,
        url: "https://{region}-aiplatform.googleapis.com",
        path: VERTEX_CLAUDE,
        stream_path: VERTEX_CLAUDE_STREAM,
        auth: Auth::Google,
        keyless: false,
        body: Body::Anthropic { version: "vertex-2023-10-16", streams: true },
        ..COMPATIBLE
    },
    Kind {
        name: "mistral",
        title: "Mistral",
        url: "https://api.mistral.ai/v1",
        keyless: false,
        ..COMPATIBLE
    },
    Kind {
        name: "openrouter",
        title: "OpenRouter",
        url: "https://openrouter.ai/api/v1",
        keyless: false,
        ..COMPATIBLE
    },
    Kind {
        name: "ollama",
        title: "Ollama, by its own format",
        format: Format::Ollama,
        url: "http://localhost:11434",
        path: "/api/chat",
        stream_path: "/api/chat",
        cut: Cut::Lines,
        ..COMPATIBLE
    },
    COMPATIBLE,
];

/// The kind of that name, if there is one.
pub fn kind(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_can_be_asked() {
        for kind in KINDS {
            let names = KINDS.iter().filter(|other| other.name == kind.name).count();
            assert_eq!(names, 1, "{}", kind.name);
            assert!(kind.path.starts_with('/') && kind.stream_path.starts_with('/'));
            assert!(kind.url.is_empty() || kind.url.starts_with("http"), "{}", kind.name);
            for (format, path) in kind.also {
                // One path serves both ways, and is cut as the kind's own stream is.
                assert!(path.starts_with('/') && !path.contains('{'), "{}", kind.name);
                assert!(*format != kind.format && kind.cut == Cut::Events, "{}", kind.name);
            }
            let lines = kind.cut == Cut::Lines;
            assert_eq!(lines, kind.format == Format::Ollama, "{}", kind.name);
            // Who does not tell the model in the body tells it in the path.
            let told =
                !matches!(kind.body, Body::Anthropic { .. }) && kind.format != Format::Gemini;
            assert_eq!(told, !kind.path.contains("{model}"), "{}", kind.name);
        }
        assert_eq!(kind("mistral").map(|kind| kind.url), Some("https://api.mistral.ai/v1"));
        assert_eq!(kind("Mistral"), None);
    }
}
