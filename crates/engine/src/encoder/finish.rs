//! What a model computed becomes what was wanted: vectors of length 1, probabilities, words'
//! weights, labels of tokens. A few floats a text, on the caller's thread.

use super::passage::Piece;
use ingle_model::reading::{Problem, Reading};
use ingle_protocol::{Fault, Output, Tag, Vectors, Want};

pub(super) struct Finisher<'a> {
    want: &'a Want,
    problem: Problem,
    /// Floats of a row.
    width: usize,
    /// Floats of a vector that are kept, and whether its length is made 1.
    kept: usize,
    normalise: bool,
    /// Whether a text's vector is a plain mean of its tokens'.
    bag: bool,
}

impl<'a> Finisher<'a> {
    pub(super) fn new(reading: &Reading, want: &'a Want, width: usize) -> Result<Self, Fault> {
        let usual = Vectors::default();
        let vectors = match want {
            Want::Vector(vectors) | Want::TokenVectors(vectors) => vectors,
            Want::Sparse | Want::Scores { .. } | Want::Tags => &usual,
        };
        let kept = match vectors.dimensions {
            None => width,
            Some(n) if (1..=width).contains(&(n as usize)) => n as usize,
            Some(n) => {
                let message = format!("{n} dimensions were asked for; the model has {width}");
                return Err(Fault::caller(message).at("dimensions"));
            }
        };
        let normalise = vectors.normalise.unwrap_or(reading.normalise);
        let (problem, bag) = (reading.problem, reading.bag.is_some());
        Ok(Self { want, problem, width, kept, normalise, bag })
    }

    /// One text's output, of its pieces' rows.
    pub(super) fn finish(&self, pieces: &[Piece], rows: Vec<Vec<f32>>) -> Result<Output, Fault> {
        if rows.iter().flatten().any(|v| !v.is_finite()) {
            return Err(Fault::ours("the model computed what is no number; its file is broken"));
        }
        Ok(match self.want {
            Want::Vector(_) => Output::Vector(self.vector(&self.together(pieces, &rows))),
            Want::TokenVectors(_) => {
                let vectors = rows.iter().flat_map(|rows| rows.chunks_exact(self.width));
                Output::TokenVectors(vectors.map(|row| self.vector(row)).collect())
            }
            Want::Sparse => {
                let words = (0..).zip(rows.into_iter().flatten());
                Output::Sparse(words.filter(|(_, weight)| *weight > 0.0).collect())
            }
            Want::Scores { probabilities } => {
                let mut scores: Vec<f32> = rows.into_iter().flatten().collect();
                if *probabilities {
                    self.probabilities(&mut scores);
                }
                Output::Scores(scores)
            }
            Want::Tags => Output::Tags(self.tags(pieces, &rows)),
        })
    }

    /// The pieces' mean, by their tokens.
    fn together(&self, pieces: &[Piece], rows: &[Vec<f32>]) -> Vec<f32> {
        if let [row] = rows {
            return row.clone();
        }
        let total: f32 = pieces.iter().map(|piece| piece.own.len() as f32).sum::<f32>().max(1.0);
        let mut mean = vec![0.0; self.width];
        for (piece, row) in pieces.iter().zip(rows) {
            // Each counts by its direction, as a whole text's would. A bag's are all one sum.
            let length = if self.normalise && !self.bag { length(row) } else { 1.0 };
            let share = piece.own.len() as f32 / total / length;
            mean.iter_mut().zip(row).for_each(|(mean, v)| *mean += share * v);
        }
        mean
    }

    fn vector(&self, row: &[f32]) -> Vec<f32> {
        let mut vector = row[..self.kept].to_vec();
        if self.normalise {
            let by = 1.0 / length(&vector);
            vector.iter_mut().for_each(|v| *v *= by);
        }
        vector
    }

    /// Of labels that exclude each other, a softmax; of one alone, or any number, a sigmoid each.
    fn probabilities(&self, scores: &mut [f32]) {
        match self.problem {
            Problem::Regression => {}
            Problem::Single if scores.len() > 1 => softmax(scores),
            Problem::Single | Problem::Multi => {
                scores.iter_mut().for_each(|v| *v = 1.0 / (1.0 + (-*v).exp()));
            }
        }
    }

    fn tags(&self, pieces: &[Piece], rows: &[Vec<f32>]) -> Vec<Tag> {
        let mut tags = Vec::new();
        for (piece, rows) in pieces.iter().zip(rows) {
            for (at, bytes) in piece.own.clone().zip(&piece.bytes) {
                let mut scores = rows[at * self.width..(at + 1) * self.width].to_vec();
                softmax(&mut scores);
                let best = (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b]));
                let label = best.unwrap_or(0);
                tags.push(Tag { label: label as u32, score: scores[label], bytes: *bytes });
            }
        }
        tags
    }
}

/// A vector's length; that of nothing counts as 1, so that it stays nothing.
fn length(vector: &[f32]) -> f32 {
    let squares: f64 = vector.iter().map(|v| f64::from(*v).powi(2)).sum();
    if squares > 0.0 { squares.sqrt() as f32 } else { 1.0 }
}

fn softmax(scores: &mut [f32]) {
    let most = scores.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
    scores.iter_mut().for_each(|v| *v = (*v - most).exp());
    let sum: f32 = scores.iter().sum();
    scores.iter_mut().for_each(|v| *v /= sum);
}
