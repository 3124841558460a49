//! All vectors of an index, and the closest to a question, by looking at every one of them.
//!
//! A vector is made of length 1 and kept as 8-bit integers with a scale: a quarter of the memory of
//! floats, and the scan is bound by memory. What rounding moves a cosine by is far below what
//! divides a good passage from a bad one: each component is wrong by at most half a scale, which is
//! its largest component divided by 127. The question's vector keeps 16 bits, so that only one of
//! the two is rounded so.
//!
//! Absent: approximate indexes. A million vectors take 0.1 s on one core, and a folder has fewer.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// A vector as it is kept: component = code · scale.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Quantised {
    pub(crate) scale: f32,
    pub(crate) codes: Vec<i8>,
}

/// The vector at length 1; `None` where it has none or is not finite.
pub(crate) fn unit(vector: &[f32]) -> Option<Vec<f32>> {
    let squares: f64 = vector.iter().map(|x| f64::from(*x).powi(2)).sum();
    let length = squares.sqrt();
    let usable = length.is_finite() && length > 0.0;
    usable.then(|| vector.iter().map(|x| (f64::from(*x) / length) as f32).collect())
}

/// Rounds a vector, at length 1; `None` where it has no length or is not finite.
pub(crate) fn quantise(vector: &[f32]) -> Option<Quantised> {
    let unit = unit(vector)?;
    let scale = largest(&unit) / 127.0;
    Some(Quantised { scale, codes: unit.iter().map(|x| (x / scale).round() as i8).collect() })
}

fn largest(vector: &[f32]) -> f32 {
    vector.iter().fold(0.0, |most, x| x.abs().max(most))
}

/// A question's vector, with as many bits as sums of products have room for.
#[derive(Clone, Debug)]
pub(crate) struct Needle {
    scale: f32,
    codes: Vec<i16>,
}

impl Needle {
    /// `None` where it has no length or is not finite.
    pub(crate) fn new(vector: &[f32]) -> Option<Self> {
        let unit = unit(vector)?;
        let room = i32::MAX as usize / (127 * unit.len());
        let most = room.min(i16::MAX as usize) as f32;
        let scale = largest(&unit) / most;
        Some(Self { scale, codes: unit.iter().map(|x| (x / scale).round() as i16).collect() })
    }
}

/// Vectors, one behind the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Vectors {
    dimensions: usize,
    ids: Vec<i64>,
    scales: Vec<f32>,
    codes: Vec<i8>,
}

impl Vectors {
    pub(crate) fn new(dimensions: usize) -> Self {
        Self { dimensions, ..Self::default() }
    }

    /// Adds a vector, as its bytes; false where their number is wrong.
    pub(crate) fn push(&mut self, id: i64, scale: f32, codes: &[u8]) -> bool {
        let fits = codes.len() == self.dimensions && scale.is_finite();
        if fits {
            self.ids.push(id);
            self.scales.push(scale);
            self.codes.extend(codes.iter().map(|byte| byte.cast_signed()));
        }
        fits
    }

    /// The closest `most`, the best first, with their cosines; of equal ones the older first.
    pub(crate) fn closest(&self, needle: &Needle, most: usize) -> Vec<(i64, f32)> {
        if needle.codes.len() != self.dimensions || self.dimensions == 0 {
            return Vec::new();
        }
        let mut best: BinaryHeap<Reverse<Near>> = BinaryHeap::with_capacity(most + 1);
        let mut least = f32::NEG_INFINITY;
        let rows = self.codes.chunks_exact(self.dimensions).zip(&self.scales).zip(&self.ids);
        for ((codes, scale), id) in rows {
            let cosine = dot(&needle.codes, codes) as f32 * scale * needle.scale;
            if best.len() < most || cosine >= least {
                best.push(Reverse(Near { cosine, id: *id }));
                if best.len() > most {
                    best.pop();
                }
                least = best.peek().map_or(least, |near| near.0.cosine);
            }
        }
        let sorted = best.into_sorted_vec();
        sorted.into_iter().map(|Reverse(near)| (near.id, near.cosine)).collect()
    }
}

/// Sum of products. Cannot overflow: see [`Needle::new`].
fn dot(needle: &[i16], codes: &[i8]) -> i32 {
    needle.iter().zip(codes).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum()
}

/// Ordered by cosine, then the older as the better.
#[derive(Clone, Copy, Debug)]
struct Near {
    cosine: f32,
    id: i64,
}

impl Ord for Near {
    fn cmp(&self, other: &Self) -> Ordering {
        self.cosine.total_cmp(&other.cosine).then(other.id.cmp(&self.id))
    }
}

impl PartialOrd for Near {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Near {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Near {}

#[cfg(test)]
mod tests;
