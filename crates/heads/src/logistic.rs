//! Multinomial logistic regression with an L2 penalty on weights, none on biases. The objective is
//! scikit-learn's: Σ −ln p(label) + ‖W‖² / 2C, and of two labels only the second has weights.

use crate::lbfgs::{Stop, minimise};
use crate::matrix::{add, dot};
use crate::{Layer, Set};

/// Of the mean loss; a hundredth of scikit-learn's, since its answers are compared with.
const STOP: Stop = Stop { gradient: 1e-6, iterations: 2000 };

/// Outputs that so many labels need.
pub(crate) fn outputs(labels: usize) -> usize {
    if labels == 2 { 1 } else { labels }
}

/// Weights and a bias for each output, one row of them after another.
#[derive(Clone, Debug)]
pub(crate) struct Logistic {
    columns: usize,
    parameters: Vec<f64>,
}

impl Logistic {
    pub(crate) fn new(set: &Set) -> Self {
        let columns = set.vectors.columns;
        Self { columns, parameters: vec![0.0; outputs(set.labels.len()) * (columns + 1)] }
    }

    /// Goes on from where it is to the least of the objective over these rows.
    pub(crate) fn fit(&mut self, set: &Set, rows: &[usize], c: f64) {
        let columns = self.columns;
        let share = 1.0 / rows.len().max(1) as f64;
        let mut logits = vec![0.0; set.labels.len()];
        minimise(&mut self.parameters, STOP, |parameters, gradient| {
            gradient.fill(0.0);
            let mut loss = 0.0;
            for row in rows {
                let vector = set.vectors.row(*row);
                fill(parameters, vector, &mut logits);
                loss += to_errors(&mut logits, set.of[*row]) * share;
                let skipped = logits.len() - parameters.len() / (columns + 1);
                let parts = gradient.chunks_exact_mut(columns + 1);
                for (error, part) in logits[skipped..].iter().zip(parts) {
                    add(&mut part[..columns], error * share, vector);
                    part[columns] += error * share;
                }
            }
            let parts = parameters.chunks_exact(columns + 1);
            for (part, slope) in parts.zip(gradient.chunks_exact_mut(columns + 1)) {
                for (weight, slope) in part[..columns].iter().zip(slope) {
                    loss += weight * weight * share / (2.0 * c);
                    *slope += weight * share / c;
                }
            }
            loss
        });
    }

    /// A number a label.
    pub(crate) fn logits(&self, set: &Set, row: usize) -> Vec<f64> {
        let mut logits = vec![0.0; set.labels.len()];
        fill(&self.parameters, set.vectors.row(row), &mut logits);
        logits
    }

    pub(crate) fn layer(&self) -> Layer {
        let parts = self.parameters.chunks_exact(self.columns + 1);
        Layer {
            inputs: self.columns,
            weights: parts.clone().flat_map(|part| &part[..self.columns]).copied().collect(),
            bias: parts.map(|part| part[self.columns]).collect(),
        }
    }
}

/// The logits of a vector; of two labels the first has 0.
fn fill(parameters: &[f64], vector: &[f32], logits: &mut [f64]) {
    let columns = vector.len();
    let parts = parameters.chunks_exact(columns + 1);
    let skipped = logits.len() - parts.len();
    logits[..skipped].fill(0.0);
    for (logit, part) in logits[skipped..].iter_mut().zip(parts) {
        *logit = dot(&part[..columns], vector) + part[columns];
    }
}

/// Turns logits into what each probability is off by, and tells −ln p(label).
fn to_errors(logits: &mut [f64], label: usize) -> f64 {
    let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let own = logits[label] - most;
    logits.iter_mut().for_each(|it| *it = (*it - most).exp());
    let total: f64 = logits.iter().sum();
    logits.iter_mut().for_each(|it| *it /= total);
    logits[label] -= 1.0;
    total.ln() - own
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::{probabilities, report};

    fn floats(value: &Value) -> Vec<f64> {
        let list = value.as_array().expect("a list");
        list.iter().map(|it| it.as_f64().expect("a number")).collect()
    }

    fn near(ours: &[f64], theirs: &[f64], within: f64) {
        assert_eq!(ours.len(), theirs.len());
        let most = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(most <= within, "off by {most}: {ours:?}, {theirs:?}");
    }

    /// What scikit-learn finds: `tools/golden-heads.py`.
    #[test]
    fn it_finds_what_scikit_learn_finds() {
        let cases: Value =
            serde_json::from_str(include_str!("../tests/golden/logistic.json")).expect("JSON");
        for case in cases.as_array().expect("a list") {
            let vectors = case["vectors"].as_array().expect("a list");
            let vectors: Vec<Vec<f32>> =
                vectors.iter().map(|it| floats(it).iter().map(|it| *it as f32).collect()).collect();
            let labels: Vec<String> = floats(&case["of"]).iter().map(f64::to_string).collect();
            let set = Set::new(&vectors, &labels).expect("is a set");
            let rows: Vec<usize> = (0..labels.len()).collect();
            let mut model = Logistic::new(&set);
            for fit in case["fits"].as_array().expect("a list") {
                model.fit(&set, &rows, fit["c"].as_f64().expect("a number"));
                let told: Vec<Vec<f64>> =
                    rows.iter().map(|row| probabilities(&model.logits(&set, *row), 1.0)).collect();
                for (ours, theirs) in told.iter().zip(fit["probabilities"].as_array().expect("10"))
                {
                    near(ours, &floats(theirs), 1e-4);
                }
                let weights: Vec<f64> =
                    fit["weights"].as_array().expect("a list").iter().flat_map(floats).collect();
                let layer = model.layer();
                near(&layer.weights, &weights, 2e-3);
                near(&layer.bias, &floats(&fit["bias"]), 2e-3);
                let report = report(&told, &set.of, 1);
                let ours = [report.accuracy.value, report.macro_f1.value, report.log_loss];
                let theirs = ["accuracy", "macro_f1", "log_loss"].map(|it| fit[it].as_f64());
                near(&ours, &theirs.map(|it| it.expect("a number")), 1e-6);
            }
        }
    }
}
