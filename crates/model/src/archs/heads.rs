//! What becomes of a reader's last hidden state: pooled into a vector, scored by a classifier, or
//! projected token by token. The same for every architecture, so that a head is written once.

use super::{Recorder, bad};
use crate::Error;
use crate::reading::{Head, Reading};
use ingle_backend::{Activation, Buffer, Input, Op, Out, Rows};

impl Recorder<'_> {
    /// The model's head over its last hidden state `[t, width]`, normed.
    pub(super) fn read_out(&mut self, x: Buffer, reading: &Reading) -> Result<(), Error> {
        let output = match reading.head {
            Head::Vector => self.vector_head(x, reading)?,
            Head::Late => {
                self.gguf.tensor("late.weight")?; // without any there would be no head
                self.dense(&["late", "late_2", "late_3"], x, Rows::Tokens)?
            }
            Head::Sparse => self.sparse_head(x, reading)?,
            Head::Sequence => {
                let pooled = self.pooled(x, reading);
                self.classifier(pooled, Rows::Spans, reading)?
            }
            Head::Tokens => self.classifier(x, Rows::Tokens, reading)?,
        };
        self.graph.logits = Some(output);
        Ok(())
    }

    fn pooled(&mut self, x: Buffer, reading: &Reading) -> Buffer {
        let y = self.backend.alloc(Rows::Spans, self.width_of(x));
        self.widths.insert(y, self.width_of(x));
        self.op(Op::Pool { x, y, how: reading.pooling });
        y
    }

    /// The pooled row, sent through what sentence-transformers calls Dense modules.
    fn vector_head(&mut self, x: Buffer, reading: &Reading) -> Result<Buffer, Error> {
        let y = self.pooled(x, reading);
        self.dense(&["dense_2", "dense_3"], y, Rows::Spans)
    }

    /// Those of these layers that the file has, each with the activation that it names behind it.
    fn dense(&mut self, names: &[&str], x: Buffer, rows: Rows) -> Result<Buffer, Error> {
        let mut y = x;
        for name in names.iter().filter(|name| self.gguf.has(&format!("{name}.weight"))) {
            y = self.linear(name, y, rows, None)?;
            let key = format!("ingle.{name}.activation");
            if self.gguf.get(&key).is_some() {
                let act = crate::reading::activation(self.gguf, &key, Activation::Tanh)?;
                self.op(Op::Activate { y, act });
            }
        }
        Ok(y)
    }

    /// One layer or two: `cls` with the head's activation and norm, if the file has it, and
    /// `cls.output`.
    fn classifier(&mut self, x: Buffer, rows: Rows, reading: &Reading) -> Result<Buffer, Error> {
        let (mut x, mut act) = (x, None);
        if self.has("cls.weight") {
            x = self.linear("cls", x, rows, None)?;
            act = Some(reading.activation);
        }
        if self.has("cls.norm.weight") {
            if let Some(act) = act.take() {
                self.op(Op::Activate { y: x, act });
            }
            self.layer_norm("cls.norm", x, x)?;
        }
        self.linear("cls.output", x, rows, act)
    }

    /// Each token's scores of all words, the largest of each word.
    fn sparse_head(&mut self, x: Buffer, reading: &Reading) -> Result<Buffer, Error> {
        let vocabulary = self.shape.vocabulary;
        let x = self.linear("mlm.dense", x, Rows::Tokens, None)?;
        let act = crate::reading::activation(self.gguf, "ingle.activation", Activation::Gelu)?;
        self.op(Op::Activate { y: x, act });
        self.layer_norm("mlm.norm", x, x)?;
        let tied = !self.has("mlm.output.weight");
        let name = if tied { "token_embd" } else { "mlm.output" };
        let w = self.matrix(name, vocabulary, self.width_of(x))?;
        let bias = self.bias("mlm.output", vocabulary)?;
        let y = self.tokens(vocabulary);
        self.widths.insert(y, vocabulary);
        self.op(Op::MatMul { x: Input::Plain(x), outs: vec![Out { w, bias, y, add: false }] });
        Ok(self.pooled(y, reading))
    }

    /// `y = w · act(x) + bias`, as wide as the file's matrix is high.
    fn linear(
        &mut self,
        name: &str,
        x: Buffer,
        rows: Rows,
        act: Option<Activation>,
    ) -> Result<Buffer, Error> {
        let width = self.gguf.tensor(&format!("{name}.weight"))?.rows;
        if width > super::WIDTH_MAX {
            return Err(bad(format!("{name} has {width} rows, which is not supported")));
        }
        let y = self.backend.alloc(rows, width);
        self.widths.insert(y, width);
        let out = self.out(name, (width, self.width_of(x)), y, false)?;
        let x = act.map_or(Input::Plain(x), |act| Input::Activated { x, act });
        self.op(Op::MatMul { x, outs: vec![out] });
        Ok(y)
    }

    /// LayerNorm by the vectors `{name}.weight` and, where the file has it, `{name}.bias`.
    pub(super) fn layer_norm(&mut self, name: &str, x: Buffer, y: Buffer) -> Result<(), Error> {
        let (width, eps) = (self.width_of(x), self.shape.eps);
        let (gain, bias) = (self.vector(name, width)?, self.bias(name, width)?);
        self.op(Op::LayerNorm { x, gain, bias, y, eps });
        Ok(())
    }

    /// Floats of a row: the model's own width, unless a head made it.
    pub(super) fn width_of(&self, x: Buffer) -> usize {
        self.widths.get(&x).copied().unwrap_or(self.shape.width)
    }
}
