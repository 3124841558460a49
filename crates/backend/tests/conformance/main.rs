//! One suite of op tests, run on every row of the kernel table that this machine has, against the
//! reference row and against each other.

mod adapters;
mod attention;
mod encoders;
mod experts;

use attention::{Heads, attention};
use ingle_backend::cpu::Cpu;
use ingle_backend::cpu::kernels::{KERNELS, Kernels};
use ingle_backend::{
    Activation, BLOCK_TOKENS, Backend, Batch, Buffer, Bytes, Format, Graph, Input, KvType, Op, Out,
    Pages, Rows, Sample, Span, Weight,
};

const VOCABULARY: usize = 64;
const PAGES: Pages = Pages { block_tokens: BLOCK_TOKENS, blocks: 64 };

/// Xorshift: the same numbers on every machine.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    /// -1 to 1, with now and then an outlier, as activations have them.
    fn float(&mut self) -> f32 {
        let v = (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0;
        if self.next().is_multiple_of(50) { 20.0 * v } else { v }
    }
}

fn floats(rng: &mut Rng, count: usize) -> Bytes {
    let bytes: Vec<u8> = (0..count).flat_map(|_| rng.float().to_le_bytes()).collect();
    bytes.into()
}

/// Random blocks whose scales are small finite numbers, whatever byte they stand at.
fn blocks(rng: &mut Rng, format: Format, rows: usize, cols: usize) -> Bytes {
    let len = format.row_bytes(cols).expect("whole blocks") * rows;
    if format.block_len() == 1 {
        let value = |v: f32| match format {
            Format::F16 => half::f16::from_f32(v).to_le_bytes().to_vec(),
            Format::BF16 => half::bf16::from_f32(v).to_le_bytes().to_vec(),
            _ => v.to_le_bytes().to_vec(),
        };
        let bytes: Vec<u8> = (0..rows * cols).flat_map(|_| value(rng.float())).collect();
        return bytes.into();
    }
    let bytes = (0..len).map(|_| rng.next() as u8).collect();
    finite(rng, format, bytes)
}

/// Blocks of these bytes, but with small finite numbers for scales.
fn finite(rng: &mut Rng, format: Format, mut bytes: Vec<u8>) -> Bytes {
    let at: &[usize] = match format {
        Format::Q4_1 | Format::Q5_1 | Format::Q4_K | Format::Q5_K => &[0, 2],
        Format::Q2_K => &[80, 82],
        Format::Q3_K => &[108],
        Format::Q6_K => &[208],
        _ => &[0],
    };
    for block in bytes.chunks_exact_mut(format.block_bytes()) {
        if format == Format::MXFP4 {
            block[0] = 118 + block[0] % 8;
            continue;
        }
        for &at in at {
            let scale = half::f16::from_f32(0.01 + 0.02 * (rng.float() / 20.0).abs());
            block[at..at + 2].copy_from_slice(&scale.to_le_bytes());
        }
    }
    bytes.into()
}

/// A backend with tokens' rows `x` of width `cols`, to which a test adds ops.
struct Bench {
    cpu: Cpu,
    graph: Graph,
    rng: Rng,
}

impl Bench {
    fn new(kernels: &'static Kernels, threads: usize) -> Self {
        Self::keeping(KvType::F32, kernels, threads)
    }

    /// With caches of a type.
    fn keeping(kv: KvType, kernels: &'static Kernels, threads: usize) -> Self {
        let cpu = Cpu::new(kernels, threads).with_kv(kv);
        Self { cpu, graph: Graph::default(), rng: Rng(0x9E37_79B9) }
    }

    fn weight(&mut self, format: Format, rows: usize, cols: usize) -> Weight {
        let bytes = blocks(&mut self.rng, format, rows, cols);
        self.cpu.weight(format, rows, cols, bytes).expect("memory")
    }

    fn vector(&mut self, cols: usize) -> Weight {
        let bytes = floats(&mut self.rng, cols);
        self.cpu.weight(Format::F32, 1, cols, bytes).expect("memory")
    }

    /// A buffer filled from a random table by the tokens.
    fn embedded(&mut self, cols: usize) -> Buffer {
        let table = self.weight(Format::F32, VOCABULARY, cols);
        let y = self.cpu.alloc(Rows::Tokens, cols);
        self.graph.ops.push(Op::Embed { table, y, scale: 0.5 });
        y
    }

    fn prepare(&mut self, read: Buffer) {
        self.graph.logits = Some(read);
        self.cpu.prepare(&self.graph, PAGES, &mut |_| {}).expect("memory");
    }

    fn run(&mut self, spans: &[Span]) -> Vec<f32> {
        let ticket = self.cpu.submit(&self.graph, &Batch { spans: spans.to_vec() });
        self.cpu.poll(ticket).expect("the CPU computes at once").to_vec()
    }
}

fn span(start: usize, tokens: std::ops::Range<usize>, blocks: &[u32]) -> Span {
    let tokens = tokens.map(|t| (t * 7 % VOCABULARY) as u32).collect();
    Span { start, tokens, blocks: blocks.to_vec(), sample: Sample::All, ..Span::default() }
}

fn rows() -> impl Iterator<Item = &'static Kernels> {
    KERNELS.iter().filter(|row| row.runs_here())
}

/// The largest difference, relative to the largest value.
fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let most = b.iter().fold(0.0f32, |most, v| most.max(v.abs()));
    let apart = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    apart.fold(0.0f32, |most, v| if v.is_nan() { f32::INFINITY } else { most.max(v) }) / most
}

/// The blocks of the long sequence.
const LONG: &[u32] = &[
    3, 1, 5, 2, 9, 60, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38,
    39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50,
];

/// Where the long sequence is cut.
const CUTS: &[usize] = &[0, 16, 17, 40, 70];

/// Holds what `build` computes to the reference within `tolerance`, and all other rows, thread
/// counts and batch compositions to each other bit for bit.
fn conforms(name: &str, tolerance: f32, build: impl Fn(&mut Bench) -> Buffer) {
    conforms_over(KvType::F32, CUTS, name, tolerance, build);
}

/// The same, with caches of a type, over a long sequence that is also computed in parts, cut at
/// these positions.
fn conforms_over(
    kv: KvType,
    cuts: &[usize],
    name: &str,
    tolerance: f32,
    build: impl Fn(&mut Bench) -> Buffer,
) {
    let long = cuts.last().copied().unwrap_or_default();
    let whole = [span(0, 0..long, LONG), span(0, 9..10, &[11]), span(0, 5..9, &[12])];
    let mut outcomes: Vec<(String, Vec<f32>)> = Vec::new();
    for kernels in rows() {
        for threads in [1, 3] {
            let mut bench = Bench::keeping(kv, kernels, threads);
            let read = build(&mut bench);
            bench.prepare(read);
            let together = bench.run(&whole);
            let parts = cuts.windows(2).map(|cut| span(cut[0], cut[0]..cut[1], LONG));
            let mut chunked = Vec::new();
            for part in parts.chain(whole[1..].iter().cloned()) {
                chunked.extend(bench.run(&[part]));
            }
            let label = format!("{name} on {} with {threads}", kernels.name);
            assert!(together == chunked, "{label}: chunked differs from whole");
            outcomes.push((label, together));
        }
    }
    let (_, reference) = outcomes.last().expect("the reference runs everywhere").clone();
    for (label, outcome) in &outcomes {
        let apart = distance(outcome, &reference);
        assert!(apart <= tolerance, "{label}: {apart} from the reference");
    }
    for pair in outcomes[..outcomes.len() - 2].windows(2) {
        assert!(pair[0].1 == pair[1].1, "{} and {} differ", pair[0].0, pair[1].0);
    }
}

/// A quantised activation is off by at most half a step, 1.5e-5 of its block's largest; the largest
/// is an outlier in these data, so that a sum of hundreds may be off by several such steps.
const PRODUCT: f32 = 1e-4;
/// The same of one byte, whose steps are 256 times as wide.
const BYTES: f32 = 256.0 * PRODUCT;
/// Rounding of f32 sums.
const FLOATS: f32 = 2e-6;

fn product(bench: &mut Bench, format: Format, rows: usize, cols: usize) -> Buffer {
    let x = bench.embedded(cols);
    let w = bench.weight(format, rows, cols);
    let y = bench.cpu.alloc(Rows::Tokens, rows);
    let out = Out { w, bias: None, y, add: false };
    bench.graph.ops.push(Op::MatMul { x: Input::Plain(x), outs: vec![out] });
    y
}

#[test]
fn every_format_multiplies() {
    for &format in Format::ALL {
        conforms(format.name(), PRODUCT, |bench| product(bench, format, 40, 512));
    }
}

#[test]
fn steps_of_any_number_of_rows_multiply() {
    let cuts = [0, 1, 3, 6, 10, 15, 21, 28, 37, 101];
    for format in [Format::Q4_1, Format::Q5_0, Format::Q6_K, Format::Q8_0, Format::F16] {
        let name = format!("{format:?} by all steps");
        conforms_over(KvType::F32, &cuts, &name, PRODUCT, |bench| product(bench, format, 40, 256));
    }
}

/// Activations of 8 bits, for weights that can do with them; all others take 16 as ever.
#[test]
fn bytes_of_activations_multiply() {
    let cuts = [0, 1, 3, 6, 10, 15, 21, 28, 37, 101];
    for (format, tolerance) in [(Format::Q8_0, BYTES), (Format::Q4_K, PRODUCT)] {
        let name = format!("{format:?} by bytes");
        conforms_over(KvType::F32, &cuts, &name, tolerance, |bench| {
            bench.cpu = Cpu::new(bench.cpu.kernels(), bench.cpu.threads()).with_bytes();
            product(bench, format, 40, 256)
        });
    }
}

/// Largest weights times activations with the largest high or low bytes: sums of the narrowest
/// kind just fit.
#[test]
fn the_largest_products_fit() {
    let quantised = Format::ALL.iter().filter(|format| format.block_len() > 1);
    for (&format, low) in quantised.flat_map(|format| [(format, false), (format, true)]) {
        conforms(&format!("largest {format:?}"), PRODUCT, |bench| {
            let cols = 256;
            let most = 127.0f32 * 256.0;
            // 126.5 · 256 has -128 for its low byte.
            let other = if low { most - 128.0 } else { most };
            let value = |i: usize| if i.is_multiple_of(32) { most } else { other };
            let row = |token: usize| {
                let sign = if token.is_multiple_of(2) { 1.0 } else { -1.0 };
                (0..cols).flat_map(move |i| (sign * value(i)).to_le_bytes())
            };
            let bytes: Vec<u8> = (0..VOCABULARY).flat_map(row).collect();
            let table = bench.cpu.weight(Format::F32, VOCABULARY, cols, bytes.into());
            let x = bench.cpu.alloc(Rows::Tokens, cols);
            let table = table.expect("memory");
            bench.graph.ops.push(Op::Embed { table, y: x, scale: 1.0 });
            let len = format.row_bytes(cols).expect("whole blocks") * 32;
            let bytes = finite(&mut bench.rng, format, vec![0xFF; len]);
            let w = bench.cpu.weight(format, 32, cols, bytes).expect("memory");
            let y = bench.cpu.alloc(Rows::Tokens, 32);
            let outs = vec![Out { w, bias: None, y, add: false }];
            bench.graph.ops.push(Op::MatMul { x: Input::Plain(x), outs });
            y
        });
    }
}

#[test]
fn odd_shapes_multiply() {
    conforms("one block", PRODUCT, |bench| product(bench, Format::Q4_1, 3, 32));
    conforms("narrow floats", FLOATS, |bench| product(bench, Format::F16, 5, 16));
    conforms("wide", PRODUCT, |bench| product(bench, Format::Q8_0, 1000, 96));
}

#[test]
fn products_share_inputs_add_and_bias() {
    for act in [Activation::Silu, Activation::GeluTanh, Activation::ClampedSwiglu] {
        conforms("a gated block", PRODUCT, |bench| {
            let (x, gain) = (bench.embedded(64), bench.vector(64));
            let ws = [Format::Q4_1, Format::Q8_0].map(|format| bench.weight(format, 96, 64));
            let [gate, up] = [0, 1].map(|_| bench.cpu.alloc(Rows::Tokens, 96));
            let bias = Some(bench.vector(96));
            let outs = vec![
                Out { w: ws[0], bias, y: gate, add: false },
                Out { w: ws[1], bias: None, y: up, add: false },
            ];
            let down = bench.weight(Format::Q5_0, 64, 96);
            let back = Out { w: down, bias: None, y: x, add: true };
            bench.graph.ops.extend([
                Op::MatMul { x: Input::Normed { x, gain, eps: 1e-5 }, outs },
                Op::MatMul { x: Input::Gated { gate, up, act }, outs: vec![back] },
            ]);
            x
        });
    }
}

/// Integers for one of the matrices and floats for the other, made of the same rows.
#[test]
fn quantised_and_float_matrices_share_inputs() {
    for formats in [[Format::Q8_0, Format::F16], [Format::F32, Format::Q4_K]] {
        conforms("mixed", PRODUCT, |bench| {
            let (x, gain) = (bench.embedded(256), bench.vector(256));
            let ws = formats.map(|format| bench.weight(format, 40, 256));
            let [other, read] = [0, 1].map(|_| bench.cpu.alloc(Rows::Tokens, 40));
            let outs = [(ws[0], other), (ws[1], read)];
            let outs = outs.map(|(w, y)| Out { w, bias: None, y, add: false }).to_vec();
            let input = Input::Normed { x, gain, eps: 1e-5 };
            bench.graph.ops.push(Op::MatMul { x: input, outs });
            read
        });
    }
}

#[test]
fn norms_scale_whole_rows_and_heads_in_place_and_added() {
    conforms("norms", FLOATS, |bench| {
        let (x, y) = (bench.embedded(72), bench.embedded(72));
        let (row, head) = (bench.vector(72), bench.vector(24));
        bench.graph.ops.extend([
            Op::Norm { x, gain: row, y: x, eps: 1e-6, add: false },
            Op::Norm { x, gain: head, y, eps: 1e-6, add: true },
        ]);
        y
    });
}

/// 40 thousand elements, so that a row is more than one part, and no multiple of 16.
#[test]
fn elements_are_capped() {
    for (width, cap) in [(8, 30.0), (40_003, 0.5)] {
        conforms("capped", FLOATS, |bench| {
            let y = bench.embedded(width);
            bench.graph.ops.push(Op::Cap { y, cap });
            y
        });
    }
}

#[test]
fn only_samples_are_gathered() {
    for kernels in rows() {
        let mut bench = Bench::new(kernels, 2);
        let x = bench.embedded(8);
        let y = bench.cpu.alloc(Rows::Samples, 8);
        bench.graph.ops.push(Op::Gather { x, y });
        bench.prepare(y);
        let all = bench.run(&[span(0, 0..5, &[0])]);
        let mut last = span(0, 0..5, &[0]);
        last.sample = Sample::Last;
        let mut none = last.clone();
        none.sample = Sample::None;
        assert_eq!(bench.run(&[none, last]), all[32..], "on {}", kernels.name);
    }
}

#[test]
fn weights_of_the_wrong_size_are_refused() {
    let mut cpu = Cpu::new(Kernels::best(), 1);
    for (rows, cols, bytes) in [(2, 32, 39), (2, 33, 40), (0, 32, 0), (usize::MAX, 32, 20)] {
        let refused = cpu.weight(Format::Q4_1, rows, cols, vec![0; bytes].into());
        assert!(refused.is_err(), "{rows} rows of {cols} in {bytes} bytes");
    }
}

#[test]
fn a_profiled_step_computes_what_a_plain_one_does() {
    for threads in [1, 3] {
        let make = || {
            let mut bench = Bench::new(Kernels::best(), threads);
            let x = Input::Plain(attention(&mut bench, &Heads::of(4, 2, 16)).y);
            let w = bench.weight(Format::Q8_0, 32, 64);
            let y = bench.cpu.alloc(Rows::Tokens, 32);
            bench
                .graph
                .ops
                .push(Op::MatMul { x, outs: vec![Out { w, bias: None, y, add: false }] });
            bench.prepare(y);
            bench
        };
        let (first, second) = (span(0, 0..40, LONG), span(40, 40..41, LONG));
        let (mut plain, mut profiled) = (make(), make());
        plain.run(std::slice::from_ref(&first));
        let times = profiled.cpu.profile(&profiled.graph, &Batch { spans: vec![first] });
        assert_eq!(times.len(), plain.graph.ops.len());
        assert!(times.iter().all(|time| 0.0 <= time.waiting && time.waiting <= time.seconds));
        let barriers: Vec<usize> = times.iter().rev().map(|time| time.barriers).take(3).collect();
        assert_eq!(barriers, [1, 1, 0], "product, attention, rope");
        assert!(plain.run(std::slice::from_ref(&second)) == profiled.run(&[second]));
    }
}

#[test]
fn shapes_are_told_as_given() {
    let mut bench = Bench::new(Kernels::best(), 1);
    let x = bench.embedded(40);
    let (whole, odd) = (bench.weight(Format::Q8_0, 3, 64), bench.weight(Format::F16, 2, 40));
    let y = bench.cpu.alloc(Rows::Samples, 2);
    let outs = vec![Out { w: odd, bias: None, y, add: false }];
    bench.graph.ops.push(Op::MatMul { x: Input::Plain(x), outs });
    let shapes = bench.cpu.shapes();
    assert_eq!(shapes.buffers, [(Rows::Tokens, 40), (Rows::Samples, 2)]);
    let told = [whole, odd].map(|w| {
        let w = shapes.weight(w);
        (w.format, w.rows, w.cols, w.bytes, w.held)
    });
    assert_eq!(told, [(Format::Q8_0, 3, 64, 204, 204), (Format::F16, 2, 40, 160, 160)]);
}
