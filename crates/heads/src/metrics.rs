//! How good probabilities are: accuracy, macro-F1, expected calibration error, each with the
//! interval that a bootstrap over the rows gives (Efron, 1979; percentiles).

use crate::random::Random;

/// Bins of confidence, of equal width.
pub const BINS: usize = 15;
/// Samples of a bootstrap.
const SAMPLES: usize = 1000;
/// Percentiles of a 95 % interval.
const LOW: f64 = 0.025;
const HIGH: f64 = 0.975;

/// A figure, and between what it lies with 95 % confidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Over all rows.
    pub value: f64,
    /// The 2.5th percentile of samples.
    pub low: f64,
    /// The 97.5th.
    pub high: f64,
}

/// Rows whose likeliest label's probability lies between two bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bin {
    /// How many.
    pub rows: usize,
    /// The mean of that probability; 0 of no rows.
    pub confidence: f64,
    /// The share of rows of which that label is right; 0 of no rows.
    pub accuracy: f64,
}

/// How good probabilities are.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// How many rows were judged.
    pub rows: usize,
    /// The share of rows of which the likeliest label is right.
    pub accuracy: Interval,
    /// The mean over labels of F1, over those that rows have or were given.
    pub macro_f1: Interval,
    /// The mean distance of confidence and accuracy in [`BINS`] bins, by their rows (Naeini and
    /// others, 2015).
    pub ece: Interval,
    /// The mean of −ln p(label).
    pub log_loss: f64,
    /// The bins, from 0 to 1.
    pub bins: Vec<Bin>,
}

/// A row, as far as it matters here.
#[derive(Clone, Copy)]
struct Judged {
    label: usize,
    best: usize,
    confidence: f64,
}

/// Judges probabilities of rows whose labels are these.
pub fn report(probabilities: &[Vec<f64>], of: &[usize], seed: u64) -> Report {
    let labels = probabilities.first().map_or(0, Vec::len);
    let judged = probabilities.iter().zip(of).map(|(row, label)| {
        let best = (0..row.len()).fold(0, |best, at| if row[at] > row[best] { at } else { best });
        Judged { label: *label, best, confidence: row[best] }
    });
    let judged: Vec<Judged> = judged.collect();
    let loss = probabilities.iter().zip(of).map(|(row, label)| -row[*label].max(1e-300).ln());
    let all = figures(judged.iter(), labels);
    let mut random = Random::new(seed);
    let mut samples = [const { Vec::new() }; 3];
    for _ in 0..SAMPLES {
        let draw = (0..judged.len()).map(|_| &judged[random.below(judged.len())]);
        let figures = figures(draw, labels).0;
        samples.iter_mut().zip(figures).for_each(|(list, figure)| list.push(figure));
    }
    let mut at = 0;
    let [accuracy, macro_f1, ece] = samples.map(|mut list: Vec<f64>| {
        list.sort_by(f64::total_cmp);
        let point = |share: f64| list[(share * (list.len() - 1) as f64).round() as usize];
        at += 1;
        Interval { value: all.0[at - 1], low: point(LOW), high: point(HIGH) }
    });
    let log_loss = loss.sum::<f64>() / judged.len().max(1) as f64;
    Report { rows: judged.len(), accuracy, macro_f1, ece, log_loss, bins: all.1 }
}

/// Accuracy, macro-F1 and calibration error, and the bins.
fn figures<'a>(rows: impl Iterator<Item = &'a Judged>, labels: usize) -> ([f64; 3], Vec<Bin>) {
    let mut bins = vec![Bin::default(); BINS];
    // Of each label: rows that have it, that were given it, and both.
    let mut counts = vec![[0_usize; 3]; labels];
    let (mut right, mut total) = (0, 0);
    for row in rows {
        let bin = ((row.confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
        let hit = usize::from(row.label == row.best);
        bins[bin].rows += 1;
        bins[bin].confidence += row.confidence;
        bins[bin].accuracy += hit as f64;
        counts[row.label][0] += 1;
        counts[row.best][1] += 1;
        counts[row.label][2] += hit;
        right += hit;
        total += 1;
    }
    let rows = f64::from(u32::try_from(total).unwrap_or(u32::MAX)).max(1.0);
    let gap: f64 = bins.iter().map(|bin| (bin.accuracy - bin.confidence).abs()).sum();
    for bin in &mut bins {
        let rows = bin.rows.max(1) as f64;
        (bin.confidence, bin.accuracy) = (bin.confidence / rows, bin.accuracy / rows);
    }
    let seen = counts.iter().filter(|[have, given, _]| have + given > 0);
    let f1 = seen.clone().map(|[have, given, both]| 2.0 * *both as f64 / (have + given) as f64);
    let f1 = f1.sum::<f64>() / seen.count().max(1) as f64;
    ([right as f64 / rows, f1, gap / rows], bins)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(left: f64, right: f64) {
        assert!((left - right).abs() < 1e-12, "{left} is not {right}");
    }

    #[test]
    fn figures_of_a_few_rows() {
        // By hand: three labels, the last of which nobody has.
        let rows = [
            (vec![0.9, 0.05, 0.05], 0),
            (vec![0.8, 0.2, 0.0], 1),
            (vec![0.3, 0.7, 0.0], 1),
            (vec![0.35, 0.65, 0.0], 1),
        ];
        let (probabilities, of): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
        let told = report(&probabilities, &of, 1);
        near(told.accuracy.value, 0.75);
        // F1 of label 0: 2·1/(1+2); of label 1: 2·2/(3+2).
        near(told.macro_f1.value, (2.0 / 3.0 + 0.8) / 2.0);
        // Bins of 1/15: 0.9 and 0.8 and 0.7 and 0.65 lie apart.
        near(told.ece.value, (0.1 + 0.8 + 0.3 + 0.35) / 4.0);
        near(told.log_loss, -(0.9_f64.ln() + 0.2_f64.ln() + 0.7_f64.ln() + 0.65_f64.ln()) / 4.0);
        assert_eq!(told.bins.iter().map(|bin| bin.rows).sum::<usize>(), 4);
        assert!(told.accuracy.low < 0.75 && told.accuracy.high > 0.75);
        assert_eq!(told, report(&probabilities, &of, 1));
    }

    #[test]
    fn the_ends_of_the_scale_have_their_bins() {
        let told = report(&[vec![1.0, 0.0], vec![0.5, 0.5]], &[0, 0], 1);
        assert_eq!((told.bins[14].rows, told.bins[7].rows), (1, 1));
        near(told.ece.value, 0.25);
    }

    #[test]
    fn an_interval_is_about_as_wide_as_theory_has_it() {
        // 400 rows of which 300 are right: ±1.96 · √(0.75 · 0.25 / 400).
        let probabilities = vec![vec![0.75, 0.25]; 400];
        let of: Vec<usize> = (0..400).map(|at| usize::from(at % 4 == 0)).collect();
        let told = report(&probabilities, &of, 3);
        let half = (told.accuracy.high - told.accuracy.low) / 2.0;
        assert!((half - 0.0424).abs() < 0.005, "{half}");
        near(told.ece.value, 0.0);
    }
}
