//! What becomes of a stored tensor, or of several, in a GGUF file. What only lies elsewhere stays
//! in the mapped file; the rest is made when it is read.

use super::families::{Heads, How, Take};
use super::weights::Sizes;
use crate::Error;
use crate::gguf::{Held, Planned};
use crate::safetensors::Stored;
use ingle_backend::{Bytes, Format};

/// Makes a tensor.
pub(super) fn make(
    name: String,
    how: How,
    parts: &[Stored],
    sizes: &Sizes,
) -> Result<(Planned, Held), Error> {
    let stored = &parts[0];
    if let How::Mx(take) | How::MxScales(take) = how {
        return mx(name, parts, take);
    }
    let format = format(&name, stored)?;
    match how {
        How::As | How::Untied => {
            let held = Held::stored_as(stored.bytes.clone());
            Ok((planned(name, &stored.shape, format), held))
        }
        How::Positions => positions(name, stored, format, sizes.first_position as usize),
        How::PlusOne => Ok(plus_one(name, stored, format)),
        How::Adjacent(Heads::Query) => adjacent(name, stored, format, sizes.heads),
        How::Adjacent(Heads::Key) => adjacent(name, stored, format, sizes.kv_heads),
        How::Stacked => stacked(name, parts, format),
        How::Transposed(take) => transposed(name, stored, format, take),
        How::Picked(take) => picked(name, stored, format, take),
        How::Mx(_) | How::MxScales(_) => unreachable!("made above; this is a bug"),
    }
}

/// Rows from the first position's on.
fn positions(
    name: String,
    stored: &Stored,
    format: Format,
    first: usize,
) -> Result<(Planned, Held), Error> {
    let [rows, cols] = stored.shape[..] else {
        return Err(wrong(&name, stored, "a matrix is needed"));
    };
    if first >= rows {
        return Err(wrong(&name, stored, &format!("more than {first} rows are needed")));
    }
    let row = stored.bytes.len() / rows;
    let bytes = stored.bytes.slice(first * row..rows * row).expect("rows that are there");
    Ok((planned(name, &[rows - first, cols], format), Held::stored_as(bytes)))
}

/// A vector, 1 added to each of its numbers.
fn plus_one(name: String, stored: &Stored, format: Format) -> (Planned, Held) {
    let count: usize = stored.shape.iter().product();
    let make = move |parts: &[Bytes]| {
        let mut numbers = vec![0.0; count];
        format.unpack(&parts[0], &mut numbers);
        numbers.iter().flat_map(|x| (x + 1.0).to_le_bytes()).collect()
    };
    let held = Held::made_of(vec![stored.bytes.clone()], 4 * count, make);
    (planned(name, &stored.shape, Format::F32), held)
}

/// Rows of a matrix, or numbers of a vector: in each head, those of the first half and of the
/// second in turns, as they are rotated in pairs of neighbours.
fn adjacent(
    name: String,
    stored: &Stored,
    format: Format,
    heads: usize,
) -> Result<(Planned, Held), Error> {
    let rows = stored.shape.first().copied().unwrap_or(0);
    if heads == 0 || rows == 0 || !rows.is_multiple_of(2 * heads) {
        return Err(wrong(&name, stored, &format!("{heads} heads of pairs are needed")));
    }
    let (length, row, half) = (stored.bytes.len(), stored.bytes.len() / rows, rows / heads / 2);
    let make = move |parts: &[Bytes]| {
        let mut made = Vec::with_capacity(length);
        for to in 0..rows {
            let (head, within) = (to / (2 * half), to % (2 * half));
            let from = head * 2 * half + within % 2 * half + within / 2;
            made.extend_from_slice(&parts[0][from * row..(from + 1) * row]);
        }
        made
    };
    let held = Held::made_of(vec![stored.bytes.clone()], length, make);
    Ok((planned(name, &stored.shape, format), held))
}

/// Matrices of one shape, one behind another.
fn stacked(name: String, parts: &[Stored], format: Format) -> Result<(Planned, Held), Error> {
    let first = &parts[0];
    if let Some(other) =
        parts.iter().find(|part| (&part.shape, part.format) != (&first.shape, first.format))
    {
        return Err(wrong(&name, other, &format!("others have {:?}", first.shape)));
    }
    let shape: Vec<usize> = std::iter::once(parts.len()).chain(first.shape.clone()).collect();
    let bytes: Vec<Bytes> = parts.iter().map(|part| part.bytes.clone()).collect();
    let length = bytes.iter().map(Bytes::len).sum();
    let held = Held::made_of(bytes, length, |parts| {
        parts.iter().flat_map(|part| part.iter().copied()).collect()
    });
    Ok((planned(name, &shape, format), held))
}

impl Take {
    /// How many of so many rows.
    fn of(self, rows: usize) -> usize {
        if self == Self::All { rows } else { rows / 2 }
    }

    /// Where the `i`th is among all.
    fn at(self, i: usize) -> usize {
        match self {
            Self::All => i,
            Self::Even => 2 * i,
            Self::Odd => 2 * i + 1,
        }
    }

    fn fits(self, rows: usize) -> bool {
        self == Self::All || rows.is_multiple_of(2)
    }
}

/// `[expert][column][row]` to `[expert][row][column]`, of some rows.
fn transposed(
    name: String,
    stored: &Stored,
    format: Format,
    take: Take,
) -> Result<(Planned, Held), Error> {
    let [experts, cols, all] = stored.shape[..] else {
        return Err(wrong(&name, stored, "experts' matrices are needed"));
    };
    if !take.fits(all) {
        return Err(wrong(&name, stored, "pairs of rows are needed"));
    }
    let (rows, size) = (take.of(all), format.block_bytes());
    let length = experts * rows * cols * size;
    let make = move |parts: &[Bytes]| {
        let mut made = Vec::with_capacity(length);
        for expert in 0..experts {
            for row in (0..rows).map(|i| take.at(i)) {
                for col in 0..cols {
                    let from = ((expert * cols + col) * all + row) * size;
                    made.extend_from_slice(&parts[0][from..from + size]);
                }
            }
        }
        made
    };
    let held = Held::made_of(vec![stored.bytes.clone()], length, make);
    Ok((planned(name, &[experts, rows, cols], format), held))
}

/// Some of each expert's biases.
fn picked(
    name: String,
    stored: &Stored,
    format: Format,
    take: Take,
) -> Result<(Planned, Held), Error> {
    let [experts, all] = stored.shape[..] else {
        return Err(wrong(&name, stored, "experts' biases are needed"));
    };
    if !take.fits(all) {
        return Err(wrong(&name, stored, "pairs of biases are needed"));
    }
    let (rows, size) = (take.of(all), format.block_bytes());
    let make = move |parts: &[Bytes]| {
        let places = (0..experts).flat_map(|e| (0..rows).map(move |i| e * all + take.at(i)));
        places.flat_map(|at| parts[0][at * size..][..size].iter().copied()).collect()
    };
    let held = Held::made_of(vec![stored.bytes.clone()], experts * rows * size, make);
    Ok((planned(name, &[experts, rows], format), held))
}

/// Numbers of 4 bits and their scales, `[expert][row][block][16]` and `[expert][row][block]`, to
/// ggml's blocks of MXFP4: a scale, then 16 bytes, of which each has a number of the first half in
/// its low and one of the second half in its high bits, where here neighbours share a byte.
fn mx(name: String, parts: &[Stored], take: Take) -> Result<(Planned, Held), Error> {
    let [numbers, scales] = parts else {
        return Err(Error::Missing(format!("numbers or scales of {name}")));
    };
    let (&[experts, all, blocks, 16], "U8") = (&numbers.shape[..], numbers.kind.as_str()) else {
        return Err(wrong(&name, numbers, "blocks of 16 bytes are needed"));
    };
    if scales.shape[..] != [experts, all, blocks] || scales.kind != "U8" || !take.fits(all) {
        return Err(wrong(&name, scales, "a scale for each block is needed"));
    }
    let rows = take.of(all);
    let length = experts * rows * blocks * 17;
    let make = move |parts: &[Bytes]| {
        let mut made = Vec::with_capacity(length);
        let rows = (0..experts).flat_map(|e| (0..rows).map(move |i| e * all + take.at(i)));
        for at in rows.flat_map(|row| (0..blocks).map(move |block| row * blocks + block)) {
            made.push(parts[1][at]);
            let pairs = &parts[0][at * 16..][..16];
            let number = |i: usize| pairs[i / 2] >> (4 * (i % 2)) & 15;
            made.extend((0..16).map(|i| number(i) | number(i + 16) << 4));
        }
        made
    };
    let from = vec![numbers.bytes.clone(), scales.bytes.clone()];
    let held = Held::made_of(from, length, make);
    Ok((planned(name, &[experts, rows, blocks * 32], Format::MXFP4), held))
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
