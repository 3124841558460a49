//! The table of request fields, and what a question may be.

use serde_json::Value;

use super::{Asked, Question, Sort};
use crate::wire::check::{self, Read};
use crate::wire::openai;
use crate::wire::table::{self, Row, honoured, inert, neutral};
use crate::wire::values::{model, read_object, short};
use crate::{Fault, Message, Request};

/// Which request format; there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `/v1/decisions`
    Decisions,
}

type Field = table::Field<Draft, Format>;

/// Bounds of a request.
const QUESTIONS_MAX: usize = 64;
const LABELS_MAX: usize = 256;
/// Of all questions together.
const LABELS_ALL_MAX: usize = 1024;
const TEXT_MAX: usize = 1 << 16;
const SALT_MAX: usize = 1024;

/// A request while its fields are being read.
#[derive(Default)]
struct Draft {
    request: Request,
    instructions: String,
    input: Vec<Message>,
    questions: Vec<Question>,
    prior: bool,
}

/// Every field that `format` knows.
pub fn fields(format: Format) -> impl Iterator<Item = Row> {
    table::rows(FIELDS, format)
}

/// Reads a request's body. A fault names the field and what is allowed.
pub fn read_request(body: &[u8]) -> Result<Asked, Fault> {
    let body = read_object(body)?;
    let mut draft = Draft::default();
    table::read_fields(FIELDS, Format::Decisions, "", &body, &mut draft)?;
    let Draft { request, instructions, input, questions, prior } = draft;
    if input.is_empty() {
        return check::bad("input", "is missing");
    }
    if questions.is_empty() {
        return check::bad("questions", "is missing; ask at least one");
    }
    Ok(Asked { request, instructions, input, questions, prior })
}

const ALL: &[Format] = &[Format::Decisions];

#[rustfmt::skip]
static FIELDS: &[Field] = &[
    honoured(ALL, "model", |d, at, v| { d.request.model = model(at, v)?; Ok(()) }),
    honoured(ALL, "instructions", |d, at, v| { d.instructions = long(at, v)?; Ok(()) }),
    honoured(ALL, "input", |d, at, v| { d.input = input(at, v)?; Ok(()) }),
    honoured(ALL, "questions", |d, at, v| { d.questions = questions(at, v)?; Ok(()) }),
    honoured(ALL, "calibration", |d, at, v| match v.as_str() {
        Some("none") => Ok(()),
        Some("prior") => { d.prior = true; Ok(()) }
        _ => check::bad(at, "must be \"none\" or \"prior\""),
    }),
    honoured(ALL, "priority", |d, at, v| {
        d.request.priority = i32::try_from(check::whole(at, v, i32::MIN.into(), i32::MAX.into())?)
            .expect("the range was checked");
        Ok(())
    }),
    honoured(ALL, "timeout_ms", |d, at, v| {
        d.request.timeout_ms = Some(check::count(at, v, 1, u32::MAX)?);
        Ok(())
    }),
    honoured(ALL, "cache_salt", |d, at, v| {
        let salt = check::string(at, v)?;
        if salt.len() > SALT_MAX {
            return check::bad(at, format!("is longer than {SALT_MAX} bytes: hash it"));
        }
        salt.clone_into(&mut d.request.cache_salt);
        Ok(())
    }),
    inert(ALL, "user"),
    inert(ALL, "metadata"),
    neutral(ALL, "stream", &["false"], "there is one answer, and it comes whole"),
];

fn long(at: &str, value: &Value) -> Read<String> {
    match check::string(at, value)? {
        text if text.len() > TEXT_MAX => check::bad(at, format!("is longer than {TEXT_MAX} bytes")),
        text => Ok(text.to_owned()),
    }
}

/// A text, or a conversation.
fn input(at: &str, value: &Value) -> Read<Vec<Message>> {
    match value {
        Value::String(content) => {
            let (role, content) = ("user".to_owned(), content.clone());
            Ok(vec![Message { role, content, ..Message::default() }])
        }
        other => openai::read_messages(at, other),
    }
}

fn questions(at: &str, value: &Value) -> Read<Vec<Question>> {
    let mut all: Vec<Question> = Vec::new();
    for (i, item) in check::array(at, value, QUESTIONS_MAX)?.iter().enumerate() {
        let at = format!("{at}[{i}]");
        let question = question(&at, item, i)?;
        if all.iter().any(|other| other.id == question.id) {
            return check::bad(&format!("{at}.id"), "is another question's, too");
        }
        all.push(question);
    }
    let labels: usize = all.iter().map(|question| question.sort.labels().len()).sum();
    if labels > LABELS_ALL_MAX {
        let why = format!("have {labels} labels in all; at most {LABELS_ALL_MAX} are allowed");
        return check::bad(at, why);
    }
    Ok(all)
}

fn question(at: &str, value: &Value, place: usize) -> Read<Question> {
    let map = check::object(at, value)?;
    let inner = |key: &str| format!("{at}.{key}");
    let given = |key: &str| map.get(key).filter(|value| !value.is_null());
    let needed = |key: &str| match given(key) {
        Some(value) => Ok(value),
        None => check::bad(&inner(key), "is missing"),
    };
    let kind = check::string(&inner("kind"), needed("kind")?)?;
    let own: &[&str] = match kind {
        "predicate" => &[],
        "choice" => &["labels"],
        "score" => &["low", "high"],
        _ => return check::bad(&inner("kind"), "must be \"predicate\", \"choice\" or \"score\""),
    };
    check::only(at, map, ["id", "kind", "question"].into_iter().chain(own.iter().copied()))?;
    let sort = match kind {
        "predicate" => Sort::Predicate,
        "choice" => Sort::Choice(labels(&inner("labels"), needed("labels")?)?),
        _ => {
            let bound = |key: &str| check::whole(&inner(key), needed(key)?, -1_000_000, 1_000_000);
            let (low, high) = (bound("low")?, bound("high")?);
            if !(1..LABELS_MAX as i64).contains(&(high - low)) {
                let why = format!("must be above 'low', by less than {LABELS_MAX}");
                return check::bad(&inner("high"), why);
            }
            Sort::Score(low, high)
        }
    };
    let id = match given("id") {
        Some(id) => short(&inner("id"), check::string(&inner("id"), id)?)?,
        None => place.to_string(),
    };
    let text = long(&inner("question"), needed("question")?)?;
    if text.trim().is_empty() {
        return check::bad(&inner("question"), "is empty");
    }
    Ok(Question { id, text, sort })
}

fn labels(at: &str, value: &Value) -> Read<Vec<String>> {
    let mut all: Vec<String> = Vec::new();
    for (i, item) in check::array(at, value, LABELS_MAX)?.iter().enumerate() {
        let at = format!("{at}[{i}]");
        let label = short(&at, check::string(&at, item)?)?;
        if label.is_empty() || label.trim() != label {
            return check::bad(&at, "must be a text without blanks around it");
        }
        if all.contains(&label) {
            return check::bad(&at, "is given twice");
        }
        all.push(label);
    }
    if all.len() < 2 {
        return check::bad(at, "must be at least two");
    }
    Ok(all)
}
