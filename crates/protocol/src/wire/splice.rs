//! JSON texts changed in one place, all other bytes left as they are: a member's value found,
//! replaced or added. Whoever calls has parsed the text before, or does not mind that nothing
//! happens to one that is no JSON: this scans, and checks no more than it needs. Absent: arrays, of
//! which nothing is changed.

use std::ops::Range;

/// A member of an object: its name, and where its value stands.
struct Member {
    name: String,
    value: Range<usize>,
}

/// The text of the value at `path`, of keys from the outermost object on.
pub(super) fn get<'a>(text: &'a str, path: &[&str]) -> Option<&'a str> {
    let mut place = 0..text.len();
    for name in path {
        place = members(text, &place)?.into_iter().find(|member| member.name == *name)?.value;
    }
    text.get(place)
}

/// The text with `value`, a JSON text, at `path`: in the place of what was there, or added behind
/// the last member. Objects on the way are made where there are none, or null. `None` where
/// something else is on the way.
pub(super) fn set(text: &str, path: &[&str], value: &str) -> Option<String> {
    let (place, new) = edit(text, &(0..text.len()), path, value)?;
    Some([text.get(..place.start)?, &new, text.get(place.end..)?].concat())
}

/// What is replaced by what.
fn edit(
    text: &str,
    object: &Range<usize>,
    path: &[&str],
    value: &str,
) -> Option<(Range<usize>, String)> {
    let (name, rest) = path.split_first()?;
    let members = members(text, object)?;
    let nested = |rest: &[&str]| {
        let inner = rest.iter().rev();
        inner.fold(value.to_owned(), |inner, name| format!("{{{}:{inner}}}", quoted(name)))
    };
    if let Some(member) = members.iter().find(|member| member.name == *name) {
        if rest.is_empty() || text.get(member.value.clone())? == "null" {
            return Some((member.value.clone(), nested(rest)));
        }
        return edit(text, &member.value, rest, value);
    }
    let added = format!("{}:{}", quoted(name), nested(rest));
    match members.last() {
        Some(last) => Some((last.value.end..last.value.end, format!(",{added}"))),
        None => {
            let open = object.start + text.get(object.clone())?.find('{')? + 1;
            Some((open..open, added))
        }
    }
}

/// A text as JSON has it.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The members of the object at `place`; `None` where there is none.
fn members(text: &str, place: &Range<usize>) -> Option<Vec<Member>> {
    let bytes = text.as_bytes().get(..place.end)?;
    let mut at = blank(bytes, place.start);
    if bytes.get(at) != Some(&b'{') {
        return None;
    }
    let mut out = Vec::new();
    at = blank(bytes, at + 1);
    while bytes.get(at) == Some(&b'"') {
        let end = string(bytes, at)?;
        let name = serde_json::from_str(text.get(at..end)?).ok()?;
        at = blank(bytes, end);
        if bytes.get(at) != Some(&b':') {
            return None;
        }
        let start = blank(bytes, at + 1);
        let end = value(bytes, start)?;
        out.push(Member { name, value: start..end });
        at = blank(bytes, end);
        if bytes.get(at) == Some(&b',') {
            at = blank(bytes, at + 1);
        }
    }
    (bytes.get(at) == Some(&b'}')).then_some(out)
}

fn blank(bytes: &[u8], from: usize) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    from + rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count()
}

/// Behind the string that begins at `from`.
fn string(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from + 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Behind the value that begins at `from`.
fn value(bytes: &[u8], from: usize) -> Option<usize> {
    let (mut at, mut depth) = (from, 0usize);
    loop {
        match bytes.get(at)? {
            b'"' => at = string(bytes, at)?,
            b'{' | b'[' => (at, depth) = (at + 1, depth + 1),
            b'}' | b']' => (at, depth) = (at + 1, depth.checked_sub(1)?),
            _ if depth > 0 => at += 1,
            _ => {
                let plain = |byte: &&u8| !byte.is_ascii_whitespace() && !b",}]".contains(byte);
                at += bytes[at..].iter().take_while(plain).count();
                return (at > from).then_some(at);
            }
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    #[test]
    fn one_value_changes_and_nothing_else() {
        let check = |text: &str, path: &[&str], value: &str, expect: Option<&str>| {
            assert_eq!(set(text, path, value).as_deref(), expect, "{text} {path:?}");
        };
        check(r#"{"a": 1.0,"b":[{"a":2}] }"#, &["a"], "3", Some(r#"{"a": 3,"b":[{"a":2}] }"#));
        check(r#"{"b":[{"a":2}]}"#, &["a"], "3", Some(r#"{"b":[{"a":2}],"a":3}"#));
        check("{ }", &["a"], "3", Some(r#"{"a":3 }"#));
        check(r#"{"a":{"b":"}\""},"c":1e2}"#, &["c"], "0", Some(r#"{"a":{"b":"}\""},"c":0}"#));
        check(r#"{"a":{"b":1}}"#, &["a", "b"], "2", Some(r#"{"a":{"b":2}}"#));
        check(r#"{"a":null}"#, &["a", "b"], "2", Some(r#"{"a":{"b":2}}"#));
        check("{}", &["a", "b"], "2", Some(r#"{"a":{"b":2}}"#));
        check(r#"{"\u0061":1}"#, &["a"], "2", Some(r#"{"\u0061":2}"#));
        check(r#"{"a":1}"#, &["a", "b"], "2", None);
        check("[1]", &["a"], "2", None);
        check(r#"{"a":"#, &["a"], "2", None);
        check("", &["a"], "2", None);
        check("[DONE]", &["a"], "2", None);
        assert_eq!(get(r#"{"a":{"b": "x"} }"#, &["a", "b"]), Some("\"x\""));
        assert_eq!(get(r#"{"a":1}"#, &["b"]), None);
    }

    proptest! {
        /// Whatever is scanned, nothing panics, and what was set is what is got.
        #[test]
        fn anything_may_come(text in "[{}\\[\\]\",:\\\\a1 é]{0,40}") {
            let _ = get(&text, &["a"]);
            let _ = set(&text, &["a", "b"], "1");
        }

        #[test]
        fn what_was_set_is_got(keys in prop::collection::vec("[a-c\"]{1,2}", 0..4), pretty: bool) {
            let value: Value =
                keys.iter().map(|key| (key.clone(), json!({ "x": [key, null, 1.5] }))).collect();
            let text = if pretty { format!("{value:#}") } else { value.to_string() };
            let new = set(&text, &["a", "x"], "7").expect("objects all the way");
            let mut expect = value;
            expect["a"]["x"] = json!(7);
            prop_assert_eq!(serde_json::from_str::<Value>(&new).expect("JSON"), expect);
        }
    }
}
