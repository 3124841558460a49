//! gpt-oss: biases everywhere, a sink beside each head's scores, every other layer, from the first
//! on, with a sliding window, and a mixture of experts whose gate is clamped. Shapes in brackets,
//! `t` for the tokens of a step.

use super::experts::Kind;
use super::{Recorder, Shape};
use crate::Error;
use ingle_backend::{Activation, Attend, Input, Mixing, Op, Pairing};

pub(super) fn load(r: &mut Recorder<'_>) -> Result<(), Error> {
    let Shape { layers, width, heads, kv_heads, dim, eps, .. } = r.shape;
    let sliding = r.sliding_window()?;
    let act = Activation::ClampedSwiglu;
    let mixture = r.mixture(Kind { mixing: Mixing::Chosen, act })?;
    let (x, embeddings) = r.embed(1.0)?; // [t, width]
    let angles = r.unrounded_angles()?; // [t, rotated]
    let (q, y) = (r.tokens(heads * dim), r.tokens(heads * dim));
    let (k, v) = (r.tokens(kv_heads * dim), r.tokens(kv_heads * dim));
    for i in 0..layers {
        let at = |name: &str| format!("blk.{i}.{name}");
        let gain = r.vector(&at("attn_norm"), width)?;
        let (query, key) = ((at("attn_q"), heads * dim, q), (at("attn_k"), kv_heads * dim, k));
        let value = (at("attn_v"), kv_heads * dim, v);
        // [t, heads · dim]
        r.products(Input::Normed { x, gain, eps }, width, &[query, key, value])?;
        for x in [q, k] {
            r.op(Op::Rope { x, angles, dim, pairing: Pairing::Halves });
        }
        let sinks = Some(r.vector(&at("attn_sinks"), heads)?);
        let (cache, scale) = (r.cache(), (dim as f32).sqrt().recip());
        r.op(Op::Attend(Attend {
            causal: true,
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
            sinks,
            window: sliding.filter(|_| i % 2 == 0),
        }));
        let output = r.out(&at("attn_output"), (width, heads * dim), x, true)?;
        r.op(Op::MatMul { x: Input::Plain(y), outs: vec![output] }); // [t, width]

        let gain = r.vector(&at("post_attention_norm"), width)?;
        r.experts(&mixture, i, Input::Normed { x, gain, eps }, x)?; // [t, width]
    }
    r.finish(x, embeddings)
}
