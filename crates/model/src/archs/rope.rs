//! Rotary position embeddings' frequencies, with the scalings that model files name.

use super::{Recorder, bad};
use crate::Error;
use crate::gguf::{Gguf, optional};
use ingle_backend::{Buffer, Op};
use std::f64::consts::PI;
use std::sync::Arc;

/// What a file says about rope.
#[derive(Clone, Copy, Debug)]
enum Scaling {
    None,
    /// All frequencies divided by the factor.
    Linear(f64),
    /// Low frequencies divided by the factor, high ones kept (YaRN; Peng et al., 2023).
    Yarn(Yarn),
}

#[derive(Clone, Copy, Debug)]
struct Yarn {
    /// Whether the pairs between which scaling sets in are rounded outward to whole ones.
    rounded: bool,
    factor: f64,
    trained: f64,
    fast: f64,
    slow: f64,
    attention: f64,
}

fn scaling(gguf: &Gguf) -> Result<Scaling, Error> {
    let number = |suffix: &str| optional(gguf.float(&gguf.key(suffix)));
    let kind = optional(gguf.str(&gguf.key("rope.scaling.type")))?.unwrap_or("none");
    let factor = match number("rope.scaling.factor")? {
        Some(factor) => Some(factor),
        None => number("rope.scale_linear")?,
    };
    match (kind, factor) {
        ("none", _) | (_, None) => Ok(Scaling::None),
        (_, Some(factor)) if !(factor.is_finite() && factor > 0.0) => {
            Err(bad(format!("a rope scaling factor of {factor}")))
        }
        ("linear", Some(factor)) => Ok(Scaling::Linear(factor)),
        ("yarn", Some(factor)) => {
            let positive = |suffix: &str, usual: Option<f64>| match number(suffix)?.or(usual) {
                Some(x) if x > 0.0 => Ok(x),
                Some(x) => Err(bad(format!("{} is {x}", gguf.key(suffix)))),
                None => Err(Error::Missing(gguf.key(suffix))),
            };
            Ok(Scaling::Yarn(Yarn {
                rounded: true,
                factor,
                trained: positive("rope.scaling.original_context_length", None)?,
                fast: positive("rope.scaling.yarn_beta_fast", Some(32.0))?,
                slow: positive("rope.scaling.yarn_beta_slow", Some(1.0))?,
                attention: positive("rope.scaling.attn_factor", Some(1.0))?,
            }))
        }
        (other, _) => Err(bad(format!("rope scaling of type `{other}` is not supported"))),
    }
}

impl Yarn {
    /// The share of the unscaled frequency that pair `i` of `pairs` keeps.
    fn kept(&self, i: usize, pairs: usize, base: f64) -> f64 {
        let dims = 2.0 * pairs as f64;
        let turns = |n: f64| dims * (self.trained / (n * 2.0 * PI)).ln() / (2.0 * base.ln());
        let (low, high) = (turns(self.fast), turns(self.slow));
        let (low, high) = if self.rounded { (low.floor(), high.ceil()) } else { (low, high) };
        let (low, high) = (low.max(0.0), high.min(dims - 1.0));
        1.0 - ((i as f64 - low) / (high - low).max(0.001)).clamp(0.0, 1.0)
    }
}

/// Radians per position of each pair, and what cosines and sines are multiplied by.
fn frequencies(
    base: f64,
    pairs: usize,
    scaling: Scaling,
    factors: Option<&[f32]>,
) -> (Arc<[f64]>, f32) {
    let frequency = |i: usize| {
        let plain = base.powf(-(i as f64) / pairs as f64);
        let plain = factors.map_or(plain, |factors| plain / f64::from(factors[i]));
        match scaling {
            Scaling::None => plain,
            Scaling::Linear(factor) => plain / factor,
            Scaling::Yarn(yarn) => {
                let kept = yarn.kept(i, pairs, base);
                plain / yarn.factor * (1.0 - kept) + plain * kept
            }
        }
    };
    let scale = match scaling {
        Scaling::Yarn(yarn) => yarn.attention * (1.0 + 0.1 * yarn.factor.ln()),
        _ => 1.0,
    };
    ((0..pairs).map(frequency).collect(), scale as f32)
}

impl Recorder<'_> {
    /// The angles of this step's positions, as the file's rope settings have them.
    pub(super) fn angles(&mut self) -> Result<Buffer, Error> {
        let scaling = scaling(self.gguf)?;
        self.scaled_angles(scaling)
    }

    /// The same, but where YaRN scales, it sets in at no whole pair.
    pub(super) fn unrounded_angles(&mut self) -> Result<Buffer, Error> {
        let scaling = match scaling(self.gguf)? {
            Scaling::Yarn(yarn) => Scaling::Yarn(Yarn { rounded: false, ..yarn }),
            other => other,
        };
        self.scaled_angles(scaling)
    }

    fn scaled_angles(&mut self, scaling: Scaling) -> Result<Buffer, Error> {
        let base = self.base("rope.freq_base", 10_000.0)?;
        self.record_angles(base, scaling, "rope_freqs.weight", 1.0)
    }

    /// The angles of a file that has two lists of divisors, one for sequences no longer than what
    /// it was first trained for (LongRoPE; Ding et al., 2024); as [`Self::angles`] without them.
    /// One list is taken for all sequences, by the longest that will be asked for: what is cached
    /// of a sequence would be wrong if it changed on the way.
    pub(super) fn long_angles(&mut self) -> Result<Buffer, Error> {
        const LISTS: [&str; 2] = ["rope_factors_short.weight", "rope_factors_long.weight"];
        if !LISTS.iter().any(|list| self.has(list)) {
            return self.angles();
        }
        let kind = optional(self.gguf.str(&self.gguf.key("rope.scaling.type")))?;
        if let Some(other) = kind.filter(|kind| !["none", "longrope"].contains(kind)) {
            return Err(bad(format!("rope scaling of type `{other}` beside lists of divisors")));
        }
        let pairs = self.pairs()?;
        for list in LISTS {
            self.tensor(list, 1, pairs)?;
        }
        let trained = self.gguf.uint(&self.gguf.key("rope.scaling.original_context_length"))?;
        let list = LISTS[usize::from(self.context as u64 > trained)];
        let key = self.gguf.key("rope.scaling.attn_factor");
        let attention = optional(self.gguf.float(&key))?.unwrap_or(1.0);
        if !(1e-3..=1e3).contains(&attention) {
            return Err(bad(format!("{key} is {attention}")));
        }
        let base = self.base("rope.freq_base", 10_000.0)?;
        self.record_angles(base, Scaling::None, list, attention as f32)
    }

    /// The same, unscaled and with another base: for layers with a sliding window.
    pub(super) fn local_angles(&mut self) -> Result<Buffer, Error> {
        let base = self.base("rope.freq_base_swa", 10_000.0)?;
        self.record_angles(base, Scaling::None, "rope_freqs.weight", 1.0)
    }

    fn base(&self, suffix: &str, usual: f64) -> Result<f64, Error> {
        let key = self.gguf.key(suffix);
        let base = optional(self.gguf.float(&key))?.unwrap_or(usual);
        if base.is_finite() && base > 1.0 { Ok(base) } else { Err(bad(format!("{key} is {base}"))) }
    }

    /// Pairs of a head's floats that are rotated.
    fn pairs(&self) -> Result<usize, Error> {
        let dim = self.shape.dim;
        let key = self.gguf.key("rope.dimension_count");
        let rotated = optional(self.gguf.uint(&key))?.unwrap_or(dim as u64);
        if rotated < 2 || rotated > dim as u64 || !rotated.is_multiple_of(2) {
            return Err(bad(format!("{key} is {rotated}, of heads of {dim}")));
        }
        Ok(rotated as usize / 2)
    }

    /// Angles with the tensor `divisors`, where the file has it, and with cosines and sines
    /// multiplied by `attention`.
    fn record_angles(
        &mut self,
        base: f64,
        scaling: Scaling,
        divisors: &str,
        attention: f32,
    ) -> Result<Buffer, Error> {
        let pairs = self.pairs()?;
        let factors = self.factors(divisors, pairs)?;
        let (freqs, scale) = frequencies(base, pairs, scaling, factors.as_deref());
        let scale = scale * attention;
        if !(scale.is_finite() && freqs.iter().all(|freq| freq.is_finite())) {
            return Err(bad("the model file's rope settings give infinite angles".into()));
        }
        let y = self.tokens(2 * pairs);
        self.op(Op::Angles { freqs, y, scale });
        Ok(y)
    }

    /// A divisor for each frequency, as Llama 3.1's files carry their scaling.
    fn factors(&self, name: &str, pairs: usize) -> Result<Option<Vec<f32>>, Error> {
        let Some(tensor) = optional(self.tensor(name, 1, pairs))? else {
            return Ok(None);
        };
        let mut factors = vec![0.0; pairs];
        tensor.format.unpack(&tensor.bytes, &mut factors);
        Ok(Some(factors))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_fall_from_one_to_the_base() {
        let (freqs, scale) = frequencies(10_000.0, 4, Scaling::None, None);
        assert_eq!(scale, 1.0);
        for (freq, expected) in freqs.iter().zip([1.0, 0.1, 0.01, 0.001]) {
            assert!((freq - expected).abs() < 1e-12);
        }
        let (linear, _) = frequencies(10_000.0, 4, Scaling::Linear(4.0), None);
        assert!((linear[1] - 0.025).abs() < 1e-12);
    }

    #[test]
    fn yarn_keeps_the_fast_and_stretches_the_slow() {
        let yarn = Yarn {
            rounded: true,
            factor: 4.0,
            trained: 4096.0,
            fast: 32.0,
            slow: 1.0,
            attention: 1.0,
        };
        let (freqs, scale) = frequencies(10_000.0, 64, Scaling::Yarn(yarn), None);
        let (plain, _) = frequencies(10_000.0, 64, Scaling::None, None);
        assert_eq!(freqs[0], plain[0]);
        assert!((freqs[63] * 4.0 - plain[63]).abs() < 1e-12);
        assert!((scale - 1.138_629_4).abs() < 1e-6, "0.1 ln 4 + 1");
    }
}
