//! Texts weighed as what a model would say next. Absent: what they mean, which whoever asks knows.

use crate::{Receipt, Request};

/// Texts to be weighed after an input.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weighing {
    /// The model, the input, and whose it is and when it is computed; nothing is sampled.
    pub request: Request,
    /// The texts. In a conversation the assistant's turn begins with them.
    pub labels: Vec<String>,
}

/// What they weigh.
#[derive(Clone, Debug, PartialEq)]
pub struct Weighed {
    /// Natural log-probability of each text as a whole, in their order.
    pub logprobs: Vec<f64>,
    /// Whether the answer's end behind each text is part of that: it is where one text begins
    /// another.
    pub ended: bool,
    /// Where it was computed and what that took. Nothing is generated; the first token's time is
    /// the first position's.
    pub receipt: Receipt,
}

impl Weighed {
    /// One receipt for what was weighed one after another; `None` where nothing was.
    pub fn total(all: &[Self]) -> Option<Receipt> {
        Receipt::total(all.iter().map(|one| &one.receipt))
    }
}
