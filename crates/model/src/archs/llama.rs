//! Llama 2 and 3, SmolLM2, Mistral, TinyLlama: RMSNorm, rotated queries and keys, grouped heads,
//! a feed-forward network gated by SiLU. Shapes in brackets, `t` for the tokens of a step.

use super::{Recorder, Shape, bad};
use crate::Error;
use ingle_backend::{Activation, Attend, Input, Op, Pairing};

pub(super) fn load(r: &mut Recorder<'_>) -> Result<(), Error> {
    if r.has("blk.0.ffn_gate_inp.weight") {
        return Err(bad("mixtures of experts are not supported yet".into()));
    }
    let Shape { layers, width, hidden, heads, kv_heads, dim, eps, .. } = r.shape;
    let (x, embeddings) = r.embed(1.0)?; // [t, width]
    let angles = r.angles()?; // [t, rotated]
    let (q, y) = (r.tokens(heads * dim), r.tokens(heads * dim));
    let (k, v) = (r.tokens(kv_heads * dim), r.tokens(kv_heads * dim));
    let (gate, up) = (r.tokens(hidden), r.tokens(hidden));
    for i in 0..layers {
        let at = |name: &str| format!("blk.{i}.{name}");
        let gain = r.vector(&at("attn_norm"), width)?;
        let (query, key) = ((at("attn_q"), heads * dim, q), (at("attn_k"), kv_heads * dim, k));
        let value = (at("attn_v"), kv_heads * dim, v);
        // [t, heads · dim]
        r.products(Input::Normed { x, gain, eps }, width, &[query, key, value])?;
        for x in [q, k] {
            r.op(Op::Rope { x, angles, dim, pairing: Pairing::Adjacent });
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
        let both = [(at("ffn_gate"), hidden, gate), (at("ffn_up"), hidden, up)];
        r.products(Input::Normed { x, gain, eps }, width, &both)?; // [t, hidden]
        let down = r.matrix(&at("ffn_down"), width, hidden)?;
        r.multiply(Input::Gated { gate, up, act: Activation::Silu }, down, x, true); // [t, width]
    }
    r.finish(x, embeddings)
}
