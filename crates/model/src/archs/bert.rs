//! BERT (Devlin et al., 2018), and what differs from it in its files alone: RoBERTa, XLM-R,
//! DistilBERT. Tokens see each other both ways; positions and kinds of text are tables; norms come
//! after each block. Shapes in brackets, `t` for the tokens of a step.

use super::{Recorder, Shape};
use crate::Error;
use ingle_backend::{Activation, Attend, Index, Input, Op};

pub(super) fn load(r: &mut Recorder<'_>) -> Result<(), Error> {
    let Shape { layers, width, hidden, heads, kv_heads, dim, .. } = r.shape;
    let reading = r.reading()?;
    let act = crate::reading::activation(r.gguf, "ingle.activation", Activation::Gelu)?;
    let (x, _) = r.embed(1.0)?; // [t, width]
    r.look_up("position_embd", Index::Position, x)?;
    if r.has("token_types.weight") {
        r.look_up("token_types", Index::Kind, x)?;
    }
    r.layer_norm("token_embd_norm", x, x)?;
    let (q, y) = (r.tokens(heads * dim), r.tokens(heads * dim));
    let (k, v) = (r.tokens(kv_heads * dim), r.tokens(kv_heads * dim));
    let up = r.tokens(hidden);
    let (cache, scale) = (r.cache(), (dim as f32).sqrt().recip());
    for i in 0..layers {
        let at = |name: &str| format!("blk.{i}.{name}");
        let (query, key) = ((at("attn_q"), heads * dim, q), (at("attn_k"), kv_heads * dim, k));
        let value = (at("attn_v"), kv_heads * dim, v);
        r.products(Input::Plain(x), width, &[query, key, value])?; // [t, heads · dim]
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
        r.products(Input::Plain(x), width, &[(at("ffn_up"), hidden, up)])?; // [t, hidden]
        r.add_to(Input::Activated { x: up, act }, &at("ffn_down"), hidden, x)?; // [t, width]
        r.layer_norm(&at("layer_output_norm"), x, x)?;
    }
    r.read_out(x, &reading)
}
