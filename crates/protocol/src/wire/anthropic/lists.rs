//! The small answers beside the messages: how many tokens a request has, and which models there
//! are, as Anthropic's clients read them.

use serde_json::{Value, json};

use crate::wire::openai::ModelLine;
use crate::wire::rfc3339;

/// How many tokens a request has.
pub fn write_count(tokens: usize) -> String {
    json!({ "input_tokens": tokens }).to_string()
}

fn model(line: &ModelLine<'_>) -> Value {
    json!({
        "type": "model",
        "id": line.name,
        "display_name": line.name,
        "created_at": rfc3339(line.created_s),
    })
}

/// One model.
pub fn write_model(line: &ModelLine<'_>) -> String {
    model(line).to_string()
}

/// All models, on one page.
pub fn write_models(lines: &[ModelLine<'_>]) -> String {
    let end = |line: Option<&ModelLine<'_>>| line.map(|line| line.name.to_owned());
    let data: Vec<Value> = lines.iter().map(model).collect();
    json!({
        "data": data,
        "has_more": false,
        "first_id": end(lines.first()),
        "last_id": end(lines.last()),
    })
    .to_string()
}
