//! `ingle tokenize`: a text's tokens, and the check of many against known ones.

mod support;

use serde_json::json;
use support::{of, piped, run, tiny};

#[test]
fn a_texts_tokens() {
    let said = run(&["tokenize", "smollm2", "Hello, world!"]);
    assert_eq!(said.answer(), "19556  \"Hello\"\n   28  \",\"\n  905  \"Ġworld\"\n   17  \"!\"\n");
    let json = run(&["tokenize", "smollm2", "--json", "Hello, world!"]).json();
    let expect = json!({ "ids": [19556, 28, 905, 17], "tokens": ["Hello", ",", "Ġworld", "!"] });
    assert_eq!(json, expect);
    assert_eq!(piped(&["tokenize", "smollm2", "--json"], b"Hello, world!").json(), expect);
    assert_eq!(run(&["tokenize", "smollm2", "--json"]).json(), json!({ "ids": [], "tokens": [] }));
}

#[test]
fn markup_is_markup_unless_it_is_plain() {
    let ids = |more: &[&str]| {
        let said = run(&[&["tokenize", "smollm2", "--json", "<|im_start|>"], more].concat());
        said.json()["ids"].as_array().map(Vec::len)
    };
    assert_eq!(ids(&[]), Some(1));
    assert!(ids(&["--plain"]) > Some(1));
}

#[test]
fn known_tokens_are_checked() {
    let cases = of("model", "fixtures/smollm2-135m.tokens.json");
    let said = run(&["tokenize", "smollm2", "--cases", &cases]);
    assert_eq!((said.answer(), said.err.as_str()), ("133 rows, 0 mismatches\n", ""));
    let json = run(&["tokenize", "smollm2", "--cases", &cases, "--json"]).json();
    assert_eq!(json, json!({ "rows": 133, "mismatches": 0 }));
    let prompts = of("model", "fixtures/smollm2-135m.cases.json");
    let said = run(&["tokenize", "smollm2", "--cases", &prompts]);
    assert_eq!(said.answer(), "6 rows, 0 mismatches\n");
}

#[test]
fn a_wrong_row_is_shown_and_fails() {
    let rows = br#"[{"text": "a", "parse_special": true, "ids": [97]}, {"text": "b", "ids": [9]}]"#;
    let said = piped(&["tokenize", &tiny(), "--cases", "-"], rows);
    assert_eq!((said.code, said.err.as_str()), (Some(1), ""), "{said:?}");
    assert!(said.out.contains("row 1: ") && said.out.contains("[9]"), "{said:?}");
    assert!(said.out.ends_with("\n2 rows, 1 mismatches\n"), "{said:?}");
    let said = piped(&["tokenize", &tiny(), "--cases", "-", "--json"], rows);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert_eq!(said.out, "{\"rows\":2,\"mismatches\":1}\n");
}

#[test]
fn wrong_cases_are_named() {
    let model = tiny();
    let check = |cases: &[u8], words: &[&str]| {
        piped(&["tokenize", &model, "--cases", "-"], cases).refused(2, words);
    };
    check(b"[", &["-: ", "not a JSON list"]);
    check(b"{}", &["not a JSON list"]);
    check(br#"[{"text": "a", "ids": [97]}, {"text": "b"}]"#, &["row 1", "`ids`"]);
    check(br#"[{"text": "a", "ids": [-1]}]"#, &["row 0", "-1"]);
    check(b"\xff", &["not UTF-8"]);
    run(&["tokenize", &model, "--cases", "./nowhere.json"]).refused(2, &["./nowhere.json"]);
    run(&["tokenize", &model, "text", "--cases", "-"]).refused(2, &["--cases"]);
}
