//! Decisions and moderations as clients meet them, on the default model and on a base model.
#![cfg(unix)]

mod support;

use serde_json::{Value, json};
use support::server::Server;
use support::tiny;

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("a number, not {value}"))
}

/// What holds of every answer.
fn sound(answer: &Value) {
    let labels = answer["labels"].as_array().expect("a list");
    let sum: f64 = labels.iter().map(|label| number(&label["probability"])).sum();
    assert!((sum - 1.0).abs() < 1e-9, "{answer}");
    let best = labels.iter().map(|label| number(&label["probability"])).fold(0.0, f64::max);
    let own = labels.iter().find(|label| label["label"] == answer["label"]).expect("is one");
    assert_eq!(number(&own["probability"]), best, "{answer}");
    let mass: f64 = labels.iter().map(|label| number(&label["logprob"]).exp()).sum();
    assert!((number(&answer["mass"]) - mass).abs() < 1e-9 && mass <= 1.0 + 1e-9, "{answer}");
}

fn request(model: &str, calibration: &str, often: usize) -> String {
    let questions = json!([
        { "id": "weather", "kind": "predicate", "question": "Is the text about the weather?" },
        { "id": "topic", "kind": "choice", "question": "What is the text about?",
          "labels": ["weather", "weather forecast", "football", "cooking"] },
        { "id": "sure", "kind": "score", "question": "How sure does it sound?", "low": 0, "high": 10 },
    ]);
    let input =
        "It will rain all day tomorrow, and the wind will be strong at the coast. ".repeat(often);
    json!({ "model": model, "input": input, "questions": questions, "calibration": calibration,
            "instructions": "You sort texts." })
    .to_string()
}

#[test]
fn the_default_model_decides() {
    let base = format!("base={}", tiny());
    let server = Server::start(&["smollm2", &base]);
    let first = server.ask("POST", "/v1/decisions", &request("", "none", 6));
    assert_eq!(first.status, 200, "{}", first.body);
    let first = first.json();
    let answers = first["answers"].as_array().expect("a list");
    answers.iter().for_each(sound);
    assert_eq!(first["model"], "smollm2");
    assert_ne!(answers[1]["label"], "football", "even a small model sees that: {first}");
    let expected = number(&answers[2]["expected"]);
    assert!((0.0..=10.0).contains(&expected), "{first}");
    assert_eq!(first["ingle"]["left_machine"], false);
    // What the questions share was computed once.
    let usage = &first["usage"];
    let cached = number(&usage["prompt_tokens_details"]["cached_tokens"]);
    assert!(cached > 0.4 * number(&usage["prompt_tokens"]), "{usage}");
    let again = server.ask("POST", "/v1/decisions", &request("", "none", 6)).json();
    assert_eq!(again["answers"], first["answers"], "the same request has the same answer");
    let prior = server.ask("POST", "/v1/decisions", &request("", "prior", 6)).json();
    let labels = |answer: &Value| answer["answers"][1]["labels"].as_array().cloned();
    for (one, other) in
        labels(&prior).into_iter().zip(labels(&first)).flat_map(|(a, b)| a.into_iter().zip(b))
    {
        assert_eq!(one["logprob"], other["logprob"]);
        assert!(one["prior_logprob"].is_number() && one["probability"] != other["probability"]);
    }
    let base = server.ask("POST", "/v1/decisions", &request("base", "none", 1)).json();
    assert_eq!(base["model"], "base", "{base}");
    base["answers"].as_array().expect("a list").iter().for_each(sound);
    let body = json!({ "input": ["I love this garden.", "I will kill you."] }).to_string();
    let judged = server.ask("POST", "/v1/moderations", &body).json();
    let results = judged["results"].as_array().expect("a list");
    assert_eq!((results.len(), &judged["model"]), (2, &json!("smollm2")));
    let scores = |at: usize| results[at]["category_scores"].as_object().expect("an object").clone();
    assert!(
        scores(0).values().chain(scores(1).values()).all(|it| (0.0..=1.0).contains(&number(it)))
    );
    assert_ne!(scores(0), scores(1), "what is judged is the text");
}
