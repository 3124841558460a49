//! One layer, counted by hand.

use super::*;
use crate::{Cache, Graph, Mixing, Pairing, Role, Sample, Span, Stack};

/// A model of one layer: width 32, 2 heads over 1 of 16 floats, hidden 64, 100 tokens known.
struct Tiny {
    graph: Graph,
    shapes: Shapes,
}

const EPS: f32 = 1e-5;

impl Tiny {
    fn weight(&mut self, format: Format, rows: usize, cols: usize) -> Weight {
        let bytes = rows * format.row_bytes(cols).expect("whole blocks");
        self.shapes.weights.push(WeightShape { format, rows, cols, bytes, held: bytes });
        Weight(self.shapes.weights.len() as u32 - 1)
    }

    fn buffer(&mut self, rows: Rows, width: usize) -> Buffer {
        self.shapes.buffers.push((rows, width));
        Buffer(self.shapes.buffers.len() as u32 - 1)
    }

    fn product(&mut self, format: Format, x: Input, cols: usize, ys: &[Buffer], add: bool) {
        let out = |y: Buffer, tiny: &mut Self| {
            let rows = tiny.shapes.buffers[y.0 as usize].1;
            Out { w: tiny.weight(format, rows, cols), bias: None, y, add }
        };
        let outs = ys.iter().map(|&y| out(y, self)).collect();
        self.graph.ops.push(Op::MatMul { x, outs });
    }

    fn new(window: Option<usize>) -> Self {
        let shapes = Shapes { weights: vec![], buffers: vec![], kv: KvType::F16 };
        let mut tiny = Self { graph: Graph::default(), shapes };
        let t = &mut tiny;
        let [x, q, k, v, y] = [32, 32, 16, 16, 32].map(|n| t.buffer(Rows::Tokens, n));
        let [gate, up, angles] = [64, 64, 16].map(|n| t.buffer(Rows::Tokens, n));
        let [last, logits] = [32, 100].map(|n| t.buffer(Rows::Samples, n));
        let (table, gain) = (t.weight(Format::F16, 100, 32), t.weight(Format::F32, 1, 32));
        let head_gain = t.weight(Format::F32, 1, 16);
        let normed = Input::Normed { x, gain, eps: EPS };
        t.graph.ops.push(Op::Embed { table, y: x, scale: 1.0 });
        let freqs = [1.0; 8].into();
        t.graph.ops.push(Op::Angles { freqs, y: angles, scale: 1.0 });
        t.product(Format::Q4_0, normed, 32, &[q, k, v], false);
        t.graph.ops.push(Op::Norm { x: q, gain: head_gain, y: q, eps: EPS, add: false });
        t.graph.ops.push(Op::Rope { x: q, angles, dim: 16, pairing: Pairing::Halves });
        let (heads, kv_heads, dim, scale) = (2, 1, 16, 0.25);
        let cache = Cache(0);
        t.graph.ops.push(Op::Attend(Attend {
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
            sinks: None,
            window,
        }));
        t.product(Format::F16, Input::Plain(y), 32, &[x], true);
        t.product(Format::Q8_0, normed, 32, &[gate, up], false);
        let gated = Input::Gated { gate, up, act: Activation::Silu };
        t.product(Format::Q8_0, gated, 64, &[x], true);
        t.graph.ops.push(Op::Gather { x, y: last });
        t.product(Format::F32, Input::Plain(last), 32, &[logits], false);
        t.graph.logits = Some(logits);
        tiny
    }

    fn costs(&self, spans: &[(usize, u32, Sample)]) -> Vec<Cost> {
        let span = |&(start, tokens, sample): &(usize, u32, Sample)| Span {
            start,
            tokens: (0..tokens).collect(),
            sample,
            ..Span::default()
        };
        let batch = Batch { spans: spans.iter().map(span).collect() };
        self.graph.ops.iter().map(|op| op.cost(&self.shapes, &batch)).collect()
    }
}

/// Flops, bytes read, bytes written.
fn of(cost: &Cost) -> [u64; 3] {
    [cost.flops, cost.bytes_read, cost.bytes_written]
}

#[test]
fn costs_are_what_a_pencil_gives() {
    let costs = Tiny::new(None).costs(&[(10, 3, Sample::Last)]);
    let row = 3 * 32 * 4; // bytes of three rows of the residual stream
    let expect = [
        ("embed", [96, 3 * 64, row]),
        ("angles", [3 * 8 * 5, 64, 3 * 16 * 4]),
        // 18 bytes a block of 32, one block a row, 64 rows
        ("qkv", [4 * 96 + 2 * 3 * 64 * 32, row + 128 + 64 * 18, 3 * 64 * 4]),
        ("norm", [4 * 96, row + 64, row]),
        ("rope", [3 * 2 * 8 * 6, row + 3 * 16 * 4, row]),
        // 11 + 12 + 13 positions; q, k, v; 13 positions of 16 keys and 16 values of 2 bytes
        ("attention", [2 * (36 * 69 + 3 * 16), row * 2 + 13 * 64, row + 3 * 64]),
        ("output", [2 * 3 * 32 * 32 + 96, 2 * row + 32 * 64, row]),
        ("gate_up", [4 * 96 + 2 * 3 * 128 * 32, row + 128 + 128 * 34, 3 * 128 * 4]),
        ("down", [5 * 192 + 2 * 3 * 32 * 64 + 96, 5 * row + 32 * 68, row]),
        ("gather", [0, 128, 128]),
        ("logits", [2 * 100 * 32, 128 + 12_800, 400]),
    ];
    for ((name, expect), cost) in expect.into_iter().zip(&costs) {
        assert_eq!(of(cost), expect, "{name}");
    }
    assert_eq!(costs.len(), expect.len());
    let names = Tiny::new(None).graph.roles().into_iter().map(Role::name);
    assert!(names.eq(expect.map(|(name, _)| name)));
}

#[test]
fn quantised_products_and_matrices_are_counted_apart() {
    let costs = Tiny::new(None).costs(&[(0, 1, Sample::Last)]);
    let all = costs.iter().fold(Cost::default(), |sum, cost| sum + *cost);
    assert_eq!(all.quantised_flops, 2 * (64 * 32 + 128 * 32 + 32 * 64));
    assert_eq!(all.matrix_bytes, 64 * 18 + 32 * 64 + 128 * 34 + 32 * 68 + 12_800);
    assert_eq!(all.bytes(), all.bytes_read + all.bytes_written);
    let half = Cost { flops: 3, bytes_read: 4, bytes_written: 2, ..Cost::default() };
    assert_eq!((half.intensity(), Cost::default().intensity()), (0.5, 0.0));
}

#[test]
fn attention_costs_what_is_seen() {
    let attention = |window, spans: &[_]| of(&Tiny::new(window).costs(spans)[5]);
    let flops = |pairs: u64, tokens: u64| 2 * (pairs * 69 + tokens * 16);
    let bytes = |tokens: u64, cached: u64| tokens * 256 + cached * 64;
    let write = |tokens: u64| tokens * (128 + 64);
    let one = (100, 1, Sample::Last);
    assert_eq!(attention(None, &[one]), [flops(101, 1), bytes(1, 101), write(1)]);
    assert_eq!(attention(Some(8), &[one]), [flops(8, 1), bytes(1, 8), write(1)]);
    let start = (0, 10, Sample::None); // 1 + 2 + 3 + 4 + 6 · 4 positions, of 10
    assert_eq!(attention(Some(4), &[start]), [flops(34, 10), bytes(10, 10), write(10)]);
    let later = (6, 2, Sample::None); // positions 3 to 7
    assert_eq!(attention(Some(4), &[later]), [flops(8, 2), bytes(2, 5), write(2)]);
    let both = attention(None, &[one, (0, 1, Sample::Last)]);
    assert_eq!(both, [flops(102, 2), bytes(2, 102), write(2)], "sequences add up");
}

#[test]
fn what_does_not_run_costs_nothing() {
    let costs = Tiny::new(None).costs(&[(0, 4, Sample::None)]);
    assert_eq!((costs[9], costs[10]), (Cost::default(), Cost::default()), "no logits are wanted");
    assert!(Tiny::new(None).costs(&[]).iter().all(|cost| *cost == Cost::default()));
}

#[test]
fn what_attention_may_add_is_counted() {
    let mut tiny = Tiny::new(None);
    let sinks = Some(tiny.weight(Format::F32, 1, 2));
    let logits = tiny.graph.logits.expect("there are some");
    let Op::Attend(attend) = &mut tiny.graph.ops[5] else { panic!("the sixth attends") };
    (attend.softcap, attend.sinks) = (Some(50.0), sinks);
    tiny.graph.ops.push(Op::Cap { y: logits, cap: 30.0 });
    let costs = tiny.costs(&[(10, 3, Sample::Last)]);
    let plain = Tiny::new(None).costs(&[(10, 3, Sample::Last)]);
    assert_eq!(costs[5].flops - plain[5].flops, 2 * (3 * 36 + 3 * 3));
    assert_eq!(costs[5].bytes_read - plain[5].bytes_read, 2 * 4, "two sinks");
    assert_eq!(of(&costs[11]), [300, 400, 400]);
    assert_eq!(tiny.graph.roles()[11].name(), "cap");
}

/// 8 experts, 2 a token, of width 64 over 32.
#[test]
fn experts_cost_what_is_chosen() {
    let mut tiny = Tiny::new(None);
    let t = &mut tiny;
    let [x, logits, routes] = [32, 8, 4].map(|n| t.buffer(Rows::Tokens, n));
    let mut stack = |rows: usize, cols: usize, biased: bool| Stack {
        w: t.weight(Format::Q8_0, 8 * rows, cols),
        bias: biased.then(|| t.weight(Format::F32, 1, 8 * rows)),
        stride: rows,
        first: 0,
    };
    let (gate, up, down) = (stack(64, 32, true), stack(64, 32, true), stack(32, 64, false));
    let act = Activation::Silu;
    let (experts, used, hidden, x_in) = (8, 2, 64, Input::Plain(x));
    let op = Experts { x: x_in, routes, experts, used, hidden, gate, up, down, act, y: x };
    t.graph.ops = vec![Op::Route { logits, routes, mixing: Mixing::Chosen }, Op::Experts(op)];
    let check = |tokens: u32, distinct: f64| {
        let costs = tiny.costs(&[(0, tokens, Sample::None)]);
        let n = u64::from(tokens);
        assert_eq!(of(&costs[0]), [n * 3 * 8, n * 32, n * 16], "{tokens} routed");
        // Products, biases, gates, shares and sums of a pair; 34 bytes a block of 32.
        let pair = 3 * 2 * 64 * 32 + 2 * 64 + 5 * 64 + 2 * 32;
        let matrices = ((2 * 64 * 34) as f64 * distinct).round() as u64
            + ((32 * 68) as f64 * distinct).round() as u64;
        let biases = (2.0 * 64.0 * 4.0 * distinct).round() as u64;
        let rows = n * (32 + 32 + 4) * 4;
        let cost = costs[1];
        assert_eq!(cost.flops, n * 2 * pair, "{tokens}");
        assert_eq!(cost.quantised_flops, n * 2 * 3 * 2 * 64 * 32);
        assert!(cost.matrix_bytes.abs_diff(matrices) <= 2, "{tokens}: {cost:?}");
        assert!(cost.bytes_read.abs_diff(matrices + biases + rows) <= 4, "{tokens}: {cost:?}");
        assert_eq!(cost.bytes_written, n * 32 * 4);
    };
    check(1, 2.0);
    check(2, 3.5); // the second finds its experts among the first's in a quarter of the cases
    check(1000, 8.0);
    assert!(tiny.costs(&[]).iter().all(|cost| *cost == Cost::default()));
}
