//! The real models against a float64 reference: whether a kernel, a format or a change kept their
//! answers. `fixtures/README.md` says where the reference comes from.

mod support;

use ingle_backend::cpu::kernels::Kernels;
use ingle_engine::{Options, Report};
use support::{cases, fetched, open};

const SMOLLM2: &str = include_str!("fixtures/smollm2-135m.gold.json");
const GEMMA3: &str = include_str!("fixtures/gemma3-270m.gold.json");

/// Some of a model's cases, and how near it has to come.
struct Row {
    model: &'static str,
    gold: &'static str,
    /// Of the cases, only so many.
    cases: usize,
    kernels: &'static str,
    positions: usize,
    top1: f64,
    mean: f64,
    p99: f64,
}

fn check(row: &Row) {
    let Some(path) = fetched(row.model) else { return };
    let kernels = match row.kernels {
        "best" => Kernels::best(),
        name => Kernels::named(name).expect("is in the table"),
    };
    let options = Options { kernels: Some(kernels), step_tokens: 64, ..Options::default() };
    let model = open(&path, &options);
    let mut cases = cases(row.gold);
    cases.truncate(row.cases);
    let report = Report::of(&model, &cases).expect("scores");
    let what = format!("{} on {}: {report:?}", row.model, kernels.name);
    assert_eq!(report.positions, row.positions, "{what}");
    assert!(report.top1_agreement >= row.top1, "{what}");
    assert!(report.mean_abs_delta <= row.mean && report.p99_abs_delta <= row.p99, "{what}");
}

/// What is promised is a mean of 0.015. What is held is nearer: a change that triples the distance
/// of today (0.0010, of which halves as keys and values make most: without them it is 0.0004) has
/// broken something, even if the promise stands.
#[test]
fn smollm2_keeps_its_answers() {
    let (model, gold, kernels) = ("smollm2", SMOLLM2, "best");
    let (positions, top1, mean, p99) = (303, 0.99, 0.003, 0.02);
    check(&Row { model, gold, cases: 6, kernels, positions, top1, mean, p99 });
}

/// Promised is a mean of 0.02; today's is 0.0003.
#[test]
fn gemma3_keeps_its_answers() {
    let (model, gold, kernels) = ("gemma3", GEMMA3, "best");
    let (positions, top1, mean, p99) = (323, 0.99, 0.001, 0.01);
    check(&Row { model, gold, cases: 6, kernels, positions, top1, mean, p99 });
}

#[test]
fn the_reference_is_nearer_still() {
    let (model, gold, kernels) = ("smollm2", SMOLLM2, "reference");
    let (positions, top1, mean, p99) = (48, 1.0, 0.0005, 0.005);
    check(&Row { model, gold, cases: 1, kernels, positions, top1, mean, p99 });
}

#[test]
#[ignore = "minutes, for nothing is optimized in the reference"]
fn the_reference_on_all_cases() {
    let (kernels, cases, top1, mean, p99) = ("reference", 6, 0.99, 0.0005, 0.005);
    let (model, gold, positions) = ("smollm2", SMOLLM2, 303);
    check(&Row { model, gold, cases, kernels, positions, top1, mean, p99 });
    let (model, gold, positions) = ("gemma3", GEMMA3, 323);
    check(&Row { model, gold, cases, kernels, positions, top1, mean, p99 });
}
