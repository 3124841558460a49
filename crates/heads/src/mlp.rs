//! A perceptron with one hidden layer of rectified units, trained by Adam (Kingma and Ba, 2015) in
//! small batches, and stopped early: a part of the rows is held out, and the weights that do best
//! on it are kept.

use crate::folds::stratified;
use crate::matrix::{add32, dot32};
use crate::random::Random;
use crate::{Layer, Set};

const BATCH: usize = 32;
/// Adam's, and its decay of weights (Loshchilov and Hutter, 2019).
const RATE: f32 = 1e-3;
const BETAS: (f32, f32) = (0.9, 0.999);
const DECAY: f32 = 1e-2;
/// One in so many rows is held out.
const HELD: usize = 10;
/// The most rounds, and how many may pass without getting better.
const ROUNDS: usize = 200;
const PATIENCE: usize = 8;

/// Weights that are learned, one row an output, its bias last.
#[derive(Clone, Debug)]
struct Weights {
    inputs: usize,
    values: Vec<f32>,
    gradient: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
}

impl Weights {
    /// By chance, as He and others (2015) draw them.
    fn new(inputs: usize, outputs: usize, random: &mut Random) -> Self {
        let bound = (6.0 / inputs as f64).sqrt();
        let count = (inputs + 1) * outputs;
        let draw = |at: usize| {
            let drawn = (2.0 * random.unit() - 1.0) * bound;
            if at % (inputs + 1) == inputs { 0.0 } else { drawn as f32 }
        };
        let zeros = vec![0.0; count];
        let values = (0..count).map(draw).collect();
        Self { inputs, values, gradient: zeros.clone(), first: zeros.clone(), second: zeros }
    }

    fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.inputs + 1)
    }

    fn apply(&self, inputs: &[f32], outputs: &mut Vec<f32>) {
        outputs.clear();
        outputs
            .extend(self.rows().map(|row| dot32(&row[..self.inputs], inputs) + row[self.inputs]));
    }

    fn learn(&mut self, inputs: &[f32], errors: &[f32]) {
        let rows = self.gradient.chunks_exact_mut(self.inputs + 1);
        for (row, error) in rows.zip(errors).filter(|(_, error)| **error != 0.0) {
            add32(&mut row[..self.inputs], *error, inputs);
            row[self.inputs] += error;
        }
    }

    fn step(&mut self, share: f32, time: i32) {
        let (b1, b2) = BETAS;
        let (mend1, mend2) = (1.0 / (1.0 - b1.powi(time)), 1.0 / (1.0 - b2.powi(time)));
        for at in 0..self.values.len() {
            let slope = self.gradient[at] * share;
            self.gradient[at] = 0.0;
            self.first[at] = b1 * self.first[at] + (1.0 - b1) * slope;
            self.second[at] = b2 * self.second[at] + (1.0 - b2) * slope * slope;
            let by = self.first[at] * mend1 / ((self.second[at] * mend2).sqrt() + 1e-8);
            let kept = if at % (self.inputs + 1) == self.inputs { 0.0 } else { DECAY };
            self.values[at] -= RATE * (by + kept * self.values[at]);
        }
    }

    /// As a layer whose inputs are not scaled any more.
    fn layer(&self, scale: f32) -> Layer {
        let weights = self.rows().flat_map(|row| &row[..self.inputs]);
        Layer {
            inputs: self.inputs,
            weights: weights.map(|it| f64::from(it * scale)).collect(),
            bias: self.rows().map(|row| f64::from(row[self.inputs])).collect(),
        }
    }
}

/// What is between the layers while a row is learned.
#[derive(Default)]
struct Scratch {
    inputs: Vec<f32>,
    hidden: Vec<f32>,
    logits: Vec<f32>,
    back: Vec<f32>,
}

#[derive(Clone)]
struct Net {
    /// What vectors are multiplied by, so that their numbers are about 1.
    scale: f32,
    hidden: Weights,
    output: Weights,
}

impl Net {
    /// Fills the scratch; logits become what probabilities are off by. Returns −ln p(label).
    fn errors(&self, vector: &[f32], label: usize, it: &mut Scratch) -> f64 {
        it.inputs.clear();
        it.inputs.extend(vector.iter().map(|value| value * self.scale));
        self.hidden.apply(&it.inputs, &mut it.hidden);
        it.hidden.iter_mut().for_each(|value| *value = value.max(0.0));
        self.output.apply(&it.hidden, &mut it.logits);
        let most = it.logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let own = it.logits[label] - most;
        it.logits.iter_mut().for_each(|value| *value = (*value - most).exp());
        let total: f32 = it.logits.iter().sum();
        it.logits.iter_mut().for_each(|value| *value /= total);
        it.logits[label] -= 1.0;
        f64::from(total.ln() - own)
    }

    fn learn(&mut self, vector: &[f32], label: usize, it: &mut Scratch) {
        self.errors(vector, label, it);
        self.output.learn(&it.hidden, &it.logits);
        it.back.clear();
        it.back.resize(it.hidden.len(), 0.0);
        for (row, error) in self.output.rows().zip(&it.logits) {
            add32(&mut it.back, *error, &row[..it.hidden.len()]);
        }
        let dead = it.back.iter_mut().zip(&it.hidden).filter(|(_, unit)| **unit <= 0.0);
        dead.for_each(|(back, _)| *back = 0.0);
        self.hidden.learn(&it.inputs, &it.back);
    }

    fn loss(&self, set: &Set, rows: &[usize], it: &mut Scratch) -> f64 {
        rows.iter().map(|row| self.errors(set.vectors.row(*row), set.of[*row], it)).sum()
    }
}

/// Trains one on these rows; the two layers.
pub(crate) fn fit(set: &Set, rows: &[usize], units: usize, seed: u64) -> Vec<Layer> {
    let mut random = Random::new(seed);
    let of: Vec<usize> = rows.iter().map(|row| set.of[*row]).collect();
    let part = stratified(&of, HELD.min(rows.len().max(2)), random.next());
    let mut held = Vec::new();
    let mut learned = Vec::new();
    for (row, part) in rows.iter().zip(part) {
        if part == 0 { held.push(*row) } else { learned.push(*row) }
    }
    let squares =
        |row: &usize| set.vectors.row(*row).iter().map(|it| f64::from(it * it)).sum::<f64>();
    let count = (learned.len() * set.vectors.columns).max(1) as f64;
    let mean = learned.iter().map(squares).sum::<f64>() / count;
    let scale = if mean > 0.0 { (1.0 / mean.sqrt()) as f32 } else { 1.0 };
    let hidden = Weights::new(set.vectors.columns, units, &mut random);
    let output = Weights::new(units, set.labels.len(), &mut random);
    let mut net = Net { scale, hidden, output };
    let mut it = Scratch::default();
    let (mut best, mut least, mut since, mut time) = (net.clone(), f64::INFINITY, 0, 0);
    for _ in 0..ROUNDS {
        random.shuffle(&mut learned);
        for batch in learned.chunks(BATCH) {
            batch.iter().for_each(|row| net.learn(set.vectors.row(*row), set.of[*row], &mut it));
            time += 1;
            net.hidden.step(1.0 / batch.len() as f32, time);
            net.output.step(1.0 / batch.len() as f32, time);
        }
        let loss = net.loss(set, &held, &mut it);
        if loss < least {
            (best, least, since) = (net.clone(), loss, 0);
        } else {
            since += 1;
            if since >= PATIENCE {
                break;
            }
        }
    }
    vec![best.hidden.layer(scale), best.output.layer(1.0)]
}
