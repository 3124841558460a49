//! How fast every row of the kernel table multiplies and attends, on one thread and out of the
//! cache: billions of multiply-adds per second, the best of many short runs, so that whatever else
//! the machine does costs samples and not accuracy. `cargo bench -p ingle-backend`, and with
//! `-- attention`, or another part of a line, only the lines that have it.
#![allow(clippy::print_stdout, reason = "a table for a person")]

use ingle_backend::cpu::Cpu;
use ingle_backend::cpu::kernels::{KERNELS, Kernels};
use ingle_backend::{
    Attend, BLOCK_TOKENS, Backend, Batch, Buffer, Format, Graph, Input, KvType, Op, Out, Pages,
    Rows, Sample, Span,
};
use std::time::{Duration, Instant};

const SIDE: usize = 1024;
const CONTEXT: usize = 512;
const FORMATS: [Format; 7] = [
    Format::Q4_1,
    Format::Q4_K,
    Format::Q5_0,
    Format::Q6_K,
    Format::Q8_0,
    Format::F16,
    Format::F32,
];

/// The shortest of many runs of a graph over a batch of `tokens`.
fn best(cpu: &mut Cpu, graph: &Graph, start: usize, tokens: usize) -> f64 {
    let blocks = (0..(CONTEXT / BLOCK_TOKENS) as u32).collect();
    let span = Span { start, tokens: vec![1; tokens], blocks, sample: Sample::Last };
    let batch = Batch { spans: vec![span] };
    let (begun, mut best) = (Instant::now(), f64::INFINITY);
    let mut runs = 0;
    while runs < 20 || begun.elapsed() < Duration::from_millis(150) {
        let start = Instant::now();
        let ticket = cpu.submit(graph, &batch);
        cpu.poll(ticket).expect("the CPU computes at once");
        best = best.min(start.elapsed().as_secs_f64());
        runs += 1;
    }
    best
}

fn prepared(cpu: &mut Cpu, ops: Vec<Op>, read: Buffer) -> Graph {
    let graph = Graph { ops, logits: Some(read) };
    let pages = Pages { block_tokens: BLOCK_TOKENS, blocks: CONTEXT / BLOCK_TOKENS };
    cpu.prepare(&graph, pages, &mut |_| {}).expect("memory");
    graph
}

fn product(kernels: &'static Kernels, format: Format, tokens: usize) -> f64 {
    let mut cpu = Cpu::new(kernels, 1);
    let bytes = vec![0x2C; format.row_bytes(SIDE).expect("whole blocks") * SIDE];
    let w = cpu.weight(format, SIDE, SIDE, bytes.into()).expect("memory");
    let [x, y] = [0, 1].map(|_| cpu.alloc(Rows::Tokens, SIDE));
    let outs = vec![Out { w, bias: None, y, add: false }];
    let graph = prepared(&mut cpu, vec![Op::MatMul { x: Input::Plain(x), outs }], y);
    (tokens * SIDE * SIDE) as f64 / best(&mut cpu, &graph, 0, tokens) / 1e9
}

fn attention(
    kernels: &'static Kernels,
    kv: KvType,
    (heads, kv_heads, dim): (usize, usize, usize),
    tokens: usize,
) -> f64 {
    let mut cpu = Cpu::new(kernels, 1).with_kv(kv);
    let [q, y] = [0, 1].map(|_| cpu.alloc(Rows::Tokens, heads * dim));
    let [k, v] = [0, 1].map(|_| cpu.alloc(Rows::Tokens, kv_heads * dim));
    let cache = cpu.cache(kv_heads, dim);
    let op = Op::Attend(Attend {
        q,
        k,
        v,
        y,
        cache,
        heads,
        kv_heads,
        dim,
        scale: 0.1,
        softcap: None,
        sinks: None,
        window: None,
    });
    let graph = prepared(&mut cpu, vec![op], y);
    let start = CONTEXT - tokens;
    let seen: usize = (start + 1..=CONTEXT).sum();
    (2 * seen * heads * dim) as f64 / best(&mut cpu, &graph, start, tokens) / 1e9
}

fn main() {
    let tokens = [1, 2, 4, 8, 64];
    println!("{:<32} {tokens:>8?}", format!("{SIDE} x {SIDE}, Gmac/s by tokens"));
    let part = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let line = |name: String, rate: &dyn Fn(usize) -> f64| {
        if name.contains(&part) {
            let rates = tokens.map(|tokens| format!("{:8.1}", rate(tokens)));
            println!("{name:<32} {}", rates.concat());
        }
    };
    for kernels in KERNELS.iter().filter(|row| row.runs_here() && row.name != "reference") {
        let row = kernels.name;
        for format in FORMATS {
            line(format!("{row:<10} {}", format.name()), &|t| product(kernels, format, t));
        }
        for shape in [(9, 3, 64), (4, 1, 256)] {
            for &kv in KvType::ALL {
                let name = format!("{row:<10} attention {} {shape:?}", kv.name());
                line(name, &|t| attention(kernels, kv, shape, t));
            }
        }
    }
}
