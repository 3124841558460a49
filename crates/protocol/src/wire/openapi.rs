//! The OpenAPI document of what is served: a table of operations, whose requests' schemas are made
//! of the formats' own tables of fields, so that a field is in the document exactly where it is
//! read. What values a field has, and what answers look like, stands beside this in JSON:
//! `fields.json`, `shapes.json`, `answers.json`, and for models that read `reading.json`. Tests
//! hold both against the readers and writers. Absent: the events of streams, which the format has
//! no words for.

mod operations;
mod reading;

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::errors::Dialect;
use super::table::{Row, Rule};

/// Every operation that is served.
pub fn operations() -> impl Iterator<Item = &'static Operation> {
    operations::OPERATIONS.iter().chain(reading::OPERATIONS)
}

fn forms() -> impl Iterator<Item = &'static Form> {
    operations::FORMS.iter().chain(reading::FORMS)
}

/// One method of one path.
#[derive(Debug)]
pub struct Operation {
    /// The method's name, in capitals.
    pub method: &'static str,
    /// The path, with `{name}` where a part of it is given.
    pub path: &'static str,
    id: &'static str,
    summary: &'static str,
    /// Whose words its errors are in.
    dialect: Dialect,
    takes: Takes,
    /// Statuses and the contents that they come with.
    gives: &'static [(u16, &'static [Content])],
    /// Statuses of errors beside the usual ones.
    more: &'static [u16],
    /// Whether it needs no key.
    pub open: bool,
}

/// A content type and the name of what is in it.
type Content = (&'static str, &'static str);

/// What a request carries.
#[derive(Clone, Copy, Debug)]
enum Takes {
    Nothing,
    /// A JSON body of this form.
    Form(&'static str),
    /// A JSON body of this shape; whether it has to be there.
    Shape(&'static str, bool),
    /// A form of this shape, in parts.
    Upload(&'static str),
}

/// A request's body that a table of fields describes.
struct Form {
    name: &'static str,
    /// Where its fields' values are told, the nearest first.
    places: &'static [&'static str],
    rows: fn() -> Vec<Row>,
    required: &'static [&'static str],
}

const FIELDS: &str = include_str!("openapi/fields.json");
const PARTS: [&str; 3] = [
    include_str!("openapi/shapes.json"),
    include_str!("openapi/answers.json"),
    include_str!("openapi/reading.json"),
];

/// The whole document, as a JSON text.
pub fn document() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| build().to_string());
    &TEXT
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect("a test reads the files of this crate")
}

fn build() -> Value {
    let mut schemas = Map::new();
    for part in PARTS {
        if let Value::Object(part) = parsed(part) {
            schemas.extend(part);
        }
    }
    let values = parsed(FIELDS);
    for form in forms() {
        schemas.insert(form.name.to_owned(), form.schema(&values));
    }
    let mut paths = Map::new();
    for operation in operations() {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method.to_lowercase()] = operation.write();
    }
    let key = json!({
        "bearer": { "type": "http", "scheme": "bearer" },
        "header": { "type": "apiKey", "in": "header", "name": "x-api-key" },
    });
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Ingle",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            "description": "Models on hardware of one's own, over the APIs of OpenAI, Anthropic, \
                            Ollama, llama.cpp, Cohere and Text Embeddings Inference. A server \
                            with API keys wants one with every request, in either of two ways; \
                            one without takes any or none.",
        },
        "paths": paths,
        "components": { "schemas": schemas, "securitySchemes": key },
    })
}

impl Form {
    /// An object of the fields that have an effect or may stand, and of no others.
    fn schema(&self, values: &Value) -> Value {
        let mut properties = Map::new();
        for row in (self.rows)() {
            let value = match row.rule {
                Rule::Honoured => self.value(values, row.name),
                Rule::Inert => json!({}),
                Rule::Neutral(texts, why) => {
                    let values: Vec<Value> = texts.iter().map(|text| parsed(text)).collect();
                    json!({ "enum": values, "description": format!("Nothing else: {why}.") })
                }
                Rule::Refused(_) => continue,
            };
            let required = self.required.contains(&row.name);
            properties.insert(
                row.name.to_owned(),
                if required { value } else { json!({ "anyOf": [value, { "type": "null" }] }) },
            );
        }
        json!({
            "type": "object",
            "properties": properties,
            "required": self.required,
            "additionalProperties": false,
        })
    }

    fn value(&self, values: &Value, name: &str) -> Value {
        let found = self.places.iter().find_map(|place| values[*place].get(name));
        found.cloned().expect("a test looks up every field")
    }
}

fn content(kinds: &[Content]) -> Value {
    let one = |(kind, name): &Content| {
        let schema = json!({ "$ref": format!("#/components/schemas/{name}") });
        ((*kind).to_owned(), json!({ "schema": schema }))
    };
    Value::Object(kinds.iter().map(one).collect())
}

const JSON: &str = super::ask::JSON;

/// What can go wrong anywhere, where there is a body, and where the path names something.
const ANYWHERE: &[u16] = &[401, 403, 429, 500, 503];
const WITH_BODY: &[u16] = &[400, 402, 404, 408, 413, 415, 501, 502];
const WITH_NAME: &[u16] = &[400, 404];

impl Operation {
    fn write(&self) -> Value {
        let mut out = json!({
            "operationId": self.id,
            "summary": self.summary,
            "tags": [self.tag()],
            "responses": self.responses(),
        });
        let parameters = self.parameters();
        if !parameters.is_empty() {
            out["parameters"] = json!(parameters);
        }
        match self.takes {
            Takes::Nothing => {}
            Takes::Upload(name) => {
                let content = content(&[("multipart/form-data", name)]);
                out["requestBody"] = json!({ "required": true, "content": content });
            }
            Takes::Form(name) => {
                out["requestBody"] =
                    json!({ "required": true, "content": content(&[(JSON, name)]) });
            }
            Takes::Shape(name, required) => {
                out["requestBody"] =
                    json!({ "required": required, "content": content(&[(JSON, name)]) });
            }
        }
        if !self.open {
            out["security"] = json!([{ "bearer": [] }, { "header": [] }]);
        }
        out
    }

    fn tag(&self) -> &'static str {
        match self.dialect {
            Dialect::OpenAi => "OpenAI",
            Dialect::Anthropic => "Anthropic",
            Dialect::Ollama => "Ollama",
            Dialect::LlamaCpp => "llama.cpp",
            Dialect::Cohere => "Cohere",
            Dialect::Tei => "Text Embeddings Inference",
        }
    }

    /// The parts of the path that are given.
    fn names(&self) -> impl Iterator<Item = &'static str> {
        self.path.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|pair| pair.0)
    }

    fn parameters(&self) -> Vec<Value> {
        let path = self.names().map(|name| {
            json!({
                "name": name,
                "in": "path",
                "required": true,
                "schema": { "type": "string", "minLength": 1 },
            })
        });
        let place = format!("{} {}", self.method, self.path);
        let queries = operations::QUERIES.iter().filter(|row| row.0 == place).flat_map(|row| row.1);
        let query = queries.map(|(name, schema)| {
            json!({ "name": name, "in": "query", "required": false, "schema": parsed(schema) })
        });
        path.chain(query).collect()
    }

    fn responses(&self) -> Value {
        let error = match self.dialect {
            Dialect::OpenAi => "OpenAiError",
            Dialect::Anthropic => "AnthropicError",
            Dialect::Ollama => "OllamaError",
            Dialect::LlamaCpp => "LlamaError",
            Dialect::Cohere => "CohereError",
            Dialect::Tei => "TeiError",
        };
        let mut out = Map::new();
        for (status, kinds) in self.gives {
            let text = json!({ "description": "It went well.", "content": content(kinds) });
            out.insert(status.to_string(), text);
        }
        let body = !matches!(self.takes, Takes::Nothing);
        let wrong = ANYWHERE
            .iter()
            .chain(if body { WITH_BODY } else { &[] })
            .chain(if self.names().next().is_some() { WITH_NAME } else { &[] })
            .chain(self.more);
        for status in wrong.filter(|_| !self.open) {
            let text =
                json!({ "description": words(*status), "content": content(&[(JSON, error)]) });
            out.entry(status.to_string()).or_insert(text);
        }
        Value::Object(out)
    }
}

/// What an error's status means here.
fn words(status: u16) -> &'static str {
    match status {
        400 => "The request is wrong; the message names the field and what is allowed.",
        401 => "No API key, or an unknown one.",
        402 => "A budget of the policy's has no room for it, or it costs more than may be.",
        403 => "The key, the host's name, or the policy, does not allow this.",
        404 => "There is no such model, or nothing of that name.",
        408 => "The request did not arrive in time, or its own time was too short.",
        409 => "It cannot be done as things stand.",
        413 => "The body is too long.",
        415 => "The body is of another content type.",
        429 => "As much is under way as may be; Retry-After tells when to come again.",
        501 => "The protocol has it and this server or model does not.",
        502 => "A remote provider failed.",
        503 => "The model is still loading, or the server is going down.",
        _ => "The server failed.",
    }
}

#[cfg(test)]
mod tests;
