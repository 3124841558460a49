//! Spans as OTLP's JSON (opentelemetry-proto 1.x, `ExportTraceServiceRequest`): ids in hexadecimal,
//! numbers of 64 bits as texts. Absent: how they are sent.

use serde_json::{Value as Json, json};

use super::names;

/// What an attribute's value is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    Number(i64),
    Fraction(f64),
    Bool(bool),
    Texts(Vec<String>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<f32> for Value {
    fn from(number: f32) -> Self {
        // The digits that were sent: 0.7 and not 0.699999988.
        Self::Fraction(number.to_string().parse().unwrap_or_default())
    }
}

pub(super) type Attributes = Vec<(&'static str, Value)>;

/// What happened, from when to when, in nanoseconds since 1970.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Span {
    pub(super) trace: u128,
    pub(super) id: u64,
    /// The span that it is part of.
    pub(super) parent: Option<u64>,
    pub(super) name: String,
    pub(super) serves: bool,
    pub(super) start_ns: u64,
    pub(super) end_ns: u64,
    pub(super) attributes: Attributes,
    pub(super) failed: bool,
}

/// A request's body.
pub(super) fn write(service: &str, spans: &[Span]) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let resource = [(names::SERVICE, service.into()), (names::VERSION, version.into())];
    json!({ "resourceSpans": [{
        "resource": { "attributes": attributes(&resource) },
        "scopeSpans": [{
            "scope": { "name": names::INGLE, "version": version },
            "spans": spans.iter().map(span).collect::<Vec<_>>(),
        }],
    }]})
    .to_string()
}

fn span(span: &Span) -> Json {
    let mut out = json!({
        "traceId": format!("{:032x}", span.trace),
        "spanId": format!("{:016x}", span.id),
        "name": span.name,
        // A server's span, or an internal one.
        "kind": if span.serves { 2 } else { 1 },
        "startTimeUnixNano": span.start_ns.to_string(),
        "endTimeUnixNano": span.end_ns.to_string(),
        "attributes": attributes(&span.attributes),
    });
    if let Some(parent) = span.parent {
        out["parentSpanId"] = format!("{parent:016x}").into();
    }
    if span.failed {
        out["status"] = json!({ "code": 2 });
    }
    out
}

fn attributes(attributes: &[(&str, Value)]) -> Json {
    let one = |(key, value): &(&str, Value)| json!({ "key": key, "value": self::value(value) });
    attributes.iter().map(one).collect()
}

fn value(value: &Value) -> Json {
    match value {
        Value::Text(text) => json!({ "stringValue": text }),
        Value::Number(number) => json!({ "intValue": number.to_string() }),
        Value::Fraction(number) => json!({ "doubleValue": number }),
        Value::Bool(truth) => json!({ "boolValue": truth }),
        Value::Texts(texts) => {
            let values: Vec<Json> =
                texts.iter().map(|text| json!({ "stringValue": text })).collect();
            json!({ "arrayValue": { "values": values } })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_as_the_protocol_has_them() {
        let rows = [
            (Value::from("a\"b"), json!({ "stringValue": "a\"b" })),
            (Value::Number(i64::MIN), json!({ "intValue": "-9223372036854775808" })),
            (Value::from(u32::MAX), json!({ "intValue": "4294967295" })),
            (Value::from(0.7), json!({ "doubleValue": 0.7 })),
            (Value::Bool(false), json!({ "boolValue": false })),
            (Value::Texts(vec![]), json!({ "arrayValue": { "values": [] } })),
        ];
        for (value, expect) in rows {
            assert_eq!(self::value(&value), expect);
        }
    }
}
