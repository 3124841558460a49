//! The document holds together, and says what the readers do.

use std::collections::HashSet;

use super::*;
use crate::wire::openai::moderations;
use crate::wire::reading::Format;
use crate::wire::{anthropic, decisions, llama_cpp, ollama, openai, responses};

/// Every text under a key, anywhere in a value.
fn texts<'a>(key: &str, value: &'a Value, out: &mut Vec<&'a str>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                match value {
                    Value::String(text) if name == key => out.push(text),
                    other => texts(key, other, out),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| texts(key, item, out)),
        _ => {}
    }
}

#[test]
fn every_honoured_field_has_values_and_every_value_a_field() {
    let values = parsed(FIELDS);
    let mut used = HashSet::new();
    for form in forms() {
        for row in (form.rows)().iter().filter(|row| matches!(row.rule, Rule::Honoured)) {
            let place = form.places.iter().find(|place| values[**place].get(row.name).is_some());
            let place = place.unwrap_or_else(|| panic!("{}: no values of {}", form.name, row.name));
            used.insert((*place, row.name));
        }
        for name in form.required {
            assert!((form.rows)().iter().any(|row| row.name == *name), "{}: {name}", form.name);
        }
    }
    for (place, fields) in values.as_object().expect("places") {
        for name in fields.as_object().expect("fields").keys() {
            assert!(used.contains(&(place.as_str(), name.as_str())), "{place}: {name} is unused");
        }
    }
}

#[test]
fn references_lead_somewhere_and_nothing_stands_idle() {
    let document = build();
    let schemas = document["components"]["schemas"].as_object().expect("schemas");
    let mut found = Vec::new();
    texts("$ref", &document, &mut found);
    let found: HashSet<&str> =
        found.iter().map(|text| text.rsplit('/').next().expect("a part")).collect();
    for name in &found {
        assert!(schemas.contains_key(*name), "{name} is nowhere");
    }
    for name in schemas.keys() {
        assert!(found.contains(name.as_str()), "nothing leads to {name}");
    }
    let ids: HashSet<&str> = operations().map(|operation| operation.id).collect();
    assert_eq!(ids.len(), operations().count(), "an id is there twice");
}

/// Values just within a schema's bounds, and values just outside of them.
fn edges(schema: &Value) -> (Vec<Value>, Vec<Value>) {
    let (mut within, mut beyond) = (Vec::new(), Vec::new());
    for part in schema["anyOf"].as_array().into_iter().flatten() {
        within.extend(edges(part).0);
    }
    for value in schema["enum"].as_array().into_iter().flatten() {
        within.push(value.clone());
        beyond.push(json!("no such value"));
    }
    let step = if schema["type"] == "integer" { 1.0 } else { 0.001 };
    match schema["type"].as_str() {
        Some("boolean") => {
            within.extend([json!(true), json!(false)]);
            beyond.extend([json!("true"), json!(1)]);
        }
        Some("integer" | "number") => {
            for (key, out) in [("minimum", -step), ("maximum", step)] {
                let Some(bound) = schema.get(key).filter(|bound| !bound.is_null()) else {
                    continue;
                };
                within.push(bound.clone());
                let number = bound.as_f64().expect("a number");
                if number.abs() < 9e15 {
                    beyond.push(json!(number + out));
                }
            }
            beyond.extend([json!("1"), json!([])]);
        }
        _ => {}
    }
    (within, beyond)
}

/// A body of the form that is right but for one field.
fn body(form: &str, field: &str, value: &Value) -> Vec<u8> {
    let user = json!([{ "role": "user", "content": "Hi" }]);
    let mut out = match form {
        "CompletionRequest" | "LlamaCompletionRequest" => json!({ "prompt": "Hi" }),
        "AnthropicRequest" => json!({ "messages": user, "max_tokens": 8 }),
        "OllamaChatRequest" => json!({ "model": "m", "messages": user }),
        "OllamaGenerateRequest" | "OllamaOptions" => json!({ "model": "m", "prompt": "Hi" }),
        "LlamaInfillRequest" => json!({}),
        "DecisionRequest" => {
            json!({ "input": "Hi", "questions": [{ "kind": "predicate", "question": "Is it?" }] })
        }
        "ModerationRequest" => json!({ "input": "Hi" }),
        "ResponseRequest" | "ResponseCountRequest" => json!({ "input": "Hi" }),
        "BatchRequest" => json!({
            "input_file_id": "file-1",
            "endpoint": "/v1/completions",
            "completion_window": "24h",
        }),
        "ChatCompletionRequest" | "AnthropicCountRequest" => json!({ "messages": user }),
        _ => texts_body(form),
    };
    let place = match form {
        "OllamaOptions" => &mut out["options"],
        "TeiParameters" => &mut out["parameters"],
        _ => &mut out,
    };
    place[field] = value.clone();
    // What some fields are nothing without.
    for (with, name, other) in [
        ("top_logprobs", "logprobs", json!(true)),
        ("stream_options", "stream", json!(true)),
        ("length_penalty", "use_beam_search", json!(true)),
        ("early_stopping", "use_beam_search", json!(true)),
        ("best_of", "n", value.clone()),
        ("max_tokens", "prompt_logprobs", json!(1)),
    ] {
        // A response has log-probabilities by another name; two formats alone have a prompt's.
        let known = ["ChatCompletionRequest", "CompletionRequest"].contains(&form);
        if field == with && !form.starts_with("Response") && (known || name != "prompt_logprobs") {
            out[name] = other;
        }
    }
    out.to_string().into_bytes()
}

fn reads(form: &str, body: &[u8]) -> Result<(), crate::Fault> {
    match form {
        "ChatCompletionRequest" => openai::read_request(openai::Format::Chat, body).map(drop),
        "CompletionRequest" => openai::read_request(openai::Format::Completions, body).map(drop),
        "DecisionRequest" => decisions::read_request(body).map(drop),
        "ModerationRequest" => moderations::read_request(body).map(drop),
        "ResponseRequest" => responses::read_open(body).map(drop),
        "ResponseCountRequest" => responses::read_count(body).map(drop),
        "BatchRequest" => {
            let paths =
                ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings"];
            openai::read_batch(body, &paths).map(drop)
        }
        "AnthropicRequest" => anthropic::read_request(body).map(drop),
        "AnthropicCountRequest" => anthropic::read_count(body).map(drop),
        "OllamaChatRequest" => ollama::read_request(ollama::Format::Chat, body).map(drop),
        "OllamaGenerateRequest" | "OllamaOptions" => {
            ollama::read_request(ollama::Format::Generate, body).map(drop)
        }
        "LlamaCompletionRequest" => {
            llama_cpp::read_request(llama_cpp::Format::Completion, body).map(drop)
        }
        "LlamaInfillRequest" => llama_cpp::read_request(llama_cpp::Format::Infill, body).map(drop),
        other => read_texts(other, body),
    }
}

fn read_texts(form: &str, body: &[u8]) -> Result<(), crate::Fault> {
    let format = match form {
        "EmbeddingRequest" => Format::Embeddings,
        "OllamaEmbedRequest" => Format::OllamaEmbed,
        "OllamaEmbeddingsRequest" => Format::OllamaEmbeddings,
        "CohereEmbedRequest" => Format::CohereEmbed,
        "CohereRerankRequest" => Format::CohereRerank,
        "RerankRequest" => Format::Rerank,
        "TeiEmbedRequest" => Format::TeiEmbed,
        "TeiEmbedAllRequest" => Format::TeiEmbedAll,
        "TeiEmbedSparseRequest" => Format::TeiEmbedSparse,
        "TeiRerankRequest" => Format::TeiRerank,
        "TeiPredictRequest" => Format::TeiPredict,
        "TeiSimilarityRequest" => Format::TeiSimilarity,
        "ScoreRequest" => Format::Score,
        "ClassifyRequest" => Format::Classify,
        "PoolingRequest" => Format::Pooling,
        "LlamaEmbeddingRequest" => Format::LlamaEmbedding,
        "TeiParameters" => Format::TeiSimilarity,
        other => panic!("how is {other} read?"),
    };
    crate::wire::reading::read_request(format, body).map(drop)
}

/// A body of such a form that is right.
fn texts_body(form: &str) -> Value {
    match form {
        "EmbeddingRequest" | "ClassifyRequest" | "PoolingRequest" => json!({ "input": "Hi" }),
        "OllamaEmbedRequest" => json!({ "model": "m", "input": "Hi" }),
        "OllamaEmbeddingsRequest" => json!({ "model": "m", "prompt": "Hi" }),
        "CohereEmbedRequest" => json!({ "model": "m", "texts": ["Hi"] }),
        "CohereRerankRequest" | "RerankRequest" => {
            json!({ "model": "m", "query": "Hi", "documents": ["Hi"] })
        }
        "TeiRerankRequest" => json!({ "query": "Hi", "texts": ["Hi"] }),
        "TeiSimilarityRequest" | "TeiParameters" => {
            let inputs = json!({ "source_sentence": "Hi", "sentences": ["Hi"] });
            json!({ "inputs": inputs, "parameters": {} })
        }
        "ScoreRequest" => json!({ "text_1": "Hi", "text_2": "Hi" }),
        "LlamaEmbeddingRequest" => json!({ "content": "Hi" }),
        _ => json!({ "inputs": "Hi" }),
    }
}

/// Why a form refuses a field's value; another field may be at fault for other reasons.
fn blamed(form: &str, field: &str, value: &Value) -> Option<crate::Fault> {
    let fault = reads(form, &body(form, field, value)).err()?;
    let param = fault.param.clone().unwrap_or_default();
    let own = param.strip_prefix("options.").or(param.strip_prefix("parameters."));
    let own = own.unwrap_or(&param);
    own.strip_prefix(field).is_some_and(|rest| !rest.starts_with('_')).then_some(fault)
}

/// The document's bounds are the readers'.
#[test]
fn what_a_schema_allows_is_read_and_what_it_forbids_is_refused() {
    let values = parsed(FIELDS);
    let mut tried = 0;
    for form in forms() {
        for row in (form.rows)() {
            if !matches!(row.rule, Rule::Honoured) {
                continue;
            }
            let (within, beyond) = edges(&form.value(&values, row.name));
            for value in &within {
                let fault = blamed(form.name, row.name, value);
                assert!(fault.is_none(), "{} {} {value}: {fault:?}", form.name, row.name);
            }
            for value in &beyond {
                let fault = blamed(form.name, row.name, value);
                assert!(fault.is_some(), "{} {} {value}", form.name, row.name);
            }
            tried += within.len() + beyond.len();
        }
    }
    assert!(tried > 500, "{tried}");
}

/// What a caller can be told is written down: every status of an error that a request for answers
/// can meet, in words of its own. A wrong method or path is no operation's, and what is there
/// twice or runs is that of records.
#[test]
fn every_error_of_a_question_is_documented() {
    let document = build();
    for path in ["/v1/chat/completions", "/v1/messages", "/api/chat", "/v1/responses"] {
        let told = &document["paths"][path]["post"]["responses"];
        let statuses =
            crate::wire::errors::statuses().filter(|status| ![405, 409].contains(status));
        for status in statuses {
            let text = told[status.to_string()]["description"].as_str().unwrap_or_default();
            let plain = text == words(0);
            assert!(!text.is_empty() && plain == (status == 500), "{path}: {status}: {text:?}");
        }
    }
}
