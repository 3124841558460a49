//! A JSON schema, made ready for the grammar library: blanks between an answer's tokens are
//! bounded, so that no draw can spend an answer on them, and formats that the library takes too
//! widely (leap days of any year, leap seconds at any time, labels of any length) are narrowed by
//! patterns beside them. What a schema allows is otherwise unchanged. Absent: telling what of a
//! schema can be followed, which the library does.

use serde_json::{Map, Value, json};

/// The library's own options as they are written into each schema: what may stand between two
/// tokens of an answer is one blank, or one line feed and an indent.
pub const OPTIONS: &str = r#""x-guidance":{"whitespace_pattern":" |\\r?\\n(?: {0,32}|\\t{0,8})"}"#;

/// The most characters between two tokens of an answer.
pub const BLANKS_MAX: usize = 34;

/// What a text of a format has to match beside what the library asks for.
const NARROWER: &[(&str, &str)] = &[
    ("date", DATE),
    ("date-time", DATE_TIME),
    // A second 60 is one of the world's time alone, which has it at one time of day.
    ("time", "^[0-9]{2}:[0-9]{2}:[0-5]"),
    // The bounds of RFC 5321, 4.5.3.1, and of RFC 1035, 2.3.4.
    ("email", r"^[^@]{1,64}@(\[.*|[^.\[]{1,63}(\.[^.]{1,63}){0,2})$"),
    ("hostname", r"^[^.]{1,63}(\.[^.]{1,63}){0,2}$"),
];

const DATE: &str = concat!(
    "^(....-(0[13-9]|1[0-2]|02-([01]|2[0-8]))",
    "|(..(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29)"
);

const DATE_TIME: &str = concat!(
    "^(....-(0[13-9]|1[0-2])-..|....-02-([01].|2[0-8])",
    "|(..(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29)",
    "[tT]..:..:[0-5]"
);

/// Keywords whose value is a schema, or a list of them.
const SCHEMAS: &[&str] =
    &["items", "prefixItems", "additionalItems", "additionalProperties", "allOf", "anyOf", "oneOf"];

/// Keywords whose value has a schema for each name.
const NAMED: &[&str] = &["properties", "patternProperties", "$defs", "definitions"];

/// The schema as the library is to see it. What is no JSON object is left for it to refuse, but for
/// `true`, which allows anything.
pub fn prepared(schema: &str) -> String {
    match serde_json::from_str(schema) {
        Ok(Value::Object(mut map)) => {
            narrow(&mut map);
            let text = Value::Object(map).to_string();
            match text.strip_prefix('{') {
                Some("}") | None => format!("{{{OPTIONS}}}"),
                Some(rest) => format!("{{{OPTIONS},{rest}"),
            }
        }
        Ok(Value::Bool(true)) => format!("{{{OPTIONS}}}"),
        _ => schema.to_owned(),
    }
}

/// Puts the narrower pattern beside each format. Reading a text bounds how deep it goes.
fn narrow(schema: &mut Map<String, Value>) {
    for (key, value) in schema.iter_mut() {
        match value {
            Value::Object(named) if NAMED.contains(&key.as_str()) => {
                named.values_mut().filter_map(Value::as_object_mut).for_each(narrow);
            }
            Value::Object(one) if SCHEMAS.contains(&key.as_str()) => narrow(one),
            Value::Array(list) if SCHEMAS.contains(&key.as_str()) => {
                list.iter_mut().filter_map(Value::as_object_mut).for_each(narrow);
            }
            _ => {}
        }
    }
    let format = schema.get("format").and_then(Value::as_str);
    let Some((_, pattern)) = NARROWER.iter().find(|(name, _)| Some(*name) == format) else {
        return;
    };
    let beside = json!({ "type": "string", "pattern": pattern });
    // Only texts have a format; any other value may stand beside it.
    let beside = match schema.get("type").and_then(Value::as_str) {
        Some("string") => beside,
        _ => json!({ "anyOf": [{ "type": OTHERS }, beside] }),
    };
    match schema.get_mut("allOf") {
        Some(Value::Array(all)) => all.push(beside),
        Some(_) => {} // is refused
        None => drop(schema.insert("allOf".to_owned(), json!([beside]))),
    }
}

/// All types but a text's.
const OTHERS: [&str; 5] = ["null", "boolean", "number", "array", "object"];

#[cfg(test)]
mod tests {
    use super::*;
    use regex::Regex;

    #[test]
    fn options_stand_in_every_schema() {
        let check = |schema: &str, expect: &str| {
            assert_eq!(prepared(schema), expect.replace("OPTIONS", OPTIONS));
        };
        check("{}", "{OPTIONS}");
        check(" true ", "{OPTIONS}");
        check(r#"{ "type": "object" }"#, r#"{OPTIONS,"type":"object"}"#);
        check("false", "false");
        check("{", "{");
        check("[1]", "[1]");
        // What only looks like a schema is left alone.
        let data = r#"{OPTIONS,"const":{"format":"date"},"enum":[{"format":"time"}]}"#;
        check(r#"{"const":{"format":"date"},"enum":[{"format":"time"}]}"#, data);
        let names = r#"{OPTIONS,"properties":{"format":{"type":"string"}}}"#;
        check(r#"{"properties":{"format":{"type":"string"}}}"#, names);
        let options: Value = serde_json::from_str(&format!("{{{OPTIONS}}}")).expect("JSON");
        let pattern = options["x-guidance"]["whitespace_pattern"].as_str().expect("a text");
        let blanks = Regex::new(&format!("^({pattern})$")).expect("a pattern");
        assert!(blanks.is_match(&format!("\r\n{}", " ".repeat(BLANKS_MAX - 2))));
        assert!(!blanks.is_match(&format!("\r\n{}", " ".repeat(BLANKS_MAX - 1))));
    }

    #[test]
    fn formats_are_narrowed_wherever_a_schema_stands() {
        let date = r#"{"type":"string","format":"date"}"#;
        for schema in [
            format!(r#"{{"properties":{{"a":{date}}}}}"#),
            format!(r#"{{"$defs":{{"a":{{"items":{date}}}}}}}"#),
            format!(r#"{{"anyOf":[{{"prefixItems":[{date}]}}]}}"#),
            format!(r#"{{"allOf":[{{}},{date}],"additionalProperties":{date}}}"#),
            date.to_owned(),
        ] {
            let times = schema.matches("\"date\"").count();
            assert_eq!(prepared(&schema).matches("02-29").count(), times, "{schema}");
        }
        let any = prepared(r#"{"format":"time"}"#);
        assert!(any.contains("anyOf") && any.contains("null"), "{any}");
    }

    #[test]
    fn narrower_patterns_tell_right_from_wrong() {
        let check = |format: &str, text: &str, expect: bool| {
            let (_, pattern) = NARROWER.iter().find(|row| row.0 == format).expect("a row");
            assert_eq!(Regex::new(pattern).expect("it").is_match(text), expect, "{format} {text}");
        };
        for (date, real) in [
            ("2024-02-29", true),
            ("2000-02-29", true),
            ("0000-02-29", true),
            ("1900-02-29", false),
            ("2023-02-29", false),
            ("2023-02-28", true),
            ("2023-12-31", true),
            ("2023-10-29", true),
        ] {
            check("date", date, real);
            check("date-time", &format!("{date}T10:20:30Z"), real);
            check("date-time", &format!("{date}T10:20:60Z"), false);
        }
        check("time", "23:59:59Z", true);
        check("time", "23:59:60Z", false);
        let long = "a".repeat(64);
        check("hostname", "a.example.com", true);
        check("hostname", &format!("{long}.com"), false);
        check("email", "a@example.com", true);
        check("email", "a@[127.0.0.1]", true);
        check("email", &format!("{long}@example.com"), true);
        check("email", &format!("{long}a@example.com"), false);
        check("email", &format!("a@{long}.com"), false);
    }
}
