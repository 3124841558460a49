//! How fast every row of the kernel table multiplies and attends, on one thread and out of the
//! cache: billions of multiply-adds per second, the best of many short runs, so that whatever else
//! the machine does costs samples and not accuracy. Then how fast the best row takes one token
//! through a matrix that no cache holds, by threads: GB per second of the packed weights.
//! `cargo bench -p ingle-backend`, and with `-- attention`, or another part of a line, only the
//! lines that have it.
#![allow(clippy::print_stdout, reason = "a table for a person")]

use ingle_backend::cpu::kernels::{KERNELS, Kernels};
use ingle_backend::cpu::{Cpu, machine};
use ingle_backend::{
    Attend, BLOCK_TOKENS, Backend, Batch, Buffer, Format, Graph, Input, KvType, Op, Out, Pages,
    Rows, Sample, Span,
};
use std::time::{Duration, Instant};

const SIDE: usize = 1024;
/// Rows and columns of a matrix that no cache holds.
const LARGE: (usize, usize) = (16384, 8192);
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
    let span =
        Span { start, tokens: vec![1; tokens], blocks, sample: Sample::Last, ..Span::default() };
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

/// Seconds that a product takes, and bytes of the packed matrix.
fn multiplied(cpu: &mut Cpu, format: Format, shape: (usize, usize), tokens: usize) -> (f64, usize) {
    let (rows, cols) = shape;
    let bytes = vec![0x2C; format.row_bytes(cols).expect("whole blocks") * rows];
    let w = cpu.weight(format, rows, cols, bytes.into()).expect("memory");
    let [x, y] = [cols, rows].map(|width| cpu.alloc(Rows::Tokens, width));
    let outs = vec![Out { w, bias: None, y, add: false }];
    let graph = prepared(cpu, vec![Op::MatMul { x: Input::Plain(x), outs }], y);
    (best(cpu, &graph, 0, tokens), cpu.shapes().weights[0].held)
}

fn product(kernels: &'static Kernels, format: Format, tokens: usize) -> f64 {
    let (seconds, _) = multiplied(&mut Cpu::new(kernels, 1), format, (SIDE, SIDE), tokens);
    (tokens * SIDE * SIDE) as f64 / seconds / 1e9
}

fn streamed(format: Format, threads: usize) -> f64 {
    let (seconds, bytes) = multiplied(&mut Cpu::new(Kernels::best(), threads), format, LARGE, 1);
    bytes as f64 / seconds / 1e9
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
        causal: true,
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

/// A line, if it is asked for, of the rates by what is varied.
fn line(name: &str, by: &[usize], rate: &dyn Fn(usize) -> f64) {
    let part = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    if name.contains(&part) {
        let rates: String = by.iter().map(|&by| format!("{:8.1}", rate(by))).collect();
        println!("{name:<32} {rates}");
    }
}

fn main() {
    let tokens = [1, 2, 4, 8, 64];
    println!("{:<32} {tokens:>8?}", format!("{SIDE} x {SIDE}, Gmac/s by tokens"));
    let line_of = |name: String, rate: &dyn Fn(usize) -> f64| line(&name, &tokens, rate);
    for kernels in KERNELS.iter().filter(|row| row.runs_here() && row.name != "reference") {
        let row = kernels.name;
        for format in FORMATS {
            line_of(format!("{row:<10} {}", format.name()), &|t| product(kernels, format, t));
        }
        for shape in [(9, 3, 64), (4, 1, 256)] {
            for &kv in KvType::ALL {
                let name = format!("{row:<10} attention {} {shape:?}", kv.name());
                line_of(name, &|t| attention(kernels, kv, shape, t));
            }
        }
    }
    let threads = [1, std::thread::available_parallelism().map_or(1, usize::from)];
    println!("{:<32} {threads:>8?}", format!("{} x {}, GB/s by threads", LARGE.0, LARGE.1));
    line("memory     read", &threads, &|threads| machine::read_bandwidth(threads) / 1e9);
    for format in FORMATS {
        let name = format!("memory     {}", format.name());
        line(&name, &threads, &|threads| streamed(format, threads));
    }
}
