//! What a model will take in memory, told before any of it is taken: from shapes alone.

use super::buffers::Activations;
use super::pack::Packed;
use super::{Counts, Cpu, Graph, run};

/// Bytes beside the mapped model file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forecast {
    /// Matrices as they are held: repacked where kernels multiply by them, else the file's own
    /// pages, which are read in every step.
    pub weights: u64,
    /// The KV cache.
    pub cache: u64,
    /// Activations of the largest step.
    pub activations: u64,
}

impl Forecast {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights + self.cache + self.activations
    }
}

impl Cpu {
    /// What [`prepare`](crate::Backend::prepare) and steps of at most `step_tokens` tokens, that
    /// sample at most `samples` rows and have as many spans, will take for the weights, buffers and
    /// caches given so far.
    pub fn forecast(
        &self,
        graph: &Graph,
        blocks: usize,
        step_tokens: usize,
        samples: usize,
    ) -> Forecast {
        let multiplied: Vec<usize> = match self.kernels.product {
            Some(_) => graph.ops.iter().flat_map(run::multiplied).collect(),
            None => Vec::new(),
        };
        let weight = |(at, matrix): (usize, &super::Matrix)| {
            let packed = multiplied.contains(&at);
            let packed = packed.then(|| Packed::bytes(matrix.format, matrix.rows, matrix.cols));
            let floats = size_of_val(&*matrix.floats) as u64;
            packed.flatten().unwrap_or(matrix.bytes.len() as u64) + floats
        };
        let cache = self.caches.iter().map(super::LayerCache::block_bytes).sum::<usize>();
        let most = Counts { tokens: step_tokens, samples, spans: samples };
        let activation = |buffer: &Activations| {
            let floats = Activations::apart(buffer.width) * size_of::<f32>();
            (buffer.rows_of(most) * floats) as u64
        };
        Forecast {
            weights: self.weights.iter().enumerate().map(weight).sum(),
            cache: (cache * blocks) as u64,
            activations: self.buffers.iter().map(activation).sum(),
        }
    }
}
