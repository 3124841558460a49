//! Low-rank adapters (LoRA; Hu et al., 2021): files that say what is added to some of a model's
//! matrices. What both kinds of files come down to is a list of pairs of small matrices, by the
//! names that GGUF files give to what they are added to; what they are for a recorded model is said
//! by its [`Targets`].
//!
//! A file is hostile until read: names and shapes are checked against the model's, numbers against
//! being none. Absent: training, merging, adapters of tables and of experts.

mod gguf;
mod peft;

use crate::Error;
use crate::archs::{Target, Targets};
use ingle_backend::{Bytes, Delta, Format};
use sha2::{Digest, Sha256};
use std::path::Path;

/// The largest rank; the largest known have 512.
const MAX_RANK: usize = 4096;

/// A matrix as it is stored, row after row.
#[derive(Clone, Debug)]
struct Stored {
    format: Format,
    rows: usize,
    cols: usize,
    bytes: Bytes,
}

/// What is added to one matrix: `scale · b · a`.
#[derive(Debug)]
struct Part {
    /// The matrix's name, without `.weight`.
    name: String,
    /// `[rank, columns]`
    a: Stored,
    /// `[rows, rank]`
    b: Stored,
    scale: f64,
}

/// An opened adapter.
#[derive(Debug)]
pub struct Lora {
    /// By name.
    parts: Vec<Part>,
    /// Of a GGUF file: the architecture of its model. Rows of heads are in such files' order then.
    arch: Option<String>,
    digest: String,
}

/// One delta, before its numbers are read.
#[derive(Clone, Copy, Debug)]
pub struct Planned<'a> {
    part: &'a Part,
    target: &'a Target,
    converted: bool,
}

/// That an adapter cannot be had as it is.
fn refused(what: String) -> Error {
    Error::Unsupported(format!("this adapter cannot be used: {what}"))
}

impl Lora {
    /// Reads all but the numbers of an adapter: a directory as PEFT saves it, or one of its two
    /// files, or a GGUF file as llama.cpp converts it.
    ///
    /// The files must not be changed or cut while it is open.
    ///
    /// # Errors
    /// Those of [`crate::gguf::Gguf::open`]; [`Error::Unsupported`] names what cannot be honoured.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = path.file_name().and_then(std::ffi::OsStr::to_str);
        let folder = path.parent().filter(|_| peft::FILES.contains(&file.unwrap_or_default()));
        let (mut parts, arch) = match folder.or_else(|| path.is_dir().then_some(path)) {
            Some(folder) => (peft::open(folder)?, None),
            None => gguf::open(path).map(|(parts, arch)| (parts, Some(arch)))?,
        };
        if parts.is_empty() {
            return Err(refused("it adds nothing to any matrix".to_owned()));
        }
        parts.sort_by(|a, b| a.name.cmp(&b.name));
        let digest = digest(&parts, arch.is_some());
        Ok(Self { parts, arch, digest })
    }

    /// What it is, in hexadecimal: two adapters of one digest add the same.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The deltas that it comes down to for a model.
    ///
    /// # Errors
    /// [`Error::Unsupported`] names the first matrix that the model does not have, or has in
    /// another shape.
    pub fn plan<'a>(&'a self, targets: &'a Targets) -> Result<Vec<Planned<'a>>, Error> {
        if let Some(arch) = self.arch.as_ref().filter(|arch| **arch != targets.arch) {
            let what = format!("it is for models of {arch}, and this is one of {}", targets.arch);
            return Err(refused(what));
        }
        let mut planned = Vec::new();
        for part in &self.parts {
            let Some(own) = targets.of.get(&part.name) else {
                return Err(refused(format!(
                    "it adapts {}, and this model ({}) multiplies by no such matrix: was it made \
                     for another model?",
                    part.name, targets.arch
                )));
            };
            let (rows, cols) = (own.last().map_or(0, |last| last.rows.end), own[0].cols);
            let (b_rows, a_cols) = (part.b.rows, part.a.cols);
            if (b_rows, a_cols) != (rows, cols) {
                return Err(refused(format!(
                    "it adapts {} as {b_rows} rows of {a_cols}, and this model's has {rows} of \
                     {cols}: was it made for another model?",
                    part.name
                )));
            }
            let converted = self.arch.is_some();
            planned.extend(own.iter().map(|target| Planned { part, target, converted }));
        }
        Ok(planned)
    }

    /// The same with its numbers, for a backend.
    ///
    /// # Errors
    /// Those of [`Lora::plan`], and [`Error::Unsupported`] where a number is none.
    pub fn deltas(&self, targets: &Targets) -> Result<Vec<Delta>, Error> {
        self.plan(targets)?.into_iter().map(Planned::read).collect()
    }
}

impl Planned<'_> {
    /// Rank, rows and columns.
    pub fn shape(&self) -> (usize, usize, usize) {
        (self.part.a.rows, self.target.rows.len(), self.target.cols)
    }

    fn read(self) -> Result<Delta, Error> {
        let Self { part, target, converted } = self;
        let rank = part.a.rows;
        let (a, mut b) = (part.floats(&part.a)?, part.floats(&part.b)?);
        b.drain(target.rows.end * rank..);
        b.drain(..target.rows.start * rank);
        if let Some(dim) = target.interleaved.filter(|_| !converted) {
            b = interleaved(&b, rank, dim);
        }
        b.iter_mut().for_each(|b| *b = (f64::from(*b) * part.scale) as f32);
        if !b.iter().all(|b| b.is_finite()) {
            return Err(part.not_finite());
        }
        Ok(Delta { w: target.w, rank, a, b })
    }
}

impl Part {
    /// Checks that the two matrices belong together.
    fn checked(self) -> Result<Self, Error> {
        let (a, b) = (&self.a, &self.b);
        if a.rows != b.cols || !(1..=MAX_RANK).contains(&a.rows) {
            return Err(refused(format!(
                "for {} it has {} rows of {} and then {} of {}: ranks have to be the same, and at \
                 most {MAX_RANK}",
                self.name, a.rows, a.cols, b.rows, b.cols
            )));
        }
        if !self.scale.is_finite() {
            return Err(refused(format!("its scale for {} is {}", self.name, self.scale)));
        }
        Ok(self)
    }

    fn floats(&self, of: &Stored) -> Result<Vec<f32>, Error> {
        let mut floats = vec![0.0; of.rows * of.cols];
        of.format.unpack(&of.bytes, &mut floats);
        if floats.iter().all(|v| v.is_finite()) { Ok(floats) } else { Err(self.not_finite()) }
    }

    fn not_finite(&self) -> Error {
        refused(format!("what it adds to {} has numbers that are none, or too large", self.name))
    }
}

/// Rows of heads whose halves rotate together, brought into the order in which neighbours do.
fn interleaved(b: &[f32], rank: usize, dim: usize) -> Vec<f32> {
    let row = |at: usize| {
        let (head, within) = (at / dim * dim, at % dim);
        let from = head + within % 2 * (dim / 2) + within / 2;
        &b[from * rank..(from + 1) * rank]
    };
    (0..b.len() / rank).flat_map(row).copied().collect()
}

fn digest(parts: &[Part], converted: bool) -> String {
    let mut hash = Sha256::new().chain_update([u8::from(converted)]);
    for Part { name, a, b, scale } in parts {
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name);
        hash.update(scale.to_le_bytes());
        for stored in [a, b] {
            hash.update(stored.format.name());
            hash.update([stored.rows, stored.cols].map(|n| (n as u64).to_le_bytes()).concat());
            hash.update(&*stored.bytes);
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_become_neighbours() {
        let b: Vec<f32> = (0..24).map(|at| at as f32).collect();
        let rows = |b: &[f32]| b.chunks(2).map(|row| row[0] as usize / 2).collect::<Vec<_>>();
        assert_eq!(rows(&interleaved(&b, 2, 6)), [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]);
        assert_eq!(rows(&interleaved(&b, 2, 4)), [0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11]);
    }
}
