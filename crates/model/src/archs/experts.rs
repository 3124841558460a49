//! What architectures with mixtures of experts have in common: their counts, and how files store
//! their matrices, `[expert][row][column]`, gate and up apart or as one.

use super::{Recorder, WIDTH_MAX, bad, size};
use crate::Error;
use crate::gguf::optional;
use ingle_backend::{Activation, Buffer, Experts, Input, Mixing, Op, Stack};

/// What differs between architectures.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub(super) mixing: Mixing,
    pub(super) act: Activation,
}

/// A file's experts, and where their choice is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mixture {
    kind: Kind,
    experts: usize,
    used: usize,
    hidden: usize,
    logits: Buffer,
    routes: Buffer,
}

impl Recorder<'_> {
    /// Reads how many experts there are, how many a token has and how wide they are.
    pub(super) fn mixture(&mut self, kind: Kind) -> Result<Mixture, Error> {
        let key = |suffix: &str| self.gguf.key(suffix);
        let count = |suffix: &str| size(self.gguf, suffix);
        let (experts, used) = (count("expert_count")?, count("expert_used_count")?);
        let hidden = count("expert_feed_forward_length")?;
        if used > experts {
            return Err(bad(format!(
                "the model file gives {} as {used}, of {experts} experts",
                key("expert_used_count")
            )));
        }
        for (what, size) in [
            ("expert_count", experts),
            ("expert_feed_forward_length times expert_used_count", hidden.saturating_mul(used)),
        ] {
            if size > WIDTH_MAX {
                return Err(bad(format!(
                    "the model file gives {} as {size}; at most {WIDTH_MAX} is supported",
                    key(what)
                )));
            }
        }
        let scale = optional(self.gguf.float(&key("expert_weights_scale")))?.unwrap_or(1.0);
        if ![0.0, 1.0].contains(&scale) {
            return Err(bad(format!(
                "{} is {scale}: only 1 is supported",
                key("expert_weights_scale")
            )));
        }
        let (logits, routes) = (self.tokens(experts), self.tokens(2 * used));
        Ok(Mixture { kind, experts, used, hidden, logits, routes })
    }

    /// Layer `i`'s experts of an input, added to `y`.
    pub(super) fn experts(
        &mut self,
        mixture: &Mixture,
        i: usize,
        x: Input,
        y: Buffer,
    ) -> Result<(), Error> {
        let Mixture { kind, experts, used, hidden, logits, routes } = *mixture;
        let Kind { mixing, act } = kind;
        let width = self.shape.width;
        let at = |name: &str| format!("blk.{i}.{name}");
        self.products(x, width, &[(at("ffn_gate_inp"), experts, logits)])?; // [t, experts]
        self.op(Op::Route { logits, routes, mixing }); // [t, 2 · used]
        let both = at("ffn_gate_up_exps");
        let (gate, up) = if self.has(&format!("{both}.weight")) {
            let gate = self.stack(&both, experts, (2 * hidden, width))?;
            (gate, Stack { first: hidden, ..gate })
        } else {
            let mut stack = |name| self.stack(&at(name), experts, (hidden, width));
            (stack("ffn_gate_exps")?, stack("ffn_up_exps")?)
        };
        let down = self.stack(&at("ffn_down_exps"), experts, (width, hidden))?;
        self.op(Op::Experts(Experts { x, routes, experts, used, hidden, gate, up, down, act, y }));
        Ok(())
    }

    /// The matrices `{name}.weight` of all experts, and their biases, if the file has them.
    fn stack(
        &mut self,
        name: &str,
        experts: usize,
        (rows, cols): (usize, usize),
    ) -> Result<Stack, Error> {
        let w = self.matrix(name, experts * rows, cols)?;
        let name = format!("{name}.bias");
        let bias = match optional(self.tensor(&name, experts, rows))? {
            Some(biases) => Some(self.take(&name, biases.flat())?),
            None => None,
        };
        Ok(Stack { w, bias, stride: rows, first: 0 })
    }
}
