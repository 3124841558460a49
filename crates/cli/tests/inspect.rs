//! `ingle inspect`: that its numbers are there and agree with each other. What they are is the
//! machine's affair.

mod support;

use std::sync::LazyLock;

use serde_json::Value;
use support::{run, tiny};

const FAST: &str = "bandwidth=1TB/s,compute=10TFLOPS";
const SLOW: &str = "bandwidth=1kB/s";

/// One run for all tests that read its numbers: each measures the whole machine.
static JSON: LazyLock<Value> = LazyLock::new(|| {
    let tiny = tiny();
    let few = ["inspect", &tiny, "--json", "--repeat", "1", "--threads", "2", "--ops"];
    let more = ["--prompt", "40", "--context-used", "50", "--on", FAST, "--on", SLOW];
    run(&[&few[..], &more].concat()).json()
});

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().unwrap_or_else(|| panic!("{key} is no list in {value}"))
}

fn sum(values: &[Value], key: &str) -> u64 {
    values.iter().map(|value| value[key].as_u64().expect("a whole number")).sum()
}

#[test]
fn every_number_is_there() {
    let json = &*JSON;
    let limits = ["read_bytes_per_second", "byte_flops_per_second", "float_flops_per_second"];
    for limit in limits {
        assert!(json["limits"][limit].as_f64() > Some(0.0), "{limit} of {json}");
    }
    let steadiness = json["limits"]["steadiness"].as_f64().expect("a number");
    assert!(0.0 < steadiness && steadiness <= 1.0);
    let phases = list(json, "phases");
    let known = |phase: &Value| {
        (phase["phase"].clone(), phase["tokens"].clone(), phase["context_used"].clone())
    };
    assert_eq!(known(&phases[0]), ("decode".into(), 1.into(), 50.into()));
    assert_eq!(known(&phases[1]), ("prefill".into(), 40.into(), 0.into()));
    for phase in phases {
        assert!(phase["tokens_per_second"].as_f64() > Some(0.0), "{phase}");
        for row in list(phase, "groups").iter().chain(list(phase, "each")).chain([phase]) {
            for key in ["seconds", "share_of_time", "share_of_roof", "bytes_per_second"] {
                assert!(row[key].as_f64() >= Some(0.0), "{key} of {row}");
            }
            let verdict = row["verdict"].as_str().expect("a verdict");
            assert!(row["words"].as_str().expect("words").starts_with(verdict), "{row}");
        }
    }
}

#[test]
fn groups_and_ops_sum_up_to_the_whole() {
    let json = &*JSON;
    for phase in list(json, "phases") {
        for key in ["ops", "bytes_read", "bytes_written", "flops", "matrix_bytes"] {
            let whole = phase[key].as_u64().expect("a whole number");
            assert_eq!(sum(list(phase, "groups"), key), whole, "{key} of the groups");
            assert_eq!(sum(list(phase, "each"), key), whole, "{key} of the ops");
        }
        // A step, of one token or of 40, multiplies by every matrix once.
        assert_eq!(phase["matrix_bytes"], json["weight_bytes"]);
    }
    let names: Vec<&Value> =
        list(&json["phases"][0], "groups").iter().map(|group| &group["op"]).collect();
    let expect = [
        "embed",
        "angles",
        "qkv",
        "rope",
        "attention",
        "output",
        "gate_up",
        "down",
        "gather",
        "logits",
    ];
    assert_eq!(names, expect);
    let layers: Vec<&Value> =
        list(&json["phases"][0], "each").iter().map(|op| &op["layer"]).collect();
    assert_eq!(
        (layers[0], layers[2], layers[layers.len() - 3]),
        (&Value::Null, &0.into(), &1.into())
    );
}

#[test]
fn other_machines_are_forecast() {
    let json = &*JSON;
    for phase in list(json, "phases") {
        let on = list(phase, "on");
        let rate = |at: usize, key: &str| on[at][key].as_f64().expect("a number");
        assert_eq!(on[0]["on"], FAST);
        assert!(
            rate(0, "tokens_per_second_at_the_roof") > rate(1, "tokens_per_second_at_the_roof")
        );
        assert!(rate(0, "tokens_per_second") > rate(1, "tokens_per_second"));
        let bytes = phase["bytes_read"].as_f64().expect("bytes")
            + phase["bytes_written"].as_f64().expect("bytes");
        let expect = phase["tokens"].as_f64().expect("tokens") * 1e3 / bytes;
        assert!((rate(1, "tokens_per_second_at_the_roof") / expect - 1.0).abs() < 1e-9);
    }
}

#[test]
fn people_get_tables_and_sentences() {
    let on = "compute=1TFLOPS";
    let said = run(&["inspect", &tiny(), "--repeat", "1", "--prompt", "8", "--ops", "--on", on]);
    let lines: Vec<&str> = said.answer().lines().collect();
    let has = |start: &str, count| {
        let found = lines.iter().filter(|line| line.starts_with(start)).count();
        assert_eq!(found, count, "{start} in {said:?}");
    };
    has("limits: memory ", 1);
    has("OP ", 4);
    has("all ", 2);
    has("1.qkv ", 2);
    has("decode: 1 token", 1);
    has("prefill: 8 tokens", 1);
    has("most of it: ", 2);
    has("on compute=1TFLOPS: ", 2);
}

#[test]
fn nonsense_is_refused() {
    let check = |more: &[&str], words: &[&str]| {
        run(&[&["inspect", &tiny()], more].concat()).refused(2, words);
    };
    check(&["--on", "speed=9"], &["speed", "bandwidth=80GB/s"]);
    check(&["--prompt", "0"], &["--prompt"]);
    check(&["--prompt", "4000000000"], &["--prompt 4000000000", "context has"]);
    check(&["--context-used", "4000000000"], &["--context-used", "context has"]);
}
