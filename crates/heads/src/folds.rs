//! Rows in parts of equal size, each with its share of every label.

use crate::random::Random;

/// The most parts.
pub const MOST_FOLDS: usize = 20;

/// The part of each row, 0 to less than `parts`. Each label's rows are dealt out in a shuffled
/// order, one label going on where the last one ended.
pub(crate) fn stratified(of: &[usize], parts: usize, seed: u64) -> Vec<usize> {
    let mut random = Random::new(seed);
    let mut order: Vec<usize> = (0..of.len()).collect();
    random.shuffle(&mut order);
    order.sort_by_key(|row| of[*row]); // stable: shuffled within a label
    let mut part = vec![0; of.len()];
    for (at, row) in order.into_iter().enumerate() {
        part[row] = at % parts.max(1);
    }
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_has_its_share_of_each_label() {
        let of: Vec<usize> =
            (0..103).map(|at| usize::from(at % 10 == 0) + usize::from(at > 90)).collect();
        let parts = stratified(&of, 5, 1);
        for label in 0..3 {
            let count = |part: usize| {
                let mine = parts.iter().zip(&of);
                mine.filter(|(of_part, of_label)| (**of_part, **of_label) == (part, label)).count()
            };
            let counts: Vec<usize> = (0..5).map(count).collect();
            let (least, most) = (counts.iter().min(), counts.iter().max());
            assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 1), "{counts:?}");
        }
        assert_eq!(parts, stratified(&of, 5, 1));
        assert_ne!(parts, stratified(&of, 5, 2));
    }
}
