//! Parquet: rows out of a file through the columns' own types, and rows into one, whose columns
//! have the narrowest type that holds all their values. A file is read a page at a time; what it
//! may cost is bounded by what it itself claims of its pages, two gigabytes at most each.
//!
//! Absent: Arrow, encryption, and any type beyond what JSON has, which becomes text.

mod columns;
mod rows;

pub(crate) use columns::{Kind, Table};
pub(crate) use rows::{read_bytes, read_file, rows};
