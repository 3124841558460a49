//! Gemma 3: embeddings scaled by √width, norms before and after each block, normed queries and
//! keys, a gate of GELU; five layers with a sliding window and a rope of their own, then one that
//! sees all. As an embedder (EmbeddingGemma) tokens see each other both ways. Shapes in brackets,
//! `t` for the tokens of a step.

use super::{Recorder, Shape};
use crate::Error;
use ingle_backend::{Activation, Attend, Input, Op, Pairing};

/// Every so many layers, the last one sees all.
const PATTERN: usize = 6;
/// The one size (27B) that scales its scores by width per head.
const LAYERS_27B: usize = 62;

pub(super) fn load(r: &mut Recorder<'_>) -> Result<(), Error> {
    let Shape { layers, width, hidden, heads, kv_heads, dim, eps, .. } = r.shape;
    let sliding = r.sliding_window()?;
    let per_head = if layers == LAYERS_27B { width / heads } else { dim };
    let scale = (per_head as f32).sqrt().recip();
    let (x, embeddings) = r.embed((width as f32).sqrt())?; // [t, width]
    let (global, local) = (r.angles()?, r.local_angles()?); // [t, rotated]
    let (q, y) = (r.tokens(heads * dim), r.tokens(heads * dim));
    let (k, v) = (r.tokens(kv_heads * dim), r.tokens(kv_heads * dim));
    let (gate, up, block) = (r.tokens(hidden), r.tokens(hidden), r.tokens(width));
    for i in 0..layers {
        let at = |name: &str| format!("blk.{i}.{name}");
        let windowed = sliding.is_some() && i % PATTERN != PATTERN - 1;
        let (window, angles) = if windowed { (sliding, local) } else { (None, global) };
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
        let cache = r.cache();
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
            window,
        }));
        let output = r.matrix(&at("attn_output"), width, heads * dim)?;
        r.multiply(Input::Plain(y), output, block, false); // [t, width]
        let gain = r.vector(&at("post_attention_norm"), width)?;
        r.op(Op::Norm { x: block, gain, y: x, eps, add: true });

        let gain = r.vector(&at("ffn_norm"), width)?;
        let both = [(at("ffn_gate"), hidden, gate), (at("ffn_up"), hidden, up)];
        r.products(Input::Normed { x, gain, eps }, width, &both)?; // [t, hidden]
        let down = r.matrix(&at("ffn_down"), width, hidden)?;
        r.multiply(Input::Gated { gate, up, act: Activation::GeluTanh }, down, block, false);
        let gain = r.vector(&at("post_ffw_norm"), width)?;
        r.op(Op::Norm { x: block, gain, y: x, eps, add: true }); // [t, width]
    }
    r.finish(x, embeddings)
}
