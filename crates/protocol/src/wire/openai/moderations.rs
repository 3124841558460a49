//! OpenAI's moderations, judged by a model that is asked: a question a category, answered yes or no
//! by what each weighs, with the prior taken off. No classifier was trained for it; how good the
//! verdicts are is how good the model is. Absent: images, which are refused.

use serde_json::{Map, Value, json};

use crate::wire::check::{self, Read};
use crate::wire::decisions::{Question, Shape, Sort, judge, weighing};
use crate::wire::table::{self, Row, honoured, inert};
use crate::wire::values::{model, read_object};
use crate::wire::{Stamp, receipt};
use crate::{Fault, Message, Receipt, Request, Weighed, Weighing};

/// Which request format; there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `/v1/moderations`
    Moderations,
}

/// A request as it was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asked {
    /// The model and whose it is; the input is empty.
    pub request: Request,
    /// Texts, each to be judged alone; at least one.
    pub inputs: Vec<String>,
}

/// Texts of a request.
const INPUTS_MAX: usize = 32;
/// A category is found where its probability is above this.
const THRESHOLD: f64 = 0.5;
/// OpenAI's own models: asking for one asks for the server's default.
const ALIASES: &[&str] =
    &["omni-moderation-latest", "text-moderation-latest", "text-moderation-stable"];

const INSTRUCTIONS: &str =
    "You check texts that people wrote against rules. Judge only what the text itself says.";

/// OpenAI's categories, and what a text of each is.
#[rustfmt::skip]
const CATEGORIES: &[(&str, &str)] = &[
    ("harassment", "insult, bully or demean somebody"),
    ("harassment/threatening", "threaten somebody with violence or harm while harassing them"),
    ("hate", "express hatred of people for their race, religion, gender, origin or disability"),
    ("hate/threatening", "threaten people for their race, religion, gender, origin or disability"),
    ("illicit", "give advice on how to break the law"),
    ("illicit/violent", "give advice on how to commit violent crimes or to get weapons"),
    ("self-harm", "promote or depict suicide or other self-harm"),
    ("self-harm/intent", "say that its author intends to harm himself or herself"),
    ("self-harm/instructions", "tell how to commit suicide or other self-harm"),
    ("sexual", "describe sexual acts or try to arouse sexually"),
    ("sexual/minors", "describe anybody under 18 years sexually"),
    ("violence", "depict death, violence or physical injury"),
    ("violence/graphic", "depict death, violence or physical injury in graphic detail"),
];

/// Every field that a request may have.
pub fn fields(format: Format) -> impl Iterator<Item = Row> {
    table::rows(FIELDS, format)
}

const ALL: &[Format] = &[Format::Moderations];

#[rustfmt::skip]
static FIELDS: &[table::Field<Asked, Format>] = &[
    honoured(ALL, "model", |d, at, v| {
        let name = model(at, v)?;
        d.request.model = if ALIASES.contains(&name.as_str()) { String::new() } else { name };
        Ok(())
    }),
    honoured(ALL, "input", |d, at, v| { d.inputs = inputs(at, v)?; Ok(()) }),
    honoured(ALL, "timeout_ms", |d, at, v| {
        d.request.timeout_ms = Some(check::count(at, v, 1, u32::MAX)?);
        Ok(())
    }),
    inert(ALL, "user"),
];

/// Reads a request's body. A fault names the field and what is allowed.
pub fn read_request(body: &[u8]) -> Result<Asked, Fault> {
    let body = read_object(body)?;
    let mut asked = Asked::default();
    table::read_fields(FIELDS, Format::Moderations, "", &body, &mut asked)?;
    if asked.inputs.is_empty() {
        return check::bad("input", "is missing; give a text, or texts");
    }
    Ok(asked)
}

/// A text, texts, or the parts of one text.
fn inputs(at: &str, value: &Value) -> Read<Vec<String>> {
    match value {
        Value::String(text) => Ok(vec![text.clone()]),
        Value::Array(items) if items.iter().any(Value::is_object) => {
            let parts = check::array(at, value, INPUTS_MAX)?.iter().enumerate();
            let read = |(i, part)| super::messages::read_part(&format!("{at}[{i}]"), part);
            let parts: Vec<&str> = parts.map(read).collect::<Read<_>>()?;
            Ok(vec![parts.join("\n")])
        }
        other => {
            let texts = check::array(at, other, INPUTS_MAX)?.iter().enumerate();
            let read = |(i, text)| check::string(&format!("{at}[{i}]"), text).map(str::to_owned);
            texts.map(read).collect()
        }
    }
}

impl Asked {
    /// What is to be weighed: each category without any text, then for each text.
    pub fn weighings(&self, shape: Shape) -> Vec<Weighing> {
        let free = "N/A".to_owned();
        let one = |text: &String, what: &str| {
            let text = format!("The text:\n{text}");
            let input = Message { role: "user".into(), content: text, ..Message::default() };
            let question = Question {
                id: String::new(),
                text: format!("Does the text {what}?"),
                sort: Sort::Predicate,
            };
            weighing(&self.request, shape, INSTRUCTIONS, &[input], &question)
        };
        let all = std::iter::once(&free).chain(&self.inputs);
        all.flat_map(|text| CATEGORIES.iter().map(move |(_, what)| one(text, what))).collect()
    }
}

/// Writes the answer: `weighed` is what [`Asked::weighings`] weigh, in their order.
pub fn write_answer(stamp: &Stamp, weighed: &[Weighed], total: &Receipt) -> String {
    let (priors, texts) = weighed.split_at(CATEGORIES.len().min(weighed.len()));
    let results: Vec<Value> =
        texts.chunks_exact(CATEGORIES.len()).map(|weighed| result(weighed, priors)).collect();
    let mut receipt = receipt::to_value(total);
    receipt["notes"] = json!([format!(
        "judged by `{}`, a model that was asked in words and not trained for it; a category is \
         flagged above {THRESHOLD}",
        stamp.model
    )]);
    json!({
        "id": format!("modr-{}", stamp.id),
        "model": stamp.model,
        "results": results,
        "ingle": receipt,
    })
    .to_string()
}

fn result(weighed: &[Weighed], priors: &[Weighed]) -> Value {
    let (mut found, mut scores, mut kinds) = (Map::new(), Map::new(), Map::new());
    for (((name, _), weighed), prior) in CATEGORIES.iter().zip(weighed).zip(priors) {
        let score = judge(&weighed.logprobs, Some(&prior.logprobs)).probabilities[0];
        found.insert((*name).into(), json!(score > THRESHOLD));
        scores.insert((*name).into(), json!(score));
        kinds.insert((*name).into(), json!(["text"]));
    }
    json!({
        "flagged": found.values().any(|found| *found == json!(true)),
        "categories": found,
        "category_scores": scores,
        "category_applied_input_types": kinds,
    })
}
