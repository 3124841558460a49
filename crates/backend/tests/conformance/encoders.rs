//! What encoders add: tables of positions and kinds, LayerNorm, activations without a gate, and
//! rows of a span made one.

use super::*;
use ingle_backend::{Index, Pooling};

/// Where a sequence that is read whole is cut: nowhere.
const WHOLE: &[usize] = &[0, 70];

#[test]
fn tables_are_looked_up_by_position_and_kind() {
    conforms("positions", FLOATS, |bench| {
        let y = bench.embedded(24);
        for (by, rows) in [(Index::Position, 70), (Index::Kind, 2)] {
            let table = bench.weight(Format::F16, rows, 24);
            bench.graph.ops.push(Op::Lookup { table, by, y });
        }
        y
    });
}

#[test]
fn a_second_text_is_of_another_kind() {
    let mut bench = Bench::new(Kernels::best(), 2);
    let y = bench.embedded(16);
    let bytes: Vec<u8> =
        [[1.0f32; 16], [2.0; 16]].concat().iter().flat_map(|v| v.to_le_bytes()).collect();
    let table = bench.cpu.weight(Format::F32, 2, 16, bytes.into()).expect("memory");
    let op = |bench: &mut Bench| bench.graph.ops.push(Op::Lookup { table, by: Index::Kind, y });
    op(&mut bench);
    bench.prepare(y);
    let first = span(0, 0..5, &[1]);
    let both = Span { second: Some(3), ..first.clone() };
    let (alone, both) = (bench.run(&[first]), bench.run(&[both]));
    let apart: Vec<f32> = both.iter().zip(&alone).map(|(a, b)| (a - b).round()).collect();
    assert_eq!(apart, [[0.0; 48].as_slice(), &[1.0; 32]].concat());
}

#[test]
fn layers_are_normed() {
    for width in [8, 72, 384] {
        conforms("layer norm", 1e-5, |bench| {
            let (x, y) = (bench.embedded(width), bench.embedded(width));
            let (gain, bias) = (bench.vector(width), Some(bench.vector(width)));
            bench.graph.ops.extend([
                Op::LayerNorm { x, gain, bias, y: x, eps: 1e-12 },
                Op::LayerNorm { x, gain, bias: None, y, eps: 1e-5 },
            ]);
            y
        });
    }
}

#[test]
fn inputs_are_activated() {
    for act in [Activation::Gelu, Activation::Relu, Activation::Tanh, Activation::Silu] {
        for (format, tolerance) in [(Format::Q8_0, PRODUCT), (Format::F32, 1e-5)] {
            conforms(&format!("{act:?} {format:?}"), tolerance, |bench| {
                let x = bench.embedded(96);
                let w = bench.weight(format, 40, 96);
                let y = bench.cpu.alloc(Rows::Tokens, 40);
                bench.graph.ops.push(Op::Activate { y: x, act });
                let outs = vec![Out { w, bias: None, y, add: false }];
                bench.graph.ops.push(Op::MatMul { x: Input::Activated { x, act }, outs });
                y
            });
        }
    }
}

#[test]
fn spans_are_pooled() {
    for how in [Pooling::Mean, Pooling::First, Pooling::Last, Pooling::LogMax] {
        conforms_over(KvType::F32, WHOLE, &format!("{how:?}"), FLOATS, |bench| {
            let x = bench.embedded(40);
            let y = bench.cpu.alloc(Rows::Spans, 40);
            bench.graph.ops.push(Op::Pool { x, y, how });
            let w = bench.weight(Format::F32, 8, 40);
            let head = bench.cpu.alloc(Rows::Spans, 8);
            let outs = vec![Out { w, bias: None, y: head, add: false }];
            bench.graph.ops.push(Op::MatMul { x: Input::Plain(y), outs });
            y
        });
    }
}

#[test]
fn pooled_rows_are_what_they_say() {
    let pooled = |how: Option<Pooling>| {
        let mut bench = Bench::new(Kernels::best(), 2);
        let x = bench.embedded(3);
        let y = bench.cpu.alloc(Rows::Spans, 3);
        bench.graph.ops.extend(how.map(|how| Op::Pool { x, y, how }));
        bench.prepare(if how.is_some() { y } else { x });
        bench.run(&[span(0, 0..2, &[1]), span(0, 2..5, &[2])])
    };
    let rows = pooled(None);
    let row = |at: usize| &rows[3 * at..3 * at + 3];
    let column = |d: usize, of: &dyn Fn(&[f32]) -> f32| {
        let all = |range: std::ops::Range<usize>| range.map(|at| row(at)[d]).collect::<Vec<_>>();
        [of(&all(0..2)), of(&all(2..5))]
    };
    let expect = |of: &dyn Fn(&[f32]) -> f32| -> Vec<f32> {
        let columns: Vec<[f32; 2]> = (0..3).map(|d| column(d, of)).collect();
        (0..2).flat_map(|span| columns.iter().map(move |c| c[span]).collect::<Vec<_>>()).collect()
    };
    let check = |how, of: &dyn Fn(&[f32]) -> f32| {
        assert!(distance(&pooled(Some(how)), &expect(of)) < 1e-6, "{how:?}");
    };
    check(Pooling::Mean, &|x| x.iter().sum::<f32>() / x.len() as f32);
    check(Pooling::First, &|x| x[0]);
    check(Pooling::Last, &|x| x[x.len() - 1]);
    check(Pooling::LogMax, &|x| x.iter().fold(0.0f32, |most, v| most.max(*v)).ln_1p());
}
