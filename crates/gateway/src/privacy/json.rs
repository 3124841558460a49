//! JSON texts whose strings and numbers are read and exchanged, while all else stays as it was
//! written, byte for byte. Absent: what is done with them.

/// The longest key that is told as what names a value.
const KEY_MOST: usize = 64;

/// A string or a number within a JSON text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaf<'a> {
    /// The key that it stands under, also of the array that it is in; empty where it is a key or
    /// stands under none.
    pub(super) key: &'a str,
    /// The keys that the objects around it stand under, from the outermost one's on; that one
    /// stands under none. Arrays are none.
    pub(super) within: &'a [String],
    /// The string without its escapes, or the number as it is written.
    pub(super) value: &'a str,
}

/// The text with some of its strings and numbers exchanged: `change` tells by what, if by
/// anything. A number becomes a string. `None` where it is no JSON.
pub(super) fn rewrite<E>(
    text: &str,
    change: &mut dyn FnMut(Leaf<'_>) -> Result<Option<String>, E>,
) -> Result<Option<String>, E> {
    if serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() {
        return Ok(None);
    }
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut keys = vec![String::new()];
    let mut objects: Vec<String> = Vec::new();
    let (mut at, mut told) = (0, 0);
    while at < bytes.len() {
        let start = at;
        let string = match bytes[at] {
            b'{' | b'[' => {
                let key = keys.last().cloned().unwrap_or_default();
                if bytes[at] == b'{' {
                    objects.push(key.clone());
                }
                keys.push(key);
                at += 1;
                continue;
            }
            b'}' | b']' => {
                keys.pop();
                if bytes[at] == b'}' {
                    objects.pop();
                }
                at += 1;
                continue;
            }
            b'"' => {
                at = string_end(bytes, at);
                let Ok(string) = serde_json::from_str::<String>(&text[start..at]) else {
                    return Ok(None);
                };
                string
            }
            b'-' | b'0'..=b'9' => {
                let number = |byte: &&u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
                at += bytes[at..].iter().take_while(number).count();
                text[start..at].to_owned()
            }
            _ => {
                at += 1;
                continue;
            }
        };
        let is_key = bytes[start] == b'"'
            && bytes[at..].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':');
        let key = if is_key { "" } else { keys.last().map_or("", String::as_str) };
        let within = objects.get(1..).unwrap_or_default();
        if let Some(changed) = change(Leaf { key, within, value: &string })? {
            out.push_str(&text[told..start]);
            out.push_str(&quoted(&changed));
            told = at;
        }
        if is_key && let Some(key) = keys.last_mut() {
            *key = if string.len() <= KEY_MOST { string } else { String::new() };
        }
    }
    out.push_str(&text[told..]);
    Ok(Some(out))
}

/// Where a string ends that begins here, behind its quote; the text is JSON.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// A text as a JSON string.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_changed_stays_as_it_was_written() {
        let check = |text: &str, expect: Option<&str>, leaves: &[(&str, &str)]| {
            let mut seen = Vec::new();
            let changed = rewrite::<()>(text, &mut |leaf| {
                seen.push((leaf.key.to_owned(), leaf.value.to_owned()));
                Ok((leaf.value == "x\n" || leaf.value == "12").then(|| "\"y\"".to_owned()))
            });
            assert_eq!(changed, Ok(expect.map(str::to_owned)), "{text}");
            let leaves: Vec<_> =
                leaves.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            assert_eq!(seen, leaves, "{text}");
        };
        check(r#"{ "a" : "b" }"#, Some(r#"{ "a" : "b" }"#), &[("", "a"), ("a", "b")]);
        check(
            r#"{"a":["x\n", 1.50],"b":12}"#,
            Some(r#"{"a":["\"y\"", 1.50],"b":"\"y\""}"#),
            &[("", "a"), ("a", "x\n"), ("a", "1.50"), ("", "b"), ("b", "12")],
        );
        check(
            r#"{"a":{"b":1},"c":[{"d":2},3]}"#,
            Some(r#"{"a":{"b":1},"c":[{"d":2},3]}"#),
            &[("", "a"), ("", "b"), ("b", "1"), ("", "c"), ("", "d"), ("d", "2"), ("c", "3")],
        );
        check(r#"{"a":"#, None, &[]);
        check(r#""\ud800""#, None, &[]);
        check("", None, &[]);
    }

    #[test]
    fn leaves_know_what_they_stand_within() {
        let mut seen = Vec::new();
        let text = r#"{"a":{"b":[[{"c":1}],2]},"d":[3],"e":{},"f":4}"#;
        let read = rewrite::<()>(text, &mut |leaf| {
            let numbers = "1234".contains(leaf.value);
            seen.extend(numbers.then(|| (leaf.value.to_owned(), leaf.within.join("."))));
            Ok(None)
        });
        assert_eq!(read, Ok(Some(text.to_owned())));
        let expect = [("1", "a.b"), ("2", "a"), ("3", ""), ("4", "")];
        assert_eq!(seen, expect.map(|(value, within)| (value.to_owned(), within.to_owned())));
    }
}
