//! Mixtures of experts: whole groups and ragged ones, stored apart and as one, few and many tokens
//! an expert.

use super::*;
use ingle_backend::{Experts, Mixing, Stack};

/// Two products, one upon the other.
const MIXED: f32 = 2.0 * PRODUCT;

/// What a mixture is made of.
#[derive(Clone, Copy, Debug)]
struct Mixture {
    formats: [Format; 2],
    experts: usize,
    used: usize,
    /// Of what is read, within an expert, of the sum.
    widths: [usize; 3],
    /// Whether gate and up are stored as one.
    fused: bool,
    biased: bool,
    mixing: Mixing,
    act: Activation,
}

const PLAIN: Mixture = Mixture {
    formats: [Format::Q4_1, Format::Q8_0],
    experts: 7,
    used: 3,
    widths: [64, 96, 64],
    fused: false,
    biased: false,
    mixing: Mixing::Chosen,
    act: Activation::Silu,
};

impl Mixture {
    fn stack(&self, bench: &mut Bench, format: Format, stride: usize, cols: usize) -> Stack {
        let rows = self.experts * stride;
        let w = bench.weight(format, rows, cols);
        let bias = self.biased.then(|| bench.vector(rows));
        Stack { w, bias, stride, first: 0 }
    }

    /// The op, with the given buffer of logits.
    fn record(&self, bench: &mut Bench, logits: Buffer) -> (Buffer, Experts) {
        let [cols, hidden, width] = self.widths;
        let (x, y, gain) = (bench.embedded(cols), bench.embedded(width), bench.vector(cols));
        let routes = bench.cpu.alloc(Rows::Tokens, 2 * self.used);
        let gate =
            self.stack(bench, self.formats[0], if self.fused { 2 } else { 1 } * hidden, cols);
        let up = match self.fused {
            true => Stack { first: hidden, ..gate },
            false => self.stack(bench, self.formats[0], hidden, cols),
        };
        let down = self.stack(bench, self.formats[1], width, hidden);
        let x = Input::Normed { x, gain, eps: 1e-6 };
        let Self { experts, used, act, .. } = *self;
        let op = Experts { x, routes, experts, used, hidden, gate, up, down, act, y };
        bench.graph.ops.push(Op::Route { logits, routes, mixing: self.mixing });
        bench.graph.ops.push(Op::Experts(op));
        (y, op)
    }

    fn build(&self, bench: &mut Bench) -> Buffer {
        let logits = bench.embedded(self.experts);
        self.record(bench, logits).0
    }
}

#[test]
fn experts_multiply_what_they_are_sent() {
    let floats = [Format::F32, Format::F16];
    let clamped = Activation::ClampedSwiglu;
    let mxfp4 = [Format::MXFP4, Format::MXFP4];
    for (tolerance, mixture) in [
        (MIXED, PLAIN),
        (MIXED, Mixture { fused: true, biased: true, act: clamped, formats: mxfp4, ..PLAIN }),
        (MIXED, Mixture { widths: [512, 256, 40], formats: [Format::Q4_K; 2], ..PLAIN }),
        // Experts of 24 rows share groups of 16, and their columns are no whole blocks.
        (1e-5, Mixture { widths: [20, 24, 9], formats: floats, biased: true, ..PLAIN }),
        (1e-5, Mixture { widths: [16, 40, 33], formats: floats, fused: true, ..PLAIN }),
        // Columns that no packed layout has.
        (MIXED, Mixture { widths: [64, 80, 64], formats: [Format::Q8_0, Format::F16], ..PLAIN }),
        // More tokens an expert than a part takes.
        (MIXED, Mixture { experts: 2, used: 2, mixing: Mixing::All, ..PLAIN }),
        (MIXED, Mixture { experts: 1, used: 1, ..PLAIN }),
        (MIXED, Mixture { experts: 40, used: 5, mixing: Mixing::All, ..PLAIN }),
    ] {
        conforms(&format!("{mixture:?}"), tolerance, |bench| mixture.build(bench));
    }
}

/// The sum of experts is what products of each, recorded one by one, add up to.
#[test]
fn an_expert_is_the_products_that_it_is_made_of() {
    let reference = Kernels::named("reference").expect("runs everywhere");
    let [cols, hidden, width] = [32, 48, 24];
    let widths = [cols, hidden, width];
    let one = Mixture { widths, formats: [Format::F32; 2], experts: 1, used: 1, ..PLAIN };
    let mut bench = Bench::new(reference, 1);
    let logits = bench.embedded(1);
    let (y, op) = one.record(&mut bench, logits);
    bench.prepare(y);
    let mixed = bench.run(&[span(0, 0..9, &[0])]);
    let [gate, up] = [0, 1].map(|_| bench.cpu.alloc(Rows::Tokens, hidden));
    let out = |stack: Stack, y, add| Out { w: stack.w, bias: None, y, add };
    let gated = Input::Gated { gate, up, act: op.act };
    bench.graph.ops.truncate(bench.graph.ops.len() - 2);
    bench.graph.ops.extend([
        Op::MatMul { x: op.x, outs: vec![out(op.gate, gate, false), out(op.up, up, false)] },
        Op::MatMul { x: gated, outs: vec![out(op.down, y, true)] },
    ]);
    bench.prepare(y);
    assert!(distance(&bench.run(&[span(0, 0..9, &[0])]), &mixed) <= FLOATS);
}

/// What nobody chose may hold anything: it is not read.
#[test]
fn only_chosen_experts_are_read() {
    for kernels in rows() {
        let mut bench = Bench::new(kernels, 2);
        let mixture = Mixture { formats: [Format::F32; 2], ..PLAIN };
        // Every token likes the experts in their order, so that 3 to 6 are never chosen.
        let table: Vec<u8> =
            (0..VOCABULARY * 7).flat_map(|i| (-((i % 7) as f32)).to_le_bytes()).collect();
        let table = bench.cpu.weight(Format::F32, VOCABULARY, 7, table.into()).expect("memory");
        let logits = bench.cpu.alloc(Rows::Tokens, 7);
        bench.graph.ops.push(Op::Embed { table, y: logits, scale: 1.0 });
        let (y, op) = mixture.record(&mut bench, logits);
        let spoilt = |bench: &mut Bench, stack: Stack, cols: usize, from: usize| {
            let value = |row: usize| if row / stack.stride < from { 0.01 } else { f32::NAN };
            let rows = 7 * stack.stride;
            let bytes: Vec<u8> =
                (0..rows * cols).flat_map(|i| value(i / cols).to_le_bytes()).collect();
            let w = bench.cpu.weight(Format::F32, rows, cols, bytes.into()).expect("memory");
            Stack { w, ..stack }
        };
        let last = bench.graph.ops.len() - 1;
        for (from, sound) in [(3, true), (2, false)] {
            let [gate, up] = [op.gate, op.up].map(|stack| spoilt(&mut bench, stack, 64, from));
            let down = spoilt(&mut bench, op.down, 96, from);
            bench.graph.ops[last] = Op::Experts(Experts { gate, up, down, ..op });
            bench.prepare(y);
            let sum = bench.run(&[span(0, 0..9, &[0])]);
            assert_eq!(sum.iter().all(|v| v.is_finite()), sound, "{from} on {}", kernels.name);
        }
    }
}
