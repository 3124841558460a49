//! Temperature scaling (Guo and others, On Calibration of Modern Neural Networks, 2017): logits are
//! divided by the one number that makes probabilities say how often they are right.

use crate::folds::stratified;
use crate::metrics::{Report, report};

/// Parts of the rows, each of which is judged with the temperature that the others gave.
const PARTS: usize = 5;
/// Temperatures are looked for between these.
const RANGE: (f64, f64) = (0.01, 100.0);
/// Each step narrows the range to 0.618 of it.
const STEPS: usize = 60;

/// A temperature, and what it does.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// The one that suits all rows best.
    pub temperature: f64,
    /// How good probabilities are as they were.
    pub before: Report,
    /// How good they are with temperatures that were found on other rows.
    pub after: Report,
}

/// Probabilities of logits at a temperature, by softmax.
pub fn probabilities(logits: &[f64], temperature: f64) -> Vec<f64> {
    let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights = logits.iter().map(|it| ((it - most) / temperature).exp());
    let weights: Vec<f64> = weights.collect();
    let total: f64 = weights.iter().sum();
    weights.iter().map(|it| it / total).collect()
}

/// Finds the temperature at which the labels `of` rows are likeliest, and judges it.
pub fn calibrate(logits: &[Vec<f64>], of: &[usize], seed: u64) -> Calibration {
    let all: Vec<usize> = (0..of.len()).collect();
    let parts = stratified(of, PARTS, seed);
    let mut after = vec![Vec::new(); of.len()];
    for part in 0..PARTS {
        let (mine, others): (Vec<usize>, Vec<usize>) =
            all.iter().partition(|row| parts[**row] == part);
        let temperature = likeliest(logits, of, &others);
        mine.into_iter().for_each(|row| after[row] = probabilities(&logits[row], temperature));
    }
    let before: Vec<Vec<f64>> = logits.iter().map(|it| probabilities(it, 1.0)).collect();
    Calibration {
        temperature: likeliest(logits, of, &all),
        before: report(&before, of, seed),
        after: report(&after, of, seed),
    }
}

/// The mean of −ln p(label) is convex in 1 / temperature, so it has one valley in its logarithm:
/// golden-section search.
fn likeliest(logits: &[Vec<f64>], of: &[usize], rows: &[usize]) -> f64 {
    if rows.is_empty() {
        return 1.0;
    }
    let golden = (5.0_f64.sqrt() - 1.0) / 2.0;
    let loss = |at: f64| -> f64 {
        let temperature = at.exp();
        let one = |row: &usize| {
            let logits = &logits[*row];
            let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = logits.iter().map(|it| ((it - most) / temperature).exp()).sum();
            total.ln() - (logits[of[*row]] - most) / temperature
        };
        rows.iter().map(one).sum()
    };
    let (mut low, mut high) = (RANGE.0.ln(), RANGE.1.ln());
    let (mut left, mut right) = (high - golden * (high - low), low + golden * (high - low));
    let (mut at_left, mut at_right) = (loss(left), loss(right));
    for _ in 0..STEPS {
        if at_left < at_right {
            (high, right, at_right) = (right, left, at_left);
            left = high - golden * (high - low);
            at_left = loss(left);
        } else {
            (low, left, at_left) = (left, right, at_right);
            right = low + golden * (high - low);
            at_right = loss(right);
        }
    }
    ((low + high) / 2.0).exp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Rows whose labels are drawn by the probabilities of their logits at this temperature.
    fn drawn(rows: usize, temperature: f64) -> (Vec<Vec<f64>>, Vec<usize>) {
        let mut random = Random::new(7);
        let row = |_| {
            let logits: Vec<f64> = (0..3).map(|_| 6.0 * random.unit()).collect();
            let (mut left, mut label) = (random.unit(), 0);
            for (at, share) in probabilities(&logits, temperature).iter().enumerate() {
                label = at;
                left -= share;
                if left < 0.0 {
                    break;
                }
            }
            (logits, label)
        };
        (0..rows).map(row).unzip()
    }

    #[test]
    fn the_temperature_that_labels_were_drawn_at_is_found() {
        for temperature in [0.5, 1.0, 3.0] {
            let (logits, of) = drawn(8_000, temperature);
            let found = calibrate(&logits, &of, 1);
            assert!((found.temperature / temperature - 1.0).abs() < 0.06, "{}", found.temperature);
            assert!(found.after.ece.value < 0.025, "{:?}", found.after.ece);
            assert_eq!(found.after.accuracy, found.before.accuracy, "the best stays the best");
            if temperature != 1.0 {
                assert!(found.before.ece.value > 0.1, "{:?}", found.before.ece);
            }
        }
    }

    #[test]
    fn probabilities_of_large_logits_are_finite() {
        assert_eq!(probabilities(&[1e4, 0.0], 1.0), [1.0, 0.0]);
        assert_eq!(probabilities(&[3.0, 3.0], 0.01), [0.5, 0.5]);
    }
}
