//! What was weighed, as an answer.

use serde_json::{Value, json};

use super::{Asked, Question, Sort, Verdict, judge};
use crate::wire::openai::write_usage;
use crate::wire::{Stamp, receipt};
use crate::{Fault, Receipt, Weighed};

/// Writes the answer to a request: `weighed` is what its [`Asked::weighings`] weigh, in their
/// order.
///
/// # Errors
/// Ours, where these are not as many.
pub fn write_answer(
    asked: &Asked,
    stamp: &Stamp,
    weighed: &[Weighed],
    total: &Receipt,
) -> Result<String, Fault> {
    let each = if asked.prior { 2 } else { 1 };
    if weighed.len() != asked.questions.len() * each {
        return Err(Fault::ours("not every question was weighed; this is a bug"));
    }
    let answers = asked.questions.iter().zip(weighed.chunks(each));
    let answers: Vec<Value> =
        answers.map(|(question, weighed)| answer(question, weighed)).collect();
    Ok(json!({
        "id": format!("dec-{}", stamp.id),
        "object": "decision",
        "created": stamp.created_ms / 1000,
        "model": stamp.model,
        "calibration": if asked.prior { "prior" } else { "none" },
        "answers": answers,
        "usage": write_usage(&total.usage),
        "ingle": receipt::to_value(total),
    })
    .to_string())
}

fn answer(question: &Question, weighed: &[Weighed]) -> Value {
    let prior = weighed.get(1).map(|weighed| weighed.logprobs.as_slice());
    let logprobs = &weighed[0].logprobs;
    let verdict = judge(logprobs, prior);
    let names = question.sort.labels();
    let labels = names.iter().enumerate().map(|(at, label)| {
        let mut row = json!({
            "label": label,
            "probability": verdict.probabilities[at],
            "logprob": logprobs[at],
        });
        if let Some(prior) = prior {
            row["prior_logprob"] = json!(prior[at]);
        }
        row
    });
    let labels: Vec<Value> = labels.collect();
    let mut out = json!({
        "id": question.id,
        "kind": question.sort.name(),
        "label": names[verdict.best],
        "probability": verdict.probabilities[verdict.best],
        "margin": verdict.margin,
        "mass": verdict.mass,
        "labels": labels,
    });
    match question.sort {
        Sort::Predicate => {
            out["value"] = json!(verdict.best == 0);
            out["probability"] = json!(verdict.probabilities[0]);
        }
        Sort::Choice(_) => {}
        Sort::Score(low, _) => {
            out["value"] = json!(low + verdict.best as i64);
            out["expected"] = json!(expected(low, &verdict));
        }
    }
    out
}

/// The mean of the scores, weighted by their probabilities.
fn expected(low: i64, verdict: &Verdict) -> f64 {
    let scores = (low..).map(|score| score as f64);
    scores.zip(&verdict.probabilities).map(|(score, probability)| score * probability).sum()
}
