//! `docs/API.md` shows the tables of fields as they stand in the code.

mod support;

use ingle_protocol::wire::openai::moderations;
use ingle_protocol::wire::{anthropic, decisions, llama_cpp, ollama, openai};
use support::{ends_with, table};

#[test]
fn the_page_shows_the_tables() {
    let messages = |format| anthropic::fields(format).collect();
    let lines = |format| ollama::fields(format).collect();
    let native = |format| llama_cpp::fields(format).collect();
    let sections = [
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
    let text: Vec<String> =
        sections.iter().map(|(head, table)| format!("{head}\n\n{table}")).collect();
    ends_with("API.md", "### Anthropic", &text.join("\n"));
}
