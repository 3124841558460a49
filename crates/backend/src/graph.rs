//! The forward pass as data. Ops say what is computed from what, never how; what a step works on
//! (tokens, positions, KV blocks) stands in the [`Batch`], so a graph is recorded once per model.
//!
//! There is no prefill graph and no decode graph.

mod adapter;
mod cost;
mod experts;
mod role;

pub use adapter::{Adapter, Applied, Delta};
pub use cost::{Cost, Shapes, WeightShape};
pub use experts::{Experts, Mixing, Stack};
pub use role::Role;

use std::sync::Arc;

/// Activations of one backend, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Buffer(pub(crate) u32);

/// A matrix or vector of the model file, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(pub(crate) u32);

/// One layer's paged keys and values, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cache(pub(crate) u32);

/// What a buffer has a row for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Every token of the batch.
    Tokens,
    /// Every token of the batch whose logits are wanted.
    Samples,
    /// Every span of the batch.
    Spans,
}

/// How many rows a step has of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Of [`Rows::Tokens`].
    pub tokens: usize,
    /// Of [`Rows::Samples`].
    pub samples: usize,
    /// Of [`Rows::Spans`].
    pub spans: usize,
}

impl Counts {
    /// Rows of one kind.
    pub const fn of(self, rows: Rows) -> usize {
        match rows {
            Rows::Tokens => self.tokens,
            Rows::Samples => self.samples,
            Rows::Spans => self.spans,
        }
    }
}

/// What chooses a row of a table for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Index {
    /// Its position in the sequence; the table has a row for each that is asked for.
    Position,
    /// Which of two texts it belongs to, 0 or 1 ([`Span::second`]).
    Kind,
}

/// How a span's tokens become one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// The first one.
    First,
    /// The last one.
    Last,
    /// `ln(1 + max(0, largest))`, column by column (SPLADE; Formal et al., 2021).
    LogMax,
}

/// What a [`Op::MatMul`] multiplies: a buffer, or something made of one row by row on the way in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Input {
    /// The buffer as it stands.
    Plain(Buffer),
    /// `gain · x / √(mean(x²) + eps)` (RMSNorm; Zhang and Sennrich, 2019).
    Normed {
        /// `[rows, width]`
        x: Buffer,
        /// `[width]`
        gain: Weight,
        /// Keeps the root from zero.
        eps: f32,
    },
    /// `activation(gate) · up`, or as [`Activation`] says.
    Gated {
        /// `[rows, width]`
        gate: Buffer,
        /// `[rows, width]`
        up: Buffer,
        /// What is applied to the gate.
        act: Activation,
    },
    /// `activation(x)`
    Activated {
        /// `[rows, width]`
        x: Buffer,
        /// What is applied.
        act: Activation,
    },
}

impl Input {
    /// The buffers it is made of.
    pub fn reads(&self) -> Vec<Buffer> {
        match *self {
            Self::Plain(x) | Self::Normed { x, .. } | Self::Activated { x, .. } => vec![x],
            Self::Gated { gate, up, .. } => vec![gate, up],
        }
    }
}

/// A nonlinearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x / (1 + e^-x)`
    Silu,
    /// `x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))`
    GeluTanh,
    /// `x/2 · (1 + erf(x / √2))`
    Gelu,
    /// `max(0, x)`
    Relu,
    /// `tanh x`
    Tanh,
    /// `x / (1 + e^-1.702x)` of an `x` of at most 7, times `up + 1` of an `up` of -7 to 7: gpt-oss.
    ClampedSwiglu,
}

/// One product of a [`Op::MatMul`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Out {
    /// `[width of y, width of the input]`
    pub w: Weight,
    /// `[width of y]`, added to every row.
    pub bias: Option<Weight>,
    /// Where the product goes.
    pub y: Buffer,
    /// Whether it is added to what `y` holds.
    pub add: bool,
}

/// Which elements of a head rotate together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// `(2i, 2i + 1)`, as Llama's GGUF files are laid out.
    Adjacent,
    /// `(i, i + n/2)`, as in GPT-NeoX.
    Halves,
}

/// Attention over the paged KV cache.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attend {
    /// `[tokens, heads × dim]`
    pub q: Buffer,
    /// `[tokens, kv_heads × dim]`
    pub k: Buffer,
    /// `[tokens, kv_heads × dim]`
    pub v: Buffer,
    /// `[tokens, heads × dim]`
    pub y: Buffer,
    /// Where this step's keys and values are stored and the earlier ones found, where causal.
    pub cache: Cache,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Floats per head.
    pub dim: usize,
    /// Scores are multiplied by this before the softmax.
    pub scale: f32,
    /// Scores then become `cap · tanh(score / cap)` (Gemma 2); `cap` is above 0.
    pub softcap: Option<f32>,
    /// `[heads]`, a logit a head that takes its share of the softmax and has no value (gpt-oss).
    pub sinks: Option<Weight>,
    /// Whether a token sees only itself and those before it. Else it sees all of its span, which is
    /// the whole sequence then.
    pub causal: bool,
    /// A token sees itself and the `window - 1` before it; where not causal, those up to
    /// `window / 2` away. `None` sees all.
    pub window: Option<usize>,
}

impl Attend {
    /// The positions that a token at `position` sees, of a sequence of which `end` are there.
    pub fn sees(&self, position: usize, end: usize) -> std::ops::Range<usize> {
        let window = self.window.unwrap_or(usize::MAX);
        if self.causal {
            return (position + 1).saturating_sub(window)..position + 1;
        }
        let away = window / 2;
        position.saturating_sub(away)..end.min(position.saturating_add(away).saturating_add(1))
    }
}

/// One operation on activations.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// `y[t] = scale · table[token t]`
    Embed {
        /// `[vocabulary, width]`
        table: Weight,
        /// `[tokens, width]`
        y: Buffer,
        /// 1 for most models.
        scale: f32,
    },
    /// `y[t] += table[index of token t]`
    Lookup {
        /// `[rows, width]`
        table: Weight,
        /// Which of its rows.
        by: Index,
        /// `[tokens, width]`
        y: Buffer,
    },
    /// `y = gain · (x - mean(x)) / √(variance(x) + eps) (+ bias)` (Ba et al., 2016).
    LayerNorm {
        /// `[rows, width]`
        x: Buffer,
        /// `[width]`
        gain: Weight,
        /// `[width]`
        bias: Option<Weight>,
        /// `[rows, width]`; may be `x`.
        y: Buffer,
        /// Keeps the root from zero.
        eps: f32,
    },
    /// `y = (y +) gain · x / √(mean(x²) + eps)`, over each run of `gain`'s width.
    Norm {
        /// `[rows, width]`
        x: Buffer,
        /// `[width]`, or `[dim]` to norm each head by itself.
        gain: Weight,
        /// `[rows, width]`; may be `x`.
        y: Buffer,
        /// Keeps the root from zero.
        eps: f32,
        /// Whether the result is added to what `y` holds.
        add: bool,
    },
    /// `y = (y +) w · input (+ bias)` for each of `outs`; the input is read once for all.
    MatMul {
        /// What is multiplied.
        x: Input,
        /// By what, and where to.
        outs: Vec<Out>,
    },
    /// `y[t] = [cos(p·f₀), sin(p·f₀), cos(p·f₁), …] · scale` for the position `p` of token `t`.
    Angles {
        /// Radians per position, one a pair.
        freqs: Arc<[f64]>,
        /// `[tokens, 2 × pairs]`
        y: Buffer,
        /// YaRN's attention factor; 1 otherwise.
        scale: f32,
    },
    /// Rotates pairs of each head's first elements by the angles (RoPE; Su et al., 2021).
    Rope {
        /// `[tokens, heads × dim]`, in place.
        x: Buffer,
        /// `[tokens, 2 × pairs]`, from [`Op::Angles`].
        angles: Buffer,
        /// Floats per head.
        dim: usize,
        /// Which elements rotate together.
        pairing: Pairing,
    },
    /// Stores this step's keys and values, then attends; where not causal a span is a whole
    /// sequence, and nothing is stored.
    Attend(Attend),
    /// `y = cap · tanh(y / cap)`, element by element (Gemma 2's logits).
    Cap {
        /// In place.
        y: Buffer,
        /// Above 0.
        cap: f32,
    },
    /// Chooses each token's experts.
    Route {
        /// `[tokens, experts]`
        logits: Buffer,
        /// `[tokens, 2 × chosen]`: the numbers of the chosen, the likeliest first, then their
        /// shares.
        routes: Buffer,
        /// How the shares are made.
        mixing: Mixing,
    },
    /// Sends each token through its experts.
    Experts(Experts),
    /// `y = activation(y)`
    Activate {
        /// In place.
        y: Buffer,
        /// What is applied.
        act: Activation,
    },
    /// `y[s] = x[the s-th sampled token]`
    Gather {
        /// `[tokens, width]`
        x: Buffer,
        /// `[samples, width]`
        y: Buffer,
    },
    /// One row of each span's tokens.
    Pool {
        /// `[tokens, width]`
        x: Buffer,
        /// `[spans, width]`
        y: Buffer,
        /// How.
        how: Pooling,
    },
}

/// A whole forward pass.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// In the order of their data.
    pub ops: Vec<Op>,
    /// What the pass is for: `[samples, vocabulary]` where it is logits.
    pub logits: Option<Buffer>,
}

/// Which of a span's tokens need logits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sample {
    /// None: more of the prompt comes in a later step.
    #[default]
    None,
    /// The last one, to go on from it.
    Last,
    /// So many of the last: one to go on from, and drafts to verify. At most as many as there are.
    Tail(usize),
    /// Every one, to score the prompt.
    All,
}

/// One sequence's share of a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Span {
    /// The position of its first token in the sequence.
    pub start: usize,
    /// Its tokens in this step.
    pub tokens: Vec<u32>,
    /// The KV blocks of the whole sequence, from position 0 on.
    pub blocks: Vec<u32>,
    /// Which of the tokens need logits.
    pub sample: Sample,
    /// Of two texts that are read together, the position at which the second begins.
    pub second: Option<usize>,
    /// What its tokens are computed with beside the weights.
    pub adapters: Vec<Applied>,
}

/// What one step works on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// The sequences of the step; their tokens are the batch's rows, in order.
    pub spans: Vec<Span>,
}

impl Batch {
    /// Rows of [`Rows::Tokens`] buffers.
    pub fn tokens(&self) -> usize {
        self.spans.iter().map(|span| span.tokens.len()).sum()
    }

    /// Rows of each kind.
    pub fn counts(&self) -> Counts {
        let samples = self.samples().len();
        Counts { tokens: self.tokens(), samples, spans: self.spans.len() }
    }

    /// The batch's rows whose logits are wanted, in order.
    pub fn samples(&self) -> Vec<usize> {
        let mut first = 0;
        let mut samples = Vec::new();
        for span in &self.spans {
            let end = first + span.tokens.len();
            match span.sample {
                Sample::None => {}
                Sample::Last => samples.push(end - 1),
                Sample::Tail(count) => samples.extend(end - count..end),
                Sample::All => samples.extend(first..end),
            }
            first = end;
        }
        samples
    }
}

impl Op {
    /// The matrices that it multiplies by, each as often as it does.
    pub fn multiplies_by(&self) -> Vec<Weight> {
        match self {
            Self::MatMul { outs, .. } => outs.iter().map(|out| out.w).collect(),
            Self::Experts(experts) => experts.stacks().map(|stack| stack.w).to_vec(),
            _ => Vec::new(),
        }
    }

    /// The buffers it reads and those it writes (a buffer may be both).
    pub fn touches(&self) -> (Vec<Buffer>, Vec<Buffer>) {
        match self {
            Self::Embed { y, .. } | Self::Angles { y, .. } | Self::Cap { y, .. } => {
                (vec![], vec![*y])
            }
            Self::Lookup { y, .. } | Self::Activate { y, .. } => (vec![*y], vec![*y]),
            Self::Norm { x, y, .. } | Self::LayerNorm { x, y, .. } | Self::Pool { x, y, .. } => {
                (vec![*x], vec![*y])
            }
            Self::MatMul { x, outs } => (x.reads(), outs.iter().map(|out| out.y).collect()),
            Self::Route { logits, routes, .. } => (vec![*logits], vec![*routes]),
            Self::Experts(Experts { x, routes, y, .. }) => {
                ([x.reads(), vec![*routes]].concat(), vec![*y])
            }
            Self::Rope { x, angles, .. } => (vec![*angles], vec![*x]),
            Self::Attend(Attend { q, k, v, y, .. }) => (vec![*q, *k, *v], vec![*y]),
            Self::Gather { x, y } => (vec![*x], vec![*y]),
        }
    }
}

impl Graph {
    /// The ops in stages: within a stage none touches what another writes, so that they need no
    /// barrier between them. Returns each stage's range of ops.
    pub fn stages(&self) -> Vec<std::ops::Range<usize>> {
        let mut stages = Vec::new();
        let (mut start, mut read, mut written) = (0, Vec::new(), Vec::new());
        for (at, op) in self.ops.iter().enumerate() {
            let (reads, writes) = op.touches();
            let clash = reads.iter().any(|b| written.contains(b))
                || writes.iter().any(|b| written.contains(b) || read.contains(b));
            if clash {
                stages.push(start..at);
                (start, read, written) = (at, Vec::new(), Vec::new());
            }
            read.extend(reads);
            written.extend(writes);
        }
        stages.push(start..self.ops.len());
        stages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_part_where_data_flows() {
        let [a, b, c, d] = [0, 1, 2, 3].map(Buffer);
        let copy = |x, y| Op::Gather { x, y };
        let graph =
            Graph { ops: vec![copy(a, b), copy(a, c), copy(b, d), copy(c, a)], logits: None };
        assert_eq!(graph.stages(), [0..2, 2..4]);
        let graph = Graph { ops: vec![copy(a, b), copy(c, a)], logits: None };
        assert_eq!(graph.stages(), [0..1, 1..2], "a write waits for the reads before it");
    }

    #[test]
    fn samples_count_over_spans() {
        let span = |n: u32, sample| Span { tokens: (0..n).collect(), sample, ..Span::default() };
        let batch = Batch {
            spans: vec![
                span(3, Sample::Last),
                span(2, Sample::None),
                span(2, Sample::All),
                span(4, Sample::Tail(3)),
                span(2, Sample::Tail(0)),
            ],
        };
        assert_eq!((batch.tokens(), batch.samples()), (13, vec![2, 5, 6, 8, 9, 10]));
    }
}
