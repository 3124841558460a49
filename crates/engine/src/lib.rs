//! engine

pub mod stop;
