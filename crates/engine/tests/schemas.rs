//! Two hundred schemas of many kinds, answered by the default model at a high temperature: whatever
//! is complete validates, whatever cannot be followed is refused by its keyword, and no draw runs
//! away in blanks.

mod support;

use ingle_engine::{Local, Options};
use ingle_model::schema::BLANKS_MAX;
use ingle_protocol::{Fault, Finish, Grammar, Request, Sampling};
use serde_json::Value;
use std::collections::BTreeMap;
use support::{Asked, ask, fetched, open, request, text};

/// Each a row: its kind, the schema, and in `refused` what a refusal has to name.
const SCHEMAS: &str = include_str!("data/schemas.json");
/// Tokens that an answer gets.
const TOKENS: u32 = 120;

fn model() -> Option<Local> {
    let options = Options { kv_bytes: Some(256 << 20), waiting: 1024, ..Options::default() };
    fetched("smollm2").map(|path| open(&path, &options))
}

fn drawn(schema: &str, temperature: f32, seed: u64) -> Request {
    Request {
        sampling: Sampling { temperature, seed: Some(seed), ..Sampling::default() },
        grammar: Some(Grammar::JsonSchema(schema.to_owned())),
        ..request(text("A short example in JSON: "), TOKENS)
    }
}

/// What became of all draws.
#[derive(Debug, Default)]
struct Tally {
    complete: usize,
    cut: BTreeMap<String, usize>,
    refused: BTreeMap<String, usize>,
    wrong: Vec<String>,
    answers: Vec<Value>,
}

impl Tally {
    fn refuse(&mut self, row: &Value, fault: &Fault) {
        match row["refused"].as_str() {
            Some(word) if fault.message.contains(word) => {
                *self.refused.entry(word.to_owned()).or_default() += 1;
            }
            _ => self.wrong.push(format!("{row}: {fault}")),
        }
    }

    fn hear(&mut self, row: &Value, asked: Asked) {
        let told = asked.wait();
        let text = told.text();
        let receipt = match &told.end {
            Ok(receipt) => receipt,
            Err(fault) => return self.wrong.push(format!("{row}: {fault}")),
        };
        match receipt.finish {
            Finish::Stop => {
                self.complete += 1;
                self.answers.push(serde_json::json!({ "schema": row["schema"], "answer": text }));
                self.wrong.extend(complaint(&row["schema"], &text));
            }
            _ => {
                let cut = receipt.notes.iter().any(|note| note.contains("cut short"));
                assert!(cut, "an answer that is cut tells so: {receipt:?}");
                *self.cut.entry(row["kind"].to_string()).or_default() += 1;
            }
        }
    }
}

/// What is wrong with an answer, by a validator that also looks at formats.
fn complaint(schema: &Value, text: &str) -> Option<String> {
    let document: Value = match serde_json::from_str(text) {
        Ok(document) => document,
        Err(error) => return Some(format!("{schema}: {error} in {text:?}")),
    };
    let validator = jsonschema::options().should_validate_formats(true).build(schema);
    let validator = validator.unwrap_or_else(|error| panic!("{schema}: {error}"));
    validator.validate(&document).err().map(|error| format!("{schema}: {error} in {text:?}"))
}

/// Draws each schema with these seeds.
fn draw(model: &Local, seeds: std::ops::Range<u64>) -> (usize, Tally) {
    let rows: Vec<Value> = serde_json::from_str(SCHEMAS).expect("JSON");
    let mut tally = Tally::default();
    for seed in seeds {
        let mut asked = Vec::new();
        for row in &rows {
            match ask(model, &drawn(&row["schema"].to_string(), 1.0 + seed as f32 / 20.0, seed)) {
                Ok(under_way) => asked.push((row, under_way)),
                Err(fault) => tally.refuse(row, &fault),
            }
        }
        asked.into_iter().for_each(|(row, asked)| tally.hear(row, asked));
    }
    (rows.len(), tally)
}

#[test]
fn whatever_is_complete_validates() {
    let Some(model) = model() else { return };
    let (rows, tally) = draw(&model, 0..1);
    assert_eq!(tally.wrong, [""; 0]);
    let refused: usize = tally.refused.values().sum();
    assert!(rows >= 200 && refused * 10 < rows, "{refused} of {rows}: {:?}", tally.refused);
    let cut: usize = tally.cut.values().sum();
    assert_eq!(tally.complete + cut + refused, rows);
    assert!(tally.complete * 10 >= (rows - refused) * 8, "cut: {:?}", tally.cut);
}

/// The same with more seeds and hotter, for whoever changes grammars; the answers are left as lines
/// of JSON for another validator, `tools/validate-answers.py`.
#[test]
#[ignore = "takes minutes"]
fn whatever_is_complete_validates_at_length() {
    let Some(model) = model() else { return };
    let (rows, tally) = draw(&model, 1..9);
    let lines: String = tally.answers.iter().map(|answer| format!("{answer}\n")).collect();
    let path = concat!(env!("CARGO_TARGET_TMPDIR"), "/schemas.jsonl");
    std::fs::write(path, lines).expect("is written");
    let (complete, cut, refused) = (tally.complete, &tally.cut, &tally.refused);
    eprintln!("{rows} schemas, 8 draws: {complete} complete, cut {cut:?}, refused {refused:?}");
    eprintln!("answers: {path}");
    assert_eq!(tally.wrong, [""; 0]);
}

/// Blanks outside of texts that follow each other, the most.
fn blanks(text: &str) -> usize {
    let (mut most, mut run, mut inside, mut escaped) = (0, 0, false, false);
    for c in text.chars() {
        run = if !inside && c.is_ascii_whitespace() { run + 1 } else { 0 };
        most = most.max(run);
        inside ^= c == '"' && !escaped;
        escaped = inside && c == '\\' && !escaped;
    }
    most
}

#[test]
fn the_wildest_draws_do_not_run_away_in_blanks() {
    assert_eq!([blanks("{  \"a\\\"     \":1}"), blanks("[\n  1, 2]"), blanks("")], [2, 3, 0]);
    let Some(model) = model() else { return };
    let schemas = [
        r#"{"type":"object"}"#,
        "true",
        r#"{"type":"array","items":{"type":"array","items":{"type":"integer"}}}"#,
        r#"{"properties":{"a":{"type":"boolean"},"b":{"type":"null"}},"required":["a","b"]}"#,
    ];
    let asked = |(seed, schema)| ask(&model, &drawn(schema, 2.0, seed)).expect("is taken in");
    let drawn = (0..8).flat_map(|seed| schemas.map(|schema| (seed, schema)));
    let asked: Vec<Asked> = drawn.map(asked).collect();
    let texts: Vec<String> = asked.into_iter().map(|asked| asked.wait().text()).collect();
    for text in &texts {
        assert!(blanks(text) <= BLANKS_MAX, "{text:?}");
    }
    assert!(texts.iter().any(|text| blanks(text) > 0), "blanks are allowed: {texts:?}");
}
