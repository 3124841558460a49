//! Attention, in all its shapes: the rows of the kernel table against each other, and the reference
//! against the formula itself, over keys and values that lie one after another.

use super::*;
use ingle_backend::{Attend, Pairing};
use std::sync::Arc;

/// What attention is asked for.
#[derive(Clone, Debug)]
pub(super) struct Heads {
    heads: usize,
    kv_heads: usize,
    dim: usize,
    window: Option<usize>,
    softcap: Option<f32>,
    sinks: bool,
    causal: bool,
}

/// The buffers that it reads and the one that it writes.
pub(super) struct Buffers {
    q: Buffer,
    k: Buffer,
    v: Buffer,
    pub(super) y: Buffer,
}

const SCALE: f32 = 0.2;

impl Heads {
    pub(super) fn of(heads: usize, kv_heads: usize, dim: usize) -> Self {
        Self { heads, kv_heads, dim, window: None, softcap: None, sinks: false, causal: true }
    }

    fn seeing(self, window: usize) -> Self {
        Self { window: Some(window), ..self }
    }

    fn both_ways(self) -> Self {
        Self { causal: false, ..self }
    }

    fn capped(self, cap: f32) -> Self {
        Self { softcap: Some(cap), ..self }
    }

    fn sinking(self) -> Self {
        Self { sinks: true, ..self }
    }

    /// Logits from far below the scores to far above them.
    fn sinks(&self) -> Vec<f32> {
        (0..self.heads).map(|head| 7.0 * head as f32 - 7.0).collect()
    }
}

pub(super) fn attention(bench: &mut Bench, shape: &Heads) -> Buffers {
    let &Heads { heads, kv_heads, dim, window, softcap, .. } = shape;
    let [q, k, v] = [heads, kv_heads, kv_heads].map(|n| bench.embedded(n * dim));
    let (y, angles) =
        (bench.cpu.alloc(Rows::Tokens, heads * dim), bench.cpu.alloc(Rows::Tokens, dim));
    let freqs: Arc<[f64]> = (0..dim / 2).map(|i| 0.3f64.powi(i as i32)).collect();
    let cache = bench.cpu.cache(kv_heads, dim);
    let sinks = shape.sinks.then(|| {
        let bytes: Vec<u8> = shape.sinks().iter().flat_map(|sink| sink.to_le_bytes()).collect();
        bench.cpu.weight(Format::F32, 1, heads, bytes.into()).expect("memory")
    });
    let scale = SCALE;
    bench.graph.ops.extend([
        Op::Angles { freqs, y: angles, scale: 1.0 },
        Op::Rope { x: q, angles, dim, pairing: Pairing::Halves },
        Op::Rope { x: k, angles, dim, pairing: Pairing::Adjacent },
        Op::Attend(Attend {
            causal: shape.causal,
            q,
            k,
            v,
            y,
            cache,
            heads,
            kv_heads,
            dim,
            scale,
            softcap,
            sinks,
            window,
        }),
    ]);
    Buffers { q, k, v, y }
}

/// What is read back of a head's key or value.
fn kept(kv: KvType, head: &[f32]) -> Vec<f32> {
    let round = |v: f32| half::f16::from_f32(v).to_f32();
    let group = |group: &[f32]| -> Vec<f32> {
        let scale = round(group.iter().fold(0.0f32, |most, v| most.max(v.abs())) / 127.0);
        group.iter().map(|v| scale * (v / scale).round_ties_even()).collect()
    };
    match kv {
        KvType::F32 => head.to_vec(),
        KvType::F16 => head.iter().copied().map(round).collect(),
        KvType::Q8_0 => head.chunks(32).flat_map(group).collect(),
    }
}

/// The formula, over one sequence.
fn dense(shape: &Heads, q: &[f32], k: &[f32], v: &[f32]) -> Vec<f32> {
    let &Heads { heads, kv_heads, dim, .. } = shape;
    let row = |of: &[f32], width: usize, at: usize, head: usize| -> Vec<f64> {
        of[at * width * dim..][head * dim..][..dim].iter().map(|v| f64::from(*v)).collect()
    };
    let mut y = Vec::new();
    for at in 0..q.len() / (heads * dim) {
        for head in 0..heads {
            let (query, kv) = (row(q, heads, at, head), head / (heads / kv_heads));
            let window = shape.window.unwrap_or(1 << 20);
            let end = q.len() / (heads * dim);
            let seen = match shape.causal {
                true => (at + 1).saturating_sub(window)..at + 1,
                false => at.saturating_sub(window / 2)..end.min(at + window / 2 + 1),
            };
            let score = |at: usize| {
                let products = query.iter().zip(row(k, kv_heads, at, kv)).map(|(q, k)| q * k);
                let score = products.sum::<f64>() * f64::from(SCALE);
                shape.softcap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh())
            };
            let weights: Vec<f64> = seen.clone().map(|at| score(at).exp()).collect();
            let sink = if shape.sinks { f64::from(shape.sinks()[head]).exp() } else { 0.0 };
            let total = weights.iter().sum::<f64>() + sink;
            let mut sum = vec![0.0; dim];
            for (at, weight) in seen.zip(weights) {
                let values = row(v, kv_heads, at, kv);
                sum.iter_mut().zip(values).for_each(|(sum, v)| *sum += weight / total * v);
            }
            y.extend(sum.iter().map(|v| *v as f32));
        }
    }
    y
}

/// Every row within `tolerance` of the formula.
fn is_the_formula(kv: KvType, shape: &Heads, tolerance: f32) {
    let tokens = span(0, 0..300, LONG);
    for kernels in rows() {
        let read = |of: fn(&Buffers) -> Buffer| {
            let mut bench = Bench::keeping(kv, kernels, 2);
            let buffers = attention(&mut bench, shape);
            bench.prepare(of(&buffers));
            bench.run(std::slice::from_ref(&tokens))
        };
        let kept = |x: Vec<f32>| x.chunks(shape.dim).flat_map(|x| kept(kv, x)).collect::<Vec<_>>();
        let expect = dense(shape, &read(|b| b.q), &kept(read(|b| b.k)), &kept(read(|b| b.v)));
        let apart = distance(&read(|b| b.y), &expect);
        assert!(apart <= tolerance, "{kv:?} {shape:?} on {}: {apart}", kernels.name);
    }
}

#[test]
fn attention_is_its_formula() {
    let plain = Heads::of(4, 2, 32);
    for shape in [
        plain.clone(),
        plain.clone().seeing(20),
        plain.clone().capped(2.0),
        plain.clone().sinking(),
        plain.clone().both_ways(),
        plain.clone().both_ways().seeing(64),
        plain.clone().both_ways().seeing(9).sinking(),
        Heads::of(5, 1, 40).both_ways().capped(2.0),
        plain.sinking().capped(5.0).seeing(260),
    ] {
        is_the_formula(KvType::F32, &shape, 1e-5);
    }
    for &kv in KvType::ALL {
        for shape in [Heads::of(2, 1, 40), Heads::of(5, 1, 64).seeing(33)] {
            is_the_formula(kv, &shape, 1e-5);
        }
    }
}

#[test]
fn attention_sees_the_past_through_blocks() {
    for shape in [
        Heads::of(3, 1, 64),
        Heads::of(4, 4, 16),
        Heads::of(7, 1, 80),
        Heads::of(8, 2, 32).seeing(20),
        Heads::of(4, 2, 4).seeing(1),
        Heads::of(4, 2, 32).capped(50.0),
        Heads::of(4, 2, 24).sinking().seeing(20),
    ] {
        for &kv in KvType::ALL {
            let name = format!("{kv:?} {shape:?}");
            conforms_over(kv, CUTS, &name, 1e-5, |bench| attention(bench, &shape).y);
        }
    }
}

#[test]
fn attention_merges_the_segments_of_a_long_context() {
    let cuts = [0, 255, 256, 257, 300, 511, 513, 514, 580];
    for shape in [
        Heads::of(3, 1, 32),
        Heads::of(4, 2, 16).seeing(300),
        Heads::of(4, 1, 16).sinking().capped(3.0),
    ] {
        for &kv in KvType::ALL {
            let name = format!("{kv:?} {shape:?}, long");
            conforms_over(kv, &cuts, &name, 1e-5, |bench| attention(bench, &shape).y);
        }
    }
}

/// A sequence is one span then: later positions are seen, too.
#[test]
fn attention_sees_what_is_to_come() {
    for len in [1, 5, 16, 70, 130, 580] {
        for shape in [
            Heads::of(3, 1, 64).both_ways(),
            Heads::of(2, 2, 40).both_ways().capped(3.0),
            Heads::of(4, 1, 4).both_ways().sinking().seeing(2),
            Heads::of(4, 4, 32).both_ways().seeing(20),
            Heads::of(4, 2, 16).both_ways().seeing(300),
        ] {
            for &kv in KvType::ALL {
                let name = format!("{kv:?} {shape:?}, {len} both ways");
                conforms_over(kv, &[0, len], &name, 1e-5, |bench| attention(bench, &shape).y);
            }
        }
    }
}
