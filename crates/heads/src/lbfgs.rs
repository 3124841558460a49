//! Limited-memory BFGS (Nocedal and Wright, Numerical Optimization, 2006, algorithm 7.5) for smooth
//! convex functions, with steps found by doubling and halving to Wolfe's
//! conditions (algorithm 3.1 with the curvature condition of 3.7b).

use crate::matrix::dot64;

/// Pairs of steps and gradients that are remembered.
const MEMORY: usize = 10;
/// Sufficient decrease, and curvature.
const DECREASE: f64 = 1e-4;
const CURVATURE: f64 = 0.9;
/// The most tries for a step.
const TRIES: usize = 40;

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stop {
    /// No part of the gradient is larger.
    pub(crate) gradient: f64,
    pub(crate) iterations: usize,
}

struct Pair {
    step: Vec<f64>,
    change: Vec<f64>,
    /// 1 over their product.
    rho: f64,
}

/// Moves `at` to where `value` is least; `value` fills the gradient. Returns the iterations.
pub(crate) fn minimise(
    at: &mut Vec<f64>,
    stop: Stop,
    mut value: impl FnMut(&[f64], &mut [f64]) -> f64,
) -> usize {
    let mut gradient = vec![0.0; at.len()];
    let mut here = value(at, &mut gradient);
    let mut pairs: Vec<Pair> = Vec::new();
    for iteration in 0..stop.iterations {
        if gradient.iter().fold(0.0_f64, |most, it| most.max(it.abs())) <= stop.gradient {
            return iteration;
        }
        let direction = direction(&gradient, &pairs);
        let Some((next, next_value, next_gradient)) =
            search(at, here, &gradient, &direction, &mut value)
        else {
            return iteration; // as exact as numbers are
        };
        let step: Vec<f64> = next.iter().zip(&*at).map(|(next, at)| next - at).collect();
        let change: Vec<f64> =
            next_gradient.iter().zip(&gradient).map(|(next, at)| next - at).collect();
        let product = dot64(&step, &change);
        if product > f64::EPSILON * dot64(&change, &change) {
            if pairs.len() == MEMORY {
                pairs.remove(0);
            }
            pairs.push(Pair { step, change, rho: 1.0 / product });
        }
        (*at, here, gradient) = (next, next_value, next_gradient);
    }
    stop.iterations
}

/// Down, by what the last steps tell of the curvature.
fn direction(gradient: &[f64], pairs: &[Pair]) -> Vec<f64> {
    let mut direction: Vec<f64> = gradient.iter().map(|it| -it).collect();
    let add = |to: &mut [f64], factor: f64, from: &[f64]| {
        to.iter_mut().zip(from).for_each(|(to, from)| *to += factor * from);
    };
    let mut alphas = vec![0.0; pairs.len()];
    for (pair, alpha) in pairs.iter().zip(&mut alphas).rev() {
        *alpha = pair.rho * dot64(&pair.step, &direction);
        add(&mut direction, -*alpha, &pair.change);
    }
    let scale = match pairs.last() {
        Some(last) => 1.0 / (last.rho * dot64(&last.change, &last.change)),
        None => 1.0 / dot64(gradient, gradient).sqrt().max(1.0),
    };
    direction.iter_mut().for_each(|it| *it *= scale);
    for (pair, alpha) in pairs.iter().zip(&alphas) {
        let beta = pair.rho * dot64(&pair.change, &direction);
        add(&mut direction, alpha - beta, &pair.step);
    }
    direction
}

/// A step that is neither too long nor too short: halved between the bounds that were found,
/// doubled as long as there is none above.
fn search(
    at: &[f64],
    here: f64,
    gradient: &[f64],
    direction: &[f64],
    value: &mut impl FnMut(&[f64], &mut [f64]) -> f64,
) -> Option<(Vec<f64>, f64, Vec<f64>)> {
    let slope = dot64(gradient, direction);
    if slope >= 0.0 {
        return None;
    }
    let (mut low, mut high, mut length) = (0.0, f64::INFINITY, 1.0);
    let mut found = None;
    for _ in 0..TRIES {
        let next: Vec<f64> = at.iter().zip(direction).map(|(at, by)| at + length * by).collect();
        let mut next_gradient = vec![0.0; at.len()];
        let there = value(&next, &mut next_gradient);
        let far = !there.is_finite() || there > here + DECREASE * length * slope;
        let near = dot64(&next_gradient, direction) < CURVATURE * slope;
        if far {
            high = length;
        } else {
            found = Some((next, there, next_gradient));
            if !near {
                break;
            }
            low = length;
        }
        length = if high.is_finite() { (low + high) / 2.0 } else { length * 2.0 };
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_finds_the_bottom_of_a_long_valley() {
        // Σ i·(x − i)², whose curvatures are 1 to 100; and Rosenbrock's, which is not convex.
        let mut at = vec![0.0; 100];
        let stop = Stop { gradient: 1e-9, iterations: 500 };
        minimise(&mut at, stop, |at, gradient| {
            let each = at.iter().zip(gradient).enumerate().map(|(i, (x, slope))| {
                let i = 1.0 + i as f64;
                *slope = 2.0 * i * (x - i);
                i * (x - i).powi(2)
            });
            each.sum()
        });
        assert!(at.iter().enumerate().all(|(i, x)| (x - 1.0 - i as f64).abs() < 1e-8), "{at:?}");
        let mut at = vec![-1.2, 1.0];
        minimise(&mut at, stop, |at, gradient| {
            let (x, y) = (at[0], at[1]);
            gradient[0] = -2.0 * (1.0 - x) - 400.0 * x * (y - x * x);
            gradient[1] = 200.0 * (y - x * x);
            (1.0 - x).powi(2) + 100.0 * (y - x * x).powi(2)
        });
        assert!((at[0] - 1.0).abs() < 1e-7 && (at[1] - 1.0).abs() < 1e-7, "{at:?}");
    }
}
