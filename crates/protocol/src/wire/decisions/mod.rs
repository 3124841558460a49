//! Decisions, a protocol of Ingle's own: questions about an input, answered by how likely the
//! model is to say each of the labels that may be the answer. Nothing is generated, so an answer is
//! always one of the labels, with its probability, and the same for the same request.
//!
//! A [`Question`] becomes a prompt and labels to be weighed behind it (`prompt`, which documents
//! the words); what was weighed becomes probabilities (`judge`), and those an answer (`answer`).
//! Where one question is put to many texts, `labelling` puts it before them. Absent: who weighs.

mod answer;
mod fields;
mod judge;
mod labelling;
mod prompt;

pub use answer::write_answer;
pub use fields::{Format, fields, read_request};
pub use judge::{Verdict, judge};
pub use labelling::Labelling;
pub use prompt::Shape;
pub(super) use prompt::weighing;

use crate::{Message, Request, Weighing};

/// A request as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// The model, and when and for whom it is computed; the input is empty.
    pub request: Request,
    /// What the model is told before anything else; may be empty.
    pub instructions: String,
    /// What the questions are about, oldest turn first.
    pub input: Vec<Message>,
    /// At least one.
    pub questions: Vec<Question>,
    /// Whether what the labels weigh without any input is taken off.
    pub prior: bool,
}

/// One question about an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The caller's name for it.
    pub id: String,
    /// In words.
    pub text: String,
    /// What may be the answer.
    pub sort: Sort,
}

/// What may be the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sort {
    /// Yes or no.
    Predicate,
    /// One of these, at least two, no two alike.
    Choice(Vec<String>),
    /// A whole number between these two, both included.
    Score(i64, i64),
}

impl Sort {
    /// Its name on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Predicate => "predicate",
            Self::Choice(_) => "choice",
            Self::Score(..) => "score",
        }
    }

    /// The labels, in the order of the answer's.
    pub fn labels(&self) -> Vec<String> {
        match self {
            Self::Predicate => ["Yes", "No"].map(str::to_owned).to_vec(),
            Self::Choice(labels) => labels.clone(),
            Self::Score(low, high) => (*low..=*high).map(|score| score.to_string()).collect(),
        }
    }
}

impl Asked {
    /// What is to be weighed: for each question its labels after the input and, where the prior is
    /// taken off, after none. `shape` is what the model's prompts are like.
    pub fn weighings(&self, shape: Shape) -> Vec<Weighing> {
        let one = |question: &Question, free: bool| {
            let none = [prompt::content_free()];
            let input: &[Message] = if free { &none } else { &self.input };
            weighing(&self.request, shape, &self.instructions, input, question)
        };
        let all = self.questions.iter().flat_map(|question| {
            let free = self.prior.then(|| one(question, true));
            std::iter::once(one(question, false)).chain(free)
        });
        all.collect()
    }
}
