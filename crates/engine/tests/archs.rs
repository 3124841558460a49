//! Every architecture that no real model at hand has, on every kernel row that runs here: tiny
//! random checkpoints against log-probabilities from `transformers` in float64. What is in them
//! stands beside them, in `golden/archs/README.md`.

mod support;

use ingle_backend::KvType;
use ingle_backend::cpu::kernels::Kernels;
use ingle_engine::{Case, Local, Options, Report};
use ingle_model::tokenizer::check_cases;
use support::{cases, golden, open, rows, tiny};

const NAMES: [&str; 8] =
    ["qwen2", "qwen3", "llama-rope-scaled", "gemma3", "phi3", "gemma2", "qwen3moe", "gpt-oss"];
/// The one whose rope depends on the longest sequence; its gold is of sequences no longer than so
/// many tokens.
const SHORT: (&str, usize) = ("phi3", 128);
/// Positions of each checkpoint's cases.
const POSITIONS: usize = 153;

/// With keys and values kept as they are: what halves make of them is looked at by itself.
fn model(name: &str, kernels: &'static Kernels, step_tokens: usize) -> Local {
    keeping(KvType::F32, name, kernels, step_tokens)
}

fn keeping(kv: KvType, name: &str, kernels: &'static Kernels, step_tokens: usize) -> Local {
    let context = (name == SHORT.0).then_some(SHORT.1);
    let options = Options { context, kv_type: Some(kv), ..options(kernels, step_tokens) };
    open(&tiny(name), &options)
}

fn options(kernels: &'static Kernels, step_tokens: usize) -> Options {
    Options {
        kernels: Some(kernels),
        threads: Some(2),
        step_tokens,
        kv_bytes: Some(4 << 20),
        ..Options::default()
    }
}

fn gold(name: &str) -> Vec<Case> {
    cases(&std::fs::read_to_string(golden(name, "gold.json")).expect("is in the repository"))
}

/// All positions agree on the likeliest token, and the log-probabilities are this near.
fn check(name: &str, kernels: &'static Kernels, step_tokens: usize, mean: f64, p99: f64) {
    let what = format!("{name} on {} in steps of {step_tokens}", kernels.name);
    near(&model(name, kernels, step_tokens), name, &what, (1.0, mean, p99));
}

fn near(model: &Local, name: &str, what: &str, (top1, mean, p99): (f64, f64, f64)) {
    let report = Report::of(model, &gold(name)).expect("scores");
    let what = format!("{what}: {report:?}");
    assert_eq!(report.positions, POSITIONS, "{what}");
    assert!(report.top1_agreement >= top1, "{what}");
    assert!(report.mean_abs_delta <= mean && report.p99_abs_delta <= p99, "{what}");
}

#[test]
fn the_reference_computes_what_transformers_does() {
    let reference = Kernels::named("reference").expect("is in the table");
    for name in NAMES {
        check(name, reference, 64, 1e-5, 1e-4);
    }
}

#[test]
fn every_row_stays_near() {
    for kernels in rows() {
        for name in NAMES {
            check(name, kernels, 64, 1e-4, 1e-3);
        }
    }
}

/// What is asked for decides which of a file's lists of rope's divisors is taken.
#[test]
fn long_contexts_have_frequencies_of_their_own() {
    let reference = Kernels::named("reference").expect("is in the table");
    let long = open(&tiny(SHORT.0), &options(reference, 64));
    let apart = |name: &str| Report::of(&long, &gold(name)).expect("scores").mean_abs_delta;
    let (own, other) = (apart("phi3-long"), apart(SHORT.0));
    assert!(own <= 1e-5 && other >= 0.1, "{own} from the long gold, {other} from the short");
}

/// Halves and bytes with a scale move these small models, whose heads are narrow, more than large
/// ones.
#[test]
fn however_keys_and_values_are_kept_it_stays_near() {
    let bounds = [(KvType::F16, (1.0, 2e-3, 1e-2)), (KvType::Q8_0, (0.95, 5e-2, 2e-1))];
    for (kv, bounds) in bounds {
        for name in NAMES {
            let what = format!("{name} in {}", kv.name());
            near(&keeping(kv, name, Kernels::best(), 64), name, &what, bounds);
        }
    }
}

/// Sliding windows, rope and pages meet the edges of chunks everywhere.
#[test]
fn chunks_of_any_length_stay_near() {
    for step_tokens in [1, 7, 16, 33] {
        for name in NAMES {
            check(name, Kernels::best(), step_tokens, 1e-4, 1e-3);
        }
    }
}

#[test]
fn their_texts_have_the_ids_that_llama_cpp_gives() {
    for name in NAMES {
        let rows = std::fs::read_to_string(golden(name, "cases.json")).expect("in the repository");
        let model = model(name, Kernels::best(), 64);
        let report = check_cases(model.tokenizer(), &rows).expect("a list of cases");
        assert_eq!((report.rows, report.mismatches), (3, Vec::new()), "{name}");
    }
}

/// A wrong gold is noticed: the figures above do not agree by themselves.
#[test]
fn another_models_gold_is_far() {
    let own = model("qwen2", Kernels::best(), 64);
    let report = Report::of(&own, &gold("qwen3")).expect("scores");
    assert!(report.top1_agreement < 0.1 && report.mean_abs_delta > 0.5, "{report:?}");
}
