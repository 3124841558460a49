//! Who shares whose prefixes.
//!
//! Absent here: which prefixes there are, which the scheduler knows.

mod salts;

pub(crate) use salts::Salts;
