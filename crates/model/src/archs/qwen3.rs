//! Qwen3: a Llama that norms each head's queries and keys, rotated by halves.
//! Shapes in brackets, `t` for the tokens of a step.

use super::{Recorder, Shape};
use crate::Error;
use ingle_backend::{Activation, Attend, Input, Op, Out, Pairing};

pub(super) fn load(r: &mut Recorder<'_>) -> Result<(), Error> {
    let Shape { layers, width, hidden, heads, kv_heads, dim, eps, .. } = r.shape;
    let (x, embeddings) = r.embed(1.0)?; // [t, width]
    let angles = r.angles()?; // [t, rotated]
    let (q, y) = (r.tokens(heads * dim), r.tokens(heads * dim));
    let (k, v) = (r.tokens(kv_heads * dim), r.tokens(kv_heads * dim));
    let (gate, up) = (r.tokens(hidden), r.tokens(hidden));
    for i in 0..layers {
        let at = |name: &str| format!("blk.{i}.{name}");
        let gain = r.vector(&at("attn_norm"), width)?;
        let mut outs = Vec::new();
        for (name, heads, y) in
            [("attn_q", heads, q), ("attn_k", kv_heads, k), ("attn_v", kv_heads, v)]
        {
            let w = r.matrix(&at(name), heads * dim, width)?;
            outs.push(Out { w, bias: None, y, add: false });
        }
        r.product(Input::Normed { x, gain, eps }, outs); // [t, heads · dim]
        for (x, name) in [(q, "attn_q_norm"), (k, "attn_k_norm")] {
            let gain = r.vector(&at(name), dim)?;
            r.op(Op::Norm { x, gain, y: x, eps, add: false });
        }
        for x in [q, k] {
            r.op(Op::Rope { x, angles, dim, pairing: Pairing::Halves });
        }
        let (cache, scale) = (r.cache(), (dim as f32).sqrt().recip());
        r.op(Op::Attend(Attend { q, k, v, y, cache, heads, kv_heads, dim, scale, window: None }));
        let output = r.matrix(&at("attn_output"), width, heads * dim)?;
        r.multiply(Input::Plain(y), output, x, true); // [t, width]

        let gain = r.vector(&at("ffn_norm"), width)?;
        let outs = [("ffn_gate", gate), ("ffn_up", up)].map(|(name, y)| {
            Ok(Out { w: r.matrix(&at(name), hidden, width)?, bias: None, y, add: false })
        });
        let outs = outs.into_iter().collect::<Result<_, Error>>()?;
        r.product(Input::Normed { x, gain, eps }, outs); // [t, hidden]
        let down = r.matrix(&at("ffn_down"), width, hidden)?;
        r.multiply(Input::Gated { gate, up, act: Activation::Silu }, down, x, true); // [t, width]
    }
    r.finish(x, embeddings)
}
