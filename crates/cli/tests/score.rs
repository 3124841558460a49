//! `ingle score`: the figures of a model against a reference, and what it says of wrong cases.

mod support;

use support::{of, piped, run, tiny};

fn gold() -> String {
    of("engine", "golden/archs/qwen2.gold.json")
}

/// The default model's first case.
fn default_gold() -> Vec<u8> {
    let all = std::fs::read(of("engine", "fixtures/smollm2-135m.gold.json")).expect("is there");
    let all: Vec<serde_json::Value> = serde_json::from_slice(&all).expect("a list");
    serde_json::to_vec(&all[..1]).expect("JSON")
}

#[test]
fn the_default_model_against_its_reference() {
    let said = piped(&["score", "smollm2", "-", "--json"], &default_gold());
    let json = said.json();
    assert_eq!((said.err.as_str(), &json["model"]), ("", &"smollm2".into()));
    assert_eq!(json["positions"], 48);
    assert!(json["top1_agreement"].as_f64() >= Some(0.97), "{json}");
    let mean = json["mean_abs_delta"].as_f64().expect("a number");
    let p99 = json["p99_abs_delta"].as_f64().expect("a number");
    assert!(0.0 < mean && mean < 0.001 && mean < p99 && p99 < 0.01, "{json}");
}

/// llama.cpp's mean is 0.079 with halves.
#[test]
fn keys_and_values_as_bytes_cost_little() {
    let said = piped(&["score", "smollm2", "-", "--json", "--kv-type", "q8_0"], &default_gold());
    let json = said.json();
    assert_eq!((&json["kv_type"], &json["positions"]), (&"q8_0".into(), &48.into()));
    assert!(json["top1_agreement"].as_f64() >= Some(0.97), "{json}");
    let mean = json["mean_abs_delta"].as_f64().expect("a number");
    assert!(0.001 < mean && mean < 0.05, "{json}");
}

#[test]
fn figures_for_people() {
    let said = run(&["score", &tiny(), &gold()]);
    let rows: Vec<Vec<&str>> =
        said.answer().lines().map(|line| line.split("  ").map(str::trim).collect()).collect();
    assert_eq!(rows.len(), 4, "{said:?}");
    assert_eq!((rows[0][0], rows[0].last()), ("positions", Some(&"153")));
    assert_eq!((rows[1][0], rows[1].last()), ("top-1 agreement", Some(&"1.0000")));
    assert!(rows[2][0].starts_with("mean |"), "{said:?}");
    assert!(rows[3][0].starts_with("99th"), "{said:?}");
}

#[test]
fn kernels_can_be_chosen() {
    // The reference keeps its keys and values as they are; the others as halves.
    for (kernels, most) in [("reference", 1e-4), ("portable", 2e-3)] {
        let json = run(&["score", &tiny(), &gold(), "--json", "--kernels", kernels]).json();
        assert_eq!((&json["kernels"], &json["positions"]), (&kernels.into(), &153.into()));
        assert!(json["mean_abs_delta"].as_f64() < Some(most), "{json}");
    }
}

#[test]
fn wrong_cases_are_named() {
    let model = tiny();
    let check = |cases: &str, code: i32, words: &[&str]| {
        piped(&["score", &model, "-"], cases.as_bytes()).refused(code, words);
    };
    check("not JSON", 2, &["-: ", "line 1"]);
    check("{}", 2, &["not a JSON list of cases"]);
    check(r#"[{"ids": [1], "top10": []}, {"ids": [1]}]"#, 2, &["case 1", "`top10`"]);
    check(r#"[{"ids": ["a"], "top10": []}]"#, 2, &["case 0", "is no token"]);
    check(r#"[{"ids": [1], "top10": [[[2]]]}]"#, 2, &["case 0", "log-probability"]);
    check("[]", 1, &["no position to compare"]);
    check(r#"[{"ids": [], "top10": []}]"#, 1, &["no position to compare"]);
    check(r#"[{"ids": [259], "top10": [[[1, -1.0]]]}]"#, 1, &["token 259"]);
    check(r#"[{"ids": [1], "top10": [[[259, -1.0]]]}]"#, 1, &["token 259"]);
    let long = format!(r#"[{{"ids": [{}1], "top10": [[[1, -1.0]]]}}]"#, "1,".repeat(600));
    check(&long, 1, &["601 tokens", "512"]);
    run(&["score", &model, "./nowhere.json"]).refused(2, &["./nowhere.json"]);
}
