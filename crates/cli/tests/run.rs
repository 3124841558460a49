//! `ingle run` as its users meet it, mostly on the default model: what is the answer and what is
//! about it, pipes, Ctrl-C, and what it refuses.
#![cfg(unix)]

mod support;

use std::io::Read;
use std::process::Command;

use support::{end, ingle, piped, run, tiny};

const HELLO: [&str; 6] = ["run", "--temperature", "0", "-n", "12", "Say hello to the world."];

#[test]
fn the_answer_is_out_and_the_receipt_is_beside_it() {
    let said = run(&HELLO);
    assert!(said.answer().trim().len() > 3 && said.out.ends_with('\n'), "{said:?}");
    assert!(!said.out.contains('\u{1b}') && !said.out.contains("this machine"), "{said:?}");
    assert_eq!(said.err.lines().count(), 1, "{said:?}");
    let parts = ["smollm2 on ", " prompt + ", " generated tokens", "first token ", " tokens/s"];
    for part in parts.into_iter().chain(["cost 0", "stayed on this machine"]) {
        assert!(said.err.contains(part), "{part:?} is not in {said:?}");
    }
    assert_eq!(run(&HELLO).answer(), said.out, "temperature 0 is always the same");
    let quiet = run(&[&HELLO[..], &["--quiet"]].concat());
    assert_eq!((quiet.answer(), quiet.err.as_str()), (&*said.out, ""));
}

#[test]
fn json_has_the_answer_and_its_receipt() {
    let said = run(&[&HELLO[..], &["--json"]].concat());
    let (json, receipt) = (said.json(), &said.json()["receipt"]);
    assert_eq!(said.err, "");
    assert_eq!(json["text"].as_str().map(|text| text.trim().is_empty()), Some(false), "{json}");
    assert_eq!(receipt["model"], "smollm2");
    assert_eq!(receipt["left_machine"], false);
    assert_eq!(receipt["cost_micros"], 0);
    assert!(["stop", "length"].contains(&receipt["finish"].as_str().expect("a text")), "{json}");
    assert!(receipt["usage"]["prompt_tokens"].as_u64() > Some(5), "{json}");
    assert!((1..=12).contains(&receipt["usage"]["completion_tokens"].as_u64().expect("a count")));
    for time in ["queued_ms", "first_token_ms", "total_ms"] {
        assert!(receipt["timings"][time].as_f64() >= Some(0.0), "{time}: {json}");
    }
    assert_eq!(receipt["route"][0]["taken"], true);
}

/// The tokens of a raw prompt and what is piped in, one for each byte.
fn prompt_bytes(words: &[&str], input: &str) -> u64 {
    let model = tiny();
    let arguments = ["run", "--json", "--raw", "-n", "1", "-m", &model];
    let said = piped(&[&arguments[..], words].concat(), input.as_bytes());
    said.json()["receipt"]["usage"]["prompt_tokens"].as_u64().expect("a count")
}

#[test]
fn what_is_piped_in_follows_the_prompt() {
    let check = |words: &[&str], input: &str, prompt: &str| {
        assert_eq!(prompt_bytes(words, input), prompt.len() as u64, "{words:?} < {input:?}");
    };
    check(&["Sum", "up"], "", "Sum up");
    check(&["Sum up"], " \n", "Sum up");
    check(&[], "a text\n", "a text\n");
    check(&["Sum up"], "a text\n", "Sum up\n\na text\n");
    check(&["Sum up"], "日本\n", "Sum up\n\n日本\n");
}

#[test]
fn options_reach_the_model() {
    let model = tiny();
    let tiny = ["run", "--json", "--raw", "-m", &model, "Hello"];
    let with = |more: &[&str]| run(&[&tiny[..], more].concat()).json();
    let seeded = ["-n", "40", "--seed", "3", "--temperature", "1", "--top-k", "0", "--top-p", "1"];
    let drawn = with(&seeded);
    assert_eq!(drawn["text"], with(&seeded)["text"]);
    assert_ne!(drawn["text"], with(&["-n", "40", "--seed", "4", "--temperature", "1"])["text"]);
    let text = drawn["text"].as_str().expect("a text");
    let stop: String = text.chars().skip(4).take(3).collect();
    let stopped = with(&[&seeded[..], &["--stop", &stop]].concat());
    assert_eq!(stopped["text"], text[..text.find(&stop).expect("is in there")]);
    assert_eq!(stopped["receipt"]["finish"], "stop");
    let whole = with(&["--context", "64", "--temperature", "0"]);
    assert_eq!(whole["receipt"]["usage"]["completion_tokens"], 64 - "Hello".len());
    assert_eq!(whole["receipt"]["finish"], "length");
    for threads in ["1", "3"] {
        let kernels = ["--threads", threads, "--kernels", "portable", "--no-prefix-cache"];
        assert_eq!(with(&[&seeded[..], &kernels].concat())["text"], drawn["text"]);
    }
}

#[test]
fn an_answer_matches_what_it_is_held_to() {
    let folder = new_folder();
    let schema = folder.join("schema.json");
    let grammar = folder.join("grammar.lark");
    let text = r#"{"type": "object", "properties": {"sky": {"enum": ["blue", "grey"]}},
        "required": ["sky"], "additionalProperties": false}"#;
    std::fs::write(&schema, text).expect("writes");
    std::fs::write(&grammar, "start: \"It is \" (\"blue\" | \"grey\") \".\"\n").expect("writes");
    let [schema, grammar] = [&schema, &grammar].map(|path| path.to_str().expect("UTF-8"));
    let held = |arguments: &[&str]| {
        let ask = ["run", "--json", "-n", "60", "--temperature", "0", "What colour is the sky?"];
        let said = run(&[&ask[..], arguments].concat()).json();
        assert_eq!(said["receipt"]["finish"], "stop", "{said}");
        said["text"].as_str().expect("a text").to_owned()
    };
    let document: serde_json::Value =
        serde_json::from_str(&held(&["--schema", schema])).expect("JSON");
    assert!(["blue", "grey"].contains(&document["sky"].as_str().expect("a text")), "{document}");
    assert!(["yes", "no"].contains(&held(&["--regex", "yes|no"]).as_str()));
    assert!(held(&["--grammar", grammar]).starts_with("It is "));
    std::fs::remove_dir_all(folder).expect("is there");
}

/// A new folder.
fn new_folder() -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("ingle-run-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

#[test]
fn ctrl_c_keeps_what_was_said() {
    let endless = ["run", "--raw", "--temperature", "0", "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,"];
    let mut child = ingle(&endless).spawn().expect("starts");
    let mut stdout = child.stdout.take().expect("is piped");
    let mut first = [0; 8];
    stdout.read_exact(&mut first).expect("an answer begins");
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-s", "INT", &id]).status().expect("runs").success());
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).expect("UTF-8");
    let code = end(&mut child).code();
    let mut err = String::new();
    child.stderr.take().expect("is piped").read_to_string(&mut err).expect("UTF-8");
    assert_eq!(code, Some(130), "{err}");
    assert!(first.starts_with(b" 13") && rest.ends_with('\n'), "{first:?} {rest:?}");
    let receipt = err.lines().next().expect("a receipt");
    assert!(receipt.contains("interrupted") && receipt.contains("this machine"), "{err}");
}

#[test]
fn a_reader_that_goes_ends_it_quietly() {
    let endless = ["run", "--raw", "--temperature", "0", "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,"];
    let mut child = ingle(&endless).spawn().expect("starts");
    let mut stdout = child.stdout.take().expect("is piped");
    stdout.read_exact(&mut [0; 5]).expect("an answer begins");
    drop(stdout);
    let status = end(&mut child);
    let mut err = String::new();
    child.stderr.take().expect("is piped").read_to_string(&mut err).expect("UTF-8");
    assert_eq!((status.code(), err.as_str()), (Some(0), ""));
}

#[test]
fn what_it_refuses() {
    let model = tiny();
    let check = |arguments: &[&str], code: i32, words: &[&str]| {
        run(&[&["run"], arguments].concat()).refused(code, words);
    };
    check(&[], 2, &["there is no prompt", "hint: ingle run"]);
    check(&["-n", "0", "Hello"], 2, &["--max-tokens"]);
    check(&["--kernels", "magic", "Hello"], 2, &["this machine has: best", "portable"]);
    check(&["--threads", "0", "Hello"], 2, &["--threads"]);
    check(&["--raw", "--system", "Be kind.", "Hello"], 2, &["--system"]);
    check(&["-m", "./nowhere.gguf", "Hello"], 1, &["nowhere.gguf"]);
    check(&["--schema", "./nowhere.json", "Hello"], 2, &["nowhere.json"]);
    check(&["--schema", "a.json", "--regex", "a", "Hello"], 2, &["--regex", "--schema"]);
    check(&["-m", &model, "--raw", "--regex", "(", "Hello"], 1, &["regular expression"]);
    check(&["-m", &model, "Hello"], 1, &["base model without a chat template", "--raw"]);
    check(&["-m", &model, "--raw", "--temperature", "9", "Hello"], 1, &["temperature is 9"]);
    check(&["-m", &model, "--raw", &"x".repeat(600)], 1, &["600 tokens", "512"]);
    check(&["-m", &model, "--raw", "--context", "1000", "Hello"], 1, &["1000", "512"]);
    piped(&["run", "Sum up"], b"\xff\xfe").refused(2, &["standard input", "UTF-8"]);
}

#[test]
fn a_draft_model_changes_no_answer() {
    let model = tiny();
    let tiny = ["run", "--json", "--raw", "-m", &model, "-n", "60", "--seed", "3", "Hello"];
    let plain = run(&[&tiny[..], &["--speculation", "none"]].concat()).json();
    let guessed = run(&[&tiny[..], &["--draft-model", &model]].concat()).json();
    assert_eq!(guessed["text"], plain["text"]);
    run(&[&tiny[..], &["--speculation", "draft"]].concat()).refused(1, &["--draft-model"]);
    let unused = ["--speculation", "lookup", "--draft-model", &model];
    run(&[&tiny[..], &unused].concat()).refused(1, &["--speculation draft"]);
    run(&[&tiny[..], &["--draft-model", "nowhere.gguf"]].concat()).refused(1, &["nowhere.gguf"]);
}
