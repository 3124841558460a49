//! What is behind the layers of a model that reads: which head it is, as its class says, and its
//! labels. What sentence-transformers puts there is in `sentences`.

use super::families::{Family, When};
use super::json::Object;
use super::sentences::Modules;
use crate::Error;
use crate::gguf::{Array, Outline, Strs, Value};

/// The most labels of a classifier.
const MAX_LABELS: u64 = 1 << 16;

/// A head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// None: vectors, or text to write.
    None,
    /// Labels of whole texts.
    Sequence,
    /// Labels of tokens.
    Token,
    /// Words of the vocabulary for each token.
    Masked,
    /// A vector a token.
    Late,
}

impl Head {
    /// Whether it needs what is needed so.
    pub(super) fn needs(self, when: When) -> bool {
        match when {
            When::Always => true,
            When::Sequence => self == Self::Sequence,
            When::Labels => matches!(self, Self::Sequence | Self::Token),
            When::Masked => self == Self::Masked,
            When::Late => self == Self::Late,
        }
    }
}

/// The endings of the names of `transformers`' classes, and what heads they have.
const CLASSES: &[(&str, Head)] = &[
    ("ForSequenceClassification", Head::Sequence),
    ("ForTokenClassification", Head::Token),
    ("ForMaskedLM", Head::Masked),
    ("ForPreTraining", Head::Masked),
    ("HF_ColBERT", Head::Late),
    ("Model", Head::None),
    ("ForCausalLM", Head::None),
    ("LMHeadModel", Head::None),
    ("ForConditionalGeneration", Head::None),
];

/// The head that a directory says it has.
pub(super) fn of(family: &Family, config: &Object, modules: &Modules) -> Result<Head, Error> {
    if let Some(head) = modules.head() {
        return Ok(head);
    }
    let class = config.list("architectures")?.and_then(|all| all.first());
    let Some(class) = class.and_then(|class| class.as_str()) else { return Ok(Head::None) };
    match CLASSES.iter().find(|(ending, _)| class.ends_with(ending)) {
        Some((_, head)) if family.encoder || matches!(head, Head::None | Head::Sequence) => {
            Ok(*head)
        }
        _ => Err(config.refuse("architectures", "no such head is known")),
    }
}

/// Sets what the head's user has to know.
pub(super) fn write(
    family: &Family,
    head: Head,
    config: &Object,
    outline: &mut Outline,
) -> Result<(), Error> {
    let mut set = |key: &str, text: &str| outline.set(key, Value::Str(text.to_owned()));
    match head {
        Head::None => return Ok(()),
        Head::Sequence => set("ingle.head", "sequence"),
        Head::Token => set("ingle.head", "token"),
        Head::Masked => set("ingle.head", "mlm"),
        Head::Late => set("ingle.head", "late"),
    }
    if !head.needs(When::Labels) {
        return Ok(());
    }
    let activation = match config.str("classifier_activation")? {
        None => family.head_activation,
        Some(known @ ("gelu" | "relu" | "tanh")) => known,
        Some(_) => {
            return Err(config.refuse("classifier_activation", "no such function is known"));
        }
    };
    set("ingle.head.activation", activation);
    match config.str("classifier_pooling")? {
        None => set("ingle.head.pooling", "cls"),
        Some(known @ ("cls" | "mean")) => set("ingle.head.pooling", known),
        Some(_) => return Err(config.refuse("classifier_pooling", "neither `cls` nor `mean`")),
    }
    let problem = match config.str("problem_type")? {
        None | Some("single_label_classification") => "single",
        Some("multi_label_classification") => "multi",
        Some("regression") => "regression",
        Some(_) => return Err(config.refuse("problem_type", "no such problem is known")),
    };
    set("ingle.head.problem", problem);
    let labels = labels(config)?;
    let labels = Value::Array(Array::Strs(labels.iter().map(String::as_str).collect::<Strs>()));
    outline.set(&format!("{}.classifier.output_labels", family.arch), labels);
    Ok(())
}

/// The labels' names, by their numbers.
fn labels(config: &Object) -> Result<Vec<String>, Error> {
    let Some(named) = config.object("id2label")? else {
        let count = config.uint("num_labels")?.unwrap_or(2);
        if !(1..=MAX_LABELS).contains(&count) {
            return Err(config.refuse("num_labels", "too many, or none"));
        }
        return Ok((0..count).map(|i| format!("LABEL_{i}")).collect());
    };
    let wrong = || config.refuse("id2label", "not names for all numbers from 0 on");
    let mut labels = vec![None; named.map.len()];
    for (number, label) in &named.map {
        let number: usize = number.parse().map_err(|_| wrong())?;
        *labels.get_mut(number).ok_or_else(wrong)? = label.as_str();
    }
    let labels: Option<Vec<String>> =
        labels.into_iter().map(|label| label.map(str::to_owned)).collect();
    labels.filter(|labels| !labels.is_empty()).ok_or_else(wrong)
}
