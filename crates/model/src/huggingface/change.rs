//! What becomes of a stored tensor, or of several, in a GGUF file. What only lies elsewhere stays in
//! the mapped file; the rest is made when it is read.

use super::families::How;
use super::weights::Sizes;
use crate::Error;
use crate::gguf::{Held, Planned};
use crate::safetensors::Stored;
use ingle_backend::Format;

/// Makes a tensor.
pub(super) fn make(
    name: String,
    how: How,
    parts: &[Stored],
    sizes: &Sizes,
) -> Result<(Planned, Held), Error> {
    let stored = &parts[0];
    let format = format(&name, stored)?;
    match how {
        How::As | How::Untied => {
            let held = Held::stored_as(stored.bytes.clone());
            Ok((planned(name, &stored.shape, format), held))
        }
        How::Positions => {
            let first = sizes.first_position as usize;
            let rows = stored.shape.first().copied().unwrap_or(0);
            if stored.shape.len() != 2 || first >= rows {
                return Err(wrong(&name, stored, &format!("more than {first} rows are needed")));
            }
            let row = stored.bytes.len() / rows;
            let bytes = stored.bytes.slice(first * row..rows * row).expect("rows that are there");
            let shape = [rows - first, stored.shape[1]];
            Ok((planned(name, &shape, format), Held::stored_as(bytes)))
        }
    }
}

/// A tensor of this shape, the slowest dimension first.
fn planned(name: String, shape: &[usize], format: Format) -> Planned {
    let mut shape: Vec<u64> = shape.iter().rev().map(|dim| *dim as u64).collect();
    if shape.is_empty() {
        shape.push(1);
    }
    Planned { name, shape, format }
}

fn format(name: &str, stored: &Stored) -> Result<Format, Error> {
    stored.format.ok_or_else(|| {
        Error::Unsupported(format!(
            "tensor {name} is stored as {}, of which Ingle makes no weights; use the model in \
             BF16, F16 or F32",
            stored.kind
        ))
    })
}

fn wrong(name: &str, stored: &Stored, why: &str) -> Error {
    Error::Unsupported(format!("tensor {name} has the shape {:?}: {why}", stored.shape))
}
