//! Nomic's BERT: positions by rotation, no table of them, and a gated feed-forward network; norms
//! come after each block. Shapes in brackets, `t` for the tokens of a step.

use super::{Recorder, Shape};
use crate::Error;
use ingle_backend::{Activation, Attend, Index, Input, Op, Pairing};

pub(super) fn load(r: &mut Recorder<'_>) -> Result<(), Error> {
    let Shape { layers, width, hidden, heads, kv_heads, dim, .. } = r.shape;
    let reading = r.reading()?;
    let (x, _) = r.embed(1.0)?; // [t, width]
    if r.has("token_types.weight") {
        r.look_up("token_types", Index::Kind, x)?;
    }
    r.layer_norm("token_embd_norm", x, x)?;
    let angles = r.angles()?; // [t, rotated]
    let (q, y) = (r.tokens(heads * dim), r.tokens(heads * dim));
    let (k, v) = (r.tokens(kv_heads * dim), r.tokens(kv_heads * dim));
    let (gate, up) = (r.tokens(hidden), r.tokens(hidden));
    let (cache, scale) = (r.cache(), (dim as f32).sqrt().recip());
    for i in 0..layers {
        let at = |name: &str| format!("blk.{i}.{name}");
        let parts = [(heads * dim, q), (kv_heads * dim, k), (kv_heads * dim, v)];
        r.split(Input::Plain(x), width, &at("attn_qkv"), &parts)?; // [t, heads · dim]
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
            window: None,
        }));
        r.add_to(Input::Plain(y), &at("attn_output"), heads * dim, x)?; // [t, width]
        r.layer_norm(&at("attn_output_norm"), x, x)?;
        let both = [(at("ffn_gate"), hidden, gate), (at("ffn_up"), hidden, up)];
        r.products(Input::Plain(x), width, &both)?; // [t, hidden]
        let gated = Input::Gated { gate, up, act: Activation::Silu };
        r.add_to(gated, &at("ffn_down"), hidden, x)?; // [t, width]
        r.layer_norm(&at("layer_output_norm"), x, x)?;
    }
    r.read_out(x, &reading)
}
