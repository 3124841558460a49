//! Heads: small classifiers over vectors that an encoder made, trained in seconds and measured
//! honestly. Multinomial logistic regression and a perceptron with one hidden layer; stratified
//! cross-validation, temperature scaling, and figures with intervals. The same rows and seed give
//! the same head, on any number of threads.
//!
//! Absent: encoders, files, clocks. A head's file is read and written as bytes here.
#![forbid(unsafe_code)]

mod calibrate;
mod file;
mod folds;
mod lbfgs;
mod logistic;
mod matrix;
mod metrics;
mod mlp;
mod plot;
mod random;
mod train;

pub use calibrate::{Calibration, calibrate, probabilities};
pub use file::FILE_BYTES;
pub use folds::MOST_FOLDS;
pub use metrics::{BINS, Bin, Interval, Report, report};
pub use plot::{reliability_svg, reliability_text};
pub use train::{Options, Trained, train};

/// The most labels of a head.
pub const LABELS: usize = 4096;
/// The most floats of a vector.
pub const DIMENSIONS: usize = 1 << 16;
/// The most floats of all vectors that a head is trained on.
pub const FLOATS: usize = 1 << 29;

/// What is wrong with a head's file, or with what one is to be trained on.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct Error(pub String);

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Multinomial logistic regression.
    Logistic,
    /// A perceptron with one hidden layer.
    Mlp,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Logistic, Self::Mlp];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Logistic => "logistic",
            Self::Mlp => "mlp",
        }
    }
}

/// Weights and biases from `inputs` to `outputs` numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Layer {
    pub(crate) inputs: usize,
    /// Row by row, one an output.
    pub(crate) weights: Vec<f64>,
    pub(crate) bias: Vec<f64>,
}

impl Layer {
    fn apply(&self, inputs: &[f64]) -> Vec<f64> {
        let rows = self.weights.chunks_exact(self.inputs);
        rows.zip(&self.bias).map(|(row, bias)| matrix::dot64(row, inputs) + bias).collect()
    }
}

/// A classifier over vectors.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// The encoder whose vectors it knows.
    pub encoder: String,
    /// The name of the encoder's instruction that stood before each text, if any.
    pub prompt: Option<String>,
    /// What it tells apart, sorted.
    pub labels: Vec<String>,
    /// Logits are divided by this before they become probabilities.
    pub temperature: f64,
    /// Rectified between; one is logistic regression, two a perceptron.
    pub(crate) layers: Vec<Layer>,
    /// Of logistic regression: the inverse strength of its regularisation.
    pub(crate) c: Option<f64>,
}

impl Head {
    /// Floats of the vectors that it takes.
    pub fn dimensions(&self) -> usize {
        self.layers.first().map_or(0, |layer| layer.inputs)
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        if self.layers.len() == 1 { Kind::Logistic } else { Kind::Mlp }
    }

    /// The inverse strength of logistic regression's regularisation, as it was found.
    pub fn c(&self) -> Option<f64> {
        self.c
    }

    /// A number a label.
    ///
    /// # Errors
    /// Where the vector is none of its encoder's.
    pub fn logits(&self, vector: &[f32]) -> Result<Vec<f64>, Error> {
        let (have, want) = (vector.len(), self.dimensions());
        if have != want {
            return Err(Error(format!(
                "the head takes vectors of {want} floats, and this one has {have}: it was trained \
                 on `{}`",
                self.encoder
            )));
        }
        let mut values: Vec<f64> = vector.iter().map(|it| f64::from(*it)).collect();
        for (at, layer) in self.layers.iter().enumerate() {
            if at > 0 {
                values.iter_mut().for_each(|it| *it = it.max(0.0));
            }
            values = layer.apply(&values);
        }
        if values.len() == 1 && self.labels.len() == 2 {
            values.insert(0, 0.0);
        }
        Ok(values)
    }

    /// A probability a label; together 1.
    ///
    /// # Errors
    /// Where the vector is none of its encoder's.
    pub fn probabilities(&self, vector: &[f32]) -> Result<Vec<f64>, Error> {
        Ok(probabilities(&self.logits(vector)?, self.temperature))
    }
}

/// Vectors with their labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Set {
    pub(crate) vectors: matrix::Matrix,
    /// The index of each row's label.
    pub(crate) of: Vec<usize>,
    pub(crate) labels: Vec<String>,
}

impl Set {
    /// Of vectors as long as each other, and as many labels.
    ///
    /// # Errors
    /// Where they are not, hold something that is no number, or are too much.
    pub fn new(vectors: &[Vec<f32>], labels: &[String]) -> Result<Self, Error> {
        let dimensions = vectors.first().map_or(0, Vec::len);
        let wrong = |why: &str| Err(Error(why.to_owned()));
        if vectors.len() != labels.len() || vectors.iter().any(|it| it.len() != dimensions) {
            return wrong("vectors are not as long as each other, or not as many as labels");
        }
        if dimensions == 0 || dimensions > DIMENSIONS || vectors.len() * dimensions > FLOATS {
            return wrong("there are no vectors, or more than a head can be trained on");
        }
        if vectors.iter().flatten().any(|it| !it.is_finite()) {
            return wrong("a vector holds something that is no number");
        }
        let names: std::collections::BTreeSet<&String> = labels.iter().collect();
        let names: Vec<String> = names.into_iter().cloned().collect();
        if names.len() > LABELS {
            return Err(Error(format!(
                "there are {} labels, and the most is {LABELS}",
                names.len()
            )));
        }
        let of = labels.iter().map(|label| names.partition_point(|name| name < label)).collect();
        let vectors = matrix::Matrix { columns: dimensions, values: vectors.concat() };
        Ok(Self { vectors, of, labels: names })
    }

    /// How many rows have each label, in the labels' order.
    pub fn counts(&self) -> Vec<(&str, usize)> {
        let count = |at: usize| self.of.iter().filter(|label| **label == at).count();
        self.labels.iter().enumerate().map(|(at, name)| (name.as_str(), count(at))).collect()
    }

    /// The index of each row's label.
    pub fn labels_of(&self) -> &[usize] {
        &self.of
    }
}
