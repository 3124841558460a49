//! Architectures. Each is one file that records a graph, and one row of [`ARCHS`]; nothing else
//! names it. What they have in common (finding weights, checking shapes, rope's frequencies,
//! experts) is in [`Recorder`]; the forward pass itself is never shared, so that each can be read
//! alone.

mod bert;
mod experts;
mod gemma2;
mod gemma3;
mod gpt_oss;
mod heads;
mod llama;
mod model2vec;
mod modern_bert;
mod nomic_bert;
mod phi3;
mod qwen2;
mod qwen3;
mod qwen3moe;
mod rope;
mod targets;

use crate::Error;
use crate::gguf::{Gguf, Tensor, optional};
use crate::reading::{Reading, is_table};
use ingle_backend::{
    Backend, Buffer, Cache, Experts, Graph, Index, Input, Op, Out, Rows, Stack, Weight,
};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use targets::Taken;
pub use targets::{Target, Targets};

/// Records a model's forward pass.
pub type Load = fn(&mut Recorder<'_>) -> Result<(), Error>;

/// Every architecture, by the name that model files give (`general.architecture`).
pub static ARCHS: &[(&str, Load)] = &[
    ("bert", bert::load),
    ("gemma-embedding", gemma3::load),
    ("gemma2", gemma2::load),
    ("gemma3", gemma3::load),
    ("gpt-oss", gpt_oss::load),
    ("llama", llama::load),
    ("model2vec", model2vec::load),
    ("modern-bert", modern_bert::load),
    ("nomic-bert", nomic_bert::load),
    ("phi3", phi3::load),
    ("qwen2", qwen2::load),
    ("qwen3", qwen3::load),
    ("qwen3moe", qwen3moe::load),
];

/// A recorded model.
#[derive(Debug)]
pub struct Network {
    /// Its forward pass.
    pub graph: Graph,
    /// Tokens in the vocabulary, the width of a row of logits.
    pub vocabulary: usize,
    /// The longest sequence it was trained for, in tokens.
    pub context: usize,
    /// Bytes of the matrices that a step of one token multiplies by, as the file stores them: of
    /// experts, the chosen ones.
    pub weight_bytes: usize,
    /// What adapters may add to.
    pub targets: Arc<Targets>,
    /// What it makes of a text, where it reads and does not write; `graph.logits` are that then.
    pub reading: Option<Reading>,
    /// Floats of a row of `graph.logits`.
    pub outputs: usize,
}

/// Records the graph of a model file, its weights taken by `backend`. `context` is the longest
/// sequence that will be asked of it, if that is known: some models rotate by other frequencies
/// where it is longer than what they were first trained for.
pub fn record(
    gguf: &Gguf,
    backend: &mut dyn Backend,
    context: Option<usize>,
) -> Result<Network, Error> {
    let Some((_, load)) = ARCHS.iter().find(|(name, _)| *name == gguf.arch()) else {
        let known: Vec<&str> = ARCHS.iter().map(|(name, _)| *name).collect();
        return Err(Error::Unsupported(format!(
            "the architecture `{}` is not supported; supported are: {}",
            gguf.arch(),
            known.join(", ")
        )));
    };
    let shape = Shape::read(gguf)?;
    let (graph, context) = (Graph::default(), context.unwrap_or(shape.context));
    let (reading, bytes, widths) = (Reading::of(gguf)?, HashMap::new(), HashMap::new());
    let taken = Vec::new();
    let mut recorder =
        Recorder { gguf, backend, graph, shape, context, reading, bytes, taken, widths };
    load(&mut recorder)?;
    let outputs = match recorder.graph.logits {
        Some(output) if recorder.reading.is_some() => recorder.width_of(output),
        _ => recorder.shape.vocabulary,
    };
    let Recorder { graph, shape, bytes, reading, taken, .. } = recorder;
    let weight_bytes = multiplied(&graph, &bytes);
    let Shape { vocabulary, context, .. } = shape;
    let targets = Arc::new(Targets::of(gguf.arch(), &graph, &taken));
    Ok(Network { graph, vocabulary, context, weight_bytes, targets, reading, outputs })
}

/// Bytes of the matrices that a step of one token multiplies by.
fn multiplied(graph: &Graph, bytes: &HashMap<Weight, usize>) -> usize {
    let (mut seen, mut sum) = (HashSet::new(), 0);
    for op in &graph.ops {
        sum += match op {
            Op::Experts(e) => chosen(e, bytes),
            _ => {
                let new = op.multiplies_by().into_iter().filter(|w| seen.insert(*w));
                new.map(|w| bytes[&w]).sum()
            }
        };
    }
    sum
}

/// Bytes of a token's experts.
fn chosen(e: &Experts, bytes: &HashMap<Weight, usize>) -> usize {
    let stacks = [(e.gate, e.hidden), (e.up, e.hidden), (e.down, e.down.stride)];
    let each = |(stack, rows): (Stack, usize)| bytes[&stack.w] / (e.experts * stack.stride) * rows;
    e.used * stacks.map(each).iter().sum::<usize>()
}

/// The sizes that every transformer has. All are at least 1, but for the layers of a table.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Blocks of attention and feed-forward network.
    pub layers: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Width inside the feed-forward network.
    pub hidden: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Floats per head.
    pub dim: usize,
    /// Tokens.
    pub vocabulary: usize,
    /// Longest sequence.
    pub context: usize,
    /// Keeps the norms' root from zero.
    pub eps: f32,
}

/// The widest row of activations, in floats: a step holds one for each of its tokens, however small
/// the file's own weights are.
const WIDTH_MAX: usize = 1 << 18;
/// The most tokens of a vocabulary; a row of logits is as wide.
const VOCABULARY_MAX: usize = 1 << 20;

fn bad(what: String) -> Error {
    Error::Unsupported(what)
}

impl Shape {
    fn read(gguf: &Gguf) -> Result<Self, Error> {
        if is_table(gguf.arch()) {
            return Self::of_table(gguf);
        }
        let count = |suffix: &str| size(gguf, suffix);
        let (width, heads) = (count("embedding_length")?, count("attention.head_count")?);
        let or = |suffix: &str, other: usize| Ok(optional(count(suffix))?.unwrap_or(other));
        let embeddings = gguf.tensor("token_embd.weight")?;
        let shape = Self {
            layers: count("block_count")?,
            width,
            hidden: count("feed_forward_length")?,
            heads,
            kv_heads: or("attention.head_count_kv", heads)?,
            dim: or("attention.key_length", width / heads)?,
            vocabulary: embeddings.rows,
            context: count("context_length")?,
            eps: epsilon(gguf)?,
        };
        let values = or("attention.value_length", shape.dim)?;
        if values != shape.dim {
            return Err(bad(format!("keys of {} and values of {values} floats", shape.dim)));
        }
        shape.check()?;
        Ok(shape)
    }

    /// Of a table of tokens' vectors: what layers would have is as small as can be.
    fn of_table(gguf: &Gguf) -> Result<Self, Error> {
        let table = gguf.tensor("token_embd.weight")?;
        let (width, vocabulary) = (table.cols, table.rows);
        let context = size(gguf, "context_length")?;
        let (layers, hidden, heads, kv_heads, dim, eps) = (0, 1, 1, 1, 2, 0.0);
        let shape = Self { layers, width, hidden, heads, kv_heads, dim, vocabulary, context, eps };
        shape.check()?;
        Ok(shape)
    }

    /// What the kernels and their memory rely on.
    fn check(&self) -> Result<(), Error> {
        let Self { width, hidden, heads, kv_heads, dim, vocabulary, .. } = *self;
        if !heads.is_multiple_of(kv_heads) || dim == 0 || !dim.is_multiple_of(2) {
            return Err(bad(format!(
                "the model file gives {heads} heads over {kv_heads} KV heads of {dim} floats"
            )));
        }
        for (what, size, most) in [
            ("embedding_length", width, WIDTH_MAX),
            ("feed_forward_length", hidden, WIDTH_MAX),
            ("attention.head_count times the floats of a head", heads * dim, WIDTH_MAX),
            ("the vocabulary", vocabulary, VOCABULARY_MAX),
        ] {
            if size > most {
                return Err(bad(format!(
                    "the model file gives {what} as {size}; at most {most} is supported"
                )));
            }
        }
        Ok(())
    }
}

/// What keeps the norms' root from zero: 0 to 1.
fn epsilon(gguf: &Gguf) -> Result<f32, Error> {
    let mut key = gguf.key("attention.layer_norm_rms_epsilon");
    if gguf.get(&key).is_none() && gguf.get(&gguf.key("attention.layer_norm_epsilon")).is_some() {
        key = gguf.key("attention.layer_norm_epsilon");
    }
    match gguf.float(&key)? {
        eps if (0.0..=1.0).contains(&eps) => Ok(eps as f32),
        eps => Err(bad(format!("the model file gives {key} as {eps}"))),
    }
}

/// A size of the model: 1 to 2²⁴.
fn size(gguf: &Gguf, suffix: &str) -> Result<usize, Error> {
    let key = gguf.key(suffix);
    match gguf.uint(&key)? {
        n @ 1..=0x100_0000 => Ok(n as usize),
        n => Err(bad(format!("the model file gives {key} as {n}"))),
    }
}

/// A graph in the making, and the file it is made from.
#[expect(missing_debug_implementations, reason = "borrows a backend")]
pub struct Recorder<'a> {
    gguf: &'a Gguf,
    backend: &'a mut dyn Backend,
    graph: Graph,
    /// The model's sizes.
    pub shape: Shape,
    /// The longest sequence that will be asked for, in tokens.
    context: usize,
    /// What the file says of it as a reader.
    reading: Option<Reading>,
    bytes: HashMap<Weight, usize>,
    taken: Vec<Taken>,
    /// Of buffers that are not as wide as the model.
    widths: HashMap<Buffer, usize>,
}

impl Recorder<'_> {
    /// The matrix `{name}.weight`, whose shape must be as given.
    fn matrix(&mut self, name: &str, rows: usize, cols: usize) -> Result<Weight, Error> {
        self.weight(&format!("{name}.weight"), rows, cols)
    }

    /// The vector `{name}.weight`.
    fn vector(&mut self, name: &str, len: usize) -> Result<Weight, Error> {
        self.weight(&format!("{name}.weight"), 1, len)
    }

    /// The vector `{name}.bias`, if the file has it.
    fn bias(&mut self, name: &str, len: usize) -> Result<Option<Weight>, Error> {
        optional(self.weight(&format!("{name}.bias"), 1, len))
    }

    fn weight(&mut self, name: &str, rows: usize, cols: usize) -> Result<Weight, Error> {
        let tensor = self.tensor(name, rows, cols)?;
        self.take(name, tensor)
    }

    /// A tensor, whose shape must be as given.
    fn tensor(&self, name: &str, rows: usize, cols: usize) -> Result<Tensor, Error> {
        let tensor = self.gguf.tensor(name)?;
        if (tensor.rows, tensor.cols) != (rows, cols) {
            let (r, c) = (tensor.rows, tensor.cols);
            return Err(bad(format!(
                "{name} has {r} rows of {c}, and {rows} of {cols} are needed"
            )));
        }
        Ok(tensor)
    }

    /// Gives the backend a tensor, or what was made of one.
    fn take(&mut self, name: &str, tensor: Tensor) -> Result<Weight, Error> {
        let Tensor { format, rows, cols, bytes: stored } = tensor;
        let bytes = stored.len();
        let weight = self
            .backend
            .weight(format, rows, cols, stored)
            .map_err(|refusal| bad(format!("{name}: {refusal}")))?;
        self.bytes.insert(weight, bytes);
        self.taken.push(Taken { name: name.to_owned(), w: weight, rows, cols });
        Ok(weight)
    }

    /// What an encoder makes of a text.
    fn reading(&self) -> Result<Reading, Error> {
        self.reading.clone().ok_or_else(|| bad("an encoder that reads nothing".to_owned()))
    }

    /// Whether tokens see only those before them.
    fn causal(&self) -> bool {
        self.reading.as_ref().is_none_or(|reading| reading.causal)
    }

    /// Adds rows of the table `{name}.weight`. Of positions it tells how many there are.
    fn look_up(&mut self, name: &str, by: Index, y: Buffer) -> Result<(), Error> {
        let name = format!("{name}.weight");
        let rows = self.gguf.tensor(&name)?.rows;
        if by == Index::Position {
            self.shape.context = self.shape.context.min(rows);
        }
        let table = self.weight(&name, rows, self.shape.width)?;
        self.op(Op::Lookup { table, by, y });
        Ok(())
    }

    /// Adds a product of the matrix `{name}.weight`, with its bias where the file has one, to `y`.
    fn add_to(&mut self, x: Input, name: &str, cols: usize, y: Buffer) -> Result<(), Error> {
        let out = self.out(name, (self.shape.width, cols), y, true)?;
        self.op(Op::MatMul { x, outs: vec![out] });
        Ok(())
    }

    fn has(&self, name: &str) -> bool {
        self.gguf.has(name)
    }

    fn tokens(&mut self, width: usize) -> Buffer {
        self.backend.alloc(Rows::Tokens, width)
    }

    /// One layer's paged keys and values.
    fn cache(&mut self) -> Cache {
        let Shape { kv_heads, dim, .. } = self.shape;
        self.backend.cache(kv_heads, dim)
    }

    fn op(&mut self, op: Op) {
        self.graph.ops.push(op);
    }

    /// One product for each `(name, rows, y)`, all of the same input of `cols`; biases are taken
    /// where the file has them.
    fn products(
        &mut self,
        x: Input,
        cols: usize,
        of: &[(String, usize, Buffer)],
    ) -> Result<(), Error> {
        let mut outs = Vec::new();
        for (name, rows, y) in of {
            outs.push(self.out(name, (*rows, cols), *y, false)?);
        }
        self.op(Op::MatMul { x, outs });
        Ok(())
    }

    /// One product of a matrix, with its bias, where the file has one.
    fn out(
        &mut self,
        name: &str,
        (rows, cols): (usize, usize),
        y: Buffer,
        add: bool,
    ) -> Result<Out, Error> {
        let w = self.matrix(name, rows, cols)?;
        let bias = self.bias(name, rows)?;
        Ok(Out { w, bias, y, add })
    }

    /// One product for each `(rows, y)`, of matrices that the file has as one, one below the other.
    fn split(
        &mut self,
        x: Input,
        cols: usize,
        name: &str,
        of: &[(usize, Buffer)],
    ) -> Result<(), Error> {
        let name = format!("{name}.weight");
        let all = self.tensor(&name, of.iter().map(|(rows, _)| rows).sum(), cols)?;
        let (mut first, mut outs) = (0, Vec::new());
        for (rows, y) in of {
            let w = self.take(&name, all.rows(first..first + rows))?;
            outs.push(Out { w, bias: None, y: *y, add: false });
            first += rows;
        }
        self.op(Op::MatMul { x, outs });
        Ok(())
    }

    /// How many tokens see each other through a sliding window; 0 is how some files say that there
    /// is none.
    fn sliding_window(&self) -> Result<Option<usize>, Error> {
        let key = self.gguf.key("attention.sliding_window");
        match optional(self.gguf.uint(&key))? {
            None | Some(0) => Ok(None),
            Some(_) => size(self.gguf, "attention.sliding_window").map(Some),
        }
    }

    /// What caps scores or logits, if anything does; 0 says that nothing does.
    fn cap(&self, suffix: &str) -> Result<Option<f32>, Error> {
        let key = self.gguf.key(suffix);
        match optional(self.gguf.float(&key))? {
            None | Some(0.0) => Ok(None),
            Some(cap) if (1e-3..=1e6).contains(&cap) => Ok(Some(cap as f32)),
            Some(cap) => Err(bad(format!("the model file gives {key} as {cap}"))),
        }
    }

    /// A product of one matrix.
    fn multiply(&mut self, x: Input, w: Weight, y: Buffer, add: bool) {
        self.op(Op::MatMul { x, outs: vec![Out { w, bias: None, y, add }] });
    }

    /// Embeds the tokens; returns the residual stream and the table, which may be tied.
    fn embed(&mut self, scale: f32) -> Result<(Buffer, Weight), Error> {
        let Shape { width, vocabulary, .. } = self.shape;
        let table = self.matrix("token_embd", vocabulary, width)?;
        let x = self.tokens(width);
        self.op(Op::Embed { table, y: x, scale });
        Ok((x, table))
    }

    /// The last norm and the output matrix, tied to the embeddings where the file has none; logits
    /// are capped where the file says so. Of a model that reads, its head instead.
    fn finish(&mut self, x: Buffer, embeddings: Weight) -> Result<(), Error> {
        let Shape { width, vocabulary, eps, .. } = self.shape;
        let gain = self.vector("output_norm", width)?;
        if let Some(reading) = self.reading.clone() {
            self.op(Op::Norm { x, gain, y: x, eps, add: false });
            return self.read_out(x, &reading);
        }
        let tied = !self.has("output.weight");
        let w = if tied { embeddings } else { self.matrix("output", vocabulary, width)? };
        let last = self.backend.alloc(Rows::Samples, width);
        let logits = self.backend.alloc(Rows::Samples, vocabulary);
        self.op(Op::Gather { x, y: last }); // [samples, width]
        // [samples, vocabulary]
        self.multiply(Input::Normed { x: last, gain, eps }, w, logits, false);
        if let Some(cap) = self.cap("final_logit_softcapping")? {
            self.op(Op::Cap { y: logits, cap });
        }
        self.graph.logits = Some(logits);
        Ok(())
    }
}
