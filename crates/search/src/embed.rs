//! What this room asks of models: vectors of texts, and scores of pairs. Absent: which models.

use ingle_protocol::Fault;

/// Makes vectors of texts, whose cosine says how close their meanings are.
pub trait Embed {
    /// The model's name, for people.
    fn name(&self) -> &str;

    /// Floats of a vector.
    fn dimensions(&self) -> usize;

    /// A vector a passage, in their order. None may be left out or cut unsaid.
    ///
    /// # Errors
    /// Where the model fails.
    fn documents(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, Fault>;

    /// The vector of a question.
    ///
    /// # Errors
    /// Where the model fails.
    fn query(&self, text: &str) -> Result<Vec<f32>, Fault>;
}

/// Says how well passages answer a question, by reading both together.
pub trait Rank {
    /// The model's name, for people.
    fn name(&self) -> &str;

    /// A score a passage, in their order; more is better.
    ///
    /// # Errors
    /// Where the model fails.
    fn scores(&self, question: &str, texts: &[&str]) -> Result<Vec<f32>, Fault>;
}
