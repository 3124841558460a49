//! From what labels weigh to a verdict: probabilities over the labels alone, with the prior taken
//! off where it is known.

/// What a question's labels came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Which label is likeliest; the first of several.
    pub best: usize,
    /// Of each label, 0 to 1; together 1.
    pub probabilities: Vec<f64>,
    /// How far the likeliest is ahead of the next.
    pub margin: f64,
    /// What the labels' own probabilities sum to: where it is near 0 the model would have said
    /// something else, and the verdict says little.
    pub mass: f64,
}

/// Log-probabilities of labels, each as a whole, and without any input.
///
/// # Panics
/// Where there is no label, or not as many without an input as with one.
pub fn judge(logprobs: &[f64], prior: Option<&[f64]>) -> Verdict {
    let free = |at: usize| prior.map_or(0.0, |prior| prior[at]);
    let scores: Vec<f64> = logprobs.iter().enumerate().map(|(at, one)| one - free(at)).collect();
    let best =
        (0..scores.len()).fold(0, |best, at| if scores[at] > scores[best] { at } else { best });
    let weights: Vec<f64> = scores.iter().map(|score| (score - scores[best]).exp()).collect();
    let total: f64 = weights.iter().sum();
    let probabilities: Vec<f64> = weights.iter().map(|weight| weight / total).collect();
    let others = probabilities.iter().enumerate().filter(|(at, _)| *at != best);
    let second = others.map(|(_, one)| *one).fold(0.0, f64::max);
    Verdict {
        best,
        margin: probabilities[best] - second,
        probabilities,
        mass: logprobs.iter().map(|logprob| logprob.exp()).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(left: f64, right: f64) {
        assert!((left - right).abs() < 1e-12, "{left} is not {right}");
    }

    #[test]
    fn labels_are_compared_with_each_other() {
        let check = |weights: &[f64], prior: Option<&[f64]>, expect: &[f64], best: usize| {
            let logs = |list: &[f64]| list.iter().map(|one| one.ln()).collect::<Vec<_>>();
            let verdict = judge(&logs(weights), prior.map(logs).as_deref());
            assert_eq!(verdict.best, best, "{verdict:?}");
            verdict.probabilities.iter().zip(expect).for_each(|(one, other)| near(*one, *other));
            near(verdict.mass, weights.iter().sum());
            let mut sorted = expect.to_vec();
            sorted.sort_by(|a, b| b.total_cmp(a));
            near(verdict.margin, sorted[0] - sorted[1]);
        };
        check(&[0.3, 0.1], None, &[0.75, 0.25], 0);
        check(&[0.1, 0.1], None, &[0.5, 0.5], 0);
        check(&[0.3, 0.1], Some(&[0.6, 0.1]), &[1.0 / 3.0, 2.0 / 3.0], 1);
        check(&[0.2, 0.2, 0.4], None, &[0.25, 0.25, 0.5], 2);
        // As unlikely as a long label may be.
        let verdict = judge(&[-2000.0, -2001.0], None);
        near(verdict.probabilities[0], 1.0 / (1.0 + (-1.0_f64).exp()));
        assert_eq!(verdict.mass, 0.0);
    }
}
