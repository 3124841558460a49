//! Rows of numbers, and products of rows: the only loops here that take time.

/// Rows of equal length.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Matrix {
    pub(crate) columns: usize,
    pub(crate) values: Vec<f32>,
}

impl Matrix {
    pub(crate) fn row(&self, at: usize) -> &[f32] {
        &self.values[at * self.columns..][..self.columns]
    }
}

/// Sums are kept in so many parts, so that they can be made side by side; their order is fixed.
const PARTS: usize = 8;

macro_rules! dots {
    ($($name:ident: $left:ty, $right:ty => $sum:ty,)*) => {
        $(pub(crate) fn $name(left: &[$left], right: &[$right]) -> $sum {
            let mut parts = [<$sum>::default(); PARTS];
            let (left, left_rest) = left.as_chunks::<PARTS>();
            let (right, right_rest) = right.as_chunks::<PARTS>();
            for (left, right) in left.iter().zip(right) {
                for at in 0..PARTS {
                    parts[at] += <$sum>::from(left[at]) * <$sum>::from(right[at]);
                }
            }
            let rest = left_rest.iter().zip(right_rest);
            let rest: $sum = rest.map(|(a, b)| <$sum>::from(*a) * <$sum>::from(*b)).sum();
            parts.iter().sum::<$sum>() + rest
        })*
    };
}

dots! {
    dot: f64, f32 => f64,
    dot64: f64, f64 => f64,
    dot32: f32, f32 => f32,
}

/// `to += factor · from`.
pub(crate) fn add(to: &mut [f64], factor: f64, from: &[f32]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += factor * f64::from(*from));
}

/// The same, of halved width.
pub(crate) fn add32(to: &mut [f32], factor: f32, from: &[f32]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += factor * from);
}
