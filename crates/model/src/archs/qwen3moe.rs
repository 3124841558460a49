//! Qwen3 with a mixture of experts in every layer; the chosen experts' shares add up to 1.
//! Shapes in brackets, `t` for the tokens of a step.

use super::experts::Kind;
use super::{Recorder, Shape};
use crate::Error;
use crate::gguf::optional;
use ingle_backend::{Activation, Attend, Input, Mixing, Op, Pairing};

pub(super) fn load(r: &mut Recorder<'_>) -> Result<(), Error> {
    let Shape { layers, width, heads, kv_heads, dim, eps, .. } = r.shape;
    // Published files leave it out, and mean that the chosen shares are normed.
    let normed = optional(r.gguf.bool(&r.gguf.key("expert_weights_norm")))?.unwrap_or(true);
    let mixing = if normed { Mixing::Chosen } else { Mixing::All };
    let mixture = r.mixture(Kind { mixing, act: Activation::Silu })?;
    let (x, embeddings) = r.embed(1.0)?; // [t, width]
    let angles = r.angles()?; // [t, rotated]
    let (q, y) = (r.tokens(heads * dim), r.tokens(heads * dim));
    let (k, v) = (r.tokens(kv_heads * dim), r.tokens(kv_heads * dim));
    for i in 0..layers {
        let at = |name: &str| format!("blk.{i}.{name}");
        let gain = r.vector(&at("attn_norm"), width)?;
        let (query, key) = ((at("attn_q"), heads * dim, q), (at("attn_k"), kv_heads * dim, k));
        let value = (at("attn_v"), kv_heads * dim, v);
        // [t, heads · dim]
        r.products(Input::Normed { x, gain, eps }, width, &[query, key, value])?;
        for (x, name) in [(q, "attn_q_norm"), (k, "attn_k_norm")] {
            let gain = r.vector(&at(name), dim)?;
            r.op(Op::Norm { x, gain, y: x, eps, add: false });
        }
        for x in [q, k] {
            r.op(Op::Rope { x, angles, dim, pairing: Pairing::Halves });
        }
        let (cache, scale) = (r.cache(), (dim as f32).sqrt().recip());
        let causal = r.causal();
        r.op(Op::Attend(Attend {
            causal,
            q,
            k,
            v,
            y,
            cache,
            heads,
            kv_heads,
            dim,
            scale,
            softcap: None,
            sinks: None,
            window: None,
        }));
        let output = r.matrix(&at("attn_output"), width, heads * dim)?;
        r.multiply(Input::Plain(y), output, x, true); // [t, width]

        let gain = r.vector(&at("ffn_norm"), width)?;
        r.experts(&mixture, i, Input::Normed { x, gain, eps }, x)?; // [t, width]
    }
    r.finish(x, embeddings)
}
