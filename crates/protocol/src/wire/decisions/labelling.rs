//! One question about many texts. It comes before the text, unlike in a request of decisions, so
//! that all texts share it and it is computed once. In a conversation:
//!
//! ```text
//! user       QUESTION
//!            Answer with one of these and nothing else: LABEL, LABEL.
//!
//!            TEXT
//! assistant  LABEL
//! ```
//!
//! and for a model without a chat template:
//!
//! ```text
//! QUESTION
//! Answer with one of these and nothing else: LABEL, LABEL.
//!
//! Text: TEXT
//! Answer: LABEL
//! ```

use super::prompt::{CONTENT_FREE, Shape, how, unthinking, user};
use super::{Question, Sort};
use crate::{Input, Request, Weighing};

/// Labels for many texts.
#[derive(Clone, Debug, PartialEq)]
pub struct Labelling {
    /// The model, and when and for whom it is computed; the input is empty.
    pub request: Request,
    /// What the model's prompts are like.
    pub shape: Shape,
    /// The question, in words.
    pub question: String,
    /// At least two, no two alike.
    pub labels: Vec<String>,
}

impl Labelling {
    /// The labels, to be weighed behind a text.
    pub fn weighing(&self, text: &str) -> Weighing {
        let asked = Question {
            id: String::new(),
            text: self.question.clone(),
            sort: Sort::Choice(self.labels.clone()),
        };
        let head = format!("{}\n{}\n\n", asked.text, how(&asked.sort));
        let (input, labels) = match self.shape {
            Shape::Chat => {
                let chat = unthinking(vec![user(head + text)]);
                (Input::Chat(chat), self.labels.clone())
            }
            Shape::Text => {
                let labels = self.labels.iter().map(|label| format!(" {label}")).collect();
                (Input::Text(format!("{head}Text: {text}\nAnswer:")), labels)
            }
        };
        Weighing { request: Request { input, ..self.request.clone() }, labels }
    }

    /// The labels behind a text that says nothing: what they weigh there is the prior.
    pub fn prior(&self) -> Weighing {
        self.weighing(CONTENT_FREE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_share_all_before_them() {
        let labels = ["a", "b"].map(str::to_owned).to_vec();
        let of = |shape| Labelling {
            request: Request { model: "m".into(), ..Request::default() },
            shape,
            question: "Which?".into(),
            labels: labels.clone(),
        };
        let head = "Which?\nAnswer with one of these and nothing else: a, b.\n\n";
        let text = of(Shape::Text).weighing("one");
        assert_eq!(text.request.input, Input::Text(format!("{head}Text: one\nAnswer:")));
        assert_eq!(
            (text.labels, text.request.model.as_str()),
            (vec![" a".into(), " b".into()], "m")
        );
        let chat = of(Shape::Chat).prior();
        let Input::Chat(told) = chat.request.input else { panic!("a conversation") };
        assert_eq!((told.messages.len(), told.reasoning.on), (1, Some(false)));
        assert_eq!(told.messages[0].content, format!("{head}N/A"));
        assert_eq!(chat.labels, labels);
    }
}
