//! Adapters that an answer is computed with. Absent: where they come from.

/// One of a model's adapters, and how much of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    /// Which.
    pub which: Which,
    /// What it adds is multiplied by this; 1 is usual, and 0 is none of it.
    pub scale: f32,
}

/// How an adapter is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// By its name.
    Name(String),
    /// By its place among its model's, from 0 on.
    Number(usize),
}

impl Adapter {
    /// The whole of an adapter.
    pub fn named(name: &str) -> Self {
        Self { which: Which::Name(name.to_owned()), scale: 1.0 }
    }
}
