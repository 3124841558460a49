//! Vectors in few bits, and the nearest of them.

use super::*;

/// Numbers that look like chance and follow from a seed (xorshift64: Marsaglia, 2003).
fn random(seed: &mut u64) -> f32 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    (*seed >> 40) as f32 / (1 << 24) as f32 - 0.5
}

fn vector(seed: &mut u64, dimensions: usize) -> Vec<f32> {
    (0..dimensions).map(|_| random(seed)).collect()
}

fn bytes(rounded: &Quantised) -> Vec<u8> {
    rounded.codes.iter().map(|code| code.cast_unsigned()).collect()
}

#[test]
fn the_closest_are_those_of_exact_cosines() {
    for dimensions in [1, 3, 64, 384, 4096] {
        let mut seed = 0x1234_5678_9abc_def0;
        let rows: Vec<Vec<f32>> = (0..300).map(|_| vector(&mut seed, dimensions)).collect();
        let mut all = Vectors::new(dimensions);
        for (row, id) in rows.iter().zip(10..) {
            let rounded = quantise(row).expect("has a length");
            assert!(all.push(id, rounded.scale, &bytes(&rounded)));
        }
        let question = vector(&mut seed, dimensions);
        let found = all.closest(&Needle::new(&question).expect("has a length"), 20);
        let (question, mut exact) = (unit(&question).expect("has a length"), Vec::new());
        for row in &rows {
            let row = unit(row).expect("has a length");
            exact.push(question.iter().zip(&row).map(|(a, b)| a * b).sum::<f32>());
        }
        assert_eq!(found.len(), 20);
        assert!(found.is_sorted_by(|a, b| a.1 >= b.1));
        for (id, cosine) in &found {
            let error = (cosine - exact[*id as usize - 10]).abs();
            assert!(error < 7e-3, "{dimensions} dimensions: {error}");
        }
        exact.sort_by(|a, b| b.total_cmp(a));
        let least = found[19].1;
        assert!((least - exact[19]).abs() < 7e-3, "{dimensions} dimensions");
    }
}

#[test]
fn of_equal_ones_the_older_comes_first() {
    let mut all = Vectors::new(2);
    for id in [7, 3, 5] {
        assert!(all.push(id, 1.0 / 127.0, &[127, 0]));
    }
    let found = all.closest(&Needle::new(&[2.0, 0.0]).expect("has a length"), 2);
    assert_eq!(found.iter().map(|it| it.0).collect::<Vec<_>>(), [3, 5]);
    assert!((found[0].1 - 1.0).abs() < 1e-4);
}

#[test]
fn what_is_no_vector_is_refused() {
    for broken in [&[0.0, 0.0][..], &[f32::NAN, 1.0], &[f32::INFINITY, 1.0], &[]] {
        assert!(quantise(broken).is_none() && Needle::new(broken).is_none(), "{broken:?}");
    }
    let mut all = Vectors::new(2);
    assert!(!all.push(1, 1.0, &[1]) && !all.push(1, f32::NAN, &[1, 1]));
    assert_eq!(all.closest(&Needle::new(&[1.0]).expect("has a length"), 3), []);
    // The largest sum of products that there can be.
    let many = 1 << 14;
    let ones = vec![1.0; many];
    let mut all = Vectors::new(many);
    let rounded = quantise(&ones).expect("has a length");
    assert!(all.push(1, rounded.scale, &bytes(&rounded)));
    let found = all.closest(&Needle::new(&ones).expect("has a length"), 1);
    assert!((found[0].1 - 1.0).abs() < 1e-2, "{found:?}");
}
