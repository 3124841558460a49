//! A head from labelled vectors: cross-validation finds how strongly it is regularised and what its
//! probabilities are worth, then all rows train it. What is told of it was measured on rows that it
//! had not seen; only that strength was chosen by the same rows.

use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::calibrate::{Calibration, calibrate, probabilities};
use crate::folds::{MOST_FOLDS, stratified};
use crate::logistic::Logistic;
use crate::{Error, Head, Kind, Layer, Set, mlp};

/// The inverse strengths that are tried, strongest first; the next one only where the last was
/// better than the one before.
const STRENGTHS: [f64; 7] = [0.01, 0.1, 1.0, 10.0, 100.0, 1000.0, 10_000.0];

/// How a head is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Which one.
    pub kind: Kind,
    /// Parts of the rows, each judged by what the others trained; 2 to [`MOST_FOLDS`], and no more
    /// than the rarest label has rows.
    pub folds: usize,
    /// Hidden units of a perceptron.
    pub units: usize,
    /// What chance begins with.
    pub seed: u64,
    /// Threads that compute; they change nothing else.
    pub threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { kind: Kind::Logistic, folds: 5, units: 64, seed: 1, threads: 1 }
    }
}

/// A head, and how good it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// Trained on all rows, with its temperature.
    pub head: Head,
    /// Of rows that those who judged them had not seen.
    pub calibration: Calibration,
    /// Parts that there were.
    pub folds: usize,
}

/// Rows with their parts.
struct Split<'a> {
    set: &'a Set,
    parts: Vec<usize>,
    folds: usize,
    options: &'a Options,
}

/// Trains a head on vectors of this encoder, made with the prompt of that name.
///
/// # Errors
/// Where there are less than two labels, or a label has less than two rows.
pub fn train(
    set: &Set,
    encoder: &str,
    prompt: Option<&str>,
    options: &Options,
) -> Result<Trained, Error> {
    let counts = set.counts();
    let (rarest, least) = counts.iter().min_by_key(|count| count.1).copied().unwrap_or(("", 0));
    if counts.len() < 2 {
        return Err(Error(format!(
            "rows have {} labels, and a head tells at least two apart",
            counts.len()
        )));
    }
    if least < 2 {
        return Err(Error(format!(
            "the label {rarest:?} has one row: give more of them, so that what is learned from some \
             can be tried on others"
        )));
    }
    let folds = options.folds.clamp(2, MOST_FOLDS).min(least);
    let split = Split { set, parts: stratified(&set.of, folds, options.seed), folds, options };
    let (layers, c, logits) = match options.kind {
        Kind::Logistic => split.logistic(),
        Kind::Mlp => split.mlp(),
    };
    let calibration = calibrate(&logits, &set.of, options.seed);
    let head = Head {
        encoder: encoder.to_owned(),
        prompt: prompt.map(str::to_owned),
        labels: set.labels.clone(),
        temperature: calibration.temperature,
        layers,
        c,
    };
    Ok(Trained { head, calibration, folds })
}

/// Layers, the strength where there is one, and logits of each row by those that had not seen it.
type Found = (Vec<Layer>, Option<f64>, Vec<Vec<f64>>);

impl Split<'_> {
    /// Rows that are in a part, or in any other; the part behind the last has none.
    fn rows(&self, part: usize, inside: bool) -> Vec<usize> {
        (0..self.parts.len()).filter(|row| (self.parts[*row] == part) == inside).collect()
    }

    fn logistic(&self) -> Found {
        let mut models: Vec<Logistic> = (0..=self.folds).map(|_| Logistic::new(self.set)).collect();
        let mut best: Option<(f64, f64, Logistic, Vec<Vec<f64>>)> = None;
        for c in STRENGTHS {
            // Each goes on from where the stronger one ended.
            models = self.each(models, |part, mut model: Logistic| {
                model.fit(self.set, &self.rows(part, false), c);
                model
            });
            let logits = |row: usize| models[self.parts[row]].logits(self.set, row);
            let logits: Vec<Vec<f64>> = (0..self.parts.len()).map(logits).collect();
            let loss = self.loss(&logits);
            if best.as_ref().is_some_and(|best| best.0 <= loss) {
                break;
            }
            best = Some((loss, c, models[self.folds].clone(), logits));
        }
        let (_, c, model, logits) = best.expect("there are strengths to try");
        (vec![model.layer()], Some(c), logits)
    }

    fn mlp(&self) -> Found {
        let Options { units, seed, .. } = *self.options;
        let starts: Vec<()> = vec![(); self.folds + 1];
        let fit = |part: usize, (): ()| {
            mlp::fit(
                self.set,
                &self.rows(part, false),
                units.max(1),
                seed.wrapping_add(part as u64),
            )
        };
        let mut nets: Vec<Vec<Layer>> = self.each(starts, fit);
        let all = nets.pop().expect("one was trained on all rows");
        let heads = nets.into_iter().map(|layers| Head {
            encoder: String::new(),
            prompt: None,
            labels: self.set.labels.clone(),
            temperature: 1.0,
            layers,
            c: None,
        });
        let heads: Vec<Head> = heads.collect();
        let logits = |row: usize| {
            let logits = heads[self.parts[row]].logits(self.set.vectors.row(row));
            logits.expect("the row is as long as those that trained it")
        };
        (all, None, (0..self.parts.len()).map(logits).collect())
    }

    /// The mean of −ln p(label).
    fn loss(&self, logits: &[Vec<f64>]) -> f64 {
        let one =
            |(row, label): (&Vec<f64>, &usize)| -probabilities(row, 1.0)[*label].max(1e-300).ln();
        logits.iter().zip(&self.set.of).map(one).sum::<f64>() / logits.len().max(1) as f64
    }

    /// Does something for each part, and for none of them, on as many threads as there may be.
    fn each<T: Send, U: Send>(&self, items: Vec<T>, work: impl Fn(usize, T) -> U + Sync) -> Vec<U> {
        let threads = self.options.threads.clamp(1, items.len().max(1));
        let queue = Mutex::new(items.into_iter().enumerate());
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let worker = || {
            let done = std::iter::from_fn(next).map(|(at, item)| (at, work(at, item)));
            done.collect::<Vec<_>>()
        };
        let mut done = thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
            let done = workers.into_iter().map(|it| it.join().expect("a bug ends the training"));
            done.flatten().collect::<Vec<_>>()
        });
        done.sort_by_key(|(at, _)| *at);
        done.into_iter().map(|(_, it)| it).collect()
    }
}
