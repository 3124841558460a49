//! ModernBERT (Warner et al., 2024): norms before each block, the first layer's attention without
//! one; rotated positions; every third layer sees all, the others a window; a gate of GELU.
//! Shapes in brackets, `t` for the tokens of a step.

use super::{Recorder, Shape};
use crate::Error;
use crate::gguf::optional;
use ingle_backend::{Activation, Attend, Input, Op, Pairing};

/// Every so many layers, the first one sees all.
const PATTERN: u64 = 3;

pub(super) fn load(r: &mut Recorder<'_>) -> Result<(), Error> {
    let Shape { layers, width, hidden, heads, kv_heads, dim, .. } = r.shape;
    let reading = r.reading()?;
    let act = crate::reading::activation(r.gguf, "ingle.activation", Activation::Gelu)?;
    let sliding = r.sliding_window()?;
    let pattern = optional(r.gguf.uint(&r.gguf.key("attention.sliding_window_pattern")))?;
    let pattern = pattern.unwrap_or(PATTERN).max(1);
    let (x, _) = r.embed(1.0)?; // [t, width]
    r.layer_norm("token_embd_norm", x, x)?;
    let (global, local) = (r.angles()?, r.local_angles()?); // [t, rotated]
    let (q, y) = (r.tokens(heads * dim), r.tokens(heads * dim));
    let (k, v) = (r.tokens(kv_heads * dim), r.tokens(kv_heads * dim));
    let (gate, up, normed) = (r.tokens(hidden), r.tokens(hidden), r.tokens(width));
    let (cache, scale) = (r.cache(), (dim as f32).sqrt().recip());
    for i in 0..layers {
        let at = |name: &str| format!("blk.{i}.{name}");
        let whole = (i as u64).is_multiple_of(pattern);
        let (window, angles) = if whole { (None, global) } else { (sliding, local) };
        let mut input = x;
        if i > 0 {
            r.layer_norm(&at("attn_norm"), x, normed)?;
            input = normed;
        }
        let parts = [(heads * dim, q), (kv_heads * dim, k), (kv_heads * dim, v)];
        r.split(Input::Plain(input), width, &at("attn_qkv"), &parts)?; // [t, heads · dim]
        for x in [q, k] {
            r.op(Op::Rope { x, angles, dim, pairing: Pairing::Halves });
        }
        r.op(Op::Attend(Attend {
            causal: reading.causal,
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
        r.add_to(Input::Plain(y), &at("attn_output"), heads * dim, x)?; // [t, width]
        r.layer_norm(&at("ffn_norm"), x, normed)?;
        let parts = [(hidden, gate), (hidden, up)];
        r.split(Input::Plain(normed), width, &at("ffn_up"), &parts)?; // [t, hidden]
        r.add_to(Input::Gated { gate, up, act }, &at("ffn_down"), hidden, x)?; // [t, width]
    }
    r.layer_norm("output_norm", x, x)?;
    r.read_out(x, &reading)
}
