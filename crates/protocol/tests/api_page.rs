//! `docs/API.md` shows the tables of fields as they stand in the code.

mod support;

use ingle_protocol::wire::openai::moderations;
use ingle_protocol::wire::reading::{self, Format};
use ingle_protocol::wire::{anthropic, decisions, llama_cpp, ollama, openai};
use support::{ends_with, table};

#[test]
fn the_page_shows_the_tables() {
    let messages = |format| anthropic::fields(format).collect();
    let lines = |format| ollama::fields(format).collect();
    let native = |format| llama_cpp::fields(format).collect();
    let mut sections = vec![
        (
            "### Anthropic",
            table(&[
                ("messages", messages(anthropic::Format::Messages)),
                ("messages/count_tokens", messages(anthropic::Format::Count)),
            ]),
        ),
        (
            "### Ollama",
            table(&[
                ("chat", lines(ollama::Format::Chat)),
                ("generate", lines(ollama::Format::Generate)),
            ]),
        ),
        ("### Ollama's `options`", table(&[("chat and generate", ollama::options().collect())])),
        (
            "### llama.cpp",
            table(&[
                ("completion", native(llama_cpp::Format::Completion)),
                ("infill", native(llama_cpp::Format::Infill)),
            ]),
        ),
        (
            "### Decisions",
            table(&[("decisions", decisions::fields(decisions::Format::Decisions).collect())]),
        ),
        (
            "### Moderations",
            table(&[(
                "moderations",
                moderations::fields(moderations::Format::Moderations).collect(),
            )]),
        ),
        ("### OpenAI's batches", table(&[("batches", openai::batch_fields().collect())])),
    ];
    sections.extend(of_reading());
    let text: Vec<String> =
        sections.iter().map(|(head, table)| format!("{head}\n\n{table}")).collect();
    ends_with("API.md", "### Anthropic", &text.join("\n"));
}

/// The tables of formats for models that read.
fn of_reading() -> [(&'static str, String); 3] {
    let reads = |columns: &[(&'static str, Format)]| {
        let rows = |format: &Format| reading::fields(*format).collect();
        let columns = columns.iter().map(|(name, format)| (*name, rows(format)));
        table(&columns.collect::<Vec<_>>())
    };
    [
        (
            "### OpenAI's and llama.cpp's embeddings, vLLM's scores",
            reads(&[
                ("v1/embeddings", Format::Embeddings),
                ("pooling", Format::Pooling),
                ("classify", Format::Classify),
                ("score", Format::Score),
                ("embedding", Format::LlamaEmbedding),
            ]),
        ),
        (
            "### Ollama's and Cohere's embeddings, reranking",
            reads(&[
                ("api/embed", Format::OllamaEmbed),
                ("api/embeddings", Format::OllamaEmbeddings),
                ("v2/embed", Format::CohereEmbed),
                ("v2/rerank", Format::CohereRerank),
                ("v1/rerank", Format::Rerank),
            ]),
        ),
        (
            "### Text Embeddings Inference",
            reads(&[
                ("embed", Format::TeiEmbed),
                ("embed_all", Format::TeiEmbedAll),
                ("embed_sparse", Format::TeiEmbedSparse),
                ("rerank", Format::TeiRerank),
                ("predict", Format::TeiPredict),
                ("similarity", Format::TeiSimilarity),
                ("its parameters", Format::TeiParameters),
            ]),
        ),
    ]
}
