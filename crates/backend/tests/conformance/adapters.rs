//! Adapters: what they add is what merged weights would hold, and a row has the same bits whatever
//! adapters the others have.

use super::{
    Activation, Bench, Buffer, FLOATS, Format, Input, Kernels, Op, Out, PRODUCT, Rng, Rows, Span,
    Weight, distance, rows, span,
};
use ingle_backend::{Adapter, Applied, Backend, Delta, Refusal};

/// A matrix's number, rows and columns.
type Shape = (Weight, usize, usize);

/// Random deltas of these matrices.
fn deltas(rng: &mut Rng, of: &[Shape], rank: usize) -> Vec<Delta> {
    let delta = |&(w, rows, cols): &Shape| {
        let mut floats = |count: usize| (0..count).map(|_| 0.3 * rng.float()).collect();
        Delta { w, rank, a: floats(rank * cols), b: floats(rows * rank) }
    };
    of.iter().map(delta).collect()
}

/// Gated, added to the residual stream, and a product of samples: every kind of input, and outputs
/// that share one. Widths are no multiples of 16.
fn block(bench: &mut Bench, formats: [Format; 4]) -> (Buffer, Vec<Shape>) {
    let (width, hidden, last) = (64, 96, 40);
    let (x, gain) = (bench.embedded(width), bench.vector(width));
    let shapes = [(hidden, width), (hidden, width), (width, hidden), (last, width)];
    let ws: Vec<Shape> = std::iter::zip(formats, shapes)
        .map(|(format, (rows, cols))| (bench.weight(format, rows, cols), rows, cols))
        .collect();
    let [gate, up] = [0, 1].map(|_| bench.cpu.alloc(Rows::Tokens, hidden));
    let [sampled, y] = [width, last].map(|width| bench.cpu.alloc(Rows::Samples, width));
    let bias = Some(bench.vector(hidden));
    let out = |at: usize, y, add| Out { w: ws[at].0, bias: None, y, add };
    let outs = vec![Out { bias, ..out(0, gate, false) }, out(1, up, false)];
    let act = Activation::Silu;
    bench.graph.ops.extend([
        Op::MatMul { x: Input::Normed { x, gain, eps: 1e-5 }, outs },
        Op::MatMul { x: Input::Gated { gate, up, act }, outs: vec![out(2, x, true)] },
        Op::Gather { x, y: sampled },
        Op::MatMul { x: Input::Plain(sampled), outs: vec![out(3, y, false)] },
    ]);
    (y, ws)
}

/// A bench with a block and eight adapters, of which some leave matrices out.
fn adapted(kernels: &'static Kernels, threads: usize) -> (Bench, Vec<Adapter>) {
    let mut bench = Bench::new(kernels, threads);
    let formats = [Format::Q4_1, Format::F16, Format::Q8_0, Format::Q5_0];
    let (read, ws) = block(&mut bench, formats);
    bench.prepare(read);
    let take = |at: usize| {
        let own = [&ws[..], &ws[..2], &ws[2..]][at % 3];
        let deltas = deltas(&mut bench.rng, own, [1, 3, 8, 16, 17, 33, 4, 5][at]);
        bench.cpu.adapt(&deltas).expect("memory")
    };
    let adapters = (0..8).map(take).collect();
    (bench, adapters)
}

fn applied(adapter: Adapter, scale: f32) -> Applied {
    Applied { adapter, scale }
}

/// One span with none, eight with one, and one with two; of many rows and of one.
fn mixed(adapters: &[Adapter]) -> Vec<Span> {
    let own = |at: usize| match at {
        0 => vec![],
        9 => vec![applied(adapters[4], 0.5), applied(adapters[1], -2.0)],
        _ => vec![applied(adapters[at - 1], 1.0 / at as f32)],
    };
    let tokens = |at: usize| at..at + [1, 70, 3, 16, 5, 2, 33, 1, 9, 4][at];
    (0..10).map(|at| Span { adapters: own(at), ..span(0, tokens(at), &[at as u32]) }).collect()
}

#[test]
fn a_batch_of_eight_adapters_has_the_bits_of_each_alone() {
    let mut outcomes: Vec<(String, Vec<f32>)> = Vec::new();
    for kernels in rows() {
        for threads in [1, 3] {
            let (mut bench, adapters) = adapted(kernels, threads);
            let spans = mixed(&adapters);
            let together = bench.run(&spans);
            let alone: Vec<f32> =
                spans.iter().flat_map(|span| bench.run(std::slice::from_ref(span))).collect();
            let label = format!("{} with {threads}", kernels.name);
            assert!(together == alone, "{label}: the others make a difference");
            let one_by_one = spans.iter().flat_map(|span| {
                let token = |token: &u32| Span { tokens: vec![*token], ..span.clone() };
                span.tokens.iter().map(token).collect::<Vec<_>>()
            });
            let one_by_one: Vec<f32> = one_by_one.flat_map(|one| bench.run(&[one])).collect();
            assert!(together == one_by_one, "{label}: the rows make a difference");
            outcomes.push((label, together));
        }
    }
    let (_, reference) = outcomes.last().expect("the reference runs everywhere").clone();
    for (label, outcome) in &outcomes {
        let apart = distance(outcome, &reference);
        assert!(apart <= PRODUCT, "{label}: {apart} from the reference");
    }
    for pair in outcomes[..outcomes.len() - 2].windows(2) {
        assert!(pair[0].1 == pair[1].1, "{} and {} differ", pair[0].0, pair[1].0);
    }
}

#[test]
fn rows_without_an_adapter_are_as_if_there_were_none() {
    for kernels in rows() {
        let (mut bench, adapters) = adapted(kernels, 2);
        let plain: Vec<Span> = mixed(&adapters)
            .into_iter()
            .map(|span| Span { adapters: Vec::new(), ..span })
            .collect();
        let before = bench.run(&plain);
        let mut some = plain.clone();
        some[1].adapters = vec![applied(adapters[0], 1.0)];
        let after = bench.run(&some);
        let own = 40..40 * 71;
        assert!(before[..own.start] == after[..own.start] && before[own.end..] == after[own.end..]);
        assert!(before[own.clone()] != after[own], "{}: nothing was added", kernels.name);
        // Held or not, and scaled to nothing: the same.
        some[1].adapters = vec![applied(adapters[0], 0.0)];
        assert!(bench.run(&some) == before, "{}: nothing times something", kernels.name);
        adapters.into_iter().for_each(|adapter| bench.cpu.release(adapter));
        assert!(bench.run(&plain) == before);
    }
}

/// What multiplies in a test: the matrix, the matrix with its delta, or both merged by hand.
#[derive(Clone, Copy, PartialEq)]
enum By {
    Plain,
    Adapted,
    Merged,
}

/// The product of a matrix of 40 rows of 64.
fn product(
    kernels: &'static Kernels,
    format: Format,
    (rank, scale): (usize, f32),
    by: By,
) -> Vec<f32> {
    let (rows, cols) = (40, 64);
    let mut bench = Bench::new(kernels, 2);
    let x = bench.embedded(cols);
    let bytes = super::blocks(&mut bench.rng, format, rows, cols);
    let mut merged = vec![0.0; rows * cols];
    format.unpack(&bytes, &mut merged);
    let mut w = bench.cpu.weight(format, rows, cols, bytes).expect("memory");
    let delta = deltas(&mut bench.rng, &[(w, rows, cols)], rank).remove(0);
    for (at, w) in merged.iter_mut().enumerate() {
        let (row, col) = (at / cols, at % cols);
        let term =
            |k: usize| f64::from(delta.b[row * rank + k]) * f64::from(delta.a[k * cols + col]);
        let added = (0..rank).map(term).sum::<f64>() * f64::from(scale);
        *w = (f64::from(*w) + added) as f32;
    }
    if by == By::Merged {
        let bytes: Vec<u8> = merged.iter().flat_map(|w| w.to_le_bytes()).collect();
        w = bench.cpu.weight(Format::F32, rows, cols, bytes.into()).expect("memory");
    }
    let y = bench.cpu.alloc(Rows::Tokens, rows);
    let outs = vec![Out { w, bias: None, y, add: false }];
    bench.graph.ops.push(Op::MatMul { x: Input::Plain(x), outs });
    bench.prepare(y);
    let adapter = bench.cpu.adapt(&[delta]).expect("memory");
    let adapters = if by == By::Adapted { vec![applied(adapter, scale)] } else { vec![] };
    bench.run(&[Span { adapters, ..span(0, 0..21, &[0, 1]) }])
}

#[test]
fn adapters_add_what_merged_weights_hold() {
    let check = |format: Format, rank: usize, scale: f32, tolerance: f32| {
        for kernels in rows() {
            let by = |by| product(kernels, format, (rank, scale), by);
            let (with, merged) = (by(By::Adapted), by(By::Merged));
            let apart = distance(&with, &merged);
            let label = format!("{} of rank {rank} on {}", format.name(), kernels.name);
            assert!(apart <= tolerance, "{label}: {apart}");
            assert!(distance(&by(By::Plain), &merged) > 0.01, "{label}: the delta is nothing");
        }
    };
    for rank in [1, 8, 20] {
        check(Format::F32, rank, 0.75, 2.0 * FLOATS);
        check(Format::BF16, rank, -1.5, 2.0 * FLOATS);
        check(Format::Q8_0, rank, 2.0, PRODUCT);
    }
}

#[test]
fn deltas_of_the_wrong_size_are_refused() {
    let (mut bench, _) = adapted(Kernels::best(), 1);
    let (rows, cols) = (96, 64);
    let w = bench.weight(Format::F32, rows, cols);
    let mut check = |rank: usize, a: usize, b: usize| {
        let refused = bench.cpu.adapt(&[Delta { w, rank, a: vec![0.0; a], b: vec![0.0; b] }]);
        assert!(matches!(refused, Err(Refusal::WrongSize { .. })), "{rank}: {a}, {b}");
    };
    check(0, 0, 0);
    check(2, 2 * cols - 1, 2 * rows);
    check(2, 2 * cols, 2 * rows + 1);
    check(usize::MAX, 2 * cols, 2 * rows);
}
