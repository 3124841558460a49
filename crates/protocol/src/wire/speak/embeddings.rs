//! Vectors asked of other servers, by OpenAI's `/v1/embeddings`, which all that make vectors have.
//! Absent: vectors of tokens, scores and labels, for which they have no common words.

use serde_json::{Map, Value, json};

use super::{count, parse, told, wrong};
use crate::wire::check::{self, Read};
use crate::{
    Encoded, Encoding, Fault, Finish, Format, Long, Output, Receipt, Timings, Usage, Vectors, Want,
    Written,
};

/// Floats that a vector may have.
const FLOATS_MAX: usize = 1 << 16;

/// Writes the body of a request for vectors of `model`. Priorities, times and how long a model is
/// kept are about computing here, and left out.
///
/// # Errors
/// A fault of the caller's that names what the format has no words for.
pub fn write_embeddings(encoding: &Encoding, model: &str) -> Result<String, Fault> {
    let Want::Vector(Vectors { dimensions, normalise, prompt }) = &encoding.want else {
        return unsaid("task");
    };
    let refused = [
        ("normalize", *normalise == Some(false)),
        ("prompt_name", prompt.is_some()),
        ("truncate_prompt_tokens", encoding.long != Long::Refuse),
        ("model", encoding.adapter.is_some()),
        ("input", encoding.inputs.iter().any(|passage| passage.pair.is_some())),
        ("input", encoding.inputs.is_empty()),
    ];
    if let Some((name, _)) = refused.into_iter().find(|row| row.1) {
        return unsaid(name);
    }
    let texts = encoding.inputs.iter().map(|passage| match &passage.text {
        Written::Text(text) => (true, json!(text)),
        Written::Tokens(tokens) => (false, json!(tokens)),
    });
    let (texts, inputs): (Vec<bool>, Vec<Value>) = texts.unzip();
    if texts.windows(2).any(|pair| pair[0] != pair[1]) {
        let why = "holds texts and tokens, and this model's server takes one of them at a time";
        return check::bad("input", why);
    }
    let mut body = Map::new();
    body.insert("model".into(), json!(model));
    body.insert("input".into(), inputs.into());
    body.insert("encoding_format".into(), json!("float"));
    if let Some(dimensions) = dimensions {
        body.insert("dimensions".into(), json!(dimensions));
    }
    Ok(Value::Object(body).to_string())
}

fn unsaid<T>(name: &str) -> Read<T> {
    let why = "cannot be said to this model's server, whose format (embeddings) has no words for \
               it: leave it out, or ask another model";
    check::bad(name, why)
}

/// Reads the answer to a request for the vectors of so many texts.
///
/// # Errors
/// What the server tells of as an error; vectors that are too few, too many, of different lengths
/// or no numbers.
pub fn read_embeddings(body: &str, texts: usize) -> Result<Encoded, Fault> {
    let answer = parse(body)?;
    if !answer["error"].is_null() {
        return Err(told(Format::Chat, &answer));
    }
    let Some(data) = answer["data"].as_array().filter(|data| data.len() == texts) else {
        return Err(wrong(format!("the provider's answer has no {texts} vectors, one a text")));
    };
    let mut vectors: Vec<Option<Vec<f32>>> = vec![None; texts];
    for (i, one) in data.iter().enumerate() {
        let index = one["index"].as_u64().map_or(Some(i), |index| usize::try_from(index).ok());
        let place = index.and_then(|index| vectors.get_mut(index));
        let Some(place) = place.filter(|place| place.is_none()) else {
            return Err(wrong("a vector of the provider's answer is of no text, or of one twice"));
        };
        *place = Some(read_vector(&one["embedding"])?);
    }
    let vectors: Vec<Vec<f32>> = vectors.into_iter().flatten().collect();
    if vectors.windows(2).any(|pair| pair[0].len() != pair[1].len()) {
        return Err(wrong("vectors of the provider's answer differ in their lengths"));
    }
    let usage =
        Usage { prompt_tokens: count(&answer["usage"]["prompt_tokens"]), ..Usage::default() };
    let read = |vector| crate::Read { output: Output::Vector(vector), tokens: 0, cut: false };
    let model = answer["model"].as_str().unwrap_or_default();
    let receipt = Receipt {
        model: model.chars().take(256).collect(),
        route: Vec::new(),
        left_machine: true,
        cost_micros: 0,
        finish: Finish::Stop,
        stop: None,
        notes: Vec::new(),
        usage,
        timings: Timings::default(),
    };
    Ok(Encoded { read: vectors.into_iter().map(read).collect(), labels: Vec::new(), receipt })
}

fn read_vector(value: &Value) -> Result<Vec<f32>, Fault> {
    let floats = value.as_array().filter(|floats| (1..=FLOATS_MAX).contains(&floats.len()));
    let Some(floats) = floats else {
        return Err(wrong(format!(
            "a vector of the provider's answer has no 1 to {FLOATS_MAX} numbers"
        )));
    };
    let number = |float: &Value| float.as_f64().map(|it| it as f32).filter(|it| it.is_finite());
    let read: Option<Vec<f32>> = floats.iter().map(number).collect();
    read.ok_or_else(|| wrong("a vector of the provider's answer has something else than numbers"))
}
