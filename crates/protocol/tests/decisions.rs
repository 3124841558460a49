//! Decisions and moderations: what is read, what is weighed for it, and what is answered.

mod support;

use ingle_protocol::wire::Stamp;
use ingle_protocol::wire::decisions::{self, Shape, Sort};
use ingle_protocol::wire::openai::moderations;
use ingle_protocol::{Event, Finish, Input, Receipt, Weighed, Weighing};
use serde_json::{Value, json};
use support::{chat, done, faults, means_what_it_says, turns};

const QUESTION: &str = r#"{"kind":"predicate","question":"Is it?"}"#;

fn body(extra: &str) -> String {
    let comma = if extra.is_empty() { "" } else { "," };
    format!(r#"{{"input":"A text.","questions":[{QUESTION}]{comma}{extra}}}"#)
}

fn receipt() -> Receipt {
    let Event::Done(receipt) = done(Finish::Stop, 0, None) else { unreachable!("it is done") };
    *receipt
}

fn weighed(logprobs: &[f64]) -> Weighed {
    Weighed { logprobs: logprobs.to_vec(), ended: false, receipt: receipt() }
}

fn stamp() -> Stamp {
    Stamp { id: "1".into(), created_ms: 2500, model: "m".into() }
}

#[test]
fn every_row_means_what_it_says() {
    let read = |extra: &str| decisions::read_request(body(extra).as_bytes());
    let rows = decisions::fields(decisions::Format::Decisions);
    means_what_it_says(rows, &["input", "questions"], "", read);
    let read = |extra: &str| {
        let comma = if extra.is_empty() { "" } else { "," };
        moderations::read_request(format!(r#"{{"input":"x"{comma}{extra}}}"#).as_bytes())
    };
    let rows = moderations::fields(moderations::Format::Moderations);
    means_what_it_says(rows, &["input"], "", read);
}

#[test]
fn wrong_requests_are_refused_by_name() {
    let check = |body: Value, param: &str, words: &str| {
        let text = body.to_string();
        faults(decisions::read_request(text.as_bytes()), &text, param, words);
    };
    let ask = |question: Value| json!({ "input": "x", "questions": [question] });
    check(json!({ "questions": [] }), "input", "is missing");
    check(json!({ "input": "x" }), "questions", "is missing");
    check(json!({ "input": [], "questions": [] }), "input", "is empty");
    check(json!({ "input": [{ "role": "user" }] }), "input[0].content", "is missing");
    check(ask(json!({})), "questions[0].kind", "is missing");
    check(ask(json!({ "kind": "guess" })), "questions[0].kind", "\"choice\"");
    check(ask(json!({ "kind": "predicate" })), "questions[0].question", "is missing");
    let choice =
        |labels: Value| ask(json!({ "kind": "choice", "question": "q", "labels": labels }));
    check(choice(json!(null)), "questions[0].labels", "is missing");
    check(choice(json!(["a"])), "questions[0].labels", "at least two");
    check(choice(json!(["a", "a"])), "questions[0].labels[1]", "twice");
    check(choice(json!(["a", " b"])), "questions[0].labels[1]", "blanks");
    check(choice(json!(["a", ""])), "questions[0].labels[1]", "blanks");
    let score = |low: i64, high: i64| {
        ask(json!({ "kind": "score", "question": "q", "low": low, "high": high }))
    };
    check(score(5, 5), "questions[0].high", "above");
    check(score(0, 256), "questions[0].high", "256");
    check(score(-2_000_000, 0), "questions[0].low", "from -1000000");
    let labelled = json!({ "kind": "score", "question": "q", "low": 0, "high": 9, "labels": [] });
    check(ask(labelled), "questions[0].labels", "unknown field");
    let twice = json!([{ "id": "a", "kind": "predicate", "question": "q" },
                       { "id": "a", "kind": "predicate", "question": "r" }]);
    check(json!({ "input": "x", "questions": twice }), "questions[1].id", "another question");
    let many: Vec<Value> = (0..5)
        .map(|_| json!({ "kind": "score", "question": "q", "low": 0, "high": 255 }))
        .collect();
    check(json!({ "input": "x", "questions": many }), "questions", "1280 labels");
    let calibration = json!({ "calibration": "temperature", "input": "x", "questions": [] });
    check(calibration, "calibration", "\"prior\"");
}

/// Turns of a conversation on lines of their own, or the text.
fn prompt(weighing: &Weighing) -> String {
    match &weighing.request.input {
        Input::Chat(_) => turns(chat(&weighing.request)).join("\n").replace("||||", ""),
        Input::Text(text) => text.clone(),
        other => panic!("nothing else is here: {other:?}"),
    }
}

#[test]
fn questions_become_prompts() {
    let body = json!({
        "model": "m", "instructions": "Be fair.", "input": "A text.", "calibration": "prior",
        "questions": [
            { "id": "p", "kind": "predicate", "question": "Is it?" },
            { "kind": "score", "question": "How much?", "low": 1, "high": 3 },
        ],
    });
    let asked = decisions::read_request(body.to_string().as_bytes()).expect("is read");
    assert_eq!(
        (asked.questions[1].id.as_str(), &asked.questions[1].sort),
        ("1", &Sort::Score(1, 3))
    );
    let all = asked.weighings(Shape::Chat);
    let yes = "Is it?\nAnswer with one of these and nothing else: Yes, No.";
    let prompts: Vec<String> = all.iter().map(prompt).collect();
    let number = "How much?\nAnswer with a whole number from 1 to 3 and nothing else.";
    let expect = [("A text.", yes), ("N/A", yes), ("A text.", number), ("N/A", number)]
        .map(|(input, question)| format!("system|Be fair.\nuser|{input}\n\n{question}"));
    assert_eq!(prompts, expect);
    assert_eq!(all[0].labels, ["Yes", "No"]);
    assert_eq!(all[2].labels, ["1", "2", "3"]);
    assert!(all.iter().all(|one| one.request.model == "m"));
    let text = asked.weighings(Shape::Text);
    assert_eq!(prompt(&text[0]), format!("Be fair.\n\nA text.\n\nQuestion: {yes}\nAnswer:"));
    assert_eq!(text[0].labels, [" Yes", " No"]);
    let turns =
        json!([{ "role": "user", "content": "Hi" }, { "role": "assistant", "content": "Ho" }]);
    let body =
        json!({ "input": turns, "questions": [{ "kind": "predicate", "question": "Is it?" }] });
    let asked = decisions::read_request(body.to_string().as_bytes()).expect("is read");
    let chat = prompt(&asked.weighings(Shape::Chat)[0]);
    assert_eq!(chat, format!("user|Hi\nassistant|Ho\nuser|{yes}"));
    let text = prompt(&asked.weighings(Shape::Text)[0]);
    assert_eq!(text, format!("user: Hi\n\nassistant: Ho\n\nQuestion: {yes}\nAnswer:"));
}

#[test]
fn weights_become_answers() {
    let questions = json!([
        { "id": "p", "kind": "predicate", "question": "q" },
        { "id": "c", "kind": "choice", "question": "q", "labels": ["x", "y"] },
        { "id": "s", "kind": "score", "question": "q", "low": 1, "high": 3 },
    ]);
    let body = json!({ "input": "x", "questions": questions }).to_string();
    let asked = decisions::read_request(body.as_bytes()).expect("is read");
    let logs = |list: &[f64]| weighed(&list.iter().map(|one: &f64| one.ln()).collect::<Vec<_>>());
    let weights = [logs(&[0.1, 0.3]), logs(&[0.5, 0.5]), logs(&[0.1, 0.1, 0.2])];
    let total = Weighed::total(&weights).expect("three");
    assert_eq!((total.usage.prompt_tokens, total.usage.cached_tokens), (21, 15));
    let text = decisions::write_answer(&asked, &stamp(), &weights, &total).expect("an answer");
    let answer: Value = serde_json::from_str(&text).expect("JSON");
    let [p, c, s] = [0, 1, 2].map(|at| &answer["answers"][at]);
    let near = |value: &Value, expect: f64| {
        assert!((value.as_f64().expect("a number") - expect).abs() < 1e-9, "{value} {expect}");
    };
    assert_eq!((&p["label"], &p["value"]), (&json!("No"), &json!(false)));
    near(&p["probability"], 0.25);
    near(&p["margin"], 0.5);
    near(&p["mass"], 0.4);
    near(&p["labels"][1]["logprob"], 0.3_f64.ln());
    assert_eq!((&c["label"], &c["id"]), (&json!("x"), &json!("c")));
    near(&c["margin"], 0.0);
    assert_eq!((&s["label"], &s["value"]), (&json!("3"), &json!(3)));
    near(&s["expected"], 2.25);
    assert_eq!((&answer["model"], &answer["created"]), (&json!("m"), &json!(2)));
    assert_eq!(answer["ingle"]["left_machine"], json!(false));
    assert!(decisions::write_answer(&asked, &stamp(), &weights[1..], &total).is_err());
}

#[test]
fn the_prior_is_taken_off() {
    let body = body(r#""calibration":"prior""#);
    let asked = decisions::read_request(body.as_bytes()).expect("is read");
    let weights = [weighed(&[-1.0, -2.0]), weighed(&[-0.5, -3.5])];
    let text = decisions::write_answer(&asked, &stamp(), &weights, &receipt()).expect("an answer");
    let answer: Value = serde_json::from_str(&text).expect("JSON");
    let one = &answer["answers"][0];
    // -1 + 0.5 against -2 + 3.5
    assert_eq!((&one["label"], &one["labels"][0]["prior_logprob"]), (&json!("No"), &json!(-0.5)));
    assert_eq!(answer["calibration"], "prior");
}

#[test]
fn moderations_are_questions_too() {
    let read = |body: Value| moderations::read_request(body.to_string().as_bytes());
    let refused = |body: Value, param: &str, words: &str| {
        faults(read(body.clone()), &body.to_string(), param, words);
    };
    refused(json!({}), "input", "is missing");
    refused(json!({ "input": [] }), "input", "is missing");
    refused(json!({ "input": vec!["x"; 33] }), "input", "at most 32");
    let image = json!([{ "type": "image_url", "image_url": { "url": "data:," } }]);
    refused(json!({ "input": image }), "input[0].type", "only text");
    let parts = json!([{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }]);
    assert_eq!(read(json!({ "input": parts })).expect("is read").inputs, ["a\nb"]);
    let theirs = read(json!({ "input": "x", "model": "omni-moderation-latest" }));
    assert_eq!(theirs.expect("is read").request.model, "");
    let asked = read(json!({ "input": ["a", "b"], "model": "m" })).expect("is read");
    let all = asked.weighings(Shape::Chat);
    assert_eq!((asked.request.model.as_str(), all.len()), ("m", 3 * 13));
    assert!(prompt(&all[0]).contains("N/A") && prompt(&all[13]).contains("The text:\na\n"));
    // Where nothing is said, yes and no weigh the same; of the last text one category weighs more.
    let mut weights = vec![weighed(&[-1.0, -1.0]); 3 * 13];
    weights[13..].fill(weighed(&[-3.0, -1.0]));
    weights[38] = weighed(&[-1.0, -3.0]);
    let total = Weighed::total(&weights).expect("some");
    let text = moderations::write_answer(&stamp(), &weights, &total);
    let answer: Value = serde_json::from_str(&text).expect("JSON");
    let [clean, gory] = [0, 1].map(|at| &answer["results"][at]);
    assert_eq!((&clean["flagged"], &gory["flagged"]), (&json!(false), &json!(true)));
    assert_eq!(gory["categories"]["violence/graphic"], json!(true));
    assert_eq!(gory["category_applied_input_types"]["hate"], json!(["text"]));
    let score = clean["category_scores"]["hate"].as_f64().expect("a number");
    assert!((score - 1.0 / (1.0 + 2.0_f64.exp())).abs() < 1e-9);
    assert!(answer["ingle"]["notes"][0].as_str().expect("a note").contains("not trained for it"));
}
